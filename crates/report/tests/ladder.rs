//! The ladder from fabricated runs: table, sentences, picture, rows.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{pair, stage as recorded};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::ladder::{
    Axis, CountedBy, EndCost, Ending, Entry, Ladder, MachineFact, Profiled, RoleCost, Run,
    SCHEMA_VERSION, Standings, Sweep, is_narrow, render, render_sweep, sentences, write_csv,
    write_heatmap, write_page, write_picture,
};
use pipeprof_report::roles::Role;
use pipeprof_report::text::Style;
use pipeprof_runner::bandwidth::{Bandwidth, Bandwidths};
use pipeprof_runner::pipeline::End;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::Stage;

const GIB: u64 = 1 << 30;

fn stage(stage: Stage) -> Entry {
    let plan = PairPlan::new(stage, &Knobs::default()).unwrap();
    Entry { name: stage.to_string(), plan: Some(plan), refused: None }
}

/// A run of a GiB without a profiler.
fn plain(entry: usize, round: u32, gib_per_s: f64) -> Run {
    let end = |end: End| EndCost {
        name: end.as_str().to_owned(),
        end: Some(end),
        cpu_ns: Some(400_000_000),
        voluntary_switches: Some(16_000),
        involuntary_switches: Some(4),
        calls: Some(4096),
        retries: Some(0),
        roles: Vec::new(),
    };
    Run {
        entry,
        round,
        position: entry as u32 + 1,
        began_ns: u64::from(round) * 10_000_000_000,
        plan: [Stage::Write, Stage::Vmsplice, Stage::Splice]
            .get(entry)
            .map(|stage| PairPlan::new(*stage, &Knobs::default()).unwrap()),
        profile: None,
        whole: true,
        bytes: Some(GIB),
        elapsed_ns: (1e9 / gib_per_s) as u64,
        gib_per_s: Some(gib_per_s),
        counted_by: CountedBy::Pair,
        ends: vec![end(End::Writer), end(End::Reader)],
    }
}

/// A profiled run of two GiB; costs in milliseconds for one of them.
fn profiled(entry: usize, round: u32, writer: &[(Role, f64)], reader: &[(Role, f64)]) -> Run {
    let end = |end: End, roles: &[(Role, f64)]| EndCost {
        name: end.as_str().to_owned(),
        end: Some(end),
        cpu_ns: Some(roles.iter().map(|(_, ms)| 2e6 * ms).sum::<f64>() as u64),
        roles: roles
            .iter()
            .map(|&(role, ms)| RoleCost {
                role,
                cpu_ns: 2e6 * ms,
                ns_per_gib: 1e6 * ms,
                samples: ms as u64,
            })
            .collect(),
        ..EndCost::default()
    };
    Run {
        profile: Some(Profiled {
            event: "cpu-clock".to_owned(),
            frequency_hz: Some(997),
            sampling_effect: None,
            samples: 900,
            lost: 0,
        }),
        bytes: Some(2 * GIB),
        ends: vec![end(End::Writer, writer), end(End::Reader, reader)],
        ..plain(entry, round, 0.5)
    }
}

fn ladder() -> Ladder {
    use Role::{CopyIn, CopyOut, PageAlloc, PagePin, Wakeup};
    let mut runs = Vec::new();
    for round in 1..=6 {
        // The machine is slower in each round than in the one before, as machines are.
        let drift = 1.0 - 0.05 * f64::from(round);
        runs.push(plain(0, round, drift));
        runs.push(plain(1, round, 3.0 * drift));
        runs.push(plain(2, round, 3.0 * drift * if round % 2 == 0 { 1.1 } else { 0.9 }));
        if round <= 2 {
            let off = f64::from(round);
            let write = [(CopyIn, 150.0 + off), (PageAlloc, 90.0), (Wakeup, 140.0 - off)];
            runs.push(profiled(0, round, &write, &[(CopyOut, 200.0), (Wakeup, 100.0)]));
            let vmsplice = [(Wakeup, 70.0), (PagePin, 60.0 + off), (CopyIn, 1.0)];
            runs.push(profiled(1, round, &vmsplice, &[(CopyOut, 100.0), (Wakeup, 50.0)]));
            let splice = [(Wakeup, 60.0), (PagePin, 61.0)];
            runs.push(profiled(2, round, &splice, &[(CopyOut, 99.0 + off), (Wakeup, 50.0)]));
        }
    }
    // Stopped by Ctrl-C: it counts for nothing.
    runs.push(Run { whole: false, ..plain(0, 7, 1e6) });
    let bandwidth = |block_bytes, read_gib_per_s, copy_gib_per_s| Bandwidth {
        block_bytes,
        read_gib_per_s,
        copy_gib_per_s,
    };
    Ladder {
        schema_version: SCHEMA_VERSION,
        kernel: "6.18.44".to_owned(),
        seed: 4711,
        rounds_wanted: 6,
        ending: Ending::AllRounds,
        machine: vec![
            MachineFact { text: "2 CPUs".to_owned(), remedy: None },
            MachineFact { text: "others use 1.0 CPUs".to_owned(), remedy: Some("wait".to_owned()) },
        ],
        bandwidth: Some(Bandwidths {
            cache: bandwidth(256 << 10, 100.0, 50.0),
            memory: bandwidth(256 << 20, 20.0, 8.0),
        }),
        entries: vec![
            stage(Stage::Write),
            stage(Stage::Vmsplice),
            stage(Stage::Splice),
            Entry {
                name: "yes </dev/zero | \u{1b}[31m<script>".to_owned(),
                plan: None,
                refused: Some("it ended with exit status: 127".to_owned()),
            },
        ],
        runs,
    }
}

#[test]
fn the_table_and_its_sentences() {
    let mut out = Vec::new();
    render(&ladder(), Style::default(), &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

#[test]
fn drift_that_all_share_does_not_hide_who_is_faster() {
    let ladder = ladder();
    let standings = Standings::of(&ladder);
    let of_before = standings.standings[1].of_before.unwrap();
    assert!((of_before.median - 3.0).abs() < 1e-9, "{of_before:?}");
    // vmsplice and splice change places from round to round.
    let pairs: Vec<_> = standings.unranked.iter().map(|pair| (pair.faster, pair.slower)).collect();
    assert!(pairs == [(1, 2)] || pairs == [(2, 1)], "{pairs:?}");
    assert_eq!(*standings.ranking.last().unwrap(), 0);
    assert_eq!(standings.standings[0].runs, 6, "a run that was stopped counts for nothing");
    assert!(standings.standings[0].gib_per_s.unwrap().max < 1.0);
}

#[test]
fn the_roles_of_an_end_add_up_to_its_cpu_time() {
    let ladder = ladder();
    for (entry, standing) in Standings::of(&ladder).standings.iter().enumerate() {
        for end in &standing.ends {
            let runs = ladder.runs.iter().filter(|run| run.entry == entry && run.profile.is_some());
            let (mut cpu_ns, mut bytes) = (0, 0);
            for run in runs {
                cpu_ns += run.ends.iter().find(|e| e.end == end.end).unwrap().cpu_ns.unwrap();
                bytes += run.bytes.unwrap();
            }
            let expected = cpu_ns as f64 * GIB as f64 / bytes as f64;
            let sum: f64 = end.roles.iter().map(|role| role.ns_per_gib).sum();
            assert!((sum / expected - 1.0).abs() < 1e-6, "{sum} {expected}");
            assert_eq!(end.ns_per_gib, sum);
        }
    }
}

#[test]
fn what_the_next_stage_removed_is_told_from_what_it_did_not() {
    let ladder = ladder();
    let said = sentences(&ladder, &Standings::of(&ladder));
    assert!(said[0].contains("here it did, 242 ms to 1.00 ms"), "{}", said[0]);
    assert!(said[0].ends_with("it is 3.00 times as fast."), "{}", said[0]);
    // The reader's copy is still there, as much as before.
    assert!(said[1].contains("reader's copy: here it did not"), "{}", said[1]);
    assert!(said[1].contains("can't be told apart by throughput"), "{}", said[1]);
    assert!(said[3].contains("could not be run"), "{}", said[3]);
}

#[test]
fn costs_that_vary_more_than_they_differ_are_noise() {
    let mut ladder = ladder();
    for run in &mut ladder.runs {
        let wild = run.entry == 1 && run.profile.is_some() && run.round == 1;
        if wild {
            let copy = run.ends[1].roles.iter_mut().find(|role| role.role == Role::CopyOut);
            *copy.unwrap() =
                RoleCost { role: Role::CopyOut, cpu_ns: 600e6, ns_per_gib: 300e6, samples: 600 };
        }
    }
    let said = sentences(&ladder, &Standings::of(&ladder));
    assert!(said[1].contains("the change is within the noise"), "{}", said[1]);
}

#[test]
fn rounds_that_agree_are_enough() {
    let mut ladder = ladder();
    ladder.entries.pop();
    assert!(!is_narrow(&ladder), "they drift");
    for run in &mut ladder.runs {
        run.gib_per_s = Some(2.0 + 0.001 * f64::from(run.round));
    }
    assert!(is_narrow(&ladder));
    ladder.runs.retain(|run| run.round <= 4);
    assert!(!is_narrow(&ladder), "four rounds that agree may be chance");
}

#[test]
fn every_run_is_a_row_with_its_configuration() {
    let ladder = ladder();
    let mut out = Vec::new();
    write_csv(&ladder, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), ladder.runs.len());
    let at = |name: &str| header.iter().position(|column| *column == name).unwrap();
    for (row, run) in rows.iter().zip(&ladder.runs) {
        assert_eq!(row.len(), header.len());
        assert_eq!(row[at("round")], run.round.to_string());
        assert_eq!(row[at("seed")], "4711");
        assert_eq!(row[at("buf_size")], "262144");
        assert_eq!(row[at("write_with")], if run.entry == 0 { "write" } else { "vmsplice" });
        assert_eq!(row[at("profiled")] == "1", run.profile.is_some());
    }
    let profiled = rows.iter().find(|row| row[at("profiled")] == "1").unwrap();
    assert_eq!(profiled[at("writer_copy_in_cpu_ns")], "302000000");
}

fn well_formed(svg: &str) {
    let mut reader = quick_xml::Reader::from_str(svg);
    let mut depth = 0;
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(_) => depth += 1,
            quick_xml::events::Event::End(_) => depth -= 1,
            quick_xml::events::Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0);
}

#[test]
fn the_picture_is_well_formed_and_names_are_text_in_it() {
    let mut out = Vec::new();
    write_picture(&ladder(), &mut out).unwrap();
    let svg = String::from_utf8(out).unwrap();
    well_formed(&svg);
    assert!(!svg.contains("<script") && !svg.contains('\u{1b}'), "{svg}");
    for legend in ["page pinning", "copy out", "wake-up"] {
        assert!(svg.contains(&format!(">{legend}</text>")), "{legend}");
    }
    insta::assert_snapshot!(svg.replace('>', ">\n"));
}

/// Two buffers × three pipes, of which one is refused.
fn sweep() -> Sweep {
    let axis = |knob: &str, values: &[u64]| Axis { knob: knob.to_owned(), values: values.to_vec() };
    let mut entries = Vec::new();
    let mut runs = Vec::new();
    for buffer in [16_u64, 64] {
        for pipe in [4_u64, 64, 2048] {
            let entry = entries.len();
            let refused = pipe == 2048;
            entries.push(Entry {
                name: format!("buf-size {buffer}KiB, pipe-size {pipe}KiB"),
                refused: refused.then(|| "the kernel refused a pipe of 2MiB: EPERM".to_owned()),
                ..stage(Stage::Write)
            });
            for round in 1..=3 {
                let speed = if pipe == 4 { 0.5 } else { 0.5 * (1.0 + buffer as f64 / 32.0) };
                if !refused {
                    runs.push(plain(entry, round, speed * (1.0 + 0.01 * f64::from(round))));
                }
            }
        }
    }
    Sweep {
        subject: "write".to_owned(),
        axes: vec![
            axis("buf-size", &[16 << 10, 64 << 10]),
            axis("pipe-size", &[4 << 10, 64 << 10, 2 << 20]),
        ],
        ladder: Ladder { entries, runs, rounds_wanted: 3, ..ladder() },
    }
}

#[test]
fn a_sweep_is_a_table_and_what_was_refused_is_no_zero() {
    let mut out = Vec::new();
    render_sweep(&sweep(), Style::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("0.00"), "{text}");
    assert!(text.contains("4KiB: +50 % with buf-size 16KiB to 3.00 times"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_heat_map_is_well_formed_and_darker_where_faster() {
    let mut out = Vec::new();
    write_heatmap(&sweep(), &mut out).unwrap();
    let svg = String::from_utf8(out).unwrap();
    well_formed(&svg);
    assert_eq!(svg.matches(">refused</text>").count(), 2);
    let red = |cell: &str| {
        let (_, rest) = svg.split_once(&format!("<title>{cell}:")).unwrap();
        let (_, rest) = rest.split_once("fill=\"#").unwrap();
        u8::from_str_radix(&rest[..2], 16).unwrap()
    };
    let slow = red("buf-size 16KiB, pipe-size 4KiB");
    let faster = red("buf-size 16KiB, pipe-size 64KiB");
    let fastest = red("buf-size 64KiB, pipe-size 64KiB");
    assert!(slow > faster && faster > fastest, "{slow} {faster} {fastest}");
}

#[test]
fn a_sweep_along_one_size_has_one_column() {
    let two = sweep();
    let ladder = Ladder {
        entries: two.ladder.entries[..3].to_vec(),
        runs: two.ladder.runs.iter().filter(|run| run.entry < 3).cloned().collect(),
        ..two.ladder
    };
    let sweep = Sweep { axes: two.axes[1..].to_vec(), ladder, ..two };
    let mut out = Vec::new();
    render_sweep(&sweep, Style::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("pipe-size     GiB/s  min to max"), "{text}");
    assert!(text.contains("a pipe of 64KiB against one of 4KiB: +50 %\n"), "{text}");
}

/// A recorded stage, as if a GiB had gone through its pipe in a second.
fn with_profile(stage: &str) -> pipeprof_report::run::Run {
    let mut profile = recorded(stage);
    for member in &mut profile.members {
        member.cpu_time_ns = Some(300_000_000);
    }
    pair(profile, stage, GIB, 1.0)
}

#[test]
fn the_page_has_every_stage_and_what_differs_from_the_one_before() {
    let (write, vmsplice) = (with_profile("write"), with_profile("vmsplice"));
    let seen = [(0, write.clone()), (1, vmsplice.clone()), (0, write), (1, vmsplice)];
    let mut out = Vec::new();
    write_page(&ladder(), &seen, &Highlights::article(), &mut out).unwrap();
    let html = String::from_utf8(out).unwrap();
    let order = [
        "<svg",
        "min to max",
        "<h3>write</h3>",
        "on CPU",
        "<h3>vmsplice</h3>",
        "on CPU, against write",
        "<h3>splice</h3>",
        "Data quality</h2>",
    ];
    let mut at = 0;
    for word in order {
        at += html[at..].find(word).unwrap_or_else(|| panic!("no {word} after {at}"));
    }
    assert!(!html.contains("on CPU, against vmsplice"), "splice has no profile to compare");
    // A command's name is text, whatever is in it.
    assert!(html.contains("&lt;script&gt;") && !html.contains("[31m<script>"));
}

#[test]
fn two_ideas_at_once_are_two_things_to_remove() {
    let mut ladder = ladder();
    ladder.entries.remove(1);
    ladder.runs.retain(|run| run.entry != 1);
    for run in &mut ladder.runs {
        run.entry = run.entry.min(1);
    }
    let said = sentences(&ladder, &Standings::of(&ladder));
    assert!(said[0].contains("the pages it needs; the reader's copy: here it did"), "{}", said[0]);
}

#[test]
fn a_stage_off_the_ladder_is_told_by_what_it_builds_on() {
    let said = |stages: [Stage; 2]| {
        let mut ladder = ladder();
        ladder.entries = stages.map(stage).to_vec();
        ladder.runs.retain(|run| run.entry < 2);
        sentences(&ladder, &Standings::of(&ladder))[0].clone()
    };
    let same_cpu = said([Stage::Write, Stage::SameCpu]);
    assert!(same_cpu.contains("same-cpu is meant to remove waking another CPU: "), "{same_cpu}");
    for stages in [[Stage::Write, Stage::Tiny], [Stage::Splice, Stage::Gift]] {
        let shown = said(stages);
        assert!(
            shown.contains(" builds on it as a demonstration and is not meant to remove"),
            "{shown}"
        );
    }
    let unrelated = said([Stage::TeeLarge, Stage::SameCpu]);
    assert!(
        unrelated.contains("same-cpu is a separate idea that does not build on it"),
        "{unrelated}"
    );
}

#[test]
fn a_round_that_was_stopped_is_named() {
    let mut ladder = ladder();
    ladder.ending = Ending::Interrupted;
    ladder.runs.retain(|run| run.round < 4 || run.round == 4 && run.entry == 0);
    let mut out = Vec::new();
    render(&ladder, Style::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("stopped in round 4 of 6"), "{text}");
}
