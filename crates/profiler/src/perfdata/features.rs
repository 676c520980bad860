//! What perf stores besides the records: sections at the end of a file, or records of a stream.

use rustc_hash::{FxHashMap, FxHashSet};

use super::build_ids::BuildIds;
use super::event::Event;
use super::feature;
use super::naming::{Pmus, name};
use crate::tracepoints::{Tracepoint, in_tracing_data};

/// The features that are read, in place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features<'a> {
    event_desc: Option<&'a [u8]>,
    kernel_release: Option<&'a [u8]>,
    arch: Option<&'a [u8]>,
    pmu_mappings: Option<&'a [u8]>,
    tracing_data: Option<&'a [u8]>,
    build_ids: Option<&'a [u8]>,
    pub(super) is_compressed: bool,
    has_trace: bool,
}

/// What they say.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) kernel_release: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) tracepoints: Vec<Tracepoint>,
    pub(super) has_trace: bool,
    pub(super) build_ids: BuildIds,
}

impl<'a> Features<'a> {
    /// The bits of those that are read.
    pub(super) const READ: [u32; 8] = [
        feature::BUILD_ID,
        feature::EVENT_DESC,
        feature::OSRELEASE,
        feature::ARCH,
        feature::PMU_MAPPINGS,
        feature::TRACING_DATA,
        feature::AUXTRACE,
        feature::COMPRESSED,
    ];

    /// Takes one, by its bit.
    pub(super) fn take(&mut self, bit: u32, bytes: &'a [u8]) {
        match bit {
            feature::EVENT_DESC => self.event_desc = Some(bytes),
            feature::OSRELEASE => self.kernel_release = Some(bytes),
            feature::ARCH => self.arch = Some(bytes),
            feature::PMU_MAPPINGS => self.pmu_mappings = Some(bytes),
            feature::TRACING_DATA => self.tracing_data = Some(bytes),
            feature::BUILD_ID => self.build_ids = Some(bytes),
            feature::AUXTRACE => self.has_trace = true,
            feature::COMPRESSED => self.is_compressed = true,
            _ => {}
        }
    }

    /// Reads them, and gives every event a name.
    pub(super) fn read(self, events: &mut [Event]) -> Noted {
        if let Some(desc) = self.event_desc {
            name_events(desc, events);
        }
        let ids: FxHashSet<u64> = events.iter().filter_map(Event::tracepoint_id).collect();
        let tracepoints = match self.tracing_data {
            Some(bytes) if !ids.is_empty() => in_tracing_data(bytes, |id| ids.contains(&id)),
            _ => Vec::new(),
        };
        let pmus = Pmus {
            names: self.pmu_mappings.map(pmu_names).unwrap_or_default(),
            tracepoints: tracepoints.iter().map(|point| (point.id, point.name.clone())).collect(),
        };
        for event in events.iter_mut().filter(|event| event.name.is_empty()) {
            event.name = name(event, &pmus);
        }
        Noted {
            kernel_release: self.kernel_release.and_then(header_string),
            arch: self.arch.and_then(header_string),
            tracepoints,
            has_trace: self.has_trace,
            build_ids: self.build_ids.map(BuildIds::parse).unwrap_or_default(),
        }
    }
}

/// A string with its padded length before it.
fn header_string(bytes: &[u8]) -> Option<String> {
    let text = bytes.get(4..)?.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let half = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_ne_bytes(*half)).ok()
}

/// Names are a help, not a need: anything odd leaves them out.
fn name_events(desc: &[u8], events: &mut [Event]) {
    let (Some(count), Some(attr_size)) = (half(desc, 0), half(desc, 4)) else { return };
    let mut at = 8usize;
    for event in events.iter_mut().take(count) {
        let ids_at = at.saturating_add(attr_size);
        let (Some(ids), Some(length)) = (half(desc, ids_at), half(desc, ids_at.saturating_add(4)))
        else {
            return;
        };
        let Some(name) = desc.get(ids_at + 8..).and_then(|rest| rest.get(..length)) else { return };
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        event.name = String::from_utf8_lossy(name).into_owned();
        at = ids_at.saturating_add(8).saturating_add(length).saturating_add(ids.saturating_mul(8));
    }
}

/// A count, then each PMU's type and its name.
fn pmu_names(bytes: &[u8]) -> FxHashMap<u32, String> {
    let mut names = FxHashMap::default();
    let mut at = 4usize;
    for _ in 0..half(bytes, 0).unwrap_or(0) {
        let (Some(kind), Some(length)) = (half(bytes, at), half(bytes, at.saturating_add(4)))
        else {
            break;
        };
        let Some(name) = bytes.get(at + 4..).and_then(header_string) else { break };
        names.insert(kind as u32, name);
        at = at.saturating_add(8).saturating_add(length);
    }
    names
}
