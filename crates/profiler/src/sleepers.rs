//! Which threads were asleep, and where in the kernel, from looks some ten times a second:
//! `/proc/TID/stack` for root, else the one function of `/proc/TID/wchan`.
//!
//! Call chains are recorded for only some of the switches-out. A short sleep without one resembles
//! those that have one; a long sleep may be the only one of its kind. But these looks catch every
//! sleep that is longer than the time between two of them.

use std::fs;
use std::path::Path;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// More threads than this are looked at less often, so that looking stays below 1 % of a CPU.
const THREADS_A_LOOK: usize = 64;

/// What the looks saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleepers {
    /// When each look was, `CLOCK_MONOTONIC` ns.
    looks: Vec<u64>,
    /// Kernel stacks, leaf first, their functions joined by `;`.
    stacks: Vec<String>,
    /// For each thread the looks at which its answer changed, with the stack, `None` for awake.
    threads: FxHashMap<i32, Vec<(u32, Option<u32>)>>,
    #[serde(skip)]
    skipped: usize,
}

impl Sleepers {
    /// Looks at all threads of these processes.
    pub fn look(&mut self, pids: impl Iterator<Item = i32>, now_ns: u64) {
        if self.skipped < self.threads.len() / THREADS_A_LOOK {
            self.skipped += 1;
            return;
        }
        self.skipped = 0;
        self.begin(now_ns);
        for pid in pids {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let tid = task.file_name().to_str().and_then(|name| name.parse().ok());
                if let Some(tid) = tid {
                    self.saw(tid, asleep_in(&task.path()).as_deref());
                }
            }
        }
    }

    /// Leaves out the looks before then.
    pub(crate) fn forget(&mut self, before_ns: u64) {
        let gone = self.looks.partition_point(|&look| look < before_ns);
        if gone == 0 {
            return;
        }
        self.looks.drain(..gone);
        for answers in self.threads.values_mut() {
            let after = answers.partition_point(|&(changed, _)| changed as usize <= gone);
            answers.drain(..after.saturating_sub(1));
            for (changed, _) in answers {
                *changed = changed.saturating_sub(gone as u32);
            }
        }
    }

    fn begin(&mut self, now_ns: u64) {
        self.looks.push(now_ns);
    }

    fn saw(&mut self, tid: i32, stack: Option<&str>) {
        let look = self.looks.len() as u32 - 1;
        let stack = stack.map(|stack| {
            let known = self.stacks.iter().position(|known| known == stack);
            known.unwrap_or_else(|| {
                self.stacks.push(stack.to_owned());
                self.stacks.len() - 1
            }) as u32
        });
        let answers = self.threads.entry(tid).or_default();
        if answers.last().is_none_or(|&(_, latest)| latest != stack) {
            answers.push((look, stack));
        }
    }

    /// Where a thread slept between two times and for how long, as far as looks tell: each stands
    /// for the time since the one before.
    pub fn between(
        &self,
        tid: i32,
        from: u64,
        until: u64,
    ) -> impl Iterator<Item = (&str, u64)> + '_ {
        let first = self.looks.partition_point(|&look| look <= from);
        let last = self.looks.partition_point(|&look| look < until);
        let mut since = from;
        (first..last).filter_map(move |look| {
            let ended = if look + 1 == last { until } else { self.looks[look] };
            let ns = ended.saturating_sub(std::mem::replace(&mut since, ended));
            Some((self.at(tid, look)?, ns))
        })
    }

    fn at(&self, tid: i32, look: usize) -> Option<&str> {
        let answers = self.threads.get(&tid)?;
        let after = answers.partition_point(|&(changed, _)| changed as usize <= look);
        let (_, stack) = answers.get(after.checked_sub(1)?)?;
        self.stacks.get(stack.as_ref().copied()? as usize).map(String::as_str)
    }

    /// The stack in which a thread was seen asleep at a look after `from` and before `until`.
    pub fn within(&self, tid: i32, from: u64, until: u64) -> Option<&str> {
        let first = self.looks.partition_point(|&look| look <= from);
        if *self.looks.get(first)? >= until {
            return None;
        }
        self.at(tid, first)
    }
}

/// Where a thread sleeps now, leaf first; `None` while it runs.
pub(crate) fn asleep_in(task: &Path) -> Option<String> {
    let wchan = fs::read_to_string(task.join("wchan")).ok()?;
    if matches!(wchan.as_str(), "" | "0") {
        return None;
    }
    let stack = fs::read_to_string(task.join("stack")).unwrap_or_default();
    let stack = functions(&stack);
    // The function that waits is not always the leaf: the scheduler's own are above it. A stack
    // without it was taken after the thread had woken up.
    Some(if stack.split(';').any(|name| name == wchan) { stack } else { wchan })
}

/// `[<0>] anon_pipe_read+0x1a2/0x4e0`, a line a function.
fn functions(stack: &str) -> String {
    let name = |line: &'_ str| -> Option<String> {
        let (name, _) = line.trim().strip_prefix("[<0>] ")?.split_once('+')?;
        Some(name.to_owned())
    };
    stack.lines().filter_map(name).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_kernel_stack() {
        let text = "[<0>] wait_woken+0x5c/0x70\n[<0>] sk_wait_data+0x11f/0x140\n[<0>] 0xffff\n";
        assert_eq!(functions(text), "wait_woken;sk_wait_data");
        assert_eq!(functions(""), "");
    }

    #[test]
    fn a_sleep_is_known_by_a_look_inside_it() {
        let mut sleepers = Sleepers::default();
        for (time, wchan) in [(100, None), (200, Some("do_wait")), (300, Some("do_wait"))] {
            sleepers.begin(time);
            sleepers.saw(7, wchan);
        }
        assert_eq!(sleepers.within(7, 150, 250), Some("do_wait"));
        assert_eq!(sleepers.within(7, 250, 350), Some("do_wait"));
        // Awake at the look, no look inside, another thread.
        assert_eq!(sleepers.within(7, 50, 150), None);
        assert_eq!(sleepers.within(7, 210, 290), None);
        assert_eq!(sleepers.within(7, 310, 400), None);
        assert_eq!(sleepers.within(8, 150, 250), None);
        let slept = |from, until| sleepers.between(7, from, until).collect::<Vec<_>>();
        assert_eq!(slept(0, 400), [("do_wait", 100), ("do_wait", 200)]);
        assert_eq!(slept(110, 190), []);
        assert_eq!(slept(150, 250), [("do_wait", 100)]);
    }
}
