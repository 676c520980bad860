//! The result of a tuning, as data.

use serde::Serialize;

use super::experiment::{Judged, Side};
use super::plan::NotTried;
use super::treatment::Treatment;

/// A tuning from its first look to the last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// The command line, or the names of the members.
    pub subject: String,
    /// The pipe whose bytes were the measure, `yes → gzip`.
    pub measure: String,
    /// The throughput before any change.
    pub original: Rate,
    /// What limits it most, in words; `None` where that is not known.
    pub limit: Option<String>,
    /// Length of a window, in milliseconds.
    pub window_ms: u64,
    /// In the order in which they were tried.
    pub tried: Vec<Tried>,
    /// What was left out, and why.
    pub not_tried: Vec<NotTried>,
    /// The best combination, measured again against the original.
    pub best: Option<Confirmed>,
    /// The best other command line, measured again likewise.
    pub best_line: Option<Confirmed>,
    /// Changes that could not be undone yet.
    pub not_restored: Vec<String>,
    /// Why it ended early.
    pub stopped: Option<String>,
}

/// Bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Mean.
    pub bytes_per_second: f64,
}

/// One treatment and what it showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// In a few words.
    pub name: String,
    /// As data.
    pub treatment: Treatment,
    /// Share of the time that it works on, 0 to 1; `None` where that is not known.
    pub share: Option<f64>,
    /// `None` where it could not be applied, or not long enough to be judged.
    pub judged: Option<Judged>,
    /// Why it was not, or only partly, measured.
    pub failed: Option<String>,
    /// Every window, in order.
    pub windows: Vec<Window>,
}

/// One stretch of measuring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Window {
    /// When it began, in seconds since the tuning did.
    pub at_s: f64,
    /// What ran.
    pub side: Side,
    /// Rate in it.
    pub bytes_per_second: f64,
}

/// The winners together, measured once more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confirmed {
    /// Names of what was combined.
    pub names: Vec<String>,
    /// What the second measurement showed.
    pub judged: Option<Judged>,
    /// Its windows.
    pub windows: Vec<Window>,
    /// How to make it permanent.
    pub permanent: Vec<String>,
    /// Its price, such as memory.
    pub price: Vec<String>,
    /// It was left in place.
    pub kept: bool,
}
