//! Explains why the kernel refused an event or its ring.
//!
//! Where `perf_event_open()` fails and how, read in `kernel/events/core.c`, v5.10 to v6.18.

use nix::errno::Errno;

use super::rights::DISTRIBUTION_LEVEL;
use super::{Capabilities, Environment, MaxAllowed};

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `perf_event_open()`.
    Open {
        /// The event in perf's spelling: `cycles`, `cpu-clock`.
        event: &'a str,
        /// It was to measure kernel code too.
        kernel: bool,
        /// On a CPU, for all that runs there.
        per_cpu: bool,
        /// The process or thread it was for; `None` for this one, or for a CPU.
        pid: Option<i32>,
    },
    /// `mmap()` of an event's ring buffer.
    MapRing {
        /// Its data pages and the control page, in bytes.
        bytes: u64,
    },
}

/// A refusal in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What the kernel refused, and why. One line, no full stop.
    pub message: String,
    /// The second half of it alone: why.
    pub reason: String,
    /// What would lift it: a command, or its beginning, to be pasted into a shell.
    pub hint: Option<String>,
}

impl Explanation {
    /// A note on what is missing for that reason.
    pub(crate) fn after(&self, what: &str) -> String {
        match &self.hint {
            Some(hint) => format!("{what}: {}; hint: {hint}", self.reason),
            None => format!("{what}: {}", self.reason),
        }
    }
}

/// Says why the kernel answered `errno` to `what`, in this environment.
pub fn explain_open_error(errno: Errno, what: &Operation<'_>, env: &Environment) -> Explanation {
    let (asked, Reason { why, hint }) = match *what {
        Operation::Open { event, kernel, per_cpu, pid } => {
            let target = match (pid, per_cpu) {
                (Some(pid), _) => format!("{event} on process {pid}"),
                (None, true) => format!("{event} on a whole CPU"),
                (None, false) => event.to_owned(),
            };
            let reason = open_reason(errno, event, kernel, per_cpu, pid, env);
            let verb = if errno == Errno::EBUSY { "count" } else { "open" };
            (format!("cannot {verb} {target}"), reason)
        }
        Operation::MapRing { bytes } => {
            let kib = bytes.div_ceil(1024);
            (format!("cannot map a ring of {kib} KiB"), map_reason(errno, bytes, env))
        }
    };
    Explanation { message: format!("{asked} ({errno:?}): {why}"), reason: why, hint }
}

struct Reason {
    why: String,
    hint: Option<String>,
}

impl Reason {
    fn new(why: impl Into<String>) -> Self {
        Reason { why: why.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn open_reason(
    errno: Errno,
    event: &str,
    kernel: bool,
    per_cpu: bool,
    pid: Option<i32>,
    env: &Environment,
) -> Reason {
    match errno {
        Errno::EACCES => denied(kernel, per_cpu, pid, env),
        Errno::EPERM | Errno::ENOSYS if env.process.seccomp_mode == Some(2) => Reason::new(
            "a seccomp filter refuses perf_event_open, as container runtimes set up",
        )
        .hint("docker run --cap-add PERFMON --cap-add SYSLOG --security-opt seccomp=unconfined …"),
        Errno::EPERM => Reason::new("a security module refuses it"),
        Errno::ENOSYS => Reason::new("this kernel was built without CONFIG_PERF_EVENTS"),
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO | Errno::EOPNOTSUPP => unsupported(event, env),
        Errno::EMFILE => {
            let (soft, hard) = (env.process.open_files_soft, env.process.open_files_hard);
            let now = match soft {
                Some(MaxAllowed::AtMost(files)) => format!(" (now {files})"),
                _ => String::new(),
            };
            let reason = Reason::new(format!(
                "every event takes a file descriptor, and this process may open no more{now}"
            ));
            match (soft, hard) {
                (_, Some(MaxAllowed::Unlimited)) => reason.hint("ulimit -n unlimited"),
                (Some(MaxAllowed::AtMost(soft)), Some(MaxAllowed::AtMost(hard))) if hard > soft => {
                    reason.hint(format!("ulimit -n {hard}"))
                }
                _ => reason.hint("sudo prlimit --pid $$ --nofile=65536"),
            }
        }
        Errno::ENFILE => Reason::new("the machine's table of open files is full")
            .hint("sudo sysctl fs.file-max=1000000"),
        Errno::EBUSY => {
            let reason = Reason::new("other users of the PMU hold all of its counters");
            if env.nmi_watchdog == Some(true) {
                reason.hint("sudo sysctl kernel.nmi_watchdog=0")
            } else {
                reason
            }
        }
        Errno::ESRCH => Reason::new(match pid {
            Some(_) => "it has ended",
            None => "no such process",
        }),
        Errno::EINVAL | Errno::E2BIG => {
            let rate = env
                .perf
                .max_sample_rate_hz
                .map(|hz| format!(", or it exceeds kernel.perf_event_max_sample_rate = {hz}"))
                .unwrap_or_default();
            Reason::new(format!(
                "this kernel ({}) does not support what it asks for{rate}",
                release(env)
            ))
        }
        Errno::ENOMEM => Reason::new("the kernel has no memory for it"),
        other => Reason::new(other.desc()),
    }
}

/// `EACCES`, in the order in which the kernel asks: the level that closes perf to all, then for
/// kernel rights, then for the process, then for the CPU.
fn denied(kernel: bool, per_cpu: bool, pid: Option<i32>, env: &Environment) -> Reason {
    let rights = env.rights();
    let privileged = env.has(Capabilities::SYS_ADMIN);
    if let Some(level) = env.perf.paranoid.filter(|&n| n >= DISTRIBUTION_LEVEL && !privileged)
        && env.is_perfmon()
    {
        return Reason::new(format!(
            "kernel.perf_event_paranoid is {level}, which on this distribution's kernels closes \
             perf events to everybody without CAP_SYS_ADMIN: CAP_PERFMON is not enough"
        ))
        .hint(env.on_host("sudo sysctl kernel.perf_event_paranoid=2".to_owned()));
    }
    if let Some(level) = env.perf.paranoid.filter(|&n| n >= DISTRIBUTION_LEVEL && !privileged) {
        // Whether this kernel has the patch can't be seen, but had it not, user-only events would
        // have been opened.
        if !kernel && !per_cpu && pid.is_none() {
            return Reason::new(format!(
                "kernel.perf_event_paranoid is {level}, which closes perf events to ordinary \
                 users on this distribution's kernels"
            ))
            .hint(env.on_host("sudo sysctl kernel.perf_event_paranoid=1".to_owned()));
        }
    }
    let limit = [(kernel, &rights.kernel), (per_cpu, &rights.per_cpu)]
        .into_iter()
        .find_map(|(asked, permission)| permission.limit().filter(|_| asked));
    if let Some(limit) = limit {
        let wanted = if kernel && !rights.kernel.is_granted() {
            "measuring the kernel"
        } else {
            "opening events on a CPU"
        };
        let reason = Reason::new(format!(
            "{wanted} is not allowed: {} is {}",
            limit.setting, limit.present_value
        ));
        return Reason { hint: limit.fix.clone(), ..reason };
    }
    match (pid, rights.other_users.limit()) {
        (Some(pid), Some(_)) => Reason::new("it belongs to another user, or refuses to be traced")
            .hint(format!("sudo pipeprof … --pid {pid}")),
        _ => Reason::new("a security module (SELinux, AppArmor, …) refuses it"),
    }
}

fn unsupported(event: &str, env: &Environment) -> Reason {
    if crate::counters::is_software(event) {
        return Reason::new(format!("this kernel ({}) has no such event", release(env)));
    }
    if env.virtualisation.guest {
        Reason::new("this virtual machine has no PMU, or not this event").hint(format!(
            "qemu-system-{} -cpu host,pmu=on …  # on the host, or as its hypervisor has it",
            std::env::consts::ARCH
        ))
    } else {
        Reason::new("this CPU, or its driver in this kernel, has no such event")
    }
}

fn map_reason(errno: Errno, bytes: u64, env: &Environment) -> Reason {
    match errno {
        Errno::EPERM => {
            let allowance = match env.ring_allowance_bytes() {
                Some(MaxAllowed::AtMost(bytes)) => format!(", {} KiB in all", bytes / 1024),
                _ => String::new(),
            };
            let reason = Reason::new(format!(
                "more locked memory than kernel.perf_event_mlock_kb and ulimit -l allow{allowance}"
            ));
            let cpus = u64::from(env.cpus_online.unwrap_or(1).max(1));
            // A setting that is already there may be used up by another session of this user.
            let wanted = env.perf.mlock_kib.unwrap_or(0) + (bytes.div_ceil(1024)).div_ceil(cpus);
            reason.hint(env.on_host(format!("sudo sysctl kernel.perf_event_mlock_kb={wanted}")))
        }
        Errno::ENOMEM => Reason::new("not enough memory"),
        Errno::EINVAL => Reason::new("a ring needs one control page and 2ⁿ data pages"),
        other => Reason::new(other.desc()),
    }
}

fn release(env: &Environment) -> &str {
    env.kernel_release.as_deref().unwrap_or("release unknown")
}
