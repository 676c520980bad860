//! Two profiles compared: figures, words, picture.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Builder, blocked_chain, frame, pair, stage, without_bytes};
use pipeprof_profiler::profile::{Mode, Profile, StackWeight};
use pipeprof_report::diff::{
    Basis, Diff, Judgement, MatchedBy, MemberDiff, SampledOn, Unit, render_picture, render_text,
};
use pipeprof_report::error::Error;
use pipeprof_report::roles::Role;
use pipeprof_report::run::Run;
use pipeprof_report::text::Style;
use pipeprof_runner::pipeline::End;
use serde_json::Value;

/// `gib` went through, at `rate` GiB/s.
fn one(profile: Profile, gib: u64, rate: f64) -> Run {
    pair(profile, "it", gib << 30, rate)
}

fn diff(a: &Run, b: &Run) -> Diff {
    Diff::of(&[(a, b)], ["before", "after"]).unwrap()
}

fn text(diff: &Diff) -> String {
    let mut out = Vec::new();
    render_text(diff, Style::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn picture(diff: &Diff) -> String {
    let mut out = Vec::new();
    render_picture(diff, false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every weight and sample so many times.
fn times(profile: &Profile, factor: u64) -> Profile {
    let mut profile = profile.clone();
    for weight in profile.members.iter_mut().flat_map(|member| &mut member.on_cpu) {
        let StackWeight { stack, samples, weight: of } = *weight;
        *weight = StackWeight { stack, samples: samples * factor, weight: of * factor };
    }
    profile.quality.samples *= factor;
    profile
}

fn role(member: &MemberDiff, role: Role) -> &pipeprof_report::diff::Change {
    &member.roles.iter().find(|change| change.role == role).unwrap().change
}

#[test]
fn the_same_twice_is_within_the_noise_and_grey() {
    let it = one(stage("splice"), 8, 5.0);
    let diff = diff(&it, &it);
    for member in &diff.members {
        for change in member.roles.iter().map(|role| &role.change) {
            assert_eq!((change.difference, change.judgement), (0.0, Judgement::WithinNoise));
        }
    }
    let text = text(&diff);
    assert!(!text.contains("dearer") && !text.contains("cheaper"), "{text}");
    assert!(text.contains("equally fast"), "{text}");
    let svg = picture(&diff);
    let frames = svg.split("class=\"frames\"").last().unwrap();
    let fills: Vec<&str> =
        frames.split("fill=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(fills.len() > 20);
    // The middle shade, and the labels of towers.
    for fill in fills {
        assert!(fill == "rgb(237,237,237)" || fill == "rgb(236,239,241)", "{fill}");
    }
}

#[test]
fn who_moved_more_is_not_dearer() {
    let profile = stage("splice");
    let diff = diff(&one(profile.clone(), 4, 2.0), &one(times(&profile, 4), 16, 8.0));
    assert_eq!(diff.unit, Unit::NsPerGib);
    for member in &diff.members {
        assert!((member.total.b / member.total.a - 1.0).abs() < 1e-9);
        assert!(member.roles.iter().all(|r| r.change.judgement == Judgement::WithinNoise));
        assert!(member.functions.iter().all(|f| f.change.judgement == Judgement::WithinNoise));
    }
    let speed = diff.speed.unwrap();
    assert!((speed.ratio.median - 4.0).abs() < 1e-9);
    assert!(diff.headline.starts_with("In one run of each, B (after) was 4.00 times as fast"));
}

#[test]
fn a_ledger_of_two_stages() {
    let diff = diff(&one(stage("splice"), 8, 6.0), &one(stage("huge-page"), 8, 9.0));
    let [writer, reader] = &diff.members[..] else { panic!("{:?}", diff.members) };
    assert_eq!((writer.end, reader.end), (Some(End::Writer), Some(End::Reader)));
    let pinning = role(writer, Role::PagePin);
    assert_eq!((pinning.judgement, pinning.basis), (Judgement::Cheaper, Some(Basis::Samples)));
    // The rows are the whole.
    for member in &diff.members {
        let sum = |of: fn(&pipeprof_report::diff::Change) -> f64| -> f64 {
            member.roles.iter().map(|role| of(&role.change)).sum()
        };
        assert!((sum(|change| change.a) / member.total.a - 1.0).abs() < 1e-9);
        assert!((sum(|change| change.b) / member.total.b - 1.0).abs() < 1e-9);
    }
    let text = text(&diff);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!("diff_splice_huge-page", text);
}

#[test]
fn what_was_saved_is_as_wide_as_it_was_and_what_came_as_wide_as_it_is() {
    let diff = diff(&one(stage("write"), 8, 1.0), &one(stage("vmsplice"), 8, 3.0));
    let svg = picture(&diff);
    // (title, weight) of every box.
    let boxes: Vec<(&str, f64)> = svg
        .split("<g class=\"f ")
        .skip(1)
        .map(|rest| {
            let title = rest.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            let weight = rest.split("fg:w=\"").nth(1).unwrap().split('"').next().unwrap();
            (title, weight.parse().unwrap())
        })
        .collect();
    let weight = |title: &str| -> f64 {
        boxes.iter().filter(|(of, _)| of.starts_with(title)).map(|(_, weight)| weight).sum()
    };
    // Each stack is rounded to a nanosecond.
    let near = |found: f64, cost: f64| (found - cost).abs() < 5000.0;
    for member in &diff.members {
        let end = member.end.unwrap().as_str();
        assert!(near(weight(&format!("A: {end} ")), member.total.a), "{boxes:?}");
        assert!(near(weight(&format!("B: {end} ")), member.total.b), "{boxes:?}");
    }
    assert!(near(weight("all ("), diff.total.a + diff.total.b));
    // `write` copies in anon_pipe_write, `vmsplice` never calls it, and pins pages instead.
    assert!(weight("▼ anon_pipe_write (") > 0.0 && weight("▲ gup_fast_fallback (") > 0.0);
    let gone = diff.members[0].functions.iter().find(|f| &*f.name == "copy_page_from_iter");
    let gone =
        gone.or_else(|| diff.members[0].functions.iter().find(|f| f.seen == SampledOn::Gone));
    assert_eq!(gone.unwrap().seen, SampledOn::Gone);
    assert!(text(&diff).contains(", gone"));
    assert!(svg.contains("CPU time per GiB of input, one run of each, on one scale"));
    assert!(svg.contains(": 3.00×</text>") && svg.contains(&diff.headline));
}

#[test]
fn runs_that_swing_are_within_the_noise_and_steady_ones_are_not() {
    let stages = [stage("splice"), stage("huge-page")];
    // The machine is up to three times as slow, for both of a pair alike.
    let slow = [1, 3, 2];
    let runs: Vec<[Run; 2]> = slow
        .iter()
        .map(|&by| {
            [0, 1].map(|at| {
                let rate = [6.0, 9.0][at] / by as f64;
                one(times(&stages[at], by), 8, rate)
            })
        })
        .collect();
    let pairs: Vec<_> = runs.iter().map(|[a, b]| (a, b)).collect();
    let diff = Diff::of(&pairs, ["splice", "huge-page"]).unwrap();
    assert_eq!(diff.speed.unwrap().distinguishable, Some(true));
    assert!(diff.headline.starts_with("B (huge-page) is 1.50 times as fast as A (splice); "));
    assert!(diff.headline.contains(" of the savings is "), "{}", diff.headline);
    let pinning = role(&diff.members[0], Role::PagePin);
    assert_eq!((pinning.judgement, pinning.basis), (Judgement::Cheaper, Some(Basis::Runs)));

    let swapped: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(at, &(a, b))| if at % 2 == 0 { (a, b) } else { (b, a) })
        .collect();
    let diff = Diff::of(&swapped, ["x", "y"]).unwrap();
    assert_eq!(diff.speed.unwrap().distinguishable, Some(false));
    assert!(diff.headline.contains("can't be told apart"), "{}", diff.headline);
    assert_eq!(role(&diff.members[0], Role::PagePin).judgement, Judgement::WithinNoise);
}

#[test]
fn without_bytes_it_is_shares_and_says_so() {
    let bare = |name: &str| without_bytes(one(stage(name), 8, 1.0));
    let diff = diff(&bare("splice"), &bare("huge-page"));
    assert_eq!(diff.unit, Unit::Percent);
    assert!((diff.total.a - 100.0).abs() < 1e-9 && (diff.total.b - 100.0).abs() < 1e-9);
    let text = text(&diff);
    assert!(text.contains("unknown which is faster"), "{text}");
    assert!(text.contains("shares of samples instead of cost per GiB"), "{text}");
    assert!(!text.contains(" ms "), "{text}");
    assert!(picture(&diff).contains("share of the samples"));
}

#[test]
fn what_measured_different_things_is_refused() {
    let it = one(stage("write"), 8, 1.0);
    let mut user_only = one(stage("write"), 8, 1.0);
    user_only.profile.quality.kernel_visible = false;
    let mut faults = one(stage("write"), 8, 1.0);
    faults.profile.quality.event = "page-faults".into();
    faults.profile.quality.unit = pipeprof_profiler::profile::WeightUnit::Events;
    let mut empty = one(stage("write"), 8, 1.0);
    empty.profile.quality.samples = 0;
    let refused = |other: &Run| Diff::of(&[(&it, other)], ["a", "b"]).unwrap_err();
    assert!(matches!(refused(&user_only), Error::NotComparable { .. }));
    assert!(matches!(refused(&faults), Error::NotComparable { .. }));
    assert!(matches!(refused(&empty), Error::NoSamples { .. }));
    let mut stranger = Builder::new();
    let member = stranger.member(None, "stranger", 1);
    stranger.add(member, &[frame(Mode::User, "main")], 100);
    let error = refused(&one(stranger.profile, 8, 1.0));
    assert!(matches!(error, Error::NotComparable { .. }) && error.hint().is_some());
}

#[test]
fn members_of_a_pipeline_go_by_name_and_place_and_waiting_is_compared_too() {
    let run = blocked_chain();
    let mut other = run.clone();
    other.profile.members[0].comm = "pigz".into();
    let diff = Diff::of(&[(&run, &other)], ["zcat", "pigz"]).unwrap();
    let by: Vec<MatchedBy> = diff.members.iter().map(|member| member.matched_by).collect();
    assert_eq!(by, [MatchedBy::Place, MatchedBy::Name]);
    // Half a GiB in a second, 0.7 of it asleep.
    assert_eq!(diff.members[0].blocked[0].change.a, 1.4e9);
    assert_eq!(diff.members[0].blocked[0].change.judgement, Judgement::Unknown);
    assert!(diff.speed.is_some(), "from the flow of its pipe");
    let out: Vec<&str> = diff.not_compared.iter().map(|out| out.comm.as_str()).collect();
    assert_eq!(out, ["sh"]);
    assert!(text(&diff).contains("zcat in A, pigz in B (by their place)"));
}

#[test]
fn names_can_inject_nothing() {
    let evil = "</text><script>alert(1)</script>\u{1b}[2J";
    let mut builder = Builder::new();
    let member = builder.member(None, evil, 1);
    builder.add(member, &[frame(Mode::User, evil), frame(Mode::User, "a;b")], 300);
    let mut it = one(builder.profile, 1, 1.0);
    it.kernel = evil.into();
    let mut other = one(it.profile.clone(), 1, 2.0);
    other.kernel = "6.1".into();
    let diff = Diff::of(&[(&it, &other)], [evil, "b"]).unwrap();
    let text = text(&diff);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let svg = picture(&diff);
    assert!(svg.matches("<script").count() == 1 && svg.contains("&lt;script&gt;"));
    assert!(!svg.contains('\u{1b}') && svg.contains(">a;b<"));
}

#[test]
fn the_json_has_what_its_documentation_names() {
    let diff = diff(&one(stage("splice"), 8, 6.0), &one(stage("huge-page"), 8, 9.0));
    let mut out = Vec::new();
    diff.write_json(&mut out).unwrap();
    let json: Value = serde_json::from_slice(&out).unwrap();
    let documented = include_str!("../../../docs/json.md");
    let section = documented.split("# `pipeprof diff --json`").nth(1).unwrap();
    let mut objects = vec![&json];
    while let Some(object) = objects.pop() {
        match object {
            Value::Object(fields) => {
                for (name, value) in fields {
                    assert!(section.contains(&format!("`{name}`")), "{name} is not documented");
                    objects.push(value);
                }
            }
            Value::Array(items) => objects.extend(items),
            _ => {}
        }
    }
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["unit"], "ns_per_gib");
    assert_eq!(json["members"][0]["end"], "writer");
    assert_eq!(json["members"][0]["roles"][0]["basis"], "samples");
}
