//! File capabilities: they are in force only for calls that ask for them.
//!
//! A file with capabilities (`setcap cap_perfmon,… pipeprof`) may do more than the user who starts
//! it. They are for the kernel's perf interface, not for reading files: with them in force, a file
//! that pipeprof opens for a user (symbols below `/proc/PID/root`, a recording, a target of `-o`)
//! would be opened with rights that the user doesn't have. So [`lower`] disables them when the
//! program begins, and [`with_rights`] enables them for one call.
//!
//! Linux keeps capabilities per thread (capabilities(7)): a thread starts with those of its
//! creator, and [`with_rights`] affects only the calling thread. If the file has no capabilities
//! (root, an ordinary user), nothing here has any effect.

mod sys;

use nix::unistd::{getgid, getuid, setegid, seteuid};

/// Whether the program's file gave it rights that its user doesn't have: what the kernel calls
/// "secure execution" (`AT_SECURE`, getauxval(3)).
pub fn exceeds_user() -> bool {
    sys::is_secure_execution()
}

/// From here on files are opened with the rights of the user alone, in this thread and those that it
/// makes. To be called before there is a second thread.
pub fn lower() {
    if exceeds_user() {
        // Of a file with the set-user-ID bit, too: the capabilities stay permitted. None of these
        // can fail for want of rights, as each only gives up some.
        let _ = setegid(getgid());
        let _ = seteuid(getuid());
        let _ = sys::set_in_force(sys::InForce::Nothing);
    }
}

/// Does `work` with all the rights that the program's file has, and takes them out of force again.
pub fn with_rights<T>(work: impl FnOnce() -> T) -> T {
    if !exceeds_user() {
        return work();
    }
    let _lowered = Raised::begin();
    work()
}

/// Gives up what the file gave, for good: of a child that will be something else.
///
/// Such a child may be looked at by its user again (`/proc/PID/fd`, `maps`), which the kernel
/// forbids for whatever a file with capabilities became. It calls nothing that a child between
/// `fork` and `exec` may not call.
pub(crate) fn give_up() {
    if exceeds_user() {
        let _ = sys::drop_all();
        sys::become_readable();
    }
}

/// Rights in force until dropped, even where the work panics.
struct Raised {
    /// False where they had been in force before: one call within another.
    lowers: bool,
}

impl Raised {
    fn begin() -> Self {
        let lowers = sys::in_force() == Some(sys::InForce::Nothing);
        if lowers {
            let _ = sys::set_in_force(sys::InForce::Everything);
        }
        Raised { lowers }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if self.lowers {
            let _ = sys::set_in_force(sys::InForce::Nothing);
        }
    }
}
