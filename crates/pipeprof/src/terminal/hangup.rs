//! The end of a program whose terminal has gone.
//!
//! A terminal that hung up is always readable and never has anything to read, and crossterm (0.29)
//! retries without end: `top` would use a whole CPU until it is killed.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::SIGHUP;
use signal_hook::low_level::emulate_default_handler;

/// Time for the handlers of the SIGHUP that comes with it.
const GRACE: Duration = Duration::from_millis(500);

/// Ends this process soon after its terminal hangs up, whatever it is doing then.
///
/// # Errors
/// Where it has no terminal, or no thread can be started.
pub(crate) fn end_on_hangup() -> io::Result<()> {
    let terminal = terminal()?;
    let wait = move || {
        // POLLHUP and POLLERR are told without being asked for.
        let mut polled = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
        while !poll(&mut polled, PollTimeout::NONE).is_ok_and(|ready| ready > 0) {}
        thread::sleep(GRACE);
        let _ = emulate_default_handler(SIGHUP);
    };
    thread::Builder::new().name("pp-hangup".to_owned()).spawn(wait).map(drop)
}

/// The one that keys come from.
fn terminal() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return stdin.as_fd().try_clone_to_owned();
    }
    Ok(File::open("/dev/tty")?.into())
}
