//! Another pipeline in the ladder (`--against`): starts it, and finds out its throughput.

use std::ffi::OsString;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use pipeprof_profiler::meter::{Bytes, PipeFlow};
use pipeprof_profiler::watcher::{Came, Watched};
use pipeprof_report::ladder::{CountedBy, EndCost};
use pipeprof_runner::command::Spec;
use pipeprof_runner::ends::Usage;

use super::measured::{GIB, Measured};
use crate::args::target::Target;
use crate::capture::{standby, watched};
use crate::interrupt::Interrupt;
use crate::ui::{Ui, hinted};

/// A pipeline that has not ended by then is taken for one that never ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long such a pipeline runs.
const CUT: Duration = Duration::from_secs(2);

/// Sends what the pipeline prints to a file, and runs it.
const SCRIPT: &str = "exec >\"$1\" 2>&1 </dev/null; eval \"$2\"";

/// A shell pipeline.
#[derive(Debug)]
pub(super) struct Command {
    line: String,
    /// For one that does not end by itself.
    limit: Option<Duration>,
}

impl Command {
    pub(super) fn new(line: String) -> Self {
        Command { line, limit: None }
    }

    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Tries it: does it end, and can its throughput be known?
    pub(super) fn size(&mut self, interrupt: &Interrupt, quiet: &Ui) -> anyhow::Result<()> {
        let tried = self.run(PATIENCE, interrupt, quiet)?;
        if !tried.ended {
            self.limit = Some(CUT);
        }
        if tried.measured.gib_per_s.is_none() && !interrupt.is_set() {
            let why = tried.why_unknown.unwrap_or_else(|| "it has no pipe".to_owned());
            let error = format!("its throughput is unknown: it prints none, and {why}");
            let hint = "end it with | pipeprof read, which prints its throughput";
            return Err(hinted(error, Some(hint.to_owned())));
        }
        Ok(())
    }

    pub(super) fn plain(&self, interrupt: &Interrupt, quiet: &Ui) -> anyhow::Result<Measured> {
        // One that ended once may take its time.
        let limit = self.limit.unwrap_or(60 * PATIENCE);
        Ok(self.run(limit, interrupt, quiet)?.measured)
    }

    /// For a profiled run. What it prints goes nowhere: the meter counts.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        let spec = self.spec(Path::new("/dev/null"));
        Ok(Target::Command { spec, title: self.line.clone(), duration: self.limit })
    }

    fn spec(&self, output: &Path) -> Spec {
        let words = ["sh", "-c", SCRIPT, "sh"].map(OsString::from);
        let own = [output.as_os_str().to_owned(), OsString::from(&self.line)];
        Spec::program(words.into_iter().chain(own))
    }

    fn run(&self, limit: Duration, interrupt: &Interrupt, quiet: &Ui) -> anyhow::Result<Tried> {
        let mut output = tempfile::tempfile().context("making a file for what a command prints")?;
        // It has no name that a kill could leave behind.
        let name = format!("/proc/{}/fd/{}", std::process::id(), output.as_raw_fd());
        let (spec, title) = (self.spec(Path::new(&name)), self.line.clone());
        let target = Target::Command { spec, title, duration: Some(limit) };
        let mut standby = standby(target, interrupt, quiet)?;
        standby.count();
        let Watched { elapsed, flows, came, .. } = watched(standby, Some(limit), quiet)?;
        let Came::Command(command) = came else { bail!("{:?} was not run", self.line) };
        let (status, usage) = (command.status, command.usage);
        // Waits for the end of what has not ended.
        drop(command);

        let mut printed = Vec::new();
        // A pipeline without an output file has not printed a throughput.
        let _ = output.rewind().and_then(|()| output.read_to_end(&mut printed));
        let printed = String::from_utf8_lossy(&printed);
        if let Some(status) = status.filter(|status| !status.success()) {
            let last = printed.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
            bail!("it ended with {status}; its last output: {last:?}");
        }
        let bytes = last_pipe(&flows);
        let metered = bytes.map(|bytes| bytes as f64 / GIB / elapsed.as_secs_f64());
        let told = status.and_then(|_| throughput(&printed)).or_else(|| {
            // The meter can't see what is spliced at both ends, as `pv` does.
            metered.is_none().then(|| pv_rate(&printed)).flatten()
        });
        let (gib_per_s, counted_by) = match (told, metered) {
            (Some(rate), _) => (Some(rate), CountedBy::Printed),
            (None, Some(rate)) => (Some(rate), CountedBy::Meter),
            (None, None) => (None, CountedBy::Nobody),
        };
        let ends = usage.map(cost).into_iter().collect();
        Ok(Tried {
            measured: Measured {
                plan: None,
                bytes,
                elapsed,
                gib_per_s,
                counted_by,
                ends,
                profile: None,
            },
            ended: status.is_some(),
            why_unknown: flows.iter().rev().find_map(|flow| match &flow.bytes {
                Bytes::Unknown { why } => Some(why.to_string()),
                Bytes::Known { .. } => None,
            }),
        })
    }
}

struct Tried {
    measured: Measured,
    ended: bool,
    why_unknown: Option<String>,
}

/// Bytes through the pipe that is furthest downstream, of those that are known.
pub(super) fn last_pipe(flows: &[PipeFlow]) -> Option<u64> {
    flows.iter().rev().find_map(|flow| flow.bytes.known()).filter(|bytes| *bytes > 0)
}

fn cost(usage: Usage) -> EndCost {
    EndCost {
        name: "all of it".to_owned(),
        cpu_ns: Some(usage.cpu_ns()),
        voluntary_switches: Some(usage.voluntary_switches),
        involuntary_switches: Some(usage.involuntary_switches),
        ..EndCost::default()
    }
}

/// The last rate that `pv` shows, `[5.61GiB/s]`, in GiB/s.
fn pv_rate(printed: &str) -> Option<f64> {
    printed.rsplit('[').find_map(|rest| {
        let (rate, _) = rest.split_once("iB/s]")?;
        let (number, unit) = rate.trim().split_at_checked(rate.trim().len().checked_sub(1)?)?;
        let divisor = match unit {
            "T" => 1.0 / 1024.0,
            "G" => 1.0,
            "M" => 1024.0,
            "K" => 1024.0 * 1024.0,
            _ => return None,
        };
        let number: f64 = number.trim().parse().ok()?;
        (number > 0.0).then_some(number / divisor)
    })
}

/// The last throughput in a text: a line that begins with `12.7GiB/s`, or with the first column of
/// the CSV that the article's program prints, which has more digits.
fn throughput(text: &str) -> Option<f64> {
    text.lines().rev().find_map(|line| {
        let line = line.trim_start();
        let digits = line.bytes().take_while(|&byte| byte.is_ascii_digit() || byte == b'.').count();
        let (number, rest) = line.split_at(digits);
        let known = rest.starts_with(',') || rest.trim_start().starts_with("GiB/s");
        number.parse().ok().filter(|&rate: &f64| known && rate > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_throughput() {
        for (text, rate) in [
            ("12.7GiB/s, 256KiB buffer, 40960 iterations (10GiB piped)\n", Some(12.7)),
            ("noise\n3.25 GiB/s\n\n", Some(3.25)),
            ("4.309490,104857600,262144,0,0\n", Some(4.30949)),
            ("1.0GiB/s\n2.0GiB/s\n", Some(2.0)),
            ("0.0GiB/s", None),
            ("12.7GB/s", None),
            ("", None),
        ] {
            assert_eq!(throughput(text), rate, "{text:?}");
        }
    }

    #[test]
    fn reads_what_pv_shows() {
        let shown = "\r1.00GiB 0:00:01 [1.00GiB/s] [<=> ]\r3.00GiB 0:00:02 [2.00GiB/s] [ <=> ]";
        assert_eq!(pv_rate(shown), Some(2.0));
        assert_eq!(pv_rate("[ 512MiB/s]"), Some(0.5));
        for none in ["", "[ <=> ]", "[0.00 B/s]", "[iB/s]", "é[iB/s]"] {
            assert_eq!(pv_rate(none), None, "{none}");
        }
    }
}
