//! The pipe pair as flags: a stage, and every knob that overrides it.

use clap::{Args, ValueEnum};
use pipeprof_runner::cpus::Pin;
use pipeprof_runner::ends::Complaint;
use pipeprof_runner::error::Error;
use pipeprof_runner::pair::Reexec;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::size;
use pipeprof_runner::stage::{ReadWith, Stage, WriteWith};

use crate::ui::{as_usage, hinted};

/// Both ends.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Pipe pair")]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    writer: WriterArgs,
    #[command(flatten)]
    reader: ReaderArgs,
    /// CPUs: auto (two that share no core; one with --stage same-cpu), same (one for both), none,
    /// or the writer's and the reader's, as in 0,1
    #[arg(long, value_name = "auto|same|none|W,R", default_value = "auto")]
    pin: Pin,
}

/// What both ends heed.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CommonArgs {
    /// Optimisation stage to start from: write (or baseline), vmsplice, splice, huge-page,
    /// busy-loop, tee, tee-large, same-cpu, gift, tiny; `pipeprof stages` explains them
    #[arg(long, value_name = "STAGE", value_parser = parse_stage)]
    pub(crate) stage: Option<Stage>,
    /// Bytes per buffer; K, M, G are powers of 1024 [default: 256K; 64 with tiny]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    buf_size: Option<u64>,
    /// Bytes to move [default: 10G for a pair (64G with tee, 512G with tee-large, 512M with tiny),
    /// no limit for an end alone]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    bytes: Option<u64>,
    /// Capacity of the pipe, at a page a slot [default: the kernel's 64K; half a buffer with
    /// vmsplice; 1M with tee]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pipe_size: Option<u64>,
    /// Try again at once instead of sleeping
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    busy_loop: Option<bool>,
    /// Call poll before each transfer
    #[arg(long)]
    poll: bool,
    /// Put the buffers in huge pages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    huge_page: Option<bool>,
    /// Fail unless the buffers are in huge pages (needs root)
    #[arg(long)]
    check_huge_page: bool,
    /// Lock the buffers into memory
    #[arg(long)]
    lock_memory: bool,
    /// Leave the first touch of each page to the transfers
    #[arg(long)]
    dont_touch_pages: bool,
}

/// What only a writer heeds.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WriterArgs {
    /// How the writer writes [default: the stage's]
    #[arg(long, value_name = "CALL")]
    write_with: Option<WriteCall>,
    /// Give the pages away (SPLICE_F_GIFT)
    #[arg(long)]
    gift: bool,
    /// Let the halves of one buffer take turns, not two buffers
    #[arg(long)]
    same_buffer: bool,
    /// Rewrite every byte before each send, as a real program would
    #[arg(long)]
    fill: bool,
}

/// What only a reader heeds.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ReaderArgs {
    /// How the reader reads [default: the stage's]
    #[arg(long, value_name = "CALL")]
    read_with: Option<ReadCall>,
    /// Ask to move the pages on (SPLICE_F_MOVE)
    #[arg(long = "move")]
    move_pages: bool,
    /// Check every byte against what --fill wrote, or against what tee repeats
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
        return Err(format!(
            "it has no two ends, but is measured in one process\nhint: pipeprof cost {text}"
        ));
    }
    let names = || Stage::ALL.map(Stage::as_str).join(", ");
    Stage::ALL
        .into_iter()
        .find(|stage| stage.as_str() == text)
        .ok_or_else(|| format!("the stages are {} (and baseline, for write)", names()))
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

    /// The pair as asked for; without `--stage`, on the basis of `write`.
    pub(crate) fn plan(&self) -> anyhow::Result<PairPlan> {
        let knobs = self.reader.add_to(self.writer.add_to(self.common.knobs()));
        PairPlan::new(self.common.stage(), &Knobs { pin: self.pin, ..knobs }).map_err(refused)
    }
}

/// The hidden command by which the pair starts this program again as one of its ends.
pub(crate) const END: &str = "__end";

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
