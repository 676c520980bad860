//! Tracepoints: the ids that the kernel knows them by, and where their records keep each field,
//! from the `format` files of a tracefs that is mounted and readable. Nothing is ever mounted.

use std::fs;
use std::path::{Path, PathBuf};

use pipeprof_runner::access;
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, Tracing};

/// One tracepoint, as its `format` file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// `sched:sched_waking`.
    pub name: String,
    /// What `perf_event_open(2)` takes in `config`.
    pub id: u64,
    /// The whole file, as perf.data carries it.
    pub format: String,
}

/// Where a record keeps a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Byte offset in the raw data.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Signed integer.
    pub signed: bool,
}

impl Field {
    /// The integer in a record; `None` where the record ends before it, or it is no integer.
    pub fn read(self, raw: &[u8]) -> Option<i64> {
        let bytes = raw.get(self.offset..self.offset.checked_add(self.size)?)?;
        Some(match (bytes, self.signed) {
            (&[byte], true) => i64::from(byte as i8),
            (&[byte], false) => i64::from(byte),
            (bytes, signed) if bytes.len() == 4 => {
                let word = i32::from_ne_bytes(*bytes.first_chunk()?);
                if signed { i64::from(word) } else { i64::from(word as u32) }
            }
            (bytes, _) if bytes.len() == 8 => i64::from_ne_bytes(*bytes.first_chunk()?),
            _ => return None,
        })
    }
}

/// A tracefs that can be read.
#[derive(Clone, Debug)]
pub struct Tracefs {
    root: PathBuf,
}

impl Tracefs {
    /// Where it is mounted.
    ///
    /// # Errors
    /// Why there is none, with the fix, as a sentence.
    pub fn find() -> Result<Self, String> {
        match Environment::read().tracing {
            Tracing::Readable(root) => Ok(Tracefs { root }),
            Tracing::Denied(root) => Err(format!(
                "tracepoints are closed to this user: {} cannot be read; hint: run it as root",
                root.display()
            )),
            Tracing::NotMounted => Err("tracepoints cannot be read, as no tracefs is mounted; \
                 hint: sudo mount -t tracefs tracefs /sys/kernel/tracing"
                .to_owned()),
        }
    }

    /// One that lies elsewhere, for tests.
    pub fn at(root: &Path) -> Self {
        Tracefs { root: root.to_owned() }
    }

    /// A tracepoint by system and name.
    ///
    /// # Errors
    /// That this kernel has none of that name, as a sentence.
    pub fn tracepoint(&self, system: &str, name: &str) -> Result<Tracepoint, String> {
        let path = self.root.join("events").join(system).join(name).join("format");
        let format = access::with_rights(|| fs::read_to_string(&path))
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let id = format.lines().find_map(|line| line.strip_prefix("ID: ")?.trim().parse().ok());
        let id = id.ok_or_else(|| format!("{} names no id", path.display()))?;
        Ok(Tracepoint { name: format!("{system}:{name}"), id, format })
    }

    /// What perf.data carries for `perf` to print tracepoints by: the section `TRACING_DATA`
    /// (tools/perf/util/trace-event-read.c, v6.1) with these tracepoints alone.
    pub fn tracing_data(&self, tracepoints: &[&Tracepoint]) -> Vec<u8> {
        let mut out = b"\x17\x08Dtracing0.5\0".to_vec();
        out.push(u8::from(cfg!(target_endian = "big")));
        out.push(size_of::<usize>() as u8);
        out.extend_from_slice(&(crate::ring::page_bytes() as u32).to_ne_bytes());
        for name in ["header_page", "header_event"] {
            let path = self.root.join("events").join(name);
            let text = access::with_rights(|| fs::read(path)).unwrap_or_default();
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            push_text(&mut out, &text);
        }
        // No events of ftrace's own.
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&(tracepoints.len() as u32).to_ne_bytes());
        for tracepoint in tracepoints {
            let system = tracepoint.name.split(':').next().unwrap_or_default();
            out.extend_from_slice(system.as_bytes());
            out.push(0);
            out.extend_from_slice(&1u32.to_ne_bytes());
            push_text(&mut out, tracepoint.format.as_bytes());
        }
        // Neither kallsyms nor printk formats.
        out.extend_from_slice(&[0; 8]);
        out
    }
}

/// Those tracepoints of a section `TRACING_DATA` whose ids are wanted. What is odd ends the list.
pub(crate) fn in_tracing_data(section: &[u8], is_wanted: impl Fn(u64) -> bool) -> Vec<Tracepoint> {
    let mut found = Vec::new();
    let _ = read_tracing_data(section, |system, format| {
        if let Some((name, id)) = name_and_id(format).filter(|&(_, id)| is_wanted(id)) {
            let name = format!("{system}:{name}");
            found.push(Tracepoint { name, id, format: format.to_owned() });
        }
    });
    found
}

/// Goes through the formats of all systems; `None` where the section ends or makes no sense.
fn read_tracing_data(section: &[u8], mut each: impl FnMut(&str, &str)) -> Option<()> {
    let mut rest = section.strip_prefix(b"\x17\x08Dtracing")?;
    // The version; then byte order, size of a word, size of a page.
    text(&mut rest)?;
    take(&mut rest, 6)?;
    for _ in ["header_page", "header_event"] {
        text(&mut rest)?;
        sized(&mut rest)?;
    }
    for _ in 0..count(&mut rest)? {
        sized(&mut rest)?;
    }
    for _ in 0..count(&mut rest)? {
        let system = text(&mut rest)?;
        for _ in 0..count(&mut rest)? {
            each(system, std::str::from_utf8(sized(&mut rest)?).ok()?);
        }
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    Some(head)
}

/// A text that a NUL ends.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = rest.iter().position(|&byte| byte == 0)?;
    let text = take(rest, length)?;
    take(rest, 1)?;
    std::str::from_utf8(text).ok()
}

/// Bytes with their number before them.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest, 8)?.first_chunk::<8>()?;
    take(rest, usize::try_from(u64::from_ne_bytes(*length)).ok()?)
}

fn count(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*take(rest, 4)?.first_chunk::<4>()?))
}

/// `name: sched_switch`, `ID: 314`.
fn name_and_id(format: &str) -> Option<(&str, u64)> {
    let mut lines = format.lines();
    let name = lines.find_map(|line| line.strip_prefix("name: "))?;
    let id = lines.find_map(|line| line.strip_prefix("ID: "))?;
    Some((name.trim(), id.trim().parse().ok()?))
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_ne_bytes());
    out.extend_from_slice(text);
}

impl Tracepoint {
    /// Where a field lies.
    ///
    /// # Errors
    /// That this kernel's tracepoint has none of that name, as a sentence.
    pub fn field(&self, name: &str) -> Result<Field, String> {
        let field = self.format.lines().filter_map(parse_field).find(|(found, _)| *found == name);
        field
            .map(|(_, field)| field)
            .ok_or_else(|| format!("{} has no field {name} on this kernel", self.name))
    }
}

/// ` field:pid_t pid; offset:24; size:4; signed:1;`
fn parse_field(line: &str) -> Option<(&str, Field)> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let name = parts.next()?.rsplit(' ').next()?;
    let name = name.split('[').next()?;
    let mut number = |key: &str| parts.next()?.strip_prefix(key)?.parse::<usize>().ok();
    let (offset, size) = (number("offset:")?, number("size:")?);
    Some((name, Field { offset, size, signed: number("signed:")? == 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAKING: &str = "name: sched_waking\nID: 375\nformat:\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\n\
        \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n\n\
        print fmt: \"comm=%s pid=%d\", REC->comm, REC->pid\n";

    #[test]
    fn fields_are_where_the_format_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("events/sched/sched_waking");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("format"), WAKING).unwrap();
        let tracefs = Tracefs::at(root.path());
        let waking = tracefs.tracepoint("sched", "sched_waking").unwrap();
        assert_eq!((waking.id, waking.name.as_str()), (375, "sched:sched_waking"));
        let pid = waking.field("pid").unwrap();
        assert_eq!(pid, Field { offset: 24, size: 4, signed: true });
        assert_eq!(waking.field("comm").unwrap().size, 16);
        let mut raw = vec![0; 36];
        raw[2] = 0x18;
        raw[24..28].copy_from_slice(&(-7i32).to_ne_bytes());
        assert_eq!(pid.read(&raw), Some(-7));
        assert_eq!(pid.read(&raw[..27]), None);
        assert_eq!(waking.field("common_flags").unwrap().read(&raw), Some(0x18));
        assert_eq!(waking.field("comm").unwrap().read(&raw), None);
        assert!(waking.field("waker").unwrap_err().contains("no field waker"));
        assert!(tracefs.tracepoint("sched", "none").is_err());
    }
}
