//! Descriptors that this process was started with: those of `/dev/fd`, which a shell opens for
//! `>(command)`.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use crate::sys;

/// Another descriptor of the same open file: it shares its offset and its flags, and reaches sockets,
/// which can't be opened by a path. Not passed on to what is launched.
///
/// # Errors
/// EBADF where the number is no open descriptor.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    Ok(sys::duplicate(number)?)
}
