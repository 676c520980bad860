//! The HTML report: everything about a run in one file that needs nothing from elsewhere.

mod flame;
pub mod markup;
pub mod shell;
