//! Decides what to do at each tick of a watch from what was seen so far. No clock, no system call:
//! time comes in as an argument.

use std::time::Duration;

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What was watched has ended.
    Ended,
    /// The time that was asked for is over, or a look has seen what it waited for.
    Elapsed,
    /// A stop was requested.
    Interrupted,
    /// The recording holds as much as it may, or as the disk takes.
    Full,
}

/// How long, and how often looks are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The watch ends after so long.
    pub(super) duration: Option<Duration>,
    /// New members are looked for after so long at first: what was just launched starts its members
    /// within milliseconds, and short ones end soon after.
    pub(super) first_look: Duration,
    /// And so seldom where looks find nothing new.
    pub(super) last_look: Duration,
    /// What is watched ends only once it has come to its own end, as a pair drains its pipe.
    pub(super) drains: bool,
}

/// What was seen at a tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    /// Time since the watch began.
    pub(super) elapsed: Duration,
    /// What is watched has ended.
    pub(super) ended: bool,
    /// A stop was requested.
    pub(super) asked: bool,
    /// The recording takes no more.
    pub(super) full: bool,
    /// A process was started, executed a program, or ended.
    pub(super) any_event: bool,
    /// There is enough of it; else the end of the time is waited beyond.
    pub(super) enough: bool,
    /// A look has seen what it waited for.
    pub(super) satisfied: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The watch is over.
    End(Ending),
    /// Ask what is watched to come to its end, and go on until it has.
    Ask(Ending),
    /// Take these looks, then wait for so long or until something happens.
    Look {
        /// Read the accounts of the members, and what else is looked at ten times a second.
        accounts: bool,
        /// See who belongs to the pipeline.
        members: bool,
    },
}

/// Accounts are read and Ctrl-C is obeyed this often.
const TICK: Duration = Duration::from_millis(100);

/// A look may take so much of the time, in percent of one CPU: the larger a pipeline, the longer the
/// pauses.
const SHARE_PERCENT: u32 = 4;

/// Looks for members may use so much CPU time before that share limits them: a pipeline that is being
/// started is over soon, or stands soon.
const CREDIT: Duration = Duration::from_millis(300);

/// Looks are never closer than this, however often something happens.
const CLOSEST: Duration = Duration::from_millis(1);

/// Decides, tick by tick.
#[derive(Debug)]
pub(super) struct Decisions {
    timing: Timing,
    accounts: Due,
    members: Due,
    /// How long members are not looked for where nothing happens.
    pause: Duration,
    /// CPU time that went into looks for members.
    spent: Duration,
    asked: Option<Ending>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Due {
    /// No earlier, whatever happens.
    earliest: Duration,
    /// At the latest.
    latest: Duration,
}

impl Due {
    /// After a look that ended at `now`, with the next one allowed from then on.
    fn after(now: Duration, allowed: Duration, pause: Duration) -> Due {
        let earliest = allowed.max(now + CLOSEST);
        Due { earliest, latest: earliest.max(now + pause) }
    }
}

impl Decisions {
    pub(super) fn new(timing: Timing) -> Self {
        let members = Due { earliest: Duration::ZERO, latest: timing.first_look };
        Decisions {
            timing,
            accounts: Due::default(),
            members,
            pause: timing.first_look,
            spent: Duration::ZERO,
            asked: None,
        }
    }

    /// What to do now.
    pub(super) fn step(&mut self, observed: Observed) -> Step {
        if observed.ended {
            return Step::End(self.asked.unwrap_or(Ending::Ended));
        }
        let is_late = self.timing.duration.is_some_and(|duration| observed.elapsed >= duration);
        let over = observed.satisfied || observed.enough && is_late;
        let ending = match (observed.asked, observed.full, over) {
            (true, _, _) => Some(Ending::Interrupted),
            (_, true, _) => Some(Ending::Full),
            (_, _, true) => Some(Ending::Elapsed),
            _ => None,
        };
        match ending {
            Some(ending) if !self.timing.drains => return Step::End(ending),
            Some(ending) if self.asked.is_none() => {
                self.asked = Some(ending);
                return Step::Ask(ending);
            }
            _ => {}
        }
        let is_due = |due: Due| observed.elapsed >= due.latest;
        Step::Look {
            accounts: is_due(self.accounts),
            members: is_due(self.members)
                || (observed.any_event && observed.elapsed >= self.members.earliest),
        }
    }

    /// Accounts were read until `now`, which took so much CPU time: on a loaded machine the time that
    /// passed says nothing of what it cost.
    pub(super) fn read_accounts(&mut self, now: Duration, took: Duration) {
        self.accounts = Due::after(now, now + took * (100 / SHARE_PERCENT - 1), TICK);
    }

    /// Members were looked for until `now`, which took so much CPU time.
    pub(super) fn looked(&mut self, now: Duration, took: Duration, found_new: bool) {
        self.pause = if found_new { self.timing.first_look } else { self.pause * 2 }
            .min(self.timing.last_look);
        self.spent += took;
        let allowed = self.spent.saturating_sub(CREDIT) * (100 / SHARE_PERCENT);
        self.members = Due::after(now, allowed, self.pause);
    }

    /// How long nothing has to be done from `now` on. With `any_event`, something happened that calls
    /// for a look that is not due yet.
    pub(super) fn pause(&self, now: Duration, any_event: bool) -> Duration {
        let members = if any_event { self.members.earliest } else { self.members.latest };
        let next = members.min(self.accounts.latest).min(now + TICK);
        let end = self.timing.duration.filter(|duration| *duration > now);
        let next = end.map_or(next, |end| next.min(end));
        next.saturating_sub(now).max(CLOSEST / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn timing() -> Timing {
        Timing { duration: None, first_look: MS(2), last_look: MS(1000), drains: false }
    }

    fn at(ms: u64) -> Observed {
        Observed { elapsed: MS(ms), enough: true, ..Observed::default() }
    }

    #[test]
    fn an_end_is_told_by_what_came_first() {
        let limited = Timing { duration: Some(MS(50)), ..timing() };
        let nothing = Step::Look { accounts: true, members: true };
        for (observed, step) in [
            (at(10), nothing),
            (Observed { ended: true, asked: true, ..at(10) }, Step::End(Ending::Ended)),
            (Observed { asked: true, full: true, ..at(60) }, Step::End(Ending::Interrupted)),
            (Observed { full: true, ..at(60) }, Step::End(Ending::Full)),
            (at(50), Step::End(Ending::Elapsed)),
            (Observed { satisfied: true, ..at(10) }, Step::End(Ending::Elapsed)),
        ] {
            assert_eq!(Decisions::new(limited).step(observed), step, "{observed:?}");
        }
        assert_eq!(Decisions::new(timing()).step(at(1_000_000)), nothing);
    }

    #[test]
    fn a_watch_goes_on_until_there_is_enough() {
        let mut decisions = Decisions::new(Timing { duration: Some(MS(50)), ..timing() });
        let few = |ms| Observed { enough: false, ..at(ms) };
        assert!(matches!(decisions.step(few(60)), Step::Look { .. }));
        decisions.spent = CREDIT;
        decisions.looked(MS(60), MS(40), false);
        decisions.read_accounts(MS(60), Duration::ZERO);
        assert_eq!(decisions.pause(MS(60), false), MS(100), "it does not spin beyond the end");
        assert_eq!(decisions.step(few(70)), Step::Look { accounts: false, members: false });
        assert_eq!(decisions.step(at(70)), Step::End(Ending::Elapsed));
        assert_eq!(
            decisions.step(Observed { asked: true, ..few(70) }),
            Step::End(Ending::Interrupted)
        );
    }

    #[test]
    fn what_drains_is_asked_once_and_ends_by_itself() {
        let mut decisions = Decisions::new(Timing { drains: true, ..timing() });
        let asked = |ms| Observed { asked: true, ..at(ms) };
        assert_eq!(decisions.step(asked(10)), Step::Ask(Ending::Interrupted));
        assert!(matches!(decisions.step(asked(20)), Step::Look { .. }));
        let ended = Observed { ended: true, ..asked(30) };
        assert_eq!(decisions.step(ended), Step::End(Ending::Interrupted));
    }

    #[test]
    fn looks_for_members_grow_rare_until_one_is_found() {
        let mut decisions = Decisions::new(timing());
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for look in 0..14 {
            decisions.looked(now, Duration::ZERO, look == 11);
            pauses.push((decisions.members.latest - now).as_millis());
            now = decisions.members.latest;
        }
        assert_eq!(pauses[..6], [4, 8, 16, 32, 64, 128]);
        assert_eq!(pauses[8..], [1000, 1000, 1000, 2, 4, 8]);
    }

    #[test]
    fn a_process_event_brings_the_next_look_forward_but_not_too_close() {
        let mut decisions = Decisions::new(timing());
        decisions.spent = CREDIT + MS(3);
        decisions.looked(MS(100), MS(2), false);
        decisions.read_accounts(MS(100), Duration::ZERO);
        let any_event = |ms| Observed { any_event: true, ..at(ms) };
        let members = |step| matches!(step, Step::Look { members: true, .. });
        assert!(!members(decisions.step(any_event(124))));
        assert!(members(decisions.step(any_event(125))));
        assert!(members(decisions.step(at(125))), "the pause was shorter than that");
        assert_eq!(decisions.pause(MS(101), true), MS(24));
    }

    #[test]
    fn looks_are_close_until_their_credit_is_used_up() {
        let mut decisions = Decisions::new(timing());
        decisions.looked(MS(100), MS(200), true);
        assert_eq!(decisions.members.earliest, MS(101));
        decisions.looked(MS(300), MS(200), true);
        assert_eq!(decisions.members.earliest, MS(100 * 25));
    }

    #[test]
    fn what_takes_long_is_done_seldom() {
        let mut decisions = Decisions::new(timing());
        decisions.read_accounts(MS(100), MS(40));
        let accounts = |step| matches!(step, Step::Look { accounts: true, .. });
        assert!(!accounts(decisions.step(at(1059))));
        assert!(accounts(decisions.step(at(1060))));
        // Ctrl-C is still seen ten times a second.
        decisions.spent = CREDIT;
        decisions.looked(MS(100), MS(40), false);
        assert_eq!(decisions.pause(MS(100), false), MS(100));
    }

    #[test]
    fn no_pause_goes_beyond_the_end() {
        let mut decisions = Decisions::new(Timing { duration: Some(MS(130)), ..timing() });
        decisions.spent = CREDIT;
        decisions.looked(MS(100), MS(40), false);
        decisions.read_accounts(MS(100), Duration::ZERO);
        assert_eq!(decisions.pause(MS(100), false), MS(30));
    }
}
