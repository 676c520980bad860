//! No record is lost at the highest frequency that nobody asks for.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use common::{may_profile_kernel, run_in, stderr, stdout};
use serde_json::Value;

#[test]
fn nothing_is_lost_at_997_hz_with_blocked_time() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (stage, bytes) in [("write", "2G"), ("busy-loop", "40G")] {
        let args =
            ["flame", "-F", "997", "--stage", stage, "--bytes", bytes, "--time", "wall", "--json"];
        let output = run_in(folder.path(), &args);
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let quality = &report["quality"];
        assert_eq!(quality["lost"], 0, "{stage}: {quality}");
        assert_eq!(quality["malformed_records"], 0, "{stage}: {quality}");
        assert!(quality["samples"].as_u64().unwrap() > 50, "{stage}: {quality}");
    }
}
