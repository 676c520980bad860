//! What a pair will do: a stage, the knobs that override it, and the combinations that are refused.

use serde::{Deserialize, Serialize};

use crate::cpus::Pin;
use crate::error::Error;
use crate::machine;
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
        let fixed = plan.write_with.is_fixed();
        if plan.verify && !plan.fill && !fixed {
            return refuse("--verify needs to know what was sent: add --fill");
        }
        if plan.huge_page && fixed && plan.read_with == ReadWith::Splice {
            return refuse("neither end has a buffer to put in huge pages: leave out --huge-page");
        }
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

    fn check_buffers(&self) -> Result<(), Error> {
        if self.buf_size == 0 {
            return refuse("an empty buffer moves nothing: give --buf-size at least 1");
        }
        if self.buf_size > MOST {
            return refuse("no transfer is larger than 1 GiB: lower --buf-size");
        }
        if self.bytes == Some(0) {
            return refuse("nothing to move: give --bytes at least 1");
        }
        if self.check_huge_page && !self.huge_page {
            return refuse("--check-huge-page without huge pages: add --huge-page");
        }
        if self.check_huge_page && self.dont_touch_pages {
            return refuse(
                "a page that was never touched can't be checked: leave out --dont-touch-pages \
                 or --check-huge-page",
            );
        }
        Ok(())
    }

    fn check_writer(&self) -> Result<(), Error> {
        let vmsplice = self.write_with == WriteWith::Vmsplice;
        if self.gift && !vmsplice {
            return refuse("--gift gives pages to vmsplice: add --write-with vmsplice");
        }
        if self.same_buffer && !vmsplice {
            return refuse(
                "--same-buffer splits a double buffer, and write has only one: add --write-with \
                 vmsplice",
            );
        }
        if self.write_with.is_fixed() {
            return self.check_fixed();
        }
        if self.gift && self.fill {
            return refuse(
                "pages given away must not be written again: leave out --gift or --fill",
            );
        }
        let page = page_size();
        let pages = if self.same_buffer { 4 } else { 2 };
        if vmsplice && !self.buf_size.is_multiple_of(pages * page) {
            return refuse(&format!(
                "vmsplice fills a pipe page by page: make --buf-size a multiple of {}",
                size::exact(pages * page),
            ));
        }
        Ok(())
    }

    /// What is sent over and over fills its slots, and these the pipe, so that a reader that takes
    /// all there is leaves room for whole rounds.
    fn check_fixed(&self) -> Result<(), Error> {
        if self.fill {
            return refuse(
                "tee sends for ever what was put together once, and nothing can be written to it \
                 any more: leave out --fill (--verify works without it)",
            );
        }
        let slot_bytes = self.slot_bytes();
        let pipe = self.pipe_size.unwrap_or(LARGE_PIPE);
        let slots = (pipe / page_size()).next_power_of_two();
        let wanted = self.buf_size / slot_bytes;
        if !self.buf_size.is_multiple_of(slot_bytes) || !wanted.is_power_of_two() {
            return refuse(&format!(
                "what is sent over and over fills whole slots of {}, and these the pipe: make \
                 --buf-size that or a power of two of it",
                size::exact(slot_bytes),
            ));
        }
        if wanted > slots {
            return refuse(&format!(
                "a pipe of {slots} slots of {} holds {}: lower --buf-size or raise --pipe-size",
                size::exact(slot_bytes),
                size::exact(slots * slot_bytes),
            ));
        }
        Ok(())
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

    fn check_reader(&self) -> Result<(), Error> {
        if self.verify && self.read_with == ReadWith::Splice {
            return refuse(
                "--verify looks at every byte, which splice never does: add --read-with read",
            );
        }
        if self.move_pages && self.read_with != ReadWith::Splice {
            return refuse("--move is a flag of splice: add --read-with splice");
        }
        Ok(())
    }
}

fn refuse<T>(text: &str) -> Result<T, Error> {
    Err(Error::Refused(text.to_owned()))
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

pub(crate) fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4096, |bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(stage: Stage, change: impl Fn(&mut Knobs)) -> Result<PairPlan, Error> {
        let mut knobs = Knobs::default();
        change(&mut knobs);
        PairPlan::new(stage, &knobs)
    }

    #[test]
    fn each_stage_adds_one_idea() {
        let plans = Stage::ARTICLE.map(|stage| plan(stage, |_| {}).unwrap());
        let ideas = plans.map(|plan| {
            (
                plan.write_with == WriteWith::Vmsplice,
                plan.read_with == ReadWith::Splice,
                plan.huge_page,
                plan.busy_loop,
            )
        });
        assert_eq!(
            ideas,
            [
                (false, false, false, false),
                (true, false, false, false),
                (true, true, false, false),
                (true, true, true, false),
                (true, true, true, true),
            ]
        );
    }

    #[test]
    fn defaults_are_the_articles() {
        let baseline = plan(Stage::Write, |_| {}).unwrap();
        assert_eq!(baseline.buf_size, 256 << 10);
        assert_eq!(baseline.bytes, Some(10 << 30));
        assert_eq!(baseline.pipe_size, None);
        assert_eq!(plan(Stage::Vmsplice, |_| {}).unwrap().pipe_size, Some(128 << 10));
    }

    #[test]
    fn every_knob_overrides_every_stage() {
        for stage in Stage::ALL {
            let plan = plan(stage, |knobs| {
                knobs.write_with = Some(WriteWith::Write);
                knobs.read_with = Some(ReadWith::Read);
                knobs.huge_page = Some(!stage.huge_page());
                knobs.buf_size = Some(64 << 10);
                knobs.busy_loop = Some(!stage.busy_loop());
                knobs.pipe_size = Some(1 << 20);
            })
            .unwrap();
            assert_eq!((plan.write_with, plan.read_with), (WriteWith::Write, ReadWith::Read));
            assert_eq!(plan.huge_page, !stage.huge_page());
            assert_eq!(plan.busy_loop, !stage.busy_loop());
            assert_eq!(plan.pipe_size, Some(1 << 20));
        }
    }

    /// A knob to turn.
    type Turn = fn(&mut Knobs);

    #[test]
    fn nonsense_is_refused_with_the_flag_to_change() {
        let table: [(Stage, Turn, &str); 13] = [
            (Stage::Write, |k| k.buf_size = Some(0), "--buf-size"),
            (Stage::Write, |k| k.buf_size = Some(2 << 30), "--buf-size"),
            (Stage::Write, |k| k.bytes = Some(0), "--bytes"),
            (Stage::Vmsplice, |k| k.buf_size = Some(4096), "--buf-size"),
            (Stage::Vmsplice, |k| k.buf_size = Some(10_000), "--buf-size"),
            (Stage::Splice, |k| k.check_huge_page = true, "--huge-page"),
            (
                Stage::HugePage,
                |k| {
                    k.check_huge_page = true;
                    k.dont_touch_pages = true;
                },
                "--dont-touch-pages",
            ),
            (Stage::Write, |k| k.gift = true, "--write-with vmsplice"),
            (Stage::Write, |k| k.same_buffer = true, "--write-with vmsplice"),
            (Stage::Vmsplice, |k| k.move_pages = true, "--read-with splice"),
            (Stage::Splice, |k| k.verify = true, "--read-with read"),
            (Stage::Vmsplice, |k| k.verify = true, "--fill"),
            (
                Stage::Vmsplice,
                |k| {
                    k.gift = true;
                    k.fill = true;
                },
                "--gift",
            ),
        ];
        for (stage, turn, flag) in table {
            let error = plan(stage, turn).unwrap_err();
            assert!(error.is_usage());
            assert!(error.to_string().contains(flag), "{error} does not name {flag}");
        }
    }

    #[test]
    fn the_default_pipe_never_holds_more_than_one_buffer() {
        for pages in (4..600).step_by(4) {
            for same_buffer in [false, true] {
                let plan = plan(Stage::Vmsplice, |knobs| {
                    knobs.buf_size = Some(pages * page_size());
                    knobs.same_buffer = same_buffer;
                })
                .unwrap();
                assert!(!plan.may_reuse_too_early(), "{pages} pages, same buffer {same_buffer}");
                assert!(plan.pipe_size.unwrap().is_power_of_two());
                assert!(plan.notes().is_empty());
            }
        }
    }

    #[test]
    fn a_pipe_that_holds_more_than_one_buffer_is_noted() {
        for (pipe, early) in [(128 << 10, false), (256 << 10, false), (512 << 10, true)] {
            let plan = plan(Stage::Vmsplice, |knobs| knobs.pipe_size = Some(pipe)).unwrap();
            assert_eq!(plan.may_reuse_too_early(), early, "{pipe}");
            assert_eq!(!plan.notes().is_empty(), early);
        }
    }

    #[test]
    fn the_other_stages_change_what_they_say() {
        let gift = plan(Stage::Gift, |_| {}).unwrap();
        assert!(gift.gift && gift.move_pages && !gift.busy_loop);
        assert!(!plan(Stage::Gift, |k| k.write_with = Some(WriteWith::Write)).unwrap().gift);
        assert_eq!(plan(Stage::SameCpu, |_| {}).unwrap().pin, Pin::Same);
        let apart = plan(Stage::SameCpu, |knobs| knobs.pin = Pin::Cpus(0, 1)).unwrap();
        assert_eq!(apart.pin, Pin::Cpus(0, 1));
        let tiny = plan(Stage::Tiny, |_| {}).unwrap();
        assert_eq!((tiny.buf_size, tiny.read_size), (64, DEFAULT_BUF_SIZE));
        for stage in [Stage::Tee, Stage::TeeLarge] {
            let tee = plan(stage, |_| {}).unwrap();
            assert_eq!(tee.period(), Some(DEFAULT_BUF_SIZE), "{stage}");
            assert!(tee.read_size > tee.pipe_size.unwrap() / page_size() * tee.slot_bytes());
        }
    }

    #[test]
    fn an_end_alone_ignores_the_other() {
        let knobs = Knobs { verify: true, ..Knobs::default() };
        assert!(PairPlan::reader(Stage::Write, &knobs).is_ok());
        assert!(PairPlan::reader(Stage::Splice, &knobs).is_err());
        assert_eq!(PairPlan::reader(Stage::Vmsplice, &knobs).unwrap().pipe_size, None);
        let knobs = Knobs { move_pages: true, ..Knobs::default() };
        assert_eq!(PairPlan::writer(Stage::Write, &knobs).unwrap().bytes, None);
    }
}
