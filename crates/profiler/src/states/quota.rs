//! CPU quotas of control groups, and how long they throttled their processes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pipeprof_runner::proc_file;
use rustc_hash::FxHashMap;

use super::hierarchy::{Hierarchy, Version, mounted};

/// The groups of the processes that are looked at.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    hierarchies: Vec<Hierarchy>,
    /// By path of the group within the first hierarchy that has it; `None` where nothing is limited.
    groups: FxHashMap<PathBuf, Option<Group>>,
}

/// A group of which a quota is set, or one above it.
#[derive(Debug)]
struct Group {
    cpus: f64,
    /// One for each quota.
    stats: Vec<File>,
}

/// What a quota did to a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Throttling {
    /// CPUs that the tightest quota allows.
    pub(super) cpus: f64,
    /// Since the group was made, on all CPUs, in nanoseconds.
    pub(super) throttled_ns: u64,
}

impl Quotas {
    /// Those of this machine; none where nothing is mounted.
    pub(super) fn read() -> Quotas {
        Quotas { hierarchies: mounted(), groups: FxHashMap::default() }
    }

    /// How a process is limited; `None` where it is not.
    pub(super) fn of(&mut self, pid: i32) -> Option<Throttling> {
        if self.hierarchies.is_empty() {
            return None;
        }
        let text = proc_file::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        self.of_groups(&text)
    }

    fn of_groups(&mut self, text: &str) -> Option<Throttling> {
        let mut found: Option<Throttling> = None;
        for hierarchy in &self.hierarchies {
            let Some(folder) = hierarchy.folder_of(text) else { continue };
            let group = self
                .groups
                .entry(folder)
                .or_insert_with_key(|folder| Group::open(folder, hierarchy));
            if let Some(now) = group.as_ref().and_then(|group| group.read(hierarchy.version)) {
                let known = found.get_or_insert(Throttling { cpus: now.cpus, throttled_ns: 0 });
                known.cpus = known.cpus.min(now.cpus);
                known.throttled_ns += now.throttled_ns;
            }
        }
        found
    }
}

impl Group {
    /// With the quotas of all groups above it, as each of them throttles.
    fn open(folder: &Path, hierarchy: &Hierarchy) -> Option<Group> {
        let mut group = Group { cpus: f64::INFINITY, stats: Vec::new() };
        for folder in hierarchy.upward(folder) {
            let Some(cpus) = quota(folder, hierarchy.version) else { continue };
            let Ok(stat) = File::open(folder.join("cpu.stat")) else { continue };
            group.cpus = group.cpus.min(cpus);
            group.stats.push(stat);
        }
        (!group.stats.is_empty()).then_some(group)
    }

    fn read(&self, version: Version) -> Option<Throttling> {
        let mut buffer = [0u8; 1024];
        let mut throttled_ns = 0;
        for stat in &self.stats {
            let length = stat.read_at(&mut buffer, 0).ok()?;
            let text = std::str::from_utf8(&buffer[..length]).ok()?;
            throttled_ns += throttled(text, version)?;
        }
        Some(Throttling { cpus: self.cpus, throttled_ns })
    }
}

/// CPUs that a group may use; `None` where that is not limited.
fn quota(folder: &Path, version: Version) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (quota, period) = match version {
        Version::Two => {
            let text = read("cpu.max")?;
            let mut words = text.split_ascii_whitespace();
            (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?)
        }
        Version::One => {
            let number = |name: &str| read(name)?.trim().parse::<f64>().ok();
            (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
        }
    };
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// `throttled_usec` of version 2, `throttled_time` in nanoseconds of version 1
/// (`cpu_extra_stat_show` and `cpu_cfs_stat_show` in kernel/sched/core.c, v6.18).
fn throttled(stat: &str, version: Version) -> Option<u64> {
    let (name, unit) = match version {
        Version::One => ("throttled_time", 1),
        Version::Two => ("throttled_usec", 1_000),
    };
    let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
    stat.lines().find_map(value).map(|value| value.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_of_a_group_above_counts_and_an_unlimited_one_does_not() {
        let tree = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("free/cpu.max", "max 100000\n");
        write("free/cpu.stat", "usage_usec 9\nthrottled_usec 9\n");
        write("tight/cpu.max", "50000 100000\n");
        write("tight/cpu.stat", "usage_usec 9\nnr_throttled 3\nthrottled_usec 7\n");
        write("tight/inner/cpu.max", "25000 100000\n");
        write("tight/inner/cpu.stat", "throttled_usec 5\n");
        let hierarchy =
            Hierarchy { mounted_at: tree.path().into(), root: "/".into(), version: Version::Two };
        let mut quotas = Quotas { hierarchies: vec![hierarchy], groups: FxHashMap::default() };
        assert_eq!(quotas.of_groups("0::/free\n"), None);
        assert_eq!(quotas.of_groups("0::/absent\n"), None);
        let inner = quotas.of_groups("0::/tight/inner\n").unwrap();
        assert_eq!(inner, Throttling { cpus: 0.25, throttled_ns: 12_000 });
        write("tight/inner/cpu.stat", "throttled_usec 6\n");
        assert_eq!(quotas.of_groups("0::/tight/inner\n").unwrap().throttled_ns, 13_000);
    }

    #[test]
    fn version_one_counts_nanoseconds() {
        let stat = "nr_periods 4\nnr_throttled 2\nthrottled_time 1234\n";
        assert_eq!(throttled(stat, Version::One), Some(1234));
        assert_eq!(throttled(stat, Version::Two), None);
    }
}
