//! One pipeline over two hosts, on a terminal.

use std::fmt::Write as _;
use std::io::Write;

use super::screen::bar;
use super::{Style, marker};
use crate::error::Error;
use crate::joined::{Host, Joined, Member, Path};
use crate::verdict::Finding;
use crate::words;
use crate::words::layout::{BOLD, GREY, padded};
use crate::words::units::{duration, percent};

/// Columns of the bar.
const BAR: usize = 12;

/// Columns of a share.
const SHARE: usize = 7;

/// Writes the verdict, the members of both hosts with the connection in between, and what to try.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn joined(joined: &Joined, style: Style, mut out: impl Write) -> Result<(), Error> {
    let mut text = String::new();
    let verdict = &joined.verdict;
    text.push_str(&style.wrapped(BOLD, &verdict.headline, 4));
    if let Some(sure) = &verdict.doubt {
        text.push_str(&style.wrap(sure, 4));
    }
    for phase in &verdict.phases {
        text.push_str(&style.wrap(&format!("  {phase}"), 4));
    }
    text.push('\n');
    let [from, to] = &joined.hosts;
    let arrow = if style.ascii { "->" } else { "→" };
    let about = format!(
        "{} {arrow} {}, both watched for {}, {}",
        from.host,
        to.host,
        duration(joined.together_ns as f64),
        words::joined::clocks(&joined.clocks)
    );
    text.push_str(&style.wrapped(GREY, &about, 2));
    let names = joined.hosts.iter().flat_map(|host| &host.members);
    let name = names.map(|member| member.name.chars().count()).max().unwrap_or(0).clamp(6, 15);
    let header = format!(
        "    {:name$} {:>8} {:BAR$}{:>SHARE$}{:>SHARE$}{:>SHARE$}{:>SHARE$}{:>SHARE$}",
        "member", "pid", "", "busy", "data", "space", "other", "limits"
    );
    let _ = writeln!(text, "{}", style.remark(&header));
    host(&mut text, from, name, style);
    let mark = marker(verdict.finding == Finding::Network, style);
    let Path { seen, bytes_per_second, .. } = &joined.connection;
    let (local, remote) = (seen.local, seen.remote);
    let path = words::joined::path(seen, *bytes_per_second);
    text.push_str(&style.wrap(&format!("{mark} {local} {arrow} {remote}: {path}"), 4));
    host(&mut text, to, name, style);
    if let Some(remedy) = verdict.remedies.first() {
        text.push('\n');
        text.push_str(&style.wrap(&format!("try: {}; {}", remedy.what, remedy.buys), 5));
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn host(text: &mut String, host: &Host, name: usize, style: Style) {
    let _ = writeln!(text, "  {}", style.heading(&host.host));
    for member in &host.members {
        let Member { pid, busy_percent, .. } = member;
        let mark = marker(member.is_blamed, style);
        let called = padded(&member.name, name);
        let called = if member.is_blamed { style.heading(&called) } else { called };
        let shares = [
            member.busy_percent,
            member.waits_for_data_percent,
            member.waits_for_space_percent,
            member.outside_percent,
            member.limits_percent,
        ];
        let waits = 100.0 - busy_percent;
        let _ = write!(
            text,
            "{mark}   {called} {pid:>8} {}",
            bar([*busy_percent, waits, 0.0], BAR, style)
        );
        for share in shares {
            let _ = write!(text, "{:>SHARE$}", percent(share));
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joined::clocks::{Basis, Clocks};
    use crate::joined::{JoinedVerdict, SCHEMA_VERSION};
    use crate::verdict::Confidence;
    use pipeprof_profiler::states::Connection;

    fn member(name: &str, pid: i32, [busy, data, space, outside]: [f64; 4]) -> Member {
        Member {
            pid,
            name: name.to_owned(),
            busy_percent: busy,
            waits_for_data_percent: data,
            waits_for_space_percent: space,
            outside_percent: outside,
            limits_percent: busy / 10.0,
            is_blamed: false,
        }
    }

    fn host(name: &str, members: Vec<Member>) -> Host {
        Host {
            host: name.to_owned(),
            recording: name.to_owned(),
            subject: String::new(),
            kernel: None,
            alone: None,
            members,
        }
    }

    #[test]
    fn both_hosts_and_what_is_between_them_fit_80_columns() {
        let shown = Joined {
            schema_version: SCHEMA_VERSION,
            verdict: JoinedVerdict {
                finding: Finding::Network,
                confidence: Some(Confidence::Medium),
                doubt: Some("medium confidence: only 30 looks at the members".to_owned()),
                limits: Vec::new(),
                headline: "bottleneck: the network from web1 to backup, 90 % of the time"
                    .to_owned(),
                phases: Vec::new(),
                remedies: Vec::new(),
            },
            hosts: [
                host("web1", vec![member("zstd", 4121, [12.0, 0.0, 88.0, 0.0])]),
                host("backup", vec![member("a-long-name-of-a-program", 7, [0.3, 99.7, 0.0, 0.0])]),
            ],
            connection: Path {
                seen: Connection {
                    local: "10.0.0.1:40000".parse().unwrap(),
                    remote: "10.0.0.2:22".parse().unwrap(),
                    watched_ns: 1_000_000_000,
                    sent_bytes: 1 << 21,
                    received_bytes: 0,
                    busy_ns: 1_000_000_000,
                    window_limited_ns: 20_000_000,
                    buffer_limited_ns: 0,
                    retransmitted: 3,
                    segments: 100,
                    round_trip_ns: 40_000_000,
                },
                bytes_per_second: f64::from(1 << 21),
                limits_percent: 90.0,
            },
            clocks: Clocks { by: Basis::Traffic, ahead_ns: 5, error_ns: Some(4_000_000) },
            together_ns: 3_000_000_000,
        };
        let mut out = Vec::new();
        let style = Style { ascii: true, ..Style::default() };
        joined(&shown, style, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @r"
        bottleneck: the network from web1 to backup, 90 % of the time
        medium confidence: only 30 looks at the members

        web1 -> backup, both watched for 3.00 s, clocks aligned within 4.00 ms
            member               pid                busy   data  space  other limits
          web1
            zstd                4121 #...........   12 %    0 %   88 %    0 %  1.2 %
        > 10.0.0.1:40000 -> 10.0.0.2:22: 2 MiB/s, receive window closed 2.0 %, send
            buffer full 0 %, round trip 40.0 ms, 3.0 % of the segments retransmitted
          backup
            a-long-name-of…        7 ............  0.3 %  100 %    0 %    0 % <0.1 %
        ");
    }
}
