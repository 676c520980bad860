//! The members of a summary by pid: looked up, not searched for, as a file may tell of thousands.

use rustc_hash::FxHashMap;

use super::MemberSummary;

/// Members with their places, by pid. A long recording may have several of one.
pub(crate) struct ByPid<'a>(FxHashMap<i32, Vec<(usize, &'a MemberSummary)>>);

impl<'a> ByPid<'a> {
    pub(crate) fn of(members: &'a [MemberSummary]) -> Self {
        let mut by_pid: FxHashMap<i32, Vec<(usize, &MemberSummary)>> = FxHashMap::default();
        for (place, member) in members.iter().enumerate() {
            by_pid.entry(member.pid).or_default().push((place, member));
        }
        ByPid(by_pid)
    }

    /// The first member of that pid, with its place.
    pub(crate) fn placed(&self, pid: i32) -> Option<(usize, &'a MemberSummary)> {
        self.0.get(&pid)?.first().copied()
    }

    /// The first member of that pid.
    pub(crate) fn get(&self, pid: i32) -> Option<&'a MemberSummary> {
        self.placed(pid).map(|(_, member)| member)
    }

    /// The members at an end of a pipe that use it, in their order.
    pub(crate) fn users(&self, pids: &[i32]) -> Vec<&'a MemberSummary> {
        let all = pids.iter().filter_map(|pid| self.0.get(pid)).flatten();
        let mut users: Vec<_> = all.copied().filter(|(_, member)| !member.only_holds).collect();
        users.sort_unstable_by_key(|(place, _)| *place);
        users.dedup_by_key(|(place, _)| *place);
        users.into_iter().map(|(_, member)| member).collect()
    }
}
