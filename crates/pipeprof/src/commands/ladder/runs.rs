//! One run, of a stage or a command, with a profiler or without.

use std::time::Duration;

use anyhow::bail;
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::ladder::{CountedBy, EndCost, Profiled};
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
use pipeprof_runner::outcome::{EndOutcome, Outcome};
use pipeprof_runner::plan::PairPlan;

use super::commands::{self, Command};
use super::measured::{GIB, Measured};
use crate::args::pair as pair_args;
use crate::args::scope::Scope;
use crate::args::target::Target;
use crate::capture::{capture, run_pair};
use crate::interrupt::Interrupt;
use crate::ui::{Colour, Ui};

/// How long a run without a profiler is to take: starting and ending it is then less than 1 %.
pub(super) const PLAIN: Duration = Duration::from_secs(1);

/// And with one: some 1,500 samples an end that is never idle, at 997 a second, of which the first
/// second goes into finding out whether that slows it.
const PROFILED: Duration = Duration::from_millis(2500);

/// A run of a sweep, of which there are many.
pub(super) const SHORT: Duration = Duration::from_millis(250);

/// The first guess of the bytes of a run.
const FIRST_BYTES: u64 = 16 << 20;

/// A run shorter than this says little about the speed.
const ENOUGH: Duration = Duration::from_millis(50);

/// A stage or a command that is measured.
#[derive(Debug)]
pub(super) enum Candidate {
    /// A stage, by its own name or that of what is changed about it.
    Stage {
        name: String,
        plan: Box<PairPlan>,
    },
    Command(Command),
    /// A combination that makes no sense, and why.
    Refused {
        name: String,
        why: String,
    },
}

impl Candidate {
    pub(super) fn command(line: String) -> Candidate {
        Candidate::Command(Command::new(line))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Candidate::Stage { name, .. } | Candidate::Refused { name, .. } => name.clone(),
            Candidate::Command(command) => command.line().to_owned(),
        }
    }

    pub(super) fn plan(&self) -> Option<&PairPlan> {
        match self {
            Candidate::Stage { plan, .. } => Some(plan),
            Candidate::Command(_) | Candidate::Refused { .. } => None,
        }
    }
}

/// Makes runs.
pub(super) struct Runs<'a> {
    interrupt: &'a Interrupt,
    /// Without progress bars and notes of its own: the ladder has them.
    quiet: Ui,
    /// Bytes of every run, if the user gave them.
    fixed_bytes: bool,
    /// How long a run without a profiler is to take otherwise.
    plain: Duration,
}

impl<'a> Runs<'a> {
    pub(super) fn new(interrupt: &'a Interrupt, bytes: Option<u64>, plain: Duration) -> Self {
        let quiet = Ui::new(true, false, Colour::Never);
        Runs { interrupt, quiet, fixed_bytes: bytes.is_some(), plain }
    }

    /// Finds out how much a run is to move, and whether it can be run at all.
    pub(super) fn size(&self, candidate: &mut Candidate) -> anyhow::Result<()> {
        match candidate {
            Candidate::Stage { plan, .. } if self.fixed_bytes => self.pair(plan).map(drop),
            Candidate::Stage { plan, .. } => {
                let mut bytes = FIRST_BYTES;
                loop {
                    plan.bytes = Some(bytes);
                    let outcome = self.pair(plan)?;
                    let (moved, took) = (outcome.bytes, outcome.elapsed);
                    let enough = took >= ENOUGH || self.interrupt.is_set();
                    let aim = if enough { self.plain } else { 2 * ENOUGH };
                    bytes = scaled(moved, took, aim);
                    if enough {
                        plan.bytes = Some(bytes);
                        return Ok(());
                    }
                }
            }
            Candidate::Command(command) => command.size(self.interrupt, &self.quiet),
            Candidate::Refused { why, .. } => bail!("{why}"),
        }
    }

    /// A run for its throughput.
    pub(super) fn plain(&self, candidate: &Candidate) -> anyhow::Result<Measured> {
        match candidate {
            Candidate::Stage { plan, .. } => {
                let outcome = self.pair(plan)?;
                Ok(Measured {
                    plan: Some(outcome.plan.clone()),
                    bytes: Some(outcome.bytes),
                    elapsed: outcome.elapsed,
                    gib_per_s: Some(outcome.gib_per_s()),
                    counted_by: CountedBy::Pair,
                    ends: [&outcome.writer, &outcome.reader].map(cost).to_vec(),
                    profile: None,
                })
            }
            Candidate::Command(command) => command.plain(self.interrupt, &self.quiet),
            Candidate::Refused { why, .. } => bail!("{why}"),
        }
    }

    /// A run for its costs, and its profile.
    pub(super) fn profiled(&self, candidate: &Candidate) -> anyhow::Result<(Measured, Run)> {
        let mut longer_plan = None;
        let target = match candidate {
            Candidate::Stage { plan, .. } => {
                let mut plan = plan.clone();
                if !self.fixed_bytes {
                    let longer = PROFILED.as_secs_f64() / self.plain.as_secs_f64();
                    plan.bytes = plan.bytes.map(|bytes| (bytes as f64 * longer) as u64);
                }
                longer_plan = Some(*plan.clone());
                Target::Pair(plan)
            }
            Candidate::Command(command) => command.target()?,
            Candidate::Refused { why, .. } => bail!("{why}"),
        };
        // Costs are of the time on a CPU, and recording sleeps would add to them.
        let config = CaptureConfig { switches: false, rises: true, ..CaptureConfig::default() };
        let captured = capture(target, &config, Scope::default(), self.interrupt, &self.quiet)?;
        if let Some(failure) = captured.failures.first() {
            return Err(pair_args::complaint(failure));
        }
        let run = captured.run;
        Ok((Measured { plan: longer_plan, ..costs(&run) }, run))
    }

    fn pair(&self, plan: &PairPlan) -> anyhow::Result<Outcome> {
        let outcome = run_pair(plan, self.interrupt, &self.quiet)?;
        match outcome.failures().first() {
            Some(failure) => Err(pair_args::complaint(failure)),
            None => Ok(outcome),
        }
    }
}

/// The bytes that take `aim` at the speed of the run before: whole MiB, and at most a hundred times
/// as many, in case the clock was too coarse for that run.
fn scaled(bytes: u64, took: Duration, aim: Duration) -> u64 {
    let times = (aim.as_secs_f64() / took.as_secs_f64().max(1e-6)).clamp(0.01, 100.0);
    (((bytes as f64 * times) as u64) >> 20 << 20).max(1 << 20)
}

fn cost(outcome: &EndOutcome) -> EndCost {
    let report = outcome.report.as_ref();
    EndCost {
        name: outcome.end.as_str().to_owned(),
        end: Some(outcome.end),
        cpu_ns: report.map(|report| report.usage.cpu_ns()),
        voluntary_switches: report.map(|report| report.usage.voluntary_switches),
        involuntary_switches: report.map(|report| report.usage.involuntary_switches),
        calls: report.map(|report| report.tally.calls),
        retries: report.map(|report| report.tally.retries),
        roles: Vec::new(),
    }
}

/// What a profiled run costs.
fn costs(run: &Run) -> Measured {
    let summary = Summary::of(run, &Highlights::article(), View::default());
    let quality = &run.profile.quality;
    let bytes = commands::last_pipe(&run.flows);
    let elapsed = Duration::from_nanos(run.elapsed_ns);
    let seconds = elapsed.as_secs_f64();
    let rate = bytes.filter(|_| seconds > 0.0).map(|bytes| bytes as f64 / GIB / seconds);
    let is_pair = run.pipeline.members.iter().any(|member| member.end.is_some());
    Measured {
        plan: None,
        bytes,
        elapsed,
        gib_per_s: rate,
        counted_by: match (rate, is_pair) {
            (None, _) => CountedBy::Nobody,
            (Some(_), true) => CountedBy::Pair,
            (Some(_), false) => CountedBy::Meter,
        },
        ends: EndCost::of(&summary),
        profile: Some(Profiled {
            event: quality.event.clone(),
            frequency_hz: quality.frequency_hz,
            sampling_effect: quality.sampling_effect.clone(),
            samples: quality.samples,
            lost: quality.lost,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled_to_the_time_aimed_at() {
        let ms = Duration::from_millis;
        assert_eq!(scaled(64 << 20, ms(100), ms(1000)), 640 << 20);
        assert_eq!(scaled(64 << 20, ms(4000), ms(1000)), 16 << 20);
        assert_eq!(scaled(64 << 20, Duration::ZERO, ms(1000)), 6400 << 20);
        assert_eq!(scaled(1 << 20, ms(100_000), ms(1000)), 1 << 20, "never nothing");
    }
}
