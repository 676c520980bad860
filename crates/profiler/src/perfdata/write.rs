//! Writes a perf.data file: header and attributes first, records as they come, features last.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use super::{HEADER_BYTES, MAGIC, feature};
use crate::attr::{ATTR_SIZE, EventAttr};

/// One event of the file.
#[derive(Clone, Debug)]
pub struct EventDescription {
    /// Its name, as perf would print it.
    pub name: String,
    /// As it was opened.
    pub attr: EventAttr,
    /// The ids that its records carry.
    pub ids: Vec<u64>,
}

/// What perf prints about where a file was made.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub release: String,
    /// Machine architecture.
    pub arch: String,
    /// CPUs configured and online.
    pub cpus: (u32, u32),
    /// The command that recorded.
    pub command_line: Vec<String>,
    /// The formats of the tracepoints, where the file has records of any.
    pub tracing_data: Option<Vec<u8>>,
}

/// A file whose header is written; records are appended to [`PerfDataWriter::file`].
#[derive(Debug)]
pub struct PerfDataWriter {
    file: File,
    events: Vec<EventDescription>,
    data_start: u64,
}

impl PerfDataWriter {
    /// Writes everything that precedes the records. The data size stays 0 until
    /// [`PerfDataWriter::finish`]: a file cut short is known by it.
    ///
    /// # Errors
    /// What the file answers.
    pub fn create(mut file: File, events: Vec<EventDescription>) -> io::Result<Self> {
        let ids_bytes: u64 = events.iter().map(|event| event.ids.len() as u64 * 8).sum();
        let attrs_start = HEADER_BYTES + ids_bytes;
        let attrs_bytes = events.len() as u64 * (ATTR_SIZE as u64 + 16);
        let data_start = attrs_start + attrs_bytes;
        let mut out = header((attrs_start, attrs_bytes), (data_start, 0), 0);
        for id in events.iter().flat_map(|event| &event.ids) {
            out.extend_from_slice(&id.to_ne_bytes());
        }
        let mut ids_at = HEADER_BYTES;
        for event in &events {
            let length = event.ids.len() as u64 * 8;
            out.extend_from_slice(&event.attr.to_bytes());
            out.extend_from_slice(&ids_at.to_ne_bytes());
            out.extend_from_slice(&length.to_ne_bytes());
            ids_at += length;
        }
        file.write_all(&out)?;
        Ok(PerfDataWriter { file, events, data_start })
    }

    /// Where records go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Writes the features after the records and completes the header.
    ///
    /// # Errors
    /// What the file answers.
    pub fn finish(mut self, provenance: &Provenance) -> io::Result<File> {
        let data_end = self.file.stream_position()?;
        let data_bytes = data_end - self.data_start;
        let sections = self.features(provenance);
        let map = sections.iter().fold(0u64, |map, (bit, _)| map | 1 << bit);
        let mut at = data_end + sections.len() as u64 * 16;
        let mut out = Vec::new();
        for (_, bytes) in &sections {
            out.extend_from_slice(&at.to_ne_bytes());
            out.extend_from_slice(&(bytes.len() as u64).to_ne_bytes());
            at += bytes.len() as u64;
        }
        for (_, bytes) in &sections {
            out.extend_from_slice(bytes);
        }
        let map = match self.file.write_all(&out) {
            Ok(()) => map,
            // The records are whole without: only where they were made is not told.
            Err(_) => {
                self.file.set_len(data_end)?;
                0
            }
        };
        let ids_bytes: u64 = self.events.iter().map(|event| event.ids.len() as u64 * 8).sum();
        let attrs_start = HEADER_BYTES + ids_bytes;
        let attrs = (attrs_start, self.data_start - attrs_start);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header(attrs, (self.data_start, data_bytes), map))?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(self.file)
    }

    /// In ascending order of their bits, as readers expect them.
    fn features(&self, provenance: &Provenance) -> Vec<(u32, Vec<u8>)> {
        let mut cpus = Vec::new();
        cpus.extend_from_slice(&provenance.cpus.0.to_ne_bytes());
        cpus.extend_from_slice(&provenance.cpus.1.to_ne_bytes());
        let mut command = (provenance.command_line.len() as u32).to_ne_bytes().to_vec();
        for word in &provenance.command_line {
            push_header_string(&mut command, word);
        }
        let tracing = provenance.tracing_data.clone();
        let mut sections: Vec<(u32, Vec<u8>)> =
            tracing.map(|bytes| (feature::TRACING_DATA, bytes)).into_iter().collect();
        sections.extend([
            (feature::HOSTNAME, header_string(&provenance.hostname)),
            (feature::OSRELEASE, header_string(&provenance.release)),
            (feature::ARCH, header_string(&provenance.arch)),
            (feature::NRCPUS, cpus),
            (feature::CMDLINE, command),
            (feature::EVENT_DESC, self.event_desc()),
        ]);
        sections
    }

    fn event_desc(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.events.len() as u32).to_ne_bytes());
        out.extend_from_slice(&(ATTR_SIZE as u32).to_ne_bytes());
        for event in &self.events {
            out.extend_from_slice(&event.attr.to_bytes());
            out.extend_from_slice(&(event.ids.len() as u32).to_ne_bytes());
            push_header_string(&mut out, &event.name);
            for id in &event.ids {
                out.extend_from_slice(&id.to_ne_bytes());
            }
        }
        out
    }
}

fn header(attrs: (u64, u64), data: (u64, u64), feature_map: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES as usize);
    out.extend_from_slice(&MAGIC);
    let words = [
        HEADER_BYTES,
        ATTR_SIZE as u64 + 16,
        attrs.0,
        attrs.1,
        data.0,
        data.1,
        0, // event types: no longer used
        0,
        feature_map,
        0,
        0,
        0,
    ];
    for word in words {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out
}

/// Length, then bytes with their NUL, padded to 64 (`NAME_ALIGN` in tools/perf/util/header.c).
fn push_header_string(out: &mut Vec<u8>, text: &str) {
    let padded = (text.len() + 1).next_multiple_of(64);
    out.extend_from_slice(&(padded as u32).to_ne_bytes());
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + padded - text.len(), 0);
}

fn header_string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_header_string(&mut out, text);
    out
}
