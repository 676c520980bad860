//! The recording: what was captured, unprocessed, on disk.
//!
//! A folder `NAME.pipeprof` holds `perf.data` with the kernel's records, `pipeprof.json` with what
//! perf.data cannot hold, and `symbols.json` with the names of all addresses in it. While it is
//! made the folder is called `NAME.pipeprof.partial`, so that under its own name it is whole.
//! A bare perf.data file is a recording too, of which less is known. See docs/recording.md.

mod about;
mod choice;
mod dir;
mod foreign;
mod json;
mod load;
pub(crate) mod private;
mod role;
pub(crate) mod sidecar;
pub(crate) mod unwound;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;
use pipeprof_runner::pipeline::{MemberId, Pipeline};
use serde::{Deserialize, Serialize};

pub use about::About;
pub use dir::{RecordingDir, TemporaryDir};
pub use role::EventRole;
pub(crate) use role::roles;

use crate::accounts::{Accounts, now_ns};
use crate::error::Error;
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::relabel::relabel;
use crate::profile::{Scope, Unwinding};
use crate::sleepers::Sleepers;
use crate::states::Timeline;
use crate::symbolize::{LocalSymbols, PerfMaps, SymbolTable, Symbolizer};
use crate::unwind::records;
use crate::wakeups::WakeFormat;
use crate::windows::Window;

/// What a folder's name ends with.
pub const SUFFIX: &str = "pipeprof";

/// A thread at the time of attaching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStart {
    /// Its process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// Asleep, rather than running or waiting for a CPU.
    pub asleep: bool,
    /// The kernel functions it slept in, leaf first and joined by `;`, where the kernel tells.
    pub wchan: Option<String>,
}

/// In place of the depth at which call chains were cut.
pub const UNKNOWN_DEPTH: u64 = 0;

/// What the analysis has to know beside the records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The pipeline at the time of attaching. Without members, every process that was sampled
    /// becomes one, as nobody said who matters.
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
    /// Depth at which the kernel cuts call chains; [`UNKNOWN_DEPTH`] where nothing tells.
    pub max_stack: u64,
    /// Records that events had no room for, where the kernel counts them (6.0 and later).
    pub lost: Option<u64>,
    /// Samples of processes outside the pipeline, which were not written.
    #[serde(default)]
    pub foreign_samples: u64,
    /// What each event of the file is for, in their order; empty where their order tells.
    #[serde(default)]
    pub events: Vec<EventRole>,
    /// Context switches were recorded.
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
    /// How far `CLOCK_BOOTTIME`, in which processes start, was ahead of the clock of the records:
    /// the time that the machine was suspended. `None` where it was not noted.
    #[serde(default)]
    pub boot_offset_ns: Option<u64>,
    /// The threads that were there at the start.
    pub threads: Vec<ThreadStart>,
    /// The scheduler's own account of the threads.
    pub accounts: Accounts,
    /// Where threads were seen asleep while they were watched.
    pub sleepers: Sleepers,
    /// What every thread did at looks of its own; `None` in recordings from before they were taken.
    /// A file of its own has them.
    #[serde(skip)]
    pub states: Option<Timeline>,
    /// How user stacks were unwound, where that is done; `None` where callers come from the kernel,
    /// or are still to be found in slices of the stack.
    #[serde(default)]
    pub unwinding: Option<Unwinding>,
    /// Sentences for the quality block.
    pub notes: Vec<String>,
}

/// A clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that has perf events.
pub(crate) const TICK_NS: u64 = 10_000_000;

impl Meta {
    /// When a process began, by the clock of the records, cut off to whole [ticks](TICK_NS); `None`
    /// where that was not noted.
    pub(crate) fn began_ns(&self, id: MemberId) -> Option<u64> {
        let ticks = id.start_time?;
        Some(ticks.checked_mul(TICK_NS)?.saturating_sub(self.boot_offset_ns?))
    }

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
    /// What the analysis has to know beside the records.
    pub meta: Meta,
    /// How the capture went.
    pub about: About,
    /// The settings of the machine and the rights of the recorder, as pipeprof.json has them; null
    /// where nobody noted them. For people to read.
    pub environment: serde_json::Value,
    symbols: Option<SymbolTable>,
    /// What ended its making before its time: the disk is full, say.
    pub write_failure: Option<std::io::Error>,
    /// It ends before its maker wanted it to.
    cut_short: bool,
    /// The event that is shown, where it was chosen among several.
    event: Option<usize>,
    /// When it ended, where that is known.
    until: Option<SystemTime>,
    /// The same moment by the clock of its records, where that is known.
    until_ns: Option<u64>,
    /// The maps of members that make code, held while they lived.
    pub(crate) perf_maps: PerfMaps,
}

impl Recording {
    /// What a capture has just written into `dir`.
    pub(crate) fn captured(dir: RecordingDir, meta: Meta) -> Self {
        let environment = sidecar::environment();
        let about = About::default();
        Recording {
            dir,
            meta,
            about,
            environment,
            symbols: None,
            cut_short: false,
            event: None,
            until: Some(SystemTime::now()),
            until_ns: Some(now_ns()),
            perf_maps: PerfMaps::default(),
            write_failure: None,
        }
    }

    /// Opens a recording's folder, or a bare perf.data file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Format`], [`Error::Sidecar`], [`Error::Version`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Recording::open_event(path, None)
    }

    /// Opens a recording to show the event of that name, where it has several.
    ///
    /// # Errors
    /// Those of [`Recording::open`], [`Error::NoEventOfName`] where it has no such event.
    pub fn open_event(path: &Path, event: Option<&str>) -> Result<Self, Error> {
        if !path.is_dir() {
            return foreign::open(RecordingDir::Bare(path.to_owned()), event);
        }
        if !sidecar::is_in(path) {
            let threads = RecordingDir::Threads(path.to_owned());
            return match threads.perf_data().is_file() {
                true => foreign::open(threads, event),
                false => Err(Error::NoRecording { path: path.to_owned() }),
            };
        }
        let recording = sidecar::open(path)?;
        match event {
            Some(name) if name != recording.meta.event => Err(Error::NoEventOfName {
                path: path.to_owned(),
                name: name.to_owned(),
                known: recording.meta.event,
            }),
            _ => Ok(recording),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The kernel's records.
    pub fn perf_data(&self) -> PathBuf {
        self.dir.perf_data()
    }

    /// Cut short by what killed its maker.
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// What to do where it could not be written.
    pub fn room_hint(&self, error: &std::io::Error) -> Option<String> {
        crate::error::room_hint(self.path(), error)
    }

    /// Its own names where they were saved with it, else those of this machine.
    pub fn symbolizer(&self) -> Box<dyn Symbolizer> {
        match &self.symbols {
            Some(table) => Box::new(table.clone()),
            None => {
                let maps = self.perf_maps.clone().until(self.until);
                let symbols = LocalSymbols::of_recording(&self.about.kernel, self.until, maps);
                Box::new(symbols.until_ns(self.until_ns))
            }
        }
    }

    /// When it ended, where that is known.
    pub(crate) fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// Saves what is known beside the records, with the names of their addresses, and gives the
    /// folder its own name.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn complete(&mut self, symbols: &SymbolTable) -> Result<(), Error> {
        self.save(Some(symbols))?;
        let RecordingDir::Partial { path, name } = &self.dir else { return Ok(()) };
        let renamed = File::open(path).and_then(|folder| folder.sync_all()).and_then(|()| {
            // A folder that appeared meanwhile and holds something refuses, and stays.
            fs::rename(path, name)
        });
        renamed.map_err(|source| Error::File { action: "naming", path: name.clone(), source })?;
        self.dir = RecordingDir::Kept(name.clone());
        Ok(())
    }

    /// Keeps what was to go with this value, as what was to be made of it could not be written, and
    /// says where it lies; `None` where it stays anyway. Without names, or without room for them,
    /// they are looked up each time that it is read, as in a recording that was cut short.
    ///
    /// # Errors
    /// [`Error::File`] where it can't get a name that stays.
    pub fn keep(&mut self, symbols: Option<&SymbolTable>) -> Result<Option<PathBuf>, Error> {
        let RecordingDir::Temporary(folder) = &self.dir else { return Ok(None) };
        let kept = folder.keep().map_err(|source| Error::File {
            action: "keeping",
            path: folder.path().to_owned(),
            source,
        })?;
        self.dir = RecordingDir::Kept(kept.clone());
        // Where there is no room it opens as one that was cut short.
        let _ = self.save(symbols);
        Ok(Some(kept))
    }

    fn save(&mut self, symbols: Option<&SymbolTable>) -> Result<(), Error> {
        let path = self.perf_data();
        relabel(&path).map_err(|source| Error::File { action: "completing", path, source })?;
        // Without them it reads as it does now on this machine, and with fewer names on another.
        if let Some(Err(error)) = symbols.map(|names| sidecar::write_symbols(self.path(), names)) {
            self.meta.notes.push(format!("the names of its functions are not in it: {error}"));
        }
        let Recording { meta, about, environment, .. } = self;
        sidecar::write(self.dir.path(), meta, about, environment, sidecar::Ending::Complete)
    }

    /// The records, in memory as far as they are looked at; unpacked where they were compressed,
    /// and with their stacks unwound.
    ///
    /// # Errors
    /// [`Error::File`] where they cannot be mapped, unpacked or unwound, [`Error::Format`] where
    /// they are none.
    pub fn load(&self) -> Result<Loaded, Error> {
        let loaded = self.load_as_recorded()?;
        if records::are_needed(&loaded.file) { unwound::load(self, loaded) } else { Ok(loaded) }
    }

    /// The records as they were taken.
    fn load_as_recorded(&self) -> Result<Loaded, Error> {
        let (mut file, bytes) = load::records(&self.dir)?;
        file.cut_short |= self.cut_short;
        if let Some(event) = self.event {
            file.sampled = event;
        }
        Ok(Loaded { file, bytes, unwinding: self.meta.unwinding.clone() })
    }
}

/// The records of a recording.
#[derive(Debug)]
pub struct Loaded {
    /// Its header. `data` is a range of `bytes`.
    pub file: PerfDataFile,
    /// Where the records are.
    pub bytes: Mmap,
    /// How their stacks were unwound, where they were.
    pub unwinding: Option<Unwinding>,
}

/// When a file was last written to.
fn written(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A capture of nobody.
    pub(crate) fn meta() -> Meta {
        Meta {
            pipeline: Pipeline::default(),
            event: "cpu-clock".to_owned(),
            frequency_hz: Some(997),
            fallback: None,
            scope: Scope::PerCpu,
            timer_driven: true,
            kernel_visible: true,
            max_stack: 127,
            lost: None,
            events: Vec::new(),
            foreign_samples: 0,
            switches: false,
            windows: Vec::new(),
            wakeups_until_ns: None,
            wakeups: Err("not recorded".to_owned()),
            start_ns: 0,
            end_ns: 0,
            boot_offset_ns: None,
            threads: Vec::new(),
            accounts: Accounts::default(),
            sleepers: Sleepers::default(),
            states: None,
            unwinding: None,
            notes: Vec::new(),
        }
    }
}
