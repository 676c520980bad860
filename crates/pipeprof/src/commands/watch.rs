//! `pipeprof watch`: watches a pipeline for weeks and keeps a recording of each moment that a
//! trigger names.

mod keep;
mod measure;
mod metrics_file;
mod push;
mod stretch;
mod subject;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Duration;

use pipeprof_profiler::recording::{RecordingDir, SUFFIX};
use pipeprof_profiler::segments::Limits;
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::watch::firing::Armed;
use pipeprof_report::watch::too_short;
use pipeprof_report::watch::trigger::Trigger;
use pipeprof_runner::size;

use crate::args::pair::{self as pair_args, PairArgs};
use crate::args::sampling::SamplingArgs;
use crate::args::target::{Target, TargetArgs, parse_duration, parse_interval};
use crate::interrupt::Interrupt;
use crate::ui::{Exit, Ui, as_usage, explained, hinted, wrong_usage};
use keep::Keeper;
use measure::Measure;
use metrics_file::MetricsFile;
use push::address::Address;
use push::queue::Queue;
use stretch::Stretches;
use subject::Subject;

/// Watch a pipeline for weeks and keep a recording when a trigger fires
///
/// Measures the pipeline once per interval, as top does, and always holds the last TIME of a
/// recording. When a trigger fires, keeps that stretch in a folder NAME-DATE.pipeprof, a quarter
/// of it from after the moment, and goes on. A trigger fires again only after its condition was
/// false. Ends when the pipeline ends, with --name too.
///
/// Triggers: 'throughput < 50MiB/s for 10s', 'cpus > 3.5', 'limit changes', 'limit is gzip for 1m'.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Keep a recording when this happens; repeat for several
    #[arg(long, value_name = "TRIGGER", value_parser = str::parse::<Trigger>)]
    when: Vec<Trigger>,
    /// Length of each recording; a quarter of it is from after the moment
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    keep: Duration,
    /// Time between two measurements of throughput, CPUs and limit
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Beginning of the names of the recordings
    #[arg(short, long, value_name = "NAME", default_value = "watch", help_heading = "Output")]
    output: PathBuf,
    /// Size of a recording; drop its oldest records beyond that (up to 2 MiB per CPU more)
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Output")]
    max_size: Option<u64>,
    /// Recordings of this watch to keep; remove the oldest beyond that
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Output",
          value_parser = clap::value_parser!(u64).range(1..))]
    max_recordings: u64,
    /// Write metrics for Prometheus to this file, which must end in .prom, once per interval: for
    /// the textfile collector of node-exporter
    #[arg(long, value_name = "FILE", value_parser = metrics_file::parse, help_heading = "Output")]
    metrics: Option<PathBuf>,
    /// Push the profile of each kept recording to a server: pyroscope+http://HOST:4040 or
    /// otlp+http://HOST:4318. Without TLS
    #[arg(long, value_name = "URL", value_parser = str::parse::<Address>, requires = "when",
          help_heading = "Output")]
    push: Option<Address>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pair: PairArgs,
}

/// What the threads of a watch have done, for its metrics.
#[derive(Debug, Default)]
struct Counts {
    kept: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU64,
}

/// Recordings that wait for their analysis. The watch waits beyond that.
const MOST_UNREAD: usize = 2;

pub(crate) fn run(args: &WatchArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let target = args.target.target_for(&args.pair, None)?;
    if matches!(target, Target::Pair(_)) {
        return Err(wrong_usage(
            "the built-in pair can't be watched: give -c, --, --pid or --name",
        ));
    }
    if args.when.is_empty() && args.metrics.is_none() {
        let hint = "--when 'throughput < 50MiB/s for 10s', or --metrics FILE.prom".to_owned();
        let error = hinted("nothing to do: no trigger and no metrics", Some(hint));
        return Err(as_usage(error));
    }
    for trigger in &args.when {
        if trigger.lasting > args.keep - args.keep / AFTER {
            let wanted = trigger.lasting * 2 + trigger.lasting / 2;
            ui.warn(too_short(&trigger.to_string(), args.keep, wanted));
        }
    }
    let base = base(&args.output);
    if !args.when.is_empty() {
        // Only to see whether it can be made.
        RecordingDir::temporary_in(folder(&base)).map_err(explained)?;
    }
    let counts = Counts::default();
    let name = base.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let metrics = args.metrics.as_deref().map(|path| MetricsFile::create(path, &name));
    let metrics = metrics.transpose()?;
    let queue = args.push.as_ref().map(|_| Queue::open(&base, &counts));
    let queue = queue.transpose()?;
    let config = CaptureConfig {
        switches: true,
        limits: Limits { keep: Some(args.keep), max_bytes: args.max_size },
        ..args.sampling.config()?
    };
    let interrupt = Interrupt::install()?;
    let mut subject = Subject::start(target, &interrupt)?;
    let watched = std::thread::scope(|scope| {
        // One that is given twice would be one metric twice.
        let places = args.when.iter().enumerate();
        let triggers = places.filter(|(at, trigger)| !args.when[..*at].contains(trigger));
        let armed = triggers.map(|(_, trigger)| Armed::new(trigger.clone())).collect();
        let pace = measure::Pace { interval: args.interval, after: args.keep / AFTER };
        let mut measure =
            Measure::new(subject.extent, armed, pace, metrics, &counts, queue.is_some(), ui);
        // The threads end when nothing more can come, in this order: keeper, sender.
        let (news, told) = mpsc::channel();
        if let (Some(address), Some(queue)) = (&args.push, &queue) {
            let run = || push::send_all(address, queue, &name, told, ui);
            std::thread::Builder::new().name("pp-push".to_owned()).spawn_scoped(scope, run)?;
        }
        let (unread, recordings) = mpsc::sync_channel(MOST_UNREAD);
        let push = queue.as_ref().map(|queue| (queue, news));
        let mut keeper = Keeper::new(&base, args.max_recordings, push, &counts, ui);
        let keep = move || keeper.keep_all(recordings);
        std::thread::Builder::new().name("pp-keep".to_owned()).spawn_scoped(scope, keep)?;
        let config = (!args.when.is_empty()).then_some(&config);
        let stretches = Stretches { folder: folder(&base), config, interrupt: &interrupt, ui };
        stretches.watch(&mut subject, &mut measure, unread)
    });
    watched?;
    let failure = subject.finish(&interrupt);
    failure.iter().for_each(|failure| ui.error(&pair_args::complaint(failure)));
    Ok(match failure {
        _ if interrupt.is_set() => Exit::Interrupted,
        Some(_) => Exit::Failed,
        None => Exit::Done,
    })
}

/// One part in so many of a recording comes from after the moment.
const AFTER: u32 = 4;

/// The folder that a path is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The beginning of all names, whether or not the ending of a recording was given.
fn base(output: &Path) -> PathBuf {
    let has_suffix = output.extension().is_some_and(|extension| extension == SUFFIX);
    if has_suffix { output.with_extension("") } else { output.to_owned() }
}
