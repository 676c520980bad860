//! `pipeprof tour`: the stages one after the other, run, profiled and explained.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pipeprof_profiler::environment::Environment;
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::flamegraph::{self, View};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::summary::Summary;
use pipeprof_report::tour::{Page, Place, Step, Tour};
use pipeprof_runner::outcome::Outcome;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::size;
use pipeprof_runner::stage::Stage;

use crate::args::pair::{self as pair_args, parse_stage};
use crate::args::scope::Scope;
use crate::args::target::Target;
use crate::capture::{Captured, capture, run_pair};
use crate::commands::doctor;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::terminal;
use crate::ui::{Exit, Ui, explained, wrong_usage};

/// Explain the optimisation stages one by one, measured on this machine
///
/// Runs and profiles each stage, shows where writer and reader spent their time, explains what the
/// kernel does and in which functions, and compares it with the stage that it builds on. Waits for
/// Enter in between.
#[derive(Debug, Args)]
pub(crate) struct TourArgs {
    /// Do not wait for Enter
    #[arg(long)]
    no_pause: bool,
    /// Stages to show, in this order [default: the article's five, tee and tee-large]
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',', value_parser = parse_stage)]
    stages: Vec<Stage>,
    /// Bytes per stage [default: a few seconds' worth]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    bytes: Option<u64>,
    /// Also draw flame graphs, as FOLDER/tour-STAGE.svg
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

/// Long enough for some thousand samples of each end.
const GOOD_TIME: Duration = Duration::from_millis(2500);
/// Long enough to tell a stage's speed by.
const SHORT_TIME: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &TourArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let stages = if args.stages.is_empty() { Stage::LADDER.to_vec() } else { args.stages.clone() };
    if let Some(twice) = stages.iter().enumerate().find(|(at, s)| stages[..*at].contains(s)) {
        let error = format_args!("--stages has {} twice", twice.1);
        return Err(wrong_usage(error));
    }
    for stage in &stages {
        PairPlan::new(*stage, &knobs(args.bytes)).map_err(pair_args::refused)?;
        if let Some(folder) = &args.svg {
            Output::open(&picture(folder, *stage))?;
        }
    }
    let style = terminal::style(ui);
    let is_terminal = io::stdout().is_terminal();
    let page = Page::new(style, terminal::columns());
    let mut guide = Guide {
        tour: Tour::new(&stages, page),
        interrupt: Interrupt::install()?,
        limit: doctor::kernel_limit()
            .map(|limit| limit + "\n`pipeprof doctor` says what else can be measured here"),
        pauses: !args.no_pause && is_terminal && io::stdin().is_terminal(),
        failed: false,
        args,
        ui,
    };
    let stopped = guide.walk(&stages).err();
    match stopped {
        Some(Stop::NobodyReads) => return Ok(Exit::Done),
        Some(Stop::Failed(error)) => return Err(error),
        _ => {}
    }
    let summed_up = guide.say(&guide.tour.summary());
    match (stopped, summed_up) {
        (_, Err(Stop::Failed(error))) => Err(error),
        (Some(Stop::Interrupted), _) => Ok(Exit::Interrupted),
        _ if guide.failed => Ok(Exit::Failed),
        _ => Ok(Exit::Done),
    }
}

fn knobs(bytes: Option<u64>) -> Knobs {
    Knobs { bytes, ..Knobs::default() }
}

fn picture(folder: &Path, stage: Stage) -> PathBuf {
    folder.join(format!("tour-{stage}.svg"))
}

/// Why a tour ends.
enum Stop {
    /// The user has seen enough.
    Asked,
    /// Ctrl-C.
    Interrupted,
    /// Standard output has been closed.
    NobodyReads,
    /// It can't go on.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Stop {
        Stop::Failed(error)
    }
}

struct Guide<'a> {
    tour: Tour,
    interrupt: Interrupt,
    /// What keeps pipeprof from measuring kernel code.
    limit: Option<String>,
    pauses: bool,
    /// A stage could not be run.
    failed: bool,
    args: &'a TourArgs,
    ui: &'a Ui,
}

impl Guide<'_> {
    fn walk(&mut self, stages: &[Stage]) -> Result<(), Stop> {
        let environment = Environment::read();
        let place = Place {
            kernel: environment.kernel_release.unwrap_or_default(),
            cpus: environment.cpus_online,
            guest: environment.virtualisation.guest,
        };
        let opening = self.tour.opening(&place);
        self.say(&opening)?;
        for (at, stage) in stages.iter().enumerate() {
            if at > 0 {
                self.say(&self.tour.proposal(*stage))?;
                self.pause(*stage)?;
            }
            self.say(&self.tour.introduction(*stage))?;
            let step = match self.run(*stage) {
                Err(Stop::Failed(error)) => {
                    self.failed = true;
                    Step::unprofiled(*stage, None, format!("{error:#}"))
                }
                step => step?,
            };
            let text = self.tour.step(step);
            self.say(&text)?;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> Result<(), Stop> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Stop::NobodyReads),
            written => Ok(written.context("writing to standard output")?),
        }
    }

    /// Until Enter; `q` or the end of input stop the tour.
    fn pause(&self, next: Stage) -> Result<(), Stop> {
        if !self.pauses {
            return Ok(());
        }
        let prompt = format!("\nPress Enter to see what {next} changes, q and Enter to stop: ");
        // Where stderr is closed, the user has to guess.
        let _ = io::stderr().lock().write_all(prompt.as_bytes());
        let stdin = io::stdin();
        loop {
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let polled = poll(&mut ready, PollTimeout::from(100u16));
            if self.interrupt.is_set() {
                let _ = io::stderr().lock().write_all(b"\n");
                return Err(Stop::Interrupted);
            }
            match polled {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(anyhow::anyhow!("waiting for Enter: {errno}").into()),
            }
            // A terminal gives one line a read.
            let mut line = [0; 256];
            let length = nix::unistd::read(&stdin, &mut line).context("waiting for Enter")?;
            let answer = String::from_utf8_lossy(&line[..length]).trim().to_ascii_lowercase();
            return if length == 0 || answer.starts_with('q') { Err(Stop::Asked) } else { Ok(()) };
        }
    }

    fn run(&self, stage: Stage) -> Result<Step, Stop> {
        let bytes = match self.args.bytes {
            Some(bytes) => bytes,
            None => self.enough_bytes(stage)?,
        };
        let plan = PairPlan::new(stage, &knobs(Some(bytes)))
            .map_err(|error| pair_args::complaint(&error.into()))?;
        if let Some(limit) = &self.limit {
            let outcome = self.run_unprofiled(&plan)?;
            for note in &outcome.notes {
                self.ui.warn(note);
            }
            let rate = outcome.bytes as f64 / outcome.elapsed.as_secs_f64();
            return Ok(Step::unprofiled(stage, Some(rate), limit.clone()));
        }
        let config = CaptureConfig { switches: true, rises: true, ..CaptureConfig::default() };
        let target = Target::Pair(Box::new(plan));
        let captured = capture(target, &config, Scope::default(), &self.interrupt, self.ui);
        if self.interrupt.is_set() {
            // The result of a run that had hardly begun does not count.
            return Err(Stop::Interrupted);
        }
        let captured = captured?;
        if let Some(failure) = captured.failures.first() {
            return Err(pair_args::complaint(failure).into());
        }
        let summary = Summary::of(&captured.run, &Highlights::article(), View::default());
        if let Some(folder) = &self.args.svg {
            // The tour goes on without the picture.
            if let Err(error) = self.draw(&captured, &summary, &picture(folder, stage)) {
                self.ui.warn_of(&error);
            }
        }
        for note in &captured.run.profile.quality.notes {
            self.ui.warn(note);
        }
        Ok(Step::profiled(stage, summary, &captured.run.profile))
    }

    fn draw(&self, captured: &Captured, summary: &Summary, path: &Path) -> anyhow::Result<()> {
        let picture = Output::open(path)?;
        picture.write(|out| {
            let (run, view) = (&captured.run, View::default());
            let headline = summary.verdict.as_ref().map(|verdict| &*verdict.headline);
            let drawn = flamegraph::render(run, &Highlights::article(), view, headline, out);
            drawn.map_err(explained)
        })?;
        picture.note_written(self.ui);
        Ok(())
    }

    /// As many bytes as take [`GOOD_TIME`], from a run of at least [`SHORT_TIME`].
    fn enough_bytes(&self, stage: Stage) -> Result<u64, Stop> {
        let mut bytes = 64 << 20;
        loop {
            let plan = PairPlan::new(stage, &knobs(Some(bytes)))
                .map_err(|error| pair_args::complaint(&error.into()))?;
            let elapsed = self.run_unprofiled(&plan)?.elapsed;
            if elapsed >= SHORT_TIME || bytes >= 1 << 40 {
                let scale = GOOD_TIME.as_secs_f64() / elapsed.as_secs_f64().max(1e-3);
                return Ok(round_up((bytes as f64 * scale) as u64));
            }
            bytes *= 8;
        }
    }

    fn run_unprofiled(&self, plan: &PairPlan) -> Result<Outcome, Stop> {
        let outcome = run_pair(plan, &self.interrupt, self.ui)?;
        if outcome.interrupted {
            return Err(Stop::Interrupted);
        }
        match outcome.failures().first() {
            Some(failure) => Err(pair_args::complaint(failure).into()),
            None => Ok(outcome),
        }
    }
}

/// A round number of bytes, at least 256 MiB.
fn round_up(bytes: u64) -> u64 {
    let unit = (bytes.next_power_of_two() / 8).max(256 << 20);
    bytes.next_multiple_of(unit).max(unit)
}
