//! What to watch: the built-in pair, a command, or what runs already. Shared by every command that
//! takes a pipeline.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use pipeprof_runner::command::Spec;
use pipeprof_runner::discover::Extent;
use pipeprof_runner::plan::PairPlan;

use crate::args::pair::PairArgs;
use crate::ui::wrong_usage;

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Any pipeline")]
struct PipelineArgs {
    /// Run a shell line and watch all that it starts
    #[arg(short = 'c', long = "command", value_name = "LINE",
          conflicts_with_all = ["stage", "pid", "program"])]
    line: Option<OsString>,
    /// Shell for --command
    #[arg(long, value_name = "SHELL", requires = "line")]
    shell: Option<OsString>,
    /// Watch the running pipeline that this process belongs to; can be given more than once
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..),
          conflicts_with_all = ["stage", "program"])]
    pid: Vec<i32>,
    /// Only the processes given with --pid, not the rest of their pipeline
    #[arg(long, requires = "pid")]
    only_pids: bool,
    /// Stop after so long, as in 10s, 500ms, 2m [default with --pid: 10s; none where record has
    /// --keep or --max-size]. A command that still runs then gets SIGTERM, and SIGKILL after 2 s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Run a command as it stands and watch all that it starts
    #[arg(last = true, value_name = "CMD", conflicts_with = "stage")]
    program: Vec<OsString>,
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

/// How long something that runs is watched where nobody says.
pub(crate) const WATCH: Duration = Duration::from_secs(10);

impl TargetArgs {
    /// It is something that runs already.
    pub(crate) fn attaches(&self) -> bool {
        !self.pipeline.pid.is_empty()
    }

    /// What was asked for; wrong usage where nothing was.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        self.target_for(Some(WATCH))
    }

    /// As [`TargetArgs::target`]. What runs already is watched for `watch` where nobody said how
    /// long; to its end where that is `None`.
    pub(crate) fn target_for(&self, watch: Option<Duration>) -> anyhow::Result<Target> {
        let any = &self.pipeline;
        let other = any.line.is_some() || !any.program.is_empty() || !any.pid.is_empty();
        if other {
            self.refuse_knobs()?;
        } else if any.duration.is_some() {
            return Err(wrong_usage(DURATION_OF_PAIR));
        }
        if let Some(line) = &any.line {
            let spec = Spec::shell(line, any.shell.as_deref());
            let title = line.to_string_lossy().into_owned();
            return Ok(Target::Command { spec, title, duration: any.duration });
        }
        if !any.program.is_empty() {
            let words: Vec<_> = any.program.iter().map(|word| word.to_string_lossy()).collect();
            let title = words.join(" ");
            let spec = Spec::program(any.program.iter().cloned());
            return Ok(Target::Command { spec, title, duration: any.duration });
        }
        if !any.pid.is_empty() {
            let extent = if any.only_pids { Extent::OnlyThese } else { Extent::Whole };
            let duration = any.duration.or(watch);
            return Ok(Target::Running { pids: any.pid.clone(), extent, duration });
        }
        if self.pair.is_empty() {
            return Err(wrong_usage(NO_TARGET));
        }
        Ok(Target::Pair(Box::new(self.pair.plan()?)))
    }

    /// Wrong usage where a flag of the pair was given: something else is looked at.
    pub(crate) fn refuse_knobs(&self) -> anyhow::Result<()> {
        if self.pair.is_empty() { Ok(()) } else { Err(wrong_usage(KNOBS_WITHOUT_PAIR)) }
    }
}

/// Where the pair's flags come with something else to watch.
const KNOBS_WITHOUT_PAIR: &str = "the flags under \"Pipe pair\" (--bytes, --fill, …) are \
     for the built-in pair only: leave them out, or give --stage instead of a pipeline";

/// Where the pair is to run for so long.
const DURATION_OF_PAIR: &str =
    "--duration is for a command or --pid: say with --bytes how long the pair runs";

/// Where nothing says what to watch.
const NO_TARGET: &str = "nothing says what to watch: give --stage vmsplice for the \
     built-in pair, -c 'A | B' to run a pipeline, or --pid PID for one that runs";

/// `10s`, `1.5s`, `500ms`, `2m`, `1h`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time; known are ms, s, m and h")),
    };
    let number: f64 = number.parse().map_err(|_| "it does not start with a number".to_owned())?;
    match Duration::try_from_secs_f64(number * scale) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it has to be longer than nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> TargetArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            target: TargetArgs,
        }
        let words = std::iter::once("line").chain(line.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words).unwrap().target
    }

    #[test]
    fn what_runs_is_watched_as_long_as_was_said_or_else_as_the_command_wants() {
        let watched = |line: &str, watch| match args(line).target_for(watch).unwrap() {
            Target::Running { duration, .. } => duration,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(watched("-p 1", Some(WATCH)), Some(WATCH));
        assert_eq!(watched("-p 1", None), None);
        assert_eq!(watched("-p 1 --duration 2s", None), Some(Duration::from_secs(2)));
    }

    #[test]
    fn flags_that_would_go_unheeded_are_refused() {
        let target =
            |line: &str| args(line).target().map(|_| ()).map_err(|error| error.to_string());
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

    #[test]
    fn durations() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1s", "10 days", "0", "1.2.3", "1e400s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
