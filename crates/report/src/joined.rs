//! One pipeline over two hosts: two recordings, joined by the TCP connection between them, with one
//! verdict.
//!
//! `joined/connection.rs` finds the connection that both have, `joined/clocks.rs` how far their
//! clocks are apart, `joined/history.rs` makes one state history of two,
//! and `joined/judging.rs` one verdict. From there on everything is
//! as for one host: waits are followed from member to member, over the connection as over a pipe.
//! Where the member that sends waits for space in it while the one that receives waits for data, the
//! network limits.

pub mod clocks;
mod connection;
mod history;
mod judging;

use std::ops::Range;

use pipeprof_profiler::states::{Connection, Progress, Traffic};
use serde::Serialize;

use crate::error::Error;
use crate::escape::printable;
use crate::facts::states::StateHistory;
use crate::facts::verdict::{Doubt, Judged, Limiter};
use crate::run::Run;
use crate::summary::Summary;
use crate::verdict::{Confidence, Evidence, Finding, LimitShare, Remedy};
use crate::words;
use clocks::{Basis, Clocks};
use connection::{Shared, shared};
use history::Half;
use judging::{Judgement, judge};

/// Raised whenever a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// A recording of one host.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What was recorded there.
    pub run: &'a Run,
    /// The same in numbers.
    pub summary: &'a Summary,
    /// What the recording is called. Untrusted text.
    pub recording: &'a str,
}

/// One pipeline over two hosts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Joined {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What holds the pipeline back.
    pub verdict: JoinedVerdict,
    /// The one that sends comes first.
    pub hosts: [Host; 2],
    /// What leads from the first to the second.
    pub connection: Path,
    /// How the clocks of the two were aligned.
    pub clocks: Clocks,
    /// For so long both were watched.
    pub together_ns: u64,
}

/// What holds a pipeline over two hosts back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JoinedVerdict {
    /// What it is.
    #[serde(flatten)]
    pub finding: Finding,
    /// How sure it is; `None` where nothing was found.
    pub confidence: Option<Confidence>,
    /// The reason for less than high confidence.
    pub doubt: Option<String>,
    /// What limited, the largest share of the time first.
    pub limits: Vec<LimitShare>,
    /// One sentence.
    pub headline: String,
    /// A sentence for each phase if there are several.
    pub phases: Vec<String>,
    /// What to do about it, and what that gains.
    pub remedies: Vec<Remedy>,
}

/// One of the two hosts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Host {
    /// Its name; that of the recording where both hosts have one name. Safe to print.
    pub host: String,
    /// What the recording is called. Safe to print.
    pub recording: String,
    /// The stage, or the command line. Untrusted text.
    pub subject: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// What its recording says by itself.
    pub alone: Option<String>,
    /// In the order of the pipeline.
    pub members: Vec<Member>,
}

/// A member of either host: its states as shares of its life, while both hosts were watched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Member {
    /// Thread-group id, on its host.
    pub pid: i32,
    /// Its name. Safe to print.
    pub name: String,
    /// A thread ran, or could have.
    pub busy_percent: f64,
    /// It waited for data of its neighbours, over the connection too.
    pub waits_for_data_percent: f64,
    /// It waited for space, likewise.
    pub waits_for_space_percent: f64,
    /// It waited for something else.
    pub outside_percent: f64,
    /// Share of the time in which it limits.
    pub limits_percent: f64,
    /// The verdict is about it.
    pub is_blamed: bool,
}

/// What leads from one host to the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Path {
    /// As the host that sends saw it.
    #[serde(flatten)]
    pub seen: Connection,
    /// Bytes that it carried in a second.
    pub bytes_per_second: f64,
    /// Share of the time in which it limits.
    pub limits_percent: f64,
}

impl Joined {
    /// Joins two recordings, in any order.
    ///
    /// # Errors
    ///
    /// [`Error::NotJoined`] if they have no connection or no time in common.
    pub fn of(first: Side<'_>, second: Side<'_>) -> Result<Joined, Error> {
        let [one, other] = host_names([first, second]);
        let (one, other) = (half(first, one)?, half(second, other)?);
        let (its, others) = (connections(&one), connections(&other));
        let Some(seen) = shared(&its, &others) else {
            return Err(nothing_shared([(first, its), (second, others)]));
        };
        if seen.first_sends {
            in_order((first, &one), (second, &other), &seen)
        } else {
            in_order((second, &other), (first, &one), &seen)
        }
    }
}

fn half<'a>(side: Side<'a>, host: String) -> Result<Half<'a>, Error> {
    let Some(timeline) = &side.run.states else {
        return Err(Error::NotJoined {
            why: format!("{} has no thread states over time", printable(side.recording)),
            hint: "record both with pipeprof record".to_owned(),
        });
    };
    Ok(Half {
        history: StateHistory::of(&side.run.pipeline, timeline),
        evidence: side.summary.evidence(side.run),
        pipeline: &side.run.pipeline,
        host,
        cpus: side.run.cpus,
    })
}

fn connections(half: &Half<'_>) -> Vec<Connection> {
    half.history.actors.iter().flat_map(|actor| actor.connections.clone()).collect()
}

fn in_order(
    (from, sender): (Side<'_>, &Half<'_>),
    (to, receiver): (Side<'_>, &Half<'_>),
    seen: &Shared,
) -> Result<Joined, Error> {
    let clocks = aligned(from.run, to.run, seen)?;
    let judgement = judge(sender, receiver, seen, clocks.ahead_ns);
    let Some(Judgement { history, evidence, mut judged }) = judgement else {
        return Err(Error::NotJoined {
            why: "they were not recorded at the same time".to_owned(),
            hint: "run pipeprof record on both hosts at once; to compare two runs: pipeprof diff"
                .to_owned(),
        });
    };
    if clocks.by == Basis::WallClock && judged.confidence == Some(Confidence::High) {
        (judged.confidence, judged.doubt) = (Some(Confidence::Medium), Some(Doubt::Clocks));
    }
    let verdict = words::verdict::verdict(&evidence, &judged);
    let of_network = verdict.limits.iter().find(|limit| limit.kind == "network");
    let first = 0..sender.evidence.members.len();
    let second = first.end..evidence.members.len();
    let members = |range: Range<usize>| -> Vec<Member> {
        range.filter_map(|at| member(&evidence, &judged, at)).collect()
    };
    let host = |side: Side<'_>, half: &Half<'_>, range| Host {
        host: half.host.clone(),
        recording: printable(side.recording).into_owned(),
        subject: side.run.subject.clone(),
        kernel: side.summary.kernel.clone(),
        alone: side.summary.verdict.as_ref().map(|verdict| verdict.headline.clone()),
        members: members(range),
    };
    let sends = &seen.sender;
    Ok(Joined {
        schema_version: SCHEMA_VERSION,
        hosts: [host(from, sender, first), host(to, receiver, second)],
        connection: Path {
            seen: sends.clone(),
            bytes_per_second: sends.sent_bytes as f64 * 1e9 / sends.watched_ns.max(1) as f64,
            limits_percent: of_network.map_or(0.0, |limit| limit.percent),
        },
        clocks,
        together_ns: history.elapsed_ns(),
        verdict: JoinedVerdict {
            finding: verdict.finding,
            phases: words::evidence::phases(&verdict),
            confidence: verdict.confidence,
            doubt: verdict.doubt,
            limits: verdict.limits,
            headline: verdict.headline,
            remedies: verdict.remedies,
        },
    })
}

/// What to call the hosts: by their names, or by their recordings where those are one.
fn host_names(sides: [Side<'_>; 2]) -> [String; 2] {
    let [one, other] = sides.map(|side| &side.run.host);
    let tell = one != other && !one.is_empty() && !other.is_empty();
    sides.map(|side| {
        let name = if tell { side.run.host.as_str() } else { side.recording };
        printable(name).into_owned()
    })
}

fn nothing_shared(sides: [(Side<'_>, Vec<Connection>); 2]) -> Error {
    let [first, second] = sides.map(|(side, connections)| {
        words::joined::connections(&printable(side.recording), &connections)
    });
    Error::NotJoined {
        why: format!(
            "no member of one has a TCP connection to a member of the other: {first}; {second}"
        ),
        hint:
            "record both hosts at once, each with the process that holds the connection (--pid); \
               to compare two runs: pipeprof diff"
                .to_owned(),
    }
}

fn aligned(from: &Run, to: &Run, seen: &Shared) -> Result<Clocks, Error> {
    let Shared { sender, receiver, .. } = seen;
    let (sent, received) = (progress(from, sender), progress(to, receiver));
    let by_traffic = clocks::by_traffic(sent, received, sender.round_trip_ns);
    let began = |run: &Run| Some((run.start_ns, run.started_unix_ns?));
    let dates = began(from).zip(began(to));
    let by_date = dates.map(|(from, to)| clocks::by_date(from, to));
    by_traffic.or(by_date).ok_or_else(|| Error::NotJoined {
        why: "neither bytes that both counted nor the date tell how their clocks compare"
            .to_owned(),
        hint: "record both hosts at once, while data flows".to_owned(),
    })
}

/// How far the connection came over time, as one of its hosts saw it.
fn progress<'a>(run: &'a Run, seen: &Connection) -> &'a [Progress] {
    let is_it = |of: &&Traffic| (of.local, of.remote) == (seen.local, seen.remote);
    let mut traffic = run.states.iter().flat_map(|timeline| &timeline.traffic);
    traffic.find(is_it).map_or(&[], |traffic| &traffic.over_time)
}

/// How a member of the evidence spent its time; `None` of what only holds pipes of others.
fn member(evidence: &Evidence, judged: &Judged, at: usize) -> Option<Member> {
    let used = &judged.life(at)?.used;
    let percent = |ns: f64| 100.0 * ns / used.alive_ns.max(1.0);
    let one = &evidence.members[at];
    let limits = judged.limits.iter().find(|(limiter, _)| *limiter == Limiter::Member(at));
    Some(Member {
        pid: one.pid,
        name: one.label.clone(),
        busy_percent: percent(used.busy_ns),
        waits_for_data_percent: percent(used.data_ns),
        waits_for_space_percent: percent(used.space_ns),
        outside_percent: percent(used.outside_ns + used.follows_ns),
        limits_percent: limits.map_or(0.0, |(_, share)| 100.0 * share),
        is_blamed: judged.members.contains(&at),
    })
}
