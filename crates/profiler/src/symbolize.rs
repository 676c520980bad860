//! Names for addresses: the seam behind which a test can put names of its own, and the names of
//! this machine.

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Sym, Symbolized, Symbolizer as Blaze};
use tempfile::NamedTempFile;

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
    /// The functions at kernel addresses.
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions>;

    /// The functions at offsets of an object's file. `path` is as the kernel records it:
    /// a path, or `[vdso]`.
    fn object(&mut self, path: &[u8], file_offsets: &[u64]) -> Vec<Functions>;

    /// Sentences on what could not be named, and how to change that.
    fn notes(&self) -> Vec<String>;
}

/// Names from this machine: `/proc/kallsyms`, ELF symbols and DWARF of the files themselves.
#[derive(Debug)]
pub struct LocalSymbols {
    kallsyms: Option<Kallsyms>,
    objects: Blaze,
    vdso: Option<NamedTempFile>,
    asked_kernel: bool,
}

impl LocalSymbols {
    /// Reads nothing yet.
    pub fn new() -> Self {
        // Code info is where blazesym finds inlined functions.
        let objects = Blaze::builder().enable_code_info(true).enable_inlined_fns(true).build();
        LocalSymbols { kallsyms: None, objects, vdso: None, asked_kernel: false }
    }

    fn kallsyms(&mut self) -> &Kallsyms {
        self.kallsyms.get_or_insert_with(|| {
            let text = std::fs::read("/proc/kallsyms").unwrap_or_default();
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
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        self.asked_kernel |= !addresses.is_empty();
        let kallsyms = self.kallsyms();
        addresses
            .iter()
            .map(|&address| {
                let function = kallsyms.find(address).map(|found| Function {
                    name: found.name.into(),
                    module: found.module.map(Arc::from),
                    offset: found.offset,
                    inlined: false,
                });
                function.into_iter().collect()
            })
            .collect()
    }

    fn object(&mut self, path: &[u8], file_offsets: &[u64]) -> Vec<Functions> {
        let file = if path == b"[vdso]" {
            if self.vdso.is_none() {
                self.vdso = own_vdso();
            }
            self.vdso.as_ref().map(|file| file.path().to_owned())
        } else if path.starts_with(b"/") && !path.starts_with(b"//") {
            Some(Path::new(OsStr::from_bytes(path)).to_owned())
        } else {
            None
        };
        let unknown = || vec![Functions::new(); file_offsets.len()];
        let Some(file) = file else { return unknown() };
        let source = Source::Elf(Elf::new(file));
        match self.objects.symbolize(&source, Input::FileOffset(file_offsets)) {
            Ok(found) => found.into_iter().map(functions).collect(),
            Err(_) => unknown(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let hidden = self.asked_kernel && self.kallsyms.as_ref().is_some_and(Kallsyms::is_empty);
        let note = "kernel functions have no names, as /proc/kallsyms hides their addresses; \
                    hint: sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1";
        if hidden { vec![note.to_owned()] } else { Vec::new() }
    }
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
fn own_vdso() -> Option<NamedTempFile> {
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
        let found = symbols.object(b"[vdso]", &offsets);
        let names: Vec<&str> = found.iter().flatten().map(|f| f.name.as_ref()).collect();
        assert!(names.iter().any(|name| name.contains("clock_gettime")), "{names:?}");
    }

    #[test]
    fn an_object_that_is_gone_is_unknown_not_an_error() {
        let mut symbols = LocalSymbols::new();
        assert_eq!(symbols.object(b"/no/such/file", &[1, 2]), vec![Functions::new(); 2]);
        assert_eq!(symbols.object(b"//anon", &[1]), vec![Functions::new()]);
    }
}
