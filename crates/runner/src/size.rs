//! Sizes as people write them: `256K`, `10GiB`, `4096`.

/// A size that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size: write bytes, or a number with K, M or G (also KiB, MiB, GiB)")]
pub struct ParseSizeError {
    /// What was given.
    pub text: String,
}

/// Reads `4096`, `256K`, `256KiB`, `1M`, `10G`, in powers of 1024.
///
/// ```
/// assert_eq!(pipeprof_runner::size::parse("256KiB"), Ok(262_144));
/// ```
pub fn parse(text: &str) -> Result<u64, ParseSizeError> {
    let error = || ParseSizeError { text: text.to_owned() };
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| error())?;
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(error()),
    };
    number.checked_mul(1 << shift).ok_or_else(error)
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
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "K", "-1", "1.5G", "10T", "10KB", "1 0", "99999999999G", "0x10", "1GG"] {
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
