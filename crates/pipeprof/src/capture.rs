//! From a target to its profile: launch or find, attach, let go, watch, stop, analyse.

use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use pipeprof_profiler::accounts::now_ns;
use pipeprof_profiler::analyse::analyse_watched;
use pipeprof_profiler::meter::{Bytes, Gauge, Meter, PipeFlow, Point, Series, Source};
use pipeprof_profiler::profile::Scope;
use pipeprof_profiler::recording::{About, Recording, RecordingDir};
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::Remembering;
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_profiler::tasks::affinity;
use pipeprof_report::run::Run;
use pipeprof_runner::command;
use pipeprof_runner::discover::{Extent, Found, Level, discover, discover_again};
use pipeprof_runner::ends::Complaint;
use pipeprof_runner::outcome::EndOutcome;
use pipeprof_runner::pair::launch;
use pipeprof_runner::pipeline::{Member, MemberId, Pipeline};
use pipeprof_runner::plan::PairPlan;

use crate::args::pair as pair_args;
use crate::args::target::Target;
use crate::interrupt::Interrupt;
use crate::progress::{Analysing, Watching};
use crate::salvage::{Taken, keep_unread};
use crate::ui::{Exit, Ui, hinted};

/// What came of watching a target.
pub(crate) struct Captured {
    pub(crate) run: Run,
    /// What it was made of.
    pub(crate) taken: Taken,
    /// What went wrong with what was watched.
    pub(crate) failures: Vec<Complaint>,
    /// Ctrl-C ended it.
    pub(crate) interrupted: bool,
}

impl Captured {
    /// How the command ends that captured it. What went wrong is told.
    pub(crate) fn exit(&self, ui: &Ui) -> Exit {
        for failure in &self.failures {
            ui.error(&pair_args::complaint(failure));
        }
        match (self.failures.is_empty(), self.interrupted) {
            (_, true) => Exit::Interrupted,
            (false, false) => Exit::Failed,
            (true, false) => Exit::Done,
        }
    }
}

/// Watches a target to its end, with a recording that goes when the result does.
pub(crate) fn capture(
    target: Target,
    config: &CaptureConfig,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    let dir = RecordingDir::temporary().map_err(|error| hinted(&error, error.hint()))?;
    capture_into(dir, target, config, interrupt, ui)
}

/// Watches a target to its end and records into `dir`.
pub(crate) fn capture_into(
    dir: RecordingDir,
    target: Target,
    config: &CaptureConfig,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    if let RecordingDir::Temporary(folder) = &dir {
        interrupt.remove_on_quit(folder.path());
    }
    match target {
        Target::Pair(plan) => pair(dir, &plan, config, interrupt, ui),
        Target::Command { spec, title, duration } => {
            launched(dir, spec, title, duration, config, interrupt, ui)
        }
        Target::Running { pids, extent, duration } => {
            running(dir, &pids, extent, duration, config, interrupt, ui)
        }
    }
}

/// Analyses what was recorded before, to show the event of that name where it has several.
pub(crate) fn reopen(path: &Path, event: Option<&str>, ui: &Ui) -> anyhow::Result<Captured> {
    let recording =
        Recording::open_event(path, event).map_err(|error| hinted(&error, error.hint()))?;
    // Whoever ended it then did not end this.
    Ok(Captured { interrupted: false, ..analysed(recording, ui)? })
}

fn attach(
    dir: RecordingDir,
    title: &str,
    pipeline: &Pipeline,
    config: &CaptureConfig,
    ui: &Ui,
) -> anyhow::Result<Session> {
    let attached =
        Session::attach(&RunningKernel, pipeline, config, dir).and_then(|mut session| {
            session.begin(&about_so_far(title, Duration::ZERO))?;
            let (_, meta) = session.so_far();
            let scope = match meta.scope {
                Scope::PerCpu => "one a CPU",
                Scope::PerTask => "one a thread",
            };
            ui.detail(format_args!(
                "sampling {} at {} Hz, {scope}",
                meta.event, config.frequency_hz
            ));
            if let Some(fallback) = &meta.fallback {
                ui.detail(format_args!("not a better event: {fallback}"));
            }
            Ok(session)
        });
    attached.map_err(|error| hinted(&error, error.hint()))
}

/// What is known of a watch that goes on, and all that there is of one that was killed.
fn about_so_far(title: &str, elapsed: Duration) -> About {
    let elapsed_ns = elapsed.as_nanos() as u64;
    let started_unix_ns = UNIX_EPOCH
        .elapsed()
        .ok()
        .and_then(|now| u64::try_from(now.as_nanos()).ok()?.checked_sub(elapsed_ns));
    About {
        title: title.to_owned(),
        kernel: kernel_release(),
        started_unix_ns,
        elapsed_ns,
        cpus: cpu_count(),
        ..About::default()
    }
}

fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |system| system.release().to_string_lossy().into_owned())
}

/// `counted_ns` is when the counting of bytes began.
fn finish(session: Session, about: About, counted_ns: u64, ui: &Ui) -> anyhow::Result<Captured> {
    let watched_ns = session.so_far().1.start_ns;
    let finished = session.finish(&RunningKernel);
    let mut recording = finished.map_err(|error| hinted(&error, error.hint()))?;
    let start_ns = recording.meta.start_ns;
    let about = if start_ns == watched_ns {
        about
    } else {
        // Only the end was kept, and what is told of the pipes is to be of that.
        let since = start_ns.saturating_sub(counted_ns);
        About {
            elapsed_ns: recording.meta.end_ns.saturating_sub(start_ns),
            cpu_time_ns: Vec::new(),
            flows: about.flows.into_iter().map(|flow| flow.since(since)).collect(),
            ..about
        }
    };
    let started_unix_ns = UNIX_EPOCH.elapsed().ok().map(|now| {
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).saturating_sub(about.elapsed_ns)
    });
    recording.about = About { started_unix_ns, ..about };
    let incomplete = recording.write_failure.take().map(|error| Complaint {
        message: format!("the recording is incomplete: {error}"),
        hint: recording.room_hint(&error),
    });
    let mut captured = analysed(recording, ui)?;
    captured.failures.extend(incomplete);
    Ok(captured)
}

fn analysed(recording: Recording, ui: &Ui) -> anyhow::Result<Captured> {
    let started = Instant::now();
    let mut symbolizer = recording.symbolizer();
    let mut remembering = Remembering::new(symbolizer.as_mut());
    let mut bar = Analysing::new(ui);
    let profile = analyse_watched(&recording, &mut remembering, &mut |at| bar.at(at));
    bar.done();
    let symbols = remembering.into_table();
    let profile = match profile {
        Ok(profile) => profile,
        Err(error) => {
            keep_unread(recording, ui);
            return Err(hinted(&error, error.hint()));
        }
    };
    ui.detail(format_args!(
        "analysed {} samples in {:.0} ms",
        profile.quality.samples,
        started.elapsed().as_secs_f64() * 1e3
    ));
    let run = Run::of(&recording, profile);
    let interrupted = recording.about.interrupted;
    let taken = Taken { recording, symbols };
    Ok(Captured { run, taken, failures: Vec::new(), interrupted })
}

fn pair(
    dir: RecordingDir,
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
    let title = plan.stage.to_string();
    let mut session = attach(dir, &title, &pipeline, &config, ui)?;
    // The ends count their bytes; how full the pipe is only a look into it tells.
    let pids: Vec<i32> = pipeline.members.iter().map(|member| member.pid).collect();
    let found = discover(&pids, Extent::OnlyThese).ok();
    let mut gauge = Gauge::default();
    session.members_are_released();
    let mut running = prepared.release();
    let mut watching = Watching::bytes(plan.bytes.unwrap_or_default(), ui);
    let mut series = match config.limits.keep {
        Some(keep) => Series::of_last(2 * keep.as_nanos() as u64),
        None => Series::default(),
    };
    let mut asked = false;
    let (started, counted_ns) = (Instant::now(), now_ns());
    while !running.wait_timeout(TICK).map_err(refused)? {
        let moved = running.moved();
        watching.at(moved.read);
        let at_ns = started.elapsed().as_nanos() as u64;
        series.add(Point { at_ns, bytes: moved.read });
        if let Some(level) = found.as_ref().and_then(|found| level_of(found, &pipeline)) {
            gauge.add(at_ns, level);
        }
        session.read_accounts(&[]);
        session.note_progress(&pipeline, || about_so_far(&title, started.elapsed()));
        if (interrupt.is_set() || session.is_full()) && !asked {
            running.interrupt();
            asked = true;
        }
    }
    watching.done();
    let outcome = running.wait().map_err(refused)?;
    let end = Point { at_ns: outcome.elapsed.as_nanos() as u64, bytes: outcome.bytes };
    if config.limits.keep.is_some() {
        series.add(end);
    }
    let flow = PipeFlow {
        inode: pipeline.pipes.first().map_or(0, |pipe| pipe.inode),
        device: pipeline.pipes.first().map_or(0, |pipe| pipe.device),
        bytes: Bytes::Known { bytes: outcome.bytes, source: Source::Pair },
        writes: calls(&outcome.writer),
        reads: calls(&outcome.reader),
        over_time: series.points().to_vec(),
        fill_over_time: gauge.points().to_vec(),
        capacity_bytes: pipeline.pipes.first().and_then(|pipe| pipe.capacity_bytes),
        fill: gauge.fill(),
    };
    let about = About {
        title,
        kernel: kernel_release(),
        elapsed_ns: outcome.elapsed.as_nanos() as u64,
        interrupted: outcome.interrupted && interrupt.is_set(),
        flows: vec![flow],
        cpu_time_ns: [&outcome.writer, &outcome.reader].map(cpu_ns).to_vec(),
        cpus: cpu_count(),
        ..About::default()
    };
    let mut captured = finish(session, about, counted_ns, ui)?;
    captured.failures.extend(outcome.failures());
    Ok(captured)
}

/// How full the pipe of a pair is.
fn level_of(found: &Found, pair: &Pipeline) -> Option<Level> {
    let key = pair.pipes.first()?.key();
    let at = found.pipeline.pipes.iter().position(|pipe| pipe.key() == key)?;
    found.levels().into_iter().nth(at).flatten()
}

fn cpu_ns(end: &EndOutcome) -> Option<u64> {
    end.report.as_ref().map(|report| report.usage.cpu_ns())
}

fn calls(end: &EndOutcome) -> Option<u64> {
    end.report.as_ref().map(|report| report.tally.calls)
}

fn launched(
    dir: RecordingDir,
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
    let mut session = attach(dir, &title, &found.pipeline, config, ui)?;
    let mut cast = Cast::new(found.clone());
    let counted_ns = now_ns();
    let meter = Meter::start_keeping(found, true, config.limits.keep)
        .map_err(|error| hinted(&error, error.hint()))?;
    let started = Instant::now();
    session.members_are_released();
    let mut running = prepared.release().map_err(refused)?;
    let mut watching = Watching::beside(&[root], duration, ui);
    let mut pause = FIRST_LOOK;
    let status = loop {
        if let Some(status) = running.try_wait().map_err(refused)? {
            break Some(status);
        }
        let enough = duration.is_some_and(|duration| started.elapsed() >= duration);
        if interrupt.is_set() || enough || session.is_full() {
            break None;
        }
        if let Ok(found) = running.pipeline()
            && cast.add(&found)
        {
            meter.follow(found);
        }
        session.read_accounts(&cast.ids());
        session.note_progress(&cast.pipeline, || about_so_far(&title, started.elapsed()));
        watching.elapsed(started.elapsed());
        std::thread::sleep(pause);
        pause = (pause * 2).min(TICK);
    };
    watching.done();
    let elapsed = started.elapsed();
    if status.is_none() || interrupt.is_set() {
        running.end(interrupt.ending());
    }
    let flows = meter.finish().map_err(|error| hinted(&error, error.hint()))?;
    session.set_pipeline(cast.pipeline);
    let about = About {
        title,
        kernel: kernel_release(),
        elapsed_ns: elapsed.as_nanos() as u64,
        interrupted: interrupt.is_set(),
        flows,
        cpu_time_ns: Vec::new(),
        cpus: cpu_count(),
        ..About::default()
    };
    let mut captured = finish(session, about, counted_ns, ui)?;
    if let Some(status) = status.filter(|status| !status.success()) {
        let message = format!("the command ended with {status}");
        captured.failures.push(Complaint { message, hint: None });
    }
    Ok(captured)
}

fn running(
    dir: RecordingDir,
    pids: &[i32],
    extent: Extent,
    duration: Option<Duration>,
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
    let mut session = attach(dir, &cast.title(), &cast.pipeline, config, ui)?;
    let counted_ns = now_ns();
    let meter = Meter::start_keeping(found, false, config.limits.keep)
        .map_err(|error| hinted(&error, error.hint()))?;
    let mut watching = Watching::beside(pids, duration, ui);
    let started = Instant::now();
    let left = || duration.unwrap_or(Duration::MAX).saturating_sub(started.elapsed());
    let mut looked = Instant::now();
    while !left().is_zero() && !interrupt.is_set() {
        std::thread::sleep(TICK.min(left()));
        watching.elapsed(started.elapsed());
        session.read_accounts(&[]);
        session.note_progress(&cast.pipeline, || about_so_far(&cast.title(), started.elapsed()));
        if !cast.any_alive() || session.is_full() {
            break;
        }
        if looked.elapsed() > RELOOK {
            looked = Instant::now();
            if let Ok(found) = discover_again(&cast.alive(), extent)
                && cast.add(&found)
            {
                meter.follow(found);
            }
        }
    }
    watching.done();
    let elapsed = started.elapsed();
    let flows = meter.finish().map_err(|error| hinted(&error, error.hint()))?;
    let about = About {
        title: cast.title(),
        kernel: kernel_release(),
        elapsed_ns: elapsed.as_nanos() as u64,
        interrupted: interrupt.is_set(),
        flows,
        cpu_time_ns: Vec::new(),
        cpus: cpu_count(),
        ..About::default()
    };
    session.set_pipeline(cast.pipeline);
    finish(session, about, counted_ns, ui)
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

    /// `yes | gzip`.
    fn title(&self) -> String {
        let names: Vec<&str> = self.pipeline.members.iter().map(|m| m.comm.as_str()).collect();
        names.join(" | ")
    }

    fn ids(&self) -> Vec<MemberId> {
        self.pipeline.members.iter().map(Member::id).collect()
    }

    /// Those that are still there, and have not been given their pid by a later one.
    fn alive(&self) -> Vec<MemberId> {
        self.ids().into_iter().filter(MemberId::is_running).collect()
    }

    fn any_alive(&self) -> bool {
        !self.alive().is_empty()
    }
}
