//! Makes records of the names and mappings that the members had before the events were attached.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::perfdata::record::Mapping;
use crate::perfdata::synthesizer::Synthesizer;
use crate::symbolize::{BuildId, Image, map_file};

/// These processes and what they started, each after its parent, which is `None` for these.
pub(crate) fn family(proc_root: &Path, pids: &[i32]) -> Vec<(Option<i32>, i32)> {
    let mut family: Vec<(Option<i32>, i32)> = pids.iter().map(|&pid| (None, pid)).collect();
    let mut known: FxHashSet<i32> = pids.iter().copied().collect();
    let mut next = 0;
    while let Some(&(_, parent)) = family.get(next) {
        next += 1;
        let tasks = fs::read_dir(proc_root.join(parent.to_string()).join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                if known.insert(child) {
                    family.push((Some(parent), child));
                }
            }
        }
    }
    family
}

/// Records for the threads and executable mappings of a process, and for its birth where it has a
/// parent. Empty where it has gone.
pub(crate) fn process(
    made: &Synthesizer,
    proc_root: &Path,
    pid: i32,
    parent: Option<i32>,
    builds: &mut Builds,
) -> Vec<u8> {
    let root = proc_root.join(pid.to_string());
    let mut out = Vec::new();
    if let Ok(tasks) = fs::read_dir(root.join("task")) {
        for task in tasks.flatten() {
            let tid = std::str::from_utf8(task.file_name().as_bytes()).ok().map(str::parse);
            let comm = fs::read(task.path().join("comm"));
            if let (Some(Ok(tid)), Ok(comm)) = (tid, comm) {
                if let Some(parent) = parent {
                    out.extend(made.fork(if tid == pid { parent } else { pid }, pid, tid));
                }
                let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
                // What it inherited from its parent is not what it has now.
                out.extend(made.comm(pid, tid, comm, parent.is_some() && tid == pid));
            }
        }
    }
    let maps = fs::read(root.join("maps")).unwrap_or_default();
    for line in maps.split(|&byte| byte == b'\n') {
        if let Some(mapping) = executable_mapping(line, pid) {
            out.extend(made.mmap2(&builds.identified(mapping, &root, line)));
        }
    }
    out
}

/// Build ids of files that processes have mapped, each read once, as hundreds of processes have the
/// same libraries.
#[derive(Debug, Default)]
pub(crate) struct Builds {
    known: FxHashMap<((u32, u32), u64), Option<BuildId>>,
}

impl Builds {
    /// A mapping with the build id of its file in the place of its inode, as the kernel writes it
    /// for those that are yet to come (`PERF_RECORD_MISC_MMAP_BUILD_ID`).
    fn identified<'a>(&mut self, mapping: Mapping<'a>, process: &Path, line: &[u8]) -> Mapping<'a> {
        if mapping.inode == 0 {
            return mapping;
        }
        let file = (mapping.device, mapping.inode);
        let read = || mapped_build_id(&mapping, process, line);
        match *self.known.entry(file).or_insert_with(read) {
            Some(id) => Mapping { device: (0, 0), inode: 0, build_id: Some(id), ..mapping },
            None => mapping,
        }
    }
}

/// The build id of the file behind a mapping: by the mapping itself, for which it takes a
/// capability (`proc_map_files_get_link` in fs/proc/base.c, v6.18), else by its name as the process
/// sees it, where that is still the same file.
fn mapped_build_id(mapping: &Mapping<'_>, process: &Path, line: &[u8]) -> Option<BuildId> {
    let of = |image: &Image| BuildId::of(&image.elf()?);
    if let Some((image, _)) = map_file(process, line).and_then(|path| Image::open(&path).ok()) {
        return of(&image);
    }
    let path = Path::new(OsStr::from_bytes(mapping.path.strip_prefix(b"/")?));
    let (image, file) = Image::open_below(&process.join("root"), path).ok()?;
    if file.inode == mapping.inode { of(&image) } else { None }
}

/// One line of `/proc/PID/maps`, where it maps code.
fn executable_mapping(line: &[u8], pid: i32) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut field = || {
        let start = rest.iter().position(|&byte| byte != b' ')?;
        let after = &rest[start..];
        let end = after.iter().position(|&byte| byte == b' ').unwrap_or(after.len());
        rest = &after[end..];
        std::str::from_utf8(&after[..end]).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    if !field()?.contains('x') {
        return None;
    }
    let file_offset = u64::from_str_radix(field()?, 16).ok()?;
    let (major, minor) = field()?.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    // The kernel's own records spell an anonymous mapping so.
    let path = if path.is_empty() { b"//anon" } else { path };
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let length = end.checked_sub(start)?;
    let (generation, build_id) = (0, None);
    Some(Mapping { pid, start, length, file_offset, device, inode, generation, build_id, path })
}

/// Records for the kernel's text and its modules, so that perf can name their functions too.
/// Empty where the kernel hides its addresses.
pub(crate) fn kernel(made: &Synthesizer, kallsyms: &str, modules: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let text = kallsyms.lines().find_map(|line| {
        let (address, rest) = line.split_once(' ')?;
        let name = rest.get(2..)?;
        (name == "_text" || name == "_stext").then_some((address, name))
    });
    let Some((address, name)) = text else { return out };
    let Some(start) = u64::from_str_radix(address, 16).ok().filter(|&start| start != 0) else {
        return out;
    };
    let path = format!("[kernel.kallsyms]{name}");
    // Without an end that is known, up to the end of memory, as perf has it.
    let text = Mapping {
        pid: -1,
        start,
        length: u64::MAX - start,
        file_offset: start,
        build_id: BuildId::of_kernel(),
        path: path.as_bytes(),
        ..Mapping::default()
    };
    out.extend(made.kernel_mmap(&text));
    for line in modules.lines() {
        let mut fields = line.split(' ');
        let (Some(name), Some(size), Some(address)) = (fields.next(), fields.next(), fields.nth(3))
        else {
            continue;
        };
        let address = address.strip_prefix("0x").unwrap_or(address);
        if let (Ok(size), Ok(start @ 1..)) = (size.parse(), u64::from_str_radix(address, 16)) {
            let (length, build_id) = (size, BuildId::of_module(name));
            let path = format!("[{name}]");
            let path = path.as_bytes();
            let module = Mapping { pid: -1, start, length, build_id, path, ..Mapping::default() };
            out.extend(made.kernel_mmap(&module));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = b"55d0-55e0 r-xp 0001f000 fd:01 1234      /usr/bin/with space (deleted)";
        let mapping = executable_mapping(line, 7).unwrap();
        assert_eq!((mapping.start, mapping.length, mapping.file_offset), (0x55d0, 0x10, 0x1f000));
        assert_eq!(
            (mapping.device, mapping.inode, mapping.path),
            ((0xfd, 1), 1234, &b"/usr/bin/with space (deleted)"[..])
        );
        let anonymous = executable_mapping(b"7f00-8f00 rwxp 00000000 00:00 0 ", 7).unwrap();
        assert_eq!(anonymous.path, b"//anon");
        assert!(executable_mapping(b"7f00-8f00 rw-p 00000000 00:00 0 [stack]", 7).is_none());
        assert!(executable_mapping(b"", 7).is_none());
    }

    #[test]
    fn a_kernel_that_hides_its_addresses_yields_nothing() {
        let made = Synthesizer::new(0, 0, 0);
        assert!(kernel(&made, "0000000000000000 T _text\n", "").is_empty());
        let modules = "ext4 1000 1 - Live 0xffffffffc0000000\nbad line\n";
        let both = kernel(&made, "ffffffff81000000 T _text\n", modules);
        assert!(both.windows(6).any(|bytes| bytes == b"[ext4]"));
    }
}
