//! Completes the recordings that are to be kept, and removes the oldest beyond the limit.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipeprof_profiler::recording::{Recording, SUFFIX};
use pipeprof_report::export::{Source, pprof};
use pipeprof_report::run::Run;
use time::OffsetDateTime;

use super::Counts;
use super::measure::Moment;
use super::push::queue::Queue;
use crate::args::scope::Scope;
use crate::capture::try_analysed;
use crate::output::quoted;
use crate::ui::{Ui, explained};

/// Completes recordings, in a thread of its own.
pub(super) struct Keeper<'a> {
    base: &'a Path,
    most: u64,
    kept: VecDeque<Kept>,
    push: Option<(&'a Queue<'a>, Sender<()>)>,
    counts: &'a Counts,
    ui: &'a Ui,
}

/// Added to the nice value of the thread.
const LOW_PRIORITY: i32 = 10;

/// A recording of this watch: its folder, and which one that is.
struct Kept {
    path: PathBuf,
    id: (u64, u64),
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        base: &'a Path,
        most: u64,
        push: Option<(&'a Queue<'a>, Sender<()>)>,
        counts: &'a Counts,
        ui: &'a Ui,
    ) -> Self {
        Keeper { base, most, kept: VecDeque::new(), push, counts, ui }
    }

    /// Completes what comes, until nothing more can.
    pub(super) fn keep_all(&mut self, recordings: Receiver<(Recording, Moment)>) {
        // The pipeline goes first. Where that is refused, it has the same share.
        let _ = rustix::process::nice(LOW_PRIORITY);
        for (recording, moment) in recordings {
            if let Err(error) = self.keep(recording, &moment) {
                self.ui.warn_of(&error);
            }
        }
    }

    fn keep(&mut self, mut recording: Recording, moment: &Moment) -> anyhow::Result<()> {
        let because = moment.reasons.iter().map(|reason| format!("kept because of {reason}"));
        recording.meta.notes.extend(because);
        // One that can't be analysed goes: beside those that are counted it would stay for ever.
        let captured = try_analysed(recording, Scope::default(), self.ui);
        let mut captured = captured.map_err(|(_, error)| error.context("a recording is lost"))?;
        let path = free_name(self.base, moment.at);
        let taken = &mut captured.taken;
        taken.recording.complete_as(&path, &taken.symbols).map_err(explained)?;
        let samples = captured.run.profile.quality.samples;
        let report = format!("pipeprof report {}", quoted(&path));
        self.ui.note(format_args!("wrote {}: {samples} samples; {report}", path.display()));
        if let Some(id) = identity(&path) {
            self.kept.push_back(Kept { path, id });
        }
        self.remove_oldest();
        self.counts.kept.store(self.kept.len() as u64, Ordering::Relaxed);
        self.push(&captured.run)
    }

    /// A folder that has another one's name by now is not of this watch.
    fn remove_oldest(&mut self) {
        while self.kept.len() as u64 > self.most {
            let Some(old) = self.kept.pop_front() else { return };
            if identity(&old.path) != Some(old.id) {
                continue;
            }
            if let Err(error) = fs::remove_dir_all(&old.path) {
                self.ui.warn(format_args!("removing {} failed: {error}", old.path.display()));
            }
        }
    }

    fn push(&self, run: &Run) -> anyhow::Result<()> {
        let Some((queue, news)) = &self.push else { return Ok(()) };
        let mut profile = Vec::new();
        let source = Source { run, members: (0..run.profile.members.len()).collect() };
        pprof::render(&source, &mut profile)?;
        let from = Duration::from_nanos(run.started_unix_ns.unwrap_or(0));
        queue.add(from, from + Duration::from_nanos(run.elapsed_ns), &profile)?;
        // Whoever sends them lives as long as this.
        let _ = news.send(());
        Ok(())
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = path.symlink_metadata().ok()?;
    Some((found.dev(), found.ino()))
}

/// `watch-20261129T141000Z.pipeprof`, and a number where that is there.
fn free_name(base: &Path, at: SystemTime) -> PathBuf {
    let named = |more: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!("-{}{more}.{SUFFIX}", timestamp(at)));
        PathBuf::from(name)
    };
    let numbered = (2..).map(|number: u64| named(&format!("-{number}")));
    let mut names = std::iter::once(named("")).chain(numbered);
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| named(""))
}

/// In UTC: `20261129T141000Z`.
fn timestamp(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second)) = (at.date(), at.to_hms());
    let (year, month, day) = date.to_calendar_date();
    let month = u8::from(month);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_second_in_utc_and_never_taken() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_961_392);
        assert_eq!(timestamp(at), "20261129T140952Z");
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("w");
        for made in ["w-20261129T140952Z.pipeprof", "w-20261129T140952Z-2.pipeprof"] {
            let name = free_name(&base, at);
            assert_eq!(name, folder.path().join(made));
            fs::create_dir(&name).unwrap();
        }
    }

    #[test]
    fn only_folders_that_this_watch_made_are_removed_and_the_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let (base, counts) = (folder.path().join("w"), Counts::default());
        let ui = Ui::new(true, false, crate::ui::Colour::Never);
        let mut keeper = Keeper::new(&base, 1, None, &counts, &ui);
        let make = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            let id = identity(&path).unwrap();
            Kept { path, id }
        };
        let (first, second, third) = (make("1"), make("2"), make("3"));
        make("not of this watch");
        // Another folder has taken the name of the second.
        fs::rename(&second.path, folder.path().join("moved")).unwrap();
        make("2");
        keeper.kept.extend([first, second, third]);
        keeper.remove_oldest();
        let there = |name: &str| folder.path().join(name).exists();
        assert!(!there("1"));
        assert!(["2", "moved", "3", "not of this watch"].map(there).iter().all(|&there| there));
        assert_eq!(keeper.kept.len(), 1);
    }
}
