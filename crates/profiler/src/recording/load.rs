//! The records of a recording in one piece, whatever their form: a file, compressed or not, or the
//! folder of `perf record --threads`, which has a file for each thread of perf.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::RecordingDir;
use crate::error::Error;
use crate::perfdata::read::{PerfDataFile, Records};
use crate::perfdata::record::kind;
use crate::perfdata::stream::{self, UnpackError};
use crate::regular_file;

/// Maps a file, which is only ever appended to by its maker, and its maker is done.
pub(super) fn map(path: &Path) -> Result<Mmap, Error> {
    let opened = regular_file::open(path).and_then(|file| crate::sys::map_file(&file));
    opened.map_err(|source| Error::File { action: "reading", path: path.to_owned(), source })
}

/// The header of a file, with the bytes of the file.
pub(super) fn header(path: &Path) -> Result<(PerfDataFile, Mmap), Error> {
    let bytes = map(path)?;
    let file = PerfDataFile::parse(&bytes)
        .map_err(|source| Error::Format { path: path.to_owned(), source })?;
    Ok((file, bytes))
}

/// The header, and bytes that hold all records in its range of data.
pub(super) fn records(dir: &RecordingDir) -> Result<(PerfDataFile, Mmap), Error> {
    let path = dir.perf_data();
    let (mut file, bytes) = header(&path)?;
    let parts = match dir {
        RecordingDir::Threads(folder) => parts(folder)?,
        _ => Vec::new(),
    };
    if !file.compressed && parts.is_empty() {
        return Ok((file, bytes));
    }
    let first = if file.compressed {
        unpacked(&path, &bytes[file.data.clone()])?
    } else {
        Piece { bytes, data: file.data.clone() }
    };
    let bytes = if parts.is_empty() {
        first.bytes
    } else {
        let mut pieces = vec![first];
        for path in &parts {
            pieces.push(match file.compressed {
                true => unpacked(path, &map(path)?)?,
                false => {
                    let bytes = map(path)?;
                    Piece { data: 0..bytes.len(), bytes }
                }
            });
        }
        let merged = merged(&file, &pieces);
        merged.map_err(|source| Error::File { action: "merging the files of", path, source })?
    };
    file.data = 0..bytes.len();
    Ok((file, bytes))
}

/// A run of records.
struct Piece {
    bytes: Mmap,
    data: std::ops::Range<usize>,
}

fn unpacked(path: &Path, packed: &[u8]) -> Result<Piece, Error> {
    let failed = |source| Error::File { action: "unpacking", path: path.to_owned(), source };
    let plain = stream::unpack(packed).map_err(|error| match error {
        UnpackError::Format(source) => Error::Format { path: path.to_owned(), source },
        UnpackError::Write(source) => failed(source),
    })?;
    let bytes = crate::sys::map_file(&plain).map_err(failed)?;
    Ok(Piece { data: 0..bytes.len(), bytes })
}

/// `data.0`, `data.1`, …, by their numbers.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { action: "reading", path: folder.to_owned(), source };
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("data.")?.parse::<u32>().ok());
        parts.extend(number.map(|number| (number, path)));
    }
    parts.sort();
    Ok(parts.into_iter().map(|(_, path)| path).collect())
}

/// All records in one unnamed file, in the order of time: each of perf's threads drains rings of
/// its own, and what is in one piece is in order (tools/perf/builtin-record.c, v6.1).
fn merged(file: &PerfDataFile, pieces: &[Piece]) -> io::Result<Mmap> {
    let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
    let mut readers: Vec<Records<'_>> =
        pieces.iter().map(|piece| Records::new(&piece.bytes[piece.data.clone()])).collect();
    let mut next = BinaryHeap::new();
    let advance = |index: usize, readers: &mut Vec<Records<'_>>| {
        let (at, record) =
            readers[index].find(|(_, record)| record.kind != kind::FINISHED_ROUND)?;
        let time = match record.kind {
            ..kind::HEADER_ATTR => {
                file.events[file.event_of_record(&record)].layout.time(&record).unwrap_or(0)
            }
            _ => 0,
        };
        Some(Reverse((time, index, at, readers[index].position())))
    };
    next.extend((0..pieces.len()).filter_map(|index| advance(index, &mut readers)));
    while let Some(Reverse((_, index, from, to))) = next.pop() {
        let piece = &pieces[index];
        out.write_all(&piece.bytes[piece.data.clone()][from..to])?;
        next.extend(advance(index, &mut readers));
    }
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    crate::sys::map_file(&out)
}
