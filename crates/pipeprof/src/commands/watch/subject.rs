//! What is watched over all stretches: a command that was launched, or processes that ran before.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use pipeprof_profiler::watcher::{Look, Tick};
use pipeprof_runner::command::{Ending, Prepared, Running};
use pipeprof_runner::discover::{Extent, discover};
use pipeprof_runner::ends::Complaint;
use pipeprof_runner::pipeline::{Member, MemberId};

use crate::args::target::Target;
use crate::interrupt::Interrupt;
use crate::ui::explained;

/// What is watched.
pub(super) struct Subject {
    pub(super) extent: Extent,
    /// Whoever belonged to it when that was last known.
    members: Vec<MemberId>,
    command: Option<Running>,
    status: Option<ExitStatus>,
    until: Option<Instant>,
}

/// A command line forms its pipeline within this, or has none.
const FORMS_WITHIN: Duration = Duration::from_millis(500);

impl Subject {
    pub(super) fn start(target: Target, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let until = target.duration().map(|duration| Instant::now() + duration);
        match target {
            Target::Running { pids, extent, .. } => {
                let found = discover(&pids, extent).map_err(explained)?;
                let members = found.everyone().map(Member::id).collect();
                Ok(Subject { extent, members, command: None, status: None, until })
            }
            Target::Command { spec, .. } => {
                let running = spec.prepare().and_then(Prepared::release);
                let mut running = running.map_err(explained)?;
                let started = Instant::now();
                loop {
                    let status = running.try_wait().map_err(explained)?;
                    let found = running.pipeline().unwrap_or_default();
                    let stands = !found.pipeline.pipes.is_empty();
                    if stands
                        || status.is_some()
                        || interrupt.is_set()
                        || started.elapsed() > FORMS_WITHIN
                    {
                        let members = found.everyone().map(Member::id).collect();
                        let command = Some(running);
                        return Ok(Subject {
                            extent: Extent::Whole,
                            members,
                            command,
                            status,
                            until,
                        });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Target::Pair(_) => anyhow::bail!("the built-in pair can't be watched"),
        }
    }

    /// Those of its processes that are there.
    pub(super) fn pids(&self) -> Vec<i32> {
        if let Some(found) = self.command.as_ref().and_then(|running| running.pipeline().ok()) {
            return found.everyone().map(|member| member.pid).collect();
        }
        let there = self.members.iter().filter(|id| id.is_running());
        there.map(|id| id.pid).collect()
    }

    /// These belong to it by now.
    pub(super) fn follow(&mut self, members: &[Member]) {
        self.members = members.iter().map(Member::id).filter(MemberId::is_running).collect();
    }

    /// How long it is still to be watched.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// There is nothing more to watch.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_some()
            || self.time_left().is_some_and(|left| left.is_zero())
            || self.pids().is_empty()
    }

    /// Ends a command that still runs. How it failed, if it did by itself.
    pub(super) fn finish(self, interrupt: &Interrupt) -> Option<Complaint> {
        let Subject { command, mut status, .. } = self;
        let mut command = command?;
        // Its processes have ended, and so will it.
        let deadline = Instant::now() + FORMS_WITHIN;
        let is_late = self.until.is_some_and(|until| until <= Instant::now());
        while status.is_none() && !is_late && !interrupt.is_set() && Instant::now() < deadline {
            status = command.try_wait().ok().flatten();
            std::thread::sleep(Duration::from_millis(5));
        }
        let stop = interrupt.stop();
        if status.is_none() || stop.is_asked() {
            command.end(if stop.is_asked() { stop.ending() } else { Ending::Asked });
        }
        let failed = status.filter(|status| !status.success())?;
        Some(Complaint { message: format!("the command ended with {failed}"), hint: None })
    }
}

impl Look for Subject {
    fn look(&mut self, _tick: &Tick<'_>) {
        if let Some(command) = &mut self.command {
            // Where its guardian was killed, its processes still tell when they have ended.
            self.status = command.try_wait().ok().flatten();
        }
    }

    fn is_satisfied(&self) -> bool {
        self.status.is_some()
    }
}
