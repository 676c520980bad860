//! Gives samples that the kernel labelled with the id of another profiler's event an id of their
//! file.
//!
//! Two profilers that sample software events at the same time get such samples, see
//! [`PerfDataFile::event_of_record`]. pipeprof can assign them; perf rejects the whole file at the
//! first one ("failed to process type: 9 [Bad address]").

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::read::PerfDataFile;
use super::record::RECORD_HEADER;

/// Puts the ids of their own events into the samples of a complete file that have others, and
/// returns how many had. Compressed files are left alone.
///
/// # Errors
/// What the file answers; one that is no perf.data is `InvalidData`.
pub fn relabel(path: &Path) -> io::Result<u64> {
    let bytes = crate::sys::map_file(&File::open(path)?)?;
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let file = PerfDataFile::parse(&bytes).map_err(invalid)?;
    if file.compressed {
        return Ok(0);
    }
    let wrong = file.records(&bytes).filter_map(|(at, record)| {
        let (in_body, id) = file.mislabelled(&record)?;
        Some(((file.data.start + at + RECORD_HEADER + in_body) as u64, id))
    });
    let wrong: Vec<(u64, u64)> = wrong.collect();
    if !wrong.is_empty() {
        let out = File::options().write(true).open(path)?;
        for (at, id) in &wrong {
            out.write_all_at(&id.to_ne_bytes(), *at)?;
        }
    }
    Ok(wrong.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::attr::{EventAttr, event_type, flag, sample_type};
    use crate::perfdata::record::kind;
    use crate::perfdata::write::{EventDescription, PerfDataWriter, Provenance};

    const CPU_CLOCK: u64 = 0;
    const CONTEXT_SWITCHES: u64 = 3;

    fn event(config: u64, id: u64) -> EventDescription {
        let mut attr = EventAttr::new(event_type::SOFTWARE, config).with_flag(flag::FREQ, true);
        attr.sample_type = sample_type::IDENTIFIER | sample_type::IP;
        EventDescription { name: config.to_string(), attr, ids: vec![id] }
    }

    /// A file of samples with those ids, as it is and relabelled: the events its records are of.
    fn before_and_after(events: Vec<EventDescription>, ids: &[u64]) -> (u64, [Vec<usize>; 2]) {
        let out = tempfile::NamedTempFile::new().unwrap();
        let mut writer = PerfDataWriter::create(out.reopen().unwrap(), events).unwrap();
        for id in ids {
            let mut record = kind::SAMPLE.to_ne_bytes().to_vec();
            record.extend([0, 0, 24, 0]);
            record.extend([*id, 0xffff].map(u64::to_ne_bytes).concat());
            writer.file().write_all(&record).unwrap();
        }
        writer.finish(&Provenance::default()).unwrap();
        let read = || -> Vec<usize> {
            let bytes = std::fs::read(out.path()).unwrap();
            let file = PerfDataFile::parse(&bytes).unwrap();
            file.records(&bytes).map(|(_, record)| file.event_of_record(&record)).collect()
        };
        let before = read();
        let changed = relabel(out.path()).unwrap();
        assert_eq!(relabel(out.path()).unwrap(), 0);
        (changed, [before, read()])
    }

    #[test]
    fn a_strangers_id_is_replaced_by_that_of_the_event_of_switches() {
        let events = vec![event(CPU_CLOCK, 7), event(CONTEXT_SWITCHES, 8)];
        let (changed, events) = before_and_after(events, &[7, 99, 8, 0]);
        assert_eq!(changed, 1);
        assert_eq!(events, [vec![0, 1, 1, 0], vec![0, 1, 1, 0]]);
    }

    #[test]
    fn a_single_event_needs_no_ids() {
        let (changed, events) = before_and_after(vec![event(CPU_CLOCK, 7)], &[7, 99]);
        assert_eq!((changed, events), (0, [vec![0, 0], vec![0, 0]]));
    }
}
