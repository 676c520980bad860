//! The kernel that was recorded, as its recording describes it.

use imbl::OrdMap;

use crate::build_id::BuildId;
use crate::perfdata::build_ids::BuildIds;
use crate::perfdata::record::KernelSymbol;

/// The kernel that a recording is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedKernel {
    /// One of its symbols, and where it was: it lies elsewhere after each boot.
    pub base: Option<(Vec<u8>, u64)>,
    /// Which build it is, where the recording tells.
    pub build_id: Option<BuildId>,
    /// Its modules, with the paths that they go by.
    pub modules: Vec<(Vec<u8>, RecordedModule)>,
}

impl RecordedKernel {
    /// With the builds that the recorder found in the end.
    pub(crate) fn with(mut self, ids: &BuildIds) -> Self {
        self.build_id = self.build_id.or_else(|| ids.of_kernel(b"[kernel.kallsyms]"));
        for (path, module) in &mut self.modules {
            module.build_id = module.build_id.or_else(|| ids.of_kernel(path));
        }
        self.modules.sort_by_key(|(_, module)| module.start);
        self
    }
}

/// A module of the recorded kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedModule {
    /// `ext4`.
    pub name: String,
    /// Where it was.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Which build it is, where the recording tells.
    pub build_id: Option<BuildId>,
}

impl RecordedModule {
    /// The name of the module that perf calls `[ext4]` or `/lib/modules/6.1/kernel/fs/ext4.ko.xz`.
    pub(crate) fn name_of(path: &[u8]) -> Option<String> {
        let path = std::str::from_utf8(path).ok()?;
        if let Some(name) = path.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            return Some(name.to_owned());
        }
        let file = path.rsplit('/').next()?;
        let (name, _) = file.split_once(".ko")?;
        Some(name.replace('-', "_"))
    }
}

/// Code that the kernel made at run time (BPF programs, trampolines), as its records tell of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuntimeCode {
    /// By start, at one time.
    now: OrdMap<u64, Made>,
    /// At each time at which that changed and samples followed.
    states: Vec<OrdMap<u64, Made>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    end: u64,
    name: Box<str>,
}

/// A state of what the kernel has made; 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RuntimeCodeId(pub(crate) u32);

impl RuntimeCode {
    /// Code came or went.
    pub(crate) fn apply(&mut self, symbol: &KernelSymbol<'_>) {
        if symbol.unregistered {
            self.now.remove(&symbol.start);
            return;
        }
        let Some(end) = symbol.start.checked_add(u64::from(symbol.length)) else { return };
        let name = String::from_utf8_lossy(symbol.name).into();
        self.now.insert(symbol.start, Made { end, name });
    }

    /// The current state, for samples that keep referring to it.
    pub(crate) fn state(&mut self) -> RuntimeCodeId {
        if self.states.last().is_none_or(|last| !last.ptr_eq(&self.now)) {
            if self.states.is_empty() && self.now.is_empty() {
                return RuntimeCodeId(0);
            }
            self.states.push(self.now.clone());
        }
        RuntimeCodeId(self.states.len() as u32)
    }

    /// The name of the code at an address in a state, and the offset in it.
    pub(crate) fn find(&self, state: RuntimeCodeId, address: u64) -> Option<(&str, u64)> {
        let state = self.states.get((state.0 as usize).checked_sub(1)?)?;
        let (start, made) = state.get_prev(&address)?;
        (address < made.end).then(|| (&*made.name, address - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_its_name_from_when_it_is_made_until_it_goes() {
        let mut code = RuntimeCode::default();
        let symbol = |start, name: &'static [u8], unregistered| KernelSymbol {
            start,
            length: 0x100,
            unregistered,
            name,
        };
        let nothing = code.state();
        code.apply(&symbol(0x1000, b"bpf_prog_one", false));
        let one = code.state();
        assert_eq!(code.state(), one);
        code.apply(&symbol(0x1000, b"bpf_prog_one", true));
        let gone = code.state();
        code.apply(&symbol(0x1000, b"bpf_prog_two", false));
        let two = code.state();
        assert_eq!(code.find(nothing, 0x1004), None);
        assert_eq!(code.find(one, 0x1004), Some(("bpf_prog_one", 4)));
        assert_eq!(code.find(one, 0x1100), None);
        assert_eq!(code.find(gone, 0x1004), None);
        assert_eq!(code.find(two, 0x10ff), Some(("bpf_prog_two", 0xff)));
    }

    #[test]
    fn modules_have_one_name_however_perf_spells_them() {
        let name = |path: &[u8]| RecordedModule::name_of(path);
        assert_eq!(name(b"[ext4]").as_deref(), Some("ext4"));
        let path = b"/lib/modules/6.1.0/kernel/sound/snd-hda-intel.ko.xz";
        assert_eq!(name(path).as_deref(), Some("snd_hda_intel"));
        assert_eq!(name(b"/usr/bin/cat"), None);
    }
}
