//! Decides when a trigger fires. No clock: intervals come in as arguments.

use std::time::Duration;

use super::trigger::{Condition, Trigger};
use crate::live::{LimitKind, PipelineNow};

/// A trigger, and how far it has come.
#[derive(Clone, Debug)]
pub struct Armed {
    trigger: Trigger,
    /// Begin of the intervals in a row in which the condition held.
    since: Option<Duration>,
    /// It may fire: it has not yet, or its condition was false again.
    is_armed: bool,
    /// What limited the pipeline when that last settled, and what may take its place.
    limits: (Option<Who>, Option<Who>),
    fired: u64,
}

/// What limits a pipeline, as the same in every interval.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    /// A member by its name, and its place among those of that name: a loop of a shell starts its
    /// members again and again. Whether it waits for something outside of the pipeline.
    Member(String, usize, bool),
    /// Wake-ups at a pipe.
    Pipe(u64, u64),
}

impl Armed {
    /// A trigger that may fire.
    pub fn new(trigger: Trigger) -> Self {
        Armed { trigger, since: None, is_armed: true, limits: (None, None), fired: 0 }
    }

    /// The trigger.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// How often it has fired.
    pub fn fired(&self) -> u64 {
        self.fired
    }

    /// Whether it fires at the end of an interval, which lasted `from` a moment `until` another.
    pub fn step(&mut self, from: Duration, until: Duration, now: &PipelineNow) -> bool {
        let fires = match &self.trigger.condition {
            Condition::LimitChanges => self.limit_changes(from, until, now),
            Condition::Throughput(bound) => {
                let holds = now.bytes_per_second.map(|rate| bound.holds(rate));
                self.holds(from, until, holds)
            }
            Condition::Cpus(bound) => {
                let holds = bound.holds(now.cpus_used);
                self.holds(from, until, Some(holds))
            }
            Condition::LimitIs(name) => {
                let limit = now.limit.and_then(|limit| now.members.get(limit.member?));
                let holds = limit.is_some_and(|member| member.name == *name);
                self.holds(from, until, Some(holds))
            }
        };
        self.fired += u64::from(fires);
        fires
    }

    /// `None` where nobody knows: it neither goes on to hold nor is over.
    fn holds(&mut self, from: Duration, until: Duration, holds: Option<bool>) -> bool {
        if holds != Some(true) {
            self.since = None;
            self.is_armed |= holds == Some(false);
            return false;
        }
        let since = *self.since.get_or_insert(from);
        let fires = self.is_armed && until.saturating_sub(since) >= self.trigger.lasting;
        self.is_armed &= !fires;
        fires
    }

    fn limit_changes(&mut self, from: Duration, until: Duration, now: &PipelineNow) -> bool {
        let (settled, next) = &mut self.limits;
        let current = who(now);
        if current.is_none() || current == *settled {
            (*next, self.since) = (None, None);
            return false;
        }
        if current != *next {
            (*next, self.since) = (current, Some(from));
        }
        if until.saturating_sub(self.since.unwrap_or(from)) < self.trigger.lasting {
            return false;
        }
        let before = std::mem::replace(settled, next.take());
        self.since = None;
        before.is_some()
    }
}

fn who(now: &PipelineNow) -> Option<Who> {
    let limit = now.limit?;
    if let Some(pipe) = limit.pipe.and_then(|at| now.pipes.get(at)) {
        return Some(Who::Pipe(pipe.device, pipe.inode));
    }
    let at = limit.member?;
    let name = &now.members.get(at)?.name;
    let before = now.members[..at].iter().filter(|other| other.name == *name).count();
    Some(Who::Member(name.clone(), before, limit.kind == LimitKind::Outside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{LimitNow, MemberNow};

    /// The second at which each interval of one second ended in which it fired.
    fn fired(trigger: &str, seconds: &[PipelineNow]) -> Vec<usize> {
        let mut armed = Armed::new(trigger.parse().unwrap());
        let s = |s: usize| Duration::from_secs(s as u64);
        let ends = 1..=seconds.len();
        let fired = ends.filter(|&end| armed.step(s(end - 1), s(end), &seconds[end - 1]));
        let fired: Vec<usize> = fired.collect();
        assert_eq!(armed.fired(), fired.len() as u64);
        fired
    }

    /// A character a second: bytes a second as a digit, unknown with `?`.
    fn rates(line: &str) -> Vec<PipelineNow> {
        let rate = |c: char| PipelineNow {
            bytes_per_second: c.to_digit(10).map(f64::from),
            cpus_used: c.to_digit(10).map_or(0.0, f64::from),
            ..PipelineNow::default()
        };
        line.chars().map(rate).collect()
    }

    /// A character a second: the member that limits, `.` where none does. `A` is the second one of
    /// the name a, and `o` is b, which waits outside.
    fn limits(line: &str) -> Vec<PipelineNow> {
        let of = |c: char| {
            let member = |name: char| MemberNow { name: name.into(), ..MemberNow::default() };
            let kind = if c == 'o' { LimitKind::Outside } else { LimitKind::Busy };
            let limit = |at| LimitNow { kind, member: Some(at), pipe: None, share: 1.0 };
            let at = "abAo".find(c).map(|at| limit(if c == 'o' { 1 } else { at }));
            PipelineNow {
                members: "aba".chars().map(member).collect(),
                limit: at,
                ..Default::default()
            }
        };
        line.chars().map(of).collect()
    }

    #[test]
    fn a_condition_fires_once_it_has_held_for_long_enough_and_again_only_after_it_was_false() {
        for (trigger, line, at) in [
            ("throughput < 5", "9494", &[2, 4][..]),
            ("throughput < 5", "944449", &[2]),
            ("throughput < 5 for 3s", "94449", &[4]),
            ("throughput < 5 for 3s", "944944944", &[]),
            ("throughput < 5 for 2s", "94444944", &[3, 8]),
            // It holds from the start.
            ("throughput < 5 for 2s", "000", &[2]),
            // Unknown: it may have held or not.
            ("throughput < 5 for 2s", "4?4?", &[]),
            ("throughput < 5", "4?4?94", &[1, 6]),
            ("throughput > 5", "1919", &[2, 4]),
            ("cpus > 1 for 2s", "12221", &[3]),
            ("cpus < 1", "101", &[2]),
        ] {
            assert_eq!(fired(trigger, &rates(line)), at, "{trigger}: {line}");
        }
    }

    #[test]
    fn a_limit_has_changed_once_another_one_has_settled() {
        for (trigger, line, at) in [
            ("limit changes", "aaaaaa", &[][..]),
            ("limit changes", "aaabbbbaaa", &[6, 10]),
            // Two that are about as busy.
            ("limit changes", "aaabababab", &[]),
            ("limit changes", "aaabbaabbb", &[10]),
            // Nothing moves for a while.
            ("limit changes", "aaa....aaa", &[]),
            ("limit changes", "aaa....bbb", &[10]),
            // Another process of the same name.
            ("limit changes", "aaaAAA", &[6]),
            // It computed, and now waits for a disk.
            ("limit changes", "bbbooo", &[6]),
            ("limit changes for 1s", "aab", &[3]),
            ("limit is b", "aabb.b", &[3, 6]),
            ("limit is b for 2s", "abbb", &[3]),
        ] {
            assert_eq!(fired(trigger, &limits(line)), at, "{trigger}: {line}");
        }
    }
}
