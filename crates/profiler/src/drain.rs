//! The thread that carries records from the rings to the file while the pipeline runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::Error;
use crate::perfdata::record::{RECORD_HEADER, kind};
use crate::perfdata::write::PerfDataWriter;
use crate::ring::Ring;

/// What the thread hands back.
#[derive(Debug)]
pub(crate) struct Drained {
    /// The file, all drained records in it.
    pub writer: PerfDataWriter,
    /// Why it stopped before it was told to: the disk is full, say.
    pub failure: Option<io::Error>,
}

/// A running drain thread.
#[derive(Debug)]
pub(crate) struct Drain {
    stop: Arc<EventFd>,
    thread: JoinHandle<Drained>,
}

impl Drain {
    /// Starts it. `events` are polled for the rings' watermarks.
    ///
    /// # Errors
    /// [`Error::Control`] where the machine has no descriptor or thread left.
    pub(crate) fn start(
        rings: Vec<Ring>,
        events: Arc<[OwnedFd]>,
        writer: PerfDataWriter,
    ) -> Result<Self, Error> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::Control { action: "making the stop signal of", errno })?;
        let stop = Arc::new(stop);
        let thread_stop = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pp-drain".to_owned())
            .spawn(move || run(rings, &events, writer, &thread_stop))
            .map_err(|source| Error::Control {
                action: "starting the drain thread of",
                errno: Errno::from_raw(source.raw_os_error().unwrap_or(libc::EAGAIN)),
            })?;
        Ok(Drain { stop, thread })
    }

    /// Drains what is left and ends the thread. The events should be disabled by now.
    ///
    /// # Errors
    /// [`Error::DrainDied`].
    pub(crate) fn finish(self) -> Result<Drained, Error> {
        // Only a full counter could refuse, and then the thread has been told already.
        let _ = self.stop.write(1);
        self.thread.join().map_err(|_| Error::DrainDied)
    }
}

fn run(
    mut rings: Vec<Ring>,
    events: &[OwnedFd],
    mut writer: PerfDataWriter,
    stop: &EventFd,
) -> Drained {
    let mut watched: Vec<BorrowedFd<'_>> = events.iter().map(AsFd::as_fd).collect();
    loop {
        let stopping = wait(&mut watched, stop);
        if let Err(error) = drain_round(&mut rings, writer.file()) {
            return Drained { writer, failure: Some(error) };
        }
        if stopping {
            return Drained { writer, failure: None };
        }
    }
}

/// Sleeps until a ring passes its watermark; true when told to stop.
fn wait(watched: &mut Vec<BorrowedFd<'_>>, stop: &EventFd) -> bool {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(watched.len() + 1);
    fds.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
    fds.extend(watched.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) => {}
        Err(Errno::EINTR) => return false,
        // No memory for the poll table: stop waiting for watermarks and drain at the end.
        Err(_) => watched.clear(),
    }
    let answered = |fd: &PollFd<'_>, flags| fd.revents().is_some_and(|got| got.intersects(flags));
    let stopping = answered(&fds[0], PollFlags::POLLIN);
    // A task that has exited hangs up its events for good, and would end every wait at once.
    let hung_up: Vec<bool> =
        fds[1..].iter().map(|fd| answered(fd, PollFlags::POLLHUP | PollFlags::POLLERR)).collect();
    drop(fds);
    let mut hung_up = hung_up.into_iter();
    watched.retain(|_| !hung_up.next().unwrap_or(false));
    stopping
}

/// Empties every ring once, and marks the round: whatever comes in a later round is younger than
/// what was in the round before this one, which bounds how much a reader has to sort.
fn drain_round(rings: &mut [Ring], file: &mut File) -> io::Result<()> {
    let mut drained = 0;
    for ring in rings {
        drained += ring.drain(file)?;
    }
    if drained > 0 {
        let mut mark = [0; RECORD_HEADER];
        mark[..4].copy_from_slice(&kind::FINISHED_ROUND.to_ne_bytes());
        mark[6..].copy_from_slice(&(RECORD_HEADER as u16).to_ne_bytes());
        io::Write::write_all(file, &mark)?;
    }
    Ok(())
}
