//! What settings and trials mean for a user who wants a flame graph.

use nix::errno::Errno;
use pipeprof_profiler::counter_trial::counters_are_held;
use pipeprof_profiler::environment::{
    Environment, EventTrial, KernelSymbols, Limit, MaxAllowed, Operation, Permission, Rights,
    Tracing, explain_open_error, try_events, try_per_cpu, try_ring,
};
use pipeprof_runner::tuning::pipes_of_user;
use serde::Serialize;

/// Data pages of the ring that is tried: 2⁷, as `perf record` takes for an ordinary user.
const RING_EXPONENT: u8 = 7;

/// The highest sample rate that `flame` uses by default.
const DEFAULT_RATE_HZ: u64 = 997;

/// The pipe that the article's fastest stages use.
const LARGE_PIPE_BYTES: u64 = 1 << 20;

/// The outcome of what doctor tried.
#[derive(Debug, Serialize)]
pub(super) struct Trials {
    /// Each event, on this process.
    pub(super) events: Vec<EventTrial>,
    /// Others hold all counters of the PMU.
    pub(super) counters_held: bool,
    /// The errno of an event on CPU 0.
    pub(super) per_cpu_errno: Option<i32>,
    /// The errno of a ring of half a MiB.
    pub(super) ring_errno: Option<i32>,
    /// Pipes of this user that were seen.
    pub(super) user_pipes: usize,
}

impl Trials {
    pub(super) fn run() -> Self {
        Trials {
            events: try_events(),
            counters_held: counters_are_held(),
            per_cpu_errno: try_per_cpu(0),
            ring_errno: try_ring(RING_EXPONENT),
            user_pipes: pipes_of_user(nix::unistd::geteuid().as_raw()),
        }
    }

    fn event(&self, name: &str) -> Option<&EventTrial> {
        self.events.iter().find(|trial| trial.event == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Limited,
    Missing,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "missing",
        }
    }
}

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) value: String,
    pub(super) fix: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, value: impl Into<String>) -> Self {
        Check { name, status, value: value.into(), fix: None }
    }

    fn fix(mut self, fix: Option<String>) -> Self {
        self.fix = fix;
        self
    }
}

/// All lines, and the conclusion from them.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) checks: Vec<Check>,
    /// `pipeprof flame --stage vmsplice` can work, perhaps with limits.
    pub(super) works: bool,
    pub(super) verdict: String,
}

pub(super) fn judge(env: &Environment, tried: &Trials) -> Findings {
    let rights = env.rights();
    let checks = vec![
        perf_events(env, tried),
        kernel_code(env, tried, &rights),
        kernel_names(&rights, env),
        hardware_events(env, tried),
        software_events(tried),
        interrupts(env, tried),
        per_cpu(env, tried, &rights),
        tracepoints(env, &rights),
        processes(&rights),
        ring_memory(env, tried),
        sample_rate(env),
        pipe_size(env),
        pipe_memory(env, tried),
        huge_pages(env),
        cpus(env),
        machine(env),
    ];
    let (works, verdict) = verdict(env, tried, &rights);
    Findings { checks, works, verdict }
}

fn sampling_works(tried: &Trials) -> bool {
    tried.event("cpu-clock").is_some_and(EventTrial::opens)
        || tried.event("cycles").is_some_and(EventTrial::opens)
}

fn kernel_works(tried: &Trials) -> bool {
    ["cpu-clock", "cycles"]
        .iter()
        .filter_map(|name| tried.event(name))
        .any(|trial| trial.full_errno.is_none())
}

fn hardware_works(tried: &Trials) -> bool {
    tried.event("cycles").is_some_and(EventTrial::opens)
}

fn perf_events(env: &Environment, tried: &Trials) -> Check {
    let release = env.kernel_release.as_deref().unwrap_or("unknown");
    if sampling_works(tried) {
        return Check::new("perf events", Status::Ok, format!("Linux {release}"));
    }
    let errno = tried.event("cpu-clock").and_then(|trial| trial.user_only_errno);
    let what = Operation::Open { event: "cpu-clock", kernel: false, per_cpu: false, pid: None };
    let why = explain_open_error(Errno::from_raw(errno.unwrap_or(0)), &what, env);
    Check::new("perf events", Status::Missing, why.reason).fix(why.hint)
}

/// A check of something that has a setting of its own.
fn permission(name: &'static str, granted: &str, status: Status, permission: &Permission) -> Check {
    match permission {
        Permission::Granted => Check::new(name, Status::Ok, granted),
        Permission::Denied(Limit { setting, present_value, fix, .. }) => {
            let equals = if setting.contains('.') { '=' } else { ':' };
            let value = format!("{setting} {equals} {present_value}").replace(" :", ":");
            Check::new(name, status, value).fix(fix.clone())
        }
    }
}

fn kernel_code(env: &Environment, tried: &Trials, rights: &Rights) -> Check {
    const NAME: &str = "kernel code";
    if kernel_works(tried) {
        return Check::new(NAME, Status::Ok, "measured as well as user code");
    }
    if sampling_works(tried) && !rights.kernel.is_granted() {
        return permission(NAME, "", Status::Missing, &rights.kernel);
    }
    let errno = tried.event("cpu-clock").and_then(|trial| trial.full_errno);
    let what = Operation::Open { event: "cpu-clock", kernel: true, per_cpu: false, pid: None };
    let why = explain_open_error(Errno::from_raw(errno.unwrap_or(0)), &what, env);
    Check::new(NAME, Status::Missing, why.reason).fix(why.hint)
}

fn kernel_names(rights: &Rights, env: &Environment) -> Check {
    let status = match env.kernel_symbols {
        KernelSymbols::Addresses => Status::Ok,
        KernelSymbols::Zeros => Status::Limited,
        KernelSymbols::Missing => Status::Missing,
    };
    permission("kernel names", "/proc/kallsyms shows addresses", status, &rights.kernel_names)
}

fn hardware_events(env: &Environment, tried: &Trials) -> Check {
    const NAME: &str = "hardware events";
    let names = |opens: bool| {
        let names: Vec<&str> = tried
            .events
            .iter()
            .filter(|trial| trial.hardware && trial.opens() == opens)
            .map(|trial| trial.event)
            .collect();
        names.join(", ")
    };
    let (there, absent) = (names(true), names(false));
    if tried.counters_held && hardware_works(tried) {
        let what = Operation::Open { event: "cycles", kernel: false, per_cpu: false, pid: None };
        let why = explain_open_error(Errno::EBUSY, &what, env);
        return Check::new(NAME, Status::Limited, why.reason).fix(why.hint);
    }
    if absent.is_empty() {
        return Check::new(NAME, Status::Ok, there);
    }
    if !there.is_empty() {
        return Check::new(NAME, Status::Limited, format!("no {absent}"));
    }
    let errno = tried.event("cycles").and_then(|trial| trial.user_only_errno);
    let what = Operation::Open { event: "cycles", kernel: false, per_cpu: false, pid: None };
    let why = explain_open_error(Errno::from_raw(errno.unwrap_or(0)), &what, env);
    Check::new(NAME, Status::Missing, why.reason).fix(why.hint)
}

/// The kernel opens these for user code only, but then they always stay 0.
const FROM_KERNEL_ONLY: [&str; 2] = ["context-switches", "cpu-migrations"];

fn software_events(tried: &Trials) -> Check {
    const NAME: &str = "software events";
    let useful = |trial: &&EventTrial| {
        if FROM_KERNEL_ONLY.contains(&trial.event) {
            trial.full_errno.is_none()
        } else {
            trial.opens()
        }
    };
    let software = || tried.events.iter().filter(|trial| !trial.hardware);
    let names = |trials: Vec<&EventTrial>| {
        trials.iter().map(|trial| trial.event).collect::<Vec<_>>().join(", ")
    };
    let absent = names(software().filter(|trial| !useful(trial)).collect());
    match (software().any(|trial| useful(&trial)), absent.is_empty()) {
        (false, _) => Check::new(NAME, Status::Missing, "not available"),
        (true, true) => Check::new(NAME, Status::Ok, "clocks, switches, migrations, page faults"),
        (true, false) => Check::new(
            NAME,
            Status::Limited,
            format!("no {absent}: they need the right to measure kernel code"),
        ),
    }
}

fn interrupts(env: &Environment, tried: &Trials) -> Check {
    const NAME: &str = "NMI";
    if !sampling_works(tried) {
        return Check::new(NAME, Status::Missing, "no perf events");
    }
    if !hardware_works(tried) {
        return Check::new(
            NAME,
            Status::Limited,
            "timer sampling cannot see code that runs with interrupts disabled",
        );
    }
    if env.pmu_interrupts_are_nmis == Some(false) {
        return Check::new(
            NAME,
            Status::Limited,
            "interrupts of the PMU wait while interrupts are disabled, so sampling cannot see such \
             code: this kernel was not booted with irqchip.gicv3_pseudo_nmi=1",
        );
    }
    if env.nmi_watchdog == Some(true) {
        return Check::new(NAME, Status::Limited, "the NMI watchdog uses one counter of each CPU")
            .fix(Some("sudo sysctl kernel.nmi_watchdog=0".to_owned()));
    }
    Check::new(NAME, Status::Ok, "sampling by the PMU; the watchdog is off")
}

fn per_cpu(env: &Environment, tried: &Trials, rights: &Rights) -> Check {
    const NAME: &str = "per-CPU events";
    match tried.per_cpu_errno {
        None => Check::new(NAME, Status::Ok, "available, so cpu-clock sampling is unbiased"),
        Some(_) if !sampling_works(tried) => Check::new(NAME, Status::Missing, "no perf events"),
        Some(_) if !rights.per_cpu.is_granted() => {
            permission(NAME, "", Status::Limited, &rights.per_cpu)
        }
        Some(errno) => {
            let what =
                Operation::Open { event: "cpu-clock", kernel: true, per_cpu: true, pid: None };
            let why = explain_open_error(Errno::from_raw(errno), &what, env);
            Check::new(NAME, Status::Limited, why.reason).fix(why.hint)
        }
    }
}

fn tracepoints(env: &Environment, rights: &Rights) -> Check {
    let status = match env.tracing {
        Tracing::NotMounted => Status::Missing,
        Tracing::Denied(_) | Tracing::Readable(_) => Status::Limited,
    };
    permission("tracepoints", "sched_switch can be read", status, &rights.tracepoints)
}

fn processes(rights: &Rights) -> Check {
    match &rights.other_users {
        Permission::Granted => Check::new("processes", Status::Ok, "of every user"),
        Permission::Denied(limit) => {
            Check::new("processes", Status::Limited, "of this user only: no CAP_PERFMON")
                .fix(limit.fix.clone())
        }
    }
}

fn ring_memory(env: &Environment, tried: &Trials) -> Check {
    const NAME: &str = "ring memory";
    let allowance = match env.ring_allowance_bytes() {
        Some(MaxAllowed::Unlimited) => "no limit".to_owned(),
        Some(MaxAllowed::AtMost(bytes)) => format!("{} in all", size(bytes)),
        None => "unknown".to_owned(),
    };
    match tried.ring_errno {
        None => Check::new(NAME, Status::Ok, allowance),
        Some(_) if !sampling_works(tried) => Check::new(NAME, Status::Missing, "no perf events"),
        Some(errno) => {
            let page = 4096; // Only for the words; the ring itself is counted in pages.
            let what = Operation::MapRing { bytes: ((1 << RING_EXPONENT) + 1) * page };
            let why = explain_open_error(Errno::from_raw(errno), &what, env);
            Check::new(NAME, Status::Limited, why.reason).fix(why.hint)
        }
    }
}

fn sample_rate(env: &Environment) -> Check {
    const NAME: &str = "sample rate";
    let frames = match env.perf.max_stack_frames {
        Some(frames) => format!(", stacks up to {frames} frames"),
        None => String::new(),
    };
    match env.perf.max_sample_rate_hz {
        None => Check::new(NAME, Status::Missing, "kernel.perf_event_max_sample_rate is absent"),
        Some(rate) if rate < DEFAULT_RATE_HZ => {
            Check::new(NAME, Status::Limited, format!("at most {rate} Hz{frames}"))
                .fix(Some("sudo sysctl kernel.perf_event_max_sample_rate=100000".to_owned()))
        }
        Some(rate) => Check::new(NAME, Status::Ok, format!("up to {rate} Hz{frames}")),
    }
}

fn pipe_size(env: &Environment) -> Check {
    const NAME: &str = "pipe size";
    match env.pipes.max_size_bytes {
        None => Check::new(NAME, Status::Limited, "fs.pipe-max-size can't be read"),
        Some(bytes) if bytes < LARGE_PIPE_BYTES => {
            Check::new(NAME, Status::Limited, format!("up to {}", size(bytes)))
                .fix(Some(format!("sudo sysctl fs.pipe-max-size={LARGE_PIPE_BYTES}")))
        }
        Some(bytes) => Check::new(NAME, Status::Ok, format!("up to {}", size(bytes))),
    }
}

/// The limit on all pipes of this user together. Only the holder of a pipe can ask for its size, so
/// each is counted at the size of a new pipe.
fn pipe_memory(env: &Environment, tried: &Trials) -> Check {
    const NAME: &str = "pipe memory";
    let Some(budget) = env.pipe_budget_pages() else {
        return Check::new(NAME, Status::Ok, "no limit for this user's pipes together");
    };
    let pages = tried.user_pipes as u64 * DEFAULT_PIPE_PAGES;
    let (word, take) = if tried.user_pipes == 1 { ("pipe", "takes") } else { ("pipes", "take") };
    let value = format!(
        "{} {word} of this user {take} {pages} of {budget} pages, unless enlarged",
        tried.user_pipes
    );
    if pages + LARGE_PIPE_PAGES <= budget {
        return Check::new(NAME, Status::Ok, value);
    }
    Check::new(NAME, Status::Limited, value)
        .fix(Some(format!("sudo sysctl fs.pipe-user-pages-soft={}", 4 * (pages + budget))))
}

/// `PIPE_DEF_BUFFERS` (`include/linux/pipe_fs_i.h`, v6.18), and what a pipe of 1 MiB has of 4 KiB each.
const DEFAULT_PIPE_PAGES: u64 = 16;
const LARGE_PIPE_PAGES: u64 = 256;

fn huge_pages(env: &Environment) -> Check {
    const NAME: &str = "huge pages";
    let size = env.huge_pages.size_bytes.map(size).unwrap_or_default();
    match env.huge_pages.transparent.as_deref() {
        None => Check::new(NAME, Status::Missing, "this kernel has no transparent huge pages"),
        Some("never") => Check::new(NAME, Status::Missing, "transparent huge pages are off").fix(
            Some("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled".to_owned()),
        ),
        Some(mode) => Check::new(NAME, Status::Ok, format!("transparent ({mode}), {size}")),
    }
}

fn cpus(env: &Environment) -> Check {
    match env.cpus_online {
        Some(1) => Check::new("CPUs", Status::Limited, "1: writer and reader share it"),
        Some(cpus) => Check::new("CPUs", Status::Ok, cpus.to_string()),
        None => Check::new("CPUs", Status::Limited, "unknown"),
    }
}

fn machine(env: &Environment) -> Check {
    let product = env.virtualisation.product.as_deref();
    if env.virtualisation.guest {
        let name = product.map(|product| format!(" ({product})")).unwrap_or_default();
        let value = format!("virtual{name}: waking another CPU is slower than on bare metal");
        Check::new("machine", Status::Limited, value)
    } else {
        Check::new("machine", Status::Ok, product.unwrap_or("physical"))
    }
}

/// A whole number of the largest unit that divides it.
fn size(bytes: u64) -> String {
    [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

fn verdict(env: &Environment, tried: &Trials, rights: &Rights) -> (bool, String) {
    const FLAME: &str = "`pipeprof flame --stage vmsplice`";
    if !sampling_works(tried) {
        let verdict = format!(
            "{FLAME} will not work in full: no perf event can be opened, so it draws no picture. \
             It gives a verdict from looks at /proc."
        );
        return (false, verdict);
    }
    let mut wanting = Vec::new();
    if !kernel_works(tried) {
        wanting.push("user code only, and the work of pipes is kernel code");
    } else if !rights.kernel_names.is_granted() {
        wanting.push("no names of kernel functions");
    }
    if !hardware_works(tried) || tried.counters_held {
        wanting.push("cpu-clock instead of cycles");
    }
    let rate = env.perf.max_sample_rate_hz.filter(|&rate| rate < DEFAULT_RATE_HZ);
    let rate = rate.map(|rate| format!("at most {rate} samples a second"));
    wanting.extend(rate.as_deref());
    let verdict = if wanting.is_empty() {
        format!("{FLAME} will work, without limits.")
    } else {
        format!("{FLAME} will work, with limits: {}.", wanting.join("; "))
    };
    (true, verdict)
}

#[cfg(test)]
mod tests;
