//! Kinds of objects in an address space.

use crate::build_id::BuildId;

/// A mapped object as the records describe it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// A path as the first process saw it that mapped the object, or `[vdso]`, `//anon`.
    pub path: Box<[u8]>,
    /// Which build it is: by the record of the mapping, which has no inode then; or, with an inode,
    /// by what the recorder read in the end from the file of that name.
    pub build_id: Option<BuildId>,
    /// Major and minor number of the device that the file lies on; zeros where not known.
    pub device: (u32, u32),
    /// Inode of the file; 0 where it is none, or is not known.
    pub inode: u64,
    /// Generation of the inode; 0 where it is not known.
    pub generation: u64,
    /// The first process that mapped it.
    pub pid: i32,
    /// When that was, by the clock of the records; 0 where it is not known.
    pub mapped_ns: u64,
}

/// Mappings without a file, by how their paths begin.
const NO_FILE: [&[u8]; 8] = [
    b"//anon",
    b"[anon",
    b"/memfd:",
    b"/dev/zero",
    b"/anon_hugepage",
    b"/SYSV",
    b"[heap]",
    b"[stack]",
];

impl Object {
    /// An object of which only the name is known.
    pub fn named(path: &[u8]) -> Self {
        Object {
            path: path.into(),
            build_id: None,
            device: (0, 0),
            inode: 0,
            generation: 0,
            pid: -1,
            mapped_ns: 0,
        }
    }

    /// Code that the process made at run time: names for its addresses, if any, are in a perf map.
    /// Memory with a build id is a program, started from a file without a name.
    pub fn is_jit(&self) -> bool {
        self.build_id.is_none() && NO_FILE.iter().any(|start| self.path.starts_with(start))
    }
}
