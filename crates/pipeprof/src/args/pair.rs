//! The pipe pair as flags: a stage, and every knob that overrides it.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pipeprof_runner::cpus::Pin;
use pipeprof_runner::ends::{self, Complaint};
use pipeprof_runner::error::Error;
use pipeprof_runner::pair::Reexec;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::size;
use pipeprof_runner::stage::{ReadWith, Stage, WriteWith};

use crate::ui::{Colour, Exit, Ui, as_usage, hinted};

/// Both ends.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Built-in pair (with --stage)")]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    writer: WriterArgs,
    #[command(flatten)]
    reader: ReaderArgs,
    /// CPUs of writer and reader: auto (two cores), same (one CPU), none, or two numbers as in 0,1
    #[arg(long, value_name = "auto|same|none|W,R", default_value = "auto")]
    pin: Pin,
}

/// Options of both ends.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CommonArgs {
    /// Run a built-in pair of writer and reader: write, vmsplice, splice, huge-page, busy-loop, tee,
    /// tee-large, same-cpu, gift or tiny (see pipeprof stages)
    #[arg(long, value_name = "STAGE", value_parser = parse_stage, help_heading = None::<&str>)]
    pub(crate) stage: Option<Stage>,
    /// Bytes per buffer, as in 64K, 1.5M, 10GiB or 10GB [default: 256K; tiny: 64]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    buf_size: Option<u64>,
    /// Bytes to transfer [default: 10G; tee: 64G, tee-large: 512G, tiny: 512M; when profiled, at
    /// least that, and until each end has 1,000 samples or 10s have passed; write and read: no
    /// limit]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    bytes: Option<u64>,
    /// Capacity of the pipe [default: 64K; vmsplice: half a buffer; tee: 1M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pipe_size: Option<u64>,
    /// Retry at once instead of blocking
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    busy_loop: Option<bool>,
    /// Call poll() before each transfer
    #[arg(long)]
    poll: bool,
    /// Allocate the buffers in huge pages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    huge_page: Option<bool>,
    /// Fail unless the buffers are in huge pages (root only)
    #[arg(long)]
    check_huge_page: bool,
    /// Lock the buffers in memory
    #[arg(long)]
    lock_memory: bool,
    /// Do not touch the buffers before the transfers
    #[arg(long)]
    dont_touch_pages: bool,
}

/// Options of the writer alone.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WriterArgs {
    /// System call of the writer [default: the stage's]
    #[arg(long, value_name = "CALL")]
    write_with: Option<WriteCall>,
    /// Give the pages to the kernel (SPLICE_F_GIFT)
    #[arg(long)]
    gift: bool,
    /// Alternate between the halves of one buffer instead of two buffers
    #[arg(long)]
    same_buffer: bool,
    /// Rewrite every byte before each write, as a real program does
    #[arg(long)]
    fill: bool,
}

/// Options of the reader alone.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ReaderArgs {
    /// System call of the reader [default: the stage's]
    #[arg(long, value_name = "CALL")]
    read_with: Option<ReadCall>,
    /// Ask the kernel to move pages (SPLICE_F_MOVE)
    #[arg(long = "move")]
    move_pages: bool,
    /// Verify every byte that --fill wrote or tee repeats
    #[arg(long)]
    verify: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WriteCall {
    Write,
    Vmsplice,
    Tee,
    TeeLarge,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReadCall {
    Read,
    Splice,
}

pub(crate) fn parse_stage(text: &str) -> Result<Stage, String> {
    let text = if text == "baseline" { "write" } else { text };
    if let "pages" | "cow" = text {
        return Err(format!("this is not a pair of writer and reader\nhint: pipeprof cost {text}"));
    }
    let names = || Stage::ALL.map(Stage::as_str).join(", ");
    Stage::ALL
        .into_iter()
        .find(|stage| stage.as_str() == text)
        .ok_or_else(|| unknown_stage(text, &names()))
}

/// Lists the stages, and suggests the one that was probably meant.
fn unknown_stage(text: &str, names: &str) -> String {
    let near = Stage::ALL.map(Stage::as_str).into_iter().find(|name| {
        let common = name.chars().zip(text.chars()).take_while(|(a, b)| a == b).count();
        common >= 3 || name.replace('-', "") == text.replace(['-', '_'], "")
    });
    match near {
        Some(name) => format!("no such stage; the stages are {names}\nhint: --stage {name}"),
        None => format!("no such stage; the stages are {names}"),
    }
}

impl CommonArgs {
    fn stage(&self) -> Stage {
        self.stage.unwrap_or(Stage::Write)
    }

    fn knobs(&self) -> Knobs {
        Knobs {
            buf_size: self.buf_size,
            bytes: self.bytes,
            pipe_size: self.pipe_size,
            busy_loop: self.busy_loop,
            poll: self.poll,
            huge_page: self.huge_page,
            check_huge_page: self.check_huge_page,
            lock_memory: self.lock_memory,
            dont_touch_pages: self.dont_touch_pages,
            ..Knobs::default()
        }
    }
}

impl WriterArgs {
    fn add_to(&self, knobs: Knobs) -> Knobs {
        Knobs {
            write_with: self.write_with.map(|call| match call {
                WriteCall::Write => WriteWith::Write,
                WriteCall::Vmsplice => WriteWith::Vmsplice,
                WriteCall::Tee => WriteWith::Tee,
                WriteCall::TeeLarge => WriteWith::TeeLarge,
            }),
            gift: self.gift,
            same_buffer: self.same_buffer,
            fill: self.fill,
            ..knobs
        }
    }

    /// A writer alone.
    pub(crate) fn plan(&self, common: &CommonArgs) -> anyhow::Result<PairPlan> {
        let knobs = Knobs { pin: Pin::None, ..self.add_to(common.knobs()) };
        PairPlan::writer(common.stage(), &knobs).map_err(refused)
    }
}

impl ReaderArgs {
    fn add_to(&self, knobs: Knobs) -> Knobs {
        Knobs {
            read_with: self.read_with.map(|call| match call {
                ReadCall::Read => ReadWith::Read,
                ReadCall::Splice => ReadWith::Splice,
            }),
            move_pages: self.move_pages,
            verify: self.verify,
            ..knobs
        }
    }

    /// A reader alone.
    pub(crate) fn plan(&self, common: &CommonArgs) -> anyhow::Result<PairPlan> {
        let knobs = Knobs { pin: Pin::None, ..self.add_to(common.knobs()) };
        PairPlan::reader(common.stage(), &knobs).map_err(refused)
    }
}

impl PairArgs {
    /// No stage and no knob was given.
    pub(crate) fn is_empty(&self) -> bool {
        let knobs = self.reader.add_to(self.writer.add_to(self.common.knobs()));
        self.common.stage.is_none() && knobs == Knobs::default()
    }

    /// The user did not say how much it is to move.
    pub(crate) fn has_no_bytes(&self) -> bool {
        self.common.bytes.is_none()
    }

    /// The pair that the user asked for; without `--stage`, based on `write`.
    pub(crate) fn plan(&self) -> anyhow::Result<PairPlan> {
        let knobs = self.reader.add_to(self.writer.add_to(self.common.knobs()));
        PairPlan::new(self.common.stage(), &Knobs { pin: self.pin, ..knobs }).map_err(refused)
    }
}

/// The hidden command by which the pair starts this program again as one of its ends.
pub(crate) const END: &str = "__end";

/// How this program ended as one end of a pair, if it was started as one. This is handled before
/// clap sees the command line, so clap's messages never mention the hidden command.
pub(crate) fn as_end() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != END {
        return None;
    }
    let configuration = words.next()?.into_string().ok()?;
    Some(match ends::main(&configuration) {
        Ok(status) => if status == 0 { Exit::Done } else { Exit::Failed }.into(),
        Err(error) => {
            Ui::new(false, false, Colour::Auto).error(&refused(error));
            ExitCode::FAILURE
        }
    })
}

/// How the ends are started: this program, by its hidden command.
pub(crate) fn reexec() -> Reexec {
    Reexec::this_program([END])
}

/// An error of the runner with its hint: wrong usage where the flags are at fault.
pub(crate) fn refused(error: Error) -> anyhow::Error {
    let is_usage = error.is_usage();
    let error = complaint(&error.into());
    if is_usage { as_usage(error) } else { error }
}

/// A complaint with its hint below it.
pub(crate) fn complaint(complaint: &Complaint) -> anyhow::Error {
    hinted(&complaint.message, complaint.hint.clone())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pair: PairArgs,
    }

    fn plan(line: &str) -> PairPlan {
        let words = std::iter::once("pair").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().pair.plan().unwrap()
    }

    #[test]
    fn flags_become_a_plan() {
        assert_eq!(plan(""), plan("--stage baseline"));
        assert_eq!(plan("--stage write"), plan("--stage baseline --pin auto --bytes 10G"));
        let all = plan(
            "--stage write --buf-size 128KiB --bytes 1M --pipe-size 64K --busy-loop --poll \
             --huge-page --check-huge-page --gift --move --lock-memory --same-buffer \
             --write-with vmsplice --read-with splice --pin 1,0",
        );
        assert_eq!(
            (all.buf_size, all.bytes, all.pipe_size),
            (131_072, Some(1 << 20), Some(65_536))
        );
        assert!(all.busy_loop && all.poll && all.huge_page && all.check_huge_page);
        assert!(all.gift && all.move_pages && all.lock_memory && all.same_buffer);
        assert_eq!(all.pin, Pin::Cpus(1, 0));
        assert!(!plan("--stage busy-loop --busy-loop=false").busy_loop);
        assert!(plan("--fill --verify --dont-touch-pages").verify);
    }

    #[test]
    fn an_unknown_stage_names_the_known() {
        let error = Line::try_parse_from(["pair", "--stage", "fast"]).err().unwrap().to_string();
        assert!(error.contains("vmsplice, splice, huge-page, busy-loop"), "{error}");
        let error = Line::try_parse_from(["pair", "--stage", "cow"]).err().unwrap().to_string();
        assert!(error.contains("hint: pipeprof cost cow"), "{error}");
    }
}
