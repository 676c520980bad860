//! One running pipeline, watched from `/proc` alone, an interval at a time: what its members do,
//! what went through its pipes, how full they are. Nothing is recorded, and no special rights are
//! needed.

use std::collections::hash_map::Entry;

use pipeprof_runner::discover::{Found, Level, parent_of};
use pipeprof_runner::pipeline::{Link, Member, MemberId, Pipe, PipeKey, Pipeline};
use pipeprof_runner::sock_diag::SockDiag;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::accounts::now_ns;
use crate::meter::{
    Elsewhere, EndCount, IoCounts, IoWatch, LinkSockets, can_splice, estimate, estimate_socket,
};
use crate::states::{Looker, Timeline};

/// A pipeline that is watched.
#[derive(Debug)]
pub struct Live {
    found: Found,
    looker: Looker,
    members: FxHashMap<MemberId, Counted>,
    /// Processes that started members: once they have waited for these, their accounts include what
    /// these moved.
    parents: FxHashSet<i32>,
    since_ns: u64,
    /// It used hardly any CPU time in the last interval.
    is_quiet: bool,
    /// A member has ended since it was found.
    has_lost: bool,
    /// Intervals since the looker was made.
    age: u32,
    /// Asks what arrived over TCP.
    sockets: Option<SockDiag>,
    /// Bytes that had arrived at the end of the last interval.
    arrived: FxHashMap<PipeKey, u64>,
}

#[derive(Debug)]
struct Counted {
    io: IoWatch,
    before: Option<IoCounts>,
    /// In the latest interval; `None` where it ended in it.
    moved: Option<IoCounts>,
    elsewhere: Elsewhere,
    splices: bool,
}

/// What was seen in an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Who and which.
    pub pipeline: Pipeline,
    /// Its length.
    pub elapsed_ns: u64,
    /// What its members did.
    pub states: Timeline,
    /// Of each pipe, in the pipeline's order.
    pub pipes: Vec<PipeNow>,
}

/// One pipe in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PipeNow {
    /// Bytes that went through; `None` where neither end can be trusted.
    pub bytes: Option<u64>,
    /// How full it is; `None` for a named FIFO and if it was not looked at.
    pub level: Option<Level>,
}

/// A pipeline that uses less of one CPU than this is quiet.
const QUIET: f64 = 0.01;

/// Ended processes stay in a looker's tables, so it is replaced from time to time.
const LONGEST_AGE: u32 = 60;

/// Who makes the call by its number is found sooner or later, and most programs never splice.
const SPLICES_EVERY: u32 = 4;

impl Live {
    /// Starts to watch.
    pub fn new(found: Found) -> Self {
        let now = now_ns();
        let mut live = Live {
            looker: Looker::new(now, None),
            found,
            members: FxHashMap::default(),
            parents: FxHashSet::default(),
            since_ns: now,
            is_quiet: false,
            has_lost: false,
            age: 0,
            sockets: None,
            arrived: FxHashMap::default(),
        };
        live.meet();
        // What arrived before is of no interval.
        live.arrivals();
        live
    }

    /// The processes that are watched.
    pub fn pipeline(&self) -> &Pipeline {
        &self.found.pipeline
    }

    /// The pipeline as a later discovery found it.
    pub fn follow(&mut self, found: Found) {
        self.found = found;
        self.has_lost = false;
        self.meet();
        let all: Vec<MemberId> = self.members.keys().copied().collect();
        self.look_elsewhere(all);
    }

    /// What else these read and write.
    fn look_elsewhere(&mut self, ids: impl IntoIterator<Item = MemberId>) {
        let links = LinkSockets::of(&self.found.pipeline.pipes);
        for id in ids {
            if let Some(counted) = self.members.get_mut(&id) {
                counted.elsewhere = counted.io.elsewhere(false, &links);
            }
        }
    }

    /// Members at pipes whose bytes are unknown though nothing is known that they move elsewhere.
    fn unexplained(&self, held: &FxHashMap<MemberId, [usize; 2]>) -> FxHashSet<MemberId> {
        let is_unknown = |pipe: &&Pipe| {
            !matches!(pipe.link, Link::Tcp { .. }) && self.bytes(pipe, held).is_none()
        };
        let moves_elsewhere = |id: &MemberId, of: fn(&Elsewhere) -> bool| {
            self.members.get(id).is_none_or(|it| it.splices || of(&it.elsewhere))
        };
        let pipes = self.found.pipeline.pipes.iter().filter(is_unknown);
        let ends = pipes.flat_map(|pipe| {
            let writers = pipe.writers.iter().filter(|id| !moves_elsewhere(id, |it| it.writes));
            writers.chain(pipe.readers.iter().filter(|id| !moves_elsewhere(id, |it| it.reads)))
        });
        ends.copied().collect()
    }

    fn meet(&mut self) {
        let members = &self.found.pipeline.members;
        let ids: FxHashSet<MemberId> = members.iter().map(Member::id).collect();
        self.members.retain(|id, _| ids.contains(id));
        for member in members {
            let Entry::Vacant(place) = self.members.entry(member.id()) else { continue };
            let Ok(io) = IoWatch::open(member.pid) else { continue };
            self.parents.extend(parent_of(member.pid));
            place.insert(Counted {
                before: io.counts(),
                moved: Some(IoCounts::default()),
                elsewhere: Elsewhere::default(),
                splices: can_splice(member.pid),
                io,
            });
        }
        let pids: Vec<i32> = members.iter().map(|member| member.pid).collect();
        self.looker.follow(&pids);
        self.looker.connect(&self.found.pipeline);
    }

    /// It used hardly any CPU time in the last interval, so that few looks tell as much.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// A member has ended since the pipeline was found, so that another may have taken its place.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// How many threads there were at the last look.
    pub fn threads(&self) -> usize {
        self.looker.threads()
    }

    /// Looks at every thread once, some 2 µs each.
    pub fn look(&mut self) {
        self.looker.look(now_ns());
    }

    /// What was seen since the last interval. `levels` says whether to look into the pipes.
    pub fn take(&mut self, levels: bool) -> Interval {
        let now = now_ns();
        for counted in self.members.values_mut() {
            let counts = counted.io.counts();
            self.has_lost |= counts.is_none();
            counted.moved = counts.zip(counted.before).map(|(now, before)| now.since(before));
            counted.before = counts.or(counted.before);
            if self.age.is_multiple_of(SPLICES_EVERY) {
                counted.splices |= counted.io.is_splicing();
            }
        }
        let arrived = self.arrivals();
        let held = self.held();
        // Where the ends disagree, one of them may move other things, too, since it was looked at.
        self.look_elsewhere(self.unexplained(&held));
        let pipes = &self.found.pipeline.pipes;
        let found = if levels { self.found.levels() } else { vec![None; pipes.len()] };
        let pipes = pipes
            .iter()
            .zip(found)
            .map(|(pipe, level)| {
                let bytes = arrived.get(&pipe.key()).copied().or_else(|| self.bytes(pipe, &held));
                PipeNow { bytes, level }
            })
            .collect();
        self.age += 1;
        let states = if self.age >= LONGEST_AGE {
            self.age = 0;
            let old = std::mem::replace(&mut self.looker, Looker::new(now, None));
            self.meet();
            old.finish(now)
        } else {
            self.looker.take(now)
        };
        let elapsed_ns = now.saturating_sub(std::mem::replace(&mut self.since_ns, now));
        let used = states.bins.iter().flat_map(|bin| &bin.accounts);
        let used_ns: u64 = used.map(|(_, account)| account.cpu_ns).sum();
        self.is_quiet = (used_ns as f64) < QUIET * elapsed_ns as f64;
        Interval { pipeline: self.found.pipeline.clone(), elapsed_ns, states, pipes }
    }

    /// What arrived over TCP since the last interval, by the kernel's own count.
    fn arrivals(&mut self) -> FxHashMap<PipeKey, u64> {
        let mut grown = FxHashMap::default();
        let mut keys = FxHashSet::default();
        for pipe in &self.found.pipeline.pipes {
            let Link::Tcp { from, to, .. } = pipe.link else { continue };
            keys.insert(pipe.key());
            if self.sockets.is_none() {
                self.sockets = SockDiag::open().ok();
            }
            let socket = self.sockets.as_mut().and_then(|sockets| sockets.tcp_with(to, from));
            let socket = socket.filter(|socket| socket.inode == pipe.inode);
            let Some(now) = socket.and_then(|socket| socket.received_bytes) else { continue };
            if let Some(before) = self.arrived.insert(pipe.key(), now) {
                grown.insert(pipe.key(), now.saturating_sub(before));
            }
        }
        self.arrived.retain(|key, _| keys.contains(key));
        grown
    }

    /// How many pipes each member writes to, and reads from.
    fn held(&self) -> FxHashMap<MemberId, [usize; 2]> {
        let mut held: FxHashMap<MemberId, [usize; 2]> = FxHashMap::default();
        for pipe in &self.found.pipeline.pipes {
            pipe.writers.iter().for_each(|id| held.entry(*id).or_default()[0] += 1);
            pipe.readers.iter().for_each(|id| held.entry(*id).or_default()[1] += 1);
        }
        held
    }

    fn bytes(&self, pipe: &Pipe, held: &FxHashMap<MemberId, [usize; 2]>) -> Option<u64> {
        let estimate = match pipe.link {
            Link::Pipe | Link::Fifo => estimate,
            Link::Unix { .. } => estimate_socket,
            // What did not arrive by the kernel's own count is in no account of a process.
            Link::Tcp { .. } => return None,
        };
        let end = |ids: &[MemberId], reads: bool| -> Option<EndCount> {
            let mut sum = EndCount::default();
            for id in ids {
                let counted = self.members.get(id)?;
                let Counted { moved: Some(moved), elsewhere, .. } = counted else { return None };
                let (bytes, calls, elsewhere) = match reads {
                    true => (moved.read_bytes, moved.reads, elsewhere.reads),
                    false => (moved.written_bytes, moved.writes, elsewhere.writes),
                };
                let held = held.get(id).map_or(0, |sides| sides[usize::from(reads)]);
                sum.bytes += bytes;
                sum.calls += calls;
                sum.splices |= counted.splices;
                sum.elsewhere |= elsewhere || held > 1 || self.parents.contains(&id.pid);
            }
            (!ids.is_empty()).then_some(sum)
        };
        // What the pipe still holds may have been written in this interval and read in the next.
        let held = pipe.capacity_bytes.unwrap_or(1 << 20);
        estimate(end(&pipe.writers, false), end(&pipe.readers, true), held).known()
    }
}
