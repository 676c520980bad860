//! The life of every thread, split into on CPU, blocked and runnable, from its context switches.
//!
//! A switch-out that left the thread runnable was a preemption; any other was the thread going to
//! sleep. What follows until the next switch-in is blocked time, and at its end the wait for a CPU
//! after the wake-up, which these records cannot tell apart: the scheduler's own account
//! (`run_delay` in `/proc/PID/schedstat`) can, see [`crate::accounts`].

use rustc_hash::FxHashMap;

/// What a thread did for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Ran.
    OnCpu,
    /// Slept, or waited for a CPU after its wake-up.
    Blocked,
    /// Could have run: it was preempted, or is new.
    Runnable,
}

/// A stretch of a thread's life, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval<S> {
    pub(crate) tid: i32,
    pub(crate) activity: Activity,
    pub(crate) ns: u64,
    /// When it ended.
    pub(crate) until: u64,
    /// Where the thread slept, where that was sampled.
    pub(crate) stack: Option<S>,
}

/// How a thread was when its records begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Running or waiting for a CPU, as `/proc` cannot tell these apart.
    Running,
    /// Asleep.
    Asleep,
    /// Just made: waits for its first CPU.
    New,
}

#[derive(Clone, Copy, Debug)]
enum State<S> {
    /// Nothing seen yet.
    Unseen(Start),
    On,
    Off {
        preempted: bool,
        stack: Option<S>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Thread<S> {
    since: u64,
    state: State<S>,
    /// Sampled on the way out, right before the switch.
    pending: Option<S>,
}

/// All threads of a recording. `S` is what a sampled stack is known by.
#[derive(Debug)]
pub(crate) struct ThreadTimes<S> {
    threads: FxHashMap<i32, Thread<S>>,
}

impl<S: Copy> ThreadTimes<S> {
    pub(crate) fn new() -> Self {
        ThreadTimes { threads: FxHashMap::default() }
    }

    /// A thread's records begin. `stack` is where it sleeps, if it does and that is known.
    pub(crate) fn begin(&mut self, tid: i32, time: u64, start: Start, stack: Option<S>) {
        let state = State::Unseen(start);
        self.threads.insert(tid, Thread { since: time, state, pending: stack });
    }

    /// The stack of a thread that is about to be switched out.
    pub(crate) fn sampled(&mut self, tid: i32, stack: S) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.pending = Some(stack);
        }
    }

    /// A thread left its CPU, preempted or of its own will.
    pub(crate) fn switched_out(
        &mut self,
        tid: i32,
        time: u64,
        preempted: bool,
    ) -> Option<Interval<S>> {
        let thread = self.threads.get_mut(&tid)?;
        let stack = thread.pending.take().filter(|_| !preempted);
        let ended = match thread.state {
            State::On | State::Unseen(_) => Some((Activity::OnCpu, None)),
            // Its switch-in was lost: how long it ran is unknown.
            State::Off { .. } => None,
        };
        finish(tid, thread, time, State::Off { preempted, stack }, ended)
    }

    /// A thread got a CPU.
    pub(crate) fn switched_in(&mut self, tid: i32, time: u64) -> Option<Interval<S>> {
        let thread = self.threads.get_mut(&tid)?;
        let ended = thread.off_activity();
        thread.pending = None;
        finish(tid, thread, time, State::On, ended)
    }

    /// A thread ended, or the recording did.
    pub(crate) fn end(&mut self, tid: i32, time: u64) -> Option<Interval<S>> {
        let mut thread = self.threads.remove(&tid)?;
        let ended = match thread.state {
            State::On | State::Unseen(Start::Running) => Some((Activity::OnCpu, None)),
            _ => thread.off_activity(),
        };
        finish(tid, &mut thread, time, State::On, ended)
    }

    /// Nothing was recorded from `from` to `until`: threads continue in the same state at its end,
    /// and the time between is not assigned.
    pub(crate) fn skip(&mut self, from: u64, until: u64) -> Vec<Interval<S>> {
        let pause = |(&tid, thread): (&i32, &mut Thread<S>)| {
            let ended = match thread.state {
                State::On | State::Unseen(Start::Running) => Some((Activity::OnCpu, None)),
                _ => thread.off_activity(),
            };
            let state = thread.state;
            let interval = finish(tid, thread, from, state, ended);
            thread.since = until;
            interval
        };
        self.threads.iter_mut().filter_map(pause).collect()
    }

    /// What a thread is doing ends here for one reckoning, and goes on for another.
    pub(crate) fn cut(&mut self, tid: i32, time: u64) -> Option<Interval<S>> {
        let thread = self.threads.get_mut(&tid)?;
        let ended = match thread.state {
            State::On | State::Unseen(Start::Running) => Some((Activity::OnCpu, None)),
            _ => thread.off_activity(),
        };
        let state = thread.state;
        finish(tid, thread, time, state, ended)
    }

    /// The threads that have not ended.
    pub(crate) fn alive(&self) -> Vec<i32> {
        self.threads.keys().copied().collect()
    }
}

impl<S: Copy> Thread<S> {
    fn off_activity(&self) -> Option<(Activity, Option<S>)> {
        match self.state {
            State::Off { preempted: true, .. } | State::Unseen(Start::New | Start::Running) => {
                Some((Activity::Runnable, None))
            }
            State::Off { preempted: false, stack } => Some((Activity::Blocked, stack)),
            State::Unseen(Start::Asleep) => Some((Activity::Blocked, self.pending)),
            State::On => None,
        }
    }
}

fn finish<S: Copy>(
    tid: i32,
    thread: &mut Thread<S>,
    time: u64,
    next: State<S>,
    ended: Option<(Activity, Option<S>)>,
) -> Option<Interval<S>> {
    let ns = time.saturating_sub(thread.since);
    thread.since = time;
    thread.state = next;
    let (activity, stack) = ended?;
    Some(Interval { tid, activity, ns, until: time, stack })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a life drawn as a line, a character a nanosecond: `R` switched in and `-` running on,
    /// `B` gone to sleep, `P` preempted, `.` off the CPU, `X` the end. Returns `on blocked runnable`.
    fn life(start: Start, line: &str) -> (u64, u64, u64) {
        let mut times = ThreadTimes::new();
        times.begin(1, 0, start, None);
        let mut sums = (0, 0, 0);
        for (time, event) in line.chars().enumerate() {
            let time = time as u64;
            let interval: Option<Interval<()>> = match event {
                'R' => times.switched_in(1, time),
                'B' => times.switched_out(1, time, false),
                'P' => times.switched_out(1, time, true),
                'X' => times.end(1, time),
                _ => None,
            };
            match interval.map(|i| (i.activity, i.ns)) {
                Some((Activity::OnCpu, ns)) => sums.0 += ns,
                Some((Activity::Blocked, ns)) => sums.1 += ns,
                Some((Activity::Runnable, ns)) => sums.2 += ns,
                None => {}
            }
        }
        sums
    }

    #[test]
    fn a_life_splits_without_rest() {
        assert_eq!(life(Start::Running, "---B..R--X"), (6, 3, 0).into_sum(9));
        assert_eq!(life(Start::Running, "---P..R--X"), (6, 0, 3).into_sum(9));
        assert_eq!(life(Start::Asleep, "...R-B...X"), (2, 7, 0).into_sum(9));
        assert_eq!(life(Start::New, "..R------X"), (7, 0, 2).into_sum(9));
        assert_eq!(life(Start::Running, "..R------X"), (7, 0, 2).into_sum(9));
        // Never switched: all of one kind.
        assert_eq!(life(Start::Running, "---------X"), (9, 0, 0).into_sum(9));
        assert_eq!(life(Start::Asleep, ".........X"), (0, 9, 0).into_sum(9));
    }

    trait Sums {
        fn into_sum(self, whole: u64) -> Self;
    }

    impl Sums for (u64, u64, u64) {
        fn into_sum(self, whole: u64) -> Self {
            assert_eq!(self.0 + self.1 + self.2, whole);
            self
        }
    }

    #[test]
    fn a_lost_switch_leaves_a_gap_instead_of_a_wrong_kind() {
        // In was lost between two outs: the time is nobody's.
        assert_eq!(life(Start::Running, "--B...B..R-X"), (4, 3, 0));
        // Out was lost between two ins.
        assert_eq!(life(Start::Running, "--B..R..R-X"), (4, 3, 0));
    }

    #[test]
    fn a_thread_found_asleep_slept_where_it_was_found() {
        let mut times = ThreadTimes::new();
        times.begin(1, 0, Start::Asleep, Some('w'));
        assert_eq!(times.switched_in(1, 10).unwrap().stack, Some('w'));
        times.switched_out(1, 20, false);
        assert_eq!(times.switched_in(1, 30).unwrap().stack, None);
    }

    #[test]
    fn the_stack_sampled_on_the_way_out_is_the_one_slept_in() {
        let mut times = ThreadTimes::new();
        times.begin(1, 0, Start::Running, None);
        times.sampled(1, 'a');
        times.switched_out(1, 10, false);
        assert_eq!(times.switched_in(1, 30).unwrap().stack, Some('a'));
        // A preemption's stack is none that was slept in, and does not stick.
        times.sampled(1, 'b');
        times.switched_out(1, 40, true);
        assert_eq!(times.switched_in(1, 50).unwrap().stack, None);
        times.switched_out(1, 60, false);
        assert_eq!(times.switched_in(1, 70).unwrap().stack, None);
    }
}
