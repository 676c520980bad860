//! The recording: what was captured, unprocessed, on disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pipeprof_runner::pipeline::Pipeline;
use tempfile::TempDir;

use crate::accounts::Accounts;
use crate::error::Error;
use crate::profile::Scope;
use crate::wakeups::WakeFormat;
use crate::windows::Window;

/// Where a recording lives.
#[derive(Debug)]
pub enum RecordingDir {
    /// Removed with the value.
    Temporary(TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl RecordingDir {
    /// A new temporary folder, in `TMPDIR` or /tmp.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be made.
    pub fn temporary() -> Result<Self, Error> {
        let made = tempfile::Builder::new().prefix("pipeprof-").tempdir();
        made.map(RecordingDir::Temporary).map_err(|source| Error::File {
            action: "making a temporary folder in",
            path: std::env::temp_dir(),
            source,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            RecordingDir::Temporary(dir) => dir.path(),
            RecordingDir::Kept(path) => path,
        }
    }
}

/// A thread at the time of attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadStart {
    /// Its process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// Asleep, rather than running or waiting for a CPU.
    pub asleep: bool,
    /// The kernel function it slept in (`/proc/TID/wchan`), where the kernel tells.
    pub wchan: Option<String>,
}

/// What perf.data cannot hold.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The pipeline at the time of attaching.
    pub pipeline: Pipeline,
    /// The sampled event.
    pub event: String,
    /// Asked frequency.
    pub frequency_hz: Option<u64>,
    /// Why a better event was not used.
    pub fallback: Option<String>,
    /// Where it was attached.
    pub scope: Scope,
    /// Samples come from a timer that interrupts cannot be off for.
    pub timer_driven: bool,
    /// Kernel code was measured.
    pub kernel_visible: bool,
    /// Depth at which the kernel cuts call chains.
    pub max_stack: u64,
    /// Records that events had no room for, where the kernel counts them (6.0 and later).
    pub lost: Option<u64>,
    /// Context switches were recorded, by the second event of the file.
    pub switches: bool,
    /// When switches and wake-ups were recorded, where that was by turns; empty for always.
    pub windows: Vec<Window>,
    /// When wake-ups were no longer recorded, where that was before the end.
    pub wakeups_until_ns: Option<u64>,
    /// How to read the records of wake-ups; `Err` says why there are none.
    pub wakeups: Result<WakeFormat, String>,
    /// When the events were started and stopped, `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// See `start_ns`.
    pub end_ns: u64,
    /// The threads that were there at the start.
    pub threads: Vec<ThreadStart>,
    /// The scheduler's own account of the threads.
    pub accounts: Accounts,
    /// Sentences for the quality block.
    pub notes: Vec<String>,
}

impl Meta {
    /// The time in which wake-ups were recorded.
    pub(crate) fn wakeups_watched_ns(&self) -> u64 {
        let whole = [(self.start_ns, self.end_ns)];
        let windows = if self.windows.is_empty() { &whole[..] } else { &self.windows };
        let last = self.wakeups_until_ns.unwrap_or(u64::MAX);
        windows.iter().map(|&(from, until)| until.min(last).saturating_sub(from)).sum()
    }
}

/// A finished capture.
#[derive(Debug)]
pub struct Recording {
    pub(crate) dir: RecordingDir,
    /// What perf.data cannot hold.
    pub meta: Meta,
}

impl Recording {
    /// The kernel's records.
    pub fn perf_data(&self) -> PathBuf {
        self.dir.path().join("perf.data")
    }

    /// The records in memory. The file is only ever appended to by its recorder, which is done.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be mapped.
    pub fn map(&self) -> Result<Mmap, Error> {
        let path = self.perf_data();
        let file = File::open(&path).and_then(|file| crate::sys::map_file(&file));
        file.map_err(|source| Error::File { action: "reading", path, source })
    }
}
