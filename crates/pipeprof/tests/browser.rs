//! The picture in headless Chromium: search, zoom and reset work, and no script fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::process::Command;

use common::{may_profile_kernel, run_in, stderr};

/// Runs when the picture's own script has, and leaves its findings in the document.
const DRIVER: &str = r#"<script><![CDATA[
var failed = [];
window.onerror = function (message) { failed.push(message); };
function click(element) { element.dispatchEvent(new MouseEvent("click", { bubbles: true })); }
setTimeout(function () {
  var found = [];
  try {
    var count = frames.children.length;
    found.push("frames=" + count);
    search("pipe_write|vmsplice");
    found.push("search=" + matchedtxt.textContent);
    if (searching) { search_prompt(); }
    var narrow = null;
    for (var i = 0; i < count; i++) {
      if (/get_pages/.test(frames.children[i].getAttribute("fg:name") ||
                           frames.children[i].querySelector("title").textContent)) {
        narrow = frames.children[i];
      }
    }
    var rect = narrow.querySelector("rect");
    var before = parseFloat(rect.getAttribute("width"));
    click(rect);
    found.push("zoomed=" + (parseFloat(rect.getAttribute("width")) > before));
    click(unzoombtn);
    found.push("reset=" + (Math.abs(parseFloat(rect.getAttribute("width")) - before) < 0.01));
  } catch (error) {
    failed.push(String(error));
  }
  var note = document.createElementNS("http://www.w3.org/2000/svg", "desc");
  note.textContent = "RESULT[" + found.join(",") + "]ERRORS[" + failed.join(",") + "]END";
  document.documentElement.appendChild(note);
}, 500);
]]></script>"#;

#[test]
fn search_zoom_and_reset_work_without_a_script_error() {
    if Command::new("chromium").arg("--version").output().is_err() {
        eprintln!("skipped: chromium is not installed");
        return;
    }
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output =
        run_in(folder.path(), &["flame", "--stage", "vmsplice", "--bytes", "4G", "-F", "2999"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let svg = fs::read_to_string(folder.path().join("pipeprof-vmsplice.svg")).unwrap();
    let end = svg.rfind("</svg>").unwrap();
    let driven = folder.path().join("driven.svg");
    fs::write(&driven, format!("{}{DRIVER}{}", &svg[..end], &svg[end..])).unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--window-size=1280,900",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", driven.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let result = dom.split("RESULT[").last().and_then(|rest| rest.split("]END").next());
    let result = result.unwrap_or_else(|| panic!("the driver left no result: {dom}"));
    assert!(result.ends_with("ERRORS["), "{result}");
    assert!(result.contains("zoomed=true") && result.contains("reset=true"), "{result}");
    assert!(result.contains("search=Matched"), "{result}");
}
