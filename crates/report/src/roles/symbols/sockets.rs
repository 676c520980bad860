//! What a kernel function does for a socket.
//!
//! Names were read in `net/ipv4/tcp.c` and `net/core/datagram.c` of v5.10, in `net/ipv4/tcp.c` between
//! v5.19 and v6.4, in `net/unix/af_unix.c` of v6.18, and in the symbols of a kernel 6.18. Functions
//! that only those here call (a driver's, netfilter's) are not listed: they count for their caller.

use super::starts_with_any;
use crate::roles::Role;

pub(super) fn role(name: &str) -> Option<Role> {
    Some(match name {
        // net/core/datagram.c, net/core/skbuff.c.
        "skb_copy_datagram_iter"
        | "__skb_datagram_iter"
        | "simple_copy_to_iter"
        | "skb_copy_datagram_from_iter"
        | "skb_copy_and_csum_datagram"
        | "skb_copy_and_csum_datagram_msg"
        | "skb_copy_and_hash_datagram_iter"
        | "zerocopy_sg_from_iter"
        | "__zerocopy_sg_from_iter"
        | "csum_and_copy_from_iter"
        | "csum_and_copy_from_iter_full"
        | "csum_and_copy_to_iter"
        | "unix_stream_read_actor" => Role::SocketCopy,

        "alloc_skb_with_frags"
        | "alloc_skb_for_msg"
        | "kmalloc_reserve"
        | "pskb_expand_head"
        | "sock_alloc_send_pskb"
        | "sock_alloc_send_skb"
        | "sock_wmalloc"
        // net/ipv4/tcp.c: 5.10, and what it is called from 5.19.
        | "sk_stream_alloc_skb"
        | "tcp_stream_alloc_skb"
        | "sk_page_frag_refill"
        | "skb_page_frag_refill"
        | "skb_clone"
        | "__skb_clone"
        | "skb_copy"
        | "__kfree_skb"
        // `kfree_skb` up to 5.16, `kfree_skb_reason` from 5.17, this from 6.11.
        | "sk_skb_reason_drop"
        | "consume_skb"
        | "__consume_stateless_skb"
        | "napi_consume_skb"
        | "skb_release_all"
        | "skb_release_data"
        | "skb_release_head_state"
        | "skb_free_head"
        | "skb_free_datagram"
        // Between 5.10 and 6.4: freed by the CPU that allocated it.
        | "skb_attempt_defer_free"
        | "skb_defer_free_flush"
        | "napi_skb_cache_put"
        | "tcp_eat_recv_skb"
        | "sock_wfree"
        | "__sock_wfree"
        | "sock_rfree"
        | "sock_efree"
        | "tcp_wfree"
        | "sk_forced_mem_schedule"
        | "mem_cgroup_sk_charge"
        | "mem_cgroup_sk_uncharge" => Role::SocketBuffer,
        _ if starts_with_any(
            name,
            &[
                "__alloc_skb",
                "__build_skb",
                "build_skb",
                "napi_build_skb",
                "__napi_alloc_skb",
                "napi_alloc_skb",
                "__netdev_alloc_skb",
                "kfree_skb",
                "__sk_mem_",
                "page_pool_",
            ],
        ) =>
        {
            Role::SocketBuffer
        }

        // net/core/sock.c; `lock_sock_fast` in 5.10, `__lock_sock_fast` in 6.18.
        "lock_sock_nested" | "__lock_sock" | "lock_sock_fast" | "__lock_sock_fast"
        | "release_sock" | "__release_sock" | "__sk_flush_backlog" => Role::SocketLock,

        "sock_def_readable"
        | "sock_def_write_space"
        | "sock_def_write_space_wfree"
        | "sock_def_wakeup"
        | "sock_def_error_report"
        | "sk_stream_write_space"
        | "sock_wake_async"
        | "unix_write_space"
        | "unix_dgram_peer_wake_relay"
        | "tcp_data_ready" => Role::SocketWakeup,

        "sk_stream_wait_memory" | "sock_wait_for_wmem" | "unix_wait_for_peer" => {
            Role::WaitSocketSpace
        }
        "sk_wait_data" | "unix_stream_data_wait" | "__skb_wait_for_more_packets" => {
            Role::WaitSocketData
        }

        // On the way out, and on the way in where a sender does that itself: over the loopback
        // device (`__local_bh_enable_ip` runs what is pending), or from the backlog of a socket.
        "tcp_write_xmit"
        | "__tcp_transmit_skb"
        | "__tcp_push_pending_frames"
        | "tcp_push_one"
        | "tcp_send_ack"
        | "__tcp_send_ack"
        | "__tcp_retransmit_skb"
        | "tcp_tsq_handler"
        | "tcp_rcv_established"
        | "tcp_rcv_state_process"
        | "tcp_data_queue"
        | "tcp_ack"
        | "udp_queue_rcv_one_skb"
        | "dev_hard_start_xmit"
        | "dev_queue_xmit"
        | "__dev_queue_xmit"
        | "__dev_direct_xmit"
        | "dev_gro_receive"
        | "process_backlog"
        | "sch_direct_xmit"
        | "validate_xmit_skb"
        | "skb_checksum"
        | "__skb_checksum"
        | "csum_partial"
        // Connections: made, set up and closed.
        | "__sys_socket"
        | "__sys_socketpair"
        | "__sys_bind"
        | "__sys_listen"
        | "__sys_connect"
        | "__sys_accept4"
        | "__sys_shutdown"
        | "__sys_setsockopt"
        | "__sys_getsockopt"
        | "__sys_getsockname"
        | "__sys_getpeername"
        | "do_sock_setsockopt"
        | "do_sock_getsockopt"
        | "sock_ioctl"
        | "sock_close"
        | "__sock_release"
        | "inet_release"
        | "unix_release_sock"
        | "tcp_close"
        | "inet_stream_connect"
        | "unix_stream_connect"
        | "inet_accept" => Role::NetworkStack,
        _ if starts_with_any(
            name,
            &[
                "ip_",
                "__ip_",
                "ip6_",
                "__ip6_",
                "ipv6_",
                "tcp_v4_",
                "tcp_v6_",
                "net_rx_action",
                "net_tx_action",
                "__napi_poll",
                "netif_",
                "__netif_",
            ],
        ) =>
        {
            Role::NetworkStack
        }

        // Each family has its own (`tcp_`, `udp_`, `unix_stream_`, `tls_sw_`), and some a part that
        // runs with the lock held (`tcp_sendmsg_locked`). What sendpage did (5.10 and later),
        // sendmsg does in 6.18, with `MSG_SPLICE_PAGES`.
        "sock_write_iter" | "__sys_sendto" => Role::SocketSend,
        _ if name.contains("sendmsg") || name.contains("sendpage") => Role::SocketSend,
        "sock_read_iter"
        | "__sys_recvfrom"
        | "unix_stream_read_generic"
        | "tcp_read_sock"
        | "__tcp_read_sock"
        | "__skb_recv_datagram"
        | "__skb_try_recv_datagram"
        | "__skb_recv_udp" => Role::SocketReceive,
        _ if name.contains("recvmsg") => Role::SocketReceive,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_of_a_function_has_its_role() {
        for (role_wanted, names) in [
            (
                Role::SocketSend,
                &[
                    "tcp_sendmsg",
                    "tcp_sendmsg_locked",
                    "unix_stream_sendmsg",
                    "sock_sendmsg",
                    "__sock_sendmsg",
                    "____sys_sendmsg",
                    "do_tcp_sendpages",
                    "sock_sendpage",
                    "sock_write_iter",
                ][..],
            ),
            (
                Role::SocketReceive,
                &[
                    "tcp_recvmsg",
                    "tcp_recvmsg_locked",
                    "unix_stream_recvmsg",
                    "unix_stream_read_generic",
                    "sock_recvmsg",
                    "__sys_recvfrom",
                    "__tcp_read_sock",
                ],
            ),
            (Role::SocketCopy, &["skb_copy_datagram_iter", "skb_copy_datagram_from_iter"]),
            (
                Role::SocketBuffer,
                &[
                    "__alloc_skb",
                    "alloc_skb_with_frags",
                    "sk_stream_alloc_skb",
                    "tcp_stream_alloc_skb",
                    "kfree_skb",
                    "kfree_skb_reason",
                    "sk_skb_reason_drop",
                    "kfree_skb_list_reason",
                    "skb_release_data",
                    "__sk_mem_raise_allocated",
                ],
            ),
            (Role::SocketLock, &["lock_sock_nested", "__lock_sock_fast", "__release_sock"]),
            (Role::SocketWakeup, &["sock_def_readable", "sk_stream_write_space"]),
            (
                Role::NetworkStack,
                &[
                    "__tcp_transmit_skb",
                    "ip_queue_xmit",
                    "__ip_queue_xmit",
                    "__dev_queue_xmit",
                    "net_rx_action",
                    "tcp_v4_rcv",
                    "tcp_v6_do_rcv",
                    "inet_stream_connect",
                ],
            ),
            (Role::WaitSocketSpace, &["sk_stream_wait_memory"]),
            (Role::WaitSocketData, &["sk_wait_data", "unix_stream_data_wait"]),
        ] {
            for name in names {
                assert_eq!(role(name), Some(role_wanted), "{name}");
            }
        }
        // Whether a socket is ready is asked by poll.
        assert_eq!([role("sock_poll"), role("tcp_poll"), role("unix_poll")], [None; 3]);
    }
}
