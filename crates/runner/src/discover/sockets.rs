//! Which sockets are links of a pipeline, and which way their data flows.
//!
//! The ends of a pipe show who writes and who reads. A connection between two sockets carries bytes
//! both ways, and most connections are not part of a pipeline: control channels, requests to a
//! server. So a connection is a link only by one of these rules; a wrong link is worse than a
//! missing one.
//!
//! - *A child's standard stream.* An unnamed pair of Unix sockets, of which a process has one end as
//!   its stdin or stdout and an ancestor has the other, is what `child_process.spawn` of Node and
//!   `socat EXEC:` make instead of pipes. Stdin flows to the child, stdout from it.
//! - *A payload that flows one way.* Any other Unix or TCP connection counts if it is seen to carry
//!   data in one direction only: by the bytes that have arrived over TCP; by what waits in a Unix
//!   socket, by an end that is stdin or stdout, or where one side reads a pipe on stdin and the
//!   other, of the same job, writes one on stdout.
//!
//! A payload is followed only where neither side has clients. A process that listens, or was forked
//! from one that listens, is a server, unless it takes one client at a time (`nc -l`) or its one
//! connection leads to its own job. A process with more than [`MOST_CONNECTIONS`] is a hub. A
//! process that sends (or receives) a payload on two connections is not followed on that side.
//! Connections left out by these rules are counted ([`Process::left_out`]).
//!
//! A link becomes descriptors of its two ends, so the rules for pipes apply to it as well: both
//! ends in one process count as none, and so on for leaks, wrappers, jobs and supervisors.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::level::flags;
use super::table::{Access, Descriptor, ProcTable, Process};
use crate::pipeline::{Link, PipeKey};
use crate::sock_diag::{Family, SockDiag, Socket};

/// A process that holds more connections than this is no member for any of them.
const MOST_CONNECTIONS: usize = 4;

/// Fewer bytes than this over TCP are a greeting.
const LEAST_PAYLOAD: u64 = 64 << 10;

/// A payload flows one way: at least so many times as much as the other way.
const ONE_WAY: u64 = 8;

/// So much waits in a Unix socket of a payload, and not of short messages.
const LEAST_UNREAD: u64 = 4096;

/// No other client may wait meanwhile: `nc -l` of OpenBSD listens on while it has its connection.
const ONE_AT_A_TIME: u64 = 1;

/// Network namespaces that are asked for their sockets.
const MOST_NAMESPACES: usize = 32;

/// What the kernel told of the sockets of the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Device of every socket's inode.
    pub(super) device: u64,
    /// By network namespace: addresses mean something within one only.
    pub(super) namespaces: Vec<Vec<Socket>>,
}

/// The table with the links over sockets in it, as far as the kernel tells of them.
pub(super) fn joined(mut table: ProcTable) -> ProcTable {
    let held: HashSet<u64> = table.processes().iter().flat_map(inodes).collect();
    if held.len() > 1
        && let Some(known) = ask(&table)
    {
        join(&mut table, &known, closes_on_exec);
    }
    table
}

fn inodes(process: &Process) -> impl Iterator<Item = u64> {
    process.sockets.iter().map(|held| held.inode)
}

fn ask(table: &ProcTable) -> Option<Known> {
    let mut own = SockDiag::open().ok()?;
    let device = own.device();
    let mut namespaces = vec![sockets(&mut own)];
    let namespace = |path: &Path| fs::read_link(path).ok();
    let mut seen: HashSet<_> = namespace(Path::new("/proc/self/ns/net")).into_iter().collect();
    for process in table.processes().iter().filter(|process| !process.sockets.is_empty()) {
        let path = format!("/proc/{}/ns/net", process.pid);
        let path = Path::new(&path);
        let is_new = namespace(path).is_some_and(|name| seen.insert(name));
        // Without the right to enter it, its sockets are not known.
        if is_new
            && namespaces.len() < MOST_NAMESPACES
            && let Ok(mut there) = SockDiag::open_in(path)
        {
            namespaces.push(sockets(&mut there));
        }
    }
    Some(Known { device, namespaces })
}

/// Those of a namespace; none where the kernel has no such table.
fn sockets(diag: &mut SockDiag) -> Vec<Socket> {
    let mut found = diag.unix().unwrap_or_default();
    found.extend(diag.tcp().unwrap_or_default());
    found
}

fn closes_on_exec(pid: i32, fd: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    flags(&info).is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
}

/// A process's descriptor for a socket: its place in the table, and the number.
type Handle = (usize, i32);

/// One end of a connection.
struct End<'a> {
    socket: &'a Socket,
    held: &'a [Handle],
}

/// Two connected sockets that processes of the table hold.
struct Connection<'a> {
    ends: [End<'a>; 2],
}

/// One direction of a connection: its place among them, and which of its ends receives.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    connection: usize,
    receiver: usize,
}

/// Adds the descriptors of links over sockets.
pub(super) fn join(
    table: &mut ProcTable,
    known: &Known,
    closes_on_exec: impl Fn(i32, i32) -> bool,
) {
    let mut held: HashMap<u64, Vec<Handle>> = HashMap::new();
    for (at, process) in table.processes().iter().enumerate() {
        for socket in &process.sockets {
            held.entry(socket.inode).or_default().push((at, socket.fd));
        }
    }
    let connections = connections(known, &held);
    let view = View::of(table, known, &held, &connections);
    let mut links = view.standard_streams();
    let (payloads, left_out) = view.payloads(&links);
    links.extend(payloads);
    let mut added: Vec<(usize, Descriptor)> = Vec::new();
    for flow in links {
        let connection = &connections[flow.connection];
        let [receiver, sender] = connection.from(flow.receiver);
        let pipe = PipeKey { device: known.device, inode: receiver.socket.inode };
        let link = link(sender.socket);
        for (end, access) in [(sender, Access::Write), (receiver, Access::Read)] {
            for &(at, fd) in end.held {
                let close_on_exec = closes_on_exec(table.processes()[at].pid, fd);
                let descriptor = Descriptor { fd, pipe, link, access, close_on_exec, path: None };
                added.push((at, descriptor));
            }
        }
    }
    for (at, descriptor) in added {
        table.process_mut(at).descriptors.push(descriptor);
    }
    for at in left_out {
        table.process_mut(at).left_out += 1;
    }
}

fn link(sender: &Socket) -> Link {
    match sender.family {
        Family::Unix { .. } => Link::Unix { sender: sender.inode },
        Family::Tcp { local, remote } => {
            Link::Tcp { sender: sender.inode, from: local, to: remote }
        }
    }
}

fn connections<'a>(known: &'a Known, held: &'a HashMap<u64, Vec<Handle>>) -> Vec<Connection<'a>> {
    let mut found = Vec::new();
    let mut join = |a: &'a Socket, b: &'a Socket| {
        let end = |socket: &'a Socket| Some(End { socket, held: held.get(&socket.inode)? });
        if a.inode < b.inode
            && let (Some(a), Some(b)) = (end(a), end(b))
        {
            found.push(Connection { ends: [a, b] });
        }
    };
    let all = || known.namespaces.iter().flatten();
    // Their names reach across network namespaces.
    let unix: HashMap<u64, &Socket> = all()
        .filter(|socket| matches!(socket.family, Family::Unix { .. }))
        .map(|socket| (socket.inode, socket))
        .collect();
    for &socket in unix.values() {
        let Family::Unix { peer: Some(peer), .. } = socket.family else { continue };
        let Some(&other) = unix.get(&peer) else { continue };
        if matches!(other.family, Family::Unix { peer: Some(back), .. } if back == socket.inode) {
            join(socket, other);
        }
    }
    let mut tcp: HashMap<(SocketAddr, SocketAddr), Vec<(usize, &Socket)>> = HashMap::new();
    for (namespace, sockets) in known.namespaces.iter().enumerate() {
        for socket in sockets.iter().filter(|socket| !socket.listens) {
            if let Family::Tcp { local, remote } = socket.family {
                tcp.entry((local, remote)).or_default().push((namespace, socket));
            }
        }
    }
    for (&(local, remote), ends) in &tcp {
        let Some(others) = tcp.get(&(remote, local)) else { continue };
        for &(namespace, socket) in ends {
            let within = others.iter().find(|(other, _)| *other == namespace);
            match (within, &others[..]) {
                (Some(&(_, other)), _) => join(socket, other),
                // Loopback ends where its namespace does, and addresses that two have say nothing.
                (None, &[(_, other)]) if ends.len() == 1 && !local.ip().is_loopback() => {
                    join(socket, other);
                }
                _ => {}
            }
        }
    }
    found.sort_by_key(|connection| connection.ends.each_ref().map(|end| end.socket.inode));
    found
}

impl<'a> Connection<'a> {
    /// Its ends, this one first.
    fn from(&self, end: usize) -> [&End<'a>; 2] {
        if end == 0 { [&self.ends[0], &self.ends[1]] } else { [&self.ends[1], &self.ends[0]] }
    }
}

/// All that the rules look at.
struct View<'a> {
    table: &'a ProcTable,
    connections: &'a [Connection<'a>],
    /// Processes that listen for more than one at a time.
    listeners: HashSet<usize>,
    /// Connections of each process, whichever process has the other end.
    counts: HashMap<usize, usize>,
}

impl<'a> View<'a> {
    fn of(
        table: &'a ProcTable,
        known: &Known,
        held: &HashMap<u64, Vec<Handle>>,
        connections: &'a [Connection<'a>],
    ) -> Self {
        let mut listeners = HashSet::new();
        let mut counts: HashMap<usize, HashSet<u64>> = HashMap::new();
        for socket in known.namespaces.iter().flatten() {
            for &(at, _) in held.get(&socket.inode).into_iter().flatten() {
                if socket.listens {
                    if socket.backlog > ONE_AT_A_TIME {
                        listeners.insert(at);
                    }
                } else if !matches!(socket.family, Family::Unix { peer: None, .. }) {
                    counts.entry(at).or_default().insert(socket.inode);
                }
            }
        }
        let counts = counts.into_iter().map(|(at, sockets)| (at, sockets.len())).collect();
        View { table, connections, listeners, counts }
    }

    fn process(&self, at: usize) -> &Process {
        &self.table.processes()[at]
    }

    fn standard_streams(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (at, connection) in self.connections.iter().enumerate() {
            for near in [0, 1] {
                let [child, parent] = connection.from(near);
                if !is_unnamed(child) || !is_unnamed(parent) {
                    continue;
                }
                let started = |&&(holder, _): &&Handle| {
                    let pid = self.process(holder).pid;
                    let above =
                        |&(far, _): &Handle| self.table.descends(pid, self.process(far).pid);
                    parent.held.iter().any(above)
                };
                let numbers: HashSet<i32> =
                    child.held.iter().filter(started).map(|&(_, fd)| fd).collect();
                let flow = |receiver| Flow { connection: at, receiver };
                flows.extend(numbers.contains(&0).then_some(flow(near)));
                flows.extend(numbers.contains(&1).then_some(flow(1 - near)));
            }
        }
        let mut known = HashSet::new();
        flows.retain(|flow| known.insert(*flow));
        flows
    }

    /// Those that are followed, and for each that is not the processes at its ends.
    fn payloads(&self, links: &[Flow]) -> (Vec<Flow>, Vec<usize>) {
        let taken: HashSet<usize> = links.iter().map(|flow| flow.connection).collect();
        let mut flows = Vec::new();
        let mut left_out = Vec::new();
        for (at, connection) in self.connections.iter().enumerate() {
            let Some(receiver) = self.receiver(connection).filter(|_| !taken.contains(&at)) else {
                continue;
            };
            if !self.has_clients(connection) {
                flows.push(Flow { connection: at, receiver });
            } else if has_payload(connection) {
                left_out.extend(connection.ends.iter().flat_map(holders));
            }
        }
        let mut sends: HashMap<usize, usize> = HashMap::new();
        let mut receives: HashMap<usize, usize> = HashMap::new();
        for flow in &flows {
            let [receiver, sender] = self.connections[flow.connection].from(flow.receiver);
            holders(receiver).into_iter().for_each(|at| *receives.entry(at).or_default() += 1);
            holders(sender).into_iter().for_each(|at| *sends.entry(at).or_default() += 1);
        }
        flows.retain(|flow| {
            let [receiver, sender] = self.connections[flow.connection].from(flow.receiver);
            let is_only = |end: &End, counts: &HashMap<usize, usize>| {
                holders(end).iter().all(|at| counts.get(at).is_none_or(|&count| count == 1))
            };
            let is_followed = is_only(receiver, &receives) && is_only(sender, &sends);
            if !is_followed {
                left_out.extend([receiver, sender].into_iter().flat_map(holders));
            }
            is_followed
        });
        (flows, left_out)
    }

    /// Which end of a connection receives a payload; `None` where none is seen.
    fn receiver(&self, connection: &Connection) -> Option<usize> {
        let sockets = connection.ends.each_ref().map(|end| end.socket);
        if let [Some(first), Some(second)] = sockets.map(|socket| socket.received_bytes) {
            let is_one_way =
                first.max(second) >= LEAST_PAYLOAD.max(first.min(second).saturating_mul(ONE_WAY));
            return is_one_way.then_some(usize::from(second > first));
        }
        let [first, second] = sockets.map(|socket| socket.unread_bytes >= LEAST_UNREAD);
        if first != second {
            return Some(usize::from(second));
        }
        let has = |end: usize, fd: i32| {
            let mut held = connection.ends[end].held.iter();
            held.any(|&(_, number)| number == fd)
        };
        let receives = |end: usize| {
            let std = (has(end, 0) && !has(end, 1)) || (has(1 - end, 1) && !has(1 - end, 0));
            let against = has(end, 1) || has(1 - end, 0);
            (std && !against) || self.is_between_pipes(connection, end)
        };
        match [receives(0), receives(1)] {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// The one process at the other end has a pipe on stdin alone, and the one at this end, of the
    /// same job, one on stdout alone.
    fn is_between_pipes(&self, connection: &Connection, receiver: usize) -> bool {
        let [receiver, sender] = connection.from(receiver);
        let ([to], [from]) = (&holders(receiver)[..], &holders(sender)[..]) else { return false };
        let (to, from) = (self.process(*to), self.process(*from));
        let is_at = |process: &Process, fd: i32, access: Access| {
            process.descriptors.iter().any(|d| d.fd == fd && d.access == access)
        };
        let only_reads = |of: &Process| is_at(of, 0, Access::Read) && !is_at(of, 1, Access::Write);
        let only_writes = |of: &Process| is_at(of, 1, Access::Write) && !is_at(of, 0, Access::Read);
        only_reads(from) && only_writes(to) && from.group == to.group
    }

    /// A process at its ends has other connections, or may get them.
    fn has_clients(&self, connection: &Connection) -> bool {
        [0, 1].into_iter().any(|end| {
            let [near, far] = connection.from(end);
            holders(near).into_iter().any(|at| {
                let count = self.counts.get(&at).copied().unwrap_or(0);
                let is_job = |&other: &usize| self.process(other).group == self.process(at).group;
                let is_private = count == 1 && holders(far).iter().any(is_job);
                count > MOST_CONNECTIONS || (self.listens(at) && !is_private)
            })
        })
    }

    /// It listens, or was forked from who does.
    fn listens(&self, at: usize) -> bool {
        let mut now = at;
        // No real line is so long.
        for _ in 0..self.table.processes().len() {
            if self.listeners.contains(&now) {
                return true;
            }
            let process = self.process(now);
            match self.table.position(process.parent).filter(|_| process.forked_only) {
                Some(parent) => now = parent,
                None => return false,
            }
        }
        false
    }
}

/// It was seen to carry data, which a log on stdout need not have been.
fn has_payload(connection: &Connection) -> bool {
    connection.ends.iter().map(|end| end.socket).any(|socket| {
        socket.received_bytes.is_some_and(|bytes| bytes >= LEAST_PAYLOAD)
            || socket.unread_bytes >= LEAST_UNREAD
    })
}

fn is_unnamed(end: &End) -> bool {
    matches!(end.socket.family, Family::Unix { is_named: false, .. })
}

fn holders(end: &End) -> Vec<usize> {
    let mut found: Vec<usize> = end.held.iter().map(|&(at, _)| at).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests;
