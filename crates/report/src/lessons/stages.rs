//! A lesson for each stage: the article's, those beyond it, and those that look at one thing.

use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::Stage;

use super::functions::*;
use super::{Function, StageLesson};
use crate::roles::Role;

/// Of a write(2) and a read(2).
const COPIED: &[&Function] = &[
    &PIPE_WRITE,
    &COPY_IN,
    &ALLOC_PAGES,
    &PIPE_READ,
    &COPY_OUT,
    &ANON_RELEASE,
    &PUT_PAGE,
    &WAKE_SYNC,
];
/// Of a vmsplice(2) and a splice(2) that sleep.
const LENT: &[&Function] = &[
    &VMSPLICE,
    &GET_PAGES,
    &GUP_FAST,
    &WAIT_FOR_SPACE,
    &SPLICE_FROM_PIPE,
    &SPLICE_NEXT,
    &LENT_RELEASE,
    &WAKE,
];

/// In the order of [`Stage::ALL`].
pub(super) static ALL: [StageLesson; Stage::ALL.len()] = [
    StageLesson {
        stage: Stage::Write,
        proposal: "",
        text: "A pipe is a ring of slots, and a slot refers to a page and says which part of it \
               holds data. write(2) takes the pipe's mutex and, slot after slot, gets a page, \
               copies the writer's bytes into it and moves the head of the ring on. read(2) takes \
               the mutex, copies the bytes out, gives the page back and moves the tail on. So \
               every byte is copied twice. By default the ring has 16 slots, which with pages of 4 \
               KiB are 64 KiB. When it is full, the writer sleeps until the reader has made room; \
               when it is empty, the reader sleeps until the writer has written something. If the \
               ends alternate like that, they do so 16,384 times per GiB, and each turn ends with \
               a wake-up.",
        meant_for: &[],
        functions: COPIED,
    },
    StageLesson {
        stage: Stage::Vmsplice,
        proposal: "The copy into the pipe is unnecessary: the bytes are in memory already. The \
                   writer could lend the pipe its own pages.",
        text: "vmsplice(2) puts references to the writer's own pages into the slots: nothing is \
               copied in, and no page is allocated. Instead it finds the pages behind the buffer's \
               addresses and raises the reference count of each, so that the page stays while a \
               slot refers to it. read(2) copies out as before and then drops that reference. The \
               writer must not touch a page before it is read, so it fills two buffers in turn, \
               and the pipe is no larger than half a buffer: 128 KiB, which with pages of 4 KiB is \
               32 slots. So the ring is twice as long as before, and that alone may save turns and \
               wake-ups.",
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
        proposal: "The copy out of the pipe remains. A reader that only passes the bytes on does \
                   not have to look at them: it could pass the pages on.",
        text: "splice(2) from a pipe passes the page of each slot to the other side, without a \
               copy. The other side here is /dev/null, which ignores it, so the only cost left is \
               that of moving references: the mutex, the ring, dropping the reference to each \
               page, waking and being woken. This is the fastest possible reader, and it never \
               sees a byte.",
        meant_for: &[(End::Reader, Role::CopyOut)],
        functions: LENT,
    },
    StageLesson {
        stage: Stage::HugePage,
        proposal: "The writer still looks every small page up in its page table. Huge pages would \
                   make that less work.",
        text: "For a huge page, one entry of the page table covers many small pages: 512 of 4 KiB \
               in 2 MiB, or 2,048 of 16 KiB in 32 MiB. So the walk ends a level earlier, and the \
               sixteen pages that vmsplice takes at a time come from one look-up and one addition \
               to one reference count, not from sixteen. The pipe does not change: a slot still \
               holds a small page, so the number of slots to fill, of references to drop one by \
               one, and of turns stays the same.",
        meant_for: &[(End::Writer, Role::PagePin)],
        functions: LENT,
    },
    StageLesson {
        stage: Stage::BusyLoop,
        proposal: "Both ends still sleep and have to be woken. With a CPU each, they could retry \
                   instead.",
        text: "With SPLICE_F_NONBLOCK a call returns EAGAIN instead of sleeping, and both ends \
               simply call again. Neither end sleeps, so neither has to be woken: a check that the \
               queues of sleepers are empty is all that is left of the wake-ups. The ends now \
               compete more for the mutex. The price: both CPUs are busy all the time, even when \
               there is nothing to do.",
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
    StageLesson {
        stage: Stage::Tee,
        proposal: "The writer still looks up its pages, the same ones in every turn. A writer that \
                   sends the same bytes over and over does not have to: the kernel already has the \
                   references, and can copy them from one pipe to another.",
        text: "tee(2) fills the slots of one pipe from those of another, and takes nothing out of \
               the other pipe. For each slot it raises the reference count of the page and copies \
               the slot itself. So the writer fills a pipe of its own once, with write(2), and \
               sends its contents again and again: there is no address to look up, no page to \
               find, no buffer. The output has 256 slots, a megabyte, where busy-loop had 32, so \
               the ends also hand the mutex over less often. What is left is the slot (the writer \
               raises one reference count, the reader lowers it) and the mutex of the output, \
               which each end holds from its first slot to its last. The price: the contents were \
               fixed when the private pipe was filled, and cannot change any more. That is enough \
               for a test pattern or for zeros, not for data. What to look at: how much of each \
               end is the slots and how much the lock.",
        meant_for: &[(End::Writer, Role::PagePin)],
        functions: &[
            &TEE,
            &ANOTHER_REFERENCE,
            &TEE_WAITS,
            &MUTEX_LOCK,
            &MUTEX_SPIN,
            &SPLICE_FROM_PIPE,
            &ANON_RELEASE,
        ],
    },
    StageLesson {
        stage: Stage::TeeLarge,
        proposal: "What is left is a cost per slot, whatever the slot holds. So the next step is \
                   not a cheaper slot, but a larger one.",
        text: "A slot says where its data begins and how long it is, and it may be longer than a \
               page where more of them follow in a row. write(2), vmsplice(2) and files make slots \
               of a page at most. But the data of a socket lies in fragments of up to 32 KiB, \
               eight pages in a row, and splice(2) from a socket makes one slot of each. So the \
               private pipe is filled through a Unix socket, once, and its 256 slots hold 8 MiB. \
               From then on it works like tee: a reference up, a reference down, for eight times \
               as many bytes. What is left is that both ends need the same mutex all the time, so \
               that one works while the other spins, and a third CPU would help neither of them. \
               The price is that of tee: the payload is fixed. As always with splice(2) to \
               /dev/null, the bytes are never read, so this measures how fast references move. A \
               reader that copies is as fast as the copy. What to look at next: a pipe of 4 MiB, \
               where one is allowed (pipeprof run --stage tee-large --pipe-size 4M), which takes a \
               quarter of the turns; and the hunt for what else could be saved, in \
               docs/kernel-notes.md, \"Beyond the article\".",
        meant_for: &[
            (End::Writer, Role::Splice),
            (End::Writer, Role::PipeLock),
            (End::Reader, Role::Splice),
            (End::Reader, Role::PageFree),
            (End::Reader, Role::PipeLock),
        ],
        functions: &[
            &TEE,
            &ANOTHER_REFERENCE,
            &TEE_WAITS,
            &MUTEX_LOCK,
            &MUTEX_SPIN,
            &SPLICE_FROM_PIPE,
            &FRAGMENT_RELEASE,
        ],
    },
    StageLesson {
        stage: Stage::SameCpu,
        proposal: "To wake a task on another CPU, that CPU has to be notified. With both ends on \
                   one CPU, that is not needed.",
        text: "Both ends are kept on one CPU, and nothing else is changed. A wake-up now puts the \
               sleeper on the queue of the CPU that is running anyway: no interrupt is sent, and \
               no idle CPU has to wake up. As a rule the waker continues until it has to sleep \
               itself, and then the CPU switches to the other end. There are more gains: what was \
               copied in is copied out of the same caches, a page given back lies on the list that \
               the next one is taken from, and the mutex is free whenever it is asked for, unless \
               its holder was interrupted. The price: the ends take turns, and the CPU that one of \
               them could have had is idle. While both only move bytes, that may pay off; if one \
               of them has to compress what it reads, it does not. What to look at next: a pipe of \
               1 MiB, which needs a sixteenth of the turns on two CPUs as well (pipeprof run \
               --stage write --pipe-size 1M).",
        meant_for: &[(End::Writer, Role::Wakeup), (End::Reader, Role::Wakeup)],
        functions: COPIED,
    },
    StageLesson {
        stage: Stage::Gift,
        proposal: "The writer lends its pages and gets them back. Could it give them away for \
                   good, so that the other side can keep them?",
        text: "SPLICE_F_GIFT makes vmsplice(2) mark its slots as gifts, a promise never to write \
               to the pages again; SPLICE_F_MOVE asks splice(2) to take them over instead of \
               copying. Only a page without other references can be taken over, so not one that \
               the writer still has mapped. Few receivers even try: file systems dropped it in \
               2.6.21, which leaves FUSE and the ports of virtio consoles. /dev/null keeps \
               nothing, so here the mark is never checked, and the work is that of splice. One \
               thing does differ: the man page asks for whole pages, so the buffers begin at a \
               page, while those of splice begin within one and span a page more; that shifts how \
               the turns of the two ends meet. A page cannot be sent twice: one that was given \
               away must not be filled again, so a writer that keeps the promise needs new pages \
               all the time, each of which has to be faulted in. What to look at: whether any role \
               became cheaper at all.",
        meant_for: &[],
        functions: LENT,
    },
    StageLesson {
        stage: Stage::Tiny,
        proposal: "write moved 256 KiB with each call. A program that prints a line at a time \
                   moves 64 bytes: what does it pay?",
        text: "write(2) of 64 bytes goes the same way as one of 256 KiB: into the kernel, to the \
               file behind the descriptor, to the mutex, to the ring, and back. That is 16,777,216 \
               times a GiB, so the calls take the time, and the bytes almost none. So that each \
               small write does not take up a slot, write(2) first looks at the last filled slot: \
               if that came from write(2) too and its page has room, the bytes are added there. So \
               64 such writes share a page of 4 KiB, and a pipe of 64 KiB takes 1,024 before it is \
               full. The reader asks for 256 KiB and gets whatever is there; but the first write \
               to an empty pipe has to wake it, and if it is quick the pipe is always empty. Then \
               each write is a turn of its own, with a slot and a wake-up. A pipe cannot wait \
               until more bytes have accumulated. Only the program can, with a buffer of its own, \
               and that is the remedy. What to look at: the system call and the wake-up, and the \
               same with both ends on one CPU, where the writer fills the pipe before the reader \
               comes to it (pipeprof flame --stage tiny --pin same).",
        meant_for: &[],
        functions: COPIED,
    },
];
