//! A lesson for every role that can be the largest of a stage.

use super::functions::*;
use super::{Function, RoleLesson};
use crate::roles::Role;

const fn lesson(
    role: Role,
    functions: &'static [&'static Function],
    text: &'static str,
) -> RoleLesson {
    RoleLesson { role, text, functions }
}

pub(super) static ALL: &[RoleLesson] = &[
    lesson(
        Role::User,
        &[],
        "This is the program itself: the loop around the system call, and whatever it does with the \
         bytes.",
    ),
    lesson(
        Role::Syscall,
        &[],
        "This is the fixed cost of a system call: switching to the kernel and back, finding the \
         file behind the descriptor, the checks. It is paid once per call, so larger buffers \
         reduce it.",
    ),
    lesson(
        Role::PipeWrite,
        &[&PIPE_WRITE],
        "This is the bookkeeping of write(2) itself: finding the next slot, filling it in, moving \
         the head of the ring on.",
    ),
    lesson(
        Role::PipeRead,
        &[&PIPE_READ],
        "This is the bookkeeping of read(2) itself: finding the oldest slot, taking from it, moving \
         the tail of the ring on.",
    ),
    lesson(
        Role::CopyIn,
        &[&COPY_IN],
        "The bytes are copied from the writer's buffer into pages that belong to the pipe. What is \
         copied has to pass through this CPU's caches, and pushes other things out of them.",
    ),
    lesson(
        Role::CopyOut,
        &[&COPY_OUT],
        "The bytes are copied from the pipe's pages into the reader's buffer. They were last touched \
         by the writer's CPU, so they come from its caches, or from memory.",
    ),
    lesson(
        Role::PageAlloc,
        &[&ALLOC_PAGES],
        "Each slot needs a page of its own to hold the copy. The allocator keeps a list of free \
         pages for each CPU. But the writer only takes pages and the reader only gives them back, \
         so with two CPUs one list runs dry while the other overflows, and both ends have to use \
         the shared list.",
    ),
    lesson(
        Role::PageFree,
        &[&ANON_RELEASE, &LENT_RELEASE, &FRAGMENT_RELEASE, &PUT_PAGE],
        "An emptied slot drops its reference to the page. That is one atomic subtraction from the \
         page's reference count, in a cache line that the writer's CPU has just changed. If it was \
         the last reference, the page goes back to the allocator.",
    ),
    lesson(
        Role::PagePin,
        &[&GET_PAGES, &GUP_FAST],
        "The writer names its buffer by virtual addresses, but a slot refers to a page. So the \
         kernel walks the page table and raises the reference count of each page, so that the page \
         stays while the pipe refers to it. The fast path takes no lock; it turns interrupts off, \
         which keeps the table from being freed.",
    ),
    lesson(
        Role::Splice,
        &[&VMSPLICE, &TEE, &SPLICE_FROM_PIPE, &SPLICE_NEXT],
        "This is the ring itself: filling slots with references, and taking them out again. The \
         cost is per slot, whatever the slot refers to.",
    ),
    lesson(
        Role::PipeLock,
        &[&MUTEX_LOCK, &MUTEX_SPIN],
        "There is one mutex for both ends. An end that finds it taken spins while the holder runs \
         on another CPU, and sleeps otherwise. The cache line that holds the mutex moves between \
         the two CPUs each time.",
    ),
    lesson(
        Role::WaitSpace,
        &[&WAIT_FOR_SPACE, &PIPE_WAIT_WRITABLE, &TEE_WAITS],
        "The ring is full, and the writer has to sleep until the reader has taken something. What \
         counts here is time on a CPU: queueing up, leaving the CPU and coming back to it. The sleep \
         itself costs no CPU, but it costs time. write(2) sleeps in its own function, vmsplice(2) and \
         tee(2) in those below.",
    ),
    lesson(
        Role::WaitData,
        &[&PIPE_WAIT_READABLE],
        "The ring is empty, and the reader has to sleep until the writer has put something in. What \
         counts here is time on a CPU: queueing up, leaving the CPU and coming back to it. The sleep \
         itself costs no CPU, but it costs time. read(2) sleeps in its own function, splice(2) in the \
         one below.",
    ),
    lesson(
        Role::Wakeup,
        &[&WAKE_SYNC, &WAKE],
        "An end that sleeps has to be woken: the scheduler picks a CPU for it, puts it on that \
         CPU's queue, and, where that CPU idles, interrupts it. On a virtual machine such an \
         interrupt may have to go through the hypervisor, and an idle CPU may have been given to \
         somebody else, so waking can cost more there than any other work of a pipe.",
    ),
    lesson(
        Role::WakeupOrWait,
        &[],
        "A wake-up and the end of a wait both end in the function that turns interrupts on again, \
         where a timer takes its sample, and the compiler has left no trace of which of the two \
         called it. The kernel's code at the call shows which, but reading it takes root and \
         /proc/kcore. Either way it is a cost of sleeping and waking.",
    ),
    lesson(
        Role::Preempted,
        &[],
        "The scheduler gave the CPU to another task. The cause is the load on the machine, not the \
         pipe.",
    ),
    lesson(
        Role::PageFault,
        &[],
        "A page of the buffer was not there when it was first touched. That happens once a page, so \
         it shows in short runs only.",
    ),
];
