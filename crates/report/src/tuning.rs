//! Experiments on a running pipeline: what can be tried, when enough has been measured, and what
//! was proven. This module only plans and judges; the caller makes the changes and passes in the
//! rates.

mod experiment;
mod observed;
mod page;
mod plan;
mod proof;
mod text;
mod treatment;

pub use experiment::{
    Block, Judged, Outcome, Side, block_order, interval, judge, phase_changed, window,
};
pub use observed::{Observed, ObservedBlame, ObservedMember, ObservedPipe};
pub use page::write_page;
pub use plan::{NotTried, Plan, Planned, plan};
pub use proof::{Confirmed, Proof, Rate, Tried, Window};
pub use text::{announcement, outcome_text, render};
pub use treatment::Treatment;
