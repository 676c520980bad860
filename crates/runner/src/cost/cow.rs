//! Copy-on-write by write protection: the cost of lending pages without a second buffer, against
//! the copy that this saves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::sys::{Guarded, Reader};
use super::{Pipe, Spread};
use crate::cpus::{self, Pin, Placement};
use crate::error::Error;
use crate::machine::{self, page_size};
use crate::pipeline::End;

/// Pages protected at a time.
const BATCHES: [usize; 2] = [1, 64];

/// What [`cow`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Cow {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages of the buffer, all of which are copied and protected in a round.
    pub pages: u64,
    /// Rounds.
    pub rounds: u32,
    /// By threads, then by pages at a time.
    pub rows: Vec<CowRow>,
    /// Whether the second thread had its CPU most of the time. Where not, rows of two threads say
    /// too little of flushes and too much of waiting, and a note says so.
    pub second_thread_ran: bool,
    /// Why there are no rows for two threads.
    pub two_threads_not_had: Option<String>,
    /// What else limits trust in the figures.
    pub notes: Vec<String>,
}

/// Copying against protecting, nanoseconds a page.
#[derive(Clone, Debug, Serialize)]
pub struct CowRow {
    /// 2 with a second thread that reads the buffer on another CPU all the time, whose TLB has to
    /// be flushed.
    pub threads: u32,
    /// Pages copied, or protected and unprotected, at a time.
    pub pages_at_a_time: u64,
    /// Copying them within the process, for the second time in a row: what is saved.
    pub copy_ns_per_page: Spread,
    /// `mprotect` to read only.
    pub protect_ns_per_page: Spread,
    /// `vmsplice`, and `splice` to `/dev/null`: any scheme without a copy has these.
    pub splice_ns_per_page: Spread,
    /// A write to each page; the first one finds it protected, and a SIGSEGV handler makes all of
    /// them writable.
    pub fault_ns_per_page: Spread,
    /// (protect + fault) / copy, of the same round.
    pub times_the_copy: Spread,
    /// SIGSEGVs, by page: one each time pages were protected.
    pub faults_per_page: f64,
}

/// Measures `rounds` rounds (at least one) over `pages` pages, rounded up to 64, on a CPU of its
/// own: first alone, then with a second thread on another one.
///
/// Installs a SIGSEGV handler meanwhile; two calls in a process wait for each other.
///
/// # Errors
/// [`Error::System`] where a pipe, memory, `vmsplice`, `splice` or `mprotect` is refused;
/// [`Error::Pin`] where a CPU is.
pub fn cow(pages: u64, rounds: u32) -> Result<Cow, Error> {
    let (page, rounds) = (page_size() as usize, rounds.max(1));
    let pages = (pages.max(1) as usize).next_multiple_of(BATCHES[1]);
    let place = cpus::place(Pin::Auto)?;
    // A thread, as pinning is for life.
    let measured =
        thread::scope(|scope| scope.spawn(|| measure(pages, page, rounds, place)).join());
    let (rows, busy) = measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let mut notes: Vec<String> = machine::vmsplice_note().into_iter().collect();
    if let Some(busy) = busy.filter(|&busy| busy < 0.8) {
        notes.push(format!(
            "the second thread had a CPU only {:.0} % of the time, so fewer TLBs were flushed than \
             the figures for two threads imply: measure again with less other load",
            busy * 100.0
        ));
    }
    let two_threads_not_had =
        busy.is_none().then(|| "this process may use only one CPU".to_owned());
    let second_thread_ran = busy.is_some_and(|busy| busy >= 0.8);
    let pages = pages as u64;
    Ok(Cow {
        page_bytes: page as u64,
        pages,
        rounds,
        rows,
        second_thread_ran,
        two_threads_not_had,
        notes,
    })
}

/// The rows, and the second thread's share of its CPU, if there was one.
fn measure(
    pages: usize,
    page: usize,
    rounds: u32,
    place: Placement,
) -> Result<(Vec<CowRow>, Option<f64>), Error> {
    if let Some(cpu) = place.writer {
        cpus::pin_to(cpu, End::Writer)?;
    }
    let mut bench = Bench::new(pages, page)?;
    let mut rows = bench.rows(1, rounds)?;
    let Some(cpu) = place.reader.filter(|_| !place.only_one) else { return Ok((rows, None)) };
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let reader = bench.memory.reader();
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            let pinned = cpus::pin_to(cpu, End::Reader);
            begun.store(true, Ordering::Release);
            pinned.map(|()| read_until(&done, reader, pages, page))
        });
        while !begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let more = bench.rows(2, rounds);
        done.store(true, Ordering::Release);
        let busy = second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        rows.extend(more?);
        Ok((rows, Some(busy)))
    })
}

/// Reads a byte of each page again and again, and tells the share of a CPU it had.
fn read_until(done: &AtomicBool, reader: Reader, pages: usize, page: usize) -> f64 {
    let cpu_time =
        || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    let (began, cpu_before) = (Instant::now(), cpu_time());
    while !done.load(Ordering::Acquire) {
        for at in 0..pages {
            std::hint::black_box(reader.read(at * page));
        }
    }
    (cpu_time() - cpu_before).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// One buffer, and where it is copied and lent to.
struct Bench {
    memory: Guarded,
    copy: Vec<u8>,
    pipe: Pipe,
    pages: usize,
    page: usize,
}

/// Nanoseconds a page of one round.
struct Round {
    copy: f64,
    protect: f64,
    splice: f64,
    fault: f64,
}

impl Bench {
    fn new(pages: usize, page: usize) -> Result<Bench, Error> {
        let bytes = pages.checked_mul(page).ok_or_else(|| too_large(pages))?;
        let memory = Guarded::new(bytes, page).map_err(Error::system("can't allocate a buffer"))?;
        Ok(Bench { memory, copy: vec![1; bytes], pipe: Pipe::new()?, pages, page })
    }

    fn rows(&mut self, threads: u32, rounds: u32) -> Result<Vec<CowRow>, Error> {
        let mut found: [Vec<Round>; BATCHES.len()] = Default::default();
        let mut faults = [0; BATCHES.len()];
        for _ in 0..rounds {
            for (at, batch) in BATCHES.into_iter().enumerate() {
                let before = Guarded::faults();
                found[at].push(self.round(batch * self.page)?);
                faults[at] += Guarded::faults() - before;
            }
        }
        let row = |((batch, found), faults): ((usize, Vec<Round>), u64)| {
            let of = |part: fn(&Round) -> f64| Spread::of(found.iter().map(part).collect());
            Some(CowRow {
                threads,
                pages_at_a_time: batch as u64,
                copy_ns_per_page: of(|round| round.copy)?,
                protect_ns_per_page: of(|round| round.protect)?,
                splice_ns_per_page: of(|round| round.splice)?,
                fault_ns_per_page: of(|round| round.fault)?,
                times_the_copy: of(|round| (round.protect + round.fault) / round.copy)?,
                faults_per_page: faults as f64 / (f64::from(rounds) * self.pages as f64),
            })
        };
        Ok(BATCHES.into_iter().zip(found).zip(faults).filter_map(row).collect())
    }

    /// Copies all of it.
    fn copy(&mut self, batch: usize) -> Duration {
        let began = Instant::now();
        for start in (0..self.copy.len()).step_by(batch) {
            self.copy[start..][..batch].copy_from_slice(self.memory.part(start, batch));
            std::hint::black_box(&mut self.copy);
        }
        began.elapsed()
    }

    fn round(&mut self, batch: usize) -> Result<Round, Error> {
        let bytes = self.pages * self.page;
        // Twice, as whatever ran before has left the caches in another state for each row.
        self.copy(batch);
        let copying = self.copy(batch);
        let [mut protecting, mut splicing, mut faulting] = [Duration::ZERO; 3];
        for start in (0..bytes).step_by(batch) {
            let began = Instant::now();
            self.memory.protect(start, batch).map_err(Error::system("can't protect memory"))?;
            let protected = Instant::now();
            let mut rest = self.memory.part(start, batch);
            while !rest.is_empty() {
                let lent = self.pipe.lend(rest)?;
                self.pipe.drain(lent)?;
                rest = &rest[lent..];
            }
            let spliced = Instant::now();
            for at in (start..start + batch).step_by(self.page) {
                self.memory.write(at, b'Y');
            }
            faulting += spliced.elapsed();
            splicing += spliced - protected;
            protecting += protected - began;
        }
        let [copy, protect, splice, fault] = [copying, protecting, splicing, faulting]
            .map(|time| time.as_nanos() as f64 / self.pages as f64);
        Ok(Round { copy, protect, splice, fault })
    }
}

fn too_large(pages: usize) -> Error {
    Error::Refused(format!("--pages: {pages} pages are more than can be addressed"))
}
