//! What samples stand for that read the counters of a group: `perf record -e '{a,b}:S'`.

use rustc_hash::FxHashMap;

use super::file::PerfDataFile;
use super::layout::{Layout, Sample};

/// The values that the samples before have read.
///
/// Such a sample is one of every event of the group that counted anything since it was read last,
/// and stands for so much of it; its own period is that of the leader, whose clock took it
/// (`deliver_sample_value` in tools/perf/util/session.c, v6.12).
#[derive(Debug, Default)]
pub(crate) struct Readings {
    /// By the id of the counter, and the thread where each has one of its own.
    latest: FxHashMap<(u64, i32), u64>,
    counted: Vec<(usize, u64)>,
}

impl Readings {
    /// The events that a sample is of, with what it stands for of each; `None` where it has read
    /// nothing, so that its event and its period say it.
    pub(crate) fn of(
        &mut self,
        sample: &Sample<'_>,
        layout: Layout,
        file: &PerfDataFile,
    ) -> Option<&[(usize, u64)]> {
        let read = layout.readings(sample)?;
        self.counted.clear();
        for (id, value) in read {
            let Some(event) = file.event_of_id(id) else { continue };
            let thread = match file.events[event].is_inherited() {
                true => sample.id.tid.unwrap_or(-1),
                false => -1,
            };
            let before = self.latest.insert((id, thread), value).unwrap_or(0);
            if value > before {
                self.counted.push((event, value - before));
            }
        }
        Some(&self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::{event_type, sample_type};
    use crate::perfdata::event::Event;
    use crate::perfdata::features::Noted;

    const GROUP_AND_ID: u64 = 8 | 4;

    fn file_of_a_group(flags: u64) -> PerfDataFile {
        let layout = Layout::new(sample_type::TID | sample_type::READ, GROUP_AND_ID, false);
        let event = |config, ids| Event {
            kind: event_type::SOFTWARE,
            config,
            address: 0,
            breakpoint: 0,
            name: String::new(),
            layout,
            period_or_frequency: 1,
            flags,
            max_stack: None,
            ids,
        };
        let events = vec![event(0, vec![10, 11]), event(2, vec![20, 21])];
        PerfDataFile::new(events, Noted::default(), 0..0, false, false)
    }

    fn body(tid: i32, values: &[(u64, u64)]) -> Vec<u8> {
        let mut body = [1_i32.to_ne_bytes(), tid.to_ne_bytes()].concat();
        body.extend((values.len() as u64).to_ne_bytes());
        for (id, value) in values {
            body.extend(value.to_ne_bytes());
            body.extend(id.to_ne_bytes());
        }
        body
    }

    fn read(
        readings: &mut Readings,
        file: &PerfDataFile,
        tid: i32,
        values: &[(u64, u64)],
    ) -> Vec<(usize, u64)> {
        let (body, layout) = (body(tid, values), file.events[0].layout);
        let sample = layout.sample(&body).unwrap();
        readings.of(&sample, layout, file).unwrap().to_vec()
    }

    #[test]
    fn a_sample_is_of_each_event_that_counted_since_it_was_read_last() {
        let (file, mut readings) = (file_of_a_group(0), Readings::default());
        assert_eq!(read(&mut readings, &file, 1, &[(10, 500), (20, 3)]), [(0, 500), (1, 3)]);
        assert_eq!(read(&mut readings, &file, 2, &[(10, 700), (20, 3)]), [(0, 200)]);
        // Another CPU has counters of its own, and an id that is no event's counts nowhere.
        assert_eq!(read(&mut readings, &file, 1, &[(11, 9), (21, 0), (99, 5)]), [(0, 9)]);
        // Damaged: a counter that goes back.
        assert_eq!(read(&mut readings, &file, 1, &[(10, 600), (20, 5)]), [(1, 2)]);
    }

    #[test]
    fn threads_that_inherit_a_counter_are_read_apart() {
        let (file, mut readings) =
            (file_of_a_group(crate::attr::flag::INHERIT), Readings::default());
        assert_eq!(read(&mut readings, &file, 1, &[(10, 500)]), [(0, 500)]);
        assert_eq!(read(&mut readings, &file, 2, &[(10, 300)]), [(0, 300)]);
    }

    #[test]
    fn a_sample_without_readings_stands_for_its_period() {
        let mut file = file_of_a_group(0);
        file.events[0].layout = Layout::new(sample_type::TID, 0, false);
        let (body, layout) = (body(1, &[]), file.events[0].layout);
        let sample = layout.sample(&body).unwrap();
        assert_eq!(Readings::default().of(&sample, layout, &file), None);
    }
}
