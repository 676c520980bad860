//! Turns raw addresses into frames: collects the distinct ones, and has each named once, object by
//! object.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::address_space::{AddressSpaces, SpaceId};
use crate::kernel_code::RuntimeCodeId;
use crate::perfdata::build_ids::BuildIds;
use crate::profile::{Frame, FrameId, FrameKind, Mode, Profile};
use crate::symbolize::{Function, Functions, Object, Symbolizer};

/// An address of a call chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RawFrame {
    place: Place,
    address: u64,
    /// Where the CPU was, rather than where a call returns to.
    exact: bool,
}

/// What gives an address its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    /// The kernel, with what it had made at run time.
    Kernel(RuntimeCodeId),
    User(SpaceId),
}

impl RawFrame {
    /// In the kernel, beneath a user space of that state.
    pub(crate) fn kernel(
        spaces: &AddressSpaces,
        space: SpaceId,
        address: u64,
        exact: bool,
    ) -> Self {
        let frame = RawFrame { place: Place::Kernel(RuntimeCodeId::default()), address, exact };
        RawFrame { place: Place::Kernel(spaces.runtime_code_at(space, frame.lookup())), ..frame }
    }

    /// In user space.
    pub(crate) fn user(space: SpaceId, address: u64, exact: bool) -> Self {
        RawFrame { place: Place::User(space), address, exact }
    }

    /// The address to look up. A return address may be the first byte after its function, where a
    /// call that never returns was the last instruction, so the byte before it is asked for.
    fn lookup(self) -> u64 {
        self.address.wrapping_sub(self.back())
    }

    fn back(self) -> u64 {
        u64::from(!self.exact)
    }
}

/// The result for an address.
#[derive(Clone, Debug)]
enum Resolved {
    /// Frames, innermost first.
    Frames(Vec<FrameId>),
    /// A caller that lies in no executable mapping, so it is none.
    NotCode,
}

/// How the kernel proper is called where objects have paths.
const KERNEL: &str = "[kernel.kallsyms]";

/// Resolves the addresses of one recording.
pub(crate) struct Resolver<'a> {
    spaces: &'a AddressSpaces,
    build_ids: &'a BuildIds,
    resolved: FxHashMap<RawFrame, Option<Resolved>>,
}

impl<'a> Resolver<'a> {
    /// Knows no address yet.
    pub(crate) fn new(spaces: &'a AddressSpaces, build_ids: &'a BuildIds) -> Self {
        Resolver { spaces, build_ids, resolved: FxHashMap::default() }
    }

    /// Announces an address.
    pub(crate) fn want(&mut self, frame: RawFrame) {
        self.resolved.entry(frame).or_insert(None);
    }

    /// Names all announced addresses and puts their frames into the profile.
    pub(crate) fn resolve(&mut self, symbolizer: &mut dyn Symbolizer, profile: &mut Profile) {
        // Sorted, so that a profile does not depend on the order of a hash table.
        let mut wanted: Vec<RawFrame> = self.resolved.keys().copied().collect();
        wanted.sort_by_key(|frame| (frame.place, frame.address, frame.exact));
        let mut kernel = Vec::new();
        let mut objects: BTreeMap<Arc<Object>, Vec<(RawFrame, u64)>> = BTreeMap::new();
        for frame in wanted {
            let space = match frame.place {
                Place::User(space) => space,
                Place::Kernel(made) => {
                    match self.spaces.runtime_code(made, frame.lookup()) {
                        Some((name, offset)) => self.put_made(frame, name, offset, profile),
                        None => kernel.push(frame),
                    }
                    continue;
                }
            };
            if let Some(found) = self.spaces.locate(space, frame.lookup()) {
                objects.entry(found.object).or_default().push((frame, found.file_offset));
            } else if frame.exact {
                let id = profile.intern_frame(unknown(Mode::User, "[unknown]", None));
                self.resolved.insert(frame, Some(Resolved::Frames(vec![id])));
            } else {
                self.resolved.insert(frame, Some(Resolved::NotCode));
            }
        }
        let kernel: Vec<_> = kernel.into_iter().map(|frame| (frame, frame.lookup())).collect();
        let named = name_each(&kernel, |addresses| symbolizer.kernel(addresses));
        if let Some(id) = symbolizer.kernel_build_id().filter(|_| !kernel.is_empty()) {
            profile.build_ids.insert(KERNEL.into(), id.to_string());
        }
        let callers = kernel.iter().map(|&(frame, _)| frame).filter(|frame| !frame.exact);
        let callers: Vec<RawFrame> = callers.collect();
        for frame in kernel {
            self.put(frame, &named, profile, Mode::Kernel, KERNEL, "[kernel]");
        }
        let addresses: Vec<u64> = callers.iter().map(|caller| caller.address).collect();
        for (caller, callee) in callers.iter().zip(symbolizer.kernel_callees(&addresses)) {
            if let (Some(callee), Some(Some(Resolved::Frames(frames)))) =
                (callee, self.resolved.get(caller))
                && let Some(&id) = frames.last()
            {
                profile.set_callee(id, callee);
            }
        }
        for (object, frames) in objects {
            let object = self.build_ids.applied(&object);
            let named = name_each(&frames, |offsets| symbolizer.object(&object, offsets));
            let module = String::from_utf8_lossy(&object.path);
            let name = bracketed(&module);
            if let Some(id) = symbolizer.build_id(&object) {
                profile.build_ids.insert(module.as_ref().into(), id.to_string());
            }
            for frame in frames {
                self.put(frame, &named, profile, Mode::User, &module, &name);
            }
        }
    }

    /// Code that the kernel has made, which its record names.
    fn put_made(&mut self, raw: RawFrame, name: &str, offset: u64, profile: &mut Profile) {
        let module = if name.starts_with("bpf_") { "[bpf]" } else { KERNEL };
        let id = profile.intern_frame(Frame {
            name: name.into(),
            module: Some(module.into()),
            mode: Mode::Kernel,
            kind: FrameKind::Symbol,
            offset: offset + raw.back(),
        });
        profile.set_address(id, raw.lookup());
        self.resolved.insert(raw, Some(Resolved::Frames(vec![id])));
    }

    fn put(
        &mut self,
        (raw, address): (RawFrame, u64),
        named: &FxHashMap<u64, Functions>,
        profile: &mut Profile,
        mode: Mode,
        module: &str,
        unresolved: &str,
    ) {
        let functions = named.get(&address).cloned().unwrap_or_default();
        let frames: Vec<FrameId> = if functions.is_empty() {
            vec![profile.intern_frame(unknown(mode, unresolved, Some(module)))]
        } else {
            let frame = |function: Function| {
                let module = match function.module {
                    Some(module) => format!("[{module}]").into(),
                    None => Arc::from(module),
                };
                let id = profile.intern_frame(Frame {
                    name: function.name,
                    module: Some(module),
                    mode,
                    kind: if function.inlined { FrameKind::Inlined } else { FrameKind::Symbol },
                    offset: function.offset + raw.back(),
                });
                profile.set_address(id, address);
                id
            };
            functions.into_iter().map(frame).collect()
        };
        self.resolved.insert(raw, Some(Resolved::Frames(frames)));
    }

    /// The frames of a stack, leaf first, appended to `out`. True where its user half was cut at
    /// an address that is no code.
    pub(crate) fn frames_of(&self, stack: &[RawFrame], out: &mut Vec<FrameId>) -> bool {
        for frame in stack {
            match self.resolved.get(frame) {
                Some(Some(Resolved::Frames(frames))) => out.extend_from_slice(frames),
                Some(Some(Resolved::NotCode)) => return true,
                Some(None) | None => {}
            }
        }
        false
    }
}

/// The functions at each address, which is asked for once: of a library that hundreds of processes
/// run, each of them has the same addresses again.
fn name_each(
    frames: &[(RawFrame, u64)],
    ask: impl FnOnce(&[u64]) -> Vec<Functions>,
) -> FxHashMap<u64, Functions> {
    let mut addresses: Vec<u64> = frames.iter().map(|&(_, address)| address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let named = ask(&addresses);
    addresses.into_iter().zip(named).collect()
}

fn unknown(mode: Mode, name: &str, module: Option<&str>) -> Frame {
    let module = module.map(Arc::from);
    Frame { name: name.into(), module, mode, kind: FrameKind::Unresolved, offset: 0 }
}

/// The object in place of a function: `[libc.so.6]`.
fn bracketed(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    if file.starts_with('[') { file.to_owned() } else { format!("[{file}]") }
}
