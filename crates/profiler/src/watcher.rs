//! The one loop that watches a pipeline: the built-in pair, a command, or processes that run
//! already; with a recording or without.
//!
//! ```text
//! Standby::{pair,command,processes} --record, count--> --release--> Watcher --watch--> Ending
//!                                                                          --finish--> Watched
//! ```
//!
//! At each tick, and nowhere else, the watcher looks for new members, reads accounts, notes fill
//! levels, and checks for Ctrl-C, the end of the time, a full recording and the end of the
//! pipeline. `decision` decides what to do, without a clock or system calls. To observe more at
//! each tick, add a [`Look`].

mod complete;
mod decision;
mod process_events;
mod subject;

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use pipeprof_runner::cpus::of_thread;
use pipeprof_runner::discover::{Extent, Found, Level, discover, discover_again};
use pipeprof_runner::pair::Reexec;
use pipeprof_runner::pipeline::{Member, MemberId, Pipe, Pipeline};
use pipeprof_runner::plan::PairPlan;
use pipeprof_runner::{command, pair};
use rustc_hash::FxHashSet;

pub use decision::Ending;
pub use subject::{Came, LaunchedCommand};

use decision::{Decisions, Observed, Step, Timing};
use process_events::ProcessEvents;
use subject::Subject;

use crate::accounts::now_ns;
use crate::error::Error;
use crate::meter::{Bytes, Gauge, Meter, PipeFlow, Point, Series, Source};
use crate::recording::{About, Recording, RecordingDir};
use crate::session::{CaptureConfig, Enough, Session};
use crate::stop::Stop;
use crate::sys::RunningKernel;

/// Something that is looked at ten times a second while a pipeline is watched, and whenever members
/// were found.
pub trait Look {
    /// All processes seen so far. Called at the beginning, and whenever there is a new one.
    fn follow(&mut self, everyone: &[MemberId]) {
        let _ = everyone;
    }

    /// A look.
    fn look(&mut self, tick: &Tick<'_>);

    /// It has seen what it waited for, so that the watch may end as if its time were over.
    fn is_satisfied(&self) -> bool {
        false
    }
}

/// How a watch stands.
#[derive(Debug)]
pub struct Tick<'a> {
    /// Since it began.
    pub elapsed: Duration,
    /// Bytes that a built-in pair has moved.
    pub moved: Option<u64>,
    /// Everyone and every pipe seen so far; wrappers are the last of the members.
    pub pipeline: &'a Pipeline,
    /// Members and pipes at the latest look at which there was a new one.
    pub found: &'a Found,
}

/// What is to be watched, before it is let go.
#[derive(Debug)]
pub struct Standby {
    target: Target,
    /// As it was found. A pair's levels need it too.
    found: Found,
    title: String,
    stop: Stop,
    session: Option<Session>,
    counts: bool,
    keep: Option<Duration>,
    enough: Option<Enough>,
}

#[derive(Debug)]
enum Target {
    Pair(Box<pair::Prepared>),
    Command(command::Prepared),
    Processes(Extent),
}

impl Standby {
    /// Starts both ends of the built-in pair, which wait.
    ///
    /// # Errors
    /// [`Error::Pair`].
    pub fn pair(plan: &PairPlan, again: &Reexec, stop: Stop) -> Result<Self, Error> {
        let prepared = pair::launch(plan, again)?;
        let pipeline = prepared.pipeline().clone();
        let pids: Vec<i32> = pipeline.members.iter().map(|member| member.pid).collect();
        // The ends count their bytes; how full the pipe is only a look into it tells.
        let mut found = discover(&pids, Extent::OnlyThese).unwrap_or_default();
        found.pipeline = pipeline;
        Ok(Self::new(Target::Pair(Box::new(prepared)), found, plan.stage.to_string(), stop))
    }

    /// Starts the process that is to become a command, which waits.
    ///
    /// # Errors
    /// [`Error::Command`], [`Error::Discover`].
    pub fn command(spec: command::Spec, title: String, stop: Stop) -> Result<Self, Error> {
        let prepared = spec.prepare()?;
        let found = discover(&[prepared.pid()], Extent::OnlyThese)?;
        Ok(Self::new(Target::Command(prepared), found, title, stop))
    }

    /// Finds a pipeline that runs.
    ///
    /// # Errors
    /// [`Error::Discover`].
    pub fn processes(pids: &[i32], extent: Extent, stop: Stop) -> Result<Self, Error> {
        let found = discover(pids, extent)?;
        let title = names(&found.pipeline);
        Ok(Self::new(Target::Processes(extent), found, title, stop))
    }

    fn new(target: Target, found: Found, title: String, stop: Stop) -> Self {
        Standby {
            target,
            found,
            title,
            stop,
            session: None,
            counts: false,
            keep: None,
            enough: None,
        }
    }

    /// The members and pipes so far.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// What the user should know of a pair before its figures.
    pub fn notes(&self) -> &[String] {
        match &self.target {
            Target::Pair(prepared) => prepared.notes(),
            Target::Command(_) | Target::Processes(_) => &[],
        }
    }

    /// How much a pair is to move; 0 where that has no limit, and `None` where it is no pair.
    pub fn bytes(&self) -> Option<u64> {
        match &self.target {
            Target::Pair(prepared) => {
                let least = self.enough.map(|enough| enough.least_bytes);
                Some(prepared.plan().bytes.or(least).unwrap_or_default())
            }
            Target::Command(_) | Target::Processes(_) => None,
        }
    }

    /// What the recording is called: the stage, the command line, or `yes | gzip`.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Has it recorded into `dir` from the moment it is let go.
    ///
    /// # Errors
    /// Those of [`Session::attach`].
    pub fn record(&mut self, config: &CaptureConfig, dir: RecordingDir) -> Result<&Session, Error> {
        let mut config = CaptureConfig { stop: self.stop.clone(), ..config.clone() };
        if let Target::Pair(_) = self.target {
            // Where both ends are pinned, per-CPU events are needed nowhere else.
            config.cpus = pinned_to(&self.found.pipeline);
        }
        self.keep = config.limits.keep;
        self.enough = config.enough;
        let pipeline = match self.target {
            Target::Processes(_) => everyone(&self.found),
            Target::Pair(_) | Target::Command(_) => self.found.pipeline.clone(),
        };
        let mut session = Session::attach(&RunningKernel, &pipeline, &config, dir)?;
        session.begin(&complete::about(self.title.clone(), Duration::ZERO))?;
        Ok(self.session.insert(session))
    }

    /// Has its pipes counted and looked into, and its new members followed. Else it merely runs.
    pub fn count(&mut self) {
        self.counts = true;
    }

    /// Lets it go.
    ///
    /// # Errors
    /// [`Error::Command`] where it cannot be executed, [`Error::Control`] where no thread can be
    /// started.
    pub fn release(self) -> Result<Watcher, Error> {
        let Standby { target, mut found, title, stop, mut session, counts, keep, enough } = self;
        let launched = !matches!(target, Target::Processes(_));
        let mut pipeline = everyone(&found);
        if let (Target::Processes(extent), true) = (&target, counts) {
            // Since it was found, a tenth of a second went into opening events.
            let known: Vec<MemberId> = pipeline.members.iter().map(Member::id).collect();
            if let Ok(now) = discover_again(&known, *extent, Vec::new()) {
                pipeline.merge(&now.pipeline, &now.wrappers);
                found = now;
            }
        }
        let counted_ns = now_ns();
        let counting = match &target {
            // Who only runs a pair, for its speed, is to have nothing looked at.
            _ if !counts => Counting::Nothing,
            Target::Pair(_) => {
                let keep_ns = keep.map(|keep| 2 * keep.as_nanos() as u64);
                let series = keep_ns.map_or_else(Series::default, Series::of_last);
                Counting::Pair { series, gauge: Gauge::default(), keeps: keep.is_some() }
            }
            Target::Command(_) | Target::Processes(_) => {
                Counting::Meter(Meter::start_keeping(found.clone(), launched, keep)?)
            }
        };
        let process_events = match &target {
            _ if matches!(counting, Counting::Nothing) => None,
            Target::Pair(_) => None,
            Target::Command(prepared) => ProcessEvents::follow(&RunningKernel, &[prepared.pid()]),
            Target::Processes(_) => {
                let pids: Vec<i32> = pipeline.members.iter().map(|member| member.pid).collect();
                ProcessEvents::follow(&RunningKernel, &pids)
            }
        };
        if launched && let Some(session) = &mut session {
            session.members_are_released();
        }
        let started = Instant::now();
        let subject = match target {
            Target::Pair(prepared) => Subject::Pair(Box::new(prepared.release())),
            Target::Command(prepared) => {
                let id = MemberId { pid: prepared.pid(), start_time: None };
                let pidfd = id.pidfd().ok();
                Subject::Command { running: prepared.release()?, pidfd, status: None }
            }
            Target::Processes(extent) => Subject::Processes { extent, alive: None },
        };
        if let Some(session) = &mut session {
            measure_effect(session, &counting, &subject, &pipeline)?;
        }
        let watch = Watcher {
            subject,
            pipeline,
            found,
            title,
            stop,
            session,
            counting,
            process_events,
            started,
            counted_ns,
            enough,
            ending: Ending::Ended,
        };
        Ok(watch)
    }
}

/// Has a session measure what sampling does, where anything tells how much is moved.
fn measure_effect(
    session: &mut Session,
    counting: &Counting,
    subject: &Subject,
    pipeline: &Pipeline,
) -> Result<(), Error> {
    match (counting, subject) {
        (Counting::Pair { .. }, Subject::Pair(running)) => {
            let Some(key) = pipeline.pipes.first().map(Pipe::key) else { return Ok(()) };
            let progress = running.progress();
            session.measure_effect(Box::new(move || vec![(key, progress.moved().read)]))
        }
        (Counting::Meter(meter), _) => session.measure_effect(Box::new(meter.asker())),
        _ => Ok(()),
    }
}

fn pinned_to(pipeline: &Pipeline) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for member in &pipeline.members {
        cpus.extend(of_thread(member.pid)?.into_iter().map(|cpu| cpu as u32));
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// Wrappers behind the members.
fn everyone(found: &Found) -> Pipeline {
    let mut all = Pipeline::default();
    all.merge(&found.pipeline, &found.wrappers);
    all
}

/// Those who hold its pipes, where anybody does: `yes | gzip`, though `timeout` waits for `yes`.
fn names(pipeline: &Pipeline) -> String {
    let ends = pipeline.pipes.iter().flat_map(|pipe| pipe.writers.iter().chain(&pipe.readers));
    let holders: FxHashSet<MemberId> = ends.copied().collect();
    let is_named = |member: &&Member| holders.is_empty() || holders.contains(&member.id());
    let named = pipeline.members.iter().filter(is_named);
    named.map(|member| member.comm.as_str()).collect::<Vec<_>>().join(" | ")
}

#[derive(Debug)]
enum Counting {
    Meter(Meter),
    /// The pair counts its bytes; levels are noted at each tick.
    Pair {
        series: Series,
        gauge: Gauge,
        keeps: bool,
    },
    Nothing,
}

/// A watch that goes on.
#[derive(Debug)]
pub struct Watcher {
    subject: Subject,
    pipeline: Pipeline,
    found: Found,
    title: String,
    stop: Stop,
    session: Option<Session>,
    counting: Counting,
    process_events: Option<ProcessEvents>,
    started: Instant,
    /// When the counting of bytes began.
    counted_ns: u64,
    enough: Option<Enough>,
    ending: Ending,
}

/// What came of a watch.
#[derive(Debug)]
pub struct Watched {
    /// How it ended.
    pub ending: Ending,
    /// A stop was requested, even if something else ended the watch.
    pub interrupted: bool,
    /// How long it was watched.
    pub elapsed: Duration,
    /// Everyone and every pipe; wrappers are the last of the members.
    pub pipeline: Pipeline,
    /// What went through the pipes, where that was counted.
    pub flows: Vec<PipeFlow>,
    /// What was recorded, where it was.
    pub recording: Option<Recording>,
    /// The outcome of what was watched.
    pub came: Came,
}

impl Watcher {
    /// Watches until the pipeline ends, `duration` is over, the recording is full, a look is
    /// satisfied, or a stop is requested; and calls `looks` ten times a second.
    ///
    /// # Errors
    /// Where waiting itself fails.
    pub fn watch(
        &mut self,
        duration: Option<Duration>,
        looks: &mut [&mut dyn Look],
    ) -> Result<Ending, Error> {
        let (first_look, last_look) = match self.subject {
            Subject::Command { .. } if self.process_events.is_some() => {
                (FIRST_LOOK, LAST_LOOK_WITH_EVENTS)
            }
            Subject::Command { .. } => (FIRST_LOOK, LAST_LOOK),
            Subject::Pair(_) | Subject::Processes { .. } => (RELOOK, RELOOK),
        };
        let drains = matches!(self.subject, Subject::Pair(_));
        // A pair without a limit has no other end.
        let duration = duration.or(self.enough.filter(|_| drains).map(|_| Duration::ZERO));
        let mut decisions = Decisions::new(Timing { duration, first_look, last_look, drains });
        let mut known = self.ids();
        looks.iter_mut().for_each(|look| look.follow(&known));
        let (mut any_event, mut pause) = (false, Duration::ZERO);
        loop {
            let ended = self.subject.wait(&known, self.process_events.as_ref(), pause)?;
            any_event |= self.process_events.as_mut().is_some_and(ProcessEvents::any_new);
            let observed = Observed {
                elapsed: self.started.elapsed(),
                ended,
                asked: self.stop.is_asked(),
                full: self.session.as_ref().is_some_and(Session::is_full),
                any_event,
                enough: self.has_enough(),
                satisfied: looks.iter().any(|look| look.is_satisfied()),
            };
            match decisions.step(observed) {
                Step::End(ending) => {
                    // Who came since the last look may have gone already.
                    if ending == Ending::Ended && self.look_for_members(&known) {
                        known = self.ids();
                        looks.iter_mut().for_each(|look| look.follow(&known));
                    }
                    self.ending = ending;
                    return Ok(ending);
                }
                Step::Ask(_) => self.subject.ask(),
                Step::Look { accounts, members } => {
                    if members {
                        any_event = false;
                        let began = cpu_time();
                        let is_new = self.look_for_members(&known);
                        if is_new {
                            known = self.ids();
                            looks.iter_mut().for_each(|look| look.follow(&known));
                        }
                        let now = self.started.elapsed();
                        decisions.looked(now, cpu_time().saturating_sub(began), is_new);
                    }
                    // A look at hundreds of members takes long enough to be asked to stop meanwhile.
                    if accounts && !self.stop.is_asked() {
                        let began = cpu_time();
                        self.look_at_members(&known, looks);
                        let now = self.started.elapsed();
                        decisions.read_accounts(now, cpu_time().saturating_sub(began));
                    }
                }
            }
            pause = decisions.pause(self.started.elapsed(), any_event);
        }
    }

    /// There is as much of the watch as was wanted, beside its time.
    fn has_enough(&self) -> bool {
        let (Some(enough), Some(session)) = (&self.enough, &self.session) else { return true };
        let has_moved = self.subject.moved().is_none_or(|bytes| bytes >= enough.least_bytes);
        has_moved && (self.started.elapsed() >= enough.most || session.has_enough_samples())
    }

    /// Everyone who was seen so far; wrappers are the last of the members.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// How full the pipes are now, in the order of [`Watcher::found`].
    pub fn levels(&self) -> Vec<Option<Level>> {
        self.found.levels()
    }

    /// Members and pipes at the latest look.
    pub fn found(&self) -> &Found {
        &self.found
    }

    fn ids(&self) -> Vec<MemberId> {
        self.pipeline.members.iter().map(Member::id).collect()
    }

    /// Whether there are new members or pipes.
    fn look_for_members(&mut self, known: &[MemberId]) -> bool {
        if matches!(self.counting, Counting::Nothing) {
            return false;
        }
        let events = self.process_events.as_mut();
        let ended = events.map(ProcessEvents::snapshots).unwrap_or_default();
        let Some(found) = self.subject.look(known, ended) else { return false };
        let is_larger = self.pipeline.merge(&found.pipeline, &found.wrappers);
        if !self.pipeline.set_apart(&found.handed_down) && !is_larger {
            return false;
        }
        if let Some(events) = &mut self.process_events {
            events.add(found.everyone().map(|member| member.pid));
        }
        if let Counting::Meter(meter) = &self.counting {
            meter.follow(found.clone());
        }
        if let Some(session) = &self.session {
            session.connect(&self.pipeline);
        }
        self.found = found;
        true
    }

    fn look_at_members(&mut self, known: &[MemberId], looks: &mut [&mut dyn Look]) {
        if let Some(session) = &mut self.session {
            session.read_accounts(known);
            let (title, pipeline, elapsed) = (&self.title, &self.pipeline, self.started.elapsed());
            session.note_progress(pipeline, || complete::about(title.clone(), elapsed));
        }
        let (elapsed, moved) = (self.started.elapsed(), self.subject.moved());
        if let (Counting::Pair { series, gauge, .. }, Some(bytes)) = (&mut self.counting, moved) {
            let at_ns = elapsed.as_nanos() as u64;
            series.add(Point { at_ns, bytes });
            let key = self.pipeline.pipes.first().map(Pipe::key);
            let levels = self.found.pipeline.pipes.iter().zip(self.found.levels());
            let level =
                levels.filter(|(pipe, _)| Some(pipe.key()) == key).find_map(|(_, level)| level);
            if let Some(level) = level {
                gauge.add(at_ns, level);
            }
        }
        let tick = Tick { elapsed, moved, pipeline: &self.pipeline, found: &self.found };
        looks.iter_mut().for_each(|look| look.look(&tick));
    }

    /// Ends the watch. What was launched and has not ended is ended.
    ///
    /// # Errors
    /// Where a thread died, or waiting for what was launched fails.
    pub fn finish(self) -> Result<Watched, Error> {
        let Watcher { subject, pipeline, title, stop, mut session, counting, started, .. } = self;
        let watched = started.elapsed();
        let is_pair = matches!(subject, Subject::Pair(_));
        if let Some(session) = &mut session {
            // The measuring thread reads the meter, and ended members move nothing more.
            session.end_measuring()?;
            if !is_pair {
                session.set_pipeline(pipeline.clone());
            }
        }
        let mut subject = Some(subject);
        // A pair has ended, and is waited for before the rest.
        let came = if is_pair { subject.take().map(Subject::finish).transpose()? } else { None };
        let elapsed = match &came {
            Some(Came::Pair(outcome)) => outcome.elapsed,
            _ => watched,
        };
        let flows = match (counting, &came) {
            (Counting::Meter(meter), _) => meter.finish()?,
            (Counting::Pair { series, gauge, keeps }, Some(Came::Pair(outcome))) => {
                vec![flow_of_pair(&pipeline, series, &gauge, keeps, outcome)]
            }
            _ => Vec::new(),
        };
        let stopped = session.map(|session| session.stop(&RunningKernel)).transpose()?;
        // What a member does once it is asked to end is not part of the watch.
        if let Some(subject) = &mut subject {
            subject.end(stop.is_asked(), stop.ending());
        }
        let interrupted = stop.is_asked();
        let recording = stopped.map(|stopped| {
            let about = About {
                interrupted,
                flows: flows.clone(),
                cpu_time_ns: cpu_times(came.as_ref()),
                ..complete::about(title, elapsed)
            };
            complete::finish(stopped, about, self.counted_ns)
        });
        let recording = recording.transpose()?;
        let came = match (came, subject) {
            (Some(came), _) => came,
            (None, Some(subject)) => subject.finish()?,
            (None, None) => Came::Processes,
        };
        Ok(Watched { ending: self.ending, interrupted, elapsed, pipeline, flows, recording, came })
    }
}

fn flow_of_pair(
    pipeline: &Pipeline,
    mut series: Series,
    gauge: &Gauge,
    keeps: bool,
    outcome: &pipeprof_runner::outcome::Outcome,
) -> PipeFlow {
    if keeps {
        series.add(Point { at_ns: outcome.elapsed.as_nanos() as u64, bytes: outcome.bytes });
    }
    let pipe = pipeline.pipes.first();
    let calls = |end: &pipeprof_runner::outcome::EndOutcome| {
        end.report.as_ref().map(|report| report.tally.calls)
    };
    PipeFlow {
        inode: pipe.map_or(0, |pipe| pipe.inode),
        device: pipe.map_or(0, |pipe| pipe.device),
        bytes: Bytes::Known { bytes: outcome.bytes, source: Source::Pair },
        writes: calls(&outcome.writer),
        reads: calls(&outcome.reader),
        over_time: series.points().to_vec(),
        fill_over_time: gauge.points().to_vec(),
        capacity_bytes: pipe.and_then(|pipe| pipe.capacity_bytes),
        fill: gauge.fill(),
    }
}

/// What the ends of a pair say of themselves.
fn cpu_times(came: Option<&Came>) -> Vec<Option<u64>> {
    let Some(Came::Pair(outcome)) = came else { return Vec::new() };
    let used = |end: &pipeprof_runner::outcome::EndOutcome| {
        end.report.as_ref().map(|report| report.usage.cpu_ns())
    };
    [&outcome.writer, &outcome.reader].map(used).to_vec()
}

/// What this thread has used.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A shell needs some milliseconds to start its members, and short ones end soon after.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// A look at what a command started takes some 100 microseconds a process.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Where the kernel tells of each process that begins or ends, what is left to find is who opens or
/// closes a pipe meanwhile.
const LAST_LOOK_WITH_EVENTS: Duration = Duration::from_millis(400);

/// New members join a running pipeline seldom, and a look at all processes takes some milliseconds.
const RELOOK: Duration = Duration::from_secs(1);
