//! Samples and sleeps one by one, for viewers that draw a time line. A profile adds them up.
//!
//! They stay in an unnamed temporary file until the stacks have names, so that memory does not grow
//! with their number.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use memmap2::Mmap;

use crate::paging::Paging;
use crate::perfdata::layout::SampleId;
use crate::profile::StackId;

/// What a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It was sampled on a CPU.
    Running {
        /// What the sample stands for, in the profile's unit.
        period: u64,
    },
    /// It slept, from the moment's time on.
    Sleeping {
        /// How long, in nanoseconds, the wait for a CPU after the wake-up included.
        ns: u64,
    },
}

/// One sample or one sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// In the clock of the recording, ns.
    pub time_ns: u64,
    /// Index of the member in the profile.
    pub member: usize,
    /// The process: the member's, or one that it started. 0 where unknown.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The CPU, of samples that tell.
    pub cpu: Option<u32>,
    /// A stack of the profile. `None` for a sleep whose stack was not sampled.
    pub stack: Option<StackId>,
    /// Ran or slept.
    pub doing: Doing,
}

/// The moments of a recording. Samples come in the order of time, sleeps in that of their ends.
#[derive(Debug, Default)]
pub struct Timeline {
    bytes: Option<Mmap>,
    samples: Vec<StackId>,
    sleeps: Vec<StackId>,
    /// Where in the profile the members are that the pass knew by other indices.
    members: Vec<usize>,
}

/// A moment on its way: time, period or duration, stack, member, pid, tid, CPU, what.
const ENTRY: usize = 40;
const NONE: u32 = u32::MAX;

/// Takes moments down while the records go by.
#[derive(Debug)]
pub(crate) struct Spool {
    out: BufWriter<File>,
    failed: Option<io::Error>,
    any: bool,
    samples: Vec<StackId>,
    sleeps: Vec<StackId>,
    members: Vec<usize>,
}

impl Spool {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Spool {
            out: BufWriter::new(tempfile::tempfile()?),
            failed: None,
            any: false,
            samples: Vec::new(),
            sleeps: Vec::new(),
            members: Vec::new(),
        })
    }

    /// A sample; `stack` is its index among the raw stacks of samples.
    pub(crate) fn sample(&mut self, id: SampleId, member: usize, stack: usize, period: u64) {
        let tid = id.tid.or(id.pid);
        let ids = [id.pid.unwrap_or(0), tid.unwrap_or(0)];
        self.put(id.time.unwrap_or(0), period, stack as u32, member, ids, id.cpu, 0);
    }

    /// A sleep; `stack` is its index among the raw stacks of sleeps.
    pub(crate) fn sleep(&mut self, slept: Blocked) {
        let stack = slept.stack.map_or(NONE, |stack| stack as u32);
        let began = slept.until.saturating_sub(slept.ns);
        self.put(began, slept.ns, stack, slept.member, [slept.pid, slept.tid], None, 1);
    }

    #[allow(clippy::too_many_arguments)] // One for each field of an entry.
    fn put(
        &mut self,
        time: u64,
        value: u64,
        stack: u32,
        member: usize,
        [pid, tid]: [i32; 2],
        cpu: Option<u32>,
        what: u32,
    ) {
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&time.to_ne_bytes());
        entry[8..16].copy_from_slice(&value.to_ne_bytes());
        let id = |id: i32| u32::try_from(id).unwrap_or(0);
        let words = [stack, member as u32, id(pid), id(tid), cpu.unwrap_or(NONE), what];
        for (at, word) in entry[16..].chunks_exact_mut(4).zip(words) {
            at.copy_from_slice(&word.to_ne_bytes());
        }
        self.any = true;
        if self.failed.is_none() {
            self.failed = self.out.write_all(&entry).err();
        }
    }

    /// The raw stacks have become stacks of the profile.
    pub(crate) fn name(&mut self, samples: Vec<StackId>, sleeps: Vec<StackId>) {
        (self.samples, self.sleeps) = (samples, sleeps);
    }

    /// The members have got their places in the profile.
    pub(crate) fn place(&mut self, members: Vec<usize>) {
        self.members = members;
    }

    pub(crate) fn finish(self) -> io::Result<Timeline> {
        let Spool { out, failed, any, samples, sleeps, members } = self;
        if let Some(error) = failed {
            return Err(error);
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        // An empty file cannot be mapped.
        let bytes = if any { Some(crate::sys::map_file(&file)?) } else { None };
        Ok(Timeline { bytes, samples, sleeps, members })
    }
}

/// A sleep as the analysis sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    pub(crate) pid: i32,
    pub(crate) tid: i32,
    pub(crate) member: usize,
    pub(crate) until: u64,
    pub(crate) ns: u64,
    pub(crate) stack: Option<usize>,
}

impl Timeline {
    /// All moments.
    pub fn moments(&self) -> impl Iterator<Item = Moment> + '_ {
        let bytes = self.bytes.as_deref().unwrap_or_default();
        let mut paging = self.bytes.as_ref().map_or_else(Paging::none, Paging::new);
        bytes.chunks_exact(ENTRY).enumerate().map(move |(index, entry)| {
            paging.reach(index * ENTRY);
            paging.leave(index * ENTRY);
            self.moment(entry)
        })
    }

    fn moment(&self, entry: &[u8]) -> Moment {
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        let word = |index: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&entry[16 + 4 * index..][..4]);
            u32::from_ne_bytes(bytes)
        };
        let runs = word(5) == 0;
        let stacks = if runs { &self.samples } else { &self.sleeps };
        let member = word(1) as usize;
        Moment {
            time_ns: long(0),
            member: self.members.get(member).copied().unwrap_or(member),
            pid: word(2),
            tid: word(3),
            cpu: Some(word(4)).filter(|&cpu| cpu != NONE),
            stack: stacks.get(word(0) as usize).copied(),
            doing: if runs {
                Doing::Running { period: long(8) }
            } else {
                Doing::Sleeping { ns: long(8) }
            },
        }
    }
}
