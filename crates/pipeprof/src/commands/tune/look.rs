//! The pipeline before any change: how full its pipes are, the CPU use of its members, and how fast
//! and how evenly its bytes flow.

use std::time::{Duration, Instant};

use pipeprof_profiler::accounts::Accounts;
use pipeprof_profiler::meter::{Bytes, Gauge};
use pipeprof_profiler::states::States;
use pipeprof_report::facts::states::StateHistory;
use pipeprof_report::tuning::{Observed, ObservedBlame, ObservedMember, ObservedPipe, window};
use pipeprof_runner::pipeline::MemberId;
use pipeprof_runner::tuning::{allowed_cpus, cpus_of, may_renice, pipe_limits};

use super::subject::Subject;
use crate::interrupt::Interrupt;
use crate::progress::Watching;
use crate::ui::{Ui, explained, hinted};

/// What was observed.
pub(super) struct Looked {
    pub(super) pipeline: Observed,
    /// Index of the pipe whose bytes are the measure.
    pub(super) payload: usize,
    pub(super) bytes_per_second: f64,
    /// By pipe: bytes of the payload for each of its own; `None` where its own are not known.
    pub(super) payload_per_byte: Vec<Option<f64>>,
    /// How long a window is to be.
    pub(super) window_ms: u64,
}

/// Long enough for three of the longest windows but one.
const WATCH: Duration = Duration::from_millis(2500);

/// Time between two looks, at which bytes are counted too.
const STEP_MS: u64 = 10;

/// What had gone through each pipe at a look.
struct Counts {
    at_s: f64,
    bytes: Vec<Option<u64>>,
}

impl Counts {
    /// When, and how much through this one; `None` where it could not be told.
    fn of(&self, pipe: usize) -> Option<(f64, u64)> {
        Some((self.at_s, self.bytes.get(pipe).copied().flatten()?))
    }
}

pub(super) fn watch(
    subject: &mut Subject,
    all: bool,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Looked> {
    let pipeline = subject.found.pipeline.clone();
    let pids: Vec<i32> = pipeline.members.iter().map(|member| member.pid).collect();
    let mut accounts = vec![Accounts::default(); pids.len()];
    let mut gauges = vec![Gauge::default(); pipeline.pipes.len()];
    let mut capacities = vec![None; pipeline.pipes.len()];
    let mut counts: Vec<Counts> = Vec::new();
    let mut why_unknown = None;
    let states = States::start(&pipeline, None).map_err(explained)?;
    let mut bar = Watching::beside(&pids, Some(WATCH), ui);
    let started = Instant::now();
    let mut looks = 0_u32;
    while started.elapsed() < WATCH && !interrupt.is_set() && subject.is_there() {
        if looks.is_multiple_of(20) {
            for (accounts, &pid) in accounts.iter_mut().zip(&pids) {
                accounts.read(pid, false);
            }
            bar.elapsed(started.elapsed());
        }
        let at_ns = started.elapsed().as_nanos() as u64;
        for (at, level) in subject.found.levels().into_iter().enumerate() {
            if let Some(level) = level {
                gauges[at].add(at_ns, level);
                // Only a pipe can be given another.
                let is_socket = pipeline.pipes[at].link.is_socket();
                capacities[at] = (!is_socket).then_some(level.capacity_bytes);
            }
        }
        let totals = subject.totals()?;
        counts.push(Counts {
            at_s: started.elapsed().as_secs_f64(),
            bytes: totals.iter().map(|total| total.bytes.known()).collect(),
        });
        if let Some(Bytes::Unknown { why }) = totals.first().map(|total| &total.bytes) {
            why_unknown = Some(why.to_string());
        }
        looks += 1;
        let next = Duration::from_millis(STEP_MS * u64::from(looks));
        std::thread::sleep(next.saturating_sub(started.elapsed()));
    }
    bar.done();
    let seconds = started.elapsed().as_secs_f64();
    let states = states.finish().map_err(explained)?;
    let history = StateHistory::of(&pipeline, &states);
    for (accounts, &pid) in accounts.iter_mut().zip(&pids) {
        accounts.read(pid, false);
    }
    // On a crowded machine a single look may find that the two ends disagree.
    let rate = |pipe: usize| -> Option<f64> {
        let (from_s, from) = counts.iter().find_map(|counts| counts.of(pipe))?;
        let (until_s, until) = counts.iter().rev().find_map(|counts| counts.of(pipe))?;
        (until_s > from_s).then(|| until.saturating_sub(from) as f64 / (until_s - from_s))
    };
    let rates: Vec<Option<f64>> = (0..pipeline.pipes.len()).map(rate).collect();
    let most = rates.iter().flatten().copied().max_by(f64::total_cmp);
    let Some(most) = most else {
        let why = why_unknown.unwrap_or_else(|| "it ended".to_owned());
        return Err(hinted(format!("the bytes of this pipeline can't be counted: {why}"), None));
    };
    if most <= 0.0 {
        let hint = "`pipeprof flame --pid PID` shows what its members wait for".to_owned();
        return Err(hinted("nothing flows through this pipeline", Some(hint)));
    }
    // The first pipe that carries the payload: the input of the pipeline.
    let carries = |rate: &Option<f64>| rate.is_some_and(|rate| 50.0 * rate >= most);
    let payload = rates.iter().position(carries).unwrap_or(0);
    let bytes_per_second = rates.get(payload).copied().flatten().unwrap_or(0.0);
    let of_payload = |counts: &Counts| counts.of(payload).map(|(_, bytes)| bytes);
    let steps: Vec<f64> = counts
        .windows(2)
        .filter_map(|pair| Some(of_payload(&pair[1])?.saturating_sub(of_payload(&pair[0])?) as f64))
        .collect();
    let members = pipeline.members.iter().zip(&accounts).map(|(member, accounts)| {
        let account = accounts.sum();
        let of_name = pipeline.members.iter().filter(|other| other.comm == member.comm);
        ObservedMember {
            // Names the one that is meant if there are several.
            name: match of_name.count() {
                1 => member.comm.clone(),
                _ => format!("{} ({})", member.comm, member.pid),
            },
            cpus_used: account.cpu_ns as f64 / 1e9 / seconds,
            cpus_missed: account.run_delay_ns as f64 / 1e9 / seconds,
            sleeps_per_second: account.runs as f64 / seconds,
            allowed: cpus_of(member.pid),
        }
    });
    let first = |ids: &[MemberId]| ids.first().and_then(|&id| pipeline.position(id)).unwrap_or(0);
    let pipes = pipeline.pipes.iter().enumerate().map(|(at, pipe)| {
        let fill = gauges[at].fill().unwrap_or_default();
        ObservedPipe {
            writer: first(&pipe.writers),
            reader: first(&pipe.readers),
            capacity_bytes: capacities[at],
            looks: fill.looks,
            empty: fill.empty_share().unwrap_or(0.0),
            full: fill.full_share().unwrap_or(0.0),
        }
    });
    Ok(Looked {
        pipeline: Observed {
            members: members.collect(),
            pipes: pipes.collect(),
            cpus: allowed_cpus(),
            limits: pipe_limits(),
            may_renice: may_renice(),
            blame: ObservedBlame::of(&history, pipeline.members.len(), pipeline.pipes.len()),
            all,
        },
        payload,
        payload_per_byte: rates
            .iter()
            .map(|rate| rate.filter(|&rate| rate > 0.0).map(|rate| bytes_per_second / rate))
            .collect(),
        bytes_per_second,
        window_ms: window(&steps, STEP_MS),
    })
}
