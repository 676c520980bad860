//! The text of the tour, from recorded stages.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Builder, PERIOD_NS, pair, stage};
use pipeprof_profiler::profile::{Profile, TimeSplit};
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::summary::Summary;
use pipeprof_report::text::Style;
use pipeprof_report::tour::{Page, Place, Step, Tour};
use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::Stage;

const GIB: f64 = 1_073_741_824.0;

fn plain() -> Page {
    Page::new(Style::default(), None)
}

/// A step at that speed, over 8 GiB.
fn step(stage: Stage, mut profile: Profile, gib_per_s: f64) -> Step {
    let lifetime_ns = (8e9 / gib_per_s) as u64;
    for member in &mut profile.members {
        let on_cpu_ns = member.weight().min(lifetime_ns);
        member.time = Some(TimeSplit {
            lifetime_ns,
            on_cpu_ns,
            blocked_ns: (lifetime_ns - on_cpu_ns) * 3 / 4,
            runnable_ns: (lifetime_ns - on_cpu_ns) / 4,
            wake_delay_ns: Some(0),
            sleeps: 80_000,
            preemptions: 3,
        });
    }
    let run = pair(profile, stage.as_str(), 8 << 30, gib_per_s);
    let summary = Summary::of(&run, &Highlights::article(), View::default());
    Step::profiled(stage, summary, &run.profile)
}

fn recorded(which: Stage, gib_per_s: f64) -> Step {
    step(which, stage(which.as_str()), gib_per_s)
}

fn whole_tour(page: Page) -> String {
    let steps = [
        (Stage::Write, 0.5),
        (Stage::Vmsplice, 1.6),
        (Stage::Splice, 1.5),
        (Stage::HugePage, 1.7),
        (Stage::BusyLoop, 28.0),
    ];
    let stages = steps.map(|(stage, _)| stage);
    let mut tour = Tour::new(&stages, page);
    let place = Place { kernel: "6.18.44".into(), cpus: Some(2), guest: true };
    let mut text = tour.opening(&place);
    for (stage, rate) in steps {
        text += &tour.proposal(stage);
        text += &tour.introduction(stage);
        text += &tour.step(recorded(stage, rate));
    }
    text + &tour.summary()
}

#[test]
fn the_whole_tour() {
    let text = whole_tour(plain());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!("tour", text);
}

#[test]
fn a_wider_terminal_is_used_and_colour_is_ours_alone() {
    let wide = whole_tour(Page::new(Style::default(), Some(120)));
    let longest = wide.lines().map(|line| line.chars().count()).max().unwrap();
    assert!((90..=100).contains(&longest), "{longest}");
    let coloured = whole_tour(Page::new(Style { colour: true, ..Style::default() }, None));
    let stripped =
        coloured.replace("\u{1b}[0m", "").replace("\u{1b}[1m", "").replace("\u{1b}[2m", "");
    assert_eq!(stripped, whole_tour(plain()));
    let ascii = whole_tour(Page::new(Style { ascii: true, ..Style::default() }, None));
    assert!(ascii.contains("  wake-up          ####") && !ascii.contains('█'), "{ascii}");
}

#[test]
fn every_word_survives_the_wrapping() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let narrow = Page::new(Style::default(), Some(80));
    let wide = Page::new(Style::default(), Some(100));
    let text = |page| Tour::new(&[Stage::Write], page).introduction(Stage::Write);
    assert_eq!(words(&text(narrow)), words(&text(wide)));
    assert_ne!(text(narrow), text(wide));
}

#[test]
fn where_nothing_may_be_profiled_it_still_explains() {
    let why = "kernel code: kernel.perf_event_paranoid = 2\nfix: sudo sysctl \u{1b}[2J";
    let mut tour = Tour::new(&[Stage::Write, Stage::Vmsplice], plain());
    let mut text = String::new();
    for (stage, rate) in [(Stage::Write, Some(GIB)), (Stage::Vmsplice, Some(1.1 * GIB))] {
        text += &tour.introduction(stage);
        text += &tour.step(Step::unprofiled(stage, rate, why.into()));
    }
    text += &tour.summary();
    assert!(!text.contains('\u{1b}'), "{text}");
    insta::assert_snapshot!("tour_unprofiled", text);
}

/// Two profiles of a writer that differ in one role only.
fn only_wakeups(samples: u64) -> Profile {
    let mut builder = Builder::new();
    let writer = builder.member(Some(End::Writer), "pp-write", 1);
    builder.kernel(writer, "copy_page_from_iter < anon_pipe_write < ksys_write", 500);
    if samples > 0 {
        builder.kernel(writer, "__wake_up < __do_sys_vmsplice", samples);
    }
    builder.profile.members[0].cpu_time_ns = Some((500 + samples) * PERIOD_NS);
    builder.profile
}

fn change(before: u64, after: u64) -> String {
    let mut tour = Tour::new(&[Stage::HugePage, Stage::BusyLoop], plain());
    tour.step(step(Stage::HugePage, only_wakeups(before), 1.0));
    tour.step(step(Stage::BusyLoop, only_wakeups(after), 1.0))
}

/// On one line.
fn unwrapped(text: &str) -> String {
    text.replace('\n', " ")
}

/// What was said of `last`, run after the others, in one line.
fn said_of_last(stages: &[Stage]) -> String {
    let mut tour = Tour::new(stages, plain());
    let mut text = String::new();
    for &stage in stages {
        text = tour.proposal(stage);
        text += &tour.step(step(stage, only_wakeups(400), 1.0));
    }
    unwrapped(&(text + &tour.summary()))
}

#[test]
fn a_stage_is_compared_with_what_it_builds_on() {
    let text = said_of_last(&[Stage::Write, Stage::Tiny, Stage::SameCpu]);
    assert!(text.contains("Next, same-cpu, which builds on write."), "{text}");
    assert!(text.contains("what same-cpu changed compared with write"), "{text}");
    assert!(text.contains("What it is meant to remove, the writer's wake-up, took"), "{text}");
    assert!(text.contains("× base"), "{text}");

    // What lies in between was left out.
    let text = said_of_last(&[Stage::Write, Stage::BusyLoop]);
    assert!(text.contains("Next, busy-loop, which builds on huge-page."), "{text}");
    assert!(text.contains("what busy-loop changed"), "{text}");

    let text = said_of_last(&[Stage::TeeLarge, Stage::SameCpu]);
    assert!(text.contains("put write before it in --stages."), "{text}");
    assert!(!text.contains("what same-cpu changed"), "{text}");
    assert!(!text.contains("The largest step"), "{text}");

    let text = said_of_last(&[Stage::Splice, Stage::Write]);
    assert!(!text.contains("Next, ") && !text.contains("what write changed"), "{text}");
}

#[test]
fn what_was_left_out_can_be_asked_for() {
    let text = said_of_last(&Stage::LADDER);
    assert!(text.contains("× before"), "{text}");
    assert!(text.contains("Not in this tour: same-cpu, gift, tiny. "), "{text}");
    assert!(text.contains("--stages write,splice,same-cpu,gift,tiny` shows"), "{text}");
    assert!(!said_of_last(&Stage::ALL).contains("Not in this tour"));
}

#[test]
fn nothing_is_compared_that_too_few_samples_stand_for() {
    for (before, after, said) in [
        (400, 200, "0.50×"),
        (400, 0, "gone"),
        // 10 samples may have been 19 as well.
        (400, 10, "<0.05×"),
        (0, 400, "new"),
        (20, 10, "few"),
        (20, 400, "few"),
    ] {
        let text = change(before, after);
        let row = text.lines().find(|line| line.starts_with("writer  wake-up")).unwrap();
        assert!(row.contains(said), "{before} {after}: {row}");
    }
    let sentences = |before, after| unwrapped(&change(before, after));
    assert!(sentences(20, 10).contains("took hardly any time before"));
    assert!(sentences(400, 10).contains("(10 samples)"));
    assert!(sentences(400, 400).contains("about as much"));
}

#[test]
fn roles_that_samples_cannot_rank_are_not_ranked() {
    let leaders = |wakeups| {
        let mut tour = Tour::new(&[Stage::Write], plain());
        unwrapped(&tour.step(step(Stage::Write, only_wakeups(wakeups), 1.0)))
    };
    assert!(leaders(480).contains("too close to rank"));
    assert!(!leaders(300).contains("too close to rank"));
}
