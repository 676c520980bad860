//! [`Run`]: one profiled run, the input of every output.

use std::time::UNIX_EPOCH;

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_profiler::profile::{MemberProfile, Profile};
use pipeprof_profiler::recording::Recording;
use pipeprof_profiler::states::{Connection, ProcessSeen, Timeline};
use pipeprof_runner::cgroup::Container;
use pipeprof_runner::pipeline::Pipeline;
use serde_json::Value;

use crate::error::Error;
use crate::holding::Holding;
use crate::index::Index;
use crate::part::Part;
use crate::roles::Classification;
use crate::words::name;

/// Members that are named where one is asked for that there is not.
const MOST_KNOWN: usize = 20;

/// A profiled run, whole: what was sampled, what the stacks do, who holds which pipe, what the
/// pipes carried, and on which machine.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was sampled.
    pub profile: Profile,
    /// What its stacks do.
    pub roles: Classification,
    /// Who holds which pipe: the members of the profile come first, in its order. Without members
    /// where that was not recorded.
    pub pipeline: Pipeline,
    /// A flow a pipe, known by inode.
    pub flows: Vec<PipeFlow>,
    /// The stage, or the command line. Untrusted text.
    pub subject: String,
    /// The name of the machine. Untrusted text; empty where unknown.
    pub host: String,
    /// Release of the kernel that was profiled: `6.18.44`. Empty where unknown.
    pub kernel: String,
    /// When it began, in the clock of the recording.
    pub start_ns: u64,
    /// When it began, in nanoseconds since 1970; `None` where that was not noted.
    pub started_unix_ns: Option<u64>,
    /// How long it was profiled, in nanoseconds; 0 where unknown.
    pub elapsed_ns: u64,
    /// CPUs that the members could run on.
    pub cpus: usize,
    /// What every thread did over time; `None` if that was not recorded.
    pub states: Option<Timeline>,
    /// What to give `pipeprof tune` to try changes on the same pipeline: `--pid 4121`, `-c 'A | B'`.
    /// `None` of what can't be tuned, or may be gone.
    pub tune: Option<String>,
    /// The phase that it is, where it is not the whole recording.
    pub part: Option<Part>,
    /// The settings of the machine, as in `pipeprof.json`; null where they were not noted.
    pub environment: Value,
    /// Follows from the pipeline and the flows, which stay as they are once it was asked for.
    pub index: Index,
}

impl Run {
    /// Who holds which pipe.
    pub(crate) fn holding(&self) -> &Holding {
        self.index.of(&self.pipeline, &self.flows)
    }

    /// The run that was recorded, with what the analysis made of it.
    ///
    /// Files of perf, and recordings that were cut short, tell their time only by their samples.
    pub fn of(recording: &Recording, profile: Profile) -> Run {
        let about = &recording.about;
        let bare = Run::bare(profile);
        let start_ns = match recording.meta.start_ns {
            0 => bare.start_ns,
            known => known,
        };
        let elapsed_ns = match about.elapsed_ns {
            0 => (bare.start_ns + bare.elapsed_ns).saturating_sub(start_ns),
            known => known,
        };
        let started_unix_ns = about.started_unix_ns.or_else(|| {
            // The file was last written to when the recording ended.
            let written = recording.perf_data().metadata().and_then(|meta| meta.modified()).ok()?;
            let since_1970 = written.duration_since(UNIX_EPOCH).ok()?;
            u64::try_from(since_1970.as_nanos()).ok()?.checked_sub(elapsed_ns)
        });
        Run {
            pipeline: recording.meta.pipeline.clone(),
            flows: about.flows.clone(),
            subject: about.title.clone(),
            host: about.host.clone(),
            kernel: about.kernel.clone(),
            start_ns,
            started_unix_ns,
            elapsed_ns,
            cpus: about.cpus.max(1),
            states: recording.meta.states.clone(),
            environment: recording.environment.clone(),
            ..bare
        }
    }

    /// A run of which nothing is known but its profile.
    pub fn bare(profile: Profile) -> Run {
        let (first, last) = profile.span_ns.unwrap_or_default();
        Run {
            roles: Classification::of(&profile),
            profile,
            pipeline: Pipeline::default(),
            flows: Vec::new(),
            subject: String::new(),
            host: String::new(),
            kernel: String::new(),
            start_ns: first,
            started_unix_ns: None,
            elapsed_ns: last.saturating_sub(first),
            cpus: 1,
            states: None,
            tune: None,
            part: None,
            environment: Value::Null,
            index: Index::default(),
        }
    }

    /// Bytes through its pipe, where there is one and they are known.
    pub fn bytes_piped(&self) -> Option<u64> {
        match &self.flows[..] {
            [flow] => flow.bytes.known(),
            _ => None,
        }
    }

    /// Throughput of its pipe, where there is one.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let bytes = self.bytes_piped().filter(|_| self.elapsed_ns > 0)?;
        Some(bytes as f64 * 1e9 / self.elapsed_ns as f64)
    }

    /// The members with these names, by their position in the profile; all of them where no name is
    /// given. A name is that of the process, its pid, or `writer` and `reader` for the ends of the
    /// built-in pair.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMember`] if no member has a name.
    pub fn members_called(&self, names: &[String]) -> Result<Vec<usize>, Error> {
        let members = &self.profile.members;
        let is = |member: &MemberProfile, called: &str| {
            name::is_called(called, member.pid, &member.comm, member.end)
        };
        if let Some(name) = names.iter().find(|name| !members.iter().any(|m| is(m, name))) {
            let known = members.iter().take(MOST_KNOWN);
            let known = known.map(|m| name::label(m.end, &m.comm, m.pid, m.processes)).collect();
            return Err(Error::NoSuchMember { name: name.clone(), known });
        }
        let is_asked_for =
            |at: &usize| names.is_empty() || names.iter().any(|name| is(&members[*at], name));
        Ok((0..members.len()).filter(is_asked_for).collect())
    }

    /// The container that a member of the pipeline ran in, if that was recorded.
    pub(crate) fn container(&self, member: usize) -> Option<&Container> {
        self.seen(member)?.container.as_ref()
    }

    /// The TCP connections that a member had.
    pub(crate) fn connections(&self, member: usize) -> &[Connection] {
        self.seen(member).map_or(&[], |seen| &seen.connections)
    }

    /// What looks found of a member of the pipeline.
    pub(crate) fn seen(&self, member: usize) -> Option<&ProcessSeen> {
        let id = self.pipeline.members.get(member)?.id();
        let processes = &self.states.as_ref()?.processes;
        processes.get(self.index.seen(id, processes)?)
    }

    /// Its members with their position in the profile, upstream first.
    pub(crate) fn members(&self) -> Vec<(usize, &MemberProfile)> {
        let mut members: Vec<_> = self.profile.members.iter().enumerate().collect();
        let order = self.order();
        let mut places = vec![usize::MAX; members.len()];
        for (place, &member) in order.iter().enumerate() {
            if let Some(known) = places.get_mut(member) {
                *known = place.min(*known);
            }
        }
        members.sort_by_key(|&(member, _)| places[member]);
        members
    }
}
