//! The most that a remedy can gain.
//!
//! Bounds come from the timeline: if one member cost nothing, each phase would take as long as the
//! next member needs, the time that it is busy or waits outside. A larger pipe can at most let all
//! members work at the same time, so it gains nothing if one of them is busy all the time.

use super::judge::{Judge, LEAST_PRESSURE};
use super::{Judged, LargerPipe, Next};
use crate::facts::blame::{Limit, Use, uses};
use crate::facts::phases::Phase;
use crate::facts::states::{ActorId, Moment, PipeAt};
use crate::verdict::evidence::Work;

/// Both ends of a pipe wait for this share of the time where they alternate.
pub(crate) const LEAST_ALTERNATION: f64 = 0.1;

/// CPUs that were idle for this share of the time are not what members waited for.
const IDLE: f64 = 0.15;

impl Judge<'_> {
    /// How long the phases take if no member ever waits for a CPU or a neighbour.
    pub(super) fn time_with_cpus(&self) -> f64 {
        let longest = |phase: &Phase| {
            let uses = uses(self.history, phase.spans.clone());
            uses.iter().map(|used| used.least_needs_ns(0.0)).fold(0.0, f64::max)
        };
        self.phases.iter().map(longest).sum()
    }

    /// How long the phases take if each member but `without` needs what it needed, and no member
    /// ever waits for a neighbour: the longest need of each phase, added up, and the member that it
    /// is most often.
    pub(super) fn time_without(&self, without: &[ActorId]) -> (f64, Option<ActorId>) {
        // A removed member no longer makes the others sleep and wake up.
        let spared = |actor: ActorId| {
            let member = self.member_of[actor].filter(|_| !without.is_empty());
            let member = member.map(|member| &self.evidence.members[member]);
            member.map_or(0.0, |member| {
                member.work(Work::WakeUp) as f64 / member.on_cpu_ns.max(1) as f64
            })
        };
        let mut is_left = vec![true; self.history.actors.len()];
        without.iter().for_each(|&actor| is_left[actor] = false);
        let mut whole = 0.0;
        let mut longest = vec![0.0; self.history.actors.len()];
        for phase in &self.phases {
            let uses = uses(self.history, phase.spans.clone());
            let others = (0..uses.len()).filter(|&actor| is_left[actor]);
            let cpu: f64 =
                others.clone().map(|actor| uses[actor].cpu_ns * (1.0 - spared(actor))).sum();
            let cpus = self.cpus_in(&uses, (phase.until_ns - phase.from_ns) as f64);
            let needs = others.map(|actor| match without {
                [] => (actor, uses[actor].needs_ns()),
                _ => (actor, uses[actor].least_needs_ns(spared(actor))),
            });
            let Some((actor, ns)) = needs.max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            longest[actor] += ns;
            whole += ns.max(cpu / cpus);
        }
        let next = (0..longest.len()).max_by(|&a, &b| longest[a].total_cmp(&longest[b]));
        (whole, next.filter(|&actor| longest[actor] > 0.0))
    }

    /// CPUs that the members can have: all of the machine's, unless others took their part, so that
    /// members waited for one often.
    fn cpus_in(&self, uses: &[Use], elapsed_ns: f64) -> f64 {
        let sum = |part: fn(&Use) -> f64| uses.iter().map(part).sum::<f64>();
        let (cpu, delay) = (sum(|used| used.cpu_ns), sum(|used| used.run_delay_ns));
        let of_machine = self.evidence.cpus.max(1) as f64;
        // Who sleeps and wakes up often is always delayed, by little.
        let waited = delay >= 0.25 * (cpu + delay) && delay >= 0.25 * elapsed_ns;
        if !waited || cpu <= 0.0 || self.cpus_are_idle() {
            return of_machine;
        }
        (cpu / elapsed_ns.max(1.0)).clamp(0.01, of_machine)
    }

    /// Members that waited for a CPU had a free one: of all that they may use, some were idle.
    pub(super) fn cpus_are_idle(&self) -> bool {
        let Some(idle) = self.history.idle_cpus else { return false };
        let allowed = self.history.actors.iter().filter_map(|actor| actor.cpus_allowed).max();
        let of_machine = self.evidence.cpus.max(1) as f64;
        // Bound to fewer CPUs than there are, they may wait beside idle ones.
        let is_bound = allowed.is_some_and(|allowed| f64::from(allowed) < of_machine);
        !is_bound && idle >= IDLE * of_machine
    }

    pub(super) fn next(&self, judged: &Judged) -> Option<Next> {
        // Of a network no member is to blame: all stay as they are.
        let blamed = self.actors_of(&judged.members);
        let (rest, next) = self.time_without(&blamed);
        let elapsed = self.history.elapsed_ns() as f64;
        let actor = next?;
        Some(Next {
            member: self.member_of[actor]?,
            needs: self.uses[actor].needs_ns() / elapsed,
            bound: elapsed / rest.max(elapsed / 1000.0),
        })
    }

    pub(super) fn larger_pipe(&self) -> LargerPipe {
        let elapsed = self.history.elapsed_ns() as f64;
        let (together, _) = self.time_without(&[]);
        let (mut best, mut waits) = (None, 0.0);
        // Between two hosts both ends also wait while the bytes are on their way.
        let is_between = |at: usize| self.evidence.pipes[at].between.is_some();
        for pipe in 0..self.history.pipes.len() {
            if self.pipe_of[pipe].is_some_and(is_between) {
                continue;
            }
            let (space, data) = self.waits_at(pipe);
            if space.min(data) > waits {
                (best, waits) = (Some(pipe), space.min(data));
            }
        }
        let alternates = waits >= LEAST_ALTERNATION * elapsed;
        let saved = (elapsed - together).max(0.0).min(waits);
        let bound = if alternates { elapsed / (elapsed - saved).max(1.0) } else { 1.0 };
        let at = best.filter(|_| alternates);
        let pipe = at.and_then(|at| self.pipe_of[at]);
        let burst_bytes = at.and_then(|at| self.burst(at));
        let rate = pipe.and_then(|pipe| self.evidence.pipes[pipe].bytes);
        let rate = rate.map(|bytes| bytes as f64 / (elapsed / 1e9));
        let drain_seconds = burst_bytes.zip(rate).map(|(burst, rate)| burst / rate.max(1.0));
        LargerPipe { pipe, bound, error: self.error(saved / elapsed), burst_bytes, drain_seconds }
    }

    /// Time that a writer waited for space in a pipe, and that a reader waited for its data.
    fn waits_at(&self, pipe: PipeAt) -> (f64, f64) {
        let ends = &self.history.pipes[pipe];
        let mut sums = (0.0, 0.0);
        for moment in self.history.spans.iter().flat_map(|span| &span.moments) {
            if ends.writers.iter().any(|&actor| moment.doing[actor].waits_at(pipe, true)) {
                sums.0 += moment.ns;
            }
            if ends.readers.iter().any(|&actor| moment.doing[actor].waits_at(pipe, false)) {
                sums.1 += moment.ns;
            }
        }
        sums
    }

    /// Bytes that go through a pipe between two changes of which end waits. Seen in the time line
    /// where the changes are slow, else as what goes through between two sleeps of its reader.
    fn burst(&self, pipe: PipeAt) -> Option<f64> {
        let at = self.pipe_of[pipe]?;
        let bytes = self.evidence.pipes[at].bytes? as f64;
        let ends = &self.history.pipes[pipe];
        let (mut changes, mut clear, mut before) = (0, 0, None);
        for span in &self.history.spans {
            let length = (span.until_ns - span.from_ns) as f64;
            let share = |for_space: bool| -> f64 {
                let actors = if for_space { &ends.writers } else { &ends.readers };
                let waits = |actor: &ActorId, moment: &Moment| {
                    moment.doing[*actor].waits_at(pipe, for_space)
                };
                let waiting = span
                    .moments
                    .iter()
                    .filter(|moment| actors.iter().any(|actor| waits(actor, moment)));
                waiting.map(|moment| moment.ns).sum::<f64>() / length
            };
            let now = match (share(true), share(false)) {
                (space, _) if space > 0.8 => true,
                (_, data) if data > 0.8 => false,
                _ => continue,
            };
            clear += 1;
            changes += usize::from(before.is_some_and(|before| before != now));
            before = Some(now);
        }
        // Where members wait for a CPU, the changes are the scheduler's.
        let is_free = self.whole.share(|limit| matches!(limit, Limit::NoCpu(_))) < LEAST_PRESSURE;
        if is_free && changes >= 2 && clear * 2 >= self.history.spans.len() && changes * 3 <= clear
        {
            return Some(bytes / (changes as f64 / 2.0));
        }
        let sleeps: u64 = ends
            .readers
            .iter()
            .filter_map(|&actor| self.member_of[actor])
            .map(|member| self.evidence.members[member].sleeps)
            .sum();
        (sleeps > 0).then(|| bytes / sleeps as f64)
    }
}
