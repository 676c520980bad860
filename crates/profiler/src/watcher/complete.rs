//! A recording, completed with how its capture went.

use std::time::{Duration, UNIX_EPOCH};

use crate::error::Error;
use crate::recording::{About, Recording};
use crate::session::Stopped;

/// What is known of a watch that goes on, and all that there is of one that is killed.
pub(super) fn about(title: String, elapsed: Duration) -> About {
    let elapsed_ns = elapsed.as_nanos() as u64;
    About {
        title,
        host: host_name(),
        kernel: kernel_release(),
        started_unix_ns: unix_ns().map(|now| now.saturating_sub(elapsed_ns)),
        elapsed_ns,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        ..About::default()
    }
}

fn unix_ns() -> Option<u64> {
    u64::try_from(UNIX_EPOCH.elapsed().ok()?.as_nanos()).ok()
}

/// The release of the running kernel; empty where it does not tell.
pub(super) fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |system| system.release().to_string_lossy().into_owned())
}

fn host_name() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |system| system.nodename().to_string_lossy().into_owned())
}

/// `counted_ns` is when the counting of bytes began.
pub(super) fn finish(session: Stopped, about: About, counted_ns: u64) -> Result<Recording, Error> {
    let watched_ns = session.start_ns();
    let mut recording = session.finish()?;
    let start_ns = recording.meta.start_ns;
    let about = if start_ns == watched_ns {
        about
    } else {
        // Only the end was kept, so the figures of the pipes must cover only that.
        let since = start_ns.saturating_sub(counted_ns);
        About {
            elapsed_ns: recording.meta.end_ns.saturating_sub(start_ns),
            cpu_time_ns: Vec::new(),
            flows: about.flows.into_iter().map(|flow| flow.since(since)).collect(),
            ..about
        }
    };
    let started_unix_ns = unix_ns().map(|now| now.saturating_sub(about.elapsed_ns));
    recording.about = About { started_unix_ns, ..about };
    Ok(recording)
}
