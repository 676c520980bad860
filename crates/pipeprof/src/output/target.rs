//! What a path given with `-o` leads to, found out without a change to it.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

/// Where a path leads, through all symbolic links.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A descriptor of this process: `/dev/stdout`, `/dev/fd/63`.
    Descriptor(i32),
    /// A descriptor of another process, whose name in /proc is no path to what it is open on.
    Foreign(PathBuf),
    /// Nothing is there yet.
    New(PathBuf),
    /// A regular file.
    File(PathBuf),
    /// A FIFO or a device: opened and written to directly.
    Openable(PathBuf),
    /// A socket, to which one connects.
    Socket(PathBuf),
    /// A folder.
    Folder,
}

/// `MAXSYMLINKS` of the kernel (include/linux/namei.h).
const MOST_LINKS: usize = 40;

impl Target {
    /// Follows the path.
    ///
    /// # Errors
    /// What the file system answers; ELOOP for links that lead nowhere.
    pub(super) fn of(path: &Path) -> io::Result<Target> {
        if path.as_os_str().is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Ok(Target::Folder);
        }
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match descriptor(&path) {
                Some((true, number)) => return Ok(Target::Descriptor(number)),
                Some((false, _)) => return Ok(Target::Foreign(path)),
                None => {}
            }
            let found = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Target::New(path));
                }
                found => found?.file_type(),
            };
            if found.is_symlink() {
                // A relative link counts from the folder that it lies in.
                path = parent(&path).join(fs::read_link(&path)?);
            } else if found.is_file() {
                return Ok(Target::File(path));
            } else if found.is_dir() {
                return Ok(Target::Folder);
            } else if found.is_socket() {
                return Ok(Target::Socket(path));
            } else {
                return Ok(Target::Openable(path));
            }
        }
        Err(Errno::ELOOP.into())
    }
}

/// The folder that holds an entry.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The number of a descriptor, and whether it is one of ours, where the path is its entry in /proc.
fn descriptor(path: &Path) -> Option<(bool, i32)> {
    let number = path.file_name()?.to_str()?.parse().ok().filter(|&number: &i32| number >= 0)?;
    let folder = parent(path).canonicalize().ok()?;
    let is_ours = ["/proc/self/fd", "/proc/thread-self/fd"]
        .iter()
        .any(|own| Path::new(own).canonicalize().is_ok_and(|own| own == folder));
    let in_proc = folder.components().nth(1) == Some(Component::Normal("proc".as_ref()));
    (is_ours || (in_proc && folder.ends_with("fd"))).then_some((is_ours, number))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_path_is_what_its_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("sub")).unwrap();
        symlink("file", at("link")).unwrap();
        symlink("../link", at("sub/chain")).unwrap();
        symlink("sub/new", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/proc/self/fd/1", at("out")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        let of = |name: &str| Target::of(&at(name));
        assert_eq!(of("file").unwrap(), Target::File(at("file")));
        assert_eq!(of("link").unwrap(), Target::File(at("file")));
        assert_eq!(of("sub/chain").unwrap(), Target::File(at("sub/../file")));
        assert_eq!(of("dangling").unwrap(), Target::New(at("sub/new")));
        assert_eq!(of("absent").unwrap(), Target::New(at("absent")));
        assert_eq!(of("sub").unwrap(), Target::Folder);
        assert_eq!(of("absent/").unwrap(), Target::Folder);
        assert_eq!(of("out").unwrap(), Target::Descriptor(1));
        assert_eq!(of("fifo").unwrap(), Target::Openable(at("fifo")));
        assert_eq!(of("socket").unwrap(), Target::Socket(at("socket")));
        assert_eq!(of("loop").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(of("file/x").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn the_names_of_descriptors_are_no_paths() {
        for (path, number) in [
            ("/dev/stdout", 1),
            ("/dev/stderr", 2),
            ("/dev/fd/7", 7),
            ("/proc/self/fd/63", 63),
            ("/proc/thread-self/fd/0", 0),
        ] {
            assert_eq!(Target::of(Path::new(path)).unwrap(), Target::Descriptor(number), "{path}");
        }
        let own = format!("/proc/{}/fd/1", std::process::id());
        assert_eq!(Target::of(Path::new(&own)).unwrap(), Target::Descriptor(1));
        assert_eq!(
            Target::of(Path::new("/proc/1/fd/0")).unwrap(),
            Target::Foreign("/proc/1/fd/0".into())
        );
        assert!(matches!(Target::of(Path::new("/dev/null")).unwrap(), Target::Openable(_)));
    }
}
