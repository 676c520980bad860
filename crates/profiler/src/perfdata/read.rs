//! Reads a perf.data file in memory: its events, and where its records lie.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::build_ids::BuildIds;
pub use super::event::Event;
use super::features::{Features, Noted};
use super::forms::Form;
use super::record::{Record, kind, split_record};
use super::{HEADER_BYTES, MAGIC, STREAM_HEADER_BYTES, stream};
use crate::tracepoints::Tracepoint;

/// Why bytes are no perf.data file that this program reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not the magic, nor that of anything known.
    #[error("not a perf.data file: it starts with {found:02x?}, not with \"PERFILE2\"")]
    Magic {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// A file of another form, which is known.
    #[error("not a perf.data file, but {}", .0.name)]
    Other(Form),
    /// Written on a machine of the other byte order.
    #[error("a perf.data file of a machine of the other byte order, which is not supported")]
    ByteOrder,
    /// A processor trace, which holds no samples until it is decoded.
    #[error(
        "a perf.data file of a processor trace (intel_pt, cs_etm) without samples, which is \
             not supported"
    )]
    Traced,
    /// Compressed records that zstd refuses.
    #[error("bad perf.data file: the compressed record at byte {at} of the records: {what}")]
    Compressed {
        /// What zstd says.
        what: String,
        /// Byte offset from the first record.
        at: u64,
    },
    /// A section points outside the file, or a field inside it makes no sense.
    #[error("bad perf.data file: {what} at byte {at}")]
    Section {
        /// What is wrong.
        what: &'static str,
        /// Byte offset in the file.
        at: u64,
    },
}

impl FormatError {
    /// A fix that can be pasted into a shell; `path` as the shell takes it.
    pub fn hint(&self, path: &str) -> Option<String> {
        match self {
            FormatError::Other(form) => form.hint(path),
            FormatError::Traced => {
                Some(format!("perf inject --itrace=i100usl -i {path} -o samples.data"))
            }
            FormatError::ByteOrder => {
                Some(format!("perf script -i {path} reads it, as do inferno and speedscope that"))
            }
            _ => None,
        }
    }
}

/// The parsed header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfDataFile {
    /// At least one.
    pub events: Vec<Event>,
    /// The event that is shown: the first that counts something, until another is chosen.
    pub sampled: usize,
    /// Byte range of the records in the file.
    pub data: Range<usize>,
    /// The file was never completed: its records go on to its end.
    pub cut_short: bool,
    /// Release of the kernel that was recorded, where the file tells.
    pub kernel_release: Option<String>,
    /// Architecture of the machine that was recorded, as `uname -m` has it, where the file tells.
    pub arch: Option<String>,
    /// Those of its events' tracepoints whose formats it carries.
    pub tracepoints: Vec<Tracepoint>,
    /// It holds a processor trace.
    pub has_trace: bool,
    /// Records are packed by zstd.
    pub compressed: bool,
    /// The builds of the files that were mapped, where the recorder read them in the end.
    pub build_ids: BuildIds,
    pub(super) by_id: FxHashMap<u64, usize>,
    /// The event of samples whose id is no event's.
    pub(super) mislabelled: usize,
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

    pub(super) fn new(
        events: Vec<Event>,
        noted: Noted,
        data: Range<usize>,
        cut_short: bool,
        compressed: bool,
    ) -> Self {
        let ids = |(index, event): (usize, &Event)| {
            event.ids.iter().map(move |&id| (id, index)).collect::<Vec<_>>()
        };
        let by_id = events.iter().enumerate().flat_map(ids).collect();
        let Noted { kernel_release, arch, tracepoints, has_trace, build_ids } = noted;
        let mislabelled = events.iter().position(Event::shares_samples).unwrap_or(0);
        PerfDataFile {
            sampled: events.iter().position(|event| !event.is_dummy()).unwrap_or(0),
            events,
            data,
            cut_short,
            kernel_release,
            arch,
            tracepoints,
            has_trace,
            compressed,
            build_ids,
            by_id,
            mislabelled,
        }
    }

    /// The event that a record is of. The ids of all events lie at one place, as perf sees to, so
    /// any layout finds them. The first event where nothing tells.
    ///
    /// A sample may have the id of an event that is not in the file. What happens in software is
    /// sampled once for all events that are due, those of other profilers too, and the id in the
    /// sample stays that of the first (`do_perf_sw_event` and `perf_prepare_sample` in
    /// kernel/events/core.c; seen on v6.18). So it is of the event that counts such things.
    pub fn event_of_record(&self, record: &Record<'_>) -> usize {
        match &self.events[..] {
            [first, _, ..] => match first.layout.event_id(record) {
                None | Some(0) => 0,
                Some(id) => match self.by_id.get(&id) {
                    Some(&event) => event,
                    None if record.kind == kind::SAMPLE => self.mislabelled,
                    None => 0,
                },
            },
            _ => 0,
        }
    }

    /// The event with that id.
    pub fn event_of_id(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Where in its body a sample has an id that is no event's, and the id that belongs there.
    pub(super) fn mislabelled(&self, record: &Record<'_>) -> Option<(usize, u64)> {
        let [first, _, ..] = &self.events[..] else { return None };
        if record.kind != kind::SAMPLE {
            return None;
        }
        let at = first.layout.event_id_at(record)?;
        let id = word(record.body, at).ok()?;
        let right = *self.events.get(self.mislabelled)?.ids.first()?;
        (id != 0 && !self.by_id.contains_key(&id)).then_some((at, right))
    }

    /// How many samples there are of each event.
    pub fn samples_by_event(&self, file: &[u8]) -> Vec<u64> {
        let mut counts = vec![0; self.events.len()];
        for (_, record) in self.records(file).filter(|(_, record)| record.kind == kind::SAMPLE) {
            counts[self.event_of_record(&record)] += 1;
        }
        counts
    }

    /// The records of the whole file's bytes, as they stand.
    pub fn records<'a>(&self, file: &'a [u8]) -> Records<'a> {
        Records::new(file.get(self.data.clone()).unwrap_or_default())
    }
}

/// Records packed by zstd.
pub(super) fn is_compressed(kind: u32) -> bool {
    matches!(kind, kind::COMPRESSED | kind::COMPRESSED2)
}

/// Whole records, one after the other, with the offset of each. What perf puts behind some of its
/// own is passed over.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// The records in these bytes.
    pub fn new(data: &'a [u8]) -> Self {
        Records { data, at: 0 }
    }

    /// Where the record after the latest begins, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes are left that are no whole record.
    pub fn is_cut_short(&self) -> bool {
        self.at < self.data.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (usize, Record<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let (record, size) = split_record(self.data.get(at..)?)?;
        let behind = match record.kind {
            kind::AUXTRACE => word(record.body, 0).ok()?,
            kind::HEADER_TRACING_DATA => {
                let bytes = record.body.first_chunk::<4>()?;
                u64::from(u32::from_ne_bytes(*bytes)).next_multiple_of(8)
            }
            _ => 0,
        };
        let next = (at + size).checked_add(usize::try_from(behind).ok()?)?;
        if next > self.data.len() {
            return None;
        }
        self.at = next;
        Some((at, record))
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

pub(super) fn word(file: &[u8], at: usize) -> Result<u64, FormatError> {
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
