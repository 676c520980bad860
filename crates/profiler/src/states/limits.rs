//! What the control groups of version 2 allow their processes of memory, disks and CPUs, and for how
//! long these waited for them. A group of version 1 says nothing here.

use std::fs;
use std::path::{Path, PathBuf};

use pipeprof_runner::proc_file;
use rustc_hash::FxHashMap;

use super::hierarchy::{Hierarchy, Version, mounted};
use super::pressure::some_ns;
use super::timeline::{GroupLimits, IoLimit, ProcessRef, Stalls};

/// The groups of the processes that are looked at.
#[derive(Debug, Default)]
pub(super) struct Groups {
    hierarchy: Option<Hierarchy>,
    /// By folder.
    groups: FxHashMap<PathBuf, Group>,
    members: Vec<(ProcessRef, PathBuf)>,
}

#[derive(Debug)]
struct Group {
    limits: GroupLimits,
    /// When it was first looked at, and the pressure until then.
    since_ns: u64,
    before: Option<Stalls>,
}

impl Groups {
    /// Those of this machine; none where the hierarchy is not mounted.
    pub(super) fn read() -> Groups {
        let hierarchy = mounted().into_iter().find(|it| it.version == Version::Two);
        Groups { hierarchy, ..Groups::default() }
    }

    /// A process is looked at from now on.
    pub(super) fn add(&mut self, process: ProcessRef, pid: i32, now_ns: u64) {
        let text = || proc_file::read_to_string(format!("/proc/{pid}/cgroup")).ok();
        if self.hierarchy.is_some()
            && let Some(text) = text()
        {
            self.add_to(process, &text, now_ns);
        }
    }

    fn add_to(&mut self, process: ProcessRef, text: &str, now_ns: u64) {
        let Some(hierarchy) = &self.hierarchy else { return };
        // The machine's root limits nothing, and has no such file (`cgroup_base_files` in
        // kernel/cgroup/cgroup.c, v6.18). What is mounted in a container is its own group.
        let is_group = |folder: &PathBuf| folder.join("cgroup.events").exists();
        let Some(folder) = hierarchy.folder_of(text).filter(is_group) else { return };
        self.groups.entry(folder.clone()).or_insert_with(|| Group {
            limits: limits(&folder, hierarchy),
            since_ns: now_ns,
            before: stalls(&folder),
        });
        self.members.push((process, folder));
    }

    /// What is known of each process's group, with its pressure since it was first looked at.
    pub(super) fn finish(&self, now_ns: u64) -> Vec<(ProcessRef, GroupLimits)> {
        let known: FxHashMap<&Path, GroupLimits> = self
            .groups
            .iter()
            .map(|(folder, group)| {
                let stalled = group.before.zip(stalls(folder)).map(|(before, now)| Stalls {
                    watched_ns: now_ns.saturating_sub(group.since_ns),
                    cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
                    memory_ns: now.memory_ns.saturating_sub(before.memory_ns),
                    io_ns: now.io_ns.saturating_sub(before.io_ns),
                });
                (&**folder, GroupLimits { stalled, ..group.limits.clone() })
            })
            .collect();
        let of = |(process, folder): &(ProcessRef, PathBuf)| {
            let limits = known.get(&**folder).filter(|limits| **limits != GroupLimits::default());
            Some((*process, limits?.clone()))
        };
        self.members.iter().filter_map(of).collect()
    }
}

/// The tightest limits of a group and of those above it.
fn limits(folder: &Path, hierarchy: &Hierarchy) -> GroupLimits {
    let mut found = GroupLimits::default();
    let tightest = |known: Option<u64>, more: Option<u64>| match (known, more) {
        (Some(known), Some(more)) => Some(known.min(more)),
        (known, more) => known.or(more),
    };
    let mut is_bound = false;
    for folder in hierarchy.upward(folder) {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let bytes = |name: &str| read(name)?.trim().parse::<u64>().ok();
        found.memory_high_bytes = tightest(found.memory_high_bytes, bytes("memory.high"));
        found.memory_max_bytes = tightest(found.memory_max_bytes, bytes("memory.max"));
        for more in parse_io(&read("io.max").unwrap_or_default()) {
            match found.io.iter_mut().find(|known| known.device == more.device) {
                Some(known) => {
                    known.read_bytes_per_second =
                        tightest(known.read_bytes_per_second, more.read_bytes_per_second);
                    known.write_bytes_per_second =
                        tightest(known.write_bytes_per_second, more.write_bytes_per_second);
                    known.reads_per_second =
                        tightest(known.reads_per_second, more.reads_per_second);
                    known.writes_per_second =
                        tightest(known.writes_per_second, more.writes_per_second);
                }
                None => found.io.push(more),
            }
        }
        is_bound |= read("cpuset.cpus").is_some_and(|cpus| !cpus.trim().is_empty());
    }
    if is_bound {
        let cpus = fs::read_to_string(folder.join("cpuset.cpus.effective")).ok();
        found.cpus = cpus.map(|cpus| cpus.trim().to_owned()).filter(|cpus| !cpus.is_empty());
    }
    found
}

/// `8:16 rbps=2097152 wbps=max riops=max wiops=120`, a line a device (`tg_prfill_limit` in
/// block/blk-throttle.c, v6.18).
fn parse_io(text: &str) -> Vec<IoLimit> {
    let limit = |line: &str| {
        let (device, limits) = line.split_once(' ')?;
        let of = |name: &str| {
            let mut words = limits.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
        };
        Some(IoLimit {
            device: device.to_owned(),
            read_bytes_per_second: of("rbps"),
            write_bytes_per_second: of("wbps"),
            reads_per_second: of("riops"),
            writes_per_second: of("wiops"),
        })
    };
    text.lines().filter_map(limit).collect()
}

/// Since the group was made; `None` where the kernel does not account for it, or a group may not
/// (`cgroup.pressure`).
fn stalls(folder: &Path) -> Option<Stalls> {
    let some = |name: &str| some_ns(&fs::read_to_string(folder.join(name)).ok()?);
    Some(Stalls {
        watched_ns: 0,
        cpu_ns: some("cpu.pressure")?,
        memory_ns: some("memory.pressure")?,
        io_ns: some("io.pressure")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn groups(&self) -> Groups {
            let hierarchy = Hierarchy {
                mounted_at: self.0.path().into(),
                root: "/".into(),
                version: Version::Two,
            };
            Groups { hierarchy: Some(hierarchy), ..Groups::default() }
        }
    }

    #[test]
    fn the_tightest_limit_of_a_group_and_those_above_it_counts() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("a/b/cgroup.events", "populated 1\n");
        tree.write("a/memory.high", "max\n");
        tree.write("a/memory.max", "1073741824\n");
        tree.write("a/io.max", "8:0 rbps=max wbps=1000 riops=max wiops=max\n");
        tree.write("a/cpuset.cpus", "0-1\n");
        tree.write("a/b/memory.high", "536870912\n");
        tree.write("a/b/memory.max", "2147483648\n");
        tree.write(
            "a/b/io.max",
            "8:0 rbps=500 wbps=9000 riops=max wiops=7\n8:16 rbps=1 wbps=max riops=max wiops=max\n",
        );
        tree.write("a/b/cpuset.cpus", "\n");
        tree.write("a/b/cpuset.cpus.effective", "0-1\n");
        let mut groups = tree.groups();
        groups.add_to(ProcessRef(3), "0::/a/b\n", 5);
        let [(process, limits)] = &groups.finish(9)[..] else { panic!() };
        assert_eq!(*process, ProcessRef(3));
        assert_eq!(
            (limits.memory_high_bytes, limits.memory_max_bytes),
            (Some(512 << 20), Some(1 << 30))
        );
        assert_eq!(limits.cpus.as_deref(), Some("0-1"));
        assert_eq!(limits.stalled, None);
        assert_eq!(limits.io.len(), 2);
        assert_eq!(
            limits.io[0],
            IoLimit {
                device: "8:0".into(),
                read_bytes_per_second: Some(500),
                write_bytes_per_second: Some(1000),
                reads_per_second: None,
                writes_per_second: Some(7),
            }
        );
    }

    #[test]
    fn pressure_counts_from_the_first_look_at_the_group() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let press = |io: u64| {
            tree.write("a/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
            tree.write("a/memory.pressure", "some avg10=0.00 total=2\nfull avg10=0.00 total=1\n");
            tree.write("a/io.pressure", &format!("some avg10=0.00 total={io}\n"));
        };
        tree.write("a/cgroup.events", "populated 1\n");
        press(10);
        let mut groups = tree.groups();
        groups.add_to(ProcessRef(0), "0::/a\n", 1_000_000);
        press(60);
        // A second process of the group, later.
        groups.add_to(ProcessRef(1), "0::/a\n", 2_000_000);
        let found = groups.finish(3_000_000);
        let stalled = Stalls { watched_ns: 2_000_000, cpu_ns: 0, memory_ns: 0, io_ns: 50_000 };
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(_, limits)| limits.stalled == Some(stalled)));
    }

    #[test]
    fn the_root_and_groups_that_are_not_there_say_nothing() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("io.pressure", "some avg10=0.00 total=1\n");
        let mut groups = tree.groups();
        for text in ["0::/\n", "0::/absent\n", "4:memory:/empty\n", ""] {
            groups.add_to(ProcessRef(0), text, 0);
        }
        assert!(groups.members.is_empty());
        // In a container the mounted folder is its group.
        tree.write("cgroup.events", "populated 1\n");
        tree.write("memory.max", "1\n");
        groups.add_to(ProcessRef(0), "0::/\n", 0);
        assert_eq!(groups.finish(1)[0].1.memory_max_bytes, Some(1));
        assert!(Groups::default().finish(1).is_empty());
    }
}
