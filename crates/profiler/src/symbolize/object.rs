//! What lies in an address space, and which file on this machine holds it now.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{self, OVERLAYFS_SUPER_MAGIC};

/// A mapped object as the records describe it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// A path as the first process saw it that mapped the object, or `[vdso]`, `//anon`.
    pub path: Box<[u8]>,
    /// Inode of the file; 0 where it is none, or is not known.
    pub inode: u64,
    /// The first process that mapped it.
    pub pid: i32,
}

/// What became of an object's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here it is.
    Found(PathBuf),
    /// Another file has its name.
    Replaced,
    /// Nowhere, or it never was a file.
    Gone,
}

impl Object {
    /// An object of which only the name is known.
    pub fn named(path: &[u8]) -> Self {
        Object { path: path.into(), inode: 0, pid: -1 }
    }

    /// Code that the process made at run time: names for its addresses, if any, are in a perf map.
    pub fn is_jit(&self) -> bool {
        [&b"//anon"[..], b"[anon", b"/memfd:", b"/dev/zero", b"[heap]", b"[stack]"]
            .iter()
            .any(|start| self.path.starts_with(start))
    }

    /// Looks for the file: under its name, under its name as the process sees it (a container has
    /// a root of its own), and, deleted, as long as the process lives.
    pub(crate) fn place(&self, proc_root: &Path) -> Place {
        if !self.path.starts_with(b"/") || self.is_jit() {
            return Place::Gone;
        }
        let deleted = self.path.strip_suffix(b" (deleted)");
        let name = Path::new(OsStr::from_bytes(deleted.unwrap_or(&self.path)));
        let process = proc_root.join(self.pid.to_string());
        let seen_by_process = process.join("root").join(name.strip_prefix("/").unwrap_or(name));
        let mut replaced = false;
        for path in [name.to_owned(), seen_by_process] {
            match fs::metadata(&path) {
                // Opening a FIFO would wait, and opening a device may do anything.
                Ok(meta) if !meta.is_file() => {}
                Ok(meta) if self.is_it(&path, meta.ino()) => return Place::Found(path),
                Ok(_) => replaced = true,
                Err(_) => {}
            }
        }
        match self.in_map_files(&process) {
            Some(path) => Place::Found(path),
            None if replaced => Place::Replaced,
            None => Place::Gone,
        }
    }

    /// Overlay file systems show one inode in a mapping and another to stat.
    fn is_it(&self, path: &Path, inode: u64) -> bool {
        let overlay = || {
            statfs::statfs(path)
                .is_ok_and(|system| system.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
        };
        self.inode == 0 || self.inode == inode || overlay()
    }

    /// `/proc/PID/map_files/START-END`, which opens the file behind a mapping whatever became of
    /// its name.
    fn in_map_files(&self, process: &Path) -> Option<PathBuf> {
        let maps = fs::read_to_string(process.join("maps")).ok()?;
        let line = maps.lines().find(|line| {
            line.split_ascii_whitespace().nth(4).and_then(|inode| inode.parse().ok())
                == Some(self.inode)
                && self.inode != 0
        })?;
        // Addresses are padded with zeros in the one place and not in the other.
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let plain = |address| u64::from_str_radix(address, 16).ok();
        let range = format!("{:x}-{:x}", plain(start)?, plain(end)?);
        Some(process.join("map_files").join(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_name_by_root_and_by_mapping_and_never_another_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "it").unwrap();
        let inode = file.metadata().unwrap().ino();
        let path = file.as_os_str().as_bytes();
        let object = |inode| Object { path: path.into(), inode, pid: 7 };
        let proc_root = folder.path().join("proc");
        assert_eq!(object(inode).place(&proc_root), Place::Found(file.clone()));
        assert_eq!(object(0).place(&proc_root), Place::Found(file.clone()));
        if statfs::statfs(&file).unwrap().filesystem_type() != OVERLAYFS_SUPER_MAGIC {
            assert_eq!(object(inode + 1).place(&proc_root), Place::Replaced);
        }

        fs::create_dir_all(proc_root.join("7")).unwrap();
        fs::write(proc_root.join("7/maps"), "0010-0020 r-xp 0 fd:00 4242   /x (deleted)\n")
            .unwrap();
        let deleted = Object { path: b"/no/such (deleted)"[..].into(), inode: 4242, pid: 7 };
        assert_eq!(deleted.place(&proc_root), Place::Found(proc_root.join("7/map_files/10-20")));
        let inside = proc_root.join("7/root/only/inside");
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::write(&inside, "it").unwrap();
        assert_eq!(
            Object { pid: 7, ..Object::named(b"/only/inside") }.place(&proc_root),
            Place::Found(inside)
        );
        assert_eq!(Object::named(b"[vsyscall]").place(&proc_root), Place::Gone);
        assert_eq!(Object::named(b"//anon").place(&proc_root), Place::Gone);
    }
}
