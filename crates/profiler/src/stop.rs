//! The request to stop: by Ctrl-C, SIGTERM, or a caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::Signal;
use pipeprof_runner::command::Ending;

/// A request to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicI32>);

impl Stop {
    /// Told by this: the number of the signal that asked, or 0.
    pub fn told_by(signal: Arc<AtomicI32>) -> Self {
        Stop(signal)
    }

    /// Whether a stop was requested.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// How what was launched is to be ended.
    pub fn ending(&self) -> Ending {
        // From a terminal it comes to the command as well.
        if self.0.load(Ordering::Relaxed) == Signal::SIGINT as i32 {
            Ending::Interrupted
        } else {
            Ending::Asked
        }
    }
}
