//! One perf ring buffer: the memory that the kernel writes records into.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

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

    /// Where the kernel has come to: all records before it are whole.
    pub fn head(&self) -> u64 {
        // Acquire pairs with the barrier before the kernel's store of data_head: what is read
        // after this was written before (kernel/events/ring_buffer.c, perf_output_put_handle,
        // v6.18).
        self.counter(DATA_HEAD).load(Ordering::Acquire)
    }

    /// Shows the records up to a [head](Ring::head), in two pieces that follow each other. Their
    /// room is not freed.
    ///
    /// # Errors
    /// Where the head lies further on than the ring is long.
    pub fn peek<R>(&self, head: u64, look: impl FnOnce(&[u8], &[u8]) -> R) -> io::Result<R> {
        let tail = self.counter(DATA_TAIL).load(Ordering::Relaxed);
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
        // mode, as it is mapped writable), and whoever moves it needs this value for itself. The
        // two slices cover exactly that range, wrapped, and both end with this call.
        let (older, newer) = unsafe {
            let data = self.base.as_ptr().add(self.page_bytes);
            (
                std::slice::from_raw_parts(data.add(start), first),
                std::slice::from_raw_parts(data, length - first),
            )
        };
        Ok(look(older, newer))
    }

    /// Frees the room of the records up to a head, which have been read.
    pub fn release(&mut self, head: u64) {
        // Release: the kernel may write over the records only after they have been read.
        self.counter(DATA_TAIL).store(head, Ordering::Release);
    }

    /// Appends all that is there, whole records, and frees their room. Returns the bytes.
    ///
    /// # Errors
    /// Those of [`Ring::peek`].
    pub fn take_into(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let head = self.head();
        let length = self.peek(head, |older, newer| {
            out.extend_from_slice(older);
            out.extend_from_slice(newer);
            older.len() + newer.len()
        })?;
        self.release(head);
        Ok(length)
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie in the mapped control page, aligned to 8 bytes, and user space
        // and kernel access them only as whole 64-bit words.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no slice of it outlives
        // `drain`.
        let _ = unsafe { munmap(self.base.cast(), self.page_bytes + self.data_bytes) };
    }
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

    /// Plays the kernel: writes bytes at head, wrapped, and moves head.
    #[cfg(test)]
    pub(crate) fn produce(&self, file: &std::fs::File, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let head = self.counter(DATA_HEAD).load(Ordering::Relaxed);
        for (i, byte) in bytes.iter().enumerate() {
            let at = (head as usize + i) % self.data_bytes;
            file.write_all_at(&[*byte], (self.page_bytes + at) as u64).unwrap();
        }
        self.counter(DATA_HEAD).store(head + bytes.len() as u64, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_across_the_wrap_in_order() {
        let file = tempfile::tempfile().unwrap();
        let mut ring = Ring::over_file(&file, page_bytes());
        let capacity = ring.capacity();
        let mut expected = Vec::new();
        let mut drained = Vec::new();
        for round in 0..50u8 {
            let chunk = vec![round; capacity / 3];
            ring.produce(&file, &chunk);
            expected.extend_from_slice(&chunk);
            assert_eq!(ring.take_into(&mut drained).unwrap(), chunk.len());
        }
        assert_eq!(drained, expected);
        assert_eq!(ring.take_into(&mut drained).unwrap(), 0);
    }

    #[test]
    fn a_head_beyond_the_capacity_is_an_error_not_a_read() {
        let file = tempfile::tempfile().unwrap();
        let ring = Ring::over_file(&file, page_bytes());
        ring.counter(DATA_HEAD).store(ring.capacity() as u64 + 8, Ordering::Relaxed);
        assert!(ring.peek(ring.head(), |_, _| ()).is_err());
    }
}
