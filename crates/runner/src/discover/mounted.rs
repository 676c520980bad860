//! Whether `/proc` can be relied on.

use super::error::DiscoverError;

/// Whether `/proc` is there and shows the processes that our pids stand for. It is not where a chroot
/// has none, and does not after `unshare --pid` without a mount of it.
///
/// # Errors
///
/// [`DiscoverError::Proc`] and [`DiscoverError::ForeignProc`].
pub fn check_proc() -> Result<(), DiscoverError> {
    let own = super::own_pid();
    match std::fs::read_link("/proc/self") {
        Ok(there) if there.as_os_str() == own.to_string().as_str() => Ok(()),
        Ok(there) => {
            let there = Some(there.to_string_lossy().into_owned());
            Err(DiscoverError::ForeignProc { own, there })
        }
        // The kernel gives this where the process has no number in that namespace
        // (proc_self_get_link, fs/proc/self.c, v6.18).
        Err(_) if std::path::Path::new("/proc/version").exists() => {
            Err(DiscoverError::ForeignProc { own, there: None })
        }
        Err(source) => Err(DiscoverError::Proc { what: "/proc".to_owned(), source }),
    }
}
