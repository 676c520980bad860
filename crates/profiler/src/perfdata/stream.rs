//! What `perf record` writes other than a plain file: the stream of `-o -`, in which events and
//! features are records among the others, and records packed by `-z`.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::event::Event;
use super::features::Features;
use super::file::PerfDataFile;
use super::format_error::{FormatError, word};
use super::framing::{RECORD_HEADER, Record, Records, is_compressed, kind};
use super::{STREAM_HEADER_BYTES, feature};

/// Events and features of a stream, wherever in it they come.
pub(super) fn parse(file: &[u8]) -> Result<PerfDataFile, FormatError> {
    let start = STREAM_HEADER_BYTES as usize;
    let data = start.min(file.len())..file.len();
    let mut events: Vec<Event> = Vec::new();
    let mut features = Features::default();
    let mut compressed = false;
    let mut records = Records::new(&file[data.clone()]);
    for (at, record) in records.by_ref() {
        match record.kind {
            kind::HEADER_ATTR => events.extend(event(record.body)),
            kind::HEADER_FEATURE => {
                if let Some((bit, bytes)) = feature_of(record.body) {
                    features.take(bit, bytes);
                }
            }
            kind::HEADER_TRACING_DATA => {
                // The formats follow the record.
                let behind = data.start + at + RECORD_HEADER + record.body.len();
                features.take(feature::TRACING_DATA, &file[behind..]);
            }
            kind::AUXTRACE => features.take(feature::AUXTRACE, &[]),
            _ => compressed |= is_compressed(record.kind),
        }
    }
    if events.is_empty() {
        return Err(FormatError::Section { what: "no event in the stream", at: start as u64 });
    }
    let noted = features.read(&mut events);
    let cut_short = records.is_cut_short();
    Ok(PerfDataFile::new(events, noted, data, cut_short, compressed))
}

/// The attribute, as long as it says itself, then ids.
fn event(body: &[u8]) -> Option<Event> {
    let size = u32::from_ne_bytes(*body.get(4..)?.first_chunk::<4>()?) as usize;
    let ids = body.get(size..)?.chunks_exact(8).filter_map(|id| word(id, 0).ok());
    Event::parse(body.get(..size)?, 0, ids.collect()).ok()
}

fn feature_of(body: &[u8]) -> Option<(u32, &[u8])> {
    let bit = u32::try_from(word(body, 0).ok()?).ok()?;
    Some((bit, body.get(8..)?))
}

/// Why records could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// They are damaged.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// There is no room for what is in them.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Samples that differ in nothing but their times shrink to a hundredth at most, as each time is
/// another; what claims to shrink further is made to fill a disk.
const MOST_EXPANSION: u64 = 250;

/// Writes compressed records as plain ones into a temporary file without a name.
///
/// # Errors
/// [`UnpackError`]. Records that are merely cut off at their end are no error.
pub fn unpack(data: &[u8]) -> Result<File, UnpackError> {
    let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
    let room = (data.len() as u64).saturating_mul(MOST_EXPANSION);
    let mut unpacker = Unpacker { stream: DCtx::create(), buffer: vec![0; 1 << 17], room };
    for (at, record) in Records::new(data) {
        if !is_compressed(record.kind) {
            let size = 8 + record.body.len();
            out.write_all(&data[at..at + size])?;
            continue;
        }
        let bad = |what: String| FormatError::Compressed { what, at: at as u64 };
        let packed = payload(&record).ok_or_else(|| bad("it is too short".to_owned()))?;
        unpacker.unpack(packed, &mut out, bad)?;
    }
    out.into_inner().map_err(|error| UnpackError::Write(error.into_error()))
}

fn payload<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    if record.kind == kind::COMPRESSED {
        return Some(record.body);
    }
    let length = usize::try_from(word(record.body, 0).ok()?).ok()?;
    record.body.get(8..)?.get(..length)
}

/// One zstd stream runs through all compressed records, and kernel records through its blocks.
struct Unpacker {
    stream: DCtx<'static>,
    buffer: Vec<u8>,
    /// Bytes that may still be written: one record of 64 KiB can hold gigabytes of zeros.
    room: u64,
}

impl Unpacker {
    fn unpack(
        &mut self,
        packed: &[u8],
        out: &mut impl Write,
        bad: impl Fn(String) -> FormatError,
    ) -> Result<(), UnpackError> {
        let mut input = InBuffer::around(packed);
        loop {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            let left = self.stream.decompress_stream(&mut output, &mut input);
            left.map_err(|code| bad(zstd_safe::get_error_name(code).to_owned()))?;
            let plain = output.as_slice();
            self.room = self.room.checked_sub(plain.len() as u64).ok_or_else(|| {
                bad(format!("it unpacks to more than {MOST_EXPANSION} times what is packed"))
            })?;
            out.write_all(plain)?;
            // A buffer that came back full may have left more behind in the decoder.
            let full = plain.len() == self.buffer.len();
            if input.pos() == packed.len() && !full {
                return Ok(());
            }
        }
    }
}
