//! How a capture went: the facts for its title and throughput.

use serde::{Deserialize, Serialize};

use crate::meter::PipeFlow;

/// What the records do not tell about the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The stage or the command line. Untrusted text.
    pub title: String,
    /// The name of the machine. Untrusted text; empty where unknown.
    #[serde(default)]
    pub host: String,
    /// The kernel's release: `6.18.44`. Empty where unknown.
    pub kernel: String,
    /// When the watch began, in nanoseconds since 1970, where it was noted.
    #[serde(default)]
    pub started_unix_ns: Option<u64>,
    /// How long it was watched, in nanoseconds.
    pub elapsed_ns: u64,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
    /// What went through the pipes, in the order of the pipeline's.
    pub flows: Vec<PipeFlow>,
    /// CPU time of each member by its own account, where it gave one.
    pub cpu_time_ns: Vec<Option<u64>>,
    /// CPUs that the members could run on; 0 where unknown.
    pub cpus: usize,
}
