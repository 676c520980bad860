//! Reads untrusted JSON: it is checked as it streams in, before any value is built, so that memory
//! is bounded by what a recording can hold.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use rustc_hash::FxHashMap;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::Error;
use crate::regular_file;

/// Raised whenever a field changes its meaning or goes.
pub(crate) const VERSION: u32 = 1;

/// More than the largest file of any recording: 1,000 pipes with all their points.
const MOST_BYTES: u64 = 256 << 20;

/// Values in such a file.
const MOST_VALUES: u64 = 8 << 20;

/// Four years of nanoseconds, 128 PiB.
const MOST_NUMBER: u64 = 1 << 57;

/// What all numbers of one field may add up to: sums of three such fields don't overflow either.
const MOST_SUM: u64 = 1 << 62;

/// Points in time, and counts that go on from the one before, of which nothing makes a sum.
const NEVER_SUMMED: [&str; 9] = [
    "from_ns",
    "until_ns",
    "first_ns",
    "last_ns",
    "at_ns",
    "last_at_ns",
    "start_time_ticks",
    "over_time",
    "fill_over_time",
];

/// Names of files by number, of which any is as good as another; the one date.
const ANY_NUMBER: [&str; 3] = ["inode", "device", "started_unix_ns"];

/// Reads a file of this version.
///
/// # Errors
/// [`Error::File`] where it can't be read or is no regular file, [`Error::Version`],
/// [`Error::Implausible`] and [`Error::Sidecar`] where it can't be a recording's.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let failed = |source| Error::File { action: "reading", path: path.to_owned(), source };
    let broken = |source| Error::Sidecar { path: path.to_owned(), source };
    let mut file = regular_file::open_bounded(path, MOST_BYTES).map_err(failed)?;
    let seen = look_through(&file).map_err(broken)?;
    if let Some(version) = seen.version.filter(|&version| version != u64::from(VERSION)) {
        let version = u32::try_from(version).unwrap_or(u32::MAX);
        return Err(Error::Version { path: path.to_owned(), version, known: VERSION });
    }
    if let Some((field, number)) = seen.implausible {
        return Err(Error::Implausible { path: path.to_owned(), field, number });
    }
    file.rewind().map_err(failed)?;
    serde_json::from_reader(stream(&file)).map_err(broken)
}

/// A file that grows while it is read ends where it was to end.
fn stream(file: &File) -> impl Read {
    BufReader::with_capacity(1 << 16, file.take(MOST_BYTES))
}

/// What a look through a whole file tells.
#[derive(Debug, Default)]
struct Scanned {
    version: Option<u64>,
    /// The first number that no recording has, and its field.
    implausible: Option<(String, u64)>,
    values: u64,
    /// By the name of a field, what its numbers add up to.
    sums: FxHashMap<String, u64>,
}

fn look_through(file: &File) -> serde_json::Result<Scanned> {
    let mut seen = Scanned::default();
    let mut path = Vec::new();
    let mut json = serde_json::Deserializer::from_reader(stream(file));
    Look { seen: &mut seen, path: &mut path }.deserialize(&mut json)?;
    json.end()?;
    Ok(seen)
}

/// A step from a value to one in it.
enum Step {
    Field(String),
    Index(usize),
}

/// Goes through a value and keeps nothing of it.
struct Look<'a> {
    seen: &'a mut Scanned,
    path: &'a mut Vec<Step>,
}

impl Look<'_> {
    fn inner(&mut self) -> Look<'_> {
        Look { seen: self.seen, path: self.path }
    }

    fn number(&mut self, number: u64) {
        let field = match self.path.last() {
            Some(Step::Field(name)) => name.as_str(),
            Some(Step::Index(_)) | None => "",
        };
        if self.path.len() == 1 && field == "version" {
            self.seen.version = Some(number);
        }
        let is_in = |names: &[&str]| {
            let mut path = self.path.iter();
            path.any(|step| matches!(step, Step::Field(name) if names.contains(&name.as_str())))
        };
        if is_in(&ANY_NUMBER) {
            return;
        }
        let is_one_of_many = !field.is_empty() && !is_in(&NEVER_SUMMED);
        let sum = match self.seen.sums.get_mut(field).filter(|_| is_one_of_many) {
            Some(sum) => {
                *sum = sum.saturating_add(number);
                *sum
            }
            None if is_one_of_many => {
                self.seen.sums.insert(field.to_owned(), number);
                number
            }
            None => number,
        };
        if (number > MOST_NUMBER || sum > MOST_SUM) && self.seen.implausible.is_none() {
            self.seen.implausible = Some((spelled(self.path), number));
        }
    }
}

/// `capture.threads.3.tid`.
fn spelled(path: &[Step]) -> String {
    let steps = path.iter().map(|step| match step {
        Step::Field(name) => name.clone(),
        Step::Index(index) => index.to_string(),
    });
    steps.collect::<Vec<_>>().join(".")
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.seen.values += 1;
        if self.seen.values > MOST_VALUES {
            return Err(serde::de::Error::custom("more values than any recording has"));
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_u64<E>(mut self, number: u64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.path.push(Step::Index(index));
            let value = values.next_element_seed(self.inner())?;
            self.path.pop();
            if value.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key()? {
            self.path.push(Step::Field(name));
            fields.next_value_seed(self.inner())?;
            self.path.pop();
        }
        Ok(())
    }
}

/// A field with arbitrary contents that is never used in computations: kept as it is, or null if it
/// is too large.
pub(super) fn small<'de, D: Deserializer<'de>>(json: D) -> Result<serde_json::Value, D::Error> {
    use serde::Deserialize;
    const MOST: usize = 1 << 20;
    let text = Box::<serde_json::value::RawValue>::deserialize(json)?;
    if text.get().len() > MOST {
        return Ok(serde_json::Value::Null);
    }
    serde_json::from_str(text.get()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn seen(text: &str) -> serde_json::Result<Scanned> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        look_through(&file)
    }

    #[test]
    fn a_look_finds_the_version_and_the_first_number_that_cannot_be() {
        let look = seen(r#"{"version": 3, "a": [{"inode": 18446744073709551615}, {"b": 1}]}"#);
        let look = look.unwrap();
        assert_eq!((look.version, look.implausible), (Some(3), None));
        let look =
            seen(r#"{"a": [{"version": 7}, {"b": 288230376151711744}], "c": 1e300}"#).unwrap();
        assert_eq!(look.version, None);
        assert_eq!(look.implausible, Some(("a.1.b".to_owned(), 1 << 58)));
    }

    #[test]
    fn numbers_of_a_field_may_not_add_up_to_more_than_a_number_holds() {
        let of = |field: &str| {
            let each = format!("{{\"{field}\": {MOST_NUMBER}}}");
            seen(&format!("[{}]", vec![each; 40].join(","))).unwrap().implausible
        };
        assert_eq!(of("cpu_ns"), Some(("32.cpu_ns".to_owned(), MOST_NUMBER)));
        assert_eq!(of("until_ns"), None, "points in time");
        assert_eq!(of("inode"), None);
    }

    #[test]
    fn broken_text_is_told_by_its_line() {
        for text in ["{\n\"a\": 1\n", "[1,,2]", "{} {}", &"[".repeat(100_000)] {
            let error = seen(text).unwrap_err().to_string();
            assert!(error.contains(" line "), "{error}");
        }
    }

    #[test]
    fn more_values_than_any_recording_has_are_not_built() {
        let text = format!("[{}0]", "0,".repeat(MOST_VALUES as usize));
        assert!(seen(&text).unwrap_err().to_string().contains("more values"));
    }
}
