//! The kernel functions that lessons speak of, under all their names.
//!
//! Of each: role, source file, what people call it and what it does, and the names that it had from
//! one release to another, the newest first.

use super::Release as V;
use super::{Function, Name};
use crate::roles::Role;

/// First and last of what was read.
const OLDEST: V = V(4, 4);
const NEWEST: V = V(6, 19);

macro_rules! functions {
    ($($id:ident: $role:ident, $file:literal, $known_as:literal $does:literal,
       [$($name:literal $first:expr => $last:expr),+];)*) => {
        $(pub(super) static $id: Function = Function {
            known_as: $known_as,
            names: &[$(Name { name: $name, first: $first, last: $last }),+],
            file: $file,
            role: Role::$role,
            does: $does,
        };)*
    };
}

functions! {
    PIPE_WRITE: PipeWrite, "fs/pipe.c", "pipe_write"
        "all of write(2) on a pipe: the mutex, the slots, the copy, the wake-up",
        ["anon_pipe_write" V(6, 17) => NEWEST, "pipe_write" OLDEST => V(6, 14)];
    PIPE_READ: PipeRead, "fs/pipe.c", "pipe_read"
        "all of read(2) on a pipe: the mutex, the slots, the copy, the wake-up",
        ["anon_pipe_read" V(6, 17) => NEWEST, "pipe_read" OLDEST => V(6, 14)];

    COPY_IN: CopyIn, "lib/iov_iter.c", "copy_page_from_iter"
        "copies the writer's bytes into a page of the pipe",
        ["copy_page_from_iter" OLDEST => NEWEST];
    COPY_OUT: CopyOut, "lib/iov_iter.c", "copy_page_to_iter"
        "copies a page of the pipe out to the reader",
        ["copy_page_to_iter" OLDEST => NEWEST];

    ALLOC_PAGES: PageAlloc, "mm/page_alloc.c", "alloc_pages"
        "takes a page from the allocator",
        ["__alloc_frozen_pages_noprof" V(6, 14) => NEWEST,
         "__alloc_pages_noprof" V(6, 12) => NEWEST,
         "__alloc_pages" V(5, 15) => V(6, 6),
         "__alloc_pages_nodemask" OLDEST => V(5, 10)];
    PUT_PAGE: PageFree, "mm/swap.c", "put_page"
        "frees a page after its last reference is gone",
        ["__folio_put" V(6, 1) => NEWEST, "__put_page" V(4, 19) => V(5, 19)];
    ANON_RELEASE: PageFree, "fs/pipe.c", "anon_pipe_buf_release"
        "empties a slot that refers to a page which write(2) filled",
        ["anon_pipe_buf_release" OLDEST => NEWEST];
    LENT_RELEASE: PageFree, "fs/splice.c", "page_cache_pipe_buf_release"
        "empties a slot that refers to a page that is not the pipe's own",
        ["page_cache_pipe_buf_release" OLDEST => NEWEST];
    FRAGMENT_RELEASE: PageFree, "fs/pipe.c", "generic_pipe_buf_release"
        "empties a slot that refers to a fragment of a socket's",
        ["generic_pipe_buf_release" OLDEST => NEWEST];

    VMSPLICE: Splice, "fs/splice.c", "vmsplice"
        "all of vmsplice(2): the mutex, the pages, the slots, the wake-up",
        ["__do_sys_vmsplice" V(5, 10) => NEWEST, "do_vmsplice" V(4, 19) => V(5, 4)];
    TEE: Splice, "fs/splice.c", "do_tee"
        "all of tee(2): two mutexes, a reference and a copy of each slot, the wake-up",
        ["do_tee" V(4, 19) => NEWEST, "SyS_tee" OLDEST => OLDEST];
    ANOTHER_REFERENCE: Splice, "fs/pipe.c", "generic_pipe_buf_get"
        "raises the reference count of the page that a slot refers to",
        ["generic_pipe_buf_get" OLDEST => NEWEST];
    SPLICE_FROM_PIPE: Splice, "fs/splice.c", "__splice_from_pipe"
        "hands slot after slot to the other side, here /dev/null",
        ["__splice_from_pipe" OLDEST => NEWEST];
    SPLICE_NEXT: Splice, "fs/splice.c", "splice_from_pipe_next"
        "looks for the next filled slot, and sleeps until there is one",
        ["splice_from_pipe_next" OLDEST => NEWEST];

    GET_PAGES: PagePin, "lib/iov_iter.c", "iov_iter_get_pages"
        "finds up to sixteen pages of the writer's buffer at a time",
        ["iov_iter_get_pages2" V(6, 1) => NEWEST, "iov_iter_get_pages" V(4, 19) => V(5, 19)];
    GUP_FAST: PagePin, "mm/gup.c", "get_user_pages_fast"
        "walks the page table and raises each page's reference count",
        ["gup_fast_fallback" V(6, 12) => NEWEST,
         "internal_get_user_pages_fast" V(5, 10) => V(6, 6),
         "get_user_pages_fast" V(4, 19) => V(5, 4)];

    WAIT_FOR_SPACE: WaitSpace, "fs/splice.c", "wait_for_space"
        "looks for a free slot, and sleeps until there is one",
        ["wait_for_space" V(4, 19) => NEWEST];
    PIPE_WAIT_WRITABLE: WaitSpace, "fs/pipe.c", "pipe_wait_writable"
        "releases the mutex and sleeps until a slot is free",
        ["pipe_wait_writable" V(5, 10) => NEWEST];
    TEE_WAITS: WaitSpace, "fs/splice.c", "opipe_prep"
        "looks for a free slot in the output of tee(2), and sleeps until there is one",
        ["opipe_prep" OLDEST => NEWEST];
    PIPE_WAIT_READABLE: WaitData, "fs/pipe.c", "pipe_wait_readable"
        "releases the mutex and sleeps until a slot is filled",
        ["pipe_wait_readable" V(5, 10) => NEWEST];

    WAKE_SYNC: Wakeup, "kernel/sched/wait.c", "__wake_up_sync_key"
        "wakes the other end after read(2) or write(2)",
        ["__wake_up_sync_key" OLDEST => NEWEST];
    WAKE: Wakeup, "kernel/sched/wait.c", "__wake_up"
        "wakes the other end after splice(2), vmsplice(2) or tee(2)",
        ["__wake_up" OLDEST => NEWEST];

    MUTEX_LOCK: PipeLock, "kernel/locking/mutex.c", "mutex_lock"
        "takes a mutex that another task holds",
        ["__mutex_lock" V(4, 19) => NEWEST, "__mutex_lock_slowpath" OLDEST => OLDEST];
    MUTEX_SPIN: PipeLock, "kernel/locking/mutex.c", "mutex_spin_on_owner"
        "spins for as long as the holder runs on another CPU",
        ["mutex_spin_on_owner" OLDEST => NEWEST];
}
