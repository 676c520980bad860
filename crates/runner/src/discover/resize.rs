//! Changes the capacity of a pipe between other processes.
//!
//! That takes a descriptor (`F_SETPIPE_SZ`), so the looker (`looker.rs`) opens the pipe's read end
//! for the moment of the call, by the rules of `level.rs`: only anonymous pipes, and none for which
//! an end asked for `SIGIO`. `pidfd_getfd` of a member's own descriptor would hold that end just as
//! long, and also needs the right to trace the member.

use crate::proc_file;
use std::fs;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::fstatat;

use super::level::{flags, is_async};
use super::looker::{self, Answer, Question};
use crate::pipeline::{MemberId, PipeKey};

/// Why a pipe's capacity was not changed, or not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It has no writer or no reader any more.
    OneEnded,
    /// It is a named FIFO, or one of its ends asked for `SIGIO`: it would be noticed.
    Noticed,
    /// The kernel refuses.
    Refused(Errno),
    /// No looker was available. That is temporary.
    NoLooker,
}

/// The capacity of a pipe whose ends these processes hold, or processes that inherited them.
pub(crate) fn capacity(pipe: PipeKey, holders: &[MemberId]) -> Result<u64, Failure> {
    ask(pipe, holders, 0)
}

/// Gives it another capacity, which the kernel rounds up. What it then is.
pub(crate) fn set_capacity(
    pipe: PipeKey,
    holders: &[MemberId],
    bytes: u64,
) -> Result<u64, Failure> {
    let bytes = u32::try_from(bytes).map_err(|_| Failure::Refused(Errno::EINVAL))?;
    ask(pipe, holders, bytes)
}

fn ask(pipe: PipeKey, holders: &[MemberId], set_bytes: u32) -> Result<u64, Failure> {
    let ends = Ends::of(pipe, holders);
    let (true, Some((pid, fd))) = (ends.is_written, ends.reader) else {
        return Err(Failure::OneEnded);
    };
    if ends.is_noticed {
        return Err(Failure::Noticed);
    }
    let PipeKey { device, inode } = pipe;
    let question = Question { pid, fd, device, inode, set_bytes };
    match looker::ask(&[question]).first() {
        Some(Answer::Look(look)) => Ok(look.level.capacity_bytes),
        Some(Answer::Refused(errno)) => Err(Failure::Refused(*errno)),
        // Its descriptor was closed since; another try finds another one, or none.
        Some(Answer::NotFound | Answer::NoLooker) | None => Err(Failure::NoLooker),
    }
}

#[derive(Debug, Default)]
struct Ends {
    is_written: bool,
    reader: Option<(i32, i32)>,
    is_noticed: bool,
}

impl Ends {
    fn of(pipe: PipeKey, holders: &[MemberId]) -> Ends {
        let mut ends = Ends::default();
        for holder in holders.iter().filter(|holder| holder.is_there()) {
            ends.add(pipe, holder.pid);
        }
        // Processes that inherited an end from a holder that has ended are searched last.
        if !ends.is_written || ends.reader.is_none() {
            let ours = [looker::pid(), std::process::id() as i32];
            for pid in numbers("/proc").into_iter().filter(|pid| !ours.contains(pid)) {
                ends.add(pipe, pid);
            }
        }
        ends
    }

    fn add(&mut self, pipe: PipeKey, pid: i32) {
        for fd in numbers(&format!("/proc/{pid}/fd")) {
            let path = format!("/proc/{pid}/fd/{fd}");
            let is_it = fstatat(AT_FDCWD, path.as_str(), AtFlags::empty())
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (pipe.device, pipe.inode));
            if !is_it {
                continue;
            }
            let info =
                proc_file::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
            let Some(mode) = flags(&info).map(|flags| flags & libc::O_ACCMODE) else { continue };
            let is_named = fs::read_link(&path).is_ok_and(|target| target.starts_with("/"));
            self.is_noticed |= is_async(&info) || is_named;
            self.is_written |= mode != libc::O_RDONLY;
            if mode != libc::O_WRONLY && self.reader.is_none() {
                self.reader = Some((pid, fd));
            }
        }
    }
}

/// The numeric names in a folder of `/proc`.
pub(crate) fn numbers(folder: &str) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sys::stat::fstat;

    use super::*;

    fn key(end: impl AsFd) -> PipeKey {
        let stat = fstat(end).unwrap();
        PipeKey { device: stat.st_dev, inode: stat.st_ino }
    }

    fn ourselves() -> Vec<MemberId> {
        vec![MemberId { pid: std::process::id() as i32, start_time: None }]
    }

    #[test]
    fn a_pipe_is_resized_without_a_descriptor_of_ours() {
        let (mut reader, mut writer) = pipe().unwrap();
        let pipe = key(&reader);
        let before = capacity(pipe, &ourselves()).unwrap();
        writer.write_all(&vec![7; before as usize]).unwrap();
        assert_eq!(set_capacity(pipe, &ourselves(), 4 * before), Ok(4 * before));
        assert_eq!(fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap() as u64, 4 * before);
        // What it holds does not fit a smaller one.
        writer.write_all(&[7; 4096]).unwrap();
        assert_eq!(set_capacity(pipe, &ourselves(), before), Err(Failure::Refused(Errno::EBUSY)));
        let mut room = vec![0; before as usize];
        reader.read_exact(&mut room).unwrap();
        assert_eq!(set_capacity(pipe, &ourselves(), before), Ok(before));
        assert!(room.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_pipe_that_lost_a_side_is_left_alone() {
        let (reader, writer) = pipe().unwrap();
        let pipe = key(&reader);
        drop(writer);
        assert_eq!(set_capacity(pipe, &ourselves(), 1 << 20), Err(Failure::OneEnded));
    }
}
