use std::fs;
use std::path::Path;

use nix::errno::Errno;

use super::parse::*;
use super::*;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, text).expect("a file");
}

fn caps(list: &[u8]) -> Capabilities {
    Capabilities::from_bits(list.iter().fold(0, |bits, capability| bits | 1 << capability))
}

/// An ordinary user's machine.
fn machine(paranoid: i32, kptr_restrict: i32, capabilities: &[u8]) -> Environment {
    Environment {
        kernel_release: Some("6.1.0".to_owned()),
        cpus_online: Some(4),
        perf: PerfSettings {
            paranoid: Some(paranoid),
            mlock_kib: Some(516),
            max_sample_rate_hz: Some(100_000),
            ..PerfSettings::default()
        },
        kptr_restrict: Some(kptr_restrict),
        process: ProcessRights {
            effective_uid: Some(1000),
            capabilities: caps(capabilities),
            initial_user_namespace: Some(true),
            seccomp_mode: Some(0),
            memlock_bytes: Some(MaxAllowed::AtMost(8 << 20)),
            open_files_soft: Some(MaxAllowed::AtMost(1024)),
            open_files_hard: Some(MaxAllowed::AtMost(524_288)),
        },
        kernel_symbols: KernelSymbols::Zeros,
        ..Environment::default()
    }
}

#[test]
fn a_machine_is_read_from_its_files() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n"),
        ("proc/sys/kernel/perf_event_paranoid", "3\n"),
        ("proc/sys/kernel/perf_event_max_sample_rate", "50000\n"),
        ("proc/sys/kernel/perf_event_mlock_kb", "516\n"),
        ("proc/sys/kernel/perf_event_max_stack", "127\n"),
        ("proc/sys/kernel/perf_cpu_time_max_percent", "25\n"),
        ("proc/sys/kernel/kptr_restrict", "1\n"),
        ("proc/sys/kernel/nmi_watchdog", "1\n"),
        ("proc/sys/kernel/yama/ptrace_scope", "1\n"),
        ("proc/sys/fs/pipe-max-size", "1048576\n"),
        ("proc/sys/fs/pipe-user-pages-soft", "16384\n"),
        ("proc/sys/fs/pipe-user-pages-hard", "0\n"),
        ("sys/devices/system/cpu/online", "0-2,4\n"),
        ("sys/devices/system/cpu/present", "0-7\n"),
        (
            "proc/self/status",
            "Name:\tpipeprof\nUid:\t1000\t1001\t1000\t1000\nCapInh:\t0000000000000000\n\
             CapEff:\t0000004000004000\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n",
        ),
        (
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 524288               files     \n\
             Max locked memory         8388608              unlimited            bytes     \n",
        ),
        ("proc/self/uid_map", "         0       1000          1\n"),
        ("proc/self/mounts", "proc /proc proc rw 0 0\nt /mnt/trace tracefs rw 0 0\n"),
        ("proc/kallsyms", "0000000000000000 A fixed_percpu_data\n0000000000000000 T _stext\n"),
        ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\n"),
        ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ("sys/class/dmi/id/product_name", "Standard PC\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n"),
        ("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "1\n"),
    ] {
        put(root, path, text);
    }
    let env = Environment::read_from(root);
    assert_eq!(
        env,
        Environment {
            kernel_release: Some("5.10.0-30-amd64".to_owned()),
            cpus_online: Some(4),
            cpus_present: Some(8),
            perf: PerfSettings {
                paranoid: Some(3),
                max_sample_rate_hz: Some(50_000),
                mlock_kib: Some(516),
                max_stack_frames: Some(127),
                cpu_time_max_percent: Some(25),
            },
            kptr_restrict: Some(1),
            ptrace_scope: Some(1),
            nmi_watchdog: Some(true),
            pmu_interrupts_are_nmis: None,
            process: ProcessRights {
                effective_uid: Some(1001),
                capabilities: caps(&[Capabilities::PERFMON, Capabilities::IPC_LOCK]),
                initial_user_namespace: Some(false),
                seccomp_mode: Some(2),
                memlock_bytes: Some(MaxAllowed::AtMost(8_388_608)),
                open_files_soft: Some(MaxAllowed::AtMost(1024)),
                open_files_hard: Some(MaxAllowed::AtMost(524_288)),
            },
            kernel_symbols: KernelSymbols::Zeros,
            tracing: Tracing::Denied("/mnt/trace".into()),
            pipes: PipeSettings {
                max_size_bytes: Some(1 << 20),
                user_pages_soft: Some(16_384),
                user_pages_hard: Some(0),
            },
            huge_pages: HugePages {
                transparent: Some("madvise".to_owned()),
                size_bytes: Some(2 << 20),
                reserved_free_bytes: (3 << 21) + (1 << 30),
            },
            virtualisation: Virtualisation {
                guest: true,
                product: Some("QEMU Standard PC".to_owned()),
            },
        }
    );
    put(root, "sys/kernel/tracing/events/sched/sched_switch/id", "372\n");
    let tracing = Environment::read_from(root).tracing;
    assert_eq!(tracing, Tracing::Readable("/sys/kernel/tracing".into()));
}

#[test]
fn a_machine_without_files_is_unknown_and_not_free() {
    let root = tempfile::tempdir().expect("a directory");
    let env = Environment::read_from(root.path());
    assert_eq!(env, Environment::default());
    assert_eq!(env.ring_allowance_bytes(), None);
}

#[test]
fn an_arm64_guest_is_known_by_its_board_and_has_no_nmis_unasked() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    put(root, "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x00\n");
    put(root, "proc/cmdline", "console=ttyAMA0 quiet\n");
    let env = Environment::read_from(root);
    assert!(!env.virtualisation.guest);
    assert_eq!(env.pmu_interrupts_are_nmis, Some(false));
    put(root, "proc/device-tree/compatible", "linux,dummy-virt\0");
    put(root, "proc/cmdline", "console=ttyAMA0 irqchip.gicv3_pseudo_nmi=1\n");
    let env = Environment::read_from(root);
    assert!(env.virtualisation.guest);
    assert_eq!(env.pmu_interrupts_are_nmis, Some(true));
}

#[test]
fn a_guest_without_a_hypervisor_flag_is_known_by_its_firmware() {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "sys/class/dmi/id/sys_vendor", "QEMU\n");
    assert!(Environment::read_from(root.path()).virtualisation.guest);
    put(root.path(), "sys/class/dmi/id/sys_vendor", "LENOVO\n");
    assert!(!Environment::read_from(root.path()).virtualisation.guest);
}

#[test]
fn cpus_that_watch_each_other_hold_no_counter() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    put(root, "proc/sys/kernel/osrelease", "6.12.1-arm64\n");
    put(root, "proc/sys/kernel/nmi_watchdog", "1\n");
    assert_eq!(Environment::read_from(root).nmi_watchdog, Some(true));
    put(root, "boot/config-6.12.1-arm64", "CONFIG_HARDLOCKUP_DETECTOR_BUDDY=y\n");
    assert_eq!(Environment::read_from(root).nmi_watchdog, Some(false));
}

#[test]
fn this_machine_can_be_read() {
    let env = Environment::read();
    assert!(env.kernel_release.is_some());
    assert!(env.cpus_online >= Some(1));
    assert!(env.process.open_files_soft.is_some());
    assert!(env.pipes.max_size_bytes >= Some(4096));
}

#[test]
fn text_is_parsed_or_refused() {
    for (list, count) in [
        ("0\n", Some(1)),
        ("0-1\n", Some(2)),
        ("0-3,8,10-11\n", Some(7)),
        ("3-0\n", None),
        ("\n", None),
        ("0-4294967295\n", None),
    ] {
        assert_eq!(cpu_count(list), count, "{list:?}");
    }
    for (map, initial) in [
        ("         0          0 4294967295\n", true),
        ("         0       1000          1\n", false),
        ("0 0 65536\n", false),
        ("", false),
    ] {
        assert_eq!(is_initial_user_namespace(map), initial, "{map:?}");
    }
    for (beginning, shown) in [
        ("", KernelSymbols::Missing),
        ("not a symbol\n", KernelSymbols::Missing),
        ("0000000000000000 T _stext\n0000000000000000 T _text\n", KernelSymbols::Zeros),
        ("0000000000000000 A per_cpu\nffffffff81000000 T _text\n", KernelSymbols::Addresses),
    ] {
        assert_eq!(kernel_symbols(beginning), shown, "{beginning:?}");
    }
    for (choices, word) in [
        ("always [madvise] never\n", Some("madvise")),
        ("always never", None),
        ("[never]", Some("never")),
    ] {
        assert_eq!(chosen(choices), word);
    }
    assert_eq!(
        resource_limit("Max locked memory         unlimited  8  bytes\n", "Max locked memory"),
        Some((MaxAllowed::Unlimited, MaxAllowed::AtMost(8)))
    );
    assert_eq!(resource_limit("Max locked memory  1\n", "Max locked memory"), None);
    assert!(!has_hypervisor_flag("model name: hypervisor\nflags: fpu\n"));
}

/// `perf_allow_kernel()`, `perf_allow_cpu()`, v5.10 to v6.18.
#[test]
fn rights_follow_the_kernels_rules() {
    const PERFMON: &[u8] = &[Capabilities::PERFMON];
    const ADMIN: &[u8] = &[Capabilities::SYS_ADMIN];
    const SYSLOG: &[u8] = &[Capabilities::SYSLOG];
    for (paranoid, capabilities, kernel, per_cpu) in [
        (-1, &[][..], true, true),
        (0, &[], true, true),
        (1, &[], true, false),
        (2, &[], false, false),
        (3, &[], false, false),
        (4, &[], false, false),
        (2, SYSLOG, false, false),
        (2, PERFMON, true, true),
        (2, ADMIN, true, true),
        (4, ADMIN, true, true),
    ] {
        let rights = machine(paranoid, 0, capabilities).rights();
        assert_eq!(rights.kernel.is_granted(), kernel, "{paranoid} {capabilities:?}");
        assert_eq!(rights.per_cpu.is_granted(), per_cpu, "{paranoid} {capabilities:?}");
    }
}

#[test]
fn capabilities_of_another_user_namespace_count_for_nothing() {
    let mut env = machine(2, 0, &[Capabilities::SYS_ADMIN, Capabilities::IPC_LOCK]);
    env.process.initial_user_namespace = Some(false);
    let rights = env.rights();
    let limit = rights.kernel.limit().expect("denied");
    assert!(limit.present_value.contains("user namespace"), "{limit:?}");
    assert!(limit.fix.as_deref().is_some_and(|fix| fix.ends_with("# on the host")), "{limit:?}");
    assert!(matches!(env.ring_allowance_bytes(), Some(MaxAllowed::AtMost(_))));
}

/// `kallsyms_show_value()`: each fix leads to a state in which it shows addresses.
#[test]
fn hidden_kernel_names_name_the_setting_that_hides_them() {
    for (paranoid, kptr, capabilities, fix) in [
        (2, 0, &[][..], "sudo sysctl kernel.perf_event_paranoid=1"),
        (2, 1, &[], "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1"),
        (1, 1, &[], "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1"),
        (2, 2, &[Capabilities::SYSLOG], "sudo sysctl kernel.kptr_restrict=1"),
        (2, 0, &[Capabilities::PERFMON], "sudo sysctl kernel.perf_event_paranoid=1"),
    ] {
        let rights = machine(paranoid, kptr, capabilities).rights();
        let limit = rights.kernel_names.limit().expect("hidden");
        assert_eq!(limit.fix.as_deref(), Some(fix));
        assert!(limit.present_value.starts_with(&kptr.to_string()), "{limit:?}");
    }
    let mut env = machine(2, 0, &[]);
    env.kernel_symbols = KernelSymbols::Addresses;
    assert!(env.rights().kernel_names.is_granted());
}

/// `perf_mmap()`.
#[test]
fn ring_memory_is_the_users_share_and_the_process_limit() {
    let allowance = |env: Environment| env.ring_allowance_bytes().expect("known");
    assert_eq!(allowance(machine(2, 0, &[])), MaxAllowed::AtMost(4 * 516 * 1024 + (8 << 20)));
    assert_eq!(allowance(machine(-1, 0, &[])), MaxAllowed::Unlimited);
    assert_eq!(allowance(machine(2, 0, &[Capabilities::IPC_LOCK])), MaxAllowed::Unlimited);
}

#[test]
fn refusals_say_what_to_change() {
    let open = |kernel, per_cpu, pid| Operation::Open { event: "cycles", kernel, per_cpu, pid };
    let ordinary = machine(2, 0, &[]);
    let patched = machine(4, 0, &[]);
    let patched_perfmon = machine(3, 0, &[Capabilities::PERFMON]);
    let mut filtered = machine(2, 0, &[Capabilities::SYS_ADMIN]);
    filtered.process.seccomp_mode = Some(2);
    let mut guest = machine(2, 0, &[Capabilities::SYS_ADMIN]);
    guest.virtualisation.guest = true;
    let mut watched = machine(-1, 0, &[]);
    watched.nmi_watchdog = Some(true);
    let ring = Operation::MapRing { bytes: 516 * 1024 };
    let clock = Operation::Open { event: "cpu-clock", kernel: false, per_cpu: false, pid: None };
    for (errno, what, env, why, fix) in [
        (
            Errno::EACCES,
            open(true, false, None),
            &ordinary,
            "measuring the kernel is not allowed: kernel.perf_event_paranoid is 2, no CAP_PERFMON",
            Some("sudo sysctl kernel.perf_event_paranoid=1"),
        ),
        (
            Errno::EACCES,
            open(false, true, None),
            &ordinary,
            "opening events on a CPU is not allowed: kernel.perf_event_paranoid is 2",
            Some("sudo sysctl kernel.perf_event_paranoid=0"),
        ),
        (
            Errno::EACCES,
            open(false, false, None),
            &patched,
            "closes perf events to ordinary users",
            Some("sudo sysctl kernel.perf_event_paranoid=1"),
        ),
        (
            Errno::EACCES,
            open(true, true, None),
            &patched_perfmon,
            "everybody without CAP_SYS_ADMIN: CAP_PERFMON is not enough",
            Some("sudo sysctl kernel.perf_event_paranoid=2"),
        ),
        (
            Errno::EACCES,
            open(false, false, Some(42)),
            &ordinary,
            "it belongs to another user",
            Some("sudo pipeprof … --pid 42"),
        ),
        (Errno::EPERM, open(true, false, None), &filtered, "a seccomp filter", Some("docker run")),
        (Errno::ENOSYS, open(true, false, None), &filtered, "a seccomp filter", Some("docker run")),
        (Errno::ENOSYS, open(true, false, None), &ordinary, "CONFIG_PERF_EVENTS", None),
        (Errno::ENOENT, open(true, false, None), &guest, "virtual machine", Some("pmu=on")),
        (Errno::ENOENT, open(true, false, None), &ordinary, "this CPU", None),
        (Errno::ENOENT, clock, &guest, "this kernel (6.1.0) has no such event", None),
        (Errno::EOPNOTSUPP, open(true, false, None), &ordinary, "this CPU", None),
        (
            Errno::EMFILE,
            open(true, false, Some(1)),
            &ordinary,
            "now 1024",
            Some("ulimit -n 524288"),
        ),
        (
            Errno::EBUSY,
            open(true, false, None),
            &watched,
            "hold all of its counters",
            Some("sudo sysctl kernel.nmi_watchdog=0"),
        ),
        (Errno::ESRCH, open(true, false, Some(7)), &ordinary, "it has ended", None),
        (Errno::EINVAL, open(true, false, None), &ordinary, "max_sample_rate = 100000", None),
        // 129 KiB a CPU more than there is.
        (Errno::EPERM, ring, &ordinary, "10256 KiB in all", Some("perf_event_mlock_kb=645")),
        (Errno::ENOMEM, ring, &ordinary, "not enough memory", None),
    ] {
        let told = explain_open_error(errno, &what, env);
        assert!(told.message.contains(&format!("({errno:?})")), "{told:?}");
        assert!(told.reason.contains(why), "{told:?}");
        match (told.hint.as_deref(), fix) {
            (None, None) => {}
            (Some(hint), Some(fix)) => assert!(hint.contains(fix), "{hint:?} for {fix:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// The kernel itself, asked as whoever runs the tests.
#[test]
fn rights_agree_with_the_kernel() {
    let env = Environment::read();
    if env.process.seccomp_mode != Some(0) {
        eprintln!("skipped: a seccomp filter stands between the rules and the kernel");
        return;
    }
    let rights = env.rights();
    let trials = try_events();
    let clock = trials.iter().find(|trial| trial.event == "cpu-clock").expect("cpu-clock");
    assert_eq!(clock.full_errno.is_none(), rights.kernel.is_granted(), "{clock:?}");
    assert_eq!(try_per_cpu(0).is_none(), rights.per_cpu.is_granted());
}
