//! How much one of our own pipes holds.

use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};

use crate::access;
use crate::error::Error;
use crate::machine;

/// Gives a pipe at least `wanted` bytes of space.
pub(crate) fn set_capacity(pipe: &impl AsFd, wanted: u64) -> Result<(), Error> {
    let size = i32::try_from(wanted).unwrap_or(i32::MAX);
    let resized = access::with_rights(|| fcntl(pipe.as_fd(), FcntlArg::F_SETPIPE_SZ(size)));
    resized.map(drop).map_err(|source| Error::PipeSize {
        wanted,
        max: machine::pipe_max_size(),
        source,
    })
}

/// What a pipe holds in bytes, at a page a slot; `None` where it is no pipe.
pub(crate) fn capacity(pipe: &impl AsFd) -> Option<u64> {
    fcntl(pipe.as_fd(), FcntlArg::F_GETPIPE_SZ).ok().and_then(|bytes| u64::try_from(bytes).ok())
}
