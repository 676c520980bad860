//! The command line: the arguments as typed, and the plan that they result in.

pub(crate) mod global;
pub(crate) mod json;
pub(crate) mod name;
pub(crate) mod open;
pub(crate) mod pair;
pub(crate) mod recording;
pub(crate) mod sampling;
pub(crate) mod scope;
pub(crate) mod target;
