//! How a stage's costs changed in the next one. Costs with too few samples are not compared.

use std::fmt::Write as _;

use pipeprof_runner::pipeline::End;

use super::page::Page;
use super::{ENOUGH_SAMPLES, Step, faster, leading, times};
use crate::ledger::gib;
use crate::lessons;
use crate::roles::Role;
use crate::summary::MemberSummary;
use crate::words::units::listed;
use crate::words::units::{GIB, duration};

/// What an end spent on a role for each GiB.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    ns_per_gib: f64,
    samples: u64,
}

impl Cost {
    /// What it may come to, as few samples as stand for it: two standard errors more, and three
    /// samples, which not one may have been seen of.
    fn most_ns(self) -> f64 {
        let samples = self.samples as f64;
        self.ns_per_gib * (samples + 2.0 * samples.sqrt() + 3.0) / samples.max(1.0)
    }
}

/// In place of a ratio.
const FEW: &str = "few";

fn cost(member: &MemberSummary, role: Role) -> Option<Cost> {
    // Where nothing is known per GiB of any role, nothing is known of one that has no samples.
    member.roles.first()?.ns_per_gib?;
    let share = member.roles.iter().find(|share| share.role == role);
    Some(share.map_or_else(Cost::default, |share| Cost {
        ns_per_gib: share.ns_per_gib.unwrap_or_default(),
        samples: share.samples,
    }))
}

/// One role of one end, before and after.
struct Row {
    end: End,
    role: Role,
    before: Cost,
    after: Cost,
    was_largest: bool,
    is_largest: bool,
    is_aim: bool,
}

impl Row {
    fn of(before: &Step, after: &Step, end: End, role: Role) -> Option<Row> {
        let (old, new) = (before.end(end)?, after.end(end)?);
        let leads = |member| leading(member).iter().any(|leader| leader.role == role);
        Some(Row {
            end,
            role,
            before: cost(old, role)?,
            after: cost(new, role)?,
            was_largest: leads(old),
            is_largest: leads(new),
            is_aim: lessons::of_stage(after.stage).meant_for.contains(&(end, role)),
        })
    }

    fn saved_ns(&self) -> f64 {
        self.before.ns_per_gib - self.after.ns_per_gib
    }

    fn ratio(&self) -> String {
        let enough = |cost: Cost| cost.samples >= ENOUGH_SAMPLES;
        match (enough(self.before), enough(self.after)) {
            (true, true) => times(self.after.ns_per_gib / self.before.ns_per_gib) + "×",
            (true, false) if self.after.samples == 0 => "gone".to_owned(),
            (false, true) if self.before.samples == 0 => "new".to_owned(),
            (true, false) => match self.after.most_ns() / self.before.ns_per_gib {
                most if most < 1.0 => format!("<{}×", times(most.max(0.005))),
                _ => FEW.to_owned(),
            },
            _ => FEW.to_owned(),
        }
    }

    fn why(&self) -> String {
        let largest = match (self.was_largest, self.is_largest) {
            (true, true) => "was, is largest",
            (true, false) => "was largest",
            (false, true) => "is largest",
            (false, false) => "",
        };
        match (largest, self.is_aim) {
            ("", true) => "aim".to_owned(),
            (largest, true) => format!("{largest}; aim"),
            (largest, false) => largest.to_owned(),
        }
    }
}

/// What a member did for each GiB, by the scheduler's account.
struct Life {
    on_cpu_ns: f64,
    asleep_ns: Option<f64>,
    waiting_ns: Option<f64>,
}

fn life(member: &MemberSummary) -> Option<Life> {
    let gib = gib(member.bytes_moved)?;
    let split = member.life.map(|life| life.split);
    Some(Life {
        on_cpu_ns: member.cpu_time_ns? as f64 / gib,
        asleep_ns: split.map(|split| split.blocked_ns as f64 / gib),
        waiting_ns: split.map(|split| split.runnable_ns as f64 / gib),
    })
}

/// What a stage changed of what it builds on: in a table, and in words.
pub(super) fn describe(before: &Step, after: &Step, is_last: bool, page: Page) -> String {
    let against = if is_last { String::new() } else { format!(" compared with {}", before.stage) };
    let heading = format!("what {} changed{against}", after.stage);
    let mut text = format!("\n{}", page.heading(&heading));
    let all: Vec<Row> = End::BOTH
        .into_iter()
        .flat_map(|end| Role::ALL.map(|role| (end, role)))
        .filter_map(|(end, role)| Row::of(before, after, end, role))
        .collect();
    let known = !all.is_empty();
    if known {
        text += &table(before, after, &all, page);
        text.push('\n');
    }
    text += &page.paragraph(&speed(before, after));
    if known {
        let mut words = aim(after, &all);
        words += &time(before, after);
        text += &page.paragraph(&words);
    }
    text
}

fn table(before: &Step, after: &Step, all: &[Row], page: Page) -> String {
    let mut text = page.remark(&format!(
        "{:<25}{:>10}{:>10}{:>8}  {}",
        "per GiB",
        before.stage.as_str(),
        after.stage.as_str(),
        "",
        "why it is listed"
    ));
    let mut line = |end: End, what: &str, old: String, new: String, ratio: &str, why: &str| {
        let line = format!("{:<8}{what:<17}{old:>10}{new:>10}{ratio:>8}  {why}", end.as_str());
        text += line.trim_end();
        text.push('\n');
    };
    let amount = |cost: Cost| {
        if cost.samples == 0 { "none seen".to_owned() } else { duration(cost.ns_per_gib) }
    };
    for end in End::BOTH {
        for row in all.iter().filter(|row| row.end == end && !row.why().is_empty()) {
            let (old, new) = (amount(row.before), amount(row.after));
            line(end, row.role.label(), old, new, &row.ratio(), &row.why());
        }
        let (Some(old), Some(new)) =
            (before.end(end).and_then(life), after.end(end).and_then(life))
        else {
            continue;
        };
        let both = |a: f64, b: f64| {
            let ratio = match (a, b) {
                (0.0, _) => String::new(),
                (_, 0.0) => "gone".to_owned(),
                _ => times(b / a) + "×",
            };
            (duration(a), duration(b), ratio)
        };
        let (a, b, ratio) = both(old.on_cpu_ns, new.on_cpu_ns);
        line(end, "all CPU time", a, b, &ratio, "");
        if let (Some(old), Some(new)) = (old.asleep_ns, new.asleep_ns) {
            let (a, b, ratio) = both(old, new);
            line(end, "blocked", a, b, &ratio, "");
        }
    }
    if all.iter().any(|row| !row.why().is_empty() && row.ratio() == FEW) {
        text +=
            &page.remark(&format!("few: fewer than {ENOUGH_SAMPLES} samples in one of the two"));
    }
    text
}

fn speed(before: &Step, after: &Step) -> String {
    let (old, new) = (before.stage, after.stage);
    let Some(factor) = faster(before, after) else {
        return format!(
            "Whether {new} is faster than {old} is not known: one of them has no throughput."
        );
    };
    let by = times(factor);
    match factor {
        _ if factor >= 1.25 => {
            format!("{new} moved {by} times what {old} did in the same time.")
        }
        _ if factor > 0.8 => {
            format!("{new} moved about as much as {old} in the same time ({by} times).")
        }
        _ => format!("{new} was slower here: it moved {by} times what {old} did in the same time."),
    }
}

/// Whether the roles that the stage is meant to remove became cheaper, and which role became
/// cheaper most.
fn aim(after: &Step, all: &[Row]) -> String {
    let mut words = String::new();
    let aims: Vec<&Row> = all.iter().filter(|row| row.is_aim).collect();
    let sum = |of: fn(&Row) -> Cost| {
        aims.iter().map(|row| of(row)).fold(Cost::default(), |sum, cost| Cost {
            ns_per_gib: sum.ns_per_gib + cost.ns_per_gib,
            samples: sum.samples + cost.samples,
        })
    };
    let (old, new) = (sum(|row| row.before), sum(|row| row.after));
    if !aims.is_empty() {
        let roles = End::BOTH.map(|end| {
            let aims = aims.iter().filter(|row| row.end == end);
            listed(&aims.map(|row| row.role.label()).collect::<Vec<_>>())
        });
        let named = match &roles {
            [writer, reader] if writer == reader => format!("both ends' {writer}"),
            [writer, reader] if reader.is_empty() => format!("the writer's {writer}"),
            [writer, reader] if writer.is_empty() => format!("the reader's {reader}"),
            [writer, reader] => format!("the writer's {writer} and the reader's {reader}"),
        };
        if old.samples < ENOUGH_SAMPLES {
            let _ = write!(
                words,
                "What it is meant to remove, {named}, took hardly any time \
                                   before. "
            );
        } else {
            let after = if new.samples == 0 {
                "is gone".to_owned()
            } else {
                let few = match new.samples {
                    samples if samples >= ENOUGH_SAMPLES => String::new(),
                    1 => " (a single sample)".to_owned(),
                    samples => format!(" ({samples} samples)"),
                };
                format!("takes {} now{few}", duration(new.ns_per_gib))
            };
            let _ = write!(
                words,
                "What it is meant to remove, {named}, took {} of CPU time per GiB before and \
                 {after}. ",
                duration(old.ns_per_gib)
            );
        }
    }
    let most = all
        .iter()
        .filter(|row| row.before.samples >= ENOUGH_SAMPLES && row.saved_ns() > 0.0)
        .max_by(|a, b| a.saved_ns().total_cmp(&b.saved_ns()));
    match most {
        None => {
            let _ = write!(words, "No single part became cheaper with {}. ", after.stage);
        }
        Some(row) => {
            let elsewhere = if row.is_aim || aims.is_empty() { "" } else { "elsewhere: " };
            let _ = write!(
                words,
                "The largest saving of CPU time is {elsewhere}the {}'s {}, {} per GiB less. ",
                row.end.as_str(),
                row.role.label(),
                duration(row.saved_ns())
            );
        }
    }
    words
}

/// Where the time of a GiB went: on a CPU or blocked.
fn time(before: &Step, after: &Step) -> String {
    let (Some(old), Some(new)) = (before.bytes_per_second, after.bytes_per_second) else {
        return String::new();
    };
    if old <= 0.0 || new <= 0.0 {
        return String::new();
    }
    let ends: Vec<String> = End::BOTH
        .into_iter()
        .filter_map(|end| {
            let (old, new) = (life(before.end(end)?)?, life(after.end(end)?)?);
            Some(format!(
                "the {} is on a CPU for {}, blocked for {}, and waits for a CPU for {}",
                end.as_str(),
                difference(old.on_cpu_ns - new.on_cpu_ns),
                difference(old.asleep_ns? - new.asleep_ns?),
                difference(old.waiting_ns? - new.waiting_ns?)
            ))
        })
        .collect();
    if ends.is_empty() {
        return String::new();
    }
    let wall = |rate: f64| GIB / rate * 1e9;
    format!("A GiB takes {}: {}.", difference(wall(old) - wall(new)), ends.join("; "))
}

fn difference(saved_ns: f64) -> String {
    let word = if saved_ns >= 0.0 { "less" } else { "more" };
    format!("{} {word}", duration(saved_ns.abs()))
}
