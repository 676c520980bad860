//! What a blocked system call waits for: data or space of pipes and links, or something else.

use pipeprof_runner::proc_file;

use crate::states::call::Call;
use crate::states::descriptors::{Descriptors, Interest, Target, polled, selected};
use crate::states::timeline::{Builder, PipeRef, Why};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Data(PipeRef),
    Space(PipeRef),
    For(Why),
}

impl Wait {
    fn at(pipe: PipeRef, for_space: bool) -> Wait {
        if for_space { Wait::Space(pipe) } else { Wait::Data(pipe) }
    }
}

/// All that a call waits for.
pub(super) fn waits(
    pid: i32,
    call: Call,
    descriptors: &mut Descriptors,
    builder: &mut Builder,
) -> Vec<Wait> {
    let mut one = |fd: i32, for_space: bool| {
        if fd < 0 {
            return vec![Wait::at(PipeRef::ANY, for_space)];
        }
        vec![wait_at(descriptors.target(pid, fd), for_space, builder)]
    };
    let why = match call {
        Call::Read(fd) | Call::Receive(fd) => return one(fd, false),
        Call::Write(fd) | Call::Send(fd) => return one(fd, true),
        Call::Move { from, to } => return moves(pid, from, to, descriptors, builder),
        Call::Poll { address: 0, .. } => Why::Poll,
        Call::Poll { address, count } => {
            return polls(pid, polled(pid, address, count), descriptors, builder);
        }
        Call::Select { count, readable, writable } => {
            return polls(pid, selected(pid, count, readable, writable), descriptors, builder);
        }
        Call::Epoll(fd) => {
            let interests = descriptors.epoll(pid, fd);
            return polls(pid, Ok(interests), descriptors, builder);
        }
        Call::Running | Call::Other => Why::Other,
        Call::Sleep => Why::Timer,
        Call::Futex => Why::Thread,
        Call::Child => Why::Child,
        Call::Signal => Why::Signal,
        Call::Socket => Why::Network,
        Call::FileLock => Why::FileLock,
        Call::Sync => Why::Disk,
        Call::Writeback => Why::Writeback,
        Call::Fault => Why::Memory,
        Call::Open => Why::Open,
    };
    vec![Wait::For(why)]
}

/// What a wait for data, or for space, of this target is.
fn wait_at(target: Target, for_space: bool, builder: &mut Builder) -> Wait {
    match target {
        Target::Pipe(pipe) => Wait::at(builder.pipe(pipe), for_space),
        Target::Socket(inode) => match builder.link(inode, for_space) {
            Some(link) => Wait::at(link, for_space),
            None => Wait::For(Why::Network),
        },
        Target::Else(why) => Wait::For(why),
    }
}

/// A splice waits at either of its ends. Where both are pipes, which of them only the function tells
/// that it sleeps in.
fn moves(
    pid: i32,
    from: i32,
    to: i32,
    descriptors: &mut Descriptors,
    builder: &mut Builder,
) -> Vec<Wait> {
    let from = wait_at(descriptors.target(pid, from), false, builder);
    let to = wait_at(descriptors.target(pid, to), true, builder);
    let wait = match (from, to) {
        (Wait::For(from), Wait::For(to)) => Wait::For(from.min(to)),
        (from, Wait::For(_)) => from,
        (Wait::For(_), to) => to,
        (from, to) => {
            let wchan = proc_file::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            match Call::of_wchan(&wchan) {
                Call::Write(_) => to,
                _ => from,
            }
        }
    };
    vec![wait]
}

fn polls(
    pid: i32,
    interests: std::io::Result<Vec<Interest>>,
    descriptors: &mut Descriptors,
    builder: &mut Builder,
) -> Vec<Wait> {
    let Ok(interests) = interests else { return vec![Wait::For(Why::Poll)] };
    if interests.is_empty() {
        // Nothing but the time can end it.
        return vec![Wait::For(Why::Timer)];
    }
    let mut waits = Vec::new();
    for Interest { fd, readable, writable } in interests {
        match descriptors.target(pid, fd) {
            // Through these it is woken by itself.
            Target::Else(Why::Thread | Why::Signal | Why::Other) => {
                waits.push(Wait::For(Why::Poll));
            }
            Target::Else(why) => waits.push(Wait::For(why)),
            Target::Socket(_) if !readable && !writable => waits.push(Wait::For(Why::Network)),
            target => {
                let asked = [(readable, false), (writable, true)].into_iter();
                let asked = asked.filter_map(|(is_asked, way)| is_asked.then_some(way));
                waits.extend(asked.map(|for_space| wait_at(target, for_space, builder)));
            }
        }
    }
    waits
}
