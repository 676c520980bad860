//! Verdicts on pipelines of real programs, held against experiments: each member is run alone, on
//! what the others gave it and into nothing, and the one that takes longest is the truth. What
//! a remedy gains is found by applying it: the limiting member is replaced by one that drains its
//! input and replays its output, or every pipe is made 1 MiB large.
//!
//! `scripts/verdicts` runs all of them and prints the table; the tests run some.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what this is for")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// A member: what the kernel calls it, and its command.
type Stage = (&'static str, &'static str);

struct Case {
    stages: &'static [Stage],
    /// Programs that it takes beside the usual ones.
    needs: &'static [&'static str],
}

const fn case(stages: &'static [Stage]) -> Case {
    Case { stages, needs: &[] }
}

const fn needing(needs: &'static [&'static str], stages: &'static [Stage]) -> Case {
    Case { stages, needs }
}

const RANDOM: Stage = ("head", "head -c 120M random");
const NUMBERS: Stage = ("seq", "seq 1 3000000");
const MANY_NUMBERS: Stage = ("seq", "seq 1 20000000");
const COUNT: Stage = ("wc", "wc -c");
const SLEEPS: &str = "perl -MTime::HiRes=usleep -e 'while(sysread STDIN,$b,65536)\
                      {syswrite STDOUT,$b;usleep 1500}'";
const SLOW_SOURCE: &str =
    "perl -MTime::HiRes=usleep -e 'for(1..800){syswrite STDOUT,\"x\"x30000;usleep 1500}'";

/// Run by the tests: short, and of programs that are everywhere.
const FEW: usize = 6;

const CASES: &[Case] = &[
    case(&[RANDOM, ("gzip", "gzip -1"), COUNT]),
    case(&[RANDOM, ("sha512sum", "sha512sum"), COUNT]),
    case(&[RANDOM, ("perl", SLEEPS), COUNT]),
    case(&[("perl", SLOW_SOURCE), ("gzip", "gzip -1"), COUNT]),
    case(&[NUMBERS, ("awk", "awk '{s+=sin($1)*cos($1)} END{print s}'")]),
    case(&[("awk", "awk 'BEGIN{for(i=0;i<900000;i++)print i,sin(i)}'"), ("cat", "cat"), COUNT]),
    case(&[NUMBERS, ("rev", "rev"), COUNT]),
    case(&[NUMBERS, ("sort", "sort -r"), COUNT]),
    case(&[MANY_NUMBERS, ("tr", "tr 0-9 a-j"), ("md5sum", "md5sum")]),
    case(&[NUMBERS, ("sed", "sed s/1/22/g"), ("tail", "tail -1")]),
    case(&[MANY_NUMBERS, ("grep", "grep -c '7.*7.*7'")]),
    case(&[NUMBERS, ("uniq", "uniq -c"), ("wc", "wc -l")]),
    case(&[MANY_NUMBERS, ("cut", "cut -c2-"), ("paste", "paste - - -"), COUNT]),
    case(&[NUMBERS, ("bzip2", "bzip2 -1"), COUNT]),
    case(&[("cat", "cat random.gz"), ("gzip", "gzip -dc"), COUNT]),
    case(&[("head", "head -c 30M random"), ("od", "od -An -tx1"), COUNT]),
    case(&[("head", "head -c 60M random"), ("base64", "base64"), ("base64", "base64 -d"), COUNT]),
    case(&[("cat", "cat random random random random random"), ("cksum", "cksum")]),
    case(&[("head", "head -c 2M random"), ("dd", "dd bs=1 status=none"), COUNT]),
    case(&[RANDOM, ("dd", "dd bs=1M iflag=fullblock status=none"), ("sha256sum", "sha256sum")]),
    case(&[("tar", "tar c /usr/share/doc"), ("gzip", "gzip -6"), COUNT]),
    case(&[("find", "find /usr -xdev"), ("sort", "sort"), ("uniq", "uniq"), ("wc", "wc -l")]),
    case(&[MANY_NUMBERS, ("split", "split -l 1000000 - part."), COUNT]),
    case(&[NUMBERS, ("shuf", "shuf"), ("sort", "sort -n"), ("tail", "tail -1")]),
    case(&[("head", "head -c 120M random"), ("tee", "tee copy"), ("sha1sum", "sha1sum")]),
    case(&[("sh", "sh -c 'sleep 0.7; seq 1 800000'"), ("sort", "sort"), ("tail", "tail -1")]),
    case(&[
        ("seq", "seq 1 60"),
        ("sh", "sh -c 'while read l; do echo $l; sleep 0.02; done'"),
        COUNT,
    ]),
    case(&[("seq", "seq 1 400"), ("xargs", "xargs -P2 -n10 sh -c 'sleep 0.05; echo $0'"), COUNT]),
    case(&[RANDOM, ("perl", "perl -pe 's/a/b/g'"), ("gzip", "gzip -9"), COUNT]),
    case(&[RANDOM, ("perl", "perl -e 'while(sysread STDIN,$b,1<<20){$x=unpack(\"%32C*\",$b)}'")]),
    case(&[("head", "head -c 4M random"), ("perl", "perl -e '$n++ while sysread STDIN,$b,1'")]),
    case(&[("perl", "perl -e 'syswrite STDOUT,\"x\" for 1..1000000'"), ("cat", "cat"), COUNT]),
    case(&[("seq", "seq 1 200000"), ("sh", "sh -c 'while read l; do echo $l; done'"), COUNT]),
    case(&[("cat", "cat random.gz"), ("gzip", "gzip -dc"), ("grep", "grep -c abc")]),
    case(&[MANY_NUMBERS, ("grep", "grep -P '(\\d)\\1\\1'"), ("cut", "cut -c1-3"), ("wc", "wc -l")]),
    case(&[NUMBERS, ("perl", "perl -ne '$h{$_%1000}++; END{print scalar keys %h}'")]),
    case(&[("head", "head -c 60M random"), ("gzip", "gzip -1"), ("gzip", "gzip -9"), COUNT]),
    case(&[RANDOM, ("dd", "dd bs=512 status=none"), COUNT]),
    needing(&["jq"], &[("seq", "seq 1 300000"), ("jq", "jq -c '{a:.}'"), ("wc", "wc -l")]),
    needing(&["lz4"], &[RANDOM, ("lz4", "lz4 -9 -c"), COUNT]),
    needing(
        &["curl"],
        &[("curl", "curl -s file://$PWD/random"), ("sha512sum", "sha512sum"), COUNT],
    ),
    needing(
        &["python3"],
        &[
            ("head", "head -c 4M random"),
            (
                "python3",
                "python3 -c 'import sys,threading\nd=sys.stdin.buffer.read()\ndef w():\n s=0\n for i in range(4000000): s+=i\nt=[threading.Thread(target=w) for _ in range(3)]\n[x.start() for x in t];[x.join() for x in t]'",
            ),
        ],
    ),
    needing(&["xz"], &[("head", "head -c 12M random"), ("xz", "xz -1"), COUNT]),
    needing(&["xz"], &[("head", "head -c 60M random"), ("xz", "xz -T2 -0"), COUNT]),
    needing(&["zstd"], &[RANDOM, ("zstd", "zstd -q -12"), COUNT]),
    needing(&["zstd"], &[("tar", "tar c /usr/share"), ("zstd", "zstd -q -T2 -10"), ("cat", "cat")]),
    needing(&["pigz"], &[RANDOM, ("pigz", "pigz -p2"), COUNT]),
    needing(&["openssl"], &[RANDOM, ("openssl", "openssl enc -aes-256-cbc -pbkdf2 -k x"), COUNT]),
    needing(&["openssl"], &[RANDOM, ("openssl", "openssl dgst -sha3-512"), COUNT]),
    needing(&["pv"], &[RANDOM, ("pv", "pv -q -L 60M"), ("sha1sum", "sha1sum")]),
    needing(&["pv"], &[RANDOM, ("pv", "pv -q"), ("gzip", "gzip -1"), COUNT]),
    needing(&["node"], &[RANDOM, ("node", "node -e 'process.stdin.pipe(process.stdout)'"), COUNT]),
    needing(
        &["sqlite3"],
        &[
            NUMBERS,
            (
                "sqlite3",
                "sqlite3 :memory: 'create table t(a);' '.import /dev/stdin t' 'select sum(a) from t;'",
            ),
        ],
    ),
    needing(
        &["python3"],
        &[NUMBERS, ("python3", "python3 -c 'import sys\nprint(sum(int(l) for l in sys.stdin))'")],
    ),
    needing(
        &["python3"],
        &[
            RANDOM,
            (
                "python3",
                "python3 -c 'import sys,hashlib,threading\nd=sys.stdin.buffer\ndef w():\n b=d.read(1<<20)\n while b:\n  hashlib.sha512(b*2); b=d.read(1<<20)\nt=[threading.Thread(target=w) for _ in range(2)]\n[x.start() for x in t];[x.join() for x in t]'",
            ),
        ],
    ),
];

/// A folder with files to read.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let line = "head -c 120M /dev/urandom > random; gzip -1 < random > random.gz";
    assert!(shell(folder.path(), line).status().unwrap().success());
    folder
}

fn shell(folder: &Path, line: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", line]).current_dir(folder).env("LC_ALL", "C.UTF-8");
    let sink = std::fs::File::create(folder.join("sink")).unwrap();
    bash.stdin(Stdio::null()).stdout(sink).stderr(Stdio::null());
    bash
}

fn seconds(folder: &Path, line: &str) -> f64 {
    let started = Instant::now();
    // Its exit status is its own affair: `grep -c` may find nothing.
    shell(folder, line).status().unwrap();
    started.elapsed().as_secs_f64()
}

/// How long each member takes alone.
fn alone(folder: &Path, stages: &[Stage]) -> Vec<f64> {
    let fed = |at: usize| {
        let input = if at == 0 { String::new() } else { format!("< out.{}", at - 1) };
        format!("{{ {}; }} {input}", stages[at].1)
    };
    // Into a file: grep, tar and others do less where their output is /dev/null.
    let time = |at: usize| seconds(folder, &format!("{} > alone", fed(at)));
    let mut times = Vec::new();
    for at in 0..stages.len() {
        shell(folder, &format!("{} > out.{at}", fed(at))).status().unwrap();
        times.push(time(at));
    }
    // What else the machine does, writing back included, only adds to them.
    let longest = times.iter().copied().fold(0.0, f64::max);
    for (at, alone) in times.iter_mut().enumerate().filter(|(_, alone)| **alone > longest / 2.5) {
        *alone = alone.min(time(at));
    }
    times
}

fn line(stages: &[Stage], with: impl Fn(usize, &str) -> String) -> String {
    let commands: Vec<String> =
        stages.iter().enumerate().map(|(at, (_, command))| with(at, command)).collect();
    commands.join(" | ")
}

struct Row {
    alone: Vec<f64>,
    truth: usize,
    /// How much longer the slowest takes than the next.
    lead: f64,
    limit: String,
    /// All that the verdict names.
    named: String,
    kind: String,
    confidence: String,
    bound: Option<f64>,
    found: Option<f64>,
    larger: Option<f64>,
    larger_found: Option<f64>,
    headline: String,
}

impl Row {
    /// What a shell or xargs does is what its children do, which have names of their own. Two that
    /// are said to limit alike must take nearly as long.
    fn is_right(&self, case: &Case) -> bool {
        let truth = case.stages[self.truth].0;
        let is_child_of_truth = || {
            let is_other = case.stages.iter().any(|(name, _)| *name == self.limit);
            ["sh", "xargs"].contains(&truth) && !is_other && self.kind != "unclear"
        };
        let is_alike = self.kind == "balanced" && self.lead < 1.5 && self.named.contains(truth);
        self.limit == truth || is_child_of_truth() || is_alike
    }
}

fn measure(folder: &Path, case: &Case, with_remedies: bool) -> Row {
    let alone = alone(folder, case.stages);
    let mut order: Vec<usize> = (0..alone.len()).collect();
    order.sort_by(|&a, &b| alone[b].total_cmp(&alone[a]));
    let truth = order[0];
    let whole = line(case.stages, |_, command| command.to_owned());
    let summary = profile(folder, &whole);
    let verdict = &summary["verdict"];
    let members = summary["members"].as_array().unwrap();
    let named = verdict["members"].as_array().unwrap().iter().map(|named| {
        let member = members.iter().find(|member| member["pid"] == named["pid"]);
        member.map_or("?", |member| member["comm"].as_str().unwrap())
    });
    let named: Vec<&str> = named.collect();
    // A pipe limits by what either of its ends does for it. Of others, the first is meant.
    let is_of_pipe = verdict["kind"] == "pipe_bound" && named.contains(&case.stages[truth].0);
    let limit = match named.first() {
        Some(_) if is_of_pipe => case.stages[truth].0,
        Some(first) => first,
        None => verdict["kind"].as_str().unwrap_or("none"),
    };
    let limit = limit.to_owned();
    let remedy = |word: &str| {
        let remedies = verdict["remedies"].as_array().unwrap();
        let one = remedies.iter().find(|remedy| remedy["what"].as_str().unwrap().contains(word));
        one.and_then(|remedy| remedy["at_most"].as_f64())
    };
    let (mut found, mut larger_found) = (None, None);
    if with_remedies {
        let before = seconds(folder, &whole).min(seconds(folder, &whole));
        let replayed = line(case.stages, |at, command| match at {
            _ if at != truth => command.to_owned(),
            0 => format!("cat out.{at}"),
            _ => format!("{{ cat > /dev/null & cat out.{at}; wait; }}"),
        });
        found = Some(before / seconds(folder, &replayed).min(seconds(folder, &replayed)));
        let enlarged = line(case.stages, |at, command| {
            let end = if at + 1 == case.stages.len() { "STDIN" } else { "STDOUT" };
            format!("{{ perl -e 'fcntl({end},1031,1<<20)'; {command}; }}")
        });
        larger_found = Some(before / seconds(folder, &enlarged).min(seconds(folder, &enlarged)));
    }
    Row {
        lead: alone[truth] / order.get(1).map_or(1e-3, |&at| alone[at].max(1e-3)),
        truth,
        alone,
        limit,
        named: named.join(" "),
        kind: verdict["kind"].as_str().unwrap().to_owned(),
        confidence: verdict["confidence"].as_str().unwrap_or("none").to_owned(),
        bound: remedy("reduce the").or_else(|| remedy("find out")),
        found,
        larger: remedy("pipe"),
        larger_found,
        headline: verdict["headline"].as_str().unwrap().to_owned(),
    }
}

fn profile(folder: &Path, line: &str) -> Value {
    let json = folder.join("verdict.json");
    let output = Command::new(env!("CARGO_BIN_EXE_pipeprof"))
        .args(["-q", "flame", "-o", "picture.svg"])
        .arg(format!("--json={}", json.display()))
        .args(["-c", line])
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(folder.join("sink")).unwrap())
        .output()
        .unwrap();
    let text = std::fs::read_to_string(json);
    text.ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_else(|| panic!("{line}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn is_there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success())
}

fn show(case: &Case, row: &Row) -> String {
    let mut text = String::new();
    let names: Vec<&str> = case.stages.iter().map(|(name, _)| *name).collect();
    let times: Vec<String> = row.alone.iter().map(|time| format!("{time:.2}")).collect();
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let _ = write!(
        text,
        "{:<28} {:<22} {:<10} {:<10} {:<11} {:<7} {:>6} {:>6} {:>6} {:>6}  {}",
        names.join(" | "),
        times.join(" "),
        case.stages[row.truth].0,
        row.limit,
        row.kind,
        row.confidence,
        number(row.bound),
        number(row.found),
        number(row.larger),
        number(row.larger_found),
        if row.is_right(case) {
            "right"
        } else if row.lead < 1.3 {
            "near"
        } else {
            "WRONG"
        },
    );
    text
}

/// A verdict may be withheld or doubted on a crowded machine, but what it is sure of has to be so.
#[test]
fn what_a_verdict_is_sure_of_holds_when_members_run_alone() {
    let folder = folder();
    let mut right = 0;
    for case in &CASES[..FEW] {
        let row = measure(folder.path(), case, false);
        eprintln!("{}\n    {}", show(case, &row), row.headline);
        right += usize::from(row.is_right(case));
        let is_clear = row.lead >= 2.0;
        assert!(
            row.is_right(case) || row.confidence != "high" || !is_clear,
            "{}: {}",
            show(case, &row),
            row.headline
        );
    }
    assert!(right + 1 >= FEW, "{right} of {FEW} are right");
}

/// The cases that `PIPEPROF_VERDICTS` asks for: by a word in them, or by their places.
fn asked() -> Vec<(usize, &'static Case)> {
    let asked = std::env::var("PIPEPROF_VERDICTS").unwrap_or_default();
    let places = asked
        .split_once('-')
        .and_then(|(from, until)| Some(from.parse::<usize>().ok()?..until.parse::<usize>().ok()?));
    let is_meant = |(at, case): &(usize, &Case)| match &places {
        Some(places) => places.contains(at),
        None => line(case.stages, |_, command| command.to_owned()).contains(&asked),
    };
    CASES.iter().enumerate().filter(is_meant).collect()
}

/// The whole table; `scripts/verdicts` runs it.
#[test]
#[ignore = "takes ten minutes on a quiet machine"]
fn all_verdicts_against_experiments() {
    let folder = folder();
    println!(
        "{:<28} {:<22} {:<10} {:<10} {:<11} {:<7} {:>6} {:>6} {:>6} {:>6}",
        "pipeline",
        "alone, s",
        "truth",
        "verdict",
        "kind",
        "sure",
        "bound",
        "found",
        "pipe",
        "found"
    );
    let (mut judged, mut right, mut wrong_but_sure) = (0, 0, 0);
    let (mut bounded, mut claims, mut empty, mut exceeded) = (0, 0, 0, 0);
    for (_, case) in asked() {
        if let Some(missing) = case.needs.iter().find(|program| !is_there(program)) {
            println!("{}: {missing} is not installed", case.stages[1].1);
            continue;
        }
        let row = measure(folder.path(), case, true);
        println!("{}", show(case, &row));
        judged += 1;
        for (bound, found) in [(row.bound, row.found), (row.larger, row.larger_found)] {
            let (Some(bound), Some(found)) = (bound, found) else { continue };
            bounded += 1;
            claims += usize::from(bound >= 1.2);
            empty += usize::from(bound >= 1.2 && found < 1.05);
            exceeded += usize::from(found > 1.25 * bound);
        }
        if row.is_right(case) || row.lead < 1.3 {
            right += 1;
        } else {
            println!("    {}", row.headline);
            wrong_but_sure += usize::from(row.confidence == "high");
        }
    }
    println!("{right} of {judged} right, {wrong_but_sure} wrong with high confidence");
    println!("{claims} gains of 1.2 or more were promised; {empty} of them found less than 1.05");
    println!("{exceeded} of {bounded} gains found exceed their bound by more than a quarter");
}
