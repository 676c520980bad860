//! Writes a profile in the formats of other viewers.
//!
//! docs/export.md says what each format can hold and what it loses.

pub mod csv;
pub mod firefox;
pub mod otlp;
pub mod perf_script;
pub mod pprof;
pub mod speedscope;

use pipeprof_profiler::profile::{MemberProfile, StackId, WeightUnit};
use pipeprof_runner::pipeline::{End, Pipe};

use crate::escape::printable;
use crate::ledger::is_work_for;
use crate::roles::Reason;
use crate::run::Run;

/// What is exported.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The run.
    pub run: &'a Run,
    /// The members to export, by their index in the profile.
    pub members: Vec<usize>,
}

impl<'a> Source<'a> {
    /// The exported members, with their index.
    pub fn members(&self) -> impl Iterator<Item = (usize, &'a MemberProfile)> + '_ {
        let members = &self.run.profile.members;
        self.members.iter().filter_map(|&at| Some((at, members.get(at)?)))
    }

    /// The pipe that a stack on a CPU works for, where the stack tells.
    fn pipe_at_work(&self, member: usize, stack: StackId) -> Option<&'a Pipe> {
        let role = self.run.roles.role(stack);
        let holds = |end| !self.run.pipes_at(member, end).is_empty();
        let end = match (holds(End::Writer), holds(End::Reader)) {
            (true, false) => End::Writer,
            (false, true) => End::Reader,
            _ => self.run.roles.end_at_work(self.run.profile.stack(stack))?,
        };
        self.only_pipe_at(member, end).filter(|pipe| is_work_for(role, pipe.link))
    }

    /// The pipe that a member waits for.
    fn pipe_waited_for(&self, member: usize, reason: Reason) -> Option<&'a Pipe> {
        let (end, is_socket) = match reason {
            Reason::WaitSpace => (End::Writer, false),
            Reason::WaitData => (End::Reader, false),
            Reason::SocketSpace => (End::Writer, true),
            Reason::SocketData => (End::Reader, true),
            _ => return None,
        };
        self.only_pipe_at(member, end).filter(|pipe| pipe.link.is_socket() == is_socket)
    }

    /// No stack says which of several pipes it is.
    fn only_pipe_at(&self, member: usize, end: End) -> Option<&'a Pipe> {
        match *self.run.pipes_at(member, end) {
            [at] => self.run.pipeline.pipes.get(at),
            _ => None,
        }
    }

    /// What a weight of samples on a CPU counts, and its unit.
    fn weight_type(&self) -> (String, &'static str) {
        match self.run.profile.quality.unit {
            WeightUnit::Nanoseconds => ("cpu".to_owned(), "nanoseconds"),
            WeightUnit::Events => {
                (printable(&self.run.profile.quality.event).into_owned(), "count")
            }
        }
    }

    /// What limits trust, a sentence each.
    fn remarks(&self) -> Vec<String> {
        let Run { subject, kernel, profile, .. } = self.run;
        let quality = &profile.quality;
        let mut remarks = vec![format!(
            "{}: {} samples of {}, {} lost",
            printable(subject),
            quality.samples,
            printable(&quality.event),
            quality.lost
        )];
        if !kernel.is_empty() {
            remarks.push(format!("Linux {}", printable(kernel)));
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
        None => pipe.name(),
    }
}
