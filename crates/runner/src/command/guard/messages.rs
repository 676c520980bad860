//! The messages between a launcher and its guardian, on a socket that keeps their bounds. Nothing
//! here allocates.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::sys::{recv, send};
use crate::ends::Usage;

/// From the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// End all of it: SIGTERM, and SIGKILL when the grace period is over.
    End,
    /// Likewise, but the terminal has sent them all SIGINT already.
    EndAfterInterrupt,
    /// End all of it at once.
    Kill,
    /// What is left may run on.
    LetGo,
    /// The launcher has ended without a request.
    Disconnected,
}

impl Request {
    /// What is sent; for a disconnection, closing the socket is the message.
    const BYTES: [(Request, u8); 4] = [
        (Request::End, b'e'),
        (Request::EndAfterInterrupt, b'i'),
        (Request::Kill, b'k'),
        (Request::LetGo, b'l'),
    ];

    pub(super) fn send(self, socket: BorrowedFd) -> Result<(), Errno> {
        let sent = Self::BYTES.iter().find(|(request, _)| *request == self);
        sent.map_or(Ok(()), |(_, byte)| send(socket, &[*byte]))
    }

    /// `None` where there is no message.
    pub(super) fn receive(socket: BorrowedFd) -> Option<Self> {
        let mut byte = [0];
        match recv(socket, &mut byte, false) {
            Ok(0) | Err(Errno::ECONNRESET) => Some(Request::Disconnected),
            Ok(_) => {
                let sent = Self::BYTES.iter().find(|(_, known)| [*known] == byte);
                sent.map(|(request, _)| *request)
            }
            Err(_) => None,
        }
    }
}

/// From the guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The command waits at its gate; its pid.
    Started(i32),
    /// It could not be forked; the errno.
    NotStarted(i32),
    /// The command has ended.
    Ended {
        /// As `waitpid` gives it.
        status: i32,
        /// Of the command and all that it waited for.
        usage: Usage,
    },
    /// Nothing that descends from it is left, or all that is left may run on.
    Done,
}

const WORDS: usize = 8;
const BYTES: usize = WORDS * 8;

impl Answer {
    pub(super) fn send(self, socket: BorrowedFd) {
        // Fails where the launcher has ended; the socket has room for all answers.
        let _ = send(socket, &self.encode());
    }

    /// `None` once the guardian has ended.
    pub(super) fn receive(socket: BorrowedFd, block: bool) -> Result<Option<Self>, Errno> {
        let mut bytes = [0; BYTES];
        match recv(socket, &mut bytes, block) {
            Ok(BYTES) => Self::decode(&bytes).map(Some).ok_or(Errno::EPROTO),
            Ok(_) | Err(Errno::ECONNRESET) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn encode(self) -> [u8; BYTES] {
        let (kind, value, usage) = match self {
            Answer::Started(pid) => (1, pid, Usage::default()),
            Answer::NotStarted(errno) => (2, errno, Usage::default()),
            Answer::Ended { status, usage } => (3, status, usage),
            Answer::Done => (4, 0, Usage::default()),
        };
        let mut bytes = [0; BYTES];
        let words = [kind, u64::from(value as u32)].into_iter().chain(usage.to_words());
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let mut words = [0_u64; WORDS];
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(*place.first_chunk()?);
        }
        let [kind, value, usage @ ..] = words;
        let value = value as u32 as i32;
        Some(match kind {
            1 => Answer::Started(value),
            2 => Answer::NotStarted(value),
            3 => Answer::Ended { status: value, usage: Usage::from_words(usage) },
            4 => Answer::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_as_it_was_given() {
        let usage = Usage { user_ns: u64::MAX, involuntary_switches: 7, ..Usage::default() };
        for answer in [
            Answer::Started(i32::MAX),
            Answer::NotStarted(11),
            Answer::Ended { status: -1, usage },
            Answer::Done,
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode(&[0; BYTES]), None);
    }
}
