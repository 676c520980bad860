//! Build ids that the recorder read at its end from the mapped files: a section of a file, records
//! of a stream, and what `perf inject` adds.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::cursor::Cursor;
use super::framing::{Record, Records, misc};
use crate::build_id::BuildId;
use crate::object_file::Object;

/// Which build a file is (`struct perf_record_header_build_id` in tools/lib/perf/include/perf/event.h,
/// v6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBuildId<'a> {
    /// The id.
    pub id: BuildId,
    /// Of the kernel or a module.
    pub is_kernel: bool,
    /// Its path, or `[kernel.kallsyms]`, `[vdso]`.
    pub path: &'a [u8],
}

/// In the header of such a record: the field of the id says how long it is.
const HAS_SIZE: u16 = 1 << 15;

impl<'a> FileBuildId<'a> {
    /// From a record. `None` where it is too short, or names no build.
    pub(super) fn parse(record: &Record<'a>) -> Option<Self> {
        let mut at = Cursor(record.body);
        at.i32()?;
        let field = at.bytes(24)?;
        let bytes = field.first_chunk::<{ BuildId::MOST_BYTES }>()?;
        let id = if record.misc & HAS_SIZE != 0 {
            BuildId::new(bytes.get(..usize::from(field[BuildId::MOST_BYTES]))?)?
        } else {
            BuildId::of_unknown_length(bytes)?
        };
        let is_kernel = record.misc & misc::CPUMODE_MASK == misc::KERNEL;
        Some(FileBuildId { id, is_kernel, path: at.string()? })
    }
}

/// The builds of a recording's files, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildIds {
    /// `None` where a path had several.
    of_path: FxHashMap<Box<[u8]>, Option<BuildId>>,
    of_kernel: FxHashMap<Box<[u8]>, BuildId>,
}

impl BuildIds {
    /// From the section of a file.
    pub(super) fn parse(section: &[u8]) -> Self {
        let mut ids = BuildIds::default();
        let found = Records::new(section).filter_map(|(_, record)| FileBuildId::parse(&record));
        found.for_each(|file| ids.add(&file));
        ids
    }

    /// Adds one more.
    pub fn add(&mut self, file: &FileBuildId<'_>) {
        if file.is_kernel {
            self.of_kernel.insert(file.path.into(), file.id);
            return;
        }
        let known = self.of_path.entry(file.path.into()).or_insert(Some(file.id));
        if *known != Some(file.id) {
            *known = None;
        }
    }

    /// The build of the kernel, or of a module by its path or as `[ext4]`.
    pub fn of_kernel(&self, path: &[u8]) -> Option<BuildId> {
        self.of_kernel.get(path).copied()
    }

    /// An object with the id of its path, where its mapping came without.
    pub(crate) fn applied<'o>(&self, object: &'o Object) -> Cow<'o, Object> {
        if object.build_id.is_some() || object.is_jit() {
            return Cow::Borrowed(object);
        }
        match self.of_path.get(&object.path).copied().flatten() {
            Some(id) => Cow::Owned(Object { build_id: Some(id), ..object.clone() }),
            None => Cow::Borrowed(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind_of: u16, id: &[u8], size: u8, path: &[u8]) -> Vec<u8> {
        let mut body = 0i32.to_ne_bytes().to_vec();
        body.extend(id);
        body.resize(4 + 20, 0);
        body.extend([size, 0, 0, 0]);
        body.extend(path);
        body.resize((body.len() + 1).next_multiple_of(8), 0);
        let mut record = 0u32.to_ne_bytes().to_vec();
        record.extend(kind_of.to_ne_bytes());
        record.extend((body.len() as u16 + 8).to_ne_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn the_section_names_the_builds_of_files_and_of_the_kernel() {
        let mut section = entry(2, &[1; 20], 0, b"/bin/a");
        section.extend(entry(2 | HAS_SIZE, &[2; 16], 16, b"/bin/b"));
        section.extend(entry(1, &[3; 20], 0, b"[kernel.kallsyms]"));
        section.extend(entry(2, &[4; 20], 0, b"/bin/twice"));
        section.extend(entry(2, &[5; 20], 0, b"/bin/twice"));
        let ids = BuildIds::parse(&section);
        let of = |path: &[u8]| ids.applied(&Object::named(path)).build_id;
        assert_eq!(of(b"/bin/a"), BuildId::new(&[1; 20]));
        assert_eq!(of(b"/bin/b"), BuildId::new(&[2; 16]));
        assert_eq!(of(b"/bin/twice"), None);
        assert_eq!(of(b"[kernel.kallsyms]"), None);
        assert_eq!(ids.of_kernel(b"[kernel.kallsyms]"), BuildId::new(&[3; 20]));
        for cut in 0..section.len() {
            BuildIds::parse(&section[..cut]);
        }
    }
}
