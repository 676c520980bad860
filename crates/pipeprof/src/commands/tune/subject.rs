//! The pipeline that is tuned: a running one, or a command line, which is run again if it ends too
//! soon.

use std::time::{Duration, Instant};

use pipeprof_profiler::meter::{Meter, Total};
use pipeprof_runner::command::{Running, Spec};
use pipeprof_runner::discover::{Extent, Found, discover};
use pipeprof_runner::pipeline::{Member, MemberId};

use crate::args::target::Target;
use crate::interrupt::Interrupt;
use crate::ui::{explained, hinted};

/// A pipeline, its bytes, and what started it.
pub(super) struct Subject {
    /// Its members' names, or the command line.
    pub(super) title: String,
    pub(super) found: Found,
    /// Who the members are.
    pub(super) processes: Vec<MemberId>,
    meter: Meter,
    command: Option<Command>,
}

struct Command {
    spec: Spec,
    running: Running,
}

/// A command line has to form its pipeline within this.
const FORMS_WITHIN: Duration = Duration::from_secs(5);

impl Subject {
    pub(super) fn of(target: Target, interrupt: &Interrupt) -> anyhow::Result<Self> {
        match target {
            Target::Running { pids, extent, .. } => {
                let found = discover(&pids, extent).map_err(explained)?;
                let names: Vec<&str> =
                    found.pipeline.members.iter().map(|member| member.comm.as_str()).collect();
                let title = names.join(" | ");
                Subject::new(title, found, None)
            }
            Target::Command { spec, title, .. } => launch(spec, title, interrupt),
            Target::Pair(_) => anyhow::bail!("the built-in pair can't be tuned"),
        }
    }

    fn new(title: String, found: Found, command: Option<Command>) -> anyhow::Result<Self> {
        if found.pipeline.pipes.is_empty() {
            let hint = "`pipeprof ls` lists the pipelines of this machine".to_owned();
            return Err(hinted(
                format!("{title} has no pipe, so there is nothing to tune"),
                Some(hint),
            ));
        }
        let processes = found.pipeline.members.iter().map(Member::id).collect();
        let meter = Meter::start(found.clone(), false).map_err(explained)?;
        Ok(Subject { title, found, processes, meter, command })
    }

    /// Bytes through each pipe so far.
    pub(super) fn totals(&self) -> anyhow::Result<Vec<Total>> {
        self.meter.totals().map_err(explained)
    }

    /// Any of its members is still there.
    pub(super) fn is_there(&self) -> bool {
        self.processes.iter().all(MemberId::is_running)
    }

    /// Runs the command line again, where there is one and it has ended well. Whether it did.
    pub(super) fn run_again(&mut self, interrupt: &Interrupt) -> anyhow::Result<bool> {
        let Some(mut command) = self.command.take() else { return Ok(false) };
        let until = Instant::now() + FORMS_WITHIN;
        loop {
            match command.running.try_wait().map_err(explained)? {
                Some(status) if status.success() => break,
                Some(status) => anyhow::bail!("the command ended with {status}"),
                None if Instant::now() > until || interrupt.is_set() => return Ok(false),
                None => std::thread::sleep(PAUSE),
            }
        }
        let before: Vec<String> = self.names();
        let next = launch(command.spec, self.title.clone(), interrupt)?;
        if next.names() != before {
            anyhow::bail!("the command started other members when it was run again");
        }
        *self = next;
        Ok(true)
    }

    fn names(&self) -> Vec<String> {
        self.found.pipeline.members.iter().map(|member| member.comm.clone()).collect()
    }
}

const PAUSE: Duration = Duration::from_millis(5);

/// Starts a command line and waits until its pipeline stands.
pub(super) fn launch(spec: Spec, title: String, interrupt: &Interrupt) -> anyhow::Result<Subject> {
    let prepared = spec.clone().prepare().map_err(explained)?;
    let mut running = prepared.release().map_err(explained)?;
    let until = Instant::now() + FORMS_WITHIN;
    let mut last: Option<Found> = None;
    loop {
        if running.try_wait().map_err(explained)?.is_some() {
            let hint = "give it more input, so that it runs for some seconds".to_owned();
            return Err(hinted("the command ended before its pipeline could be seen", Some(hint)));
        }
        let found = running.pipeline().ok().filter(|found| !found.pipeline.pipes.is_empty());
        if let Some(found) = found {
            // Members that are still shells get their names by exec.
            let same = last.as_ref().is_some_and(|last| last.pipeline == found.pipeline);
            if same {
                let pids: Vec<i32> = found.pipeline.members.iter().map(|m| m.pid).collect();
                let found = discover(&pids, Extent::OnlyThese).unwrap_or(found);
                return Subject::new(title, found, Some(Command { spec, running }));
            }
            last = Some(found);
        }
        if Instant::now() > until || interrupt.is_set() {
            return Err(hinted("the command has no pipe, so there is nothing to tune", None));
        }
        std::thread::sleep(20 * PAUSE);
    }
}
