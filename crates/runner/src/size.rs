//! Sizes as people write them: `256K`, `1.5G`, `10GiB`, `10GB`, `4096`.

/// A size that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a size: give bytes, or a number with K, M, G or T, as in 4096, 1.5G, 10GiB or 10GB"
)]
pub struct ParseSizeError {
    /// What was given.
    pub text: String,
}

/// Decimals of a number that a size can have.
const MOST_DECIMALS: usize = 18;

/// Reads `4096`, `256K`, `256KiB`, `1.5G` in powers of 1024, and `256KB`, `10GB` in powers of 1000, down
/// to whole bytes.
///
/// ```
/// assert_eq!(pipeprof_runner::size::parse("256KiB"), Ok(262_144));
/// ```
pub fn parse(text: &str) -> Result<u64, ParseSizeError> {
    let error = || ParseSizeError { text: text.to_owned() };
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = trimmed.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" if fraction.is_empty() => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(error()),
    };
    if number.ends_with('.') || fraction.len() > MOST_DECIMALS {
        return Err(error());
    }
    let whole: u64 = whole.parse().map_err(|_| error())?;
    let bytes = whole.checked_mul(scale).ok_or_else(error)?;
    if fraction.is_empty() {
        return Ok(bytes);
    }
    let parts: u128 = fraction.parse().map_err(|_| error())?;
    let more = parts * u128::from(scale) / 10u128.pow(fraction.len() as u32);
    u64::try_from(more).ok().and_then(|more| bytes.checked_add(more)).ok_or_else(error)
}

/// Writes a size with the largest binary unit that divides it: `256KiB`, `10GiB`, `1000B`.
///
/// ```
/// assert_eq!(pipeprof_runner::size::exact(262_144), "256KiB");
/// ```
pub fn exact(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("256K", 256 << 10),
            ("256k", 256 << 10),
            ("256KiB", 256 << 10),
            ("256 KiB", 256 << 10),
            ("1M", 1 << 20),
            ("1MiB", 1 << 20),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("10GB", 10_000_000_000),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "K", "-1", "1.5", ".5G", "1.G", "1..5G", "1 0", "99999999999G", "0x10", "1GG"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(bytes: u64) {
            prop_assert_eq!(parse(&exact(bytes)), Ok(bytes));
        }
    }
}
