//! Makes a large perf.data out of a small one: its records so many times over, with later and later
//! times. For measuring the analysis.
//!
//! ```sh
//! cargo run --release --example repeat_perfdata -- perf.data 20 large.data
//! ```

#![allow(missing_docs)]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use pipeprof_profiler::perfdata::read::{PerfDataFile, Records};
use pipeprof_profiler::perfdata::record::{RECORD_HEADER, kind};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, times, to] = &arguments[..] else {
        return Err("give a plain perf.data file, how often, and the file to write".into());
    };
    let bytes = std::fs::read(from)?;
    let file = PerfDataFile::parse(&bytes)?;
    let data = &bytes[file.data.clone()];
    let layout = |record: &_| file.events[file.event_of_record(record)].layout;
    let timed = |record: &_| layout(record).time(record);
    let span = Records::new(data).filter_map(|(_, record)| timed(&record));
    let span = span.clone().max().unwrap_or(0) - span.filter(|&time| time > 0).min().unwrap_or(0);

    let mut out = BufWriter::with_capacity(1 << 20, File::create(to)?);
    out.write_all(&bytes[..file.data.start])?;
    let mut written = 0u64;
    for turn in 0..times.parse::<u64>()? {
        for (at, record) in Records::new(data) {
            // What was mapped and named before stays so; only what happens happens again.
            let happens = matches!(record.kind, kind::SAMPLE | kind::FINISHED_ROUND);
            if turn > 0 && !happens {
                continue;
            }
            let mut copy = data[at..at + RECORD_HEADER + record.body.len()].to_vec();
            if record.kind != kind::FINISHED_ROUND
                && let Some(range) = layout(&record).time_range(&record)
                && let Some(time) = timed(&record)
            {
                let place = &mut copy[RECORD_HEADER..][range];
                place.copy_from_slice(&(time + turn * (span + 1)).to_ne_bytes());
            }
            written += copy.len() as u64;
            out.write_all(&copy)?;
        }
    }
    let mut out = out.into_inner()?;
    // The size of the records, and no features, which would lie behind them.
    out.seek(SeekFrom::Start(48))?;
    out.write_all(&written.to_ne_bytes())?;
    out.seek(SeekFrom::Start(72))?;
    out.write_all(&[0; 32])?;
    Ok(())
}
