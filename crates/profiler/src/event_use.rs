//! What the analysis makes of the samples of each event of a file.

use crate::perfdata::read::PerfDataFile;
use crate::recording::Meta;

/// The use of one event's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// They are the profile: the event that is shown.
    Shown,
    /// Where threads go to sleep, of all on a CPU.
    Switches,
    /// Likewise, of one thread that has an event of its own.
    OwnSwitches,
    /// Who wakes whom.
    Wakeups,
    /// Not used.
    Nothing,
}

/// The event of switches, after the one that samples, in what this program records.
const SWITCHES: usize = 1;

/// The use of each event, by its index.
pub(crate) fn uses(file: &PerfDataFile, meta: &Meta) -> Vec<Use> {
    let is_ours = !meta.pipeline.members.is_empty();
    let of = |(index, event): (usize, &crate::perfdata::event::Event)| match index {
        _ if index == file.sampled => Use::Shown,
        _ if !is_ours => Use::Nothing,
        _ if event.tracepoint_id().is_some() => Use::Wakeups,
        SWITCHES => Use::Switches,
        _ => Use::OwnSwitches,
    };
    file.events.iter().enumerate().map(of).collect()
}
