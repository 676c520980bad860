//! One pass over a file's records in the order of time.

use crate::order::RoundSorter;
use crate::paging::Paging;
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::record::{MOST_TIME, Record, kind, split_record};

/// A file without rounds is sorted in stretches of so many records, so that it needs no more memory
/// the longer it is. No ring holds as many.
const MOST_HELD: usize = 1 << 20;

/// What was wrong with a file as a whole.
pub(crate) struct Passed {
    /// It ends before its last record does.
    pub(crate) cut_short: bool,
    /// Records of a time that cannot be, left out.
    pub(crate) malformed: u64,
}

/// Gives out each of the kernel's records with the index of its event, oldest first.
pub(crate) fn each_in_time_order(
    file: &PerfDataFile,
    bytes: &[u8],
    mut paging: Paging<'_>,
    mut take: impl FnMut(&Record<'_>, usize),
) -> Passed {
    let mut records = file.records(bytes);
    let mut sorter: RoundSorter<(usize, usize)> = RoundSorter::new();
    let data = &bytes[file.data.clone()];
    let mut give = |(at, event): (usize, usize)| {
        if let Some((record, _)) = split_record(&data[at..]) {
            take(&record, event);
        }
    };
    let (mut round_at, mut of_round, mut malformed) = (0, 0, 0);
    for (at, record) in records.by_ref() {
        paging.reach(file.data.start + at);
        if record.kind < kind::HEADER_ATTR {
            let event = file.event_of_record(&record);
            let time = file.events[event].layout.time(&record).unwrap_or(0);
            if time > MOST_TIME {
                malformed += 1;
                continue;
            }
            sorter.push(time, (at, event));
            of_round += 1;
        }
        if record.kind == kind::FINISHED_ROUND || of_round == MOST_HELD {
            sorter.end_round(&mut give);
            // What is held back now is of this round.
            paging.leave(file.data.start + round_at);
            (round_at, of_round) = (at, 0);
        }
    }
    sorter.finish(give);
    // Nothing after a record that does not end can be found again.
    Passed { cut_short: file.cut_short || records.is_cut_short(), malformed }
}
