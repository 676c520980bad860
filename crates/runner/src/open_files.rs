//! What to do where no more files can be opened, whatever they were for.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

/// How to be allowed more, where that is what an error tells.
pub fn hint(error: &io::Error) -> Option<String> {
    match Errno::from_raw(error.raw_os_error()?) {
        Errno::EMFILE => Some(match getrlimit(Resource::RLIMIT_NOFILE) {
            Ok((soft, hard)) if hard > soft && hard >= ENOUGH => format!("ulimit -n {hard}"),
            _ => format!("sudo prlimit --pid $$ --nofile={ENOUGH}"),
        }),
        Errno::ENFILE => Some("sudo sysctl fs.file-max=1000000".to_owned()),
        _ => None,
    }
}

/// With so many, thousands of processes can be profiled.
const ENOUGH: u64 = 65_536;

/// The folder was deleted, as the one that a shell stands in can be.
pub fn is_deleted(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder).is_ok_and(|folder| folder.is_dir() && folder.nlink() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shortage_of_descriptors_is_told_how_to_get_more() {
        let hint = |errno| hint(&io::Error::from_raw_os_error(errno));
        let more = hint(libc::EMFILE).unwrap();
        assert!(more.starts_with("ulimit -n ") || more.starts_with("sudo prlimit"), "{more}");
        assert_eq!(hint(libc::ENFILE).as_deref(), Some("sudo sysctl fs.file-max=1000000"));
        assert_eq!(hint(libc::ENOENT), None);
    }

    #[test]
    fn a_folder_is_deleted_while_somebody_holds_it() {
        use std::os::fd::AsRawFd;
        let folder = std::env::temp_dir().join(format!("pipeprof-deleted-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let held = std::fs::File::open(&folder).unwrap();
        let held_as = Path::new("/proc/self/fd").join(held.as_raw_fd().to_string());
        assert!(!is_deleted(&folder) && !is_deleted(&held_as));
        std::fs::remove_dir(&folder).unwrap();
        assert!(!is_deleted(&folder) && is_deleted(&held_as));
    }
}
