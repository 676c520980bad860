//! Regular files: whole, or as they were before.
//!
//! Output goes into a file without a name first, so that a killed run leaves nothing behind. The
//! complete file gets the name and replaces an existing file in one step, with its owner and mode.
//! Where a file cannot be replaced without harm (hard links, access lists, a mount on it, a folder
//! that does not allow renaming), it is overwritten in place, once there is room for all of it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use pipeprof_runner::open_files;
use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::target::parent;

/// Roughly the size of a large picture or table.
const TRIED_BYTES: usize = 64 << 10;

/// What a file that is being written is called for the moment between two calls.
const PREFIX: &str = ".pipeprof-";

/// Finds out whether a file of this name could be written, without a change to what is there.
///
/// # Errors
/// What the file system answers.
pub(super) fn try_to_write(path: &Path, exists: bool) -> io::Result<()> {
    if exists {
        open_existing(path)?;
    }
    match unnamed(parent(path)) {
        Ok(mut stage) => stage.write_all(&[b'x'; TRIED_BYTES]),
        // It is written over in place then.
        Err(_) if exists => Ok(()),
        // File systems don't agree on what is wrong.
        Err(_) if open_files::is_deleted(parent(path)) => {
            Err(io::Error::from_raw_os_error(libc::ENOENT))
        }
        Err(error) if is_unsupported(&error) => {
            let rights = Access::WRITE_OK | Access::EXEC_OK;
            Ok(rustix::fs::accessat(CWD, parent(path), rights, AtFlags::EACCESS)?)
        }
        Err(error) => Err(error),
    }
}

/// A file's worth of output on its way to its name.
pub(super) struct Stage {
    pub(super) file: File,
    /// It lies in the folder of its name, and can be given it.
    is_beside: bool,
}

impl Stage {
    /// # Errors
    /// What the file system answers.
    pub(super) fn new(path: &Path) -> io::Result<Stage> {
        match unnamed(parent(path)) {
            Ok(file) => Ok(Stage { file, is_beside: true }),
            Err(_) => Ok(Stage { file: tempfile::tempfile()?, is_beside: false }),
        }
    }

    /// Gives what was written its name.
    ///
    /// # Errors
    /// What the file system answers; the file of that name is as it was then.
    pub(super) fn put(mut self, path: &Path) -> io::Result<()> {
        let old = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.is_beside && self.link(path).is_ok() {
                    return Ok(());
                }
                return self.copy_to_new(path);
            }
            old => old?,
        };
        // Also checked for a file that could be renamed over: a user who may not write it must not
        // replace it.
        open_existing(path)?;
        if self.is_beside && may_be_replaced(path, &old) && self.replace(path, &old).is_ok() {
            return Ok(());
        }
        self.write_over(path)
    }

    fn link(&self, path: &Path) -> rustix::io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)
    }

    fn copy_to_new(&mut self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        self.file.rewind()?;
        // Half of it is no use to anybody.
        io::copy(&mut self.file, &mut file).map(drop).inspect_err(|_| _ = fs::remove_file(path))
    }

    fn replace(&self, path: &Path, old: &Metadata) -> io::Result<()> {
        let new = self.file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&self.file, Some(old.uid()), Some(old.gid()))?;
        }
        self.file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        let name = self.link_under_any_name(parent(path))?;
        fs::rename(&name, path).inspect_err(|_| _ = fs::remove_file(&name))
    }

    fn link_under_any_name(&self, folder: &Path) -> io::Result<PathBuf> {
        loop {
            let name = folder.join(format!("{PREFIX}{:08x}", fastrand::u32(..)));
            match self.link(&name) {
                Err(Errno::EXIST) => {}
                linked => return Ok(linked.map(|()| name)?),
            }
        }
    }

    fn write_over(&mut self, path: &Path) -> io::Result<()> {
        let mut file = open_existing(path)?;
        let (length, old) = (self.file.metadata()?.len(), file.metadata()?.len());
        if length > old {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length) {
                // A file system without it takes its chance.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => {
                    file.set_len(old)?;
                    return Err(error.into());
                }
            }
        }
        self.file.rewind()?;
        io::copy(&mut self.file, &mut file)?;
        file.set_len(length)
    }
}

/// A file without a name, whose mode is what the umask leaves, as for any file that a program makes.
fn unnamed(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o666).custom_flags(libc::O_TMPFILE);
    options.open(folder)
}

/// The file system has no files without names, or the kernel none on it.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL))
}

fn open_existing(path: &Path) -> io::Result<File> {
    // Whatever took its place meanwhile: no link is followed, no FIFO waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// Whether a new file in its place would be the same for every user.
fn may_be_replaced(path: &Path, old: &Metadata) -> bool {
    let attributes = |path: &Path| {
        let asked = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
        asked.map_or(StatxAttributes::empty(), |found| found.stx_attributes)
    };
    // In a folder that only grows not even our own passing name could be removed.
    old.is_file()
        && old.nlink() == 1
        && !attributes(parent(path)).contains(StatxAttributes::APPEND)
        && !attributes(path).contains(StatxAttributes::MOUNT_ROOT)
        && !has_attributes(path)
}

/// Access lists, capabilities, whatever a user noted; but not the label that SELinux gives each.
fn has_attributes(path: &Path) -> bool {
    let mut names = vec![0; 4096];
    match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => names[..length]
            .split(|&byte| byte == 0)
            .any(|name| !name.is_empty() && name != b"security.selinux"),
        Err(error) => error != Errno::OPNOTSUPP,
    }
}

/// Why the file can't be written, and a hint.
pub(super) fn remedy(path: &Path, error: &io::Error) -> Option<String> {
    let quoted = quoted(path);
    match error.raw_os_error()? {
        libc::ENOENT if open_files::is_deleted(parent(path)) => {
            Some("this folder was deleted: cd /a/folder/that/exists".to_owned())
        }
        libc::ENOENT => Some(format!("mkdir -p {}", self::quoted(parent(path)))),
        libc::EPERM => {
            let asked = |path: &Path| {
                rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).ok()
            };
            let (what, found) = match asked(path) {
                Some(found) => (quoted, found),
                None => (self::quoted(parent(path)), asked(parent(path))?),
            };
            if found.stx_attributes.contains(StatxAttributes::IMMUTABLE) {
                Some(format!("sudo chattr -i {what}"))
            } else if found.stx_attributes.contains(StatxAttributes::APPEND) {
                Some(format!("sudo chattr -a {what}"))
            } else {
                None
            }
        }
        libc::EFBIG => Some("ulimit -f unlimited".to_owned()),
        libc::ENOSPC | libc::EDQUOT => Some(format!(
            "df -h {}; or name a file in a folder with room",
            self::quoted(parent(path))
        )),
        _ => open_files::hint(error),
    }
}

/// As a shell reads it back.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
