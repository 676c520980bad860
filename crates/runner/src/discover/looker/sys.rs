//! What the looker does. It is forked beside other threads and never executes, so everything here
//! is async-signal-safe.

use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use super::Question;

const QUESTION_BYTES: usize = 28;
const ANSWER_BYTES: usize = 32;

pub(super) fn encode(question: Question) -> [u8; QUESTION_BYTES] {
    let Question { pid, fd, device, inode, set_bytes } = question;
    let mut bytes = [0; QUESTION_BYTES];
    bytes[..4].copy_from_slice(&pid.to_ne_bytes());
    bytes[4..8].copy_from_slice(&fd.to_ne_bytes());
    bytes[8..16].copy_from_slice(&device.to_ne_bytes());
    bytes[16..24].copy_from_slice(&inode.to_ne_bytes());
    bytes[24..].copy_from_slice(&set_bytes.to_ne_bytes());
    bytes
}

fn decode(bytes: &[u8; QUESTION_BYTES]) -> Option<Question> {
    Some(Question {
        pid: i32::from_ne_bytes(*bytes.first_chunk()?),
        fd: i32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?),
        device: u64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
        inode: u64::from_ne_bytes(*bytes.get(16..)?.first_chunk()?),
        set_bytes: u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?),
    })
}

pub(super) fn send(socket: BorrowedFd, message: &[u8]) -> Result<(), Errno> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let (fd, data) = (socket.as_raw_fd(), message.as_ptr().cast());
    // SAFETY: `message` is readable for its length.
    let sent = unsafe { libc::send(fd, data, message.len(), flags) };
    Errno::result(sent).map(drop)
}

/// An answer that is there.
pub(super) fn receive(socket: BorrowedFd) -> Result<[u64; 4], Errno> {
    let mut bytes = [0; ANSWER_BYTES];
    if read(socket.as_raw_fd(), &mut bytes)? != ANSWER_BYTES {
        return Err(Errno::ESRCH);
    }
    let mut words = [0; 4];
    for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(*place.first_chunk().ok_or(Errno::EPROTO)?);
    }
    Ok(words)
}

fn read(fd: RawFd, room: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: `room` is writable for its length.
    let length = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), 0) };
    Errno::result(length).map(|length| length as usize)
}

/// Forks a looker that answers on `socket`, until its other end is closed.
pub(super) fn fork(socket: RawFd) -> Result<i32, Errno> {
    // SAFETY: all-zero bytes are a valid `sigset_t`, which is made of integers.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { zeroed() };
    // SAFETY: both sets are ours; the child makes async-signal-safe calls only and never returns.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = Errno::result(libc::fork());
        if pid == Ok(0) {
            look_for_ever(socket);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        pid
    }
}

/// # Safety
///
/// To be called in a child right after `fork`, with all signals blocked.
unsafe fn look_for_ever(socket: RawFd) -> ! {
    // SAFETY: plain system calls; this process is alone, and uses no descriptor but the one that it
    // keeps, as number 0.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"pp-look".as_ptr());
        let first = libc::sched_param { sched_priority: 1 };
        if libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
        crate::access::give_up();
        if socket != 0 {
            libc::dup2(socket, 0);
        }
        // Linux 5.9.
        libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0);
    }
    let mut bytes = [0; QUESTION_BYTES];
    while read(0, &mut bytes) == Ok(QUESTION_BYTES) {
        let words = decode(&bytes).and_then(look).unwrap_or_default();
        let mut answer = [0; ANSWER_BYTES];
        for (place, word) in answer.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&u64::to_ne_bytes(word));
        }
        // SAFETY: `answer` is readable for its length.
        unsafe { libc::send(0, answer.as_ptr().cast(), ANSWER_BYTES, libc::MSG_NOSIGNAL) };
    }
    // SAFETY: nothing is left to be done.
    unsafe { libc::_exit(0) }
}

/// Capacity, fill, for how long the end was open, and the errno of a refusal.
fn look(question: Question) -> Option<[u64; 4]> {
    let mut path = [0; 48];
    let Question { pid, fd, device, inode, set_bytes } = question;
    write_path(&mut path, b"/proc/", pid, b"/fd/", fd)?;
    // The path is first taken with O_PATH, which opens no end, and compared with the pipe that was
    // found. So nothing else that has meanwhile got the number is ever opened.
    // SAFETY: a path that ends in NUL; the descriptors are closed below.
    let place = unsafe { libc::open(path.as_ptr().cast(), libc::O_PATH | libc::O_CLOEXEC) };
    if place < 0 {
        return None;
    }
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is written where the call says so.
    let is_it = unsafe {
        libc::fstat(place, stat.as_mut_ptr()) == 0 && {
            let stat = stat.assume_init_ref();
            (stat.st_dev, stat.st_ino) == (device, inode)
        }
    };
    let mut own = [0; 48];
    let found = if is_it && write_path(&mut own, b"/proc/self/fd/", place, b"", -1).is_some() {
        ask(&own, set_bytes)
    } else {
        None
    };
    // SAFETY: opened above.
    unsafe { libc::close(place) };
    found
}

/// The end is open between the two looks at the clock, and no longer.
fn ask(path: &[u8; 48], set_bytes: u32) -> Option<[u64; 4]> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let mut bytes: libc::c_int = 0;
    let before = now_ns();
    // SAFETY: a path that ends in NUL.
    let end = unsafe { libc::open(path.as_ptr().cast(), flags) };
    if end < 0 {
        return Some([0, 0, 0, Errno::last_raw() as u64]);
    }
    let mut refusal = 0;
    // SAFETY: a descriptor of our own, and an int for FIONREAD to write.
    let (capacity, filled) = unsafe {
        if set_bytes != 0 && libc::fcntl(end, libc::F_SETPIPE_SZ, set_bytes) < 0 {
            refusal = Errno::last_raw();
        }
        let capacity = libc::fcntl(end, libc::F_GETPIPE_SZ);
        let filled = libc::ioctl(end, libc::FIONREAD, &raw mut bytes);
        libc::close(end);
        (capacity, filled)
    };
    let held_ns = now_ns().wrapping_sub(before);
    let capacity = u64::try_from(capacity).ok()?;
    (filled == 0).then_some([capacity, u64::try_from(bytes).ok()?, held_ns, refusal as u64])
}

fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// The parts after each other, with a NUL behind them; a negative `second` is left out.
fn write_path(
    path: &mut [u8; 48],
    start: &[u8],
    first: i32,
    middle: &[u8],
    second: i32,
) -> Option<()> {
    let mut at = 0;
    let mut push = |bytes: &mut dyn Iterator<Item = u8>| -> Option<()> {
        for byte in bytes {
            *path.get_mut(at)? = byte;
            at += 1;
        }
        Some(())
    };
    push(&mut start.iter().copied())?;
    push(&mut digits(first))?;
    push(&mut middle.iter().copied())?;
    if second >= 0 {
        push(&mut digits(second))?;
    }
    push(&mut std::iter::once(0))
}

/// Of a number that is not negative.
fn digits(number: i32) -> impl Iterator<Item = u8> {
    let number = number.unsigned_abs();
    let count = number.checked_ilog10().unwrap_or(0);
    (0..=count).rev().map(move |place| b'0' + (number / 10_u32.pow(place) % 10) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_without_a_heap() {
        let mut path = [b'x'; 48];
        write_path(&mut path, b"/proc/", i32::MAX, b"/fd/", 0).unwrap();
        assert!(path.starts_with(b"/proc/2147483647/fd/0\0"));
        write_path(&mut path, b"/proc/self/fd/", 10, b"", -1).unwrap();
        assert!(path.starts_with(b"/proc/self/fd/10\0"));
    }

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let question =
            Question { pid: 7, fd: i32::MAX, device: u64::MAX, inode: 3, set_bytes: 1 << 20 };
        assert_eq!(decode(&encode(question)), Some(question));
    }
}
