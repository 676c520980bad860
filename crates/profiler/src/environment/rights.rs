//! What the settings allow, and for anything that they do not allow, the setting to change.
//!
//! Read in the kernel's source, v5.10 to v6.18, where all of it is the same: `perf_allow_kernel()`,
//! `perf_allow_cpu()` and `perf_is_paranoid()` (`include/linux/perf_event.h`; the first in
//! `kernel/events/core.c` from v6.13), `kallsyms_show_value()` (`kernel/kallsyms.c`; in
//! `kernel/ksyms_common.c` from v6.5) and `ptrace_may_access()`.

use serde::Serialize;

use super::{Capabilities, Environment, KernelSymbols, Tracing};

/// The level from which kernels of Debian (3) and Ubuntu (4 since 20.04, before that 3) close perf
/// events to everybody without `CAP_SYS_ADMIN`, by a patch of their own: `perf_paranoid_any()`.
/// On every other kernel all levels above 2 mean 2.
pub(super) const DISTRIBUTION_LEVEL: i32 = 3;

/// One thing that limits what can be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The setting, as one would look it up: `kernel.perf_event_paranoid`.
    pub setting: &'static str,
    /// Its value now, with what matters of this process.
    pub present_value: String,
    /// What can't be measured because of it.
    pub consequence: String,
    /// A command that lifts it, to be pasted into a shell. `None` where nothing can be done.
    pub fix: Option<String>,
}

/// Whether something may be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It may.
    Granted,
    /// It may not, because of this.
    Denied(Limit),
}

impl Permission {
    /// It may be done.
    pub fn is_granted(&self) -> bool {
        matches!(self, Permission::Granted)
    }

    /// Why it may not.
    pub fn limit(&self) -> Option<&Limit> {
        match self {
            Permission::Granted => None,
            Permission::Denied(limit) => Some(limit),
        }
    }
}

/// What follows from an [`Environment`]. The kernel has the last word: a filter or a security module
/// can refuse what these grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// Events may measure kernel code as well as user code.
    pub kernel: Permission,
    /// Events may be opened on a CPU, for all that runs there.
    pub per_cpu: Permission,
    /// Kernel addresses can be given names.
    pub kernel_names: Permission,
    /// Processes of other users may be measured.
    pub other_users: Permission,
    /// Tracepoints can be found by name, and opened.
    pub tracepoints: Permission,
}

impl Rights {
    /// Each limit once, the weightiest first.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        [&self.kernel, &self.kernel_names, &self.per_cpu, &self.tracepoints, &self.other_users]
            .into_iter()
            .filter_map(Permission::limit)
    }
}

impl Environment {
    /// What these settings allow.
    pub fn rights(&self) -> Rights {
        Rights {
            kernel: self.below_paranoid(1, "kernel code is not measured: user code only"),
            per_cpu: self.below_paranoid(
                0,
                "events are opened for each task instead of each CPU, \
                 which biases cpu-clock samples towards context switches",
            ),
            kernel_names: self.kernel_names(),
            other_users: self.other_users(),
            tracepoints: self.tracepoints(),
        }
    }

    /// `perfmon_capable()`.
    pub(super) fn is_perfmon(&self) -> bool {
        self.has(Capabilities::PERFMON) || self.has(Capabilities::SYS_ADMIN)
    }

    /// Granted up to a level of `perf_event_paranoid`, and to the privileged.
    fn below_paranoid(&self, level: i32, consequence: &str) -> Permission {
        if self.is_perfmon() || self.perf.paranoid.is_none_or(|paranoid| paranoid <= level) {
            return Permission::Granted;
        }
        Permission::Denied(Limit {
            setting: "kernel.perf_event_paranoid",
            present_value: self.paranoid_text(),
            consequence: consequence.to_owned(),
            fix: Some(self.on_host(format!("sudo sysctl kernel.perf_event_paranoid={level}"))),
        })
    }

    /// `kallsyms_show_value()`: at `kptr_restrict` 0 with `CAP_SYSLOG` or where the kernel may be
    /// profiled by all (`perf_event_paranoid` ≤ 1), at 1 with `CAP_SYSLOG`, at 2 never.
    fn kernel_names(&self) -> Permission {
        let consequence = "kernel frames have no names";
        let fix = match (self.kernel_symbols, self.kptr_restrict) {
            (KernelSymbols::Addresses, _) => return Permission::Granted,
            (KernelSymbols::Missing, _) => {
                return Permission::Denied(Limit {
                    setting: "/proc/kallsyms",
                    present_value: "empty or absent".to_owned(),
                    consequence: consequence.to_owned(),
                    fix: None,
                });
            }
            (KernelSymbols::Zeros, Some(2..)) if self.has(Capabilities::SYSLOG) => {
                "sudo sysctl kernel.kptr_restrict=1".to_owned()
            }
            (KernelSymbols::Zeros, Some(1..)) => {
                "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1".to_owned()
            }
            (KernelSymbols::Zeros, _) => "sudo sysctl kernel.perf_event_paranoid=1".to_owned(),
        };
        let syslog = if self.has(Capabilities::SYSLOG) { "" } else { ", no CAP_SYSLOG" };
        Permission::Denied(Limit {
            setting: "kernel.kptr_restrict",
            present_value: match self.kptr_restrict {
                Some(value) => format!("{value}{syslog}"),
                None => format!("unknown{syslog}"),
            },
            consequence: format!("{consequence}: /proc/kallsyms shows zeros"),
            fix: Some(self.on_host(fix)),
        })
    }

    /// `perf_check_permission()` (v5.13; before that the same inline): the process's own user, or
    /// `CAP_PERFMON`, or `CAP_SYS_PTRACE`.
    fn other_users(&self) -> Permission {
        if self.is_perfmon() || self.has(Capabilities::SYS_PTRACE) {
            return Permission::Granted;
        }
        Permission::Denied(Limit {
            setting: "CAP_PERFMON",
            present_value: "absent".to_owned(),
            consequence: "only processes of this user can be measured".to_owned(),
            fix: Some(self.setcap()),
        })
    }

    fn tracepoints(&self) -> Permission {
        let consequence = "who woke whom can't be seen; blocked time can";
        let fix = match &self.tracing {
            Tracing::Readable(_) => {
                return self.below_paranoid(-1, consequence);
            }
            // The files below it are 0440 to root's group: the group has to be given away too.
            Tracing::Denied(mount) => {
                format!("sudo mount -o remount,mode=750,gid=$(id -g) {}", mount.display())
            }
            Tracing::NotMounted => "sudo mount -t tracefs tracefs /sys/kernel/tracing".to_owned(),
        };
        Permission::Denied(Limit {
            setting: "tracefs",
            present_value: match &self.tracing {
                Tracing::Denied(mount) => format!("{} is closed to this user", mount.display()),
                _ => "not mounted".to_owned(),
            },
            consequence: consequence.to_owned(),
            fix: Some(self.on_host(fix)),
        })
    }

    pub(super) fn paranoid_text(&self) -> String {
        let level = self.perf.paranoid.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        if self.process.initial_user_namespace == Some(false) {
            format!("{level}, and capabilities count for nothing in this user namespace")
        } else {
            format!("{level}, no CAP_PERFMON")
        }
    }

    /// The command that gives the binary the rights for good, whatever the settings.
    pub(super) fn setcap(&self) -> String {
        // The patched kernels ask for CAP_SYS_ADMIN from that level on.
        let perfmon = match self.perf.paranoid {
            Some(DISTRIBUTION_LEVEL..) => "cap_sys_admin",
            _ => "cap_perfmon",
        };
        self.on_host(format!(
            "sudo setcap {perfmon},cap_syslog,cap_ipc_lock=ep \"$(command -v pipeprof)\""
        ))
    }

    /// A container can't change what belongs to the host.
    pub(super) fn on_host(&self, command: String) -> String {
        match self.process.initial_user_namespace {
            Some(false) => format!("{command}  # on the host"),
            _ => command,
        }
    }
}
