//! `pipeprof cost`: the cost of kernel page operations on this machine, in nanoseconds per page.

use std::fmt::Write as _;

use pipeprof_runner::cost::{self, Cow, CowRow, Pages, PinRow, Spread};
use pipeprof_runner::error::Error;
use pipeprof_runner::size;

use crate::args::json::{JsonArgs, pretty};
use crate::args::pair as pair_args;
use crate::ui::{Exit, Ui};

/// Benchmark kernel page operations
///
/// To see where the time goes: pipeprof flame -- pipeprof cost pages
#[derive(Debug, clap::Args)]
pub(crate) struct CostArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measure pinning a page: vmsplice into a pipe that the same thread drains
    ///
    /// For ordinary and huge pages, touched before (pinning only) and untouched (with a page fault).
    Pages(PagesArgs),
    /// Measure copy-on-write by write protection, against the copy it saves
    ///
    /// Protects pages (mprotect), splices them, writes them again, and makes them writable in a
    /// SIGSEGV handler; alone, and with a second thread on another CPU, whose TLB must be flushed.
    Cow(CowArgs),
}

#[derive(Debug, clap::Args)]
struct PagesArgs {
    /// Bytes per round, in whole huge pages
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_bytes)]
    bytes: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct CowArgs {
    /// Pages of the buffer, in multiples of 64
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(1..=MOST_PAGES))]
    pages: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Rounds to take the median of
    #[arg(long, value_name = "N", default_value_t = 21,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    #[command(flatten)]
    json: JsonArgs,
}

/// 4 GiB of pages of 4 KiB.
const MOST_PAGES: u64 = 1 << 20;

fn parse_bytes(text: &str) -> Result<u64, String> {
    match size::parse(text) {
        Ok(bytes @ 1..=0x1_0000_0000) => Ok(bytes),
        Ok(_) => Err("give a size from 1 byte to 4G".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn run(args: &CostArgs, ui: &Ui) -> anyhow::Result<Exit> {
    match &args.what {
        What::Pages(args) => {
            let found = cost::pages(args.bytes, args.common.rounds);
            print(found, &args.common, pages_text, |found| &found.notes, ui)
        }
        What::Cow(args) => {
            let found = cost::cow(args.pages, args.common.rounds);
            print(found, &args.common, cow_text, |found| &found.notes, ui)
        }
    }
}

fn print<T: serde::Serialize>(
    found: Result<T, Error>,
    common: &Common,
    text: impl Fn(&T) -> String,
    notes: impl Fn(&T) -> &[String],
    ui: &Ui,
) -> anyhow::Result<Exit> {
    let found = found.map_err(pair_args::refused)?;
    for note in notes(&found) {
        ui.warn(note);
    }
    let json = || pretty(&found);
    common.json.open(&[])?.write(json, || Ok(text(&found)), ui)?;
    Ok(Exit::Done)
}

// Writing to a String can't fail, below.

fn pages_text(found: &Pages) -> String {
    let mut text = format!(
        "ns per page of {}: median (min-max) of {} rounds of {}, {} a call\n\n",
        size::exact(found.page_bytes),
        found.rounds,
        size::exact(found.bytes),
        size::exact(found.pipe_bytes),
    );
    let _ =
        writeln!(text, "{:<18} {:>20} {:>20} {:>12}", "pages", "vmsplice", "drain", "faults/page");
    for row in &found.rows {
        let touched = if row.touched { "touched" } else { "untouched" };
        let name = format!("{} {touched}", size::exact(row.backing_bytes));
        let _ = match (row.vmsplice_ns_per_page, row.drain_ns_per_page, row.faults_per_page) {
            (Some(vmsplice), Some(drain), Some(faults)) => writeln!(
                text,
                "{name:<18} {:>20} {:>20} {faults:>12.3}",
                spread(vmsplice),
                spread(drain)
            ),
            _ => {
                let why = row.not_had.as_deref().unwrap_or("no round succeeded");
                writeln!(text, "{name:<18} not available: {why}")
            }
        };
    }
    let _ = writeln!(text, "{:<18} {:>20}", "tee, no page table", spread(found.tee_ns_per_page));
    let _ = match &found.gup_test {
        Ok(gup) => writeln!(
            text,
            "{:<18} get {:.1}, put {:.1}",
            "kernel's gup_test", gup.get_ns_per_page, gup.put_ns_per_page
        ),
        Err(why) => writeln!(text, "{:<18} {why}", "kernel's gup_test"),
    };
    if let Some(sentence) = pages_sentence(found) {
        let _ = writeln!(text, "\n{sentence}");
    }
    text
}

fn pages_sentence(found: &Pages) -> Option<String> {
    let median = |huge: bool, touched: bool| {
        let wanted = |row: &&PinRow| {
            (row.backing_bytes > found.page_bytes) == huge && row.touched == touched
        };
        Some(found.rows.iter().find(wanted)?.vmsplice_ns_per_page?.median)
    };
    let (known, unknown) = (median(false, true)?, median(false, false)?);
    let huge = median(true, true).map_or_else(String::new, |huge| {
        format!(
            "; in a page of {}, {huge:.0} ns",
            size::exact(found.rows.last().map_or(0, |row| row.backing_bytes))
        )
    });
    Some(format!(
        "On this machine vmsplice finds and holds a page in {known:.0} ns, or {unknown:.0} ns if it \
         has to be faulted in{huge}."
    ))
}

fn cow_text(found: &Cow) -> String {
    let mut text = format!(
        "ns per page of {}: median (min-max) of {} rounds of {} pages\n\n",
        size::exact(found.page_bytes),
        found.rounds,
        found.pages,
    );
    let _ = writeln!(
        text,
        "{:<8} {:>7} {:>20} {:>20} {:>20} {:>20} {:>20}",
        "threads",
        "at once",
        "copy",
        "protect",
        "splice, drain",
        "fault, unprotect",
        "times the copy"
    );
    for row in &found.rows {
        let _ = writeln!(
            text,
            "{:<8} {:>7} {:>20} {:>20} {:>20} {:>20} {:>20}",
            row.threads,
            row.pages_at_a_time,
            spread(row.copy_ns_per_page),
            spread(row.protect_ns_per_page),
            spread(row.splice_ns_per_page),
            spread(row.fault_ns_per_page),
            spread(row.times_the_copy),
        );
    }
    if let Some(why) = &found.two_threads_not_had {
        let _ = writeln!(text, "{:<8} not available: {why}", 2);
    }
    let sound = found.rows.iter().filter(|row| row.threads == 1 || found.second_thread_ran);
    let _ = writeln!(text, "\n{}", cow_sentence(sound));
    text
}

fn cow_sentence<'a>(rows: impl Iterator<Item = &'a CowRow>) -> String {
    let times: Vec<String> = rows
        .map(|row| {
            let threads = if row.threads == 1 { "one thread" } else { "two threads" };
            let at_once = match row.pages_at_a_time {
                1 => "page by page".to_owned(),
                pages => format!("{pages} pages at once"),
            };
            format!("{} times ({threads}, {at_once})", figure(row.times_the_copy.median))
        })
        .collect();
    format!(
        "On this machine protecting and faulting cost a multiple of the copy that they save: {}.",
        times.join(", ")
    )
}

fn spread(spread: Spread) -> String {
    format!("{} ({}-{})", figure(spread.median), figure(spread.min), figure(spread.max))
}

/// Three figures that mean something, or all of the whole number.
fn figure(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_was_measured() {
        let flat = |median| Spread { median, min: median, max: median };
        let row = CowRow {
            threads: 2,
            pages_at_a_time: 64,
            copy_ns_per_page: flat(100.0),
            protect_ns_per_page: flat(200.0),
            splice_ns_per_page: flat(50.0),
            fault_ns_per_page: flat(1000.0),
            times_the_copy: flat(12.0),
            faults_per_page: 1.0 / 64.0,
        };
        let one =
            CowRow { threads: 1, pages_at_a_time: 1, times_the_copy: flat(0.5), ..row.clone() };
        assert_eq!(
            cow_sentence([one, row].iter()),
            "On this machine protecting and faulting cost a multiple of the copy that they save: 0.50 \
             times (one thread, page by page), 12.0 times (two threads, 64 pages at once)."
        );
    }

    #[test]
    fn sizes_are_checked_before_memory_is_asked_for() {
        assert_eq!(parse_bytes("4G"), Ok(4 << 30));
        assert!(parse_bytes("0").is_err() && parse_bytes("5G").is_err());
    }
}
