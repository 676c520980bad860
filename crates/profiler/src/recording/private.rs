//! Files and folders that only their owner may read, whatever the umask: a recording contains
//! command lines, paths, and kernel addresses.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// An empty file.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // A umask may take rights even of the owner.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Reserved disk space, invisible to others and freed when this is dropped; `None` if there is
/// none.
pub(crate) fn reserve(folder: &Path, bytes: u64) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    let file = options.open(folder).ok()?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes).ok()?;
    Some(file)
}

/// A folder that was not there.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}
