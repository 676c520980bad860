//! `pipeprof flame` on real pairs of every stage, held against what each stage is known to do.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{may_profile_kernel, run_in, stderr, stdout};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

/// Flame graphs of one stage.
struct Flamed {
    json: Value,
    svg: String,
    folded: String,
}

fn flame(stage: &str, bytes: &str) -> Flamed {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(
        folder.path(),
        &[
            "flame", "--stage", stage, "--bytes", bytes, "-F", "2999", "--folded", "stacks",
            "--json",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let svg = fs::read_to_string(folder.path().join(format!("pipeprof-{stage}.svg"))).unwrap();
    let folded = fs::read_to_string(folder.path().join("stacks")).unwrap();
    Flamed { json: serde_json::from_str(&stdout(&output)).unwrap(), svg, folded }
}

impl Flamed {
    fn roles(&self, member: usize) -> Vec<(String, f64)> {
        let roles = self.json["members"][member]["roles"].as_array().unwrap();
        roles
            .iter()
            .map(|role| {
                let name = role["role"].as_str().unwrap().to_owned();
                (name, role["percent"].as_f64().unwrap())
            })
            .collect()
    }

    fn has_role(&self, member: usize, role: &str) -> bool {
        self.percent(member, role) > 0.0
    }

    fn percent(&self, member: usize, role: &str) -> f64 {
        self.roles(member)
            .iter()
            .find(|(name, _)| name == role)
            .map_or(0.0, |(_, percent)| *percent)
    }
}

/// Hover texts of the frames, and proof that the whole is well-formed.
fn titles(svg: &str) -> Vec<String> {
    let mut reader = Reader::from_str(svg);
    let (mut titles, mut inside) = (Vec::new(), false);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) if tag.name().as_ref() == b"title" => {
                inside = true;
                titles.push(String::new());
            }
            Event::End(tag) if tag.name().as_ref() == b"title" => inside = false,
            Event::Text(text) if inside => {
                titles.last_mut().unwrap().push_str(&String::from_utf8_lossy(&text));
            }
            Event::Eof => return titles,
            _ => {}
        }
    }
}

#[test]
fn the_vmsplice_picture_shows_both_towers_and_what_the_article_teaches() {
    if !may_profile_kernel() {
        return;
    }
    let flamed = flame("vmsplice", "4G");
    let titles = titles(&flamed.svg);
    let has = |part: &str| titles.iter().any(|title| title.contains(part));
    assert!(has("writer pp-write ("), "{titles:?}");
    assert!(has("reader pp-read ("), "{titles:?}");
    assert!(has("vmsplice"), "{titles:?}");
    assert!(has("iov_iter_get_pages"), "{titles:?}");
    for part in ["vmsplice", "iB/s", "997", "samples"] {
        let part = if part == "997" { "2999" } else { part };
        assert!(flamed.svg.contains(part), "{part} is not in the picture");
    }
    assert!(flamed.has_role(0, "page_pin"), "{:?}", flamed.roles(0));
    assert!(flamed.has_role(1, "copy_out"), "{:?}", flamed.roles(1));
}

#[test]
fn every_stage_does_what_it_is_there_for() {
    if !may_profile_kernel() {
        return;
    }
    // What the stage is known to spend time on at each end, and what it has got rid of.
    let stages = [
        ("write", "256M", vec![(0, "copy_in"), (1, "copy_out")], vec![(0, "page_pin")]),
        ("vmsplice", "2G", vec![(0, "page_pin"), (1, "copy_out")], vec![(0, "copy_in")]),
        ("splice", "3G", vec![(0, "page_pin")], vec![(0, "copy_in"), (1, "copy_out")]),
        ("huge-page", "4G", vec![], vec![(0, "copy_in"), (1, "copy_out")]),
        ("busy-loop", "8G", vec![(0, "pipe_lock")], vec![(0, "copy_in"), (1, "copy_out")]),
        ("tee-large", "64G", vec![], vec![(0, "page_pin"), (0, "copy_in"), (1, "copy_out")]),
    ];
    for (stage, bytes, expected, gone) in stages {
        let flamed = flame(stage, bytes);
        for (member, role) in expected {
            assert!(flamed.has_role(member, role), "{stage}: {:?}", flamed.roles(member));
        }
        for (member, role) in gone {
            // Each end tells what it counted by one write into a pipe of its own.
            assert!(flamed.percent(member, role) < 1.0, "{stage}: {:?}", flamed.roles(member));
        }
        let quality = &flamed.json["quality"];
        assert_eq!(quality["lost"], 0, "{stage}");
        assert_eq!(quality["malformed_records"], 0, "{stage}");
        // All that was sampled is in the folded stacks and in the role tables.
        let samples = quality["samples"].as_u64().unwrap();
        let in_roles: u64 = (0..2)
            .flat_map(|m| flamed.json["members"][m]["roles"].as_array().unwrap())
            .map(|role| role["samples"].as_u64().unwrap())
            .sum();
        assert_eq!(in_roles, samples, "{stage}");
        for member in 0..2 {
            let sum: f64 = flamed.roles(member).iter().map(|(_, percent)| percent).sum();
            assert!((sum - 100.0).abs() < 0.01, "{stage}: roles sum to {sum} %");
        }
        let weight = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        let folded: u64 = flamed.folded.lines().map(weight).sum();
        let weights: u64 =
            (0..2).map(|m| flamed.json["members"][m]["weight"].as_u64().unwrap()).sum();
        assert_eq!(folded, weights, "{stage}");
        // Nothing of another process has slipped in.
        let towers: BTreeSet<&str> =
            flamed.folded.lines().map(|line| line.split(';').next().unwrap()).collect();
        assert!(
            towers.iter().all(|t| t.contains("pp-write") || t.contains("pp-read")),
            "{towers:?}"
        );
    }
}

#[test]
fn one_end_alone_a_tree_and_a_highlight() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(
        folder.path(),
        &[
            "flame",
            "--stage",
            "write",
            "--bytes",
            "512M",
            "--end",
            "writer",
            "-o",
            "w.svg",
            "--tree",
            "pipe_write",
            "--highlight",
            "copy_page_from_iter",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let svg = fs::read_to_string(folder.path().join("w.svg")).unwrap();
    assert!(svg.contains("pp-write") && !svg.contains("pp-read"));
    let text = stdout(&output);
    assert!(text.contains("copy_page_from_iter"), "{text}");
    assert!(text.contains("pipe_write"), "{text}");
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 100, "a line of {longest} columns:\n{text}");
}

#[test]
fn wrong_usage_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["flame"][..], "--stage NAME"),
        (&["flame", "--stage", "write", "-e", "no-such-event"], "cpu-clock"),
        (&["flame", "--stage", "splice", "--verify"], "--read-with read"),
        (&["flame", "--stage", "write", "--highlight", "(("], "(("),
        (&["flame", "--stage", "nonsense"], "busy-loop"),
        (&["flame", "--stage", "write", "-F", "0"], "0"),
    ] {
        let output = run_in(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_picture_that_cannot_be_written_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(
        folder.path(),
        &["flame", "--stage", "write", "--bytes", "64M", "-o", "no/such/folder/x.svg"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no/such/folder/x.svg"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "", "the pair was run for nothing");
    let output =
        run_in(folder.path(), &["flame", "--stage", "write", "--bytes", "64M", "-o", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/dev/full"), "{}", stderr(&output));
    // What is found too late takes no numbers with it.
    assert!(stdout(&output).contains("writer"), "{}", stdout(&output));
}

/// A name that would break out of an attribute, a folded line, or a terminal.
#[test]
fn a_hostile_process_name_stays_text() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a;<b>\"&\u{1b}[31m");
    fs::copy("/bin/dd", &program).unwrap();
    let line = format!(
        "'{0}' if=/dev/zero bs=64K count=20000 status=none | '{0}' of=/dev/null bs=64K status=none",
        program.display()
    );
    let output = run_in(
        folder.path(),
        &["flame", "-F", "2999", "-c", &line, "-o", "x.svg", "--folded", "stacks"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let svg = fs::read_to_string(folder.path().join("x.svg")).unwrap();
    let titles = titles(&svg);
    assert!(titles.iter().any(|title| title.contains("a;")), "{titles:?}");
    assert!(!svg.contains("<b>"));
    assert!(!stdout(&output).contains("\u{1b}[31m"));
    let folded = fs::read_to_string(folder.path().join("stacks")).unwrap();
    assert!(!folded.contains('\u{1b}'));
    for line in folded.lines() {
        let tower = line.split(';').next().unwrap();
        assert!(tower.contains('(') || tower.contains("sh"), "a name split a frame: {line}");
    }
}
