//! A buffer between two members: reads what one writes, holds it in memory, and passes it on.
//!
//! While the next member keeps up, bytes go from pipe to pipe by `splice` and are never copied.
//! Only bytes that the next member is not ready for are read into memory, so a burst up to the size
//! of the buffer does not stop its writer. The buffer ends once it has passed everything on. A
//! reader that goes away ends the buffer like any other member.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;

/// How many are spliced at a time, at most: what the largest ordinary pipe holds.
const SPLICE: usize = 1 << 20;

/// The outcome of passing the data on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Bytes handed on.
    pub bytes: u64,
    /// The most that was held in memory at once.
    pub most_held: u64,
    /// The reader went before the end.
    pub reader_gone: bool,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    /// Chunks to use again.
    spare: Vec<Vec<u8>>,
    /// Memory that chunks in the queue, and the one being written, take.
    held: usize,
    writing: bool,
    ended: bool,
    passed: u64,
    most_held: usize,
    failed: Option<io::Error>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes all of `input` on to `output`, and holds up to `most` bytes in between.
///
/// # Errors
/// `input` can't be read, or `output` can't be written for another reason than that its reader has
/// gone.
pub fn pass(input: &File, output: &File, most: usize) -> io::Result<Passed> {
    let shared = Shared { state: Mutex::default(), changed: Condvar::new() };
    let most = most.max(CHUNK);
    let result = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_all(&shared, output));
        let read = read_all(&shared, input, output, most);
        shared.lock().ended = true;
        shared.changed.notify_all();
        let written = writer.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        written.and(read)
    });
    let state = shared.lock();
    let passed = |reader_gone| Passed {
        bytes: state.passed,
        most_held: state.most_held as u64,
        reader_gone,
    };
    match result {
        Ok(()) => Ok(passed(false)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(passed(true)),
        Err(error) => Err(error),
    }
}

fn read_all(shared: &Shared, mut input: &File, output: &File, most: usize) -> io::Result<()> {
    let mut may_splice = true;
    loop {
        let mut state = shared.lock();
        while state.held + CHUNK > most && state.failed.is_none() {
            state = shared.wait(state);
        }
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let is_idle = state.chunks.is_empty() && !state.writing;
        let mut chunk = state.spare.pop().unwrap_or_default();
        drop(state);
        // Only this thread adds to the queue, so that an empty one stays empty, and in order.
        if is_idle && may_splice {
            match splice_on(input, output) {
                Ok(Spliced::Bytes(0)) => return Ok(()),
                Ok(Spliced::Bytes(bytes)) => {
                    let mut state = shared.lock();
                    state.passed += bytes as u64;
                    state.spare.push(chunk);
                    continue;
                }
                Ok(Spliced::OutputFull) => {}
                Ok(Spliced::Unable) => may_splice = false,
                Err(error) => return Err(error),
            }
        }
        chunk.resize(CHUNK, 0);
        let length = loop {
            match input.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(input.as_fd(), PollFlags::POLLIN)?;
                }
                result => break result?,
            }
        };
        if length == 0 {
            return Ok(());
        }
        chunk.truncate(length);
        let mut state = shared.lock();
        match state.chunks.back_mut() {
            // Small pieces share a chunk, so that what is held is what it takes.
            Some(last) if last.len() + length <= CHUNK => {
                last.extend_from_slice(&chunk);
                state.spare.push(chunk);
            }
            _ => {
                state.chunks.push_back(chunk);
                state.held += CHUNK;
                state.most_held = state.most_held.max(state.held);
            }
        }
        shared.changed.notify_all();
    }
}

enum Spliced {
    Bytes(usize),
    OutputFull,
    /// One of the two is no pipe, or may not be spliced.
    Unable,
}

fn splice_on(input: &File, output: &File) -> io::Result<Spliced> {
    loop {
        wait_for(input.as_fd(), PollFlags::POLLIN)?;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        match splice(input, None, output, None, SPLICE, flags) {
            Ok(bytes) => return Ok(Spliced::Bytes(bytes)),
            Err(Errno::EAGAIN) => {
                if !is_ready(output.as_fd(), PollFlags::POLLOUT)? {
                    return Ok(Spliced::OutputFull);
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EINVAL | Errno::ESPIPE | Errno::EBADF) => return Ok(Spliced::Unable),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn write_all(shared: &Shared, mut output: &File) -> io::Result<()> {
    loop {
        let mut state = shared.lock();
        state.writing = false;
        shared.changed.notify_all();
        while state.chunks.is_empty() && !state.ended {
            state = shared.wait(state);
        }
        let Some(chunk) = state.chunks.pop_front() else { return Ok(()) };
        state.writing = true;
        drop(state);
        let mut left = &chunk[..];
        let result = loop {
            if left.is_empty() {
                break Ok(());
            }
            match output.write(left) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => left = &left[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(output.as_fd(), PollFlags::POLLOUT)?;
                }
                Err(error) => break Err(error),
            }
        };
        let mut state = shared.lock();
        state.held -= CHUNK;
        state.passed += (chunk.len() - left.len()) as u64;
        state.spare.push(chunk);
        if let Err(error) = result {
            // The reading side may be waiting for room, and is told by its own copy.
            state.failed = Some(
                error
                    .raw_os_error()
                    .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
            );
            shared.changed.notify_all();
            return Err(error);
        }
    }
}

fn wait_for(fd: BorrowedFd, what: PollFlags) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(fd, what)], PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

fn is_ready(fd: BorrowedFd, what: PollFlags) -> io::Result<bool> {
    match poll(&mut [PollFd::new(fd, what)], PollTimeout::ZERO) {
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
        Ok(ready) => Ok(ready > 0),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, pipe};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use super::*;

    fn ends() -> (File, PipeWriter, PipeReader, File) {
        let (input, feed) = pipe().unwrap();
        let (drain, output) = pipe().unwrap();
        (File::from(OwnedFd::from(input)), feed, drain, File::from(OwnedFd::from(output)))
    }

    fn data(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn every_byte_arrives_in_order_and_the_end_passes_on() {
        let sent = data(5 << 20);
        for (slow_reader, most) in [(false, 1 << 20), (true, 256 << 10), (true, 64 << 20)] {
            let (input, mut feed, mut drain, output) = ends();
            let received = std::thread::scope(|scope| {
                scope.spawn(|| {
                    // Pieces of all sizes.
                    for piece in sent.chunks(7919) {
                        feed.write_all(piece).unwrap();
                    }
                    drop(feed);
                });
                scope.spawn(move || pass(&input, &output, most).unwrap());
                let mut received = Vec::new();
                let mut piece = [0; 100_000];
                loop {
                    match drain.read(&mut piece).unwrap() {
                        0 => return received,
                        n => received.extend_from_slice(&piece[..n]),
                    }
                    if slow_reader {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        }
    }

    #[test]
    fn a_burst_up_to_the_buffers_size_does_not_stop_its_writer() {
        let (input, mut feed, mut drain, output) = ends();
        let sent = data(3 << 20);
        std::thread::scope(|scope| {
            let passed = scope.spawn(move || pass(&input, &output, 8 << 20).unwrap());
            // Nobody reads meanwhile: without the buffer this would wait for ever.
            feed.write_all(&sent).unwrap();
            drop(feed);
            let mut received = Vec::new();
            drain.read_to_end(&mut received).unwrap();
            assert!(received == sent);
            let passed = passed.join().unwrap();
            assert_eq!((passed.bytes, passed.reader_gone), (3 << 20, false));
            assert!(passed.most_held > 2 << 20 && passed.most_held <= 8 << 20, "{passed:?}");
        });
    }

    #[test]
    fn a_reader_that_goes_ends_it() {
        let (input, mut feed, drain, output) = ends();
        drop(drain);
        std::thread::scope(|scope| {
            let passed = scope.spawn(move || pass(&input, &output, 1 << 20).unwrap());
            // The buffer's end of this pipe goes with it.
            while feed.write_all(&[0; 4096]).is_ok() {}
            assert!(passed.join().unwrap().reader_gone);
        });
    }
}
