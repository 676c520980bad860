//! Recording to profile: one pass over the records in the order of time, then one look-up a
//! distinct address.

use std::hash::{Hash, Hasher};
use std::path::Path;

use rustc_hash::{FxHashMap, FxHasher};

use crate::address_space::{AddressSpaces, SpaceId};
use crate::error::Error;
use crate::order::RoundSorter;
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::record::{
    CONTEXT_KERNEL, CONTEXT_MAX, CONTEXT_USER, Layout, Parsed, Record, Sample, Task, kind, misc,
    parse, split_record,
};
use crate::profile::{MemberProfile, Mode, Profile, Quality, StackWeight, WeightUnit};
use crate::recording::{Meta, Recording};
use crate::resolve::{RawFrame, Resolver};
use crate::symbolize::Symbolizer;

/// Turns a recording into a profile.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Format`] where it is no recording. Bad
/// records inside it are counted, not errors.
pub fn analyse(recording: &Recording, symbolizer: &mut dyn Symbolizer) -> Result<Profile, Error> {
    let bytes = recording.map()?;
    analyse_bytes(&bytes, &recording.meta, &recording.perf_data(), symbolizer)
}

fn analyse_bytes(
    bytes: &[u8],
    meta: &Meta,
    path: &Path,
    symbolizer: &mut dyn Symbolizer,
) -> Result<Profile, Error> {
    let file = PerfDataFile::parse(bytes)
        .map_err(|source| Error::Format { path: path.to_owned(), source })?;
    let mut pass = Pass::new(meta);
    pass.cut_short = file.cut_short;
    let data = &bytes[file.data.clone()];
    let mut sorter: RoundSorter<(usize, usize)> = RoundSorter::new();
    let mut at = 0;
    while at < data.len() {
        let Some((record, size)) = split_record(&data[at..]) else {
            // Nothing after a record that does not end can be found again.
            pass.cut_short = true;
            break;
        };
        if record.kind == kind::FINISHED_ROUND {
            sorter.end_round(|(at, event)| pass.take(data, at, file.events[event].layout));
        } else if record.kind < kind::FINISHED_ROUND {
            let event = event_of(&file, &record);
            let time = file.events[event].layout.time(&record).unwrap_or(0);
            sorter.push(time, (at, event));
        }
        at += size;
    }
    sorter.finish(|(at, event)| pass.take(data, at, file.events[event].layout));
    Ok(pass.into_profile(meta, symbolizer))
}

/// Which event a record is of. The ids of all events lie at one place
/// (`PERF_SAMPLE_IDENTIFIER`), so any layout finds them.
fn event_of(file: &PerfDataFile, record: &Record<'_>) -> usize {
    match &file.events[..] {
        [_] => 0,
        events => file.event_of(events[0].layout.sample_id(record).id).unwrap_or(0),
    }
}

/// What the pass over the records gathers.
struct Pass {
    spaces: AddressSpaces,
    member_of: FxHashMap<i32, usize>,
    stacks: RawStacks,
    comms: FxHashMap<i32, String>,
    samples: u64,
    foreign_samples: u64,
    lost: u64,
    throttled: u64,
    truncated: u64,
    malformed: u64,
    cut_short: bool,
    max_stack: u64,
    chain: Vec<u64>,
}

impl Pass {
    fn new(meta: &Meta) -> Self {
        let members = meta.pipeline.members.iter().enumerate();
        Pass {
            spaces: AddressSpaces::default(),
            member_of: members.map(|(index, member)| (member.pid, index)).collect(),
            stacks: RawStacks::default(),
            comms: FxHashMap::default(),
            samples: 0,
            foreign_samples: 0,
            lost: 0,
            throttled: 0,
            truncated: 0,
            malformed: 0,
            cut_short: false,
            max_stack: meta.max_stack,
            chain: Vec::new(),
        }
    }

    fn take(&mut self, data: &[u8], at: usize, layout: Layout) {
        let Some((record, _)) = split_record(&data[at..]) else { return };
        match parse(&record, layout) {
            Some(Parsed::Sample(sample)) => self.sample(&sample, record.misc),
            Some(Parsed::Mapping(mapping)) => self.spaces.map(&mapping),
            Some(Parsed::Comm(comm)) => {
                if comm.exec {
                    self.spaces.exec(comm.pid);
                }
                if comm.pid == comm.tid {
                    let name = String::from_utf8_lossy(comm.name).into_owned();
                    self.comms.insert(comm.pid, name);
                }
            }
            Some(Parsed::Fork(task)) => self.fork(task),
            Some(Parsed::Lost(count)) => self.lost += count,
            Some(Parsed::Throttle) => self.throttled += 1,
            Some(Parsed::Exit(_) | Parsed::Switch { .. } | Parsed::Other) => {}
            None => self.malformed += 1,
        }
    }

    /// A child belongs to the member that made it. A stranger's child that got the number of a
    /// member that has died does not.
    fn fork(&mut self, task: Task) {
        if task.pid == task.parent_pid {
            return;
        }
        self.spaces.fork(task.parent_pid, task.pid);
        match self.member_of.get(&task.parent_pid) {
            Some(&member) => {
                self.member_of.entry(task.pid).or_insert(member);
            }
            None => {
                self.member_of.remove(&task.pid);
            }
        }
    }

    fn sample(&mut self, sample: &Sample<'_>, misc: u16) {
        let pid = sample.id.pid.unwrap_or(-1);
        let Some(&member) = self.member_of.get(&pid) else {
            self.foreign_samples += 1;
            return;
        };
        self.samples += 1;
        let mut chain = std::mem::take(&mut self.chain);
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
        self.truncated += u64::from(depth >= self.max_stack);
        let space = self.spaces.sample(pid);
        self.stacks.add(member, space, &chain, sample.period.unwrap_or(1));
        self.chain = chain;
    }

    fn into_profile(self, meta: &Meta, symbolizer: &mut dyn Symbolizer) -> Profile {
        let mut profile = Profile::new(self.quality(meta));
        profile.members = meta
            .pipeline
            .members
            .iter()
            .map(|member| MemberProfile {
                pid: member.pid,
                comm: self.comms.get(&member.pid).unwrap_or(&member.comm).clone(),
                end: member.end,
                on_cpu: Vec::new(),
                cpu_time_ns: None,
            })
            .collect();
        let mut resolver = Resolver::new(&self.spaces);
        let split: Vec<RawStack> =
            self.stacks.iter().map(|(entry, chain)| RawStack::of(entry, chain)).collect();
        for stack in &split {
            stack.frames.iter().for_each(|&frame| resolver.want(frame));
        }
        resolver.resolve(symbolizer, &mut profile);
        let mut frames = Vec::new();
        for stack in &split {
            frames.clear();
            let cut = resolver.frames_of(&stack.frames, &mut frames);
            let unresolved =
                frames.iter().filter(|&&f| profile.frame(f).is_unresolved()).count() as u64;
            let quality = &mut profile.quality;
            quality.frames += frames.len() as u64 * stack.samples;
            quality.unresolved_frames += unresolved * stack.samples;
            quality.cut_user_stacks += u64::from(cut) * stack.samples;
            let id = profile.intern_stack(&frames);
            profile.members[stack.member].add(id, stack.samples, stack.weight);
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

/// Distinct call chains as the kernel wrote them, with what was sampled of each.
#[derive(Default)]
struct RawStacks {
    /// All chains, end to end.
    words: Vec<u64>,
    entries: Vec<RawEntry>,
    by_hash: FxHashMap<u64, u32>,
}

struct RawEntry {
    member: usize,
    space: SpaceId,
    start: usize,
    end: usize,
    samples: u64,
    weight: u64,
    /// The next entry of the same hash.
    next: Option<u32>,
}

impl RawStacks {
    fn add(&mut self, member: usize, space: SpaceId, chain: &[u64], weight: u64) {
        let mut hasher = FxHasher::default();
        (member, space).hash(&mut hasher);
        chain.hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.by_hash.get(&hash).copied();
        let mut at = first;
        while let Some(index) = at {
            let entry = &mut self.entries[index as usize];
            if entry.member == member
                && entry.space == space
                && self.words[entry.start..entry.end] == *chain
            {
                entry.samples += 1;
                entry.weight += weight;
                return;
            }
            at = entry.next;
        }
        let start = self.words.len();
        self.words.extend_from_slice(chain);
        let end = self.words.len();
        self.by_hash.insert(hash, self.entries.len() as u32);
        self.entries.push(RawEntry { member, space, start, end, samples: 1, weight, next: first });
    }

    fn iter(&self) -> impl Iterator<Item = (&RawEntry, &[u64])> {
        self.entries.iter().map(|entry| (entry, &self.words[entry.start..entry.end]))
    }
}

/// A chain split into frames by its markers.
struct RawStack {
    member: usize,
    frames: Vec<RawFrame>,
    samples: u64,
    weight: u64,
}

impl RawStack {
    fn of(entry: &RawEntry, chain: &[u64]) -> Self {
        let mut mode = Mode::Kernel;
        let mut first_of_mode = true;
        let mut frames = Vec::with_capacity(chain.len());
        for &word in chain {
            if word >= CONTEXT_MAX {
                mode = if word == CONTEXT_KERNEL { Mode::Kernel } else { Mode::User };
                first_of_mode = true;
                continue;
            }
            // The first of each half is where the CPU was; the others are return addresses.
            frames.push(match mode {
                Mode::Kernel => RawFrame::kernel(word, first_of_mode),
                Mode::User => RawFrame::user(entry.space, word, first_of_mode),
            });
            first_of_mode = false;
        }
        RawStack { member: entry.member, frames, samples: entry.samples, weight: entry.weight }
    }
}

impl MemberProfile {
    fn add(&mut self, stack: crate::profile::StackId, samples: u64, weight: u64) {
        self.on_cpu.push(StackWeight { stack, samples, weight });
    }
}
