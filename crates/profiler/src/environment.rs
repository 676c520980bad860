//! What a profiler may do on this machine: a snapshot of the settings, the rights that follow from
//! them, and explanations of the kernel's refusals.
//!
//! Everything comes from files below `/proc` and `/sys`, so that a test can simulate a machine.
//! What could not be read is `None`, never a guess.

mod explain;
mod parse;
mod rights;
mod trial;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use pipeprof_runner::access;
use serde::Serialize;

pub use explain::{Explanation, Operation, explain_open_error};
pub use parse::{Capabilities, MaxAllowed};
pub use rights::{Limit, Permission, Rights};
pub use trial::{EventTrial, try_events, try_per_cpu, try_ring};

/// The settings of the running kernel and of this process that decide what can be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// `uname -r`.
    pub kernel_release: Option<String>,
    /// CPUs that are online.
    pub cpus_online: Option<u32>,
    /// CPUs that are plugged in, online or not.
    pub cpus_present: Option<u32>,
    /// The `kernel.perf_*` settings.
    pub perf: PerfSettings,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i32>,
    /// `kernel.yama.ptrace_scope`; `None` where Yama is not built in.
    pub ptrace_scope: Option<i32>,
    /// The NMI watchdog holds a hardware counter of every CPU.
    pub nmi_watchdog: Option<bool>,
    /// Interrupts of the PMU reach code that has interrupts off: on arm64 only where the kernel was
    /// booted with pseudo-NMIs, and this kernel was not if `Some(false)`.
    pub pmu_interrupts_are_nmis: Option<bool>,
    /// What this process is.
    pub process: ProcessRights,
    /// What `/proc/kallsyms` shows to this process.
    pub kernel_symbols: KernelSymbols,
    /// Where tracepoint ids can be read.
    pub tracing: Tracing,
    /// The limits of pipes.
    pub pipes: PipeSettings,
    /// What huge pages there are.
    pub huge_pages: HugePages,
    /// Whether this is a guest.
    pub virtualisation: Virtualisation,
}

/// The `kernel.perf_*` settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerfSettings {
    /// `perf_event_paranoid`. `None` where the kernel has no perf events (or `/proc` is not there).
    pub paranoid: Option<i32>,
    /// `perf_event_max_sample_rate`, in samples a second for each CPU.
    pub max_sample_rate_hz: Option<u64>,
    /// `perf_event_mlock_kb`: ring memory a user may have for each online CPU, in KiB.
    pub mlock_kib: Option<u64>,
    /// `perf_event_max_stack`: the most frames of a call chain.
    pub max_stack_frames: Option<u32>,
    /// `perf_cpu_time_max_percent`: the share of CPU time that sampling may take before the kernel
    /// lowers the rate; 0 is no limit.
    pub cpu_time_max_percent: Option<u32>,
}

/// What this process may do, from `/proc/self/status` and `/proc/self/limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessRights {
    /// Effective user id.
    pub effective_uid: Option<u32>,
    /// Effective capabilities.
    pub capabilities: Capabilities,
    /// `false` in a user namespace other than the first, where capabilities carry no weight with
    /// perf: the kernel asks for them in the first (`perfmon_capable()`, v5.8 on).
    pub initial_user_namespace: Option<bool>,
    /// `Seccomp:` 0 none, 1 strict, 2 filtered (as in most containers).
    pub seccomp_mode: Option<u8>,
    /// `RLIMIT_MEMLOCK`, soft, in bytes.
    pub memlock_bytes: Option<MaxAllowed>,
    /// `RLIMIT_NOFILE`, soft.
    pub open_files_soft: Option<MaxAllowed>,
    /// `RLIMIT_NOFILE`, hard: as far as this process may raise the soft one.
    pub open_files_hard: Option<MaxAllowed>,
}

/// What `/proc/kallsyms` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelSymbols {
    /// Names with their addresses.
    Addresses,
    /// Names, but every address reads 0.
    Zeros,
    /// Nothing: no such file, or it is empty or can't be opened.
    #[default]
    Missing,
}

/// Whether tracepoint ids can be read, by trying `sched:sched_switch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tracing {
    /// Readable below this mount point.
    Readable(PathBuf),
    /// Mounted, but closed to this user.
    Denied(PathBuf),
    /// No tracefs is mounted where it belongs.
    #[default]
    NotMounted,
}

/// `fs.pipe-*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PipeSettings {
    /// `pipe-max-size`: the largest pipe without `CAP_SYS_RESOURCE`, in bytes.
    pub max_size_bytes: Option<u64>,
    /// `pipe-user-pages-soft`: pages of all pipes of a user from which new pipes are made small; 0
    /// is no limit.
    pub user_pages_soft: Option<u64>,
    /// `pipe-user-pages-hard`: pages from which no pipe can be made; 0 is no limit.
    pub user_pages_hard: Option<u64>,
}

/// Transparent and reserved huge pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// `always`, `madvise` or `never`; `None` where the kernel has no transparent huge pages.
    pub transparent: Option<String>,
    /// The size of a transparent huge page in bytes.
    pub size_bytes: Option<u64>,
    /// Reserved pages that are free, over all sizes, in bytes.
    pub reserved_free_bytes: u64,
}

/// Whether this kernel runs under a hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Virtualisation {
    /// The CPU says so (x86), or the firmware does.
    pub guest: bool,
    /// What the firmware calls the machine. Untrusted text.
    pub product: Option<String>,
}

impl Environment {
    /// Reads this machine's settings. Takes well under a millisecond; changes nothing.
    pub fn read() -> Self {
        // What counts is what the program may do, and it may be more than is in force.
        access::with_rights(|| Self::read_from(Path::new("/")))
    }

    /// Reads the settings of the machine whose `proc` and `sys` lie below `root`.
    pub fn read_from(root: &Path) -> Self {
        let files = Files { root };
        let kernel = |name: &str| files.text(&format!("proc/sys/kernel/{name}"));
        let number = |text: Option<String>| text.as_deref().and_then(parse::number);
        let cpus = |name: &str| {
            files
                .text(&format!("sys/devices/system/cpu/{name}"))
                .as_deref()
                .and_then(parse::cpu_count)
        };
        Environment {
            kernel_release: kernel("osrelease").map(|s| s.trim().to_owned()),
            cpus_online: cpus("online"),
            cpus_present: cpus("present"),
            perf: PerfSettings {
                paranoid: number(kernel("perf_event_paranoid")).map(|n| n as i32),
                max_sample_rate_hz: number(kernel("perf_event_max_sample_rate")).map(|n| n as u64),
                mlock_kib: number(kernel("perf_event_mlock_kb")).map(|n| n as u64),
                max_stack_frames: number(kernel("perf_event_max_stack")).map(|n| n as u32),
                cpu_time_max_percent: number(kernel("perf_cpu_time_max_percent")).map(|n| n as u32),
            },
            kptr_restrict: number(kernel("kptr_restrict")).map(|n| n as i32),
            ptrace_scope: number(kernel("yama/ptrace_scope")).map(|n| n as i32),
            nmi_watchdog: number(kernel("nmi_watchdog"))
                .map(|n| n != 0 && !files.has_buddy_watchdog(kernel("osrelease").as_deref())),
            pmu_interrupts_are_nmis: files.pmu_interrupts_are_nmis(),
            process: files.process_rights(),
            kernel_symbols: files.kernel_symbols(),
            tracing: files.tracing(),
            pipes: PipeSettings {
                max_size_bytes: number(files.text("proc/sys/fs/pipe-max-size")).map(|n| n as u64),
                user_pages_soft: number(files.text("proc/sys/fs/pipe-user-pages-soft"))
                    .map(|n| n as u64),
                user_pages_hard: number(files.text("proc/sys/fs/pipe-user-pages-hard"))
                    .map(|n| n as u64),
            },
            huge_pages: files.huge_pages(),
            virtualisation: files.virtualisation(),
        }
    }

    /// Ring memory in bytes that this process may map before the kernel answers `EPERM`:
    /// `perf_event_mlock_kb` for each online CPU, shared by all of the user's perf sessions, and
    /// `RLIMIT_MEMLOCK` on top of it (`perf_mmap()`, `kernel/events/core.c`, v5.10–v6.18).
    /// [`MaxAllowed::Unlimited`] with `CAP_IPC_LOCK` or at `perf_event_paranoid` −1; `None` where
    /// the settings can't be read.
    pub fn ring_allowance_bytes(&self) -> Option<MaxAllowed> {
        if self.has(Capabilities::IPC_LOCK) || self.perf.paranoid == Some(-1) {
            return Some(MaxAllowed::Unlimited);
        }
        let of_user = self.perf.mlock_kib? * 1024 * u64::from(self.cpus_online?);
        Some(match self.process.memlock_bytes? {
            MaxAllowed::Unlimited => MaxAllowed::Unlimited,
            MaxAllowed::AtMost(bytes) => MaxAllowed::AtMost(of_user.saturating_add(bytes)),
        })
    }

    /// Holds a capability that the kernel honours for perf: in the first user namespace.
    /// The pages that all pipes of this user may take together before the kernel refuses to enlarge
    /// one and makes new ones of a page or two; `None` where there is no such limit, or not for this
    /// process (`pipe_is_unprivileged_user()`, `fs/pipe.c`, v6.18).
    pub fn pipe_budget_pages(&self) -> Option<u64> {
        let is_exempt = self.has(Capabilities::SYS_RESOURCE) || self.has(Capabilities::SYS_ADMIN);
        self.pipes.user_pages_soft.filter(|&pages| pages > 0 && !is_exempt)
    }

    fn has(&self, capability: u8) -> bool {
        self.process.initial_user_namespace != Some(false)
            && self.process.capabilities.has(capability)
    }
}

/// What the firmware of virtual machines calls itself, where the CPU does not tell, as on arm64
/// (`dmi_vendor_table` in src/basic/virt.c, systemd 252).
const VIRTUAL: [&str; 11] = [
    "QEMU",
    "KVM",
    "VMware",
    "VirtualBox",
    "innotek",
    "Xen",
    "Bochs",
    "Parallels",
    "BHYVE",
    "Apple Virtualization",
    "Google Compute Engine",
];

/// Reads files below a root.
struct Files<'a> {
    root: &'a Path,
}

/// Of `/proc/cpuinfo` and `/proc/kallsyms` the beginning says it all.
const ENOUGH_BYTES: u64 = 64 * 1024;

impl Files<'_> {
    fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.root.join(path)).ok()?.take(ENOUGH_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The watchdog in which CPUs watch each other (`CONFIG_HARDLOCKUP_DETECTOR_BUDDY`, since 6.5)
    /// needs no counter, though `kernel.nmi_watchdog` turns it on as well.
    fn has_buddy_watchdog(&self, release: Option<&str>) -> bool {
        let Some(release) = release else { return false };
        let config = self.root.join(format!("boot/config-{}", release.trim()));
        let config = std::fs::read_to_string(config).unwrap_or_default();
        config.lines().any(|line| line == "CONFIG_HARDLOCKUP_DETECTOR_BUDDY=y")
    }

    /// On arm64 "NMIs" are interrupts of a higher priority, which have to be asked for
    /// (`irqchip.gicv3_pseudo_nmi` in Documentation/admin-guide/kernel-parameters.txt, v6.12).
    fn pmu_interrupts_are_nmis(&self) -> Option<bool> {
        let is_arm = self.text("proc/cpuinfo")?.contains("CPU implementer");
        let command_line = self.text("proc/cmdline").unwrap_or_default();
        let asked = command_line.split_ascii_whitespace().any(|word| {
            let value = word.strip_prefix("irqchip.gicv3_pseudo_nmi=");
            value.is_some_and(|value| matches!(value, "1" | "y" | "Y" | "on"))
        });
        is_arm.then_some(asked)
    }

    fn process_rights(&self) -> ProcessRights {
        let status = self.text("proc/self/status").unwrap_or_default();
        let limits = self.text("proc/self/limits").unwrap_or_default();
        let memlock = parse::resource_limit(&limits, "Max locked memory");
        let files = parse::resource_limit(&limits, "Max open files");
        ProcessRights {
            effective_uid: parse::effective_uid(&status),
            capabilities: parse::effective_capabilities(&status).unwrap_or_default(),
            initial_user_namespace: self
                .text("proc/self/uid_map")
                .map(|map| parse::is_initial_user_namespace(&map)),
            seccomp_mode: parse::status_field(&status, "Seccomp").and_then(|v| v.parse().ok()),
            memlock_bytes: memlock.map(|(soft, _)| soft),
            open_files_soft: files.map(|(soft, _)| soft),
            open_files_hard: files.map(|(_, hard)| hard),
        }
    }

    fn kernel_symbols(&self) -> KernelSymbols {
        self.text("proc/kallsyms").as_deref().map_or(KernelSymbols::Missing, parse::kernel_symbols)
    }

    fn tracing(&self) -> Tracing {
        let mut denied = None;
        for mount in ["sys/kernel/tracing", "sys/kernel/debug/tracing"] {
            let id = self.root.join(mount).join("events/sched/sched_switch/id");
            let shown = Path::new("/").join(mount);
            match std::fs::read_to_string(id) {
                Ok(_) => return Tracing::Readable(shown),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    denied.get_or_insert(shown);
                }
                Err(_) => {}
            }
        }
        // `debug` is 0700 on nearly every machine, so it being closed says nothing of tracefs: the
        // list of mounts does.
        let mounts = self.text("proc/self/mounts").unwrap_or_default();
        match (parse::mount_point(&mounts, "tracefs"), denied) {
            (Some(mount), _) => Tracing::Denied(mount.into()),
            (None, Some(path)) if path.ends_with("kernel/tracing") => Tracing::Denied(path),
            (None, _) => Tracing::NotMounted,
        }
    }

    fn huge_pages(&self) -> HugePages {
        let transparent = "sys/kernel/mm/transparent_hugepage";
        let free_bytes = |directory: &Path| -> Option<u64> {
            let kib = parse::huge_page_kib(directory.file_name()?.to_str()?)?;
            let free = std::fs::read_to_string(directory.join("free_hugepages")).ok()?;
            Some(parse::number(&free)? as u64 * kib * 1024)
        };
        HugePages {
            transparent: self
                .text(&format!("{transparent}/enabled"))
                .as_deref()
                .and_then(parse::chosen)
                .map(str::to_owned),
            size_bytes: self
                .text(&format!("{transparent}/hpage_pmd_size"))
                .as_deref()
                .and_then(parse::number)
                .map(|n| n as u64),
            reserved_free_bytes: std::fs::read_dir(self.root.join("sys/kernel/mm/hugepages"))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| free_bytes(&entry.path()))
                .sum(),
        }
    }

    fn virtualisation(&self) -> Virtualisation {
        let line =
            |path: &str| self.text(path).map(|s| s.trim().to_owned()).filter(|s| !s.is_empty());
        let hypervisor =
            line("sys/hypervisor/type").or_else(|| line("proc/device-tree/hypervisor/compatible"));
        let firmware = [line("sys/class/dmi/id/sys_vendor"), line("sys/class/dmi/id/product_name")];
        let firmware: Vec<String> = firmware.into_iter().flatten().collect();
        let cpu_says = self.text("proc/cpuinfo").is_some_and(|s| parse::has_hypervisor_flag(&s));
        let board = self.text("proc/device-tree/compatible").unwrap_or_default();
        let is_virtual = |name: &String| VIRTUAL.iter().any(|known| name.contains(known));
        let guest = cpu_says
            || hypervisor.is_some()
            || board.contains("dummy-virt")
            || firmware.iter().any(is_virtual);
        let product = hypervisor.or((!firmware.is_empty()).then(|| firmware.join(" ")));
        Virtualisation { guest, product }
    }
}

#[cfg(test)]
mod tests;
