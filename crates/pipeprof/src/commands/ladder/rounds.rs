//! Runs rounds until there are enough, Ctrl-C is pressed, or every median is known well enough.

use std::time::Instant;

use pipeprof_report::ladder::{
    Axis, Ending, Entry, Ladder, ProfiledRun, Run, SCHEMA_VERSION, is_narrow,
};
use pipeprof_runner::bandwidth;

use super::files::Files;
use super::measured::Measured;
use super::runs::{self, Candidate, Runs};
use super::schedule::{Schedule, Step};
use super::{LadderArgs, checks};
use crate::capture::kernel_release;
use crate::interrupt::Interrupt;
use crate::progress::Watching;
use crate::ui::{Ui, hinted};

/// Rounds with a profiler: enough to see how far two profiles of one stage differ.
const PROFILED_ROUNDS: u32 = 3;

/// A ladder in progress.
pub(super) struct Rounds<'a> {
    pub(super) ladder: Ladder,
    candidates: Vec<Candidate>,
    runs: Runs<'a>,
    schedule: Schedule,
    /// The profiled runs, in the order of time.
    pub(super) kept: Vec<ProfiledRun>,
    /// Of a sweep.
    pub(super) axes: Vec<Axis>,
    began: Instant,
    interrupt: &'a Interrupt,
    ui: &'a Ui,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(
        args: &LadderArgs,
        candidates: Vec<Candidate>,
        axes: Vec<Axis>,
        interrupt: &'a Interrupt,
        ui: &'a Ui,
    ) -> anyhow::Result<Self> {
        let machine = checks::look(args.pin);
        let (spoilt, fine): (Vec<_>, Vec<_>) =
            machine.iter().partition(|fact| fact.remedy.is_some());
        let fine: Vec<&str> = fine.iter().map(|fact| fact.text.as_str()).collect();
        ui.note(fine.join("; "));
        for fact in spoilt {
            ui.warn_of(&hinted(&fact.text, fact.remedy.clone()));
        }
        let seed = args.seed();
        let entries = candidates.iter().map(|candidate| Entry {
            name: candidate.name(),
            plan: candidate.plan().cloned(),
            refused: None,
        });
        let ladder = Ladder {
            schema_version: SCHEMA_VERSION,
            kernel: kernel_release(),
            seed,
            rounds_wanted: args.rounds(),
            ending: Ending::Unfinished,
            machine,
            bandwidth: Some(bandwidth::measure()),
            entries: entries.collect(),
            runs: Vec::new(),
        };
        let (length, profiled) = match axes[..] {
            [] => (runs::PLAIN, PROFILED_ROUNDS),
            // A heat map is of throughput.
            _ => (runs::SHORT, 0),
        };
        Ok(Rounds {
            ladder,
            candidates,
            runs: Runs::new(interrupt, args.bytes, length),
            schedule: Schedule::new(seed, args.rounds(), profiled),
            kept: Vec::new(),
            axes,
            began: Instant::now(),
            interrupt,
            ui,
        })
    }

    /// All rounds, or as many as it takes.
    pub(super) fn run(&mut self, files: &Files) {
        let steps = (self.schedule.steps().len() + 1) * self.candidates.len();
        // A command may ask something on the terminal, and the bar must not wipe its question.
        let is_ours = |candidate: &Candidate| !matches!(candidate, Candidate::Command(_));
        let mut bar = match self.candidates.iter().all(is_ours) {
            true => Watching::steps(steps as u64, self.ui),
            false => Watching::hidden(),
        };
        for entry in 0..self.candidates.len() {
            bar.step(format_args!("sizing {}", self.candidates[entry].name()));
            if self.interrupt.is_set() {
                break;
            }
            let sized = self.runs.size(&mut self.candidates[entry]);
            self.settle(entry, sized);
            self.ladder.entries[entry].plan = self.candidates[entry].plan().cloned();
        }
        for step in self.schedule.steps() {
            for (at, entry) in self.schedule.shuffled(self.candidates.len()).into_iter().enumerate()
            {
                let name = self.candidates[entry].name();
                bar.step(format_args!("{}: {name}", step.words(self.ladder.rounds_wanted)));
                if self.interrupt.is_set() {
                    break;
                }
                if self.ladder.entries[entry].refused.is_none() {
                    self.take(step, at as u32 + 1, entry);
                }
            }
            // The end tries again, and tells.
            if let Err(error) = files.write_runs(&self.ladder) {
                self.ui.detail(format_args!("not written yet: {error:#}"));
            }
            if self.interrupt.is_set() {
                break;
            }
            if is_narrow(&self.ladder) && self.schedule.may_stop_after(step) {
                self.ladder.ending = Ending::NarrowEnough;
                break;
            }
        }
        bar.done();
        if self.interrupt.is_set() {
            self.ladder.ending = Ending::Interrupted;
        } else if self.ladder.ending == Ending::Unfinished {
            self.ladder.ending = Ending::AllRounds;
        }
    }

    fn take(&mut self, step: Step, position: u32, entry: usize) {
        let began_ns = self.began.elapsed().as_nanos() as u64;
        let candidate = &self.candidates[entry];
        let measured = match step {
            Step::Plain(_) => self.runs.plain(candidate).map(|measured| (measured, None)),
            Step::Profiled(_) => {
                self.runs.profiled(candidate).map(|(measured, kept)| (measured, Some(kept)))
            }
        };
        let Some((measured, kept)) = self.settle(entry, measured) else { return };
        self.kept.extend(kept.filter(|_| !self.interrupt.is_set()).map(|kept| (entry, kept)));
        let Measured { plan, bytes, elapsed, gib_per_s, counted_by, ends, profile } = measured;
        self.ladder.runs.push(Run {
            entry,
            round: step.round(),
            position,
            began_ns,
            plan,
            profile,
            whole: !self.interrupt.is_set(),
            bytes,
            elapsed_ns: elapsed.as_nanos() as u64,
            gib_per_s,
            counted_by,
            ends,
        });
    }

    /// A candidate that fails is left out from then on; the others go on.
    fn settle<T>(&mut self, entry: usize, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            // Ctrl-C reaches a command too, whose end is then no failure of its own.
            Err(_) if self.interrupt.is_set() => None,
            Err(error) => {
                let first = format!("{error:#}");
                let why = first.lines().next().unwrap_or_default().to_owned();
                let error = error.context(format!("{} is left out", self.candidates[entry].name()));
                // In a heat map it is an answer like others.
                if self.axes.is_empty() {
                    self.ui.warn_of(&error);
                } else {
                    self.ui.detail(format_args!("{error:#}"));
                }
                self.ladder.entries[entry].refused = Some(why);
                None
            }
        }
    }
}
