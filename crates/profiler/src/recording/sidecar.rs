//! The files beside perf.data: `pipeprof.json`, `symbols.json` and `states.json`.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{About, Loaded, Meta, Recording, RecordingDir, json, private};
use crate::accounts::Accounts;
use crate::environment::Environment;
use crate::error::Error;
use crate::perfdata::record::MOST_TIME;
use crate::states::Timeline;
use crate::symbolize::{PerfMaps, SymbolTable};

const ABOUT: &str = "pipeprof.json";
const SYMBOLS: &str = "symbols.json";
const STATES: &str = "states.json";

/// `pipeprof.json`, as docs/recording.md has it.
#[derive(Serialize, Deserialize)]
struct Sidecar {
    version: u32,
    /// The maker got to its end.
    complete: bool,
    about: About,
    capture: Meta,
    /// For people and for later questions; the analysis reads nothing from it.
    #[serde(deserialize_with = "json::small")]
    environment: Value,
}

/// `symbols.json`.
#[derive(Serialize)]
struct Symbols<'a> {
    version: u32,
    symbols: &'a SymbolTable,
}

/// `states.json`.
#[derive(Serialize)]
struct States<'a> {
    version: u32,
    states: &'a Timeline,
}

#[derive(Deserialize)]
struct OwnedStates {
    /// Looked at before.
    #[serde(rename = "version")]
    _version: u32,
    states: Timeline,
}

#[derive(Deserialize)]
struct OwnedSymbols {
    /// Looked at before.
    #[serde(rename = "version")]
    _version: u32,
    symbols: SymbolTable,
}

/// How things stand with a recording that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It grows.
    Open,
    /// Its maker got to its end.
    Complete,
}

pub(super) fn write(
    dir: &Path,
    meta: &Meta,
    about: &About,
    environment: &Value,
    ending: Ending,
) -> Result<(), Error> {
    let sidecar = Sidecar {
        version: json::VERSION,
        complete: ending == Ending::Complete,
        about: about.clone(),
        capture: meta.clone(),
        environment: environment.clone(),
    };
    write_json(dir, ABOUT, ending, |out| serde_json::to_writer_pretty(out, &sidecar))?;
    let Some(states) = &meta.states else { return Ok(()) };
    let states = States { version: json::VERSION, states };
    write_json(dir, STATES, ending, |out| serde_json::to_writer(out, &states))
}

/// The machine as it is.
pub(super) fn environment() -> Value {
    serde_json::to_value(Environment::read()).unwrap_or_default()
}

pub(super) fn write_symbols(dir: &Path, symbols: &SymbolTable) -> Result<(), Error> {
    let symbols = Symbols { version: json::VERSION, symbols };
    write_json(dir, SYMBOLS, Ending::Complete, |out| serde_json::to_writer(out, &symbols))
}

/// Written under another name first: what is there is whole.
fn write_json(
    dir: &Path,
    name: &str,
    ending: Ending,
    write: impl FnOnce(&mut dyn Write) -> serde_json::Result<()>,
) -> Result<(), Error> {
    let path = dir.join(name);
    let beside = dir.join(format!(".{name}.partial"));
    let written = private::create(&beside).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.write_all(b"\n")?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        if ending == Ending::Complete {
            file.sync_all()?;
        }
        fs::rename(&beside, &path)
    });
    written.map_err(|source| {
        // It takes room that is short.
        let _ = fs::remove_file(&beside);
        Error::File { action: "writing", path, source }
    })
}

/// Notes again and again what is known of a recording that grows, so that it opens with that should
/// its maker be killed.
#[derive(Debug)]
pub(crate) struct Progress {
    next: Instant,
    members: usize,
    environment: Value,
}

/// How much of a recording a kill may cost.
const OFTEN: Duration = Duration::from_secs(1);

/// A note takes this share of the time at most: those of thousands of threads are long.
const SHARE: u32 = 50;

impl Progress {
    pub(crate) fn new() -> Self {
        Progress { next: Instant::now(), members: 0, environment: environment() }
    }

    /// Whether it is time: always if a process joined.
    pub(crate) fn is_due(&self, members: usize) -> bool {
        members != self.members || Instant::now() >= self.next
    }

    /// Notes it.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub(crate) fn note(&mut self, dir: &Path, meta: &Meta, about: &About) -> Result<(), Error> {
        let began = Instant::now();
        let written = write(dir, meta, about, &self.environment, Ending::Open);
        self.members = meta.pipeline.members.len();
        self.next = Instant::now() + OFTEN.max(began.elapsed() * SHARE);
        written
    }
}

/// It is a folder of this program's.
pub(super) fn is_in(folder: &Path) -> bool {
    // What may not be looked into is not known to be anything else.
    let found = folder.join(ABOUT).symlink_metadata();
    !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

pub(super) fn open(folder: &Path) -> Result<Recording, Error> {
    let sidecar: Sidecar = json::read(&folder.join(ABOUT))?;
    let names = folder.join(SYMBOLS);
    let symbols = match names.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        _ => Some(json::read::<OwnedSymbols>(&names)?.symbols),
    };
    let dir = RecordingDir::Kept(folder.to_owned());
    let states = read_states(&folder.join(STATES))?;
    let mut recording = Recording {
        dir,
        meta: Meta { states, ..sidecar.capture },
        about: sidecar.about,
        environment: sidecar.environment,
        symbols,
        write_failure: None,
        cut_short: !sidecar.complete,
        event: None,
        until: super::written(&folder.join("perf.data")),
        until_ns: None,
        perf_maps: PerfMaps::default(),
    };
    if recording.meta.end_ns == 0 {
        let (first, last) = times(&recording)?;
        let meta = &mut recording.meta;
        // What was noted beside the records may be younger than the last that reached the disk.
        let noted = meta.start_ns.saturating_add(recording.about.elapsed_ns);
        if first > meta.start_ns {
            // The maker was to keep the last stretch only, and what was noted when the watch began
            // is not true of that.
            meta.start_ns = first;
            meta.threads.clear();
            meta.accounts = Accounts::default();
            meta.setup.switches = false;
            meta.notes.push(
                "pipeprof record --keep was killed: what its threads did when this file begins is \
                 unknown, so it has only time on CPU"
                    .to_owned(),
            );
        }
        meta.end_ns = last.max(noted).max(meta.start_ns);
        recording.about.elapsed_ns = meta.end_ns - meta.start_ns;
    }
    Ok(recording)
}

fn read_states(path: &Path) -> Result<Option<Timeline>, Error> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let OwnedStates { mut states, .. } = json::read(path)?;
    states.check().map_err(|what| {
        let source = serde::de::Error::custom(what);
        Error::Sidecar { path: path.to_owned(), source }
    })?;
    states.coarsen();
    Ok(Some(states))
}

/// When the first record was written, and the last whole one: what stands for the end of a capture
/// that was killed.
fn times(recording: &Recording) -> Result<(u64, u64), Error> {
    let Loaded { file, bytes, .. } = recording.load_as_recorded()?;
    let times = file
        .records(&bytes)
        .filter_map(|(_, record)| file.events[file.event_of_record(&record)].layout.time(&record))
        .filter(|&time| time > 0 && time <= MOST_TIME);
    let widened = |range: Option<(u64, u64)>, time: u64| {
        Some(range.map_or((time, time), |(first, last)| (first.min(time), last.max(time))))
    };
    Ok(times.fold(None, widened).unwrap_or_default())
}
