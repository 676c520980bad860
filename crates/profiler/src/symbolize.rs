//! Names for addresses: the seam behind which a test can put names of its own, and the names of
//! this machine.

mod build_id;
mod object;
mod perf_map;
mod sane;
mod table;

use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Sym, Symbolized, Symbolizer as Blaze};
use pipeprof_runner::access;
use rustc_hash::FxHashMap;
use tempfile::NamedTempFile;

pub use object::Object;
pub(crate) use object::Place;
pub use perf_map::PerfMap;
pub use table::{Remembering, SymbolTable};

use crate::kallsyms::Kallsyms;

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
    /// Where the recorded kernel had one of its symbols: it lies elsewhere after each boot.
    fn kernel_base(&mut self, symbol: &[u8], address: u64) {
        let _ = (symbol, address);
    }

    /// The functions at kernel addresses.
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions>;

    /// The functions at offsets of an object's file; at addresses, where it [is
    /// code](Object::is_jit) that was made at run time.
    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions>;

    /// The build id of the kernel that names come from, in hexadecimal, where it is known.
    fn kernel_build_id(&mut self) -> Option<String> {
        None
    }

    /// Likewise, of an object.
    fn build_id(&mut self, object: &Object) -> Option<String> {
        let _ = object;
        None
    }

    /// Sentences on what could not be named, and how to change that.
    fn notes(&self) -> Vec<String>;
}

/// Names from this machine: `/proc/kallsyms`, ELF symbols and DWARF of the files themselves.
#[derive(Debug)]
pub struct LocalSymbols {
    kallsyms: Option<Kallsyms>,
    objects: Blaze,
    vdso: Option<NamedTempFile>,
    /// Where the file of each object was found.
    places: FxHashMap<Object, Option<PathBuf>>,
    replaced: Vec<String>,
    /// Those whose debug information blazesym panics at.
    damaged: Vec<String>,
    asked_kernel: bool,
    kernel: RecordedKernel,
}

/// The kernel that was recorded, as compared with the running one.
#[derive(Debug, Default)]
struct RecordedKernel {
    /// Its release, where that is known.
    release: Option<String>,
    /// Subtracted from its addresses to get those of the running one.
    moved_by: u64,
    /// Why the running kernel's names are not its names.
    other: Option<String>,
}

impl LocalSymbols {
    /// Reads nothing yet.
    pub fn new() -> Self {
        let objects = blaze(true);
        let kernel = RecordedKernel::default();
        LocalSymbols {
            kallsyms: None,
            objects,
            vdso: None,
            places: FxHashMap::default(),
            replaced: Vec::new(),
            damaged: Vec::new(),
            asked_kernel: false,
            kernel,
        }
    }

    /// With the kernel's names from a text in the form of `/proc/kallsyms`.
    pub fn with_kallsyms(text: String) -> Self {
        LocalSymbols { kallsyms: Some(Kallsyms::parse(text)), ..LocalSymbols::new() }
    }

    /// For a recording of the kernel of that release; an empty one is unknown.
    pub fn of_release(release: &str) -> Self {
        let mut symbols = LocalSymbols::new();
        if !release.is_empty() {
            symbols.kernel.release = Some(release.to_owned());
            let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            if running.trim() != release {
                symbols.kernel.other = Some(format!(
                    "kernel functions have no names: Linux {release} was recorded, and this is {}",
                    running.trim()
                ));
            }
        }
        symbols
    }

    /// The file that holds an object, on this machine and now.
    fn place(&mut self, object: &Object) -> Option<PathBuf> {
        if object.path.as_ref() == b"[vdso]" {
            if self.vdso.is_none() {
                self.vdso = own_vdso();
            }
            return self.vdso.as_ref().map(|file| file.path().to_owned());
        }
        match object.place(Path::new("/proc")) {
            Place::Found(path) => Some(path),
            Place::Gone => None,
            Place::Replaced => {
                self.replaced.push(String::from_utf8_lossy(&object.path).into_owned());
                None
            }
        }
    }

    fn kallsyms(&mut self) -> &Kallsyms {
        self.kallsyms.get_or_insert_with(|| {
            let text = access::with_rights(|| std::fs::read("/proc/kallsyms")).unwrap_or_default();
            Kallsyms::parse(String::from_utf8(text).unwrap_or_default())
        })
    }
}

impl Default for LocalSymbols {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer for LocalSymbols {
    fn kernel_base(&mut self, symbol: &[u8], address: u64) {
        let here = std::str::from_utf8(symbol).ok().and_then(|name| self.kallsyms().address(name));
        if let Some(here) = here {
            self.kernel.moved_by = address.wrapping_sub(here);
        }
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        if self.kernel.other.is_some() {
            return vec![Functions::new(); addresses.len()];
        }
        self.asked_kernel |= !addresses.is_empty();
        let moved_by = self.kernel.moved_by;
        let kallsyms = self.kallsyms();
        addresses
            .iter()
            .map(|&address| {
                let found = kallsyms.find(address.wrapping_sub(moved_by));
                // Modules are not moved with the kernel, but loaded wherever there is room.
                let found = found.filter(|found| moved_by == 0 || found.module.is_none());
                let function = found.map(|found| Function {
                    name: found.name.into(),
                    module: found.module.map(Arc::from),
                    offset: found.offset,
                    inlined: false,
                });
                function.into_iter().collect()
            })
            .collect()
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        if object.is_jit() {
            return PerfMap::of(object.pid).find(file_offsets);
        }
        let file = self.place(object).filter(|file| sane::is_sane(file));
        self.places.insert(object.clone(), file.clone());
        let unknown = || vec![Functions::new(); file_offsets.len()];
        let Some(file) = file else { return unknown() };
        if let Ok(found) = find(&self.objects, true, &file, file_offsets) {
            return found.unwrap_or_else(unknown);
        }
        // What it had read when it panicked is nothing to go on with.
        self.objects = blaze(true);
        self.damaged.push(String::from_utf8_lossy(&object.path).into_owned());
        let found = find(&blaze(false), false, &file, file_offsets);
        found.ok().flatten().unwrap_or_else(unknown)
    }

    fn kernel_build_id(&mut self) -> Option<String> {
        if self.kernel.other.is_some() { None } else { build_id::of_kernel() }
    }

    fn build_id(&mut self, object: &Object) -> Option<String> {
        build_id::of_file(&self.places.get(object)?.clone()?)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.kernel.other.iter().cloned().collect();
        notes.extend(self.replaced.iter().map(|path| {
            format!("{path} is no longer the file that ran, so its functions have no names")
        }));
        notes.extend(self.damaged.iter().map(|path| {
            format!("the debug information of {path} is damaged, so only its symbols were used")
        }));
        let hidden = self.asked_kernel && self.kallsyms.as_ref().is_some_and(Kallsyms::is_empty);
        let note = "kernel functions have no names, as /proc/kallsyms hides their addresses; \
                    hint: sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1";
        notes.extend(hidden.then(|| note.to_owned()));
        notes
    }
}

/// Code info is where blazesym finds inlined functions.
fn blaze(debug_info: bool) -> Blaze {
    Blaze::builder().enable_code_info(debug_info).enable_inlined_fns(debug_info).build()
}

/// The functions at offsets of a file; `None` where it has no symbols. `Err` where blazesym panicked,
/// as it does at some damaged line tables (dwarf/lines.rs, 0.2.7).
fn find(
    objects: &Blaze,
    debug_info: bool,
    file: &Path,
    offsets: &[u64],
) -> std::thread::Result<Option<Vec<Functions>>> {
    // Whoever calls throws `objects` away after a panic.
    catch_unwind(AssertUnwindSafe(|| {
        let mut elf = Elf::new(file);
        elf.debug_syms = debug_info;
        let found = objects.symbolize(&Source::Elf(elf), Input::FileOffset(offsets)).ok()?;
        Some(found.into_iter().map(functions).collect())
    }))
}

fn functions(found: Symbolized<'_>) -> Functions {
    let Symbolized::Sym(Sym { name, offset, inlined, .. }) = found else {
        return Functions::new();
    };
    let offset = offset as u64;
    let mut functions: Functions = inlined
        .iter()
        .rev()
        .map(|callee| Function {
            name: callee.name.as_ref().into(),
            module: None,
            offset,
            inlined: true,
        })
        .collect();
    functions.push(Function { name: name.as_ref().into(), module: None, offset, inlined: false });
    functions
}

/// The vDSO is in no file, but every process on this kernel has the same one, ours too.
pub(crate) fn own_vdso() -> Option<NamedTempFile> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let mut image = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    let mut memory = std::fs::File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(start)).ok()?;
    memory.read_exact(&mut image).ok()?;
    let mut file = tempfile::Builder::new().prefix("pipeprof-vdso-").tempfile().ok()?;
    file.write_all(&image).ok()?;
    Some(file)
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
    fn an_object_that_is_gone_is_unknown_not_an_error() {
        let mut symbols = LocalSymbols::new();
        assert_eq!(
            symbols.object(&Object::named(b"/no/such/file"), &[1, 2]),
            vec![Functions::new(); 2]
        );
        assert_eq!(symbols.object(&Object::named(b"//anon"), &[1]), vec![Functions::new()]);
    }
}
