//! The pipeline as a line: what each member did, and how full each pipe was.

use std::fmt::Write;

use pipeprof_runner::pipeline::PipeKey;

use super::{Style, WIDEST};
use crate::escape::printable;
use crate::summary::{MemberSummary, Summary};
use crate::topology::{Page, chain};

pub(super) fn write(text: &mut String, summary: &Summary, style: Style) {
    let page = Page { columns: Some(WIDEST), unicode: !style.ascii };
    let members: Vec<&MemberSummary> =
        summary.members.iter().filter(|member| member.uses_pipes()).collect();
    if members.len() < 2 {
        return;
    }
    let is_chain = members.windows(2).all(|pair| {
        let [from, to] = pair else { return false };
        from.writes_to.len() == 1 && to.reads_from == from.writes_to
    }) && members[0].reads_from.is_empty()
        && members[members.len() - 1].writes_to.is_empty();
    if is_chain {
        let labels: Vec<String> = members.iter().map(|member| life(member, style)).collect();
        let pipes: Vec<String> =
            members[1..].iter().map(|member| fill(summary, member.reads_from[0])).collect();
        text.push_str(&chain(&labels, &pipes, page));
        return;
    }
    let arrow = if style.ascii { "-->" } else { "──▶" };
    for member in &members {
        let _ = writeln!(text, "{}", life(member, style));
        for &pipe in &member.writes_to {
            let readers: Vec<String> = members
                .iter()
                .filter(|reader| reader.reads_from.contains(&pipe))
                .map(|reader| format!("{} ({})", printable(&reader.comm), reader.pid))
                .collect();
            let (inode, fill) = (pipe.inode, fill(summary, pipe));
            let line = format!("  pipe:[{inode}] {fill} {arrow} {}", readers.join(", "));
            text.push_str(&super::wrap(&line, 6));
        }
    }
}

/// `zcat 12% cpu▕ 88% blocked`.
fn life(member: &MemberSummary, style: Style) -> String {
    let bar = if style.ascii { "|" } else { "▕" };
    let mut label = printable(&member.comm).into_owned();
    let Some(life) = &member.life else { return label };
    let _ = write!(label, " {:.0}% cpu", life.on_cpu_percent);
    for (percent, word) in [(life.blocked_percent, "blocked"), (life.runnable_percent, "runnable")]
    {
        if percent >= 0.5 {
            let _ = write!(label, "{bar} {percent:.0}% {word}");
        }
    }
    label
}

/// `64K 93% full`.
fn fill(summary: &Summary, pipe: PipeKey) -> String {
    let Some(pipe) = summary.pipes.iter().find(|known| known.key() == pipe) else {
        return String::new();
    };
    let size = match pipe.capacity_bytes {
        Some(bytes) if bytes >= 1 << 20 => format!("{}M ", bytes >> 20),
        Some(bytes) if bytes >= 1 << 10 => format!("{}K ", bytes >> 10),
        Some(bytes) => format!("{bytes}B "),
        None => String::new(),
    };
    match &pipe.fill {
        Some(fill) if fill.full_percent >= fill.empty_percent => {
            format!("{size}{:.0}% full", fill.full_percent)
        }
        Some(fill) => format!("{size}{:.0}% empty", fill.empty_percent),
        None => size.trim_end().to_owned(),
    }
}
