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
            wait @ Wait::For(_) => vec![for_peer(target, builder).unwrap_or(wait)],
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
        Call::Sync | Call::Files => Why::Disk,
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
            None if for_space => Wait::For(Why::SocketSpace),
            None => Wait::For(Why::SocketData),
        },
        Target::Else(why) => Wait::For(why),
    }
}

/// A wait for what goes against the flow of a link: for an answer, or a window that the other side
/// opens, as ssh has one for each channel. The process at the other end has to act, as for a wait
/// for space or for data.
fn for_peer(target: Target, builder: &mut Builder) -> Option<Wait> {
    let Target::Socket(inode) = target else { return None };
    builder.link_of(inode).map(|(link, sends)| Wait::at(link, sends))
}

/// A splice, or sendfile, waits at either of its ends: which of them only the function tells that it
/// sleeps in.
fn moves(
    pid: i32,
    from: i32,
    to: i32,
    descriptors: &mut Descriptors,
    builder: &mut Builder,
) -> Vec<Wait> {
    let [source, sink] = [from, to].map(|fd| descriptors.target(pid, fd));
    let ends = [(source, false), (sink, true)].map(|(target, for_space)| {
        (wait_at(target, for_space, builder), matches!(target, Target::Socket(_)))
    });
    let wchan = proc_file::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    vec![at_which_end(Call::of_wchan(&wchan), ends)]
}

/// Of source and sink, each with whether it is a socket.
fn at_which_end(sleeps_in: Call, [source, sink]: [(Wait, bool); 2]) -> Wait {
    let ((from, from_socket), (to, to_socket)) = (source, sink);
    match (sleeps_in, from, to) {
        (Call::Write(_), _, Wait::Space(_)) => to,
        (Call::Read(_), Wait::Data(_), _) => from,
        (Call::Socket, ..) if to_socket && !from_socket => to,
        (Call::Socket, ..) if from_socket && !to_socket => from,
        (Call::Sync, Wait::For(Why::Disk), _) => from,
        (Call::Sync, _, Wait::For(Why::Disk)) => to,
        // The kernel does not tell: a pipe, or the more telling.
        (_, Wait::For(from), Wait::For(to)) => Wait::For(from.min(to)),
        (_, Wait::For(_), to) => to,
        (_, from, _) => from,
    }
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
    let is_of_socket = |wait: &Wait| matches!(wait, Wait::For(why) if why.is_at_socket());
    if waits.iter().all(|wait| matches!(wait, Wait::For(_))) {
        for wait in waits.iter_mut().filter(|wait| is_of_socket(wait)) {
            let mut peers = sockets.iter().filter_map(|&target| for_peer(target, builder));
            *wait = peers.next().unwrap_or(*wait);
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_splice_waits_at_the_end_whose_function_it_sleeps_in() {
        let pipe = PipeRef(7);
        let file = (Wait::For(Why::Disk), false);
        let (data, space) = ((Wait::Data(pipe), false), (Wait::Space(PipeRef(8)), false));
        let peer_reads = (Wait::For(Why::SocketSpace), true);
        let link = (Wait::Space(PipeRef(9)), true);
        let at = |wchan: &str, ends| at_which_end(Call::of_wchan(wchan), ends);
        for (wchan, ends, expected) in [
            // sendfile into a connection, and into one that is a link.
            ("wait_woken", [file, peer_reads], peer_reads.0),
            ("folio_wait_bit_common", [file, peer_reads], file.0),
            ("sock_alloc_send_pskb", [file, link], link.0),
            ("folio_wait_bit_common", [file, link], file.0),
            // splice between pipes, and from a pipe into a socket.
            ("pipe_wait_writable", [data, space], space.0),
            ("pipe_wait_readable", [data, space], data.0),
            ("wait_woken", [data, link], link.0),
            ("pipe_wait_readable", [data, link], data.0),
            // Not for this user's eyes.
            ("0", [data, space], data.0),
            ("0", [file, link], link.0),
            ("0", [file, peer_reads], file.0),
        ] {
            assert_eq!(at(wchan, ends), expected, "{wchan} {ends:?}");
        }
    }
}
