//! `pipeprof tune`: tries changes on a running pipeline, undoes them, and reports what was proven.

mod advice;
mod compare;
mod lines;
mod live;
mod look;
mod subject;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pipeprof_report::tuning::{
    Confirmed, NotTried, Outcome, Plan, Planned, Proof, Rate, Treatment, Tried, announcement, plan,
    render, write_page,
};
use pipeprof_runner::tuning::Guardian;

use crate::args::json::{JsonArgs, pretty};
use crate::args::pair::PairArgs;
use crate::args::target::{Target, TargetArgs, parse_duration};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Watching;
use crate::ui::{Exit, Ui, as_usage, explained, hinted, wrong_usage};
use compare::{Limits, Measured};
use lines::{LineTrial, Lines};
use live::LiveTrial;
use subject::Subject;

/// Try changes on a running pipeline and report which of them make it faster
///
/// Changes one thing at a time (capacity of a pipe, CPUs of its ends, nice values) for fractions of
/// a second, compares throughput with and without the change, and undoes it. Skips changes that
/// cannot matter. Measures the winners together once more.
///
/// With -c, mark a gap with @ (A | @ | B) to try a buffer there; --try-flags tries other numbers of
/// threads. Both run the command many times.
///
/// Restores everything at the end and on Ctrl-C; if pipeprof is killed, a guardian process does.
/// Data, their order and exit statuses do not change.
#[derive(Debug, clap::Args)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Make the changes without asking
    #[arg(short, long)]
    yes: bool,
    /// Stop after this long, as in 40s or 5m
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration)]
    time: Duration,
    /// Leave the best combination in place
    #[arg(long)]
    keep_best: bool,
    /// Try other numbers of threads where a member of the command line takes one (zstd, xz, pigz,
    /// pbzip2, sort), by running it again
    #[arg(long)]
    try_flags: bool,
    /// Also try changes that cannot matter, given what limits the pipeline
    #[arg(long)]
    all: bool,
    /// Also write an HTML page with every window as a dot and the interval of each change
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    pair: PairArgs,
}

/// The hidden command by which the guardian is started.
pub(crate) mod guard {
    use crate::ui::Exit;

    /// Its name.
    pub(crate) const NAME: &str = "__guard";

    pub(crate) fn run() -> anyhow::Result<Exit> {
        pipeprof_runner::tuning::guard()?;
        Ok(Exit::Done)
    }
}

pub(crate) fn run(args: &TuneArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let target = args.target.target_for(&args.pair, None)?;
    if matches!(target, Target::Pair(_)) {
        return Err(wrong_usage(NO_PAIR));
    }
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !can_ask {
        return Err(hinted_usage());
    }
    let page = args.output.as_deref().map(Output::open).transpose()?;
    let to = args.json.open(&page.iter().collect::<Vec<_>>())?;
    let diverted = to.divert()?;
    let interrupt = Interrupt::install()?;
    let (target, lines) = lines_of(target, args.try_flags)?;
    let mut subject = Subject::of(target, &interrupt)?;
    let seen = look::watch(&mut subject, args.all, &interrupt, ui)?;
    let plan = plan(&seen.pipeline);
    let mut proof = Proof {
        subject: subject.title.clone(),
        measure: seen.pipeline.pipe_name(seen.payload),
        original: Rate { bytes_per_second: seen.bytes_per_second },
        limit: seen.pipeline.limit_text(),
        window_ms: seen.window_ms,
        tried: Vec::new(),
        not_tried: plan.not_tried.clone(),
        best: None,
        best_line: None,
        not_restored: Vec::new(),
        stopped: None,
    };
    let others = lines.as_ref().map_or(&[][..], |lines| &lines.others[..]);
    if args.try_flags && others.is_empty() {
        let what = "other numbers of threads".to_owned();
        let why = "no member of the line has a known option for it".to_owned();
        proof.not_tried.push(NotTried { what, why });
    }
    let comparisons = plan.treatments.len() + others.len();
    if comparisons > 0 && !interrupt.is_set() {
        let shown: Vec<_> =
            others.iter().map(|other| (other.what.clone(), other.line.clone())).collect();
        let seconds = match others.is_empty() {
            true => estimated_seconds(&plan, seen.window_ms).min(args.time.as_secs()),
            false => args.time.as_secs(),
        };
        ui.note(announcement(&seen.pipeline, &plan, &shown, &proof.subject, seconds).trim_end());
        if !args.yes && !agreed()? {
            return Ok(Exit::Done);
        }
        // Each comparison has its part of the time.
        let until = Instant::now() + args.time;
        if !plan.treatments.is_empty() {
            let part = plan.treatments.len() as f64 / comparisons as f64;
            let time = args.time.mul_f64(part);
            let what = Experiment { seen: &seen, plan: &plan, family: comparisons, time };
            experiment(args, &mut subject, &what, &mut proof, &interrupt, ui)?;
        }
        if let Some(lines) = lines.filter(|lines| !lines.others.is_empty())
            && !interrupt.is_set()
        {
            let from_end = subject.found.pipeline.pipes.len() - seen.payload;
            // What runs ends here.
            drop(subject);
            let mut bar = Watching::beside(&[], Some(args.time), ui);
            let limits = Limits::new(&interrupt, until);
            let trial = LineTrial { lines: &lines, limits: &limits };
            let began = Instant::now();
            let step = |what: &str| bar.doing(began.elapsed(), what);
            let (tried, best) = trial.run(from_end, comparisons, step);
            let stopped = limits.stopped();
            bar.done();
            proof.tried.extend(tried);
            proof.best_line = best;
            proof.stopped = proof.stopped.take().or(stopped);
        }
    }
    drop(diverted);
    let json = || pretty(&proof);
    to.write(json, || Ok(render(&proof)), ui)?;
    if let Some(page) = page {
        page.write(|out| write_page(&proof, out).map_err(explained))?;
        page.note_written(ui);
    }
    Ok(match (interrupt.is_set(), proof.not_restored.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}

const NO_PAIR: &str = "--stage is not for tune, which needs a pipeline of your own: give \
     --pid PID or -c 'A | B'; `pipeprof ladder` compares the stages of the built-in pair";

fn hinted_usage() -> anyhow::Error {
    let error =
        "tune changes a running pipeline and asks first, but there is no terminal to ask on";
    as_usage(hinted(error, Some("--yes makes the changes without asking".to_owned())))
}

/// The target without its mark, and the other lines to try.
fn lines_of(target: Target, try_flags: bool) -> anyhow::Result<(Target, Option<Lines>)> {
    let (spec, title, duration) = match target {
        Target::Command { spec, title, duration } => (spec, title, duration),
        target if try_flags => {
            drop(target);
            return Err(wrong_usage("--try-flags runs a command line again: give it by -c"));
        }
        target => return Ok((target, None)),
    };
    let line = spec.line().and_then(std::ffi::OsStr::to_str).map(str::to_owned);
    let lines = line.map(|line| Lines::of(spec.clone(), &line, try_flags)).transpose();
    let lines = lines.map_err(wrong_usage)?;
    let spec = lines.as_ref().map_or(spec, |lines| lines.original.clone());
    Ok((Target::Command { spec, title, duration }, lines))
}

/// A yes on standard input.
fn agreed() -> anyhow::Result<bool> {
    let mut ask = std::io::stderr().lock();
    write!(ask, "Go on? [y/N] ")?;
    ask.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn not_guarded(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::ResourceBusy => hinted(
            "another pipeprof is tuning this pipeline or one of its members, or is still undoing \
             its changes",
            Some("wait for it; `pgrep -f __guard` finds its guardian".to_owned()),
        ),
        _ => hinted(format!("starting the guardian process: {error}"), None),
    }
}

/// Six blocks of four windows for each treatment, and for the winners together.
fn estimated_seconds(plan: &Plan, window_ms: u64) -> u64 {
    let treatments = plan.treatments.len() as u64 + 1;
    (treatments * 6 * 4 * (window_ms + live::warm_up_ms(window_ms))).div_ceil(1000)
}

/// What is tried on the running pipeline.
struct Experiment<'a> {
    seen: &'a look::Looked,
    plan: &'a Plan,
    /// Comparisons that share the error.
    family: usize,
    time: Duration,
}

fn experiment(
    args: &TuneArgs,
    subject: &mut Subject,
    what: &Experiment<'_>,
    proof: &mut Proof,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<()> {
    let Experiment { seen, plan, family, time } = *what;
    let again = pipeprof_runner::pair::Reexec::this_program([guard::NAME]);
    let guardian = Guardian::start(&again, &subject.found.pipeline).map_err(not_guarded)?;
    let until = Instant::now() + time;
    let pids: Vec<i32> = subject.found.pipeline.members.iter().map(|m| m.pid).collect();
    let limits = Limits::new(interrupt, until);
    let held = Vec::new();
    let mut trial = LiveTrial { subject, guardian, seen, limits: &limits, held };
    let names: Vec<String> =
        plan.treatments.iter().map(|planned| seen.pipeline.name(&planned.treatment)).collect();
    let mut bar = Watching::beside(&pids, Some(time), ui);
    let began = Instant::now();
    let singly: Vec<Vec<Treatment>> =
        plan.treatments.iter().map(|planned| vec![planned.treatment.clone()]).collect();
    let measured = trial.compare(&singly, family, |at| bar.doing(began.elapsed(), &names[at]));
    for ((planned, name), measured) in plan.treatments.iter().zip(names).zip(measured) {
        let Planned { treatment, share } = planned.clone();
        let Measured { judged, failed, windows } = measured;
        proof.tried.push(Tried { name, treatment, share, judged, failed, windows });
    }
    let winners = winners(&proof.tried);
    if !winners.is_empty() && !limits.is_stopped() {
        let together = std::slice::from_ref(&winners);
        let step = |_| bar.doing(began.elapsed(), "the best together, once more");
        let measured = trial.compare(together, 1, step).pop().unwrap_or_default();
        let Measured { judged, windows, failed: _ } = measured;
        let is_proven = judged.is_some_and(|judged| judged.outcome == Outcome::Faster);
        let kept = args.keep_best && is_proven && trial.keep(&winners);
        let recipe =
            is_proven.then(|| advice::recipe(&seen.pipeline, trial.subject, &winners, seen));
        let (permanent, price) = recipe.unwrap_or_default();
        let names = winners.iter().map(|winner| seen.pipeline.name(winner)).collect();
        proof.best = Some(Confirmed { names, judged, windows, permanent, price, kept });
    }
    bar.done();
    proof.stopped = limits.stopped();
    proof.not_restored = trial.finish(&seen.pipeline);
    Ok(())
}

/// The best of what was faster: one capacity a pipe, one placement of members, every nice value.
fn winners(tried: &[Tried]) -> Vec<Treatment> {
    let mut faster: Vec<(&Treatment, f64)> = tried
        .iter()
        .filter_map(|tried| {
            let judged = tried.judged.filter(|judged| judged.outcome == Outcome::Faster)?;
            Some((&tried.treatment, judged.ratio))
        })
        .collect();
    faster.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut chosen: Vec<Treatment> = Vec::new();
    for (treatment, _) in faster {
        let excludes = |known: &Treatment| match (known, treatment) {
            (Treatment::Capacity { pipe: a, .. }, Treatment::Capacity { pipe: b, .. }) => a == b,
            (Treatment::Cpus { members: a, .. }, Treatment::Cpus { members: b, .. }) => {
                a.iter().any(|(at, _)| b.iter().any(|(other, _)| other == at))
            }
            _ => false,
        };
        if !chosen.iter().any(excludes) {
            chosen.push(treatment.clone());
        }
    }
    chosen
}
