//! Which knobs make no sense together, and the flag to change.

use super::{LARGE_PIPE, MOST, PairPlan};
use crate::error::Error;
use crate::machine::page_size;
use crate::size;
use crate::stage::{ReadWith, WriteWith};

impl PairPlan {
    pub(super) fn check_buffers(&self) -> Result<(), Error> {
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

    pub(super) fn check_writer(&self) -> Result<(), Error> {
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
                "tee repeats a buffer that cannot be written again: leave out --fill (--verify \
                 works without it)",
            );
        }
        let slot_bytes = self.slot_bytes();
        let pipe = self.pipe_size.unwrap_or(LARGE_PIPE);
        let slots = (pipe / page_size()).next_power_of_two();
        let wanted = self.buf_size / slot_bytes;
        if !self.buf_size.is_multiple_of(slot_bytes) || !wanted.is_power_of_two() {
            return refuse(&format!(
                "tee repeats a buffer that fills whole slots of {}: make --buf-size that size \
                 times a power of two",
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

    pub(super) fn check_reader(&self) -> Result<(), Error> {
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

    /// What neither end alone can know.
    pub(super) fn check_together(&self) -> Result<(), Error> {
        let fixed = self.write_with.is_fixed();
        if self.verify && !self.fill && !fixed {
            return refuse("--verify needs to know what was sent: add --fill");
        }
        if self.huge_page && fixed && self.read_with == ReadWith::Splice {
            return refuse("neither end has a buffer to put in huge pages: leave out --huge-page");
        }
        Ok(())
    }
}

fn refuse(text: &str) -> Result<(), Error> {
    Err(Error::Refused(text.to_owned()))
}
