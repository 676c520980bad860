//! A screen as plain text, a block an interval.

use std::fmt::Write as _;

use pipeprof_report::escape::printable;
use pipeprof_report::live::{LimitKind, LimitNow, MemberNow, PipeNow, PipelineNow, Snapshot};

use super::detail;
use super::units::{size, throughput};

// Writing to a String can't fail.

pub(super) fn block(snapshot: &Snapshot) -> String {
    let moving = snapshot.pipelines.iter().filter(|pipeline| pipeline.moves()).count();
    let mut text =
        format!("{}, {moving} moving{}\n", counted(snapshot.pipelines.len()), hidden(snapshot));
    for pipeline in &snapshot.pipelines {
        let _ = writeln!(text, "\n{}", headline(pipeline));
        for (at, member) in pipeline.members.iter().enumerate() {
            let _ = writeln!(text, "  {}", member_line(member));
            for pipe in pipeline.pipes.iter().filter(|pipe| pipe.writers.first() == Some(&at)) {
                let _ = writeln!(text, "    | {}", pipe_line(pipe));
            }
        }
        for line in detail::lines(pipeline) {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push('\n');
    text
}

/// `1 pipeline`, `7 pipelines`.
pub(super) fn counted(pipelines: usize) -> String {
    let word = if pipelines == 1 { "pipeline" } else { "pipelines" };
    format!("{pipelines} {word}")
}

/// `; 4 processes hidden (other users)`.
pub(super) fn hidden(snapshot: &Snapshot) -> String {
    match snapshot.unreadable_processes {
        0 => String::new(),
        1 => "; 1 process hidden (another user)".to_owned(),
        n => format!("; {n} processes hidden (other users)"),
    }
}

/// `yes | gzip: 157 MiB/s, limit: gzip (6391) 93 %`.
pub(super) fn headline(pipeline: &PipelineNow) -> String {
    let mut text = printable(&pipeline.title()).into_owned();
    if let Some(rate) = pipeline.bytes_per_second {
        let _ = write!(text, ": {}", throughput(rate));
    }
    match pipeline.limit.map(|limit| limit_text(pipeline, limit)) {
        Some(limit) => text + ", limit: " + &limit,
        None if pipeline.moves() => text,
        None => text + ", idle",
    }
}

fn limit_text(pipeline: &PipelineNow, limit: LimitNow) -> String {
    let name = limit.member.and_then(|at| pipeline.members.get(at));
    let name = name.map(|member| format!("{} ({})", printable(&member.name), member.pid));
    let percent = 100.0 * limit.share;
    let name = name.unwrap_or_default();
    match limit.kind {
        LimitKind::Busy => format!("{name} {percent:.0} %"),
        LimitKind::Outside => format!("{name} {percent:.0} %, waiting outside the pipeline"),
        LimitKind::NoCpu => format!("{name} {percent:.0} %, waiting for a CPU"),
        LimitKind::WakeUps => {
            let pipe = limit.pipe.and_then(|at| pipeline.pipes.get(at));
            let pipe =
                pipe.map_or(String::new(), |pipe| format!("of {} ", pipe.link.named(pipe.inode)));
            format!("wake-ups {pipe}{percent:.0} %")
        }
    }
}

fn member_line(member: &MemberNow) -> String {
    let percent = |share: f64| format!("{:>3.0} %", 100.0 * share);
    format!(
        "{:<15} {:>8} {:<8}  {:>5.2} CPU  busy {}  waiting for data {}  for space {}  outside {}",
        printable(&member.name),
        member.pid,
        user(member),
        member.cpus_used,
        percent(member.busy),
        percent(member.waits_for_data),
        percent(member.waits_for_space),
        percent(member.outside)
    )
}

/// The user of a member, in 8 columns as `top` does: what is longer ends in `+`.
pub(super) fn user(member: &MemberNow) -> String {
    let name = printable(member.user.as_deref().unwrap_or("?")).into_owned();
    match name.char_indices().nth(USER_COLUMNS) {
        None => name,
        Some(_) => name.chars().take(USER_COLUMNS - 1).chain(['+']).collect(),
    }
}

pub(super) const USER_COLUMNS: usize = 8;

pub(super) fn pipe_line(pipe: &PipeNow) -> String {
    let rate = match pipe.bytes_per_second {
        Some(rate) => throughput(rate),
        None => "throughput unknown".to_owned(),
    };
    match level(pipe) {
        Some((share, capacity)) => {
            format!("{rate}, {:.0} % of {} filled", 100.0 * share, size(capacity as f64))
        }
        None => rate,
    }
}

/// How full, 0 to 1, and of how many bytes.
pub(super) fn level(pipe: &PipeNow) -> Option<(f64, u64)> {
    let (fill, capacity) = (pipe.fill_bytes?, pipe.capacity_bytes?);
    Some(((fill as f64 / capacity.max(1) as f64).min(1.0), capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_fit_their_column() {
        let of = |name: &str| user(&MemberNow { user: Some(name.into()), ..MemberNow::default() });
        assert_eq!((of("root"), of("postgres")), ("root".into(), "postgres".into()));
        assert_eq!(
            (of("www-data-2"), user(&MemberNow::default())),
            ("www-dat+".into(), "?".into())
        );
    }
}
