//! Hierarchies of control groups: where they are mounted, and which folder is a process's.

use std::path::{Path, PathBuf};

use pipeprof_runner::proc_file;

/// A hierarchy of control groups that may limit something here, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mounted_at: PathBuf,
    /// The group that is seen there.
    pub(super) root: PathBuf,
    pub(super) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Hierarchy {
    /// The folder of a process's group, by the text of its `/proc/PID/cgroup`; `None` where it is
    /// not in this hierarchy, or outside of what is mounted.
    pub(super) fn folder_of(&self, text: &str) -> Option<PathBuf> {
        let below = Path::new(path_in(text, self.version)?).strip_prefix(&self.root).ok()?;
        Some(self.mounted_at.join(below))
    }

    /// A folder and those above it, as far as they are mounted: what limits them limits it.
    pub(super) fn upward<'a>(&self, folder: &'a Path) -> impl Iterator<Item = &'a Path> {
        let within = |folder: &&Path| folder.starts_with(&self.mounted_at);
        folder.ancestors().take_while(within)
    }
}

/// Those of this machine; none where nothing is mounted.
pub(super) fn mounted() -> Vec<Hierarchy> {
    parse_mounts(&proc_file::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The group of a process, as in `/proc/PID/cgroup`: `0::/path`, or `7:cpu,cpuacct:/path`.
fn path_in(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_meant = match version {
            Version::One => controllers.split(',').any(|controller| controller == "cpu"),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        is_meant.then_some(path)
    })
}

/// Lines of `/proc/self/mountinfo`: `ID PARENT DEVICE ROOT MOUNTPOINT … - TYPE SOURCE OPTIONS`.
fn parse_mounts(text: &str) -> Vec<Hierarchy> {
    let hierarchy = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split_ascii_whitespace().skip(3);
        let (root, mounted_at) = (head.next()?, head.next()?);
        let mut tail = tail.split_ascii_whitespace();
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|option| option == "cpu") => Version::One,
            _ => return None,
        };
        Some(Hierarchy { mounted_at: mounted_at.into(), root: root.into(), version })
    };
    text.lines().filter_map(hierarchy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_groups_of_both_versions_are_found() {
        let text = "30 1 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    31 1 0:27 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n\
                    32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = parse_mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].version, found[1].version), (Version::One, Version::Two));
        assert_eq!(found[1].root, Path::new("/docker/x"));
        let groups = "9:name=systemd:/a\n3:cpuacct,cpu:/b\n0::/c/d\n";
        assert_eq!(path_in(groups, Version::One), Some("/b"));
        assert_eq!(path_in(groups, Version::Two), Some("/c/d"));
        assert_eq!(path_in("9:name=systemd:/a\n", Version::Two), None);
    }
}
