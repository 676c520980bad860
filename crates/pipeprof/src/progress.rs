//! Waiting for a pair: a progress bar where somebody watches, and Ctrl-C.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pipeprof_runner::error::Error;
use pipeprof_runner::pair::Running;
use pipeprof_runner::plan::PairPlan;

use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// Often enough to look alive and to obey Ctrl-C at once.
const TICK: Duration = Duration::from_millis(100);

/// Returns when both ends have finished. Asks them to when the user does.
pub(crate) fn watch(
    running: &mut Running,
    plan: &PairPlan,
    interrupt: &Interrupt,
    ui: &Ui,
) -> Result<(), Error> {
    let bar = if ui.shows_progress() {
        ProgressBar::new(plan.bytes.unwrap_or_default()).with_style(style())
    } else {
        ProgressBar::hidden()
    };
    let mut asked = false;
    while !running.wait_timeout(TICK)? {
        bar.set_position(running.moved().read);
        if interrupt.is_set() && !asked {
            running.interrupt();
            asked = true;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
