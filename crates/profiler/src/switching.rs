//! The events that record when threads leave and get their CPUs, where they sleep, and which thread
//! wakes them: chosen so that they hardly slow a pair that switches a hundred thousand times a
//! second.
//!
//! A record for each switch comes from an event a CPU, for two reasons (measured, see
//! docs/measurement.md). An event bound to a thread has to be scheduled in and out with it: a fast
//! pair loses an eighth of its speed to it even while it is off. And one bound to a CPU can be on
//! by turns ([`crate::windows`]) at next to no cost in between.
//!
//! These records carry call chains too, at a fixed frequency. A thread that sleeps twice a second
//! beside one that sleeps fifty thousand times would then get none. So threads that switch seldom
//! have an event of their own for their chains, which is always on.

use pipeprof_runner::proc_file;
use std::time::Duration;

use crate::attr::{
    CallGraph, EventAttr, FORMAT_LOST, HALF_OF_RING, SAMPLE_TYPE, event_type, flag, sample_type,
};
use crate::capture_config::CaptureConfig;
use crate::environment::Operation;
use crate::error::Error;
use crate::opening::{Opened, open_all, targets};
use crate::profile::Scope;
use crate::recording::EventRole;
use crate::stop::Stop;
use crate::sys::PerfSystem;
use crate::wakeups::{self, WakeFormat};

/// `PERF_COUNT_SW_CONTEXT_SWITCHES`.
const CONTEXT_SWITCHES: u64 = 3;

/// How long threads are watched to tell fast ones from slow ones.
const LOOK: Duration = Duration::from_millis(20);

/// Switches a second beyond which a thread is fast: an event of its own would take 0.2 % of it.
const FAST: f64 = 2_000.0;

/// More threads than this get no event of their own: opening, reading and closing one takes some 100
/// microseconds on each CPU, and a watch of thousands of threads is to begin and end at once, too.
/// Where the others sleep is known from looks and from the chains of their CPU.
const MOST_WITH_OWN: usize = 256;

/// Call chains a second of each event where no frequency was asked for.
const CHAINS_HZ: u64 = 249;

/// What was opened.
pub(crate) struct Switching {
    /// Records switches, with a call chain for some.
    pub(crate) switches: Opened,
    /// They are recorded a CPU, and can be on by turns.
    pub(crate) by_turns: bool,
    /// Call chains of slow threads.
    pub(crate) own_chains: Option<Opened>,
    /// The event of wake-ups, or why there is none.
    pub(crate) wakeups: Result<WakeEvent, String>,
}

/// The event of wake-ups.
pub(crate) struct WakeEvent {
    pub(crate) opened: Opened,
    pub(crate) format: WakeFormat,
    /// For the file.
    pub(crate) tracing_data: Vec<u8>,
}

impl Switching {
    pub(crate) fn open(
        system: &dyn PerfSystem,
        config: &CaptureConfig,
        tids: &[i32],
        cpus: &[u32],
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let on_cpus = targets(Scope::PerCpu, tids, cpus);
        let attr = chains(config).with_flag(flag::CONTEXT_SWITCH, true);
        let switches = match open_all(
            system,
            &operation(true, true),
            EventRole::Switch,
            attr,
            &on_cpus,
            &config.stop,
        ) {
            Ok(switches) => switches,
            Err(Error::Open(_)) => return Self::per_task(system, config, tids, cpus, notes),
            Err(error) => return Err(error),
        };
        let slow = slow(&tids[..tids.len().min(MOST_WITH_OWN)]);
        let own_chains = if slow.is_empty() {
            None
        } else {
            let attr = chains(config).with_flag(flag::INHERIT, true);
            let targets = targets(Scope::PerTask, &slow, cpus);
            match open_all(
                system,
                &operation(true, false),
                EventRole::OwnChain,
                attr,
                &targets,
                &config.stop,
            ) {
                Ok(own) => Some(own),
                // They have ended meanwhile.
                Err(Error::NoTasks) => None,
                Err(error) => return Err(error),
            }
        };
        let wakeups = if config.wakeups {
            open_wakeups(system, cpus, &config.stop)
        } else {
            Err("wake-ups were not asked for".to_owned())
        };
        Ok(Switching { switches, by_turns: true, own_chains, wakeups })
    }

    /// Where CPUs as a whole are closed to this user: one event a thread for everything.
    fn per_task(
        system: &dyn PerfSystem,
        config: &CaptureConfig,
        tids: &[i32],
        cpus: &[u32],
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let targets = targets(Scope::PerTask, tids, cpus);
        let mut attr = chains(config).with_flag(flag::INHERIT | flag::CONTEXT_SWITCH, true);
        let opened = match open_all(
            system,
            &operation(true, false),
            EventRole::Switch,
            attr,
            &targets,
            &config.stop,
        ) {
            Err(Error::Open(why)) => {
                // Without the kernel half the switches are still recorded, so blocked time is
                // known. Kernels of 2026 (6.12.118, 7.2) refuse a kernel call chain to users who
                // may not sample the kernel, even for an event that excludes the kernel.
                attr.flags |=
                    flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV | flag::EXCLUDE_CALLCHAIN_KERNEL;
                let opened = open_all(
                    system,
                    &operation(false, false),
                    EventRole::Switch,
                    attr,
                    &targets,
                    &config.stop,
                )?;
                notes.push(why.after("blocked time has no stacks"));
                opened
            }
            result => result?,
        };
        let wakeups =
            Err("recording wake-ups takes the right to open events on whole CPUs; hint: \
                           run it as root, or see pipeprof doctor"
                .to_owned());
        Ok(Switching { switches: opened, by_turns: false, own_chains: None, wakeups })
    }
}

fn open_wakeups(system: &dyn PerfSystem, cpus: &[u32], stop: &Stop) -> Result<WakeEvent, String> {
    let (tracefs, waking, format) = wakeups::tracepoint()?;
    let mut attr =
        EventAttr::new(event_type::TRACEPOINT, waking.id).with_flag(flag::WATERMARK, true);
    attr.period_or_frequency = 1;
    attr.sample_type = SAMPLE_TYPE | sample_type::RAW;
    attr.wakeup = HALF_OF_RING;
    attr.read_format = FORMAT_LOST;
    let operation = Operation::Open { event: &waking.name, kernel: true, per_cpu: true, pid: None };
    let opened = open_all(
        system,
        &operation,
        EventRole::Wakeup,
        attr,
        &targets(Scope::PerCpu, &[], cpus),
        stop,
    );
    let opened = opened.map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; hint: {hint}"),
        None => error.to_string(),
    })?;
    Ok(WakeEvent { opened, format, tracing_data: tracefs.tracing_data(&[&waking]) })
}

fn operation(kernel: bool, per_cpu: bool) -> Operation<'static> {
    Operation::Open { event: "context-switches", kernel, per_cpu, pid: None }
}

/// Call chains of switches.
///
/// A frequency, not a period: a pair that switches 50,000 times a second would pay for 50,000 call
/// chains, and a thread that sleeps twice a second gets both of its own all the same. The kernel
/// counts each chain's weight in its period.
fn chains(config: &CaptureConfig) -> EventAttr {
    // Where a thread sleeps is asked of its kernel half, which costs little.
    let call_graph = match config.call_graph {
        CallGraph::None => CallGraph::FramePointers,
        asked => asked,
    };
    let mut attr = EventAttr::new(event_type::SOFTWARE, CONTEXT_SWITCHES)
        .with_flag(flag::FREQ | flag::WATERMARK, true);
    attr.period_or_frequency =
        if config.rises { config.frequency_hz.min(CHAINS_HZ) } else { config.frequency_hz };
    attr.sample_type = SAMPLE_TYPE;
    attr = attr.with_call_graph(call_graph);
    attr.wakeup = HALF_OF_RING;
    attr.read_format = FORMAT_LOST;
    attr
}

/// The threads that switch seldom.
fn slow(tids: &[i32]) -> Vec<i32> {
    let counts = || -> Vec<Option<u64>> { tids.iter().map(|&tid| runs(tid)).collect() };
    let (started, before) = (std::time::Instant::now(), counts());
    std::thread::sleep(LOOK);
    let (after, seconds) = (counts(), started.elapsed().as_secs_f64());
    let is_slow = |before: Option<u64>, after: Option<u64>| match before.zip(after) {
        Some((before, after)) => (after.saturating_sub(before) as f64) < FAST * seconds,
        None => true,
    };
    let pairs = before.into_iter().zip(after);
    tids.iter().zip(pairs).filter(|(_, (a, b))| is_slow(*a, *b)).map(|(&tid, _)| tid).collect()
}

/// How often a thread got a CPU so far: the last field of its schedstat.
fn runs(tid: i32) -> Option<u64> {
    let text = proc_file::read_to_string(format!("/proc/{tid}/schedstat")).ok()?;
    text.split_ascii_whitespace().nth(2)?.parse().ok()
}
