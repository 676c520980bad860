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
pub(crate) mod meta;
pub(crate) mod private;
mod role;
pub(crate) mod sidecar;
pub(crate) mod unwound;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

pub use about::About;
pub use dir::{RecordingDir, TemporaryDir};
pub(crate) use meta::TICK_NS;
pub use meta::{Meta, Setup, ThreadStart, UNKNOWN_DEPTH};
pub use role::EventRole;

use crate::accounts::now_ns;
use crate::error::Error;
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::relabel::relabel;
use crate::profile::Unwinding;
use crate::symbolize::{LocalSymbols, PerfMaps, SymbolTable, Symbolizer};
use crate::unwind::records;

/// What a stream of records is called.
pub const STDIN: &str = "stdin";

/// What a folder's name ends with.
pub const SUFFIX: &str = "pipeprof";

/// A finished capture.
#[derive(Debug)]
pub struct Recording {
    pub(crate) dir: RecordingDir,
    /// What the analysis has to know beside the records.
    pub meta: Meta,
    /// How the capture went.
    pub about: About,
    /// The settings of the machine and the rights of the recorder, as pipeprof.json has them; null
    /// if they were not noted. For people to read.
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
            let dir = match RecordingDir::of_threads(path) {
                // One of the files in such a folder is no recording by itself.
                Some(folder) => RecordingDir::Threads(folder),
                None => RecordingDir::Bare(path.to_owned()),
            };
            return foreign::open(dir, event);
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
            Some(name) if name != recording.meta.setup.event => Err(Error::NoEventOfName {
                path: path.to_owned(),
                name: name.to_owned(),
                known: recording.meta.setup.event,
            }),
            _ => Ok(recording),
        }
    }

    /// Reads perf.data from standard input to its end, to show the event of that name where it has several.
    ///
    /// # Errors
    /// Those of [`Recording::open_event`].
    pub fn read(stream: &mut dyn Read, event: Option<&str>) -> Result<Self, Error> {
        let opened = foreign::open(RecordingDir::of_stream(stream)?, event);
        let mut recording = opened.map_err(|error| match error {
            Error::Format { source, .. } => Error::Format { path: STDIN.into(), source },
            other => other,
        })?;
        recording.about.title = STDIN.to_owned();
        Ok(recording)
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
        let RecordingDir::Partial { name, .. } = &self.dir else {
            return self.save(Some(symbols));
        };
        let name = name.clone();
        self.complete_as(&name, symbols)
    }

    /// As [`Recording::complete`], under a name that is given now, in the folder that it lies in.
    ///
    /// # Errors
    /// Likewise.
    pub fn complete_as(&mut self, name: &Path, symbols: &SymbolTable) -> Result<(), Error> {
        self.save(Some(symbols))?;
        let path = self.path();
        let renamed = File::open(path).and_then(|folder| folder.sync_all()).and_then(|()| {
            // A folder that appeared meanwhile and holds something refuses, and stays.
            fs::rename(path, name)
        });
        let action = match self.dir {
            RecordingDir::Temporary(_) => "giving a recording its name,",
            _ => "naming",
        };
        renamed.map_err(|source| Error::File { action, path: name.to_owned(), source })?;
        self.dir = RecordingDir::Kept(name.to_owned());
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
            self.meta
                .notes
                .push(format!("the names of its functions could not be stored: {error}"));
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
    use pipeprof_runner::pipeline::Pipeline;

    use super::*;
    use crate::profile::Scope;

    /// A capture of nobody.
    pub(crate) fn meta() -> Meta {
        let setup = Setup {
            event: "cpu-clock".to_owned(),
            fallback: None,
            scope: Scope::PerCpu,
            timer_driven: true,
            interrupts_wait: false,
            kernel_visible: true,
            max_stack: 127,
            events: Vec::new(),
            switches: false,
            wakeups: Err("not recorded".to_owned()),
            boot_offset_ns: None,
        };
        Meta { frequency_hz: Some(997), ..setup.meta(Pipeline::default()) }
    }
}
