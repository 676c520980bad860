//! The SVG: well-formed, complete, and painted as the roles say.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{Builder, PERIOD_NS, STAGES, blocked_chain, frame, pair, stage};
use pipeprof_profiler::profile::{Mode, Profile};
use pipeprof_report::error::Error;
use pipeprof_report::flamegraph::{self, Time, View};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::roles::Classification;
use pipeprof_report::run::Run;
use pipeprof_runner::pipeline::End;
use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;

fn draw(profile: &Profile, subject: &str, view: View) -> Result<String, Error> {
    let run = pair(profile.clone(), subject, 8 << 30, 12.7);
    let mut svg = Vec::new();
    flamegraph::render(&run, &Highlights::article(), view, None, &mut svg)?;
    Ok(String::from_utf8(svg).unwrap())
}

/// One frame of a picture.
#[derive(Debug, Default)]
struct Drawn {
    class: String,
    title: String,
    fill: String,
    width_percent: f64,
}

/// Reads a picture back; panics where it isn't well-formed.
fn frames(svg: &str) -> Vec<Drawn> {
    let mut reader = Reader::from_str(svg);
    let mut inside = false;
    let mut in_title = false;
    let mut drawn: Vec<Drawn> = Vec::new();
    let value = |tag: &quick_xml::events::BytesStart<'_>, name: &str| {
        let attribute = tag.try_get_attribute(name).unwrap();
        attribute.map(|a| String::from_utf8(a.value.to_vec()).unwrap()).unwrap_or_default()
    };
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => return drawn,
            Event::Start(tag) if value(&tag, "class") == "frames" => inside = true,
            Event::End(tag) if tag.name().as_ref() == b"svg" => inside = false,
            Event::Start(tag) if inside && tag.name().as_ref() == b"g" => {
                drawn.push(Drawn { class: value(&tag, "class"), ..Drawn::default() });
            }
            Event::Start(tag) if inside => in_title = tag.name().as_ref() == b"title",
            Event::End(_) => in_title = false,
            Event::Text(text) if inside && in_title => {
                drawn.last_mut().unwrap().title.push_str(&text.decode().unwrap());
            }
            Event::GeneralRef(entity) if inside && in_title => {
                let entity = format!("&{};", entity.decode().unwrap());
                let text = quick_xml::escape::unescape(&entity).unwrap().into_owned();
                drawn.last_mut().unwrap().title.push_str(&text);
            }
            Event::Empty(tag) if inside => {
                let frame = drawn.last_mut().unwrap();
                frame.fill = value(&tag, "fill");
                frame.width_percent = value(&tag, "width").trim_end_matches('%').parse().unwrap();
            }
            _ => {}
        }
    }
}

impl Drawn {
    fn is(&self, class: &str) -> bool {
        self.class.split(' ').any(|one| one == class)
    }
}

#[test]
fn every_stage_has_both_towers_and_its_highlights() {
    for name in STAGES {
        let profile = stage(name);
        let svg = draw(&profile, name, View::default()).unwrap();
        // For a look at them: target/tmp/*.svg.
        std::fs::write(format!("{}/{name}.svg", env!("CARGO_TARGET_TMPDIR")), &svg).unwrap();
        let frames = frames(&svg);
        let towers: Vec<&Drawn> = frames.iter().filter(|f| f.is("tower")).collect();
        let [writer, reader] = towers[..] else { panic!("{name}: {towers:?}") };
        assert!(writer.title.starts_with("writer pp-write ("), "{}", writer.title);
        assert!(reader.title.starts_with("reader pp-read ("), "{}", reader.title);
        assert!((writer.width_percent + reader.width_percent - 100.0).abs() < 0.001);

        let highlighted: BTreeSet<&str> = frames
            .iter()
            .filter(|frame| frame.is("hl"))
            .map(|frame| frame.title.split(" (").next().unwrap())
            .map(|label| label.split(" · ").next().unwrap())
            .collect();
        let expected = if name == "write" {
            BTreeSet::from(["◆1 anon_pipe_write [pipe_write]"])
        } else {
            BTreeSet::from(["◆2 iov_iter_get_pages2 [iov_iter_get_pages]", "◆3 wait_for_space"])
        };
        assert_eq!(highlighted, expected, "{name}");
    }
}

#[test]
fn one_end_alone_fills_the_picture() {
    let profile = stage("vmsplice");
    let svg =
        draw(&profile, "vmsplice", View { end: Some(End::Reader), ..View::default() }).unwrap();
    let frames = frames(&svg);
    let towers: Vec<&Drawn> = frames.iter().filter(|f| f.is("tower")).collect();
    assert_eq!(towers.len(), 1);
    assert!(towers[0].title.starts_with("reader") && towers[0].width_percent == 100.0);
    assert!(!frames.iter().any(|frame| frame.title.contains("vmsplice")));
}

#[test]
fn towers_stand_in_pipeline_order() {
    let mut builder = Builder::new();
    for (pid, comm) in ["zcat", "sort", "cat", "uniq"].into_iter().enumerate() {
        let member = builder.member(None, comm, pid as i32 + 1);
        builder.add(member, &[frame(Mode::User, "main")], 10);
    }
    let svg = draw(&builder.profile, "zcat | sort | cat | uniq", View::default()).unwrap();
    let at = |label: &str| svg.find(&format!("<title>{label}")).unwrap();
    assert!(at("zcat (1)") < at("sort (2)"));
    assert!(at("sort (2)") < at("cat (3)"));
    assert!(at("cat (3)") < at("uniq (4)"));
}

#[test]
fn one_function_in_two_roles_is_two_frames() {
    let mut builder = Builder::new();
    let member = builder.member(Some(End::Writer), "pp-write", 1);
    for (stack, samples) in [
        ("_raw_spin_unlock_irqrestore < anon_pipe_write+3b2", 60),
        ("_raw_spin_unlock_irqrestore < anon_pipe_write+358", 40),
        ("finish_wait < anon_pipe_write+358", 10),
    ] {
        builder.kernel(member, stack, samples);
    }
    let svg = draw(&builder.profile, "write", View::default()).unwrap();
    let frames = frames(&svg);
    let unlocks: Vec<&Drawn> =
        frames.iter().filter(|f| f.title.starts_with("_raw_spin_unlock")).collect();
    assert_eq!(unlocks.len(), 2);
    assert!(unlocks.iter().any(|f| f.title.contains("role wake-up")));
    assert!(unlocks.iter().any(|f| f.title.contains("role wait for space")));
    assert_ne!(unlocks[0].fill, unlocks[1].fill);
    // Their caller is one frame all the same.
    assert_eq!(frames.iter().filter(|f| f.title.contains("anon_pipe_write")).count(), 1);
}

#[test]
fn a_picture_of_nothing_is_refused() {
    let mut builder = Builder::new();
    builder.member(Some(End::Writer), "pp-write", 1);
    let error = draw(&builder.profile, "write", View { end: Some(End::Writer), ..View::default() })
        .unwrap_err();
    assert_eq!(error.to_string(), "no samples of the writer: nothing to draw");
    assert!(error.hint().unwrap().contains("--bytes"));
}

#[test]
fn the_users_own_highlights_come_after_the_articles() {
    let profile = stage("vmsplice");
    let mut highlights = Highlights::article();
    highlights.add("gup_fast_fallback").unwrap();
    highlights.add("^__wake_up").unwrap();
    assert!(matches!(highlights.add("("), Err(Error::Pattern { .. })));
    let mut svg = Vec::new();
    flamegraph::render(&Run::bare(profile), &highlights, View::default(), None, &mut svg).unwrap();
    let frames = frames(&String::from_utf8(svg).unwrap());
    let marked = |name: &str| frames.iter().any(|f| f.is("hl") && f.title.contains(name));
    assert!(marked("◆4 gup_fast_fallback ") && marked("◆5 __wake_up [^__wake_up]"));
}

#[test]
fn a_small_picture() {
    let mut builder = Builder::new();
    let writer = builder.member(Some(End::Writer), "pp-write", 11);
    let reader = builder.member(Some(End::Reader), "<b>;\u{1b}[31m", 12);
    builder.kernel(
        writer,
        "_copy_from_iter < copy_page_from_iter < anon_pipe_write < vfs_write",
        3,
    );
    builder.kernel(writer, "anon_pipe_write < vfs_write", 1);
    builder.add(reader, &[frame(Mode::User, "operator<< (std::ostream&)")], 2);
    let svg = draw(&builder.profile, "write", View::default()).unwrap();
    // The look and the viewer are in files of their own.
    let shown = without(&without(&without(&svg, "style"), "script"), "defs");
    insta::assert_snapshot!(shown.replace("<g", "\n<g").replace("</svg>", "\n</svg>"));
}

/// The picture without what stands in the first element of this name.
fn without(svg: &str, element: &str) -> String {
    let start = svg.find(&format!("<{element}>")).unwrap();
    let end = start + svg[start..].find(&format!("</{element}>")).unwrap() + element.len() + 3;
    format!("{}{}", &svg[..start], &svg[end..])
}

#[test]
fn a_picture_carries_its_sentence_whatever_is_in_it() {
    let mut svg = Vec::new();
    let sentence = "bottleneck: <b>; it is & stays";
    let run = Run::bare(stage("write"));
    let view = View::default();
    flamegraph::render(&run, &Highlights::article(), view, Some(sentence), &mut svg).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    assert!(svg.contains(">bottleneck: &lt;b&gt;; it is &amp; stays</text>"));
    // Nothing of ours is markup where it stands in the file.
    let style = svg.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(!style.contains(['<', '&']));
    assert_eq!((svg.matches("]]>").count(), svg.matches("</script").count()), (1, 1));
}

#[test]
fn a_chain_of_user_code_is_one_row_that_names_all_of_it() {
    let mut builder = Builder::new();
    let member = builder.member(None, "app", 1);
    let user = |name: &str| frame(Mode::User, name);
    let run = ["step", "run", "main", "_start"].map(user);
    for (leaf, samples) in [("left", 60), ("right", 40)] {
        let stack: Vec<_> = [user(leaf)].into_iter().chain(run.clone()).collect();
        builder.add(member, &stack, samples);
    }
    let folded = frames(&draw(&builder.profile, "app", View::default()).unwrap());
    let chains: Vec<&Drawn> = folded.iter().filter(|f| f.is("chain")).collect();
    let [chain] = chains[..] else { panic!("{chains:?}") };
    assert!(chain.title.starts_with("▸ 4 frames: _start → main → run → step ("), "{chain:?}");
    assert_eq!(folded.len(), 2 + 1 + 2);
    let view = View { unfolded: true, ..View::default() };
    let all = frames(&draw(&builder.profile, "app", view).unwrap());
    assert_eq!((all.len(), all.iter().any(|f| f.is("chain"))), (2 + 4 + 2, false));
}

#[test]
fn five_thousand_short_processes_of_one_name_are_one_tower() {
    let mut builder = Builder::new();
    let make = builder.member(None, "make", 1);
    builder.add(make, &[frame(Mode::User, "main")], 100);
    for pid in 2..5002 {
        let compiler = builder.member(None, "cc1", pid);
        builder.add(compiler, &[frame(Mode::User, "parse")], 1);
    }
    let mut svg = Vec::new();
    let run = Run::bare(builder.profile);
    flamegraph::render(&run, &Highlights::article(), View::default(), None, &mut svg).unwrap();
    let frames = frames(&String::from_utf8(svg).unwrap());
    let towers: Vec<&str> = frames.iter().filter(|f| f.is("tower")).map(|f| &*f.title).collect();
    assert_eq!(towers.len(), 2, "{towers:?}");
    assert!(towers.iter().any(|title| title.starts_with("cc1 ×5,000 (98 % of all")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a name holds, it stays one frame and one piece of text.
    #[test]
    fn any_name_is_one_frame(
        names in proptest::collection::vec(any_name(), 1..6),
        stacks in proptest::collection::vec(proptest::collection::vec(0usize..6, 1..5), 1..6),
        comm in any_name(),
    ) {
        let mut builder = Builder::new();
        let member = builder.member(None, &comm, 1);
        let mut nodes = BTreeSet::new();
        for stack in &stacks {
            // Numbered, so that no two become the same by escaping.
            let name = |i: usize| format!("{}:{}", i % names.len(), names[i % names.len()]);
            let root_first: Vec<String> = stack.iter().map(|&i| name(i)).collect();
            for depth in 1..=root_first.len() {
                nodes.insert(root_first[..depth].to_vec());
            }
            let frames: Vec<_> = root_first
                .iter()
                .rev()
                .map(|name| {
                    let mut plain = frame(Mode::User, "x");
                    plain.name = name.as_str().into();
                    plain
                })
                .collect();
            builder.add(member, &frames, 1);
        }
        let view = View { unfolded: true, ..View::default() };
        let svg = draw(&builder.profile, &comm, view).unwrap();
        // The root, the tower, and each distinct path.
        prop_assert_eq!(frames(&svg).len(), 2 + nodes.len());
        let forbidden = |c: char| (c.is_control() && c != '\n') || ('\u{e000}'..='\u{f8ff}').contains(&c);
        prop_assert!(!svg.contains(forbidden));

        let mut folded = Vec::new();
        pipeprof_report::folded::render(&Run::bare(builder.profile.clone()), View::default(), &mut folded).unwrap();
        let folded = String::from_utf8(folded).unwrap();
        let mut weight = 0;
        for line in folded.lines() {
            let (path, count) = line.rsplit_once(' ').unwrap();
            weight += count.parse::<u64>().unwrap();
            let depth = path.split(';').count() - 1;
            prop_assert!((1..5).contains(&depth));
            prop_assert!(!path.contains(forbidden));
            // A number after a blank would be taken for a second count.
            let last_word = path.rsplit(' ').next().unwrap();
            prop_assert!(last_word == path || !last_word.chars().all(|c| c.is_ascii_digit() || c == '.'));
        }
        prop_assert_eq!(weight, stacks.len() as u64 * PERIOD_NS);
    }

    /// Every node has one role, and that of the last is the stack's.
    #[test]
    fn a_stack_has_the_role_of_its_last_node(
        picks in proptest::collection::vec(proptest::collection::vec(0usize..4096, 1..12), 1..30),
    ) {
        let recorded = stage("write");
        let mut builder = Builder::new();
        let member = builder.member(None, "mixed", 1);
        let ids: Vec<_> = picks
            .iter()
            .map(|stack| {
                let all = recorded.frames();
                let frames: Vec<_> = stack.iter().map(|&i| all[i % all.len()].clone()).collect();
                builder.add(member, &frames, 1)
            })
            .collect();
        let roles = Classification::of(&builder.profile);
        for id in ids {
            let stack = builder.profile.stack(id);
            prop_assert_eq!(roles.prefix_role(stack), roles.role(id));
        }
    }
}

/// Names as a hostile program would choose them.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z;<>&\"' ()0-9.#]{0,12}",
        Just("\u{e000}\u{f8ff};]]>--".to_owned()),
        Just("a\n<script>alert(1)</script> 12 34".to_owned()),
        Just("\u{0}\u{b}\u{fffe}\u{202e}".to_owned()),
        Just("_[k]".to_owned()),
        Just(String::new()),
    ]
}

#[test]
fn a_wall_clock_picture_shows_all_of_each_life() {
    let run = blocked_chain();
    let drawn = |view: View| {
        let mut svg = Vec::new();
        flamegraph::render(&run, &Highlights::article(), view, None, &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    };
    let svg = drawn(View { time: Time::Wall, ..View::default() });
    std::fs::write(format!("{}/wall.svg", env!("CARGO_TARGET_TMPDIR")), &svg).unwrap();
    let frames = frames(&svg);
    let width = |title: &str| -> f64 {
        let found = frames.iter().filter(|frame| frame.title.starts_with(title));
        found.map(|frame| frame.width_percent).sum()
    };
    // The shell only waits for the two: it would be as wide as either.
    assert!(!svg.contains("sh (10)"));
    assert!((width("zcat (11): 10 % cpu, 70 % blocked, 20 % runnable") - 50.0).abs() < 0.01);
    assert!((width("on CPU") - (10.0 + 90.0) / 2.0).abs() < 0.01);
    assert!((width("blocked") - (70.0 + 5.0) / 2.0).abs() < 0.01);
    assert!((width("runnable, waiting for a CPU") - (20.0 + 5.0) / 2.0).abs() < 0.01);
    let slept = frames.iter().find(|frame| frame.title.contains("blocked, role wait for space"));
    // `.b11 > rect { fill: url(#hatch-11); }`
    let hatch = slept.unwrap().class.split(' ').find(|class| class.starts_with('b')).unwrap();
    assert!(svg.contains(&format!(".{hatch} > rect {{ fill: url(#hatch-{}); }}", &hatch[1..])));

    // Half a GiB went through: a second is two a GiB, of every member alike.
    let svg = drawn(View { time: Time::Blocked, per_byte: true, ..View::default() });
    assert!(svg.contains("1.40 s per GiB"), "{svg}");
    assert!(svg.contains("per GiB of input (512"), "{svg}");
}
