//! The functions that a reader should find at once: the article's three, and the user's own.

use pipeprof_profiler::profile::{Frame, FrameId, Mode, Profile};
use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::error::Error;
use crate::roles::{Classification, Role, source_name};

/// A function to highlight, under all its names.
#[derive(Clone, Debug)]
pub struct Highlight {
    /// The name that people know it by: the article's, or what the user asked for.
    pub classic: String,
    matches: Matches,
}

#[derive(Clone, Debug)]
enum Matches {
    /// Kernel functions, by source name.
    Kernel(&'static [&'static str]),
    /// Any function, by source name.
    Name(String),
    Pattern(Regex),
}

impl Highlight {
    /// The function is this one.
    pub fn matches(&self, frame: &Frame) -> bool {
        match &self.matches {
            Matches::Kernel(names) => {
                frame.mode == Mode::Kernel && names.contains(&source_name(&frame.name))
            }
            Matches::Name(name) => source_name(&frame.name) == name || *frame.name == **name,
            Matches::Pattern(pattern) => pattern.is_match(&frame.name),
        }
    }
}

/// What to highlight, in order of precedence.
#[derive(Clone, Debug)]
pub struct Highlights(Vec<Highlight>);

/// `fs/pipe.c`: `anon_pipe_write` since 6.15, with `fifo_pipe_write` around it for named FIFOs.
const PIPE_WRITE: &[&str] = &["pipe_write", "anon_pipe_write", "fifo_pipe_write"];
/// `lib/iov_iter.c`: `iov_iter_get_pages2` since 6.0 or 6.1. 4.4 had `get_iovec_page_array` in `fs/splice.c`.
const GET_PAGES: &[&str] = &["iov_iter_get_pages", "iov_iter_get_pages2"];
/// `fs/splice.c` since 4.10; used by vmsplice, splice and tee, never by write.
const WAIT_FOR_SPACE: &[&str] = &["wait_for_space"];

/// What shows that pages are pinned where `iov_iter_get_pages` was inlined, the closest first.
const GET_PAGES_STAND_INS: &[&str] = &[
    "__iov_iter_get_pages_alloc",
    "get_iovec_page_array",
    "get_user_pages_fast",
    "internal_get_user_pages_fast",
    "gup_fast_fallback",
    "gup_pgd_range",
    "iter_to_pipe",
    "vmsplice_to_pipe",
    "do_vmsplice",
    "__do_sys_vmsplice",
    "__arm64_sys_vmsplice",
];
/// The same for `wait_for_space`.
const WAIT_STAND_INS: &[&str] = &["pipe_wait_writable", "pipe_wait"];
const VMSPLICE: &[&str] = &[
    "do_vmsplice",
    "__do_sys_vmsplice",
    "vmsplice_to_pipe",
    "__x64_sys_vmsplice",
    "__arm64_sys_vmsplice",
];

impl Highlights {
    /// The most that one picture can tell apart.
    pub const MOST: usize = 63;

    /// The three functions that the article teaches.
    pub fn article() -> Self {
        let of = |classic: &str, names| Highlight {
            classic: classic.into(),
            matches: Matches::Kernel(names),
        };
        Highlights(vec![
            of("pipe_write", PIPE_WRITE),
            of("iov_iter_get_pages", GET_PAGES),
            of("wait_for_space", WAIT_FOR_SPACE),
        ])
    }

    /// Adds what the user asks for: a function's exact name, or else a regular expression.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`] where it is neither, [`Error::TooManyHighlights`] beyond [`Self::MOST`].
    pub fn add(&mut self, name_or_pattern: &str) -> Result<(), Error> {
        if self.0.len() == Self::MOST {
            return Err(Error::TooManyHighlights { given: self.0.len() + 1, most: Self::MOST });
        }
        let is_name = name_or_pattern.chars().all(|c| c.is_alphanumeric() || "_:<>~".contains(c));
        let matches = if is_name {
            Matches::Name(name_or_pattern.into())
        } else {
            Matches::Pattern(Regex::new(name_or_pattern).map_err(|source| Error::Pattern {
                pattern: name_or_pattern.into(),
                source: Box::new(source),
            })?)
        };
        self.0.push(Highlight { classic: name_or_pattern.into(), matches });
        Ok(())
    }

    /// All of them.
    pub fn list(&self) -> &[Highlight] {
        &self.0
    }

    /// For every frame of a profile the position in [`Self::list`] of what it matches first.
    pub fn of_frames(&self, profile: &Profile) -> Vec<Option<u8>> {
        let first = |frame: &Frame| self.0.iter().position(|h| h.matches(frame));
        profile.frames().iter().map(|frame| first(frame).map(|i| i as u8)).collect()
    }

    /// What one member's samples show of each function, in the order of [`Self::list`].
    pub fn highlight_shares(
        &self,
        profile: &Profile,
        roles: &Classification,
        member: usize,
    ) -> Vec<HighlightShare> {
        let first = |frame: &Frame| self.0.iter().position(|h| h.matches(frame));
        // Of the frames of this member alone: of thousands, each has a few.
        let mut of_frames: FxHashMap<FrameId, Option<usize>> = FxHashMap::default();
        for weight in &profile.members[member].on_cpu {
            for &id in profile.stack(weight.stack) {
                of_frames.entry(id).or_insert_with(|| first(profile.frame(id)));
            }
        }
        let seen = MemberSamples { profile, roles, member };
        self.0
            .iter()
            .enumerate()
            .map(|(index, highlight)| {
                let hit = |frame: FrameId| of_frames.get(&frame) == Some(&Some(index));
                let mut shown = HighlightShare {
                    function: highlight.classic.clone(),
                    names: Vec::new(),
                    self_weight: 0,
                    total_weight: 0,
                    stand_in: None,
                    absent: None,
                };
                for weight in &profile.members[member].on_cpu {
                    let stack = profile.stack(weight.stack);
                    let mut matched = stack.iter().filter(|id| hit(**id)).peekable();
                    if matched.peek().is_none() {
                        continue;
                    }
                    shown.total_weight += weight.weight;
                    if hit(stack[0]) {
                        shown.self_weight += weight.weight;
                    }
                    for &id in matched {
                        let name = &profile.frame(id).name;
                        if !shown.names.iter().any(|known| **known == **name) {
                            shown.names.push(name.to_string());
                        }
                    }
                }
                shown.names.sort_unstable();
                if shown.names.is_empty() {
                    seen.explain_absence(highlight, &mut shown);
                }
                shown
            })
            .collect()
    }
}

/// What a member's samples show of one highlighted function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HighlightShare {
    /// The name that people know it by.
    pub function: String,
    /// What the kernel calls it, where it was sampled.
    pub names: Vec<String>,
    /// Weight of the stacks in which it was running.
    pub self_weight: u64,
    /// Weight of the stacks that hold it.
    pub total_weight: u64,
    /// What shows its work where it can't be seen itself.
    pub stand_in: Option<StandIn>,
    /// Why it can't be seen, where its work was to be expected of this member.
    pub absent: Option<String>,
}

/// A function that shows the work of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StandIn {
    /// As the kernel spells it.
    pub name: String,
    /// Weight of the stacks that hold it and are at the work in question.
    pub weight: u64,
}

struct MemberSamples<'a> {
    profile: &'a Profile,
    roles: &'a Classification,
    member: usize,
}

impl MemberSamples<'_> {
    fn explain_absence(&self, highlight: &Highlight, shown: &mut HighlightShare) {
        let Matches::Kernel(names) = highlight.matches else {
            shown.absent = Some("in no sample of this member".into());
            return;
        };
        let any = |_| true;
        let vmsplices = self.first_of(VMSPLICE, any).is_some();
        let writes = self.first_of(PIPE_WRITE, any).is_some();
        if !vmsplices && !writes {
            // A reader, or a process that uses no pipe: these functions are not expected here.
            return;
        }
        let (stand_in, absent) = if names == PIPE_WRITE {
            (None, "not called: vmsplice puts pages into the pipe without it")
        } else if !vmsplices {
            if names == WAIT_FOR_SPACE {
                (
                    self.first_of(PIPE_WRITE, |role| role == Role::WaitSpace),
                    "not called: write waits for space inside pipe_write",
                )
            } else {
                (None, "not called: write copies, and pins no page")
            }
        } else if names == GET_PAGES {
            (
                self.first_of(GET_PAGES_STAND_INS, |role| role == Role::PagePin),
                "inlined into its caller, or never sampled",
            )
        } else {
            (
                self.first_of(WAIT_STAND_INS, any)
                    .or_else(|| self.first_of(VMSPLICE, |role| role == Role::WaitSpace)),
                "inlined into its caller, or never sampled",
            )
        };
        shown.stand_in = stand_in;
        shown.absent = Some(absent.into());
    }

    /// The first of these functions that stacks of the wanted role hold.
    fn first_of(&self, names: &[&str], wanted: impl Fn(Role) -> bool) -> Option<StandIn> {
        let profile = self.profile;
        let rank = |frame: &Frame| {
            let name = source_name(&frame.name);
            names.iter().position(|&n| n == name).filter(|_| frame.mode == Mode::Kernel)
        };
        let mut ranks: FxHashMap<FrameId, Option<usize>> = FxHashMap::default();
        let mut found: Vec<Option<StandIn>> = vec![None; names.len()];
        for weight in &profile.members[self.member].on_cpu {
            if !wanted(self.roles.role(weight.stack)) {
                continue;
            }
            let mut counted = FxHashSet::default();
            for &id in profile.stack(weight.stack) {
                let rank = *ranks.entry(id).or_insert_with(|| rank(profile.frame(id)));
                let Some(rank) = rank.filter(|&rank| counted.insert(rank)) else { continue };
                let name = || profile.frame(id).name.to_string();
                found[rank].get_or_insert_with(|| StandIn { name: name(), weight: 0 }).weight +=
                    weight.weight;
            }
        }
        found.into_iter().flatten().next()
    }
}
