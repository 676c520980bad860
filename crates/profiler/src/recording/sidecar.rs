//! The files beside perf.data: `pipeprof.json` and `symbols.json`.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{About, Loaded, Meta, Recording, RecordingDir, private};
use crate::accounts::Accounts;
use crate::environment::Environment;
use crate::error::Error;
use crate::perfdata::record::MOST_TIME;
use crate::symbolize::{PerfMaps, SymbolTable};

/// Raised whenever a field changes its meaning or goes.
pub(crate) const VERSION: u32 = 1;

const ABOUT: &str = "pipeprof.json";
const SYMBOLS: &str = "symbols.json";

/// `pipeprof.json`, as docs/recording.md has it.
#[derive(Serialize, Deserialize)]
struct Sidecar {
    version: u32,
    /// The maker got to its end.
    complete: bool,
    about: About,
    capture: Meta,
    /// For people and for later questions; the analysis reads nothing from it.
    environment: Value,
}

/// `symbols.json`.
#[derive(Serialize)]
struct Symbols<'a> {
    version: u32,
    symbols: &'a SymbolTable,
}

#[derive(Deserialize)]
struct OwnedSymbols {
    symbols: SymbolTable,
}

/// Read on its own, so that a later version is told from a broken file.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

pub(super) fn write(dir: &Path, meta: &Meta, about: &About, complete: bool) -> Result<(), Error> {
    let sidecar = Sidecar {
        version: VERSION,
        complete,
        about: about.clone(),
        capture: meta.clone(),
        environment: environment(),
    };
    write_json(dir, ABOUT, |out| serde_json::to_writer_pretty(out, &sidecar))
}

/// The machine as it is.
pub(super) fn environment() -> Value {
    serde_json::to_value(Environment::read()).unwrap_or_default()
}

pub(super) fn write_symbols(dir: &Path, symbols: &SymbolTable) -> Result<(), Error> {
    let symbols = Symbols { version: VERSION, symbols };
    write_json(dir, SYMBOLS, |out| serde_json::to_writer(out, &symbols))
}

/// Written under another name first: what is there is whole.
fn write_json(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> serde_json::Result<()>,
) -> Result<(), Error> {
    let path = dir.join(name);
    let beside = dir.join(format!(".{name}.partial"));
    let written = private::create(&beside).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.write_all(b"\n")?;
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    });
    written.map_err(|source| Error::File { action: "writing", path, source })
}

/// It is a folder of this program's.
pub(super) fn is_in(folder: &Path) -> bool {
    folder.join(ABOUT).symlink_metadata().is_ok()
}

pub(super) fn open(folder: &Path) -> Result<Recording, Error> {
    let sidecar: Sidecar = read_json(&folder.join(ABOUT))?;
    let names = folder.join(SYMBOLS);
    let symbols =
        if names.exists() { Some(read_json::<OwnedSymbols>(&names)?.symbols) } else { None };
    let dir = RecordingDir::Kept(folder.to_owned());
    let mut recording = Recording {
        dir,
        meta: sidecar.capture,
        about: sidecar.about,
        environment: sidecar.environment,
        symbols,
        cut_short: !sidecar.complete,
        event: None,
        until: super::written(&folder.join("perf.data")),
        perf_maps: PerfMaps::default(),
    };
    if recording.meta.end_ns == 0 {
        let (first, last) = times(&recording)?;
        let meta = &mut recording.meta;
        if first > meta.start_ns {
            // The maker was to keep the last stretch only, and what was noted when the watch began
            // is not true of that.
            meta.start_ns = first;
            meta.threads.clear();
            meta.accounts = Accounts::default();
            meta.switches = false;
            meta.notes.push(
                "its maker was to keep the last stretch only, and was killed: how its threads \
                 stood where this file begins is not known, so it tells time on CPU alone"
                    .to_owned(),
            );
        }
        meta.end_ns = last.max(meta.start_ns);
    }
    Ok(recording)
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Error> {
    let read = fs::read(path);
    let bytes =
        read.map_err(|source| Error::File { action: "reading", path: path.to_owned(), source })?;
    let broken = |source| Error::Sidecar { path: path.to_owned(), source };
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(broken)?;
    if version != VERSION {
        return Err(Error::Version { path: path.to_owned(), version, known: VERSION });
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(broken)?;
    if let Some((field, number)) = implausible(&value) {
        return Err(Error::Implausible { path: path.to_owned(), field, number });
    }
    // From the text again, as only that tells the line of what is wrong.
    serde_json::from_slice(&bytes).map_err(broken)
}

/// Four years of nanoseconds, 128 PiB. Sums of what is no more do not overflow.
const MOST: u64 = 1 << 57;

/// The field of a number that no recording has, and the number.
fn implausible(value: &Value) -> Option<(String, u64)> {
    let inner = |name: &dyn std::fmt::Display, value| {
        let (field, number) = implausible(value)?;
        let dot = if field.is_empty() { "" } else { "." };
        Some((format!("{name}{dot}{field}"), number))
    };
    match value {
        Value::Number(number) => {
            number.as_u64().filter(|&number| number > MOST).map(|number| (String::new(), number))
        }
        Value::Array(values) => {
            values.iter().enumerate().find_map(|(index, value)| inner(&index, value))
        }
        // Names of files by number, of which any is as good as another; the one date.
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "inode" | "device" | "started_unix_ns"))
            .find_map(|(name, value)| inner(name, value)),
        _ => None,
    }
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
