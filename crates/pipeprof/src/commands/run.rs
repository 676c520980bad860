//! `pipeprof run`: the pipe pair, unprofiled.

use pipeprof_runner::outcome::{EndOutcome, Outcome};
use pipeprof_runner::stage::{ReadWith, WriteWith};

use crate::args::json::{JsonArgs, pretty};
use crate::args::pair::{self as pair_args, PairArgs};
use crate::capture::run_pair;
use crate::interrupt::Interrupt;
use crate::ui::{Exit, Ui};

/// Run a built-in pair without profiling and print its throughput
///
/// Prints, for example: 12.7GiB/s, 256KiB buffer, 40960 iterations (10GiB piped). The time counts
/// from the release of both ends to the last byte read.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    json: JsonArgs,
    /// Print a CSV header and row: the columns of the article's program, then more
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    // Last, because its help heading would go on above what follows.
    #[command(flatten)]
    pair: PairArgs,
}

pub(crate) fn run(args: &RunArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let plan = args.pair.plan()?;
    let interrupt = Interrupt::install()?;
    let outcome = run_pair(&plan, &interrupt, ui)?;
    report(args, &outcome, ui)
}

fn report(args: &RunArgs, outcome: &Outcome, ui: &Ui) -> anyhow::Result<Exit> {
    let text = || Ok(if args.csv { csv(outcome) } else { format!("{}\n", outcome.line()) });
    args.json.open(&[])?.write(|| json(outcome), text, ui)?;
    let failures = outcome.failures();
    for failure in &failures {
        ui.error(&pair_args::complaint(failure));
    }
    Ok(match (failures.is_empty(), outcome.interrupted) {
        (false, _) => Exit::Failed,
        (true, true) => Exit::Interrupted,
        (true, false) => Exit::Done,
    })
}

fn json(outcome: &Outcome) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Report<'a> {
        gib_per_s: f64,
        iterations: u64,
        #[serde(flatten)]
        outcome: &'a Outcome,
    }
    let report =
        Report { gib_per_s: outcome.gib_per_s(), iterations: outcome.iterations(), outcome };
    pretty(&report)
}

/// The first fourteen columns are those of the article's program (its `measure.py` names them);
/// the booleans are 0 and 1 as there.
fn csv(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let flag = |value: bool| u8::from(value).to_string();
    let cost = |end: &EndOutcome| {
        end.report.as_ref().map_or_else(
            || [String::new(), String::new(), String::new()],
            |report| {
                [
                    report.usage.cpu_ns().to_string(),
                    report.tally.calls.to_string(),
                    report.tally.retries.to_string(),
                ]
            },
        )
    };
    let [writer_cpu, writer_calls, writer_retries] = cost(&outcome.writer);
    let [reader_cpu, reader_calls, reader_retries] = cost(&outcome.reader);
    let columns = [
        ("gibibytes_per_second", format!("{:.6}", outcome.gib_per_s())),
        ("bytes_to_pipe", plan.bytes.unwrap_or(outcome.bytes).to_string()),
        ("buf_size", plan.buf_size.to_string()),
        ("pipe_size", plan.pipe_size.unwrap_or(0).to_string()),
        ("busy_loop", flag(plan.busy_loop)),
        ("poll", flag(plan.poll)),
        ("huge_page", flag(plan.huge_page)),
        ("check_huge_page", flag(plan.check_huge_page)),
        ("write_with_vmsplice", flag(plan.write_with == WriteWith::Vmsplice)),
        ("read_with_splice", flag(plan.read_with == ReadWith::Splice)),
        ("gift", flag(plan.gift)),
        ("lock_memory", flag(plan.lock_memory)),
        ("dont_touch_pages", flag(plan.dont_touch_pages)),
        ("same_buffer", flag(plan.same_buffer)),
        ("stage", plan.stage.to_string()),
        ("move", flag(plan.move_pages)),
        ("fill", flag(plan.fill)),
        ("verify", flag(plan.verify)),
        ("bytes_piped", outcome.bytes.to_string()),
        ("elapsed_ns", outcome.elapsed.as_nanos().to_string()),
        ("writer_cpu_ns", writer_cpu),
        ("writer_calls", writer_calls),
        ("writer_retries", writer_retries),
        ("reader_cpu_ns", reader_cpu),
        ("reader_calls", reader_calls),
        ("reader_retries", reader_retries),
    ];
    let join = |values: Vec<&str>| values.join(",");
    let header = join(columns.iter().map(|(name, _)| *name).collect());
    let row = join(columns.iter().map(|(_, value)| value.as_str()).collect());
    format!("{header}\n{row}\n")
}
