//! Names of kernel functions: of the kernel build that was recorded, or none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pipeprof_runner::access;
use rustc_hash::FxHashMap;

use super::kernel_text::KernelText;
use super::stores::{Part, Stores};
use super::{Function, Functions};
use crate::build_id::BuildId;
use crate::kallsyms::{Found, Kallsyms};
use crate::kernel_code::{RecordedKernel, RecordedModule};
use crate::regular_file;

/// The names of one kernel.
#[derive(Debug, Default)]
pub(super) struct KernelNames {
    kallsyms: Option<Kallsyms>,
    recorded: RecordedKernel,
    /// The release that was recorded; `None` for the running kernel, here and now.
    release: Option<String>,
    /// When the recording ended.
    until: Option<SystemTime>,
    kernel: WhichKernel,
    /// Subtracted from addresses of the recorded kernel to get those of the table.
    moved_by: u64,
    /// Where the modules of the running kernel lie; 0 where that is hidden.
    modules: FxHashMap<String, u64>,
    was_asked: bool,
}

/// Which kernel was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum WhichKernel {
    /// The running one.
    #[default]
    Running,
    /// A kernel of its release, or of any, as the recording does not tell which build it was.
    Unchecked,
    /// Another one, whose symbol table perf has kept.
    Kept(PathBuf),
    /// Another one; the sentence says which.
    Other(String),
}

impl KernelNames {
    /// Of the kernel of that release, where one is known, in a recording that ended then.
    pub(super) fn new(release: Option<String>, until: Option<SystemTime>) -> Self {
        let mut names = KernelNames { release, until, ..KernelNames::default() };
        names.kernel = names.which(&Stores::default());
        names
    }

    /// From a text in the form of `/proc/kallsyms`.
    pub(super) fn with_kallsyms(text: String) -> Self {
        KernelNames { kallsyms: Some(Kallsyms::parse(text)), ..KernelNames::default() }
    }

    /// Tells which kernel it was.
    pub(super) fn recorded(&mut self, recorded: RecordedKernel, stores: &Stores) {
        self.recorded = recorded;
        self.kernel = self.which(stores);
        if let Some((symbol, address)) = self.recorded.base.clone()
            && self.has_table()
            && let Ok(symbol) = std::str::from_utf8(&symbol)
            && let Some(here) = self.kallsyms().address(symbol)
        {
            self.moved_by = address.wrapping_sub(here);
        }
        if self.is_running() && !self.recorded.modules.is_empty() {
            let text = access::with_rights(|| std::fs::read_to_string("/proc/modules"));
            self.modules = parse_modules(&text.unwrap_or_default());
        }
    }

    fn which(&self, stores: &Stores) -> WhichKernel {
        let recorded = self.recorded.build_id;
        let running = BuildId::of_kernel();
        let release_here = release_here();
        let of_other_release = self.other_release(&release_here).map(|release| {
            format!(
                "kernel functions have no names: Linux {release} was recorded, and this is \
                 {release_here}"
            )
        });
        if let (Some(recorded), Some(running)) = (recorded, running) {
            if recorded == running {
                // A file that names this build and another release is not to be trusted.
                return of_other_release.map_or(WhichKernel::Running, WhichKernel::Other);
            }
            let kept = stores.paths(&recorded, Part::Kallsyms).into_iter();
            if let Some(path) = kept.take(1).find(|path| regular_file::open(path).is_ok()) {
                return WhichKernel::Kept(path);
            }
            return WhichKernel::Other(of_other_release.unwrap_or_else(|| {
                format!(
                    "kernel functions have no names: another build of Linux {release_here} was \
                     recorded (build id {recorded}, this one has {running})"
                )
            }));
        }
        match of_other_release {
            Some(why) => WhichKernel::Other(why),
            // What was recorded a moment ago needs no proof.
            None if self.release.is_none() && self.until.is_none() => WhichKernel::Running,
            None => WhichKernel::Unchecked,
        }
    }

    /// The running kernel is the one that was recorded, as far as the recording tells.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.kernel, WhichKernel::Running | WhichKernel::Unchecked)
    }

    /// A kernel of the running one's release was recorded, as far as the recording tells.
    pub(super) fn is_of_this_release(&self) -> bool {
        self.other_release(&release_here()).is_none()
    }

    /// The release that was recorded, where that is known to be another.
    fn other_release(&self, here: &str) -> Option<&str> {
        self.release.as_deref().filter(|&release| release != here)
    }

    fn has_table(&self) -> bool {
        !matches!(self.kernel, WhichKernel::Other(_))
    }

    fn kallsyms(&mut self) -> &Kallsyms {
        let kernel = &self.kernel;
        self.kallsyms.get_or_insert_with(|| {
            let text = match kernel {
                WhichKernel::Kept(path) => read_kept(path),
                _ => access::with_rights(|| std::fs::read("/proc/kallsyms")).unwrap_or_default(),
            };
            Kallsyms::parse(String::from_utf8(text).unwrap_or_default())
        })
    }

    /// The functions at addresses of the recorded kernel.
    pub(super) fn find(&mut self, addresses: &[u64]) -> Vec<Functions> {
        if !self.has_table() {
            return vec![Functions::new(); addresses.len()];
        }
        self.was_asked |= !addresses.is_empty();
        self.kallsyms();
        let Some(kallsyms) = &self.kallsyms else { return Vec::new() };
        let place = Place { names: self, is_this_boot: self.is_this_boot() };
        let functions = |&address: &u64| {
            let function = place.find(kallsyms, address).map(|found| Function {
                name: found.name.into(),
                module: found.module.map(Arc::from),
                offset: found.offset,
                inlined: false,
            });
            function.into_iter().collect()
        };
        addresses.iter().map(functions).collect()
    }

    /// The function that is called right before each return address, by the kernel's own code.
    pub(super) fn callees(&mut self, return_addresses: &[u64]) -> Vec<Option<Arc<str>>> {
        let none = || vec![None; return_addresses.len()];
        if return_addresses.is_empty() || !self.is_this_boot() {
            return none();
        }
        let Some(text) = KernelText::open() else { return none() };
        let kallsyms = self.kallsyms();
        let callee = |&address: &u64| {
            let found = kallsyms.find(text.target(address)?)?;
            (found.offset <= ENTRY_BYTES).then(|| found.name.into())
        };
        return_addresses.iter().map(callee).collect()
    }

    /// It was recorded since the machine was started: code that is made at run time is in its place.
    fn is_this_boot(&self) -> bool {
        let Some(until) = self.until else { return true };
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
        let booted = seconds.and_then(|seconds: f64| {
            SystemTime::now().checked_sub(Duration::try_from_secs_f64(seconds).ok()?)
        });
        self.is_running() && self.moved_by == 0 && booted.is_some_and(|booted| until > booted)
    }

    /// The build that names come from.
    pub(super) fn build_id(&self) -> Option<BuildId> {
        match self.kernel {
            WhichKernel::Running | WhichKernel::Unchecked => BuildId::of_kernel(),
            WhichKernel::Kept(_) => self.recorded.build_id,
            WhichKernel::Other(_) => None,
        }
    }

    /// What could not be named, or not be checked.
    pub(super) fn note(&self) -> Option<String> {
        if let WhichKernel::Other(why) = &self.kernel {
            return Some(why.clone());
        }
        if !self.was_asked {
            return None;
        }
        if self.kallsyms.as_ref().is_some_and(Kallsyms::is_empty) {
            let note = "kernel functions have no names, as /proc/kallsyms hides their addresses; \
                        hint: sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1";
            return Some(note.to_owned());
        }
        let note = "the recording does not name its kernel build: kernel functions have the names \
                    of this machine's kernel";
        (self.kernel == WhichKernel::Unchecked).then(|| note.to_owned())
    }
}

/// Where direct calls enter a function: at its start, or behind the landing pad that is there for
/// calls through registers (`apply_fineibt`, arch/x86/kernel/alternative.c, v6.18).
const ENTRY_BYTES: u64 = 16;

fn release_here() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// Where the kernel's parts were, and are.
struct Place<'a> {
    names: &'a KernelNames,
    is_this_boot: bool,
}

impl Place<'_> {
    fn find<'k>(&self, kallsyms: &'k Kallsyms, address: u64) -> Option<Found<'k>> {
        if let Some(module) = self.module_at(address) {
            let here = match self.names.modules.get(&module.name) {
                Some(&start) if start != 0 => address - module.start + start,
                _ if self.is_this_boot => address,
                _ => return None,
            };
            let ours = BuildId::of_module(&module.name);
            if module.build_id.is_some() && ours.is_some() && module.build_id != ours {
                return None;
            }
            return kallsyms.find(here).filter(|found| found.module == Some(&*module.name));
        }
        let found = kallsyms.find(address.wrapping_sub(self.names.moved_by))?;
        match found.module {
            None => Some(found),
            // How long these are the table does not tell, and what lies between them (the filters of
            // seccomp) is not in it.
            Some("bpf") => None,
            // Nor where the last of a module ends, which is known of those that were recorded.
            Some(module) => (self.is_this_boot && !self.was_recorded(module)).then_some(found),
        }
    }

    fn was_recorded(&self, module: &str) -> bool {
        self.names.recorded.modules.iter().any(|(_, known)| known.name == module)
    }

    fn module_at(&self, address: u64) -> Option<&RecordedModule> {
        let modules = &self.names.recorded.modules;
        let after = modules.partition_point(|(_, module)| module.start <= address);
        let (_, module) = modules.get(after.checked_sub(1)?)?;
        (address - module.start < module.length).then_some(module)
    }
}

/// `/proc/modules`: `ext4 1000 1 - Live 0xffffffffc0000000`.
fn parse_modules(text: &str) -> FxHashMap<String, u64> {
    let parse = |line: &str| {
        let mut fields = line.split(' ');
        let name = fields.next()?.to_owned();
        let address = fields.nth(4)?.strip_prefix("0x")?;
        Some((name, u64::from_str_radix(address, 16).ok()?))
    };
    text.lines().filter_map(parse).collect()
}

/// The largest symbol table of a kernel that is read. One is some ten MB.
const MOST_BYTES: u64 = 128 << 20;

fn read_kept(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut text = Vec::new();
    if let Ok(file) = regular_file::open(path) {
        // What was read before an error is still true.
        let _ = file.take(MOST_BYTES).read_to_end(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ffffffff81000000 T _text
ffffffff81000100 t anon_pipe_write
ffffffff81000200 T _etext
ffffffffc0100000 t ext4_write\t[ext4]
ffffffffc0300000 t bpf_prog_x\t[bpf]
";

    fn names(recorded: RecordedKernel, modules: &[(&str, u64)]) -> KernelNames {
        let mut names = KernelNames::with_kallsyms(TABLE.to_owned());
        names.recorded(recorded, &Stores::default());
        names.modules = modules.iter().map(|&(name, at)| (name.to_owned(), at)).collect();
        names
    }

    fn name(names: &mut KernelNames, address: u64) -> Option<String> {
        let found = names.find(&[address]).remove(0);
        found.first().map(|function| format!("{}+{:#x}", function.name, function.offset))
    }

    #[test]
    fn modules_are_named_where_they_lie_now() {
        let module = RecordedModule {
            name: "ext4".to_owned(),
            start: 0xffff_ffff_c050_0000,
            length: 0x1000,
            build_id: None,
        };
        let recorded = RecordedKernel {
            modules: vec![(b"[ext4]".to_vec(), module)],
            ..RecordedKernel::default()
        };
        let mut names = names(recorded, &[("ext4", 0xffff_ffff_c010_0000)]);
        let name = |names: &mut _, at| name(names, at);
        assert_eq!(name(&mut names, 0xffff_ffff_c050_0008).as_deref(), Some("ext4_write+0x8"));
        assert_eq!(name(&mut names, 0xffff_ffff_c060_0000), None);
        assert_eq!(name(&mut names, 0xffff_ffff_8100_0108).as_deref(), Some("anon_pipe_write+0x8"));
    }

    #[test]
    fn code_of_unknown_length_has_no_name_from_the_table() {
        let mut names = names(RecordedKernel::default(), &[]);
        assert_eq!(name(&mut names, 0xffff_ffff_c030_0000), None);
        assert_eq!(name(&mut names, 0xffff_ffff_c010_0004).as_deref(), Some("ext4_write+0x4"));
    }

    #[test]
    fn what_lies_behind_a_recorded_module_is_not_its_last_function() {
        let module = RecordedModule {
            name: "ext4".to_owned(),
            start: 0xffff_ffff_c010_0000,
            length: 0x800,
            build_id: None,
        };
        let modules = vec![(b"[ext4]".to_vec(), module)];
        let recorded = RecordedKernel { modules, ..RecordedKernel::default() };
        let mut names = names(recorded, &[("ext4", 0xffff_ffff_c010_0000)]);
        assert_eq!(name(&mut names, 0xffff_ffff_c010_07ff).as_deref(), Some("ext4_write+0x7ff"));
        assert_eq!(name(&mut names, 0xffff_ffff_c010_0800), None);
    }

    #[test]
    fn a_kernel_that_moved_is_named_and_another_build_is_not() {
        let base = Some((b"_text".to_vec(), 0xffff_ffff_9100_0000));
        let mut moved = names(RecordedKernel { base, ..RecordedKernel::default() }, &[]);
        assert_eq!(name(&mut moved, 0xffff_ffff_9100_0104).as_deref(), Some("anon_pipe_write+0x4"));
        assert_eq!(moved.note(), None);
        if BuildId::of_kernel().is_none() {
            return;
        }
        let build_id = BuildId::new(&[0x11; 20]);
        let mut other = names(RecordedKernel { build_id, ..RecordedKernel::default() }, &[]);
        assert_eq!(name(&mut other, 0xffff_ffff_8100_0104), None);
        assert!(other.note().unwrap().contains("another build of Linux"));
    }

    #[test]
    fn lines_of_modules() {
        let modules = parse_modules("ext4 1000 1 - Live 0xffffffffc0000000\nbad line\n");
        assert_eq!(modules.get("ext4"), Some(&0xffff_ffff_c000_0000));
        assert_eq!(modules.len(), 1);
    }
}
