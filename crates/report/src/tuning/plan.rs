//! Which changes can matter to a pipeline, in which order, and why the others are not tried.
//!
//! The order comes from the blame (`facts/blame.rs`): who or what limited the pipeline, and for
//! which share of the time. A change can save at most the share of the thing that it affects, and
//! the changes that can save most are tried first.
//!
//! - *Capacity* smooths turns. It can save the time in which the two ends wake each other up, and
//!   what the less limiting side of the pipe limits: were the pipe endless, the other side alone
//!   would set the pace. A pipe that was never full, or never empty, has one side that never waits.
//! - *Both ends on one CPU* makes wake-ups cheap. It can save their time, and what they cost an end
//!   that limits.
//! - *Ends on different CPUs*, *members spread* and *one member alone* save a limiting member's
//!   waiting for a CPU.
//! - *Nice* makes room for the limiting member where another one competes with it for a CPU.

use serde::Serialize;

use pipeprof_runner::size;
use pipeprof_runner::tuning::CpuPlace;

use super::observed::{ENOUGH_LOOKS, Observed, ObservedPipe, SELDOM, percent};
use super::treatment::{Placement, Treatment};

/// What was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotTried {
    /// The treatment.
    pub what: String,
    /// Why it can't matter, or can't be done.
    pub why: String,
}

/// A treatment that can matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What to do.
    pub treatment: Treatment,
    /// Share of the time that it works on, 0 to 1: it can save no more. `None` where that is not
    /// known.
    pub share: Option<f64>,
}

/// What to try, what can save most first, and what not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To try.
    pub treatments: Vec<Planned>,
    /// Not to try.
    pub not_tried: Vec<NotTried>,
}

/// At 5 to 50 µs a wake-up from CPU to CPU, fewer than this cost 0.5 to 5 % of the time.
const WAKES_PER_SECOND: f64 = 1000.0;

/// Waiting for a CPU that is worth an experiment, in CPUs.
const MISSED: f64 = 0.05;

/// How much higher a competitor's nice value becomes: a weight of about a tenth.
const NICE_BY: i32 = 10;

/// A wake-up from CPU to CPU costs no more than this, in seconds.
const WAKE_UP_S: f64 = 50e-6;

/// What to try.
pub fn plan(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    for pipe in 0..observed.pipes.len() {
        capacities(observed, pipe, &mut plan);
    }
    for pipe in 0..observed.pipes.len() {
        same_cpu(observed, pipe, &mut plan);
    }
    if observed.cpus.len() < 2 {
        plan.leave("members on different CPUs", "this process may use one CPU only");
    } else {
        for pipe in 0..observed.pipes.len() {
            different_cpus(observed, pipe, &mut plan);
        }
        spread(observed, &mut plan);
        limiting_first(observed, &mut plan);
    }
    let share = |planned: &Planned| planned.share.unwrap_or(0.0);
    plan.treatments.sort_by(|a, b| share(b).total_cmp(&share(a)));
    plan
}

impl Plan {
    fn leave(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_tried.push(NotTried { what: what.into(), why: why.into() });
    }

    fn try_it(&mut self, treatment: Treatment, share: Option<f64>) {
        self.treatments.push(Planned { treatment, share });
    }

    fn try_cpus(&mut self, why: Placement, members: Vec<(usize, Vec<usize>)>, share: Option<f64>) {
        let known = self.treatments.iter().any(|known| match &known.treatment {
            Treatment::Cpus { members: known, .. } => *known == members,
            _ => false,
        });
        if !known {
            self.try_it(Treatment::Cpus { why, members }, share);
        }
    }
}

fn capacities(observed: &Observed, at: usize, plan: &mut Plan) {
    let pipe = &observed.pipes[at];
    let what = format!("larger pipe {}", observed.pipe_name(at));
    let Some(capacity) = pipe.capacity_bytes else {
        return plan
            .leave(what, "pipeprof cannot open it: a named FIFO, or a pipe of another user");
    };
    let sides = observed.sides(at);
    let share = sides.as_ref().map(|sides| sides.wake_ups + sides.before.min(sides.behind));
    // A pipe that is always full could not be made smaller again, so this holds with --all, too.
    if pipe.looks >= ENOUGH_LOOKS && pipe.empty < SELDOM {
        let why = format!(
            "no effect possible: never empty (full {}), so its reader never waits",
            percent(pipe.full)
        );
        return plan.leave(what, why);
    }
    if !observed.all && pipe.looks >= ENOUGH_LOOKS && pipe.full < SELDOM {
        let why = format!(
            "no effect possible: never full (empty {}), so its writer never waits",
            percent(pipe.empty)
        );
        return plan.leave(what, why);
    }
    if let (false, Some(sides), Some(share)) = (observed.all, &sides, share)
        && share < SELDOM
    {
        let (less, more) = match sides.before < sides.behind {
            true => ("before", "behind"),
            false => ("behind", "before"),
        };
        let why = format!(
            "no effect possible: members {more} it limit {}, those {less} it {}",
            percent(sides.before.max(sides.behind)),
            percent(sides.before.min(sides.behind))
        );
        return plan.leave(what, why);
    }
    let most = observed.limits.map_or(u64::MAX, |limits| limits.most_bytes);
    let mut sizes: Vec<u64> =
        [4, 16].map(|factor| capacity.saturating_mul(factor).min(most)).to_vec();
    sizes.dedup();
    sizes.retain(|&bytes| bytes > capacity);
    if sizes.is_empty() {
        let why =
            format!("it holds {}, and fs.pipe-max-size allows no more", size::exact(capacity));
        plan.leave(what, why);
    }
    for bytes in sizes {
        plan.try_it(Treatment::Capacity { pipe: at, bytes }, share);
    }
}

fn same_cpu(observed: &Observed, at: usize, plan: &mut Plan) {
    let ObservedPipe { writer, reader, .. } = observed.pipes[at];
    if writer == reader {
        return;
    }
    let names = observed.pipe_name(at);
    let sleeps =
        observed.members[writer].sleeps_per_second + observed.members[reader].sleeps_per_second;
    let what = format!("{names} on one CPU");
    if !observed.all && sleeps < WAKES_PER_SECOND {
        let why = format!("no effect possible: its ends sleep only {sleeps:.0} times a second");
        return plan.leave(what, why);
    }
    let sides = observed.sides(at);
    let share = sides.map(|sides| sides.wake_ups + sides.ends.min(sleeps * WAKE_UP_S));
    if !observed.all && share.is_some_and(|share| share < SELDOM) {
        return plan.leave(what, "no effect possible: neither of them limits the pipeline");
    }
    match observed.shared_cpus(writer, reader).first() {
        Some(place) => {
            let cpus = vec![place.cpu];
            let members = vec![(writer, cpus.clone()), (reader, cpus)];
            plan.try_cpus(Placement::SameCpu, members, share);
        }
        None => plan.leave(what, "there is no CPU that both may use"),
    }
}

fn different_cpus(observed: &Observed, at: usize, plan: &mut Plan) {
    let ObservedPipe { writer, reader, .. } = observed.pipes[at];
    let together = observed.members[writer].cpus_used + observed.members[reader].cpus_used;
    let missed = observed.members[writer].cpus_missed + observed.members[reader].cpus_missed;
    let sleeps =
        observed.members[writer].sleeps_per_second + observed.members[reader].sleeps_per_second;
    let what = format!("{} on different CPUs", observed.pipe_name(at));
    if writer == reader {
        return;
    }
    // The scheduler puts woken threads on different CPUs.
    let moves_about = together >= 1.0 && sleeps >= WAKES_PER_SECOND;
    if !observed.all && missed < MISSED && !moves_about {
        let why = format!(
            "no effect possible: they use {together:.1} CPUs together and do not wait for one"
        );
        return plan.leave(what, why);
    }
    let sides = observed.sides(at);
    let share = sides.map(|sides| {
        let moving = if moves_about { sides.ends.min(sleeps * WAKE_UP_S) } else { 0.0 };
        sides.no_cpu + moving
    });
    if !observed.all && share.is_some_and(|share| share < SELDOM) {
        return plan
            .leave(what, "no effect possible: waiting for a CPU does not limit the pipeline");
    }
    let shared = observed.shared_cpus(writer, reader);
    let Some((first, rest)) = shared.split_first() else {
        return plan.leave(what, "there is no CPU that both may use");
    };
    let same_cache = |other: &CpuPlace| other.last_level_cache == first.last_level_cache;
    let other_core = |other: &&&CpuPlace| other.core != first.core;
    let near = rest.iter().filter(other_core).find(|other| same_cache(other));
    let far = rest.iter().filter(other_core).find(|other| !same_cache(other));
    let place = |other: &CpuPlace| vec![(writer, vec![first.cpu]), (reader, vec![other.cpu])];
    if let Some(near) = near {
        plan.try_cpus(Placement::DifferentCores, place(near), share);
    }
    if let Some(far) = far {
        plan.try_cpus(Placement::DifferentCaches, place(far), share);
    }
    if near.or(far).is_none() {
        plan.leave(what, "all CPUs that both may use are threads of one core");
    }
}

fn spread(observed: &Observed, plan: &mut Plan) {
    let members = observed.members.len();
    if members < 3 {
        return;
    }
    let missed: f64 = observed.members.iter().map(|member| member.cpus_missed).sum();
    let what = "every member on a CPU of its own";
    if members > observed.cpus.len() {
        return plan.leave(what, format!("{members} members, {} CPUs", observed.cpus.len()));
    }
    if !observed.all && missed < MISSED {
        return plan.leave(what, "no effect possible: members do not wait for a CPU");
    }
    let share = observed.blame.as_ref().map(|blame| blame.no_cpu.iter().sum::<f64>());
    if !observed.all && share.is_some_and(|share| share < SELDOM) {
        return plan
            .leave(what, "no effect possible: waiting for a CPU does not limit the pipeline");
    }
    let may = |at: usize, cpu: usize| observed.members[at].allowed.contains(&cpu);
    if !(0..members).all(|at| may(at, observed.cpus[at].cpu)) {
        return plan.leave(what, "some members may not use every CPU");
    }
    let placed = (0..members).map(|at| (at, vec![observed.cpus[at].cpu])).collect();
    plan.try_cpus(Placement::Spread, placed, share);
}

fn limiting_first(observed: &Observed, plan: &mut Plan) {
    let Some(limiting) = observed.limiting() else { return };
    let name = &observed.members[limiting].name;
    let what = format!("{name} alone on a CPU");
    let missed = observed.members[limiting].cpus_missed;
    let share = observed.blame.as_ref().map(|blame| blame.no_cpu[limiting]);
    if !observed.all && (missed < MISSED || share.is_some_and(|share| share < SELDOM)) {
        let why =
            format!("no effect possible: {name} waits for a CPU only {}", percent(missed.min(1.0)));
        return plan.leave(what, why);
    }
    if observed.members.len() > 1 && observed.members[limiting].cpus_used < 1.05 {
        let own = observed.cpus[0].cpu;
        let others: Vec<usize> = observed.cpus[1..].iter().map(|place| place.cpu).collect();
        let placed = |at| if at == limiting { vec![own] } else { others.clone() };
        let may =
            |at: usize| placed(at).iter().any(|cpu| observed.members[at].allowed.contains(cpu));
        if (0..observed.members.len()).all(may) {
            let members = (0..observed.members.len()).map(|at| (at, placed(at))).collect();
            plan.try_cpus(Placement::Alone, members, share);
        } else {
            plan.leave(what, "some members may not use every CPU");
        }
    }
    let rivals = (0..observed.members.len()).filter(|&at| at != limiting);
    let rival = rivals
        .max_by(|&a, &b| observed.members[a].cpus_used.total_cmp(&observed.members[b].cpus_used));
    let Some(rival) = rival.filter(|&at| observed.members[at].cpus_used >= MISSED) else { return };
    if observed.may_renice {
        plan.try_it(Treatment::Nice { member: rival, by: NICE_BY }, share);
    } else {
        plan.leave(
            format!("nice {}", observed.members[rival].name),
            "a nice value that was raised can't be lowered again without CAP_SYS_NICE",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::observed::{ObservedBlame, ObservedMember};
    use super::*;
    use pipeprof_runner::tuning::PipeLimits;

    fn cpus(n: usize) -> Vec<CpuPlace> {
        let place = |cpu| CpuPlace { cpu, core: (0, cpu as i64), last_level_cache: "0-7".into() };
        (0..n).map(place).collect()
    }

    fn member(name: &str, used: f64, missed: f64, sleeps: f64) -> ObservedMember {
        ObservedMember {
            name: name.into(),
            cpus_used: used,
            cpus_missed: missed,
            sleeps_per_second: sleeps,
            allowed: vec![0, 1],
        }
    }

    fn pipe(full: f64, empty: f64) -> ObservedPipe {
        ObservedPipe { writer: 0, reader: 1, capacity_bytes: Some(65_536), looks: 200, empty, full }
    }

    fn observed(members: Vec<ObservedMember>, pipes: Vec<ObservedPipe>) -> Observed {
        let limits = Some(PipeLimits { most_bytes: 1 << 20, user_bytes: None });
        Observed { members, pipes, cpus: cpus(2), limits, may_renice: true, ..Observed::default() }
    }

    /// Shares by which members, and pipes by their wake-ups, limit.
    fn blamed(mut observed: Observed, busy: &[f64], wake_ups: &[f64]) -> Observed {
        let none = vec![0.0; busy.len()];
        observed.blame = Some(ObservedBlame {
            busy: busy.to_vec(),
            no_cpu: none.clone(),
            outside: none,
            wake_ups: wake_ups.to_vec(),
        });
        observed
    }

    fn names(observed: &Observed) -> Vec<String> {
        plan(observed).treatments.iter().map(|planned| observed.name(&planned.treatment)).collect()
    }

    #[test]
    fn a_pair_that_takes_turns_gets_larger_pipes_and_one_cpu() {
        let pair = vec![member("a", 0.7, 0.0, 9_000.0), member("b", 0.6, 0.0, 9_000.0)];
        assert_eq!(
            names(&observed(pair, vec![pipe(0.3, 0.2)])),
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
        let observed = observed(members, vec![pipe(0.97, 0.0)]);
        let plan = plan(&observed);
        assert_eq!(plan.treatments, []);
        let why: Vec<&str> = plan.not_tried.iter().map(|not| not.why.as_str()).collect();
        assert!(why[0].contains("never empty (full 97 % of the time)"), "{why:?}");
        assert!(why.iter().all(|why| why.contains("no effect possible")), "{why:?}");
    }

    #[test]
    fn the_order_is_that_of_the_time_that_could_be_saved() {
        let members = vec![
            member("a", 0.7, 0.0, 9_000.0),
            member("b", 0.6, 0.0, 9_000.0),
            member("c", 0.5, 0.0, 9_000.0),
        ];
        let pipes = vec![pipe(0.3, 0.2), ObservedPipe { writer: 1, reader: 2, ..pipe(0.3, 0.2) }];
        let observed = blamed(observed(members, pipes), &[0.05, 0.55, 0.4], &[0.0, 0.0]);
        let plan = plan(&observed);
        let shares: Vec<f64> = plan.treatments.iter().filter_map(|planned| planned.share).collect();
        assert!(shares.is_sorted_by(|a, b| a >= b) && shares.len() >= 6, "{plan:?}");
        // Between b and c, 40 % of the time can be saved; between a and b 5 %.
        let capacities: Vec<String> = names(&observed);
        let at = |name: &str| capacities.iter().position(|known| known == name).unwrap();
        assert!(at("pipe b → c: 256KiB") < at("pipe a → b: 256KiB"), "{capacities:?}");
        assert_eq!(
            observed.limit_text().unwrap(),
            "b is on a CPU, and limits the pipeline 55 % of the time"
        );
    }

    #[test]
    fn a_pipe_far_from_what_limits_is_not_tried() {
        // The first two take turns, but the third is what everybody waits for.
        let members = vec![
            member("a", 0.3, 0.0, 9_000.0),
            member("b", 0.3, 0.0, 300.0),
            member("gzip", 1.0, 0.0, 100.0),
        ];
        let pipes = vec![pipe(0.3, 0.2), ObservedPipe { writer: 1, reader: 2, ..pipe(0.97, 0.0) }];
        let mut observed = blamed(observed(members, pipes), &[0.0, 0.01, 0.99], &[0.0, 0.0]);
        assert_eq!(plan(&observed).treatments, []);
        let why = &plan(&observed).not_tried[0].why;
        assert_eq!(
            why,
            "no effect possible: members behind it limit 100 % of the time, those before it 0 % \
             of the time"
        );
        // All but what could not be taken back.
        observed.all = true;
        let tried = names(&observed);
        assert!(tried.contains(&"pipe a → b: 1MiB".to_owned()), "{tried:?}");
        assert!(!tried.iter().any(|name| name.starts_with("pipe b → gzip")), "{tried:?}");
    }

    #[test]
    fn a_crowded_machine_is_shared_out() {
        let members = vec![
            member("a", 0.4, 0.1, 100.0),
            member("b", 0.9, 0.3, 100.0),
            member("c", 0.5, 0.2, 100.0),
        ];
        let pipes = vec![pipe(0.9, 0.0), ObservedPipe { writer: 1, reader: 2, ..pipe(0.0, 0.9) }];
        let tried = names(&observed(members, pipes));
        assert!(tried.contains(&"a on CPU 1, b on CPU 0, c on CPU 1".to_owned()), "{tried:?}");
        assert!(tried.contains(&"c: nice value 10 higher".to_owned()), "{tried:?}");
    }

    #[test]
    fn capacities_stay_within_what_is_allowed() {
        let pair = || vec![member("a", 0.1, 0.0, 0.0), member("b", 0.1, 0.0, 0.0)];
        let mut tight = observed(pair(), vec![pipe(0.3, 0.3)]);
        tight.limits = Some(PipeLimits { most_bytes: 131_072, user_bytes: None });
        assert_eq!(names(&tight), ["pipe a → b: 128KiB"]);
        tight.limits = Some(PipeLimits { most_bytes: 65_536, user_bytes: None });
        assert!(plan(&tight).not_tried[0].why.contains("fs.pipe-max-size"), "{:?}", plan(&tight));
    }
}
