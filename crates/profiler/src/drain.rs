//! The thread that carries records from the rings to the file while the pipeline runs.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::Error;
use crate::members_only::MembersOnly;
use crate::perfdata::read::Records;
use crate::perfdata::record::{RECORD_HEADER, kind};
use crate::ring::Ring;
use crate::segments::Segments;

/// What the thread hands back.
pub(crate) struct Drained {
    /// The files, all drained records in them.
    pub segments: Segments,
    /// Samples of other processes, which were left out.
    pub foreign_samples: u64,
    /// Why it stopped before it was told to.
    pub failure: Option<Failure>,
}

/// Records could no longer be written: the disk is full, say.
pub(crate) struct Failure {
    pub error: io::Error,
    /// Records that were in the rings then, and that came until the end as far as there was room.
    /// The events count those for which there was none.
    pub lost: u64,
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
        members: MembersOnly,
        segments: Segments,
        longest_wait: Option<Duration>,
    ) -> Result<Self, Error> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::Control { action: "making the stop signal of", errno })?;
        let stop = Arc::new(stop);
        let thread_stop = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pp-drain".to_owned())
            .spawn(move || run(rings, &events, members, segments, &thread_stop, longest_wait))
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
    mut members: MembersOnly,
    mut segments: Segments,
    stop: &EventFd,
    longest_wait: Option<Duration>,
) -> Drained {
    let longest_wait =
        longest_wait.and_then(|longest_wait| PollTimeout::try_from(longest_wait).ok());
    let mut lost = 0;
    let mut watched: Vec<BorrowedFd<'_>> = events.iter().map(AsFd::as_fd).collect();
    loop {
        let stopping = wait(&mut watched, stop, longest_wait.unwrap_or(PollTimeout::NONE));
        let drained = drain_round(&mut rings, &mut members, segments.file(), &mut lost);
        let kept = drained.and_then(|()| if stopping { Ok(()) } else { segments.keep_to_limits() });
        if let Err(error) = kept {
            segments.give_up();
            // Without rings the events would lose records without a count of them.
            while !stopping && !wait(&mut Vec::new(), stop, PollTimeout::NONE) {}
            let lost = lost + members.waiting(&rings);
            let foreign_samples = members.left_out();
            return Drained { segments, foreign_samples, failure: Some(Failure { error, lost }) };
        }
        if stopping {
            let foreign_samples = members.left_out();
            return Drained { segments, foreign_samples, failure: None };
        }
    }
}

/// Sleeps until a ring passes its watermark, or for so long; true when told to stop.
fn wait(watched: &mut Vec<BorrowedFd<'_>>, stop: &EventFd, longest_wait: PollTimeout) -> bool {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(watched.len() + 1);
    fds.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
    fds.extend(watched.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut fds, longest_wait) {
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
fn drain_round(
    rings: &mut [Ring],
    members: &mut MembersOnly,
    file: &mut File,
    lost: &mut u64,
) -> io::Result<()> {
    if members.drain(rings, |records| append(file, records, lost))? > 0 {
        let mut mark = [0; RECORD_HEADER];
        mark[..4].copy_from_slice(&kind::FINISHED_ROUND.to_ne_bytes());
        mark[6..].copy_from_slice(&(RECORD_HEADER as u16).to_ne_bytes());
        let start = file.stream_position()?;
        io::Write::write_all(file, &mark).inspect_err(|_| end_at(file, start))?;
    }
    Ok(())
}

/// Appends records; where the disk has no room for all, as many as it has room for, and counts the
/// others.
fn append(file: &mut File, records: &[u8], lost: &mut u64) -> io::Result<()> {
    let start = file.stream_position()?;
    let result = io::Write::write_all(file, records);
    if result.is_err() {
        let written = file.stream_position()?.saturating_sub(start);
        let (whole, rest) = whole(records, usize::try_from(written).unwrap_or(usize::MAX));
        end_at(file, start + whole as u64);
        *lost += rest;
    }
    result
}

/// The bytes of the records that lie within the first `bytes`, and how many records do not.
fn whole(records: &[u8], bytes: usize) -> (usize, u64) {
    let (mut whole, mut rest) = (0, 0);
    for (at, record) in Records::new(records) {
        let end = at + RECORD_HEADER + record.body.len();
        if end <= bytes {
            whole = end;
        } else {
            rest += 1;
        }
    }
    (whole, rest)
}

/// Has a file end with a whole record.
fn end_at(file: &mut File, end: u64) {
    // Where that fails too, the reader copes with a record that is cut.
    let _ = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_of_a_failed_write_is_kept_up_to_its_last_whole_record() {
        let record = [&9u32.to_ne_bytes()[..], &[0, 0, 24, 0], &[7; 16]].concat();
        let records = record.repeat(3);
        assert_eq!(whole(&records, 2 * 24 + 5), (2 * 24, 1));
        assert_eq!(whole(&records, 23), (0, 3));
        assert_eq!(whole(&records, 3 * 24), (3 * 24, 0));
    }
}
