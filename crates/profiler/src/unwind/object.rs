//! The unwind information of one object file: its call frame information, and the address of each
//! byte of the file.

use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder};
use gimli::BaseAddresses;
use object::{CompressionFormat, Object as _, ObjectSection, ObjectSegment, SectionKind};
use rustc_hash::FxHashMap;

use super::frames::{Frames, Kind, Stop, Verdict};
use super::machine::{Bytes, Machine};
use crate::symbolize::Image;

/// The largest section that is read. That of a browser is some 20 MB.
const MOST_BYTES: u64 = 1 << 28;

/// Code after the entry point of an object that is the outermost frame whatever covers it: in the
/// dynamic linker nothing does.
const ENTRY_BYTES: u64 = 64;

/// Bytes of the file that are mapped together.
#[derive(Clone, Copy, Debug)]
struct Segment {
    file_offset: u64,
    bytes: u64,
    address: u64,
}

/// An object that can be unwound.
pub(super) struct Unwindable<M: Machine> {
    segments: Vec<Segment>,
    entry: u64,
    frames: Frames,
    /// Of this object alone, at its own addresses, so that its rules are shared by all processes
    /// that map it, wherever.
    unwinder: M::Unwinder,
    judged: FxHashMap<u64, Verdict>,
}

/// A frame, at an address of its object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// The instruction pointer, or the return address.
    pub(super) address: u64,
    /// Where the CPU was, rather than where a call returns to.
    pub(super) exact: bool,
}

/// The caller of a frame.
pub(super) struct Caller<R> {
    pub(super) address: u64,
    /// It was interrupted rather than making a call.
    pub(super) exact: bool,
    pub(super) regs: R,
}

/// Why a stack ends at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCaller {
    /// It is the outermost.
    Root,
    /// Nothing says how to go on.
    Uninformed,
    /// This word of the stack was needed.
    Unread(u64),
    /// The stack does not go the right way.
    Astray,
}

impl<M: Machine> Unwindable<M> {
    /// Reads a file. `None` where it holds no unwind information that can be used.
    pub(super) fn read(image: &Image) -> Option<Self> {
        let file = image.elf()?;
        if !file.is_64() || !file.is_little_endian() {
            return None;
        }
        let segments: Vec<Segment> = file
            .segments()
            .map(|segment| {
                let (file_offset, bytes) = segment.file_range();
                Segment { file_offset, bytes, address: segment.address() }
            })
            .collect();
        let base = segments.iter().map(|segment| segment.address).min()?;
        let end = segments.iter().filter_map(|s| s.address.checked_add(s.bytes)).max()?;
        // framehop counts from the base in 32 bits.
        u32::try_from(end.checked_sub(base)?).ok()?;
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            let plain = section.compressed_file_range().ok()?.format == CompressionFormat::None;
            let held = section.kind() != SectionKind::UninitializedData;
            let bytes = (plain && held && section.size() <= MOST_BYTES).then(|| section.data())?;
            Some((section.address(), Bytes::from(bytes.ok()?)))
        };
        let address = |name: &str| file.section_by_name(name).map(|section| section.address());
        let eh = section(".eh_frame").filter(|(_, bytes)| !bytes.is_empty());
        let header = section(".eh_frame_hdr");
        let bases = BaseAddresses::default()
            .set_eh_frame(eh.as_ref().map_or(0, |(address, _)| *address))
            .set_eh_frame_hdr(header.as_ref().map_or(0, |(address, _)| *address))
            .set_text(address(".text").unwrap_or(0))
            .set_got(address(".got").unwrap_or(0));
        let mut info = ExplicitModuleSectionInfo::<Bytes> {
            base_svma: base,
            text_svma: address(".text").map(|start| start..start),
            got_svma: address(".got").map(|start| start..start),
            ..ExplicitModuleSectionInfo::default()
        };
        let frames = if let Some((start, bytes)) = eh {
            info.eh_frame_svma = Some(start..start + bytes.len() as u64);
            info.eh_frame = Some(bytes.clone());
            let frames = Frames::new(Kind::Eh, bytes, header.as_ref().map(|h| h.1.clone()), bases)?;
            if let (Some(bytes), Some((start, _))) = (frames.header(), header) {
                info.eh_frame_hdr_svma = Some(start..start + bytes.len() as u64);
                info.eh_frame_hdr = Some(bytes.clone());
            }
            frames
        } else {
            let (_, bytes) = section(".debug_frame")?;
            info.debug_frame = Some(bytes.clone());
            Frames::new(Kind::Debug, bytes, None, bases)?
        };
        // framehop makes no index at all where one entry is out of its range.
        let in_range = |start: u64| {
            start.checked_sub(base).is_some_and(|offset| u32::try_from(offset).is_ok())
        };
        if !frames.starts().iter().all(|&(start, _)| in_range(start)) {
            return None;
        }
        let mut unwinder = M::Unwinder::default();
        unwinder.add_module(framehop::Module::new(String::new(), base..end, base, info));
        let entry = file.entry();
        Some(Unwindable { segments, entry, frames, unwinder, judged: FxHashMap::default() })
    }

    /// The object's own address of a byte of its file.
    pub(super) fn address(&self, file_offset: u64) -> Option<u64> {
        let within = |s: &&Segment| {
            (s.file_offset..s.file_offset.saturating_add(s.bytes)).contains(&file_offset)
        };
        let segment = self.segments.iter().find(within)?;
        segment.address.checked_add(file_offset - segment.file_offset)
    }

    /// The caller of a frame.
    pub(super) fn caller(
        &mut self,
        site: Site,
        mut regs: M::Regs,
        cache: &mut M::Cache,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Caller<M::Regs>, NoCaller> {
        let mut lookup = site.address.wrapping_sub(u64::from(!site.exact));
        let mut verdict = self.judge(lookup);
        if verdict == Verdict::Uncovered && site.exact {
            // A thread in the system call that ends a signal is right behind its last instruction.
            let before = lookup.wrapping_sub(1);
            if let found @ Verdict::Expressed { signal: true } = self.judge(before) {
                (verdict, lookup) = (found, before);
            }
        }
        match verdict {
            Verdict::Plain => {
                let frame = match site.exact {
                    true => FrameAddress::from_instruction_pointer(site.address),
                    false => {
                        FrameAddress::from_return_address(site.address).ok_or(NoCaller::Astray)?
                    }
                };
                match self.unwinder.unwind_frame(frame, &mut regs, cache, read) {
                    Ok(Some(address)) => Ok(Caller { address, exact: false, regs }),
                    Ok(None) => Err(NoCaller::Root),
                    Err(framehop::Error::CouldNotReadStack(at)) => Err(NoCaller::Unread(at)),
                    Err(_) => Err(NoCaller::Astray),
                }
            }
            Verdict::Expressed { signal } => {
                let before = M::get(&regs, M::STACK_POINTER);
                match self.frames.caller::<M>(lookup, &regs, read) {
                    // Another stack may lie anywhere, but only a signal's handler has one.
                    Ok((_, next)) if !signal && M::get(&next, M::STACK_POINTER) <= before => {
                        Err(NoCaller::Astray)
                    }
                    Ok((address, regs)) => Ok(Caller { address, exact: signal, regs }),
                    Err(Stop::Root) => Err(NoCaller::Root),
                    Err(Stop::Unread(at)) => Err(NoCaller::Unread(at)),
                    Err(Stop::Unknown) => Err(NoCaller::Uninformed),
                }
            }
            Verdict::Uncovered => {
                let behind_entry = lookup.wrapping_sub(self.entry) < ENTRY_BYTES;
                Err(if behind_entry { NoCaller::Root } else { NoCaller::Uninformed })
            }
        }
    }

    fn judge(&mut self, address: u64) -> Verdict {
        if let Some(&verdict) = self.judged.get(&address) {
            return verdict;
        }
        let verdict = self.frames.judge::<M>(address);
        self.judged.insert(address, verdict);
        verdict
    }
}
