//! What people read: numbers with their units, sentences, and lines that fit.
//!
//! Each kind of quantity has one formatter, so that no two of one screen look different; and what
//! more than one output says, it says in these words.

pub(crate) mod evidence;
pub(crate) mod lanes;
pub(crate) mod layout;
pub(crate) mod member;
pub(crate) mod name;
pub(crate) mod network;
pub(crate) mod phase;
pub(crate) mod pipe;
pub(crate) mod pipe_bound;
pub(crate) mod quality;
pub(crate) mod remedy;
pub(crate) mod units;
pub(crate) mod verdict;
