//! Records one stretch after the other, and hands on those that are to be kept.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use pipeprof_profiler::recording::{Recording, RecordingDir};
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_profiler::watcher::{Ending, Standby, Watcher};

use super::measure::{Measure, Moment};
use super::subject::Subject;
use crate::args::target::Target;
use crate::capture::{refused, standby};
use crate::interrupt::Interrupt;
use crate::ui::{Ui, explained};

/// How stretches are recorded.
pub(super) struct Stretches<'a> {
    /// Where recordings get their names.
    pub(super) folder: &'a Path,
    /// Without a trigger nothing is ever kept, and so nothing recorded.
    pub(super) config: Option<&'a CaptureConfig>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) ui: &'a Ui,
}

/// A stretch that could not be recorded, as where a disk is full, is tried again after so long.
const PAUSE: Duration = Duration::from_secs(10);

impl Stretches<'_> {
    /// Watches until there is nothing more to watch, or a stop is requested.
    ///
    /// # Errors
    /// Where the first stretch can't be recorded.
    pub(super) fn watch(
        &self,
        subject: &mut Subject,
        measure: &mut Measure<'_>,
        unread: SyncSender<(Recording, Moment)>,
    ) -> anyhow::Result<()> {
        let mut is_first = true;
        while !self.interrupt.is_set() && !subject.is_over() {
            let watcher = match self.begin(subject, is_first) {
                // The processes ended while the events were opened.
                Err(_) if subject.is_over() => Ok(None),
                watcher => watcher.map(Some),
            };
            let watched = match watcher {
                Ok(None) => break,
                Err(error) if is_first => return Err(error),
                Err(error) => Err(error),
                Ok(Some(mut watcher)) => {
                    let watched = watcher.watch(subject.time_left(), &mut [subject, measure]);
                    watched.and_then(|_| watcher.finish()).map_err(refused)
                }
            };
            is_first = false;
            let moment = measure.begin_stretch();
            match watched {
                Ok(seen) => {
                    subject.follow(&seen.pipeline.members);
                    if let (Some(moment), Some(recording)) = (moment, seen.recording) {
                        // The thread at the other end lives as long as this one.
                        let _ = unread.send((recording, moment));
                    }
                    if seen.ending == Ending::Full {
                        self.ui.warn("the recording ended early: its files can't be written");
                        self.pause();
                    }
                }
                Err(error) => {
                    self.ui.warn_of(&error);
                    self.pause();
                }
            }
        }
        Ok(())
    }

    fn begin(&self, subject: &Subject, is_first: bool) -> anyhow::Result<Watcher> {
        let (pids, extent) = (subject.pids(), subject.extent);
        let mut standby = if is_first {
            let target = Target::Running { pids, extent, duration: None };
            standby(target, self.interrupt, self.ui)?
        } else {
            Standby::processes(&pids, extent, self.interrupt.stop()).map_err(refused)?
        };
        if let Some(config) = self.config {
            let dir = RecordingDir::temporary_in(self.folder).map_err(explained)?;
            self.interrupt.remove_on_quit(dir.path());
            standby.record(config, dir).map_err(refused)?;
        }
        standby.count();
        if is_first {
            self.ui.note(format_args!("watching {} until it ends or Ctrl-C", standby.title()));
        }
        standby.release().map_err(refused)
    }

    fn pause(&self) {
        let until = Instant::now() + PAUSE;
        while Instant::now() < until && !self.interrupt.is_set() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
