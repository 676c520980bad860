//! The writer's loops: nothing but system calls, a sum, and a store that publishes it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use super::fixed::Fixed;
use super::{Tally, pattern};
use crate::plan::PairPlan;
use crate::sys;

/// What the loops need to know.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    /// The write end of the pipe.
    pub(super) pipe: BorrowedFd<'a>,
    /// Where the sum is published.
    pub(super) published: &'a AtomicU64,
    /// Bytes to write.
    pub(super) bytes: u64,
    fill: bool,
    poll: bool,
    busy_loop: bool,
    splice_flags: u32,
}

impl<'a> Writing<'a> {
    pub(super) fn new(plan: &PairPlan, pipe: BorrowedFd<'a>, published: &'a AtomicU64) -> Self {
        let nonblock = if plan.busy_loop { libc::SPLICE_F_NONBLOCK } else { 0 };
        let gift = if plan.gift { libc::SPLICE_F_GIFT } else { 0 };
        Writing {
            pipe,
            published,
            bytes: plan.bytes.unwrap_or(u64::MAX),
            fill: plan.fill,
            poll: plan.poll,
            busy_loop: plan.busy_loop,
            splice_flags: nonblock | gift,
        }
    }

    /// Sends all of `data`. Whether to go on.
    #[inline(always)]
    fn send(
        &self,
        mut data: &[u8],
        tally: &mut Tally,
        call: impl Fn(&[u8]) -> Result<usize, Errno>,
    ) -> Result<bool, Errno> {
        self.send_by(data.len(), tally, |_| {
            let sent = call(data)?;
            data = data.get(sent..).unwrap_or_default();
            Ok(sent)
        })
    }

    /// Sends so many bytes by calls that move at most as many as they are told. Whether to go on.
    #[inline(always)]
    fn send_by(
        &self,
        mut length: usize,
        tally: &mut Tally,
        mut call: impl FnMut(usize) -> Result<usize, Errno>,
    ) -> Result<bool, Errno> {
        while length > 0 {
            if self.poll {
                super::wait_for(self.pipe, libc::POLLOUT, self.busy_loop)?;
            }
            tally.calls += 1;
            match call(length) {
                Ok(sent) => {
                    length = length.saturating_sub(sent);
                    tally.bytes += sent as u64;
                    self.published.store(tally.bytes, Ordering::Relaxed);
                }
                Err(Errno::EAGAIN) => tally.retries += 1,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE) => {
                    tally.other_end_gone = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            if sys::stopped() {
                return Ok(false);
            }
        }
        Ok(tally.bytes < self.bytes)
    }

    /// The next turn of a buffer: all of it, or what is left to send.
    #[inline(always)]
    fn turn<'b>(&self, buffer: &'b mut [u8], sent: u64) -> &'b [u8] {
        let length = (buffer.len() as u64).min(self.bytes - sent) as usize;
        let turn = &mut buffer[..length];
        if self.fill {
            pattern::fill(turn, sent);
        }
        turn
    }
}

/// Copies one buffer into the pipe, over and over.
#[inline(never)]
pub(super) fn write_loop(
    writing: &Writing,
    buffer: &mut [u8],
    tally: &mut Tally,
) -> Result<(), Errno> {
    loop {
        let turn = writing.turn(buffer, tally.bytes);
        if !writing.send(turn, tally, |data| sys::write(writing.pipe, data))? {
            return Ok(());
        }
    }
}

/// Lends two buffers to the pipe, in turn: while one is being read, the other is filled.
#[inline(never)]
pub(super) fn vmsplice_loop(
    writing: &Writing,
    buffers: [&mut [u8]; 2],
    tally: &mut Tally,
) -> Result<(), Errno> {
    let [mut next, mut other] = buffers;
    loop {
        let turn = writing.turn(next, tally.bytes);
        let flags = writing.splice_flags;
        if !writing.send(turn, tally, |data| sys::vmsplice(writing.pipe, data, flags))? {
            return Ok(());
        }
        std::mem::swap(&mut next, &mut other);
    }
}

/// Sends the slots of a private pipe, which stay where they are, over and over.
#[inline(never)]
pub(super) fn tee_loop(
    writing: &Writing,
    fixed: &mut Fixed,
    tally: &mut Tally,
) -> Result<(), Errno> {
    let flags = writing.splice_flags & libc::SPLICE_F_NONBLOCK;
    loop {
        let most = (fixed.bytes() as u64).min(writing.bytes - tally.bytes) as usize;
        if !writing.send_by(most, tally, |most| fixed.tee(writing.pipe, most, flags))? {
            return Ok(());
        }
    }
}
