//! All stages of a tour in one table.

use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::Stage;

use super::{Step, Tour, base, faster, times};
use crate::words::units::{percent, throughput};

impl Tour {
    /// All steps in one table; empty where there was none.
    pub fn summary(&self) -> String {
        let (Some(first), page) = (self.steps.first(), self.page) else { return String::new() };
        let mut text = format!("\n{}", page.heading("in one table"));
        text += &page.remark(&format!(
            "{:<9}{:>11}{:>8}{:>9}  {:<20} {}",
            "stage",
            "moved",
            "× first",
            if self.is_chain() { "× before" } else { "× base" },
            "largest: writer",
            "reader"
        ));
        for (at, step) in self.steps.iter().enumerate() {
            let factor = |from: Option<&Step>| {
                let factor = from.and_then(|from| faster(from, step));
                factor.map_or_else(String::new, times)
            };
            let before = &self.steps[..at];
            let largest = |end| {
                let leader = step.end(end).and_then(|member| member.roles.first());
                leader.map_or_else(
                    || "not profiled".to_owned(),
                    |leader| format!("{} {}", leader.role.label(), percent(leader.percent)),
                )
            };
            let line = format!(
                "{:<9}{:>11}{:>8}{:>9}  {:<20} {}",
                step.stage.as_str(),
                step.bytes_per_second.map_or_else(|| "unknown".to_owned(), throughput),
                factor(before.first().map(|_| first)),
                factor(base(before, step.stage)),
                largest(End::Writer),
                largest(End::Reader),
            );
            text += line.trim_end();
            text.push('\n');
        }
        if !self.is_chain() {
            text += &page.remark("base: the stage that it builds on, if that one ran before it");
        }
        let mut steps: Vec<(f64, Stage)> = self
            .steps
            .iter()
            .enumerate()
            .filter_map(|(at, step)| {
                Some((faster(base(&self.steps[..at], step.stage)?, step)?, step.stage))
            })
            .collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        text.push('\n');
        if let [least, .., most] = &steps[..] {
            text += &page.paragraph(&format!(
                "The largest step on this machine was {}, {} times what it builds on; the smallest \
                 {}, {} times.",
                most.1,
                times(most.0),
                least.1,
                times(least.0)
            ));
        }
        text += &page.remark(
            "One run of each: where a machine is shared or virtual, the same stage can come out \
             several times as fast or as slow a minute later, so a difference of less than a \
             factor of two may be chance. `pipeprof ladder` runs them often enough to tell.",
        );
        text += &self.elsewhere();
        text
    }

    /// The stages that were left out, and how to have them shown beside what they build on.
    fn elsewhere(&self) -> String {
        // A user who chose the stages knows that there are more.
        if self.stages != Stage::LADDER {
            return String::new();
        }
        let is_left = |stage: &Stage| !self.stages.contains(stage);
        let left: Vec<Stage> = Stage::ALL.into_iter().filter(is_left).collect();
        let is_shown = |stage: &Stage| {
            is_left(stage) || left.iter().any(|other| other.builds_on() == Some(*stage))
        };
        let names = |stages: &[Stage], between: &str| {
            stages.iter().map(|stage| stage.as_str()).collect::<Vec<_>>().join(between)
        };
        let shown: Vec<Stage> = Stage::ALL.into_iter().filter(is_shown).collect();
        self.page.remark(&format!(
            "Not in this tour: {}. `pipeprof tour --stages {}` shows what each of them changes.",
            names(&left, ", "),
            names(&shown, ",")
        ))
    }
}
