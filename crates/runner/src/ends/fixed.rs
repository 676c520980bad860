//! What `tee` sends: a private pipe, filled once, whose slots are copied to the output again and
//! again.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::pattern;
use crate::capacity::set_capacity;
use crate::error::Error;
use crate::machine::page_size;
use crate::plan::{FRAGMENT, PairPlan};
use crate::stage::WriteWith;
use crate::sys;

/// How often a fragment is asked for before it is said that there are none.
const ATTEMPTS: usize = 16;

/// A pipe of which both ends are ours.
#[derive(Debug)]
struct OwnPipe {
    outlet: OwnedFd,
    inlet: OwnedFd,
}

impl OwnPipe {
    fn new(capacity: u64) -> Result<OwnPipe, Error> {
        let (outlet, inlet) =
            pipe2(OFlag::O_CLOEXEC).map_err(Error::system("can't make a private pipe"))?;
        set_capacity(&inlet, capacity)?;
        Ok(OwnPipe { outlet, inlet })
    }
}

/// A private pipe that holds as many copies of the buffer as it has slots for, each slot full.
///
/// The copies share their pages: the buffer is filled in once, and `tee` of it to itself does the
/// rest.
#[derive(Debug)]
pub(super) struct Fixed {
    pipe: OwnPipe,
    /// Where slots wait while the pipe is turned.
    aside: OwnPipe,
    /// In the pipe.
    bytes: usize,
    /// After which it repeats itself.
    period: usize,
    /// How far beyond the front of the pipe the last call ended.
    ahead: usize,
}

impl Fixed {
    /// Fills a pipe with as many slots as one of `capacity` bytes has.
    pub(super) fn new(plan: &PairPlan, capacity: u64) -> Result<Fixed, Error> {
        let once = OwnPipe::new(capacity)?;
        match plan.write_with {
            WriteWith::TeeLarge => fill_with_fragments(&once, plan)?,
            _ => fill_with_pages(&once, plan)?,
        }
        let pipe = OwnPipe::new(capacity)?;
        let period = plan.buf_size as usize;
        let mut bytes = 0;
        loop {
            let (from, to) = (once.outlet.as_fd(), pipe.inlet.as_fd());
            match sys::tee(from, to, period, libc::SPLICE_F_NONBLOCK) {
                Ok(copied) => bytes += copied,
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(Error::system("tee failed")(error)),
            }
        }
        let aside = OwnPipe::new(capacity)?;
        Ok(Fixed { pipe, aside, bytes, period, ahead: 0 })
    }

    /// Copies at most `most` bytes to `output`, from where the last call ended.
    #[inline(always)]
    pub(super) fn tee(
        &mut self,
        output: BorrowedFd,
        most: usize,
        flags: u32,
    ) -> Result<usize, Errno> {
        if self.ahead != 0 {
            self.turn()?;
        }
        let sent = sys::tee(self.pipe.outlet.as_fd(), output, most, flags)?;
        self.ahead = sent % self.period;
        Ok(sent)
    }

    /// `tee` begins at the front of a pipe each time. Where a reader left no room for whole
    /// rounds, the slots that were sent go from the front to the back.
    #[cold]
    fn turn(&mut self) -> Result<(), Errno> {
        for (from, to) in [(&self.pipe, &self.aside), (&self.aside, &self.pipe)] {
            let (from, to) = (from.outlet.as_fd(), to.inlet.as_fd());
            if sys::splice(from, to, self.ahead, libc::SPLICE_F_NONBLOCK) != Ok(self.ahead) {
                return Err(Errno::EIO);
            }
        }
        self.ahead = 0;
        Ok(())
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// `write` into an empty pipe fills a page, and a slot, at a time.
fn fill_with_pages(pipe: &OwnPipe, plan: &PairPlan) -> Result<(), Error> {
    let mut content = vec![0; plan.buf_size as usize];
    pattern::fill(&mut content, 0);
    let mut left = &content[..];
    while !left.is_empty() {
        let written = sys::write(pipe.inlet.as_fd(), left)
            .map_err(Error::system("can't fill the private pipe"))?;
        left = left.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// What is sent through a stream socket lies in fragments of up to 32 KiB, and `splice` makes each
/// of them one slot. A Unix socket that is sent exactly as much as a fragment holds puts nothing
/// before it (`unix_stream_sendmsg`, net/unix/af_unix.c; `alloc_skb_with_frags`,
/// net/core/skbuff.c, v6.18), and takes no network.
fn fill_with_fragments(pipe: &OwnPipe, plan: &PairPlan) -> Result<(), Error> {
    let fragment = plan.slot_bytes() as usize;
    let mut source = FragmentSource::new(fragment)?;
    let mut content = vec![0; fragment];
    for offset in (0..plan.buf_size).step_by(fragment) {
        pattern::fill(&mut content, offset);
        source.make_whole(&content)?;
        source.hand_over(pipe)?;
    }
    Ok(())
}

/// Whether a socket's data lies in fragments as large as the stage `tee-large` needs: makes one.
///
/// # Errors
/// [`Error::Fragments`] where they are smaller; the kernel's answer where a socket or a pipe is
/// refused.
pub fn try_fragment() -> Result<(), Error> {
    let fragment = FRAGMENT.max(page_size()) as usize;
    FragmentSource::new(fragment)?.make_whole(&vec![0; fragment])
}

/// Puts content into socket buffers, and these into a pipe of one slot.
#[derive(Debug)]
struct FragmentSource {
    sender: UnixStream,
    receiver: UnixStream,
    /// Takes a socket buffer whole: `splice` asks for no more than a page for each free slot
    /// (`do_splice_read`, fs/splice.c, v6.18), so that it takes several free slots to get a large
    /// one.
    wide: OwnPipe,
    /// Takes one slot of it, which tells how much that holds.
    single: OwnPipe,
    fragment: usize,
}

impl FragmentSource {
    fn new(fragment: usize) -> Result<FragmentSource, Error> {
        let no_socket = |error: std::io::Error| {
            Error::system("can't make a Unix socket")(Errno::from_raw(
                error.raw_os_error().unwrap_or(0),
            ))
        };
        let (sender, receiver) = UnixStream::pair().map_err(no_socket)?;
        // Where the buffer of a socket is too small for a fragment, an error is better than waiting
        // without end.
        sender.set_nonblocking(true).map_err(no_socket)?;
        Ok(FragmentSource {
            sender,
            receiver,
            wide: OwnPipe::new(2 * fragment as u64)?,
            single: OwnPipe::new(1)?,
            fragment,
        })
    }

    /// Sends `content` and puts the first slot that it makes into the single one. Returns how much
    /// that holds.
    fn next(&mut self, content: &[u8]) -> Result<usize, Error> {
        let failed = Error::system("can't splice from a socket");
        self.sender.write_all(content).map_err(|error| {
            Error::system("can't send to a socket")(Errno::from_raw(
                error.raw_os_error().unwrap_or(0),
            ))
        })?;
        let mut left = content.len();
        while left > 0 {
            let (from, to) = (self.receiver.as_fd(), self.wide.inlet.as_fd());
            // Without blocking: cut into too many slots, it would not fit.
            match sys::splice(from, to, left, libc::SPLICE_F_NONBLOCK) {
                Ok(moved) if moved > 0 => left = left.saturating_sub(moved),
                Ok(_) | Err(Errno::EAGAIN) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        let (from, to) = (self.wide.outlet.as_fd(), self.single.inlet.as_fd());
        sys::splice(from, to, self.fragment, 0).map_err(failed)
    }

    /// The same, until the single slot holds all of `content`.
    fn make_whole(&mut self, content: &[u8]) -> Result<(), Error> {
        let mut found = 0;
        for _ in 0..ATTEMPTS {
            found = self.next(content)?;
            if found == self.fragment {
                return Ok(());
            }
            self.discard()?;
        }
        Err(Error::Fragments { wanted: self.fragment as u64, found: found as u64 })
    }

    /// The single slot goes to `pipe`.
    fn hand_over(&mut self, pipe: &OwnPipe) -> Result<(), Error> {
        let (from, to) = (self.single.outlet.as_fd(), pipe.inlet.as_fd());
        let moved = sys::splice(from, to, self.fragment, libc::SPLICE_F_NONBLOCK)
            .map_err(Error::system("can't fill the private pipe"))?;
        if moved == self.fragment {
            Ok(())
        } else {
            Err(Error::Fragments { wanted: self.fragment as u64, found: moved as u64 })
        }
    }

    /// Forgets what was sent, with sockets and pipes and all.
    fn discard(&mut self) -> Result<(), Error> {
        *self = FragmentSource::new(self.fragment)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Knobs;
    use crate::stage::Stage;

    /// Length of each slot, read by moving one at a time.
    fn slots(fixed: &Fixed) -> Vec<usize> {
        let single = OwnPipe::new(1).unwrap();
        let sink = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let mut left = fixed.bytes();
        let mut lengths = Vec::new();
        while left > 0 {
            let from = fixed.pipe.outlet.as_fd();
            let length = sys::splice(from, single.inlet.as_fd(), 1 << 30, 0).unwrap();
            let drained =
                sys::splice(single.outlet.as_fd(), sink.as_fd(), 1 << 30, libc::SPLICE_F_MOVE);
            assert_eq!(drained, Ok(length));
            lengths.push(length);
            left -= length;
        }
        lengths
    }

    fn fixed(stage: Stage, buf_size: u64, capacity: u64) -> Fixed {
        let knobs = Knobs { buf_size: Some(buf_size), ..Knobs::default() };
        let plan = PairPlan::new(stage, &knobs).unwrap();
        Fixed::new(&plan, capacity).unwrap()
    }

    #[test]
    fn every_slot_is_full() {
        let page = page_size();
        for (stage, slot) in [(Stage::Tee, page), (Stage::TeeLarge, page.max(32 << 10))] {
            for buffer in [slot, 8 * slot] {
                let fixed = fixed(stage, buffer, 32 * page);
                assert_eq!(slots(&fixed), vec![slot as usize; 32], "{stage}");
            }
        }
    }

    #[test]
    fn the_buffer_repeats_to_the_end() {
        let fixed = fixed(Stage::TeeLarge, 64 << 10, 8 * page_size());
        let mut content = vec![0; fixed.bytes()];
        let mut at = 0;
        while at < content.len() {
            at += sys::read(fixed.pipe.outlet.as_fd(), &mut content[at..]).unwrap();
        }
        assert_eq!(content.len(), 8 * (32 << 10));
        pattern::check_repeated(&content, 0, 64 << 10).unwrap();
        assert_ne!(content[..32 << 10], content[32 << 10..64 << 10]);
    }
    #[test]
    fn it_goes_on_where_it_stopped_however_the_output_is_drained() {
        for (stage, buffer) in [(Stage::Tee, 4 * page_size()), (Stage::TeeLarge, 128 << 10)] {
            let mut fixed = fixed(stage, buffer, 8 * page_size());
            let output = OwnPipe::new(8 * page_size()).unwrap();
            let mut content = vec![0; 3 * page_size() as usize];
            let mut offset = 0;
            for _ in 0..200 {
                let most = fixed.bytes();
                match fixed.tee(output.inlet.as_fd(), most, libc::SPLICE_F_NONBLOCK) {
                    Ok(_) | Err(Errno::EAGAIN) => {}
                    Err(error) => panic!("{error}"),
                }
                let count = sys::read(output.outlet.as_fd(), &mut content).unwrap();
                pattern::check_repeated(&content[..count], offset, buffer).unwrap();
                offset += count as u64;
            }
            assert!(offset > 10 * buffer);
        }
    }
}
