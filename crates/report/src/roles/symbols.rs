//! What each kernel function means for a pipe: the table behind the roles.
//!
//! Names are those of Linux 4.4 to 6.19 (`fs/pipe.c`, `fs/splice.c`, `lib/iov_iter.c`, `mm/gup.c`,
//! `mm/page_alloc.c`, `kernel/sched`). A function that moved or was renamed stands under all its
//! names, so one table serves every kernel.

use pipeprof_runner::pipeline::End;

use super::Role;

/// What a function's name says, whatever stack it is found in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// What the function does for a pipe.
    pub(super) role: Option<Role>,
    /// What a thread that sleeps (or is switched out) below this function waits for.
    pub(super) waits_for: Option<Wait>,
    /// The part the function plays in a stack.
    pub(super) part: Part,
    /// The end of a pipe that the function works at, where its name says so.
    pub(super) end: Option<End>,
    /// The stack is at work on a pipe, or on what polls pipes.
    pub(super) anchor: bool,
    /// The function's end turns interrupts on: a timer that was due meanwhile fires there.
    pub(super) unmasks: bool,
}

/// The part a function plays in a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// None that matters: the caller decides.
    #[default]
    Ordinary,
    /// A helper that does its work for whoever called it.
    Absorber,
    /// The scheduler's way out of, or back into, a task.
    Schedule,
    /// First kernel function of a page fault.
    FaultEntry,
    /// First kernel function of an interrupt.
    InterruptEntry,
    /// Puts the task on a wait queue, or takes it off.
    WaitQueue,
    /// Counts or records an event, for pipeprof or for another profiler.
    Profiling,
    /// The slow path of letting go of a mutex, which wakes the next in line.
    MutexUnlock,
}

/// What a sleeping function waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The role says it all.
    For(Role),
    /// Nothing: the scheduler took the CPU away.
    Preempted,
}

/// Looks a kernel function up, by its [`source_name`](super::source_name).
pub(super) fn traits(name: &str) -> Traits {
    Traits {
        role: role(name),
        waits_for: waits_for(name),
        part: part(name),
        end: end_at_work(name),
        anchor: is_anchor(name),
        unmasks: is_unmasking(name),
    }
}

/// The entry of `tee`, by kernel and architecture, where `do_tee` is inlined into it.
const TEE: &[&str] = &["__x64_sys_tee", "__arm64_sys_tee", "__do_sys_tee", "sys_tee", "SyS_tee"];

fn starts_with_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn role(name: &str) -> Option<Role> {
    Some(match name {
        // fs/pipe.c: renamed in 6.15, when named FIFOs got a wrapper of their own.
        "pipe_write" | "anon_pipe_write" | "fifo_pipe_write" => Role::PipeWrite,
        "pipe_read" | "anon_pipe_read" | "fifo_pipe_read" => Role::PipeRead,

        // lib/iov_iter.c. With ERMS, `rep movsb` is inlined into `_copy_from_iter`.
        "copy_page_from_iter"
        | "_copy_from_iter"
        | "copy_page_from_iter_iovec"
        | "copyin"
        | "copy_user_from_iter"
        | "iov_iter_copy_from_user"
        | "iov_iter_fault_in_readable"
        | "fault_in_iov_iter_readable"
        | "pipe_iov_copy_from_user"
        | "copy_from_user_iter" => Role::CopyIn,
        "copy_page_to_iter"
        | "_copy_to_iter"
        | "copy_page_to_iter_iovec"
        | "copyout"
        | "copy_to_user_iter"
        | "pipe_iov_copy_to_user" => Role::CopyOut,

        "get_page_from_freelist"
        | "prep_new_page"
        | "post_alloc_hook"
        | "obj_cgroup_charge_pages"
        | "try_charge_memcg"
        | "try_charge" => Role::PageAlloc,
        "anon_pipe_buf_release"
        | "page_cache_pipe_buf_release"
        | "generic_pipe_buf_release"
        | "anon_pipe_put_page"
        | "pipe_buf_release"
        | "put_page"
        | "__put_page"
        | "folio_put"
        | "__folio_put"
        | "__put_single_page"
        | "__put_compound_page"
        | "free_hot_cold_page"
        | "free_unref_page"
        | "free_unref_folios"
        | "free_pcppages_bulk"
        | "__free_pages"
        | "__free_pages_ok"
        | "free_frozen_pages"
        | "__free_frozen_pages"
        | "free_frozen_page_commit"
        | "free_unref_page_commit"
        | "put_pages_list"
        | "release_pages" => Role::PageFree,

        "iov_iter_get_pages"
        | "iov_iter_get_pages2"
        | "__iov_iter_get_pages_alloc"
        | "iov_iter_get_pages_alloc"
        | "iov_iter_get_pages_alloc2"
        | "iov_iter_extract_pages"
        | "get_iovec_page_array"
        | "try_get_compound_head"
        | "try_grab_compound_head"
        | "follow_page_mask"
        | "follow_page_pte"
        | "__get_user_pages"
        | "faultin_page" => Role::PagePin,

        "mutex_spin_on_owner"
        | "osq_lock"
        | "osq_unlock"
        | "pipe_lock"
        | "pipe_lock_nested"
        | "pipe_unlock"
        | "pipe_double_lock"
        | "__pipe_lock"
        | "__pipe_unlock"
        | "mutex_can_spin_on_owner"
        | "mutex_optimistic_spin" => Role::PipeLock,

        "wait_for_space" | "pipe_wait_writable" | "opipe_prep" => Role::WaitSpace,
        "pipe_wait_readable" | "ipipe_prep" | "wait_for_partner" => Role::WaitData,

        "pollwake"
        | "ep_poll_callback"
        | "ep_autoremove_wake_function"
        | "kill_fasync"
        | "autoremove_wake_function"
        | "default_wake_function"
        | "woken_wake_function"
        | "try_to_wake_up"
        | "wake_up_process"
        | "wake_up_q"
        | "select_task_rq"
        | "select_task_rq_fair"
        | "wakeup_preempt"
        | "check_preempt_curr"
        | "check_preempt_wakeup"
        | "__wake_up" => Role::Wakeup,

        "poll_freewait"
        | "poll_initwait"
        | "poll_schedule_timeout"
        | "pipe_poll"
        | "do_sys_poll"
        | "do_poll"
        | "do_select"
        | "core_sys_select"
        | "__pollwait"
        | "do_epoll_wait"
        | "do_epoll_ctl"
        | "do_epoll_pwait"
        | "poll_select_finish" => Role::Poll,

        "iter_to_pipe"
        | "add_to_pipe"
        | "vmsplice_to_pipe"
        | "vmsplice_to_user"
        | "vmsplice_type"
        | "pipe_to_user"
        | "pipe_to_null"
        | "pipe_to_file"
        | "pipe_to_sendpage"
        | "pipe_clear_nowait"
        | "get_pipe_info"
        | "pipe_buf_get"
        | "pipe_buf_confirm"
        | "user_page_pipe_buf_try_steal"
        | "user_page_pipe_buf_steal"
        | "link_pipe"
        | "do_tee"
        | "page_cache_pipe_buf_confirm" => Role::Splice,
        // splice_from_pipe_next waits for data only where it sleeps; see `waits_for`.
        _ if name.contains("splice") => Role::Splice,
        _ if starts_with_any(name, TEE) => Role::Splice,
        _ if starts_with_any(name, &["__wake_up_", "ttwu_", "wake_up_", "wakeup_pipe_"]) => {
            Role::Wakeup
        }
        _ if name.starts_with("ep_") => Role::Poll,
        _ if starts_with_any(name, &["mutex_lock", "__mutex_lock", "__mutex_trylock"])
            || starts_with_any(name, &["mutex_unlock", "__mutex_unlock", "mutex_trylock"]) =>
        {
            Role::PipeLock
        }
        _ if starts_with_any(
            name,
            &[
                "alloc_pages",
                "__alloc_pages",
                "__alloc_frozen_pages",
                "alloc_frozen_pages",
                "rmqueue",
                "__rmqueue",
                "clear_page",
                // fs/pipe.c: pages for a write are had before the lock is taken (7.2, 7.3).
                "anon_pipe_get_page",
                "anon_pipe_prealloc",
                "anon_pipe_prefill",
                "__memcg_kmem_charge",
                "memcg_kmem_charge",
                "mem_cgroup_charge",
                "__mem_cgroup_charge",
            ],
        ) =>
        {
            Role::PageAlloc
        }
        _ if starts_with_any(
            name,
            &[
                "__memcg_kmem_uncharge",
                "memcg_kmem_uncharge",
                "mem_cgroup_uncharge",
                "__mem_cgroup_uncharge",
                "uncharge_",
                // fs/pipe.c, 7.3: of the pages that were had, those that a write didn't need.
                "anon_pipe_trim",
            ],
        ) =>
        {
            Role::PageFree
        }
        _ if starts_with_any(
            name,
            &["gup_", "get_user_pages", "internal_get_user_pages", "pin_user_pages", "try_grab_"],
        ) =>
        {
            Role::PagePin
        }
        _ if is_system_call(name) => Role::Syscall,
        _ => return None,
    })
}

/// The way from the instruction to the file operation and back.
fn is_system_call(name: &str) -> bool {
    matches!(
        name,
        "x64_sys_call"
            | "do_fast_syscall_32"
            | "do_syscall_64"
            | "vfs_read"
            | "vfs_write"
            | "vfs_readv"
            | "vfs_writev"
            | "vfs_iter_read"
            | "vfs_iter_write"
            | "do_iter_read"
            | "do_iter_write"
            | "do_readv"
            | "do_writev"
            | "fput"
            | "__fput_light"
            | "rw_verify_area"
            | "import_ubuf"
            | "import_single_range"
            | "copy_iovec_from_user"
            | "exit_to_usermode_loop"
            | "prepare_exit_to_usermode"
            | "invoke_syscall"
            // arch/arm64/kernel/syscall.c: the stack's offset is drawn anew for each call.
            | "get_random_u16"
            | "_get_random_bytes"
            | "work_pending"
            | "fsnotify"
            | "__fsnotify_parent"
            | "rseq_syscall"
            | "__rseq_handle_notify_resume"
            | "task_work_run"
    ) || starts_with_any(
        name,
        &[
            "entry_SYSCALL",
            "entry_SYSENTER",
            "entry_SYSRETQ",
            "entry_INT80",
            "syscall_",
            "__x64_sys_",
            "__ia32_sys_",
            "__arm64_sys_",
            "__se_sys_",
            "__do_sys_",
            "SyS_",
            "sys_",
            "ksys_",
            "__vfs_",
            "new_sync_",
            "do_iter_readv",
            "do_loop_readv",
            "fdget",
            "__fdget",
            "__fget",
            "security_",
            // What stands behind security_file_permission, by module.
            "apparmor_",
            "aa_file_perm",
            "common_file_perm",
            "selinux_",
            "file_has_perm",
            "inode_has_perm",
            "avc_has_perm",
            "bpf_lsm_",
            "import_iovec",
            "__import_iovec",
            "exit_to_user_mode",
            // arch/arm64/kernel: entry.S up to 5.10, entry-common.c since.
            "el0_svc",
            "do_el0_svc",
            "el0_sync",
            "el0t_64_sync",
        ],
    )
}

fn waits_for(name: &str) -> Option<Wait> {
    use Wait::For;
    Some(match name {
        _ if name.starts_with("__mutex_lock") => For(Role::PipeLock),
        "pipe_write" | "anon_pipe_write" | "fifo_pipe_write" | "wait_for_space"
        | "pipe_wait_writable" | "opipe_prep" | "iter_to_pipe" | "vmsplice_to_pipe" => {
            For(Role::WaitSpace)
        }
        "pipe_read"
        | "anon_pipe_read"
        | "fifo_pipe_read"
        | "pipe_wait_readable"
        | "ipipe_prep"
        | "splice_from_pipe_next"
        | "__splice_from_pipe"
        | "splice_from_pipe" => For(Role::WaitData),
        // Where the helpers of vmsplice are inlined only its entry is left.
        "do_vmsplice" | "__do_sys_vmsplice" | "__x64_sys_vmsplice" | "__arm64_sys_vmsplice" => {
            For(Role::WaitSpace)
        }
        "do_sys_poll"
        | "do_poll"
        | "poll_schedule_timeout"
        | "do_epoll_wait"
        | "do_select"
        | "core_sys_select"
        | "do_epoll_pwait" => For(Role::Poll),
        _ if name.starts_with("ep_") => For(Role::Poll),

        // kernel/entry, arch/x86/entry: the only ways in which a running task loses its CPU.
        "__cond_resched"
        | "_cond_resched"
        | "preempt_schedule"
        | "preempt_schedule_common"
        | "preempt_schedule_irq"
        | "preempt_schedule_notrace"
        | "preempt_schedule_thunk"
        | "exit_to_usermode_loop"
        | "prepare_exit_to_usermode"
        | "retint_user"
        // On the way out of a system call (x86 in 6.12), and on arm64 out of anything.
        | "syscall_exit_to_user_mode"
        | "syscall_exit_to_user_mode_work"
        | "do_notify_resume"
        | "work_pending"
        | "dynamic_cond_resched"
        | "do_sched_yield" => Wait::Preempted,
        _ if starts_with_any(
            name,
            &["exit_to_user", "irqentry_exit", "raw_irqentry_exit", "dynamic_irqentry_exit"],
        ) =>
        {
            Wait::Preempted
        }

        // What is done on that way may sleep for reasons of its own.
        "task_work_run" | "get_signal" => For(Role::Scheduler),

        // A parent of vfork (posix_spawn) sleeps until the child has its own memory.
        "do_wait" | "kernel_wait4" | "kernel_waitid" | "wait_for_vfork_done" => {
            For(Role::WaitChild)
        }
        "do_nanosleep" | "hrtimer_nanosleep" | "common_nsleep" | "msleep" | "do_sigtimedwait"
        | "do_pause" | "sigsuspend" => For(Role::WaitSleep),
        _ if name.ends_with("_sys_pause") || name.contains("_sys_rt_sigsuspend") => {
            For(Role::WaitSleep)
        }
        "do_futex" => For(Role::WaitFutex),
        _ if starts_with_any(name, &["futex_", "__futex_"]) => For(Role::WaitFutex),
        "flock_lock_inode_wait"
        | "posix_lock_inode_wait"
        | "locks_lock_inode_wait"
        | "fcntl_setlk"
        | "__do_sys_flock"
        | "__x64_sys_flock"
        | "do_lock_file_wait" => For(Role::WaitFileLock),
        "io_schedule"
        | "io_schedule_timeout"
        | "wait_on_page_bit"
        | "wait_on_page_bit_common"
        | "folio_wait_bit"
        | "folio_wait_bit_common"
        | "__lock_page"
        | "__folio_lock"
        | "wait_on_buffer"
        | "__wait_on_buffer"
        | "bit_wait_io"
        | "submit_bio_wait"
        | "blk_io_schedule"
        | "balance_dirty_pages"
        | "balance_dirty_pages_ratelimited"
        | "balance_dirty_pages_ratelimited_flags"
        | "jbd2_log_wait_commit"
        | "add_transaction_credits"
        | "do_get_write_access"
        | "xlog_wait_on_iclog"
        | "xfs_log_force_seq"
        | "xfs_buf_iowait"
        | "wait_for_completion_io"
        | "wait_for_completion_io_timeout"
        | "blkdev_issue_flush"
        | "file_write_and_wait_range"
        | "ext4_sync_file"
        | "vfs_fsync_range"
        // A file system that a program, or the machine's host, serves.
        | "request_wait_answer"
        | "__fuse_simple_request"
        | "p9_client_rpc"
        | "__iomap_dio_rw"
        | "rq_qos_wait"
        | "blk_mq_get_tag" => For(Role::WaitDisk),
        "sk_wait_data"
        | "sk_stream_wait_memory"
        | "inet_csk_accept"
        | "inet_csk_wait_for_connect"
        | "__skb_recv_udp"
        | "rpc_wait_bit_killable"
        | "nfs_wait_bit_killable"
        | "inet_stream_connect"
        | "__skb_wait_for_more_packets"
        | "tcp_recvmsg"
        | "tcp_recvmsg_locked"
        | "tcp_sendmsg_locked"
        | "sock_alloc_send_pskb"
        | "unix_stream_read_generic"
        | "unix_wait_for_peer"
        | "wait_for_connect"
        | "__inet_stream_connect"
        | "inet_wait_for_connect"
        | "unix_stream_data_wait" => For(Role::WaitNetwork),
        _ => return None,
    })
}

fn part(name: &str) -> Part {
    match name {
        "__schedule"
        | "__schedule_loop"
        | "finish_task_switch"
        | "__switch_to"
        | "__switch_to_asm"
        | "context_switch"
        | "io_schedule"
        | "io_schedule_timeout"
        | "pick_next_task"
        | "pick_next_task_fair"
        | "prepare_task_switch"
        | "dequeue_task"
        | "dequeue_task_fair"
        | "dequeue_entity"
        | "do_task_dead" => Part::Schedule,
        // `schedule_work` and its like queue something for later; they don't switch.
        "schedule"
        | "schedule_preempt_disabled"
        | "schedule_timeout"
        | "schedule_tail"
        | "schedule_rtlock"
        | "schedule_user"
        | "schedule_idle" => Part::Schedule,
        _ if starts_with_any(name, &["schedule_hrtimeout", "schedule_timeout_"]) => Part::Schedule,

        "asm_exc_page_fault"
        | "exc_page_fault"
        | "async_page_fault"
        | "page_fault"
        | "do_page_fault"
        | "__do_page_fault"
        | "do_async_page_fault"
        | "do_user_addr_fault"
        | "do_mem_abort" => Part::FaultEntry,

        "asm_common_interrupt"
        | "common_interrupt"
        | "ret_from_intr"
        | "do_IRQ"
        | "apic_timer_interrupt"
        | "smp_apic_timer_interrupt"
        | "reschedule_interrupt"
        | "call_function_interrupt"
        | "call_function_single_interrupt"
        | "irq_work_interrupt"
        | "asm_exc_nmi"
        | "el1h_64_irq"
        | "el0t_64_irq"
        | "el0_irq"
        | "el0_irq_naked"
        | "el1_irq"
        | "gic_handle_irq" => Part::InterruptEntry,
        _ if starts_with_any(name, &["asm_sysvec_", "sysvec_"]) => Part::InterruptEntry,

        "prepare_to_wait"
        | "prepare_to_wait_event"
        | "prepare_to_wait_exclusive"
        | "finish_wait"
        | "init_wait_entry"
        | "init_wait_func"
        | "add_wait_queue"
        | "remove_wait_queue"
        | "__add_wait_queue_entry" => Part::WaitQueue,

        _ if name.starts_with("__mutex_unlock") => Part::MutexUnlock,

        // kernel/events/core.c, kernel/trace/trace_event_perf.c, trace_syscalls.c: what a tracepoint
        // or a switch calls. A program's own use of perf (`perf_read`, `perf_ioctl`) is its work.
        _ if starts_with_any(
            name,
            &[
                "perf_trace_",
                "perf_tp_event",
                "perf_syscall_",
                "perf_swevent_",
                "__perf_sw_event",
                "___perf_sw_event",
                "perf_event_switch",
                "perf_event_exit_task",
                "perf_event_task_sched_",
                "__perf_event_task_sched_",
                "perf_event_context_sched_",
            ],
        ) =>
        {
            Part::Profiling
        }

        "native_queued_spin_lock_slowpath"
        | "queued_spin_lock_slowpath"
        | "do_raw_spin_lock"
        | "do_raw_spin_unlock"
        | "memcpy"
        | "memset"
        | "memcpy_erms"
        | "memcpy_orig"
        | "rep_movs_alternative"
        | "rep_stos_alternative"
        | "__list_del_entry_valid"
        | "__list_add_valid"
        | "__list_del_entry_valid_or_report"
        | "__list_add_valid_or_report"
        | "preempt_count_add"
        | "preempt_count_sub"
        | "__local_bh_enable_ip"
        | "__check_object_size"
        | "__virt_addr_valid"
        | "check_stack_object"
        // The border of a section, at whose address the first thunk lies (6.12).
        | "__softirqentry_text_end" => Part::Absorber,
        _ if starts_with_any(
            name,
            &[
                "_raw_",
                "__raw_",
                "pv_",
                "__pv_",
                "srso_",
                "retbleed_",
                "__x86_indirect_",
                "__x86_return_",
                "its_",
                "rcu_",
                "__rcu_",
                "copy_user_",
                "__copy_user_",
                "__memcpy",
                "__get_user_",
                "__put_user_",
                "native_",
                "paravirt_",
                "__fentry__",
                "ftrace_",
                "lock_acquire",
                "lock_release",
            ],
        ) =>
        {
            Part::Absorber
        }
        _ => Part::Ordinary,
    }
}

/// A stack without one of these isn't about a pipe at all. Splice and poll are taken on trust:
/// whether their descriptor is a pipe, the stack can't say.
fn is_anchor(name: &str) -> bool {
    matches!(
        role(name),
        Some(Role::PipeWrite | Role::PipeRead | Role::Splice | Role::Poll | Role::WaitSpace)
            | Some(Role::WaitData)
    ) || starts_with_any(name, &["pipe_", "anon_pipe_", "fifo_pipe_"])
}

/// Where a call through a register goes first (arch/x86/lib/retpoline.S, v6.18).
pub(super) fn is_thunk(name: &str) -> bool {
    name == "__softirqentry_text_end"
        || starts_with_any(name, &["__x86_indirect_", "srso_", "retbleed_", "its_"])
}

fn end_at_work(name: &str) -> Option<End> {
    match role(name) {
        Some(Role::PipeWrite | Role::CopyIn | Role::WaitSpace) => return Some(End::Writer),
        Some(Role::PipeRead | Role::CopyOut | Role::WaitData) => return Some(End::Reader),
        _ => {}
    }
    let writes = name.contains("vmsplice")
        || name.contains("splice_read")
        || matches!(name, "iter_to_pipe" | "splice_file_to_pipe" | "ksys_write" | "do_writev");
    let reads = name.contains("splice_from_pipe")
        || name.contains("splice_write")
        || matches!(name, "splice_to_socket" | "do_splice_from" | "ksys_read" | "do_readv");
    match (writes, reads) {
        (true, false) => Some(End::Writer),
        (false, true) => Some(End::Reader),
        _ => None,
    }
}

/// Functions that end with interrupts turned on again, and so are where a timer interrupt that
/// came due in their caller is served (`include/linux/spinlock_api_smp.h`; `finish_lock_switch` in
/// `kernel/sched/core.c`).
fn is_unmasking(name: &str) -> bool {
    (name.starts_with("_raw_") && name.contains("_unlock_irq"))
        || name == "finish_task_switch"
        || name == "__local_bh_enable_ip"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_of_a_function_has_its_role() {
        for (role_wanted, names) in [
            (Role::PipeWrite, &["pipe_write", "anon_pipe_write", "fifo_pipe_write"][..]),
            (Role::PipeRead, &["pipe_read", "anon_pipe_read", "fifo_pipe_read"]),
            (Role::CopyIn, &["copy_page_from_iter", "_copy_from_iter", "copyin"]),
            (Role::CopyOut, &["copy_page_to_iter", "_copy_to_iter", "copyout"]),
            (
                Role::PageAlloc,
                &[
                    "alloc_pages_current",
                    "__alloc_pages_nodemask",
                    "__alloc_pages",
                    "alloc_pages",
                    "__alloc_frozen_pages_noprof",
                    "alloc_pages_mpol_noprof",
                    "alloc_pages_mpol",
                    "__rmqueue_pcplist",
                    "rmqueue_bulk",
                    "clear_page_erms",
                    "anon_pipe_get_page",
                    "anon_pipe_get_page_prealloc",
                    "anon_pipe_prefill_and_lock",
                ],
            ),
            (
                Role::PageFree,
                &[
                    "anon_pipe_buf_release",
                    "page_cache_pipe_buf_release",
                    "__put_page",
                    "__folio_put",
                    "free_hot_cold_page",
                    "free_unref_page",
                    "free_frozen_pages",
                    "__free_frozen_pages",
                    "anon_pipe_trim_and_unlock",
                ],
            ),
            (
                Role::PagePin,
                &[
                    "get_iovec_page_array",
                    "iov_iter_get_pages",
                    "iov_iter_get_pages2",
                    "__iov_iter_get_pages_alloc",
                    "internal_get_user_pages_fast",
                    "gup_pgd_range",
                    "gup_pte_range",
                    "gup_fast_fallback",
                    "try_grab_compound_head",
                    "try_grab_folio_fast",
                ],
            ),
            (Role::PipeLock, &["mutex_lock", "__mutex_lock", "osq_lock", "pipe_unlock"]),
            (Role::WaitSpace, &["wait_for_space", "pipe_wait_writable", "opipe_prep"]),
            (Role::WaitData, &["pipe_wait_readable", "ipipe_prep"]),
            (Role::Wakeup, &["__wake_up", "__wake_up_sync_key", "__wake_up_common", "pollwake"]),
            (Role::Poll, &["do_sys_poll", "ep_poll", "do_select", "pipe_poll"]),
            (
                Role::Splice,
                &[
                    "__do_sys_vmsplice",
                    "do_vmsplice",
                    "do_tee",
                    "__splice_from_pipe",
                    "do_splice",
                    "__arm64_sys_tee",
                    "__arm64_sys_vmsplice",
                ],
            ),
            (
                Role::Syscall,
                &[
                    "entry_SYSCALL_64_after_hwframe",
                    "ksys_write",
                    "__vfs_read",
                    "fdget_pos",
                    "do_el0_svc",
                    "el0_sync_compat",
                    "get_random_u16",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(role(name), Some(role_wanted), "{name}");
            }
        }
        assert_eq!(role("tcp_sendmsg"), None);
        assert_eq!(role("pipe_wait"), None, "both directions wait there up to 5.4");
    }
}
