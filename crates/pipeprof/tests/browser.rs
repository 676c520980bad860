//! The picture in headless Chromium: search, zoom, folded chains, keyboard and reset work, and no
//! script fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;
#[path = "common/webdriver.rs"]
mod webdriver;

use common::{may_profile_kernel, run_in, stderr};
use serde_json::json;
use webdriver::Browser;

/// As WebDriver spells them.
const ESCAPE: char = '\u{e00c}';
const ENTER: char = '\u{e007}';
const UP: char = '\u{e013}';

#[test]
fn search_zoom_chains_keyboard_and_reset_work_without_a_script_error() {
    if !may_profile_kernel() {
        return;
    }
    let Some(browser) = Browser::start(1280, 900) else { return };
    let folder = tempfile::tempdir().unwrap();
    let output =
        run_in(folder.path(), &["flame", "--stage", "vmsplice", "--bytes", "4G", "-F", "2999"]);
    assert!(output.status.success(), "{}", stderr(&output));
    browser.open(&folder.path().join("pipeprof-vmsplice.svg"));
    let count = |class: &str| {
        let of = format!("return document.querySelectorAll('{class}').length");
        browser.run(&of).as_u64().unwrap()
    };
    assert!(count(".f") > 20 && count(".f.tower") == 2);

    // The field can be seen, and finds what is typed; keys that are typed move nothing.
    let shown = browser.run(
        "const field = document.querySelector('input').getBoundingClientRect();
         return field.width > 100 && field.top >= 0 && field.right <= innerWidth",
    );
    assert_eq!(shown, true);
    browser.press("/get_pages");
    let found = browser.run("return document.querySelector('.found').textContent");
    assert!(found.as_str().unwrap().ends_with('%'), "{found}");
    assert!(count(".f.hit") > 0);
    browser.press(&ESCAPE.to_string());
    assert_eq!(count(".f.hit"), 0);

    // A click widens a box, and Escape brings all back.
    let width = "return parseFloat(document.querySelector('.f.hl > rect').getAttribute('width'))";
    let before = browser.run(width).as_f64().unwrap();
    browser.click(".f.hl > rect");
    assert!(browser.run(width).as_f64().unwrap() > before);
    assert!(count(".f.hidden") > 0);
    browser.press(&ESCAPE.to_string());
    assert_eq!((browser.run(width).as_f64().unwrap(), count(".f.hidden")), (before, 0));

    // A folded chain opens into as many rows as it says, and closes again.
    let boxes = count(".f");
    let frames = browser.run(
        "return parseInt(/▸ (\\d+) frames/.exec(
             document.querySelector('.f.chain > title').textContent)[1])",
    );
    browser.click(".f.chain > rect");
    assert_eq!(count(".f"), boxes + frames.as_u64().unwrap());
    browser.press(&ESCAPE.to_string());
    assert_eq!(count(".f"), boxes);

    // The same without a mouse: from the root two rows up, and zoom.
    browser.press(&format!("{UP}{UP}"));
    let told = browser.run("return document.querySelector('.details').textContent");
    assert!(told.as_str().unwrap().contains("of all"), "{told}");
    browser.press(&ENTER.to_string());
    assert!(count(".f.hidden") > 0);
    browser.press(&ESCAPE.to_string());

    // The legend marks a role.
    browser.click("g.key");
    assert!(count(".f.hit") > 0);
    browser.press(&ESCAPE.to_string());

    // No key of the legend lies on the next, whatever the width of the window.
    for width in [1280, 500] {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        browser.protocol("Emulation.setDeviceMetricsOverride", &metrics);
        let overlapping = "const keys = [...document.querySelectorAll('g.key')].map(
               e => [e.textContent, e.getBoundingClientRect()]);
             const apart = (a, b) =>
               a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
             const bad = keys.filter(([, a], i) =>
               a.right > innerWidth || !keys.slice(i + 1).every(([, b]) => apart(a, b)));
             return JSON.stringify(bad)";
        // The picture is laid out anew some moments after the window has changed.
        let mut found = browser.run(overlapping);
        for _ in 0..100 {
            if found == "[]" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            found = browser.run(overlapping);
        }
        assert_eq!(found, "[]", "at {width}");
    }
    let paper = "return getComputedStyle(document.querySelector('.paper')).fill";
    let scheme = |name: &str| {
        let features = json!([{ "name": "prefers-color-scheme", "value": name }]);
        browser.protocol("Emulation.setEmulatedMedia", &json!({ "features": features }));
        browser.run(paper)
    };
    assert_ne!(scheme("light"), scheme("dark"));
    assert_eq!(browser.console(), Vec::<String>::new());
}
