//! Which other processes may write to our terminal.

use std::fs;
use std::path::Path;

/// Whether a process has our terminal: as its controlling one, which it can open as /dev/tty however
/// its streams were redirected, or as one of its streams.
pub(crate) fn is_shared_with(pid: i32) -> bool {
    let proc = |pid: &str| Path::new("/proc").join(pid);
    let (ours, theirs) = (proc("self"), proc(&pid.to_string()));
    let controlling = |process: &Path| {
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        controlling_terminal(&stat)
    };
    if controlling(&ours).is_some_and(|terminal| controlling(&theirs) == Some(terminal)) {
        return true;
    }
    let stream = |process: &Path, number: u8| fs::read_link(process.join(format!("fd/{number}")));
    let Ok(stderr) = stream(&ours, 2) else { return false };
    (0..3).any(|number| stream(&theirs, number).is_ok_and(|stream| stream == stderr))
}

/// `tty_nr` of /proc/PID/stat (proc_pid_stat(5)), where there is one. The name before it may hold
/// anything.
fn controlling_terminal(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let terminal = fields.split_whitespace().nth(4)?.parse().ok()?;
    Some(terminal).filter(|&terminal| terminal != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controlling_terminal_is_found_behind_any_name() {
        assert_eq!(controlling_terminal("7 (a) 1 2) S 1 7 7 34816 7 4194560 0"), Some(34816));
        assert_eq!(controlling_terminal("7 (a) S 1 7 7 0 -1 4194560 0"), None);
        assert_eq!(controlling_terminal(""), None);
    }
}
