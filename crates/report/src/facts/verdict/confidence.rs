//! How sure a verdict is: the error of looks, and what contradicts it.

use super::judge::{Judge, MOSTLY};
use super::{Doubt, Judged, Limiter};
use crate::facts::blame::Limit;
use crate::verdict::{Confidence, Finding};
use rustc_hash::FxHashSet;

/// Looks in a row are alike: so many count as one that is independent.
const ALIKE: f64 = 4.0;

impl Judge<'_> {
    /// With which the share of a limit is known, in 19 of 20 cases.
    pub(super) fn error(&self, share: f64) -> f64 {
        let looks = (self.history.looks as f64 / ALIKE).max(1.0);
        2.0 * (share * (1.0 - share) / looks).sqrt().max(0.5 / looks)
    }

    pub(super) fn sure(&self, judged: &Judged) -> (Option<Confidence>, Option<Doubt>) {
        let share = judged.share;
        let members: FxHashSet<usize> = judged.members.iter().copied().collect();
        let next = judged.limits.iter().find(|(limiter, _)| match limiter {
            Limiter::Member(member) => !members.contains(member),
            Limiter::Pipe(pipe) => judged.pipe != Some(*pipe),
            Limiter::Cpus => judged.finding != Finding::Starved,
            Limiter::Unknown => false,
        });
        let (next, second) =
            next.map_or((Limiter::Unknown, 0.0), |&(limiter, share)| (limiter, share));
        let unknown = self.whole.share(|limit| limit == Limit::Unknown);
        let error = self.error(share);
        let gap = share - second;
        if gap <= error {
            let few = self.history.looks < 100;
            let doubt =
                if few { Doubt::FewLooks(self.history.looks) } else { Doubt::NextIsNear(next) };
            return (Some(Confidence::Low), Some(doubt));
        }
        let doubt = if unknown > 0.1 {
            Some(Doubt::Unexplained(unknown))
        } else if let Some(pipe) = self.fill_disagrees(judged) {
            Some(Doubt::FillDisagrees(pipe))
        } else if self.history.looks < 40 {
            Some(Doubt::FewLooks(self.history.looks))
        } else if gap < 0.2 + error {
            Some(Doubt::NextIsNear(next))
        } else if share < MOSTLY {
            Some(Doubt::Scattered)
        } else if !self.evidence.kernel_visible || self.history.blind_share > 0.2 {
            Some(Doubt::LooksOnly)
        } else {
            None
        };
        (Some(if doubt.is_some() { Confidence::Medium } else { Confidence::High }), doubt)
    }

    /// A pipe before the limiting member that was found empty most of the time, or one after it that
    /// was found full.
    fn fill_disagrees(&self, judged: &Judged) -> Option<usize> {
        let member = match (judged.finding, &judged.members[..]) {
            (Finding::CpuBound | Finding::Outside(_), [member]) if judged.share > MOSTLY => *member,
            _ => return None,
        };
        let one = &self.evidence.members[member];
        let pipe = |at: &usize| &self.evidence.pipes[*at];
        let starved =
            one.reads_from.iter().find(|at| pipe(at).empty.is_some_and(|share| share > 0.9));
        let blocked =
            one.writes_to.iter().find(|at| pipe(at).full.is_some_and(|share| share > 0.9));
        // One that reads faster than it is fed, and yet limits: a source of its own, or a lazy one.
        let feeds = !one.reads_from.is_empty() && one.reads_from.len() == 1;
        starved.filter(|_| feeds).or(blocked).copied()
    }
}
