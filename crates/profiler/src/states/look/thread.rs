//! One thread: whether it runs, waits or has ended, as `/proc` tells.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use pipeprof_runner::proc_file;
use pipeprof_runner::stat_line::StatLine;

use super::waits::{Wait, waits};
use crate::states::call::Call;
use crate::states::descriptors::Descriptors;
use crate::states::timeline::{Account, Builder, Why};

/// Refusals in a row after which the system call is not asked for again.
const MOST_DENIED: u32 = 8;

#[derive(Debug)]
pub(super) struct Thread {
    syscall: Option<File>,
    wchan: Option<File>,
    schedstat: Option<File>,
    account: Option<Account>,
    pub(super) cpu_ns: u64,
    pub(super) doing: Doing,
    /// Times in a row that the system call was not told.
    denied: u32,
    /// Looks in a row that found it in the same wait.
    pub(super) same: u32,
}

/// What a thread was found doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    #[default]
    Running,
    Waiting(Vec<Wait>),
    Ended,
}

impl Thread {
    /// `born_watched`: what was charged to it before this is of the watch, too.
    pub(super) fn new(syscall: Option<File>, schedstat: Option<File>, born_watched: bool) -> Self {
        let mut thread = Thread {
            syscall,
            wchan: None,
            schedstat,
            account: born_watched.then(Account::default),
            cpu_ns: 0,
            doing: Doing::Running,
            denied: 0,
            same: 0,
        };
        if !born_watched {
            thread.charge();
        }
        thread
    }

    pub(super) fn look(
        &mut self,
        pid: i32,
        tid: i32,
        descriptors: &mut Descriptors,
        builder: &mut Builder,
    ) {
        let doing = match self.call(pid, tid) {
            None => Doing::Ended,
            Some(None) => {
                let doing = asleep_somewhere(pid, tid);
                if matches!(doing, Doing::Waiting(_)) {
                    builder.was_blind();
                }
                doing
            }
            Some(Some(Call::Running)) => Doing::Running,
            Some(Some(call)) => {
                let mut waits = waits(pid, call, descriptors, builder);
                match call {
                    Call::Write(_) | Call::Move { .. } | Call::Fault => {
                        self.tell_writeback(pid, tid, &mut waits);
                    }
                    Call::Open => self.tell_lookup(pid, tid, &mut waits),
                    _ => {}
                }
                Doing::Waiting(waits)
            }
        };
        self.same = if doing != Doing::Running && doing == self.doing { self.same + 1 } else { 0 };
        self.doing = doing;
    }

    /// A thread that writes to a file is throttled once too many of the machine's pages are dirty
    /// (`balance_dirty_pages` in mm/page-writeback.c, v6.18).
    fn tell_writeback(&mut self, pid: i32, tid: i32, waits: &mut [Wait]) {
        let is_meant = |wait: &Wait| matches!(wait, Wait::For(Why::Disk | Why::Memory));
        let Some(wait) = waits.iter_mut().find(|wait| is_meant(wait)) else { return };
        let mut buffer = [0u8; 256];
        if self.wchan_now(pid, tid, &mut buffer).is_some_and(Call::is_writeback) {
            *wait = Wait::For(Why::Writeback);
        }
    }

    /// A file is opened, and in no function that waits for the other end of a FIFO: its name is looked
    /// up on a disk.
    fn tell_lookup(&mut self, pid: i32, tid: i32, waits: &mut [Wait]) {
        let mut buffer = [0u8; 256];
        let Some(function) = self.wchan_now(pid, tid, &mut buffer) else { return };
        if !matches!(Call::of_wchan(function), Call::Open | Call::Running) {
            waits.fill(Wait::For(Why::Disk));
        }
    }

    fn wchan_now<'b>(&mut self, pid: i32, tid: i32, buffer: &'b mut [u8]) -> Option<&'b str> {
        if self.wchan.is_none() {
            self.wchan = File::open(format!("/proc/{pid}/task/{tid}/wchan")).ok();
        }
        read_at_start(self.wchan.as_ref()?, buffer).ok()
    }

    /// The call that the thread is in: `None` once it has ended, `Some(None)` where the kernel
    /// doesn't tell this user.
    fn call(&mut self, pid: i32, tid: i32) -> Option<Option<Call>> {
        let mut buffer = [0u8; 256];
        if let Some(file) = &self.syscall {
            match read_at_start(file, &mut buffer) {
                // Zeros for a stack pointer: it has none any more (`collect_syscall` in
                // lib/syscall.c, v6.18).
                Ok("-1 0x0 0x0\n") => return None,
                Ok(text) => {
                    self.denied = 0;
                    return Some(Call::parse(text));
                }
                // Also for a moment in the middle of an exec.
                Err(ErrorKind::PermissionDenied) => {
                    self.denied += 1;
                    if self.denied >= MOST_DENIED {
                        self.syscall = None;
                    }
                }
                Err(_) if !is_there(pid, tid) => return None,
                Err(_) => {}
            }
        }
        match self.wchan_now(pid, tid, &mut buffer) {
            // Running, or not for this user's eyes.
            Some("0") => Some(None),
            Some(function) => Some(Some(Call::of_wchan(function.trim_end()))),
            None => is_there(pid, tid).then_some(None),
        }
    }

    /// What was charged since the last time; `None` where nothing was.
    pub(super) fn charge(&mut self) -> Option<Account> {
        let mut buffer = [0u8; 96];
        let text = read_at_start(self.schedstat.as_ref()?, &mut buffer).ok()?;
        let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
        let now = Account { cpu_ns: words.next()??, run_delay_ns: words.next()?? };
        let before = self.account.replace(now)?;
        let grown = Account {
            cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
            run_delay_ns: now.run_delay_ns.saturating_sub(before.run_delay_ns),
        };
        self.cpu_ns += grown.cpu_ns;
        Some(grown)
    }
}

fn read_at_start<'b>(file: &File, buffer: &'b mut [u8]) -> Result<&'b str, ErrorKind> {
    let length = file.read_at(buffer, 0).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ErrorKind::PermissionDenied,
        _ => error.kind(),
    })?;
    std::str::from_utf8(&buffer[..length]).map_err(|_| ErrorKind::InvalidData)
}

fn is_there(pid: i32, tid: i32) -> bool {
    fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}

/// By the letter in `/proc/TID/stat`, which everyone may read.
fn asleep_somewhere(pid: i32, tid: i32) -> Doing {
    let line = proc_file::read(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    match StatLine::parse(&line).and_then(|stat| stat.state()) {
        None | Some('Z' | 'X') => Doing::Ended,
        Some('R') => Doing::Running,
        Some('D') => Doing::Waiting(vec![Wait::For(Why::Disk)]),
        Some(_) => Doing::Waiting(vec![Wait::For(Why::Unknown)]),
    }
}
