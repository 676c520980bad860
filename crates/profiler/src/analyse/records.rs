//! What the analysis takes from each record.

use rustc_hash::FxHashSet;

use super::{MOST_WEIGHT, Pass};
use crate::address_space::AddressSpaces;
use crate::depths::Depths;
use crate::effect::Scale;
use crate::kernel_code::{RecordedKernel, RecordedModule};
use crate::losses::Losses;
use crate::members::Members;
use crate::perfdata::build_ids::BuildIds;
use crate::perfdata::layout::{Sample, SampleId};
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::readings::Readings;
use crate::perfdata::record::{
    CONTEXT_KERNEL, CONTEXT_MAX, CONTEXT_USER, Mapping, Parsed, Record, Task, misc, parse,
};
use crate::profile::Unwinding;
use crate::raw_stacks::RawStacks;
use crate::recording::{EventRole, Meta};
use crate::sleep::Sleep;
use crate::wakeups::WakeTracker;
use crate::windows::gaps;

impl<'a> Pass<'a> {
    pub(super) fn new(
        meta: &'a Meta,
        unwinding: Option<&'a Unwinding>,
        file: &PerfDataFile,
    ) -> Self {
        let members = Members::new(meta);
        let sleep = Sleep::new(meta, members.by_process());
        Pass {
            meta,
            unwinding,
            sampled: file.sampled,
            part: None,
            roles: meta.roles(file),
            tells_lives: meta.setup.switches && meta.pipeline.members.is_empty(),
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
            readings: Readings::default(),
            samples: 0,
            weight: 0,
            scale: Scale::new(meta.observed.as_ref(), meta.setup.timer_driven),
            span_ns: None,
            foreign_samples: 0,
            losses: Losses::new(file.events.len()),
            throttled: 0,
            depths: Depths::new(meta.setup.max_stack),
            malformed: 0,
            cut_short: false,
            chain: Vec::new(),
            spool: None,
        }
    }

    pub(super) fn take(&mut self, record: &Record<'_>, event: usize, file: &PerfDataFile) {
        let layout = file.events[event].layout;
        if !self.gaps.is_empty() {
            self.pass_gaps(layout.time(record).unwrap_or(0));
        }
        match parse(record, layout) {
            Some(Parsed::Sample(sample)) if layout.has_readings() => {
                let mut readings = std::mem::take(&mut self.readings);
                match readings.of(&sample, layout, |id| file.counter(id)) {
                    Some(counted) => counted.iter().for_each(|&(event, period)| {
                        let sample = sample.standing_for(period);
                        self.sample_of(event, &sample, record.misc, file);
                    }),
                    None => self.sample_of(event, &sample, record.misc, file),
                }
                self.readings = readings;
            }
            Some(Parsed::Sample(sample)) => self.sample_of(event, &sample, record.misc, file),
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

    #[inline]
    fn sample_of(&mut self, event: usize, sample: &Sample<'_>, misc: u16, file: &PerfDataFile) {
        match self.roles[event] {
            EventRole::Sample => {
                self.sample(sample, misc);
                if self.tells_lives && file.events[event].is_switch() {
                    self.switch_sample(sample, EventRole::Switch);
                }
            }
            EventRole::Wakeup => self.woken(sample),
            role @ (EventRole::Switch | EventRole::OwnChain) => self.switch_sample(sample, role),
            EventRole::Tracking | EventRole::Other => {}
        }
    }

    /// In a file of perf, threads become known when they run. The idle task belongs to no member.
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
        if !self.counts(sample.id.time) {
            return;
        }
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

    /// It happened within the time that counts.
    fn counts(&self, time: Option<u64>) -> bool {
        self.part.is_none_or(|(from, until)| (from..until).contains(&time.unwrap_or(0)))
    }

    pub(super) fn keep_sleeps(&mut self) {
        if let Some(spool) = &mut self.spool {
            self.sleep.take_sleeps().for_each(|slept| spool.sleep(slept));
        }
    }

    /// Goes past the gaps that began before `time`.
    pub(super) fn pass_gaps(&mut self, time: u64) {
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
            (&self.meta.setup.wakeups, sample.id.tid, sample.id.time)
        else {
            return;
        };
        if time < self.gap_until || !self.counts(Some(time)) {
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
}
