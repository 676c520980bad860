//! `pipeprof stages`: the optimisation stages, and whether this machine has what they need.

use std::fmt::Write as _;

use pipeprof_runner::ends;
use pipeprof_runner::machine;
use pipeprof_runner::size;
use pipeprof_runner::stage::Stage;

use crate::args::json::{JsonArgs, pretty};
use crate::ui::{Exit, Ui};

/// List the optimisation stages and what they need
#[derive(Debug, clap::Args)]
pub(crate) struct StagesArgs {
    #[command(flatten)]
    json: JsonArgs,
}

/// What the stages need, as found here.
#[derive(Debug, serde::Serialize)]
struct Machine {
    pipe_max_size_bytes: Option<u64>,
    transparent_huge_pages: Option<String>,
    huge_page_size_bytes: u64,
    can_check_huge_pages: bool,
    /// Absent where it could not be tried.
    vmsplice_shares_pages: Option<bool>,
    /// Whether a socket's data is in fragments of 32 KiB; else why not.
    socket_fragments: Result<(), String>,
    cpus: usize,
}

impl Machine {
    fn probe() -> Machine {
        Machine {
            pipe_max_size_bytes: machine::pipe_max_size(),
            transparent_huge_pages: machine::transparent_huge_pages(),
            huge_page_size_bytes: machine::huge_page_size(),
            can_check_huge_pages: machine::can_read_page_flags(),
            vmsplice_shares_pages: machine::vmsplice_shares_pages().ok(),
            socket_fragments: ends::try_fragment().map_err(|error| error.to_string()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// What a stage needs beyond the one it builds on, and how it stands here.
    fn need(&self, stage: Stage) -> String {
        match stage {
            Stage::Write => "nothing".to_owned(),
            Stage::Vmsplice => match self.vmsplice_shares_pages {
                Some(true) => "vmsplice that shares pages: ok".to_owned(),
                Some(false) => "vmsplice that shares pages: missing, this kernel copies".to_owned(),
                None => "vmsplice: missing, it was refused".to_owned(),
            },
            Stage::Splice => "nothing more".to_owned(),
            Stage::HugePage => match self.transparent_huge_pages.as_deref() {
                Some("never") => "transparent huge pages: off; \
                     echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
                    .to_owned(),
                Some(mode) => format!("transparent huge pages: ok ({mode})"),
                None => "transparent huge pages: missing in this kernel".to_owned(),
            },
            Stage::BusyLoop => match self.cpus {
                1 => "two CPUs: only one here, so each end spins while the other waits".to_owned(),
                cpus => format!("two CPUs: ok ({cpus})"),
            },
            Stage::Tee => match self.pipe_max_size_bytes {
                Some(max) if max < 1 << 20 => {
                    format!("large pipes: {} is the most here", size::exact(max))
                }
                _ => "nothing more".to_owned(),
            },
            Stage::TeeLarge => match &self.socket_fragments {
                Ok(()) => "socket fragments of 32KiB: ok".to_owned(),
                Err(why) => format!("socket fragments of 32KiB: missing, {why}"),
            },
            Stage::SameCpu | Stage::Tiny => "nothing".to_owned(),
            Stage::Gift => "nothing more than splice".to_owned(),
        }
    }
}

#[derive(serde::Serialize)]
struct Row {
    stage: Stage,
    adds: &'static str,
    builds_on: Option<Stage>,
    needs: String,
    /// What the stage can't do with any option.
    limit: Option<&'static str>,
    article_gib_per_s: Option<f64>,
}

pub(crate) fn run(args: &StagesArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let machine = Machine::probe();
    let rows = Stage::ALL.map(|stage| Row {
        stage,
        adds: stage.idea(),
        builds_on: stage.builds_on(),
        needs: machine.need(stage),
        limit: stage.limit(),
        article_gib_per_s: stage.article_gib_per_s(),
    });
    let json = || {
        let report = serde_json::json!({ "stages": rows, "machine": machine });
        pretty(&report)
    };
    args.json.open(&[])?.write(json, || Ok(render(&rows, &machine)), ui)?;
    Ok(Exit::Done)
}

fn render(rows: &[Row], machine: &Machine) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for row in rows {
        let _ = writeln!(text, "{:<11}{}", row.stage.as_str(), row.adds);
        let more = match (row.article_gib_per_s, row.builds_on) {
            (Some(rate), _) => format!("{rate:.1} GiB/s in the article"),
            (None, Some(stage)) => format!("on top of {stage}"),
            (None, None) => "not in the article".to_owned(),
        };
        let _ = writeln!(text, "{:<11}needs {}; {more}", "", row.needs);
        if let Some(limit) = row.limit {
            let _ = writeln!(text, "{:<11}{limit}", "");
        }
    }
    let max = machine.pipe_max_size_bytes.map_or_else(|| "unknown".to_owned(), size::exact);
    let check = if machine.can_check_huge_pages {
        "works"
    } else {
        "needs root (/proc/kpageflags can't be read)"
    };
    let _ = writeln!(text, "\n--pipe-size        at most {max} (fs.pipe-max-size)");
    let _ = writeln!(text, "--check-huge-page  {check}");
    let _ = writeln!(
        text,
        "\nIn one process: pipeprof cost pages (holding a page), pipeprof cost cow (write protection\n\
         in place of a copy)"
    );
    text
}
