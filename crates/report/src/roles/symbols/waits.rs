//! What a thread waits for that sleeps in a kernel function.

use super::starts_with_any;
use crate::roles::Role;

/// What a sleeping function waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::roles) enum Wait {
    /// The role says it all.
    For(Role),
    /// Nothing: the scheduler took the CPU away.
    Preempted,
}

/// `None` where the caller decides.
pub(super) fn waits_for(name: &str) -> Option<Wait> {
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
        "sk_stream_wait_memory"
        | "tcp_sendmsg_locked"
        // `sock_wait_for_wmem` and `unix_wait_for_peer` (datagrams) are inlined as a rule.
        | "sock_alloc_send_pskb"
        | "sock_wait_for_wmem"
        | "unix_wait_for_peer"
        | "unix_stream_sendmsg"
        | "unix_dgram_sendmsg" => For(Role::WaitSocketSpace),
        "sk_wait_data"
        | "tcp_recvmsg"
        | "tcp_recvmsg_locked"
        | "unix_stream_data_wait"
        | "unix_stream_read_generic"
        | "__skb_wait_for_more_packets"
        | "__skb_recv_udp" => For(Role::WaitSocketData),
        // Another thread, or the softirq of another CPU, is at work on the socket.
        "__lock_sock" | "lock_sock_nested" => For(Role::SocketLock),
        "inet_csk_accept"
        | "inet_csk_wait_for_connect"
        | "unix_accept"
        | "wait_for_connect"
        | "inet_stream_connect"
        | "__inet_stream_connect"
        | "inet_wait_for_connect"
        | "unix_stream_connect"
        | "sk_stream_wait_connect"
        | "sk_stream_wait_close"
        | "rpc_wait_bit_killable"
        | "nfs_wait_bit_killable" => For(Role::WaitNetwork),
        _ => return None,
    })
}
