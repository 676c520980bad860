//! `pipeprof ladder`: every stage, again and again, measured and explained.

mod checks;
mod commands;
mod runs;
mod schedule;

use std::path::{Path, PathBuf};
use std::time::Instant;

use pipeprof_report::ladder::{
    Ending, Ladder, Run, Rung, SCHEMA_VERSION, is_narrow, render, write_csv, write_picture,
};
use pipeprof_report::text::Style;
use pipeprof_runner::cpus::Pin;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::Stage;
use pipeprof_runner::{roof, size};

use self::runs::{Contender, Measured, Runs};
use self::schedule::{Schedule, Step};
use crate::commands::ls::has_utf8_locale;
use crate::interrupt::Interrupt;
use crate::output::{check_writable, write_file, write_stdout};
use crate::pair_args::{self, parse_stage};
use crate::progress::Watching;
use crate::ui::{Exit, Ui, hinted};

/// Stages that build on each other and end in one pipe, each by its name: those that this version
/// has.
const DEFAULT_STAGES: [&str; 7] =
    ["write", "vmsplice", "splice", "huge-page", "busy-loop", "tee", "tee-large"];

/// Rounds without a profiler.
const ROUNDS: u32 = 10;

/// Rounds with one: enough to see how far two profiles of one stage differ.
const PROFILED_ROUNDS: u32 = 3;

/// Measure every stage in shuffled rounds, and explain and compare them in one picture
///
/// Runs each stage in every round, in a new order each time, without a profiler for the throughput
/// and apart from that with one for the costs. Prints a table and a sentence for each stage: what it
/// spends its time on, what the next one is meant to remove, and whether it did on this machine.
/// Writes ladder.svg, ladder.csv and ladder.json. Ctrl-C keeps what was measured.
#[derive(Debug, clap::Args)]
pub(crate) struct LadderArgs {
    /// Stages, in the order of the ladder [default: those of the article, then tee and tee-large]
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',', value_parser = parse_stage)]
    stages: Vec<Stage>,
    /// Rounds; fewer where every median is known within ±2.5 % before [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Bytes that each run moves [default: what each stage moves in about a second]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    bytes: Option<u64>,
    /// Put this shell pipeline into the same rounds; can be given more than once
    ///
    /// Its throughput is what it prints (12.7GiB/s, or the CSV row of the article's program), else
    /// the bytes through its last pipe. One that does not end is stopped after two seconds. Pin it
    /// as the stages are: 'taskset -c 0 ./write | taskset -c 1 ./read'.
    #[arg(long, value_name = "CMD")]
    against: Vec<String>,
    /// CPUs: auto (two that share no core), none, or the writer's and the reader's, as in 0,1
    #[arg(long, value_name = "auto|none|W,R", default_value = "auto")]
    pin: Pin,
    /// Repeat the order of an earlier ladder
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Names of the files that are written, without their endings
    #[arg(short, long, value_name = "NAME", default_value = "ladder", help_heading = "Output")]
    output: PathBuf,
    /// Print as JSON what is written to NAME.json
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl LadderArgs {
    fn stages(&self) -> Vec<Stage> {
        if !self.stages.is_empty() {
            return self.stages.clone();
        }
        let named = |name: &&str| Stage::ALL.into_iter().find(|stage| stage.as_str() == *name);
        DEFAULT_STAGES.iter().filter_map(named).collect()
    }

    fn plan(&self, stage: Stage) -> Result<PairPlan, pipeprof_runner::error::Error> {
        let knobs = Knobs { bytes: self.bytes, pin: self.pin, ..Knobs::default() };
        PairPlan::new(stage, &knobs)
    }

    fn rounds(&self) -> u32 {
        self.runs.unwrap_or(ROUNDS)
    }

    fn seed(&self) -> u64 {
        // Short enough to be typed.
        self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000))
    }
}

pub(crate) fn run(args: &LadderArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let mut contenders = Vec::new();
    for stage in args.stages() {
        match args.plan(stage) {
            Ok(plan) => contenders.push(Contender::Stage(Box::new(plan))),
            Err(error) => return pair_args::fail(error, ui),
        }
    }
    contenders.extend(args.against.iter().cloned().map(Contender::command));
    let files = Files::new(&args.output);
    files.check()?;
    let interrupt = Interrupt::install()?;
    let mut climb = Climb::new(args, contenders, &interrupt, ui)?;
    climb.up(&files)?;
    climb.finish(args, &files)
}

/// Where the results go.
struct Files {
    picture: PathBuf,
    csv: PathBuf,
    json: PathBuf,
}

impl Files {
    fn new(name: &Path) -> Self {
        let with = |ending: &str| {
            let mut path = name.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Files { picture: with(".svg"), csv: with(".csv"), json: with(".json") }
    }

    fn check(&self) -> anyhow::Result<()> {
        [&self.picture, &self.csv, &self.json].into_iter().try_for_each(|path| check_writable(path))
    }

    /// The runs themselves, which can't be had again.
    fn write_runs(&self, ladder: &Ladder) -> anyhow::Result<()> {
        write_file(&self.csv, |out| Ok(write_csv(ladder, out)?))?;
        write_file(&self.json, |out| Ok(ladder.write_json(out)?))
    }

    fn write_picture(&self, ladder: &Ladder) -> anyhow::Result<()> {
        write_file(&self.picture, |out| Ok(write_picture(ladder, out)?))
    }
}

/// A ladder that is being climbed.
struct Climb<'a> {
    ladder: Ladder,
    contenders: Vec<Contender>,
    runs: Runs<'a>,
    schedule: Schedule,
    began: Instant,
    interrupt: &'a Interrupt,
    ui: &'a Ui,
}

impl<'a> Climb<'a> {
    fn new(
        args: &LadderArgs,
        contenders: Vec<Contender>,
        interrupt: &'a Interrupt,
        ui: &'a Ui,
    ) -> anyhow::Result<Self> {
        let machine = checks::look(args.pin);
        let (spoilt, fine): (Vec<_>, Vec<_>) =
            machine.iter().partition(|fact| fact.remedy.is_some());
        let fine: Vec<&str> = fine.iter().map(|fact| fact.text.as_str()).collect();
        ui.note(fine.join("; "));
        for fact in spoilt {
            ui.warn(hinted(&fact.text, fact.remedy.clone()));
        }
        let seed = args.seed();
        let rungs = contenders.iter().map(|contender| Rung {
            name: contender.name(),
            plan: contender.plan().cloned(),
            refused: None,
        });
        let ladder = Ladder {
            schema_version: SCHEMA_VERSION,
            kernel: crate::capture::kernel_release(),
            seed,
            rounds_wanted: args.rounds(),
            ending: Ending::Unfinished,
            machine,
            roof: Some(roof::measure()),
            rungs: rungs.collect(),
            runs: Vec::new(),
        };
        Ok(Climb {
            ladder,
            contenders,
            runs: Runs::new(interrupt, args.bytes),
            schedule: Schedule::new(seed, args.rounds(), PROFILED_ROUNDS),
            began: Instant::now(),
            interrupt,
            ui,
        })
    }

    /// All rounds, or as many as it takes.
    fn up(&mut self, files: &Files) -> anyhow::Result<()> {
        let steps = (self.schedule.steps().len() + 1) * self.contenders.len();
        let mut bar = Watching::steps(steps as u64, self.ui);
        for rung in 0..self.contenders.len() {
            bar.step(format_args!("sizing {}", self.contenders[rung].name()));
            if self.interrupt.is_set() {
                break;
            }
            let sized = self.runs.size(&mut self.contenders[rung]);
            self.settle(rung, sized);
            self.ladder.rungs[rung].plan = self.contenders[rung].plan().cloned();
        }
        for step in self.schedule.steps() {
            for (at, rung) in self.schedule.shuffled(self.contenders.len()).into_iter().enumerate()
            {
                let name = self.contenders[rung].name();
                bar.step(format_args!("{}: {name}", step.words(self.ladder.rounds_wanted)));
                if self.interrupt.is_set() {
                    break;
                }
                if self.ladder.rungs[rung].refused.is_none() {
                    self.take(step, at as u32 + 1, rung);
                }
            }
            files.write_runs(&self.ladder)?;
            if self.interrupt.is_set() {
                break;
            }
            if is_narrow(&self.ladder) && self.schedule.may_stop_after(step) {
                self.ladder.ending = Ending::NarrowEnough;
                break;
            }
        }
        bar.done();
        if self.interrupt.is_set() {
            self.ladder.ending = Ending::Interrupted;
        } else if self.ladder.ending == Ending::Unfinished {
            self.ladder.ending = Ending::AllRounds;
        }
        Ok(())
    }

    fn take(&mut self, step: Step, position: u32, rung: usize) {
        let began_ns = self.began.elapsed().as_nanos() as u64;
        let measured = match step {
            Step::Plain(_) => self.runs.plain(&self.contenders[rung]),
            Step::Profiled(_) => self.runs.profiled(&self.contenders[rung]),
        };
        let Some(measured) = self.settle(rung, measured) else { return };
        let Measured { bytes, elapsed, gib_per_s, counted_by, ends, profile } = measured;
        self.ladder.runs.push(Run {
            rung,
            round: step.round(),
            position,
            began_ns,
            profile,
            whole: !self.interrupt.is_set(),
            bytes,
            elapsed_ns: elapsed.as_nanos() as u64,
            gib_per_s,
            counted_by,
            ends,
        });
    }

    /// What fails once is left out from there on, and the others go on.
    fn settle<T>(&mut self, rung: usize, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            // Ctrl-C reaches a command too, whose end is then no failure of its own.
            Err(_) if self.interrupt.is_set() => None,
            Err(error) => {
                let name = &self.contenders[rung].name();
                self.ui.warn(format_args!("{name} is left out: {error:#}"));
                let first = format!("{error:#}");
                let why = first.lines().next().unwrap_or_default().to_owned();
                self.ladder.rungs[rung].refused = Some(why);
                None
            }
        }
    }

    fn finish(self, args: &LadderArgs, files: &Files) -> anyhow::Result<Exit> {
        let Climb { ladder, ui, .. } = self;
        files.write_runs(&ladder)?;
        files.write_picture(&ladder)?;
        let mut out = Vec::new();
        if args.json {
            ladder.write_json(&mut out)?;
        } else {
            let style = Style { colour: ui.colours_stdout(), ascii: !has_utf8_locale() };
            render(&ladder, style, &mut out)?;
        }
        write_stdout(&String::from_utf8_lossy(&out))?;
        ui.note(format_args!(
            "wrote {}, {} and {}",
            files.picture.display(),
            files.csv.display(),
            files.json.display()
        ));
        let refused = ladder.rungs.iter().any(|rung| rung.refused.is_some());
        Ok(match (ladder.ending, refused) {
            (Ending::Interrupted, _) => Exit::Interrupted,
            (_, true) => Exit::Failed,
            (_, false) => Exit::Done,
        })
    }
}
