//! The SVG.

mod common;

use common::{STAGES, stage};
use pipeprof_report::caption::Caption;
use pipeprof_report::flamegraph::{self, View};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::roles::Classification;

fn caption(name: &str) -> Caption {
    Caption {
        subject: name.into(),
        kernel: "6.18.44".into(),
        bytes_per_second: Some(2.3 * 1_073_741_824.0),
        bytes_piped: Some(8 << 30),
    }
}

#[test]
fn every_stage_is_drawn() {
    for name in STAGES {
        let profile = stage(name);
        let roles = Classification::of(&profile);
        let mut svg = Vec::new();
        flamegraph::render(
            &profile,
            &roles,
            &Highlights::article(),
            &caption(name),
            View::default(),
            &mut svg,
        )
        .unwrap();
        let path = format!("{}/{name}.svg", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(path, &svg).unwrap();
    }
}
