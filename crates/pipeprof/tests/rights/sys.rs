//! A seccomp filter, as container runtimes set up.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Offset of `nr` in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;

/// Makes `perf_event_open` fail with `errno` in the command, and in nothing else.
pub(crate) fn refuse_perf_event_open(command: &mut Command, errno: i32) {
    let statement =
        |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let refusal = libc::SECCOMP_RET_ERRNO | errno as u32;
    let filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER_OFFSET),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_perf_event_open as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program =
            libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: prctl is async-signal-safe; the kernel copies the program, which outlives the call.
        let result = unsafe {
            let quiet = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let filtered =
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
            quiet | filtered
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: `install` only makes system calls; it neither allocates nor locks.
    unsafe { command.pre_exec(install) };
}
