use pipeprof_profiler::counters::KnownEvent;
use pipeprof_profiler::environment::{
    Capabilities, PerfSettings, PipeSettings, ProcessRights, Virtualisation,
};

use super::*;

/// Every event answers with these errnos.
fn tried(hardware: Option<Errno>, software_full: Option<Errno>, user: Option<Errno>) -> Trials {
    let events = KnownEvent::ALL
        .into_iter()
        .map(|event| {
            let [full, user] =
                if event.is_hardware() { [hardware, hardware] } else { [software_full, user] };
            EventTrial {
                event: event.name(),
                hardware: event.is_hardware(),
                full_errno: full.map(|errno| errno as i32),
                user_only_errno: user.map(|errno| errno as i32),
            }
        })
        .collect();
    let errno = |errno: Option<Errno>| errno.map(|errno| errno as i32);
    Trials {
        events,
        counters_held: false,
        per_cpu_errno: errno(software_full),
        ring_errno: errno(user),
        user_pipes: 100,
    }
}

fn machine(paranoid: i32, capabilities: u64) -> Environment {
    Environment {
        kernel_release: Some("6.1.0".to_owned()),
        cpus_online: Some(2),
        perf: PerfSettings {
            paranoid: Some(paranoid),
            max_sample_rate_hz: Some(100_000),
            mlock_kib: Some(516),
            ..PerfSettings::default()
        },
        kptr_restrict: Some(0),
        process: ProcessRights {
            capabilities: Capabilities::from_bits(capabilities),
            initial_user_namespace: Some(true),
            seccomp_mode: Some(0),
            memlock_bytes: Some(MaxAllowed::AtMost(8 << 20)),
            ..ProcessRights::default()
        },
        kernel_symbols: KernelSymbols::Addresses,
        pipes: PipeSettings { max_size_bytes: Some(1 << 20), ..PipeSettings::default() },
        ..Environment::default()
    }
}

fn find<'a>(findings: &'a Findings, name: &str) -> &'a Check {
    findings.checks.iter().find(|check| check.name == name).expect("the check")
}

#[test]
fn a_machine_that_lacks_nothing() {
    let findings = judge(&machine(-1, 0), &tried(None, None, None));
    for name in ["perf events", "kernel code", "hardware events", "software events", "NMI"] {
        assert_eq!(find(&findings, name).status, Status::Ok, "{name}");
    }
    assert!(findings.works);
    assert!(findings.verdict.contains("without limits"));
}

#[test]
fn counters_that_others_hold_are_no_counters() {
    let held = Trials { counters_held: true, ..tried(None, None, None) };
    let findings = judge(&machine(-1, 0), &held);
    let events = find(&findings, "hardware events");
    assert_eq!(events.status, Status::Limited);
    assert!(events.value.contains("hold all of its counters"), "{events:?}");
    assert!(findings.verdict.contains("cpu-clock instead of cycles"), "{}", findings.verdict);
}

#[test]
fn levels_of_paranoia_and_what_still_works() {
    let (denied, no_pmu) = (Some(Errno::EACCES), Some(Errno::ENOENT));
    // Level, hardware, software with the kernel, without it: works, and the fix of `kernel code`.
    for (paranoid, full, user, works, fix) in [
        (1, None, None, true, None),
        (2, denied, None, true, Some("sudo sysctl kernel.perf_event_paranoid=1")),
        // Kernels without the distributions' patch take 3 for 2 …
        (3, denied, None, true, Some("sudo sysctl kernel.perf_event_paranoid=1")),
        // … those with it open nothing.
        (3, denied, denied, false, Some("sudo sysctl kernel.perf_event_paranoid=1")),
        (4, denied, denied, false, Some("sudo sysctl kernel.perf_event_paranoid=1")),
    ] {
        let findings = judge(&machine(paranoid, 0), &tried(no_pmu, full, user));
        assert_eq!(findings.works, works, "{paranoid} {user:?}");
        assert_eq!(find(&findings, "kernel code").fix.as_deref(), fix, "{paranoid} {user:?}");
        if works && full.is_some() {
            assert!(findings.verdict.contains("user code only"), "{}", findings.verdict);
            let software = find(&findings, "software events");
            assert_eq!(software.status, Status::Limited);
            assert!(software.value.contains("context-switches"), "{software:?}");
        }
        if !works {
            let events = find(&findings, "perf events");
            assert_eq!(events.status, Status::Missing);
            assert!(events.value.contains("kernel.perf_event_paranoid"), "{events:?}");
        }
    }
}

#[test]
fn a_filter_is_told_from_a_setting() {
    for errno in [Errno::EPERM, Errno::ENOSYS] {
        let mut env = machine(-1, u64::MAX);
        env.process.seccomp_mode = Some(2);
        let findings = judge(&env, &tried(Some(errno), Some(errno), Some(errno)));
        assert!(!findings.works);
        let events = find(&findings, "perf events");
        assert!(events.value.contains("seccomp"), "{events:?}");
        assert!(events.fix.as_deref().is_some_and(|fix| fix.contains("seccomp=unconfined")));
    }
}

#[test]
fn small_things_that_limit() {
    let everything = tried(None, None, None);
    let base = machine(-1, 0);
    let with = |change: &dyn Fn(&mut Environment)| {
        let mut env = base.clone();
        change(&mut env);
        judge(&env, &everything)
    };
    for (name, status, fix, findings) in [
        ("CPUs", Status::Limited, None, with(&|env| env.cpus_online = Some(1))),
        (
            "sample rate",
            Status::Limited,
            Some("kernel.perf_event_max_sample_rate"),
            with(&|env| env.perf.max_sample_rate_hz = Some(100)),
        ),
        (
            "pipe size",
            Status::Limited,
            Some("fs.pipe-max-size=1048576"),
            with(&|env| env.pipes.max_size_bytes = Some(65_536)),
        ),
        (
            "pipe memory",
            Status::Limited,
            Some("fs.pipe-user-pages-soft=6656"),
            // 100 pipes of 16 pages, and none of 256 more.
            with(&|env| env.pipes.user_pages_soft = Some(64)),
        ),
        ("pipe memory", Status::Ok, None, with(&|env| env.pipes.user_pages_soft = Some(16_384))),
        (
            "pipe memory",
            Status::Ok,
            None,
            with(&|env| {
                env.pipes.user_pages_soft = Some(64);
                let resource = 1 << Capabilities::SYS_RESOURCE;
                env.process.capabilities = Capabilities::from_bits(resource);
            }),
        ),
        (
            "huge pages",
            Status::Missing,
            Some("transparent_hugepage/enabled"),
            with(&|env| env.huge_pages.transparent = Some("never".to_owned())),
        ),
        (
            "NMI",
            Status::Limited,
            Some("kernel.nmi_watchdog=0"),
            with(&|env| env.nmi_watchdog = Some(true)),
        ),
        (
            "machine",
            Status::Limited,
            None,
            with(&|env| env.virtualisation = Virtualisation { guest: true, product: None }),
        ),
        (
            "kernel names",
            Status::Limited,
            Some("kernel.perf_event_paranoid=1"),
            with(&|env| env.kernel_symbols = KernelSymbols::Zeros),
        ),
        (
            "tracepoints",
            Status::Limited,
            Some("remount"),
            with(&|env| env.tracing = Tracing::Denied("/sys/kernel/tracing".into())),
        ),
    ] {
        let check = find(&findings, name);
        assert_eq!(check.status, status, "{check:?}");
        match (check.fix.as_deref(), fix) {
            (None, None) => {}
            (Some(told), Some(fix)) => assert!(told.contains(fix), "{check:?}"),
            _ => panic!("{check:?}"),
        }
        assert!(findings.works);
    }
}

#[test]
fn sizes_are_whole() {
    assert_eq!(size(1 << 20), "1 MiB");
    assert_eq!(size((1 << 20) + 1024), "1025 KiB");
    assert_eq!(size(1000), "1000 B");
}
