//! Exports, read back by what reads them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::io::Read;

use common::{Builder, STAGES, blocked_chain, frame, stage};
use flate2::read::GzDecoder;
use pipeprof_profiler::profile::{Frame, FrameKind, MemberProfile, Mode, Profile, WeightUnit};
use pipeprof_report::export::pprof::proto;
use pipeprof_report::export::{Source, csv, pprof, speedscope};
use pipeprof_report::flamegraph::Time;
use pipeprof_report::run::Run;
use prost::Message;
use serde_json::Value;

/// Has a source made, of all members.
fn with_source<T>(run: &Run, then: impl FnOnce(&Source<'_>) -> T) -> T {
    let run = Run {
        subject: "zcat | \u{1b}[31msort".to_owned(),
        kernel: "6.18.44".to_owned(),
        start_ns: 5,
        started_unix_ns: Some(1_700_000_000_000_000_000),
        elapsed_ns: 1_000_000_000,
        ..run.clone()
    };
    then(&Source { run: &run, members: (0..run.profile.members.len()).collect() })
}

fn alone<T>(profile: &Profile, then: impl FnOnce(&Source<'_>) -> T) -> T {
    with_source(&Run::bare(profile.clone()), then)
}

/// Written, unpacked, decoded.
fn pprof_of(source: &Source<'_>) -> proto::Profile {
    let mut packed = Vec::new();
    pprof::render(source, &mut packed).unwrap();
    let mut plain = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
    proto::Profile::decode(&plain[..]).unwrap()
}

fn text(profile: &proto::Profile, id: i64) -> &str {
    &profile.string_table[usize::try_from(id).unwrap()]
}

fn labels<'a>(profile: &'a proto::Profile, sample: &proto::Sample) -> BTreeMap<&'a str, &'a str> {
    let texts = sample.label.iter().filter(|label| label.num == 0);
    texts.map(|label| (text(profile, label.key), text(profile, label.str))).collect()
}

/// Everything that is referred to is there, once, and the sums are those of the profile.
fn assert_sound(written: &proto::Profile, profile: &Profile) {
    assert_eq!(written.string_table[0], "");
    let strings: std::collections::HashSet<&String> = written.string_table.iter().collect();
    assert_eq!(strings.len(), written.string_table.len());
    // Parca refuses others.
    let ids = |ids: Vec<u64>| ids == (1..=ids.len() as u64).collect::<Vec<_>>();
    assert!(ids(written.location.iter().map(|location| location.id).collect()));
    assert!(ids(written.function.iter().map(|function| function.id).collect()));
    assert!(ids(written.mapping.iter().map(|mapping| mapping.id).collect()));
    for location in &written.location {
        assert!(!location.line.is_empty());
        assert!(location.mapping_id <= written.mapping.len() as u64);
        for line in &location.line {
            assert!((1..=written.function.len() as u64).contains(&line.function_id));
        }
    }
    let mut sums = [0; 3];
    for sample in &written.sample {
        assert!(
            sample.location_id.iter().all(|id| *id >= 1 && *id <= written.location.len() as u64)
        );
        assert_eq!(sample.value.len(), written.sample_type.len());
        sums.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum += *value as u64);
    }
    let members = || profile.members.iter();
    let blocked = members().flat_map(|member| &member.blocked).map(|weight| weight.weight);
    assert_eq!(
        sums,
        [
            members().map(MemberProfile::samples).sum::<u64>(),
            members().map(MemberProfile::weight).sum::<u64>(),
            blocked.sum::<u64>(),
        ]
    );
}

#[test]
fn pprof_adds_up_to_the_profile() {
    for name in STAGES {
        let profile = stage(name);
        assert_sound(&alone(&profile, pprof_of), &profile);
    }
    let run = blocked_chain();
    let written = with_source(&run, pprof_of);
    assert_sound(&written, &run.profile);
    let types: Vec<(&str, &str)> = written
        .sample_type
        .iter()
        .map(|kind| (text(&written, kind.r#type), text(&written, kind.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds"), ("blocked", "nanoseconds")]);
    assert_eq!(text(&written, written.default_sample_type), "cpu");
    assert_eq!(written.time_nanos, 1_700_000_000_000_000_000);
    assert_eq!(written.duration_nanos, 1_000_000_000);
    assert_eq!(written.period, 200_040);
}

#[test]
fn pprof_labels_say_whose_what_and_where() {
    let run = blocked_chain();
    let written = with_source(&run, pprof_of);
    let found: Vec<BTreeMap<&str, &str>> =
        written.sample.iter().map(|sample| labels(&written, sample)).collect();
    let expected = [
        vec![("member", "zcat"), ("role", "copy in"), ("pipe", "pipe:[88121]")],
        vec![
            ("member", "zcat"),
            ("role", "wait for space"),
            ("reason", "wait for space"),
            ("pipe", "pipe:[88121]"),
        ],
        vec![("member", "sort"), ("role", "user code")],
        vec![
            ("member", "sort"),
            ("role", "wait for data"),
            ("reason", "wait for data"),
            ("pipe", "pipe:[88121]"),
        ],
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, &expected.into_iter().collect::<BTreeMap<_, _>>());
    }
    let pids: Vec<i64> = (written.sample.iter().flat_map(|sample| &sample.label))
        .filter(|label| text(&written, label.key) == "pid")
        .map(|label| label.num)
        .collect();
    assert_eq!(pids, [11, 11, 12, 12, 10]);
}

#[test]
fn inlined_functions_are_lines_of_one_location() {
    let mut builder = Builder::new();
    let member = builder.member(None, "a", 1);
    let with = |name: &str, kind| Frame { kind, ..frame(Mode::User, name) };
    let (inner, middle) = (with("inner", FrameKind::Inlined), with("middle", FrameKind::Inlined));
    let (outer, main) = (with("outer", FrameKind::Symbol), with("main", FrameKind::Symbol));
    let stack = builder.add(member, &[inner, middle, outer, main], 1);
    let ids = builder.profile.stack(stack).to_vec();
    ids.iter()
        .zip([0x10, 0x10, 0x10, 0x20])
        .for_each(|(&id, at)| builder.profile.set_address(id, at));
    builder.profile.build_ids.insert("/usr/bin/pp".into(), "abcd".to_owned());
    let written = alone(&builder.profile, pprof_of);
    let [sample] = &written.sample[..] else { panic!("{:?}", written.sample) };
    let names: Vec<(u64, Vec<&str>)> = sample
        .location_id
        .iter()
        .map(|&id| {
            let location = &written.location[id as usize - 1];
            let function = |line: &proto::Line| &written.function[line.function_id as usize - 1];
            let lines = location.line.iter();
            (location.address, lines.map(|line| text(&written, function(line).name)).collect())
        })
        .collect();
    assert_eq!(names, [(0x10, vec!["inner", "middle", "outer"]), (0x20, vec!["main"])]);
    let [mapping] = &written.mapping[..] else { panic!("{:?}", written.mapping) };
    assert_eq!(text(&written, mapping.filename), "/usr/bin/pp");
    assert_eq!(text(&written, mapping.build_id), "abcd");
    assert_eq!((mapping.memory_start, mapping.memory_limit), (0, 0x21));
}

#[test]
fn events_are_counts_and_not_time() {
    let mut run = blocked_chain();
    run.profile.quality.unit = WeightUnit::Events;
    run.profile.quality.event = "cycles".to_owned();
    let written = with_source(&run, pprof_of);
    let kind = written.sample_type[1];
    assert_eq!((text(&written, kind.r#type), text(&written, kind.unit)), ("cycles", "count"));
    let table = with_source(&run, |source| csv_of(source, Time::Wall));
    let (header, rows) = table.split_first().unwrap();
    assert_eq!(header[9..11], ["time_ns", "cycles"]);
    for row in rows {
        assert_eq!(row.len(), header.len());
        assert_eq!(row[9].is_empty(), row[3] == "on CPU", "{row:?}");
        assert_eq!(row[10].is_empty(), row[3] != "on CPU", "{row:?}");
    }
    let speedscope = with_source(&run, |source| speedscope_of(source, Time::Cpu));
    assert_eq!(speedscope["profiles"][0]["unit"], "none");
}

fn speedscope_of(source: &Source<'_>, time: Time) -> Value {
    let mut out = Vec::new();
    speedscope::render(source, time, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn speedscope_profiles_weigh_what_their_samples_do() {
    let run = blocked_chain();
    for (time, whole) in [
        (Time::Cpu, [Some(100 * 200_040), Some(4000 * 200_040), None]),
        (Time::Blocked, [Some(700_000_000), Some(50_000_000), Some(1_000_000_000)]),
        (
            Time::Wall,
            [
                Some(700_000_000 + 100 * 200_040),
                Some(50_000_000 + 4000 * 200_040),
                Some(1_000_000_000),
            ],
        ),
    ] {
        let file = with_source(&run, |source| speedscope_of(source, time));
        let frames = file["shared"]["frames"].as_array().unwrap();
        let mut distinct: Vec<String> = frames.iter().map(Value::to_string).collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), frames.len(), "a frame is twice in {file}");
        let profiles = file["profiles"].as_array().unwrap();
        let whole: Vec<u64> = whole.into_iter().flatten().collect();
        assert_eq!(profiles.len(), whole.len());
        for (one, whole) in profiles.iter().zip(whole) {
            assert_eq!(one["type"], "sampled");
            assert_eq!(one["unit"], "nanoseconds");
            let samples = one["samples"].as_array().unwrap();
            let weights = one["weights"].as_array().unwrap();
            assert_eq!(samples.len(), weights.len());
            let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
            assert_eq!(sum, whole);
            assert_eq!(one["endValue"], whole);
            for frame in samples.iter().flat_map(|stack| stack.as_array().unwrap()) {
                assert!((frame.as_u64().unwrap() as usize) < frames.len());
            }
        }
    }
}

/// Rows and cells, as RFC 4180 has them.
fn csv_of(source: &Source<'_>, time: Time) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    csv::render(source, time, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let row = rows.last_mut().unwrap();
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                row.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\n' if !quoted => rows.push(vec![String::new()]),
            c => row.last_mut().unwrap().push(c),
        }
    }
    assert_eq!(rows.pop(), Some(vec![String::new()]), "the last line ends");
    rows
}

#[test]
fn csv_rows_add_up_to_each_members_life() {
    let run = blocked_chain();
    let table = with_source(&run, |source| csv_of(source, Time::Wall));
    let (header, rows) = table.split_first().unwrap();
    assert_eq!(
        header.join(","),
        "member,pid,end,state,role,pipe,function,object,samples,time_ns,stack"
    );
    let sum = |member: &str, state: &str| -> u64 {
        let of = rows.iter().filter(|row| row[0] == member && row[3] == state);
        of.map(|row| row[9].parse::<u64>().unwrap()).sum()
    };
    assert_eq!(sum("zcat", "on CPU"), 100 * 200_040);
    assert_eq!(sum("zcat", "blocked"), 700_000_000);
    assert_eq!(sum("zcat", "runnable"), 200_000_000);
    assert_eq!(sum("sh", "blocked"), 1_000_000_000);
    let row = rows.iter().find(|row| row[3] == "blocked").unwrap();
    assert_eq!(row[4..8], ["wait for space", "pipe:[88121]", "schedule", "[kernel.kallsyms]"]);
    assert_eq!(row[10], "ksys_write;vfs_write;anon_pipe_write;schedule");
}

#[test]
fn names_from_strangers_break_no_format() {
    let mut builder = Builder::new();
    let member = builder.member(None, "=cmd|'/c calc'!A1\n\"x\",y", 1);
    let evil = "</script>\u{1b}[31m;\"quoted\", a\r\nb\u{202e}";
    builder.add(member, &[frame(Mode::User, evil), frame(Mode::User, "@sum(1)")], 3);
    alone(&builder.profile, |source| {
        let table = csv_of(source, Time::Cpu);
        assert_eq!(table.len(), 2);
        assert_eq!(table[1].len(), table[0].len());
        assert_eq!(table[1][0], "'=cmd|'/c calc'!A1\\n\"x\",y");
        assert!(table[1][10].starts_with("'@sum(1);"), "{:?}", table[1][10]);
        let file = speedscope_of(source, Time::Cpu);
        let written = pprof_of(source);
        let texts = [file.to_string(), written.string_table.concat(), table.concat().concat()];
        for text in texts {
            assert!(!text.contains(['\u{1b}', '\r', '\n', '\u{202e}']), "{text:?}");
        }
        assert_eq!(file["name"], "zcat | \\u{1b}[31msort");
    });
}
