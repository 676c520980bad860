//! How to make a proven change permanent for this pipeline, and its price.

use pipeprof_report::tuning::{Observed, Treatment};
use pipeprof_runner::size;
use pipeprof_runner::tuning::cpus_text;

use super::look::Looked;
use super::subject::Subject;

/// Lines to paste, and the price.
pub(super) fn recipe(
    seen: &Observed,
    subject: &Subject,
    treatments: &[Treatment],
    looked: &Looked,
) -> (Vec<String>, Vec<String>) {
    let (mut permanent, mut price) = (Vec::new(), Vec::new());
    let members = &subject.found.pipeline.members;
    let command = |at: usize| {
        let words = members.get(at).map(|member| &member.command_line[..]).unwrap_or_default();
        match words {
            [] => seen.members[at].name.clone(),
            words => words.join(" "),
        }
    };
    for treatment in treatments {
        match treatment {
            Treatment::Capacity { pipe, bytes } => {
                let reader = command(seen.pipes[*pipe].reader);
                permanent.push(format!("… | pipesz --stdin --set {bytes} {reader}"));
                permanent
                    .push(format!("in the program: fcntl(STDIN_FILENO, F_SETPIPE_SZ, {bytes})"));
                let more = bytes.saturating_sub(seen.pipes[*pipe].capacity_bytes.unwrap_or(0));
                let drain = *bytes as f64 / looked.bytes_per_second.max(1.0);
                price.push(format!(
                    "{} more memory, and up to {} more delay between writer and reader",
                    size::exact(more),
                    time(drain)
                ));
            }
            Treatment::Cpus { members, .. } => {
                for (at, cpus) in members {
                    permanent.push(format!("taskset -c {} {}", cpus_text(cpus), command(*at)));
                }
                price.push(
                    "members no longer move to a free CPU: measure again on a busy machine"
                        .to_owned(),
                );
            }
            Treatment::Nice { member, by } => {
                permanent.push(format!("nice -n {by} {}", command(*member)));
                price.push(format!("{} gets less CPU time", seen.members[*member].name));
            }
            Treatment::Line { line } => permanent.push(line.clone()),
        }
    }
    (permanent, price)
}

fn time(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.0} µs", 1e6 * seconds),
        ..1.0 => format!("{:.1} ms", 1e3 * seconds),
        _ => format!("{seconds:.1} s"),
    }
}
