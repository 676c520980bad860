//! One phase of a recording, chosen by its number: lists the phases, and cuts a run to one.

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::recording::Recording;

use crate::error::Error;
use crate::flamegraph::View;
use crate::highlight::Highlights;
use crate::part::Part;
use crate::run::Run;
use crate::summary::Summary;
use crate::words::lanes::described;

impl Part {
    /// The phase of this number, as the verdict of the whole recording has them; `profile` is what
    /// the analysis made of that.
    ///
    /// # Errors
    ///
    /// [`Error::NoPhases`] if the recording has no states, [`Error::NoSuchPhase`] where there
    /// are fewer.
    pub fn of(recording: &Recording, profile: Profile, number: usize) -> Result<Part, Error> {
        let run = Run::of(recording, profile);
        let first = run.states.as_ref().and_then(|states| {
            // Bins without length are left out of what is judged.
            states.bins.iter().find(|bin| bin.until_ns > bin.from_ns)
        });
        let start_ns = first.ok_or(Error::NoPhases)?.from_ns;
        let summary = Summary::of(&run, &Highlights::article(), View::default());
        let phases = summary.phases();
        if phases.is_empty() {
            return Err(Error::NoPhases);
        }
        let Some(phase) = number.checked_sub(1).and_then(|at| phases.get(at)) else {
            let known = (0..phases.len()).map(|at| described(&summary, at, &phases[at])).collect();
            return Err(Error::NoSuchPhase { number, known });
        };
        Ok(Part {
            number,
            of: phases.len(),
            from_ns: phase.from_ns,
            until_ns: phase.until_ns,
            clock_ns: (start_ns + phase.from_ns, start_ns + phase.until_ns),
        })
    }
}

impl Run {
    /// The run within a phase, with what the analysis made of that part of the records.
    pub fn of_part(recording: &Recording, profile: Profile, part: Part) -> Run {
        let whole = Run::of(recording, profile);
        let (from, until) = part.clock_ns;
        // Pipes are counted from the start of the watch on.
        let (since, end) =
            (from.saturating_sub(whole.start_ns), until.saturating_sub(whole.start_ns));
        let flows: Vec<PipeFlow> =
            whole.flows.into_iter().map(|flow| flow.within(since, end)).collect();
        Run {
            flows,
            start_ns: from,
            started_unix_ns: whole.started_unix_ns.map(|ns| ns + since),
            elapsed_ns: until.saturating_sub(from),
            states: whole.states.map(|states| states.within(from, until)),
            part: Some(part),
            ..whole
        }
    }
}
