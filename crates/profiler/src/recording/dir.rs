//! The folder of a recording: private, and safe from clean-up while in use.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock};

use super::{SUFFIX, private};
use crate::error::Error;

/// Where a recording lives.
#[derive(Debug)]
pub enum RecordingDir {
    /// Removed with the value.
    Temporary(TemporaryDir),
    /// A folder that is being filled, and the name it gets when it is whole.
    Partial {
        /// Where it is now.
        path: PathBuf,
        /// What it will be called.
        name: PathBuf,
    },
    /// Kept.
    Kept(PathBuf),
    /// A bare perf.data file.
    Bare(PathBuf),
    /// A folder of `perf record --threads` or `--kcore`: the header in `data`, records there and in
    /// `data.0`, `data.1`, ….
    Threads(PathBuf),
}

impl RecordingDir {
    /// A new temporary folder, in `TMPDIR` or /tmp. Those of runs that were killed are removed there.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be made.
    pub fn temporary() -> Result<Self, Error> {
        Self::swept(&std::env::temp_dir(), "making a temporary folder in")
    }

    /// Likewise in this folder, so that it can get a name there
    /// ([`Recording::complete_as`](super::Recording::complete_as)).
    ///
    /// # Errors
    /// [`Error::NoRenaming`] where nothing in the folder can be renamed, [`Error::File`] where it
    /// cannot be made.
    pub fn temporary_in(folder: &Path) -> Result<Self, Error> {
        if only_grows(folder) {
            return Err(Error::NoRenaming { folder: folder.to_owned() });
        }
        Self::swept(folder, "making a folder in")
    }

    fn swept(folder: &Path, action: &'static str) -> Result<Self, Error> {
        sweep(folder);
        TemporaryDir::create(folder).map(RecordingDir::Temporary).map_err(|source| Error::File {
            action,
            path: folder.to_owned(),
            source,
        })
    }

    /// A new temporary folder with the records of a stream, as `perf record -o -` writes them.
    ///
    /// # Errors
    /// [`Error::File`] where the folder cannot be made, the stream not be read, or the disk is full.
    pub(super) fn of_stream(stream: &mut dyn Read) -> Result<Self, Error> {
        let dir = RecordingDir::temporary()?;
        let path = dir.perf_data();
        let copied = private::create(&path).and_then(|mut file| io::copy(stream, &mut file));
        copied.map_err(|source| Error::File { action: "copying the records to", path, source })?;
        Ok(dir)
    }

    /// A folder to keep, called `name` once it is whole and `name.partial` until then.
    ///
    /// # Errors
    /// [`Error::Exists`] or [`Error::Unfinished`] where the name is taken, [`Error::NoRenaming`] or
    /// [`Error::File`] where the folder cannot be made.
    pub fn create(name: &Path) -> Result<Self, Error> {
        sweep(&std::env::temp_dir());
        if name.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: name.to_owned() });
        }
        let parent = match name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if only_grows(parent) {
            return Err(Error::NoRenaming { folder: parent.to_owned() });
        }
        let mut path = name.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let made = match private::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Unfinished { path: path.clone() })
            }
            made => {
                made.map_err(|source| Error::File { action: "making", path: path.clone(), source })
            }
        };
        made.map(|()| RecordingDir::Partial { path, name: name.to_owned() })
    }

    /// The folder that `perf record --threads` has made, of a file in it: `data` with the header, or
    /// `data.0` and so on with the records.
    pub(super) fn of_threads(file: &Path) -> Option<PathBuf> {
        let (folder, name) = (file.parent()?, file.file_name()?.to_str()?);
        let number = || name.strip_prefix("data.")?.parse::<u32>().ok();
        let is_part = name == "data" || number().is_some();
        let is_whole = || ["data", "data.0"].iter().all(|name| folder.join(name).is_file());
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        (is_part && is_whole()).then(|| folder.to_owned())
    }

    /// The folder; of a bare file, the file.
    pub fn path(&self) -> &Path {
        match self {
            RecordingDir::Temporary(dir) => dir.path(),
            RecordingDir::Partial { path, .. }
            | RecordingDir::Kept(path)
            | RecordingDir::Bare(path)
            | RecordingDir::Threads(path) => path,
        }
    }

    /// The contents are useful even if pipeprof is killed.
    pub(crate) fn outlives_a_kill(&self) -> bool {
        matches!(self, RecordingDir::Partial { .. })
    }

    pub(super) fn perf_data(&self) -> PathBuf {
        match self {
            RecordingDir::Bare(path) => path.clone(),
            RecordingDir::Threads(path) => path.join("data"),
            folder => folder.path().join("perf.data"),
        }
    }
}

/// `chattr +a`: nothing in the folder can be renamed or removed.
fn only_grows(folder: &Path) -> bool {
    let asked = rustix::fs::statx(CWD, folder, AtFlags::empty(), StatxFlags::TYPE);
    asked.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::APPEND))
}

/// What a temporary folder is called, before its own eight characters.
const PREFIX: &str = "pipeprof-tmp-";

/// A folder that is removed with the value, or by the next run where this one is killed: a lock that
/// the kernel gives up with the process tells whether anybody still uses it.
#[derive(Debug)]
pub struct TemporaryDir {
    path: PathBuf,
    /// The folder itself, locked.
    lock: File,
}

impl TemporaryDir {
    fn create(parent: &Path) -> io::Result<Self> {
        loop {
            let unique: String = (0..8).map(|_| fastrand::alphanumeric()).collect();
            let path = parent.join(format!("{PREFIX}{unique}"));
            match private::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Another run may have swept it away before it was locked.
            if let Ok(lock) = File::open(&path)
                && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                && is_at(&lock, &path)
            {
                return Ok(TemporaryDir { path, lock });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames it to what it is called when it stays.
    pub(super) fn keep(&self) -> io::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let unique = name.strip_prefix(PREFIX).unwrap_or(&name);
        let kept = self.path.with_file_name(format!("pipeprof-{unique}.{SUFFIX}"));
        fs::rename(&self.path, &kept)?;
        Ok(kept)
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // It may have been renamed, to stay; and whatever cannot be removed the next run tries again.
        if is_at(&self.lock, &self.path) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether a path still leads to the open folder.
fn is_at(folder: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let both = (folder.metadata().map(identity), path.symlink_metadata().map(identity));
    matches!(both, (Ok(open), Ok(there)) if open == there)
}

/// Removes the temporary folders of this user's runs that are dead.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let user = nix::unistd::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = |unique: &str| {
            unique.len() == 8 && unique.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(is_ours) {
            continue;
        }
        let path = entry.path();
        let is_folder = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == user);
        if !is_folder {
            continue;
        }
        let Ok(folder) = File::open(&path) else { continue };
        let is_dead = flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_dead && is_at(&folder, &path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_temporary_folder_is_private_and_goes_with_its_value() {
        let parent = tempfile::tempdir().unwrap();
        let dir = TemporaryDir::create(parent.path()).unwrap();
        fs::write(dir.path().join("perf.data"), "records").unwrap();
        assert_eq!(dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(dir);
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn the_next_run_removes_what_a_dead_one_left_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let alive = TemporaryDir::create(parent.path()).unwrap();
        let dead = parent.path().join(format!("{PREFIX}00000000"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("perf.data"), "records").unwrap();
        for other in ["pipeprof-tmp-results", "pipeprof-tmp-00000000.pipeprof", "pipeprof-abc"] {
            fs::create_dir(parent.path().join(other)).unwrap();
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let link = parent.path().join(format!("{PREFIX}11111111"));
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(alive.path().exists() && elsewhere.path().exists());
        assert_eq!(names(parent.path()).len(), 5);
    }

    #[test]
    fn a_kept_folder_has_the_name_of_a_recording() {
        let parent = tempfile::tempdir().unwrap();
        let dir = TemporaryDir::create(parent.path()).unwrap();
        let kept = dir.keep().unwrap();
        drop(dir);
        sweep(parent.path());
        assert!(kept.is_dir() && kept.extension().unwrap() == SUFFIX, "{}", kept.display());
    }
}
