//! The guided tour: what a stage is about, what was measured here, and what changed from the stage
//! before.
//!
//! The teaching is data ([`lessons`]); every number and every comparison is of what
//! was measured.

mod change;
mod page;
mod table;

use std::fmt::Write as _;

use pipeprof_profiler::profile::{Mode, Profile};
use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::Stage;

pub use page::Page;

use crate::escape::printable;
use crate::ledger::gib;
use crate::lessons::{self, Function, Name, Release};
use crate::roles::{Role, source_name};
use crate::summary::{MemberSummary, RoleShare, Summary};
use crate::words::units::{duration, percent, share, thousands, throughput};

/// A role below this share of an end's CPU time is added to the rest.
const LEAST_PERCENT: f64 = 1.0;

/// Fewer samples than this say that something exists, not how much of it
/// (docs/measurement.md, "Sampling error").
const ENOUGH_SAMPLES: u64 = 30;

/// One stage of the tour, run.
#[derive(Clone, Debug)]
pub struct Step {
    stage: Stage,
    bytes_per_second: Option<f64>,
    profiled: Result<Profiled, String>,
}

#[derive(Clone, Debug)]
struct Profiled {
    summary: Summary,
    functions: Vec<SampledFunction>,
}

/// A function of the lesson, where it was sampled.
#[derive(Clone, Debug)]
struct SampledFunction {
    function: &'static Function,
    name: &'static Name,
    /// Shares of the writer's and the reader's samples, as text.
    shares: [String; 2],
}

impl Step {
    /// A stage that was profiled. `summary` is that of `profile`.
    pub fn profiled(stage: Stage, summary: Summary, profile: &Profile) -> Step {
        let bytes_per_second = summary.bytes_per_second;
        let functions = lessons::of_stage(stage).functions;
        let functions = functions.iter().filter_map(|function| seen(function, profile)).collect();
        Step { stage, bytes_per_second, profiled: Ok(Profiled { summary, functions }) }
    }

    /// A stage that only ran, and why no more is known of it.
    pub fn unprofiled(stage: Stage, bytes_per_second: Option<f64>, why: String) -> Step {
        Step { stage, bytes_per_second, profiled: Err(why) }
    }

    fn end(&self, end: End) -> Option<&MemberSummary> {
        let profiled = self.profiled.as_ref().ok()?;
        profiled.summary.members.iter().find(|member| member.end == Some(end))
    }
}

fn seen(function: &'static Function, profile: &Profile) -> Option<SampledFunction> {
    let called = |frame: &str| function.names.iter().position(|name| name.name == frame);
    let of_frames: Vec<Option<usize>> = profile
        .frames()
        .iter()
        .map(|frame| called(source_name(&frame.name)).filter(|_| frame.mode == Mode::Kernel))
        .collect();
    let newest = of_frames.iter().copied().flatten().min()?;
    let shares = End::BOTH.map(|end| {
        let Some(member) = profile.members.iter().find(|member| member.end == Some(end)) else {
            return "-".to_owned();
        };
        let holds = |stack| profile.stack(stack).iter().any(|id| of_frames[id.index()].is_some());
        let weight: u64 = member.on_cpu.iter().filter(|w| holds(w.stack)).map(|w| w.weight).sum();
        if weight == 0 { "-".to_owned() } else { share(weight, member.weight()) }
    });
    Some(SampledFunction { function, name: &function.names[newest], shares })
}

/// The role with the largest share, and the next where the samples are too few to say which of the
/// two is the larger: their numbers differ by less than twice the standard error of the difference.
fn leading(member: &MemberSummary) -> &[RoleShare] {
    let [first, second, ..] = &member.roles[..] else { return &member.roles };
    let margin = 2.0 * ((first.samples + second.samples) as f64).sqrt();
    let apart = first.samples.saturating_sub(second.samples) as f64 > margin;
    &member.roles[..if apart { 1 } else { 2 }]
}

/// Where it takes place.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Release of the kernel.
    pub kernel: String,
    /// CPUs online, where known.
    pub cpus: Option<u32>,
    /// It is a virtual machine.
    pub guest: bool,
}

/// The tour so far.
#[derive(Clone, Debug)]
pub struct Tour {
    page: Page,
    stages: Vec<Stage>,
    steps: Vec<Step>,
    explained: Vec<Role>,
    kernel: Option<Release>,
}

/// What a stage goes on from, of those already run: the stage that it builds on, or that one's, and
/// so on.
fn base(run: &[Step], stage: Stage) -> Option<&Step> {
    let mut origins = std::iter::successors(stage.builds_on(), |stage| stage.builds_on());
    origins.find_map(|origin| run.iter().find(|step| step.stage == origin))
}

impl Tour {
    /// A tour of these stages, in this order.
    pub fn new(stages: &[Stage], page: Page) -> Tour {
        Tour {
            page,
            stages: stages.to_vec(),
            steps: Vec::new(),
            explained: Vec::new(),
            kernel: None,
        }
    }

    /// What is to come, and how to read it.
    pub fn opening(&mut self, place: &Place) -> String {
        let page = self.page;
        self.kernel = Release::parse(&place.kernel);
        let mut here = format!("Linux {}", printable(&place.kernel));
        match place.cpus {
            Some(1) => here.push_str(", 1 CPU"),
            Some(cpus) => {
                let _ = write!(here, ", {cpus} CPUs");
            }
            None => {}
        }
        here.push_str(if place.guest { ", a virtual machine" } else { ", a physical machine" });
        let mut text = page.heading("pipeprof tour");
        let stages = match self.stages.len() {
            1 => "one stage, run and profiled once, here".to_owned(),
            stages if self.is_chain() => {
                format!(
                    "{stages} stages, each with one idea more. Each is run and profiled once, here"
                )
            }
            stages => format!("{stages} stages. Each is run and profiled once, here"),
        };
        text += &page.paragraph(&format!(
            "A writer and a reader, joined by a pipe, in {stages}: {here}. Every speed and cost \
             below was measured in these runs."
        ));
        text.push('\n');
        text += &page.paragraph(
            "A bar is the share of an end's CPU time that went into one kind of work; beside it is \
             the CPU time of that work per GiB piped. Each kernel function is listed with the \
             share of samples in which it or one of its callees appears, its source file, and the \
             first and last release of Linux in which its source was read.",
        );
        text
    }

    /// Each stage builds on the one before.
    fn is_chain(&self) -> bool {
        self.stages.windows(2).all(|pair| pair[1].builds_on() == Some(pair[0]))
    }

    /// What a stage is about, before it is run.
    pub fn introduction(&self, stage: Stage) -> String {
        let page = self.page;
        let number = self.stages.iter().position(|s| *s == stage).map_or(0, |at| at + 1);
        let title = format!("{number} of {}: {stage}", self.stages.len());
        let mut text = format!("\n{}", page.heading(&title));
        text += &page.remark(stage.idea());
        text.push('\n');
        text += &page.paragraph(lessons::of_stage(stage).text);
        text
    }

    /// Why one would go on to that stage.
    pub fn proposal(&self, next: Stage) -> String {
        let last = self.steps.last().map(|step| step.stage);
        let from = match next.builds_on() {
            None => return String::new(),
            base if base == last => String::new(),
            Some(base) => format!(", which builds on {base}"),
        };
        let proposal = lessons::of_stage(next).proposal;
        format!("\n{}", self.page.paragraph(&format!("Next, {next}{from}. {proposal}")))
    }

    /// What a stage measured, and what changed from the one before.
    pub fn step(&mut self, step: Step) -> String {
        let page = self.page;
        let mut text = String::from("\n");
        let rate =
            step.bytes_per_second.map_or_else(|| "unknown throughput".to_owned(), throughput);
        match &step.profiled {
            Ok(profiled) => {
                text += &page.heading(&format!("measured here: {rate}"));
                for end in End::BOTH {
                    if let Some(member) = step.end(end) {
                        text += &page.bars(end, member);
                    }
                }
                text += &busy(&step, page);
                text += &page.functions(profiled, &step);
                text += &self.leaders(&step);
                text += &self.quality(&profiled.summary);
            }
            Err(why) => {
                text += &page.heading(&format!("measured here: {rate}, nothing else"));
                let told = self.steps.iter().any(|s| s.profiled.as_ref().err() == Some(why));
                let why = if told { "as above" } else { why };
                for line in format!("not profiled: {why}").lines() {
                    text += &page.paragraph(&printable(line));
                }
                let functions = lessons::of_stage(step.stage).functions;
                text += &page.sources("to look for:", functions, self.kernel);
            }
        }
        let last = self.steps.last().map(|last| last.stage);
        if let Some(base) = base(&self.steps, step.stage) {
            text += &change::describe(base, &step, last == Some(base.stage), page);
        } else if let (Some(origin), Some(_)) = (step.stage.builds_on(), last) {
            text.push('\n');
            text += &page.remark(&format!(
                "To see what {} changes, put {origin} before it in --stages.",
                step.stage
            ));
        }
        self.steps.push(step);
        text
    }

    /// What takes the most of each end, explained where it is met for the first time.
    fn leaders(&mut self, step: &Step) -> String {
        let mut text = String::from("\n");
        for end in End::BOTH {
            let Some(member) = step.end(end) else { continue };
            let leaders = leading(member);
            let named: Vec<String> = leaders
                .iter()
                .map(|l| format!("{}, {}", l.role.label(), percent(l.percent)))
                .collect();
            let close = if leaders.len() > 1 { ", too close to rank" } else { "" };
            text += &self.page.paragraph(&format!(
                "Largest in the {}'s CPU time: {}{close}.",
                end.as_str(),
                named.join("; ")
            ));
            for leader in leaders {
                if self.explained.contains(&leader.role) {
                    continue;
                }
                self.explained.push(leader.role);
                if !text.ends_with("\n\n") {
                    text.push('\n');
                }
                text += &self.explanation(leader.role);
                text.push('\n');
            }
        }
        text
    }

    fn explanation(&self, role: Role) -> String {
        let Some(lesson) = lessons::of_role(role) else {
            let words = format!("{}: {}.", capitalised(role.label()), role.description());
            return self.page.paragraph(&words);
        };
        let words = format!("{}: {}", capitalised(role.label()), lesson.text);
        self.page.paragraph(&words) + &self.page.sources("in", lesson.functions, self.kernel)
    }

    /// How the samples were taken; what a timer can't see, the first time.
    fn quality(&self, summary: &Summary) -> String {
        let quality = &summary.quality.recorded;
        let mut line = format!(
            "{} samples of {}{}, {} lost.",
            thousands(summary.members.iter().map(|member| member.samples).sum()),
            printable(&quality.event),
            quality.frequency_hz.map_or_else(String::new, |hz| format!(" at {hz} Hz")),
            thousands(quality.lost)
        );
        let first = self.steps.iter().all(|step| step.profiled.is_err());
        if quality.interrupts_wait && first {
            line += " Timer sampling cannot see code that runs with interrupts disabled: what ran then, \
                     wake-ups above all, was sampled where they came on again, and counts as the work \
                     of the caller there.";
        }
        self.page.remark(&line)
    }
}

/// A member that had to wait for a CPU for more of its life than this had company there.
const BUSY_PERCENT: f64 = 20.0;

fn busy(step: &Step, page: Page) -> String {
    if step.stage.same_cpu() {
        // What the one waits for is the other.
        return String::new();
    }
    let waits = End::BOTH.into_iter().filter_map(|end| Some(step.end(end)?.life?.runnable_percent));
    let most = waits.fold(0.0, f64::max);
    if most < BUSY_PERCENT {
        return String::new();
    }
    page.remark(&format!(
        "An end waited for a CPU {} of its life because other programs used it. The throughput, \
         and the time that the other end spent spinning, show the load on the machine as much as \
         the stage.",
        percent(most)
    ))
}

/// A factor, in no more digits than it deserves.
fn times(factor: f64) -> String {
    match factor {
        _ if factor >= 9.95 => format!("{factor:.0}"),
        _ if factor < 0.005 => "<0.01".to_owned(),
        _ => format!("{factor:.2}"),
    }
}

/// How many times as much a step moved in the same time.
fn faster(before: &Step, after: &Step) -> Option<f64> {
    let (before, after) = (before.bytes_per_second?, after.bytes_per_second?);
    (before > 0.0).then(|| after / before)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// `1.93 s on CPU, 26 % of its life; blocked 70 %, waiting for a CPU 4.0 %; 12,345 sleeps a GiB`.
fn life(member: &MemberSummary) -> String {
    let mut text = match member.cpu_time_ns {
        Some(ns) => format!("{} on CPU", duration(ns as f64)),
        None => "CPU time unknown".to_owned(),
    };
    let Some(life) = &member.life else { return text };
    let _ = write!(
        text,
        ", {} of its life; blocked {}, waiting for a CPU {}",
        percent(life.on_cpu_percent),
        percent(life.blocked_percent),
        percent(life.runnable_percent)
    );
    if let Some(gib) = gib(member.bytes_moved) {
        let sleeps = (life.split.sleeps as f64 / gib).round() as u64;
        let plural = if sleeps == 1 { "" } else { "s" };
        let _ = write!(text, "; {} sleep{plural} per GiB", thousands(sleeps));
    }
    text
}
