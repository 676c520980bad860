//! Memory that is written while it may be read only, and the signal that makes it writable.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::sys::{Pages, protect};

/// What is read only now: the handler makes it writable, and nothing else.
static LENT_START: AtomicUsize = AtomicUsize::new(0);
static LENT_BYTES: AtomicUsize = AtomicUsize::new(0);
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// There is one handler a process.
static ONE: Mutex<()> = Mutex::new(());

extern "C" fn unprotect(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO, and for SIGSEGV its
    // address is meaningful.
    let address = unsafe { (*info).si_addr() } as usize;
    let (start, bytes) = (LENT_START.load(Ordering::Relaxed), LENT_BYTES.load(Ordering::Relaxed));
    if address.wrapping_sub(start) < bytes && protect(start, bytes, true).is_ok() {
        FAULTS.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Not ours: on return the access is made again, and ends the process as it would have.
    // SAFETY: signal(2) is async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Memory of which parts are lent out, read only, and written all the same: the first write finds
/// the handler, which makes the part writable.
///
/// Only one at a time in a process; another one waits for it.
#[derive(Debug)]
pub(super) struct Guarded {
    pages: Arc<Pages>,
    bytes: usize,
    before: SigAction,
    _one: MutexGuard<'static, ()>,
}

impl Guarded {
    /// `bytes` of ordinary pages, all written once, with the handler installed.
    pub(super) fn new(bytes: usize, page: usize) -> Result<Guarded, Errno> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pages = Pages::map(bytes, page)?;
        // Without this, `transparent_hugepage=always` would have huge pages split.
        let _ = pages.advise(libc::MADV_NOHUGEPAGE);
        pages.as_mut_slice().fill(b'X');
        LENT_BYTES.store(0, Ordering::Relaxed);
        let action =
            SigAction::new(SigHandler::SigAction(unprotect), SaFlags::SA_SIGINFO, SigSet::empty());
        // SAFETY: the handler makes one system call and touches atomics only.
        let before = unsafe { sigaction(Signal::SIGSEGV, &action) }?;
        Ok(Guarded { pages: Arc::new(pages), bytes, before, _one: one })
    }

    /// How often the handler made something writable, in this process.
    pub(super) fn faults() -> u64 {
        FAULTS.load(Ordering::Relaxed)
    }

    /// Makes `bytes` from `start` on read only, until one of them is written.
    pub(super) fn protect(&self, start: usize, bytes: usize) -> Result<(), Errno> {
        LENT_START.store(self.pages.address() + start, Ordering::Relaxed);
        LENT_BYTES.store(bytes, Ordering::Relaxed);
        self.pages.protect(start, bytes, false)
    }

    /// Writes one byte, whose page is writable or made so.
    #[inline(always)]
    pub(super) fn write(&mut self, at: usize, value: u8) {
        assert!(at < self.bytes);
        byte(&self.pages, at).store(value, Ordering::Relaxed);
    }

    /// What is lent or copied.
    pub(super) fn part(&self, start: usize, bytes: usize) -> &[u8] {
        assert!(start <= self.bytes && bytes <= self.bytes - start);
        // SAFETY: within the mapping, which lives as long as `self`. Nobody writes it meanwhile:
        // `write` borrows mutably, and a `Reader` only reads.
        unsafe { std::slice::from_raw_parts((self.pages.address() + start) as *const u8, bytes) }
    }

    /// For another thread.
    pub(super) fn reader(&self) -> Reader {
        Reader { pages: Arc::clone(&self.pages), bytes: self.bytes }
    }
}

/// Reads what another thread writes.
#[derive(Debug)]
pub(super) struct Reader {
    pages: Arc<Pages>,
    bytes: usize,
}

impl Reader {
    #[inline(always)]
    pub(super) fn read(&self, at: usize) -> u8 {
        assert!(at < self.bytes);
        byte(&self.pages, at).load(Ordering::Relaxed)
    }
}

/// One byte of the first `at + 1` or more, which the callers check.
#[inline(always)]
fn byte(pages: &Pages, at: usize) -> &AtomicU8 {
    // SAFETY: within the mapping, which outlives the borrow; what is written while others read is
    // written through these atomics only. Where it is read only, a store raises SIGSEGV, whose
    // handler makes it writable before the store is made again.
    unsafe { AtomicU8::from_ptr((pages.address() + at) as *mut u8) }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: what was there before.
        let _ = unsafe { sigaction(Signal::SIGSEGV, &self.before) };
    }
}

/// `struct gup_test` (`mm/gup_test.h`, v5.11 to v6.18).
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct GupRequest {
    pub(super) get_delta_usec: u64,
    pub(super) put_delta_usec: u64,
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) nr_pages_per_call: u32,
    pub(super) gup_flags: u32,
    pub(super) test_flags: u32,
    pub(super) which_pages: [u32; 8],
}

nix::ioctl_readwrite!(gup_fast, b'g', 1, GupRequest);

/// `GUP_FAST_BENCHMARK`: holds the pages and lets go of them, for reading.
pub(super) fn gup_fast_benchmark(file: &File, request: &mut GupRequest) -> Result<(), Errno> {
    // SAFETY: the size is part of the request's number, so that a kernel whose struct differs
    // knows no such request. It writes this struct, and only looks up the range in it.
    unsafe { gup_fast(file.as_raw_fd(), request) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_kernels_size() {
        // 4 * 8 + 3 * 4 + 8 * 4, padded to the alignment of u64.
        assert_eq!(size_of::<GupRequest>(), 80);
    }

    #[test]
    fn a_write_to_what_is_lent_makes_it_writable_once() {
        let mut memory = Guarded::new(4 * 65536, 65536).unwrap();
        let before = Guarded::faults();
        memory.protect(65536, 2 * 65536).unwrap();
        memory.write(0, 1);
        assert_eq!(Guarded::faults() - before, 0);
        memory.write(2 * 65536, 2);
        memory.write(65536, 3);
        assert_eq!(Guarded::faults() - before, 1);
        let values = [0, 65536, 2 * 65536].map(|at| memory.reader().read(at));
        assert_eq!(values, [1, 3, 2]);
    }
}
