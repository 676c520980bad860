//! The grammar of triggers: `throughput < 50MiB/s for 10s`, `cpus > 3.5`, `limit changes`,
//! `limit is gzip for 1m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pipeprof_runner::{duration, size};

/// When to keep a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// What has to hold.
    pub condition: Condition,
    /// For how long.
    pub lasting: Duration,
    /// As it was given, with single blanks.
    text: String,
}

/// What a trigger waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Bytes a second through the pipe that carries most.
    Throughput(Bound),
    /// CPUs that all members use together.
    Cpus(Bound),
    /// Another member limits the pipeline than before.
    LimitChanges,
    /// A member of this name limits it.
    LimitIs(String),
}

/// One side of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Less than this.
    Below(f64),
    /// More than this.
    Above(f64),
}

impl Bound {
    /// Whether a value is on that side.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::Below(bound) => value < bound,
            Bound::Above(bound) => value > bound,
        }
    }
}

/// Text that is no trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wrong}\nhint: {EXAMPLES}")]
pub struct ParseTriggerError {
    wrong: String,
}

const EXAMPLES: &str = "--when 'throughput < 50MiB/s for 10s', --when 'cpus > 3.5', \
                        --when 'limit changes' or --when 'limit is gzip for 1m'";

/// A limit that changes has to be another one for so long: where two members are about as busy, the
/// larger share of one interval says little.
const CHANGE_LASTS: Duration = Duration::from_secs(3);

impl FromStr for Trigger {
    type Err = ParseTriggerError;

    fn from_str(text: &str) -> Result<Self, ParseTriggerError> {
        let spaced = text.replace('<', " < ").replace('>', " > ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let (words, lasting) = match words[..] {
            [ref before @ .., "for", time] => {
                let time = duration::parse(time);
                (
                    before,
                    Some(time.map_err(|error| {
                        wrong(format!("for {}: {error}", words[words.len() - 1]))
                    })?),
                )
            }
            _ => (&words[..], None),
        };
        let condition = condition(words)?;
        let default = match condition {
            Condition::LimitChanges => CHANGE_LASTS,
            _ => Duration::ZERO,
        };
        let text = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Trigger { condition, lasting: lasting.unwrap_or(default), text })
    }
}

fn condition(words: &[&str]) -> Result<Condition, ParseTriggerError> {
    match words {
        [] => Err(wrong("a trigger needs a condition".to_owned())),
        ["throughput", side, value @ ..] if !value.is_empty() => {
            let value = value.join(" ");
            let bytes = size::parse(value.strip_suffix("/s").unwrap_or(&value));
            let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
            bound(side, bytes as f64).map(Condition::Throughput)
        }
        ["cpus", side, value] => {
            let cpus = value.parse().ok().filter(|cpus: &f64| cpus.is_finite() && *cpus >= 0.0);
            let cpus = cpus.ok_or_else(|| wrong(format!("{value:?} is not a number of CPUs")))?;
            bound(side, cpus).map(Condition::Cpus)
        }
        ["limit", "changes"] => Ok(Condition::LimitChanges),
        ["limit", "is", name @ ..] if !name.is_empty() => Ok(Condition::LimitIs(name.join(" "))),
        ["throughput" | "cpus", ..] => Err(wrong(format!(
            "{:?}: after {} come < or > and one value",
            words.join(" "),
            words[0]
        ))),
        ["limit", ..] => Err(wrong(format!(
            "{:?}: after limit comes changes, or is and the name of a member",
            words.join(" ")
        ))),
        [other, ..] => Err(wrong(format!(
            "{other:?} can't be watched: triggers know throughput, cpus and limit"
        ))),
    }
}

fn bound(side: &str, value: f64) -> Result<Bound, ParseTriggerError> {
    match side {
        "<" => Ok(Bound::Below(value)),
        ">" => Ok(Bound::Above(value)),
        _ => Err(wrong(format!("{side:?} compares nothing: use < or >"))),
    }
}

fn wrong(wrong: String) -> ParseTriggerError {
    ParseTriggerError { wrong }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    #[test]
    fn triggers_are_read_with_and_without_blanks() {
        let s = Duration::from_secs;
        for (text, condition, lasting) in [
            (
                "throughput < 50MiB/s for 10s",
                Condition::Throughput(Bound::Below(50.0 * MIB)),
                s(10),
            ),
            ("throughput < 50 MiB/s", Condition::Throughput(Bound::Below(50.0 * MIB)), s(0)),
            ("throughput<50M", Condition::Throughput(Bound::Below(50.0 * MIB)), s(0)),
            ("throughput > 1GB/s", Condition::Throughput(Bound::Above(1e9)), s(0)),
            ("cpus > 3.5 for 1m", Condition::Cpus(Bound::Above(3.5)), s(60)),
            ("cpus<1", Condition::Cpus(Bound::Below(1.0)), s(0)),
            ("limit changes", Condition::LimitChanges, CHANGE_LASTS),
            ("limit changes for 10s", Condition::LimitChanges, s(10)),
            ("limit is gzip", Condition::LimitIs("gzip".into()), s(0)),
            ("limit is tmux: server for 2s", Condition::LimitIs("tmux: server".into()), s(2)),
            // Without a time after it, it is part of a name.
            ("limit is waiting for", Condition::LimitIs("waiting for".into()), s(0)),
        ] {
            let trigger: Trigger = text.parse().unwrap();
            assert_eq!((&trigger.condition, trigger.lasting), (&condition, lasting), "{text}");
            assert_eq!(trigger.to_string().parse::<Trigger>(), Ok(trigger), "{text}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_and_shows_how_it_is_right() {
        for (text, said) in [
            ("", "needs a condition"),
            ("troughput < 5M/s", "\"troughput\" can't be watched"),
            ("throughput", "come < or >"),
            ("throughput = 5M", "\"=\" compares nothing"),
            ("throughput < fast", "\"fast\" is not a size"),
            ("throughput <= 5M", "not a size"),
            ("throughput < 5M for ever", "for ever: unknown unit"),
            ("throughput < 5M for 10 days", "not a size"),
            ("cpus > many", "not a number of CPUs"),
            ("cpus > NaN", "not a number of CPUs"),
            ("limit", "after limit comes"),
            ("limit is", "after limit comes"),
            ("limit change", "after limit comes"),
        ] {
            let error = text.parse::<Trigger>().unwrap_err().to_string();
            assert!(error.contains("--when 'limit changes'"), "{text}: {error}");
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
