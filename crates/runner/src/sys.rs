//! The unsafe half of the runner: raw system calls, mappings, and what happens between fork and
//! exec. Everything offered here is safe to call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::access;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// One system call, made here and not in libc: Debian's libc is built without frame pointers, so
/// a frame-pointer walk through its wrappers would invent callers, and the ends of the pair are
/// what pipeprof looks at most.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only; the caller vouches for the arguments.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel preserves all registers but x0; the caller vouches for the arguments.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number as isize,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, a: [usize; 6]) -> isize {
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 { -(Errno::last_raw() as isize) } else { result as isize }
}

#[inline(always)]
fn checked(result: isize) -> Result<usize, Errno> {
    if result < 0 { Err(Errno::from_raw(-result as i32)) } else { Ok(result as usize) }
}

/// `write(2)`.
#[inline(always)]
pub(crate) fn write(fd: BorrowedFd, data: &[u8]) -> Result<usize, Errno> {
    let arguments = [fd.as_raw_fd() as usize, data.as_ptr() as usize, data.len(), 0, 0, 0];
    // SAFETY: `data` is readable for its length.
    checked(unsafe { syscall(libc::SYS_write, arguments) })
}

/// `read(2)`.
#[inline(always)]
pub(crate) fn read(fd: BorrowedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let arguments = [fd.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: `buffer` is writable for its length.
    checked(unsafe { syscall(libc::SYS_read, arguments) })
}

/// `vmsplice(2)` of one buffer. The pipe refers to the pages of `data`: what is written to them
/// before they are read is what the reader gets.
#[inline(always)]
pub(crate) fn vmsplice(fd: BorrowedFd, data: &[u8], flags: u32) -> Result<usize, Errno> {
    let vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let arguments = [fd.as_raw_fd() as usize, &raw const vector as usize, 1, flags as usize, 0, 0];
    // SAFETY: the kernel reads one iovec and only reads what it points to; pages stay referenced
    // by the pipe after an munmap.
    checked(unsafe { syscall(libc::SYS_vmsplice, arguments) })
}

/// `tee(2)`: what is in the pipe `from` goes into the pipe `to` as well.
#[inline(always)]
pub(crate) fn tee(
    from: BorrowedFd,
    to: BorrowedFd,
    length: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let arguments =
        [from.as_raw_fd() as usize, to.as_raw_fd() as usize, length, flags as usize, 0, 0];
    // SAFETY: no pointer is passed.
    checked(unsafe { syscall(libc::SYS_tee, arguments) })
}

/// `splice(2)` between two descriptors of which one is a pipe, without offsets.
#[inline(always)]
pub(crate) fn splice(
    from: BorrowedFd,
    to: BorrowedFd,
    length: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let arguments =
        [from.as_raw_fd() as usize, 0, to.as_raw_fd() as usize, 0, length, flags as usize];
    // SAFETY: no pointer is passed.
    checked(unsafe { syscall(libc::SYS_splice, arguments) })
}

/// `ppoll(2)` on one descriptor; without `block` it returns at once. Whether `fd` is ready.
#[inline(always)]
pub(crate) fn poll(fd: BorrowedFd, events: i16, block: bool) -> Result<bool, Errno> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let timeout = if block { 0 } else { &raw const now as usize };
    let arguments = [&raw mut entry as usize, 1, timeout, 0, 0, 0];
    // SAFETY: one pollfd that outlives the call, and a timeout that is null or outlives it too;
    // on 64-bit targets libc's timespec is the kernel's.
    checked(unsafe { syscall(libc::SYS_ppoll, arguments) }).map(|ready| ready > 0)
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Whether one of the signals given to [`stop_on`] has arrived.
#[inline(always)]
pub(crate) fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// From now on `signal` makes [`stopped`] true and interrupts a blocking call, once: a second one
/// has its default effect again.
pub(crate) fn stop_on(signal: Signal) -> Result<(), Errno> {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::SA_RESETHAND, SigSet::empty());
    // SAFETY: the handler does one relaxed store.
    unsafe { sigaction(signal, &action) }.map(drop)
}

/// Ignores `signal`.
pub(crate) fn ignore(signal: Signal) -> Result<(), Errno> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler runs.
    unsafe { sigaction(signal, &action) }.map(drop)
}

/// `mprotect(2)`; async-signal-safe, as it is a system call and nothing else. Whoever makes a range
/// read only must be prepared for the signal that a write to it raises.
#[inline(always)]
pub(crate) fn protect(address: usize, bytes: usize, writable: bool) -> Result<(), Errno> {
    let right = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    // SAFETY: no access is ever made wrong in silence: the range stays mapped and readable, and a
    // write to what is read only raises a signal.
    checked(unsafe { syscall(libc::SYS_mprotect, [address, bytes, right as usize, 0, 0, 0]) })
        .map(drop)
}

/// Private anonymous memory, page-aligned or stricter, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Pages {
    mapping: NonNull<u8>,
    mapped_bytes: usize,
    offset: usize,
    bytes: usize,
}

// SAFETY: a mapping belongs to no thread, and its contents are reached through `&mut` only.
unsafe impl Send for Pages {}
// SAFETY: as above; what `&self` offers are system calls.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `bytes` at an address that is a multiple of `alignment`, a power of two. Nothing is
    /// touched.
    pub(crate) fn map(bytes: usize, alignment: usize) -> Result<Pages, Errno> {
        let mapped_bytes = bytes.checked_add(alignment).ok_or(Errno::ENOMEM)?;
        // SAFETY: a new private mapping aliases nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let mapping = NonNull::new(address.cast::<u8>()).ok_or(Errno::ENOMEM)?;
        let offset = address.align_offset(alignment);
        Ok(Pages { mapping, mapped_bytes, offset, bytes })
    }

    /// `madvise(2)` on all of it.
    pub(crate) fn advise(&self, advice: libc::c_int) -> Result<(), Errno> {
        // SAFETY: the range is ours; callers pass only advice that keeps the contents.
        let result = unsafe {
            libc::madvise(self.mapping.as_ptr().add(self.offset).cast(), self.bytes, advice)
        };
        Errno::result(result).map(drop)
    }

    /// `mprotect(2)` of `bytes` from `start` on: read only, or writable again.
    #[inline(always)]
    pub(crate) fn protect(&self, start: usize, bytes: usize, writable: bool) -> Result<(), Errno> {
        if start.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(Errno::EINVAL);
        }
        protect(self.address() + start, bytes, writable)
    }

    /// `mlock(2)` on all of it.
    pub(crate) fn lock(&self) -> Result<(), Errno> {
        // SAFETY: the range is ours.
        let lock = || unsafe {
            Errno::result(libc::mlock(self.mapping.as_ptr().add(self.offset).cast(), self.bytes))
        };
        access::with_rights(lock).map(drop)
    }

    pub(crate) fn address(&self) -> usize {
        self.mapping.as_ptr() as usize + self.offset
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `offset + bytes <= mapped_bytes`, mapped readable and writable, zero-filled by
        // the kernel, and borrowed mutably through `self`. The kernel may read these pages for a
        // pipe meanwhile; it never writes them.
        unsafe {
            std::slice::from_raw_parts_mut(self.mapping.as_ptr().add(self.offset), self.bytes)
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, with no borrow left.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapped_bytes) };
    }
}

/// A `T` alone on its cache line, and on the neighbour that the prefetcher drags along.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

/// What the three processes of a pair share. All zero to begin with.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Board {
    /// 0 shut, 1 open.
    pub(crate) gate: Line<AtomicU32>,
    pub(crate) written_bytes: Line<AtomicU64>,
    pub(crate) read_bytes: Line<AtomicU64>,
    /// `CLOCK_MONOTONIC` when the reader left its loop; 0 before.
    pub(crate) finished_ns: Line<AtomicU64>,
}

/// A mapping of a [`Board`].
#[derive(Debug)]
pub(crate) struct SharedBoard {
    board: NonNull<Board>,
}

// SAFETY: a Board is atomics only, and the mapping lives as long as the value.
unsafe impl Send for SharedBoard {}
// SAFETY: as above.
unsafe impl Sync for SharedBoard {}

impl SharedBoard {
    /// Maps the board that `memory`, a memfd of at least [`size_of::<Board>()`] bytes, holds.
    pub(crate) fn map(memory: BorrowedFd) -> Result<SharedBoard, Errno> {
        let status = nix::sys::stat::fstat(memory)?;
        if (status.st_size as usize) < size_of::<Board>() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: a new mapping; the file is long enough, so that no access raises SIGBUS.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Board>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(address.cast()).map(|board| SharedBoard { board }).ok_or(Errno::ENOMEM)
    }
}

impl std::ops::Deref for SharedBoard {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: mapped until drop, page-aligned, zero or written through atomics of this type.
        unsafe { self.board.as_ref() }
    }
}

impl Drop for SharedBoard {
    fn drop(&mut self) {
        // SAFETY: our own mapping, with no borrow left.
        unsafe { libc::munmap(self.board.as_ptr().cast(), size_of::<Board>()) };
    }
}

/// Sleeps until the gate is open.
pub(crate) fn wait_at(gate: &AtomicU32) {
    while gate.load(Ordering::Acquire) == 0 {
        let arguments = [gate.as_ptr() as usize, libc::FUTEX_WAIT as usize, 0, 0, 0, 0];
        // SAFETY: an aligned u32 that outlives the call, and no timeout. Every early return
        // (EINTR, EAGAIN, spurious) is covered by the loop.
        unsafe { syscall(libc::SYS_futex, arguments) };
    }
}

/// Opens the gate for all that wait.
pub(crate) fn open(gate: &AtomicU32) {
    gate.store(1, Ordering::Release);
    let arguments = [gate.as_ptr() as usize, libc::FUTEX_WAKE as usize, i32::MAX as usize, 0, 0, 0];
    // SAFETY: an aligned u32 that outlives the call.
    unsafe { syscall(libc::SYS_futex, arguments) };
}

/// Starts `command` so that it dies with the calling thread, ignores what a terminal sends to its
/// process group (its parent decides), and keeps the descriptors in `kept` across exec.
pub(crate) fn spawn_tied(command: &mut Command, kept: [RawFd; 2]) -> io::Result<Child> {
    let parent = nix::unistd::getpid().as_raw();
    let prepare = move || {
        // SAFETY: these are async-signal-safe system calls that touch only the new process.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above took effect.
            if libc::getppid() != parent {
                libc::_exit(1);
            }
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
                libc::signal(signal, libc::SIG_IGN);
            }
            for fd in kept {
                if libc::fcntl(fd, libc::F_SETFD, 0) == -1 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing, takes no lock, and makes only the calls above.
    unsafe { command.pre_exec(prepare) }.spawn()
}

/// Takes over a descriptor that was inherited across exec, by its number. It is closed on exec
/// from here on.
pub(crate) fn adopt(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: only the flag of an open descriptor is changed; a closed one gives EBADF.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: open, and by the contract of the end's configuration nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Another descriptor of an open file, by its number: of one that was inherited, and is still
/// somebody else's. It is closed on exec.
pub(crate) fn duplicate(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the call touches no memory, and a closed descriptor gives EBADF.
    let copy = Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: the call just returned this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
