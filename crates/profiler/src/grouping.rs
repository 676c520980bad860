//! Treats many processes of one name as one member: a build starts thousands of compilers with a
//! sample or so each, and the reader wants the total of the compiler.

use rustc_hash::FxHashMap;

use crate::profile::{MemberProfile, StackWeight};

/// So many of one name are still told apart: a pipeline of parallel workers.
const MOST_APART: usize = 8;

/// Makes one member of all those of a name that more than [`MOST_APART`] have, at the place of the
/// first. Returns the members, and for each that there was the place of the one that it is part of.
pub(crate) fn by_name(members: Vec<MemberProfile>) -> (Vec<MemberProfile>, Vec<usize>) {
    let mut count: FxHashMap<&str, usize> = FxHashMap::default();
    for member in &members {
        *count.entry(&member.comm).or_default() += 1;
    }
    let many: Vec<bool> =
        members.iter().map(|member| count[member.comm.as_str()] > MOST_APART).collect();
    let mut grouped: Vec<Group> = Vec::new();
    let mut of_name: FxHashMap<String, usize> = FxHashMap::default();
    let mut places = Vec::with_capacity(members.len());
    for (member, is_of_many) in members.into_iter().zip(many) {
        let known = of_name.get(&member.comm).copied().filter(|_| is_of_many);
        let place = known.unwrap_or(grouped.len());
        places.push(place);
        if known.is_some() {
            grouped[place].add(member);
        } else {
            if is_of_many {
                of_name.insert(member.comm.clone(), place);
            }
            grouped.push(Group::of(member));
        }
    }
    (grouped.into_iter().map(|group| group.member).collect(), places)
}

/// A member, and where in its lists each stack is.
struct Group {
    member: MemberProfile,
    on_cpu: FxHashMap<usize, usize>,
    blocked: FxHashMap<usize, usize>,
}

impl Group {
    fn of(member: MemberProfile) -> Self {
        let places = |stacks: &[StackWeight]| {
            stacks.iter().enumerate().map(|(at, weight)| (weight.stack.index(), at)).collect()
        };
        Group { on_cpu: places(&member.on_cpu), blocked: places(&member.blocked), member }
    }

    fn add(&mut self, other: MemberProfile) {
        let member = &mut self.member;
        add_stacks(&mut member.on_cpu, &mut self.on_cpu, other.on_cpu);
        add_stacks(&mut member.blocked, &mut self.blocked, other.blocked);
        member.time = member.time.zip(other.time).map(|(a, b)| a.plus(b));
        member.cpu_time_ns = member.cpu_time_ns.zip(other.cpu_time_ns).map(|(a, b)| a + b);
        member.processes += other.processes;
    }
}

fn add_stacks(
    stacks: &mut Vec<StackWeight>,
    places: &mut FxHashMap<usize, usize>,
    more: Vec<StackWeight>,
) {
    for weight in more {
        let place = *places.entry(weight.stack.index()).or_insert(stacks.len());
        match stacks.get_mut(place) {
            Some(known) => {
                known.samples += weight.samples;
                known.weight += weight.weight;
            }
            None => stacks.push(weight),
        }
    }
}
