//! Questions to the kernel by netlink(7), and the framing of its answers: messages, and the
//! attributes in them.

mod sys;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};

/// Messages of a dump are never larger (`netlink_dump`, net/netlink/af_netlink.c, v6.18).
const BUFFER_BYTES: usize = 32 * 1024;

/// The kernel answers at once.
const PATIENCE_MS: u16 = 500;

/// How many answers a question has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    One,
    /// As many as there are, and then a message that says so.
    All,
    /// That it was taken, and nothing else.
    Receipt,
}

/// A netlink socket of one protocol.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The kernel does not have that protocol, or a filter refuses it.
    pub(crate) fn open(protocol: i32) -> io::Result<Self> {
        let socket = sys::netlink(protocol)?;
        Ok(Netlink { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// So much may wait to be read, where the rights allow it.
    pub(crate) fn reserve(&self, bytes: usize) {
        // With less, some of what is told may be lost, which is noticed.
        let _ = setsockopt(&self.socket, sockopt::RcvBufForce, &bytes);
    }

    /// Asks, and takes the bodies of the answers that are of the kind of the question.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or that it did not.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        body: &[u8],
        answers: Answers,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        nix::unistd::write(&self.socket, &question(kind, body, answers, self.sequence))?;
        loop {
            let mut entry = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut entry, PollTimeout::from(PATIENCE_MS)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let length = nix::unistd::read(&self.socket, &mut self.buffer)?;
            for answer in Messages(self.buffer.get(..length).unwrap_or_default()) {
                // What is left of an earlier question that failed, or was not asked for.
                if answer.sequence != self.sequence {
                    continue;
                }
                match i32::from(answer.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let errno = number(answer.body, 0).map_or(0, |code| code as i32);
                        let errno = errno.checked_neg().unwrap_or(libc::EIO);
                        return if errno == 0 {
                            Ok(())
                        } else {
                            Err(io::Error::from_raw_os_error(errno))
                        };
                    }
                    _ if answer.kind == kind => {
                        each(answer.body);
                        if answers == Answers::One {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Takes the bodies of what has been told unasked, of one kind, without waiting.
    ///
    /// # Errors
    ///
    /// ENOBUFS where more was told than may wait.
    pub(crate) fn told(&mut self, kind: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let socket = self.socket.as_raw_fd();
            let length = match recv(socket, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let told = Messages(self.buffer.get(..length).unwrap_or_default());
            told.filter(|message| message.kind == kind).for_each(|message| each(message.body));
        }
    }
}

/// `struct nlmsghdr`, and what follows it.
fn question(kind: u16, body: &[u8], answers: Answers, sequence: u32) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST
        | match answers {
            Answers::One => 0,
            Answers::All => libc::NLM_F_DUMP,
            Answers::Receipt => libc::NLM_F_ACK,
        };
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

pub(crate) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A netlink message.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = number(self.0, 0)? as usize;
        let body = self.0.get(16..length)?;
        let (kind, sequence) = (short(self.0, 4)?, number(self.0, 8)?);
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, body })
    }
}

/// The attributes behind a message, or in another (`struct nlattr`).
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(short(self.0, 0)?);
        // The upper two bits say how it is coded.
        let kind = short(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// An attribute as it is sent.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_messages_and_attributes_are_none() {
        let body = attribute(4, &[7; 5]);
        let datagram = question(20, &body, Answers::All, 5);
        let messages: Vec<_> =
            Messages(&datagram).map(|message| (message.kind, message.sequence)).collect();
        assert_eq!(messages, [(20, 5)]);
        assert_eq!(Messages(&datagram[..20]).count(), 0);
        assert_eq!(Messages(&[0; 16]).count(), 0, "a length of 0 would never end");
        assert_eq!(Attributes(&body).collect::<Vec<_>>(), [(4, &[7; 5][..])]);
        assert_eq!(Attributes(&body[..7]).count(), 0);
        assert_eq!(Attributes(&[0; 8]).count(), 0, "a length of 0 would never end");
    }
}
