//! `--json`: numbers for a program, whatever else prints.
#![allow(clippy::unwrap_used)]

mod common;

use common::{may_profile_kernel, run_in, stderr, stdout};
use serde_json::Value;

#[test]
fn json_on_standard_output_is_not_mixed_with_what_the_command_prints() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let line = ["-c", "seq 3 | sha256sum"];
    for command in ["flame", "html", "record", "stat"] {
        let output = run_in(folder.path(), &[&[command, "--json"], &line[..]].concat());
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(json["members"].is_array(), "{command}: {json}");
        assert!(stderr(&output).contains("  -\n"), "{command}: {}", stderr(&output));
    }
    // To a file, both are where they were asked for.
    let output = run_in(folder.path(), &[&["flame", "--json=out.json"], &line[..]].concat());
    assert!(stdout(&output).contains("  -\n") && stdout(&output).contains("sha256sum"));
    let json: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    assert!(json["verdict"].is_object(), "{json}");
}
