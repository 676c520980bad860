//! What the kernel reports about sockets: which ones are connected, and how much data waits in
//! between.
//!
//! It is asked by `NETLINK_SOCK_DIAG` (sock_diag(7); `net/unix/diag.c`, `net/ipv4/inet_diag.c`,
//! v6.18), which takes no rights and touches no descriptor of the processes that hold the sockets.
//! A netlink socket sees the network namespace that it was made in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::netlink::{Answers, Attributes, Netlink, long, number};

/// A connected or listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// As in `socket:[88121]`.
    pub inode: u64,
    /// It waits for connections.
    pub listens: bool,
    /// How many may wait to be accepted, of one that listens; else 0.
    pub backlog: u64,
    /// What tells its other end.
    pub family: Family,
    /// Bytes that have arrived and were not read.
    pub unread_bytes: u64,
    /// Memory that its two queues use, and may use.
    pub memory: Memory,
    /// Bytes that have arrived so far; `None` where the kernel does not count.
    pub received_bytes: Option<u64>,
    /// What TCP says of the connection; `None` of other sockets.
    pub tcp: Option<TcpInfo>,
}

/// Sums since a TCP connection began (`struct tcp_info`, include/uapi/linux/tcp.h, v6.18); 0 of what
/// the kernel does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that were sent, each once.
    pub sent_bytes: u64,
    /// Bytes that the other side has acknowledged.
    pub acknowledged_bytes: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Segments with data that were sent.
    pub segments: u64,
    /// Smoothed round-trip time, in microseconds.
    pub round_trip_us: u64,
    /// For so long there was data to send, in microseconds.
    pub busy_us: u64,
    /// Of that the receive window of the other side held it back.
    pub window_limited_us: u64,
    /// Of that this side's send buffer held it back.
    pub buffer_limited_us: u64,
}

/// What tells the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A Unix socket.
    Unix {
        /// Inode of the other end.
        peer: Option<u64>,
        /// It is bound to a name, like sockets that were accepted from a listener.
        is_named: bool,
    },
    /// A TCP socket.
    Tcp {
        /// Its own address. IPv4 addresses in IPv6 are returned as IPv4.
        local: SocketAddr,
        /// That of the other end.
        remote: SocketAddr,
    },
}

/// Memory of a socket's queues in bytes, which is more than their contents (`SK_MEMINFO_VARS`,
/// include/uapi/linux/sock_diag.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What has arrived.
    pub received: u64,
    /// `SO_RCVBUF`.
    pub receive_limit: u64,
    /// What was sent and not yet taken by a Unix peer, or acknowledged by a TCP peer.
    pub sent: u64,
    /// `SO_SNDBUF`: a writer waits once so much is used.
    pub send_limit: u64,
}

/// Asks about the sockets of one network namespace.
#[derive(Debug)]
pub struct SockDiag(Netlink);

/// Constants of the kernel's interface that `libc` does not have.
mod uapi {
    pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub(super) const UDIAG_SHOW_NAME: u32 = 0x01;
    pub(super) const UDIAG_SHOW_PEER: u32 = 0x04;
    pub(super) const UDIAG_SHOW_RQLEN: u32 = 0x10;
    pub(super) const UDIAG_SHOW_MEMINFO: u32 = 0x20;
    pub(super) const UNIX_DIAG_NAME: u16 = 0;
    pub(super) const UNIX_DIAG_PEER: u16 = 2;
    pub(super) const UNIX_DIAG_RQLEN: u16 = 4;
    pub(super) const UNIX_DIAG_MEMINFO: u16 = 5;
    pub(super) const INET_DIAG_INFO: u16 = 2;
    pub(super) const INET_DIAG_SKMEMINFO: u16 = 7;
    pub(super) const TCP_ESTABLISHED: u8 = 1;
    pub(super) const TCP_LISTEN: u8 = 10;
    /// Closed by the other end, which may leave data to be read; and by this one.
    pub(super) const TCP_HALF_CLOSED: [u8; 3] = [4, 5, 8];
    pub(super) const NO_COOKIE: [u8; 8] = [0xff; 8];
}

impl SockDiag {
    /// Of the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The kernel has no `NETLINK_SOCK_DIAG`, or a filter refuses it.
    pub fn open() -> io::Result<Self> {
        Ok(SockDiag(Netlink::open(libc::NETLINK_SOCK_DIAG)?))
    }

    /// Of the network namespace that such a file of `/proc` names. A thread enters it for the moment,
    /// which takes `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// The rights are missing, or the file has gone.
    pub fn open_in(namespace: &Path) -> io::Result<Self> {
        let namespace = std::fs::File::open(namespace)?;
        let enter = move || -> io::Result<Self> {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            SockDiag::open()
        };
        let thread = std::thread::Builder::new().name("pp-netns".to_owned()).spawn(enter)?;
        thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    /// The device of every socket's inode; 0 if unknown.
    pub fn device(&self) -> u64 {
        nix::sys::stat::fstat(self.0.fd()).map_or(0, |stat| stat.st_dev)
    }

    /// All Unix sockets that are connected or listen.
    ///
    /// # Errors
    ///
    /// The kernel has no `CONFIG_UNIX_DIAG`.
    pub fn unix(&mut self) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        let request = unix_request(u32::MAX, 0);
        self.ask(&request, Answers::All, |body| found.extend(unix_socket(body)))?;
        Ok(found)
    }

    /// All TCP sockets that are connected or listen.
    ///
    /// # Errors
    ///
    /// The kernel has no `CONFIG_INET_TCP_DIAG`.
    pub fn tcp(&mut self) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = tcp_request(family as u8, &[0; 48]);
            self.ask(&request, Answers::All, |body| found.extend(tcp_socket(body)))?;
        }
        Ok(found)
    }

    /// The Unix socket with this inode, where it is there.
    pub fn unix_with(&mut self, inode: u64) -> Option<Socket> {
        let mut found = None;
        let request = unix_request(u32::MAX, u32::try_from(inode).ok()?);
        self.ask(&request, Answers::One, |body| found = unix_socket(body)).ok()?;
        found
    }

    /// The TCP socket with these addresses, where it is there.
    pub fn tcp_with(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<Socket> {
        let mut found = None;
        let (family, id) = socket_id(local, remote)?;
        self.ask(&tcp_request(family, &id), Answers::One, |body| found = tcp_socket(body)).ok()?;
        found
    }

    fn ask(&mut self, body: &[u8], answers: Answers, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.0.ask(uapi::SOCK_DIAG_BY_FAMILY, body, answers, each)
    }
}

/// `struct unix_diag_req`.
fn unix_request(states: u32, inode: u32) -> Vec<u8> {
    let show = uapi::UDIAG_SHOW_NAME
        | uapi::UDIAG_SHOW_PEER
        | uapi::UDIAG_SHOW_RQLEN
        | uapi::UDIAG_SHOW_MEMINFO;
    let mut bytes = vec![libc::AF_UNIX as u8, 0, 0, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend(inode.to_ne_bytes());
    bytes.extend(show.to_ne_bytes());
    bytes.extend(uapi::NO_COOKIE);
    bytes
}

/// `struct inet_diag_req_v2`.
fn tcp_request(family: u8, id: &[u8; 48]) -> Vec<u8> {
    let extensions = 1 << (uapi::INET_DIAG_INFO - 1) | 1 << (uapi::INET_DIAG_SKMEMINFO - 1);
    let wanted = [uapi::TCP_ESTABLISHED, uapi::TCP_LISTEN].into_iter().chain(uapi::TCP_HALF_CLOSED);
    let states = wanted.fold(0u32, |states, state| states | 1 << state);
    let mut bytes = vec![family, libc::IPPROTO_TCP as u8, extensions, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// `struct inet_diag_sockid` and the family that it is of; `None` where the two addresses are of two.
fn socket_id(local: SocketAddr, remote: SocketAddr) -> Option<(u8, [u8; 48])> {
    let mut id = [0; 48];
    id[..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&remote.port().to_be_bytes());
    let family = match (local.ip(), remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            id[4..8].copy_from_slice(&local.octets());
            id[20..24].copy_from_slice(&remote.octets());
            libc::AF_INET
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            id[4..20].copy_from_slice(&local.octets());
            id[20..36].copy_from_slice(&remote.octets());
            libc::AF_INET6
        }
        _ => return None,
    };
    id[40..].copy_from_slice(&uapi::NO_COOKIE);
    Some((family as u8, id))
}

/// `struct unix_diag_msg` and its attributes; `None` of a socket without data, or damaged.
fn unix_socket(body: &[u8]) -> Option<Socket> {
    let (kind, state) = (i32::from(*body.get(1)?), *body.get(2)?);
    if kind == libc::SOCK_DGRAM {
        return None;
    }
    let listens = state == uapi::TCP_LISTEN;
    let (mut peer, mut is_named, mut memory) = (None, false, Memory::default());
    let (mut unread, mut backlog) = (0, 0);
    for (kind, value) in Attributes(body.get(16..)?) {
        match kind {
            uapi::UNIX_DIAG_PEER => peer = number(value, 0).map(u64::from),
            uapi::UNIX_DIAG_NAME => is_named = true,
            // Of one that listens the first is how many wait to be accepted, the second how many may.
            uapi::UNIX_DIAG_RQLEN if listens => backlog = u64::from(number(value, 4)?),
            uapi::UNIX_DIAG_RQLEN => unread = u64::from(number(value, 0)?),
            uapi::UNIX_DIAG_MEMINFO => memory = memory_of(value, false)?,
            _ => {}
        }
    }
    Some(Socket {
        inode: u64::from(number(body, 4)?),
        listens,
        backlog,
        family: Family::Unix { peer, is_named },
        unread_bytes: unread,
        memory,
        received_bytes: None,
        tcp: None,
    })
}

/// `struct inet_diag_msg` and its attributes.
fn tcp_socket(body: &[u8]) -> Option<Socket> {
    let (family, state) = (i32::from(*body.first()?), *body.get(1)?);
    let listens = state == uapi::TCP_LISTEN;
    let (mut memory, mut received, mut info) = (Memory::default(), None, TcpInfo::default());
    for (kind, value) in Attributes(body.get(72..)?) {
        match kind {
            uapi::INET_DIAG_SKMEMINFO => memory = memory_of(value, true)?,
            // `tcpi_bytes_received` of struct tcp_info, Linux 4.1.
            uapi::INET_DIAG_INFO => {
                received = long(value, 128);
                info = tcp_info(value);
            }
            _ => {}
        }
    }
    Some(Socket {
        inode: u64::from(number(body, 68)?),
        listens,
        backlog: if listens { u64::from(number(body, 60)?) } else { 0 },
        family: Family::Tcp {
            local: address(family, body.get(8..24)?, body.get(4..6)?)?,
            remote: address(family, body.get(24..40)?, body.get(6..8)?)?,
        },
        unread_bytes: if listens { 0 } else { u64::from(number(body, 56)?) },
        memory,
        received_bytes: received,
        tcp: (!listens).then_some(info),
    })
}

fn address(family: i32, address: &[u8], port: &[u8]) -> Option<SocketAddr> {
    let address: [u8; 16] = address.try_into().ok()?;
    let ip = match family {
        libc::AF_INET => {
            let [a, b, c, d, ..] = address;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(address)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
}

/// `SK_MEMINFO_VARS`. What TCP has sent and not been acknowledged for is counted by itself.
fn memory_of(value: &[u8], is_tcp: bool) -> Option<Memory> {
    let of = |at: usize| number(value, 4 * at).map(u64::from);
    Some(Memory {
        received: of(0)?,
        receive_limit: of(1)?,
        sent: of(if is_tcp { 5 } else { 2 })?,
        send_limit: of(3)?,
    })
}

/// `struct tcp_info`, as much as the kernel has of it.
fn tcp_info(value: &[u8]) -> TcpInfo {
    let long = |at| long(value, at).unwrap_or(0);
    let number = |at| number(value, at).map_or(0, u64::from);
    TcpInfo {
        // All that was sent, without what was sent again.
        sent_bytes: long(200).saturating_sub(long(208)),
        acknowledged_bytes: long(120),
        retransmitted: number(100),
        segments: number(156),
        round_trip_us: number(68),
        busy_us: long(168),
        window_limited_us: long(176),
        buffer_limited_us: long(184),
    }
}

#[cfg(test)]
mod tests;
