//! Adds up the weights of stacks by role and by function.

use pipeprof_profiler::profile::{MemberProfile, Mode, Profile, Quality, StackWeight, WeightUnit};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Absorber, FunctionShare, RoleShare};
use crate::highlight::Highlights;
use crate::ledger;
use crate::ordered::OrderedMap;
use crate::roles::{Basis, Role, source_name};
use crate::run::Run;

/// Functions listed a member.
const TOP: usize = 10;

pub(crate) fn cpu_time_ns(profile: &Profile, member: &MemberProfile) -> Option<u64> {
    let quality = &profile.quality;
    let measures_all = quality.unit == WeightUnit::Nanoseconds && quality.kernel_visible;
    member.cpu_time_ns.or_else(|| measures_all.then(|| member.weight()))
}

pub(super) fn coverage_percent(quality: &Quality, member: &MemberProfile) -> Option<f64> {
    let account = member.cpu_time_ns.filter(|ns| *ns > 0)?;
    (quality.unit == WeightUnit::Nanoseconds).then(|| ledger::percent(member.weight(), account))
}

pub(super) fn role_table(run: &Run, member: &MemberProfile, gib: Option<f64>) -> Vec<RoleShare> {
    let Run { profile, roles, .. } = run;
    #[derive(Clone, Copy, Default)]
    struct Sum {
        samples: u64,
        weight: u64,
        deferred: u64,
        inferred: u64,
    }
    let mut sums = [Sum::default(); Role::ALL.len()];
    for weight in &member.on_cpu {
        let sum = &mut sums[roles.role(weight.stack).index()];
        sum.samples += weight.samples;
        sum.weight += weight.weight;
        if profile.quality.interrupts_wait && roles.absorber(profile.stack(weight.stack)).is_some()
        {
            sum.deferred += weight.samples;
        }
        if roles.basis(weight.stack) == Basis::Inferred {
            sum.inferred += weight.samples;
        }
    }
    let whole = member.weight();
    let ns_per_gib = cpu_time_ns(profile, member)
        .filter(|_| profile.quality.shares_are_of_cpu_time())
        .zip(gib)
        .map(|(ns, gib)| ns as f64 / gib);
    let mut table: Vec<RoleShare> = Role::ALL
        .into_iter()
        .map(|role| (role, sums[role.index()]))
        .filter(|(_, sum)| sum.samples > 0)
        .map(|(role, sum)| {
            let share = if whole == 0 { 0.0 } else { sum.weight as f64 / whole as f64 };
            RoleShare {
                role,
                samples: sum.samples,
                weight: sum.weight,
                percent: 100.0 * share,
                ns_per_gib: ns_per_gib.map(|ns| ns * share),
                deferred_samples: sum.deferred,
                inferred_samples: sum.inferred,
            }
        })
        .collect();
    table.sort_by_key(|share| std::cmp::Reverse(share.weight));
    table
}

/// For each frame of a profile the first one of its function: frames of one function at different
/// addresses are one function.
pub(super) fn functions(profile: &Profile) -> Vec<usize> {
    let mut first: FxHashMap<(&str, Mode), usize> = FxHashMap::default();
    let frames = profile.frames().iter().enumerate();
    frames.map(|(at, frame)| *first.entry((&*frame.name, frame.mode)).or_insert(at)).collect()
}

/// The heaviest functions of these stacks.
pub(super) fn top_functions(
    profile: &Profile,
    function_of: &[usize],
    highlights: &Highlights,
    stacks: &[StackWeight],
) -> Vec<FunctionShare> {
    // Of the functions of a profile a member has a few.
    let mut sums: FxHashMap<usize, (u64, u64)> = FxHashMap::default();
    let mut counted = FxHashSet::default();
    for weight in stacks {
        counted.clear();
        for (depth, frame) in profile.stack(weight.stack).iter().enumerate() {
            let function = function_of[frame.index()];
            let sum = sums.entry(function).or_default();
            if depth == 0 {
                sum.0 += weight.weight;
            }
            if counted.insert(function) {
                sum.1 += weight.weight;
            }
        }
    }
    let name_of = |function: usize| &profile.frames()[function];
    let mut heaviest: Vec<(usize, (u64, u64))> =
        sums.into_iter().filter(|(_, (own, _))| *own > 0).collect();
    heaviest.sort_by(|&(a, sum_a), &(b, sum_b)| {
        let by_name = || (&name_of(a).name, a).cmp(&(&name_of(b).name, b));
        sum_b.cmp(&sum_a).then_with(by_name)
    });
    heaviest.truncate(TOP);
    heaviest
        .into_iter()
        .map(|(function, (self_weight, total_weight))| {
            let frame = name_of(function);
            let classic = highlights.list().iter().find(|h| h.matches(frame)).map(|h| &h.classic);
            FunctionShare {
                name: frame.name.to_string(),
                known_as: classic.filter(|c| **c != *source_name(&frame.name)).cloned(),
                mode: frame.mode,
                self_weight,
                total_weight,
            }
        })
        .collect()
}

pub(super) fn skid(run: &Run, shown: &[(usize, &MemberProfile)]) -> Vec<Absorber> {
    let Run { profile, roles, .. } = run;
    let mut samples: OrderedMap<&str, Vec<u64>> = OrderedMap::default();
    for (column, (_, member)) in shown.iter().enumerate() {
        for weight in &member.on_cpu {
            let Some(leaf) = roles.absorber(profile.stack(weight.stack)) else { continue };
            let of_function = samples.entry(&*profile.frame(leaf).name);
            of_function.or_insert_with(|| vec![0; shown.len()])[column] += weight.samples;
        }
    }
    samples.sort_by_key(|_, samples| std::cmp::Reverse(samples.iter().sum::<u64>()));
    let absorber = |(name, samples): (&str, _)| Absorber { function: name.to_owned(), samples };
    samples.into_iter().map(absorber).collect()
}
