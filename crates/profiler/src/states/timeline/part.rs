//! A part of a [`Timeline`]: what was found between two times.

use super::Timeline;

impl Timeline {
    /// Leaves out what was before.
    pub fn begin_at(&mut self, at_ns: u64) {
        self.bins.retain(|bin| bin.until_ns > at_ns);
        if let Some(first) = self.bins.first_mut() {
            first.from_ns = first.from_ns.max(at_ns);
        }
        self.start_ns = self.start_ns.max(at_ns);
        self.forget_unused_joints();
    }

    /// What was found between two times. Counts of looks and of CPU time are those of that part.
    #[must_use]
    pub fn within(&self, from_ns: u64, until_ns: u64) -> Timeline {
        let all = self.cpu_by_process();
        let mut part = self.clone();
        part.bins.retain(|bin| bin.until_ns > from_ns && bin.from_ns < until_ns);
        for bin in &mut part.bins {
            bin.from_ns = bin.from_ns.max(from_ns);
            bin.until_ns = bin.until_ns.min(until_ns);
        }
        let joints = part.bins.iter().flat_map(|bin| &bin.joints);
        let looks = joints.map(|&(_, looks)| f64::from(looks)).sum::<f64>().round() as u64;
        let share = looks as f64 / (self.looks as f64).max(1.0);
        part.blind = (self.blind as f64 * share.min(1.0)).round() as u64;
        part.looks = looks;
        (part.start_ns, part.end_ns) = (from_ns, until_ns);
        let kept = part.cpu_by_process();
        for ((seen, all), kept) in part.processes.iter_mut().zip(all).zip(kept) {
            let busiest = u128::from(seen.busiest_thread_ns) * u128::from(kept);
            seen.busiest_thread_ns = (busiest / u128::from(all.max(1))) as u64;
        }
        part.forget_unused_joints();
        part
    }

    pub(super) fn cpu_by_process(&self) -> Vec<u64> {
        let mut sums = vec![0u64; self.processes.len()];
        for (process, account) in self.bins.iter().flat_map(|bin| &bin.accounts) {
            let sum = &mut sums[process.0 as usize];
            *sum = sum.saturating_add(account.cpu_ns);
        }
        sums
    }
}
