//! Finds a member that only passes on what the next one could read by itself.

use super::judge::Judge;

/// A member without which the pipeline does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removable {
    /// Its place in the profile.
    pub member: usize,
    /// Why.
    pub because: Redundant,
}

/// What a member does that the pipeline does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redundant {
    /// It writes one file to a pipe.
    ReadsFile,
    /// It copies from one pipe to the next.
    Copies,
    /// It shows the progress that another one shows.
    ShowsProgress,
}

impl Judge<'_> {
    /// `cat FILE |` at the start, `cat` in between, and a second `pv`.
    pub(super) fn removable(&self) -> Option<Removable> {
        let members = self.history.actors.iter().enumerate().filter_map(|(actor, one)| {
            Some((actor, one, self.member_of[actor]?, self.pipeline.members.get(one.member)?))
        });
        let held = self.history.held();
        let mut seen_pv = false;
        for (actor, one, member, of) in members {
            let arguments = of.command_line.get(1..).unwrap_or_default();
            let files = arguments.iter().filter(|argument| !argument.starts_with('-')).count();
            let has_options = files != arguments.len();
            let [read, written] = &held[actor];
            let (reads, writes) = (!read.is_empty(), !written.is_empty());
            // `(sleep 2; cat FILE) |` is more than a `cat`, whichever of them is left.
            let is_alone = one.children.is_empty()
                && one.folded.is_empty()
                && one.started.is_empty()
                && written.iter().all(|&pipe| {
                    self.history.pipes[pipe].writers.iter().all(|&writer| writer == actor)
                });
            let is_cat = of.comm == "cat"
                && writes
                && is_alone
                && !has_options
                && if reads { files == 0 } else { files == 1 };
            let limits_rate = arguments
                .iter()
                .any(|argument| argument.starts_with("-L") || argument.starts_with("--rate-limit"));
            let again = of.comm == "pv" && !limits_rate && std::mem::replace(&mut seen_pv, true);
            let because = match (is_cat, again) {
                (true, _) if reads => Redundant::Copies,
                (true, _) => Redundant::ReadsFile,
                (false, true) => Redundant::ShowsProgress,
                (false, false) => continue,
            };
            return Some(Removable { member, because });
        }
        None
    }
}
