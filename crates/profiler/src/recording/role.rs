//! What each event of a file is for.

use serde::{Deserialize, Serialize};

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
    /// It counts nothing: its records tell of forks, names, mappings and ends, and go on while
    /// sampling is off.
    Tracking,
    /// Nothing that is read here.
    Other,
}
