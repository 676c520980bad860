//! Which object is mapped at an address of a process, over time.

use std::sync::Arc;

use imbl::OrdMap;
use rustc_hash::FxHashMap;

use crate::kernel_code::{RuntimeCode, RuntimeCodeId};
use crate::perfdata::record::{KernelSymbol, Mapping};
use crate::symbolize::{BuildId, Object};

/// One state of one address space. Two processes share it after a fork, until either changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SpaceId(pub u32);

/// An executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    end: u64,
    file_offset: u64,
    object: Arc<Object>,
}

/// States that follow each other share what did not change, or a process that maps and is sampled
/// by turns would cost the square of its mappings.
type Space = OrdMap<u64, Mapped>;

/// Path, build id, device, inode and its generation, and the process where it made the code.
type ObjectKey = (Box<[u8]>, Option<BuildId>, (u32, u32), (u64, u64), i32);

/// An address within an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// What lies there.
    pub object: Arc<Object>,
    /// Offset in its file; the address itself where code was made at run time.
    pub file_offset: u64,
}

/// All address spaces of a recording.
#[derive(Debug, Default)]
pub(crate) struct AddressSpaces {
    states: Vec<Space>,
    of_process: FxHashMap<i32, SpaceId>,
    /// A state that samples were taken in must stay as it was.
    sampled: Vec<bool>,
    objects: FxHashMap<ObjectKey, Arc<Object>>,
    /// Code that the kernel made, as it is now and was.
    made: RuntimeCode,
    /// What the kernel had made, in each state.
    made_in: Vec<RuntimeCodeId>,
}

impl AddressSpaces {
    /// The current state of a process, for a sample that keeps referring to it.
    pub(crate) fn sample(&mut self, pid: i32) -> SpaceId {
        let made = self.made.state();
        let mut id = self.current(pid);
        if self.made_in[id.0 as usize] != made {
            self.change(pid);
            id = self.current(pid);
            self.made_in[id.0 as usize] = made;
        }
        self.sampled[id.0 as usize] = true;
        id
    }

    /// Code of the kernel's came or went.
    pub(crate) fn kernel_symbol(&mut self, symbol: &KernelSymbol<'_>) {
        self.made.apply(symbol);
    }

    /// The state of what the kernel has made, where an address lies in that; else the one in which
    /// it has made nothing.
    pub(crate) fn runtime_code_at(&self, space: SpaceId, address: u64) -> RuntimeCodeId {
        let made = self.made_in.get(space.0 as usize).copied().unwrap_or_default();
        if self.made.find(made, address).is_some() { made } else { RuntimeCodeId::default() }
    }

    /// The name of the code that the kernel has made at an address, and the offset in it.
    pub(crate) fn runtime_code(&self, made: RuntimeCodeId, address: u64) -> Option<(&str, u64)> {
        self.made.find(made, address)
    }

    /// A process mapped an object, over whatever was there.
    pub(crate) fn map(&mut self, mapping: &Mapping<'_>, time: Option<u64>) {
        let Some(end) = mapping.start.checked_add(mapping.length) else { return };
        if mapping.length == 0 {
            return;
        }
        let Mapping { device, inode, generation, build_id, pid, .. } = *mapping;
        // The vDSO of a process of 32 bits is another.
        let is_narrow = mapping.path == b"[vdso]" && end <= 1 << 32;
        let path = if is_narrow { b"[vdso32]" } else { mapping.path };
        let mut object = Object {
            path: path.into(),
            build_id,
            device,
            inode,
            generation,
            pid,
            mapped_ns: time.unwrap_or(0),
        };
        let owner = if object.is_jit() { pid } else { 0 };
        let key = (object.path.clone(), build_id, device, (inode, generation), owner);
        let file_offset = if object.is_jit() {
            // Names are found by address, whatever lies behind it.
            (object.device, object.inode, object.generation) = ((0, 0), 0, 0);
            mapping.start
        } else {
            mapping.file_offset
        };
        let object = Arc::clone(self.objects.entry(key).or_insert_with(|| Arc::new(object)));
        let mapped = Mapped { end, file_offset, object };
        let space = self.change(mapping.pid);
        cut_out(space, mapping.start, end);
        space.insert(mapping.start, mapped);
    }

    /// A process replaced its program.
    pub(crate) fn exec(&mut self, pid: i32) {
        let id = self.add(Space::new());
        self.of_process.insert(pid, id);
    }

    /// A process made another, with a copy of its space.
    pub(crate) fn fork(&mut self, parent: i32, child: i32) {
        if parent != child {
            let id = self.current(parent);
            // From here on the state has two owners, so neither may change it in place.
            self.sampled[id.0 as usize] = true;
            self.of_process.insert(child, id);
        }
    }

    /// What lies at an address in a state.
    pub(crate) fn locate(&self, space: SpaceId, address: u64) -> Option<Located> {
        let space = self.states.get(space.0 as usize)?;
        let (start, mapped) = space.get_prev(&address)?;
        (address < mapped.end).then(|| Located {
            object: Arc::clone(&mapped.object),
            file_offset: (address - start).wrapping_add(mapped.file_offset),
        })
    }

    /// The object at an address of a process as it is now, with the offset in its file.
    pub(crate) fn find(&self, pid: i32, address: u64) -> Option<(&Arc<Object>, u64)> {
        let space = self.states.get(self.of_process.get(&pid)?.0 as usize)?;
        let (start, mapped) = space.range(..=address).next_back()?;
        let file_offset = (address - start).wrapping_add(mapped.file_offset);
        (address < mapped.end).then_some((&mapped.object, file_offset))
    }

    fn current(&mut self, pid: i32) -> SpaceId {
        match self.of_process.get(&pid) {
            Some(&id) => id,
            None => {
                let id = self.add(Space::new());
                self.of_process.insert(pid, id);
                id
            }
        }
    }

    fn add(&mut self, space: Space) -> SpaceId {
        let id = SpaceId(self.states.len() as u32);
        self.states.push(space);
        self.sampled.push(false);
        self.made_in.push(RuntimeCodeId::default());
        id
    }

    /// The state to change: a new one where samples refer to the current one.
    fn change(&mut self, pid: i32) -> &mut Space {
        let mut id = self.current(pid);
        if self.sampled[id.0 as usize] {
            let (copy, made) = (self.states[id.0 as usize].clone(), self.made_in[id.0 as usize]);
            id = self.add(copy);
            self.made_in[id.0 as usize] = made;
            self.of_process.insert(pid, id);
        }
        &mut self.states[id.0 as usize]
    }
}

/// Removes `[start, end)` from what is mapped, keeping what sticks out on either side.
fn cut_out(space: &mut Space, start: u64, end: u64) {
    let overlapping: Vec<u64> = space
        .range(..end)
        .rev()
        .take_while(|(_, mapped)| mapped.end > start)
        .map(|(&at, _)| at)
        .collect();
    for at in overlapping {
        let Some(old) = space.remove(&at) else { continue };
        if at < start {
            space.insert(at, Mapped { end: start, ..old.clone() });
        }
        if old.end > end {
            let file_offset = old.file_offset.wrapping_add(end - at);
            space.insert(end, Mapped { file_offset, ..old });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(spaces: &mut AddressSpaces, pid: i32, start: u64, length: u64, path: &str) {
        let path = path.as_bytes();
        spaces.map(
            &Mapping { pid, start, length, file_offset: 0x100, path, ..Mapping::default() },
            None,
        );
    }

    fn at(spaces: &AddressSpaces, space: SpaceId, address: u64) -> Option<(String, u64)> {
        let found = spaces.locate(space, address)?;
        Some((String::from_utf8_lossy(&found.object.path).into_owned(), found.file_offset))
    }

    #[test]
    fn a_later_mapping_wins_and_the_rest_of_the_earlier_stays() {
        let mut spaces = AddressSpaces::default();
        map(&mut spaces, 1, 0x1000, 0x3000, "a");
        map(&mut spaces, 1, 0x2000, 0x1000, "b");
        let space = spaces.sample(1);
        assert_eq!(at(&spaces, space, 0x1fff), Some(("a".into(), 0x10ff)));
        assert_eq!(at(&spaces, space, 0x2000), Some(("b".into(), 0x100)));
        assert_eq!(at(&spaces, space, 0x3000), Some(("a".into(), 0x2100)));
        assert_eq!(at(&spaces, space, 0x4000), None);
        assert_eq!(at(&spaces, space, 0xfff), None);
    }

    #[test]
    fn a_sample_sees_the_space_of_its_time() {
        let mut spaces = AddressSpaces::default();
        map(&mut spaces, 1, 0x1000, 0x1000, "before");
        let before = spaces.sample(1);
        assert_eq!(spaces.sample(1), before);
        spaces.fork(1, 2);
        assert_eq!(spaces.sample(2), before);
        spaces.exec(1);
        map(&mut spaces, 1, 0x1000, 0x1000, "after");
        let after = spaces.sample(1);
        assert_eq!(at(&spaces, before, 0x1000).unwrap().0, "before");
        assert_eq!(at(&spaces, after, 0x1000).unwrap().0, "after");
        map(&mut spaces, 2, 0x8000, 0x1000, "child");
        let child = spaces.sample(2);
        assert_eq!(at(&spaces, child, 0x1000).unwrap().0, "before");
        assert_eq!(at(&spaces, before, 0x8000), None);
    }

    #[test]
    fn two_builds_of_one_path_are_two_objects() {
        let mut spaces = AddressSpaces::default();
        let id = |byte| BuildId::new(&[byte; 20]);
        let path = b"/usr/lib/libz.so.1";
        for (pid, build_id) in [(1, id(1)), (2, id(2)), (3, id(1))] {
            let (start, length) = (0x1000, 0x1000);
            spaces.map(&Mapping { pid, start, length, build_id, path, ..Mapping::default() }, None);
        }
        let object = |spaces: &AddressSpaces, pid| Arc::clone(spaces.find(pid, 0x1000).unwrap().0);
        let [one, two, same] = [1, 2, 3].map(|pid| object(&spaces, pid));
        assert_eq!([one.build_id, two.build_id], [id(1), id(2)]);
        assert!(Arc::ptr_eq(&one, &same));
    }

    #[test]
    fn the_vdso_of_32_bits_is_not_ours() {
        let mut spaces = AddressSpaces::default();
        map(&mut spaces, 1, 0xf7f0_0000, 0x2000, "[vdso]");
        map(&mut spaces, 2, 0x7ffc_0000_0000, 0x2000, "[vdso]");
        let (narrow, wide) = (spaces.sample(1), spaces.sample(2));
        assert_eq!(at(&spaces, narrow, 0xf7f0_0000).unwrap().0, "[vdso32]");
        assert_eq!(at(&spaces, wide, 0x7ffc_0000_0000).unwrap().0, "[vdso]");
    }

    #[test]
    fn kernel_code_is_that_of_the_time_of_a_sample() {
        let mut spaces = AddressSpaces::default();
        let symbol = |unregistered| KernelSymbol {
            start: 0xffff_ffff_c000_0000,
            length: 0x80,
            unregistered,
            name: b"bpf_prog_x",
        };
        map(&mut spaces, 1, 0x1000, 0x1000, "a");
        let before = spaces.sample(1);
        spaces.kernel_symbol(&symbol(false));
        let during = spaces.sample(1);
        assert_eq!(spaces.sample(1), during);
        spaces.kernel_symbol(&symbol(true));
        let after = spaces.sample(1);
        let name = |space| {
            let made = spaces.runtime_code_at(space, 0xffff_ffff_c000_0010);
            spaces.runtime_code(made, 0xffff_ffff_c000_0010)
        };
        assert_eq!([before, during, after].map(name), [None, Some(("bpf_prog_x", 0x10)), None]);
        for space in [before, during, after] {
            assert_eq!(at(&spaces, space, 0x1000).unwrap().0, "a");
        }
    }

    #[test]
    fn mappings_that_wrap_or_are_empty_are_none() {
        let mut spaces = AddressSpaces::default();
        map(&mut spaces, 1, u64::MAX - 1, 0x1000, "wraps");
        map(&mut spaces, 1, 0x1000, 0, "empty");
        let space = spaces.sample(1);
        assert_eq!(at(&spaces, space, u64::MAX), None);
        assert_eq!(at(&spaces, space, 0x1000), None);
    }
}
