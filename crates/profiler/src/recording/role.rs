//! What each event of a file is for.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::perfdata::event::Event;
use crate::perfdata::read::PerfDataFile;

/// What an event was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventRole {
    /// Its samples tell what runs.
    Sample,
    /// Its records tell who leaves and gets a CPU, its samples where some of them were going to
    /// sleep.
    Switch,
    /// Its samples tell where one thread was going to sleep, each time or nearly.
    OwnChain,
    /// Its samples tell who wakes whom.
    Wakeup,
    /// Nothing that is read here.
    Other,
}

/// The roles of the events of a file, in their order: as they were noted, or as their order told
/// before they were.
pub(crate) fn roles(meta: &Meta, file: &PerfDataFile) -> Vec<EventRole> {
    if meta.events.len() == file.events.len() {
        return meta.events.clone();
    }
    let is_ours = !meta.pipeline.members.is_empty();
    let role = |(index, event): (usize, &Event)| match index {
        _ if index == file.sampled => EventRole::Sample,
        _ if !is_ours && meta.switches && event.is_switch() => EventRole::Switch,
        _ if !is_ours => EventRole::Other,
        _ if event.tracepoint_id().is_some() => EventRole::Wakeup,
        1 => EventRole::Switch,
        _ => EventRole::OwnChain,
    };
    file.events.iter().enumerate().map(role).collect()
}
