use super::*;

fn counter(name: &'static str, value: CounterValue) -> Counter {
    let unit = match name {
        "task-clock" => CounterUnit::Nanoseconds,
        _ => CounterUnit::Occurrences,
    };
    Counter { name, unit, user_only: false, value }
}

fn exact(name: &'static str, value: u64) -> Counter {
    counter(name, CounterValue::Exact { value })
}

fn unsupported(name: &'static str) -> Counter {
    let reason = "this virtual machine has no PMU, or not this event".to_owned();
    counter(name, CounterValue::NotSupported { reason, hint: Some("ask for one".to_owned()) })
}

fn text(report: &CounterReport<'_>) -> String {
    let mut out = Vec::new();
    write_text(report, Style { columns: 100, ..Style::default() }, &mut out).expect("a table");
    String::from_utf8(out).expect("text")
}

#[test]
fn a_pair_on_a_machine_without_pmu() {
    let writer = MemberCounters {
        pid: 4121,
        counters: vec![
            exact("task-clock", 1_234_567_890),
            exact("context-switches", 12_308),
            exact("voluntary-switches", 12_300),
            exact("involuntary-switches", 8),
            exact("minor-faults", 66),
            exact("major-faults", 0),
            unsupported("cycles"),
            unsupported("instructions"),
        ],
        threads_missed: 0,
    };
    let mut reader = writer.clone();
    reader.pid = 4122;
    reader.counters[0] = exact("task-clock", 999_000_000);
    for switches in &mut reader.counters[2..4] {
        switches.value = CounterValue::NotCounted { reason: "it was reaped".to_owned() };
    }
    let report = CounterReport {
        members: vec![
            CountedMember {
                label: "writer pp-write (4121)",
                bytes: Some(10 << 30),
                counters: &writer,
            },
            CountedMember { label: "reader pp-\u{1b}[2J (4122)", bytes: None, counters: &reader },
        ],
        elapsed_ns: Some(2_000_000_000),
    };
    let text = text(&report);
    insta::assert_snapshot!(text);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    assert!(!text.contains('\u{1b}'));

    let mut json = Vec::new();
    write_json(&report, &mut json).expect("JSON");
    insta::assert_snapshot!(String::from_utf8(json).expect("text"));
}

#[test]
fn a_shared_pmu_and_an_ordinary_user() {
    let estimate = |name, value| {
        let mut counter = counter(name, CounterValue::Estimate { value, running_share: 0.664 });
        counter.user_only = true;
        counter
    };
    let mut clock = exact("task-clock", 5_000);
    clock.user_only = false;
    let member = MemberCounters {
        pid: 1,
        counters: vec![
            clock,
            estimate("cycles", 12_345_678_901),
            estimate("instructions", 24_691_357_802),
            estimate("branches", 1_000_000),
            estimate("branch-misses", 12_345),
        ],
        threads_missed: 2,
    };
    let column = CountedMember { label: "sort (1)", bytes: Some(1 << 20), counters: &member };
    let settled = MemberCounters { threads_missed: 0, ..member.clone() };
    let other = CountedMember { counters: &settled, ..column.clone() };
    let members = vec![column, other.clone(), other];
    insta::assert_snapshot!(text(&CounterReport { members, elapsed_ns: None }));
}

#[test]
fn numbers_keep_three_digits_and_no_more() {
    for (number, unit, words) in [
        (0.0, CounterUnit::Occurrences, "0"),
        (0.004, CounterUnit::Occurrences, "< 0.01"),
        (6.6, CounterUnit::Occurrences, "6.60"),
        (66.66, CounterUnit::Occurrences, "66.7"),
        (1_230.8, CounterUnit::Occurrences, "1,231"),
        (999_999.6, CounterUnit::Occurrences, "1,000,000"),
        (123_456_789.0, CounterUnit::Nanoseconds, "123"),
        (12_345_678_901_234.0, CounterUnit::Occurrences, "12,346 G"),
    ] {
        assert_eq!(rate(number, unit), words);
    }
    assert_eq!(total(1_234_567_890.0, CounterUnit::Nanoseconds), "1,234.57");
    assert_eq!(grouped(100.0, 0), "100");
    assert_eq!(grouped(1_000_000.0, 2), "1,000,000.00");
}
