//! The lessons of the tour: what the kernel does in a stage and in a role, and in which functions.
//!
//! All of it is data. [`tour`](crate::tour) adds the measurements; nothing here predicts them.
//!
//! Sources were read in the releases of [`Release::READ`]; a range names the first and the last of
//! them in which a function was seen, so it may have been there before and after.

mod functions;
mod roles;
mod stages;

use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::Stage;

use crate::roles::Role;

/// A release of Linux: `Release(6, 18)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u8, pub u8);

impl Release {
    /// From what `uname -r` says: `6.18.44-generic` is 6.18.
    pub fn parse(uname: &str) -> Option<Release> {
        let mut numbers = uname.split(|c: char| !c.is_ascii_digit());
        Some(Release(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Those whose source was read.
    pub const READ: [Release; 14] = [
        Release(4, 4),
        Release(4, 19),
        Release(5, 4),
        Release(5, 10),
        Release(5, 15),
        Release(5, 17),
        Release(5, 19),
        Release(6, 1),
        Release(6, 6),
        Release(6, 12),
        Release(6, 14),
        Release(6, 17),
        Release(6, 18),
        Release(6, 19),
    ];
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a function was called for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// As the source spells it.
    pub name: &'static str,
    /// First of [`Release::READ`] that has it.
    pub first: Release,
    /// Last of them.
    pub last: Release,
}

impl Name {
    /// `4.4–6.19`.
    pub fn releases(&self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}–{}", self.first, self.last)
        }
    }
}

/// A kernel function that a lesson speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// What it is called when people talk of it.
    pub known_as: &'static str,
    /// Its names, the newest first.
    pub names: &'static [Name],
    /// Where it is in the kernel's source.
    pub file: &'static str,
    /// What a stack does that ends in it.
    pub role: Role,
    /// What it does, to follow its name and a colon.
    pub does: &'static str,
}

impl Function {
    /// Its name in that release, as far as is known; the newest where the release is not known.
    pub fn name_in(&self, kernel: Option<Release>) -> &'static Name {
        let has = |name: &&Name| kernel.is_none_or(|kernel| name.first <= kernel);
        self.names.iter().find(has).unwrap_or(&self.names[self.names.len() - 1])
    }
}

/// What a role is about.
#[derive(Clone, Copy, Debug)]
pub struct RoleLesson {
    /// The role.
    pub role: Role,
    /// What the kernel does there, and why it is expensive.
    pub text: &'static str,
    /// Where it does it.
    pub functions: &'static [&'static Function],
}

/// What a stage is about.
#[derive(Clone, Copy, Debug)]
pub struct StageLesson {
    /// The stage.
    pub stage: Stage,
    /// Why one would think of it, looking at the stage that it builds on; empty for the first.
    pub proposal: &'static str,
    /// What the kernel does in it.
    pub text: &'static str,
    /// What it is meant to remove from the stage that it builds on, or to lessen. Nothing, where it
    /// is there to show something.
    pub meant_for: &'static [(End, Role)],
    /// The functions to look for.
    pub functions: &'static [&'static Function],
}

/// The lesson of a stage.
pub fn of_stage(stage: Stage) -> &'static StageLesson {
    &stages::ALL[stage as usize]
}

/// The lesson of a role; `None` where [`Role::description`] says it all.
pub fn of_role(role: Role) -> Option<&'static RoleLesson> {
    roles::ALL.iter().find(|lesson| lesson.role == role)
}

/// Every lesson of a stage, in the order of [`Stage::ALL`].
pub fn stages() -> &'static [StageLesson] {
    &stages::ALL
}

/// Every lesson of a role.
pub fn roles() -> &'static [RoleLesson] {
    roles::ALL
}
