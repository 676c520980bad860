//! What tests judge: chains of members, each connected to the next by a pipe, over time.

use pipeprof_profiler::states::{Account, Why};
use pipeprof_runner::pipeline::{Link, Member, MemberId, Pipe, Pipeline};

use super::states::{Actor, Doing, Ends, Moment, Outside, Span, StateHistory};
use crate::verdict::{Evidence, MemberEvidence, PipeEvidence};

pub(crate) const SPAN_NS: u64 = 20_000_000;

/// `B`usy, waits for `d`ata or `s`pace, sleeps (`o`), waits for the `n`etwork or a dis`k`, was not
/// there (`.`).
fn doing((at, letter): (usize, char)) -> Doing {
    match letter {
        'B' => Doing::Busy(1),
        'd' => Doing::at_pipes(vec![at - 1], vec![]),
        's' => Doing::at_pipes(vec![], vec![at]),
        'o' => Doing::Outside(Outside::For(Why::Timer)),
        'n' => Doing::Outside(Outside::For(Why::Network)),
        'k' => Doing::Outside(Outside::For(Why::Disk)),
        _ => Doing::Absent,
    }
}

/// A word a span, a letter a member. Who is busy was charged these shares of the time, on a CPU and
/// waiting for one.
pub(crate) fn chain(words: &[&str], cpu: f64, run_delay: f64) -> StateHistory {
    let charged = |share: f64| (SPAN_NS as f64 * share) as u64;
    let account = |doing: &Doing| match doing {
        Doing::Busy(_) => Account { cpu_ns: charged(cpu), run_delay_ns: charged(run_delay) },
        _ => Account::default(),
    };
    let span = |(at, word): (u64, &&str)| {
        let doing: Vec<Doing> = word.chars().enumerate().map(doing).collect();
        Span {
            from_ns: at * SPAN_NS,
            until_ns: (at + 1) * SPAN_NS,
            looks: 4.0,
            accounts: doing.iter().map(account).collect(),
            moments: vec![Moment { ns: SPAN_NS as f64, doing: doing.into() }],
        }
    };
    let members = words[0].len();
    StateHistory {
        actors: (0..members).map(|member| Actor { member, ..Actor::default() }).collect(),
        pipes: (1..members).map(|at| Ends { writers: vec![at - 1], readers: vec![at] }).collect(),
        spans: (0..).zip(words).map(span).collect(),
        looks: 4 * words.len() as u64,
        ..StateHistory::default()
    }
}

fn pid(member: usize) -> i32 {
    100 + member as i32
}

/// Those members with their pipes.
pub(crate) fn pipeline(members: usize) -> Pipeline {
    let id = |at: usize| MemberId { pid: pid(at), start_time: None };
    let member = |at: usize| Member {
        pid: pid(at),
        start_time_ticks: None,
        comm: format!("m{at}"),
        command_line: vec![format!("m{at}")],
        end: None,
    };
    let pipe = |at: usize| Pipe {
        link: Link::Pipe,
        inode: at as u64,
        device: 1,
        path: None,
        writers: vec![id(at - 1)],
        readers: vec![id(at)],
        capacity_bytes: Some(65536),
    };
    Pipeline {
        members: (0..members).map(member).collect(),
        pipes: (1..members).map(pipe).collect(),
    }
}

/// What is known of them beside their states.
pub(crate) fn evidence(members: usize, elapsed_ns: u64) -> Evidence {
    let member = |at: usize| MemberEvidence {
        pid: pid(at),
        label: format!("m{at}"),
        lifetime_ns: elapsed_ns,
        on_cpu_ns: 100,
        sleeps: 1000,
        reads_from: at.checked_sub(1).into_iter().collect(),
        writes_to: (at + 1 < members).then_some(at).into_iter().collect(),
        ..MemberEvidence::default()
    };
    let pipe = |at: usize| PipeEvidence {
        inode: at as u64,
        device: 1,
        capacity_bytes: Some(65536),
        bytes_per_write: Some(65536.0),
        bytes_per_read: Some(65536.0),
        ..PipeEvidence::default()
    };
    Evidence {
        members: (0..members).map(member).collect(),
        pipes: (1..members).map(pipe).collect(),
        elapsed_ns,
        cpus: 2,
        samples: 1000,
        kernel_visible: true,
        ..Evidence::default()
    }
}
