//! Recording to profile: one pass over the records in the order of time, then one look-up a
//! distinct address.

use rustc_hash::FxHashSet;

use crate::address_space::AddressSpaces;
use crate::depths::Depths;
use crate::effect::{Observed, Scale};
use crate::error::Error;
use crate::grouping::by_name;
use crate::kernel_code::{RecordedKernel, RecordedModule};
use crate::losses::Losses;
use crate::members::Members;
use crate::paging::Paging;
use crate::perfdata::build_ids::BuildIds;
use crate::perfdata::layout::{Sample, SampleId};
use crate::perfdata::read::{FormatError, PerfDataFile};
use crate::perfdata::record::{
    CONTEXT_KERNEL, CONTEXT_MAX, CONTEXT_USER, Mapping, Parsed, Record, Task, misc, parse,
};
use crate::profile::{
    MemberProfile, Profile, Quality, StackId, StackWeight, Unwinding, WeightUnit,
};
use crate::raw_stacks::{RawStack, RawStacks};
use crate::recording::{EventRole, Loaded, Meta, Recording};
use crate::resolve::Resolver;
use crate::sleep::Sleep;
use crate::symbolize::Symbolizer;
use crate::time_order::each_in_time_order;
use crate::timeline::{Spool, Timeline};
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

/// As [`analyse`], and tells every few megabytes how far it has come.
///
/// # Errors
/// Those of [`analyse`].
pub fn analyse_watched(
    recording: &Recording,
    symbolizer: &mut dyn Symbolizer,
    watch: &mut dyn FnMut(Progress),
) -> Result<Profile, Error> {
    analyse_into(recording, symbolizer, Onlookers { spool: None, watch: Some(watch) })
}

/// As [`analyse`], and keeps the samples and sleeps that the profile adds up.
///
/// # Errors
/// Those of [`analyse`], and [`Error::File`] where the temporary folder does not hold them.
pub fn analyse_with_timeline(
    recording: &Recording,
    symbolizer: &mut dyn Symbolizer,
) -> Result<(Profile, Timeline), Error> {
    let failed =
        |source| Error::File { action: "keeping samples in", path: std::env::temp_dir(), source };
    let mut spool = Spool::new().map_err(failed)?;
    let profile =
        analyse_into(recording, symbolizer, Onlookers { spool: Some(&mut spool), watch: None })?;
    Ok((profile, spool.finish().map_err(failed)?))
}

fn analyse_into(
    recording: &Recording,
    symbolizer: &mut dyn Symbolizer,
    onlookers: Onlookers<'_>,
) -> Result<Profile, Error> {
    let Loaded { file, bytes, unwinding } = recording.load()?;
    let paging = Paging::new(&bytes);
    let (meta, unwinding) = (&recording.meta, unwinding.as_ref());
    let mut profile =
        analyse_records(&file, &bytes, paging, meta, unwinding, symbolizer, onlookers);
    for (member, &cpu_time_ns) in profile.members.iter_mut().zip(&recording.about.cpu_time_ns) {
        member.cpu_time_ns = member.cpu_time_ns.or(cpu_time_ns);
    }
    Ok(profile)
}

/// Who is told of the pass as it goes.
#[derive(Default)]
struct Onlookers<'a> {
    /// Of each sample and sleep.
    spool: Option<&'a mut Spool>,
    /// Of how far it has come.
    watch: Option<&'a mut dyn FnMut(Progress)>,
}

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
    let unwinding = meta.unwinding.as_ref();
    Ok(analyse_records(
        &file,
        bytes,
        Paging::none(),
        meta,
        unwinding,
        symbolizer,
        Onlookers::default(),
    ))
}

fn analyse_records(
    file: &PerfDataFile,
    bytes: &[u8],
    paging: Paging<'_>,
    meta: &Meta,
    unwinding: Option<&Unwinding>,
    symbolizer: &mut dyn Symbolizer,
    onlookers: Onlookers<'_>,
) -> Profile {
    let Onlookers { spool, mut watch } = onlookers;
    let mut pass = Pass::new(meta, unwinding, file);
    if spool.is_some() {
        pass.sleep.keep_sleeps();
    }
    pass.spool = spool;
    pass.build_ids = file.build_ids.clone();
    let (data_at, mut tell_at) = (bytes.as_ptr() as usize + file.data.start, TELL_EVERY);
    let passed = each_in_time_order(file, bytes, paging, |record, event| {
        pass.take(record, event, file);
        let at = (record.body.as_ptr() as usize).saturating_sub(data_at);
        if at >= tell_at {
            tell_at = at + TELL_EVERY;
            let (bytes, total_bytes) = (at as u64, file.data.len() as u64);
            if let Some(watch) = &mut watch {
                watch(Progress { bytes, total_bytes, samples: pass.samples });
            }
        }
    });
    pass.cut_short = passed.cut_short;
    pass.malformed += passed.malformed;
    pass.pass_gaps(meta.end_ns);
    pass.into_profile(symbolizer)
}

/// The most that all samples together stand for: 146 years of nanoseconds. Which single period is
/// damaged nobody can tell (`perf record --off-cpu` has one of hours), but a sum beyond this is,
/// and with it all that follows.
const MOST_WEIGHT: u64 = 1 << 62;

/// What the pass over the records gathers.
struct Pass<'a> {
    meta: &'a Meta,
    /// How user stacks were unwound, where they were.
    unwinding: Option<&'a Unwinding>,
    /// The event that is shown.
    sampled: usize,
    /// What each event of the file is for.
    roles: Vec<EventRole>,
    /// It is a file of perf with switches, and nobody noted which threads there were.
    tells_lives: bool,
    members: Members,
    spaces: AddressSpaces,
    stacks: RawStacks,
    sleep: Sleep<'a>,
    /// Threads whose switches have call chains of their own, apart from those of their CPU.
    own_chains: FxHashSet<i32>,
    /// Thread and time of the latest switch that was sampled, and the switches it stands for.
    latest_switch: Option<((i32, Option<u64>), u64)>,
    wakes: WakeTracker,
    /// Times without records of switches that are still to come, the next one last.
    gaps: Vec<Window>,
    /// The end of the latest gap. What was still recorded after its beginning, while the events
    /// were being turned off, is left out: its other half is missing.
    gap_until: u64,
    kernel: RecordedKernel,
    build_ids: BuildIds,
    samples: u64,
    /// Sum of what their periods stand for.
    weight: u64,
    scale: Scale<'a>,
    /// The times of the first and the last of them.
    span_ns: Option<(u64, u64)>,
    foreign_samples: u64,
    losses: Losses,
    throttled: u64,
    depths: Depths,
    malformed: u64,
    cut_short: bool,
    chain: Vec<u64>,
    /// Where samples and sleeps are kept one by one.
    spool: Option<&'a mut Spool>,
}

impl<'a> Pass<'a> {
    fn new(meta: &'a Meta, unwinding: Option<&'a Unwinding>, file: &PerfDataFile) -> Self {
        let members = Members::new(meta);
        let sleep = Sleep::new(meta, members.by_process());
        Pass {
            meta,
            unwinding,
            sampled: file.sampled,
            roles: meta.roles(file),
            tells_lives: meta.switches && meta.pipeline.members.is_empty(),
            members,
            spaces: AddressSpaces::default(),
            sleep,
            own_chains: FxHashSet::default(),
            latest_switch: None,
            gap_until: 0,
            wakes: WakeTracker::default(),
            gaps: match &meta.windows[..] {
                [] => Vec::new(),
                some => gaps(some, (meta.start_ns, meta.end_ns)).into_iter().rev().collect(),
            },
            stacks: RawStacks::default(),
            kernel: RecordedKernel::default(),
            build_ids: BuildIds::default(),
            samples: 0,
            weight: 0,
            scale: Scale::new(meta.observed.as_ref(), meta.timer_driven),
            span_ns: None,
            foreign_samples: 0,
            losses: Losses::new(file.events.len()),
            throttled: 0,
            depths: Depths::new(meta.max_stack),
            malformed: 0,
            cut_short: false,
            chain: Vec::new(),
            spool: None,
        }
    }

    fn take(&mut self, record: &Record<'_>, event: usize, file: &PerfDataFile) {
        let layout = file.events[event].layout;
        if !self.gaps.is_empty() {
            self.pass_gaps(layout.time(record).unwrap_or(0));
        }
        match parse(record, layout) {
            Some(Parsed::Sample(sample)) => match self.roles[event] {
                EventRole::Sample => {
                    self.sample(&sample, record.misc);
                    if self.tells_lives && file.events[event].is_switch() {
                        self.switch_sample(&sample, EventRole::Switch);
                    }
                }
                EventRole::Wakeup => self.woken(&sample),
                role @ (EventRole::Switch | EventRole::OwnChain) => {
                    self.switch_sample(&sample, role);
                }
                EventRole::Other => {}
            },
            Some(Parsed::Mapping(mapping)) => self.map(&mapping, layout.time(record)),
            Some(Parsed::KernelSymbol(symbol)) => self.spaces.kernel_symbol(&symbol),
            Some(Parsed::BuildId(file)) => self.build_ids.add(&file),
            Some(Parsed::Comm(comm)) => {
                if comm.exec {
                    self.spaces.exec(comm.pid);
                }
                if comm.pid == comm.tid {
                    self.members.comm(comm.pid, &String::from_utf8_lossy(comm.name));
                }
            }
            Some(Parsed::Fork(task)) => self.fork(task, layout.time(record)),
            Some(Parsed::Exit(task)) => self.sleep.exit(task.tid, layout.time(record)),
            Some(Parsed::Switch { out, preempted }) => {
                let id = layout.sample_id(record);
                if let (Some(tid), Some(time)) = (id.tid, id.time)
                    && time >= self.gap_until
                {
                    self.is_on_cpu(id);
                    self.sleep.switch(id, out, preempted);
                    self.keep_sleeps();
                    self.wakes.switched(tid, out, time);
                }
            }
            Some(Parsed::Lost { id, count }) => {
                self.losses.in_ring(file.event_of_id(id).unwrap_or(file.sampled), count);
            }
            Some(Parsed::LostSamples(count)) => {
                self.losses.samples(event, layout.time(record), count);
            }
            Some(Parsed::Throttle) => self.throttled += 1,
            Some(Parsed::Other) => {}
            None => self.malformed += 1,
        }
    }

    /// In a file of perf threads come to light as they run. The idle task is nobody's.
    fn is_on_cpu(&mut self, id: SampleId) {
        if self.tells_lives
            && let (Some(pid @ 1..), Some(tid), Some(time)) = (id.pid, id.tid, id.time)
            && let Some(member) = self.members.sampled(pid)
        {
            self.sleep.seen(pid, tid, member, time);
        }
    }

    fn map(&mut self, mapping: &Mapping<'_>, time: Option<u64>) {
        if mapping.pid >= 0 {
            self.spaces.map(mapping, time);
        } else if let Some(symbol) = mapping.path.strip_prefix(b"[kernel.kallsyms]") {
            self.kernel.build_id = self.kernel.build_id.or(mapping.build_id);
            if !symbol.is_empty() {
                // Where the offset in the file would be, perf notes the address of this symbol.
                self.kernel.base = Some((symbol.to_vec(), mapping.file_offset));
            }
        } else if let Some(name) = RecordedModule::name_of(mapping.path) {
            let Mapping { start, length, build_id, path, .. } = *mapping;
            let module = RecordedModule { name, start, length, build_id };
            self.kernel.modules.push((path.to_vec(), module));
        }
    }

    fn fork(&mut self, task: Task, time: Option<u64>) {
        self.members.fork(task, time);
        if task.pid != task.parent_pid {
            self.spaces.fork(task.parent_pid, task.pid);
        }
        if let (Some(member), Some(time)) = (self.members.of(task.pid), time) {
            if time <= self.meta.start_ns {
                self.sleep.found(task, member);
            } else {
                self.sleep.born(task, member, time, time.max(self.gap_until));
            }
        } else {
            self.sleep.given_away(task.tid, time);
        }
    }

    fn sample(&mut self, sample: &Sample<'_>, misc: u16) {
        let pid = sample.id.pid.unwrap_or(-1);
        let Some(member) = self.members.sampled(pid) else {
            self.foreign_samples += 1;
            return;
        };
        let period = self.scale.of(sample.period, sample.id.time);
        match self.weight.checked_add(period).filter(|&weight| weight <= MOST_WEIGHT) {
            Some(weight) => self.weight = weight,
            None => {
                self.malformed += 1;
                return;
            }
        }
        self.samples += 1;
        self.is_on_cpu(sample.id);
        if let Some(time) = sample.id.time {
            let (first, last) = self.span_ns.unwrap_or((time, time));
            self.span_ns = Some((first.min(time), last.max(time)));
        }
        let mut chain = std::mem::take(&mut self.chain);
        self.read_chain(sample, misc, &mut chain);
        let space = self.spaces.sample(pid);
        let stack = self.stacks.add(member, space, &chain, 1, period);
        if let Some(spool) = &mut self.spool {
            spool.sample(sample.id, member, stack, period);
        }
        self.chain = chain;
    }

    fn keep_sleeps(&mut self) {
        if let Some(spool) = &mut self.spool {
            self.sleep.take_sleeps().for_each(|slept| spool.sleep(slept));
        }
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
    fn switch_sample(&mut self, sample: &Sample<'_>, role: EventRole) {
        let (Some(pid), Some(tid)) = (sample.id.pid, sample.id.tid) else { return };
        if role == EventRole::OwnChain {
            self.own_chains.insert(tid);
        } else if self.own_chains.contains(&tid) {
            return;
        }
        self.is_on_cpu(sample.id);
        let Some(member) = self.members.of(pid) else { return };
        let mut period = sample.period;
        // Both events may sample one switch, and either's id may be in both samples. The event of
        // the thread alone saw no more switches than that of its CPU, so it has the lower period.
        let switch = (tid, sample.id.time);
        match self.latest_switch {
            Some((latest, lowest)) if latest == switch => period = period.min(lowest),
            _ => {}
        }
        self.latest_switch = Some((switch, period));
        let mut chain = std::mem::take(&mut self.chain);
        self.read_chain(sample, misc::KERNEL, &mut chain);
        let space = self.spaces.sample(pid);
        self.sleep.sampled(tid, member, space, &chain, period);
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
        // The CPU knows the user half better than the kernel, which saw no frame pointers.
        if !sample.calls.is_empty()
            && let Some(user) = chain.iter().position(|&word| word == CONTEXT_USER)
        {
            chain.truncate(user);
            // They came from the call itself, not from where it returns to, so each address is one
            // that the CPU was at: a marker before it says so.
            chain.extend(sample.calls.addresses().flat_map(|address| [CONTEXT_USER, address]));
            return;
        }
        // The limit is the kernel's, for the part that it walks.
        let walked = match self.unwinding {
            Some(_) => chain.iter().position(|&word| word == CONTEXT_USER).unwrap_or(chain.len()),
            None => chain.len(),
        };
        let depth = || chain[..walked].iter().filter(|&&word| word < CONTEXT_MAX).count() as u64;
        if walked as u64 >= self.depths.least() {
            self.depths.add(depth());
        }
    }

    fn into_profile(mut self, symbolizer: &mut dyn Symbolizer) -> Profile {
        let meta = self.meta;
        let mut profile = Profile::new(self.quality(meta));
        self.sleep.end_lives();
        self.keep_sleeps();
        let slept = self.sleep.finish(self.members.names().count());
        profile.span_ns = self.span_ns;
        profile.wakeups = match &meta.wakeups {
            Err(why) => Wakeups::Unknown { why: why.clone() },
            Ok(_) => {
                Wakeups::Known { edges: self.wakes.finish(), watched_ns: meta.wakeups_watched_ns() }
            }
        };
        let known = |index: usize| meta.pipeline.members.get(index);
        profile.members = (self.members.names().enumerate())
            .map(|(index, (pid, comm))| {
                let comm = comm.map(str::to_owned).or_else(|| match (known(index), pid) {
                    (Some(member), _) => Some(member.comm.clone()),
                    // The idle task of each CPU, which no record names.
                    (None, 0) => Some("swapper".to_owned()),
                    (None, _) => None,
                });
                let end = known(index).and_then(|member| member.end);
                MemberProfile::new(pid, comm.unwrap_or_else(|| format!(":{pid}")), end)
            })
            .collect();
        symbolizer.recorded_kernel(self.kernel.with(&self.build_ids));
        let mut resolver = Resolver::new(&self.spaces, &self.build_ids);
        let on_cpu = self.stacks.split(&self.spaces);
        let blocked = slept.stacks.split(&self.spaces);
        for stack in on_cpu.iter().chain(&blocked) {
            stack.frames.iter().for_each(|&frame| resolver.want(frame));
        }
        resolver.resolve(symbolizer, &mut profile);
        let mut add = |stack: &RawStack, blocked: bool| {
            let id = intern(&resolver, stack, &mut profile);
            let weight = StackWeight { stack: id, samples: stack.samples, weight: stack.weight };
            let member = &mut profile.members[stack.member];
            if blocked { &mut member.blocked } else { &mut member.on_cpu }.push(weight);
            id
        };
        let sampled: Vec<StackId> = on_cpu.iter().map(|stack| add(stack, false)).collect();
        let slept_in: Vec<StackId> = blocked.iter().map(|stack| add(stack, true)).collect();
        slept.put_into(&mut profile);
        let mut places: Vec<usize> = (0..profile.members.len()).collect();
        if meta.pipeline.members.is_empty() {
            let grouped;
            (grouped, places) = by_name(std::mem::take(&mut profile.members));
            // Nothing says who stands upstream of whom: the heaviest first.
            let mut order: Vec<(usize, MemberProfile)> = grouped.into_iter().enumerate().collect();
            order.sort_by_key(|(_, member)| std::cmp::Reverse(member.weight()));
            let mut sorted = vec![0; order.len()];
            order.iter().enumerate().for_each(|(place, &(group, _))| sorted[group] = place);
            places.iter_mut().for_each(|place| *place = sorted[*place]);
            profile.members = order.into_iter().map(|(_, member)| member).collect();
        }
        if let Some(spool) = self.spool {
            spool.name(sampled, slept_in);
            spool.place(places);
        }
        profile.quality.notes.extend(symbolizer.notes());
        profile
    }

    fn quality(&self, meta: &Meta) -> Quality {
        Quality {
            event: meta.event.clone(),
            fallback: meta.fallback.clone(),
            frequency_hz: meta.frequency_hz,
            frequency_range_hz: (meta.observed.as_ref())
                .and_then(Observed::range_hz)
                .filter(|(lowest, highest)| lowest < highest),
            sampling_effect: meta.observed.as_ref().and_then(Observed::effect),
            scope: meta.scope,
            unit: if meta.timer_driven { WeightUnit::Nanoseconds } else { WeightUnit::Events },
            timer_driven: meta.timer_driven,
            interrupts_wait: meta.timer_driven || meta.interrupts_wait,
            kernel_visible: meta.kernel_visible,
            samples: self.samples,
            foreign_samples: self.foreign_samples.saturating_add(meta.foreign_samples),
            // The event counts what the rings could no longer tell: a record of loss is only
            // written when the next record fits.
            lost: meta.lost.unwrap_or_else(|| self.losses.of(self.sampled)),
            throttled: self.throttled,
            unresolved_frames: 0,
            frames: 0,
            truncated_stacks: self.depths.cut(),
            cut_user_stacks: 0,
            unwinding: self.unwinding.cloned(),
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
