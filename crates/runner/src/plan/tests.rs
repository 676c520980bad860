use super::*;

fn plan(stage: Stage, change: impl Fn(&mut Knobs)) -> Result<PairPlan, Error> {
    let mut knobs = Knobs::default();
    change(&mut knobs);
    PairPlan::new(stage, &knobs)
}

#[test]
fn each_stage_adds_one_idea() {
    let plans = Stage::ARTICLE.map(|stage| plan(stage, |_| {}).unwrap());
    let ideas = plans.map(|plan| {
        (
            plan.write_with == WriteWith::Vmsplice,
            plan.read_with == ReadWith::Splice,
            plan.huge_page,
            plan.busy_loop,
        )
    });
    assert_eq!(
        ideas,
        [
            (false, false, false, false),
            (true, false, false, false),
            (true, true, false, false),
            (true, true, true, false),
            (true, true, true, true),
        ]
    );
}

#[test]
fn defaults_are_the_articles() {
    let baseline = plan(Stage::Write, |_| {}).unwrap();
    assert_eq!(baseline.buf_size, 256 << 10);
    assert_eq!(baseline.bytes, Some(10 << 30));
    assert_eq!(baseline.pipe_size, None);
    assert_eq!(plan(Stage::Vmsplice, |_| {}).unwrap().pipe_size, Some(128 << 10));
}

#[test]
fn every_knob_overrides_every_stage() {
    for stage in Stage::ALL {
        let plan = plan(stage, |knobs| {
            knobs.write_with = Some(WriteWith::Write);
            knobs.read_with = Some(ReadWith::Read);
            knobs.huge_page = Some(!stage.huge_page());
            knobs.buf_size = Some(64 << 10);
            knobs.busy_loop = Some(!stage.busy_loop());
            knobs.pipe_size = Some(1 << 20);
        })
        .unwrap();
        assert_eq!((plan.write_with, plan.read_with), (WriteWith::Write, ReadWith::Read));
        assert_eq!(plan.huge_page, !stage.huge_page());
        assert_eq!(plan.busy_loop, !stage.busy_loop());
        assert_eq!(plan.pipe_size, Some(1 << 20));
    }
}

/// A knob to turn.
type Turn = fn(&mut Knobs);

#[test]
fn nonsense_is_refused_with_the_flag_to_change() {
    let table: [(Stage, Turn, &str); 13] = [
        (Stage::Write, |k| k.buf_size = Some(0), "--buf-size"),
        (Stage::Write, |k| k.buf_size = Some(2 << 30), "--buf-size"),
        (Stage::Write, |k| k.bytes = Some(0), "--bytes"),
        (Stage::Vmsplice, |k| k.buf_size = Some(4096), "--buf-size"),
        (Stage::Vmsplice, |k| k.buf_size = Some(10_000), "--buf-size"),
        (Stage::Splice, |k| k.check_huge_page = true, "--huge-page"),
        (
            Stage::HugePage,
            |k| {
                k.check_huge_page = true;
                k.dont_touch_pages = true;
            },
            "--dont-touch-pages",
        ),
        (Stage::Write, |k| k.gift = true, "--write-with vmsplice"),
        (Stage::Write, |k| k.same_buffer = true, "--write-with vmsplice"),
        (Stage::Vmsplice, |k| k.move_pages = true, "--read-with splice"),
        (Stage::Splice, |k| k.verify = true, "--read-with read"),
        (Stage::Vmsplice, |k| k.verify = true, "--fill"),
        (
            Stage::Vmsplice,
            |k| {
                k.gift = true;
                k.fill = true;
            },
            "--gift",
        ),
    ];
    for (stage, turn, flag) in table {
        let error = plan(stage, turn).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains(flag), "{error} does not name {flag}");
    }
}

#[test]
fn the_default_pipe_never_holds_more_than_one_buffer() {
    for pages in (4..600).step_by(4) {
        for same_buffer in [false, true] {
            let plan = plan(Stage::Vmsplice, |knobs| {
                knobs.buf_size = Some(pages * page_size());
                knobs.same_buffer = same_buffer;
            })
            .unwrap();
            assert!(!plan.may_reuse_too_early(), "{pages} pages, same buffer {same_buffer}");
            assert!(plan.pipe_size.unwrap().is_power_of_two());
            assert!(plan.notes().is_empty());
        }
    }
}

#[test]
fn a_pipe_that_holds_more_than_one_buffer_is_noted() {
    for (pipe, early) in [(128 << 10, false), (256 << 10, false), (512 << 10, true)] {
        let plan = plan(Stage::Vmsplice, |knobs| knobs.pipe_size = Some(pipe)).unwrap();
        assert_eq!(plan.may_reuse_too_early(), early, "{pipe}");
        assert_eq!(!plan.notes().is_empty(), early);
    }
}

#[test]
fn the_other_stages_change_what_they_say() {
    let gift = plan(Stage::Gift, |_| {}).unwrap();
    assert!(gift.gift && gift.move_pages && !gift.busy_loop);
    assert!(!plan(Stage::Gift, |k| k.write_with = Some(WriteWith::Write)).unwrap().gift);
    assert_eq!(plan(Stage::SameCpu, |_| {}).unwrap().pin, Pin::Same);
    let apart = plan(Stage::SameCpu, |knobs| knobs.pin = Pin::Cpus(0, 1)).unwrap();
    assert_eq!(apart.pin, Pin::Cpus(0, 1));
    let tiny = plan(Stage::Tiny, |_| {}).unwrap();
    assert_eq!((tiny.buf_size, tiny.read_size), (64, DEFAULT_BUF_SIZE));
    for stage in [Stage::Tee, Stage::TeeLarge] {
        let tee = plan(stage, |_| {}).unwrap();
        assert_eq!(tee.period(), Some(DEFAULT_BUF_SIZE), "{stage}");
        assert!(tee.read_size > tee.pipe_size.unwrap() / page_size() * tee.slot_bytes());
    }
}

#[test]
fn an_end_alone_ignores_the_other() {
    let knobs = Knobs { verify: true, ..Knobs::default() };
    assert!(PairPlan::reader(Stage::Write, &knobs).is_ok());
    assert!(PairPlan::reader(Stage::Splice, &knobs).is_err());
    assert_eq!(PairPlan::reader(Stage::Vmsplice, &knobs).unwrap().pipe_size, None);
    let knobs = Knobs { move_pages: true, ..Knobs::default() };
    assert_eq!(PairPlan::writer(Stage::Write, &knobs).unwrap().bytes, None);
}
