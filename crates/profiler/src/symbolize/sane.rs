//! Whether an ELF file can be read without being asked for memory that it does not account for.
//!
//! Offsets and sizes are to lie in the file, as whoever reads it next adds them without looking. The
//! size that a compressed section claims is reserved before a byte of it is unpacked,
//! and what is in `.gnu_debugdata` is unpacked whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{ElfFile, FileHeader, NoteIterator, SectionHeader as _};
use object::{Endianness, FileKind, Object as _, ObjectSection, ObjectSegment as _};

/// Times that symbols shrink at the very most: zlib cannot do more.
const MOST_EXPANSION: u64 = 1032;

/// The section of MiniDebugInfo: an ELF file with symbols, packed by xz.
const PACKED_SYMBOLS: &str = ".gnu_debugdata";

/// Whether a file is worth asking for names.
pub(super) fn is_sane(path: &Path) -> bool {
    let Ok(image) = File::open(path).and_then(|file| crate::sys::map_file(&file)) else {
        return false;
    };
    has_sane_sections(&image)
}

fn has_sane_sections(image: &[u8]) -> bool {
    match FileKind::parse(image) {
        Ok(FileKind::Elf64) => is_sane_elf::<FileHeader64<Endianness>>(image),
        Ok(FileKind::Elf32) => is_sane_elf::<FileHeader32<Endianness>>(image),
        _ => false,
    }
}

fn is_sane_elf<Elf: FileHeader<Endian = Endianness>>(image: &[u8]) -> bool {
    let Ok(elf) = ElfFile::<Elf>::parse(image) else { return false };
    let fits = |start: u64, length: u64| {
        start.checked_add(length).is_some_and(|end| end <= image.len() as u64)
    };
    elf.segments().all(|segment| {
        let (start, length) = segment.file_range();
        fits(start, length) && segment.address().checked_add(segment.size()).is_some()
    }) && elf.sections().all(|section| {
        let header = section.elf_section_header();
        let notes = header.notes(elf.endian(), image);
        notes.is_ok_and(|notes| notes.is_none_or(has_sane_notes)) && is_sane_section(&section)
    })
}

fn has_sane_notes<Elf: FileHeader>(mut notes: NoteIterator<'_, Elf>) -> bool {
    loop {
        match notes.next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn is_sane_section<'data>(section: &impl ObjectSection<'data>) -> bool {
    let Ok(range) = section.compressed_file_range() else { return false };
    if range.uncompressed_size > range.compressed_size.saturating_mul(MOST_EXPANSION) {
        return false;
    }
    if section.name() != Ok(PACKED_SYMBOLS) {
        return true;
    }
    let Ok(packed) = section.data() else { return false };
    let limit = (packed.len() as u64).saturating_mul(MOST_EXPANSION);
    let unpacked = xz2::read::XzDecoder::new(packed).take(limit + 1);
    io::copy(&mut { unpacked }, &mut io::sink()).is_ok_and(|bytes| bytes <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_program_is_sane_and_a_text_is_not() {
        assert!(is_sane(Path::new("/proc/self/exe")));
        assert!(!has_sane_sections(b"#!/bin/sh\n"));
        assert!(!has_sane_sections(b""));
    }
}
