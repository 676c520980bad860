//! The memory that an end writes from or reads into.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::error::Error;
use crate::machine::{self, page_size};
use crate::plan::PairPlan;
use crate::sys::Pages;

/// Where `malloc` puts a buffer of this size: behind its own header, 16 bytes into a page. The
/// article's program sends such buffers. Each spans one page more than its size has, so that it
/// takes three calls of `vmsplice` and not two to go through a pipe of half its size. With aligned
/// buffers the `splice` stage moves about a fifth less (0.82 against 1.00 of the article's program,
/// median of 15 runs, 6.18); most likely since the ends then wait for each other in lockstep.
const MALLOC_HEADER: usize = 16;

/// Memory that is set up as the plan says.
#[derive(Debug)]
pub(super) struct Buffer {
    pages: Pages,
    start: usize,
    bytes: usize,
}

impl Buffer {
    /// For `write`.
    pub(super) fn copied(plan: &PairPlan, notes: &mut Vec<String>) -> Result<Buffer, Error> {
        allocate(plan, plan.buf_size, 0, notes)
    }

    /// For `read`.
    pub(super) fn read(plan: &PairPlan, notes: &mut Vec<String>) -> Result<Buffer, Error> {
        allocate(plan, plan.read_size, 0, notes)
    }

    /// For `vmsplice`.
    pub(super) fn lent(plan: &PairPlan, notes: &mut Vec<String>) -> Result<Buffer, Error> {
        // Only whole pages can be given away (vmsplice(2)), and the article aligns huge ones.
        let whole = plan.huge_page || plan.gift;
        allocate(plan, plan.buf_size, if whole { 0 } else { MALLOC_HEADER }, notes)
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.pages.as_mut_slice()[self.start..][..self.bytes]
    }
}

/// Allocates a buffer as the plan says: locked, touched, and checked.
fn allocate(
    plan: &PairPlan,
    size: u64,
    start: usize,
    notes: &mut Vec<String>,
) -> Result<Buffer, Error> {
    let (granule, advice) = if plan.huge_page {
        (machine::huge_page_size(), libc::MADV_HUGEPAGE)
    } else {
        // Without this, `transparent_hugepage=always` would turn every stage into `huge-page`.
        (page_size(), libc::MADV_NOHUGEPAGE)
    };
    let bytes = (size + start as u64).next_multiple_of(granule);
    let pages = Pages::map(bytes as usize, granule as usize)
        .map_err(Error::system("can't allocate a buffer"))?;
    let advised = pages.advise(advice);
    if plan.huge_page {
        advised.map_err(Error::system("this kernel has no transparent huge pages"))?;
    }
    if plan.lock_memory {
        pages.lock().map_err(|source| Error::LockMemory { bytes, source })?;
    }
    let mut buffer = Buffer { pages, start, bytes: size as usize };
    if !plan.dont_touch_pages {
        buffer.as_mut_slice().fill(b'X');
    }
    if plan.check_huge_page {
        check_huge(&buffer.pages, size)?;
    } else if plan.huge_page && !plan.dont_touch_pages && !looks_huge(&buffer.pages) {
        notes.push(not_huge_note());
    }
    Ok(buffer)
}

fn not_huge_note() -> String {
    match machine::transparent_huge_pages().as_deref() {
        Some("never") => "no huge pages: they are disabled; echo madvise | sudo tee \
                          /sys/kernel/mm/transparent_hugepage/enabled"
            .to_owned(),
        _ => "no huge page was available: memory may be too fragmented; echo 1 | sudo tee \
              /proc/sys/vm/compact_memory"
            .to_owned(),
    }
}

/// Whether the kernel counts huge pages in the mapping, which an ordinary user may ask. True
/// where it does not say.
fn looks_huge(pages: &Pages) -> bool {
    let Ok(text) = fs::read_to_string("/proc/self/smaps") else { return true };
    let mut inside = false;
    for line in text.lines() {
        if let Some((start, end)) = mapped_range(line) {
            inside = (start..end).contains(&pages.address());
        } else if let (true, Some(count)) = (inside, line.strip_prefix("AnonHugePages:")) {
            return count.trim() != "0 kB";
        }
    }
    true
}

fn mapped_range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

/// Looks up every page of the buffer in `/proc/self/pagemap` and `/proc/kpageflags`.
fn check_huge(pages: &Pages, bytes: u64) -> Result<(), Error> {
    // Documentation/admin-guide/mm/pagemap.rst, v6.18.
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    const KPF_THP: u64 = 1 << 22;
    let unknown = |what: &str| Error::HugeUnknown { what: what.to_owned() };
    let open = |path| File::open(path).map_err(|error| unknown(&format!("{path}: {error}")));
    let pagemap = open("/proc/self/pagemap")?;
    let kpageflags = open("/proc/kpageflags")?;
    let entry = |file: &File, index: u64, name| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, index * 8)
            .map_err(|error| unknown(&format!("{name}: {error}")))?;
        Ok(u64::from_ne_bytes(word))
    };
    let page = page_size();
    for offset in (0..bytes).step_by(page as usize) {
        let address = pages.address() as u64 + offset;
        let mapped = entry(&pagemap, address / page, "/proc/self/pagemap")?;
        if mapped & PRESENT == 0 {
            return Err(unknown("a page of the buffer is not in memory"));
        }
        if mapped & FRAME == 0 {
            return Err(unknown("/proc/self/pagemap hides page frames"));
        }
        if entry(&kpageflags, mapped & FRAME, "/proc/kpageflags")? & KPF_THP == 0 {
            return Err(Error::NotHuge { offset });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_smaps() {
        assert_eq!(mapped_range("7f00-7fff rw-p 00000000 00:00 0"), Some((0x7f00, 0x7fff)));
        assert_eq!(mapped_range("AnonHugePages:      2048 kB"), None);
        assert_eq!(mapped_range("VmFlags: rd wr"), None);
    }
}
