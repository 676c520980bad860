//! Files as `perf record` writes them, made by hand: any events, any layout of samples.

use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use pipeprof_profiler::attr::{EventAttr, flag, sample_type};
use pipeprof_profiler::perfdata::record::kind;
use pipeprof_profiler::perfdata::write::{EventDescription, PerfDataWriter, Provenance};
use pipeprof_profiler::symbolize::{Functions, Object, Symbolizer};
use tempfile::TempDir;

pub(crate) const KERNEL: u64 = -128i64 as u64;
pub(crate) const USER: u64 = -512i64 as u64;

/// What samples carry unless a test says otherwise.
pub(crate) const TYPE: u64 = sample_type::IP
    | sample_type::TID
    | sample_type::TIME
    | sample_type::ID
    | sample_type::PERIOD
    | sample_type::CALLCHAIN;

/// The records, and the events that they are of.
pub(crate) struct Foreign {
    events: Vec<EventDescription>,
    records: Vec<u8>,
    pub(crate) provenance: Provenance,
}

/// Of a sample whose other fields don't matter.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sampled<'a> {
    pub(crate) id: u64,
    pub(crate) pid: i32,
    pub(crate) time: u64,
    pub(crate) period: u64,
    pub(crate) chain: &'a [u64],
    pub(crate) raw: &'a [u8],
    /// `from` and `to` of each branch, the latest first.
    pub(crate) branches: &'a [(u64, u64)],
    /// Value and id of each counter of a group.
    pub(crate) read: &'a [(u64, u64)],
}

impl Foreign {
    pub(crate) fn new() -> Self {
        Foreign { events: Vec::new(), records: Vec::new(), provenance: Provenance::default() }
    }

    /// An event with ids from 1 on; its name is left out where it is empty.
    pub(crate) fn event(
        &mut self,
        name: &str,
        kind: u32,
        config: u64,
        change: impl FnOnce(&mut EventAttr),
    ) -> &mut Self {
        let mut attr = EventAttr::new(kind, config).with_flag(flag::FREQ, true);
        attr.flags &= !flag::USE_CLOCKID;
        attr.period_or_frequency = 1000;
        attr.sample_type = TYPE;
        change(&mut attr);
        let ids = vec![self.events.len() as u64 + 1];
        self.events.push(EventDescription { name: name.to_owned(), attr, ids });
        self
    }

    pub(crate) fn sample(&mut self, sampled: Sampled<'_>) -> &mut Self {
        let attr = self.events[sampled.id.max(1) as usize - 1].attr;
        let has = |bit| attr.sample_type & bit != 0;
        let mut body = Vec::new();
        let mut put = |bit, words: &[u64]| {
            if has(bit) {
                words.iter().for_each(|word| body.extend(word.to_ne_bytes()));
            }
        };
        let (pid, ip) = (sampled.pid as u32, sampled.chain.get(1).copied().unwrap_or(0));
        put(sample_type::IP, &[ip]);
        put(sample_type::TID, &[u64::from(pid) << 32 | u64::from(pid)]);
        put(sample_type::TIME, &[sampled.time]);
        put(sample_type::ID, &[sampled.id]);
        put(sample_type::CPU, &[0]);
        put(sample_type::PERIOD, &[sampled.period]);
        put(sample_type::READ, &[sampled.read.len() as u64]);
        sampled.read.iter().for_each(|&(value, id)| put(sample_type::READ, &[value, id]));
        put(sample_type::CALLCHAIN, &[sampled.chain.len() as u64]);
        put(sample_type::CALLCHAIN, sampled.chain);
        if has(sample_type::RAW) {
            // The data and its length fill whole words.
            let padded = (sampled.raw.len() + 4).next_multiple_of(8) - 4;
            body.extend((padded as u32).to_ne_bytes());
            body.extend(sampled.raw);
            body.resize(body.len() + padded - sampled.raw.len(), 0);
        }
        if has(sample_type::BRANCH_STACK) {
            body.extend((sampled.branches.len() as u64).to_ne_bytes());
            for (from, to) in sampled.branches {
                body.extend([*from, *to, 0].map(u64::to_ne_bytes).concat());
            }
        }
        self.push(kind::SAMPLE, 2, &body)
    }

    /// A record that is no sample, with its trailer.
    pub(crate) fn record(
        &mut self,
        kind: u32,
        misc: u16,
        body: &[u8],
        (pid, time, id): (i32, u64, u64),
    ) -> &mut Self {
        let attr = self.events[0].attr;
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(8), 0);
        let pid = u64::from(pid as u32);
        let fields = [
            (sample_type::TID, pid << 32 | pid),
            (sample_type::TIME, time),
            (sample_type::ID, id),
            (sample_type::CPU, 0),
        ];
        for (bit, word) in fields {
            if attr.sample_type & bit != 0 {
                body.extend(word.to_ne_bytes());
            }
        }
        self.push(kind, misc, &body)
    }

    pub(crate) fn comm(&mut self, pid: i32, name: &str, time: u64, exec: bool) -> &mut Self {
        let body = [&[pid, pid].map(i32::to_ne_bytes).concat(), name.as_bytes(), &[0]].concat();
        self.record(kind::COMM, if exec { 1 << 13 } else { 0 }, &body, (pid, time, 1))
    }

    pub(crate) fn fork(&mut self, parent: i32, child: i32, time: u64) -> &mut Self {
        let mut body = [child, parent, child, parent].map(i32::to_ne_bytes).concat();
        body.extend(time.to_ne_bytes());
        self.record(kind::FORK, 0, &body, (child, time, 1))
    }

    pub(crate) fn map(&mut self, pid: i32, start: u64, path: &str) -> &mut Self {
        let mut body = [pid, pid].map(i32::to_ne_bytes).concat();
        body.extend([start, 0x10000, 0].map(u64::to_ne_bytes).concat());
        body.extend(path.as_bytes());
        body.push(0);
        self.record(kind::MMAP, 2, &body, (pid, 0, 1))
    }

    pub(crate) fn push(&mut self, kind: u32, misc: u16, body: &[u8]) -> &mut Self {
        self.records.extend(kind.to_ne_bytes());
        self.records.extend(misc.to_ne_bytes());
        self.records.extend((body.len() as u16 + 8).to_ne_bytes());
        self.records.extend(body);
        self
    }

    /// The records alone.
    pub(crate) fn records(&self) -> &[u8] {
        &self.records
    }

    /// The bytes of the finished file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let mut writer = PerfDataWriter::create(file, self.events.clone()).unwrap();
        writer.file().write_all(&self.records).unwrap();
        let mut file = writer.finish(&self.provenance).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// The finished file, with the folder that it goes with.
    pub(crate) fn write(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perf.data");
        std::fs::write(&path, self.build()).unwrap();
        (folder, path)
    }
}

/// Names nothing.
pub(crate) struct Nameless;

impl Symbolizer for Nameless {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        vec![Functions::new(); addresses.len()]
    }

    fn object(&mut self, _: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        self.kernel(file_offsets)
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
