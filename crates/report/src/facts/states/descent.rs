//! Which process started which: found in one pass over the processes, however deep their tree is.

use pipeprof_profiler::states::ProcessSeen;
use rustc_hash::FxHashMap;

/// Members that lived for less than this share of the life of their starter count as part of it.
const BRIEF: f64 = 0.5;

/// The processes of a time line, by who started them.
pub(super) struct Descent {
    /// By process, who started it, where that was looked at too.
    parent_of: Vec<Option<usize>>,
    /// All processes, each behind its parent.
    order: Vec<usize>,
}

impl Descent {
    pub(super) fn of(processes: &[ProcessSeen]) -> Descent {
        let mut parent_of = parents(processes);
        let order = parents_first(&mut parent_of);
        Descent { parent_of, order }
    }

    /// The process that each one counts as: itself, or the process that started it. That is the
    /// nearest member that lived so much longer that this one was brief, and so on from there; for
    /// a process that is no member, the nearest member.
    pub(super) fn roots(
        &self,
        processes: &[ProcessSeen],
        is_member: &[bool],
    ) -> Vec<Option<usize>> {
        let life = |process: usize| {
            let seen = &processes[process];
            seen.last_ns.saturating_sub(seen.first_ns) as f64
        };
        let mut longer = Longer::new(processes.len());
        // The nearest member of the line of descent, itself included.
        let mut nearest: Vec<Option<usize>> = vec![None; processes.len()];
        let mut roots: Vec<Option<usize>> = vec![None; processes.len()];
        for &process in &self.order {
            let above = self.parent_of[process].and_then(|parent| nearest[parent]);
            if !is_member[process] {
                nearest[process] = above;
                roots[process] = above.and_then(|above| roots[above]);
                continue;
            }
            nearest[process] = Some(process);
            let lived = life(process);
            let outlives = longer.first(above, |above| lived < BRIEF * life(above));
            roots[process] = outlives.map_or(Some(process), |above| roots[above]);
            let up = longer.first(above, |above| lived < life(above));
            longer.add(process, up);
        }
        roots
    }

    /// By process, whether another actor descends from it.
    pub(super) fn leads(&self, actor_of: &[Option<usize>]) -> Vec<bool> {
        let mut below = vec![Below::Nobody; actor_of.len()];
        for &process in self.order.iter().rev() {
            let Some(parent) = self.parent_of[process] else { continue };
            let own = actor_of[process].map_or(Below::Nobody, Below::Only);
            below[parent] = below[parent].and(own).and(below[process]);
        }
        let leads = |(below, own): (Below, &Option<usize>)| match below {
            Below::Nobody => false,
            Below::Only(actor) => *own != Some(actor),
            Below::Several => true,
        };
        below.into_iter().zip(actor_of).map(leads).collect()
    }
}

/// The actors that what a process started belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Nobody,
    Only(usize),
    Several,
}

impl Below {
    fn and(self, other: Below) -> Below {
        match (self, other) {
            (Below::Nobody, one) | (one, Below::Nobody) => one,
            (one, other) if one == other => one,
            _ => Below::Several,
        }
    }
}

/// Links from each process to the nearest above it that lived longer, and from there further up in
/// long steps, so that the first of them all that lived long enough is found in few.
struct Longer {
    links: Vec<Link>,
}

#[derive(Clone, Copy, Default)]
struct Link {
    up: Option<usize>,
    /// Further up, by as many links as were left out before: those of powers of two.
    far: Option<usize>,
    depth: usize,
}

impl Longer {
    fn new(processes: usize) -> Longer {
        Longer { links: vec![Link::default(); processes] }
    }

    fn depth(&self, at: Option<usize>) -> usize {
        at.map_or(0, |at| self.links[at].depth)
    }

    fn add(&mut self, process: usize, up: Option<usize>) {
        let far = up.and_then(|up| self.links[up].far);
        let further = far.and_then(|far| self.links[far].far);
        let is_even = self.depth(up) - self.depth(far) == self.depth(far) - self.depth(further);
        let far = if is_even { further } else { up };
        self.links[process] = Link { up, far, depth: self.depth(up) + 1 };
    }

    /// The first, from this one up, of which `is_enough` is true, as it is then of all above it.
    fn first(&self, from: Option<usize>, is_enough: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = from?;
        while !is_enough(at) {
            let Link { up, far, .. } = self.links[at];
            at = match far {
                Some(far) if !is_enough(far) => far,
                _ => up?,
            };
        }
        Some(at)
    }
}

/// The process that started each, where that was looked at too.
fn parents(processes: &[ProcessSeen]) -> Vec<Option<usize>> {
    // Those of a pid by when they were first seen, each with the last in the list so far.
    let mut of_pid: FxHashMap<i32, Vec<(u64, usize)>> = FxHashMap::default();
    for (at, seen) in processes.iter().enumerate() {
        of_pid.entry(seen.pid).or_default().push((seen.first_ns, at));
    }
    for those in of_pid.values_mut() {
        those.sort_unstable();
        let mut last = 0;
        for (_, at) in those {
            last = last.max(*at);
            *at = last;
        }
    }
    let parent = |seen: &ProcessSeen| {
        let those = of_pid.get(&seen.parent)?;
        // Of several with its pid, the latest.
        let before = those.partition_point(|&(first_ns, _)| first_ns <= seen.first_ns);
        before.checked_sub(1).map(|at| those[at].1)
    };
    processes.iter().map(parent).collect()
}

/// All, each behind its parent. Damaged records can close a circle, which is opened somewhere.
fn parents_first(parent_of: &mut [Option<usize>]) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Open,
        Done,
    }
    let mut visits = vec![Visit::Not; parent_of.len()];
    let mut order = Vec::with_capacity(parent_of.len());
    let mut line = Vec::new();
    for process in 0..parent_of.len() {
        let mut at = Some(process).filter(|&at| visits[at] == Visit::Not);
        while let Some(child) = at {
            visits[child] = Visit::Open;
            line.push(child);
            at = match parent_of[child] {
                Some(parent) if visits[parent] == Visit::Open => {
                    parent_of[child] = None;
                    None
                }
                parent => parent.filter(|&parent| visits[parent] == Visit::Not),
            };
        }
        for at in line.drain(..).rev() {
            visits[at] = Visit::Done;
            order.push(at);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: i32, parent: i32, first_ns: u64, last_ns: u64) -> ProcessSeen {
        ProcessSeen { pid, parent, first_ns, last_ns, ..ProcessSeen::default() }
    }

    /// As the rule has it, one step after the other.
    fn roots_by_rule(processes: &[ProcessSeen], is_member: &[bool]) -> Vec<Option<usize>> {
        let parent_of = parents(processes);
        let life = |at: usize| (processes[at].last_ns - processes[at].first_ns) as f64;
        let root = |process: usize| {
            let mut at = process;
            loop {
                let above =
                    std::iter::successors(parent_of[at], |&at| parent_of[at]).find(|&above| {
                        is_member[above] && (!is_member[at] || life(at) < 0.5 * life(above))
                    });
                match above {
                    Some(above) => at = above,
                    None => return is_member[at].then_some(at),
                }
            }
        };
        (0..processes.len()).map(root).collect()
    }

    proptest::proptest! {
        #[test]
        fn each_is_told_as_the_nearest_that_outlives_it_by_far(
            lines in proptest::collection::vec((0usize..100, 1u64..1000, proptest::bool::weighted(0.8)), 1..60),
        ) {
            let processes: Vec<ProcessSeen> = lines
                .iter()
                .enumerate()
                .map(|(at, &(parent, life, _))| {
                    let parent = if at == 0 { 0 } else { 100 + (parent % at) as i32 };
                    seen(100 + at as i32, parent, at as u64, at as u64 + life)
                })
                .collect();
            let is_member: Vec<bool> = lines.iter().map(|line| line.2).collect();
            let roots = Descent::of(&processes).roots(&processes, &is_member);
            proptest::prop_assert_eq!(roots, roots_by_rule(&processes, &is_member));
        }
    }

    #[test]
    fn a_circle_of_parents_is_opened() {
        let processes: Vec<ProcessSeen> =
            (0..5).map(|at| seen(at, (at + 1) % 5, 7, 7 + at as u64)).collect();
        let descent = Descent::of(&processes);
        assert_eq!(descent.order.len(), 5);
        let starts = descent.parent_of.iter().filter(|parent| parent.is_none());
        assert_eq!(starts.count(), 1);
        assert_eq!(descent.roots(&processes, &[true; 5]).len(), 5);
        assert_eq!(descent.leads(&[Some(0); 5]), [false; 5]);
    }
}
