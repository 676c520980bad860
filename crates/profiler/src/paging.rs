//! Keeps only part of a mapped file in memory while one pass goes over it.

use memmap2::{Advice, Mmap};

/// What is asked for at once. Each page fault costs as much as reading some records.
const AHEAD: usize = 4 << 20;

/// Moves along a file: pages in what comes, a stretch at a time, and lets go of what is done.
#[derive(Debug)]
pub(crate) struct Paging<'a> {
    map: Option<&'a Mmap>,
    page: usize,
    /// Nothing before this is needed any more.
    start: usize,
    /// Everything before this was asked for.
    end: usize,
}

impl<'a> Paging<'a> {
    /// At the start of the file.
    pub(crate) fn new(map: &'a Mmap) -> Self {
        // All advice is for speed alone: an old kernel that does not know it reads all the same.
        let _ = map.advise(Advice::Sequential);
        Paging { map: Some(map), page: crate::ring::page_bytes(), start: 0, end: 0 }
    }

    /// For bytes that are in memory for good.
    pub(crate) fn none() -> Self {
        Paging { map: None, page: 1, start: 0, end: usize::MAX }
    }

    /// The pass has come so far.
    #[inline]
    pub(crate) fn reach(&mut self, at: usize) {
        if at >= self.end {
            self.read_ahead(at);
        }
    }

    fn read_ahead(&mut self, at: usize) {
        let Some(map) = self.map else { return };
        let from = at - at % self.page;
        let length = AHEAD.min(map.len().saturating_sub(from));
        let _ = map.advise_range(Advice::PopulateRead, from, length);
        self.end = from + length.max(self.page);
    }

    /// Nothing before `at` is needed any more.
    pub(crate) fn leave(&mut self, at: usize) {
        let Some(map) = self.map else { return };
        let until = at - at % self.page;
        if until >= self.start + AHEAD {
            crate::sys::forget(map, self.start, until - self.start);
            self.start = until;
        }
    }
}
