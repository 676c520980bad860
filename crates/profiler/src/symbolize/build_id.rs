//! Build ids: which build of a program or kernel names were taken from.

use std::path::Path;

/// Of an ELF file, in hexadecimal. `None` where it has none.
pub(super) fn of_file(path: &Path) -> Option<String> {
    blazesym::helper::read_elf_build_id(path).ok().flatten().map(|id| hex(&id))
}

/// Of the running kernel.
pub(super) fn of_kernel() -> Option<String> {
    of_notes(&std::fs::read("/sys/kernel/notes").ok()?)
}

/// `NT_GNU_BUILD_ID`.
const BUILD_ID: u32 = 3;

/// An ELF note: sizes of name and description, type, then both, each padded to four bytes.
fn of_notes(mut notes: &[u8]) -> Option<String> {
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| {
            u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
        };
        let (name_bytes, bytes) = (word(0), word(4));
        let name = rest.get(..name_bytes)?;
        let rest = rest.get(name_bytes.next_multiple_of(4)..)?;
        if word(8) == BUILD_ID as usize && name == b"GNU\0" {
            return rest.get(..bytes).map(hex);
        }
        notes = rest.get(bytes.next_multiple_of(4)..)?;
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_among_other_notes() {
        let note = |kind: u32, name: &[u8], bytes: &[u8]| {
            let mut note = Vec::new();
            for word in [name.len() as u32, bytes.len() as u32, kind] {
                note.extend(word.to_ne_bytes());
            }
            for part in [name, bytes] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let mut notes = note(6, b"Xen\0", b"linux");
        notes.extend(note(3, b"GNU\0", &[0x12, 0xab, 0xff]));
        assert_eq!(of_notes(&notes).as_deref(), Some("12abff"));
        for cut in 0..notes.len() - 4 {
            assert_eq!(of_notes(&notes[..cut]), None);
        }
    }
}
