//! The kernel functions that lessons speak of, under all their names.

use super::{Function, Name, Release};
use crate::roles::Role;

const fn name(name: &'static str, first: Release, last: Release) -> Name {
    Name { name, first, last }
}

/// First and last of what was read.
const OLDEST: Release = Release(4, 4);
const NEWEST: Release = Release(6, 19);

pub(super) static PIPE_WRITE: Function = Function {
    known_as: "pipe_write",
    names: &[
        name("anon_pipe_write", Release(6, 17), NEWEST),
        name("pipe_write", OLDEST, Release(6, 14)),
    ],
    file: "fs/pipe.c",
    role: Role::PipeWrite,
    does: "all of write(2) on a pipe: the mutex, the slots, the copy, the wake-up",
};

pub(super) static PIPE_READ: Function = Function {
    known_as: "pipe_read",
    names: &[
        name("anon_pipe_read", Release(6, 17), NEWEST),
        name("pipe_read", OLDEST, Release(6, 14)),
    ],
    file: "fs/pipe.c",
    role: Role::PipeRead,
    does: "all of read(2) on a pipe: the mutex, the slots, the copy, the wake-up",
};

pub(super) static COPY_IN: Function = Function {
    known_as: "copy_page_from_iter",
    names: &[name("copy_page_from_iter", OLDEST, NEWEST)],
    file: "lib/iov_iter.c",
    role: Role::CopyIn,
    does: "copies the writer's bytes into a page of the pipe",
};

pub(super) static COPY_OUT: Function = Function {
    known_as: "copy_page_to_iter",
    names: &[name("copy_page_to_iter", OLDEST, NEWEST)],
    file: "lib/iov_iter.c",
    role: Role::CopyOut,
    does: "copies a page of the pipe out to the reader",
};

pub(super) static ALLOC_PAGES: Function = Function {
    known_as: "alloc_pages",
    names: &[
        name("__alloc_frozen_pages_noprof", Release(6, 14), NEWEST),
        name("__alloc_pages_noprof", Release(6, 12), NEWEST),
        name("__alloc_pages", Release(5, 15), Release(6, 6)),
        name("__alloc_pages_nodemask", OLDEST, Release(5, 10)),
    ],
    file: "mm/page_alloc.c",
    role: Role::PageAlloc,
    does: "takes a page from the allocator",
};

pub(super) static PUT_PAGE: Function = Function {
    known_as: "put_page",
    names: &[
        name("__folio_put", Release(6, 1), NEWEST),
        name("__put_page", Release(4, 19), Release(5, 19)),
    ],
    file: "mm/swap.c",
    role: Role::PageFree,
    does: "gives a page back that nobody refers to any more",
};

pub(super) static ANON_RELEASE: Function = Function {
    known_as: "anon_pipe_buf_release",
    names: &[name("anon_pipe_buf_release", OLDEST, NEWEST)],
    file: "fs/pipe.c",
    role: Role::PageFree,
    does: "empties a slot that write(2) filled",
};

pub(super) static LENT_RELEASE: Function = Function {
    known_as: "page_cache_pipe_buf_release",
    names: &[name("page_cache_pipe_buf_release", OLDEST, NEWEST)],
    file: "fs/splice.c",
    role: Role::PageFree,
    does: "empties a slot that refers to somebody else's page",
};

pub(super) static VMSPLICE: Function = Function {
    known_as: "vmsplice",
    names: &[
        name("__do_sys_vmsplice", Release(5, 10), NEWEST),
        name("do_vmsplice", Release(4, 19), Release(5, 4)),
    ],
    file: "fs/splice.c",
    role: Role::Splice,
    does: "all of vmsplice(2): the mutex, the pages, the slots, the wake-up",
};

pub(super) static GET_PAGES: Function = Function {
    known_as: "iov_iter_get_pages",
    names: &[
        name("iov_iter_get_pages2", Release(6, 1), NEWEST),
        name("iov_iter_get_pages", Release(4, 19), Release(5, 19)),
    ],
    file: "lib/iov_iter.c",
    role: Role::PagePin,
    does: "finds up to sixteen pages of the writer's buffer at a time",
};

pub(super) static GUP_FAST: Function = Function {
    known_as: "get_user_pages_fast",
    names: &[
        name("gup_fast_fallback", Release(6, 12), NEWEST),
        name("internal_get_user_pages_fast", Release(5, 10), Release(6, 6)),
        name("get_user_pages_fast", Release(4, 19), Release(5, 4)),
    ],
    file: "mm/gup.c",
    role: Role::PagePin,
    does: "walks the page table and raises each page's reference count",
};

pub(super) static WAIT_FOR_SPACE: Function = Function {
    known_as: "wait_for_space",
    names: &[name("wait_for_space", Release(4, 19), NEWEST)],
    file: "fs/splice.c",
    role: Role::WaitSpace,
    does: "looks for a free slot, and sleeps until there is one",
};

pub(super) static PIPE_WAIT_WRITABLE: Function = Function {
    known_as: "pipe_wait_writable",
    names: &[name("pipe_wait_writable", Release(5, 10), NEWEST)],
    file: "fs/pipe.c",
    role: Role::WaitSpace,
    does: "lets go of the mutex and sleeps until a slot is free",
};

pub(super) static PIPE_WAIT_READABLE: Function = Function {
    known_as: "pipe_wait_readable",
    names: &[name("pipe_wait_readable", Release(5, 10), NEWEST)],
    file: "fs/pipe.c",
    role: Role::WaitData,
    does: "lets go of the mutex and sleeps until a slot is filled",
};

pub(super) static SPLICE_FROM_PIPE: Function = Function {
    known_as: "__splice_from_pipe",
    names: &[name("__splice_from_pipe", OLDEST, NEWEST)],
    file: "fs/splice.c",
    role: Role::Splice,
    does: "hands slot after slot to the other side, here /dev/null",
};

pub(super) static SPLICE_NEXT: Function = Function {
    known_as: "splice_from_pipe_next",
    names: &[name("splice_from_pipe_next", OLDEST, NEWEST)],
    file: "fs/splice.c",
    role: Role::Splice,
    does: "looks for the next filled slot, and sleeps until there is one",
};

pub(super) static WAKE_SYNC: Function = Function {
    known_as: "__wake_up_sync_key",
    names: &[name("__wake_up_sync_key", OLDEST, NEWEST)],
    file: "kernel/sched/wait.c",
    role: Role::Wakeup,
    does: "wakes the other end after read(2) or write(2)",
};

pub(super) static WAKE: Function = Function {
    known_as: "__wake_up",
    names: &[name("__wake_up", OLDEST, NEWEST)],
    file: "kernel/sched/wait.c",
    role: Role::Wakeup,
    does: "wakes the other end after splice(2) or vmsplice(2)",
};

pub(super) static MUTEX_LOCK: Function = Function {
    known_as: "mutex_lock",
    names: &[
        name("__mutex_lock", Release(4, 19), NEWEST),
        name("__mutex_lock_slowpath", OLDEST, OLDEST),
    ],
    file: "kernel/locking/mutex.c",
    role: Role::PipeLock,
    does: "takes a mutex that somebody else holds",
};

pub(super) static MUTEX_SPIN: Function = Function {
    known_as: "mutex_spin_on_owner",
    names: &[name("mutex_spin_on_owner", OLDEST, NEWEST)],
    file: "kernel/locking/mutex.c",
    role: Role::PipeLock,
    does: "spins for as long as the holder runs on another CPU",
};
