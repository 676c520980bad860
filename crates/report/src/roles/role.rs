//! The roles themselves: their order, names and meanings.

use serde::Serialize;

/// What a stack does for the pipe or the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The program's own code.
    User,
    /// The way into the kernel and back, and the checks on it.
    Syscall,
    /// `pipe_write` itself: the ring, its slots, the checks.
    PipeWrite,
    /// `pipe_read` itself.
    PipeRead,
    /// Copying from the writer's memory into the pipe's pages.
    CopyIn,
    /// Copying from the pipe's pages into the reader's memory.
    CopyOut,
    /// Getting the pages that hold the data.
    PageAlloc,
    /// Giving pages back, or letting go of pages that belong to the writer.
    PageFree,
    /// Finding and pinning the writer's own pages.
    PagePin,
    /// Moving references to pages: vmsplice, splice, tee.
    Splice,
    /// Taking the pipe's mutex, spinning or asleep, and letting it go.
    PipeLock,
    /// Waiting, or getting ready to wait, because the pipe is full.
    WaitSpace,
    /// Waiting, or getting ready to wait, because the pipe is empty.
    WaitData,
    /// Waking the other end.
    Wakeup,
    /// Waking the other end, or the end of a wait: both end in one function, and nothing tells which.
    WakeupOrWait,
    /// Asking whether the pipe is ready: poll, select, epoll.
    Poll,
    /// The call that sends, in the code of the socket's kind.
    SocketSend,
    /// The call that receives.
    SocketReceive,
    /// Copying between the program's memory and a socket's buffers.
    SocketCopy,
    /// Getting the buffers that hold a socket's data, giving them back, and the account of them.
    SocketBuffer,
    /// Taking a socket's lock and letting it go.
    SocketLock,
    /// Waking the peer.
    SocketWakeup,
    /// Protocols, queues and devices below a socket.
    NetworkStack,
    /// Waiting, or getting ready to wait, for the peer to read.
    WaitSocketSpace,
    /// Waiting, or getting ready to wait, for the peer to send.
    WaitSocketData,
    /// Off, or coming back to, the CPU because the scheduler wanted it for another task.
    Preempted,
    /// A page of the program's memory wasn't there.
    PageFault,
    /// A device or a timer wanted the CPU.
    Interrupt,
    /// Waiting for a disk.
    WaitDisk,
    /// Waiting for a connection, or for a file server.
    WaitNetwork,
    /// Waiting for a child process.
    WaitChild,
    /// Asleep on purpose.
    WaitSleep,
    /// Waiting for another thread of the program.
    WaitFutex,
    /// Waiting for a lock on a file.
    WaitFileLock,
    /// Switching tasks, for a reason that the stack doesn't show.
    Scheduler,
    /// Events being counted and recorded: what it costs to be watched.
    Profiling,
    /// Kernel work for neither a pipe nor a socket.
    NonPipe,
    /// Kernel code of which the stack doesn't show who called it.
    Other,
}

impl Role {
    /// Every role, in the order in which legends and tables break ties.
    pub const ALL: [Role; 38] = [
        Role::User,
        Role::Syscall,
        Role::PipeWrite,
        Role::PipeRead,
        Role::CopyIn,
        Role::CopyOut,
        Role::PageAlloc,
        Role::PageFree,
        Role::PagePin,
        Role::Splice,
        Role::PipeLock,
        Role::WaitSpace,
        Role::WaitData,
        Role::Wakeup,
        Role::WakeupOrWait,
        Role::Poll,
        Role::SocketSend,
        Role::SocketReceive,
        Role::SocketCopy,
        Role::SocketBuffer,
        Role::SocketLock,
        Role::SocketWakeup,
        Role::NetworkStack,
        Role::WaitSocketSpace,
        Role::WaitSocketData,
        Role::Preempted,
        Role::PageFault,
        Role::Interrupt,
        Role::WaitDisk,
        Role::WaitNetwork,
        Role::WaitChild,
        Role::WaitSleep,
        Role::WaitFutex,
        Role::WaitFileLock,
        Role::Scheduler,
        Role::Profiling,
        Role::NonPipe,
        Role::Other,
    ];

    /// Position in [`Role::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// It is there only because there is a socket.
    pub fn is_socket_work(self) -> bool {
        matches!(
            self,
            Role::SocketSend
                | Role::SocketReceive
                | Role::SocketCopy
                | Role::SocketBuffer
                | Role::SocketLock
                | Role::SocketWakeup
                | Role::NetworkStack
                | Role::WaitSocketSpace
                | Role::WaitSocketData
        )
    }

    /// The same work, where a socket's code calls for it.
    pub(super) fn for_a_socket(self) -> Role {
        match self {
            Role::CopyIn | Role::CopyOut => Role::SocketCopy,
            Role::PageAlloc | Role::PageFree => Role::SocketBuffer,
            Role::PipeLock => Role::SocketLock,
            Role::Wakeup => Role::SocketWakeup,
            role => role,
        }
    }

    /// A few words for tables and legends.
    pub fn label(self) -> &'static str {
        match self {
            Role::User => "user code",
            Role::Syscall => "system call",
            Role::PipeWrite => "pipe write",
            Role::PipeRead => "pipe read",
            Role::CopyIn => "copy in",
            Role::CopyOut => "copy out",
            Role::PageAlloc => "page allocation",
            Role::PageFree => "page release",
            Role::PagePin => "page pinning",
            Role::Splice => "splice",
            Role::PipeLock => "pipe lock",
            Role::WaitSpace => "wait for space",
            Role::WaitData => "wait for data",
            Role::Wakeup => "wake-up",
            Role::WakeupOrWait => "wake-up or wait",
            Role::Poll => "poll",
            Role::SocketSend => "socket send",
            Role::SocketReceive => "socket receive",
            Role::SocketCopy => "socket copy",
            Role::SocketBuffer => "socket buffers",
            Role::SocketLock => "socket lock",
            Role::SocketWakeup => "socket wake-up",
            Role::NetworkStack => "network stack",
            Role::WaitSocketSpace => "wait for socket space",
            Role::WaitSocketData => "wait for socket data",
            Role::Preempted => "preempted",
            Role::PageFault => "page fault",
            Role::Interrupt => "interrupt",
            Role::WaitDisk => "wait for disk",
            Role::WaitNetwork => "wait for network",
            Role::WaitChild => "wait for child",
            Role::WaitSleep => "sleep",
            Role::WaitFutex => "wait for thread",
            Role::WaitFileLock => "wait for file lock",
            Role::Scheduler => "task switch",
            Role::Profiling => "profiling",
            Role::NonPipe => "kernel, not pipe",
            Role::Other => "other kernel",
        }
    }

    /// One sentence for a person who meets the role for the first time.
    pub fn description(self) -> &'static str {
        match self {
            Role::User => "the program's own code",
            Role::Syscall => "entering the kernel and returning, with the checks on the way",
            Role::PipeWrite => "pipe_write itself: the ring of pages and its bookkeeping",
            Role::PipeRead => "pipe_read itself: the ring of pages and its bookkeeping",
            Role::CopyIn => "copying the writer's bytes into the pipe's pages",
            Role::CopyOut => "copying the pipe's bytes to the reader",
            Role::PageAlloc => "allocating pages to hold the data",
            Role::PageFree => "freeing pages, or dropping references to the writer's own",
            Role::PagePin => "finding and pinning the writer's pages, instead of copying them",
            Role::Splice => "moving references to pages: vmsplice, splice, tee",
            Role::PipeLock => "taking and releasing the pipe's lock, which both ends share",
            Role::WaitSpace => "waiting, or getting ready to wait, because the pipe is full",
            Role::WaitData => "waiting, or getting ready to wait, because the pipe is empty",
            Role::Wakeup => "waking the other end",
            Role::WakeupOrWait => {
                "waking the other end, or the end of a wait: no stack shows which"
            }
            Role::Poll => "asking whether a pipe or a socket is ready",
            Role::SocketSend => "the send call itself: its queue and its bookkeeping",
            Role::SocketReceive => "the receive call itself: its queue and its bookkeeping",
            Role::SocketCopy => "copying between the program's memory and a socket's buffers",
            Role::SocketBuffer => "allocating, charging and freeing the buffers of a socket",
            Role::SocketLock => "taking and releasing a socket's lock",
            Role::SocketWakeup => "waking the peer that waits at a socket",
            Role::NetworkStack => {
                "protocols, queues and devices; over loopback the sender does the receiver's part too"
            }
            Role::WaitSocketSpace => {
                "waiting, or getting ready to wait, for the peer to read: the send buffer is full"
            }
            Role::WaitSocketData => {
                "waiting, or getting ready to wait, for the peer to send: nothing has arrived"
            }
            Role::Preempted => "off the CPU, which the scheduler gave to another task",
            Role::PageFault => "a page of the program's memory had to be brought in",
            Role::Interrupt => "handling an interrupt of a device or a timer",
            Role::WaitDisk => "waiting for a disk",
            Role::WaitNetwork => "waiting for a connection, or for a file server",
            Role::WaitChild => "waiting for a child process",
            Role::WaitSleep => "sleeping for a set time",
            Role::WaitFutex => "waiting for another thread of the program",
            Role::WaitFileLock => "waiting for a lock on a file",
            Role::Scheduler => "switching tasks, for a reason that the stack doesn't show",
            Role::Profiling => {
                "profiling overhead: counting and recording events for pipeprof or another profiler"
            }
            Role::NonPipe => "kernel work for neither a pipe nor a socket",
            Role::Other => "kernel code whose caller the stack does not show",
        }
    }
}
