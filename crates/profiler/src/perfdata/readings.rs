//! The weight of samples that read the counters of a group: `perf record -e '{a,b}:S'`.

use rustc_hash::FxHashMap;

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
    ///
    /// `event` tells the event of a counter, and whether threads inherit that.
    pub(crate) fn of(
        &mut self,
        sample: &Sample<'_>,
        layout: Layout,
        event: impl Fn(u64) -> Option<(usize, bool)>,
    ) -> Option<&[(usize, u64)]> {
        let read = layout.readings(sample)?;
        self.counted.clear();
        for (id, value) in read {
            let Some((event, is_inherited)) = event(id) else { continue };
            let thread = if is_inherited { sample.id.tid.unwrap_or(-1) } else { -1 };
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
    use crate::attr::sample_type;

    fn layout() -> Layout {
        const GROUP_AND_ID: u64 = 8 | 4;
        Layout::new(sample_type::TID | sample_type::READ, GROUP_AND_ID, false)
    }

    /// Each event has a counter on either of two CPUs: ids 10 and 11, 20 and 21.
    fn read(
        readings: &mut Readings,
        is_inherited: bool,
        tid: i32,
        values: &[(u64, u64)],
    ) -> Vec<(usize, u64)> {
        let mut body = [1_i32.to_ne_bytes(), tid.to_ne_bytes()].concat();
        body.extend((values.len() as u64).to_ne_bytes());
        for (id, value) in values {
            body.extend(value.to_ne_bytes());
            body.extend(id.to_ne_bytes());
        }
        let event = |id| match id {
            10 | 11 => Some((0, is_inherited)),
            20 | 21 => Some((1, is_inherited)),
            _ => None,
        };
        let sample = layout().sample(&body).unwrap();
        readings.of(&sample, layout(), event).unwrap().to_vec()
    }

    #[test]
    fn a_sample_is_of_each_event_that_counted_since_it_was_read_last() {
        let mut readings = Readings::default();
        let mut read = |tid, values: &[(u64, u64)]| read(&mut readings, false, tid, values);
        assert_eq!(read(1, &[(10, 500), (20, 3)]), [(0, 500), (1, 3)]);
        assert_eq!(read(2, &[(10, 700), (20, 3)]), [(0, 200)]);
        // Another CPU has counters of its own, and an id that is no event's counts nowhere.
        assert_eq!(read(1, &[(11, 9), (21, 0), (99, 5)]), [(0, 9)]);
        // Damaged: a counter that goes back.
        assert_eq!(read(1, &[(10, 600), (20, 5)]), [(1, 2)]);
    }

    #[test]
    fn threads_that_inherit_a_counter_are_read_apart() {
        let mut readings = Readings::default();
        assert_eq!(read(&mut readings, true, 1, &[(10, 500)]), [(0, 500)]);
        assert_eq!(read(&mut readings, true, 2, &[(10, 300)]), [(0, 300)]);
    }

    #[test]
    fn a_sample_without_readings_stands_for_its_period() {
        let layout = Layout::new(sample_type::TID, 0, false);
        let sample = layout.sample(&[0; 8]).unwrap();
        assert_eq!(Readings::default().of(&sample, layout, |_| Some((0, false))), None);
    }
}
