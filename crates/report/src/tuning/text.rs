//! The texts of a tuning: its announcement, its outcomes and its report.

use std::fmt::Write as _;

use super::experiment::{Judged, MARGIN, Outcome};
use super::observed::Observed;
use super::plan::Plan;
use super::proof::{Confirmed, Proof};
use crate::escape::printable;
use crate::words::units::throughput;

// Writing to a String can't fail.

/// What a tuning is about to do, for the user to confirm: changes to the running pipeline, and
/// other command lines, each with its difference.
pub fn announcement(
    seen: &Observed,
    plan: &Plan,
    lines: &[(String, String)],
    subject: &str,
    seconds: u64,
) -> String {
    let mut text = String::new();
    if !plan.treatments.is_empty() {
        let _ = writeln!(text, "pipeprof will change {} while it runs:", printable(subject));
    }
    let names: Vec<String> =
        plan.treatments.iter().map(|planned| seen.name(&planned.treatment)).collect();
    let width = names.iter().map(|name| printable(name).chars().count()).max().unwrap_or(0).min(48);
    for (planned, name) in plan.treatments.iter().zip(&names) {
        let name = printable(name);
        let _ = match planned.share {
            Some(share) => writeln!(
                text,
                "  {name:width$}  can affect {:.0} % of the time",
                100.0 * share.min(1.0)
            ),
            None => writeln!(text, "  {name}"),
        };
    }
    if !plan.treatments.is_empty() {
        text.push_str(
            "Each change is made for a fraction of a second, taken back, and compared. Everything is\n\
             restored at the end, also when pipeprof is killed. Data and order are not touched.\n",
        );
    }
    if !lines.is_empty() {
        text.push_str(
            "The command will be run some 20 times or more for each of these, and ended after 3 s where\n\
             it takes longer than 5:\n",
        );
    }
    for (what, line) in lines {
        let _ = writeln!(text, "  {}: {}", printable(what), printable(line));
    }
    let _ = writeln!(text, "This takes {seconds} s or less.");
    text
}

/// `faster by 31 % (95 %: 24–38 %)`.
pub fn outcome_text(judged: Option<&Judged>) -> String {
    let Some(judged) = judged else { return "not enough data".to_owned() };
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let margin = 100.0 * MARGIN;
    match judged.outcome {
        Outcome::Faster if judged.ratio >= 2.0 => {
            format!("{:.1}× faster (95 %: {:.1}–{:.1}×)", judged.ratio, judged.low, judged.high)
        }
        Outcome::Faster => format!(
            "faster by {:.0} % (95 %: {:.0}–{:.0} %)",
            percent(judged.ratio),
            percent(judged.low),
            percent(judged.high)
        ),
        Outcome::Slower => format!(
            "slower by {:.0} % (95 %: {:.0}–{:.0} %)",
            -percent(judged.ratio),
            -percent(judged.high),
            -percent(judged.low)
        ),
        Outcome::NoEffect => format!("no effect (within ±{margin:.0} %)"),
        Outcome::NotEnoughData => format!(
            "not enough data (95 %: {:+.0} to {:+.0} %)",
            percent(judged.low),
            percent(judged.high)
        ),
    }
}

/// The report of a tuning, for a terminal.
pub fn render(proof: &Proof) -> String {
    let mut text = format!("{}\n", headline(proof));
    if let Some(stopped) = &proof.stopped {
        let _ = writeln!(text, "stopped early: {}", printable(stopped));
    }
    let _ = writeln!(
        text,
        "\n{}: {} through {}, in windows of {} ms",
        printable(&proof.subject),
        throughput(proof.original.bytes_per_second),
        printable(&proof.measure),
        proof.window_ms
    );
    if let Some(limit) = &proof.limit {
        let _ = writeln!(text, "{}", printable(limit));
    }
    let names = proof.tried.iter().map(|tried| tried.name.as_str());
    let names = names.chain(proof.not_tried.iter().map(|not| not.what.as_str()));
    let width = names.map(|name| printable(name).chars().count()).max().unwrap_or(0).min(48);
    if !proof.tried.is_empty() {
        text.push_str("\ntried\n");
    }
    for tried in &proof.tried {
        let outcome = match &tried.failed {
            Some(why) => format!("not tried: {}", printable(why)),
            None => outcome_text(tried.judged.as_ref()),
        };
        let _ = writeln!(text, "  {:width$}  {outcome}", printable(&tried.name));
    }
    if !proof.not_tried.is_empty() {
        text.push_str("\nnot tried\n");
    }
    for not in &proof.not_tried {
        let _ = writeln!(text, "  {:width$}  {}", printable(&not.what), printable(&not.why));
    }
    for best in [&proof.best, &proof.best_line].into_iter().flatten() {
        write_best(&mut text, best);
    }
    for what in &proof.not_restored {
        let _ = writeln!(text, "\nnot restored yet: {}", printable(what));
    }
    text
}

pub(super) fn headline(proof: &Proof) -> String {
    let ratio = |best: &Confirmed| {
        best.judged.filter(|judged| judged.outcome == Outcome::Faster).map_or(0.0, |one| one.ratio)
    };
    let best = [&proof.best, &proof.best_line].into_iter().flatten();
    match best.max_by(|a, b| ratio(a).total_cmp(&ratio(b))) {
        Some(best) if ratio(best) > 0.0 => {
            format!(
                "proven: {} makes it {}",
                printable(&best.names.join(" and ")),
                outcome_text(best.judged.as_ref())
            )
        }
        Some(best) => format!(
            "nothing proven: {} looked faster, but a second measurement shows: {}",
            printable(&best.names.join(" and ")),
            outcome_text(best.judged.as_ref())
        ),
        None if proof.tried.is_empty() => {
            "nothing to try: no setting of pipes or CPUs limits this pipeline".to_owned()
        }
        None => {
            let open = proof.tried.iter().any(|tried| {
                tried.judged.is_none_or(|judged| judged.outcome == Outcome::NotEnoughData)
            });
            match open {
                true => "nothing proven: some changes could not be judged".to_owned(),
                false => "nothing helps: no change makes this pipeline faster".to_owned(),
            }
        }
    }
}

fn write_best(text: &mut String, best: &Confirmed) {
    if best.kept {
        text.push_str("\nleft in place (--keep-best)\n");
    }
    if !best.permanent.is_empty() {
        text.push_str("\nto make it permanent\n");
    }
    for line in &best.permanent {
        let _ = writeln!(text, "  {}", printable(line));
    }
    for line in &best.price {
        let _ = writeln!(text, "  price: {}", printable(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outcome: Outcome, ratio: f64, low: f64, high: f64) -> Judged {
        Judged { outcome, ratio, low, high, blocks: 6 }
    }

    #[test]
    fn outcomes_read_as_sentences() {
        let text =
            |outcome, ratio, low, high| outcome_text(Some(&judged(outcome, ratio, low, high)));
        assert_eq!(text(Outcome::Faster, 1.31, 1.24, 1.38), "faster by 31 % (95 %: 24–38 %)");
        assert_eq!(text(Outcome::Faster, 2.5, 2.2, 2.9), "2.5× faster (95 %: 2.2–2.9×)");
        assert_eq!(text(Outcome::Slower, 0.9, 0.85, 0.95), "slower by 10 % (95 %: 5–15 %)");
        assert_eq!(text(Outcome::NoEffect, 1.0, 0.99, 1.01), "no effect (within ±3 %)");
        assert_eq!(
            text(Outcome::NotEnoughData, 1.0, 0.9, 1.2),
            "not enough data (95 %: -10 to +20 %)"
        );
        assert_eq!(outcome_text(None), "not enough data");
    }
}
