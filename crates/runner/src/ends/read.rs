//! The reader's loops: nothing but system calls, a sum, and a store that publishes it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use super::{Tally, pattern};
use crate::error::Error;
use crate::plan::PairPlan;
use crate::sys;

/// What the loops need to know.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// The read end of the pipe.
    pub(super) pipe: BorrowedFd<'a>,
    /// Where the sum is published.
    pub(super) published: &'a AtomicU64,
    bytes: u64,
    read_size: u64,
    verify: bool,
    /// After how many bytes the stream repeats itself.
    period: Option<u64>,
    poll: bool,
    busy_loop: bool,
    splice_flags: u32,
}

impl<'a> Reading<'a> {
    pub(super) fn new(plan: &PairPlan, pipe: BorrowedFd<'a>, published: &'a AtomicU64) -> Self {
        let nonblock = if plan.busy_loop { libc::SPLICE_F_NONBLOCK } else { 0 };
        let moved = if plan.move_pages { libc::SPLICE_F_MOVE } else { 0 };
        Reading {
            pipe,
            published,
            bytes: plan.bytes.unwrap_or(u64::MAX),
            read_size: plan.read_size,
            verify: plan.verify,
            period: plan.period(),
            poll: plan.poll,
            busy_loop: plan.busy_loop,
            splice_flags: nonblock | moved,
        }
    }

    /// Receives until there is no more, or enough. `call` moves at most as much as it is told.
    #[inline(always)]
    fn receive(
        &self,
        tally: &mut Tally,
        mut call: impl FnMut(usize, u64) -> Result<Result<usize, Errno>, Error>,
    ) -> Result<(), Error> {
        while tally.bytes < self.bytes && !sys::stopped() {
            if self.poll {
                super::wait_for(self.pipe, libc::POLLIN, self.busy_loop)
                    .map_err(Error::system("poll failed"))?;
            }
            let most = self.read_size.min(self.bytes - tally.bytes) as usize;
            tally.calls += 1;
            match call(most, tally.bytes)? {
                Ok(0) => {
                    tally.other_end_gone = true;
                    break;
                }
                Ok(moved) => {
                    tally.bytes += moved as u64;
                    self.published.store(tally.bytes, Ordering::Relaxed);
                }
                Err(Errno::EAGAIN) => tally.retries += 1,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(Error::system("can't read from the pipe")(error)),
            }
        }
        Ok(())
    }
}

/// Copies out of the pipe into one buffer, over and over.
#[inline(never)]
pub(super) fn read_loop(
    reading: &Reading,
    buffer: &mut [u8],
    tally: &mut Tally,
) -> Result<(), Error> {
    reading.receive(tally, |most, offset| {
        let result = sys::read(reading.pipe, &mut buffer[..most]);
        if let (true, Ok(count)) = (reading.verify, result) {
            match reading.period {
                None => pattern::check(&buffer[..count], offset)?,
                Some(period) => pattern::check_repeated(&buffer[..count], offset, period)?,
            }
        }
        Ok(result)
    })
}

/// Passes the pages in the pipe on to `sink`, unseen.
#[inline(never)]
pub(super) fn splice_loop(
    reading: &Reading,
    sink: BorrowedFd,
    tally: &mut Tally,
) -> Result<(), Error> {
    let flags = reading.splice_flags;
    reading.receive(tally, |most, _| Ok(sys::splice(reading.pipe, sink, most, flags)))
}
