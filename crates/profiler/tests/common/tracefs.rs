//! A readable tracefs for the calling thread, and those it starts, alone.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pipeprof_profiler::tracepoints::Tracefs;

/// Mounts one, in a mount namespace of this thread's own, where there is none. `false`, and a line
/// that says why, where this machine forbids it.
pub(crate) fn mounted() -> bool {
    if Tracefs::find().is_ok() {
        return true;
    }
    let none = None::<&str>;
    let made = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            let kind = Some("tracefs");
            mount(kind, "/sys/kernel/tracing", kind, MsFlags::empty(), none)
        });
    let found = made.map_err(|errno| format!("mounting a tracefs: {errno}"));
    match found.and_then(|()| Tracefs::find().map(drop)) {
        Ok(()) => true,
        Err(why) => {
            eprintln!("skipped: {why}");
            false
        }
    }
}
