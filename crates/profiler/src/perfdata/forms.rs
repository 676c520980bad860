//! Recognises files of other formats by their first bytes, so that an error can name them.

/// A form of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is: `an SVG image`.
    pub name: &'static str,
    /// What makes a perf.data file of it, `FILE` for its name.
    fix: Option<&'static str>,
}

impl Form {
    /// The form of a file that is no perf.data.
    pub fn of(file: &[u8]) -> Option<Form> {
        if file.is_empty() {
            return Some(Form { name: "an empty file", fix: None });
        }
        // The start is enough, and an unknown file may be large.
        let start = file.get(..4096).unwrap_or(file);
        if let Some((_, name, fix)) =
            BEGINNINGS.iter().find(|(begins, ..)| file.starts_with(begins))
        {
            let is_image = *name == XML && start.windows(4).any(|window| window == b"<svg");
            return Some(Form { name: if is_image { SVG } else { name }, fix: *fix });
        }
        let is_text = |&byte: &u8| byte >= b' ' || byte.is_ascii_whitespace();
        start.iter().all(is_text).then_some(Form { name: TEXT, fix: None })
    }

    /// How to get a perf.data file out of it.
    pub fn hint(&self, path: &str) -> Option<String> {
        Some(self.fix?.replace("FILE", path))
    }
}

/// What `perf script` prints, folded stacks, CSV.
const TEXT: &str = "a text file";
const XML: &str = "an XML file";
const SVG: &str = "an SVG image";

/// Longer beginnings before the shorter ones that they begin with.
const BEGINNINGS: &[(&[u8], &str, Option<&str>)] = &[
    (b"PERFFILE", "a perf.data file of perf before Linux 2.6.36", Some("perf script -i FILE")),
    (b"SIMPLEPERF", "a report of simpleperf (report_sample.trace)", None),
    (b"\x17\x08Dtracing", "a trace.dat file of trace-cmd", Some("trace-cmd report -i FILE")),
    (b"\x1f\x8b", "a file packed by gzip", Some("gunzip -c FILE > perf.data")),
    (b"\x28\xb5\x2f\xfd", "a file packed by zstd", Some("zstd -dc FILE > perf.data")),
    (b"\xfd7zXZ\0", "a file packed by xz", Some("xz -dc FILE > perf.data")),
    (b"BZh", "a file packed by bzip2, as perf archive makes of symbols", None),
    (b"PK\x03\x04", "a zip file", Some("unzip FILE")),
    (b"\x7fELF", "a program or library (ELF)", Some("perf record -g FILE")),
    (b"<svg", SVG, None),
    (b"<?xml", XML, None),
    (b"<!DOCTYPE html", "an HTML page", None),
    (b"<!doctype html", "an HTML page", None),
    (b"{", "a JSON file", None),
    (b"[", "a JSON file", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_how_it_begins() {
        let named = |file: &[u8]| Form::of(file).map(|form| form.name);
        assert_eq!(named(b""), Some("an empty file"));
        assert_eq!(named(b"<?xml version=\"1.0\"?>\n<svg width=\"9\">"), Some(SVG));
        assert_eq!(named(b"<?xml version=\"1.0\"?>\n<html>"), Some(XML));
        assert_eq!(named(b"\x1f\x8b\x08"), Some("a file packed by gzip"));
        assert_eq!(named(b"main;write 12\n"), Some(TEXT));
        assert_eq!(named(b"\0\x01\x02"), None);
        let hint = Form::of(b"\x28\xb5\x2f\xfd").and_then(|form| form.hint("'a b'"));
        assert_eq!(hint.as_deref(), Some("zstd -dc 'a b' > perf.data"));
    }
}
