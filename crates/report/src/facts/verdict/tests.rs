use pipeprof_profiler::states::{GroupLimits, IoLimit, Pressure, Stalls};

use super::*;
use crate::facts::fixture;
use crate::facts::states::Actor;
use crate::roles::{Reason, Role};
use crate::verdict::PipeCause;
use crate::words;

/// A chain of members over time, a letter a member and moment: `B`usy, waits for `d`ata or `s`pace,
/// sleeps (`o`), waits for a dis`k`, was not there (`.`). Each moment is a span of 20 ms.
struct Case {
    moments: Vec<&'static str>,
    cpu: f64,
    run_delay: f64,
    roles: Vec<(Role, u64)>,
    bytes: Option<u64>,
    kernel_visible: bool,
    /// What is known of each member's threads and group.
    actor: Actor,
    limits: Option<GroupLimits>,
    pressure: Option<Pressure>,
    idle_cpus: Option<f64>,
}

impl Case {
    fn of(moments: Vec<&'static str>) -> Case {
        let roles = vec![(Role::User, 100)];
        let bytes = Some(1 << 30);
        Case {
            moments,
            cpu: 1.0,
            run_delay: 0.0,
            roles,
            bytes,
            kernel_visible: true,
            actor: Actor::default(),
            limits: None,
            pressure: None,
            idle_cpus: None,
        }
    }

    fn judged(&self) -> (Judged, crate::verdict::Verdict) {
        let members = self.moments[0].len();
        let pipeline = fixture::pipeline(members);
        let mut history = fixture::chain(&self.moments, self.cpu, self.run_delay);
        for (member, actor) in history.actors.iter_mut().enumerate() {
            *actor = Actor { member, ..self.actor.clone() };
        }
        (history.pressure, history.idle_cpus) = (self.pressure, self.idle_cpus);
        let mut evidence = fixture::evidence(members, history.elapsed_ns());
        for member in &mut evidence.members {
            member.roles.clone_from(&self.roles);
            member.limits.clone_from(&self.limits);
        }
        evidence.pipes.iter_mut().for_each(|pipe| pipe.bytes = self.bytes);
        evidence.kernel_visible = self.kernel_visible;
        let judged = judge(&evidence, &history, &pipeline).unwrap();
        let sum: f64 = judged.limits.iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 0.01, "shares add up to {sum}: {:?}", judged.limits);
        let verdict = words::verdict::verdict(&evidence, &judged);
        (judged, verdict)
    }
}

fn repeated(parts: &[(&'static str, usize)], times: usize) -> Vec<&'static str> {
    let once = parts.iter().flat_map(|&(letters, count)| std::iter::repeat_n(letters, count));
    let once: Vec<&str> = once.collect();
    std::iter::repeat_n(once, times).flatten().collect()
}

#[test]
fn the_busy_middle_limits_and_a_larger_pipe_buys_nothing() {
    let (judged, verdict) = Case::of(repeated(&[("sBd", 9), ("BBd", 1)], 20)).judged();
    assert_eq!((judged.finding, &judged.members[..]), (Finding::CpuBound, &[1][..]));
    assert_eq!(judged.confidence, Some(Confidence::High), "{:?}", judged.doubt);
    assert!(judged.share > 0.95);
    assert_eq!(judged.larger_pipe.pipe, None);
    // The first is busy a tenth of the time, which is what is left without the second.
    let next = judged.next.unwrap();
    assert_eq!(next.member, 0);
    assert!((next.bound - 10.0).abs() < 0.1, "{next:?}");
    assert!(verdict.remedies[1].buys.contains("negligible"), "{:?}", verdict.remedies);
    assert_eq!(judged.phases.len(), 1);
}

#[test]
fn ends_that_alternate_gain_what_working_at_the_same_time_yields() {
    // 200 ms each, by turns: together they need half of the time.
    let (judged, verdict) = Case::of(repeated(&[("Bd", 10), ("sB", 10)], 20)).judged();
    assert_eq!(judged.finding, Finding::PipeBound(PipeCause::TooSmall));
    assert!((judged.larger_pipe.bound - 2.0).abs() < 0.05, "{:?}", judged.larger_pipe);
    // 1 GiB in 20 rounds.
    let burst = judged.larger_pipe.burst_bytes.unwrap() / (1 << 20) as f64;
    assert!((40.0..70.0).contains(&burst), "{burst} MiB");
    assert!(verdict.remedies[0].what.contains("mbuffer"), "{:?}", verdict.remedies);
}

#[test]
fn a_member_that_works_much_longer_than_the_other_limits_though_they_alternate() {
    let (judged, _) = Case::of(repeated(&[("Bd", 2), ("sB", 8)], 20)).judged();
    assert_eq!((judged.finding, &judged.members[..]), (Finding::CpuBound, &[1][..]));
    assert!((judged.larger_pipe.bound - 1.25).abs() < 0.02, "{:?}", judged.larger_pipe);
}

#[test]
fn a_larger_pipe_is_proposed_only_for_more_than_the_error_of_the_looks() {
    let of = |rounds: usize| {
        let (judged, verdict) = Case::of(repeated(&[("Bd", 1), ("sB", 4)], rounds)).judged();
        let text = verdict.remedies.iter().find(|remedy| !remedy.buys.contains("next limit"));
        (judged.larger_pipe.is_shown(), text.unwrap().at_most)
    };
    // 40 looks: a fifth may as well be nothing. 800 looks: it is not.
    assert_eq!(of(2), (false, None));
    let (is_shown, bound) = of(40);
    assert!(is_shown && (bound.unwrap() - 1.25).abs() < 0.02, "{bound:?}");
}

#[test]
fn a_sleeper_limits_by_its_sleep() {
    let (judged, verdict) = Case::of(repeated(&[("so", 19), ("sB", 1)], 10)).judged();
    assert_eq!(judged.finding, Finding::Outside(Reason::Sleep));
    assert!(verdict.headline.contains("m1 (pid 101)"), "{}", verdict.headline);
    assert!(verdict.headline.contains("sleeps on a timer"), "{}", verdict.headline);
}

#[test]
fn members_without_a_cpu_are_limited_by_the_cpus() {
    let case = Case { cpu: 0.4, run_delay: 0.6, ..Case::of(repeated(&[("BBB", 1)], 100)) };
    let (judged, _) = case.judged();
    assert_eq!(judged.finding, Finding::Starved);
    assert!((judged.share - 0.6).abs() < 0.02);
}

#[test]
fn a_member_that_limits_is_named_though_it_waits_for_a_cpu_too() {
    let case = Case { cpu: 0.6, run_delay: 0.4, ..Case::of(repeated(&[("sBd", 1)], 100)) };
    let (judged, verdict) = case.judged();
    assert_eq!((judged.finding, &judged.members[..]), (Finding::CpuBound, &[1][..]));
    assert!(judged.share > 0.99, "{:?}", judged.limits);
    assert!(
        verdict.headline.contains("runnable 40 % of that: no CPU free"),
        "{}",
        verdict.headline
    );
}

#[test]
fn the_cpus_are_named_with_the_member_that_needs_one_most() {
    let case = Case { cpu: 0.3, run_delay: 0.7, ..Case::of(repeated(&[("sBd", 1)], 100)) };
    let (judged, verdict) = case.judged();
    assert_eq!((judged.finding, judged.members[0]), (Finding::Starved, 1));
    assert!(verdict.headline.contains("the CPUs"), "{}", verdict.headline);
    assert!(verdict.headline.contains("m1 (pid 101)"), "{}", verdict.headline);
}

#[test]
fn waits_for_a_cpu_beside_an_idle_one_are_not_the_cpus() {
    let case = |idle_cpus, cpus_allowed| Case {
        cpu: 0.3,
        run_delay: 0.7,
        idle_cpus,
        actor: Actor { cpus_allowed, ..Actor::default() },
        ..Case::of(repeated(&[("sBd", 1)], 100))
    };
    let (judged, verdict) = case(Some(0.8), Some(2)).judged();
    assert_eq!((judged.finding, &judged.members[..]), (Finding::CpuBound, &[1][..]));
    assert!(verdict.headline.contains("not yet scheduled"), "{}", verdict.headline);
    assert_eq!(case(Some(0.1), Some(2)).judged().0.finding, Finding::Starved);
    // The idle one is not theirs.
    assert_eq!(case(Some(0.8), Some(1)).judged().0.finding, Finding::Starved);
}

#[test]
fn a_quota_is_told_from_busy_cpus() {
    let quota = Some((0.3, 1_400_000_000));
    let case = |cpu, run_delay| Case {
        cpu,
        run_delay,
        actor: Actor { quota, ..Actor::default() },
        ..Case::of(repeated(&[("sBd", 1)], 100))
    };
    let (judged, verdict) = case(0.3, 0.7).judged();
    assert_eq!((judged.finding, judged.members[0]), (Finding::Starved, 1));
    assert!(verdict.headline.contains("CPU quota of m1"), "{}", verdict.headline);
    assert!(verdict.headline.contains("0.3 CPUs"), "{}", verdict.headline);
    assert!(verdict.remedies[0].what.contains("cpu.max"), "{:?}", verdict.remedies);
    // Where it is busy for longer than it is throttled, both are told.
    let (judged, verdict) = case(0.7, 0.3).judged();
    assert_eq!((judged.finding, &judged.members[..]), (Finding::CpuBound, &[1][..]));
    assert!(
        verdict.headline.contains("quota of 0.3 CPUs held it back 30 %"),
        "{}",
        verdict.headline
    );
}

#[test]
fn threads_that_run_one_at_a_time_are_told() {
    let actor = Actor {
        threads: 3,
        busiest_thread: (900_000_000, None),
        second_thread_ns: 800_000_000,
        ..Actor::default()
    };
    let case = Case { actor, ..Case::of(repeated(&[("sBd", 1)], 100)) };
    let (_, verdict) = case.judged();
    assert!(
        verdict.headline.contains("only one of its 3 threads runs at a time"),
        "{}",
        verdict.headline
    );
}

#[test]
fn memory_pressure_is_told() {
    let pressure = Some(Pressure { memory_some_ns: 600_000_000, memory_full_ns: 0 });
    let case = Case { pressure, ..Case::of(repeated(&[("sBd", 1)], 100)) };
    let (_, verdict) = case.judged();
    let lines = words::evidence::lines(&verdict);
    assert!(lines.iter().any(|line| line.what.contains("waited for memory 30 %")), "{lines:?}");
}

#[test]
fn a_limit_of_the_control_group_explains_the_wait_for_the_disk() {
    let limit = IoLimit {
        device: "8:16".into(),
        read_bytes_per_second: Some(10 << 20),
        ..IoLimit::default()
    };
    let stalled = Some(Stalls { watched_ns: 100, cpu_ns: 0, memory_ns: 0, io_ns: 83 });
    let limits = Some(GroupLimits { io: vec![limit], stalled, ..GroupLimits::default() });
    let case = Case { limits, ..Case::of(repeated(&[("kd", 9), ("Bd", 1)], 20)) };
    let (judged, verdict) = case.judged();
    assert_eq!((judged.finding, &judged.members[..]), (Finding::Outside(Reason::Disk), &[0][..]));
    insta::assert_snapshot!(verdict.headline, @"bottleneck: m0 (pid 100), 100 % of the time: it waits for a disk; its control group may read 10 MiB/s on device 8:16 (io.max), and some of its tasks waited for the disk 83 % of the time");
    assert_eq!(verdict.remedies[0].what, "raise io.max of its control group");
    // The same wait without a limit.
    let (_, plain) = Case { limits: None, ..case }.judged();
    assert!(plain.headline.ends_with("it waits for a disk"), "{}", plain.headline);
    assert!(plain.remedies[0].what.contains("a faster disk"), "{:?}", plain.remedies);
}

#[test]
fn work_of_the_pipe_is_the_pipes_share() {
    let roles = vec![(Role::User, 20), (Role::CopyIn, 50), (Role::Wakeup, 30)];
    let case = Case { roles, ..Case::of(repeated(&[("BB", 1)], 100)) };
    let (judged, _) = case.judged();
    assert_eq!(judged.finding, Finding::PipeBound(PipeCause::Copies), "{:?}", judged.limits);
    assert!((judged.share - 0.8).abs() < 0.02);
}

#[test]
fn two_that_never_wait_limit_alike() {
    let (judged, _) = Case::of(repeated(&[("BBd", 1)], 100)).judged();
    assert_eq!((judged.finding, judged.members.len()), (Finding::Balanced, 2));
}

#[test]
fn phases_name_who_limits_each() {
    let moments = repeated(&[("sBd", 100)], 1).into_iter().chain(repeated(&[("..B", 60)], 1));
    let (judged, verdict) = Case::of(moments.collect()).judged();
    let phases: Vec<(u64, Limiter)> =
        judged.phases.iter().map(|phase| (phase.until_ns / 1_000_000, phase.limiter)).collect();
    assert_eq!(phases, [(2000, Limiter::Member(1)), (3200, Limiter::Member(2))]);
    let lines = words::evidence::lines(&verdict);
    assert!(lines[0].what.starts_with("phase 1, 0 ns to 2.00 s"), "{lines:?}");
    // Without m1 the first phase takes no time, and m2 still needs all of the second.
    assert!((judged.next.unwrap().bound - 3.2 / 1.2).abs() < 0.05, "{:?}", judged.next);
}

#[test]
fn a_pipeline_in_which_nothing_moves_is_idle() {
    let case = Case { bytes: Some(0), ..Case::of(repeated(&[("od", 1)], 100)) };
    let (judged, verdict) = case.judged();
    assert_eq!(judged.finding, Finding::Idle);
    assert!(verdict.headline.starts_with("nothing flows"), "{}", verdict.headline);
    assert_eq!(verdict.confidence, None);
}

#[test]
fn looks_alone_are_of_medium_confidence_and_say_what_would_help() {
    let case = Case { kernel_visible: false, ..Case::of(repeated(&[("sBd", 1)], 100)) };
    let (judged, verdict) = case.judged();
    assert_eq!(judged.finding, Finding::CpuBound);
    assert_eq!(judged.confidence, Some(Confidence::Medium));
    assert!(verdict.doubt.unwrap().contains("pipeprof doctor"));
}

#[test]
fn too_few_looks_and_waits_that_nobody_explains_give_no_verdict() {
    let (judged, verdict) = Case::of(repeated(&[("sBd", 1)], 2)).judged();
    assert!(matches!(judged.unclear, Some(Unclear::TooShort(_))));
    assert!(verdict.headline.starts_with("no verdict"), "{}", verdict.headline);
    let (judged, _) = Case::of(repeated(&[("ds", 1)], 100).iter().map(|_| ".d").collect()).judged();
    assert_eq!(judged.finding, Finding::Unclear);
}
