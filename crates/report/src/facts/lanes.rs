//! The run over time, in columns of equal length: the states of each member, throughput and fill of
//! each pipe, and what limited.

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_runner::pipeline::Pipeline;
use rustc_hash::FxHashMap;

use super::blame::{Use, blame};
use super::over_time::{self, Columns};
use super::states::{Doing, Outside, StateHistory};
use super::verdict::{Judge, Limiter, Places};
use crate::holding::Holding;
use crate::ordered::OrderedMap;
use crate::verdict::evidence::Evidence;

/// What a member does, as a lane shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A thread of it has a CPU.
    Busy,
    /// A thread of it could run, and has no CPU.
    NoCpu,
    /// It waits for data in a pipe of the pipeline.
    Data,
    /// It waits for space in one.
    Space,
    /// It waits for something else.
    Outside,
}

impl State {
    /// In the order in which a lane stacks them.
    pub const ALL: [State; 5] =
        [State::Busy, State::NoCpu, State::Data, State::Space, State::Outside];
}

/// A member within one column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Shares of the column, by [`State::ALL`]. What is missing from 1: it was not there.
    pub shares: [f64; 5],
    /// What it waited for outside longest; `None` where that is a child that is a member.
    pub outside: Option<Outside>,
    /// Share of the column in which it limits.
    pub limits: f64,
}

/// A member over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberLane {
    /// Its pid.
    pub pid: i32,
    /// By column.
    pub cells: Vec<Cell>,
    /// Share of all the time in which it limits.
    pub limits: f64,
}

/// A pipe over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipeLane {
    /// Its inode.
    pub inode: u64,
    /// Pids of the members that write to it, as lanes tell them.
    pub writers: Vec<i32>,
    /// Likewise, of those that read from it.
    pub readers: Vec<i32>,
    /// Its capacity.
    pub capacity_bytes: Option<u64>,
    /// Mean fill of each column, as a share of the capacity.
    pub fill: Vec<Option<f64>>,
    /// Throughput in each column.
    pub bytes_per_second: Vec<Option<f64>>,
    /// Share of each column in which the pipe itself limits.
    pub limits: Vec<f64>,
}

/// A pipeline over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lanes {
    /// Length of a column.
    pub column_ns: f64,
    /// How many there are.
    pub columns: usize,
    /// In the order of the pipeline.
    pub members: Vec<MemberLane>,
    /// Likewise.
    pub pipes: Vec<PipeLane>,
    /// Share of each column in which members limit that have no CPU.
    pub cpus: Vec<f64>,
    /// Share of each column in which the limit is unknown.
    pub unknown: Vec<f64>,
}

/// Accounts that are read from time to time tell running and runnable threads apart: this much time
/// around a column is used.
const AROUND_NS: f64 = 400e6;

/// Lanes of thousands of members and pipes have fewer columns, so that they have no more cells than
/// this.
const MOST_CELLS: usize = 600_000;

/// Members whose lanes are made in one pass over the looks.
const AT_ONCE: usize = 64;

/// Puts a run into this many columns; `None` for recordings without states. `start_ns` is when the
/// counting of bytes began, by the clock of the history; `apart` tells waits for a CPU as a limit of
/// their own.
pub(crate) fn lanes(
    evidence: &Evidence,
    history: &StateHistory,
    pipeline: &Pipeline,
    flows: &[PipeFlow],
    start_ns: u64,
    columns: usize,
    apart: bool,
) -> Option<Lanes> {
    let (first, last) = (history.spans.first()?, history.spans.last()?);
    let lanes = (history.actors.len() + history.pipes.len()).max(1);
    let columns = columns.min((MOST_CELLS / lanes).max(1));
    let column_ns = (last.until_ns - first.from_ns) as f64 / columns.max(1) as f64;
    if history.actors.is_empty() || columns == 0 || column_ns <= 0.0 {
        return None;
    }
    let grid = Columns { from_ns: first.from_ns as f64, step_ns: column_ns, count: columns };
    let places = Places::of(evidence, history, pipeline);
    let judge = Judge::of(evidence, history, pipeline, places);
    let actors = judge.member_of.iter().enumerate().rev();
    let actors: FxHashMap<usize, usize> =
        actors.filter_map(|(actor, member)| Some(((*member)?, actor))).collect();
    let holding = Holding::of(pipeline, flows);
    let mut made = Lanes {
        column_ns,
        columns,
        members: members(history, grid),
        pipes: Vec::new(),
        cpus: vec![0.0; columns],
        unknown: vec![0.0; columns],
    };
    let mut of_pipes = vec![vec![0.0; columns]; evidence.pipes.len()];
    let blamed = blame(history);
    for (span, blame) in history.spans.iter().zip(&blamed.spans) {
        let limiters = judge.limiters(blame, apart);
        for (column, ns) in overlaps(grid, span.from_ns, span.until_ns) {
            for &(limiter, share) in &limiters {
                let share = share * ns / column_ns;
                match limiter {
                    Limiter::Member(member) => {
                        let Some(&actor) = actors.get(&member) else { continue };
                        made.members[actor].cells[column].limits += share;
                    }
                    Limiter::Pipe(pipe) => of_pipes[pipe][column] += share,
                    Limiter::Cpus => made.cpus[column] += share,
                    Limiter::Unknown => made.unknown[column] += share,
                }
            }
        }
    }
    let pid = |actor: usize| {
        let member = pipeline.members.get(history.actors[actor].member);
        member.map_or(0, |member| member.pid)
    };
    for (actor, lane) in made.members.iter_mut().enumerate() {
        lane.pid = pid(actor);
        lane.limits = lane.cells.iter().map(|cell| cell.limits).sum::<f64>() / columns as f64;
    }
    let since = Columns { from_ns: grid.from_ns - start_ns as f64, ..grid };
    for (at, ends) in history.pipes.iter().enumerate() {
        let pipe = &pipeline.pipes[at];
        // A pipe that one member holds alone is its own affair.
        if ends.writers.is_empty() || ends.readers.is_empty() || ends.is_internal() {
            continue;
        }
        let flow = holding.flow(at).and_then(|flow| flows.get(flow));
        let capacity = flow.and_then(|flow| flow.capacity_bytes).or(pipe.capacity_bytes);
        let nothing = || vec![None; columns];
        let fill = flow.zip(capacity).map_or_else(nothing, |(flow, capacity)| {
            over_time::levels(&flow.fill_over_time, capacity, since)
        });
        let rates = flow.map_or_else(nothing, |flow| over_time::rates(&flow.over_time, since));
        let limits = judge.pipe_of[at].map(|pipe| of_pipes[pipe].clone());
        made.pipes.push(PipeLane {
            inode: pipe.inode,
            writers: ends.writers.iter().map(|&actor| pid(actor)).collect(),
            readers: ends.readers.iter().map(|&actor| pid(actor)).collect(),
            capacity_bytes: capacity,
            fill,
            bytes_per_second: rates,
            limits: limits.unwrap_or_else(|| vec![0.0; columns]),
        });
    }
    Some(made)
}

/// The columns that a stretch of time lies in, and how much of it in each.
fn overlaps(grid: Columns, from_ns: u64, until_ns: u64) -> impl Iterator<Item = (usize, f64)> {
    let (from, until) = (from_ns as f64, until_ns as f64);
    let first = ((from - grid.from_ns) / grid.step_ns).floor().max(0.0) as usize;
    let columns = first..grid.count;
    columns.map_while(move |column| {
        let (start, end) = (grid.edge(column), grid.edge(column + 1));
        (start < until).then(|| (column, (until.min(end) - from.max(start)).max(0.0)))
    })
}

/// What was found of an actor in one column.
#[derive(Clone, Debug, Default)]
struct Found {
    used: Use,
    outside: OrderedMap<Option<Outside>, f64>,
}

fn members(history: &StateHistory, grid: Columns) -> Vec<MemberLane> {
    let actors: Vec<usize> = (0..history.actors.len()).collect();
    actors.chunks(AT_ONCE).flat_map(|actors| some_members(history, grid, actors)).collect()
}

fn some_members(history: &StateHistory, grid: Columns, actors: &[usize]) -> Vec<MemberLane> {
    let (first, last) = (actors[0], actors[actors.len() - 1]);
    let mut found = vec![vec![Found::default(); grid.count]; actors.len()];
    for span in &history.spans {
        let length = (span.until_ns - span.from_ns) as f64;
        let mut whole = vec![Found::default(); actors.len()];
        for moment in &span.moments {
            for (of, doing) in whole.iter_mut().zip(&moment.doing[first..=last]) {
                of.add(doing, moment.ns);
            }
        }
        for (of, account) in whole.iter_mut().zip(&span.accounts[first..=last]) {
            of.used.cpu_ns += account.cpu_ns as f64;
            of.used.run_delay_ns += account.run_delay_ns as f64;
        }
        for (column, ns) in overlaps(grid, span.from_ns, span.until_ns) {
            let part = ns / length.max(1.0);
            found.iter_mut().zip(&whole).for_each(|(of, whole)| of[column].add_part(whole, part));
        }
    }
    found.iter().map(|columns| lane(columns, grid)).collect()
}

impl Found {
    fn add(&mut self, doing: &Doing, ns: f64) {
        self.used.add(doing, ns);
        let outside = match doing {
            Doing::Outside(outside) => Some(*outside),
            Doing::Follows => None,
            _ => return,
        };
        *self.outside.entry(outside).or_default() += ns;
    }

    fn add_part(&mut self, whole: &Found, part: f64) {
        let (used, of) = (&mut self.used, &whole.used);
        used.busy_ns += of.busy_ns * part;
        used.threads_ns += of.threads_ns * part;
        used.space_ns += of.space_ns * part;
        used.data_ns += of.data_ns * part;
        used.outside_ns += of.outside_ns * part;
        used.follows_ns += of.follows_ns * part;
        used.alive_ns += of.alive_ns * part;
        used.cpu_ns += of.cpu_ns * part;
        used.run_delay_ns += of.run_delay_ns * part;
        for (outside, ns) in &whole.outside {
            *self.outside.entry(*outside).or_default() += ns * part;
        }
    }
}

fn lane(columns: &[Found], grid: Columns) -> MemberLane {
    let reach = ((AROUND_NS / grid.step_ns).round() as usize).min(columns.len());
    // By the start of each column, from the first on.
    let mut sums = vec![[0.0; 3]];
    for (at, Found { used, .. }) in columns.iter().enumerate() {
        let more = [used.threads_ns, used.cpu_ns, used.run_delay_ns];
        sums.push(std::array::from_fn(|of| sums[at][of] + more[of]));
    }
    let cell = |(at, found): (usize, &Found)| {
        let near = at.saturating_sub(reach)..at.saturating_add(reach + 1).min(columns.len());
        let [before, by_then] = [near.start, near.end].map(|edge| sums[edge]);
        let around = Use {
            threads_ns: by_then[0] - before[0],
            cpu_ns: by_then[1] - before[1],
            run_delay_ns: by_then[2] - before[2],
            ..Use::default()
        };
        let used = &found.used;
        let on_cpu = around.on_cpu_share();
        let ns = [
            used.busy_ns * on_cpu,
            used.busy_ns * (1.0 - on_cpu),
            used.data_ns,
            used.space_ns,
            used.outside_ns + used.follows_ns,
        ];
        let longest = found.outside.iter().max_by(|a, b| a.1.total_cmp(b.1));
        Cell {
            shares: ns.map(|ns| (ns / grid.step_ns).min(1.0)),
            outside: longest.and_then(|(outside, _)| *outside),
            limits: 0.0,
        }
    };
    let cells = columns.iter().enumerate().map(cell).collect();
    MemberLane { pid: 0, cells, limits: 0.0 }
}

#[cfg(test)]
mod tests {
    use pipeprof_profiler::states::Why;

    use super::*;
    use crate::facts::fixture::{self, chain};

    fn drawn(history: &StateHistory, columns: usize) -> Lanes {
        let evidence = fixture::evidence(2, 1);
        let pipeline = fixture::pipeline(2);
        lanes(&evidence, history, &pipeline, &[], 0, columns, true).unwrap()
    }

    #[test]
    fn a_lane_says_what_its_member_did_and_adds_up_to_its_life() {
        let line = [["Bd"; 30], ["sB"; 30], ["oB"; 30], [".B"; 30]].concat();
        let lanes = drawn(&chain(&line, 1.0, 0.0), 40);
        assert_eq!((lanes.members.len(), lanes.pipes.len()), (2, 1));
        let most = |member: usize, column: usize| {
            let shares = lanes.members[member].cells[column].shares;
            State::ALL.into_iter().zip(shares).find(|(_, share)| *share > 0.99).map(|(of, _)| of)
        };
        for (column, first, second) in [
            (5, Some(State::Busy), Some(State::Data)),
            (15, Some(State::Space), Some(State::Busy)),
            (25, Some(State::Outside), Some(State::Busy)),
            (35, None, Some(State::Busy)),
        ] {
            assert_eq!((most(0, column), most(1, column)), (first, second), "{column}");
        }
        let outside = lanes.members[0].cells[25].outside;
        assert_eq!(outside, Some(Outside::For(Why::Timer)));
        for column in 0..40 {
            let limits = |lane: &MemberLane| lane.cells[column].limits;
            let sum: f64 = lanes.members.iter().map(limits).sum::<f64>()
                + lanes.pipes[0].limits[column]
                + lanes.cpus[column]
                + lanes.unknown[column];
            assert!((sum - 1.0).abs() < 1e-6, "{column}: {sum}");
        }
        assert!(
            lanes.members[0].cells[4].limits > 0.99 && lanes.members[1].cells[35].limits > 0.99
        );
    }

    #[test]
    fn a_wait_for_a_cpu_is_a_state_of_its_own() {
        let lanes = drawn(&chain(&["Bd"; 60], 0.25, 0.75), 20);
        let [busy, no_cpu, ..] = lanes.members[0].cells[10].shares;
        assert!((busy - 0.25).abs() < 0.01 && (no_cpu - 0.75).abs() < 0.01, "{busy} {no_cpu}");
        assert!((lanes.cpus[10] - 0.75).abs() < 0.01);
    }

    #[test]
    fn columns_need_not_fit_the_spans() {
        // A span of 20 ms across columns of 14 ms, and far fewer spans than columns.
        for columns in [1, 7, 100] {
            let lanes = drawn(&chain(&["Bd", "sB", "Bd", "sB", "sB"], 1.0, 0.0), columns);
            let sum = |state: usize| -> f64 {
                let cells = &lanes.members[0].cells;
                cells.iter().map(|cell| cell.shares[state]).sum::<f64>() / columns as f64
            };
            assert!((sum(0) - 0.4).abs() < 1e-6 && (sum(3) - 0.6).abs() < 1e-6, "{columns}");
        }
    }
}
