//! Reads a perf.data file in memory: its events, and where its records lie.

use std::ops::Range;

use super::record::Layout;
use super::{HEADER_BYTES, MAGIC, feature};

/// Why bytes are no perf.data file that this program reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not the magic.
    #[error("not a perf.data file: it starts with {found:02x?}, not with \"PERFILE2\"")]
    Magic {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// Written on a machine of the other byte order.
    #[error("a perf.data file of the other byte order, which is not supported")]
    ByteOrder,
    /// Piped perf.data has no sections.
    #[error("a perf.data stream (perf record -o -), which is not supported yet by this version")]
    Stream,
    /// A section points outside the file, or a field inside it makes no sense.
    #[error("bad perf.data file: {what} at byte {at}")]
    Section {
        /// What is wrong.
        what: &'static str,
        /// Byte offset in the file.
        at: u64,
    },
}

/// An event of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `PERF_TYPE_*`.
    pub kind: u32,
    /// Which event of that type.
    pub config: u64,
    /// The name, where the file gives it.
    pub name: Option<String>,
    /// How its records are laid out.
    pub layout: Layout,
    /// Fixed period or frequency.
    pub period_or_frequency: u64,
    /// The word above is a frequency.
    pub is_frequency: bool,
    /// Kernel code was not measured.
    pub excludes_kernel: bool,
    /// The ids that its records carry.
    pub ids: Vec<u64>,
}

/// The parsed header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfDataFile {
    /// At least one.
    pub events: Vec<Event>,
    /// Byte range of the records in the file.
    pub data: Range<usize>,
    /// The file was never completed: its records go on to its end.
    pub cut_short: bool,
}

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
            } else {
                FormatError::Magic { found: magic.to_vec() }
            });
        }
        let header_size = word(file, 8)?;
        if header_size == 16 {
            return Err(FormatError::Stream);
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
        if !cut_short {
            name_events(file, data.end, feature_map, &mut events);
        }
        Ok(PerfDataFile { events, data, cut_short })
    }

    /// The event whose id a record carries; the only event where there is one.
    pub fn event_of(&self, id: Option<u64>) -> Option<usize> {
        if self.events.len() == 1 {
            return Some(0);
        }
        let id = id?;
        self.events.iter().position(|event| event.ids.contains(&id))
    }
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
    if count == 0 || count > MAX_EVENTS {
        return Err(FormatError::Section { what: "impossible number of events", at });
    }
    (0..count)
        .map(|i| {
            let at = attrs.start + (i * attr_entry) as usize;
            let flags = word(file, at + 40)?;
            let ids = section(file, at + attr_entry as usize - 16)?;
            Ok(Event {
                kind: word(file, at)? as u32,
                config: word(file, at + 8)?,
                name: None,
                layout: Layout::new(
                    word(file, at + 24)?,
                    word(file, at + 32)?,
                    flags & crate::attr::flag::SAMPLE_ID_ALL != 0,
                ),
                period_or_frequency: word(file, at + 16)?,
                is_frequency: flags & crate::attr::flag::FREQ != 0,
                excludes_kernel: flags & crate::attr::flag::EXCLUDE_KERNEL != 0,
                ids: ids.step_by(8).filter_map(|at| word(file, at).ok()).collect(),
            })
        })
        .collect()
}

/// Names are a help, not a need: anything odd leaves them out.
fn name_events(file: &[u8], features_at: usize, map: u64, events: &mut [Event]) {
    if map & 1 << feature::EVENT_DESC == 0 {
        return;
    }
    let index = (map & ((1 << feature::EVENT_DESC) - 1)).count_ones() as usize;
    let Ok(desc) = section(file, features_at + index * 16) else { return };
    let desc = &file[desc];
    let half = |at: usize| -> Option<usize> {
        let bytes = desc.get(at..at + 4)?.first_chunk::<4>()?;
        usize::try_from(u32::from_ne_bytes(*bytes)).ok()
    };
    let (Some(count), Some(attr_size)) = (half(0), half(4)) else { return };
    let mut at = 8usize;
    for event in events.iter_mut().take(count) {
        let ids_at = at.saturating_add(attr_size);
        let (Some(ids), Some(length)) = (half(ids_at), half(ids_at.saturating_add(4))) else {
            return;
        };
        let Some(name) = desc.get(ids_at + 8..).and_then(|rest| rest.get(..length)) else { return };
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        event.name = Some(String::from_utf8_lossy(name).into_owned());
        at = ids_at.saturating_add(8).saturating_add(length).saturating_add(ids.saturating_mul(8));
    }
}

fn word(file: &[u8], at: usize) -> Result<u64, FormatError> {
    let error = FormatError::Section { what: "the file ends inside its header", at: at as u64 };
    let bytes = file.get(at..).and_then(<[u8]>::first_chunk::<8>).ok_or(error)?;
    Ok(u64::from_ne_bytes(*bytes))
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
