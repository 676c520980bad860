//! Which treatments can matter to a pipeline, and why the others are not tried.
//!
//! - *Capacity* smooths turns: it can help only where a pipe is sometimes full, so that its writer
//!   waits, and sometimes empty, so that its reader does. What it saves is at most the smaller of
//!   the two shares.
//! - *Both ends on one CPU* saves wake-ups from CPU to CPU, so it takes ends that wake each other.
//! - *Ends on different CPUs*, *members spread* and *one member alone* save waiting for a CPU, so
//!   they take members that do wait for one, or that the scheduler moves about.
//! - *Nice* makes room for the busiest member where another one competes with it for a CPU.

use serde::Serialize;

use pipeprof_runner::size;
use pipeprof_runner::tuning::{CpuPlace, PipeLimits, cpus_text};

/// What was seen of a pipeline before anything was changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// In pipeline order.
    pub members: Vec<SeenMember>,
    /// In pipeline order.
    pub pipes: Vec<SeenPipe>,
    /// The CPUs that members may be given.
    pub cpus: Vec<CpuPlace>,
    /// Limits of pipes; `None` where they are not known.
    pub limits: Option<PipeLimits>,
    /// A nice value that was raised can be lowered again (`CAP_SYS_NICE`).
    pub may_renice: bool,
}

/// A member, by what it did while it was watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenMember {
    /// Its name.
    pub name: String,
    /// CPUs that it used, 1.9 for nearly two.
    pub cpus_used: f64,
    /// The same of its waiting for a CPU.
    pub cpus_missed: f64,
    /// Times a second that it went to sleep.
    pub sleeps_per_second: f64,
    /// CPUs that it may use.
    pub allowed: Vec<usize>,
}

/// A pipe, by what it held at the looks into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenPipe {
    /// Index of a member that writes.
    pub writer: usize,
    /// Index of a member that reads.
    pub reader: usize,
    /// `F_GETPIPE_SZ`; `None` where it may not be opened.
    pub capacity_bytes: Option<u64>,
    /// Looks into it.
    pub looks: u64,
    /// Share of them that found no byte, 0 to 1.
    pub empty: f64,
    /// Share of them that found no room for a page, 0 to 1.
    pub full: f64,
}

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Treatment {
    /// A larger pipe.
    Capacity {
        /// Index of the pipe.
        pipe: usize,
        /// What it is to hold.
        bytes: u64,
    },
    /// Members each on CPUs of their own choice.
    Cpus {
        /// What for.
        why: Placement,
        /// Index of each member that moves, and where to.
        members: Vec<(usize, Vec<usize>)>,
    },
    /// A higher nice value for a member that competes with the busiest one.
    Nice {
        /// Index of the member.
        member: usize,
        /// By so much.
        by: i32,
    },
}

/// What CPUs are assigned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Writer and reader of a pipe on one CPU.
    SameCpu,
    /// Writer and reader of a pipe on two cores that share their last-level cache.
    DifferentCores,
    /// Writer and reader of a pipe on cores that do not share their last-level cache.
    DifferentCaches,
    /// Every member on a CPU of its own.
    Spread,
    /// The busiest member on a CPU that the others leave to it.
    Alone,
}

/// What was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotTried {
    /// The treatment.
    pub what: String,
    /// Why it can't matter, or can't be done.
    pub why: String,
}

/// What to try, likeliest first, and what not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To try.
    pub treatments: Vec<Treatment>,
    /// Not to try.
    pub not_tried: Vec<NotTried>,
}

/// Below this share of the looks a pipe was never full, or never empty: what could be gained would
/// be within the margin of "no effect".
const SELDOM: f64 = 0.02;

/// Fewer looks than this tell no share as small as [`SELDOM`].
const ENOUGH_LOOKS: u64 = 100;

/// At 5 to 50 µs a wake-up from CPU to CPU, fewer than this cost 0.5 to 5 % of the time.
const WAKES_PER_SECOND: f64 = 1000.0;

/// Waiting for a CPU that is worth an experiment, in CPUs.
const MISSED: f64 = 0.05;

/// How much higher a competitor's nice value becomes: a weight of about a tenth.
const NICE_BY: i32 = 10;

/// What to try.
pub fn plan(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    for pipe in 0..seen.pipes.len() {
        capacities(seen, pipe, &mut plan);
    }
    for pipe in 0..seen.pipes.len() {
        same_cpu(seen, pipe, &mut plan);
    }
    if seen.cpus.len() < 2 {
        plan.leave("members on different CPUs", "this process may use one CPU only");
        return plan;
    }
    for pipe in 0..seen.pipes.len() {
        different_cpus(seen, pipe, &mut plan);
    }
    spread(seen, &mut plan);
    busiest_first(seen, &mut plan);
    plan
}

impl Plan {
    fn leave(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_tried.push(NotTried { what: what.into(), why: why.into() });
    }

    fn try_cpus(&mut self, why: Placement, members: Vec<(usize, Vec<usize>)>) {
        let known = self.treatments.iter().any(|known| match known {
            Treatment::Cpus { members: known, .. } => *known == members,
            _ => false,
        });
        if !known {
            self.treatments.push(Treatment::Cpus { why, members });
        }
    }
}

impl Seen {
    /// `yes → gzip`.
    pub fn pipe_name(&self, pipe: usize) -> String {
        let name = |at: usize| self.members.get(at).map_or("?", |member| member.name.as_str());
        let pipe = &self.pipes[pipe];
        format!("{} → {}", name(pipe.writer), name(pipe.reader))
    }

    /// What a treatment is, in a few words.
    pub fn name(&self, treatment: &Treatment) -> String {
        match treatment {
            Treatment::Capacity { pipe, bytes } => {
                format!("pipe {}: {}", self.pipe_name(*pipe), size::exact(*bytes))
            }
            Treatment::Cpus { why, members } => {
                let names: Vec<String> = members
                    .iter()
                    .map(|(at, cpus)| {
                        let word = if cpus.len() == 1 { "CPU" } else { "CPUs" };
                        format!("{} on {word} {}", self.members[*at].name, cpus_text(cpus))
                    })
                    .collect();
                match (why, &members[..]) {
                    (Placement::SameCpu, [(a, cpus), (b, _)]) => format!(
                        "{} and {} both on CPU {}",
                        self.members[*a].name,
                        self.members[*b].name,
                        cpus_text(cpus)
                    ),
                    _ => names.join(", "),
                }
            }
            Treatment::Nice { member, by } => {
                format!("{}: nice value {by} higher", self.members[*member].name)
            }
        }
    }

    /// The member that uses most of one CPU.
    fn busiest(&self) -> Option<usize> {
        let used = |at: &usize| self.members[*at].cpus_used + self.members[*at].cpus_missed;
        (0..self.members.len()).max_by(|a, b| used(a).total_cmp(&used(b)))
    }

    /// All CPUs that both members may use.
    fn shared_cpus(&self, a: usize, b: usize) -> Vec<&CpuPlace> {
        let may = |at: usize, cpu| self.members[at].allowed.contains(&cpu);
        self.cpus.iter().filter(|place| may(a, place.cpu) && may(b, place.cpu)).collect()
    }
}

fn capacities(seen: &Seen, at: usize, plan: &mut Plan) {
    let pipe = &seen.pipes[at];
    let what = format!("larger pipe {}", seen.pipe_name(at));
    let Some(capacity) = pipe.capacity_bytes else {
        return plan.leave(what, "it may not be opened: a named FIFO, or another user's");
    };
    if pipe.looks >= ENOUGH_LOOKS {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        if pipe.empty < SELDOM {
            let why = format!(
                "no effect possible: never empty (full {} of the time), so its reader never waits",
                percent(pipe.full)
            );
            return plan.leave(what, why);
        }
        if pipe.full < SELDOM {
            let why = format!(
                "no effect possible: never full (empty {} of the time), so its writer never waits",
                percent(pipe.empty)
            );
            return plan.leave(what, why);
        }
    }
    let most = seen.limits.map_or(u64::MAX, |limits| limits.most_bytes);
    let mut tried = 0;
    for factor in [4, 16] {
        let bytes = capacity.saturating_mul(factor).min(most);
        let known = plan.treatments.iter().any(|known| {
            matches!(known, Treatment::Capacity { pipe, bytes: b } if *pipe == at && *b == bytes)
        });
        if bytes > capacity && !known {
            plan.treatments.push(Treatment::Capacity { pipe: at, bytes });
            tried += 1;
        }
    }
    if tried == 0 {
        let why =
            format!("it holds {}, and fs.pipe-max-size allows no more", size::exact(capacity));
        plan.leave(what, why);
    }
}

fn same_cpu(seen: &Seen, at: usize, plan: &mut Plan) {
    let SeenPipe { writer, reader, .. } = seen.pipes[at];
    if writer == reader {
        return;
    }
    let names = seen.pipe_name(at);
    let sleeps = seen.members[writer].sleeps_per_second + seen.members[reader].sleeps_per_second;
    let what = format!("{names} on one CPU");
    if sleeps < WAKES_PER_SECOND {
        let why = format!("no effect possible: its ends sleep only {sleeps:.0} times a second");
        return plan.leave(what, why);
    }
    match seen.shared_cpus(writer, reader).first() {
        Some(place) => {
            let cpus = vec![place.cpu];
            plan.try_cpus(Placement::SameCpu, vec![(writer, cpus.clone()), (reader, cpus)]);
        }
        None => plan.leave(what, "there is no CPU that both may use"),
    }
}

fn different_cpus(seen: &Seen, at: usize, plan: &mut Plan) {
    let SeenPipe { writer, reader, .. } = seen.pipes[at];
    let together = seen.members[writer].cpus_used + seen.members[reader].cpus_used;
    let missed = seen.members[writer].cpus_missed + seen.members[reader].cpus_missed;
    let what = format!("{} on different CPUs", seen.pipe_name(at));
    if writer == reader {
        return;
    }
    if missed < MISSED && together < 1.0 {
        let why = format!(
            "no effect possible: they use {together:.1} CPUs together and do not wait for one"
        );
        return plan.leave(what, why);
    }
    let shared = seen.shared_cpus(writer, reader);
    let Some((first, rest)) = shared.split_first() else {
        return plan.leave(what, "there is no CPU that both may use");
    };
    let same_cache = |other: &CpuPlace| other.last_level_cache == first.last_level_cache;
    let other_core = |other: &&&CpuPlace| other.core != first.core;
    let near = rest.iter().filter(other_core).find(|other| same_cache(other));
    let far = rest.iter().filter(other_core).find(|other| !same_cache(other));
    let place = |other: &CpuPlace| vec![(writer, vec![first.cpu]), (reader, vec![other.cpu])];
    if let Some(near) = near {
        plan.try_cpus(Placement::DifferentCores, place(near));
    }
    if let Some(far) = far {
        plan.try_cpus(Placement::DifferentCaches, place(far));
    }
    if near.or(far).is_none() {
        plan.leave(what, "all CPUs that both may use are threads of one core");
    }
}

fn spread(seen: &Seen, plan: &mut Plan) {
    let members = seen.members.len();
    if members < 3 {
        return;
    }
    let missed: f64 = seen.members.iter().map(|member| member.cpus_missed).sum();
    let what = "every member on a CPU of its own";
    if members > seen.cpus.len() {
        return plan.leave(what, format!("{members} members, {} CPUs", seen.cpus.len()));
    }
    if missed < MISSED {
        return plan.leave(what, "no effect possible: members do not wait for a CPU");
    }
    let placed = (0..members).map(|at| (at, vec![seen.cpus[at].cpu])).collect();
    plan.try_cpus(Placement::Spread, placed);
}

fn busiest_first(seen: &Seen, plan: &mut Plan) {
    let Some(busiest) = seen.busiest() else { return };
    let name = &seen.members[busiest].name;
    let what = format!("{name} alone on a CPU");
    let missed = seen.members[busiest].cpus_missed;
    if missed < MISSED {
        let why = format!(
            "no effect possible: {name} waits for a CPU {:.0} % of the time",
            100.0 * missed
        );
        return plan.leave(what, why);
    }
    if seen.members.len() > 1 && seen.members[busiest].cpus_used < 1.05 {
        let own = seen.cpus[0].cpu;
        let others: Vec<usize> = seen.cpus[1..].iter().map(|place| place.cpu).collect();
        let placed = |at| if at == busiest { vec![own] } else { others.clone() };
        let members = (0..seen.members.len()).map(|at| (at, placed(at))).collect();
        plan.try_cpus(Placement::Alone, members);
    }
    let rivals = (0..seen.members.len()).filter(|&at| at != busiest);
    let rival =
        rivals.max_by(|&a, &b| seen.members[a].cpus_used.total_cmp(&seen.members[b].cpus_used));
    let Some(rival) = rival.filter(|&at| seen.members[at].cpus_used >= MISSED) else { return };
    if seen.may_renice {
        plan.treatments.push(Treatment::Nice { member: rival, by: NICE_BY });
    } else {
        plan.leave(
            format!("nice {}", seen.members[rival].name),
            "a nice value that was raised can't be lowered again without CAP_SYS_NICE",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(n: usize) -> Vec<CpuPlace> {
        let place = |cpu| CpuPlace { cpu, core: (0, cpu as i64), last_level_cache: "0-7".into() };
        (0..n).map(place).collect()
    }

    fn member(name: &str, used: f64, missed: f64, sleeps: f64) -> SeenMember {
        SeenMember {
            name: name.into(),
            cpus_used: used,
            cpus_missed: missed,
            sleeps_per_second: sleeps,
            allowed: vec![0, 1],
        }
    }

    fn pipe(full: f64, empty: f64) -> SeenPipe {
        SeenPipe { writer: 0, reader: 1, capacity_bytes: Some(65_536), looks: 200, empty, full }
    }

    fn seen(members: Vec<SeenMember>, pipes: Vec<SeenPipe>) -> Seen {
        let limits = Some(PipeLimits { most_bytes: 1 << 20, user_bytes: None });
        Seen { members, pipes, cpus: cpus(2), limits, may_renice: true }
    }

    fn names(seen: &Seen) -> Vec<String> {
        plan(seen).treatments.iter().map(|treatment| seen.name(treatment)).collect()
    }

    #[test]
    fn a_pair_that_takes_turns_gets_larger_pipes_and_one_cpu() {
        let pair = vec![member("a", 0.7, 0.0, 9_000.0), member("b", 0.6, 0.0, 9_000.0)];
        assert_eq!(
            names(&seen(pair, vec![pipe(0.3, 0.2)])),
            [
                "pipe a → b: 256KiB",
                "pipe a → b: 1MiB",
                "a and b both on CPU 0",
                "a on CPU 0, b on CPU 1",
            ]
        );
    }

    #[test]
    fn what_cannot_matter_is_named_and_not_tried() {
        let members = vec![member("yes", 0.1, 0.0, 300.0), member("gzip", 0.8, 0.0, 300.0)];
        let seen = seen(members, vec![pipe(0.97, 0.0)]);
        let plan = plan(&seen);
        assert_eq!(plan.treatments, []);
        let why: Vec<&str> = plan.not_tried.iter().map(|not| not.why.as_str()).collect();
        assert!(why[0].contains("never empty (full 97 % of the time)"), "{why:?}");
        assert!(why.iter().all(|why| why.contains("no effect possible")), "{why:?}");
    }

    #[test]
    fn a_crowded_machine_is_shared_out() {
        let members = vec![
            member("a", 0.4, 0.1, 100.0),
            member("b", 0.9, 0.3, 100.0),
            member("c", 0.5, 0.2, 100.0),
        ];
        let pipes = vec![pipe(0.9, 0.0), SeenPipe { writer: 1, reader: 2, ..pipe(0.0, 0.9) }];
        let tried = names(&seen(members, pipes));
        assert!(tried.contains(&"a on CPU 1, b on CPU 0, c on CPU 1".to_owned()), "{tried:?}");
        assert!(tried.contains(&"c: nice value 10 higher".to_owned()), "{tried:?}");
    }

    #[test]
    fn capacities_stay_within_what_is_allowed() {
        let pair = || vec![member("a", 0.1, 0.0, 0.0), member("b", 0.1, 0.0, 0.0)];
        let mut tight = seen(pair(), vec![pipe(0.3, 0.3)]);
        tight.limits = Some(PipeLimits { most_bytes: 131_072, user_bytes: None });
        assert_eq!(names(&tight), ["pipe a → b: 128KiB"]);
        tight.limits = Some(PipeLimits { most_bytes: 65_536, user_bytes: None });
        assert!(plan(&tight).not_tried[0].why.contains("fs.pipe-max-size"), "{:?}", plan(&tight));
    }
}
