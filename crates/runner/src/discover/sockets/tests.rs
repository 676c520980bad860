use super::*;
use crate::discover::table::HeldSocket;
use crate::discover::topology::pipeline_of;
use crate::sock_diag::Memory;

const PIPEFS: u64 = 13;
const SOCKFS: u64 = 9;

/// Processes, a line each: `pid parent group name: descriptors`, where `0r5` is descriptor 0 at the
/// read end of pipe 5, `1w5` the write end, and `3s70` socket 70.
fn table(text: &str) -> ProcTable {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    ProcTable::new(lines.map(process).collect(), 0)
}

fn process(line: &str) -> Process {
    let (head, held) = line.split_once(':').unwrap();
    let words: Vec<&str> = head.split_whitespace().collect();
    let pid: i32 = words[0].parse().unwrap();
    let mut process = Process {
        pid,
        parent: words[1].parse().unwrap(),
        group: words[2].parse().unwrap(),
        start_time_ticks: pid as u64,
        comm: words[3].to_owned(),
        forked_only: words.contains(&"forked"),
        ..Process::default()
    };
    for word in held.split_whitespace() {
        let at = word.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        let (fd, inode) = (word[..at].parse().unwrap(), word[at + 1..].parse().unwrap());
        let access = match &word[at..=at] {
            "s" => {
                process.sockets.push(HeldSocket { fd, inode });
                continue;
            }
            "w" => Access::Write,
            _ => Access::Read,
        };
        let pipe = PipeKey { device: PIPEFS, inode };
        let link = Link::Pipe;
        process.descriptors.push(Descriptor {
            fd,
            pipe,
            link,
            access,
            close_on_exec: false,
            path: None,
        });
    }
    process
}

fn socket(inode: u64, family: Family) -> Socket {
    Socket {
        inode,
        listens: false,
        backlog: 0,
        family,
        unread_bytes: 0,
        memory: Memory::default(),
        received_bytes: None,
        tcp: None,
    }
}

/// A pair without names, of which the second holds so much unread data.
fn pair(a: u64, b: u64, unread_bytes: u64) -> Vec<Socket> {
    let unix = |peer| Family::Unix { peer: Some(peer), is_named: false };
    vec![socket(a, unix(b)), Socket { unread_bytes, ..socket(b, unix(a)) }]
}

/// A connection over TCP by which so much came to the first socket, and to the second.
fn tcp(a: u64, b: u64, received: [u64; 2]) -> Vec<Socket> {
    let address = |port: u64| SocketAddr::from(([127, 0, 0, 1], port as u16));
    let one = |inode, other, received| Socket {
        received_bytes: Some(received),
        ..socket(inode, Family::Tcp { local: address(inode), remote: address(other) })
    };
    vec![one(a, b, received[0]), one(b, a, received[1])]
}

fn listener(inode: u64) -> Vec<Socket> {
    listener_for(inode, 128)
}

fn listener_for(inode: u64, backlog: u64) -> Vec<Socket> {
    let address = |port: u64| SocketAddr::from(([0, 0, 0, 0], port as u16));
    let family = Family::Tcp { local: address(inode), remote: address(0) };
    vec![Socket { listens: true, backlog, ..socket(inode, family) }]
}

/// Members and links of the pipeline of a process: `a b; pipe 5:a>b unix 70:b>a`.
fn shape(text: &str, sockets: &[Vec<Socket>], pid: i32) -> String {
    let mut table = table(text);
    let known = Known { device: SOCKFS, namespaces: vec![sockets.concat()] };
    join(&mut table, &known, |_, fd| fd > 2);
    let found = pipeline_of(&table, &[pid]);
    let name = |id| found.pipeline.member(id).unwrap().comm.as_str();
    let members: Vec<&str> = found.pipeline.members.iter().map(|m| m.comm.as_str()).collect();
    let links = found.pipeline.pipes.iter().map(|pipe| {
        let names = |ids: &[crate::pipeline::MemberId]| {
            ids.iter().map(|&id| name(id)).collect::<Vec<_>>().join(",")
        };
        let (from, to) = (names(&pipe.writers), names(&pipe.readers));
        format!(" {} {}:{from}>{to}", pipe.link.kind(), pipe.inode)
    });
    let left_out = match found.left_out.iter().map(|(_, count)| count).sum::<u32>() {
        0 => String::new(),
        count => format!("; {count} left out"),
    };
    format!("{};{}{left_out}", members.join(" "), links.collect::<String>())
}

/// The same from each of its members.
#[track_caller]
fn assert_from_each(text: &str, sockets: &[Vec<Socket>], pids: &[i32], expected: &str) {
    for &pid in pids {
        assert_eq!(shape(text, sockets, pid), expected, "from {pid}");
    }
}

#[test]
fn what_node_spawns_is_joined_by_its_standard_streams() {
    // Sockets 70 and 71 are the child's stdin, 80 and 81 its stdout, 90 and 91 its stderr.
    let scene = "
        10 1 10 cat: 1w5
        11 1 10 node: 0r5 17s70 18s80 19s90
        12 11 10 child: 0s71 1s81 2s91";
    // What its stderr carries is a log, however much.
    let sockets = [pair(70, 71, 0), pair(80, 81, 0), pair(91, 90, 9999)];
    let expected = "cat node child; pipe 5:cat>node unix 71:node>child unix 80:child>node";
    assert_from_each(scene, &sockets, &[10, 11, 12], expected);
}

#[test]
fn a_child_with_one_socket_for_both_streams_is_written_to_and_read() {
    let scene = "
        10 1 10 cat: 1w5
        11 1 10 socat: 0r5 6s70
        12 11 10 child: 0s71 1s71";
    let expected = "cat socat child; pipe 5:cat>socat unix 71:socat>child unix 70:child>socat";
    assert_from_each(scene, &[pair(70, 71, 0)], &[10, 11, 12], expected);
}

#[test]
fn a_shell_around_a_childs_streams_passes_them_on() {
    let scene = "
        11 1 10 node: 17s70 18s80
        12 11 10 sh: 0s71 1s81
        13 12 10 a: 0s71 1w5
        14 12 10 b: 0r5 1s81";
    let mut table = table(scene);
    let known =
        Known { device: SOCKFS, namespaces: vec![[pair(70, 71, 0), pair(80, 81, 0)].concat()] };
    join(&mut table, &known, |_, fd| fd > 2);
    let sh = table.position(12).unwrap();
    table.process_mut(sh).waits_for_child = true;
    table.process_mut(sh).calls = Some(crate::discover::Calls { reads: 9, ..Default::default() });
    let found = pipeline_of(&table, &[13]);
    let names: Vec<&str> = found.pipeline.members.iter().map(|m| m.comm.as_str()).collect();
    assert_eq!(names, ["node", "a", "b"]);
    assert_eq!(found.wrappers.len(), 1);
}

#[test]
fn a_control_channel_between_parent_and_child_is_no_link() {
    let scene = "
        10 1 10 master: 3s70 1w5
        11 10 10 worker forked: 4s71
        12 1 10 log: 0r5";
    assert_eq!(shape(scene, &[pair(70, 71, 0)], 11), "worker;");
    assert_eq!(shape(scene, &[pair(70, 71, 0)], 10), "master log; pipe 5:master>log");
    // Short messages do not make it one.
    assert_eq!(shape(scene, &[pair(70, 71, 100)], 11), "worker;");
}

#[test]
fn a_unix_socket_with_a_payload_is_a_link_that_way() {
    let scene = "
        10 1 10 a: 3s70
        11 1 10 b: 4s71";
    let expected = "a b; unix 71:a>b";
    assert_from_each(scene, &[pair(70, 71, 65536)], &[10, 11], expected);
    assert_eq!(shape(scene, &[pair(71, 70, 65536)], 10), "b a; unix 70:b>a");
    assert_eq!(shape(scene, &[pair(71, 70, 0)], 10), "a;");
}

#[test]
fn between_a_pipe_on_stdin_and_one_on_stdout_data_flows() {
    let scene = "
        10 1 10 big: 1w5
        11 1 10 socat: 0r5 5s70
        12 1 10 other: 6s71 1w6
        13 1 10 wc: 0r6";
    let expected = "big socat other wc; pipe 5:big>socat unix 71:socat>other pipe 6:other>wc";
    assert_from_each(scene, &[pair(70, 71, 0)], &[10, 11, 12, 13], expected);
    // Not between two jobs.
    let apart = scene.replace("12 1 10", "12 1 12").replace("13 1 10", "13 1 12");
    assert_eq!(shape(&apart, &[pair(70, 71, 0)], 10), "big socat; pipe 5:big>socat");
}

#[test]
fn a_payload_over_tcp_is_a_link_that_way() {
    let scene = "
        10 1 10 big: 1w5
        11 1 10 nc: 0r5 3s70
        20 1 20 nc: 4s71 1w6
        21 1 20 wc: 0r6";
    let expected = "big nc nc wc; pipe 5:big>nc tcp 71:nc>nc pipe 6:nc>wc";
    assert_from_each(scene, &[tcp(70, 71, [900, 1 << 20])], &[10, 11, 20, 21], expected);
    // A greeting, and a talk both ways.
    for bytes in [[0, 1000], [1 << 20, 2 << 20]] {
        assert_eq!(shape(scene, &[tcp(70, 71, bytes)], 10), "big nc; pipe 5:big>nc", "{bytes:?}");
    }
}

#[test]
fn a_relay_has_one_connection_on_each_side() {
    let scene = "
        10 1 10 a: 3s70
        11 1 11 relay: 4s71 5s72
        12 1 12 b: 3s73";
    let sockets = [tcp(70, 71, [0, 1 << 30]), tcp(72, 73, [0, 1 << 30])];
    assert_from_each(scene, &sockets, &[10, 11, 12], "a relay b; tcp 71:a>relay tcp 73:relay>b");
}

#[test]
fn a_server_and_its_clients_are_no_pipeline() {
    let mut scene = "
        10 1 10 server: 3s1 1w5
        11 1 10 log: 0r5\n"
        .to_owned();
    let mut sockets = vec![listener(1)];
    for client in 0..200 {
        let (near, far) = (1000 + client, 2000 + client);
        scene += &format!("{} 1 10 client: 3s{far}\n", 100 + client);
        scene = scene.replace("server: ", &format!("server: {}s{near} ", 4 + client));
        sockets.push(tcp(near, far, [100, 1 << 20]));
    }
    let of_server = "server log; pipe 5:server>log; 200 left out";
    assert_eq!(shape(&scene, &sockets, 10), of_server);
    assert_eq!(shape(&scene, &sockets, 100), "client;; 1 left out");
    // Nor are those that it forked for each of them.
    let scene = "
        10 1 10 server: 3s1
        11 10 10 worker forked: 4s70
        12 1 12 client: 3s71";
    let sockets = [listener(1), tcp(70, 71, [100, 1 << 20])];
    assert_eq!(shape(scene, &sockets, 12), "client;; 1 left out");
}

#[test]
fn who_listens_and_has_one_connection_of_its_own_job_is_a_member() {
    let scene = "
        10 1 10 nc: 3s70
        11 1 10 nc: 3s1 4s71";
    let sockets = [listener(1), tcp(70, 71, [0, 1 << 20])];
    assert_eq!(shape(scene, &sockets, 10), "nc nc; tcp 71:nc>nc");
    let apart = scene.replace("11 1 10", "11 1 11");
    assert_eq!(shape(&apart, &sockets, 10), "nc;; 1 left out");
}

#[test]
fn who_listens_for_one_at_a_time_is_a_member() {
    // As netcat of OpenBSD does, while it has its connection.
    let scene = "
        10 1 10 nc: 3s70
        11 1 11 nc: 3s1 4s71";
    let sockets = [listener_for(1, 1), tcp(70, 71, [0, 1 << 20])];
    assert_from_each(scene, &sockets, &[10, 11], "nc nc; tcp 71:nc>nc");
}

#[test]
fn who_sends_on_two_connections_is_followed_on_neither() {
    let scene = "
        10 1 10 a: 3s70 4s72
        11 1 11 b: 3s71
        12 1 12 c: 3s73";
    let sockets = [tcp(70, 71, [0, 1 << 20]), tcp(72, 73, [0, 1 << 20])];
    assert_eq!(shape(scene, &sockets, 10), "a;; 2 left out");
}

#[test]
fn loopback_addresses_join_within_one_network_namespace_only() {
    let scene = "
        10 1 10 a: 3s70
        11 1 11 b: 3s71";
    let [a, b] = tcp(70, 71, [0, 1 << 20]).try_into().unwrap();
    let mut table = table(scene);
    let known = Known { device: SOCKFS, namespaces: vec![vec![a.clone()], vec![b.clone()]] };
    join(&mut table, &known, |_, _| false);
    assert!(pipeline_of(&table, &[10]).pipeline.pipes.is_empty());
    let routed = |socket: Socket| match socket.family {
        Family::Tcp { local, remote } => {
            let of = |port: u16| SocketAddr::from(([10, 0, 0, port as u8], port));
            let family = Family::Tcp { local: of(local.port()), remote: of(remote.port()) };
            Socket { family, ..socket }
        }
        Family::Unix { .. } => socket,
    };
    let namespaces = vec![vec![routed(a)], vec![routed(b)]];
    join(&mut table, &Known { device: SOCKFS, namespaces }, |_, _| false);
    assert_eq!(pipeline_of(&table, &[10]).pipeline.pipes.len(), 1);
}
