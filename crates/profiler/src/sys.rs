//! The perf system calls, and the trait with which a test can replace the kernel.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use pipeprof_runner::access;

use crate::attr::EventAttr;
use crate::ring::Ring;

/// What pipeprof asks of the kernel's perf subsystem.
pub trait PerfSystem {
    /// `perf_event_open(2)`. `pid` -1 is every process, `cpu` -1 every CPU.
    ///
    /// # Errors
    /// The errno of the call.
    fn open(&self, attr: &EventAttr, pid: i32, cpu: i32) -> Result<OwnedFd, Errno>;

    /// Maps the ring of an event with `bytes` (a power of two of pages) for records.
    ///
    /// # Errors
    /// The errno of `mmap(2)`: EPERM above the locked-memory allowance.
    fn map(&self, event: BorrowedFd<'_>, bytes: usize) -> Result<Ring, Errno>;

    /// Sends the records of `event` into the ring of `target`, which must be on the same CPU.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn redirect(&self, event: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno>;

    /// Starts an event.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn enable(&self, event: BorrowedFd<'_>) -> Result<(), Errno>;

    /// Stops an event.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn disable(&self, event: BorrowedFd<'_>) -> Result<(), Errno>;

    /// Changes the period of an event that is open.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn set_period(&self, event: BorrowedFd<'_>, period: u64) -> Result<(), Errno>;

    /// Lets a tracepoint's event count and record only what passes a filter
    /// (Documentation/trace/events.rst, "Event filtering").
    ///
    /// # Errors
    /// The errno of the ioctl; EINVAL where the filter names no field of the tracepoint.
    fn set_filter(&self, event: BorrowedFd<'_>, filter: &str) -> Result<(), Errno>;

    /// The id that records of this event carry.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn id(&self, event: BorrowedFd<'_>) -> Result<u64, Errno>;
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunningKernel;

// The request numbers of `PERF_EVENT_IOC_*` (include/uapi/linux/perf_event.h).
const IOC_ENABLE: libc::Ioctl = 0x2400;
const IOC_DISABLE: libc::Ioctl = 0x2401;
const IOC_SET_OUTPUT: libc::Ioctl = 0x2405;
const IOC_PERIOD: libc::Ioctl = 0x4008_2404;
const IOC_SET_FILTER: libc::Ioctl = 0x4008_2406;
const IOC_ID: libc::Ioctl = 0x8008_2407;

const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

impl PerfSystem for RunningKernel {
    fn open(&self, attr: &EventAttr, pid: i32, cpu: i32) -> Result<OwnedFd, Errno> {
        // SAFETY: the kernel reads `attr.size` bytes behind the pointer, and that is the size of
        // the struct (asserted where it is defined); it writes only `size`, and only with E2BIG,
        // into memory that this copy owns.
        let open = || unsafe {
            let mut attr = *attr;
            Errno::result(libc::syscall(
                libc::SYS_perf_event_open,
                &raw mut attr,
                pid,
                cpu,
                -1 as libc::c_int,
                PERF_FLAG_FD_CLOEXEC,
            ))
        };
        let fd = access::with_rights(open)?;
        // SAFETY: the call just returned this descriptor, so nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    fn map(&self, event: BorrowedFd<'_>, bytes: usize) -> Result<Ring, Errno> {
        access::with_rights(|| Ring::map(event, bytes))
    }

    fn redirect(&self, event: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: SET_OUTPUT takes a descriptor as its integer argument and touches no memory.
        Errno::result(unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_OUTPUT, target.as_raw_fd()) })
            .map(drop)
    }

    fn enable(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: ENABLE takes a flag word as its integer argument and touches no memory.
        Errno::result(unsafe { libc::ioctl(event.as_raw_fd(), IOC_ENABLE, 0) }).map(drop)
    }

    fn disable(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: DISABLE takes a flag word as its integer argument and touches no memory.
        Errno::result(unsafe { libc::ioctl(event.as_raw_fd(), IOC_DISABLE, 0) }).map(drop)
    }

    fn set_period(&self, event: BorrowedFd<'_>, period: u64) -> Result<(), Errno> {
        // SAFETY: PERIOD reads one u64 through the pointer, which points to one.
        let set = unsafe { libc::ioctl(event.as_raw_fd(), IOC_PERIOD, &raw const period) };
        Errno::result(set).map(drop)
    }

    fn set_filter(&self, event: BorrowedFd<'_>, filter: &str) -> Result<(), Errno> {
        let filter = std::ffi::CString::new(filter).map_err(|_| Errno::EINVAL)?;
        // SAFETY: SET_FILTER reads a string that ends with a NUL, which a CString does, and copies
        // it before it returns.
        let set = unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_FILTER, filter.as_ptr()) };
        Errno::result(set).map(drop)
    }

    fn id(&self, event: BorrowedFd<'_>) -> Result<u64, Errno> {
        let mut id = 0u64;
        // SAFETY: ID writes one u64 through the pointer, which points to one.
        Errno::result(unsafe { libc::ioctl(event.as_raw_fd(), IOC_ID, &raw mut id) })?;
        Ok(id)
    }
}

/// The head of `struct sched_attr` (include/uapi/linux/sched/types.h).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Has the scheduler run this thread, which does little at a time, as soon as it wakes: with
/// real-time priority where the user may have that, else with short slices, which let a waking
/// thread run before those with long ones (`sched_runtime` of an ordinary thread,
/// kernel/sched/syscalls.c, Linux 6.12). Where both are refused nothing changes.
pub(crate) fn schedule_first() {
    const SLICE_NS: u64 = 100_000;
    let first = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads a whole `sched_param`; 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const first) } == 0 {
        return;
    }
    // SAFETY: plain calls; the kernel reads `size` bytes, which is the size of the struct.
    unsafe {
        let attr = SchedAttr {
            size: size_of::<SchedAttr>() as u32,
            policy: libc::SCHED_OTHER as u32,
            flags: 0,
            nice: libc::getpriority(libc::PRIO_PROCESS, 0),
            priority: 0,
            runtime: SLICE_NS,
            deadline: 0,
            period: 0,
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0);
    }
}

/// `FS_IOC_GETVERSION` (include/uapi/linux/fs.h): which file it is of those that had its inode.
const IOC_GETVERSION: libc::Ioctl = 0x8008_7601;

/// The generation of a file's inode, which another file may have had before; `None` where the file
/// system does not tell.
pub(crate) fn generation(file: &std::fs::File) -> Option<u32> {
    let mut generation: libc::c_long = 0;
    // SAFETY: GETVERSION writes an int or a long, by file system, through the pointer, which points
    // to a long.
    let told = unsafe { libc::ioctl(file.as_raw_fd(), IOC_GETVERSION, &raw mut generation) };
    Errno::result(told).ok().map(|_| generation as u32)
}

/// Gives the memory of a stretch of a mapped file back; what is read of it again comes from the file
/// again.
pub(crate) fn forget(map: &memmap2::Mmap, offset: usize, length: usize) {
    let advice = memmap2::UncheckedAdvice::DontNeed;
    // SAFETY: MADV_DONTNEED drops pages, and those of a file mapping that was never written to come
    // back with the same bytes. The range is checked by memmap2 to lie within the mapping.
    let _ = unsafe { map.unchecked_advise_range(advice, offset, length) };
}

/// Maps a whole file for reading.
pub(crate) fn map_file(file: &std::fs::File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: recordings are append-only while they are made and never written again. Should
    // somebody truncate one while it is read, the read faults (SIGBUS), which no check here could
    // prevent; it never yields a wrong value that is used as memory.
    unsafe { memmap2::Mmap::map(file) }
}
