//! Reads and sets what is done with signals; runs before `main`, and between `fork` and `exec`.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

static IGNORED: AtomicU64 = AtomicU64::new(0);

/// Called by the C library before Rust's runtime, which changes `SIGPIPE`.
#[used]
// SAFETY: `.init_array` holds pointers to functions of this type (System V ABI, "Initialization and
// Termination Functions"), and the function needs nothing of Rust's runtime.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note_what_is_ignored;

extern "C" fn note_what_is_ignored() {
    let mut ignored = 0;
    for signal in 1..=LAST {
        if action(signal) == Some(libc::SIG_IGN) {
            ignored |= super::bit(signal);
        }
    }
    IGNORED.store(ignored, Ordering::Relaxed);
}

pub(super) fn ignored_at_start() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}

/// `struct sigaction` as the kernel has it: the handler, then flags, restorer and mask, none of which
/// matters where the handler is no function. The C library's own function refuses the two signals
/// that it keeps for itself, which can be ignored as well.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Action {
    handler: usize,
    rest: [u64; 3],
}

const MASK_BYTES: usize = 8;

/// The last signal of the kernel.
const LAST: libc::c_int = 64;

/// What is done with a signal; `None` where there is none of that number.
fn action(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut now = Action::default();
    let new = ptr::null::<Action>();
    // SAFETY: the kernel writes one `sigaction`, which is no longer than `Action`.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, &raw mut now, MASK_BYTES) };
    (result == 0).then_some(now.handler)
}

/// Gives every signal what it had when this program began: ignored ones stay ignored, all others have
/// their default action, as `exec` leaves them. Async-signal-safe.
pub(crate) fn restore() {
    for signal in 1..=LAST {
        let wanted = if super::ignored_at_start(signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        if action(signal).is_some_and(|now| now != wanted) {
            set(signal, wanted);
        }
    }
}

/// Ignores a signal or gives it its default action. Async-signal-safe.
pub(crate) fn set(signal: libc::c_int, wanted: libc::sighandler_t) {
    let new = Action { handler: wanted, ..Action::default() };
    let old = ptr::null_mut::<Action>();
    // SAFETY: the kernel reads one `sigaction`, which is no longer than `Action`; callers pass the
    // two handlers that are no functions.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const new, old, MASK_BYTES) };
}
