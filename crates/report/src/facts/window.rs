//! Windows of time around each bin.

use std::ops::Range;

use super::states::Span;

/// For each span those, itself included, that reach within this time of its middle. Neither end ever
/// moves back, so that what is summed up over a window follows it in one pass.
pub(super) fn around(spans: &[Span], reach_ns: u64) -> impl Iterator<Item = Range<usize>> {
    let (mut first, mut last) = (0, 0);
    (0..spans.len()).map(move |at| {
        let Span { from_ns, until_ns, .. } = spans[at];
        let middle = from_ns + until_ns.saturating_sub(from_ns) / 2;
        while first < at && spans[first].until_ns.saturating_add(reach_ns) <= middle {
            first += 1;
        }
        last = last.max(at + 1);
        while spans.get(last).is_some_and(|span| span.from_ns < middle.saturating_add(reach_ns)) {
            last += 1;
        }
        first..last
    })
}

/// What enters a window, and what leaves it.
pub(super) struct Step {
    pub(super) window: Range<usize>,
    pub(super) enters: Range<usize>,
    pub(super) leaves: Range<usize>,
}

/// Those windows, each by what makes it of the one before.
pub(super) fn steps(spans: &[Span], reach_ns: u64) -> impl Iterator<Item = Step> {
    let mut before = 0..0;
    around(spans, reach_ns).map(move |window| {
        let step = Step {
            enters: before.end..window.end,
            leaves: before.start..window.start,
            window: window.clone(),
        };
        before = window;
        step
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_what_is_near_and_steps_lead_from_one_to_the_next() {
        let lengths = [5, 1, 1, 40, 3, 3, 100, 1, 1, 1, 20, 7];
        let mut from_ns = 0;
        let spans: Vec<Span> = lengths
            .into_iter()
            .map(|length| {
                let span = Span { from_ns, until_ns: from_ns + length, ..Span::default() };
                // Nobody looked for a while now and then.
                from_ns += length + length % 4;
                span
            })
            .collect();
        for reach in [1, 10, 60, 1000] {
            let mut inside: Vec<usize> = Vec::new();
            for (at, step) in steps(&spans, reach).enumerate() {
                let middle = (spans[at].from_ns + spans[at].until_ns) / 2;
                let is_near =
                    |span: &Span| span.until_ns + reach > middle && span.from_ns < middle + reach;
                let near: Vec<usize> = (0..spans.len())
                    .filter(|&other| other == at || is_near(&spans[other]))
                    .collect();
                assert_eq!(step.window.clone().collect::<Vec<_>>(), near, "{at}, {reach}");
                inside.extend(step.enters);
                inside.retain(|other| !step.leaves.contains(other));
                assert_eq!(inside, near);
            }
        }
    }
}
