//! The page: complete, harmless whatever names are in it, and closed to all that is not in it.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Builder, STAGES, blocked_chain, frame, phased, stage};
use pipeprof_profiler::meter::Point;
use pipeprof_profiler::profile::Mode;
use pipeprof_report::flamegraph::{self, View};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html;
use pipeprof_report::html::shell::Page;
use pipeprof_report::markup::Markup;
use pipeprof_report::run::Run;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const HOSTILE: &str = "</text><script>alert(1)</script>";

fn page(run: Run, subject: &str) -> String {
    let environment = json!({ "kernel_release": subject, "perf": { "paranoid": 1 } });
    let run = Run { subject: subject.to_owned(), environment, ..run };
    let mut html = Vec::new();
    html::render(&run, &Highlights::article(), &mut html).unwrap();
    String::from_utf8(html).unwrap()
}

/// `zcat | sort`, with a line for each look.
fn chain() -> Run {
    let mut run = blocked_chain();
    let looks = |period_ns: u64, bytes: &dyn Fn(u64) -> u64| -> Vec<Point> {
        let at = (0..1_000_000_000 / period_ns).map(|look| look * period_ns);
        at.map(|at_ns| Point { at_ns, bytes: bytes(at_ns) }).collect()
    };
    run.flows[0].over_time = looks(10_000_000, &|at_ns| at_ns / 2);
    run.flows[0].fill_over_time = looks(40_000_000, &|_| 32_768);
    run
}

/// What stands between tags of this name that have exactly these attributes.
fn contents<'a>(html: &'a str, tag: &str, attributes: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}{attributes}>"), format!("</{tag}>"));
    html.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap()).collect()
}

#[test]
fn everything_is_on_the_page_in_reading_order() {
    let html = page(chain(), "zcat a.gz | sort");
    let order = [
        "<h1>bottleneck: sort",
        "<svg class=\"pipeline\"",
        "data-chart=\"0\"",
        "<table class=\"bars\"",
        "blocked, by reason",
        "id=\"pipes\"",
        "id=\"search\"",
        "data-heading=\"on CPU\"",
        "data-heading=\"blocked\"",
        "id=\"quality\"",
        "kernel.perf_event_paranoid",
    ];
    let mut at = 0;
    for what in order {
        let found = html[at..].find(what);
        at += found.unwrap_or_else(|| panic!("{what} is not where it should be"));
    }
    // What holds back is marked in the picture, once in each of its two directions.
    assert_eq!(html.matches("class=\"member blamed\"").count(), 2);
    assert!(html.contains("512 MiB/s"), "half a GiB in a second");
    assert!(html.contains("full 92 %"), "23 of 25 looks");
}

#[test]
fn lines_over_time_are_what_was_counted() {
    let html = page(chain(), "x");
    let json = contents(&html, "script", " type=\"application/json\" id=\"charts\"")[0];
    let charts: Value = serde_json::from_str(json).unwrap();
    let chart = &charts[0];
    let numbers = |values: &Value| -> Vec<f64> {
        values.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
    };
    let seconds = numbers(&chart["seconds"]);
    assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]));
    let [rate, fill] = &chart["series"].as_array().unwrap()[..] else { panic!("{chart}") };
    for series in [rate, fill] {
        assert_eq!(series["values"].as_array().unwrap().len(), seconds.len());
    }
    let rates = numbers(&rate["values"]);
    assert!(rates.len() >= 10);
    assert!(rates.iter().all(|rate| (rate - 0.5e9).abs() < 0.01e9), "{rates:?}");
    let levels = numbers(&fill["values"]);
    assert!(levels.len() >= 10);
    assert!(levels.iter().all(|&level| level == 50.0), "{levels:?}");
}

#[test]
fn lanes_stand_below_the_verdict_and_are_whole_without_a_script() {
    let html = page(phased(), "zcat a.gz | sort");
    let at = |what: &str| html.find(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(
        at("</header>") < at("id=\"timeline\"") && at("id=\"timeline\"") < at("id=\"pipeline\"")
    );
    let picture = html.split("<svg class=\"lanes\"").nth(1).unwrap();
    let picture = picture.split("<p class=\"reading\"").next().unwrap();
    for what in
        ["zcat (11)", "sort (12)", "zcat → sort", "1 pipe:[88121]", "2 sort", "limits", ">0 s<"]
    {
        assert!(picture.contains(what), "{what}");
    }
    // Each column is as high as the track, from the moment on that its member is there.
    assert!(picture.contains("<path class=\"busy\" d=\"M0 0H30V100H50V100H0Z\"/>"), "{picture}");
    let json = contents(&html, "script", " type=\"application/json\" id=\"lanes\"")[0];
    let readings: Value = serde_json::from_str(json).unwrap();
    assert_eq!((readings["columns"].as_u64(), readings["seconds"].as_f64()), (Some(50), Some(1.0)));
    let names: Vec<&str> =
        readings["lanes"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["zcat (11)", "zcat → sort", "sort (12)"]);
    for lane in readings["lanes"].as_array().unwrap() {
        for row in lane["rows"].as_array().unwrap() {
            assert_eq!(row["values"].as_array().unwrap().len(), 50, "{row}");
        }
    }
    assert!(!page(chain(), "x").contains("class=\"lanes\""), "nobody looked");
}

#[test]
fn nothing_runs_or_is_fetched_but_what_stands_in_the_page() {
    let html = page(chain(), "x");
    let head = html.split("</head>").next().unwrap();
    let policy = head.split("Content-Security-Policy\" content=\"").nth(1).unwrap();
    let policy = policy.split('"').next().unwrap().replace("&apos;", "'");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"));
    // In force before anything that it governs.
    assert!(head.find("Content-Security-Policy").unwrap() < head.find("<style>").unwrap());

    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let scripts = contents(&html, "script", "");
    assert_eq!(scripts.len(), 3);
    assert_eq!(html.matches("<script").count(), scripts.len() + 1, "and one that is data");
    let styles = contents(&html, "style", "");
    assert_eq!((styles.len(), html.matches("<style").count()), (1, 1));
    for text in scripts.iter().chain(&styles) {
        assert!(policy.contains(&hash(text)), "{}", &text[..80]);
    }
    assert_eq!(policy.matches("sha256-").count(), scripts.len() + styles.len());

    // The policy would stop these, and a page that needs stopping is broken.
    let body = contents(&html, "body", "")[0];
    let markup = body.split("<script").next().unwrap();
    for forbidden in [" style=\"", " src=\"", " onload=", " onclick=", "<iframe", "<link", "<img"] {
        assert!(!markup.contains(forbidden), "{forbidden}");
    }
    for link in markup.split(" href=\"").skip(1) {
        assert!(link.starts_with('#'), "{}", &link[..40]);
    }
}

#[test]
fn names_are_text_wherever_they_come_from() {
    for hostile in [HOSTILE, "]]>\"'><svg onload=alert(1)>", "--><!--<script>\u{202e}\u{0}"] {
        let mut run = chain();
        let shaped = page(run.clone(), "x");
        for (at, member) in run.profile.members.iter_mut().enumerate().skip(1) {
            member.comm = hostile.into();
            run.pipeline.members[at].comm = hostile.into();
        }
        run.profile.quality.event = hostile.into();
        run.profile.quality.fallback = Some(hostile.into());
        run.pipeline.pipes[0].path = Some(hostile.into());
        let html = page(run, hostile);
        assert_eq!(html.matches("<script").count(), shaped.matches("<script").count());
        assert!(!html.contains("<script>alert") && !html.contains("<svg onload"));
        assert_eq!(html.matches('<').count(), shaped.matches('<').count(), "{hostile}");
    }
    // A function's name goes through inferno as well.
    let mut builder = Builder::new();
    let member = builder.member(None, "x", 1);
    builder.add(member, &[frame(Mode::User, HOSTILE), frame(Mode::User, "]]>")], 10);
    let html = page(Run::bare(builder.profile), "x");
    assert!(
        html.contains("<title>&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt; (role user code")
    );
    assert!(html.contains("<title>]]&gt; · user code (role user code"));
    assert!(!html.contains("<script>alert"));
}

#[test]
fn a_page_shows_the_very_boxes_of_the_svg() {
    for name in STAGES {
        let run = Run::bare(stage(name));
        let picture = flamegraph::picture(&run, &Highlights::article(), View::default()).unwrap();
        let mut svg = Vec::new();
        picture.write_svg(&mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        let html = page(run, name);
        let boxes = |document: &str| {
            let start = document.find("<g class=\"f ").unwrap();
            let end = start + document[start..].find("</svg>").unwrap();
            document[start..end].to_owned()
        };
        assert_eq!(boxes(&svg), boxes(&html));
        assert_eq!(boxes(&html).matches("<g class=\"f tower").count(), 2);
        assert!(boxes(&html).contains(" hl"));
        // One viewer: the same text in both.
        let script = svg.split("<![CDATA[").nth(1).unwrap().split("]]>").next().unwrap();
        assert_eq!(html.matches(script).count(), 1);
        assert!(!html.contains("uPlot"), "a page without charts has no need of it");
    }
}

#[test]
fn a_recorded_stage_makes_a_page_well_under_its_limit() {
    for name in STAGES {
        let html = page(Run::bare(stage(name)), name);
        assert!(html.len() < 1 << 20, "{name}: {} bytes", html.len());
        // Nobody recorded who slept: a picture of that would be a wrong one.
        assert!(html.contains("data-heading=\"on CPU\""));
        assert!(!html.contains("data-heading=\"blocked\""));
        assert!(html.contains("context switches were not recorded"));
        std::fs::write(format!("{}/{name}.html", env!("CARGO_TARGET_TMPDIR")), &html).unwrap();
    }
}

#[test]
fn an_empty_profile_makes_a_page_too() {
    let html = page(Run::bare(Builder::new().profile), "nothing");
    assert!(html.contains("no sample was taken"));
    assert!(!html.contains("id=\"search\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No name makes or ends an element.
    #[test]
    fn no_name_is_markup(name in any::<String>(), heading in any::<String>()) {
        let elements = |name: &str, heading: &str| {
            let mut content = Markup::new();
            content.element("p", name).raw("<i").attribute("title", name).raw("></i>");
            let mut page = Page::new(name);
            page.lead(name, &content).section("a", heading, &content);
            let mut html = Vec::new();
            page.write(&mut html).unwrap();
            let html = String::from_utf8(html).unwrap();
            (html.matches('<').count(), html.matches('"').count())
        };
        prop_assert_eq!(elements(&name, &heading), elements("x", "x"));
    }
}
