//! Profiles that wait to be pushed: a file each, in a folder beside the recordings, so that they
//! survive a restart of the server and of pipeprof.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::super::Counts;
use crate::ui::hinted;

/// More are not kept: the oldest are dropped.
const MOST: usize = 100;

/// What the name of a profile ends with.
const ENDING: &str = ".pb.gz";

/// The folder, locked: two that send from it would send twice.
pub(in crate::commands::watch) struct Queue<'a> {
    folder: PathBuf,
    counts: &'a Counts,
    _lock: File,
}

/// A profile that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    name: OsString,
    /// When it begins, since 1970.
    pub(super) from: Duration,
    /// When it ends.
    pub(super) until: Duration,
}

impl<'a> Queue<'a> {
    /// The queue of recordings whose names begin so.
    ///
    /// # Errors
    /// Where it can't be made, or another watch has it.
    pub(in crate::commands::watch) fn open(
        base: &Path,
        counts: &'a Counts,
    ) -> anyhow::Result<Self> {
        let mut folder = base.as_os_str().to_owned();
        folder.push(".push");
        let folder = PathBuf::from(folder);
        let lock = match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(&folder),
        };
        let lock = lock.with_context(|| format!("making {}", folder.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let error = format!("another watch pushes from {}", folder.display());
            return Err(hinted(error, Some("-o ANOTHER_NAME".to_owned())));
        }
        let queue = Queue { folder, counts, _lock: lock };
        queue.count();
        Ok(queue)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a profile, and drops the oldest where there are too many.
    ///
    /// # Errors
    /// What the file system answers.
    pub(in crate::commands::watch) fn add(
        &self,
        from: Duration,
        until: Duration,
        profile: &[u8],
    ) -> anyhow::Result<()> {
        let write = || -> io::Result<()> {
            // A file of that ending is whole, whenever this is killed.
            let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.folder)?;
            file.write_all(profile)?;
            file.as_file().sync_all()?;
            let name = format!("{:020}-{:020}{ENDING}", from.as_nanos(), until.as_nanos());
            file.persist(self.folder.join(name))?;
            Ok(())
        };
        write().with_context(|| format!("queueing a profile in {}", self.folder.display()))?;
        let waiting = self.waiting();
        for old in &waiting[..waiting.len().saturating_sub(MOST)] {
            self.dropped(old)?;
        }
        self.count();
        Ok(())
    }

    /// The one that has waited longest.
    pub(super) fn oldest(&self) -> Option<Waiting> {
        self.waiting().into_iter().next()
    }

    pub(super) fn read(&self, waiting: &Waiting) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(&waiting.name))
    }

    /// The server has it.
    ///
    /// # Errors
    /// Where it can't be removed, so that it would be sent again and again.
    pub(super) fn sent(&self, waiting: &Waiting) -> io::Result<()> {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        self.remove(waiting)
    }

    /// It is given up.
    ///
    /// # Errors
    /// Likewise.
    pub(super) fn dropped(&self, waiting: &Waiting) -> io::Result<()> {
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        self.remove(waiting)
    }

    fn remove(&self, waiting: &Waiting) -> io::Result<()> {
        let removed = fs::remove_file(self.folder.join(&waiting.name));
        self.count();
        match removed {
            // The other thread was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn count(&self) {
        self.counts.waiting.store(self.waiting().len() as u64, Ordering::Relaxed);
    }

    /// The oldest first.
    fn waiting(&self) -> Vec<Waiting> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut waiting: Vec<Waiting> =
            entries.filter_map(|entry| Waiting::of(entry.file_name())).collect();
        waiting.sort_by(|a, b| a.name.cmp(&b.name));
        waiting
    }
}

/// What a profile is called while it is written.
const PARTIAL: &str = ".partial-";

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // Stays where anything waits.
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Waiting {
    fn of(name: OsString) -> Option<Self> {
        let (from, until) = name.to_str()?.strip_suffix(ENDING)?.split_once('-')?;
        let time = |text: &str| text.parse().ok().map(Duration::from_nanos);
        let (from, until) = (time(from)?, time(until)?);
        Some(Waiting { name, from, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn profiles_wait_in_the_order_of_time_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (base, counts) = (folder.path().join("w"), Counts::default());
        {
            let queue = Queue::open(&base, &counts).unwrap();
            queue.add(S(20), S(30), b"second").unwrap();
            queue.add(S(9), S(19), b"first").unwrap();
            fs::write(queue.folder().join("README"), "of somebody else").unwrap();
        }
        let counts = Counts::default();
        let queue = Queue::open(&base, &counts).unwrap();
        assert_eq!(counts.waiting.load(Ordering::Relaxed), 2);
        let first = queue.oldest().unwrap();
        assert_eq!((first.from, first.until), (S(9), S(19)));
        assert_eq!(queue.read(&first).unwrap(), b"first");
        queue.sent(&first).unwrap();
        assert_eq!(queue.read(&queue.oldest().unwrap()).unwrap(), b"second");
        assert_eq!(counts.sent.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted_beyond_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let counts = Counts::default();
        let queue = Queue::open(&folder.path().join("w"), &counts).unwrap();
        for at in 0..MOST as u64 + 3 {
            queue.add(S(at), S(at + 1), b"profile").unwrap();
        }
        assert_eq!(queue.oldest().unwrap().from, S(3));
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!((of(&counts.waiting), of(&counts.dropped)), (MOST as u64, 3));
    }

    #[test]
    fn two_watches_never_push_from_one_queue() {
        let folder = tempfile::tempdir().unwrap();
        let (base, counts) = (folder.path().join("w"), Counts::default());
        let queue = Queue::open(&base, &counts).unwrap();
        assert!(Queue::open(&base, &counts).is_err());
        drop(queue);
        assert!(!folder.path().join("w.push").exists(), "nothing waits");
        assert!(Queue::open(&base, &counts).is_ok());
    }
}
