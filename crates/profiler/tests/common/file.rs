//! perf.data files made by hand, so that every number in their profile is known beforehand.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

use pipeprof_profiler::attr::{EventAttr, event_type, flag, sample_type};
use pipeprof_profiler::perfdata::record::{Mapping, kind, misc};
use pipeprof_profiler::perfdata::synthesizer::Synthesizer;
use pipeprof_profiler::perfdata::write::{EventDescription, PerfDataWriter, Provenance};
use pipeprof_profiler::profile::Scope;
use pipeprof_profiler::recording::{Meta, Setup};
use pipeprof_profiler::symbolize::{Function, Functions, Object, Symbolizer};
use pipeprof_runner::pipeline::{Member, Pipeline};

pub(crate) const KERNEL: u64 = -128i64 as u64;
pub(crate) const USER: u64 = -512i64 as u64;

const SAMPLE_TYPE: u64 = sample_type::IDENTIFIER
    | sample_type::IP
    | sample_type::TID
    | sample_type::TIME
    | sample_type::CPU
    | sample_type::PERIOD
    | sample_type::CALLCHAIN;

const ID: u64 = 42;
/// Of the switches of a CPU, and of those of one thread, where the file has these events.
pub(crate) const CPU_SWITCHES: u64 = 43;
pub(crate) const OWN_SWITCHES: u64 = 44;

/// Records in the order in which a drain would have written them.
pub(crate) struct FileBuilder {
    records: Vec<u8>,
    ids: Vec<u64>,
}

impl FileBuilder {
    pub(crate) fn new() -> Self {
        FileBuilder { records: Vec::new(), ids: vec![ID] }
    }

    /// With events that sample switches, too.
    pub(crate) fn with_switches() -> Self {
        FileBuilder { records: Vec::new(), ids: vec![ID, CPU_SWITCHES, OWN_SWITCHES] }
    }

    pub(crate) fn sample(&mut self, pid: i32, time: u64, chain: &[u64]) -> &mut Self {
        self.sample_of(ID, pid, time, 1_000_000, chain)
    }

    pub(crate) fn sample_of(
        &mut self,
        id: u64,
        pid: i32,
        time: u64,
        period: u64,
        chain: &[u64],
    ) -> &mut Self {
        let mut body = Vec::new();
        body.extend(id.to_ne_bytes());
        body.extend(chain.get(1).copied().unwrap_or(0).to_ne_bytes());
        body.extend(pid.to_ne_bytes());
        body.extend(pid.to_ne_bytes());
        body.extend(time.to_ne_bytes());
        body.extend(0u64.to_ne_bytes());
        body.extend(period.to_ne_bytes());
        body.extend((chain.len() as u64).to_ne_bytes());
        chain.iter().for_each(|word| body.extend(word.to_ne_bytes()));
        self.push(kind::SAMPLE, misc::KERNEL, &body)
    }

    pub(crate) fn map(&mut self, pid: i32, time: u64, start: u64, path: &str) -> &mut Self {
        let (length, path) = (0x1000, path.as_bytes());
        let mapping = Mapping { pid, start, length, path, ..Mapping::default() };
        let record = Synthesizer::new(SAMPLE_TYPE, time, ID).mmap2(&mapping);
        self.records.extend(record);
        self
    }

    pub(crate) fn fork(&mut self, parent: i32, child: i32, time: u64) -> &mut Self {
        let mut body = Vec::new();
        for word in [child, parent, child, parent] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(time.to_ne_bytes());
        // The trailer: pid, tid, time, CPU, id.
        body.extend(child.to_ne_bytes());
        body.extend(child.to_ne_bytes());
        body.extend(time.to_ne_bytes());
        body.extend(0u64.to_ne_bytes());
        body.extend(ID.to_ne_bytes());
        self.push(kind::FORK, 0, &body)
    }

    pub(crate) fn lost(&mut self, count: u64) -> &mut Self {
        let mut body = Vec::new();
        for word in [ID, count, 0, 0, 0, ID] {
            body.extend(word.to_ne_bytes());
        }
        self.push(kind::LOST, 0, &body)
    }

    pub(crate) fn switch(&mut self, pid: i32, time: u64, misc: u16) -> &mut Self {
        let mut body = [pid, pid].map(i32::to_ne_bytes).concat();
        body.extend([time, 0, *self.ids.get(1).unwrap_or(&ID)].map(u64::to_ne_bytes).concat());
        self.push(kind::SWITCH, misc, &body)
    }

    pub(crate) fn end_round(&mut self) -> &mut Self {
        self.push(kind::FINISHED_ROUND, 0, &[])
    }

    pub(crate) fn push(&mut self, kind: u32, misc: u16, body: &[u8]) -> &mut Self {
        self.records.extend(kind.to_ne_bytes());
        self.records.extend(misc.to_ne_bytes());
        self.records.extend((body.len() as u16 + 8).to_ne_bytes());
        self.records.extend(body);
        self
    }

    /// The bytes of the finished file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let event = |&id: &u64| {
            let (name, config) = if id == ID { ("cpu-clock", 0) } else { ("context-switches", 3) };
            let mut attr = EventAttr::new(event_type::SOFTWARE, config).with_flag(flag::FREQ, true);
            attr.sample_type = SAMPLE_TYPE;
            EventDescription { name: name.to_owned(), attr, ids: vec![id] }
        };
        let file = tempfile::tempfile().unwrap();
        let events = self.ids.iter().map(event).collect();
        let mut writer = PerfDataWriter::create(file, events).unwrap();
        writer.file().write_all(&self.records).unwrap();
        let mut file = writer.finish(&Provenance::default()).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

/// What a capture of these processes would have said beside the file.
pub(crate) fn meta(pids: &[i32]) -> Meta {
    let member = |&pid: &i32| Member {
        pid,
        start_time_ticks: None,
        comm: format!("member-{pid}"),
        command_line: Vec::new(),
        end: None,
    };
    let setup = Setup {
        event: "cpu-clock".to_owned(),
        fallback: None,
        scope: Scope::PerCpu,
        timer_driven: true,
        interrupts_wait: false,
        kernel_visible: true,
        max_stack: 127,
        events: Vec::new(),
        switches: false,
        wakeups: Err("not recorded".to_owned()),
        boot_offset_ns: None,
    };
    let pipeline = Pipeline { members: pids.iter().map(member).collect(), pipes: Vec::new() };
    Meta { frequency_hz: Some(997), ..setup.meta(pipeline) }
}

/// Names every kernel address and file offset after itself, and counts how often it is asked.
#[derive(Default)]
pub(crate) struct NamesByAddress {
    pub(crate) asked: BTreeMap<String, usize>,
}

impl NamesByAddress {
    fn function(&mut self, name: String) -> Functions {
        *self.asked.entry(name.clone()).or_default() += 1;
        vec![Function { name: Arc::from(name), module: None, offset: 0, inlined: false }]
    }
}

impl Symbolizer for NamesByAddress {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        addresses.iter().map(|address| self.function(format!("k{:x}", address & 0xffff))).collect()
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        let path = String::from_utf8_lossy(&object.path).into_owned();
        file_offsets.iter().map(|offset| self.function(format!("{path}+{offset:x}"))).collect()
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
