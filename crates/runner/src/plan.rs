//! What a pair will do: a stage with the knobs that override it.

mod checks;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::cpus::Pin;
use crate::error::Error;
use crate::machine::{self, page_size};
use crate::size;
use crate::stage::{ReadWith, Stage, WriteWith};

/// Bytes that a pair moves unless told otherwise, as in the article: 10 GiB.
pub const DEFAULT_BYTES: u64 = 10 << 30;
/// The article's buffer size: 256 KiB.
pub const DEFAULT_BUF_SIZE: u64 = 256 << 10;
/// Bytes of the largest fragment that a socket buffer is made of: 32 KiB, or a page where that is
/// more (`SKB_FRAG_PAGE_ORDER`, include/net/sock.h; `UNIX_SKB_FRAGS_SZ`, net/unix/af_unix.c, v6.18).
pub const FRAGMENT: u64 = 32 << 10;
/// The largest pipe that an ordinary user may have, unless the administrator says otherwise.
const LARGE_PIPE: u64 = 1 << 20;
/// What one call may be asked to move: it would move no more than 2 GiB less a page
/// (`MAX_RW_COUNT`).
const MOST: u64 = 1 << 30;

/// What a user set; whatever is `None` or `false` is left to the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knobs {
    /// Bytes per buffer.
    pub buf_size: Option<u64>,
    /// Bytes to move.
    pub bytes: Option<u64>,
    /// Capacity of the pipe in bytes.
    pub pipe_size: Option<u64>,
    /// How the writer writes.
    pub write_with: Option<WriteWith>,
    /// How the reader reads.
    pub read_with: Option<ReadWith>,
    /// Try again instead of sleeping.
    pub busy_loop: Option<bool>,
    /// Buffers in huge pages.
    pub huge_page: Option<bool>,
    /// Verify that they are.
    pub check_huge_page: bool,
    /// Call `poll` before each transfer.
    pub poll: bool,
    /// Give the pages away (`SPLICE_F_GIFT`).
    pub gift: bool,
    /// Ask to move the pages (`SPLICE_F_MOVE`).
    pub move_pages: bool,
    /// Lock the buffers into memory.
    pub lock_memory: bool,
    /// Don't fault the buffers in beforehand.
    pub dont_touch_pages: bool,
    /// Two halves of one buffer instead of two buffers.
    pub same_buffer: bool,
    /// Rewrite the buffer before each send.
    pub fill: bool,
    /// Check each byte read.
    pub verify: bool,
    /// Which CPUs.
    pub pin: Pin,
}

/// A stage with its knobs resolved and found to make sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairPlan {
    /// The stage it started from.
    pub stage: Stage,
    /// How the writer writes.
    pub write_with: WriteWith,
    /// How the reader reads.
    pub read_with: ReadWith,
    /// Bytes per buffer; of what is sent over and over, where [`WriteWith::is_fixed`].
    pub buf_size: u64,
    /// Bytes that the reader asks for at a time.
    pub read_size: u64,
    /// Bytes to move; `None` for as many as there are (an end alone only).
    pub bytes: Option<u64>,
    /// Capacity to give the pipe, in bytes; `None` leaves the kernel's default.
    pub pipe_size: Option<u64>,
    /// Try again instead of sleeping (`SPLICE_F_NONBLOCK`, `O_NONBLOCK`).
    pub busy_loop: bool,
    /// Call `poll` before each transfer.
    pub poll: bool,
    /// Buffers in huge pages.
    pub huge_page: bool,
    /// Fail unless they really are.
    pub check_huge_page: bool,
    /// `SPLICE_F_GIFT` for `vmsplice`.
    pub gift: bool,
    /// `SPLICE_F_MOVE` for `splice`.
    pub move_pages: bool,
    /// `mlock` the buffers.
    pub lock_memory: bool,
    /// Leave the first touch of each page to the transfers.
    pub dont_touch_pages: bool,
    /// The two halves of one buffer take turns, not two buffers.
    pub same_buffer: bool,
    /// Rewrite every byte before each send.
    pub fill: bool,
    /// Check every byte read.
    pub verify: bool,
    /// Which CPUs.
    pub pin: Pin,
}

impl PairPlan {
    /// Both ends.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the flag to change, where the knobs make no sense together.
    pub fn new(stage: Stage, knobs: &Knobs) -> Result<PairPlan, Error> {
        let bytes = knobs.bytes.unwrap_or(default_bytes(stage));
        let mut plan = resolve(stage, knobs, Some(bytes));
        if plan.pin == Pin::Auto && stage.same_cpu() {
            plan.pin = Pin::Same;
        }
        plan.check_buffers()?;
        plan.check_writer()?;
        plan.check_reader()?;
        plan.check_together()?;
        Ok(plan)
    }

    /// A writer alone. What only a reader heeds is not looked at.
    ///
    /// # Errors
    /// As for [`PairPlan::new`].
    pub fn writer(stage: Stage, knobs: &Knobs) -> Result<PairPlan, Error> {
        let plan = resolve(stage, knobs, knobs.bytes);
        plan.check_buffers()?;
        plan.check_writer()?;
        Ok(plan)
    }

    /// A reader alone. What only a writer heeds is not looked at.
    ///
    /// # Errors
    /// As for [`PairPlan::new`].
    pub fn reader(stage: Stage, knobs: &Knobs) -> Result<PairPlan, Error> {
        let mut plan = resolve(stage, knobs, knobs.bytes);
        plan.pipe_size = knobs.pipe_size;
        plan.check_buffers()?;
        plan.check_reader()?;
        Ok(plan)
    }

    /// Bytes of each of the two buffers that take turns under `vmsplice`.
    fn turn_bytes(&self) -> u64 {
        if self.same_buffer { self.buf_size / 2 } else { self.buf_size }
    }

    /// Whether the pipe can still refer to a buffer when it is that buffer's turn again.
    ///
    /// When a `vmsplice` of one buffer has returned, all of its pages went into the pipe after
    /// all pages of the other. A pipe with no more slots than one buffer has pages then holds
    /// none of the other, and `read` copies a page out before it frees the slot (`anon_pipe_read`,
    /// fs/pipe.c, v6.18; the same since 5.10). A reader that splices pages on keeps references
    /// that no pipe size bounds.
    pub fn may_reuse_too_early(&self) -> bool {
        self.write_with == WriteWith::Vmsplice
            && self.pipe_size.is_some_and(|pipe| pipe > self.turn_bytes())
    }

    /// What the user should know before the figures: legal, but seldom meant.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (true, Some(pipe)) = (self.may_reuse_too_early(), self.pipe_size) {
            notes.push(format!(
                "a pipe of {} holds more than one buffer ({}): buffers are reused before they \
                 are read; leave out --pipe-size for a safe one",
                size::exact(pipe),
                size::exact(self.turn_bytes()),
            ));
        }
        let one_cpu = match self.pin {
            Pin::Cpus(writer, reader) => writer == reader,
            Pin::Same => true,
            Pin::Auto | Pin::None => false,
        };
        if self.busy_loop && one_cpu {
            notes.push(
                "both ends busy-loop on one CPU: each spins while the other waits for its turn; \
                 use two CPUs (--pin 0,1), or let them sleep (--busy-loop=false)"
                    .to_owned(),
            );
        }
        notes
    }

    /// Bytes that a slot of the pipe holds when it is full.
    pub fn slot_bytes(&self) -> u64 {
        match self.write_with {
            WriteWith::TeeLarge => FRAGMENT.max(page_size()),
            WriteWith::Write | WriteWith::Vmsplice | WriteWith::Tee => page_size(),
        }
    }

    /// After how many bytes what is sent repeats itself, if it does.
    pub fn period(&self) -> Option<u64> {
        self.write_with.is_fixed().then_some(self.buf_size)
    }
}

fn resolve(stage: Stage, knobs: &Knobs, bytes: Option<u64>) -> PairPlan {
    let write_with = knobs.write_with.unwrap_or(stage.write_with());
    let read_with = knobs.read_with.unwrap_or(stage.read_with());
    let buf_size = knobs.buf_size.unwrap_or(default_buf_size(stage));
    let read_size = match (write_with.is_fixed(), read_with) {
        // All that the pipe holds, however large its slots are. Nothing is read into memory.
        (true, ReadWith::Splice) => MOST,
        _ if stage == Stage::Tiny => buf_size.max(DEFAULT_BUF_SIZE),
        _ => buf_size,
    };
    PairPlan {
        stage,
        write_with,
        read_with,
        buf_size,
        read_size,
        bytes,
        pipe_size: knobs.pipe_size.or_else(|| default_pipe(write_with, buf_size)),
        busy_loop: knobs.busy_loop.unwrap_or(stage.busy_loop()),
        poll: knobs.poll,
        huge_page: knobs.huge_page.unwrap_or(stage.huge_page()),
        check_huge_page: knobs.check_huge_page,
        gift: knobs.gift || (stage.gift() && write_with == WriteWith::Vmsplice),
        move_pages: knobs.move_pages || (stage.gift() && read_with == ReadWith::Splice),
        lock_memory: knobs.lock_memory,
        dont_touch_pages: knobs.dont_touch_pages,
        same_buffer: knobs.same_buffer,
        fill: knobs.fill,
        verify: knobs.verify,
        pin: knobs.pin,
    }
}

fn default_buf_size(stage: Stage) -> u64 {
    match stage {
        // A short line of text.
        Stage::Tiny => 64,
        _ => DEFAULT_BUF_SIZE,
    }
}

/// So many that a run takes some seconds.
fn default_bytes(stage: Stage) -> u64 {
    match stage {
        Stage::Tee => 64 << 30,
        Stage::TeeLarge => 512 << 30,
        Stage::Tiny => 512 << 20,
        _ => DEFAULT_BYTES,
    }
}

/// `vmsplice` gets half a buffer, as in the article's program, rounded down to a size that a pipe
/// can have: the kernel would round up, to more than may be safe. `tee` gets as many slots as there
/// may be, since each turn of the two ends costs the same however many it moves.
fn default_pipe(write_with: WriteWith, buf_size: u64) -> Option<u64> {
    let half = buf_size / 2;
    match write_with {
        WriteWith::Write => None,
        WriteWith::Vmsplice => (half >= page_size()).then(|| 1 << half.ilog2()),
        WriteWith::Tee | WriteWith::TeeLarge => {
            Some(machine::pipe_max_size().unwrap_or(LARGE_PIPE).clamp(page_size(), LARGE_PIPE))
        }
    }
}
