//! How to sample: the flags that `flame`, `stat` and `record` share.

use clap::Args;
use pipeprof_profiler::attr::{CallGraph, MOST_STACK_BYTES};
use pipeprof_profiler::event::Event;
use pipeprof_profiler::session::CaptureConfig;

use crate::ui::wrong_usage;

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Samples per second on each CPU [default: at most 997, chosen to slow the pipeline by less
    /// than 2 %]
    #[arg(short = 'F', long, value_name = "HZ",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) freq: Option<u64>,
    /// Event to sample, by its perf name, or the event of a perf.data file to show [default:
    /// cycles; cpu-clock without a PMU]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// How to unwind user stacks: fp (frame pointers), dwarf (unwind information, from SIZE bytes of
    /// stack per sample, by default 16384) or none
    #[arg(long, default_value = "fp", value_name = "fp|dwarf[,SIZE]|none", value_parser = call_graph)]
    pub(crate) call_graph: CallGraph,
}

/// Bytes of stack that are copied with each sample by default. perf's 8192 are the size of one
/// stdio buffer (`BUFSIZ`), and filters have such buffers on their stacks.
const STACK_BYTES: u16 = 16384;

fn call_graph(text: &str) -> Result<CallGraph, String> {
    let (how, size) = match text.split_once(',') {
        Some((how, size)) => (how, Some(size)),
        None => (text, None),
    };
    match (how, size) {
        ("fp", None) => Ok(CallGraph::FramePointers),
        ("none", None) => Ok(CallGraph::None),
        ("dwarf", None) => Ok(CallGraph::Dwarf { stack_bytes: STACK_BYTES }),
        ("dwarf", Some(size)) => match size.parse::<u16>() {
            Ok(stack_bytes) if stack_bytes > 0 && stack_bytes % 8 == 0 => {
                Ok(CallGraph::Dwarf { stack_bytes })
            }
            _ => Err(format!("SIZE must be a multiple of 8 from 8 to {MOST_STACK_BYTES}")),
        },
        _ => Err("use fp, dwarf, dwarf,SIZE or none".to_owned()),
    }
}

/// The highest default frequency, used where sampling does not slow the pipeline.
pub(crate) const MOST_HZ: u64 = 997;

impl SamplingArgs {
    /// The capture that was asked for.
    pub(crate) fn config(&self) -> anyhow::Result<CaptureConfig> {
        let event = match &self.event {
            None => None,
            Some(name) => match Event::named(name) {
                Some(event) => Some(event),
                None => {
                    let names: Vec<&str> = Event::names().collect();
                    let known = names.join(", ");
                    let error =
                        format_args!("--event {name}: unknown event; pipeprof knows {known}");
                    return Err(wrong_usage(error));
                }
            },
        };
        Ok(CaptureConfig {
            event,
            frequency_hz: self.freq.unwrap_or(MOST_HZ),
            rises: self.freq.is_none(),
            call_graph: self.call_graph,
            ..CaptureConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_find_callers() {
        let dwarf = |stack_bytes| Ok(CallGraph::Dwarf { stack_bytes });
        assert_eq!(call_graph("fp"), Ok(CallGraph::FramePointers));
        assert_eq!(call_graph("none"), Ok(CallGraph::None));
        assert_eq!(call_graph("dwarf"), dwarf(16384));
        assert_eq!(call_graph("dwarf,65528"), dwarf(65528));
        for wrong in ["", "lbr", "fp,8", "dwarf,", "dwarf,0", "dwarf,12", "dwarf,65536", "dwarf,-8"]
        {
            assert!(call_graph(wrong).is_err(), "{wrong}");
        }
    }
}
