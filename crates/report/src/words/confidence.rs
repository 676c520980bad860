//! How sure a verdict is, in one phrase.

use crate::verdict::{Confidence, Verdict};

/// What speaks against a verdict; `None` where nothing does.
pub(crate) fn doubt(verdict: &Verdict) -> Option<&'static str> {
    match verdict.confidence {
        Some(Confidence::Low) => Some(
            "low confidence: another member is almost as busy, or the neighbours do not wait as expected",
        ),
        Some(Confidence::Medium) => {
            Some("medium confidence: not every neighbour waits as expected")
        }
        Some(Confidence::High) | None => None,
    }
}
