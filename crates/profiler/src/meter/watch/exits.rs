//! What processes had moved when they ended, if the kernel reports it (taskstats). Then nothing
//! needs to be guessed from the account of the process that waited for them.

use pipeprof_runner::pipeline::MemberId;
use pipeprof_runner::taskstats::{Exit, Exits, ROUNDED_TO_BYTES};
use rustc_hash::FxHashMap;

use crate::meter::IoCounts;
use crate::process::ticks_since_boot;

/// Processes whose end is remembered. Far fewer end between two looks.
const REMEMBERED: usize = 1 << 14;

/// Bytes of several tasks that have ended. Calls are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Read and written at least.
    pub(super) moved: IoCounts,
    tasks: u64,
    is_partial: bool,
}

impl Account {
    /// Likewise, what was read or written may be so much more.
    pub(super) fn rounded_off(self) -> u64 {
        self.tasks * ROUNDED_TO_BYTES
    }

    fn add(&mut self, other: Account) {
        self.moved = self.moved.plus(other.moved);
        self.tasks += other.tasks;
        self.is_partial |= other.is_partial;
    }

    fn without(mut self, other: Account) -> Self {
        self.moved = self.moved.since(other.moved);
        self.tasks = self.tasks.saturating_sub(other.tasks);
        self
    }
}

/// A process that has ended, or threads of one.
#[derive(Clone, Copy, Debug)]
struct Ended {
    account: Account,
    /// Its first thread has ended, too.
    is_whole: bool,
    /// When that was heard, as processes tell their start.
    at_ticks: u64,
}

/// Those who have ended since it began.
#[derive(Debug)]
pub(super) struct ExitAccounts {
    exits: Option<Exits>,
    /// When it began, as processes tell their start.
    began_ticks: u64,
    /// By pid, with what they had waited for.
    ended: FxHashMap<i32, Ended>,
    /// What those had moved that a process has waited for.
    waited: FxHashMap<i32, Account>,
}

impl ExitAccounts {
    pub(super) fn listen() -> Self {
        // It takes rights that an ordinary user does not have; then `inheritance` tells what it can.
        let exits = Exits::listen().ok();
        ExitAccounts {
            exits,
            began_ticks: ticks_since_boot(),
            ended: FxHashMap::default(),
            waited: FxHashMap::default(),
        }
    }

    /// A process began since then, so all that it leaves is reported.
    pub(super) fn reports(&self, id: MemberId) -> bool {
        id.start_time.is_some_and(|ticks| ticks > self.began_ticks)
    }

    /// Takes what has been told since the last look.
    pub(super) fn look(&mut self) {
        let Some(mut exits) = self.exits.take() else { return };
        if self.ended.len() > REMEMBERED {
            self.ended.clear();
        }
        match exits.take(|exit| self.add(exit)) {
            Ok(()) => self.exits = Some(exits),
            // Some were not told: nothing is certain from here on.
            Err(_) => (self.ended, self.waited) = Default::default(),
        }
    }

    fn add(&mut self, exit: Exit) {
        let moved = IoCounts {
            read_bytes: exit.read_bytes,
            written_bytes: exit.written_bytes,
            ..IoCounts::default()
        };
        let mut account = Account { moved, tasks: 1, is_partial: exit.is_partial };
        if exit.leads {
            account.add(self.waited.remove(&exit.pid).unwrap_or_default());
            // Pids go round.
            if self.ended.get(&exit.pid).is_some_and(|ended| ended.is_whole) {
                self.ended.remove(&exit.pid);
            }
        }
        let at_ticks = ticks_since_boot();
        let new = Ended { account: Account::default(), is_whole: false, at_ticks };
        let ended = self.ended.entry(exit.pid).or_insert(new);
        ended.account.add(account);
        (ended.is_whole, ended.at_ticks) = (ended.is_whole || exit.leads, at_ticks);
        self.waited.entry(exit.parent).or_default().add(account);
    }

    /// The account of a process that has ended and had begun under our eyes, but for those that it
    /// had waited for and that are accounted for by themselves.
    pub(super) fn of(&self, id: MemberId, but_for: impl Iterator<Item = i32>) -> Option<Account> {
        let but_for = but_for.filter_map(|child| self.ended.get(&child));
        let is_it = |ended: &&Ended| {
            ended.is_whole && id.start_time.is_none_or(|start| start <= ended.at_ticks)
        };
        let whole = self.ended.get(&id.pid).filter(is_it)?.account;
        let rest = but_for.fold(whole, |rest, child| rest.without(child.account));
        (!rest.is_partial).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: i32, parent: i32, written_bytes: u64) -> Exit {
        Exit { pid, parent, leads: true, written_bytes, ..Exit::default() }
    }

    fn accounts(exits: &[Exit]) -> ExitAccounts {
        let mut accounts = ExitAccounts {
            exits: None,
            began_ticks: 0,
            ended: FxHashMap::default(),
            waited: FxHashMap::default(),
        };
        exits.iter().for_each(|exit| accounts.add(*exit));
        accounts
    }

    fn written(accounts: &ExitAccounts, pid: i32, but_for: &[i32]) -> Option<u64> {
        let id = MemberId { pid, start_time: Some(0) };
        accounts.of(id, but_for.iter().copied()).map(|account| account.moved.written_bytes)
    }

    #[test]
    fn a_process_leaves_what_it_had_waited_for() {
        let told = [exit(12, 11, 1024), exit(13, 11, 2048), exit(11, 10, 4096)];
        let accounts = accounts(&told);
        assert_eq!(written(&accounts, 11, &[]), Some(7168));
        assert_eq!(written(&accounts, 11, &[13]), Some(5120));
        assert_eq!(written(&accounts, 12, &[]), Some(1024));
        assert_eq!(written(&accounts, 14, &[]), None);
        let id = MemberId { pid: 11, start_time: Some(0) };
        assert_eq!(accounts.of(id, [].into_iter()).unwrap().rounded_off(), 3 * 1024);
    }

    #[test]
    fn threads_add_up_and_a_part_of_them_is_nothing() {
        let thread = Exit { leads: false, ..exit(11, 10, 1024) };
        assert_eq!(written(&accounts(&[thread]), 11, &[]), None, "it still lives");
        assert_eq!(written(&accounts(&[thread, exit(11, 10, 2048)]), 11, &[]), Some(3072));
        let partial = Exit { is_partial: true, ..exit(11, 10, 2048) };
        assert_eq!(written(&accounts(&[partial]), 11, &[]), None);
    }

    #[test]
    fn a_pid_that_is_given_again_is_another_process() {
        let accounts = accounts(&[exit(11, 10, 1024), exit(11, 10, 2048)]);
        assert_eq!(written(&accounts, 11, &[]), Some(2048));
        let id = MemberId { pid: 11, start_time: Some(u64::MAX) };
        assert_eq!(accounts.of(id, [].into_iter()), None, "it began after that end");
    }
}
