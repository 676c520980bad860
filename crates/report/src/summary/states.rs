//! What a member did over its life, by all of its threads at each moment.

use pipeprof_profiler::profile::TimeSplit;
use serde::Serialize;

use crate::facts::verdict::MemberFacts;

/// Shares of a member's life, in percent. They add up to 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StateShares {
    /// How long it was there, in nanoseconds.
    pub alive_ns: u64,
    /// A thread ran, or could have.
    pub busy_percent: f64,
    /// All waited, one of them for data of a pipe.
    pub waits_for_data_percent: f64,
    /// All waited, one of them for space in a pipe.
    pub waits_for_space_percent: f64,
    /// All waited, for something that is no pipe of the pipeline.
    pub waits_outside_percent: f64,
    /// All waited, one of them for a child that is a member.
    pub waits_for_children_percent: f64,
    /// CPUs that it used while it was busy.
    pub cpus_while_busy: f64,
    /// It has several threads, or children that are part of it.
    #[serde(skip)]
    pub is_several: bool,
}

impl StateShares {
    pub(super) fn of(facts: &MemberFacts) -> StateShares {
        let used = &facts.used;
        let percent = |ns: f64| 100.0 * ns / used.alive_ns.max(1.0);
        StateShares {
            alive_ns: used.alive_ns as u64,
            busy_percent: percent(used.busy_ns),
            waits_for_data_percent: percent(used.data_ns),
            waits_for_space_percent: percent(used.space_ns),
            waits_outside_percent: percent(used.outside_ns),
            waits_for_children_percent: percent(used.follows_ns),
            cpus_while_busy: facts.cpus,
            is_several: facts.threads > 1 || !facts.children.is_empty(),
        }
    }

    /// Its life as one: on CPU while any of its threads is. Of threads that take a CPU each, and
    /// wait for one by turns, that is the most that it can be.
    pub(crate) fn split(&self) -> TimeSplit {
        let alive = self.alive_ns as f64;
        let busy = alive * self.busy_percent / 100.0;
        let on_cpu = busy * self.cpus_while_busy.min(1.0);
        TimeSplit {
            lifetime_ns: self.alive_ns,
            on_cpu_ns: on_cpu as u64,
            runnable_ns: (busy - on_cpu) as u64,
            blocked_ns: (alive - busy) as u64,
            ..TimeSplit::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_on_a_cpu_while_any_of_its_threads_is() {
        let of = |cpus_while_busy| {
            let shares = StateShares {
                alive_ns: 1000,
                busy_percent: 80.0,
                waits_for_data_percent: 20.0,
                waits_for_space_percent: 0.0,
                waits_outside_percent: 0.0,
                waits_for_children_percent: 0.0,
                cpus_while_busy,
                is_several: true,
            };
            let split = shares.split();
            (split.on_cpu_ns, split.runnable_ns, split.blocked_ns)
        };
        assert_eq!(of(1.9), (800, 0, 200));
        assert_eq!(of(0.25), (200, 600, 200));
    }
}
