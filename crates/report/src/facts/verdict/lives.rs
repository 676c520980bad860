//! How each member spent its time, and how it used the CPUs.

use super::judge::Judge;
use super::{MemberFacts, Parallel, Quota};
use crate::facts::states::{ActorId, Outside};
use pipeprof_profiler::states::Why;

/// A thread with this share of the CPU time of its process does the work.
const ONE_DOES_IT: f64 = 0.8;

/// With this much CPU time beside the busiest thread, a second one works too.
const SECOND_WORKS: f64 = 0.15;

impl Judge<'_> {
    pub(super) fn lives(&self) -> Vec<MemberFacts> {
        let cpus = self.evidence.cpus.max(1) as f64;
        (0..self.history.actors.len())
            .filter_map(|actor| {
                let member = self.member_of[actor]?;
                let used = self.uses[actor];
                let one = &self.history.actors[actor];
                let while_busy = used.cpu_ns / used.busy_ns.max(1.0);
                let alive = used.alive_ns.max(1.0);
                // While one hands over to the next, none runs.
                let handing_over = self.time_in(actor, Outside::For(Why::Thread));
                let takes_turns = one.second_thread_ns as f64 >= SECOND_WORKS * used.cpu_ns
                    && used.busy_ns + handing_over >= 0.75 * alive
                    && used.busy_ns >= 0.5 * alive
                    && used.threads_ns <= 1.15 * used.busy_ns
                    && used.cpu_ns <= 1.05 * used.busy_ns;
                let held_back = |(cpus, throttled): (f64, u64)| Quota {
                    cpus,
                    // Of all CPUs together; no thread waits longer than it waits for a CPU.
                    held_back: (throttled as f64).min(used.run_delay_ns).min(used.busy_ns) / alive,
                };
                let parallel = if used.cpu_ns >= 0.9 * cpus * alive && cpus > 1.0 {
                    Parallel::AllCpus
                } else if one.threads > 1
                    && one.busiest_thread.0 as f64 >= ONE_DOES_IT * used.cpu_ns
                    && used.busy_ns >= 0.5 * alive
                {
                    Parallel::OneThread
                } else if takes_turns {
                    Parallel::OneAtATime
                } else {
                    Parallel::Some
                };
                Some(MemberFacts {
                    member,
                    outside: self.outside[actor].clone(),
                    cpus: while_busy,
                    parallel,
                    threads: one.threads,
                    quota: one.quota.map(held_back).filter(|quota| quota.held_back >= 0.02),
                    busiest_thread_ns: one.busiest_thread.0,
                    busiest_thread: one.busiest_thread.1.clone(),
                    children: one
                        .children
                        .iter()
                        .map(|(name, lived)| (name.clone(), *lived as f64 / alive))
                        .collect(),
                    used,
                })
            })
            .collect()
    }

    fn time_in(&self, actor: ActorId, outside: Outside) -> f64 {
        let mut sums = self.outside[actor].iter();
        sums.find(|(known, _)| *known == outside).map_or(0.0, |(_, ns)| *ns)
    }
}
