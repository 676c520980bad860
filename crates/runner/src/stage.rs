//! The article's optimisation stages: each is the one before plus one idea.

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
}

/// How the writer puts bytes into the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteWith {
    /// `write(2)`, which copies.
    Write,
    /// `vmsplice(2)`, which lets the pipe refer to the writer's pages.
    Vmsplice,
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
    /// All of them, slowest first.
    pub const ALL: [Stage; 5] =
        [Stage::Write, Stage::Vmsplice, Stage::Splice, Stage::HugePage, Stage::BusyLoop];

    /// The name that `--stage` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Write => "write",
            Stage::Vmsplice => "vmsplice",
            Stage::Splice => "splice",
            Stage::HugePage => "huge-page",
            Stage::BusyLoop => "busy-loop",
        }
    }

    /// The one idea that it adds to the stage before it.
    pub fn idea(self) -> &'static str {
        match self {
            Stage::Write => "write and read: two copies of every byte",
            Stage::Vmsplice => "the writer lends its pages to the pipe instead of copying",
            Stage::Splice => "the reader passes the pages on, to /dev/null, instead of copying",
            Stage::HugePage => "buffers in 2 MiB pages, which are cheaper to look up and pin",
            Stage::BusyLoop => "neither end sleeps: SPLICE_F_NONBLOCK, and try again",
        }
    }

    /// GiB/s on the laptop of the article "How fast are Linux pipes anyway?" (2022), for
    /// orientation.
    pub fn article_gib_per_s(self) -> f64 {
        match self {
            Stage::Write => 3.7,
            Stage::Vmsplice => 12.7,
            Stage::Splice => 32.8,
            Stage::HugePage => 51.0,
            Stage::BusyLoop => 62.5,
        }
    }

    /// How its writer writes.
    pub fn write_with(self) -> WriteWith {
        if self >= Stage::Vmsplice { WriteWith::Vmsplice } else { WriteWith::Write }
    }

    /// How its reader reads.
    pub fn read_with(self) -> ReadWith {
        if self >= Stage::Splice { ReadWith::Splice } else { ReadWith::Read }
    }

    /// Whether its buffers are in huge pages.
    pub fn huge_page(self) -> bool {
        self >= Stage::HugePage
    }

    /// Whether its ends try again instead of sleeping.
    pub fn busy_loop(self) -> bool {
        self >= Stage::BusyLoop
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
