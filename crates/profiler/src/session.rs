//! A running capture: which processes it follows, and what it notes about them besides the records.

mod attach;
mod beginning;
mod effect;
mod finish;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pipeprof_runner::pipeline::{Member, MemberId, Pipeline};

pub use self::finish::Stopped;
use crate::accounts::now_ns;
pub use crate::capture_config::{CaptureConfig, Enough};
use crate::drain::Drain;
use crate::effect::{Frequency, Measuring, Sampling};
use crate::error::Error;
use crate::members_only::Joined;
use crate::perfdata::write::{EventDescription, Provenance};
use crate::recording::sidecar::Progress;
use crate::recording::{About, Meta, RecordingDir, TICK_NS};
use crate::segments::Limits;
use crate::states::States;
use crate::symbolize::PerfMaps;
use crate::windows::Windows;

/// More events than this are not switched off and on: each takes some microseconds, and interrupts
/// the task that runs there.
const MOST_SWITCHED: usize = 256;

/// A running capture.
#[derive(Debug)]
pub struct Session {
    events: Arc<[OwnedFd]>,
    drain: Drain,
    limits: Limits,
    /// Whom the recording is about, for those who write down how things stand.
    pids: Arc<Mutex<Vec<i32>>>,
    /// Members that came to light since, for those who leave out what is not a member's.
    joined: Joined,
    full: Arc<AtomicBool>,
    windows: Option<Windows>,
    states: Option<States>,
    provenance: Provenance,
    /// The events, where their stacks are to be unwound in the end.
    to_unwind: Option<Vec<EventDescription>>,
    counts_lost: bool,
    /// How many of the events, the first of them, sample or track.
    sampled: usize,
    /// Those of `events` that sample; the others tell switches and wake-ups.
    sampling: Sampling,
    frequency: Frequency,
    measuring: Option<Measuring>,
    /// When that began, and the CPU time of the members until then.
    measured_from: (u64, Vec<(i32, u64)>),
    dir: RecordingDir,
    meta: Meta,
    perf_maps: PerfMaps,
    progress: Progress,
}

fn pids_of(pipeline: &Pipeline) -> Vec<i32> {
    pipeline.members.iter().map(|member| member.pid).collect()
}

impl Session {
    /// To be called right before members that wait at a gate are let go: their lives begin here,
    /// and the wait at the gate is none of it.
    pub fn members_are_released(&mut self) {
        self.meta.start_ns = now_ns();
        for thread in &mut self.meta.threads {
            thread.asleep = false;
            thread.wchan = None;
        }
        for member in &self.meta.pipeline.members {
            self.meta.accounts.read(member.pid, false);
        }
    }

    /// Reads the scheduler's account of the members' threads, and of `children`: processes that
    /// began after the capture did; and where they sleep, if switches are recorded. To be called
    /// some ten times a second: a thread that ends takes its account with it.
    pub fn read_accounts(&mut self, children: &[MemberId]) {
        let members: Vec<MemberId> = self.meta.pipeline.members.iter().map(Member::id).collect();
        let known: HashSet<MemberId> = members.iter().copied().collect();
        let new = children.iter().copied().filter(|id| !known.contains(id));
        // A process that has a dead member's pid now is not a member.
        let there = |id: &MemberId| id.is_there();
        let members: Vec<MemberId> = members.into_iter().chain(new).filter(there).collect();
        let pids: Vec<i32> = members.iter().map(|id| id.pid).collect();
        self.follow(members.iter().filter(|id| !known.contains(id)).map(|id| id.pid));
        if self.meta.setup.switches {
            self.meta.sleepers.look(pids.iter().copied(), now_ns());
        }
        self.forget_what_is_not_kept(pids);
        for id in &members {
            let born_watched = !known.contains(id)
                && self.meta.began_ns(*id).is_none_or(|ns| ns + TICK_NS > self.meta.start_ns);
            self.meta.accounts.read(id.pid, born_watched);
        }
        let pids: Vec<i32> = members.iter().map(|id| id.pid).collect();
        if let Some(states) = &self.states
            && members.iter().any(|id| !known.contains(id))
        {
            states.follow(pids.clone());
        }
        self.perf_maps.hold_some(&pids);
    }

    /// The pipeline has these links by now.
    pub(crate) fn connect(&self, pipeline: &Pipeline) {
        if let Some(states) = &self.states {
            states.connect(pipeline);
        }
    }

    /// There are as many records as there may be: it is time to finish.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Notes beside the records who the members are, before they are let go.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn begin(&mut self, about: &About) -> Result<(), Error> {
        self.progress.note(self.dir.path(), &self.meta, about)
    }

    /// Notes beside the records what is known so far, so that the recording opens if this process
    /// is killed: at once when a process joined the pipeline, else once a second. To be called some
    /// ten times a second; `about` is asked only when it is time. What cannot be written because a
    /// disk has filled up is told by the records, which cannot be either.
    pub fn note_progress(&mut self, pipeline: &Pipeline, about: impl FnOnce() -> About) {
        if self.dir.outlives_a_kill() && self.progress.is_due(pipeline.members.len()) {
            let meta = Meta { pipeline: pipeline.clone(), ..self.meta.clone() };
            let _ = self.progress.note(self.dir.path(), &meta, &about());
        }
    }

    /// Where the recording lies, and what is known of it so far.
    pub fn so_far(&self) -> (&Path, &Meta) {
        (self.dir.path(), &self.meta)
    }

    /// Has the records of these processes be kept from now on: they have joined the pipeline. What
    /// members start is known from its birth.
    pub fn follow(&self, pids: impl IntoIterator<Item = i32>) {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).extend(pids);
    }

    /// Says who the members were in the end, where more came to light while they were watched.
    pub fn set_pipeline(&mut self, pipeline: Pipeline) {
        self.meta.pipeline = pipeline;
    }

    /// Memory does not grow with the watch, either.
    fn forget_what_is_not_kept(&mut self, there: Vec<i32>) {
        if let Ok(mut pids) = self.pids.lock() {
            *pids = there;
        }
        let Some(keep) = self.limits.keep else { return };
        let before = now_ns().saturating_sub(2 * keep.as_nanos() as u64);
        self.meta.sleepers.forget(before);
        self.meta.accounts.forget(before);
    }
}
