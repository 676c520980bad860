use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;
use crate::netlink::attribute;

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn unix_message(state: u8, inode: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![libc::AF_UNIX as u8, libc::SOCK_STREAM as u8, state, 0];
    body.extend(numbers(&[inode, 7, 8]));
    body.extend(attributes.concat());
    body
}

#[test]
fn a_unix_socket_tells_its_peer_and_what_waits() {
    let body = unix_message(
        1,
        4121,
        &[
            attribute(uapi::UNIX_DIAG_PEER, &numbers(&[4122])),
            attribute(uapi::UNIX_DIAG_RQLEN, &numbers(&[300, 768])),
            attribute(uapi::UNIX_DIAG_MEMINFO, &numbers(&[1, 2, 3, 4, 5, 6, 7, 8, 9])),
            attribute(99, b"later"),
        ],
    );
    let memory = Memory { received: 1, receive_limit: 2, sent: 3, send_limit: 4 };
    let family = Family::Unix { peer: Some(4122), is_named: false };
    let expected = Socket {
        inode: 4121,
        listens: false,
        backlog: 0,
        family,
        unread_bytes: 300,
        memory,
        received_bytes: None,
        tcp: None,
    };
    assert_eq!(unix_socket(&body), Some(expected));
    let listens = unix_message(
        10,
        7,
        &[
            attribute(uapi::UNIX_DIAG_NAME, b"/run/x"),
            attribute(uapi::UNIX_DIAG_RQLEN, &numbers(&[3, 128])),
        ],
    );
    let found = unix_socket(&listens).unwrap();
    assert!(found.listens);
    assert_eq!((found.unread_bytes, found.backlog), (0, 128), "those are connections");
    assert_eq!(found.family, Family::Unix { peer: None, is_named: true });
}

#[test]
fn a_tcp_socket_tells_its_addresses_and_what_arrived() {
    let mut body = vec![libc::AF_INET6 as u8, 1, 0, 0];
    body.extend(5000u16.to_be_bytes());
    body.extend(40000u16.to_be_bytes());
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
    body.extend(mapped);
    body.extend(mapped);
    body.extend([0; 12]);
    // Timer, unread, unsent, user, inode.
    body.extend(numbers(&[0, 512, 0, 1000, 4121]));
    let mut info = vec![0; 128];
    info[100..104].copy_from_slice(&3u32.to_ne_bytes());
    info[68..72].copy_from_slice(&40_000u32.to_ne_bytes());
    info.extend(9_000_000_000u64.to_ne_bytes());
    info.extend([0; 32]);
    info.extend([500u64, 400, 100].into_iter().flat_map(u64::to_ne_bytes));
    // Segments that arrived at the other side; bytes sent, and sent again.
    info.extend([0u64, 9_000, 1_000].into_iter().flat_map(u64::to_ne_bytes));
    body.extend(attribute(uapi::INET_DIAG_INFO, &info));
    let found = tcp_socket(&body).unwrap();
    assert_eq!((found.inode, found.unread_bytes), (4121, 512));
    assert_eq!(found.received_bytes, Some(9_000_000_000));
    let of_tcp = TcpInfo {
        sent_bytes: 8_000,
        retransmitted: 3,
        round_trip_us: 40_000,
        busy_us: 500,
        window_limited_us: 400,
        buffer_limited_us: 100,
        ..TcpInfo::default()
    };
    assert_eq!(found.tcp, Some(of_tcp));
    let [local, remote] = ["127.0.0.1:5000", "127.0.0.1:40000"].map(|text| text.parse().unwrap());
    assert_eq!(found.family, Family::Tcp { local, remote });
    // A kernel from before the counter.
    let short = attribute(uapi::INET_DIAG_INFO, &[0; 104]);
    body.truncate(72);
    body.extend(short);
    assert_eq!(tcp_socket(&body).unwrap().received_bytes, None);
}

#[test]
fn damaged_answers_are_none() {
    let whole = unix_message(1, 4121, &[attribute(uapi::UNIX_DIAG_RQLEN, &numbers(&[300, 768]))]);
    for length in 0..16 {
        assert_eq!(unix_socket(&whole[..length]), None, "{length}");
    }
    assert_eq!(tcp_socket(&[2, 1, 0]), None);
    let mut long = whole.clone();
    // An attribute that claims more than there is.
    long[16..18].copy_from_slice(&1000u16.to_ne_bytes());
    assert!(unix_socket(&long).is_some_and(|socket| socket.unread_bytes == 0));
}

fn inode(fd: &impl AsFd) -> u64 {
    nix::sys::stat::fstat(fd.as_fd()).unwrap().st_ino
}

#[test]
fn a_pair_of_our_own_is_found() {
    let (mut a, b) = UnixStream::pair().unwrap();
    a.write_all(&[7; 1000]).unwrap();
    let mut diag = SockDiag::open().unwrap();
    let all = diag.unix().unwrap();
    let of = |fd: &UnixStream| all.iter().find(|socket| socket.inode == inode(fd)).unwrap();
    assert_eq!(of(&a).family, Family::Unix { peer: Some(inode(&b)), is_named: false });
    assert_eq!((of(&a).unread_bytes, of(&b).unread_bytes), (0, 1000));
    let memory = of(&a).memory;
    assert!((1000..=memory.send_limit).contains(&memory.sent), "{memory:?}");
    assert_eq!(diag.unix_with(inode(&b)).as_ref(), Some(of(&b)));
    assert_eq!(diag.device(), nix::sys::stat::fstat(a.as_fd()).unwrap().st_dev);
    let gone = inode(&b);
    drop(b);
    assert!(diag.unix_with(gone).is_none());
}

#[test]
fn a_connection_over_loopback_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    sender.write_all(&[7; 3000]).unwrap();
    receiver.read_exact(&mut [0; 1000]).unwrap();
    let mut diag = SockDiag::open().unwrap();
    let (local, remote) = (receiver.local_addr().unwrap(), receiver.peer_addr().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = diag.tcp_with(local, remote).unwrap();
        if found.received_bytes == Some(3000) && found.unread_bytes == 2000 {
            assert_eq!(found.inode, inode(&receiver));
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
    }
    let all = diag.tcp().unwrap();
    let of = |inode: u64| all.iter().find(|socket| socket.inode == inode).unwrap();
    assert_eq!(of(inode(&sender)).family, Family::Tcp { local: remote, remote: local });
    assert!(of(inode(&listener)).listens && of(inode(&listener)).backlog > 1);
    assert_eq!(of(inode(&sender)).backlog, 0);
}
