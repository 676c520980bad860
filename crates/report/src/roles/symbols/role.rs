//! What a kernel function does for a pipe; for a socket, see [`sockets`].

use super::{sockets, starts_with_any};
use crate::roles::Role;

/// The entry of `tee`, by kernel and architecture, where `do_tee` is inlined into it.
const TEE: &[&str] = &["__x64_sys_tee", "__arm64_sys_tee", "__do_sys_tee", "sys_tee", "SyS_tee"];

pub(super) fn role(name: &str) -> Option<Role> {
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
        | "do_pselect"
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
        _ => return sockets::role(name),
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
        assert_eq!(role("security_socket_sendmsg"), Some(Role::Syscall), "a check on the way");
        assert_eq!(role("pipe_wait"), None, "both directions wait there up to 5.4");
    }
}
