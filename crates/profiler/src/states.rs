//! What every thread of a pipeline does at each moment: runs, or waits, and for what. It comes from
//! looks at `/proc` alone, a few hundred a second, which need no special rights.
//!
//! ```text
//! /proc/TID/syscall --call--> Call --descriptors--> Wait --all threads--> ProcessState --> Timeline
//! ```
//!
//! A look costs about 2 µs a thread; how often it is taken follows from what it costs ([`Pace`]).
//! A [`Timeline`] is bounded whatever the length of the watch.

mod call;
mod connections;
mod descriptors;
mod hierarchy;
mod limits;
mod look;
mod pace;
mod pressure;
mod quota;
mod timeline;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

pub use connections::{Connection, Progress, Traffic};
pub use look::Looker;
pub use pace::Pace;
pub use timeline::{
    Account, Bin, GroupLimits, IoLimit, PipeRef, Pressure, ProcessRef, ProcessSeen, ProcessState,
    Stalls, StateRef, Timeline, Why,
};

use pipeprof_runner::pipeline::Pipeline;

use crate::accounts::now_ns;
use crate::error::Error;

/// Looks at processes from a thread of its own until it is finished.
#[derive(Debug)]
pub struct States {
    updates: Sender<Update>,
    thread: JoinHandle<Timeline>,
}

/// News for the thread that looks.
enum Update {
    /// These processes are looked at too.
    Follow(Vec<i32>),
    /// The links of this pipeline are known.
    Connect(Pipeline),
}

impl States {
    /// Starts to look at the members of a pipeline and at what they start. With `keep`, only about the last
    /// so much of the time is remembered.
    ///
    /// # Errors
    /// [`Error::Control`] where no thread can be started.
    pub fn start(pipeline: &Pipeline, keep: Option<Duration>) -> Result<Self, Error> {
        let (updates, receiver) = mpsc::channel::<Update>();
        let pipeline = pipeline.clone();
        let run = move || {
            let mut looker = Looker::new(now_ns(), keep);
            let pids: Vec<i32> = pipeline.members.iter().map(|member| member.pid).collect();
            looker.follow(&pids);
            looker.connect(&pipeline);
            let mut pace = Pace::default();
            loop {
                looker.look(now_ns());
                match receiver.recv_timeout(pace.pause(looker.threads())) {
                    Ok(Update::Follow(pids)) => looker.follow(&pids),
                    Ok(Update::Connect(pipeline)) => looker.connect(&pipeline),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return looker.finish(now_ns()),
                }
            }
        };
        let thread = std::thread::Builder::new().name("pp-states".to_owned()).spawn(run).map_err(
            |error| Error::Control {
                action: "starting the thread that looks at states",
                errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)),
            },
        )?;
        Ok(States { updates, thread })
    }

    /// These processes are looked at too. Those that were before stay.
    pub fn follow(&self, pids: Vec<i32>) {
        // Fails only where the thread has died, which `finish` reports.
        let _ = self.updates.send(Update::Follow(pids));
    }

    /// Waits at sockets that are links of this pipeline count as waits at those links.
    pub fn connect(&self, pipeline: &Pipeline) {
        if pipeline.pipes.iter().any(|pipe| pipe.link.is_socket()) {
            // As above.
            let _ = self.updates.send(Update::Connect(pipeline.clone()));
        }
    }

    /// Stops looking.
    ///
    /// # Errors
    /// [`Error::DrainDied`] where the thread died.
    pub fn finish(self) -> Result<Timeline, Error> {
        drop(self.updates);
        self.thread.join().map_err(|_| Error::DrainDied)
    }
}
