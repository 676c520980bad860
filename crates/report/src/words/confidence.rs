//! How sure a verdict is, in one phrase.

use crate::verdict::Verdict;

/// What speaks against a verdict; `None` where nothing does.
pub(crate) fn doubt(verdict: &Verdict) -> Option<&str> {
    verdict.doubt.as_deref()
}
