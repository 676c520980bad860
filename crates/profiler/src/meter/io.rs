//! What a process has read and written, and what it is doing now, as `/proc` tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// `/proc/PID/io`: what went through read and write calls, over all descriptors of a process and
/// of the children it has waited for. `splice`, `vmsplice` and `tee` count nowhere (measured on
/// 6.18; fs/splice.c never calls `add_rchar`, v6.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Bytes returned by reads.
    pub read_bytes: u64,
    /// Bytes taken by writes.
    pub written_bytes: u64,
    /// Read calls.
    pub reads: u64,
    /// Write calls.
    pub writes: u64,
}

impl IoCounts {
    /// What was counted after `earlier`.
    pub fn since(self, earlier: IoCounts) -> IoCounts {
        IoCounts {
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            reads: self.reads.saturating_sub(earlier.reads),
            writes: self.writes.saturating_sub(earlier.writes),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(": ")?.trim().parse().ok()
        };
        Some(IoCounts {
            read_bytes: field("rchar")?,
            written_bytes: field("wchar")?,
            reads: field("syscr")?,
            writes: field("syscw")?,
        })
    }
}

/// Calls that move bytes past the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splicing {
    /// Out of a pipe: `splice` from it.
    FromPipe,
    /// Into a pipe: `vmsplice`, `tee`, `splice` to it.
    IntoPipe,
}

/// Keeps the files of one process open, so that a look costs a few microseconds.
#[derive(Debug)]
pub struct IoWatch {
    pid: i32,
    io: File,
    syscall: Option<File>,
}

impl IoWatch {
    /// Opens the files of a process.
    ///
    /// # Errors
    /// ENOENT where it has gone, EACCES where it may not be traced.
    pub fn open(pid: i32) -> io::Result<Self> {
        let io = File::open(format!("/proc/{pid}/io"))?;
        let syscall = File::open(format!("/proc/{pid}/syscall")).ok();
        Ok(IoWatch { pid, io, syscall })
    }

    /// The counts now; `None` once the process has gone.
    pub fn counts(&self) -> Option<IoCounts> {
        let mut buffer = [0; 512];
        IoCounts::parse(read_at_start(&self.io, &mut buffer)?)
    }

    /// Where the process sleeps in a call that splices, and which way.
    pub fn splicing(&self) -> Option<Splicing> {
        let mut buffer = [0; 256];
        let (number, arguments) = call(read_at_start(self.syscall.as_ref()?, &mut buffer)?)?;
        match number {
            libc::SYS_vmsplice | libc::SYS_tee => Some(Splicing::IntoPipe),
            libc::SYS_splice => {
                let is_pipe = |fd: u64| {
                    let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", self.pid));
                    link.is_ok_and(|link| link.to_string_lossy().starts_with("pipe:["))
                };
                if is_pipe(*arguments.first()?) {
                    Some(Splicing::FromPipe)
                } else {
                    Some(Splicing::IntoPipe)
                }
            }
            _ => None,
        }
    }
}

/// `275 0x0 0x0 0x5 …`: the number of the call a process sleeps in, and its arguments. `running`
/// and `-1 …` (not in a call) are none.
fn call(text: &str) -> Option<(i64, Vec<u64>)> {
    let mut fields = text.split_ascii_whitespace();
    let number: i64 = fields.next()?.parse().ok().filter(|&number| number >= 0)?;
    let hex = |field: &str| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok();
    Some((number, fields.filter_map(hex).collect()))
}

fn read_at_start<'b>(file: &File, buffer: &'b mut [u8]) -> Option<&'b str> {
    let length = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let text = "rchar: 10\nwchar: 20\nsyscr: 1\nsyscw: 2\nread_bytes: 0\n";
        let counts = IoCounts { read_bytes: 10, written_bytes: 20, reads: 1, writes: 2 };
        assert_eq!(IoCounts::parse(text), Some(counts));
        assert_eq!(IoCounts::parse("rchar: 10\n"), None);
        assert_eq!(
            call("1 0x1 0x7f00 0x10000 0x7ffd 0x7f12"),
            Some((1, vec![1, 0x7f00, 0x10000, 0x7ffd, 0x7f12]))
        );
        assert_eq!(call("running\n"), None);
        assert_eq!(call("-1 0x7ffd 0x7f12"), None);
    }

    #[test]
    fn our_own_writes_are_counted() {
        let watch = IoWatch::open(std::process::id() as i32).unwrap();
        let before = watch.counts().unwrap();
        let file = tempfile::tempfile().unwrap();
        for _ in 0..8 {
            file.write_all_at(&[7; 65_536], 0).unwrap();
        }
        let moved = watch.counts().unwrap().since(before);
        assert!(moved.written_bytes >= 8 * 65_536 && moved.writes >= 8, "{moved:?}");
    }
}
