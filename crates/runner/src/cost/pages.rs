//! What it costs to find and hold a page: `vmsplice` into a pipe that the same thread drains.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use super::gup::{self, GupTest};
use super::{Pipe, Spread, some};
use crate::error::Error;
use crate::machine::{self, page_size};
use crate::sys as calls;

/// What [`pages`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Pages {
    /// Bytes of an ordinary page, which is what all costs are per.
    pub page_bytes: u64,
    /// Bytes lent in a round.
    pub bytes: u64,
    /// Rounds, in which the rows take turns.
    pub rounds: u32,
    /// Bytes lent in one call: what the pipe takes.
    pub pipe_bytes: u64,
    /// Ordinary pages and huge ones, touched and untouched.
    pub rows: Vec<PinRow>,
    /// `tee` from one pipe to another: a slot and a reference a page, and no page table.
    pub tee_ns_per_page: Spread,
    /// The kernel's own measurement; else why there is none.
    pub gup_test: Result<GupTest, String>,
    /// What else limits trust in the figures.
    pub notes: Vec<String>,
}

/// The cost of lending pages of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct PinRow {
    /// Bytes of the pages behind the buffer.
    pub backing_bytes: u64,
    /// Whether every page had been written before it was lent. Else the mapping is a new one each
    /// round, and a fault is part of the cost: for reading, so that what is lent is the kernel's
    /// page of zeros (`do_anonymous_page`, `mm/memory.c`, v6.18).
    pub touched: bool,
    /// `vmsplice`: the system call, the page table, the reference, the slot.
    pub vmsplice_ns_per_page: Option<Spread>,
    /// `splice` to `/dev/null`: the slot and the reference given up.
    pub drain_ns_per_page: Option<Spread>,
    /// Page faults in `vmsplice`, by page.
    pub faults_per_page: Option<f64>,
    /// Why there is no figure.
    pub not_had: Option<String>,
}

/// Measures `rounds` rounds (at least one) of lending `bytes`, rounded up to huge pages.
///
/// # Errors
/// [`Error::System`] where a pipe, memory, `vmsplice`, `tee` or `splice` is refused.
pub fn pages(bytes: u64, rounds: u32) -> Result<Pages, Error> {
    let (page, huge) = (page_size(), machine::huge_page_size());
    let (bytes, rounds) = (bytes.max(1).next_multiple_of(huge), rounds.max(1));
    let pipe = Pipe::new()?;
    let kinds = [(page, true), (page, false), (huge, true), (huge, false)];
    let mut found: [Vec<Round>; 4] = Default::default();
    let mut not_had: [Option<String>; 4] = Default::default();
    let mut tees = Vec::new();
    for _ in 0..rounds {
        for (at, &(backing, touched)) in kinds.iter().enumerate() {
            match round(&pipe, bytes, backing, touched)? {
                Ok(round) => found[at].push(round),
                Err(why) => not_had[at] = Some(why),
            }
        }
        tees.push(tee(&pipe, bytes, page)?);
    }
    let rows = kinds.into_iter().zip(found).zip(not_had);
    let rows = rows.map(|((kind, found), not_had)| row(kind, found, not_had)).collect();
    Ok(Pages {
        page_bytes: page,
        bytes,
        rounds,
        pipe_bytes: pipe.bytes as u64,
        rows,
        tee_ns_per_page: Spread::of(tees).ok_or_else(|| Error::Refused("no round".to_owned()))?,
        gup_test: gup::measure(bytes, page),
        notes: machine::vmsplice_note().into_iter().collect(),
    })
}

fn row(
    (backing_bytes, touched): (u64, bool),
    found: Vec<Round>,
    not_had: Option<String>,
) -> PinRow {
    let of = |part: fn(&Round) -> f64| Spread::of(found.iter().map(part).collect());
    PinRow {
        backing_bytes,
        touched,
        vmsplice_ns_per_page: of(|round| round.vmsplice_ns),
        drain_ns_per_page: of(|round| round.drain_ns),
        faults_per_page: of(|round| round.faults).map(|spread| spread.median),
        // Rounds without huge pages are left out, and matter only where that was all of them.
        not_had: if found.is_empty() { not_had } else { None },
    }
}

/// Means of one round, per page.
struct Round {
    vmsplice_ns: f64,
    drain_ns: f64,
    faults: f64,
}

/// One round; else why the pages that were asked for were not available.
fn round(
    pipe: &Pipe,
    bytes: u64,
    backing: u64,
    touched: bool,
) -> Result<Result<Round, String>, Error> {
    let page = page_size();
    let huge = backing > page;
    let mut memory = calls::Pages::map(bytes as usize, backing as usize)
        .map_err(Error::system("can't allocate a buffer"))?;
    let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    if memory.advise(advice).is_err() && huge {
        return Ok(Err("this kernel has no transparent huge pages".to_owned()));
    }
    let data = memory.as_mut_slice();
    let before = faults();
    if touched {
        data.fill(b'X');
    }
    let touching = faults() - before;
    let before = faults();
    let (mut lending, mut draining) = (Duration::ZERO, Duration::ZERO);
    let mut rest = &*data;
    while !rest.is_empty() {
        let began = Instant::now();
        let lent = pipe.lend(&rest[..rest.len().min(pipe.bytes)])?;
        let between = Instant::now();
        pipe.drain(lent)?;
        draining += between.elapsed();
        lending += between - began;
        rest = &rest[lent..];
    }
    let lent_faults = faults() - before;
    // Each page, of whatever size, faults once: that shows the size, even without the right to read
    // page flags, and for the huge zero page, which `AnonHugePages` doesn't count. Twice the number
    // leaves room for faults that have nothing to do with the buffer.
    if huge && touching + lent_faults > 2 * (bytes / backing) + 8 {
        return Ok(Err(no_huge_pages()));
    }
    let pages = (bytes / page) as f64;
    Ok(Ok(Round {
        vmsplice_ns: lending.as_nanos() as f64 / pages,
        drain_ns: draining.as_nanos() as f64 / pages,
        faults: lent_faults as f64 / pages,
    }))
}

fn no_huge_pages() -> String {
    match machine::transparent_huge_pages().as_deref() {
        Some("never") => {
            "transparent huge pages are off; \
             echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
        }
        _ => "memory may be too fragmented; echo 1 | sudo tee /proc/sys/vm/compact_memory",
    }
    .to_owned()
}

/// Minor faults of this thread so far.
fn faults() -> u64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.minor_page_faults() as u64)
}

/// One round of `tee` from a full pipe into `pipe`: nanoseconds a page.
fn tee(pipe: &Pipe, bytes: u64, page: u64) -> Result<f64, Error> {
    let full = Pipe::new()?;
    let mut memory = calls::Pages::map(full.bytes.min(pipe.bytes), page as usize)
        .map_err(Error::system("can't allocate a buffer"))?;
    // Without this, `transparent_hugepage=always` would measure huge pages.
    let _ = memory.advise(libc::MADV_NOHUGEPAGE);
    memory.as_mut_slice().fill(b'X');
    let held = full.lend(memory.as_mut_slice())?;
    let (mut teeing, mut moved) = (Duration::ZERO, 0);
    while moved < bytes {
        let began = Instant::now();
        let now = calls::tee(full.outlet.as_fd(), pipe.inlet.as_fd(), held, 0)
            .and_then(some)
            .map_err(Error::system("can't tee into a pipe"))?;
        teeing += began.elapsed();
        pipe.drain(now)?;
        moved += now as u64;
    }
    Ok(teeing.as_nanos() as f64 / (moved / page) as f64)
}
