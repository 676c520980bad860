//! `pipeprof html`, and its page in headless Chromium from a disk: nothing fails, nothing is
//! fetched, and everything works by mouse and by keyboard.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;
#[path = "common/webdriver.rs"]
mod webdriver;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{may_profile_kernel, run_in, stderr};
use serde_json::{Value, json};
use webdriver::Browser;

/// As WebDriver spells them.
const ESCAPE: char = '\u{e00c}';
const ENTER: char = '\u{e007}';
const UP: char = '\u{e013}';

/// No longer than the kernel lets a name be; crates/report/tests/html.rs has longer ones.
const HOSTILE: &str = "<script>x()";

fn page(folder: &Path, args: &[&str]) -> PathBuf {
    let page = folder.join("page.html");
    let page_name = page.to_str().unwrap().to_owned();
    let args: Vec<&str> = ["html", "-o", &page_name].iter().chain(args).copied().collect();
    let output = run_in(folder, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("wrote "), "{}", stderr(&output));
    assert!(!output.stdout.is_empty(), "the answer is printed too");
    let size = page.metadata().unwrap().len();
    assert!(size < 2 << 20, "{size} bytes");
    page
}

#[test]
fn search_zoom_keyboard_and_dark_mode_work_without_an_error_or_a_request() {
    if !may_profile_kernel() {
        return;
    }
    let Some(browser) = Browser::start(1280, 900) else { return };
    let folder = tempfile::tempdir().unwrap();
    symlink("/bin/cat", folder.path().join(HOSTILE)).unwrap();
    let line = format!("head -c 1500M /dev/zero | './{HOSTILE}' | cat >/dev/null");
    let page = page(folder.path(), &["-F", "1999", "-c", &line]);
    browser.open(&page);

    let frames = browser.run("return document.querySelectorAll('g.f').length");
    assert!(frames.as_u64().unwrap() > 20, "{frames}");
    assert!(browser.run("return document.querySelectorAll('.uplot canvas').length") == 2);
    // A name is text: in the picture of the pipeline, in the flame graph, in the headings.
    let shown = browser.run(&format!(
        "return ['.pipeline text', 'g.f > title', 'h3'].map(where =>
           [...document.querySelectorAll(where)].some(e => e.textContent.includes('{HOSTILE}')))"
    ));
    assert_eq!(shown, json!([true, true, true]));
    assert_eq!(browser.run("return document.querySelectorAll('body script').length"), 6);

    // Search by keyboard, in both pictures at once.
    browser.press("/pipe");
    let found = browser.run("return document.querySelector('.found').textContent");
    let found = found.as_str().unwrap();
    assert!(found.contains("on CPU") && found.contains("blocked"), "{found}");
    assert!(found.contains('%') && !found.contains("no match"), "{found}");
    let marked = browser.run(
        "return [...document.querySelectorAll('figure.flame')].map(figure =>
           [...figure.querySelectorAll('.hit')].every(e => /pipe/.test(e.querySelector('title').textContent)) &&
             figure.querySelectorAll('.hit').length)",
    );
    assert!(marked.as_array().unwrap().iter().all(|n| n.as_u64().unwrap_or(0) > 0), "{marked}");

    // Escape lets go of everything.
    browser.press(&ESCAPE.to_string());
    assert_eq!(browser.run("return document.querySelectorAll('.hit').length"), 0);
    assert_eq!(browser.run("return document.getElementById('search').value"), "");

    // Zoom by a click, then back.
    let widths = "return [...document.querySelectorAll('g.f.tower')]
        .filter(e => getComputedStyle(e).display !== 'none')
        .map(e => Math.round(e.getBoundingClientRect().width))";
    let before = browser.run(widths);
    browser.click("g.f.tower > rect");
    let zoomed = browser.run(widths);
    assert!(
        zoomed.as_array().unwrap().len() < before.as_array().unwrap().len()
            && zoomed[0].as_u64() > before[0].as_u64(),
        "{before} {zoomed}"
    );
    browser.press(&ESCAPE.to_string());
    assert_eq!(browser.run(widths), before);

    // The same without a mouse: focus the picture, go up two frames, zoom.
    browser.run("document.querySelector('svg.frames').focus()");
    browser.press(&format!("{UP}{UP}"));
    let told = browser.run("return document.querySelector('.details').textContent");
    assert!(told.as_str().unwrap().contains('%'), "{told}");
    let outlined = browser.run(
        "const style = getComputedStyle(document.querySelector('.current > rect'));
         return style.stroke !== 'none' && parseFloat(style.strokeWidth) >= 2",
    );
    assert_eq!(outlined, true);
    browser.press(&ENTER.to_string());
    assert!(browser.run("return document.querySelectorAll('g.f.hidden').length > 0") == true);
    browser.press(&ESCAPE.to_string());

    // The legend marks a role.
    browser.click(".keys button");
    assert!(browser.run("return document.querySelectorAll('.hit').length > 0") == true);
    browser.press(&ESCAPE.to_string());

    let background = "return getComputedStyle(document.body).backgroundColor";
    let scheme = |name: &str| {
        let features = json!([{ "name": "prefers-color-scheme", "value": name }]);
        browser.protocol("Emulation.setEmulatedMedia", &json!({ "features": features }));
        browser.run(background)
    };
    assert_ne!(scheme("light"), scheme("dark"));

    // The policy holds: what isn't in the page doesn't run and isn't fetched.
    let requests = "return performance.getEntriesByType('resource').length";
    assert_eq!(browser.run(requests), 0);
    assert_eq!(browser.console(), Vec::<String>::new());
    let ran = browser.run(
        "const script = document.createElement('script');
         script.textContent = 'window.ran = true';
         document.body.append(script);
         return window.ran === true",
    );
    assert_eq!(ran, false);
    assert!(browser.console().iter().any(|line| line.contains("Content Security Policy")));
}

#[test]
fn nothing_overlaps_or_overflows_on_a_narrow_page() {
    if !may_profile_kernel() {
        return;
    }
    let Some(browser) = Browser::start(1280, 900) else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = page(folder.path(), &["--stage", "write", "--bytes", "512M"]);
    for width in [1280, 400] {
        browser.protocol(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser.open(&page);
        let sideways = browser.run("return document.documentElement.scrollWidth");
        assert!(sideways.as_u64().unwrap() <= width, "{sideways} of {width}");
        // Words of the picture, two by two: (x, y, right, bottom).
        let boxes = browser.run(
            "return [...document.querySelectorAll('.pipeline text')].map(e =>
               e.getBoundingClientRect()).filter(r => r.width > 0)
               .map(r => [r.left, r.top + 2, r.right, r.bottom - 2])",
        );
        let boxes: Vec<[f64; 4]> = serde_json::from_value(boxes).unwrap();
        assert!(boxes.len() >= 7, "{boxes:?}");
        for (at, a) in boxes.iter().enumerate() {
            for b in &boxes[at + 1..] {
                let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                assert!(apart, "at {width}: {a:?} {b:?}");
            }
        }
        assert_eq!(browser.console(), Vec::<String>::new());
    }
}

#[test]
fn a_recording_makes_the_same_page_again_beside_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(
        folder.path(),
        &["record", "-o", "a", "-c", "(head -c 64M /dev/zero; sleep 0.5) | cat >/dev/null"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let mut pages = Vec::new();
    for _ in 0..2 {
        let output = run_in(folder.path(), &["html", "a.pipeprof"]);
        assert!(output.status.success(), "{}", stderr(&output));
        pages.push(fs::read(folder.path().join("a.html")).unwrap());
    }
    assert!(pages[0] == pages[1]);
    let about = fs::read_to_string(folder.path().join("a.pipeprof/pipeprof.json")).unwrap();
    let about: Value = serde_json::from_str(&about).unwrap();
    let flow = &about["about"]["flows"][0];
    let looks = flow["fill"]["looks"].as_u64().unwrap();
    assert_eq!(flow["fill_over_time"].as_array().unwrap().len() as u64, looks, "{flow}");

    // One from before fill was kept over time.
    let mut old = about.clone();
    old["about"]["flows"][0].as_object_mut().unwrap().remove("fill_over_time");
    fs::write(folder.path().join("a.pipeprof/pipeprof.json"), old.to_string()).unwrap();
    let output = run_in(folder.path(), &["html", "a.pipeprof"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_makes_no_sense_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (args, status, says) in [
        (&["html"][..], 2, "no target: give"),
        (&["html", "a.pipeprof", "--bytes", "1G"], 2, "--stage"),
        (&["html", "missing.pipeprof"], 1, "missing.pipeprof"),
        (&["html", "-o", "no/such/folder/x.html", "-c", "touch ran"], 1, "no/such/folder"),
    ] {
        let output = run_in(folder.path(), args);
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
