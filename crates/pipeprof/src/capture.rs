//! From a target to its profile: launch or find, attach, let go, watch, stop, analyse.

use std::time::{Duration, Instant};

use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::meter::{Bytes, Meter, PipeFlow, Point, Series, Source};
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::recording::{Recording, RecordingDir};
use pipeprof_profiler::session::{CaptureConfig, Session, affinity};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_runner::command;
use pipeprof_runner::discover::{Extent, Found, discover};
use pipeprof_runner::ends::Complaint;
use pipeprof_runner::outcome::EndOutcome;
use pipeprof_runner::pair::launch;
use pipeprof_runner::pipeline::Pipeline;
use pipeprof_runner::plan::PairPlan;

use crate::interrupt::Interrupt;
use crate::pair_args;
use crate::progress::Watching;
use crate::target_args::Target;
use crate::ui::{Ui, hinted};

/// What came of watching a target.
pub(crate) struct Captured {
    pub(crate) profile: Profile,
    /// The stage or the command line.
    pub(crate) title: String,
    pub(crate) pipeline: Pipeline,
    pub(crate) flows: Vec<PipeFlow>,
    pub(crate) elapsed: Duration,
    /// What went wrong with what was watched.
    pub(crate) failures: Vec<Complaint>,
    pub(crate) interrupted: bool,
}

/// Watches a target to its end.
pub(crate) fn capture(target: Target, config: &CaptureConfig, ui: &Ui) -> anyhow::Result<Captured> {
    let interrupt = Interrupt::install()?;
    match target {
        Target::Pair(plan) => pair(&plan, config, &interrupt, ui),
        Target::Command { spec, title, duration } => {
            launched(spec, title, duration, config, &interrupt, ui)
        }
        Target::Running { pids, extent, duration } => {
            running(&pids, extent, duration, config, &interrupt, ui)
        }
    }
}

fn attach(pipeline: &Pipeline, config: &CaptureConfig) -> anyhow::Result<Session> {
    let attached = RecordingDir::temporary()
        .and_then(|dir| Session::attach(&RunningKernel, pipeline, config, dir));
    attached.map_err(|error| hinted(&error, error.hint()))
}

fn finish(session: Session, ui: &Ui) -> anyhow::Result<Profile> {
    let recording = session.finish(&RunningKernel).map_err(|error| hinted(&error, error.hint()))?;
    analysed(&recording, ui)
}

fn analysed(recording: &Recording, ui: &Ui) -> anyhow::Result<Profile> {
    let started = Instant::now();
    let profile = analyse(recording, &mut LocalSymbols::new())
        .map_err(|error| hinted(&error, error.hint()))?;
    ui.detail(format_args!(
        "analysed {} samples in {:.0} ms",
        profile.quality.samples,
        started.elapsed().as_secs_f64() * 1e3
    ));
    Ok(profile)
}

fn pair(
    plan: &PairPlan,
    config: &CaptureConfig,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    let refused = |error: pipeprof_runner::error::Error| hinted(&error, error.hint());
    let prepared = launch(plan, &pair_args::reexec()).map_err(refused)?;
    for note in prepared.notes() {
        ui.warn(note);
    }
    let pipeline = prepared.pipeline().clone();
    // Where both ends are pinned, per-CPU events are needed nowhere else.
    let mut cpus = pipeline.members.iter().try_fold(Vec::new(), |mut cpus, member| {
        cpus.extend(affinity(member.pid)?);
        Some(cpus)
    });
    if let Some(cpus) = &mut cpus {
        cpus.sort_unstable();
        cpus.dedup();
    }
    let config = CaptureConfig { cpus, ..config.clone() };
    let mut session = attach(&pipeline, &config)?;
    session.members_are_released();
    let mut running = prepared.release();
    let mut watching = Watching::bytes(plan.bytes.unwrap_or_default(), ui);
    let mut series = Series::default();
    let mut asked = false;
    let started = Instant::now();
    while !running.wait_timeout(TICK).map_err(refused)? {
        let moved = running.moved();
        watching.at(moved.read);
        series.add(Point { at_ns: started.elapsed().as_nanos() as u64, bytes: moved.read });
        session.read_accounts(&[]);
        if interrupt.is_set() && !asked {
            running.interrupt();
            asked = true;
        }
    }
    watching.done();
    let outcome = running.wait().map_err(refused)?;
    let mut profile = finish(session, ui)?;
    for (member, end) in profile.members.iter_mut().zip([&outcome.writer, &outcome.reader]) {
        member.cpu_time_ns = member.cpu_time_ns.or_else(|| cpu_ns(end));
    }
    let flow = PipeFlow {
        inode: pipeline.pipes.first().map_or(0, |pipe| pipe.inode),
        bytes: Bytes::Known { bytes: outcome.bytes, source: Source::Pair },
        writes: calls(&outcome.writer),
        reads: calls(&outcome.reader),
        over_time: series.points().to_vec(),
        capacity_bytes: pipeline.pipes.first().and_then(|pipe| pipe.capacity_bytes),
        fill: None,
    };
    Ok(Captured {
        profile,
        title: plan.stage.to_string(),
        pipeline,
        flows: vec![flow],
        elapsed: outcome.elapsed,
        failures: outcome.failures(),
        interrupted: outcome.interrupted,
    })
}

fn cpu_ns(end: &EndOutcome) -> Option<u64> {
    end.report.as_ref().map(|report| report.usage.cpu_ns())
}

fn calls(end: &EndOutcome) -> Option<u64> {
    end.report.as_ref().map(|report| report.tally.calls)
}

fn launched(
    spec: command::Spec,
    title: String,
    duration: Option<Duration>,
    config: &CaptureConfig,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    let refused = |error: command::CommandError| hinted(&error, error.hint());
    let prepared = spec.prepare().map_err(refused)?;
    let root = prepared.pid();
    let found =
        discover(&[root], Extent::OnlyThese).map_err(|error| hinted(&error, error.hint()))?;
    let mut session = attach(&found.pipeline, config)?;
    let mut cast = Cast::new(found.clone());
    let meter = Meter::start(found, true).map_err(|error| hinted(&error, error.hint()))?;
    let started = Instant::now();
    session.members_are_released();
    let mut running = prepared.release().map_err(refused)?;
    let mut watching = Watching::time(duration, ui);
    let mut pause = FIRST_LOOK;
    let status = loop {
        if let Some(status) = running.try_wait().map_err(refused)? {
            break Some(status);
        }
        let enough = duration.is_some_and(|duration| started.elapsed() >= duration);
        if interrupt.is_set() || enough {
            break None;
        }
        if let Ok(found) = running.pipeline()
            && cast.add(&found)
        {
            meter.follow(found);
        }
        session.read_accounts(&cast.pids());
        watching.elapsed(started.elapsed());
        std::thread::sleep(pause);
        pause = (pause * 2).min(TICK);
    };
    watching.done();
    let elapsed = started.elapsed();
    let flows = meter.finish().map_err(|error| hinted(&error, error.hint()))?;
    session.set_pipeline(cast.pipeline.clone());
    let profile = finish(session, ui)?;
    let failures = match status {
        Some(status) if !status.success() => {
            vec![Complaint { message: format!("the command ended with {status}"), hint: None }]
        }
        _ => Vec::new(),
    };
    Ok(Captured {
        profile,
        title,
        pipeline: cast.pipeline,
        flows,
        elapsed,
        failures,
        interrupted: interrupt.is_set(),
    })
}

fn running(
    pids: &[i32],
    extent: Extent,
    duration: Duration,
    config: &CaptureConfig,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    let found = discover(pids, extent).map_err(|error| hinted(&error, error.hint()))?;
    if found.unreadable > 0 {
        ui.note(format_args!(
            "{} processes of other users could not be read, so members may be missing",
            found.unreadable
        ));
    }
    let mut cast = Cast::new(found.clone());
    let mut session = attach(&cast.pipeline, config)?;
    let meter = Meter::start(found, false).map_err(|error| hinted(&error, error.hint()))?;
    let mut watching = Watching::time(Some(duration), ui);
    let started = Instant::now();
    let mut looked = Instant::now();
    while started.elapsed() < duration && !interrupt.is_set() {
        std::thread::sleep(TICK.min(duration.saturating_sub(started.elapsed())));
        watching.elapsed(started.elapsed());
        session.read_accounts(&[]);
        if !cast.any_alive() {
            break;
        }
        if looked.elapsed() > RELOOK {
            looked = Instant::now();
            if let Ok(found) = discover(&cast.alive(), extent)
                && cast.add(&found)
            {
                meter.follow(found);
            }
        }
    }
    watching.done();
    let elapsed = started.elapsed();
    let flows = meter.finish().map_err(|error| hinted(&error, error.hint()))?;
    let profile = finish(session, ui)?;
    let names: Vec<&str> = cast.pipeline.members.iter().map(|m| m.comm.as_str()).collect();
    Ok(Captured {
        title: names.join(" | "),
        profile,
        pipeline: cast.pipeline,
        flows,
        elapsed,
        failures: Vec::new(),
        interrupted: interrupt.is_set(),
    })
}

/// Often enough to look alive and to obey Ctrl-C at once.
const TICK: Duration = Duration::from_millis(100);

/// A shell needs some milliseconds to start its members, and short ones end soon after.
const FIRST_LOOK: Duration = Duration::from_millis(2);

/// New members join a running pipeline seldom, and a look takes some milliseconds.
const RELOOK: Duration = Duration::from_secs(1);

/// Everyone who was seen in a pipeline while it was watched, wrappers last.
struct Cast {
    pipeline: Pipeline,
}

impl Cast {
    fn new(found: Found) -> Self {
        let mut cast = Cast { pipeline: Pipeline::default() };
        cast.add(&found);
        cast
    }

    /// Adds who and what is new; whether anything was.
    fn add(&mut self, found: &Found) -> bool {
        self.pipeline.merge(&found.pipeline, &found.wrappers)
    }

    fn pids(&self) -> Vec<i32> {
        self.pipeline.members.iter().map(|member| member.pid).collect()
    }

    fn alive(&self) -> Vec<i32> {
        let mut pids = self.pids();
        pids.retain(|pid| std::path::Path::new(&format!("/proc/{pid}/fd")).exists());
        pids
    }

    fn any_alive(&self) -> bool {
        !self.alive().is_empty()
    }
}
