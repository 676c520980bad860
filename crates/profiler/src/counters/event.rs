//! The events that pipeprof knows by name.

use perf_event_open::event::Event;
use perf_event_open::event::hw::{Hardware, Op, OpResult, Type};
use perf_event_open::event::sw::Software;

use super::CounterUnit;

/// An event that pipeprof samples or counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownEvent {
    /// CPU cycles.
    Cycles,
    /// Retired instructions.
    Instructions,
    /// Misses of the last-level cache, as most PMUs have it.
    CacheMisses,
    /// Loads that missed the data TLB.
    DtlbLoadMisses,
    /// Retired branches.
    Branches,
    /// Mispredicted branches.
    BranchMisses,
    /// Nanoseconds on a CPU, from the CPU's clock. For sampling: as a counter, `task-clock` serves.
    CpuClock,
    /// Nanoseconds on a CPU.
    TaskClock,
    /// Times it was switched out.
    ContextSwitches,
    /// Times it went on on another CPU.
    CpuMigrations,
    /// Page faults served from memory.
    MinorFaults,
    /// Page faults that waited for a device.
    MajorFaults,
}

/// What an event counts that is opened without the right to measure the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserOnly {
    /// What happens in user code.
    UserCode,
    /// As with the right: clocks count kernel time all the same (`task_clock_event_read()`).
    Everything,
    /// It opens, but always stays 0: the scheduler raises it in kernel code
    /// (`perf_sw_event_sched()`, then `perf_exclude_event()`).
    Nothing,
}

impl KnownEvent {
    /// All of them, in the order in which tables show them.
    pub const ALL: [KnownEvent; 12] = [
        KnownEvent::Cycles,
        KnownEvent::Instructions,
        KnownEvent::CacheMisses,
        KnownEvent::DtlbLoadMisses,
        KnownEvent::Branches,
        KnownEvent::BranchMisses,
        KnownEvent::CpuClock,
        KnownEvent::TaskClock,
        KnownEvent::ContextSwitches,
        KnownEvent::CpuMigrations,
        KnownEvent::MinorFaults,
        KnownEvent::MajorFaults,
    ];

    /// Those that `pipeprof stat` counts, in the order of its table.
    pub const COUNTED: [KnownEvent; 11] = [
        KnownEvent::TaskClock,
        KnownEvent::ContextSwitches,
        KnownEvent::CpuMigrations,
        KnownEvent::MinorFaults,
        KnownEvent::MajorFaults,
        KnownEvent::Cycles,
        KnownEvent::Instructions,
        KnownEvent::Branches,
        KnownEvent::BranchMisses,
        KnownEvent::CacheMisses,
        KnownEvent::DtlbLoadMisses,
    ];

    /// In perf's spelling.
    pub fn name(self) -> &'static str {
        match self {
            KnownEvent::Cycles => "cycles",
            KnownEvent::Instructions => "instructions",
            KnownEvent::CacheMisses => "cache-misses",
            KnownEvent::DtlbLoadMisses => "dTLB-load-misses",
            KnownEvent::Branches => "branches",
            KnownEvent::BranchMisses => "branch-misses",
            KnownEvent::CpuClock => "cpu-clock",
            KnownEvent::TaskClock => "task-clock",
            KnownEvent::ContextSwitches => "context-switches",
            KnownEvent::CpuMigrations => "cpu-migrations",
            KnownEvent::MinorFaults => "minor-faults",
            KnownEvent::MajorFaults => "major-faults",
        }
    }

    /// What its count means.
    pub fn unit(self) -> CounterUnit {
        match self {
            KnownEvent::CpuClock | KnownEvent::TaskClock => CounterUnit::Nanoseconds,
            _ => CounterUnit::Occurrences,
        }
    }

    /// Counted by the CPU's performance monitoring unit, so absent where there is none.
    pub fn is_hardware(self) -> bool {
        match self {
            KnownEvent::Cycles
            | KnownEvent::Instructions
            | KnownEvent::CacheMisses
            | KnownEvent::DtlbLoadMisses
            | KnownEvent::Branches
            | KnownEvent::BranchMisses => true,
            KnownEvent::CpuClock
            | KnownEvent::TaskClock
            | KnownEvent::ContextSwitches
            | KnownEvent::CpuMigrations
            | KnownEvent::MinorFaults
            | KnownEvent::MajorFaults => false,
        }
    }

    pub(super) fn user_only(self) -> UserOnly {
        match self {
            KnownEvent::CpuClock | KnownEvent::TaskClock => UserOnly::Everything,
            KnownEvent::ContextSwitches | KnownEvent::CpuMigrations => UserOnly::Nothing,
            _ => UserOnly::UserCode,
        }
    }

    /// The event as the kernel is asked for it.
    pub(crate) fn to_perf(self) -> PerfEvent {
        match self {
            KnownEvent::Cycles => PerfEvent::Hardware(Hardware::CpuCycle),
            KnownEvent::Instructions => PerfEvent::Hardware(Hardware::Instr),
            KnownEvent::CacheMisses => PerfEvent::Hardware(Hardware::CacheMiss),
            KnownEvent::DtlbLoadMisses => {
                PerfEvent::Hardware(Hardware::Cache(Type::Dtlb, Op::Read, OpResult::Miss))
            }
            KnownEvent::Branches => PerfEvent::Hardware(Hardware::BranchInstr),
            KnownEvent::BranchMisses => PerfEvent::Hardware(Hardware::BranchMiss),
            KnownEvent::CpuClock => PerfEvent::Software(Software::CpuClock),
            KnownEvent::TaskClock => PerfEvent::Software(Software::TaskClock),
            KnownEvent::ContextSwitches => PerfEvent::Software(Software::CtxSwitch),
            KnownEvent::CpuMigrations => PerfEvent::Software(Software::CpuMigration),
            KnownEvent::MinorFaults => PerfEvent::Software(Software::MinorPageFault),
            KnownEvent::MajorFaults => PerfEvent::Software(Software::MajorPageFault),
        }
    }
}

/// Whether this is the name of an event of the kernel's own, which needs no PMU.
pub fn is_software(name: &str) -> bool {
    KnownEvent::ALL.iter().any(|event| event.name() == name && !event.is_hardware())
        || matches!(name, "page-faults" | "dummy" | "bpf-output" | "faults" | "cs" | "migrations")
}

/// One of the two kinds that the crate keeps apart.
pub(crate) enum PerfEvent {
    Hardware(Hardware),
    Software(Software),
}

impl TryFrom<PerfEvent> for Event {
    type Error = std::io::Error;

    fn try_from(event: PerfEvent) -> Result<Event, std::io::Error> {
        match event {
            PerfEvent::Hardware(event) => event.try_into(),
            PerfEvent::Software(event) => event.try_into(),
        }
    }
}
