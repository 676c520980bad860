//! Records for what was there before the events were, as perf makes them.

use super::record::{KernelSymbol, Mapping, RECORD_HEADER, kind, misc};
use crate::attr::sample_type;
use crate::symbolize::BuildId;

/// `PERF_RECORD_KSYMBOL_TYPE_BPF`.
const KSYMBOL_BPF: u16 = 1;

/// Builds records for what was there before the events were, as perf does.
#[derive(Debug)]
pub struct Synthesizer {
    sample_type: u64,
    time_ns: u64,
    event_id: u64,
}

impl Synthesizer {
    /// Records of an event with this sample type and id, all at one time.
    pub fn new(sample_type: u64, time_ns: u64, event_id: u64) -> Self {
        Synthesizer { sample_type, time_ns, event_id }
    }

    /// A name; set by exec, the address space is empty after it.
    pub fn comm(&self, pid: i32, tid: i32, name: &[u8], exec: bool) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&pid.to_ne_bytes());
        body.extend_from_slice(&tid.to_ne_bytes());
        push_string(&mut body, name);
        self.finish(kind::COMM, if exec { misc::COMM_EXEC } else { 0 }, pid, tid, body)
    }

    /// A thread of a process, made by another process or by itself.
    pub fn fork(&self, parent: i32, pid: i32, tid: i32) -> Vec<u8> {
        let mut body = Vec::new();
        for id in [pid, parent, tid, parent] {
            body.extend_from_slice(&id.to_ne_bytes());
        }
        body.extend_from_slice(&self.time_ns.to_ne_bytes());
        self.finish(kind::FORK, 0, pid, tid, body)
    }

    /// An executable mapping of a process.
    pub fn mmap2(&self, mapping: &Mapping<'_>) -> Vec<u8> {
        let (body, misc) = mapping_body(mapping);
        self.finish(kind::MMAP2, misc::USER | misc, mapping.pid, mapping.pid, body)
    }

    /// The kernel's text or a module, as perf names it: `[kernel.kallsyms]_text`, `[ext4]`.
    pub fn kernel_mmap(&self, mapping: &Mapping<'_>) -> Vec<u8> {
        let (body, misc) = mapping_body(mapping);
        self.finish(kind::MMAP2, misc::KERNEL | misc, -1, 0, body)
    }

    /// Code that the kernel has made.
    pub fn kernel_symbol(&self, symbol: &KernelSymbol<'_>) -> Vec<u8> {
        let mut body = symbol.start.to_ne_bytes().to_vec();
        body.extend_from_slice(&symbol.length.to_ne_bytes());
        body.extend_from_slice(&KSYMBOL_BPF.to_ne_bytes());
        body.extend_from_slice(&u16::from(symbol.unregistered).to_ne_bytes());
        push_string(&mut body, symbol.name);
        self.finish(kind::KSYMBOL, misc::KERNEL, -1, 0, body)
    }

    fn finish(&self, kind: u32, misc: u16, pid: i32, tid: i32, mut body: Vec<u8>) -> Vec<u8> {
        let has = |bit| self.sample_type & bit != 0;
        if has(sample_type::TID) {
            body.extend_from_slice(&pid.to_ne_bytes());
            body.extend_from_slice(&tid.to_ne_bytes());
        }
        if has(sample_type::TIME) {
            body.extend_from_slice(&self.time_ns.to_ne_bytes());
        }
        if has(sample_type::CPU) {
            body.extend_from_slice(&0u64.to_ne_bytes());
        }
        if has(sample_type::IDENTIFIER) {
            body.extend_from_slice(&self.event_id.to_ne_bytes());
        }
        let size = u16::try_from(RECORD_HEADER + body.len()).unwrap_or(u16::MAX);
        let mut record = Vec::with_capacity(usize::from(size));
        record.extend_from_slice(&kind.to_ne_bytes());
        record.extend_from_slice(&misc.to_ne_bytes());
        record.extend_from_slice(&size.to_ne_bytes());
        record.extend_from_slice(&body);
        record
    }
}

/// The body of a mapping, up to the common fields, and what its header has to say of it.
fn mapping_body(mapping: &Mapping<'_>) -> (Vec<u8>, u16) {
    let mut body = Vec::with_capacity(64 + mapping.path.len());
    body.extend_from_slice(&mapping.pid.to_ne_bytes());
    body.extend_from_slice(&if mapping.pid < 0 { 0 } else { mapping.pid }.to_ne_bytes());
    body.extend_from_slice(&mapping.start.to_ne_bytes());
    body.extend_from_slice(&mapping.length.to_ne_bytes());
    body.extend_from_slice(&mapping.file_offset.to_ne_bytes());
    let misc = if let Some(id) = &mapping.build_id {
        let id = id.as_bytes();
        body.extend_from_slice(&[id.len() as u8, 0, 0, 0]);
        body.extend_from_slice(id);
        body.resize(body.len() + BuildId::MOST_BYTES - id.len(), 0);
        misc::MMAP_BUILD_ID
    } else {
        body.extend_from_slice(&mapping.device.0.to_ne_bytes());
        body.extend_from_slice(&mapping.device.1.to_ne_bytes());
        body.extend_from_slice(&mapping.inode.to_ne_bytes());
        body.extend_from_slice(&mapping.generation.to_ne_bytes());
        0
    };
    body.extend_from_slice(&((libc::PROT_READ | libc::PROT_EXEC) as u32).to_ne_bytes());
    body.extend_from_slice(&(libc::MAP_PRIVATE as u32).to_ne_bytes());
    push_string(&mut body, mapping.path);
    (body, misc)
}

/// A string of at most `PATH_MAX` bytes with its NUL, padded to eight as the kernel does.
fn push_string(body: &mut Vec<u8>, string: &[u8]) {
    let string = &string[..string.len().min(libc::PATH_MAX as usize)];
    body.extend_from_slice(string);
    let padded = (string.len() + 1).next_multiple_of(8);
    body.resize(body.len() + padded - string.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perfdata::layout::Layout;
    use crate::perfdata::record::{Parsed, parse, split_record};

    const TYPE: u64 =
        sample_type::IDENTIFIER | sample_type::TID | sample_type::TIME | sample_type::CPU;

    #[test]
    fn what_is_synthesised_parses_back() {
        let layout = Layout::new(TYPE, 0, true);
        let made = Synthesizer::new(TYPE, 77, 5);
        let mapping = Mapping {
            pid: 12,
            start: 0x1000,
            length: 0x2000,
            file_offset: 0x3000,
            device: (8, 1),
            inode: 99,
            generation: 3,
            build_id: None,
            path: b"/a b",
        };
        let bytes = made.mmap2(&mapping);
        let (record, size) = split_record(&bytes).unwrap();
        assert_eq!(size, bytes.len());
        assert!(size.is_multiple_of(8));
        assert!(matches!(parse(&record, layout), Some(Parsed::Mapping(m)) if m == mapping));
        assert_eq!(layout.time(&record), Some(77));
        let id = layout.sample_id(&record);
        assert_eq!((id.pid, id.id), (Some(12), Some(5)));

        let identified = Mapping {
            device: (0, 0),
            inode: 0,
            generation: 0,
            build_id: BuildId::new(&[7; 16]),
            ..mapping
        };
        let bytes = made.mmap2(&identified);
        let (record, _) = split_record(&bytes).unwrap();
        assert!(matches!(parse(&record, layout), Some(Parsed::Mapping(m)) if m == identified));

        let code =
            KernelSymbol { start: 0x4000, length: 9, unregistered: true, name: b"bpf_prog_x" };
        let bytes = made.kernel_symbol(&code);
        let (record, _) = split_record(&bytes).unwrap();
        assert!(matches!(parse(&record, layout), Some(Parsed::KernelSymbol(s)) if s == code));

        let bytes = made.comm(3, 4, b"name", false);
        let (record, _) = split_record(&bytes).unwrap();
        let Some(Parsed::Comm(comm)) = parse(&record, layout) else { panic!() };
        assert_eq!((comm.pid, comm.tid, comm.name, comm.exec), (3, 4, &b"name"[..], false));
    }
}
