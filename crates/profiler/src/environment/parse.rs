//! The text formats of `/proc` and `/sys`, as functions from text to values.

use pipeprof_runner::cpus;
use serde::Serialize;

use super::KernelSymbols;

/// A limit that may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxAllowed {
    /// No limit.
    Unlimited,
    /// No more than this.
    AtMost(u64),
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Lock memory beyond the limits, so rings of any size.
    pub const IPC_LOCK: u8 = 14;
    /// Look into any process.
    pub const SYS_PTRACE: u8 = 19;
    /// Nearly everything; includes what `PERFMON` gives.
    pub const SYS_ADMIN: u8 = 21;
    /// Exceed `pipe-max-size` and other quotas.
    pub const SYS_RESOURCE: u8 = 24;
    /// See kernel addresses.
    pub const SYSLOG: u8 = 34;
    /// Use perf events without regard to `perf_event_paranoid` (from v5.8).
    pub const PERFMON: u8 = 38;

    const SHOWN: [(u8, &'static str); 6] = [
        (Self::PERFMON, "CAP_PERFMON"),
        (Self::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (Self::SYSLOG, "CAP_SYSLOG"),
        (Self::IPC_LOCK, "CAP_IPC_LOCK"),
        (Self::SYS_PTRACE, "CAP_SYS_PTRACE"),
        (Self::SYS_RESOURCE, "CAP_SYS_RESOURCE"),
    ];

    /// From the bits of `CapEff` in `/proc/PID/status`.
    pub fn from_bits(bits: u64) -> Self {
        Capabilities(bits)
    }

    /// Whether the set holds a capability, by its number in `linux/capability.h`.
    pub fn has(self, capability: u8) -> bool {
        self.0 >> capability & 1 == 1
    }

    /// Those of the set that matter to a profiler, by name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::SHOWN.into_iter().filter(move |&(bit, _)| self.has(bit)).map(|(_, name)| name)
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Serialize for Capabilities {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// A file that holds one number.
pub(super) fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// The value of `key:` in `/proc/PID/status`.
pub(super) fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::trim))
}

/// `Uid:` real, effective, saved, file system.
pub(super) fn effective_uid(status: &str) -> Option<u32> {
    status_field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok()
}

pub(super) fn effective_capabilities(status: &str) -> Option<Capabilities> {
    u64::from_str_radix(status_field(status, "CapEff")?, 16).ok().map(Capabilities)
}

/// Only the first user namespace maps all ids onto themselves: the kernel refuses a map of
/// `4294967295` ids to a namespace whose parent doesn't have them all.
pub(super) fn is_initial_user_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Soft and hard limit of a line in `/proc/PID/limits`.
pub(super) fn resource_limit(limits: &str, name: &str) -> Option<(MaxAllowed, MaxAllowed)> {
    let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = values.split_whitespace().map(|value| match value {
        "unlimited" => Some(MaxAllowed::Unlimited),
        number => number.parse().ok().map(MaxAllowed::AtMost),
    });
    Some((values.next()??, values.next()??))
}

/// How many CPUs a list such as `0-3,8,10-11` names.
pub(super) fn cpu_count(list: &str) -> Option<u32> {
    cpus::ranges(list)?.into_iter().try_fold(0_u32, |sum, range| {
        sum.checked_add((range.end() - range.start()).checked_add(1)?)
    })
}

/// Whether the beginning of `/proc/kallsyms` shows addresses. One symbol that is not at 0 decides:
/// on x86 before v6.15 the per-CPU symbols that come first really do lie at 0.
pub(super) fn kernel_symbols(beginning: &str) -> KernelSymbols {
    let mut addresses = beginning
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .peekable();
    if addresses.peek().is_none() {
        KernelSymbols::Missing
    } else if addresses.any(|address| address != 0) {
        KernelSymbols::Addresses
    } else {
        KernelSymbols::Zeros
    }
}

/// Where a file system of this type is mounted first.
pub(super) fn mount_point<'a>(mounts: &'a str, file_system: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == file_system).then_some(path)
    })
}

/// The word in brackets: `always [madvise] never`.
pub(super) fn chosen(choices: &str) -> Option<&str> {
    choices.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// The size in a directory's name, `hugepages-2048kB`.
pub(super) fn huge_page_kib(directory: &str) -> Option<u64> {
    directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

/// CPUID leaf 1, ECX bit 31, as x86 kernels print it.
pub(super) fn has_hypervisor_flag(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}
