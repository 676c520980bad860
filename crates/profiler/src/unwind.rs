//! User stacks from registers and a slice of the stack, by the unwind information of the objects
//! that are mapped.
//!
//! [framehop](https://docs.rs/framehop) walks. Where no unwind information covers an address, or
//! framehop cannot follow it, it silently falls back to the frame pointer: a guess, and a wrong one
//! in code without frame pointers. So each address is checked first ([`frames`]): what needs an
//! expression (the frame of a signal's handler, a realigned stack) is evaluated here, and what
//! nothing covers ends the stack. No frame is ever guessed.

mod frames;
mod machine;
mod object;
pub(crate) mod records;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::address_space::AddressSpaces;
use crate::perfdata::build_ids::BuildIds;
use crate::perfdata::layout::UserState;
use crate::perfdata::record::CONTEXT_USER;
use crate::profile::Unwinding;
use crate::symbolize::{Finder, Image, Object, Place, own_vdso, vdso_build_id};
use machine::{Aarch64, Machine, X86_64};
use object::{Caller, NoCaller, Site, Unwindable};
use records::Recorded;

/// Frames of a stack. A recursion of more is cut; the largest slice has room for twice as many.
const MOST_FRAMES: usize = 4096;

/// Objects without unwind information that are named.
const MOST_NAMED: usize = 5;

/// Unwinds the stacks of one recording.
pub(crate) struct StackUnwinder {
    walker: Walker,
    files: Files,
    counts: Unwinding,
    /// By path.
    uninformed_in: FxHashMap<Box<[u8]>, u64>,
}

enum Walker {
    X86_64(MachineWalker<X86_64>),
    Aarch64(MachineWalker<Aarch64>),
    /// An architecture that is not known.
    None,
}

impl StackUnwinder {
    /// For a recording of that machine; of this one where that is not known.
    pub(crate) fn new(recorded: Recorded<'_>, build_ids: BuildIds) -> Self {
        let walker = match recorded.arch.unwrap_or(std::env::consts::ARCH) {
            "x86_64" => Walker::X86_64(MachineWalker::default()),
            "aarch64" => Walker::Aarch64(MachineWalker::default()),
            _ => Walker::None,
        };
        let has_vdso = release_is_running(recorded.release);
        let finder = Finder::new(recorded.until);
        let files = Files { has_vdso, finder, build_ids };
        let (counts, uninformed_in) = (Unwinding::default(), FxHashMap::default());
        StackUnwinder { walker, files, counts, uninformed_in }
    }

    /// Appends the user half of a sample's call chain, with its marker, and counts how it ended.
    pub(crate) fn unwind(
        &mut self,
        spaces: &AddressSpaces,
        pid: i32,
        user: &UserState<'_>,
        chain: &mut Vec<u64>,
    ) {
        let end = match &mut self.walker {
            Walker::X86_64(walker) => walker.walk(spaces, pid, user, &mut self.files, chain),
            Walker::Aarch64(walker) => walker.walk(spaces, pid, user, &mut self.files, chain),
            Walker::None => End::Uninformed(None),
        };
        let counts = &mut self.counts;
        if user.stack.is_empty() {
            counts.stackless += 1;
            return;
        }
        counts.stacks += 1;
        match end {
            End::Root => counts.rooted += 1,
            End::Short => counts.short += 1,
            End::Astray => counts.astray += 1,
            End::Deep => counts.deep += 1,
            End::Uninformed(object) => {
                counts.uninformed += 1;
                if let Some(object) = object {
                    *self.uninformed_in.entry(object.path.clone()).or_default() += 1;
                }
            }
        }
    }

    /// How it went.
    pub(crate) fn finish(self) -> Unwinding {
        let mut named: Vec<(String, u64)> = self
            .uninformed_in
            .into_iter()
            .map(|(path, count)| (String::from_utf8_lossy(&path).into_owned(), count))
            .collect();
        named.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        named.truncate(MOST_NAMED);
        Unwinding { uninformed_in: named, ..self.counts }
    }
}

/// The vDSO is the same for all processes of a kernel, and no other's.
fn release_is_running(release: &str) -> bool {
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.is_empty() || running.trim() == release
}

/// How a stack ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Root,
    /// It goes on beyond the slice.
    Short,
    /// In code without unwind information.
    Uninformed(Option<Arc<Object>>),
    /// Where no code is.
    Astray,
    Deep,
}

/// Where the files of objects are found.
struct Files {
    /// Without a build id of its own, the vDSO is that of the running kernel.
    has_vdso: bool,
    finder: Finder,
    build_ids: BuildIds,
}

impl Files {
    fn image(&self, object: &Object) -> Option<Image> {
        let object = self.build_ids.applied(object);
        if object.path.as_ref() != b"[vdso]" {
            return match self.finder.find(&object) {
                Place::Found(found) => Some(found.image),
                _ => None,
            };
        }
        own_vdso().filter(|image| match object.build_id {
            Some(id) => vdso_build_id(image) == Some(id),
            None => self.has_vdso,
        })
    }
}

/// Walks the stacks of one architecture.
struct MachineWalker<M: Machine> {
    /// Index of an object by its address in our memory, which is quicker to hash than its path.
    by_pointer: FxHashMap<usize, usize>,
    /// The object is kept, so that no other ever lies at its address.
    objects: Vec<(Arc<Object>, Option<Unwindable<M>>)>,
    cache: M::Cache,
}

impl<M: Machine> Default for MachineWalker<M> {
    fn default() -> Self {
        MachineWalker {
            by_pointer: FxHashMap::default(),
            objects: Vec::new(),
            cache: M::Cache::default(),
        }
    }
}

impl<M: Machine> MachineWalker<M> {
    fn walk(
        &mut self,
        spaces: &AddressSpaces,
        pid: i32,
        user: &UserState<'_>,
        files: &mut Files,
        chain: &mut Vec<u64>,
    ) -> End {
        let Some((mut address, mut regs)) = M::start(user) else { return End::Uninformed(None) };
        let Some(start) = M::get(&regs, M::STACK_POINTER) else { return End::Uninformed(None) };
        let mut read = |at: u64| word(user.stack, at.checked_sub(start).ok_or(())?);
        // Within a system call, an address that is no code is that of a program that is gone: the
        // call replaced it. In user space it is where the CPU was, code or not.
        let before = chain.len();
        chain.extend([CONTEXT_USER, address]);
        let mut whole = if before > 0 { before } else { chain.len() };
        let mut exact = true;
        for _ in 1..MOST_FRAMES {
            let lookup = address.wrapping_sub(u64::from(!exact));
            let Some((object, file_offset)) = spaces.find(pid, lookup) else {
                // A caller that is no code is none.
                chain.truncate(whole);
                return End::Astray;
            };
            whole = chain.len();
            let index = self.index(object, files);
            let (_, Some(unwindable)) = &mut self.objects[index] else {
                return End::Uninformed(Some(Arc::clone(object)));
            };
            let Some(own) = unwindable.address(file_offset) else {
                return End::Uninformed(Some(Arc::clone(object)));
            };
            let site = Site { address: own.wrapping_add(u64::from(!exact)), exact };
            match unwindable.caller(site, regs, &mut self.cache, &mut read) {
                Ok(caller) => {
                    if caller.exact {
                        // What a signal interrupted made no call, and neither did what returns
                        // there: the kernel made it look so. Each is a half of its own.
                        if !exact {
                            chain.insert(chain.len() - 1, CONTEXT_USER);
                        }
                        chain.push(CONTEXT_USER);
                    }
                    Caller { address, exact, regs } = caller;
                    chain.push(address);
                }
                Err(NoCaller::Root) => return End::Root,
                Err(NoCaller::Uninformed) => return End::Uninformed(Some(Arc::clone(object))),
                Err(NoCaller::Unread(at)) if at >= start => return End::Short,
                Err(NoCaller::Unread(_) | NoCaller::Astray) => return End::Astray,
            }
        }
        End::Deep
    }

    fn index(&mut self, object: &Arc<Object>, files: &mut Files) -> usize {
        let pointer = Arc::as_ptr(object) as usize;
        if let Some(&index) = self.by_pointer.get(&pointer) {
            return index;
        }
        let unwindable = files.image(object).and_then(|image| Unwindable::read(&image));
        self.objects.push((Arc::clone(object), unwindable));
        let index = self.objects.len() - 1;
        self.by_pointer.insert(pointer, index);
        index
    }
}

/// The word at an offset of a stack.
fn word(stack: &[u8], offset: u64) -> Result<u64, ()> {
    let offset = usize::try_from(offset).map_err(|_| ())?;
    let bytes = stack.get(offset..).and_then(<[u8]>::first_chunk::<8>).ok_or(())?;
    Ok(u64::from_le_bytes(*bytes))
}
