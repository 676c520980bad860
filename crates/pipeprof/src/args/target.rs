//! What to watch: the built-in pair, a command, or a running pipeline. Shared by every command that
//! takes a pipeline.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use pipeprof_profiler::session::Enough;
use pipeprof_runner::command::Spec;
use pipeprof_runner::discover::Extent;
use pipeprof_runner::duration;
use pipeprof_runner::plan::PairPlan;
use regex::Regex;

use crate::args::name;
use crate::args::pair::PairArgs;
use crate::output::quoted;
use crate::ui::wrong_usage;

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Run a shell line and profile every process that it starts
    #[arg(short = 'c', long = "command", value_name = "LINE",
          conflicts_with_all = ["stage", "pid", "name", "program"])]
    line: Option<OsString>,
    /// Profile the running pipeline of this process; repeat for several
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..),
          conflicts_with_all = ["stage", "program"])]
    pid: Vec<i32>,
    /// Profile the running pipeline of the processes with this name (a regular expression, as for
    /// pgrep)
    #[arg(long, value_name = "PATTERN", value_parser = name::parse,
          conflicts_with_all = ["stage", "pid", "program"])]
    name: Option<Regex>,
    /// Run a program and profile it and every process that it starts
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "stage")]
    program: Vec<OsString>,
    /// Stop after this time: 10s, 500ms, 2m [default with --pid and --name: 10s, or up to 30s until
    /// each busy process has 1,000 samples; with watch, and record --keep or --max-size: none]. A
    /// command that still runs then gets SIGTERM, and SIGKILL 2 s later
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Profile only the processes given with --pid, not the rest of their pipeline
    #[arg(long, requires = "pid")]
    only_pids: bool,
    /// Shell for --command [default: sh]
    #[arg(long, value_name = "SHELL", requires = "line")]
    shell: Option<OsString>,
}

/// What to watch.
#[derive(Debug)]
pub(crate) enum Target {
    /// The built-in pair.
    Pair(Box<PairPlan>),
    /// A command to launch, with the words that name it in a title.
    Command { spec: Spec, title: String, duration: Option<Duration> },
    /// Processes that run.
    Running { pids: Vec<i32>, extent: Extent, duration: Option<Duration> },
}

impl Target {
    /// How long it is watched at most.
    pub(crate) fn duration(&self) -> Option<Duration> {
        match self {
            Target::Pair(_) => None,
            Target::Command { duration, .. } | Target::Running { duration, .. } => *duration,
        }
    }

    /// What to give `pipeprof tune` for the same pipeline.
    pub(crate) fn for_tune(&self) -> Option<String> {
        match self {
            Target::Pair(_) => None,
            // Only a line for a shell can be given again by -c.
            Target::Command { spec, .. } => {
                spec.line().map(|line| format!("-c {}", quoted(std::path::Path::new(line))))
            }
            Target::Running { pids, .. } => pids.first().map(|pid| format!("--pid {pid}")),
        }
    }
}

/// How long a running pipeline is watched by default.
pub(crate) const WATCH: Duration = Duration::from_secs(10);

/// And at most, if there are too few samples by then.
const LONGEST_WATCH: Duration = Duration::from_secs(30);

/// How long a pair that has moved its default bytes goes on to get more samples.
const LONGEST_PAIR: Duration = Duration::from_secs(10);

impl TargetArgs {
    /// Whether the target is already running.
    pub(crate) fn attaches(&self) -> bool {
        !self.pid.is_empty() || self.name.is_some()
    }

    /// The target that the user asked for; wrong usage if there is none.
    pub(crate) fn target(&self, pair: &PairArgs) -> anyhow::Result<Target> {
        self.target_for(pair, Some(WATCH))
    }

    /// As [`TargetArgs::target`]. By default a running pipeline is watched for `watch`, or to its
    /// end if that is `None`.
    pub(crate) fn target_for(
        &self,
        pair: &PairArgs,
        watch: Option<Duration>,
    ) -> anyhow::Result<Target> {
        if self.line.is_some() || !self.program.is_empty() || self.attaches() {
            refuse_knobs(pair)?;
        } else if self.duration.is_some() {
            return Err(wrong_usage(DURATION_OF_PAIR));
        }
        if let Some(line) = &self.line {
            let spec = Spec::shell(line, self.shell.as_deref());
            let title = line.to_string_lossy().into_owned();
            return Ok(Target::Command { spec, title, duration: self.duration });
        }
        if !self.program.is_empty() {
            let words: Vec<_> = self.program.iter().map(|word| word.to_string_lossy()).collect();
            let title = words.join(" ");
            let spec = Spec::program(self.program.iter().cloned());
            return Ok(Target::Command { spec, title, duration: self.duration });
        }
        if self.attaches() {
            let pids = self.name.as_ref().map_or_else(|| Ok(self.pid.clone()), name::pids)?;
            let extent = if self.only_pids { Extent::OnlyThese } else { Extent::Whole };
            let duration = self.duration.or(watch);
            return Ok(Target::Running { pids, extent, duration });
        }
        if pair.is_empty() {
            return Err(wrong_usage(NO_TARGET));
        }
        Ok(Target::Pair(Box::new(pair.plan()?)))
    }

    /// When to stop by default, without `--bytes` and `--duration`. The pair itself does not end
    /// then.
    pub(crate) fn enough(&self, pair: &PairArgs, target: &mut Target) -> Option<Enough> {
        let (least_bytes, most) = match target {
            Target::Pair(plan) if pair.has_no_bytes() => (plan.bytes.take()?, LONGEST_PAIR),
            Target::Running { .. } if self.duration.is_none() => (0, LONGEST_WATCH),
            _ => return None,
        };
        Some(Enough { least_bytes, most })
    }
}

/// Wrong usage where an option of the pair was given: something else is profiled.
pub(crate) fn refuse_knobs(pair: &PairArgs) -> anyhow::Result<()> {
    if pair.is_empty() { Ok(()) } else { Err(wrong_usage(KNOBS_WITHOUT_PAIR)) }
}

/// Where the pair's options come with something else to profile.
const KNOBS_WITHOUT_PAIR: &str =
    "the options of the built-in pair (--bytes, --fill, …) need --stage";

/// Where the pair is to run for so long.
const DURATION_OF_PAIR: &str =
    "--duration is for a command or --pid: the built-in pair runs until it has moved --bytes";

/// Where nothing was given to profile.
const NO_TARGET: &str = "no target: give -c 'A | B', -- COMMAND, --pid PID, --name PATTERN or \
                         --stage NAME";

/// Reads a time, with the error as clap takes it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

/// Time between two measurements, at the least.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Likewise, of a time between two measurements.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        interval if interval >= SHORTEST_INTERVAL => Ok(interval),
        _ => Err("100ms is the shortest interval".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> (TargetArgs, PairArgs) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            target: TargetArgs,
            #[command(flatten)]
            pair: PairArgs,
        }
        let words = std::iter::once("line").chain(line.split_whitespace());
        let Line { target, pair } = <Line as clap::Parser>::try_parse_from(words).unwrap();
        (target, pair)
    }

    #[test]
    fn what_runs_is_watched_as_long_as_was_said_or_else_as_the_command_wants() {
        let target_for = |line: &str, watch| {
            let (target, pair) = args(line);
            target.target_for(&pair, watch).unwrap()
        };
        let watched = |line: &str, watch| match target_for(line, watch) {
            Target::Running { duration, .. } => duration,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(watched("-p 1", Some(WATCH)), Some(WATCH));
        assert_eq!(watched("-p 1", None), None);
        assert_eq!(watched("-p 1 --duration 2s", None), Some(Duration::from_secs(2)));
    }

    #[test]
    fn flags_that_would_go_unheeded_are_refused() {
        let target = |line: &str| {
            let (target, pair) = args(line);
            target.target(&pair).map(|_| ()).map_err(|error| error.to_string())
        };
        for fine in ["--bytes 1M", "--stage write", "-c true --duration 1s", "-p 1"] {
            assert_eq!(target(fine), Ok(()), "{fine}");
        }
        for (line, flag) in [
            ("", "--stage"),
            ("-c true --bytes 1M", "--bytes"),
            ("-p 1 --fill", "--fill"),
            ("--verify -- true", "--stage"),
            ("--stage write --duration 1s", "--duration"),
        ] {
            let error = target(line).unwrap_err();
            assert!(error.contains(flag), "{line}: {error}");
        }
    }
}
