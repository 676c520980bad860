//! Attaching: opens the events on a pipeline that is held at its gate, or running, and starts them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use pipeprof_runner::pipeline::Pipeline;

use super::beginning::beginning;
use super::{CaptureConfig, MOST_SWITCHED, Session, pids_of};
use crate::accounts::{boot_offset_ns, now_ns};
use crate::attr::{CallGraph, EventAttr, FORMAT_LOST, HALF_OF_RING, SAMPLE_TYPE, event_type, flag};
use crate::counter_trial::has_counter;
use crate::drain::Drain;
use crate::effect::Sampling;
use crate::environment::{Environment, Explanation, Operation, explain_open_error};
use crate::error::Error;
use crate::event::{Candidate, Choice, candidates, choose};
use crate::members_only::{Joined, MembersOnly};
use crate::opening::{Opened, describe, map_rings, open_all, raise_descriptor_limit, targets};
use crate::perfdata::layout::Layout;
use crate::perfdata::write::{EventDescription, Provenance};
use crate::profile::{NO_EVENT, Scope};
use crate::recording::sidecar::Progress;
use crate::recording::{EventRole, Meta, RecordingDir, Setup};
use crate::ring::Ring;
use crate::segments::{Limits, Segments};
use crate::states::States;
use crate::switching::Switching;
use crate::symbolize::PerfMaps;
use crate::sys::PerfSystem;
use crate::tasks::{online_cpus, thread_starts, threads};
use crate::windows::Windows;

/// Room for records of one CPU: two seconds of 997 Hz with deep call chains, several times over,
/// so that the drain thread sleeps through most runs.
const RING_BYTES: usize = 2 << 20;

/// Likewise, where each sample has a slice of the stack: half a second of 997 Hz with slices of 16 KiB.
const RING_BYTES_WITH_STACKS: usize = 8 << 20;

/// Where what is recorded outlives a kill, so much of it may still be in the rings then.
const KILL_COSTS: Duration = Duration::from_secs(1);

fn explain(candidate: &Candidate, errno: Errno) -> Explanation {
    explain_open_error(errno, &candidate.operation(), &Environment::read())
}

/// The kernel refuses events altogether, rather than running out of something.
fn is_refused(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EACCES | Errno::EPERM | Errno::ENOSYS | Errno::ENOENT | Errno::EOPNOTSUPP
    )
}

/// What a process waits for may be read, which takes the right to trace it.
fn may_look_at(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/syscall")).is_ok()
}

impl Session {
    /// Opens the events on every thread of every member and starts them. The members are to be
    /// held at their gate, or running; neither is stopped nor signalled.
    ///
    /// # Errors
    /// [`Error::NoEvent`] where the kernel refuses every way to sample, [`Error::NoTasks`] where
    /// no member is alive, and the others where descriptors, locked memory or disk run out.
    pub fn attach(
        system: &dyn PerfSystem,
        pipeline: &Pipeline,
        config: &CaptureConfig,
        dir: RecordingDir,
    ) -> Result<Session, Error> {
        let mut tids: Vec<i32> = pipeline.members.iter().flat_map(|m| threads(m.pid)).collect();
        // The first thread of each member before all others, where not all get an event.
        let leaders: HashSet<i32> = pipeline.members.iter().map(|member| member.pid).collect();
        tids.sort_by_key(|tid| !leaders.contains(tid));
        let &first = tids.first().ok_or(Error::NoTasks)?;
        let cpus = config.cpus.clone().unwrap_or_else(online_cpus);
        let choice = choose(candidates(config.event.as_ref()), |candidate| {
            let pid = if candidate.scope == Scope::PerCpu { -1 } else { first };
            let cpu = cpus.first().map_or(0, |&cpu| cpu as i32);
            system.open(&candidate.attr(), pid, cpu)?;
            if has_counter(system, candidate) { Ok(()) } else { Err(Errno::EBUSY) }
        });
        let choice = match choice {
            Ok(choice) => choice,
            Err(refused) => {
                // The most modest of them says most about what is wrong.
                let (candidate, errno) = refused.last().ok_or(Error::NoTasks)?;
                let why = explain(candidate, *errno);
                if config.event.is_some() || !is_refused(*errno) || !may_look_at(first) {
                    return Err(Error::NoEvent(why));
                }
                return Session::attach_without_events(
                    system, pipeline, config, dir, candidate, &why,
                );
            }
        };
        let mut notes = Vec::new();
        if let Some((candidate, errno)) = choice.kernel_refusal() {
            let why = explain(candidate, *errno);
            notes.push(why.after("the kernel half is missing"));
        }
        if config.frequency().most_hz() < config.frequency_hz {
            notes.push(limit_note(config.frequency().most_hz(), config.frequency_hz));
        }
        let per_task = tids.len() * cpus.len();
        raise_descriptor_limit((per_task * 2 + cpus.len()) as u64);
        let targets = targets(choice.candidate.scope, &tids, &cpus);
        let sampled = recorded_attr(&choice.candidate, config);
        let sampled = match targets.len() {
            // Sampling goes off and on in windows.
            ..=MOST_SWITCHED => vec![
                (EventRole::Sample, sampled.without_tracking()),
                (EventRole::Tracking, sampled.tracking()),
            ],
            _ => vec![(EventRole::Sample, sampled)],
        };
        let open = |(role, attr)| {
            let operation = match (role, choice.candidate.operation()) {
                (EventRole::Tracking, Operation::Open { kernel, per_cpu, pid, .. }) => {
                    Operation::Open { event: "dummy", kernel, per_cpu, pid }
                }
                (_, operation) => operation,
            };
            open_all(system, &operation, role, attr, &targets, &config.stop)
        };
        let mut opened = sampled.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut by_turns = 0..0;
        let mut wakeups = Err("wake-ups were not recorded".to_owned());
        if config.switches {
            let first = opened.iter().map(|event| event.fds.len()).sum::<usize>();
            let switching = Switching::open(system, config, &tids, &cpus, &mut notes)?;
            if switching.by_turns {
                by_turns = first..first + switching.switches.fds.len();
            }
            opened.push(switching.switches);
            opened.extend(switching.own_chains);
            wakeups = switching.wakeups;
        }
        let (wakeups, tracing_data) = match wakeups {
            Ok(wakeups) => {
                opened.push(wakeups.opened);
                (Ok(wakeups.format), Some(wakeups.tracing_data))
            }
            Err(why) => (Err(why), None),
        };
        let has_stacks = matches!(config.call_graph, CallGraph::Dwarf { .. });
        let ring_bytes = if has_stacks { RING_BYTES_WITH_STACKS } else { RING_BYTES };
        let rings = map_rings(system, &opened, ring_bytes, &mut notes)?;
        let descriptions = describe(system, &opened)?;
        check_spare_descriptors()?;
        let mut meta = meta(pipeline, config, &choice, notes);
        meta.setup.wakeups = wakeups;
        meta.setup.events = opened.iter().map(|event| event.role).collect();
        let to_unwind = has_stacks.then(|| descriptions.clone());
        let counts_lost = opened.iter().all(|event| event.attr.read_format & FORMAT_LOST != 0);
        let tracepoints = if meta.setup.wakeups.is_ok() { opened.pop() } else { None };
        let tracepoints = tracepoints.into_iter().flat_map(|event| event.fds);
        let tracepoints = tracepoints.map(|(fd, _)| fd).collect();
        let is_sampled =
            |event: &&Opened| matches!(event.role, EventRole::Sample | EventRole::Tracking);
        let sampled = opened.iter().filter(is_sampled).map(|event| event.fds.len()).sum();
        let cpus = opened.first().map(|event| event.fds.iter().map(|(_, cpu)| *cpu).collect());
        let fds = opened.into_iter().flat_map(|event| event.fds).map(|(fd, _)| fd);
        let events = Events {
            fds: fds.collect(),
            rings,
            descriptions,
            tracing_data,
            by_turns,
            tracepoints,
            sampled,
            cpus: cpus.unwrap_or_default(),
            to_unwind,
            counts_lost,
        };
        Session::start(system, config, dir, meta, events)
    }

    /// Where the kernel refuses every event, `/proc` still tells what the members do: a recording
    /// without samples.
    fn attach_without_events(
        system: &dyn PerfSystem,
        pipeline: &Pipeline,
        config: &CaptureConfig,
        dir: RecordingDir,
        refused: &Candidate,
        why: &Explanation,
    ) -> Result<Session, Error> {
        let choice = Choice { candidate: refused.clone(), refused: Vec::new() };
        let mut meta = meta(pipeline, config, &choice, vec![why.after("no samples")]);
        (meta.setup.kernel_visible, meta.setup.switches) = (false, false);
        (meta.setup.event, meta.frequency_hz) = (NO_EVENT.to_owned(), None);
        meta.setup.wakeups = Err("wake-ups were not recorded".to_owned());
        meta.setup.events = vec![EventRole::Sample];
        // A file of perf has an event, though nothing was ever recorded of it.
        let attr = recorded_attr(refused, config);
        let name = refused.event.name.clone();
        let descriptions = vec![EventDescription { name, attr, ids: Vec::new() }];
        let events = Events { descriptions, counts_lost: true, ..Events::default() };
        Session::start(system, config, dir, meta, events)
    }

    /// Begins the file, starts the events and what looks at the members beside them.
    fn start(
        system: &dyn PerfSystem,
        config: &CaptureConfig,
        dir: RecordingDir,
        mut meta: Meta,
        opened: Events,
    ) -> Result<Session, Error> {
        let Events { fds: events, by_turns, .. } = opened;
        let pids = Arc::new(Mutex::new(pids_of(&meta.pipeline)));
        let joined = Joined::default();
        let members = members_only(&opened.descriptions, &meta, &joined);
        let full = Arc::new(AtomicBool::new(false));
        let provenance = provenance(opened.tracing_data);
        let limits = config.limits;
        let segments = begin(&dir, opened.descriptions, provenance.clone(), limits, &pids, &full)?;
        let longest_wait = match dir.outlives_a_kill() && !events.is_empty() {
            true => Some(limits.longest_wait().unwrap_or(KILL_COSTS)),
            false => limits.longest_wait(),
        };
        let drain =
            Drain::start(opened.rings, Arc::clone(&events), members, segments, longest_wait)?;
        for (index, event) in events.iter().enumerate() {
            if !by_turns.contains(&index) {
                system
                    .enable(event.as_fd())
                    .map_err(|errno| Error::Control { action: "starting", errno })?;
            }
        }
        meta.start_ns = now_ns();
        let windows = (!by_turns.is_empty())
            .then(|| Windows::start(Arc::clone(&events), by_turns, opened.tracepoints))
            .transpose()?;
        for member in &meta.pipeline.members {
            if config.stop.is_asked() {
                return Err(Error::Stopped);
            }
            meta.threads.extend(thread_starts(member.pid));
            meta.accounts.read(member.pid, false);
        }
        let states = States::start(&meta.pipeline, limits.keep)?;
        Ok(Session {
            progress: Progress::new(),
            drain,
            limits,
            pids,
            joined,
            full,
            windows,
            states: Some(states),
            provenance,
            to_unwind: opened.to_unwind,
            counts_lost: opened.counts_lost,
            sampled: opened.sampled,
            sampling: Sampling {
                events: Arc::clone(&events),
                cpus: opened.cpus,
                is_clock: meta.setup.timer_driven,
            },
            frequency: config.frequency(),
            measuring: None,
            measured_from: (0, Vec::new()),
            events,
            dir,
            meta,
            perf_maps: PerfMaps::default(),
        })
    }
}

/// The events of a session before they are started.
#[derive(Default)]
struct Events {
    fds: Arc<[OwnedFd]>,
    rings: Vec<Ring>,
    descriptions: Vec<EventDescription>,
    /// How to read the records of tracepoints.
    tracing_data: Option<Vec<u8>>,
    /// Those of `fds` that are on by turns.
    by_turns: Range<usize>,
    /// Those that are on by turns too, and no part of `fds`.
    tracepoints: Vec<OwnedFd>,
    /// How many of `fds`, the first of them, sample or track.
    sampled: usize,
    /// Of each event that samples.
    cpus: Vec<i32>,
    /// The events, where their stacks are to be unwound in the end.
    to_unwind: Option<Vec<EventDescription>>,
    counts_lost: bool,
}

fn recorded_attr(candidate: &Candidate, config: &CaptureConfig) -> EventAttr {
    let mut attr = candidate.attr();
    attr.period_or_frequency = config.frequency().first_hz();
    attr.sample_type = SAMPLE_TYPE;
    attr = attr.with_call_graph(config.call_graph);
    attr.flags |= flag::FREQ
        | flag::MMAP
        | flag::MMAP2
        | flag::KSYMBOL
        | flag::COMM
        | flag::COMM_EXEC
        | flag::TASK
        | flag::WATERMARK;
    attr.wakeup = HALF_OF_RING;
    attr.read_format = FORMAT_LOST;
    attr.with_flag(flag::EXCLUDE_CALLCHAIN_KERNEL, !candidate.kernel)
}

/// Descriptors that looks at members, and what is written, take at a time beside the events.
const SPARE_DESCRIPTORS: usize = 24;

/// Where there are fewer, members and pipes would be missing without a word.
fn check_spare_descriptors() -> Result<(), Error> {
    let path = Path::new("/proc/self");
    let spare: io::Result<Vec<File>> = (0..SPARE_DESCRIPTORS).map(|_| File::open(path)).collect();
    let cannot = |source| Error::File { action: "reading", path: path.to_owned(), source };
    spare.map(drop).map_err(cannot)
}

/// What the kernel's limit makes of a frequency.
fn limit_note(granted_hz: u64, asked_hz: u64) -> String {
    format!(
        "the kernel allows {granted_hz} samples a second, so no more were taken (it lowers \
         kernel.perf_event_max_sample_rate where interrupts take long); \
         hint: sudo sysctl kernel.perf_event_max_sample_rate={asked_hz}"
    )
}

/// What leaves out of the rings whatever is not a member's.
fn members_only(events: &[EventDescription], meta: &Meta, joined: &Joined) -> MembersOnly {
    let layout = |event: &EventDescription| {
        let attr = &event.attr;
        Layout::new(attr.sample_type, 0, true)
            .with_user_registers(attr.sample_regs_user, attr.branch_sample_type)
    };
    let pids: Vec<i32> = meta.pipeline.members.iter().map(|member| member.pid).collect();
    let (first, ids) =
        events.first().map_or((Layout::new(SAMPLE_TYPE, 0, true), &[][..]), |event| {
            (layout(event), &event.ids[..])
        });
    let members = MembersOnly::new(first, ids, &pids, Arc::clone(joined));
    let waking = events.iter().find(|event| event.attr.kind == event_type::TRACEPOINT);
    match (&meta.setup.wakeups, waking) {
        (Ok(format), Some(event)) => members.with_wakeups(layout(event), *format, &event.ids),
        _ => members,
    }
}

fn meta(pipeline: &Pipeline, config: &CaptureConfig, choice: &Choice, notes: Vec<String>) -> Meta {
    let candidate = &choice.candidate;
    let fallback = choice.fallback_from().map(|(first, errno)| explain(first, *errno).message);
    let setup = Setup {
        event: candidate.event.name.clone(),
        fallback,
        scope: candidate.scope,
        timer_driven: candidate.event.is_timer_driven(),
        interrupts_wait: Environment::read().pmu_interrupts_are_nmis == Some(false),
        kernel_visible: candidate.kernel,
        max_stack: read_number("/proc/sys/kernel/perf_event_max_stack").unwrap_or(127),
        events: Vec::new(),
        switches: config.switches,
        wakeups: Err(String::new()),
        boot_offset_ns: boot_offset_ns(),
    };
    let frequency_hz = Some(config.frequency().first_hz());
    Meta { frequency_hz, notes, ..setup.meta(pipeline.clone()) }
}

/// The file for all records, begun with what there is before the first of them.
fn begin(
    dir: &RecordingDir,
    events: Vec<EventDescription>,
    provenance: Provenance,
    limits: Limits,
    pids: &Arc<Mutex<Vec<i32>>>,
    full: &Arc<AtomicBool>,
) -> Result<Segments, Error> {
    let path = dir.path().join("perf.data");
    let look = beginning(&events, Arc::clone(pids), limits.keep.is_some());
    Segments::create(&path, events, provenance, limits, look, Arc::clone(full))
        .map_err(|source| Error::File { action: "writing", path, source })
}

fn provenance(tracing_data: Option<Vec<u8>>) -> Provenance {
    let Ok(system) = nix::sys::utsname::uname() else { return Provenance::default() };
    let online = online_cpus().len() as u32;
    Provenance {
        hostname: system.nodename().to_string_lossy().into_owned(),
        release: system.release().to_string_lossy().into_owned(),
        arch: system.machine().to_string_lossy().into_owned(),
        cpus: (online, online),
        command_line: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        tracing_data,
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
