//! The pipelines that are watched, from interval to interval.

use std::collections::HashMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use pipeprof_profiler::live::Live;
use pipeprof_report::live::{PipelineNow, Snapshot};
use pipeprof_runner::discover::{Extent, Found, discover, discover_all};
use pipeprof_runner::pipeline::{Member, MemberId};

use crate::ui::explained;
use crate::who::Known;

/// What the user asked for.
#[derive(Clone, Debug)]
pub(super) struct What {
    pub(super) pids: Vec<i32>,
    pub(super) pattern: Option<String>,
    /// Look into the pipes.
    pub(super) fill: bool,
    /// Whose threads and open files to look at.
    pub(super) detail: Detail,
}

/// Whose threads and open files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Nobody,
    /// Of the pipeline of this process.
    Of(i32),
    Everybody,
}

pub(super) struct Collector {
    pub(super) what: What,
    watched: Vec<Live>,
    known: Known,
    unreadable: usize,
    scanned: Instant,
    scan_took: Duration,
    /// The newest pid when processes were scanned.
    newest: Option<u32>,
    /// How often states were looked at.
    looked: usize,
}

/// Scans of all processes may take one part in so many of the time.
const SCAN_SHARE: u32 = 400;

/// Likewise, while members come and go.
const SCAN_SHARE_OF_CHANGE: u32 = 100;

/// A new process is seen within this time at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Looks at every thread in an interval, at most and at least.
const MOST_LOOKS: usize = 20;
const FEWEST_LOOKS: usize = 5;

/// Looks at one thread or another in an interval: where there are many threads, each gets fewer.
const ALL_LOOKS: usize = 500;

/// Processes may open a FIFO without any being started.
const LONGEST_REST: Duration = Duration::from_secs(60);

impl Collector {
    pub(super) fn new(what: What) -> anyhow::Result<Self> {
        let mut collector = Collector {
            what,
            watched: Vec::new(),
            known: Known::default(),
            unreadable: 0,
            scanned: Instant::now(),
            scan_took: Duration::ZERO,
            newest: None,
            looked: 0,
        };
        collector.scan()?;
        Ok(collector)
    }

    /// Looks at states until the interval is over. False if it was ended early.
    pub(super) fn wait(&mut self, interval: Duration, is_over: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        let looks = self.looks();
        for look in 1..=looks {
            let next = interval * look / looks;
            std::thread::sleep(next.saturating_sub(began.elapsed()));
            if is_over() {
                return false;
            }
            self.look();
        }
        true
    }

    /// How often every thread is looked at in an interval, but for those of quiet pipelines.
    pub(super) fn looks(&self) -> u32 {
        let busy = self.watched.iter().filter(|live| !live.is_quiet());
        match busy.map(Live::threads).sum() {
            0 => FEWEST_LOOKS as u32,
            threads => (ALL_LOOKS / threads).clamp(FEWEST_LOOKS, MOST_LOOKS) as u32,
        }
    }

    /// Looks at every thread once; at those of quiet pipelines by turns, once an interval.
    pub(super) fn look(&mut self) {
        let turns = self.looks() as usize;
        self.looked = self.looked.wrapping_add(1);
        for (at, live) in self.watched.iter_mut().enumerate() {
            if !live.is_quiet() || (self.looked + at).is_multiple_of(turns) {
                live.look();
            }
        }
    }

    /// The result of the interval; then finds processes that started or ended.
    pub(super) fn take(&mut self) -> Snapshot {
        let fill = self.what.fill;
        self.known.begin();
        let mut pipelines: Vec<PipelineNow> = Vec::with_capacity(self.watched.len());
        for live in &mut self.watched {
            let interval = live.take(fill);
            let mut now = PipelineNow::of(&interval);
            for (member, id) in now.members.iter_mut().zip(&interval.pipeline.members) {
                self.known.name(id.id(), member);
            }
            pipelines.push(now);
        }
        let wanted = |pipeline: &PipelineNow| {
            self.what.pattern.as_ref().is_none_or(|pattern| pipeline.matches(pattern))
        };
        pipelines.retain(wanted);
        let detail = self.what.detail;
        let is_asked = |pipeline: &&mut PipelineNow| match detail {
            Detail::Nobody => false,
            Detail::Of(pid) => pipeline.members.iter().any(|member| member.pid == pid),
            Detail::Everybody => true,
        };
        let asked = pipelines.iter_mut().filter(is_asked);
        self.known.detail(asked.flat_map(|pipeline| &mut pipeline.members));
        pipeprof_report::live::Order::default().sort(&mut pipelines);
        let at_unix_ms = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_millis() as u64);
        let snapshot = Snapshot { at_unix_ms, pipelines, unreadable_processes: self.unreadable };
        // What can't be read now is looked for again at the next scan.
        let _ = self.scan_when_due();
        snapshot
    }

    /// The more expensive the last scan was, the longer until the next.
    fn scan_when_due(&mut self) -> anyhow::Result<()> {
        let since = self.scanned.elapsed();
        let changes = self.watched.iter().any(Live::has_lost);
        let share = if changes { SCAN_SHARE_OF_CHANGE } else { SCAN_SHARE };
        let is_due = since >= (self.scan_took * share).min(LONGEST_PAUSE);
        let may_rest = since < LONGEST_REST && self.newest.is_some() && newest_pid() == self.newest;
        if !is_due || may_rest {
            return Ok(());
        }
        self.scan()
    }

    fn scan(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.newest = newest_pid();
        let found = if self.what.pids.is_empty() {
            let (found, unreadable) = discover_all().map_err(explained)?;
            self.unreadable = unreadable;
            found
        } else {
            let found = discover(&self.what.pids, Extent::Whole).map_err(explained)?;
            self.unreadable = found.unreadable;
            vec![found]
        };
        let mut before: Vec<Option<Live>> = self.watched.drain(..).map(Some).collect();
        let watched = before.iter().flatten().map(Live::pipeline).enumerate();
        let places: HashMap<MemberId, usize> = watched
            .flat_map(|(at, known)| known.members.iter().map(move |m| (m.id(), at)))
            .collect();
        // They share a member.
        let mut known = |found: &Found| {
            let mut ids = found.pipeline.members.iter().map(Member::id);
            ids.find_map(|id| before[*places.get(&id)?].take())
        };
        self.watched = found
            .into_iter()
            .map(|found| match known(&found) {
                Some(mut live) => {
                    live.follow(found);
                    live
                }
                None => Live::new(found),
            })
            .collect();
        self.scanned = Instant::now();
        self.scan_took = began.elapsed();
        Ok(())
    }
}

/// The pid that was given last, to a thread or a process: the last word of `/proc/loadavg`
/// (proc(5)).
fn newest_pid() -> Option<u32> {
    let text = pipeprof_runner::proc_file::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}
