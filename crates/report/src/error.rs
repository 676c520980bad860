//! Errors of making a report.

use std::io;

use crate::words::units::counted;

/// Why a report couldn't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to draw.
    #[error("no samples of {of}: nothing to draw")]
    NoSamples {
        /// Whose samples: `the pipeline`, `the writer`.
        of: String,
        /// Possible reasons, from the profile's notes.
        notes: Vec<String>,
    },
    /// Time per byte was asked for, and no bytes are known.
    #[error("time per GiB is unknown: {why}")]
    NoBytes {
        /// Why.
        why: String,
    },
    /// Two recordings that have nothing in common to compare.
    #[error("the two can't be compared: {why}")]
    NotComparable {
        /// Why.
        why: String,
    },
    /// Two recordings are to be joined, and one has nothing to join by.
    #[error("the two recordings can't be joined: {why}")]
    NotJoined {
        /// Why.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// A pattern given by the user isn't a regular expression.
    #[error("{pattern:?} is neither a function's name nor a regular expression: {source}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What the regex crate says of it.
        source: Box<regex::Error>,
    },
    /// More functions to highlight than a picture can tell apart.
    #[error("{given} highlights: at most {most} can be told apart")]
    TooManyHighlights {
        /// The article's own included.
        given: usize,
        /// The limit.
        most: usize,
    },
    /// No member of the run has this name.
    #[error("--member {name:?}: no member of the recording has this name or pid")]
    NoSuchMember {
        /// As asked for, escaped by the `Debug` format.
        name: String,
        /// What its members are called.
        known: Vec<String>,
    },
    /// A phase was asked for, and nothing tells which there are.
    #[error("--phase: the recording has no thread states over time")]
    NoPhases,
    /// There are fewer phases.
    #[error("--phase {number}: the run has {}", counted(known.len() as u64, "phase", "phases"))]
    NoSuchPhase {
        /// As asked for.
        number: usize,
        /// What there is.
        known: Vec<String>,
    },
    /// No sampled call chain contains the function.
    #[error("no sampled call chain contains {name:?}")]
    NoSuchFunction {
        /// As asked for, escaped by the `Debug` format.
        name: String,
        /// Functions of the profile with a similar name, the most sampled first.
        near: Vec<String>,
    },
    /// inferno's output has an unexpected form.
    #[error("inferno drew a box without a number of ours: {0}")]
    Picture(String),
    /// The report could not be written.
    #[error("the report could not be written: {0}")]
    Write(#[from] io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoSamples { notes, .. } if !notes.is_empty() => Some(notes.join("\n      ")),
            Error::NoSamples { .. } => {
                Some("move more bytes (--bytes 10G) or sample faster (--freq 4999)".into())
            }
            Error::NoBytes { .. } => Some("leave --per-byte out".into()),
            Error::Pattern { .. } => {
                Some("a name alone matches exactly; escape ( ) [ ] . * + ? with a backslash".into())
            }
            Error::NoSuchFunction { near, .. } if !near.is_empty() => {
                Some(format!("sampled were: {}", near.join(", ")))
            }
            Error::NoPhases => Some(
                "leave --phase out; pipeprof record stores states, perf record does not".into(),
            ),
            Error::NoSuchPhase { known, .. } => Some(format!("phases: {}", known.join(", "))),
            Error::NoSuchMember { known, .. } => Some(format!("members: {}", known.join(", "))),
            Error::NotComparable { .. } => Some(
                "record both in the same way: the same event, the same rights, the same programs"
                    .into(),
            ),
            Error::NotJoined { hint, .. } => Some(hint.clone()),
            Error::NoSuchFunction { .. }
            | Error::TooManyHighlights { .. }
            | Error::Picture(_)
            | Error::Write(_) => None,
        }
    }
}
