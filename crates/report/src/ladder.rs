//! The ladder: many runs of many stages, their statistics, and what each stage gained.
//!
//! [`Ladder`] holds every single run; everything else is computed from it by [`Standings::of`],
//! and rendered by the modules below.

mod csv;
mod heatmap;
mod page;
mod picture;
mod shapes;
mod standing;
mod sweep;
mod table;
mod words;

use pipeprof_profiler::effect::Effect;
use pipeprof_runner::bandwidth::Bandwidths;
use pipeprof_runner::pipeline::End;
use pipeprof_runner::plan::PairPlan;
use serde::Serialize;

use crate::roles::Role;
use crate::summary::Summary;

pub use csv::write_csv;
pub use heatmap::write_heatmap;
pub use page::{ProfiledRun, write_page};
pub use picture::write_picture;
pub use standing::{EndStanding, RoleStanding, Standing, Standings, is_narrow};
pub use sweep::{Axis, Sweep, render_sweep};
pub use table::render;
pub use words::sentences;

/// Raised whenever a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 2;

/// Every run, with what is needed to repeat it.
#[derive(Clone, Debug, Serialize)]
pub struct Ladder {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Release of the running kernel.
    pub kernel: String,
    /// What the order of runs was shuffled by.
    pub seed: u64,
    /// Rounds without a profiler that were asked for.
    pub rounds_wanted: u32,
    /// Why there are no more runs.
    pub ending: Ending,
    /// What was found out about the machine before the first run.
    pub machine: Vec<MachineFact>,
    /// What one thread can do with memory here.
    pub bandwidth: Option<Bandwidths>,
    /// What was run: stages in the order of the ladder, then commands.
    pub entries: Vec<Entry>,
    /// In the order of time.
    pub runs: Vec<Run>,
}

/// Why there are no more runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It has not ended: this was written in between.
    Unfinished,
    /// All rounds were run.
    AllRounds,
    /// The interval of every median was narrow enough.
    NarrowEnough,
    /// Ctrl-C.
    Interrupted,
}

/// Something about the machine that bears on the figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineFact {
    /// As in "2 CPUs, the writer on 0 and the reader on 1".
    pub text: String,
    /// Where it spoils the figures: what to do about it.
    pub remedy: Option<String>,
}

/// One thing that is run again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The stage, or the command line. Untrusted text.
    pub name: String,
    /// Of a stage; a command has none.
    pub plan: Option<PairPlan>,
    /// Why it could not be run to the end.
    pub refused: Option<String>,
}

impl Entry {
    /// It is a stage of the built-in pair.
    pub fn is_stage(&self) -> bool {
        self.plan.is_some()
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Index in [`Ladder::entries`].
    pub entry: usize,
    /// From 1; rounds with and without a profiler are counted apart.
    pub round: u32,
    /// Place in the shuffled order of its round, from 1.
    pub position: u32,
    /// Since the start of the ladder, in nanoseconds.
    pub began_ns: u64,
    /// Its whole configuration; a command is its own.
    pub plan: Option<PairPlan>,
    /// What it was profiled with; `None` for a run that tells the throughput.
    pub profile: Option<Profiled>,
    /// It was not stopped by Ctrl-C: others count for nothing.
    pub whole: bool,
    /// Bytes through the pipe, where they are known.
    pub bytes: Option<u64>,
    /// How long they took.
    pub elapsed_ns: u64,
    /// `None` if unknown.
    pub gib_per_s: Option<f64>,
    /// Who says so.
    pub counted_by: CountedBy,
    /// Writer and reader, or the members of a command that use its pipes; for a command that was
    /// not profiled one entry for all it started.
    pub ends: Vec<EndCost>,
}

/// Who knows the throughput of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedBy {
    /// The ends of the pair themselves.
    Pair,
    /// The command printed it.
    Printed,
    /// Bytes of its last pipe by the meter, over the time that it ran.
    Meter,
    /// It is unknown.
    Nobody,
}

/// How a run was profiled, and the result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profiled {
    /// In perf's spelling.
    pub event: String,
    /// Asked frequency.
    pub frequency_hz: Option<u64>,
    /// How much sampling slowed the run; `None` if it was not measured.
    pub sampling_effect: Option<Effect>,
    /// Samples of the members.
    pub samples: u64,
    /// Records that the kernel had no room for.
    pub lost: u64,
}

/// What one end cost in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EndCost {
    /// `writer`, `reader`, or the member's comm. Untrusted text.
    pub name: String,
    /// Which end, of a pair.
    pub end: Option<End>,
    /// CPU time, by the scheduler's account.
    pub cpu_ns: Option<u64>,
    /// How often it slept; a wake-up ends each sleep.
    pub voluntary_switches: Option<u64>,
    /// Times it was preempted.
    pub involuntary_switches: Option<u64>,
    /// Transfers, those that moved nothing included.
    pub calls: Option<u64>,
    /// Transfers that came back with `EAGAIN`.
    pub retries: Option<u64>,
    /// Its CPU time by role, largest first; empty where it was not profiled.
    pub roles: Vec<RoleCost>,
}

/// What one role took of one end in one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RoleCost {
    /// The role.
    pub role: Role,
    /// The end's CPU time × the role's share of its samples.
    pub cpu_ns: f64,
    /// The same for a GiB.
    pub ns_per_gib: f64,
    /// Samples behind it.
    pub samples: u64,
}

impl EndCost {
    /// The ends of a profiled run: the members that use a pipe. A member's roles add up to its CPU
    /// time; they are left out where shares of the samples are not shares of CPU time.
    pub fn of(summary: &Summary) -> Vec<EndCost> {
        let shown: Vec<_> = summary.members.iter().filter(|member| member.uses_pipes()).collect();
        // Two of one name, as in `dd | dd`, are told apart by their order.
        let name = |at: usize| {
            let name =
                |at: usize| -> &str { shown[at].end.map_or(&shown[at].comm, |end| end.as_str()) };
            match (0..at).filter(|&before| name(before) == name(at)).count() {
                0 => name(at).to_owned(),
                namesakes => format!("{} ({})", name(at), namesakes + 1),
            }
        };
        shown
            .iter()
            .enumerate()
            .map(|(at, member)| {
                let role = |share: &crate::summary::RoleShare| {
                    Some(RoleCost {
                        role: share.role,
                        cpu_ns: member.cpu_time_ns? as f64 * share.percent / 100.0,
                        ns_per_gib: share.ns_per_gib?,
                        samples: share.samples,
                    })
                };
                EndCost {
                    name: name(at),
                    end: member.end,
                    cpu_ns: member.cpu_time_ns,
                    roles: member.roles.iter().filter_map(role).collect(),
                    ..EndCost::default()
                }
            })
            .collect()
    }
}

impl Run {
    fn is_plain(&self) -> bool {
        self.whole && self.profile.is_none()
    }

    fn is_profiled(&self) -> bool {
        self.whole && self.profile.is_some()
    }
}

impl Ladder {
    /// The ladder as JSON, with what its runs come to beside them.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Write`] where `out` fails.
    pub fn write_json(&self, mut out: impl std::io::Write) -> Result<(), crate::error::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            ladder: &'a Ladder,
            standings: Standings,
            sentences: Vec<String>,
        }
        let standings = Standings::of(self);
        let sentences = sentences(self, &standings);
        let whole = Whole { ladder: self, standings, sentences };
        serde_json::to_writer_pretty(&mut out, &whole).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }
}
