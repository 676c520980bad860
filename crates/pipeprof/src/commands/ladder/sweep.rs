//! `--sweep`: sizes from one power of two to another, as candidates of a ladder.

use pipeprof_report::ladder::Axis;
use pipeprof_runner::cpus::Pin;
use pipeprof_runner::machine::page_size;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::size;
use pipeprof_runner::stage::Stage;

use super::runs::Candidate;

/// The most cells of a heat map.
const MOST_VALUES: usize = 24;

/// A size that can be swept, and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    knob: Knob,
    values: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knob {
    BufSize,
    PipeSize,
}

impl Knob {
    fn as_str(self) -> &'static str {
        match self {
            Knob::BufSize => "buf-size",
            Knob::PipeSize => "pipe-size",
        }
    }
}

impl Range {
    pub(super) fn axis(&self) -> Axis {
        Axis { knob: self.knob.as_str().to_owned(), values: self.values.clone() }
    }

    /// Both are of the same size.
    pub(super) fn clashes(&self, other: &Range) -> bool {
        self.knob == other.knob
    }
}

/// Reads `pipe-size=4K..1M`.
pub(super) fn parse(text: &str) -> Result<Range, String> {
    let form = || format!("{text:?}: give a range as in buf-size=16K..4M or pipe-size=4K..1M");
    let (knob, range) = text.split_once('=').ok_or_else(form)?;
    let knob = match knob.trim() {
        "buf-size" => Knob::BufSize,
        "pipe-size" => Knob::PipeSize,
        other => return Err(format!("{other:?} can't be swept: use buf-size or pipe-size")),
    };
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    let bytes = |text: &str| size::parse(text).map_err(|error| error.to_string());
    let (first, last) = (bytes(first)?, bytes(last)?);
    if first == 0 || first > last {
        return Err(format!("{text:?}: give the smaller size first, above 0"));
    }
    if !first.is_power_of_two() || !last.is_power_of_two() {
        return Err(format!("{text:?}: both sizes must be powers of two"));
    }
    let page = page_size();
    if knob == Knob::PipeSize && first < page {
        return Err(format!("{text:?}: no pipe is smaller than a page, {}", size::exact(page)));
    }
    let values: Vec<u64> =
        std::iter::successors(Some(first), |value| value.checked_mul(2).filter(|v| *v <= last))
            .collect();
    if values.len() > MOST_VALUES {
        return Err(format!("{text:?}: the range has more than {MOST_VALUES} powers of two"));
    }
    Ok(Range { knob, values })
}

/// A candidate for each combination: of each value of the first range one for each of the second.
/// Combinations that make no sense are there too, with the reason.
pub(super) fn candidates(
    stage: Stage,
    bytes: Option<u64>,
    pin: Pin,
    ranges: &[Range],
) -> Vec<Candidate> {
    let start = vec![(Knobs { bytes, pin, ..Knobs::default() }, Vec::new())];
    let cells = ranges.iter().fold(start, |cells, range| {
        let each = |(knobs, words): &(Knobs, Vec<String>)| {
            let (knobs, words) = (knobs.clone(), words.clone());
            range.values.iter().map(move |&value| {
                let mut words = words.clone();
                words.push(format!("{} {}", range.knob.as_str(), size::exact(value)));
                let knobs = match range.knob {
                    Knob::BufSize => Knobs { buf_size: Some(value), ..knobs.clone() },
                    Knob::PipeSize => Knobs { pipe_size: Some(value), ..knobs.clone() },
                };
                (knobs, words)
            })
        };
        cells.iter().flat_map(each).collect()
    });
    cells
        .into_iter()
        .map(|(knobs, words)| {
            let name = words.join(", ");
            match PairPlan::new(stage, &knobs) {
                Ok(plan) => Candidate::Stage { name, plan: Box::new(plan) },
                Err(error) => Candidate::Refused { name, why: error.to_string() },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_powers_of_two() {
        let values = |text: &str| parse(text).unwrap().values;
        assert_eq!(values("buf-size=16K..64K"), [16 << 10, 32 << 10, 64 << 10]);
        assert_eq!(values("pipe-size=4K"), [4 << 10]);
        assert_eq!(values("buf-size=1..4"), [1, 2, 4]);
        for (bad, word) in [
            ("buf-size", "buf-size=16K..4M"),
            ("gift=1..2", "can't be swept"),
            ("buf-size=3K..4K", "powers of two"),
            ("buf-size=8K..4K", "the smaller size first"),
            ("pipe-size=1K..4K", "page"),
            ("buf-size=1..1G", "more than"),
            ("buf-size=1x..2", "size"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn every_combination_is_a_candidate_even_the_impossible() {
        let ranges = [parse("buf-size=4K..8K").unwrap(), parse("pipe-size=4K..16K").unwrap()];
        let all = candidates(Stage::Vmsplice, Some(1 << 20), Pin::Auto, &ranges);
        let names: Vec<String> = all.iter().map(Candidate::name).collect();
        assert_eq!(names.len(), 6);
        assert_eq!(names[1], "buf-size 4KiB, pipe-size 8KiB");
        // Half a buffer of one page is none.
        assert!(matches!(&all[0], Candidate::Refused { why, .. } if why.contains("--buf-size")));
        let plan = all[5].plan().unwrap();
        assert_eq!((plan.buf_size, plan.pipe_size), (8 << 10, Some(16 << 10)));
    }
}
