//! Names and mappings that the members had before the events were attached, as records.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::perfdata::record::Mapping;
use crate::perfdata::synthesizer::Synthesizer;

/// These processes and what they started, each after its parent, which is `None` for these.
pub(crate) fn family(proc_root: &Path, pids: &[i32]) -> Vec<(Option<i32>, i32)> {
    let mut family: Vec<(Option<i32>, i32)> = pids.iter().map(|&pid| (None, pid)).collect();
    let mut next = 0;
    while let Some(&(_, parent)) = family.get(next) {
        next += 1;
        let tasks = fs::read_dir(proc_root.join(parent.to_string()).join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                if family.iter().all(|&(_, known)| known != child) {
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
        if let Some((mapping, device)) = executable_mapping(line, pid) {
            out.extend(made.mmap2(&mapping, device));
        }
    }
    out
}

/// One line of `/proc/PID/maps`, where it maps code.
fn executable_mapping(line: &[u8], pid: i32) -> Option<(Mapping<'_>, (u32, u32))> {
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
    Some((Mapping { pid, start, length, file_offset, inode, path }, device))
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
    out.extend(made.kernel_mmap(start, u64::MAX - start, start, path.as_bytes()));
    for line in modules.lines() {
        let mut fields = line.split(' ');
        let (Some(name), Some(size), Some(address)) = (fields.next(), fields.next(), fields.nth(3))
        else {
            continue;
        };
        let address = address.strip_prefix("0x").unwrap_or(address);
        if let (Ok(size), Ok(start @ 1..)) = (size.parse(), u64::from_str_radix(address, 16)) {
            out.extend(made.kernel_mmap(start, size, 0, format!("[{name}]").as_bytes()));
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
        let (mapping, device) = executable_mapping(line, 7).unwrap();
        assert_eq!((mapping.start, mapping.length, mapping.file_offset), (0x55d0, 0x10, 0x1f000));
        assert_eq!(
            (device, mapping.inode, mapping.path),
            ((0xfd, 1), 1234, &b"/usr/bin/with space (deleted)"[..])
        );
        let anonymous = executable_mapping(b"7f00-8f00 rwxp 00000000 00:00 0 ", 7).unwrap();
        assert_eq!(anonymous.0.path, b"//anon");
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
