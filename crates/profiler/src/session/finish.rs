//! The end of a capture: stores what was counted and seen beside the records.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use pipeprof_runner::pipeline::{MemberId, Pipeline};

use super::Session;
use crate::accounts::now_ns;
use crate::error::Error;
use crate::profile::NO_EVENT;
use crate::recording::{Meta, Recording, unwound};
use crate::segments::Beginning;
use crate::states::{ProcessSeen, Timeline};
use crate::sys::PerfSystem;
use crate::windows::{Windows, read_counts};

/// A capture that records nothing more.
#[derive(Debug)]
pub struct Stopped {
    session: Session,
    /// Records of switches that were lost in the windows.
    lost_in_windows: u64,
}

impl Session {
    /// Stops the events and the looks: what members do from here on is not of the recording.
    ///
    /// # Errors
    /// [`Error::DrainDied`].
    pub fn stop(mut self, system: &dyn PerfSystem) -> Result<Stopped, Error> {
        self.read_accounts(&[]);
        self.perf_maps.hold(self.meta.pipeline.members.iter().map(|member| member.pid));
        self.end_measuring()?;
        let turns = self.windows.take().map(Windows::finish).transpose()?.unwrap_or_default();
        self.meta.end_ns = now_ns();
        match turns.windows[..] {
            // On from start to end.
            [(_, until)] if turns.tracepoints_until.is_none() => self.meta.end_ns = until,
            _ => self.meta.windows = turns.windows,
        }
        self.meta.wakeups_until_ns = turns.tracepoints_until;
        for event in self.events.iter() {
            // An event whose task has exited may refuse; there is nothing left to stop then.
            let _ = system.disable(event.as_fd());
        }
        if let Some(states) = self.states.take() {
            let mut states = states.finish()?;
            states.begin_at(self.meta.start_ns);
            if self.meta.setup.event == NO_EVENT {
                name_members(&mut self.meta.pipeline, &states);
            }
            self.meta.states = Some(states);
        }
        Ok(Stopped { session: self, lost_in_windows: turns.lost })
    }

    /// Stops the events and completes the recording.
    ///
    /// # Errors
    /// Those of [`Session::stop`] and [`Stopped::finish`].
    pub fn finish(self, system: &dyn PerfSystem) -> Result<Recording, Error> {
        self.stop(system)?.finish()
    }
}

impl Stopped {
    /// When the recording began, by the clock of the records.
    pub(crate) fn start_ns(&self) -> u64 {
        self.session.meta.start_ns
    }

    /// Completes the recording.
    ///
    /// # Errors
    /// [`Error::DrainDied`]. A disk that filled up is no error: the recording holds what came
    /// before, and a note says so.
    pub fn finish(self) -> Result<Recording, Error> {
        let Stopped { session, lost_in_windows } = self;
        session.complete(lost_in_windows)
    }
}

impl Session {
    fn complete(mut self, lost_in_windows: u64) -> Result<Recording, Error> {
        let is_full = self.is_full();
        let drained = self.drain.finish()?;
        self.meta.foreign_samples = drained.foreign_samples;
        if self.counts_lost {
            let lost = |events: &[OwnedFd]| -> Option<u64> {
                events.iter().map(|event| read_counts(event)?[1]).sum()
            };
            let (samples, switches) = self.events.split_at(self.sampled);
            self.meta.lost = lost(samples);
            let switches = lost(switches).unwrap_or(0) + lost_in_windows;
            if switches > 0 {
                self.meta.notes.push(format!(
                    "{switches} records of context switches and wake-ups were lost: who waited \
                     then, and for whom, is not known"
                ));
            }
        }
        if let Some(failure) = &drained.failure {
            let lost = self.meta.lost.unwrap_or_default() + failure.lost;
            self.meta.lost = Some(lost);
            self.meta.notes.push(format!(
                "the recording ends early, after {:.1} s: writing to {} failed: {}",
                self.meta.end_ns.saturating_sub(self.meta.start_ns) as f64 / 1e9,
                self.dir.path().display(),
                failure.error,
            ));
        } else if is_full {
            let most = self.limits.max_bytes.unwrap_or_default();
            let seconds = self.meta.end_ns.saturating_sub(self.meta.start_ns) as f64 / 1e9;
            self.meta.notes.push(format!(
                "the recording ended after {seconds:.1} s, when its records came to {}",
                pipeprof_runner::size::exact(most),
            ));
        }
        let finished = drained.segments.join().and_then(|joined| {
            joined.writer.finish(&self.provenance)?;
            Ok(joined.began)
        });
        match finished {
            Ok(Some(began)) => begin_at(&mut self.meta, began),
            Ok(None) => {}
            Err(error) => {
                let note = format!("the recording's end could not be written: {error}");
                self.meta.notes.push(note);
            }
        }
        if let Some(events) = self.to_unwind {
            let path = self.dir.path().join("perf.data");
            if let Err(error) = unwound::replace(&path, events, &mut self.meta, &self.provenance) {
                self.meta.notes.push(format!(
                    "the recording keeps its slices of the stack, unwound each time that it is \
                     read: writing it again failed: {error}"
                ));
            }
        }
        let mut recording = Recording::captured(self.dir, self.meta);
        recording.perf_maps = self.perf_maps;
        recording.write_failure = drained.failure.map(|failure| failure.error);
        Ok(recording)
    }
}

/// What is left of a long watch began then, and everything else said of it does too.
fn begin_at(meta: &mut Meta, began: Beginning) {
    let Beginning { at_ns, threads, accounts, state: _ } = began;
    if at_ns <= meta.start_ns {
        // All of the watch was kept: the files begin while the events are attached.
        return;
    }
    meta.notes.push(format!(
        "only the last {:.1} s of {:.1} s were kept",
        meta.end_ns.saturating_sub(at_ns) as f64 / 1e9,
        meta.end_ns.saturating_sub(meta.start_ns) as f64 / 1e9,
    ));
    meta.start_ns = at_ns;
    meta.threads = threads;
    meta.accounts.begin_at(&accounts, at_ns);
    meta.sleepers.forget(at_ns);
    if let Some(states) = &mut meta.states {
        states.begin_at(at_ns);
    }
    if let Some(observed) = &mut meta.observed {
        observed.begin_at(at_ns);
    }
    meta.windows.retain_mut(|(from, until)| {
        *from = at_ns.max(*from);
        *until > at_ns
    });
    // The events counted what they lost over all of the watch.
    meta.lost = None;
    if meta.wakeups_until_ns.is_some_and(|until| until <= at_ns) {
        meta.setup.wakeups =
            Err("wake-ups were recorded only at the beginning of the watch, which \
                                  was not kept"
                .to_owned());
    }
}

/// Without records of `exec`, the looks know what the members became.
fn name_members(pipeline: &mut Pipeline, states: &Timeline) {
    let id = |seen: &ProcessSeen| MemberId { pid: seen.pid, start_time: seen.start_time_ticks };
    let names: HashMap<MemberId, &str> =
        states.processes.iter().rev().map(|seen| (id(seen), seen.comm.as_str())).collect();
    for member in &mut pipeline.members {
        if let Some(name) = names.get(&member.id()) {
            (*name).clone_into(&mut member.comm);
        }
    }
}
