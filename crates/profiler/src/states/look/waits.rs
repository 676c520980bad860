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
        let target = descriptors.target(pid, fd);
        match wait_at(target, for_space, builder) {
            Wait::For(Why::Network) => vec![for_peer(target, builder)],
            wait => vec![wait],
        }
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

/// A wait for what goes against the flow of a link: for an answer, or a window that the other side
/// opens, as ssh has one for each channel. The process at the other end has to act, as for a wait
/// for space or for data.
fn for_peer(target: Target, builder: &mut Builder) -> Wait {
    let link = match target {
        Target::Socket(inode) => builder.link_of(inode),
        _ => None,
    };
    link.map_or(Wait::For(Why::Network), |(link, sends)| Wait::at(link, sends))
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
    let mut sockets = Vec::new();
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
                sockets.push(target);
            }
        }
    }
    // A thread that also waits for data of another pipe reads what comes back meanwhile.
    if waits.iter().all(|wait| matches!(wait, Wait::For(_))) {
        for wait in waits.iter_mut().filter(|wait| **wait == Wait::For(Why::Network)) {
            let mut peers = sockets.iter().map(|&target| for_peer(target, builder));
            if let Some(peer) = peers.find(|peer| !matches!(peer, Wait::For(_))) {
                *wait = peer;
            }
        }
    }
    waits
}
