//! System calls for which no safe wrapper is at hand: reading directories into a buffer that is
//! used again, `statx` without asking a file server, and `pidfd_open`.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What [`stat`] tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) is_fifo: bool,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// Follows `name` under `dir`, without synchronising with a remote file system.
pub(super) fn stat(dir: BorrowedFd, name: &CStr) -> io::Result<Stat> {
    // SAFETY: all-zero bytes are a valid `statx`, which is made of integers.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `name` ends in NUL and `found` is a whole `statx` that the kernel may write.
    let result = unsafe {
        libc::statx(
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
            libc::STATX_TYPE | libc::STATX_INO,
            &raw mut found,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Stat {
        is_fifo: u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFIFO,
        device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
    })
}

/// The numeric names in an open directory of `/proc`, through a buffer that the caller keeps.
pub(super) fn numbers(dir: BorrowedFd, buffer: &mut [u8], out: &mut Vec<i32>) -> io::Result<()> {
    each_number(dir, buffer, &mut |number| out.push(number))
}

/// Likewise, one after the other; it allocates nothing, as a child after `fork` must not.
pub(crate) fn each_number(
    dir: BorrowedFd,
    buffer: &mut [u8],
    each: &mut dyn FnMut(i32),
) -> io::Result<()> {
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
        let length = unsafe {
            libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        };
        match usize::try_from(length) {
            Err(_) => return Err(io::Error::last_os_error()),
            Ok(0) => return Ok(()),
            Ok(length) => pick_numbers(buffer.get(..length).unwrap_or_default(), each),
        }
    }
}

/// Picks the numeric names out of `linux_dirent64` records: u64 inode, i64 offset, u16 length of
/// the record, u8 type, the name up to a NUL.
fn pick_numbers(mut records: &[u8], each: &mut dyn FnMut(i32)) {
    while let Some(length) = records.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        let Some(name) = records.get(19..length) else { return };
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if let Some(number) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
            each(number);
        }
        records = &records[length..];
    }
}

/// A descriptor that keeps the identity of a process (Linux 5.3).
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match c_int::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
