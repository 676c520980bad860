//! The options of a capture.

use std::time::Duration;

use crate::attr::CallGraph;
use crate::effect::Frequency;
use crate::event::Event;
use crate::frequency::granted;
use crate::segments::Limits;
use crate::stop::Stop;

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The event to sample; `None` for the best available.
    pub event: Option<Event>,
    /// Samples a second and CPU.
    pub frequency_hz: u64,
    /// Begin with fewer, and come to `frequency_hz` only as far as that does not slow the pipeline.
    pub rises: bool,
    /// How callers are found.
    pub call_graph: CallGraph,
    /// Record context switches, which tell blocked time, with a call chain for as many
    /// switches-out a second and thread as samples.
    pub switches: bool,
    /// With `switches`, record who wakes the members too, where tracepoints can be read.
    pub wakeups: bool,
    /// Without a given duration, the watch goes on until there are enough samples.
    pub enough: Option<Enough>,
    /// The members run on these CPUs and nowhere else, so that per-CPU events are needed on no
    /// other. `None` where they may run anywhere.
    pub cpus: Option<Vec<u32>>,
    /// How much of the recording is kept.
    pub limits: Limits,
    /// Attaching is abandoned when a stop is requested.
    pub stop: Stop,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            event: None,
            frequency_hz: 997,
            rises: false,
            enough: None,
            call_graph: CallGraph::FramePointers,
            switches: false,
            wakeups: true,
            cpus: None,
            limits: Limits::default(),
            stop: Stop::default(),
        }
    }
}

/// When there is enough of a watch that has no end of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enough {
    /// The built-in pair moves so many bytes at least.
    pub least_bytes: u64,
    /// It ends after so long, however few samples there are.
    pub most: Duration,
}

impl CaptureConfig {
    /// How fast to sample, as far as the kernel grants it.
    pub(crate) fn frequency(&self) -> Frequency {
        let hz = granted(self.frequency_hz);
        match self.rises {
            true => Frequency::UpTo(hz),
            false => Frequency::Fixed(hz),
        }
    }
}
