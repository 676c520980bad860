//! Recording to profile: one pass over the records in the order of time, then one look-up a
//! distinct address.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::address_space::AddressSpaces;
use crate::attr::event_type;
use crate::error::Error;
use crate::order::RoundSorter;
use crate::paging::Paging;
use crate::perfdata::read::{FormatError, PerfDataFile};
use crate::perfdata::record::{
    CONTEXT_KERNEL, CONTEXT_MAX, CONTEXT_USER, MOST_TIME, Mapping, Parsed, Sample, Task, kind,
    misc, parse, split_record,
};
use crate::profile::{MemberProfile, Profile, Quality, StackId, StackWeight, WeightUnit};
use crate::raw_stacks::{RawStack, RawStacks};
use crate::recording::{Loaded, Meta, Recording};
use crate::resolve::Resolver;
use crate::sleep::Sleep;
use crate::symbolize::Symbolizer;
use crate::wakeups::{WakeTracker, Wakeups};
use crate::windows::{Window, gaps};

/// Turns a recording into a profile.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Format`] where it is no recording. Bad
/// records inside it are counted, not errors.
pub fn analyse(recording: &Recording, symbolizer: &mut dyn Symbolizer) -> Result<Profile, Error> {
    analyse_watched(recording, symbolizer, &mut |_| {})
}

/// How far the pass over the records has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of records that are behind.
    pub bytes: u64,
    /// Bytes of records in all.
    pub total_bytes: u64,
    /// Samples among those behind.
    pub samples: u64,
}

/// Likewise, and tells every few megabytes how far it has come.
///
/// # Errors
/// As [`analyse`].
pub fn analyse_watched(
    recording: &Recording,
    symbolizer: &mut dyn Symbolizer,
    watch: &mut dyn FnMut(Progress),
) -> Result<Profile, Error> {
    let Loaded { file, bytes } = recording.load()?;
    let paging = Paging::new(&bytes);
    let mut profile = analyse_records(&file, &bytes, paging, &recording.meta, symbolizer, watch);
    for (member, &cpu_time_ns) in profile.members.iter_mut().zip(&recording.about.cpu_time_ns) {
        member.cpu_time_ns = member.cpu_time_ns.or(cpu_time_ns);
    }
    Ok(profile)
}

/// A file without rounds is sorted in stretches of so many records, so that it needs no more memory
/// the longer it is. No ring holds as many.
const MOST_HELD: usize = 1 << 20;

/// Bytes between two words on progress: some milliseconds.
const TELL_EVERY: usize = 4 << 20;

/// Turns the bytes of a perf.data file into a profile.
///
/// # Errors
/// [`FormatError`] where they are none.
pub fn analyse_bytes(
    bytes: &[u8],
    meta: &Meta,
    symbolizer: &mut dyn Symbolizer,
) -> Result<Profile, FormatError> {
    let file = PerfDataFile::parse(bytes)?;
    Ok(analyse_records(&file, bytes, Paging::none(), meta, symbolizer, &mut |_| {}))
}

fn analyse_records(
    file: &PerfDataFile,
    bytes: &[u8],
    mut paging: Paging<'_>,
    meta: &Meta,
    symbolizer: &mut dyn Symbolizer,
    watch: &mut dyn FnMut(Progress),
) -> Profile {
    let mut pass = Pass::new(meta, file.sampled_event());
    let mut records = file.records(bytes);
    let mut sorter: RoundSorter<(usize, usize)> = RoundSorter::new();
    let data = &bytes[file.data.clone()];
    let (mut round_at, mut of_round) = (0, 0);
    let mut tell_at = TELL_EVERY;
    for (at, record) in records.by_ref() {
        if at >= tell_at {
            tell_at = at + TELL_EVERY;
            let (bytes, total_bytes) = (at as u64, data.len() as u64);
            watch(Progress { bytes, total_bytes, samples: pass.samples });
        }
        paging.reach(file.data.start + at);
        if record.kind < kind::HEADER_ATTR {
            let event = file.event_of_record(&record);
            let time = file.events[event].layout.time(&record).unwrap_or(0);
            if time > MOST_TIME {
                pass.malformed += 1;
                continue;
            }
            sorter.push(time, (at, event));
            of_round += 1;
        }
        if record.kind == kind::FINISHED_ROUND || of_round == MOST_HELD {
            sorter.end_round(|(at, event)| pass.take(data, at, event, file));
            // What is held back now is of this round.
            paging.leave(file.data.start + round_at);
            (round_at, of_round) = (at, 0);
        }
    }
    // Nothing after a record that does not end can be found again.
    pass.cut_short = file.cut_short || records.is_cut_short();
    sorter.finish(|(at, event)| pass.take(data, at, event, file));
    pass.pass_gaps(meta.end_ns);
    pass.into_profile(symbolizer)
}

/// The event that records switches, after the one that samples.
const SWITCHES: usize = 1;

/// What the pass over the records gathers.
struct Pass<'a> {
    meta: &'a Meta,
    sampled_event: usize,
    /// The processes of the members.
    pids: Vec<i32>,
    spaces: AddressSpaces,
    member_of: FxHashMap<i32, usize>,
    stacks: RawStacks,
    sleep: Sleep<'a>,
    /// Threads whose switches have call chains of their own, apart from those of their CPU.
    own_chains: FxHashSet<i32>,
    wakes: WakeTracker,
    /// Times without records of switches that are still to come, the next one last.
    gaps: Vec<Window>,
    /// The end of the latest gap. What was still recorded after its beginning, while the events
    /// were being turned off, is left out: its other half is missing.
    gap_until: u64,
    comms: FxHashMap<i32, String>,
    /// A symbol of the recorded kernel, and where it was.
    kernel_base: Option<(Vec<u8>, u64)>,
    samples: u64,
    foreign_samples: u64,
    lost: u64,
    throttled: u64,
    truncated: u64,
    malformed: u64,
    cut_short: bool,
    chain: Vec<u64>,
}

impl<'a> Pass<'a> {
    fn new(meta: &'a Meta, sampled_event: usize) -> Self {
        let pids: Vec<i32> = meta.pipeline.members.iter().map(|member| member.pid).collect();
        let member_of = pids.iter().enumerate().map(|(index, &pid)| (pid, index)).collect();
        let sleep = Sleep::new(meta, &member_of);
        Pass {
            meta,
            sampled_event,
            pids,
            spaces: AddressSpaces::default(),
            member_of,
            sleep,
            own_chains: FxHashSet::default(),
            gap_until: 0,
            wakes: WakeTracker::default(),
            gaps: match &meta.windows[..] {
                [] => Vec::new(),
                some => gaps(some, (meta.start_ns, meta.end_ns)).into_iter().rev().collect(),
            },
            stacks: RawStacks::default(),
            comms: FxHashMap::default(),
            kernel_base: None,
            samples: 0,
            foreign_samples: 0,
            lost: 0,
            throttled: 0,
            truncated: 0,
            malformed: 0,
            cut_short: false,
            chain: Vec::new(),
        }
    }

    fn take(&mut self, data: &[u8], at: usize, event: usize, file: &PerfDataFile) {
        let Some((record, _)) = split_record(&data[at..]) else { return };
        let layout = file.events[event].layout;
        if !self.gaps.is_empty() {
            self.pass_gaps(layout.time(&record).unwrap_or(0));
        }
        match parse(&record, layout) {
            Some(Parsed::Sample(sample)) if event == self.sampled_event => {
                self.sample(&sample, record.misc);
            }
            Some(Parsed::Sample(sample)) if file.events[event].kind == event_type::TRACEPOINT => {
                self.woken(&sample);
            }
            Some(Parsed::Sample(sample)) => self.switch_sample(&sample, event),
            Some(Parsed::Mapping(mapping)) => self.map(&mapping),
            Some(Parsed::Comm(comm)) => {
                if comm.exec {
                    self.spaces.exec(comm.pid);
                }
                if comm.pid == comm.tid {
                    let name = String::from_utf8_lossy(comm.name).into_owned();
                    self.comms.insert(comm.pid, name);
                }
            }
            Some(Parsed::Fork(task)) => self.fork(task, layout.time(&record)),
            Some(Parsed::Exit(task)) => self.sleep.exit(task.tid, layout.time(&record)),
            Some(Parsed::Switch { out, preempted }) => {
                let id = layout.sample_id(&record);
                if let (Some(tid), Some(time)) = (id.tid, id.time)
                    && time >= self.gap_until
                {
                    self.sleep.switch(id, out, preempted);
                    self.wakes.switched(tid, out, time);
                }
            }
            Some(Parsed::Lost(count)) => self.lost = self.lost.saturating_add(count),
            Some(Parsed::Throttle) => self.throttled += 1,
            Some(Parsed::Other) => {}
            None => self.malformed += 1,
        }
    }

    fn map(&mut self, mapping: &Mapping<'_>) {
        match mapping.path.strip_prefix(b"[kernel.kallsyms]") {
            // Where the offset in the file would be, perf notes the address of this symbol.
            Some(symbol) if mapping.pid < 0 && !symbol.is_empty() => {
                self.kernel_base = Some((symbol.to_vec(), mapping.file_offset));
            }
            _ => self.spaces.map(mapping),
        }
    }

    /// A child belongs to the member that made it. A stranger's child that got the number of a
    /// member that has died does not.
    fn fork(&mut self, task: Task, time: Option<u64>) {
        let member = self.member_of.get(&task.parent_pid).copied();
        let member = member.filter(|_| !self.takes_all());
        if task.pid != task.parent_pid {
            self.spaces.fork(task.parent_pid, task.pid);
            if let Some(comm) = self.comms.get(&task.parent_pid).cloned() {
                self.comms.insert(task.pid, comm);
            }
            match member {
                Some(member) => {
                    self.member_of.entry(task.pid).or_insert(member);
                }
                None => {
                    self.member_of.remove(&task.pid);
                }
            }
        }
        if let (Some(&member), Some(time)) = (self.member_of.get(&task.pid), time) {
            if time <= self.meta.start_ns {
                self.sleep.found(task.tid, member);
            } else {
                self.sleep.born(task.tid, member, time, time.max(self.gap_until));
            }
        }
    }

    /// Nobody said who the members are, so all are.
    fn takes_all(&self) -> bool {
        self.meta.pipeline.members.is_empty()
    }

    fn sample(&mut self, sample: &Sample<'_>, misc: u16) {
        let pid = sample.id.pid.unwrap_or(-1);
        let member = match self.member_of.get(&pid) {
            Some(&member) => member,
            None if self.takes_all() => {
                self.pids.push(pid);
                self.member_of.insert(pid, self.pids.len() - 1);
                self.pids.len() - 1
            }
            None => {
                self.foreign_samples += 1;
                return;
            }
        };
        self.samples += 1;
        let mut chain = std::mem::take(&mut self.chain);
        self.read_chain(sample, misc, &mut chain);
        let space = self.spaces.sample(pid);
        self.stacks.add(member, space, &chain, 1, sample.period.unwrap_or(1));
        self.chain = chain;
    }

    /// Goes past the gaps that began before `time`.
    fn pass_gaps(&mut self, time: u64) {
        while let Some(&(from, until)) = self.gaps.last().filter(|(from, _)| *from <= time) {
            self.gaps.pop();
            self.gap_until = until;
            self.sleep.gap(from, until);
            self.wakes.gap(until);
        }
    }

    /// A thread is being woken, by the thread that the sample is of.
    fn woken(&mut self, sample: &Sample<'_>) {
        let (Ok(format), Some(waker), Some(time)) =
            (&self.meta.wakeups, sample.id.tid, sample.id.time)
        else {
            return;
        };
        if time < self.gap_until {
            return;
        }
        let sleep = &self.sleep;
        let read = self.wakes.woken(*format, sample.raw, waker, time, |tid| sleep.member_of(tid));
        self.malformed += u64::from(read.is_none());
    }

    /// A thread of a member is about to leave its CPU.
    fn switch_sample(&mut self, sample: &Sample<'_>, event: usize) {
        let (Some(pid), Some(tid)) = (sample.id.pid, sample.id.tid) else { return };
        if event > SWITCHES {
            self.own_chains.insert(tid);
        } else if self.own_chains.contains(&tid) {
            return;
        }
        let Some(&member) = self.member_of.get(&pid) else { return };
        let mut chain = std::mem::take(&mut self.chain);
        self.read_chain(sample, misc::KERNEL, &mut chain);
        let space = self.spaces.sample(pid);
        self.sleep.sampled(tid, member, space, &chain, sample.period.unwrap_or(1));
        self.chain = chain;
    }

    fn read_chain(&mut self, sample: &Sample<'_>, misc: u16, chain: &mut Vec<u64>) {
        chain.clear();
        chain.extend(sample.chain());
        if chain.iter().all(|&word| word >= CONTEXT_MAX) {
            // Without a call chain there is still the instruction.
            let in_kernel = misc & misc::CPUMODE_MASK == misc::KERNEL;
            chain.clear();
            chain.push(if in_kernel { CONTEXT_KERNEL } else { CONTEXT_USER });
            chain.extend(sample.ip);
        }
        let depth = chain.iter().filter(|&&word| word < CONTEXT_MAX).count() as u64;
        self.truncated += u64::from(depth >= self.meta.max_stack);
    }

    fn into_profile(self, symbolizer: &mut dyn Symbolizer) -> Profile {
        let meta = self.meta;
        let mut profile = Profile::new(self.quality(meta));
        let slept = self.sleep.finish();
        profile.wakeups = match &meta.wakeups {
            Err(why) => Wakeups::Unknown { why: why.clone() },
            Ok(_) => {
                Wakeups::Known { edges: self.wakes.finish(), watched_ns: meta.wakeups_watched_ns() }
            }
        };
        let known = |index: usize| meta.pipeline.members.get(index);
        profile.members = (self.pids.iter().enumerate())
            .map(|(index, pid)| {
                let comm = self.comms.get(pid).cloned().or_else(|| match (known(index), pid) {
                    (Some(member), _) => Some(member.comm.clone()),
                    // The idle task of each CPU, which no record names.
                    (None, 0) => Some("swapper".to_owned()),
                    (None, _) => None,
                });
                let end = known(index).and_then(|member| member.end);
                MemberProfile::new(*pid, comm.unwrap_or_else(|| format!(":{pid}")), end)
            })
            .collect();
        if let Some((symbol, address)) = &self.kernel_base {
            symbolizer.kernel_base(symbol, *address);
        }
        let mut resolver = Resolver::new(&self.spaces);
        let on_cpu = self.stacks.split();
        let blocked = slept.stacks.split();
        for stack in on_cpu.iter().chain(&blocked) {
            stack.frames.iter().for_each(|&frame| resolver.want(frame));
        }
        resolver.resolve(symbolizer, &mut profile);
        for stack in &on_cpu {
            let id = intern(&resolver, stack, &mut profile);
            let weight = StackWeight { stack: id, samples: stack.samples, weight: stack.weight };
            profile.members[stack.member].on_cpu.push(weight);
        }
        for stack in &blocked {
            let id = intern(&resolver, stack, &mut profile);
            let weight = StackWeight { stack: id, samples: stack.samples, weight: stack.weight };
            profile.members[stack.member].blocked.push(weight);
        }
        slept.put_into(&mut profile);
        if meta.pipeline.members.is_empty() {
            // Nothing says who stands upstream of whom: the heaviest first.
            profile.members.sort_by_key(|member| std::cmp::Reverse(member.weight()));
        }
        profile.quality.notes.extend(symbolizer.notes());
        profile
    }

    fn quality(&self, meta: &Meta) -> Quality {
        Quality {
            event: meta.event.clone(),
            fallback: meta.fallback.clone(),
            frequency_hz: meta.frequency_hz,
            scope: meta.scope,
            unit: if meta.timer_driven { WeightUnit::Nanoseconds } else { WeightUnit::Events },
            timer_driven: meta.timer_driven,
            kernel_visible: meta.kernel_visible,
            samples: self.samples,
            foreign_samples: self.foreign_samples,
            // The events count what the rings could no longer tell: a record of loss is only
            // written when the next record fits.
            lost: meta.lost.unwrap_or(0).max(self.lost),
            throttled: self.throttled,
            unresolved_frames: 0,
            frames: 0,
            truncated_stacks: self.truncated,
            cut_user_stacks: 0,
            malformed_records: self.malformed,
            cut_short: self.cut_short,
            notes: meta.notes.clone(),
        }
    }
}

/// Interns a stack, and counts what its frames say about quality.
fn intern(resolver: &Resolver<'_>, stack: &RawStack, profile: &mut Profile) -> StackId {
    let mut frames = Vec::with_capacity(stack.frames.len());
    let cut = resolver.frames_of(&stack.frames, &mut frames);
    let unresolved = frames.iter().filter(|&&f| profile.frame(f).is_unresolved()).count() as u64;
    let quality = &mut profile.quality;
    quality.frames += frames.len() as u64 * stack.samples;
    quality.unresolved_frames += unresolved * stack.samples;
    quality.cut_user_stacks += u64::from(cut) * stack.samples;
    profile.intern_stack(&frames)
}
