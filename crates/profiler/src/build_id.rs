//! Build ids: they identify a build of a program, library or kernel.

use std::fmt;

use object::Object as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a linker writes into `.note.gnu.build-id`, up to the 20 bytes that the kernel and perf keep
/// (`BUILD_ID_SIZE_MAX` in include/linux/buildid.h, v6.18).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId {
    bytes: [u8; BuildId::MOST_BYTES],
    length: u8,
}

impl BuildId {
    /// Bytes of the longest.
    pub const MOST_BYTES: usize = 20;

    /// From the bytes of a note. `None` for an empty one, and for zeros, which tools leave where
    /// they found none.
    pub fn new(id: &[u8]) -> Option<Self> {
        let id = &id[..id.len().min(Self::MOST_BYTES)];
        let mut bytes = [0; Self::MOST_BYTES];
        bytes[..id.len()].copy_from_slice(id);
        let length = id.len() as u8;
        id.iter().any(|&byte| byte != 0).then_some(BuildId { bytes, length })
    }

    /// From a field of 20 bytes that does not say how many of them count: linkers make 20 (SHA-1),
    /// 16 (MD5, UUID) and 8 (`--build-id=fast`), and perf fills up with zeros.
    pub fn of_unknown_length(field: &[u8; Self::MOST_BYTES]) -> Option<Self> {
        let length = [8, 16].into_iter().find(|&length| field[length..].iter().all(|&b| b == 0));
        Self::new(&field[..length.unwrap_or(Self::MOST_BYTES)])
    }

    /// From hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let pairs = text.as_bytes().chunks(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
            u8::from_str_radix(digits, 16).ok()
        });
        Self::new(&pairs.collect::<Option<Vec<u8>>>()?)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Of an ELF file.
    pub(crate) fn of(elf: &object::File<'_>) -> Option<Self> {
        Self::new(elf.build_id().ok().flatten()?)
    }

    /// Of the running kernel.
    pub(crate) fn of_kernel() -> Option<Self> {
        Self::in_notes(&std::fs::read("/sys/kernel/notes").ok()?)
    }

    /// Of a module of the running kernel.
    pub(crate) fn of_module(name: &str) -> Option<Self> {
        let path = format!("/sys/module/{name}/notes/.note.gnu.build-id");
        Self::in_notes(&std::fs::read(path).ok()?)
    }

    /// The first of ELF notes: sizes of name and description, type, then both, each padded to four
    /// bytes.
    fn in_notes(mut notes: &[u8]) -> Option<Self> {
        loop {
            let (head, rest) = notes.split_first_chunk::<12>()?;
            let word = |at: usize| {
                u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
            };
            let (name_bytes, bytes) = (word(0), word(4));
            let name = rest.get(..name_bytes)?;
            let rest = rest.get(name_bytes.next_multiple_of(4)..)?;
            if word(8) == NT_GNU_BUILD_ID && name == b"GNU\0" {
                return rest.get(..bytes).and_then(Self::new);
            }
            notes = rest.get(bytes.next_multiple_of(4)..)?;
        }
    }
}

/// The type of the note.
const NT_GNU_BUILD_ID: usize = 3;

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BuildId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BuildId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BuildId::parse(&text).ok_or_else(|| serde::de::Error::custom("not a build id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_found_among_other_notes() {
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
        let found = BuildId::in_notes(&notes).unwrap();
        assert_eq!(found.to_string(), "12abff");
        for cut in 0..notes.len() - 4 {
            assert_eq!(BuildId::in_notes(&notes[..cut]), None);
        }
    }

    #[test]
    fn a_padded_build_id_equals_the_one_that_was_padded() {
        let mut field = [0; 20];
        field[..16].copy_from_slice(&[7; 16]);
        assert_eq!(BuildId::of_unknown_length(&field), BuildId::new(&[7; 16]));
        assert_eq!(BuildId::of_unknown_length(&[9; 20]), BuildId::new(&[9; 20]));
        assert_eq!(BuildId::of_unknown_length(&[0; 20]), None);
        assert_eq!(BuildId::new(&[]), None);
    }

    #[test]
    fn hexadecimal_digits_parse_back() {
        let id = BuildId::new(&[0xab, 1, 0]).unwrap();
        assert_eq!(BuildId::parse(&id.to_string()), Some(id));
        for bad in ["", "a", "abc", "xy", "0000"] {
            assert_eq!(BuildId::parse(bad), None, "{bad}");
        }
    }
}
