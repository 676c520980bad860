//! For how long a look into a pipe holds a read end of it open: the time in which a reader's end
//! would be hidden from its writer.
//!
//! ```text
//! looks [COUNT]
//! ```

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pipeprof_runner::discover::{Extent, discover};

/// Looks a second at each pipe while a pipeline is watched.
const LOOKS_PER_SECOND: f64 = 25.0;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(20_000), |count| count.parse())?;
    let mut shell = Command::new("sh")
        .args(["-c", "yes | cat >/dev/null; true"])
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    let measured = measure(shell.id() as i32, count);
    killpg(Pid::from_raw(shell.id() as i32), Signal::SIGKILL)?;
    shell.wait()?;
    let mut held = measured?;
    held.sort_unstable();
    let at = |share: f64| held[((held.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    let mean = held.iter().sum::<u64>() as f64 / held.len() as f64;
    println!(
        "{} looks, held for {:.1} us (mean), {:.1} (median), {:.1} (99 %), {:.1} (99.9 %), \
         {:.0} (most): {:.3} % of the time at 25 looks a second",
        held.len(),
        mean / 1e3,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        mean * LOOKS_PER_SECOND / 1e9 * 100.0,
    );
    Ok(())
}

/// Nanoseconds that each look took.
fn measure(shell: i32, count: usize) -> Result<Vec<u64>, Box<dyn Error>> {
    let until = Instant::now() + Duration::from_secs(10);
    let found = loop {
        let found = discover(&[shell], Extent::Whole)?;
        if found.looks().first().is_some_and(Option::is_some) {
            break found;
        }
        if Instant::now() > until {
            return Err("there is no pipe to look into".into());
        }
    };
    let mut held = Vec::new();
    for _ in 0..count {
        held.extend(found.looks().into_iter().flatten().map(|look| look.held_ns));
        // A look finds the pipe as it is between others, not always right after the last.
        std::thread::sleep(Duration::from_micros(500));
    }
    if held.is_empty() { Err("no look succeeded".into()) } else { Ok(held) }
}
