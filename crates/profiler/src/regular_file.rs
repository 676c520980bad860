//! Files whose names came from a recording or another process: opened only where they are regular.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Opens a regular file for reading. Opening a FIFO would wait for its writer, and opening a device
/// may do anything.
///
/// # Errors
/// What the kernel answers; `Unsupported` for what is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    must_be_regular(&path.metadata()?)?;
    // Should it have become a FIFO meanwhile, this does not wait for it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

/// As [`open`], where the file is to be read whole.
///
/// # Errors
/// As [`open`]; `FileTooLarge` where it is larger than `most_bytes`.
pub(crate) fn open_bounded(path: &Path, most_bytes: u64) -> io::Result<File> {
    let file = open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > most_bytes {
        let (has, most) = (bytes >> 20, most_bytes >> 20);
        let why = format!("it has {has} MiB, and the limit is {most} MiB");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(file)
}

/// Opens a regular file below a folder that is the root of its symbolic links, as it is for the
/// process that has it as its root: `/tmp` of a container may be a link to `/var/tmp` in there.
///
/// # Errors
/// As [`open`]; `FilesystemLoop` where the file itself is a symbolic link.
pub(crate) fn open_below(root: &Path, path: &Path) -> io::Result<File> {
    let folder = File::from(open_folder(root)?);
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    // Nothing happens to what is only looked at.
    let looked_at = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    must_be_regular(&File::from(openat2(&folder, path, looked_at)?).metadata()?)?;
    let file = File::from(openat2(&folder, path, how)?);
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

fn must_be_regular(meta: &Metadata) -> io::Result<()> {
    let kind = meta.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let why = format!("it is {what}, not a regular file");
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

fn open_folder(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let [file, fifo] = ["file", "fifo"].map(|name| folder.path().join(name));
        std::fs::write(&file, "text").unwrap();
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(open(&file).is_ok());
        for other in [&fifo, folder.path(), Path::new("/dev/null"), Path::new("/no/such")] {
            assert!(open(other).is_err(), "{}", other.display());
        }
    }

    #[test]
    fn a_file_that_is_read_whole_has_a_sane_size() {
        let folder = tempfile::tempdir().unwrap();
        let sparse = folder.path().join("sparse");
        File::create(&sparse).unwrap().set_len(3 << 30).unwrap();
        let error = open_bounded(&sparse, 1 << 20).unwrap_err().to_string();
        assert_eq!(error, "it has 3072 MiB, and the limit is 1 MiB");
        assert!(open_bounded(&sparse, 3 << 30).is_ok());
    }

    #[test]
    fn links_below_a_root_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("var/tmp")).unwrap();
        std::fs::write(root.join("var/tmp/file"), "inside").unwrap();
        std::os::unix::fs::symlink("/var/tmp", root.join("tmp")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let text = |path: &str| io::read_to_string(open_below(root, Path::new(path))?);
        assert_eq!(text("tmp/file").unwrap(), "inside");
        assert!(text("../../../etc/passwd").is_err());
        assert!(text("link").is_err());
        assert!(text("var").is_err());
    }
}
