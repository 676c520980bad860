//! From what the pass gathered to the profile: names for its addresses, and its members in order.

use super::Pass;
use crate::effect::Observed;
use crate::grouping::by_name;
use crate::profile::{MemberProfile, Profile, Quality, StackId, StackWeight, WeightUnit};
use crate::raw_stacks::RawStack;
use crate::recording::Meta;
use crate::resolve::Resolver;
use crate::symbolize::Symbolizer;
use crate::wakeups::Wakeups;

impl Pass<'_> {
    pub(super) fn into_profile(mut self, symbolizer: &mut dyn Symbolizer) -> Profile {
        let meta = self.meta;
        let mut profile = Profile::new(self.quality(meta));
        self.sleep.end_lives();
        self.keep_sleeps();
        let slept = self.sleep.finish(self.members.names().count());
        profile.span_ns = self.span_ns;
        profile.wakeups = match &meta.wakeups {
            Err(why) => Wakeups::Unknown { why: why.clone() },
            Ok(_) => {
                Wakeups::Known { edges: self.wakes.finish(), watched_ns: meta.wakeups_watched_ns() }
            }
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
                MemberProfile::new(pid, comm.unwrap_or_else(|| format!(":{pid}")), end)
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
            event: meta.event.clone(),
            fallback: meta.fallback.clone(),
            frequency_hz: meta.frequency_hz,
            frequency_range_hz: (meta.observed.as_ref())
                .and_then(Observed::range_hz)
                .filter(|(lowest, highest)| lowest < highest),
            sampling_effect: meta.observed.as_ref().and_then(Observed::effect),
            scope: meta.scope,
            unit: if meta.timer_driven { WeightUnit::Nanoseconds } else { WeightUnit::Events },
            timer_driven: meta.timer_driven,
            interrupts_wait: meta.timer_driven || meta.interrupts_wait,
            kernel_visible: meta.kernel_visible,
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
            notes: meta.notes.clone(),
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
