//! Builds the profile from what the pass gathered: names the addresses and orders the members.

use super::Pass;
use crate::effect::Observed;
use crate::grouping::by_name;
use crate::profile::{MemberProfile, Profile, Quality, StackId, StackWeight, WeightUnit};
use crate::raw_stacks::RawStack;
use crate::recording::Meta;
use crate::resolve::Resolver;
use crate::states;
use crate::symbolize::Symbolizer;
use crate::wakeups::Wakeups;

/// What of a part is not of that part.
const PART: &str = "lost, throttled and malformed records, and samples of other processes, are \
                    counted over the whole recording";

impl Pass<'_> {
    /// What the scheduler charged to each member within a part of the time: looks note it as time
    /// goes by. Empty where all of the time counts.
    fn charged(&self) -> Vec<Option<states::Account>> {
        let Some(((from, until), states)) = self.part.zip(self.meta.states.as_ref()) else {
            return Vec::new();
        };
        let mut charged = vec![None; self.members.names().count()];
        for seen in &states.processes {
            if let Some(member) = self.members.of(seen.pid) {
                charged[member] = Some(states::Account::default());
            }
        }
        let within = states.bins.iter().filter(|bin| bin.from_ns >= from && bin.until_ns <= until);
        for (process, account) in within.flat_map(|bin| &bin.accounts) {
            let pid = states.processes[process.0 as usize].pid;
            let member = self.members.of(pid).and_then(|member| charged[member].as_mut());
            if let Some(sum) = member {
                sum.cpu_ns += account.cpu_ns;
                sum.run_delay_ns += account.run_delay_ns;
            }
        }
        charged
    }

    pub(super) fn into_profile(mut self, symbolizer: &mut dyn Symbolizer) -> Profile {
        let meta = self.meta;
        let mut profile = Profile::new(self.quality(meta));
        self.sleep.end_lives();
        self.keep_sleeps();
        let charged = self.charged();
        let slept = self.sleep.finish(self.members.names().count(), &charged);
        profile.span_ns = self.span_ns;
        profile.wakeups = match &meta.setup.wakeups {
            Err(why) => Wakeups::Unknown { why: why.clone() },
            Ok(_) => Wakeups::Known {
                edges: self.wakes.finish(),
                watched_ns: meta.wakeups_watched_ns(self.part),
            },
        };
        let known = |index: usize| meta.pipeline.members.get(index);
        profile.members = (self.members.names().enumerate())
            .map(|(index, (pid, comm))| {
                let comm = comm.map(str::to_owned).or_else(|| match (known(index), pid) {
                    (Some(member), _) => Some(member.comm.clone()),
                    // The idle task of each CPU, which no record names.
                    (None, 0) => Some("swapper".to_owned()),
                    (None, _) => None,
                });
                let end = known(index).and_then(|member| member.end);
                let comm = comm.unwrap_or_else(|| format!(":{pid}"));
                let started_by = self.members.started_by(index);
                MemberProfile { started_by, ..MemberProfile::new(pid, comm, end) }
            })
            .collect();
        symbolizer.recorded_kernel(self.kernel.with(&self.build_ids));
        let mut resolver = Resolver::new(&self.spaces, &self.build_ids);
        let on_cpu = self.stacks.split(&self.spaces);
        let blocked = slept.stacks.split(&self.spaces);
        for stack in on_cpu.iter().chain(&blocked) {
            stack.frames.iter().for_each(|&frame| resolver.want(frame));
        }
        resolver.resolve(symbolizer, &mut profile);
        let mut add = |stack: &RawStack, blocked: bool| {
            let id = intern(&resolver, stack, &mut profile);
            let weight = StackWeight { stack: id, samples: stack.samples, weight: stack.weight };
            let member = &mut profile.members[stack.member];
            if blocked { &mut member.blocked } else { &mut member.on_cpu }.push(weight);
            id
        };
        let sampled: Vec<StackId> = on_cpu.iter().map(|stack| add(stack, false)).collect();
        let slept_in: Vec<StackId> = blocked.iter().map(|stack| add(stack, true)).collect();
        slept.put_into(&mut profile);
        for (member, account) in profile.members.iter_mut().zip(&charged) {
            member.cpu_time_ns = account.map(|account| account.cpu_ns).or(member.cpu_time_ns);
        }
        let mut places: Vec<usize> = (0..profile.members.len()).collect();
        if meta.pipeline.members.is_empty() {
            let grouped;
            (grouped, places) = by_name(std::mem::take(&mut profile.members));
            // Nothing says who stands upstream of whom: the heaviest first.
            let mut order: Vec<(usize, MemberProfile)> = grouped.into_iter().enumerate().collect();
            order.sort_by_key(|(_, member)| std::cmp::Reverse(member.weight()));
            let mut sorted = vec![0; order.len()];
            order.iter().enumerate().for_each(|(place, &(group, _))| sorted[group] = place);
            places.iter_mut().for_each(|place| *place = sorted[*place]);
            profile.members = order.into_iter().map(|(_, member)| member).collect();
        }
        if let Some(spool) = self.spool {
            spool.name(sampled, slept_in);
            spool.place(places);
        }
        profile.quality.notes.extend(symbolizer.notes());
        profile
    }

    fn quality(&self, meta: &Meta) -> Quality {
        Quality {
            event: meta.setup.event.clone(),
            fallback: meta.setup.fallback.clone(),
            frequency_hz: meta.frequency_hz,
            frequency_range_hz: (meta.observed.as_ref())
                .and_then(Observed::range_hz)
                .filter(|(lowest, highest)| lowest < highest),
            sampling_effect: meta.observed.as_ref().and_then(Observed::effect),
            scope: meta.setup.scope,
            unit: if meta.setup.timer_driven {
                WeightUnit::Nanoseconds
            } else {
                WeightUnit::Events
            },
            timer_driven: meta.setup.timer_driven,
            interrupts_wait: meta.setup.timer_driven || meta.setup.interrupts_wait,
            kernel_visible: meta.setup.kernel_visible,
            samples: self.samples,
            foreign_samples: self.foreign_samples.saturating_add(meta.foreign_samples),
            // The event counts what the rings could no longer tell: a record of loss is only
            // written when the next record fits.
            lost: meta.lost.unwrap_or_else(|| self.losses.of(self.sampled)),
            throttled: self.throttled,
            unresolved_frames: 0,
            frames: 0,
            truncated_stacks: self.depths.cut(),
            cut_user_stacks: 0,
            unwinding: self.unwinding.cloned(),
            malformed_records: self.malformed,
            cut_short: self.cut_short,
            notes: meta.notes.iter().cloned().chain(self.part.map(|_| PART.to_owned())).collect(),
        }
    }
}

/// Interns a stack, and counts what its frames say about quality.
fn intern(resolver: &Resolver<'_>, stack: &RawStack, profile: &mut Profile) -> StackId {
    let mut frames = Vec::with_capacity(stack.frames.len());
    let cut = resolver.frames_of(&stack.frames, &mut frames);
    let unresolved = frames.iter().filter(|&&f| profile.frame(f).is_unresolved()).count() as u64;
    let quality = &mut profile.quality;
    quality.frames += frames.len() as u64 * stack.samples;
    quality.unresolved_frames += unresolved * stack.samples;
    quality.cut_user_stacks += u64::from(cut) * stack.samples;
    profile.intern_stack(&frames)
}
