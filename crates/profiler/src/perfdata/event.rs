//! An event of a file, from its attribute and its name.

use super::format_error::{FormatError, word};
use super::layout::Layout;
use crate::attr::{event_type, flag};

/// `PERF_COUNT_SW_BPF_OUTPUT`: what a BPF program reports.
const BPF_OUTPUT: u64 = 10;
/// `PERF_COUNT_SW_DUMMY`.
const DUMMY: u64 = 9;
/// `PERF_COUNT_SW_CONTEXT_SWITCHES`.
const CONTEXT_SWITCHES: u64 = 3;

/// An event of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `PERF_TYPE_*`, or the number of a PMU.
    pub kind: u32,
    /// Which event of that type.
    pub config: u64,
    /// Its address, of a breakpoint.
    pub address: u64,
    /// `HW_BREAKPOINT_*`: what a breakpoint is hit by.
    pub breakpoint: u32,
    /// As the file names it, else as `perf evlist` would.
    pub name: String,
    /// How its records are laid out.
    pub layout: Layout,
    /// Fixed period or frequency.
    pub period_or_frequency: u64,
    /// Bits of [`flag`].
    pub flags: u64,
    /// `sample_max_stack`: the depth that its call chains were cut at, where it was asked for.
    pub max_stack: Option<u16>,
    /// The ids that its records carry.
    pub ids: Vec<u64>,
}

impl Event {
    /// The event of the `struct perf_event_attr` at this place, yet without a name.
    ///
    /// # Errors
    /// [`FormatError`] where the file ends within it.
    pub(super) fn parse(file: &[u8], at: usize, ids: Vec<u64>) -> Result<Self, FormatError> {
        let flags = word(file, at + 40)?;
        let kind_and_size = word(file, at)?;
        // What lies behind an attribute of an older kernel is none of it.
        let has = |end| kind_and_size >> 32 >= end;
        let late = |offset, end| if has(end) { word(file, at + offset) } else { Ok(0) };
        let sample_type = word(file, at + 24)?;
        let read_format = word(file, at + 32)?;
        let mut event = Event {
            kind: kind_and_size as u32,
            config: word(file, at + 8)?,
            address: late(56, 64)?,
            breakpoint: (late(48, 64)? >> 32) as u32,
            name: String::new(),
            layout: Layout::new(sample_type, read_format, flags & flag::SAMPLE_ID_ALL != 0),
            period_or_frequency: word(file, at + 16)?,
            flags,
            max_stack: Some((late(104, 112)? >> 32) as u16).filter(|&depth| depth > 0),
            ids,
        };
        event.layout = event
            .layout
            .with_user_registers(late(80, 96)?, late(72, 96)?)
            .with_period(event.implied_period());
        Ok(event)
    }

    /// The period of a sample that does not record it: the fixed period if there is one, or the
    /// time between two ticks of a clock with a frequency. Unknown for another event with a
    /// frequency.
    fn implied_period(&self) -> u64 {
        const SECOND_NS: u64 = 1_000_000_000;
        let asked = self.period_or_frequency.max(1);
        match (self.is_frequency(), self.is_clock()) {
            (false, _) => asked,
            (true, true) => SECOND_NS / asked.min(SECOND_NS),
            (true, false) => 1,
        }
    }

    /// The word `period_or_frequency` is a frequency.
    pub fn is_frequency(&self) -> bool {
        self.flags & flag::FREQ != 0
    }

    /// Kernel code was not measured.
    pub fn excludes_kernel(&self) -> bool {
        self.flags & flag::EXCLUDE_KERNEL != 0
    }

    /// It was open on each CPU, rather than on each thread. `perf record` asks for the CPU of a
    /// sample only where it watches whole CPUs, and has events wait for an exec only where it does
    /// not (tools/perf/util/evsel.c, `evsel__config`, v6.1).
    pub fn is_per_cpu(&self) -> bool {
        self.layout.tells_cpu() && self.flags & flag::ENABLE_ON_EXEC == 0
    }

    /// Threads that are started later inherit it, each with a counter of its own.
    pub fn is_inherited(&self) -> bool {
        self.flags & flag::INHERIT != 0
    }

    /// `cpu-clock` or `task-clock`: its periods are nanoseconds on a CPU.
    pub fn is_clock(&self) -> bool {
        self.kind == event_type::SOFTWARE && self.config <= 1
    }

    /// CPU cycles, of any kind of CPU of a machine that has several.
    pub fn is_cycles(&self) -> bool {
        // PERF_HW_EVENT_MASK: above it is the PMU.
        let is_generic = self.kind == event_type::HARDWARE && self.config & 0xffff_ffff == 0;
        let mut words = self.name.split([':', '/']);
        is_generic || words.any(|word| matches!(word, "cycles" | "cpu-cycles"))
    }

    /// A counter of the CPU or of another device counts it.
    pub fn is_hardware(&self) -> bool {
        !matches!(self.kind, event_type::SOFTWARE | event_type::TRACEPOINT)
    }

    /// The id of its tracepoint, where it is one.
    pub fn tracepoint_id(&self) -> Option<u64> {
        (self.kind == event_type::TRACEPOINT).then_some(self.config)
    }

    /// It happens once a context switch: `context-switches`, or its tracepoint.
    pub fn is_switch(&self) -> bool {
        match self.kind {
            event_type::SOFTWARE => self.config == CONTEXT_SWITCHES,
            event_type::TRACEPOINT => self.name == "sched:sched_switch",
            _ => false,
        }
    }

    /// It records when threads leave their CPUs and get them back: `perf record --switch-events`.
    pub fn records_switches(&self) -> bool {
        self.flags & flag::CONTEXT_SWITCH != 0
    }

    /// Its samples are stacks that threads slept in, with the nanoseconds that they did as their
    /// periods: what `perf record --off-cpu` adds to a file (tools/perf/util/bpf_off_cpu.c, v6.1).
    pub fn is_off_cpu_time(&self) -> bool {
        let is_bpf = self.kind == event_type::SOFTWARE && self.config == BPF_OUTPUT;
        is_bpf && self.name == "offcpu-time"
    }

    /// `PERF_COUNT_SW_DUMMY`, which perf opens to be told of mappings: it counts nothing.
    pub fn is_dummy(&self) -> bool {
        self.kind == event_type::SOFTWARE && self.config == DUMMY
    }

    /// It counts what happens in software, rather than time or nothing.
    pub(super) fn shares_samples(&self) -> bool {
        self.kind == event_type::SOFTWARE && !self.is_clock() && !self.is_dummy()
    }
}
