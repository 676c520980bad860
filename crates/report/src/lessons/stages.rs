//! A lesson for each of the article's stages.

use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::Stage;

use super::StageLesson;
use super::functions::*;
use crate::roles::Role;

pub(super) static ALL: &[StageLesson] = &[
    StageLesson {
        stage: Stage::Write,
        proposal: "",
        text: "A pipe is a ring of slots, and a slot refers to a page of 4 KiB and says which part of \
               it holds data. write(2) takes the pipe's mutex and, slot after slot, gets a page, \
               copies the writer's bytes into it and moves the head of the ring on. read(2) takes the \
               mutex, copies the bytes out, gives the page back and moves the tail on. So every byte \
               is copied twice. The ring has 16 slots unless told otherwise, 64 KiB: when it is full \
               the writer sleeps until the reader has made room, and when it is empty the reader \
               sleeps until the writer has brought something. If they take turns like that, they do \
               so 16,384 times a GiB, and each turn ends with a wake-up.",
        meant_for: &[],
        functions: &[
            &PIPE_WRITE,
            &COPY_IN,
            &ALLOC_PAGES,
            &PIPE_READ,
            &COPY_OUT,
            &ANON_RELEASE,
            &PUT_PAGE,
        ],
    },
    StageLesson {
        stage: Stage::Vmsplice,
        proposal: "The copy into the pipe is work that nobody asked for: the bytes are in memory \
                   already. The writer could lend the pipe its own pages.",
        text: "vmsplice(2) puts references to the writer's own pages into the slots: nothing is \
               copied in, and no page is allocated. What it does instead is find the pages behind the \
               buffer's addresses, and raise the reference count of each, so that it stays while a \
               slot refers to it. read(2) copies out as before and then gives that reference up. The \
               writer must not touch a page before it is read, so it fills two buffers in turn, and \
               the pipe is no larger than half a buffer: 128 KiB, which is 32 slots. So the ring is \
               twice as long as it was before, and that alone may save turns and wake-ups.",
        meant_for: &[(End::Writer, Role::CopyIn), (End::Writer, Role::PageAlloc)],
        functions: &[
            &VMSPLICE,
            &GET_PAGES,
            &GUP_FAST,
            &WAIT_FOR_SPACE,
            &PIPE_READ,
            &COPY_OUT,
            &LENT_RELEASE,
        ],
    },
    StageLesson {
        stage: Stage::Splice,
        proposal: "The copy out of the pipe is left. A reader that only passes the bytes on need not \
                   look at them: it could pass the pages on.",
        text: "splice(2) from a pipe hands what each slot refers to to the other side, without a \
               copy. The other side here is /dev/null, which does nothing with it, so what remains is \
               what moving references costs: the mutex, the ring, giving up each page, waking and \
               being woken. It is the fastest reader there can be, and one that never sees a byte.",
        meant_for: &[(End::Reader, Role::CopyOut)],
        functions: &[
            &VMSPLICE,
            &GET_PAGES,
            &GUP_FAST,
            &WAIT_FOR_SPACE,
            &SPLICE_FROM_PIPE,
            &SPLICE_NEXT,
            &LENT_RELEASE,
            &WAKE,
        ],
    },
    StageLesson {
        stage: Stage::HugePage,
        proposal: "The writer still looks every page of 4 KiB up in its page table. Pages of 2 MiB \
                   would make that less work.",
        text: "In a page of 2 MiB one entry of the page table stands for 512 pages of 4 KiB. So the \
               walk ends a level earlier, and the sixteen pages that vmsplice takes at a time come \
               from one look-up and one addition to one reference count, not from sixteen. The pipe \
               knows nothing of it: a slot still holds 4 KiB, so the slots to fill, the references to \
               give up one by one and the turns stay as many as they were.",
        meant_for: &[(End::Writer, Role::PagePin)],
        functions: &[
            &VMSPLICE,
            &GET_PAGES,
            &GUP_FAST,
            &WAIT_FOR_SPACE,
            &SPLICE_FROM_PIPE,
            &LENT_RELEASE,
            &WAKE,
        ],
    },
    StageLesson {
        stage: Stage::BusyLoop,
        proposal: "Both ends still go to sleep and have to be woken. With a CPU each, they could just \
                   try again.",
        text: "With SPLICE_F_NONBLOCK a call returns EAGAIN instead of sleeping, and both ends simply \
               call again. Nobody sleeps, so nobody has to be woken: the queues of sleepers are \
               empty, and looking at them is all that is left of the wake-ups. What both ends share \
               all the more is the mutex. The price: both CPUs are busy all the time, also when there \
               is nothing to do.",
        meant_for: &[
            (End::Writer, Role::Wakeup),
            (End::Writer, Role::WaitSpace),
            (End::Reader, Role::Wakeup),
            (End::Reader, Role::WaitData),
        ],
        functions: &[
            &VMSPLICE,
            &MUTEX_LOCK,
            &MUTEX_SPIN,
            &GET_PAGES,
            &WAIT_FOR_SPACE,
            &SPLICE_FROM_PIPE,
            &LENT_RELEASE,
        ],
    },
];
