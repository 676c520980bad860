//! What being watched costs a pipeline that runs: its throughput with and without, in windows of
//! time that alternate, so that the drift of the machine falls on both alike.
//!
//! ```text
//! attach_cost [--windows N] [--millis MS] [--parts clock,switches,…] -- COMMAND LINE
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pipeprof_profiler::meter::{IoWatch, Meter};
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_runner::discover::{Extent, Found, discover};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is on while a window of time is measured.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    session: Option<(u64, bool, bool)>,
    meter: bool,
}

/// Samples a second so few that what is left is the cost of the rest.
const HARDLY: u64 = 1;

const PARTS: &[Part] = &[
    Part { name: "nothing", session: None, meter: false },
    Part { name: "clock", session: Some((997, false, false)), meter: false },
    Part { name: "clock 249 Hz", session: Some((249, false, false)), meter: false },
    Part { name: "switches", session: Some((HARDLY, true, false)), meter: false },
    Part { name: "meter", session: None, meter: true },
    Part { name: "wakeups too", session: Some((HARDLY, true, true)), meter: false },
    Part { name: "everything", session: Some((249, true, true)), meter: true },
    Part { name: "at 997 Hz", session: Some((997, true, true)), meter: true },
];

/// Ends the pipeline with the program.
struct Job(std::process::Child);

impl Drop for Job {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let split = words.iter().position(|word| word == "--").ok_or("-- COMMAND LINE is missing")?;
    let (options, line) = (&words[..split], words[split + 1..].join(" "));
    let option = |name: &str| {
        options.iter().position(|word| word == name).and_then(|at| options.get(at + 1))
    };
    let windows: usize = option("--windows").map_or(Ok(15), |text| text.parse())?;
    let millis: u64 = option("--millis").map_or(Ok(400), |text| text.parse())?;
    let parts = option("--parts").map(|list| list.split(',').collect::<Vec<_>>());
    let job = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()?;
    let job = Job(job);
    std::thread::sleep(Duration::from_millis(500));
    let found = discover(&[job.0.id() as i32], Extent::Whole)?;
    let last = found.pipeline.pipes.first().and_then(|pipe| pipe.readers.first());
    let reader = last.ok_or("the command line is no pipeline")?.pid;
    let reader = IoWatch::open(reader)?;
    let pids: Vec<i32> = found.pipeline.members.iter().map(|member| member.pid).collect();
    let window = Duration::from_millis(millis);
    let measure = || Measured::of(&reader, &pids, window);
    println!(
        "{:<16} {:>8} {:>9} {:>8} {:>15}   {:>8} {:>15}   {:>9}",
        "watched by",
        "MiB/s",
        "switch/s",
        "speed",
        "(quartiles)",
        "CPU/MiB",
        "(quartiles)",
        "watcher"
    );
    for part in PARTS {
        if parts.as_ref().is_some_and(|parts| !parts.contains(&part.name)) {
            continue;
        }
        let (mut speed, mut cost, mut watcher) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rate, mut switches) = (Vec::new(), Vec::new());
        let mut before = measure()?;
        for _ in 0..windows {
            let on = watched(part, &found, &measure)?;
            let after = measure()?;
            speed.push(on.rate * 2.0 / (before.rate + after.rate));
            cost.push(on.cpu_ns_per_byte * 2.0 / (before.cpu_ns_per_byte + after.cpu_ns_per_byte));
            watcher.push(on.own_cpu);
            rate.push(before.rate);
            switches.push(before.switches);
            before = after;
        }
        let [speed, cost] = [speed, cost].map(Quartiles::of);
        println!(
            "{:<16} {:>8.1} {:>9.0} {:>8.3} ({:.3} to {:.3})   {:>8.3} ({:.3} to {:.3})   {:>7.2} %",
            part.name,
            Quartiles::of(rate).median / 1048576.0,
            Quartiles::of(switches).median,
            speed.median,
            speed.lower,
            speed.upper,
            cost.median,
            cost.lower,
            cost.upper,
            Quartiles::of(watcher).median * 100.0,
        );
    }
    Ok(())
}

fn watched(
    part: &Part,
    found: &Found,
    measure: &dyn Fn() -> Outcome<Measured>,
) -> Outcome<Measured> {
    let session = part.session.map(|(frequency_hz, switches, wakeups)| {
        let config = CaptureConfig { frequency_hz, switches, wakeups, ..Default::default() };
        RecordingDir::temporary()
            .and_then(|dir| Session::attach(&RunningKernel, &found.pipeline, &config, dir))
    });
    let session = session.transpose()?;
    let meter = part.meter.then(|| Meter::start(found.clone(), false)).transpose()?;
    let measured = measure()?;
    if let Some(meter) = meter {
        meter.finish()?;
    }
    if let Some(session) = session {
        session.finish(&RunningKernel)?;
    }
    Ok(measured)
}

struct Quartiles {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Quartiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Quartiles { lower: at(0.25), median: at(0.5), upper: at(0.75) }
    }
}

/// One window of time.
struct Measured {
    /// Bytes a second that the reader took, by its own account.
    rate: f64,
    /// CPU time of all members a byte, which hardly depends on what else runs on the machine.
    cpu_ns_per_byte: f64,
    /// Context switches of all members a second.
    switches: f64,
    /// CPUs that this program took.
    own_cpu: f64,
}

impl Measured {
    fn of(reader: &IoWatch, pids: &[i32], window: Duration) -> Outcome<Self> {
        let read = || reader.counts().map(|counts| counts.read_bytes).ok_or("the reader has gone");
        let sums = || -> Outcome<[u64; 2]> {
            let mut sums = [0; 2];
            for pid in pids {
                let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
                let fields: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
                sums[0] += fields.first().ok_or("no schedstat")?;
                sums[1] += fields.get(2).ok_or("no schedstat")?;
            }
            Ok(sums)
        };
        let own = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let (started, own_before) = (Instant::now(), Duration::from(own()?));
        let (first, before) = (read()?, sums()?);
        std::thread::sleep(window);
        let (last, after) = (read()?, sums()?);
        let elapsed = started.elapsed().as_secs_f64();
        let bytes = (last - first).max(1) as f64;
        Ok(Measured {
            rate: bytes / elapsed,
            cpu_ns_per_byte: (after[0] - before[0]) as f64 / bytes,
            switches: (after[1] - before[1]) as f64 / elapsed,
            own_cpu: (Duration::from(own()?) - own_before).as_secs_f64() / elapsed,
        })
    }
}
