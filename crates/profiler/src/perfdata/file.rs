//! What the header of a perf.data file says.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::build_ids::BuildIds;
use super::event::Event;
use super::features::Noted;
use super::format_error::word;
use super::framing::{Record, Records, kind};
use super::readings::Readings;
use crate::tracepoints::Tracepoint;

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

impl PerfDataFile {
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

    /// The event of a counter, and whether each thread that inherits it has its own.
    pub(crate) fn counter(&self, id: u64) -> Option<(usize, bool)> {
        let event = self.event_of_id(id)?;
        Some((event, self.events[event].is_inherited()))
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
        let mut readings = Readings::default();
        for (_, record) in self.records(file).filter(|(_, record)| record.kind == kind::SAMPLE) {
            let event = self.event_of_record(&record);
            let layout = self.events[event].layout;
            let sample = if layout.has_readings() { layout.sample(record.body) } else { None };
            match sample
                .as_ref()
                .and_then(|sample| readings.of(sample, layout, |id| self.counter(id)))
            {
                Some(counted) => counted.iter().for_each(|&(event, _)| counts[event] += 1),
                None => counts[event] += 1,
            }
        }
        counts
    }

    /// The records of the whole file's bytes, as they stand.
    pub fn records<'a>(&self, file: &'a [u8]) -> Records<'a> {
        Records::new(file.get(self.data.clone()).unwrap_or_default())
    }
}
