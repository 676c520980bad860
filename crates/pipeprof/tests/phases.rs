//! Phases and lanes of real runs: what `--phase` shows adds up to the whole, what only started the
//! members is no member, and the page's lanes and charts show the same stretch of time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;
#[path = "common/webdriver.rs"]
mod webdriver;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{may_profile_kernel, run_in, stderr, stdout};
use serde_json::Value;
use webdriver::Browser;

/// Its source sleeps for two seconds, then the data flow.
const TWO_PHASES: &str = "sh -c 'sleep 2; exec head -c 1500M /dev/zero' | cat | cat >/dev/null";

fn record(folder: &Path, line: &str) {
    let output = run_in(folder, &["record", "-o", "r.pipeprof", "-c", line]);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn report(folder: &Path, args: &[&str]) -> Value {
    let args: Vec<&str> = ["report", "r.pipeprof", "--json"].iter().chain(args).copied().collect();
    let output = run_in(folder, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The sum of a number of every member.
fn sum(report: &Value, pointer: &str) -> f64 {
    let members = report["members"].as_array().unwrap().iter();
    members.filter_map(|member| member.pointer(pointer)?.as_f64()).sum()
}

#[test]
fn phases_add_up_to_the_whole_run() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), TWO_PHASES);
    let whole = report(folder.path(), &["--all-members"]);
    let phases = whole["verdict"]["phases"].as_array().unwrap().clone();
    assert!(phases.len() >= 2, "{whole:#}");
    let first_ends = phases[0]["until_ns"].as_f64().unwrap();
    assert!((1.8e9..2.6e9).contains(&first_ends), "{phases:#?}");

    let parts: Vec<Value> = (1..=phases.len())
        .map(|number| report(folder.path(), &["--all-members", "--phase", &number.to_string()]))
        .collect();
    let in_parts = |pointer: &str| parts.iter().map(|part| sum(part, pointer)).sum::<f64>();
    let samples = sum(&whole, "/samples");
    // Samples before the first look at the threads, or after the last, are in no phase.
    assert!((in_parts("/samples") - samples).abs() <= 0.02 * samples + 5.0);
    for (pointer, room) in [
        ("/life/lifetime_ns", 0.02),
        // The last moments of a thread before its end are in no look.
        ("/life/on_cpu_ns", 0.2),
        ("/life/blocked_ns", 0.1),
        ("/cpu_time_ns", 0.2),
    ] {
        let (parts, all) = (in_parts(pointer), sum(&whole, pointer));
        assert!((parts - all).abs() <= room * all, "{pointer}: {parts} of {all}");
    }
    let bytes = |report: &Value| report["pipes"][0]["bytes"].as_f64().unwrap();
    let all: f64 = parts.iter().map(bytes).sum();
    assert!((all - bytes(&whole)).abs() <= 0.02 * bytes(&whole), "{all}");
    assert!(bytes(&parts[0]) <= 0.1 * all, "nothing flows while the source sleeps");
    assert_eq!(parts[0]["phase"]["number"], 1);
    assert_eq!(parts[0]["verdict"]["kind"], "outside", "{:#}", parts[0]["verdict"]);
    assert_eq!(parts[1]["verdict"]["phases"].as_array().unwrap().len(), 1, "no phase is cut again");

    // The picture is of the phase, and says so.
    let output = run_in(folder.path(), &["flame", "r.pipeprof", "--phase", "2", "-o", "2.svg"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let of = format!(", phase 2 of {} (", phases.len());
    assert!(fs::read_to_string(folder.path().join("2.svg")).unwrap().contains(&of));
    assert!(stdout(&output).contains(&of), "{}", stdout(&output));

    // Folded stacks add up too.
    let weight = |args: &[&str]| -> f64 {
        let args: Vec<&str> = ["export", "r.pipeprof", "--format", "folded", "--time", "cpu"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let output = run_in(folder.path(), &args);
        assert!(output.status.success(), "{}", stderr(&output));
        let weight = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        stdout(&output).lines().map(weight).sum()
    };
    let all: f64 = (1..=phases.len()).map(|number| weight(&["--phase", &number.to_string()])).sum();
    assert!((all - weight(&[])).abs() <= 0.02 * all, "{all} of {}", weight(&[]));
}

#[test]
fn a_phase_that_is_none_is_refused_with_those_that_there_are() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), TWO_PHASES);
    for number in ["0", "99"] {
        for command in ["report", "flame", "html"] {
            let output = run_in(folder.path(), &[command, "r.pipeprof", "--phase", number]);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", stderr(&output));
            let text = stderr(&output);
            assert!(text.contains(&format!("--phase {number}: the run has ")), "{text}");
            assert!(text.contains("hint: phases: 1 (0 ns to "), "{text}");
        }
    }
    // A file of perf says nothing of states.
    let bare = folder.path().join("perf.data");
    fs::copy(folder.path().join("r.pipeprof/perf.data"), &bare).unwrap();
    let output = run_in(folder.path(), &["report", "perf.data", "--phase", "1"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("has no thread states over time"));
    let output = run_in(folder.path(), &["report", "perf.data", "--timeline"]);
    assert!(output.status.success() && stdout(&output).contains("no timeline: "));
}

#[test]
fn a_timeline_in_the_terminal_has_a_lane_for_each_member_and_pipe() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), TWO_PHASES);
    let text = stdout(&run_in(folder.path(), &["report", "r.pipeprof", "--timeline"]));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.lines().count() <= 24, "{text}");
    let starts = |what: &str| {
        text.lines().any(|line| line.trim_start_matches(['>', '▶']).trim_start().starts_with(what))
    };
    for lane in ["phase", "1 ", "2 ", "3 ", "a fill", "b fill", "limit"] {
        assert!(starts(lane), "{lane}:\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.contains(" cat  ")).count(), 2, "{text}");
    let json = report(folder.path(), &["--timeline"]);
    let timeline = &json["timeline"];
    let columns = timeline["columns"].as_u64().unwrap() as usize;
    for member in timeline["members"].as_array().unwrap() {
        let busy = member["busy_percent"].as_array().unwrap();
        assert_eq!(busy.len(), columns);
    }
    // The columns of lanes are the verdict in detail.
    for limit in json["verdict"]["limits"].as_array().unwrap() {
        let Some(pid) = limit["pid"].as_i64() else { continue };
        let lanes = timeline["members"].as_array().unwrap();
        let Some(lane) = lanes.iter().find(|lane| lane["pid"] == pid) else { continue };
        let shares = lane["limits_percent"].as_array().unwrap();
        let mean = shares.iter().map(|s| s.as_f64().unwrap()).sum::<f64>() / columns as f64;
        let share = limit["percent"].as_f64().unwrap();
        assert!((mean - share).abs() < 1.0, "{pid}: {mean} of {share}");
    }
}

/// A script that finds out by subshells and other scripts what to run, as pyenv's and asdf's do.
fn shim(folder: &Path) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("find", "#!/bin/bash\nls / | sort | head -n 1 >/dev/null\nsleep 0.05\necho python3\n");
    write(
        "shim",
        "#!/bin/bash\nhere=$(dirname \"$0\")\nprogram=$(\"$here/find\" | cat)\n\
         paths=$(echo \"$PATH\" | tr : '\\n' | sort | head -n 3)\n[ -n \"$paths\" ]\n\
         exec \"$here/inner\" \"$program\" \"$@\"\n",
    );
    write("inner", "#!/bin/bash\nname=$(echo \"$1\" | sed s/x//)\nshift\nexec \"$name\" \"$@\"\n");
}

#[test]
fn what_only_started_a_member_is_told_as_part_of_it() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    shim(folder.path());
    let write = "import sys\nfor _ in range(3000): sys.stdout.buffer.write(b'x' * 99999)";
    fs::write(folder.path().join("write.py"), write).unwrap();
    record(folder.path(), "./shim write.py | cat >/dev/null");
    let names = |report: &Value| -> Vec<String> {
        let members = report["members"].as_array().unwrap().iter();
        let has_pipe = |member: &&Value| {
            ["reads_from", "writes_to"].iter().any(|end| member[*end] != serde_json::json!([]))
        };
        let named = |member: &Value| member["comm"].as_str().unwrap().to_owned();
        members.filter(has_pipe).map(named).collect()
    };
    let folded = report(folder.path(), &[]);
    let all = report(folder.path(), &["--all-members"]);
    let (few, many) = (names(&folded), names(&all));
    assert!(few.len() < many.len(), "{few:?} of {many:?}");
    assert!(few.contains(&"cat".to_owned()), "{few:?}");
    for only_started in ["find", "sed", "tr", "dirname"] {
        assert!(!few.iter().any(|name| name == only_started), "{few:?}");
    }
    // Nothing is lost on the way.
    assert_eq!(sum(&folded, "/samples"), sum(&all, "/samples"));
}

/// Members that live shortly, and move data, stay.
#[test]
fn short_lived_members_that_move_data_are_shown() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let line = "for i in 1 2 3 4; do head -c 300M /dev/zero | gzip -1; done | cat >/dev/null";
    record(folder.path(), &format!("bash -c '{line}'"));
    let shown = report(folder.path(), &[]);
    let members = shown["members"].as_array().unwrap().iter();
    let gzips = members.filter(|member| member["comm"] == "gzip").count();
    assert_eq!(gzips, 4, "{:#}", shown["members"]);
}

#[test]
fn lanes_and_charts_of_a_page_show_the_same_stretch_of_time() {
    if !may_profile_kernel() {
        return;
    }
    let Some(browser) = Browser::start(1280, 900) else { return };
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), TWO_PHASES);
    let output = run_in(folder.path(), &["html", "r.pipeprof", "-o", "page.html"]);
    assert!(output.status.success(), "{}", stderr(&output));
    browser.open(&folder.path().join("page.html"));
    let boxes = "return document.querySelector('.lanes .track').getAttribute('viewBox')";
    let whole = browser.run(boxes);
    let first = |value: &Value| -> f64 {
        value.as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(first(&whole), 0.0, "{whole}");
    // It stands right below the verdict.
    let order = browser.run("return [...document.querySelectorAll('section')].map(s => s.id)");
    assert_eq!(order[0], "timeline", "{order}");

    // A click on a phase zooms in.
    browser.click(".lanes .phase:nth-of-type(2) rect");
    let zoomed = browser.run(boxes);
    assert!(first(&zoomed) > 0.0, "{zoomed}");
    assert_eq!(browser.run("return document.querySelector('button.whole').hidden"), false);
    // The charts follow: what is in their middle is within the phase.
    // The pointer that clicked is off the lanes once the page has scrolled, which they tell too, and
    // the charts learn where they are.
    let scroll = "document.querySelector('.u-over').scrollIntoView({ block: 'center' });
         return new Promise(done => setTimeout(done, 500))";
    browser.run(scroll);
    let middle = browser.run(
        "const over = document.querySelector('.u-over');
         const box = over.getBoundingClientRect();
         const at = { clientX: box.left + box.width / 2, clientY: box.top + 9, bubbles: true,
           movementX: 1 };
         over.dispatchEvent(new MouseEvent('mouseenter', at));
         over.dispatchEvent(new MouseEvent('mousemove', at));
         return new Promise(done => setTimeout(() =>
           done(document.querySelector('.u-legend .u-value').textContent), 300))",
    );
    let seconds: f64 = middle.as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(seconds > 1.5, "{middle}");
    // And the lanes say what was at that time.
    let told = "return document.querySelector('.told').textContent";
    assert!(browser.run(told).as_str().unwrap().starts_with("at "), "{}", browser.run(told));

    // Back, by the button.
    browser.click("button.whole");
    assert_eq!(browser.run(boxes), whole);

    // Dragging in a chart zooms the lanes.
    browser.run(scroll);
    browser.run(
        "const over = document.querySelector('.u-over');
         const box = over.getBoundingClientRect();
         const at = (share) => ({ clientX: box.left + share * box.width, clientY: box.top + 20,
           bubbles: true, button: 0, movementX: 1 });
         over.dispatchEvent(new MouseEvent('mousemove', at(0.5)));
         over.dispatchEvent(new MouseEvent('mousedown', at(0.5)));
         over.dispatchEvent(new MouseEvent('mousemove', at(0.7)));
         over.dispatchEvent(new MouseEvent('mousemove', at(0.8)));
         document.dispatchEvent(new MouseEvent('mouseup', at(0.8)));
         return new Promise(done => setTimeout(done, 300))",
    );
    let dragged = browser.run(boxes);
    assert!(first(&dragged) > 0.0, "{dragged}");

    // Keys: a cursor that reads, another lane, and back.
    browser.run("document.querySelector('.lanes').focus()");
    browser.press("\u{e014}\u{e014}");
    let one = browser.run(told);
    assert!(one.as_str().unwrap().contains("at "), "{one}");
    browser.press("\u{e015}");
    assert_ne!(browser.run(told), one);
    browser.press("\u{e00c}");
    assert_eq!(browser.run(boxes), whole);

    // On a phone nothing is wider than the screen.
    let metrics = serde_json::json!({
        "width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": false
    });
    browser.protocol("Emulation.setDeviceMetricsOverride", &metrics);
    let wide = "return document.querySelector('.timeline').scrollWidth <= innerWidth";
    assert_eq!(browser.run(wide), true);
    assert_eq!(browser.console(), Vec::<String>::new());
}
