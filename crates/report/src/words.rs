//! What people read: numbers with their units, sentences, and lines that fit.
//!
//! Each kind of quantity has one formatter, so that a screen never shows two forms of one.
//! Sentences that several outputs share are here.

pub(crate) mod control_group;
pub(crate) mod evidence;
pub(crate) mod joined;
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
pub(crate) mod watch;
