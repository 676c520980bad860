//! Capabilities of the calling thread, as the kernel keeps them. Every function here makes plain
//! system calls and is async-signal-safe.

use nix::errno::Errno;

/// `_LINUX_CAPABILITY_VERSION_3` (include/uapi/linux/capability.h): two words of 32 capabilities.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Which of a thread's permitted capabilities are in force ("effective").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InForce {
    Nothing,
    Everything,
}

pub(super) fn is_secure_execution() -> bool {
    // SAFETY: it reads the vector that the kernel left to every process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

fn get() -> Result<[Word; 2], Errno> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut words = [Word::default(); 2];
    // SAFETY: version 3 writes two words, and that is how many there are; the kernel may write the
    // version that it prefers into the header, which is ours.
    let result = unsafe {
        libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr().cast::<u8>())
    };
    Errno::result(result).map(|_| words)
}

fn set(words: [Word; 2]) -> Result<(), Errno> {
    let mut header = Header { version: VERSION, pid: 0 };
    // SAFETY: version 3 reads two words, and that is how many there are.
    let result =
        unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr().cast::<u8>()) };
    Errno::result(result).map(drop)
}

/// What is in force now; `None` where it is a part, or cannot be had.
pub(super) fn in_force() -> Option<InForce> {
    let words = get().ok()?;
    if words.iter().all(|word| word.effective == 0) {
        Some(InForce::Nothing)
    } else if words.iter().all(|word| word.effective == word.permitted) {
        Some(InForce::Everything)
    } else {
        None
    }
}

pub(super) fn set_in_force(what: InForce) -> Result<(), Errno> {
    let mut words = get()?;
    for word in &mut words {
        word.effective = match what {
            InForce::Nothing => 0,
            InForce::Everything => word.permitted,
        };
    }
    set(words)
}

/// Leaves the inheritable set, which `exec` looks at, as the caller's shell set it.
pub(super) fn drop_all() -> Result<(), Errno> {
    let mut words = get()?;
    for word in &mut words {
        word.effective = 0;
        word.permitted = 0;
    }
    set(words)
}

/// Lets the process be looked at as any other of its user. Whoever looks still needs every
/// capability that it has (`cap_ptrace_access_check`, `security/commoncap.c`, v6.18).
pub(super) fn become_readable() {
    // SAFETY: it sets a flag of this process; failing, it changes nothing.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}
