//! Experiments on a running pipeline: what can be tried, when enough has been measured, and what
//! was proven. This module only plans and judges; the caller makes the changes and passes in the
//! rates.

mod experiment;
mod page;
mod plan;
mod proof;
mod seen;
mod text;
mod treatment;

pub use experiment::{
    Block, Judged, Outcome, Side, block_order, interval, judge, phase_changed, window,
};
pub use page::write_page;
pub use plan::{NotTried, Plan, Planned, plan};
pub use proof::{Confirmed, Proof, Rate, Tried, Window};
pub use seen::{Seen, SeenBlame, SeenMember, SeenPipe};
pub use text::{announcement, outcome_text, render};
pub use treatment::Treatment;
