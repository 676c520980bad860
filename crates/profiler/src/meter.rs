//! How much goes through each pipe, and how full it is, while the pipeline runs: read from outside,
//! a few microseconds a look.

mod estimate;
mod flow;
mod gauge;
mod io;
mod segments;
mod series;
mod splices;
mod watch;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use pipeprof_runner::discover::Found;
use pipeprof_runner::pipeline::PipeKey;
use watch::Watch;

pub use estimate::{Bytes, EndCount, Source, estimate, estimate_socket};
pub use flow::PipeFlow;
pub use gauge::{Fill, Gauge};
pub use io::{Elsewhere, IoCounts, IoWatch, LinkSockets, can_splice};
pub use series::{Point, Series};

use crate::error::Error;

/// Time between two looks at the counts, some 3 microseconds a process. What a process moved
/// between the last of them and its end is not seen, so this bounds the error: 10 ms of a run of
/// one second are 1 %.
const PERIOD: Duration = Duration::from_millis(10);

/// A running watch over the pipes of a pipeline.
#[derive(Debug)]
pub struct Meter {
    requests: Sender<Request>,
    thread: JoinHandle<Watch>,
}

enum Request {
    /// The pipeline has changed.
    Follow(Found),
    /// What went through each pipe so far.
    Totals(Sender<Vec<Total>>),
}

/// What went through one pipe so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    /// Device of the pipe's inode.
    pub device: u64,
    /// Inode of the pipe.
    pub inode: u64,
    /// Bytes since the watch began.
    pub bytes: Bytes,
}

impl Meter {
    /// Starts to watch. `from_birth` says that the members count from zero, because they began
    /// under our eyes.
    ///
    /// # Errors
    /// [`Error::Control`] where no thread can be started.
    pub fn start(found: Found, from_birth: bool) -> Result<Self, Error> {
        Self::start_keeping(found, from_birth, None)
    }

    /// Likewise, with the counts of the last while in full, for [`PipeFlow::since`].
    ///
    /// # Errors
    /// [`Error::Control`] where no thread can be started.
    pub fn start_keeping(
        found: Found,
        from_birth: bool,
        keep: Option<Duration>,
    ) -> Result<Self, Error> {
        let (requests, receiver) = mpsc::channel();
        let mut watch = Watch::new(from_birth, keep);
        watch.follow(found);
        let thread = std::thread::Builder::new()
            .name("pp-meter".to_owned())
            .spawn(move || {
                loop {
                    watch.look();
                    match receiver.recv_timeout(PERIOD) {
                        Ok(Request::Follow(found)) => watch.follow(found),
                        Ok(Request::Totals(answer)) => {
                            watch.look();
                            // The caller may have ended.
                            let _ = answer.send(watch.totals());
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return watch,
                    }
                }
            })
            .map_err(|error| Error::Control {
                action: "starting the thread that meters",
                errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)),
            })?;
        Ok(Meter { requests, thread })
    }

    /// The pipeline has changed.
    pub fn follow(&self, found: Found) {
        // Fails only where the thread has died, which `finish` reports.
        let _ = self.requests.send(Request::Follow(found));
    }

    /// A handle to read the same from another thread: the bytes of each pipe, where known. Drop it
    /// before [`Meter::finish`].
    pub(crate) fn asker(&self) -> impl FnMut() -> Vec<(PipeKey, u64)> + Send + use<> {
        let requests = self.requests.clone();
        move || {
            let (answer, answered) = mpsc::channel();
            let totals = requests.send(Request::Totals(answer)).ok().and(answered.recv().ok());
            let known = |total: Total| {
                let key = PipeKey { device: total.device, inode: total.inode };
                Some((key, total.bytes.known()?))
            };
            totals.unwrap_or_default().into_iter().filter_map(known).collect()
        }
    }

    /// Looks now, and tells what went through each pipe so far, in the order in which they were
    /// found.
    ///
    /// # Errors
    /// [`Error::DrainDied`] where the thread died.
    pub fn totals(&self) -> Result<Vec<Total>, Error> {
        let (answer, answered) = mpsc::channel();
        self.requests.send(Request::Totals(answer)).map_err(|_| Error::DrainDied)?;
        answered.recv().map_err(|_| Error::DrainDied)
    }

    /// Looks once more and adds up, a flow a pipe, in the order in which they were found.
    ///
    /// # Errors
    /// [`Error::DrainDied`] where the thread died.
    pub fn finish(self) -> Result<Vec<PipeFlow>, Error> {
        drop(self.requests);
        let mut watch = self.thread.join().map_err(|_| Error::DrainDied)?;
        watch.look();
        Ok(watch.flows())
    }
}
