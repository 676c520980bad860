//! Reads a perf.data file in memory: its events, and where its records lie.

use std::ops::Range;

pub use super::event::Event;
use super::features::Features;
pub use super::file::PerfDataFile;
pub use super::format_error::FormatError;
use super::format_error::word;
use super::forms::Form;
pub use super::framing::Records;
use super::framing::is_compressed;
use super::{HEADER_BYTES, MAGIC, STREAM_HEADER_BYTES, stream};

/// More events than any tool opens, so that a bad count cannot ask for memory.
const MAX_EVENTS: u64 = 4096;

impl PerfDataFile {
    /// Parses header, attributes and event names.
    ///
    /// # Errors
    /// [`FormatError`], with the offset of what is wrong.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let magic = file.get(..8).unwrap_or(file);
        if magic != MAGIC {
            let mut reversed = MAGIC;
            reversed.reverse();
            return Err(if magic == reversed {
                FormatError::ByteOrder
            } else if let Some(form) = Form::of(file) {
                FormatError::Other(form)
            } else {
                FormatError::Magic { found: magic.to_vec() }
            });
        }
        let header_size = word(file, 8)?;
        if header_size == STREAM_HEADER_BYTES {
            return stream::parse(file);
        }
        if header_size != HEADER_BYTES {
            return Err(FormatError::Section { what: "unknown header size", at: 8 });
        }
        let attr_entry = word(file, 16)?;
        let attrs = section(file, 24)?;
        let data_start = word(file, 40)?;
        let data_bytes = word(file, 48)?;
        let feature_map = word(file, 72)?;
        let mut events = parse_attrs(file, attrs, attr_entry)?;
        let file_bytes = file.len() as u64;
        if data_start > file_bytes {
            return Err(FormatError::Section { what: "records start after the file ends", at: 40 });
        }
        let rest = file_bytes - data_start;
        let cut_short = data_bytes == 0 || data_bytes > rest;
        let data_bytes = if cut_short { rest } else { data_bytes };
        let data = data_start as usize..(data_start + data_bytes) as usize;
        let mut features = Features::default();
        if !cut_short {
            for bit in Features::READ {
                if let Some(bytes) = feature_section(file, data.end, feature_map, bit) {
                    features.take(bit, bytes);
                }
            }
        }
        let noted = features.read(&mut events);
        // A file that was never completed has no features, so only its records tell.
        let compressed = if cut_short {
            let mut records = Records::new(&file[data.clone()]);
            records.any(|(_, record)| is_compressed(record.kind))
        } else {
            features.is_compressed
        };
        Ok(PerfDataFile::new(events, noted, data, cut_short, compressed))
    }
}

/// The section of a feature; the table of sections follows the records, one entry a set bit.
fn feature_section(file: &[u8], table_at: usize, map: u64, bit: u32) -> Option<&[u8]> {
    if map & 1 << bit == 0 {
        return None;
    }
    let index = (map & ((1 << bit) - 1)).count_ones() as usize;
    let range = section(file, table_at + index * 16).ok()?;
    file.get(range)
}

fn parse_attrs(
    file: &[u8],
    attrs: Range<usize>,
    attr_entry: u64,
) -> Result<Vec<Event>, FormatError> {
    let at = attrs.start as u64;
    if !(64 + 16..=4096).contains(&attr_entry) {
        return Err(FormatError::Section { what: "impossible attribute size", at: 16 });
    }
    let count = attrs.len() as u64 / attr_entry;
    // Sections may overlap, and each may be the whole file: together they hold no more than it.
    let mut ids_left = file.len();
    if count == 0 || count > MAX_EVENTS {
        return Err(FormatError::Section { what: "impossible number of events", at });
    }
    (0..count)
        .map(|i| {
            let at = attrs.start + (i * attr_entry) as usize;
            let ids_at = at + attr_entry as usize - 16;
            let ids = section(file, ids_at)?;
            ids_left = ids_left.checked_sub(ids.len()).ok_or(FormatError::Section {
                what: "more ids of events than the file has room for",
                at: ids_at as u64,
            })?;
            let ids = ids.step_by(8).filter_map(|at| word(file, at).ok()).collect();
            Event::parse(file, at, ids)
        })
        .collect()
}

fn section(file: &[u8], at: usize) -> Result<Range<usize>, FormatError> {
    let start = word(file, at)?;
    let length = word(file, at + 8)?;
    let error = FormatError::Section { what: "a section outside the file", at: at as u64 };
    match start.checked_add(length) {
        Some(end) if end <= file.len() as u64 => Ok(start as usize..end as usize),
        _ => Err(error),
    }
}
