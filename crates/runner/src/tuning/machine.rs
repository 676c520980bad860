//! What the machine allows to be changed: CPUs and where they lie, and the limits of pipes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::cpus::of_thread;

/// Where a CPU lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuPlace {
    /// Its number.
    pub cpu: usize,
    /// Its package and core: hardware threads of one core share them. The CPU's own number where
    /// the kernel doesn't say.
    pub core: (i64, i64),
    /// The CPUs that share its last-level cache, as the kernel lists them; empty where it doesn't.
    pub last_level_cache: String,
}

/// The CPUs that this process may use, and where they lie.
pub fn allowed_cpus() -> Vec<CpuPlace> {
    cpus_of(0).into_iter().map(place).collect()
}

/// The CPUs that a thread may use; none where it has gone. 0 is the calling thread.
pub fn cpus_of(tid: i32) -> Vec<usize> {
    of_thread(tid).unwrap_or_default()
}

fn place(cpu: usize) -> CpuPlace {
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
    let number = |name: &str| -> Option<i64> {
        fs::read_to_string(format!("{folder}/topology/{name}")).ok()?.trim().parse().ok()
    };
    let core = number("physical_package_id").zip(number("core_id"));
    let caches = (0..8).rev().map(|index| format!("{folder}/cache/index{index}/shared_cpu_list"));
    let last_level_cache = caches.into_iter().find_map(|path| fs::read_to_string(path).ok());
    CpuPlace {
        cpu,
        core: core.unwrap_or((0, cpu as i64)),
        last_level_cache: last_level_cache.unwrap_or_default().trim().to_owned(),
    }
}

/// CPUs as `taskset -c` takes them: `0-3,7`.
///
/// ```
/// assert_eq!(pipeprof_runner::tuning::cpus_text(&[0, 1, 2, 5]), "0-2,5");
/// ```
pub fn cpus_text(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text = |(first, last): (usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}

/// How large pipes may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeLimits {
    /// `fs.pipe-max-size`: the largest pipe of a process without `CAP_SYS_RESOURCE`.
    pub most_bytes: u64,
    /// `fs.pipe-user-pages-soft`, in bytes: what all pipes of an ordinary user may hold together.
    /// `None` where there is no such limit.
    pub user_bytes: Option<u64>,
}

/// The limits of pipes on this machine (`fs/pipe.c`, v6.18); `None` where `/proc/sys` is not there.
pub fn pipe_limits() -> Option<PipeLimits> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?.trim().parse().ok()
    };
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = u64::try_from(page.unwrap_or(4096)).unwrap_or(4096);
    Some(PipeLimits {
        most_bytes: number("pipe-max-size")?,
        user_bytes: number("pipe-user-pages-soft").filter(|&pages| pages > 0).map(|p| p * page),
    })
}

/// How many anonymous pipes of a user are held by processes that may be read: what is charged to its
/// budget of pages is those, by their size. A pipe belongs to the user who made it.
pub fn pipes_of_user(uid: u32) -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    let descriptors = pids
        .flat_map(|pid| fs::read_dir(pid.path().join("fd")).into_iter().flatten().flatten())
        .filter(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
        });
    let pipes = descriptors.filter_map(|fd| {
        let meta = fs::metadata(fd.path()).ok()?;
        (meta.uid() == uid).then(|| (meta.dev(), meta.ino()))
    });
    pipes.collect::<BTreeSet<_>>().len()
}

/// Whether a nice value that was raised can be lowered again: `CAP_SYS_NICE` (`can_nice()`,
/// kernel/sched/syscalls.c, v6.18), bit 23 of `CapEff`.
pub fn may_renice() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    effective.is_some_and(|bits| bits & (1 << 23) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_counted_once_each_for_whoever_made_them() {
        let uid = nix::unistd::geteuid().as_raw();
        let before = pipes_of_user(uid);
        let ends: Vec<_> = (0..50).map(|_| std::io::pipe().unwrap()).collect();
        // Other tests come and go beside this one.
        assert!(pipes_of_user(uid) >= before.min(20) + 30, "{before}");
        assert_eq!(pipes_of_user(u32::MAX - 1), 0);
        drop(ends);
    }
}
