//! Roles of real stacks.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Builder, STAGES, frame, from_perf_script, stage};
use pipeprof_profiler::profile::{Frame, FrameKind, Mode, Profile};
use pipeprof_report::roles::{Basis, Classification, Reason, Role};
use pipeprof_runner::pipeline::End;

/// The role of one stack, `leaf < caller < …`, in a profile that holds nothing else.
fn role_of(stack: &str) -> Role {
    let mut builder = Builder::new();
    let member = builder.member(Some(End::Writer), "pp-write", 1);
    let id = builder.kernel(member, stack, 1);
    Classification::of(&builder.profile).role(id)
}

const ENTRY: &str = "do_syscall_64+71 < entry_SYSCALL_64_after_hwframe+76";

#[test]
fn stacks_that_ran() {
    for (stack, role) in [
        // 6.18, recorded.
        (
            "_raw_spin_unlock_irqrestore < __rmqueue_pcplist < get_page_from_freelist < \
             __alloc_frozen_pages_noprof < alloc_pages_mpol < alloc_pages_noprof < \
             anon_pipe_write < vfs_write < ksys_write",
            Role::PageAlloc,
        ),
        (
            "finish_task_switch.isra.0 < __schedule < schedule < pipe_wait_writable < \
             wait_for_space < __do_sys_vmsplice",
            Role::WaitSpace,
        ),
        (
            "finish_task_switch.isra.0 < __schedule < schedule < schedule_preempt_disabled < \
             __mutex_lock.constprop.0 < anon_pipe_write < vfs_write",
            Role::PipeLock,
        ),
        (
            "exc_page_fault < asm_exc_page_fault < _copy_from_iter < copy_page_from_iter < \
             anon_pipe_write < vfs_write",
            Role::PageFault,
        ),
        ("_copy_to_iter < copy_page_to_iter < anon_pipe_read < vfs_read", Role::CopyOut),
        ("uncharge_folio < __mem_cgroup_uncharge < __folio_put < anon_pipe_read", Role::PageFree),
        ("_raw_spin_unlock_irqrestore < prepare_to_wait_event < anon_pipe_write", Role::WaitSpace),
        ("_raw_spin_unlock_irqrestore < prepare_to_wait_event < anon_pipe_read", Role::WaitData),
        (
            "prepare_to_wait_event < pipe_wait_readable < splice_from_pipe_next < do_splice",
            Role::WaitData,
        ),
        ("_raw_spin_unlock_irqrestore < __wake_up < __splice_from_pipe < do_splice", Role::Wakeup),
        (
            "gup_fast_fallback < __iov_iter_get_pages_alloc < iov_iter_get_pages2 < \
             __do_sys_vmsplice",
            Role::PagePin,
        ),
        (
            "__raw_callee_save___kvm_vcpu_is_preempted < mutex_spin_on_owner < \
             __mutex_lock.constprop.0 < splice_from_pipe < do_splice",
            Role::PipeLock,
        ),
        (
            "try_to_wake_up < wake_up_q < __mutex_unlock_slowpath.constprop.0 < anon_pipe_read",
            Role::PipeLock,
        ),
        ("wait_for_space < __do_sys_vmsplice", Role::WaitSpace),
        ("fdget < __do_sys_vmsplice", Role::Syscall),
        ("page_cache_pipe_buf_release < __splice_from_pipe < do_splice", Role::PageFree),
        ("anon_pipe_write < fifo_pipe_write < vfs_write", Role::PipeWrite),
        ("do_syscall_64", Role::Syscall),
        ("zap_pte_range < unmap_page_range < __x64_sys_munmap", Role::NonPipe),
        ("_copy_to_iter < copy_page_to_iter < filemap_read < vfs_read", Role::NonPipe),
        (
            "tick_nohz_handler < sysvec_apic_timer_interrupt < asm_sysvec_apic_timer_interrupt < \
          _copy_to_iter < anon_pipe_read",
            Role::Interrupt,
        ),
        ("some_function_nobody_knows", Role::NonPipe),
        ("_raw_spin_lock", Role::Syscall),
        // What pipes and sockets both need counts for the one that called for it.
        (
            "_copy_to_iter < __skb_datagram_iter < skb_copy_datagram_iter < tcp_recvmsg_locked < \
             tcp_recvmsg < sock_recvmsg < sock_read_iter < vfs_read",
            Role::SocketCopy,
        ),
        (
            "_copy_from_iter < copy_page_from_iter < skb_copy_datagram_from_iter < \
             unix_stream_sendmsg < sock_write_iter < vfs_write",
            Role::SocketCopy,
        ),
        (
            "uncharge_folio < __mem_cgroup_uncharge < __folio_put < skb_release_data < \
             consume_skb < unix_stream_read_generic < unix_stream_recvmsg < sock_recvmsg",
            Role::SocketBuffer,
        ),
        (
            "_raw_spin_unlock_irqrestore < sock_def_readable < tcp_data_queue < \
             tcp_rcv_established < tcp_v4_do_rcv < tcp_v4_rcv < ip_protocol_deliver_rcu < \
             net_rx_action < handle_softirqs < do_softirq < __local_bh_enable_ip < \
             __dev_queue_xmit < __ip_queue_xmit < __tcp_transmit_skb < tcp_sendmsg < sock_sendmsg",
            Role::SocketWakeup,
        ),
        (
            "handle_softirqs < do_softirq < __local_bh_enable_ip < __dev_queue_xmit < \
             ip_finish_output2 < __tcp_transmit_skb < tcp_write_xmit < tcp_sendmsg_locked",
            Role::NetworkStack,
        ),
        ("osq_lock < __mutex_lock < unix_stream_read_generic < sock_recvmsg", Role::SocketLock),
        ("tcp_v4_do_rcv < __release_sock < release_sock < tcp_recvmsg", Role::NetworkStack),
        ("tcp_poll < sock_poll < do_sys_poll < __x64_sys_poll", Role::Poll),
        (
            "page_cache_pipe_buf_release < splice_to_socket < direct_splice_actor < do_sendfile",
            Role::PageFree,
        ),
        (
            "skb_release_data < skb_defer_free_flush < net_rx_action < handle_softirqs < \
             __irq_exit_rcu < sysvec_apic_timer_interrupt < asm_sysvec_apic_timer_interrupt < \
             tcp_write_xmit",
            Role::Interrupt,
        ),
        ("memcpy < skb_splice_bits < unix_stream_read_generic < do_splice", Role::Splice),
        // 5.10 to 6.4.
        (
            "tcp_write_xmit < do_tcp_sendpages < tcp_sendpage < inet_sendpage < \
             kernel_sendpage < sock_sendpage < pipe_to_sendpage < __splice_from_pipe < \
             generic_splice_sendpage < do_splice",
            Role::NetworkStack,
        ),
        ("do_tcp_sendpages < tcp_sendpage < pipe_to_sendpage < do_splice", Role::SocketSend),
        // Older kernels, from their source.
        (
            "copy_user_enhanced_fast_string < copyin < copy_page_from_iter < pipe_write",
            Role::CopyIn,
        ),
        (
            "clear_page_erms < prep_new_page < get_page_from_freelist < __alloc_pages_nodemask < \
          alloc_pages_current < pipe_write < __vfs_write",
            Role::PageAlloc,
        ),
        ("finish_task_switch < __schedule < schedule < pipe_wait < pipe_write", Role::WaitSpace),
        ("finish_task_switch < __schedule < schedule < pipe_wait < pipe_read", Role::WaitData),
        (
            "gup_pgd_range < internal_get_user_pages_fast < get_user_pages_fast < \
          iov_iter_get_pages < iter_to_pipe < do_vmsplice",
            Role::PagePin,
        ),
        ("get_iovec_page_array < vmsplice_to_pipe < SyS_vmsplice", Role::PagePin),
        (
            "ttwu_do_activate < try_to_wake_up < pollwake < __wake_up_common < \
          __wake_up_common_lock < __wake_up_sync_key < pipe_write",
            Role::Wakeup,
        ),
        ("free_unref_page < __put_page < anon_pipe_buf_release < pipe_read", Role::PageFree),
    ] {
        assert_eq!(role_of(&format!("{stack} < {ENTRY}")), role, "{stack}");
    }
    assert_eq!(role_of("_raw_spin_lock"), Role::Other, "a helper of which nobody knows the caller");
}

#[test]
fn stacks_that_slept() {
    for (stack, role) in [
        ("schedule < anon_pipe_write < vfs_write < ksys_write", Role::WaitSpace),
        ("schedule < anon_pipe_read < vfs_read < ksys_read", Role::WaitData),
        ("schedule < pipe_wait_writable < wait_for_space < __do_sys_vmsplice", Role::WaitSpace),
        (
            "schedule < pipe_wait_readable < splice_from_pipe_next < __splice_from_pipe",
            Role::WaitData,
        ),
        ("schedule < schedule_preempt_disabled < __mutex_lock < anon_pipe_read", Role::PipeLock),
        ("schedule < schedule_preempt_disabled < __mutex_lock < ext4_sync_file", Role::Scheduler),
        (
            "schedule < schedule_hrtimeout_range_clock < poll_schedule_timeout < do_sys_poll",
            Role::Poll,
        ),
        ("schedule < schedule_hrtimeout_range < ep_poll < do_epoll_wait", Role::Poll),
        (
            "schedule < io_schedule < folio_wait_bit_common < filemap_read < vfs_read",
            Role::WaitDisk,
        ),
        (
            "schedule < io_schedule < folio_wait_bit_common < filemap_fault < handle_mm_fault < \
             exc_page_fault < asm_exc_page_fault",
            Role::WaitDisk,
        ),
        ("schedule < schedule_timeout < sk_wait_data < tcp_recvmsg_locked", Role::WaitSocketData),
        (
            "schedule < schedule_timeout < wait_woken < sk_stream_wait_memory < \
             tcp_sendmsg_locked < tcp_sendmsg < sock_sendmsg < splice_to_socket < do_sendfile",
            Role::WaitSocketSpace,
        ),
        (
            "schedule < schedule_timeout < sock_alloc_send_pskb < unix_stream_sendmsg",
            Role::WaitSocketSpace,
        ),
        (
            "schedule < schedule_timeout < unix_stream_read_generic < unix_stream_splice_read < \
             do_splice",
            Role::WaitSocketData,
        ),
        ("schedule < __lock_sock < lock_sock_nested < tcp_sendmsg", Role::SocketLock),
        (
            "schedule < schedule_preempt_disabled < __mutex_lock < unix_stream_read_generic",
            Role::SocketLock,
        ),
        ("schedule < schedule_timeout < inet_csk_accept < inet_accept", Role::WaitNetwork),
        ("schedule < wait_woken < inet_wait_for_connect < inet_stream_connect", Role::WaitNetwork),
        ("schedule < do_wait < kernel_wait4", Role::WaitChild),
        ("schedule < do_nanosleep < hrtimer_nanosleep", Role::WaitSleep),
        ("schedule < futex_wait_queue < __futex_wait < futex_wait < do_futex", Role::WaitFutex),
        ("schedule < exit_to_user_mode_loop", Role::Preempted),
        ("schedule < syscall_exit_to_user_mode", Role::Preempted),
        ("schedule < do_notify_resume < work_pending", Role::Preempted),
        ("schedule < rwsem_down_read < __fput < task_work_run < do_notify_resume", Role::Scheduler),
        (
            "schedule < exit_to_user_mode_loop < irqentry_exit_to_user_mode < \
             asm_sysvec_apic_timer_interrupt",
            Role::Preempted,
        ),
        (
            "__schedule < preempt_schedule_irq < irqentry_exit < asm_sysvec_apic_timer_interrupt \
             < _copy_from_iter < anon_pipe_write",
            Role::Preempted,
        ),
        (
            "schedule < preempt_schedule_common < __cond_resched < __mutex_lock < anon_pipe_write",
            Role::Preempted,
        ),
        ("schedule < worker_thread_of_its_own", Role::Scheduler),
        // 6.12, while the system calls of a member that splices are counted.
        (
            "perf_tp_event < perf_trace_run_bpf_submit < perf_trace_sys_exit < syscall_exit_work < \
             syscall_exit_to_user_mode",
            Role::Profiling,
        ),
        ("ctx_sched_out < __perf_event_task_sched_out < __schedule < schedule", Role::Profiling),
        ("perf_read < vfs_read < ksys_read", Role::NonPipe),
        // Debian's 6.12: AppArmor checks each call.
        (
            "aa_file_perm < apparmor_file_permission < security_file_permission < rw_verify_area < \
             vfs_read < ksys_read",
            Role::Syscall,
        ),
        ("__softirqentry_text_end", Role::Syscall),
        // And 7.3.
        (
            "common_file_perm < security_file_permission < rw_verify_area < vfs_write < ksys_write",
            Role::Syscall,
        ),
        (
            "_raw_spin_unlock_irq < perf_event_exit_task_context < perf_event_exit_task < do_exit",
            Role::Profiling,
        ),
    ] {
        assert_eq!(role_of(&format!("{stack} < {ENTRY}")), role, "{stack}");
    }
}

#[test]
fn a_tail_call_is_seen_through_where_its_call_site_is_known() {
    let mut builder = Builder::new();
    let member = builder.member(Some(End::Writer), "pp-write", 1);
    let tail = "vfs_write+d6 < ksys_write+7f < do_syscall_64+71";
    let mut add =
        |stack: &str, samples| builder.kernel(member, &format!("{stack} < {tail}"), samples);
    let waker = add("_raw_spin_unlock_irqrestore < anon_pipe_write+3b2", 13_198);
    let waiter = add("_raw_spin_unlock_irqrestore < anon_pipe_write+358", 9_511);
    let unknown = add("_raw_spin_unlock_irqrestore < anon_pipe_write+111", 9);
    let locked = add("_raw_spin_lock_irqsave < anon_pipe_write+111", 9);
    add("__wake_up_sync_key < anon_pipe_write+3b2", 2);
    add("finish_wait < anon_pipe_write+358", 1);
    let roles = Classification::of(&builder.profile);
    for (stack, role, basis) in [
        (waker, Role::Wakeup, Basis::Learned),
        (waiter, Role::WaitSpace, Basis::Learned),
        (unknown, Role::WakeupOrWait, Basis::Inferred),
        (locked, Role::PipeWrite, Basis::Seen),
    ] {
        assert_eq!((roles.role(stack), roles.basis(stack)), (role, basis));
    }
}

#[test]
fn without_offsets_nothing_is_learned() {
    let mut builder = Builder::new();
    let member = builder.member(Some(End::Writer), "pp-write", 1);
    let stack = builder.kernel(member, "_raw_spin_unlock_irqrestore < anon_pipe_write", 5);
    builder.kernel(member, "finish_wait < anon_pipe_write", 1);
    let roles = Classification::of(&builder.profile);
    assert_eq!((roles.role(stack), roles.basis(stack)), (Role::WakeupOrWait, Basis::Inferred));
}

/// Debian's 7.0 on x86-64: most samples of a `write` pair are taken where interrupts come on again,
/// and only the instructions before the return addresses tell who called that.
#[test]
fn the_call_instruction_tells_a_wake_up_from_the_end_of_a_wait() {
    let mut builder = Builder::new();
    let member = builder.member(Some(End::Writer), "pp-write", 1);
    let tail = "vfs_write+d6 < ksys_write+7f < do_syscall_64+71";
    let mut add = |stack: &str| builder.kernel(member, &format!("{stack} < {tail}"), 100);
    let woke = add("_raw_spin_unlock_irqrestore < anon_pipe_write+3b2");
    let waited = add("_raw_spin_unlock_irqrestore < anon_pipe_write+358");
    let own = add("_raw_spin_unlock_irq < anon_pipe_write+120");
    let indirect = add("_raw_spin_unlock_irqrestore < anon_pipe_write+400");
    // What other stacks seem to show there is outdone by the instruction.
    add("__wake_up_sync_key < anon_pipe_write+358");
    for (offset, callee) in [
        (0x3b2, "__wake_up_sync_key"),
        (0x358, "finish_wait"),
        (0x120, "_raw_spin_unlock_irq"),
        (0x400, "__x86_indirect_thunk_rax"),
    ] {
        let is_site = |frame: &Frame| &*frame.name == "anon_pipe_write" && frame.offset == offset;
        let profile = &mut builder.profile;
        let site = profile.frame_ids().find(|id| is_site(profile.frame(*id))).unwrap();
        profile.set_callee(site, callee.into());
    }
    let roles = Classification::of(&builder.profile);
    for (stack, role, basis) in [
        (woke, Role::Wakeup, Basis::Decoded),
        (waited, Role::WaitSpace, Basis::Decoded),
        (own, Role::PipeWrite, Basis::Seen),
        (indirect, Role::WakeupOrWait, Basis::Inferred),
    ] {
        assert_eq!((roles.role(stack), roles.basis(stack)), (role, basis));
    }
}

#[test]
fn user_functions_never_look_like_the_kernels() {
    let mut builder = Builder::new();
    let member = builder.member(None, "sneaky", 1);
    let frames = [frame(Mode::User, "pipe_write"), frame(Mode::User, "schedule")];
    let stack = builder.add(member, &frames, 1);
    assert_eq!(Classification::of(&builder.profile).role(stack), Role::User);
}

#[test]
fn every_role_is_listed_where_its_index_says() {
    for (index, role) in Role::ALL.into_iter().enumerate() {
        assert_eq!(role.index(), index);
        assert!(!role.label().contains(['(', ')']), "{role:?}: labels go into hover texts");
    }
}

/// Percent of an end's samples, per role.
fn shares(profile: &Profile, end: End) -> [f64; Role::ALL.len()] {
    let roles = Classification::of(profile);
    let member = profile.members.iter().find(|m| m.end == Some(end)).unwrap();
    let mut shares = [0.0; Role::ALL.len()];
    for weight in &member.on_cpu {
        shares[roles.role(weight.stack).index()] += weight.samples as f64;
    }
    shares.map(|samples| 100.0 * samples / member.samples() as f64)
}

#[test]
fn recorded_stages_have_the_roles_they_are_known_for() {
    use Role::*;
    // The heaviest roles of each end, in order. Shares swing with the machine's load, so what is
    // asserted is the order of the first, and that the others weigh at least a few percent.
    let known: [(&str, End, Role, &[Role]); 10] = [
        // Of this recording no stack shows what is called where most of the writer's are.
        ("write", End::Writer, WakeupOrWait, &[CopyIn, PageAlloc, WaitSpace]),
        ("write", End::Reader, Wakeup, &[PageFree, CopyOut, WaitData]),
        ("vmsplice", End::Writer, Wakeup, &[WaitSpace, PagePin, PipeLock, Splice]),
        ("vmsplice", End::Reader, CopyOut, &[Wakeup, PageFree, WaitData]),
        ("splice", End::Writer, Wakeup, &[PagePin, WaitSpace, PipeLock, Splice]),
        ("splice", End::Reader, Wakeup, &[PipeLock, PageFree, Splice, WaitData]),
        ("huge-page", End::Writer, Wakeup, &[PipeLock, WaitSpace, Splice, PagePin]),
        ("huge-page", End::Reader, Wakeup, &[Splice, WaitData, PageFree, PipeLock]),
        ("busy-loop", End::Writer, PipeLock, &[Splice, PagePin]),
        ("busy-loop", End::Reader, Splice, &[PipeLock, PageFree]),
    ];
    for (name, end, first, others) in known {
        let shares = shares(&stage(name), end);
        let share = |role: Role| shares[role.index()];
        for role in Role::ALL {
            assert!(share(role) <= share(first), "{name} {end:?}: {role:?} before {first:?}");
        }
        for &role in others {
            assert!(share(role) > 2.5, "{name} {end:?}: {role:?} {:.1} %", share(role));
        }
        if name == "busy-loop" {
            assert!(share(Wakeup) < 1.0, "{name} {end:?} wakes: {:.1} %", share(Wakeup));
        }
    }
}

/// Recordings of members that send and receive.
const SOCKETS: [&str; 4] = ["tcp", "unix", "sendfile", "splice-unix"];

#[test]
fn members_at_sockets_have_the_roles_they_are_known_for() {
    use Role::*;
    let known: [(&str, End, &[Role]); 8] = [
        // The sender over loopback does most of the receiver's part, and reads a pipe.
        ("tcp", End::Writer, &[NetworkStack, Poll, SocketCopy, SocketWakeup, SocketSend, CopyOut]),
        ("tcp", End::Reader, &[NetworkStack, Poll, SocketCopy, SocketReceive, SocketBuffer]),
        ("unix", End::Writer, &[Wakeup, SocketWakeup, SocketBuffer, SocketCopy, SocketSend]),
        ("unix", End::Reader, &[Poll, SocketReceive, SocketBuffer, SocketCopy, SocketLock]),
        ("sendfile", End::Writer, &[Splice, NetworkStack, WaitSocketSpace]),
        ("sendfile", End::Reader, &[SocketCopy, NetworkStack]),
        ("splice-unix", End::Writer, &[SocketCopy, SocketWakeup, SocketBuffer]),
        // Its data goes on through a pipe.
        ("splice-unix", End::Reader, &[PageFree, Splice, SocketReceive, WaitSocketData]),
    ];
    for (name, end, roles) in known {
        let shares = shares(&stage(name), end);
        for &role in roles {
            let share = shares[role.index()];
            assert!(share > 2.0, "{name} {end:?}: {role:?} {share:.1} %");
        }
    }
}

#[test]
fn nothing_below_socket_code_stays_unexplained() {
    for name in SOCKETS {
        let profile = stage(name);
        let roles = Classification::of(&profile);
        for member in &profile.members {
            for weight in &member.on_cpu {
                let stack = profile.stack(weight.stack).iter().map(|&id| profile.frame(id));
                let names: Vec<&str> = stack.map(|frame| &*frame.name).collect();
                let is_socket = |name: &&str| {
                    ["sock_", "tcp_", "unix_", "inet_", "skb_"]
                        .iter()
                        .any(|of| name.starts_with(of))
                };
                let role = roles.role(weight.stack);
                let explained = !matches!(role, Role::NonPipe | Role::Other);
                assert!(explained || !names.iter().any(is_socket), "{name}: {role:?} {names:?}");
            }
        }
        for end in [End::Writer, End::Reader] {
            let shares = shares(&profile, end);
            let left = shares[Role::Other.index()] + shares[Role::NonPipe.index()];
            // The start of the programs.
            assert!(left <= 2.0, "{name} {end:?}: {left:.2} %");
        }
    }
}

#[test]
fn next_to_nothing_of_a_stage_stays_unexplained() {
    for name in STAGES {
        let profile = stage(name);
        for end in [End::Writer, End::Reader] {
            let shares = shares(&profile, end);
            let (other, non_pipe) = (shares[Role::Other.index()], shares[Role::NonPipe.index()]);
            assert!(other + non_pipe <= 0.3, "{name} {end:?}: {other:.2} % + {non_pipe:.2} %");
        }
    }
}

#[test]
fn what_perf_script_prints_is_classified_too() {
    let text = "\
pp-read  7534/7534   1147.109774:     200040 cpu-clock: \n\
\tffffffff821f52b4 _copy_to_iter+0xe4 ([kernel.kallsyms])\n\
\tffffffff816d2b29 copy_page_to_iter+0x89 ([kernel.kallsyms])\n\
\tffffffff816cf5aa anon_pipe_read+0x1aa ([kernel.kallsyms])\n\
\tffffffff821ef691 do_syscall_64+0x71 ([kernel.kallsyms])\n\
\t           d4ad7 read+0x7 (/usr/lib/x86_64-linux-gnu/libc.so.6)\n\
\n\
pp-write  7533/7533   1147.109974:     200040 cpu-clock: \n\
\t          11a0d7 fill+0x7 (/usr/bin/pp)\n\
\n";
    let profile = from_perf_script(text, |comm| {
        Some(if comm == "pp-read" { End::Reader } else { End::Writer })
    });
    assert_eq!(shares(&profile, End::Reader)[Role::CopyOut.index()], 100.0);
    assert_eq!(shares(&profile, End::Writer)[Role::User.index()], 100.0);
}

/// Stacks of sleeping threads, and what `/proc/PID/wchan` names, as Linux 6.18 has them.
#[test]
fn reasons_to_sleep() {
    let mut builder = Builder::new();
    let member = builder.member(None, "sleeper", 1);
    let cases = [
        ("schedule < anon_pipe_write < vfs_write < ksys_write < do_syscall_64", Reason::WaitSpace),
        ("schedule < pipe_wait_writable < wait_for_space < __do_sys_vmsplice", Reason::WaitSpace),
        ("schedule < anon_pipe_read < vfs_read < ksys_read < do_syscall_64", Reason::WaitData),
        (
            "schedule < schedule_preempt_disabled < __mutex_lock.constprop.0 < anon_pipe_write",
            Reason::PipeLock,
        ),
        (
            "schedule < schedule_preempt_disabled < __mutex_lock.constprop.0 < ext4_file_write_iter",
            Reason::Other,
        ),
        (
            "schedule < schedule_hrtimeout_range_clock < do_poll.constprop.0 < do_sys_poll",
            Reason::Poll,
        ),
        ("schedule < schedule_hrtimeout_range_clock < ep_poll < do_epoll_wait", Reason::Poll),
        (
            "schedule < io_schedule < __iomap_dio_rw < iomap_dio_rw < ext4_file_read_iter",
            Reason::Disk,
        ),
        (
            "schedule < io_schedule < folio_wait_bit_common < filemap_fault < exc_page_fault < asm_exc_page_fault",
            Reason::Disk,
        ),
        (
            "schedule < schedule_timeout < wait_woken < sk_wait_data < tcp_recvmsg_locked",
            Reason::SocketData,
        ),
        ("schedule < schedule_timeout < sock_alloc_send_pskb", Reason::SocketSpace),
        ("schedule < schedule_timeout < inet_csk_accept < inet_accept", Reason::Network),
        ("schedule < do_wait < kernel_wait4 < do_syscall_64", Reason::Child),
        ("schedule < do_nanosleep < hrtimer_nanosleep < common_nsleep", Reason::Sleep),
        ("schedule < __ia32_sys_pause < do_syscall_64", Reason::Sleep),
        ("schedule < futex_do_wait < __futex_wait < futex_wait < do_futex", Reason::Futex),
        ("schedule < locks_lock_inode_wait < __do_sys_flock < do_syscall_64", Reason::FileLock),
        ("schedule < do_signal_stop < get_signal", Reason::Other),
        // One frame: what /proc/PID/wchan names.
        ("anon_pipe_write", Reason::WaitSpace),
        ("anon_pipe_read", Reason::WaitData),
        ("sk_wait_data", Reason::SocketData),
        ("unix_stream_read_generic", Reason::SocketData),
        ("do_wait", Reason::Child),
        ("hrtimer_nanosleep", Reason::Sleep),
        ("do_sys_poll", Reason::Poll),
        ("futex_do_wait", Reason::Futex),
        // Sockets and terminals both sleep there.
        ("wait_woken", Reason::Other),
    ];
    let stacks: Vec<_> = cases.iter().map(|(text, _)| builder.kernel(member, text, 1)).collect();
    let unsampled =
        Frame { kind: FrameKind::Unresolved, ..frame(Mode::Kernel, "[stack not sampled]") };
    let unsampled = builder.add(member, &[unsampled], 1);
    let roles = Classification::of(&builder.profile);
    let reason = |stack| roles.reason(&builder.profile, builder.profile.stack(stack));
    for ((text, wanted), stack) in cases.iter().zip(stacks) {
        assert_eq!(reason(stack), *wanted, "{text}");
    }
    assert_eq!(reason(unsampled), Reason::Unknown);
}
