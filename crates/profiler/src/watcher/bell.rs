//! Rings when a process of what is watched is started or executes a program: then is the time to
//! look at it, as it may be over before the next look by the clock.
//!
//! The recording tells the same, but only once half a ring has filled up. This has rings of its own
//! that wake at once and are written nowhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustc_hash::FxHashSet;

use crate::attr::{EventAttr, event_type, flag};
use crate::perfdata::record::{kind, split_record};
use crate::ring::{Ring, page_bytes};
use crate::sys::PerfSystem;
use crate::tasks::online_cpus;

/// `PERF_COUNT_SW_DUMMY`: counts nothing, and tells of tasks.
const DUMMY: u64 = 9;

/// Pages of a ring: some hundred births, of which one is enough.
const PAGES: usize = 4;

/// Listens.
#[derive(Debug)]
pub(super) struct Bell {
    events: Vec<OwnedFd>,
    rings: Vec<Ring>,
    /// Processes whose doings are of interest.
    heard: FxHashSet<i32>,
    records: Vec<u8>,
}

impl Bell {
    /// Listens to these processes and what they start; `None` where the kernel lets nobody listen.
    pub(super) fn hang(system: &dyn PerfSystem, pids: &[i32]) -> Option<Bell> {
        let mut attr = EventAttr::new(event_type::SOFTWARE, DUMMY)
            .with_flag(flag::TASK | flag::COMM | flag::COMM_EXEC | flag::WATERMARK, true);
        attr.wakeup = 1;
        let open = |attr: &EventAttr, pid: i32| {
            let cpus = online_cpus();
            let events = cpus.iter().map(|&cpu| system.open(attr, pid, cpu as i32).ok());
            events.collect::<Option<Vec<_>>>()
        };
        // An event of each CPU costs the members nothing; one of a task is dear to who switches
        // often, but those who may open no other have such events for their samples, too.
        let events = open(&attr, -1).or_else(|| match pids {
            [root] => open(&attr.with_flag(flag::INHERIT, true), *root),
            _ => None,
        })?;
        let map = |event: &OwnedFd| system.map(event.as_fd(), PAGES * page_bytes()).ok();
        let rings = events.iter().map(map).collect::<Option<Vec<_>>>()?;
        events.iter().try_for_each(|event| system.enable(event.as_fd())).ok()?;
        let heard = pids.iter().copied().collect();
        Some(Bell { events, rings, heard, records: Vec::new() })
    }

    /// Listens to these, too.
    pub(super) fn hear(&mut self, pids: impl IntoIterator<Item = i32>) {
        self.heard.extend(pids);
    }

    /// Readable when something happened, to whomever.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.events.iter().map(AsFd::as_fd)
    }

    /// Whether it rang for one of ours since the last time.
    pub(super) fn has_rung(&mut self) -> bool {
        self.records.clear();
        for ring in &mut self.rings {
            // A ring that is broken rings no more.
            let _ = ring.take_into(&mut self.records);
        }
        let (mut rest, mut rang) = (&self.records[..], false);
        while let Some((record, length)) = split_record(rest) {
            rang |= rings_for(record.kind, record.body, &mut self.heard);
            rest = &rest[length..];
        }
        rang
    }
}

/// `struct { u32 pid, ppid, tid, ptid; … }` of FORK and EXIT, `struct { u32 pid, tid; … }` of COMM.
fn rings_for(record: u32, body: &[u8], heard: &mut FxHashSet<i32>) -> bool {
    let word = |at: usize| body.get(4 * at..)?.first_chunk().map(|word| i32::from_ne_bytes(*word));
    let Some((pid, second)) = word(0).zip(word(1)) else { return false };
    match record {
        kind::FORK => pid != second && heard.contains(&second) && heard.insert(pid),
        kind::COMM => heard.contains(&pid),
        kind::EXIT => {
            // Whoever gets this pid next is heard only as somebody's child.
            if word(2) == Some(pid) {
                heard.remove(&pid);
            }
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(words: &[i32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn it_rings_for_children_and_their_programs_only() {
        let mut heard = FxHashSet::from_iter([10]);
        let mut rings = |kind, words: &[i32]| rings_for(kind, &body(words), &mut heard);
        assert!(rings(kind::FORK, &[11, 10, 11, 10]));
        assert!(!rings(kind::FORK, &[10, 10, 12, 10]), "a thread");
        assert!(!rings(kind::FORK, &[21, 20, 21, 20]), "a stranger's child");
        assert!(rings(kind::COMM, &[11, 11]));
        assert!(rings(kind::FORK, &[13, 11, 13, 11]));
        assert!(!rings(kind::COMM, &[21, 21]));
        assert!(!rings(kind::EXIT, &[11, 10, 11, 10]));
        assert!(!rings(kind::COMM, &[11, 11]), "its pid is somebody else's now");
        assert!(!rings(kind::FORK, &[1]), "cut short");
    }
}
