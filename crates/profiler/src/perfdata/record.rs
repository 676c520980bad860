//! Records as the kernel lays them out, and what the analysis reads from them.
//!
//! Parsing is ours, over byte slices, for three reasons: it has to say where a bad record lies, it
//! has to survive untrusted files without a panic, and it is the hot path of the analysis.

use super::build_ids::FileBuildId;
use super::cursor::Cursor;
pub(crate) use super::framing::MOST_TIME;
pub use super::framing::{
    CONTEXT_KERNEL, CONTEXT_MAX, CONTEXT_USER, RECORD_HEADER, Record, kind, misc, split_record,
};
use super::layout::{Layout, Sample};
use crate::build_id::BuildId;

/// An executable mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// Process; -1 for the kernel.
    pub pid: i32,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Offset in the file.
    pub file_offset: u64,
    /// Major and minor number of the file's device; zeros where not known.
    pub device: (u32, u32),
    /// Inode of the file; 0 where it is none, or is not known.
    pub inode: u64,
    /// Generation of the inode, which other files may have had before; 0 where not known.
    pub generation: u64,
    /// In place of device and inode, which build of the file it is.
    pub build_id: Option<BuildId>,
    /// Path, or `[vdso]`, `//anon`, `[kernel.kallsyms]_text`.
    pub path: &'a [u8],
}

/// Code that the kernel made at run time: a BPF program, a trampoline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSymbol<'a> {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u32,
    /// It goes, rather than comes.
    pub unregistered: bool,
    /// `bpf_prog_6deef7357e7b4530_sd_fw_egress`.
    pub name: &'a [u8],
}

/// `PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER`.
const KSYMBOL_UNREGISTER: u16 = 1;

/// A new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comm<'a> {
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// The name.
    pub name: &'a [u8],
    /// Set by exec, which also empties the address space.
    pub exec: bool,
}

/// A new thread or process, or the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Process.
    pub pid: i32,
    /// Its parent's.
    pub parent_pid: i32,
    /// Thread.
    pub tid: i32,
    /// The thread that made it.
    pub parent_tid: i32,
}

/// What the analysis reads from a record.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// A sample.
    Sample(Sample<'a>),
    /// An executable mapping.
    Mapping(Mapping<'a>),
    /// Code of the kernel's that came or went.
    KernelSymbol(KernelSymbol<'a>),
    /// Which build a file is.
    BuildId(FileBuildId<'a>),
    /// A new name.
    Comm(Comm<'a>),
    /// A new thread or process.
    Fork(Task),
    /// The end of a thread.
    Exit(Task),
    /// The number of records that had no room in a ring, reported with the next record that had.
    Lost {
        /// The id of that event.
        id: u64,
        /// How many.
        count: u64,
    },
    /// So many samples of the event lost: counted by the event, or left out by its PMU.
    LostSamples(u64),
    /// The event was stopped for going too fast.
    Throttle,
    /// A thread left its CPU (`out`) or got one back.
    Switch {
        /// Left it.
        out: bool,
        /// Left it while still runnable.
        preempted: bool,
    },
    /// Nothing the analysis needs.
    Other,
}

/// The build id in a mapping record: its size in four bytes, then 20, filled up with zeros.
///
/// `None` for what is none, although the record says so. The kernel leaves that bit set in the header
/// for the events that come after one that asked for build ids (`perf_event_mmap_output` in
/// kernel/events/core.c, v6.18), and writes device and inode for those that did not: so a profiler
/// that asks spoils the recordings of others, and perf 6.1 crashes at them.
fn build_id_of_mapping(identity: &[u8]) -> Option<BuildId> {
    let (size, id) = identity.split_first_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
    let (id, padding) = id.split_at_checked(size)?;
    padding.iter().all(|&byte| byte == 0).then(|| BuildId::new(id))?
}

/// Parses a record's body; `None` where it is shorter than its kind has to be.
#[inline]
pub fn parse<'a>(record: &Record<'a>, layout: Layout) -> Option<Parsed<'a>> {
    let mut at = Cursor(record.body);
    Some(match record.kind {
        kind::SAMPLE => Parsed::Sample(layout.sample(record.body)?),
        kind::MMAP | kind::MMAP2 => {
            let pid = at.i32()?;
            at.i32()?;
            let (start, length, file_offset) = (at.u64()?, at.u64()?, at.u64()?);
            let (mut device, mut inode, mut generation, mut build_id) = ((0, 0), 0, 0, None);
            let mut executable = record.misc & misc::MMAP_DATA == 0;
            if record.kind == kind::MMAP2 {
                // Device, inode and generation, or a build id: 24 bytes either way.
                let identity = at.bytes(24)?;
                if record.misc & misc::MMAP_BUILD_ID != 0 {
                    build_id = build_id_of_mapping(identity);
                }
                if build_id.is_none() {
                    let mut identity = Cursor(identity);
                    device = (identity.u32()?, identity.u32()?);
                    inode = identity.u64()?;
                    generation = identity.u64()?;
                }
                let protection = at.u32()?;
                at.u32()?;
                executable &= protection & libc::PROT_EXEC as u32 != 0;
            }
            let path = at.string()?;
            if !executable {
                return Some(Parsed::Other);
            }
            Parsed::Mapping(Mapping {
                pid,
                start,
                length,
                file_offset,
                device,
                inode,
                generation,
                build_id,
                path,
            })
        }
        kind::KSYMBOL => {
            let (start, length) = (at.u64()?, at.u32()?);
            let type_and_flags = at.u32()?.to_ne_bytes();
            let flags = u16::from_ne_bytes([type_and_flags[2], type_and_flags[3]]);
            let unregistered = flags & KSYMBOL_UNREGISTER != 0;
            Parsed::KernelSymbol(KernelSymbol { start, length, unregistered, name: at.string()? })
        }
        kind::HEADER_BUILD_ID => Parsed::BuildId(FileBuildId::parse(record)?),
        kind::COMM => Parsed::Comm(Comm {
            pid: at.i32()?,
            tid: at.i32()?,
            name: at.string()?,
            exec: record.misc & misc::COMM_EXEC != 0,
        }),
        kind::FORK | kind::EXIT => {
            let task = Task {
                pid: at.i32()?,
                parent_pid: at.i32()?,
                tid: at.i32()?,
                parent_tid: at.i32()?,
            };
            if record.kind == kind::FORK { Parsed::Fork(task) } else { Parsed::Exit(task) }
        }
        kind::LOST => Parsed::Lost { id: at.u64()?, count: at.u64()? },
        // What a filter left out is not lost.
        kind::LOST_SAMPLES if record.misc & misc::LOST_SAMPLES_BPF != 0 => Parsed::Other,
        kind::LOST_SAMPLES => Parsed::LostSamples(at.u64()?),
        kind::THROTTLE => Parsed::Throttle,
        kind::SWITCH | kind::SWITCH_CPU_WIDE => Parsed::Switch {
            out: record.misc & misc::SWITCH_OUT != 0,
            preempted: record.misc & misc::SWITCH_OUT_PREEMPT != 0,
        },
        _ => Parsed::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::sample_type;
    use crate::perfdata::synthesizer::Synthesizer;

    const TYPE: u64 = sample_type::IDENTIFIER | sample_type::TID | sample_type::TIME;

    #[test]
    fn a_device_and_an_inode_are_no_build_id_whatever_the_header_says() {
        let layout = Layout::new(TYPE, 0, true);
        let made = Synthesizer::new(TYPE, 77, 5);
        for (device, generation) in [((254, 0), 0), ((8, 1), 77), ((0, 40), 0)] {
            let path = b"/usr/bin/a";
            let file = Mapping { device, inode: 325_843, generation, path, ..Mapping::default() };
            let mut bytes = made.mmap2(&file);
            bytes[5] |= (misc::MMAP_BUILD_ID >> 8) as u8;
            let (record, _) = split_record(&bytes).unwrap();
            assert!(matches!(parse(&record, layout), Some(Parsed::Mapping(m)) if m == file));
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_none_and_never_a_panic() {
        let layout = Layout::new(TYPE, 0, true);
        let made = Synthesizer::new(TYPE, 77, 5);
        let path = b"/usr/lib/libc.so.6";
        let mapping = Mapping { pid: 1, path, ..Mapping::default() };
        let whole = made.mmap2(&mapping);
        for cut in 0..whole.len() {
            assert!(split_record(&whole[..cut]).is_none());
            let record = Record {
                kind: kind::MMAP2,
                misc: 0,
                body: &whole[RECORD_HEADER..][..cut.saturating_sub(RECORD_HEADER)],
            };
            let _ = parse(&record, layout);
            let _ = layout.sample_id(&record);
        }
        let size_too_small = [9, 0, 0, 0, 0, 0, 7, 0];
        assert!(split_record(&size_too_small).is_none());
    }
}
