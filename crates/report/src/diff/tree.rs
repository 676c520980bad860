//! The call trees of all runs merged into one: each function in its place, before and after.

use super::cost::{Count, Point, Scale, Series};
use super::matching::Matched;
use super::member::name_of;
use super::unit::Scales;
use crate::calltree::{Frame, Key, Name, Names, Tree, Weight, by_name};
use crate::roles::Role;
use crate::run::Run;

/// What a function cost in each run.
#[derive(Clone, Debug, Default)]
pub(super) struct Cost {
    /// The runs of A, then those of B.
    counts: Vec<Count>,
    /// The role of one function in one place is the same in all runs, but where call sites were
    /// learned in one and not in the other: then the costlier one is shown.
    roles: Vec<(Role, f64)>,
}

impl Weight for Cost {
    fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), Count::default());
        }
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            sum.add(count.samples, count.weight);
        }
    }
}

impl Cost {
    fn vote(&mut self, role: Role, cost: f64) {
        match self.roles.iter_mut().find(|(known, _)| *known == role) {
            Some((_, sum)) => *sum += cost,
            None => self.roles.push((role, cost)),
        }
    }

    /// The role that cost the most.
    pub(super) fn role(&self) -> Option<Role> {
        self.roles.iter().max_by(|x, y| x.1.total_cmp(&y.1)).map(|(role, _)| *role)
    }
}

/// The tree of all compared members: a tower each, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Both {
    pub(super) names: Names,
    pub(super) tree: Tree<Cost>,
    /// What each role costs in all members together, where it was sampled.
    pub(super) roles: Vec<(Role, Series)>,
    runs_of_a: usize,
    /// Of each member: the runs of A, then those of B.
    scales: Vec<Vec<Scale>>,
}

impl Both {
    pub(super) fn of(a: &[&Run], b: &[&Run], matched: &[Matched], scales: &[Scales]) -> Both {
        let mut names = Names::default();
        let mut tree: Tree<Cost> = Tree::default();
        let mut roles: Vec<Option<Series>> = vec![None; Role::ALL.len()];
        let scales: Vec<Vec<Scale>> =
            scales.iter().map(|of| of.a.iter().chain(&of.b).copied().collect()).collect();
        let runs = a.len() + b.len();
        let known: Vec<Vec<Name>> = a
            .iter()
            .chain(b)
            .map(|run| run.profile.frames().iter().map(|f| names.intern(&name_of(f))).collect())
            .collect();
        for (position, (matched, scales)) in matched.iter().zip(&scales).enumerate() {
            let tower = tree.child(Tree::<Cost>::ROOT, Key::Tower(position));
            let mut by_role = vec![vec![Count::default(); runs]; Role::ALL.len()];
            let members = matched.a.iter().chain(&matched.b);
            for (column, (run, &member)) in a.iter().chain(b).zip(members).enumerate() {
                for weight in &run.profile.members[member].on_cpu {
                    let stack = run.profile.stack(weight.stack);
                    let count = Count { samples: weight.samples, weight: weight.weight };
                    let cost = scales[column].of(count).cost;
                    let mut at = tower;
                    for depth in (0..stack.len()).rev() {
                        let frame = stack[depth];
                        let key = Frame {
                            name: known[column][frame.index()],
                            mode: run.profile.frame(frame).mode,
                            role: None,
                            highlight: None,
                        };
                        at = tree.child(at, Key::Frame(key));
                        tree.nodes[at].own.vote(run.roles.prefix_role(&stack[depth..]), cost);
                    }
                    let counts = &mut tree.nodes[at].own.counts;
                    counts.resize(runs, Count::default());
                    counts[column].add(weight.samples, weight.weight);
                    by_role[run.roles.role(weight.stack).index()][column]
                        .add(weight.samples, weight.weight);
                }
            }
            for (sum, counts) in roles.iter_mut().zip(&by_role) {
                if counts.iter().any(|count| count.samples > 0) {
                    let of = series(counts, a.len(), scales);
                    match sum {
                        Some(sum) => sum.add(&of),
                        None => *sum = Some(of),
                    }
                }
            }
        }
        tree.add_up();
        tree.sort(by_name(&names));
        let of_role = |(role, series): (Role, Option<Series>)| Some((role, series?));
        let roles = Role::ALL.into_iter().zip(roles).filter_map(of_role).collect();
        Both { names, tree, roles, runs_of_a: a.len(), scales }
    }

    /// What a cost of a member comes to.
    pub(super) fn series(&self, member: usize, cost: &Cost) -> Series {
        let scales = &self.scales[member];
        let mut counts = cost.counts.clone();
        counts.resize(scales.len(), Count::default());
        series(&counts, self.runs_of_a, scales)
    }
}

fn series(counts: &[Count], runs_of_a: usize, scales: &[Scale]) -> Series {
    let points: Vec<Point> =
        counts.iter().zip(scales).map(|(count, scale)| scale.of(*count)).collect();
    let (a, b) = points.split_at(runs_of_a);
    Series::sampled(a.to_vec(), b.to_vec())
}
