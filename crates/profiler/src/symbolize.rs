//! Names for addresses: the trait that tests can implement, and the names on this machine.

mod debug_files;
mod demangle;
mod find;
mod functions;
mod image;
mod inlined;
mod kernel;
mod kernel_text;
mod notes;
mod perf_map;
mod stores;
mod table;
mod vdso;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use rustc_hash::FxHashMap;

pub(crate) use find::{Finder, Found, Place, map_file};
pub(crate) use image::Image;
pub use perf_map::PerfMap;
pub(crate) use perf_map::PerfMaps;
pub use table::{RecordingSymbolizer, SymbolTable};
pub(crate) use vdso::{build_id as vdso_build_id, of_running_kernel as own_vdso};

use functions::Functions as SymbolFunctions;
use image::{address_of, mini_debug_info};
use inlined::Frames;
use kernel::KernelNames;
use notes::Notes;
use stores::Part;

pub use crate::build_id::BuildId;
use crate::kernel_code::RecordedKernel;
pub use crate::object_file::Object;

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: Arc<str>,
    /// The kernel module it belongs to, `ext4`; `None` in the kernel proper and in user space.
    pub module: Option<Arc<str>>,
    /// Bytes from its start to the address that was asked for.
    pub offset: u64,
    /// Inlined into the next of the list.
    pub inlined: bool,
}

/// The functions at an address, innermost first; empty where none is known.
pub type Functions = Vec<Function>;

/// Finds names. Called once a distinct address, batched by object.
pub trait Symbolizer {
    /// Tells which kernel was recorded, before it is asked for names.
    fn recorded_kernel(&mut self, kernel: RecordedKernel) {
        let _ = kernel;
    }

    /// The functions at kernel addresses.
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions>;

    /// For return addresses in the kernel, the name of the function that the call before each goes
    /// to: `None` where the kernel's code cannot be read, or the call is through a register.
    fn kernel_callees(&mut self, return_addresses: &[u64]) -> Vec<Option<Arc<str>>> {
        vec![None; return_addresses.len()]
    }

    /// The functions at offsets of an object's file; at addresses, where it [is
    /// code](Object::is_jit) that was made at run time.
    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions>;

    /// The build of the kernel that names come from, where it is known.
    fn kernel_build_id(&mut self) -> Option<BuildId> {
        None
    }

    /// Likewise, of an object.
    fn build_id(&mut self, object: &Object) -> Option<BuildId> {
        let _ = object;
        None
    }

    /// Sentences on what could not be named, and how to change that.
    fn notes(&self) -> Vec<String>;
}

/// Names from this machine: `/proc/kallsyms`, symbols and debug information of the files themselves.
///
/// A name is of the build that was recorded, or there is none: where a file is another build than
/// the one that was mapped, where the kernel is another, a note says so.
#[derive(Debug)]
pub struct LocalSymbols {
    kernel: KernelNames,
    finder: Finder,
    maps: PerfMaps,
    /// The builds that names were taken from.
    builds: FxHashMap<Object, BuildId>,
    notes: Notes,
}

impl LocalSymbols {
    /// Of what was recorded on this machine a moment ago. Reads nothing yet.
    pub fn new() -> Self {
        LocalSymbols::with(KernelNames::default(), None, PerfMaps::default())
    }

    /// With the kernel's names from a text in the form of `/proc/kallsyms`.
    pub fn with_kallsyms(text: String) -> Self {
        LocalSymbols::with(KernelNames::with_kallsyms(text), None, PerfMaps::default())
    }

    /// For a recording of the kernel of that release (an empty one is unknown) that ended then, with
    /// the maps of processes that were read while they lived.
    pub(crate) fn of_recording(release: &str, until: Option<SystemTime>, maps: PerfMaps) -> Self {
        let release = Some(release.to_owned()).filter(|release| !release.is_empty());
        LocalSymbols::with(KernelNames::new(release, until), until, maps)
    }

    /// With the end of the recording by the clock of its records, where that is known.
    pub(crate) fn until_ns(mut self, until_ns: Option<u64>) -> Self {
        self.finder = self.finder.until_ns(until_ns);
        self
    }

    fn with(kernel: KernelNames, until: Option<SystemTime>, maps: PerfMaps) -> Self {
        let (builds, notes) = (FxHashMap::default(), Notes::default());
        LocalSymbols { kernel, finder: Finder::new(until), maps, builds, notes }
    }

    /// The file of an object, as it was when it was mapped.
    fn find(&mut self, object: &Object) -> Option<Found> {
        if object.path.as_ref() == b"[vdso]" {
            return self.vdso(object.build_id);
        }
        match self.finder.find(object) {
            Place::Found(found) => {
                if found.is_unchecked {
                    self.notes.unchecked(object);
                }
                return Some(found);
            }
            Place::Replaced | Place::Changed => self.notes.replaced(object),
            Place::Missing => self.notes.missing(object),
            Place::NoFile => {}
        }
        None
    }

    /// The vDSO of the recorded kernel.
    fn vdso(&self, id: Option<BuildId>) -> Option<Found> {
        let own = vdso::of_running_kernel().map(|image| {
            let build_id = vdso::build_id(&image);
            Found { image, path: "[vdso]".into(), build_id, is_unchecked: false }
        });
        let own_id = own.as_ref().and_then(|own| own.build_id);
        if let Some(id) = id.filter(|_| id != own_id) {
            let paths = self.finder.stores().paths(&id, Part::Vdso);
            return paths.iter().find_map(|path| find::of_build(path, id));
        }
        // The release is part of it, so an id that equals ours in a recording of another release is
        // not to be trusted.
        own.filter(|_| {
            if id.is_some() { self.kernel.is_of_this_release() } else { self.kernel.is_running() }
        })
    }

    /// The functions at offsets of the file of an object.
    fn functions(
        &mut self,
        object: &Object,
        found: &Found,
        elf: &::object::File<'_>,
        file_offsets: &[u64],
    ) -> Vec<Functions> {
        let addresses: Vec<Option<u64>> =
            file_offsets.iter().map(|&offset| address_of(elf, offset)).collect();
        let own = SymbolFunctions::of_symtab(elf);
        let needs_more = own.is_empty() || !inlined::has_any(elf);
        let beside = match needs_more {
            true => debug_files::of(found, elf, &object.path, self.finder.stores()),
            false => debug_files::DebugFiles::default(),
        };
        if beside.is_stale {
            self.notes.stale(object);
        }
        let images: Vec<::object::File<'_>> = beside.images.iter().filter_map(Image::elf).collect();
        let packed = if own.is_empty() { mini_debug_info(elf) } else { None };
        let packed = packed.as_ref().and_then(Image::elf);
        let tables = images.iter().chain(&packed).map(SymbolFunctions::of_symtab);
        // Packed symbols are those that are not exported; a whole table has both.
        let exported = if own.is_empty() {
            SymbolFunctions::exported(elf)
        } else {
            SymbolFunctions::default()
        };
        let symbols = std::iter::once(own).chain(tables).find(|table| !table.is_empty());
        let described = std::iter::once(elf).chain(&images).find(|elf| inlined::has_any(elf));
        let frames = described.map(|described| self.frames(object, found, described, &addresses));
        let mut frames = frames.unwrap_or_default().into_iter();
        addresses
            .into_iter()
            .map(|address| {
                let frames = frames.next().unwrap_or_default();
                let Some(address) = address else { return Functions::new() };
                let named = symbols.as_ref().and_then(|symbols| symbols.find(address));
                functions(named.or_else(|| exported.find(address)), frames)
            })
            .collect()
    }

    /// What debug information says of addresses; nothing where it cannot be read, which is noted.
    fn frames(
        &mut self,
        object: &Object,
        found: &Found,
        described: &::object::File<'_>,
        addresses: &[Option<u64>],
    ) -> Vec<Frames> {
        let beside = debug_files::supplement(described, &found.path, self.finder.stores());
        let beside = beside.as_ref().and_then(Image::elf);
        let asked: Vec<u64> = addresses.iter().flatten().copied().collect();
        // Whatever is wrong in it: should its reader panic, too, the names are there without it.
        let find = || inlined::find(described, beside.as_ref(), &asked);
        let said = catch_unwind(AssertUnwindSafe(find)).unwrap_or(Err(inlined::Damaged));
        if !matches!(said, Ok((_, false))) {
            self.notes.damaged(object);
        }
        let mut said = said.map(|(frames, _)| frames).unwrap_or_default().into_iter();
        let frames = addresses.iter().map(|address| address.and_then(|_| said.next()));
        frames.map(Option::unwrap_or_default).collect()
    }
}

impl Default for LocalSymbols {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer for LocalSymbols {
    fn recorded_kernel(&mut self, kernel: RecordedKernel) {
        self.kernel.recorded(kernel, self.finder.stores());
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        self.kernel.find(addresses)
    }

    fn kernel_callees(&mut self, return_addresses: &[u64]) -> Vec<Option<Arc<str>>> {
        self.kernel.callees(return_addresses)
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        if object.is_jit() {
            return self.maps.of(object.pid).find(file_offsets);
        }
        let unknown = || vec![Functions::new(); file_offsets.len()];
        let Some(found) = self.find(object) else { return unknown() };
        if let Some(id) = found.build_id {
            self.builds.insert(object.clone(), id);
        }
        match found.image.elf() {
            Some(elf) => self.functions(object, &found, &elf, file_offsets),
            None => unknown(),
        }
    }

    fn kernel_build_id(&mut self) -> Option<BuildId> {
        self.kernel.build_id()
    }

    fn build_id(&mut self, object: &Object) -> Option<BuildId> {
        self.builds.get(object).copied()
    }

    fn notes(&self) -> Vec<String> {
        self.kernel.note().into_iter().chain(self.notes.sentences()).collect()
    }
}

/// What the symbol table says of an address, with what was inlined there by the debug information,
/// which names the function itself only where the table does not.
fn functions(named: Option<(&str, u64)>, frames: Frames) -> Functions {
    let (name, offset) = match (named, frames.function) {
        (Some((name, offset)), _) => (demangle::demangled(name).as_ref().into(), offset),
        (None, Some(name)) => (name.into(), 0),
        (None, None) => return Functions::new(),
    };
    let inlined = frames.inlined.into_iter().map(|name| Function {
        name: name.into(),
        module: None,
        offset,
        inlined: true,
    });
    let function = Function { name, module: None, offset, inlined: false };
    inlined.chain([function]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vdso_names_its_functions() {
        let mut symbols = LocalSymbols::new();
        let offsets: Vec<u64> = (0..4096).step_by(16).collect();
        let found = symbols.object(&Object::named(b"[vdso]"), &offsets);
        let names: Vec<&str> = found.iter().flatten().map(|f| f.name.as_ref()).collect();
        assert!(names.iter().any(|name| name.contains("clock_gettime")), "{names:?}");
    }

    #[test]
    fn the_vdso_of_another_kernel_has_no_names() {
        let vdso = Object::named(b"[vdso]");
        let offsets: Vec<u64> = (0..4096).step_by(16).collect();
        let unnamed = vec![Functions::new(); offsets.len()];
        let until = Some(SystemTime::now());
        let mut other = LocalSymbols::of_recording("1.2.3-other", until, PerfMaps::default());
        assert_eq!(other.object(&vdso, &offsets), unnamed);
        // Its build id says it, too.
        let build_id = BuildId::new(&[0x11; 20]);
        let of_other_build = Object { build_id, ..vdso };
        assert_eq!(LocalSymbols::new().object(&of_other_build, &offsets), unnamed);
    }

    #[test]
    fn an_object_that_is_gone_is_unknown_not_an_error() {
        let mut symbols = LocalSymbols::new();
        assert_eq!(
            symbols.object(&Object::named(b"/no/such/file"), &[1, 2]),
            vec![Functions::new(); 2]
        );
        assert_eq!(symbols.object(&Object::named(b"//anon"), &[1]), vec![Functions::new()]);
        assert_eq!(symbols.notes().len(), 1);
        assert!(symbols.notes()[0].contains("/no/such/file no longer exists"));
    }
}
