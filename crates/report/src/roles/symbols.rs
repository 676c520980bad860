//! What each kernel function means for a pipe or a socket.
//!
//! Names are those of Linux 4.4 to 6.19 (`fs/pipe.c`, `fs/splice.c`, `lib/iov_iter.c`, `mm/gup.c`,
//! `mm/page_alloc.c`, `kernel/sched`). A function that moved or was renamed stands under all its
//! names, so one table serves every kernel.

mod part;
mod role;
mod sockets;
mod waits;

use pipeprof_runner::pipeline::End;

pub(super) use self::part::Part;
use self::part::part;
use self::role::role;
pub(super) use self::waits::Wait;
use self::waits::waits_for;
use super::Role;

/// What the bytes go through that a function is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A pipe, or what polls or splices: whether their descriptor is a pipe, a stack can't say.
    Pipe,
    /// A socket.
    Socket,
}

/// What a function's name says, whatever stack it is found in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// What the function does for a pipe or a socket.
    pub(super) role: Option<Role>,
    /// What a thread that sleeps (or is switched out) below this function waits for.
    pub(super) waits_for: Option<Wait>,
    /// The part the function plays in a stack.
    pub(super) part: Part,
    /// The end of a pipe or a connection that the function works at, where its name says so.
    pub(super) end: Option<End>,
    /// What the function is about. A stack without one is about neither pipes nor sockets.
    pub(super) medium: Option<Medium>,
    /// The function's end turns interrupts on: a timer that was due meanwhile fires there.
    pub(super) unmasks: bool,
}

/// Looks a kernel function up, by its [`source_name`](super::source_name).
pub(super) fn traits(name: &str) -> Traits {
    Traits {
        role: role(name),
        waits_for: waits_for(name),
        part: part(name),
        end: end_at_work(name),
        medium: medium(name),
        unmasks: is_unmasking(name),
    }
}

fn starts_with_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn medium(name: &str) -> Option<Medium> {
    match role(name) {
        Some(Role::PipeWrite | Role::PipeRead | Role::Splice | Role::Poll | Role::WaitSpace)
        | Some(Role::WaitData) => Some(Medium::Pipe),
        Some(role) if role.is_socket_work() => Some(Medium::Socket),
        _ => starts_with_any(name, &["pipe_", "anon_pipe_", "fifo_pipe_"]).then_some(Medium::Pipe),
    }
}

/// Where a call through a register goes first (arch/x86/lib/retpoline.S, v6.18).
pub(super) fn is_thunk(name: &str) -> bool {
    name == "__softirqentry_text_end"
        || starts_with_any(name, &["__x86_indirect_", "srso_", "retbleed_", "its_"])
}

fn end_at_work(name: &str) -> Option<End> {
    match role(name) {
        Some(Role::PipeWrite | Role::CopyIn | Role::WaitSpace)
        | Some(Role::SocketSend | Role::WaitSocketSpace) => return Some(End::Writer),
        Some(Role::PipeRead | Role::CopyOut | Role::WaitData)
        | Some(Role::SocketReceive | Role::WaitSocketData) => return Some(End::Reader),
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
