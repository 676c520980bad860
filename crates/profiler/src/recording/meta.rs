//! What the analysis needs besides the records.

use pipeprof_runner::pipeline::{MemberId, Pipeline};
use serde::{Deserialize, Serialize};

use super::role::EventRole;
use crate::accounts::Accounts;
use crate::effect::Observed;
use crate::perfdata::event::Event;
use crate::perfdata::file::PerfDataFile;
use crate::profile::{Scope, Unwinding};
use crate::sleepers::Sleepers;
use crate::states::Timeline;
use crate::wakeups::WakeFormat;
use crate::windows::Window;

/// A thread at the time of attaching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStart {
    /// Its process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// Asleep, rather than running or waiting for a CPU.
    pub asleep: bool,
    /// The kernel functions it slept in, leaf first and joined by `;`, where the kernel tells.
    pub wchan: Option<String>,
}

/// In place of the depth at which call chains were cut.
pub const UNKNOWN_DEPTH: u64 = 0;

/// What was set up before the first record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The sampled event.
    pub event: String,
    /// Why a better event was not used.
    pub fallback: Option<String>,
    /// Where it was attached.
    pub scope: Scope,
    /// Samples come from a timer that interrupts cannot be off for.
    pub timer_driven: bool,
    /// Samples come from interrupts that wait while interrupts are off, though from no timer.
    #[serde(default)]
    pub interrupts_wait: bool,
    /// Kernel code was measured.
    pub kernel_visible: bool,
    /// Depth at which the kernel cuts call chains; [`UNKNOWN_DEPTH`] where nothing tells.
    pub max_stack: u64,
    /// What each event of the file is for, in their order; empty where their order tells.
    #[serde(default)]
    pub events: Vec<EventRole>,
    /// Context switches were recorded.
    pub switches: bool,
    /// How to read the records of wake-ups; `Err` says why there are none.
    pub wakeups: Result<WakeFormat, String>,
    /// How far `CLOCK_BOOTTIME`, in which processes start, was ahead of the clock of the records:
    /// the time that the machine was suspended. `None` where it was not noted.
    #[serde(default)]
    pub boot_offset_ns: Option<u64>,
}

/// What the analysis has to know beside the records: what was set up, and what was observed since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// What was set up. Its fields stand beside the others in the file.
    #[serde(flatten)]
    pub setup: Setup,
    /// The pipeline at the time of attaching. Without members, every sampled process becomes one.
    pub pipeline: Pipeline,
    /// Asked frequency; the one used most, where it changed.
    pub frequency_hz: Option<u64>,
    /// When samples were taken, and what they did to the pipeline; `None` where it was all the time,
    /// at one frequency, and nothing was measured.
    #[serde(default)]
    pub observed: Option<Observed>,
    /// Records that events had no room for, where the kernel counts them (6.0 and later).
    pub lost: Option<u64>,
    /// Samples of processes outside the pipeline, which were not written.
    #[serde(default)]
    pub foreign_samples: u64,
    /// When switches and wake-ups were recorded, where that was by turns; empty for always.
    pub windows: Vec<Window>,
    /// When wake-ups were no longer recorded, where that was before the end.
    pub wakeups_until_ns: Option<u64>,
    /// When the events were started and stopped, `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// See `start_ns`.
    pub end_ns: u64,
    /// The threads that were there at the start.
    pub threads: Vec<ThreadStart>,
    /// The scheduler's own account of the threads.
    pub accounts: Accounts,
    /// Where threads were seen asleep while they were watched.
    pub sleepers: Sleepers,
    /// What every thread did at looks of its own; `None` in recordings from before they were taken.
    /// A file of its own has them.
    #[serde(skip)]
    pub states: Option<Timeline>,
    /// How user stacks were unwound, where that is done; `None` where callers come from the kernel,
    /// or are still to be found in slices of the stack.
    #[serde(default)]
    pub unwinding: Option<Unwinding>,
    /// Sentences for the quality block.
    pub notes: Vec<String>,
}

/// A clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that has perf events.
pub(crate) const TICK_NS: u64 = 10_000_000;

impl Setup {
    /// Nothing was observed yet.
    pub fn meta(self, pipeline: Pipeline) -> Meta {
        Meta {
            setup: self,
            pipeline,
            frequency_hz: None,
            observed: None,
            lost: None,
            foreign_samples: 0,
            windows: Vec::new(),
            wakeups_until_ns: None,
            start_ns: 0,
            end_ns: 0,
            threads: Vec::new(),
            accounts: Accounts::default(),
            sleepers: Sleepers::default(),
            states: None,
            unwinding: None,
            notes: Vec::new(),
        }
    }
}

impl Meta {
    /// When a process began, by the clock of the records, cut off to whole [ticks](TICK_NS); `None`
    /// where that was not noted.
    pub(crate) fn began_ns(&self, id: MemberId) -> Option<u64> {
        let ticks = id.start_time?;
        Some(ticks.checked_mul(TICK_NS)?.saturating_sub(self.setup.boot_offset_ns?))
    }

    /// The time in which wake-ups were recorded, within `part` where that is asked for.
    pub(crate) fn wakeups_watched_ns(&self, part: Option<Window>) -> u64 {
        let whole = [(self.start_ns, self.end_ns)];
        let windows = if self.windows.is_empty() { &whole[..] } else { &self.windows };
        let (first, end) = part.unwrap_or((0, u64::MAX));
        let last = self.wakeups_until_ns.unwrap_or(u64::MAX).min(end);
        let watched = |&(from, until): &Window| until.min(last).saturating_sub(from.max(first));
        windows.iter().map(watched).sum()
    }

    /// The roles of the events of a file, in their order: as they were noted, or as their order told
    /// before they were.
    pub(crate) fn roles(&self, file: &PerfDataFile) -> Vec<EventRole> {
        if self.setup.events.len() == file.events.len() {
            return self.setup.events.clone();
        }
        let is_ours = !self.pipeline.members.is_empty();
        let role = |(index, event): (usize, &Event)| match index {
            _ if index == file.sampled => EventRole::Sample,
            _ if !is_ours && self.setup.switches && event.is_switch() => EventRole::Switch,
            _ if !is_ours => EventRole::Other,
            _ if event.tracepoint_id().is_some() => EventRole::Wakeup,
            _ if event.is_dummy() => EventRole::Tracking,
            1 => EventRole::Switch,
            _ => EventRole::OwnChain,
        };
        file.events.iter().enumerate().map(role).collect()
    }
}
