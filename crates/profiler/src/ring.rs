//! One perf ring buffer: the memory that the kernel writes records into.

use std::io::{self, IoSlice, Write};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::perfdata::read::Records;
use crate::perfdata::record::RECORD_HEADER;

/// Byte offsets of `data_head` and `data_tail` in `struct perf_event_mmap_page`: a page of fixed
/// layout, with 1 KiB for what is before them (include/uapi/linux/perf_event.h, v5.10 to v6.18).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// A mapped ring, its control page first. Unmapped when dropped.
#[derive(Debug)]
pub struct Ring {
    base: NonNull<u8>,
    page_bytes: usize,
    data_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and the kernel is the only other party that
// writes to it, by the protocol of data_head and data_tail, from whichever thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the control page and `data_bytes` of ring, which must be a power of two of pages.
    ///
    /// # Errors
    /// The errno of `mmap(2)`; EINVAL where `data_bytes` is no power of two of pages.
    pub fn map(event: BorrowedFd<'_>, data_bytes: usize) -> Result<Ring, Errno> {
        let page_bytes = page_bytes();
        if !data_bytes.is_power_of_two() || data_bytes < page_bytes {
            return Err(Errno::EINVAL);
        }
        let length = NonZeroUsize::new(page_bytes + data_bytes).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let base = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                event,
                0,
            )?
        };
        Ok(Ring { base: base.cast(), page_bytes, data_bytes })
    }

    /// Bytes that the ring holds when full.
    pub fn capacity(&self) -> usize {
        self.data_bytes
    }

    /// Copies all records that are there into `out`, whole, and frees their room. Returns the
    /// bytes copied.
    ///
    /// # Errors
    /// What `out` answers. The records stay in the ring then.
    pub fn drain(&mut self, out: &mut impl Write) -> io::Result<usize> {
        let pending = self.pending()?;
        let length = pending.older.len() + pending.newer.len();
        if length > 0 {
            write_both(out, pending.older, pending.newer)?;
            self.free(length);
        }
        Ok(length)
    }

    /// Frees the room of the records that lie within the first `bytes`, and returns how many bytes
    /// they have: of a write that failed in the middle of one.
    pub(crate) fn free_whole(&mut self, bytes: usize) -> usize {
        let Ok(pending) = self.pending() else { return 0 };
        let mut records = [pending.older, pending.newer].concat();
        records.truncate(bytes);
        let ends =
            Records::new(&records).map(|(at, record)| at + RECORD_HEADER + record.body.len());
        let whole = ends.last().unwrap_or_default();
        self.free(whole);
        whole
    }

    /// How many records are there.
    pub(crate) fn records(&self) -> u64 {
        let Ok(pending) = self.pending() else { return 0 };
        Records::new(&[pending.older, pending.newer].concat()).count() as u64
    }

    /// What the kernel has written and nobody freed.
    fn pending(&self) -> io::Result<Pending<'_>> {
        let tail = self.counter(DATA_TAIL).load(Ordering::Relaxed);
        // Acquire pairs with the barrier before the kernel's store of data_head: what is read
        // below was written before (kernel/events/ring_buffer.c, perf_output_put_handle, v6.18).
        let head = self.counter(DATA_HEAD).load(Ordering::Acquire);
        let length = head.wrapping_sub(tail);
        if length > self.data_bytes as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the ring buffer's head ran past its tail",
            ));
        }
        let length = length as usize;
        let start = (tail & (self.data_bytes as u64 - 1)) as usize;
        let first = length.min(self.data_bytes - start);
        // SAFETY: data starts one page into the mapping and is data_bytes long. [tail, head) is
        // ours until data_tail moves: the kernel never writes there (the ring is not in overwrite
        // mode, as it is mapped writable). The two slices cover exactly that range, wrapped, and
        // borrow the ring, which `free` needs for itself to move data_tail.
        let (older, newer) = unsafe {
            let data = self.base.as_ptr().add(self.page_bytes);
            (
                std::slice::from_raw_parts(data.add(start), first),
                std::slice::from_raw_parts(data, length - first),
            )
        };
        Ok(Pending { older, newer })
    }

    /// Gives the kernel the room of what was read. No more than was pending.
    fn free(&mut self, bytes: usize) {
        let tail = self.counter(DATA_TAIL).load(Ordering::Relaxed);
        // Release: the kernel may write over the records only after they have been read.
        self.counter(DATA_TAIL).store(tail.wrapping_add(bytes as u64), Ordering::Release);
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie in the mapped control page, aligned to 8 bytes, and user space
        // and kernel access them only as whole 64-bit words.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

/// Records in a ring, whole, in the order of the two slices.
struct Pending<'a> {
    older: &'a [u8],
    newer: &'a [u8],
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no slice of it outlives
        // `drain`.
        let _ = unsafe { munmap(self.base.cast(), self.page_bytes + self.data_bytes) };
    }
}

fn write_both(out: &mut impl Write, older: &[u8], newer: &[u8]) -> io::Result<()> {
    if newer.is_empty() {
        return out.write_all(older);
    }
    let mut slices = [IoSlice::new(older), IoSlice::new(newer)];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match out.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The machine's page size.
pub fn page_bytes() -> usize {
    // SAFETY: sysconf only reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

impl Ring {
    /// The ring's memory in a file instead of an event, for tests without perf.
    #[cfg(test)]
    pub(crate) fn over_file(file: &std::fs::File, data_bytes: usize) -> Ring {
        use std::os::fd::AsFd;
        file.set_len((page_bytes() + data_bytes) as u64).unwrap();
        Ring::map(file.as_fd(), data_bytes).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the kernel: writes bytes at head, wrapped, and moves head.
    fn produce(ring: &Ring, file: &std::fs::File, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let head = ring.counter(DATA_HEAD).load(Ordering::Relaxed);
        for (i, byte) in bytes.iter().enumerate() {
            let at = (head as usize + i) % ring.data_bytes;
            file.write_all_at(&[*byte], (ring.page_bytes + at) as u64).unwrap();
        }
        ring.counter(DATA_HEAD).store(head + bytes.len() as u64, Ordering::Release);
    }

    #[test]
    fn drains_across_the_wrap_in_order() {
        let file = tempfile::tempfile().unwrap();
        let mut ring = Ring::over_file(&file, page_bytes());
        let capacity = ring.capacity();
        let mut expected = Vec::new();
        let mut drained = Vec::new();
        for round in 0..50u8 {
            let chunk = vec![round; capacity / 3];
            produce(&ring, &file, &chunk);
            expected.extend_from_slice(&chunk);
            assert_eq!(ring.drain(&mut drained).unwrap(), chunk.len());
        }
        assert_eq!(drained, expected);
        assert_eq!(ring.drain(&mut drained).unwrap(), 0);
    }

    #[test]
    fn a_failed_write_keeps_the_records() {
        let file = tempfile::tempfile().unwrap();
        let mut ring = Ring::over_file(&file, page_bytes());
        produce(&ring, &file, b"record");
        let mut full: &mut [u8] = &mut [];
        assert!(ring.drain(&mut full).is_err());
        let mut out = Vec::new();
        ring.drain(&mut out).unwrap();
        assert_eq!(out, b"record");
    }

    #[test]
    fn what_was_written_of_a_failed_write_is_kept_up_to_its_last_whole_record() {
        let file = tempfile::tempfile().unwrap();
        let mut ring = Ring::over_file(&file, page_bytes());
        let record = [&9u32.to_ne_bytes()[..], &[0, 0, 24, 0], &[7; 16]].concat();
        for _ in 0..3 {
            produce(&ring, &file, &record);
        }
        assert_eq!(ring.records(), 3);
        assert_eq!(ring.free_whole(2 * 24 + 5), 2 * 24);
        assert_eq!(ring.records(), 1);
        assert_eq!(ring.free_whole(23), 0);
        let mut out = Vec::new();
        ring.drain(&mut out).unwrap();
        assert_eq!(out, record);
    }

    #[test]
    fn a_head_beyond_the_capacity_is_an_error_not_a_read() {
        let file = tempfile::tempfile().unwrap();
        let mut ring = Ring::over_file(&file, page_bytes());
        ring.counter(DATA_HEAD).store(ring.capacity() as u64 + 8, Ordering::Relaxed);
        assert!(ring.drain(&mut Vec::new()).is_err());
    }
}
