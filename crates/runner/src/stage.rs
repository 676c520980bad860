//! The optimisation stages: the article's five, each of which adds one idea to the one before, and
//! others that go further or show one thing by itself.

use serde::{Deserialize, Serialize};

/// An optimisation stage of the pipe pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// `write` and `read`: every byte is copied twice.
    Write,
    /// `vmsplice` and `read`: the copy into the pipe is gone.
    Vmsplice,
    /// `vmsplice` and `splice`: no copy at all.
    Splice,
    /// As [`Stage::Splice`], with buffers in huge pages.
    HugePage,
    /// As [`Stage::HugePage`], and neither end sleeps.
    BusyLoop,
    /// As [`Stage::BusyLoop`], from a private pipe that was filled once, by `tee`.
    Tee,
    /// As [`Stage::Tee`], with slots that hold more than a page.
    TeeLarge,
    /// As [`Stage::Write`], with both ends on one CPU.
    SameCpu,
    /// As [`Stage::Splice`], with pages given away.
    Gift,
    /// As [`Stage::Write`], a few bytes at a time.
    Tiny,
}

/// How the writer puts bytes into the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteWith {
    /// `write(2)`, which copies.
    Write,
    /// `vmsplice(2)`, which lets the pipe refer to the writer's pages.
    Vmsplice,
    /// `tee(2)` of a private pipe that holds pages of the kernel's: a reference per page.
    Tee,
    /// `tee(2)` of a private pipe that holds fragments of socket buffers: a reference per 32 KiB.
    TeeLarge,
}

impl WriteWith {
    /// Whether what is sent was put together once, and is the same ever after.
    pub fn is_fixed(self) -> bool {
        matches!(self, WriteWith::Tee | WriteWith::TeeLarge)
    }
}

/// How the reader takes bytes out of the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadWith {
    /// `read(2)`, which copies.
    Read,
    /// `splice(2)` to `/dev/null`, which drops the pages unseen.
    Splice,
}

impl Stage {
    /// The article's, slowest first: each has what those before it have.
    pub const ARTICLE: [Stage; 5] =
        [Stage::Write, Stage::Vmsplice, Stage::Splice, Stage::HugePage, Stage::BusyLoop];

    /// The article's, and its missing last chapter: each adds its idea to the one before.
    pub const LADDER: [Stage; 7] = [
        Stage::Write,
        Stage::Vmsplice,
        Stage::Splice,
        Stage::HugePage,
        Stage::BusyLoop,
        Stage::Tee,
        Stage::TeeLarge,
    ];

    /// All of them: the article's, those that go beyond it, and those that look at one thing.
    pub const ALL: [Stage; 10] = [
        Stage::Write,
        Stage::Vmsplice,
        Stage::Splice,
        Stage::HugePage,
        Stage::BusyLoop,
        Stage::Tee,
        Stage::TeeLarge,
        Stage::SameCpu,
        Stage::Gift,
        Stage::Tiny,
    ];

    /// The name that `--stage` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Write => "write",
            Stage::Vmsplice => "vmsplice",
            Stage::Splice => "splice",
            Stage::HugePage => "huge-page",
            Stage::BusyLoop => "busy-loop",
            Stage::Tee => "tee",
            Stage::TeeLarge => "tee-large",
            Stage::SameCpu => "same-cpu",
            Stage::Gift => "gift",
            Stage::Tiny => "tiny",
        }
    }

    /// The one idea that it adds to the stage it builds on.
    pub fn idea(self) -> &'static str {
        match self {
            Stage::Write => "write and read: two copies of every byte",
            Stage::Vmsplice => "the writer lends its pages to the pipe instead of copying",
            Stage::Splice => "the reader passes the pages on, to /dev/null, instead of copying",
            Stage::HugePage => "buffers in huge pages, which are cheaper to look up and pin",
            Stage::BusyLoop => "neither end sleeps: SPLICE_F_NONBLOCK, and try again",
            Stage::Tee => {
                "a private pipe is filled once, and tee() repeats its contents: no look-up"
            }
            Stage::TeeLarge => "slots of 32 KiB, from a socket: the cost is per slot, not per byte",
            Stage::SameCpu => "both ends on one CPU: a switch instead of a cross-CPU wake-up",
            Stage::Gift => "pages are given away (SPLICE_F_GIFT) and moved on (SPLICE_F_MOVE)",
            Stage::Tiny => "64 bytes a write: the cost of a call, and coalescing in the ring",
        }
    }

    /// The stage that it adds its idea to; `None` for the first.
    pub fn builds_on(self) -> Option<Stage> {
        match self {
            Stage::Write => None,
            Stage::Vmsplice | Stage::SameCpu | Stage::Tiny => Some(Stage::Write),
            Stage::Splice => Some(Stage::Vmsplice),
            Stage::HugePage | Stage::Gift => Some(Stage::Splice),
            Stage::BusyLoop => Some(Stage::HugePage),
            Stage::Tee => Some(Stage::BusyLoop),
            Stage::TeeLarge => Some(Stage::Tee),
        }
    }

    /// What no knob makes it do, where there is such a thing.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Stage::Tee | Stage::TeeLarge => {
                Some("repeats the bytes that it was filled with: they cannot change")
            }
            Stage::Gift => {
                Some("/dev/null takes over no page; since 2.6.21 only FUSE and virtio consoles do")
            }
            _ => None,
        }
    }

    /// GiB/s on the laptop of the article "How fast are Linux pipes anyway?" (2022), for
    /// orientation; `None` where the article has no such stage.
    pub fn article_gib_per_s(self) -> Option<f64> {
        match self {
            Stage::Write => Some(3.7),
            Stage::Vmsplice => Some(12.7),
            Stage::Splice => Some(32.8),
            Stage::HugePage => Some(51.0),
            Stage::BusyLoop => Some(62.5),
            Stage::Tee | Stage::TeeLarge | Stage::SameCpu | Stage::Gift | Stage::Tiny => None,
        }
    }

    /// How its writer writes.
    pub fn write_with(self) -> WriteWith {
        match self {
            Stage::Write | Stage::SameCpu | Stage::Tiny => WriteWith::Write,
            Stage::Vmsplice | Stage::Splice | Stage::HugePage | Stage::BusyLoop | Stage::Gift => {
                WriteWith::Vmsplice
            }
            Stage::Tee => WriteWith::Tee,
            Stage::TeeLarge => WriteWith::TeeLarge,
        }
    }

    /// How its reader reads.
    pub fn read_with(self) -> ReadWith {
        match self {
            Stage::Write | Stage::Vmsplice | Stage::SameCpu | Stage::Tiny => ReadWith::Read,
            _ => ReadWith::Splice,
        }
    }

    /// Whether its buffers are in huge pages. A writer that uses `tee` has no buffer.
    pub fn huge_page(self) -> bool {
        matches!(self, Stage::HugePage | Stage::BusyLoop)
    }

    /// Whether its ends try again instead of sleeping.
    pub fn busy_loop(self) -> bool {
        matches!(self, Stage::BusyLoop | Stage::Tee | Stage::TeeLarge)
    }

    /// Whether its pages are given away, and asked to be moved on.
    pub fn gift(self) -> bool {
        self == Stage::Gift
    }

    /// Whether both of its ends belong on one CPU.
    pub fn same_cpu(self) -> bool {
        self == Stage::SameCpu
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
