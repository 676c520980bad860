//! Verdicts by tables of evidence.

#![allow(clippy::unwrap_used)]

use pipeprof_runner::pipeline::Link;

use super::*;
use crate::roles::Role;
use crate::verdict::{PipeCause, PipeEvidence, Verdict, WakeLatency};
use crate::words::evidence::lines;
use crate::words::verdict::verdict;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// A member of a chain, `at` of `count`, that lived a second: its milliseconds on CPU, runnable, and
/// asleep.
fn member(
    at: usize,
    count: usize,
    cpu: u64,
    runnable: u64,
    blocked: &[(Reason, u64)],
) -> MemberEvidence {
    MemberEvidence {
        pid: 100 + at as i32,
        label: format!("m{at}"),
        lifetime_ns: SECOND,
        on_cpu_ns: cpu * MS,
        runnable_ns: runnable * MS,
        blocked: blocked.iter().map(|&(reason, ms)| (reason, ms * MS)).collect(),
        roles: vec![(Role::User, cpu * MS)],
        sleeps: 1000,
        reads_from: if at > 0 { vec![at - 1] } else { Vec::new() },
        writes_to: if at + 1 < count { vec![at] } else { Vec::new() },
        connection: None,
        host: None,
        limits: None,
    }
}

fn pipe(at: usize, full: f64, empty: f64) -> PipeEvidence {
    PipeEvidence {
        link: Link::Pipe,
        device: 1,
        inode: 1000 + at as u64,
        full: Some(full),
        empty: Some(empty),
        capacity_bytes: Some(65536),
        bytes: None,
        bytes_per_write: Some(65536.0),
        bytes_per_read: Some(65536.0),
        latency: None,
        between: None,
    }
}

fn evidence(members: Vec<MemberEvidence>, pipes: Vec<PipeEvidence>) -> Evidence {
    Evidence {
        is_phase: false,
        members,
        pipes,
        elapsed_ns: SECOND,
        cpus: 2,
        samples: 1000,
        foreign_samples: 0,
        lost: 0,
        kernel_visible: true,
    }
}

use Reason::{Disk, Futex, Network, Poll, Sleep, Unknown, WaitData, WaitSpace};

/// `zcat | sort | uniq` of the issue.
fn sorting() -> Evidence {
    let mut evidence = evidence(
        vec![
            member(0, 3, 270, 20, &[(WaitSpace, 710)]),
            member(1, 3, 970, 10, &[(WaitData, 20)]),
            member(2, 3, 30, 10, &[(WaitData, 960)]),
        ],
        vec![pipe(0, 0.93, 0.02), pipe(1, 0.0, 0.99)],
    );
    for (member, name) in evidence.members.iter_mut().zip(["zcat", "sort", "uniq"]) {
        member.label = name.into();
    }
    evidence.members[0].roles = vec![(Role::User, 245 * MS), (Role::CopyIn, 25 * MS)];
    evidence
}

fn judge(evidence: &Evidence) -> Verdict {
    verdict(evidence, &super::judge(evidence))
}

fn text(verdict: &Verdict) -> String {
    let remedies = verdict.remedies.iter().map(|r| format!("try: {}; {}", r.what, r.buys));
    let facts = lines(verdict).into_iter().map(|line| [line.who, line.what, line.pipe].join(" | "));
    let lines = [verdict.headline.clone()].into_iter().chain(facts);
    lines.chain(remedies).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_paragraph() {
    let verdict = judge(&sorting());
    assert_eq!(verdict.confidence, Some(Confidence::High));
    insta::assert_snapshot!(text(&verdict), @r"
    bottleneck: sort (pid 101), 98 % of the time: busy 98 % of its life
    zcat | waits for space 71 % | pipe:[1000] full 93 %
    uniq | waits for data 96 % | pipe:[1001] empty 99 %
     | pipe code: 2.0 % of all CPU time (copy 2.0 %) | 
    try: reduce the CPU time of sort, or spread it over more CPUs; next limit: zcat (pid 100), busy 29 % of the time: at most 3.4× faster
    try: a larger pipe; negligible: no writer and reader alternate
    ");
}

#[test]
fn one_member_in_the_way() {
    for (name, members, pipes, who, finding) in [
        (
            "the first computes",
            vec![member(0, 2, 990, 0, &[(WaitSpace, 10)]), member(1, 2, 50, 0, &[(WaitData, 950)])],
            vec![pipe(0, 0.0, 1.0)],
            100,
            Finding::CpuBound,
        ),
        (
            "the last waits for a disk",
            vec![
                member(0, 2, 50, 0, &[(WaitSpace, 950)]),
                member(1, 2, 100, 0, &[(Disk, 880), (WaitData, 20)]),
            ],
            vec![pipe(0, 1.0, 0.0)],
            101,
            Finding::Outside(Disk),
        ),
        (
            "the first waits for the network",
            vec![member(0, 2, 50, 0, &[(Network, 950)]), member(1, 2, 50, 0, &[(WaitData, 950)])],
            vec![pipe(0, 0.0, 1.0)],
            100,
            Finding::Outside(Network),
        ),
        (
            "poll is not for the pipe, which is full",
            vec![member(0, 2, 10, 0, &[(WaitSpace, 990)]), member(1, 2, 10, 0, &[(Poll, 990)])],
            vec![pipe(0, 1.0, 0.0)],
            101,
            Finding::Outside(Poll),
        ),
        (
            "poll is for the pipe, which is empty",
            vec![member(0, 2, 10, 0, &[(Sleep, 990)]), member(1, 2, 10, 0, &[(Poll, 990)])],
            vec![pipe(0, 0.0, 1.0)],
            100,
            Finding::Outside(Sleep),
        ),
        (
            "no stack, but the pipe is empty",
            vec![member(0, 2, 990, 0, &[]), member(1, 2, 0, 0, &[(Unknown, 1000)])],
            vec![pipe(0, 0.0, 1.0)],
            100,
            Finding::CpuBound,
        ),
        (
            "data that comes from outside",
            vec![member(0, 2, 10, 0, &[(WaitData, 990)]), member(1, 2, 10, 0, &[(WaitData, 990)])],
            vec![pipe(0, 0.0, 1.0)],
            100,
            Finding::Outside(WaitData),
        ),
    ] {
        let verdict = judge(&evidence(members, pipes));
        assert_eq!(
            (verdict.finding, &verdict.members[..]),
            (finding, &[who][..]),
            "{name}: {verdict:#?}"
        );
    }
}

#[test]
fn threads_that_wait_for_the_one_that_computes() {
    // Four threads: one reads, two wait for work, one computes.
    let mut packer = member(1, 2, 1010, 0, &[(WaitData, 30), (Futex, 2960)]);
    packer.lifetime_ns = 4 * SECOND;
    let members = vec![member(0, 2, 50, 0, &[(WaitSpace, 950)]), packer];
    let verdict = judge(&evidence(members, vec![pipe(0, 1.0, 0.0)]));
    assert_eq!((verdict.finding, &verdict.members[..]), (Finding::CpuBound, &[101][..]));
    assert!(verdict.headline.contains("its threads use 1.0 CPUs"), "{}", verdict.headline);
}

#[test]
fn the_pipe_itself() {
    let busy = |roles: &[(Role, u64)]| {
        let mut writer = member(0, 2, 950, 0, &[(WaitSpace, 50)]);
        writer.roles = roles.iter().map(|&(role, ms)| (role, ms * MS)).collect();
        vec![writer, member(1, 2, 400, 0, &[(WaitData, 600)])]
    };
    use PipeCause::{Copies, Lock, PageAllocation, PagePinning, TinyCalls, TooSmall, WakeUps};
    for (members, cause) in [
        (busy(&[(Role::CopyIn, 600), (Role::Wakeup, 200), (Role::User, 150)]), Copies),
        (busy(&[(Role::CopyIn, 200), (Role::PageAlloc, 500), (Role::User, 250)]), PageAllocation),
        (busy(&[(Role::PagePin, 600), (Role::Splice, 350)]), PagePinning),
        (busy(&[(Role::PipeLock, 600), (Role::Splice, 350)]), Lock),
        (busy(&[(Role::Wakeup, 500), (Role::WaitSpace, 200), (Role::CopyIn, 250)]), WakeUps),
        // A quarter of the time nobody does anything.
        (
            vec![
                member(0, 2, 400, 0, &[(WaitSpace, 600)]),
                member(1, 2, 350, 0, &[(WaitData, 650)]),
            ],
            WakeUps,
        ),
        // Somebody always does.
        (
            vec![
                member(0, 2, 520, 0, &[(WaitSpace, 480)]),
                member(1, 2, 500, 0, &[(WaitData, 500)]),
            ],
            TooSmall,
        ),
    ] {
        let verdict = judge(&evidence(members, vec![pipe(0, 0.5, 0.5)]));
        assert_eq!(verdict.finding, Finding::PipeBound(cause), "{verdict:#?}");
        assert_eq!(verdict.pipe, Some(1000));
        let bound = verdict.remedies[0].at_most.unwrap();
        assert!((1.0..20.0).contains(&bound), "{cause:?}: {bound}");
    }
    let members =
        vec![member(0, 2, 400, 0, &[(WaitSpace, 600)]), member(1, 2, 350, 0, &[(WaitData, 650)])];
    let mut slow = evidence(members, vec![pipe(0, 0.5, 0.5)]);
    let latency = WakeLatency { woken: "m1".into(), median_ns: 42_000, p99_ns: 910_000 };
    slow.pipes[0].latency = Some(latency);
    let headline = judge(&slow).headline;
    assert!(
        headline.ends_with("wake-up latency of m1: 42.0 µs (median), 910 µs (p99)"),
        "{headline}"
    );
    let mut tiny =
        evidence(busy(&[(Role::Syscall, 700), (Role::User, 250)]), vec![pipe(0, 0.0, 0.6)]);
    tiny.pipes[0].bytes_per_write = Some(1.0);
    let verdict = judge(&tiny);
    assert_eq!(verdict.finding, Finding::PipeBound(TinyCalls));
    assert!(verdict.headline.contains("each call moves 1 byte,"), "{}", verdict.headline);
}

#[test]
fn a_bound_is_amdahls() {
    let mut writer = member(0, 2, 1000, 0, &[]);
    writer.roles =
        vec![(Role::CopyIn, 340 * MS), (Role::PageAlloc, 300 * MS), (Role::User, 360 * MS)];
    let members = vec![writer, member(1, 2, 400, 0, &[(WaitData, 600)])];
    let verdict = judge(&evidence(members, vec![pipe(0, 0.0, 0.9)]));
    let remedy = &verdict.remedies[0];
    assert!((remedy.at_most.unwrap() - 1.0 / 0.66).abs() < 0.01);
    assert!(
        remedy.buys.contains("at most 1.5× faster: it is 34 % of m0's CPU time"),
        "{}",
        remedy.buys
    );
}

#[test]
fn cpus_that_do_not_suffice() {
    let members = (0..5).map(|at| {
        let wait = if at == 0 { WaitSpace } else { WaitData };
        member(at, 5, 400, 450, &[(wait, 150)])
    });
    let pipes = (0..4).map(|at| pipe(at, 0.4, 0.4)).collect();
    let verdict = judge(&evidence(members.collect(), pipes));
    assert_eq!(verdict.finding, Finding::Starved);
    assert!(verdict.headline.contains("2.0 of 2"), "{}", verdict.headline);
}

#[test]
fn two_alike() {
    let members =
        vec![member(0, 2, 960, 0, &[(WaitSpace, 40)]), member(1, 2, 940, 0, &[(WaitData, 60)])];
    let verdict = judge(&evidence(members, vec![pipe(0, 0.3, 0.3)]));
    assert_eq!((verdict.finding, verdict.members.len()), (Finding::Balanced, 2));
}

#[test]
fn who_only_holds_an_end_is_not_in_the_way() {
    // `timeout 1 yes | gzip`: timeout sleeps with yes' end in its hand.
    let mut timeout = member(0, 2, 1, 0, &[(Sleep, 999)]);
    timeout.label = "timeout".into();
    let members = vec![
        timeout,
        member(0, 2, 50, 0, &[(WaitSpace, 950)]),
        member(1, 2, 990, 0, &[(WaitData, 10)]),
    ];
    let verdict = judge(&evidence(members, vec![pipe(0, 1.0, 0.0)]));
    assert_eq!((verdict.finding, &verdict.members[..]), (Finding::CpuBound, &[101][..]));
    assert_eq!(verdict.confidence, Some(Confidence::High));
    assert!(!text(&verdict).contains("timeout"), "{}", text(&verdict));
    // A shell that never reads, and what it starts: the shell stands for them.
    let mut child = member(1, 2, 1, 0, &[(Sleep, 99)]);
    child.lifetime_ns = 100 * MS;
    let members = vec![
        member(0, 2, 1, 0, &[(WaitSpace, 999)]),
        child,
        MemberEvidence { pid: 7, ..member(1, 2, 1, 0, &[(Reason::Child, 999)]) },
    ];
    let verdict = judge(&evidence(members, vec![pipe(0, 1.0, 0.0)]));
    assert_eq!(
        (verdict.finding, &verdict.members[..]),
        (Finding::Outside(Reason::Child), &[7][..])
    );
}

#[test]
fn a_shell_that_waits_for_one_command() {
    let members = vec![member(0, 1, 1, 0, &[(Reason::Child, 999)]), member(0, 1, 990, 0, &[])];
    let mut evidence = evidence(members, Vec::new());
    evidence.members[1].pid = 7;
    let verdict = judge(&evidence);
    assert_eq!((verdict.finding, &verdict.members[..]), (Finding::CpuBound, &[7][..]));
}

/// A shell and its children together live longer than the pipeline.
#[test]
fn a_shell_waits_for_what_its_children_wait_for_where_that_is_known() {
    let reader = |blocked: &[(Reason, u64)]| {
        let mut reader = member(1, 2, 5, 0, blocked);
        reader.lifetime_ns = 1_500 * MS;
        let members = vec![member(0, 2, 1, 0, &[(WaitSpace, 999)]), reader];
        judge(&evidence(members, vec![pipe(0, 1.0, 0.0)])).finding
    };
    let child = Reason::Child;
    assert_eq!(reader(&[(child, 600), (Sleep, 895)]), Finding::Outside(Sleep));
    // The children were seen apart: what little else there is says nothing.
    assert_eq!(reader(&[(child, 1_435), (Reason::Other, 60)]), Finding::Outside(child));
}

#[test]
fn thin_evidence_is_no_verdict() {
    let change = |change: fn(&mut Evidence)| {
        let mut evidence = sorting();
        change(&mut evidence);
        let verdict = judge(&evidence);
        assert_eq!((verdict.finding, verdict.confidence), (Finding::Unclear, None));
        assert!(verdict.members.is_empty() && verdict.remedies.is_empty());
        verdict.headline
    };
    for (headline, why) in [
        (change(|e| e.elapsed_ns = 34 * MS), "34.0 ms is too short to judge"),
        (change(|e| e.lost = 500), "33 % of the records were lost"),
        (change(|e| (e.lost, e.foreign_samples) = (1000, 2000)), "25 % of the records were lost"),
        (change(|e| e.kernel_visible = false), "kernel code was not measured"),
        (change(|e| e.members.iter_mut().for_each(|m| m.lifetime_ns = 0)), "were not recorded"),
        (
            change(|e| e.members[1] = member(1, 3, 0, 0, &[(Unknown, 1000)])),
            "no call chain was sampled",
        ),
        (
            change(|e| {
                e.members.truncate(2);
                e.members[1] = member(1, 2, 10, 0, &[(Poll, 990)]);
                (e.pipes[0].full, e.pipes[0].empty) = (Some(0.0), Some(1.0));
            }),
            "waited for a neighbour",
        ),
    ] {
        assert!(headline.starts_with("no verdict: ") && headline.contains(why), "{headline}");
    }
}
