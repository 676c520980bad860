//! `pipeprof run --against`: our pair and another program's, in turn, and the ratio.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Throughputs of the runs, in GiB/s, pair by pair.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Duel {
    ours_gib_per_s: Vec<f64>,
    theirs_gib_per_s: Vec<f64>,
}

impl Duel {
    /// Runs `ours` and the shell command `theirs` once each for every one of `runs`. Who goes
    /// first alternates, so that a machine that slows down or speeds up favours neither.
    pub(super) fn fight(
        theirs: &str,
        runs: usize,
        mut ours: impl FnMut() -> anyhow::Result<Option<f64>>,
    ) -> anyhow::Result<Option<Duel>> {
        let mut duel = Duel::default();
        for round in 0..runs {
            let (our, their) = if round % 2 == 0 {
                let our = ours()?;
                (our, shell(theirs)?)
            } else {
                let their = shell(theirs)?;
                (ours()?, their)
            };
            let Some(our) = our else { return Ok(None) };
            duel.ours_gib_per_s.push(our);
            duel.theirs_gib_per_s.push(their);
        }
        Ok(Some(duel))
    }

    /// Of each run of ours to its neighbour, ascending.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.ours_gib_per_s.iter().zip(&self.theirs_gib_per_s);
        let mut ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    pub(super) fn text(&self) -> String {
        let ratios = self.ratios();
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = writeln!(text, "ours    {:.2}GiB/s", median(&self.ours_gib_per_s));
        let _ = writeln!(text, "theirs  {:.2}GiB/s", median(&self.theirs_gib_per_s));
        if let [least, .., most] | [least @ most] = ratios[..] {
            let _ = writeln!(
                text,
                "ratio   {:.3} ({least:.3} to {most:.3}; medians of {} runs, ours to theirs)",
                median(&ratios),
                ratios.len(),
            );
        }
        text
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        let report = serde_json::json!({
            "median_ours_gib_per_s": median(&self.ours_gib_per_s),
            "median_theirs_gib_per_s": median(&self.theirs_gib_per_s),
            "median_ratio": median(&self.ratios()),
            "runs": self,
        });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(&value), 1) => value,
        (Some(&above), _) => (sorted[middle - 1] + above) / 2.0,
    }
}

fn shell(command: &str) -> anyhow::Result<f64> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output()
        .context("can't start sh for --against")?;
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    if let (true, Some(rate)) = (output.status.success(), throughput(&text)) {
        return Ok(rate);
    }
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
    bail!(
        "--against: {:?} ended with {} and no throughput; its last words: {:?}\n\
         hint: it must print a line such as 12.7GiB/s, or the CSV row of the article's program",
        command,
        output.status,
        last,
    )
}

/// The last throughput in a text: a line that begins with `12.7GiB/s`, or with the first column of
/// the CSV that the article's program prints, which has more digits.
pub(crate) fn throughput(text: &str) -> Option<f64> {
    text.lines().rev().find_map(|line| {
        let line = line.trim_start();
        let digits = line.bytes().take_while(|&byte| byte.is_ascii_digit() || byte == b'.').count();
        let (number, rest) = line.split_at(digits);
        let known = rest.starts_with(',') || rest.trim_start().starts_with("GiB/s");
        number.parse().ok().filter(|&rate: &f64| known && rate > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_throughput() {
        for (text, rate) in [
            ("12.7GiB/s, 256KiB buffer, 40960 iterations (10GiB piped)\n", Some(12.7)),
            ("noise\n3.25 GiB/s\n\n", Some(3.25)),
            ("4.309490,104857600,262144,0,0\n", Some(4.30949)),
            ("1.0GiB/s\n2.0GiB/s\n", Some(2.0)),
            ("0.0GiB/s", None),
            ("12.7GB/s", None),
            ("", None),
        ] {
            assert_eq!(throughput(text), rate, "{text:?}");
        }
    }

    #[test]
    fn each_run_is_compared_with_its_neighbour() {
        let duel =
            Duel { ours_gib_per_s: vec![1.0, 8.0, 3.0], theirs_gib_per_s: vec![1.0, 4.0, 4.0] };
        assert_eq!(
            duel.text(),
            "ours    3.00GiB/s\n\
             theirs  4.00GiB/s\n\
             ratio   1.000 (0.750 to 2.000; medians of 3 runs, ours to theirs)\n"
        );
        assert_eq!(median(&[1.0, 4.0]), 2.5);
    }

    #[test]
    fn a_pipeline_without_a_figure_is_an_error() {
        let error = Duel::fight("echo hello", 1, || Ok(Some(1.0))).unwrap_err().to_string();
        assert!(error.contains("hello"), "{error}");
        assert!(Duel::fight("echo 2GiB/s", 3, || Ok(None)).unwrap().is_none());
    }
}
