//! The nice value of one thread, for which `nix` has no wrapper.

use std::io;

/// The nice value of a thread, -20 to 19.
pub(super) fn nice(tid: i32) -> io::Result<i32> {
    let id = libc::id_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: errno is this thread's own; -1 is a nice value too, so it tells an error only
    // where errno was set after it was cleared here.
    unsafe {
        *libc::__errno_location() = 0;
    }
    // SAFETY: no memory is passed.
    let value = unsafe { libc::getpriority(libc::PRIO_PROCESS, id) };
    // SAFETY: as above.
    if value == -1 && unsafe { *libc::__errno_location() } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

/// Sets the nice value of a thread.
pub(super) fn set_nice(tid: i32, value: i32) -> io::Result<()> {
    let id = libc::id_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: no memory is passed.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, id, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
