//! What tasks had read and written when they ended: the kernel reports it to listeners
//! (Documentation/accounting/taskstats.rst; `taskstats_exit` in kernel/taskstats.c, v6.18).
//!
//! Listening takes `CAP_NET_ADMIN` in the first user and pid namespaces, and touches no process.

use std::io;

use crate::netlink::{Answers, Attributes, Netlink, attribute, long, number, short};

/// The kernel rounds an account's bytes down to so many (`KB_MASK` in kernel/tsacct.c, v6.18).
pub const ROUNDED_TO_BYTES: u64 = 1024;

/// What waits to be read between two looks: some thousand tasks.
const WAITING_BYTES: usize = 4 << 20;

/// What a task had read and written by its own calls when it ended: not its children's, and not
/// that of the other threads of its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The process.
    pub pid: i32,
    /// The process that waits for it.
    pub parent: i32,
    /// It is the first thread of its process.
    pub leads: bool,
    /// Of other threads the kernel does not tell whose they were (before Linux 5.19).
    pub is_partial: bool,
    /// Bytes that reads returned, rounded down to [`ROUNDED_TO_BYTES`].
    pub read_bytes: u64,
    /// Bytes that writes took, likewise. (So are the numbers of calls, which says nothing of few.)
    pub written_bytes: u64,
}

/// Hears of every task of the machine that ends.
#[derive(Debug)]
pub struct Exits {
    netlink: Netlink,
    family: u16,
}

/// Constants of the kernel's interface that `libc` does not have.
mod uapi {
    pub(super) const GENL_ID_CTRL: u16 = 0x10;
    pub(super) const CTRL_CMD_GETFAMILY: u8 = 3;
    pub(super) const CTRL_ATTR_FAMILY_ID: u16 = 1;
    pub(super) const CTRL_ATTR_FAMILY_NAME: u16 = 2;
    pub(super) const TASKSTATS_CMD_GET: u8 = 1;
    pub(super) const TASKSTATS_CMD_ATTR_REGISTER_CPUMASK: u16 = 3;
    pub(super) const TASKSTATS_TYPE_PID: u16 = 1;
    pub(super) const TASKSTATS_TYPE_TGID: u16 = 2;
    pub(super) const TASKSTATS_TYPE_STATS: u16 = 3;
    pub(super) const TASKSTATS_TYPE_AGGR_PID: u16 = 4;
    pub(super) const TASKSTATS_TYPE_AGGR_TGID: u16 = 5;
    /// The first version of `struct taskstats` that tells the process of a thread.
    pub(super) const VERSION_WITH_TGID: u16 = 12;
}

/// Bytes of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

impl Exits {
    /// Begins to listen. Tasks that end from here on are reported.
    ///
    /// # Errors
    ///
    /// EPERM without the right; EINVAL in a pid namespace of one's own; ENOENT where the kernel has
    /// no `CONFIG_TASKSTATS`.
    pub fn listen() -> io::Result<Self> {
        let mut netlink = Netlink::open(libc::NETLINK_GENERIC)?;
        netlink.reserve(WAITING_BYTES);
        let name = attribute(uapi::CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0");
        let mut family = None;
        let question = generic(uapi::CTRL_CMD_GETFAMILY, &name);
        netlink.ask(uapi::GENL_ID_CTRL, &question, Answers::One, |body| {
            let mut attributes = Attributes(body.get(GENERIC_HEADER..).unwrap_or_default());
            let id = attributes.find(|(kind, _)| *kind == uapi::CTRL_ATTR_FAMILY_ID);
            family = id.and_then(|(_, value)| short(value, 0));
        })?;
        let family = family.ok_or(io::ErrorKind::NotFound)?;
        let cpus = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
        let mut cpus = cpus.trim().as_bytes().to_vec();
        cpus.push(0);
        let mask = attribute(uapi::TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, &cpus);
        let question = generic(uapi::TASKSTATS_CMD_GET, &mask);
        netlink.ask(family, &question, Answers::Receipt, |_| {})?;
        Ok(Exits { netlink, family })
    }

    /// The tasks that have ended since the last call, in about the order in which they ended.
    ///
    /// # Errors
    ///
    /// ENOBUFS if more ended than fit into the buffer, and some are not reported.
    pub fn take(&mut self, mut each: impl FnMut(Exit)) -> io::Result<()> {
        self.netlink.told(self.family, |body| {
            if let Some(exit) = exit(body) {
                each(exit);
            }
        })
    }
}

/// `struct genlmsghdr`, and what follows it.
fn generic(command: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![command, 1, 0, 0];
    bytes.extend(attributes);
    bytes
}

/// An attribute in another.
fn inner(attribute: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attribute).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// What a message of the kernel says. The one for the last thread of several also has sums of the
/// process, but only of its delays.
fn exit(body: &[u8]) -> Option<Exit> {
    let attributes = || Attributes(body.get(GENERIC_HEADER..).unwrap_or_default());
    let find = |wanted| attributes().find(|(kind, _)| *kind == wanted);
    let (_, of_task) = find(uapi::TASKSTATS_TYPE_AGGR_PID)?;
    let stats = inner(of_task, uapi::TASKSTATS_TYPE_STATS)?;
    let tid = number(inner(of_task, uapi::TASKSTATS_TYPE_PID)?, 0)?;
    // Some kernels of 6.14 to 6.16 have fields between (include/uapi/linux/taskstats.h).
    if number(stats, 128) != Some(tid) {
        return None;
    }
    let several = find(uapi::TASKSTATS_TYPE_AGGR_TGID);
    let tells_pid = short(stats, 0)? >= uapi::VERSION_WITH_TGID;
    let pid = match several {
        _ if tells_pid => number(stats, 368)?,
        Some((_, of_process)) => number(inner(of_process, uapi::TASKSTATS_TYPE_TGID)?, 0)?,
        None => tid,
    };
    Some(Exit {
        pid: pid as i32,
        parent: number(stats, 132)? as i32,
        leads: tid == pid,
        is_partial: !tells_pid && several.is_some(),
        read_bytes: long(stats, 216)?,
        written_bytes: long(stats, 224)?,
    })
}

#[cfg(test)]
mod tests;
