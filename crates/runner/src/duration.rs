//! Times as people write them: `10s`, `1.5s`, `500ms`, `2m`, `1h`.

use std::time::Duration;

/// A time that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTimeError {
    /// The unit is none of those that are known.
    #[error("unknown unit {0:?}: use ms, s, m or h")]
    Unit(String),
    /// There is no number before the unit.
    #[error("give a number and a unit, as in 10s")]
    Number,
    /// It is 0.
    #[error("the time must be longer than 0")]
    Zero,
    /// Sums of it with the time of day could be more than a clock counts.
    #[error("the longest time is a hundred years")]
    TooLong,
}

/// A hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads `10s`, `1.5s`, `500ms`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, ParseTimeError> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(ParseTimeError::Unit(unit.to_owned())),
    };
    let number: f64 = number.parse().map_err(|_| ParseTimeError::Number)?;
    match Duration::try_from_secs_f64(number * scale) {
        Ok(duration) if duration.is_zero() => Err(ParseTimeError::Zero),
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(ParseTimeError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1s", "10 days", "0", "1.2.3", "1e400s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        // Twice of that is more than a duration holds.
        for long in ["5000000000000000h", "99999999999999999999h", "880000h"] {
            assert_eq!(parse(long), Err(ParseTimeError::TooLong), "{long}");
        }
    }
}
