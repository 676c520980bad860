//! Text, folded stacks, JSON and call trees.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Builder, STAGES, blocked_chain, chain_at, frame, pair, phased, stage, without_bytes};
use pipeprof_profiler::profile::{MemberProfile, Mode, Profile, WeightUnit};
use pipeprof_report::error::Error;
use pipeprof_report::flamegraph::View;
use pipeprof_report::folded;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::roles::{Reason, Role};
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
use pipeprof_report::text::{self, Style};
use pipeprof_report::tree::{self, Limits};
use pipeprof_runner::pipeline::{End, Link};

/// 8 GiB at 2.3 GiB/s.
fn run(profile: &Profile, subject: &str) -> Run {
    pair(profile.clone(), subject, 8 << 30, 2.3)
}

fn summary(run: &Run) -> Summary {
    Summary::of(run, &Highlights::article(), View::default())
}

fn as_text(summary: &Summary, style: Style) -> String {
    let mut out = Vec::new();
    text::full(summary, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn call_tree(profile: &Profile, function: &str) -> Result<String, Error> {
    let mut out = Vec::new();
    let highlights = Highlights::article();
    let run = Run::bare(profile.clone());
    tree::render(&run, &highlights, function, Limits::default(), View::default(), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn summaries_of_the_stages() {
    for name in STAGES {
        let text = as_text(&summary(&run(&stage(name), name)), Style::default());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        insta::assert_snapshot!(format!("summary_{name}"), text);
    }
}

#[test]
fn trees_of_the_articles_functions() {
    insta::assert_snapshot!(call_tree(&stage("write"), "pipe_write").unwrap());
    insta::assert_snapshot!(call_tree(&stage("splice"), "__do_sys_vmsplice").unwrap());
    // Either name will do.
    let classic = call_tree(&stage("vmsplice"), "iov_iter_get_pages").unwrap();
    assert_eq!(classic, call_tree(&stage("vmsplice"), "iov_iter_get_pages2").unwrap());
    // The compiler's suffix may be left off.
    assert!(
        call_tree(&stage("busy-loop"), "__mutex_lock")
            .unwrap()
            .contains("__mutex_lock.constprop.0")
    );
}

#[test]
fn a_function_that_was_not_sampled_is_named_with_its_neighbours() {
    let error = call_tree(&stage("vmsplice"), "get_pages").unwrap_err();
    assert_eq!(error.to_string(), "no sampled call chain contains \"get_pages\"");
    assert!(error.hint().unwrap().starts_with("sampled were: iov_iter_get_pages2"));
    assert!(call_tree(&stage("vmsplice"), "\u{1b}").unwrap_err().hint().is_none());
}

#[test]
fn folded_stacks_keep_all_weight() {
    for name in STAGES {
        let profile = stage(name);
        let mut out = Vec::new();
        folded::render(&Run::bare(profile.clone()), View::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let weight: u64 =
            text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        assert_eq!(weight, profile.members.iter().map(MemberProfile::weight).sum::<u64>());
        assert!(text.lines().is_sorted());
        // inferno reads all of it.
        let mut svg = Vec::new();
        let mut options = inferno::flamegraph::Options::default();
        inferno::flamegraph::from_lines(&mut options, text.lines(), &mut svg).unwrap();
        let total = format!("total_samples=\"{weight}\"");
        assert!(String::from_utf8(svg).unwrap().contains(&total));
        if name == "busy-loop" {
            let heavy = |line: &&str| line.rsplit_once(' ').unwrap().1.len() >= 9;
            insta::assert_snapshot!(text.lines().filter(heavy).collect::<Vec<_>>().join("\n"));
        }
    }
}

#[test]
fn roles_add_up() {
    for name in STAGES {
        let profile = stage(name);
        let summary = summary(&run(&profile, name));
        for (member, profiled) in summary.members.iter().zip(&profile.members) {
            assert_eq!(member.roles.iter().map(|r| r.samples).sum::<u64>(), profiled.samples());
            assert_eq!(member.roles.iter().map(|r| r.weight).sum::<u64>(), profiled.weight());
            let percent: f64 = member.roles.iter().map(|r| r.percent).sum();
            assert!((percent - 100.0).abs() < 1e-9);
            // 8 GiB went through.
            let per_gib: f64 = member.roles.iter().map(|r| r.ns_per_gib.unwrap()).sum();
            assert!((per_gib * 8.0 / profiled.weight() as f64 - 1.0).abs() < 1e-9);
        }
        let skid = summary.quality.skid.as_ref().unwrap();
        let deferred: u64 =
            summary.members.iter().flat_map(|m| &m.roles).map(|r| r.deferred_samples).sum();
        assert_eq!(skid.iter().flat_map(|a| &a.samples).sum::<u64>(), deferred, "{name}");
    }
}

#[test]
fn what_is_not_known_is_not_zero() {
    let mut profile = stage("write");
    profile.quality.timer_driven = false;
    profile.quality.interrupts_wait = false;
    profile.quality.unit = WeightUnit::Events;
    profile.quality.event = "cycles".into();
    let summary = summary(&without_bytes(run(&profile, "write")));
    let json: serde_json::Value = {
        let mut out = Vec::new();
        summary.write_json(&mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    };
    assert_eq!(json["schema_version"], 4);
    assert_eq!(json["members"][0]["cpu_time_ns"], serde_json::Value::Null);
    assert_eq!(json["members"][0]["roles"][0]["ns_per_gib"], serde_json::Value::Null);
    assert_eq!(json["quality"]["skid"], serde_json::Value::Null);
    assert_eq!(json["quality"]["event"], "cycles");
    assert_eq!(json["members"][0]["roles"][0]["role"], "wakeup_or_wait");
    let text = as_text(&summary, Style::default());
    assert!(!text.contains("per GiB") && !text.contains("on CPU") && !text.contains("timer"));
}

#[test]
fn the_schedulers_account_of_cpu_time_is_preferred() {
    let mut profile = stage("write");
    profile.members[0].cpu_time_ns = Some(16_000_000_000);
    let summary = summary(&run(&profile, "write"));
    let wakeup = summary.members[0].roles.iter().find(|r| r.role == Role::Wakeup).unwrap();
    let expected = 2e9 * wakeup.percent / 100.0;
    assert!((wakeup.ns_per_gib.unwrap() - expected).abs() < 1.0);
}

#[test]
fn the_samples_cover_a_share_of_the_account() {
    let mut profile = stage("write");
    assert_eq!(summary(&run(&profile, "write")).members[0].coverage_percent, None);
    profile.members[0].cpu_time_ns = Some(profile.members[0].weight() * 4);
    let with_account = summary(&run(&profile, "write"));
    assert_eq!(with_account.members[0].coverage_percent, Some(25.0));
    assert!(as_text(&with_account, Style::default()).contains(" samples cover 25 % of "));
    profile.quality.unit = WeightUnit::Events;
    profile.quality.event = "cycles".into();
    assert_eq!(summary(&run(&profile, "write")).members[0].coverage_percent, None);
}

#[test]
fn only_samples_of_all_cpu_time_say_what_a_gib_costs() {
    let rates = |event: &str, unit, kernel_visible| {
        let mut profile = stage("write");
        profile.members[0].cpu_time_ns = Some(16_000_000_000);
        profile.quality.event = event.into();
        profile.quality.unit = unit;
        profile.quality.kernel_visible = kernel_visible;
        let summary = summary(&run(&profile, "write"));
        summary.members[0].roles.iter().any(|role| role.ns_per_gib.is_some())
    };
    let (ns, events) = (WeightUnit::Nanoseconds, WeightUnit::Events);
    assert!(rates("cpu-clock", ns, true));
    for cycles in ["cycles", "cycles:P", "cpu-cycles", "cpu_core/cycles/P", "ref-cycles"] {
        assert!(rates(cycles, events, true), "{cycles}");
        assert!(!rates(cycles, events, false), "{cycles}");
    }
    assert!(!rates("cpu-clock", ns, false));
    for other in ["page-faults", "instructions", "cache-misses", "stalled-cycles-frontend"] {
        assert!(!rates(other, events, true), "{other}");
    }
}

#[test]
fn work_and_waits_at_a_socket_that_joins_members_count_for_that_link() {
    let socket = chain_at(
        Link::Unix { sender: 88120 },
        [
            "_copy_from_iter < skb_copy_datagram_from_iter < unix_stream_sendmsg < ksys_write",
            "schedule < sock_alloc_send_pskb < unix_stream_sendmsg < ksys_write",
            "schedule < unix_stream_read_generic < unix_stream_recvmsg < ksys_read",
        ],
    );
    let (pipe, socket) = (summary(&blocked_chain()), summary(&socket));
    assert_eq!(
        (socket.pipes[0].cpu_ns_per_gib, socket.pipes[0].blocked_ns_per_gib),
        (pipe.pipes[0].cpu_ns_per_gib, pipe.pipes[0].blocked_ns_per_gib)
    );
    assert!(pipe.pipes[0].cpu_ns_per_gib.is_some());
    let found = |of: &Summary| of.verdict.as_ref().map(|verdict| verdict.finding);
    assert_eq!(found(&socket), found(&pipe));
    assert_eq!(socket.members[0].blocked[0].reason, Reason::SocketSpace);
}

#[test]
fn names_cannot_drive_the_terminal() {
    let mut builder = Builder::new();
    let member = builder.member(Some(End::Writer), "\u{1b}]0;x\u{7}", 1);
    builder.add(member, &[frame(Mode::User, "evil\u{1b}[2J\r\u{202e}")], 3);
    builder.profile.quality.notes.push("\u{1b}[5m".into());
    let mut run = run(&builder.profile, "sh -c '\u{1b}[1m\n'");
    run.kernel = "\u{9b}".into();
    let text = as_text(&summary(&run), Style::default());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let tree = call_tree(&builder.profile, "evil\u{1b}[2J\r\u{202e}").unwrap();
    assert!(!tree.contains(|c: char| c.is_control() && c != '\n'), "{tree:?}");
    // Colour, where asked for, is ours alone.
    let coloured = as_text(&summary(&run), Style { colour: true, ..Style::default() });
    let plain = coloured.replace("\u{1b}[0m", "").replace("\u{1b}[1m", "").replace("\u{1b}[2m", "");
    assert_eq!(plain, text);
}

#[test]
fn a_pipeline_with_its_verdict() {
    let run = Run {
        subject: "zcat x | sort".to_owned(),
        kernel: "6.18.44".to_owned(),
        ..blocked_chain()
    };
    let summary = summary(&run);
    for member in &summary.members {
        let Some(life) = &member.life else { panic!("{member:?}") };
        let blocked: u64 = member.blocked.iter().map(|share| share.ns).sum();
        assert_eq!(blocked, life.split.blocked_ns);
        let shares = life.on_cpu_percent + life.blocked_percent + life.runnable_percent;
        assert!((shares - 100.0).abs() < 1e-9);
    }
    let text = as_text(&summary, Style::default());
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!("summary_pipeline", text);
    let ascii = as_text(&summary, Style { ascii: true, ..Style::default() });
    let picture: Vec<&str> = ascii.lines().filter(|line| line.starts_with('>')).collect();
    assert!(picture.len() == 1 && picture[0].starts_with("> sort"), "{ascii}");
    assert!(picture[0].is_ascii() && picture[0].ends_with("full 92 %"), "{ascii}");
}

fn on_screen(run: &Run, columns: usize) -> String {
    let mut out = Vec::new();
    let style = Style { columns, ..Style::default() };
    text::screen(&summary(run), style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_answer_fits_the_screen() {
    let chain = Run { subject: "zcat x | sort".to_owned(), ..blocked_chain() };
    insta::assert_snapshot!("screen_pipeline", on_screen(&chain, 80));
    // As many members as a parallel make has.
    let mut many = chain.clone();
    for pid in 100..1000 {
        let mut member = many.profile.members[0].clone();
        (member.pid, member.comm) = (pid, format!("cc{}", pid % 20));
        many.profile.members.push(member);
    }
    for (run, pid) in [(&chain, true), (&many, true), (&chain, false)] {
        for columns in [60, 80, 120] {
            let text = on_screen(run, columns);
            assert!(text.lines().count() <= 21, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
            assert!(
                text.contains("sort") && (!pid || columns < 76 || text.contains("12")),
                "{text}"
            );
        }
    }
}

fn timeline(run: &Run, style: Style) -> String {
    let mut summary = summary(run);
    summary.add_timeline(run, text::timeline_columns(&summary, style));
    let mut out = Vec::new();
    text::timeline(&summary, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_timeline_shows_states_pipes_phases_and_who_limits() {
    let run = phased();
    let wide = timeline(&run, Style::default());
    insta::assert_snapshot!("timeline_80", wide);
    let narrow = Style { columns: 60, ascii: true, ..Style::default() };
    insta::assert_snapshot!("timeline_60_ascii", timeline(&run, narrow));
    for columns in [40, 60, 80, 132, 250] {
        for ascii in [false, true] {
            let text = timeline(&run, Style { columns, ascii, ..Style::default() });
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
            assert!(!ascii || text.is_ascii(), "{text}");
        }
    }
    // With colour it says the same.
    let coloured = timeline(&run, Style { colour: true, ..Style::default() });
    let mut plain = String::new();
    for (at, part) in coloured.split('\u{1b}').enumerate() {
        plain.push_str(if at == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&plain), trimmed(&wide));
}

#[test]
fn a_recording_without_states_has_no_timeline_and_says_so() {
    let text = timeline(&blocked_chain(), Style::default());
    assert!(text.contains("no timeline"), "{text}");
}

#[test]
fn the_screen_names_each_phase_with_its_share_where_there_are_several() {
    let screen = |run: &Run| {
        let mut out = Vec::new();
        text::screen(&summary(run), Style::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let text = screen(&phased());
    assert!(
        text.contains("phase 1, 0 ns to 600 ms (60 % of the time): pipe:[88121] limits"),
        "{text}"
    );
    assert!(text.contains("phase 2, 600 ms to 1.00 s (40 % of the time): sort limits"), "{text}");
    assert!(!screen(&blocked_chain()).contains("phase"));
}
