//! Reversible changes to a pipeline that runs: the capacity of a pipe, the CPUs and the nice value
//! of a member.
//!
//! Every [`Change`] knows what was there before. A [`Guardian`], a process of its own, is told of a
//! change before it is made and takes it back when this process has gone, however it went.

mod change;
mod guardian;
pub mod line;
mod machine;
mod sys;

pub use change::{Change, ChangeError, Restored};
pub use guardian::{Guardian, HoldId, guard};
pub use machine::{
    CpuPlace, PipeLimits, allowed_cpus, cpus_of, cpus_text, may_renice, pipe_limits, pipes_of_user,
};
