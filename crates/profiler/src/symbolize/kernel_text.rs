//! Reads the running kernel's code from `/proc/kcore`, to see which function a call goes to.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use pipeprof_runner::access;

/// The kernel's memory as a core file (`fs/proc/kcore.c`). Reading it takes `CAP_SYS_RAWIO`, and a
/// kernel that is locked down, or was built without it, has none.
#[derive(Debug)]
pub(super) struct KernelText {
    file: File,
    machine: Machine,
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    addresses: Range<u64>,
    offset: u64,
}

/// Whose instructions they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    X86_64,
    Arm64,
}

/// Of the file's header, and of each of its segments (elf.h).
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const LOADED: u32 = 1;

/// The longest call that is decoded.
const CALL_BYTES: usize = 5;

impl KernelText {
    /// Of the running kernel; `None` where it may not be read.
    pub(super) fn open() -> Option<Self> {
        Self::of(access::with_rights(|| File::open("/proc/kcore")).ok()?)
    }

    fn of(file: File) -> Option<Self> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let is_elf_64 = header.starts_with(b"\x7fELF\x02");
        let machine = match u16::from_ne_bytes(field(&header, 18)) {
            62 => Machine::X86_64,
            183 => Machine::Arm64,
            _ => return None,
        };
        let at = u64::from_ne_bytes(field(&header, 32));
        let each = usize::from(u16::from_ne_bytes(field(&header, 54)));
        let count = usize::from(u16::from_ne_bytes(field(&header, 56)));
        if !is_elf_64 || each != SEGMENT_BYTES {
            return None;
        }
        let mut table = vec![0; each * count];
        file.read_exact_at(&mut table, at).ok()?;
        let segment = |entry: &[u8]| {
            let start = u64::from_ne_bytes(field(entry, 16));
            let end = start.checked_add(u64::from_ne_bytes(field(entry, 32)))?;
            let offset = u64::from_ne_bytes(field(entry, 8));
            let is_loaded = u32::from_ne_bytes(field(entry, 0)) == LOADED;
            is_loaded.then_some(Segment { addresses: start..end, offset })
        };
        let segments = table.chunks_exact(each).filter_map(segment).collect();
        Some(KernelText { file, machine, segments })
    }

    /// Where the call goes that returns to this address; `None` where the address is not behind a
    /// call, or behind one through a register.
    pub(super) fn target(&self, return_address: u64) -> Option<u64> {
        let from = return_address.checked_sub(CALL_BYTES as u64)?;
        let holds = |segment: &&Segment| {
            segment.addresses.contains(&from) && return_address <= segment.addresses.end
        };
        let segment = self.segments.iter().find(holds)?;
        let mut code = [0; CALL_BYTES];
        let at = segment.offset.checked_add(from - segment.addresses.start)?;
        access::with_rights(|| self.file.read_exact_at(&mut code, at)).ok()?;
        target(self.machine, code, return_address)
    }
}

/// The bytes of a field, which lies within.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Where the call goes whose last byte is the last of `code`.
fn target(machine: Machine, code: [u8; CALL_BYTES], return_address: u64) -> Option<u64> {
    match machine {
        // `call rel32`, Intel's manual, volume 2: the distance is from the next instruction.
        Machine::X86_64 => {
            let distance = i32::from_le_bytes(field(&code, 1));
            (code[0] == 0xe8).then(|| return_address.wrapping_add_signed(distance.into()))
        }
        // `BL`, Arm's manual: 26 bits of words from the instruction itself.
        Machine::Arm64 => {
            let instruction = u32::from_le_bytes(field(&code, 1));
            let words = (instruction << 6).cast_signed() >> 6;
            let distance = i64::from(words) * 4 - 4;
            (instruction >> 26 == 0b10_0101).then(|| return_address.wrapping_add_signed(distance))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn calls_of_both_machines() {
        let after = 0xffff_ffff_8100_1005;
        let forth = [0xe8, 0xfb, 0x0f, 0, 0];
        assert_eq!(target(Machine::X86_64, forth, after), Some(0xffff_ffff_8100_2000));
        let back = [0xe8, 0xfb, 0xef, 0xff, 0xff];
        assert_eq!(target(Machine::X86_64, back, after), Some(0xffff_ffff_8100_0000));
        // call *%rax, call *0x0(%rip).
        assert_eq!(target(Machine::X86_64, [0x90, 0x90, 0x90, 0xff, 0xd0], after), None);
        assert_eq!(target(Machine::X86_64, [0x15, 0, 0, 0, 0], after), None);

        let after = 0xffff_8000_1000_0010;
        let arm = |instruction: u32| {
            let [a, b, c, d] = instruction.to_le_bytes();
            target(Machine::Arm64, [0, a, b, c, d], after)
        };
        // bl .+0x100, bl .-0x10, blr x8.
        assert_eq!(arm(0x9400_0040), Some(0xffff_8000_1000_010c));
        assert_eq!(arm(0x97ff_fffc), Some(0xffff_8000_0fff_fffc));
        assert_eq!(arm(0xd63f_0100), None);
    }

    /// A core file with one segment.
    fn core(start: u64, code: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut header = vec![0; HEADER_BYTES + SEGMENT_BYTES];
        header[..5].copy_from_slice(b"\x7fELF\x02");
        header[18..20].copy_from_slice(&62u16.to_ne_bytes());
        header[32..40].copy_from_slice(&(HEADER_BYTES as u64).to_ne_bytes());
        header[54..56].copy_from_slice(&(SEGMENT_BYTES as u16).to_ne_bytes());
        header[56..58].copy_from_slice(&1u16.to_ne_bytes());
        let segment = &mut header[HEADER_BYTES..];
        segment[..4].copy_from_slice(&LOADED.to_ne_bytes());
        segment[8..16].copy_from_slice(&((HEADER_BYTES + SEGMENT_BYTES) as u64).to_ne_bytes());
        segment[16..24].copy_from_slice(&start.to_ne_bytes());
        segment[32..40].copy_from_slice(&(code.len() as u64).to_ne_bytes());
        file.write_all(&header).unwrap();
        file.write_all(code).unwrap();
        file
    }

    #[test]
    fn a_call_is_read_where_its_segment_lies() {
        let start = 0xffff_ffff_8100_0000;
        let text = KernelText::of(core(start, &[0x90, 0xe8, 0x0a, 0, 0, 0, 0x90])).unwrap();
        assert_eq!(text.target(start + 6), Some(start + 16));
        for outside in [0, start, start + 4, start + 7, start + 8, start + 4096] {
            assert_eq!(text.target(outside), None, "{outside:x}");
        }
    }

    #[test]
    fn what_is_no_core_file_has_no_code() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(KernelText::of(file.try_clone().unwrap()).is_none());
        file.write_all(&[0x7f; 200]).unwrap();
        assert!(KernelText::of(file).is_none());
    }
}
