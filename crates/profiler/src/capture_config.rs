//! What a capture is asked for.

use crate::attr::CallGraph;
use crate::event::Event;
use crate::segments::Limits;
use crate::stop::Stop;

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The event to sample; `None` for the best that can be had.
    pub event: Option<Event>,
    /// Samples a second and CPU.
    pub frequency_hz: u64,
    /// How callers are found.
    pub call_graph: CallGraph,
    /// Record context switches, which tell blocked time, with a call chain for as many
    /// switches-out a second and thread as samples.
    pub switches: bool,
    /// With `switches`, record who wakes the members too, where tracepoints can be read.
    pub wakeups: bool,
    /// The members run on these CPUs and nowhere else, so that per-CPU events are needed on no
    /// other. `None` where they may run anywhere.
    pub cpus: Option<Vec<u32>>,
    /// How much of the recording is kept.
    pub limits: Limits,
    /// Attaching is given up where somebody asks to stop.
    pub stop: Stop,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            event: None,
            frequency_hz: 997,
            call_graph: CallGraph::FramePointers,
            switches: false,
            wakeups: true,
            cpus: None,
            limits: Limits::default(),
            stop: Stop::default(),
        }
    }
}
