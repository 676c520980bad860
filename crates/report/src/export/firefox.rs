//! The processed profile format of profiler.firefox.com: a track for each thread, coloured by role.
//!
//! Samples are samples, sleeps are markers with the stack slept in, and each pipe is a graph of its
//! throughput. The crate holds the whole profile in memory before it writes.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, MarkerFieldFlags,
    MarkerFieldFormat, MarkerLocations, MarkerTiming, ProcessHandle, Profile, ReferenceTimestamp,
    SamplingInterval, StackHandle, StaticSchemaMarker, StaticSchemaMarkerField, StringHandle,
    ThreadHandle, Timestamp,
};
use pipeprof_profiler::profile::{StackId, WeightUnit};
use pipeprof_profiler::timeline::{Doing, Moment, Timeline};

use super::{Source, pipe_name};
use crate::error::Error;
use crate::escape::printable;
use crate::roles::{Reason, Role};

/// Writes the samples, sleeps and flows of a recording.
///
/// # Errors
/// [`Error::Write`] where `out` fails.
pub fn render(source: &Source<'_>, timeline: &Timeline, mut out: impl Write) -> Result<(), Error> {
    let mut tracks = Tracks::new(source);
    for moment in timeline.moments() {
        tracks.add(&moment);
    }
    tracks.add_flows();
    serde_json::to_writer(&mut out, &tracks.profile).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}

struct Tracks<'a> {
    source: &'a Source<'a>,
    profile: Profile,
    /// By role.
    categories: Vec<CategoryHandle>,
    /// By member of the profile: it is exported.
    shown: Vec<bool>,
    processes: HashMap<(usize, u32), ProcessHandle>,
    threads: HashMap<(u32, u32), Track>,
    stacks: HashMap<(ThreadHandle, StackId, bool), Option<StackHandle>>,
    start_ns: u64,
}

#[derive(Clone, Copy)]
struct Track {
    thread: ThreadHandle,
    /// When its latest sample was.
    sampled_ns: u64,
}

impl<'a> Tracks<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        let quality = &source.run.profile.quality;
        let interval = match quality.frequency_hz {
            Some(hz) if hz > 0 => SamplingInterval::from_nanos(1_000_000_000 / hz),
            _ => SamplingInterval::from_millis(1),
        };
        let started = Duration::from_nanos(source.run.started_unix_ns.unwrap_or(0));
        let started = ReferenceTimestamp::from_duration_since_unix_epoch(started);
        let mut profile = Profile::new(&printable(&source.run.subject), started, interval);
        profile.set_os_name(&format!("Linux {}", printable(&source.run.kernel)));
        profile.set_symbolicated(true);
        let categories =
            Role::ALL.map(|role| profile.add_category(role.label(), colour(role))).to_vec();
        let mut shown = vec![false; source.run.profile.members.len()];
        source.members().for_each(|(member, _)| shown[member] = true);
        Tracks {
            source,
            profile,
            categories,
            shown,
            processes: HashMap::new(),
            threads: HashMap::new(),
            stacks: HashMap::new(),
            start_ns: source.run.start_ns,
        }
    }

    fn at(&self, time_ns: u64) -> Timestamp {
        Timestamp::from_nanos_since_reference(time_ns.saturating_sub(self.start_ns))
    }

    fn add(&mut self, moment: &Moment) {
        if !self.shown.get(moment.member).is_some_and(|&shown| shown) {
            return;
        }
        let track = self.track(moment);
        let begun = self.at(moment.time_ns);
        match moment.doing {
            Doing::Running { period } => {
                let since = moment.time_ns.saturating_sub(track.sampled_ns);
                let ran = match self.source.run.profile.quality.unit {
                    WeightUnit::Nanoseconds => period.min(since),
                    // A count of events is no time; the thread was seen running, though.
                    WeightUnit::Events => since,
                };
                let stack = moment.stack.and_then(|stack| self.stack(track.thread, stack, false));
                self.profile.add_sample(track.thread, begun, stack, CpuDelta::from_nanos(ran), 1);
                if let Some(track) = self.threads.get_mut(&(moment.pid, moment.tid)) {
                    track.sampled_ns = moment.time_ns;
                }
            }
            Doing::Sleeping { ns } => {
                let profile = &self.source.run.profile;
                let (reason, role) = match moment.stack.map(|stack| profile.stack(stack)) {
                    Some(stack) => (
                        self.source.run.roles.reason(profile, stack),
                        self.source.run.roles.blocked_role(stack),
                    ),
                    None => (Reason::Unknown, Role::Other),
                };
                let pipe = self.source.pipe_waited_for(moment.member, reason);
                let sleep = Sleep {
                    name: self.profile.intern_string(reason.label()),
                    category: self.categories[role.index()],
                    pipe: self.profile.intern_string(&pipe.map_or(String::new(), pipe_name)),
                };
                let timing = MarkerTiming::Interval(begun, self.at(moment.time_ns + ns));
                let marker = self.profile.add_marker(track.thread, timing, sleep);
                let stack = moment.stack.and_then(|stack| self.stack(track.thread, stack, true));
                self.profile.set_marker_stack(track.thread, marker, stack);
            }
        }
    }

    fn process(&mut self, member: usize, pid: u32) -> ProcessHandle {
        let Tracks { profile, source, .. } = self;
        let start = Timestamp::from_nanos_since_reference(0);
        *self.processes.entry((member, pid)).or_insert_with(|| {
            let of = &source.run.profile.members[member];
            let comm = printable(&of.comm);
            let name = match of.end {
                Some(end) => format!("{}: {comm}", end.as_str()),
                None if u32::try_from(of.pid) != Ok(pid) => format!("{comm} (child)"),
                None => comm.into_owned(),
            };
            profile.add_process(&name, pid, start)
        })
    }

    fn track(&mut self, moment: &Moment) -> Track {
        let Moment { member, pid, tid, time_ns, .. } = *moment;
        if let Some(&track) = self.threads.get(&(pid, tid)) {
            return track;
        }
        let process = self.process(member, pid);
        let thread = self.profile.add_thread(process, tid, self.at(time_ns), pid == tid);
        let name = printable(&self.source.run.profile.members[member].comm);
        self.profile.set_thread_name(thread, &name);
        self.profile.set_thread_show_markers_in_timeline(thread, true);
        self.profile.add_initial_visible_thread(thread);
        let track = Track { thread, sampled_ns: self.start_ns };
        self.threads.insert((pid, tid), track);
        track
    }

    /// A stack in a thread, each frame in the category of its role.
    fn stack(&mut self, thread: ThreadHandle, id: StackId, blocked: bool) -> Option<StackHandle> {
        if let Some(&known) = self.stacks.get(&(thread, id, blocked)) {
            return known;
        }
        let (profile, roles) = (&self.source.run.profile, &self.source.run.roles);
        let stack = profile.stack(id);
        let mut frames = Vec::with_capacity(stack.len());
        for depth in (0..stack.len()).rev() {
            let role = if blocked {
                roles.blocked_role(&stack[depth..])
            } else {
                roles.prefix_role(&stack[depth..])
            };
            let name = printable(&profile.frame(stack[depth]).name);
            frames.push(FrameInfo {
                frame: Frame::Label(self.profile.intern_string(&name)),
                category_pair: self.categories[role.index()].into(),
                flags: FrameFlags::empty(),
            });
        }
        let handle = self.profile.intern_stack_frames(thread, frames.into_iter());
        self.stacks.insert((thread, id, blocked), handle);
        handle
    }

    /// The throughput of each pipe, on the track of its first writer.
    fn add_flows(&mut self) {
        let source = self.source;
        for (at, pipe) in source.run.pipeline.pipes.iter().enumerate() {
            let writer = pipe
                .writers
                .iter()
                .filter_map(|&id| source.run.holding().place(id))
                .find(|&at| self.shown.get(at).is_some_and(|&shown| shown));
            let (Some(member), Some(flow)) = (writer, source.run.flow(at)) else { continue };
            if flow.over_time.is_empty() {
                continue;
            }
            let pid = u32::try_from(source.run.profile.members[member].pid).unwrap_or(0);
            let process = self.process(member, pid);
            // Of this category the viewer shows bytes a second.
            let name = pipe_name(pipe);
            let counter = self.profile.add_counter(process, &name, "Bandwidth", "Bytes written");
            let mut before = 0;
            for point in &flow.over_time {
                let at = Timestamp::from_nanos_since_reference(point.at_ns);
                let bytes = point.bytes.saturating_sub(before);
                self.profile.add_counter_sample(counter, at, bytes as f64, 0);
                before = point.bytes;
            }
        }
    }
}

/// A thread slept.
#[derive(Clone, Debug)]
struct Sleep {
    name: StringHandle,
    category: CategoryHandle,
    pipe: StringHandle,
}

impl StaticSchemaMarker for Sleep {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "Blocked";
    const DESCRIPTION: Option<&'static str> =
        Some("The thread slept, or waited for a CPU after its wake-up.");
    const LOCATIONS: MarkerLocations = MarkerLocations::MARKER_CHART
        .union(MarkerLocations::MARKER_TABLE)
        .union(MarkerLocations::TIMELINE_OVERVIEW);
    const CHART_LABEL: Option<&'static str> = Some("{marker.name} {marker.data.pipe}");
    const TABLE_LABEL: Option<&'static str> = Some("{marker.name} {marker.data.pipe}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[StaticSchemaMarkerField {
        key: "pipe",
        label: "Pipe",
        format: MarkerFieldFormat::String,
        flags: MarkerFieldFlags::SEARCHABLE,
    }];

    fn name(&self, _profile: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _profile: &mut Profile) -> CategoryHandle {
        self.category
    }

    fn string_field_value(&self, _field: u32) -> StringHandle {
        self.pipe
    }

    fn number_field_value(&self, _field: u32) -> f64 {
        0.0
    }
}

/// The colour of the viewer's that is nearest to ours.
fn colour(role: Role) -> CategoryColor {
    match role {
        Role::User | Role::Syscall | Role::Other => CategoryColor::Gray,
        Role::PipeWrite | Role::PipeRead | Role::SocketSend | Role::SocketReceive => {
            CategoryColor::Orange
        }
        Role::CopyIn | Role::CopyOut | Role::SocketCopy => CategoryColor::Red,
        Role::PageAlloc | Role::SocketBuffer => CategoryColor::Green,
        Role::PageFree => CategoryColor::LightGreen,
        Role::PagePin | Role::NetworkStack => CategoryColor::Blue,
        Role::Splice | Role::Poll | Role::WaitDisk | Role::WaitNetwork => CategoryColor::LightBlue,
        Role::PipeLock | Role::SocketLock => CategoryColor::Magenta,
        Role::WaitSpace | Role::WaitData | Role::WaitSocketSpace | Role::WaitSocketData => {
            CategoryColor::Yellow
        }
        Role::Wakeup | Role::WakeupOrWait | Role::SocketWakeup | Role::WaitChild => {
            CategoryColor::Purple
        }
        Role::WaitFutex | Role::WaitFileLock => CategoryColor::LightRed,
        Role::PageFault | Role::NonPipe | Role::Scheduler => CategoryColor::Brown,
        Role::Preempted | Role::Interrupt | Role::WaitSleep | Role::Profiling => {
            CategoryColor::DarkGray
        }
    }
}
