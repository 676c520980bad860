//! Benchmarks of kernel page operations, in one process rather than between two ends.

mod cow;
mod gup;
mod pages;
mod sys;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::Serialize;

pub use cow::{Cow, CowRow, cow};
pub use gup::GupTest;
pub use pages::{Pages, PinRow, pages};

use crate::error::Error;
use crate::sys as calls;

/// What a cost came to over all rounds. Each round's figure is a mean over all its pages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median round.
    pub median: f64,
    /// The cheapest round.
    pub min: f64,
    /// The most expensive round.
    pub max: f64,
}

impl Spread {
    /// `None` of no rounds.
    fn of(mut rounds: Vec<f64>) -> Option<Spread> {
        rounds.sort_by(f64::total_cmp);
        let middle = rounds.len() / 2;
        let median = match rounds.len() % 2 {
            1 => rounds[middle],
            _ => (rounds.get(middle.checked_sub(1)?)? + rounds[middle]) / 2.0,
        };
        Some(Spread { median, min: *rounds.first()?, max: *rounds.last()? })
    }
}

/// A pipe whose two ends this thread holds, and where what is in it goes.
#[derive(Debug)]
struct Pipe {
    outlet: OwnedFd,
    inlet: OwnedFd,
    sink: File,
    /// Capacity, at a page a slot.
    bytes: usize,
}

impl Pipe {
    /// As large as an ordinary user may have one, so that the clock is read seldom.
    fn new() -> Result<Pipe, Error> {
        let (outlet, inlet) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(Error::system("can't make a pipe"))?;
        // Refused to users with many large pipes: then it is smaller, which is printed.
        let _ = fcntl(inlet.as_fd(), FcntlArg::F_SETPIPE_SZ(1 << 20));
        let bytes = fcntl(inlet.as_fd(), FcntlArg::F_GETPIPE_SZ)
            .map_err(Error::system("can't ask for the size of a pipe"))?;
        let sink = File::options()
            .write(true)
            .open("/dev/null")
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .map_err(Error::system("can't open /dev/null"))?;
        Ok(Pipe { outlet, inlet, sink, bytes: bytes as usize })
    }

    /// Moves `bytes`, all that is in the pipe, to `/dev/null`.
    fn drain(&self, bytes: usize) -> Result<(), Error> {
        let mut left = bytes;
        while left > 0 {
            left -= calls::splice(self.outlet.as_fd(), self.sink.as_fd(), left, 0)
                .and_then(some)
                .map_err(Error::system("can't splice to /dev/null"))?;
        }
        Ok(())
    }

    /// Lends as much of `data` to the empty pipe as it takes: how many bytes.
    fn lend(&self, data: &[u8]) -> Result<usize, Error> {
        calls::vmsplice(self.inlet.as_fd(), data, 0)
            .and_then(some)
            .map_err(Error::system("can't vmsplice into a pipe"))
    }
}

/// A call that moved nothing would be repeated without end.
fn some(moved: usize) -> Result<usize, Errno> {
    if moved == 0 { Err(Errno::ENODATA) } else { Ok(moved) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_that_of_its_rounds() {
        let spread = |rounds: &[f64]| Spread::of(rounds.to_vec()).map(|s| (s.median, s.min, s.max));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some((2.0, 1.0, 9.0)));
    }
}
