//! From a target to its profile: launch or find it, attach, release, watch, stop, analyse.

use std::path::Path;
use std::time::{Duration, Instant};

use pipeprof_profiler::Error;
use pipeprof_profiler::analyse::analyse_part;
use pipeprof_profiler::profile;
use pipeprof_profiler::recording::{Recording, RecordingDir};
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_profiler::symbolize::RecordingSymbolizer;
use pipeprof_profiler::watcher::{Came, Standby, Watched};
use pipeprof_report::run::Run;
use pipeprof_report::topology;
use pipeprof_runner::discover::Extent;
use pipeprof_runner::ends::Complaint;
use pipeprof_runner::outcome::Outcome;
use pipeprof_runner::plan::PairPlan;

use crate::args::pair as pair_args;
use crate::args::scope::Scope;
use crate::args::target::Target;
use crate::interrupt::Interrupt;
use crate::progress::{Analysing, Watching};
use crate::salvage::{Taken, keep_unread};
use crate::ui::{Exit, Ui, explained, hinted, stopped};

/// The result of watching a target.
pub(crate) struct Captured {
    pub(crate) run: Run,
    /// The recording that it was made from.
    pub(crate) taken: Taken,
    /// How the target failed, if it did.
    pub(crate) failures: Vec<Complaint>,
    /// Ctrl-C ended it.
    pub(crate) interrupted: bool,
}

impl Captured {
    /// The exit status of the command that captured it. Failures are printed.
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

/// Watches a target to its end, with a recording that is removed when the result is dropped.
pub(crate) fn capture(
    target: Target,
    config: &CaptureConfig,
    scope: Scope,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    let dir = RecordingDir::temporary().map_err(explained)?;
    capture_into(dir, target, config, scope, interrupt, ui)
}

/// Watches a target to its end and records into `dir`.
pub(crate) fn capture_into(
    dir: RecordingDir,
    target: Target,
    config: &CaptureConfig,
    of: Scope,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    if let RecordingDir::Temporary(folder) = &dir {
        interrupt.remove_on_quit(folder.path());
    }
    let (duration, tune) = (target.duration(), target.for_tune());
    let mut standby = standby(target, interrupt, ui)?;
    let session = standby.record(config, dir).map_err(refused)?;
    let (_, meta) = session.so_far();
    let opened = match meta.setup.scope {
        profile::Scope::PerCpu => "one event per CPU",
        profile::Scope::PerTask => "one event per thread",
    };
    match meta.frequency_hz {
        Some(hz) => ui.detail(format_args!("sampling {} at {hz} Hz, {opened}", meta.setup.event)),
        None => ui.detail("looking at /proc alone"),
    }
    if let Some(fallback) = &meta.setup.fallback {
        ui.detail(format_args!("not the default event: {fallback}"));
    }
    standby.count();
    let seen = watched(standby, duration, ui)?;
    let Some(mut recording) = seen.recording else {
        return Err(hinted("nothing was recorded", None));
    };
    let incomplete = recording.write_failure.take().map(|error| Complaint {
        message: format!("the recording is incomplete: {error}"),
        hint: recording.room_hint(&error),
    });
    let of_target = failures(&seen.came);
    let mut captured = analysed(recording, of, ui)?;
    captured.run.tune = tune;
    captured.failures.extend(incomplete.into_iter().chain(of_target));
    Ok(captured)
}

/// Gets a target ready to be watched.
pub(crate) fn standby(target: Target, interrupt: &Interrupt, ui: &Ui) -> anyhow::Result<Standby> {
    let stop = interrupt.stop();
    let is_whole = matches!(target, Target::Running { extent: Extent::Whole, .. });
    let standby = match target {
        Target::Pair(plan) => Standby::pair(&plan, &pair_args::reexec(), stop),
        Target::Command { spec, title, .. } => Standby::command(spec, title, stop),
        Target::Running { pids, extent, .. } => Standby::processes(&pids, extent, stop),
    };
    let standby = standby.map_err(refused)?;
    for note in standby.notes() {
        ui.warn(note);
    }
    if standby.found().unreadable > 0 {
        ui.note(format_args!(
            "{} processes of other users could not be read, so members may be missing",
            standby.found().unreadable
        ));
    }
    let found = standby.found();
    if is_whole {
        topology::left_out(&found.pipeline, &found.left_out).iter().for_each(|note| ui.note(note));
    }
    Ok(standby)
}

/// Lets a target go and watches it to its end.
pub(crate) fn watched(
    standby: Standby,
    duration: Option<Duration>,
    ui: &Ui,
) -> anyhow::Result<Watched> {
    let mut bar = Watching::of(&standby, duration, ui);
    let mut watcher = standby.release().map_err(refused)?;
    let ended = watcher.watch(duration, &mut [&mut bar]);
    bar.done();
    ended.and_then(|_| watcher.finish()).map_err(refused)
}

/// Runs a pair without a profiler.
pub(crate) fn run_pair(plan: &PairPlan, interrupt: &Interrupt, ui: &Ui) -> anyhow::Result<Outcome> {
    let standby = standby(Target::Pair(Box::new(plan.clone())), interrupt, ui)?;
    match watched(standby, None, ui)?.came {
        Came::Pair(outcome) => Ok(*outcome),
        Came::Command(_) | Came::Processes => Err(hinted("no pair was run", None)),
    }
}

/// The messages about what failed of what was watched.
pub(crate) fn failures(came: &Came) -> Vec<Complaint> {
    let status = match came {
        Came::Pair(outcome) => return outcome.failures(),
        Came::Command(command) => command.status,
        Came::Processes => None,
    };
    let failed = status.filter(|status| !status.success());
    let message = failed.map(|status| format!("the command ended with {status}"));
    message.into_iter().map(|message| Complaint { message, hint: None }).collect()
}

/// An error of the watch, with what to do about it and the exit status that it stands for.
pub(crate) fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::Pair(error) => pair_args::refused(error),
        Error::Stopped => stopped(error),
        error => explained(error),
    }
}

/// Analyses what was recorded before, to show the event of that name where it has several.
pub(crate) fn reopen(
    path: &Path,
    event: Option<&str>,
    scope: Scope,
    ui: &Ui,
) -> anyhow::Result<Captured> {
    let recording = open(path, event)?;
    // What interrupted the recording then does not interrupt this command.
    Ok(Captured { interrupted: false, ..analysed(recording, scope, ui)? })
}

/// Opens the recording of that path, or the one on standard input.
pub(crate) fn open(path: &Path, event: Option<&str>) -> anyhow::Result<Recording> {
    let recording = match path == Path::new("-") {
        true => Recording::read(&mut std::io::stdin().lock(), event),
        false => Recording::open_event(path, event),
    };
    recording.map_err(explained)
}

pub(crate) fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |system| system.release().to_string_lossy().into_owned())
}

fn analysed(recording: Recording, scope: Scope, ui: &Ui) -> anyhow::Result<Captured> {
    try_analysed(recording, scope, ui).map_err(|(recording, error)| {
        keep_unread(*recording, ui);
        error
    })
}

/// Analyses what was recorded. A recording for which that fails is handed back.
pub(crate) fn try_analysed(
    recording: Recording,
    scope: Scope,
    ui: &Ui,
) -> Result<Captured, (Box<Recording>, anyhow::Error)> {
    let part = match scope.part(&recording) {
        Ok(part) => part,
        Err(error) => return Err((Box::new(recording), error)),
    };
    let started = Instant::now();
    let mut symbolizer = recording.symbolizer();
    let mut recorder = RecordingSymbolizer::new(symbolizer.as_mut());
    let mut bar = Analysing::new(ui);
    let clock_ns = part.map(|part| part.clock_ns);
    let profile = analyse_part(&recording, clock_ns, &mut recorder, &mut |at| bar.at(at));
    bar.done();
    let symbols = recorder.into_table();
    let profile = match profile {
        Ok(profile) => profile,
        Err(error) => return Err((Box::new(recording), explained(error))),
    };
    ui.detail(format_args!(
        "analysed {} samples in {:.0} ms",
        profile.quality.samples,
        started.elapsed().as_secs_f64() * 1e3
    ));
    let run = match part {
        Some(part) => Run::of_part(&recording, profile, part),
        None => Run::of(&recording, profile),
    };
    let run = scope.folded(run);
    let interrupted = recording.about.interrupted;
    let taken = Taken { recording, symbols };
    Ok(Captured { run, taken, failures: Vec::new(), interrupted })
}
