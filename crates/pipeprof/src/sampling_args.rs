//! How to sample: the flags that `flame`, `stat` and `record` share.

use anyhow::bail;
use clap::{Args, ValueEnum};
use pipeprof_profiler::event::Event;
use pipeprof_profiler::session::CaptureConfig;

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Samples a second and CPU [default: 997; 249 with --pid, so that what runs is not slowed]
    #[arg(short = 'F', long, value_name = "HZ",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) freq: Option<u64>,
    /// Event to sample, by perf's name for it [default: cycles, or cpu-clock without a PMU]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// How callers are found
    #[arg(long, value_enum, default_value_t = CallGraph::Fp, value_name = "HOW")]
    pub(crate) call_graph: CallGraph,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallGraph {
    /// By frame pointer, as the kernel walks it
    Fp,
    /// Not at all: only the function that was running
    None,
}

impl SamplingArgs {
    /// The capture that was asked for. Where it attaches to what runs already, somebody waits for
    /// that, so it is disturbed less: docs/measurement.md says what either costs.
    pub(crate) fn config(&self, attaches: bool) -> anyhow::Result<CaptureConfig> {
        let event = match &self.event {
            None => None,
            Some(name) => match Event::named(name) {
                Some(event) => Some(event),
                None => {
                    let names: Vec<&str> = Event::names().collect();
                    bail!("--event {name}: no such event; known are {}", names.join(", "));
                }
            },
        };
        Ok(CaptureConfig {
            event,
            frequency_hz: self.freq.unwrap_or(if attaches { 249 } else { 997 }),
            call_chains: self.call_graph == CallGraph::Fp,
            ..CaptureConfig::default()
        })
    }
}
