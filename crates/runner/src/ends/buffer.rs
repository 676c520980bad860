//! The memory that an end writes from or reads into.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::error::Error;
use crate::machine;
use crate::plan::{PairPlan, page_size};
use crate::sys::Pages;

/// Allocates one buffer as the plan says: aligned, locked, touched, and checked.
pub(super) fn allocate(plan: &PairPlan, notes: &mut Vec<String>) -> Result<Pages, Error> {
    let (granule, advice) = if plan.huge_page {
        (machine::huge_page_size(), libc::MADV_HUGEPAGE)
    } else {
        // Without this, `transparent_hugepage=always` would turn every stage into `huge-page`.
        (page_size(), libc::MADV_NOHUGEPAGE)
    };
    let bytes = plan.buf_size.next_multiple_of(granule);
    let mut pages = Pages::map(bytes as usize, granule as usize)
        .map_err(Error::system("can't allocate a buffer"))?;
    let advised = pages.advise(advice);
    if plan.huge_page {
        advised.map_err(Error::system("this kernel has no transparent huge pages"))?;
    }
    if plan.lock_memory {
        pages.lock().map_err(|source| Error::LockMemory { bytes, source })?;
    }
    if !plan.dont_touch_pages {
        pages.as_mut_slice()[..plan.buf_size as usize].fill(b'X');
    }
    if plan.check_huge_page {
        check_huge(&pages, plan.buf_size)?;
    } else if plan.huge_page && !plan.dont_touch_pages && !looks_huge(&pages) {
        notes.push(not_huge_note());
    }
    Ok(pages)
}

fn not_huge_note() -> String {
    match machine::transparent_huge_pages().as_deref() {
        Some("never") => "no huge pages: they are switched off; \
                          echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
            .to_owned(),
        _ => "no huge page was to be had: memory may be too fragmented; \
              echo 1 | sudo tee /proc/sys/vm/compact_memory"
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
