//! What lessons say, held against the table of roles and against what the stages really do.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use common::{Builder, STAGES, frame, stage};
use pipeprof_profiler::profile::Mode;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::lessons::{Function, Release, of_role, of_stage, roles, stages};
use pipeprof_report::roles::{Classification, Role};
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
use pipeprof_runner::pipeline::End;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::Stage;

fn functions() -> impl Iterator<Item = &'static Function> {
    let of_stages = stages().iter().flat_map(|lesson| lesson.functions);
    of_stages.chain(roles().iter().flat_map(|lesson| lesson.functions)).copied()
}

#[test]
fn what_dominates_a_stage_has_a_lesson() {
    for name in STAGES {
        let run = Run::bare(stage(name));
        let summary = Summary::of(&run, &Highlights::article(), View::default());
        for role in summary.members.iter().flat_map(|member| &member.roles) {
            assert!(role.percent < 5.0 || of_role(role.role).is_some(), "{name}: {role:?}");
        }
    }
}

#[test]
fn functions_have_the_role_that_their_lesson_is_about() {
    for function in functions() {
        for name in function.names {
            let mut builder = Builder::new();
            let member = builder.member(Some(End::Writer), "pp-write", 1);
            // Below a function that is about pipes, and has a role of its own.
            let below = format!("{} < do_tee < do_syscall_64", name.name);
            let stack = builder.kernel(member, &below, 1);
            let classes = Classification::of(&builder.profile);
            assert_eq!(classes.role(stack), function.role, "{}", name.name);
        }
        assert!(of_role(function.role).is_some(), "{function:?}");
    }
    for lesson in roles() {
        for function in lesson.functions {
            assert_eq!(function.role, lesson.role, "{function:?}");
        }
    }
}

#[test]
fn names_cover_ranges_of_what_was_read_newest_first() {
    for function in functions() {
        assert!(!function.names.is_empty(), "{function:?}");
        for name in function.names {
            assert!(Release::READ.contains(&name.first), "{name:?}");
            assert!(Release::READ.contains(&name.last) && name.first <= name.last, "{name:?}");
        }
        assert!(function.names.windows(2).all(|pair| pair[0].first > pair[1].first));
        // What runs today has to be found today.
        assert_eq!(function.names[0].last, Release(6, 19), "{function:?}");
    }
    assert!(Release::READ.is_sorted());
}

#[test]
fn what_the_article_highlights_is_in_a_lesson_under_every_name() {
    let highlights = Highlights::article();
    for highlight in highlights.list() {
        let function = functions().find(|f| f.known_as == highlight.classic);
        let function = function.unwrap_or_else(|| panic!("{highlight:?} is in no lesson"));
        for name in function.names {
            assert!(highlight.matches(&frame(Mode::Kernel, name.name)), "{name:?}");
        }
        // And no release that was read is left out, but those before vmsplice looked like this.
        for release in Release::READ.into_iter().filter(|release| *release > Release(4, 4)) {
            let has = |name: &&_| {
                let name: &pipeprof_report::lessons::Name = name;
                (name.first..=name.last).contains(&release)
            };
            assert!(function.names.iter().any(|name| has(&name)), "{highlight:?} in {release}");
        }
    }
}

#[test]
fn the_name_of_this_kernel_is_chosen() {
    let pipe_write = functions().find(|f| f.known_as == "pipe_write").unwrap();
    let name = |uname: &str| pipe_write.name_in(Release::parse(uname)).name;
    assert_eq!(name("6.18.44-generic"), "anon_pipe_write");
    assert_eq!(name("5.10.0-28-amd64"), "pipe_write");
    assert_eq!(name("3.10.0"), "pipe_write");
    assert_eq!(name("unknown"), "anon_pipe_write");
}

/// A name that only the prose holds would escape the checks above.
#[test]
fn prose_names_no_function_that_is_not_listed() {
    let texts = stages()
        .iter()
        .flat_map(|lesson| [lesson.text, lesson.proposal])
        .chain(roles().iter().map(|lesson| lesson.text));
    for text in texts {
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| word.contains('_') && !word.starts_with("SPLICE_F_")) {
            assert!(functions().any(|f| f.names.iter().any(|n| n.name == word)), "{word}");
        }
    }
}

#[test]
fn every_stage_has_its_own_lesson() {
    for stage in Stage::ALL {
        let lesson = of_stage(stage);
        assert_eq!(lesson.stage, stage);
        assert_eq!(lesson.proposal.is_empty(), stage.builds_on().is_none(), "{stage}");
        assert!(!lesson.functions.is_empty() && !lesson.text.is_empty(), "{stage}");
        // What a stage is meant to remove, another one has to explain.
        assert!(lesson.meant_for.iter().all(|(_, role)| of_role(*role).is_some()), "{stage}");
    }
    // What is removed is what the stage before is known to spend time on.
    assert!(of_stage(Stage::Vmsplice).meant_for.contains(&(End::Writer, Role::CopyIn)));
}

/// The numbers in the prose are those of the plans.
#[test]
fn what_is_said_of_sizes_is_so() {
    let plan = |stage| PairPlan::new(stage, &Knobs::default()).unwrap();
    let slots = |stage| plan(stage).pipe_size.unwrap() / 4096;
    if plan(Stage::Write).slot_bytes() != 4096 || slots(Stage::Tee) != 256 {
        eprintln!("skipped: the lessons speak of pages of 4 KiB and pipes of 1 MiB");
        return;
    }
    assert_eq!(slots(Stage::BusyLoop), 32);
    assert_eq!(slots(Stage::TeeLarge) * plan(Stage::TeeLarge).slot_bytes(), 8 << 20);
    assert_eq!(plan(Stage::Write).buf_size, 256 << 10);
    assert_eq!((plan(Stage::Tiny).buf_size, plan(Stage::Tiny).read_size), (64, 256 << 10));
    assert_eq!((1 << 30) / plan(Stage::Tiny).buf_size, 16_777_216);
}
