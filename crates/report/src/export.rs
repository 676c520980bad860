//! A profile in the formats of other viewers, each written into a writer.
//!
//! What each format can hold, and what is lost on the way, is in docs/export.md.

pub mod csv;
pub mod firefox;
pub mod perf_script;
pub mod pprof;
pub mod speedscope;

use pipeprof_profiler::profile::{MemberProfile, Profile, StackId, WeightUnit};
use pipeprof_runner::pipeline::{End, Pipe};

use crate::escape::printable;
use crate::ledger::{Watched, is_pipe_work};
use crate::roles::{Classification, Reason};

/// What is exported.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The stacks and their weights.
    pub profile: &'a Profile,
    /// What they do.
    pub roles: &'a Classification,
    /// Who holds which pipe. Without members where that is unknown.
    pub watched: Watched<'a>,
    /// The members to export, by their index in the profile.
    pub members: Vec<usize>,
    /// The stage or the command line. Untrusted text.
    pub title: &'a str,
    /// The kernel's release. Empty where unknown.
    pub kernel: &'a str,
    /// When it began in the clock of the recording, ns.
    pub start_ns: u64,
    /// When it began, in nanoseconds since 1970; `None` where nobody noted it.
    pub started_unix_ns: Option<u64>,
}

impl<'a> Source<'a> {
    /// The exported members, with their index.
    pub fn members(&self) -> impl Iterator<Item = (usize, &'a MemberProfile)> + '_ {
        let members = &self.profile.members;
        self.members.iter().filter_map(|&at| Some((at, members.get(at)?)))
    }

    /// The pipe that a stack on a CPU works for, where the stack tells.
    fn pipe_at_work(&self, member: usize, stack: StackId) -> Option<&'a Pipe> {
        if !is_pipe_work(self.roles.role(stack)) {
            return None;
        }
        let holds = |end| !self.watched.pipes_at(member, end).is_empty();
        let end = match (holds(End::Writer), holds(End::Reader)) {
            (true, false) => End::Writer,
            (false, true) => End::Reader,
            _ => self.roles.end_at_work(self.profile.stack(stack))?,
        };
        self.only_pipe_at(member, end)
    }

    /// The pipe that a member waits for.
    fn pipe_waited_for(&self, member: usize, reason: Reason) -> Option<&'a Pipe> {
        match reason {
            Reason::WaitSpace => self.only_pipe_at(member, End::Writer),
            Reason::WaitData => self.only_pipe_at(member, End::Reader),
            _ => None,
        }
    }

    /// No stack says which of several pipes it is.
    fn only_pipe_at(&self, member: usize, end: End) -> Option<&'a Pipe> {
        match self.watched.pipes_at(member, end)[..] {
            [at] => self.watched.pipeline.pipes.get(at),
            _ => None,
        }
    }

    /// What a weight of samples on a CPU counts, and its unit.
    fn weight_type(&self) -> (String, &'static str) {
        match self.profile.quality.unit {
            WeightUnit::Nanoseconds => ("cpu".to_owned(), "nanoseconds"),
            WeightUnit::Events => (printable(&self.profile.quality.event).into_owned(), "count"),
        }
    }

    /// What limits trust, a sentence each.
    fn remarks(&self) -> Vec<String> {
        let quality = &self.profile.quality;
        let mut remarks = vec![format!(
            "{}: {} samples of {}, {} lost",
            printable(self.title),
            quality.samples,
            printable(&quality.event),
            quality.lost
        )];
        if !self.kernel.is_empty() {
            remarks.push(format!("Linux {}", printable(self.kernel)));
        }
        if !quality.kernel_visible {
            remarks.push("user code only: the kernel half is missing".to_owned());
        }
        if quality.cut_short {
            remarks.push("the recording was cut short".to_owned());
        }
        remarks.extend(quality.notes.iter().map(|note| printable(note).into_owned()));
        remarks
    }
}

/// `pipe:[88121]`, or the path of a FIFO.
fn pipe_name(pipe: &Pipe) -> String {
    match &pipe.path {
        Some(path) => printable(&path.to_string_lossy()).into_owned(),
        None => format!("pipe:[{}]", pipe.inode),
    }
}
