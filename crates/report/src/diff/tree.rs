//! The call trees of all runs laid on one another: each function in its place, before and after.

use std::sync::Arc;

use pipeprof_profiler::profile::Mode;
use rustc_hash::FxHashMap;

use super::cost::{Count, Point, Scale, Series};
use super::member::{Matched, name_of};
use super::unit::Scales;
use crate::flamegraph::member_label;
use crate::roles::Role;
use crate::run::Run;

/// The trees of all compared members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// A node's children come after it.
    pub(super) nodes: Vec<Node>,
    /// A member each, in order.
    pub(super) roots: Vec<usize>,
    /// What each role costs in all members together, where it was sampled.
    pub(super) roles: Vec<(Role, Series)>,
}

/// A function called in one place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
    /// `None` of a member's root.
    pub(super) role: Option<Role>,
    pub(super) parent: Option<usize>,
    /// In the order of names.
    pub(super) children: Vec<usize>,
    /// The function by itself.
    pub(super) own: Series,
    /// With all that it calls.
    pub(super) total: Series,
}

struct Building {
    name: Arc<str>,
    parent: Option<usize>,
    /// The runs of A, then those of B.
    own: Vec<Count>,
    /// The role of one function in one place is the same in all runs, but where call sites were
    /// learned in one and not in the other: then the costlier one is shown.
    roles: Vec<(Role, f64)>,
}

impl Tree {
    pub(super) fn of(a: &[&Run], b: &[&Run], matched: &[Matched], scales: &[Scales]) -> Tree {
        let mut tree = Tree::default();
        let mut roles: Vec<Option<Series>> = vec![None; Role::ALL.len()];
        for (matched, scales) in matched.iter().zip(scales) {
            let mut nodes: Vec<Building> = Vec::new();
            let runs = a.len() + b.len();
            let label = a.first().zip(matched.a.first()).map_or_else(String::new, |(run, &at)| {
                let label = member_label(&run.profile.members[at]);
                label.rsplit_once(" (").map_or(label.clone(), |(name, _)| name.to_owned())
            });
            nodes.push(Building::new(Arc::from(label), None, runs));
            let mut places: FxHashMap<(usize, Arc<str>, Mode), usize> = FxHashMap::default();
            let mut by_role = vec![vec![Count::default(); runs]; Role::ALL.len()];
            let members = matched.a.iter().chain(&matched.b);
            let all_scales: Vec<Scale> = scales.a.iter().chain(&scales.b).copied().collect();
            for (column, (run, &member)) in a.iter().chain(b).zip(members).enumerate() {
                let names: Vec<Arc<str>> = run.profile.frames().iter().map(name_of).collect();
                for weight in &run.profile.members[member].on_cpu {
                    let stack = run.profile.stack(weight.stack);
                    let count = Count { samples: weight.samples, weight: weight.weight };
                    let cost = all_scales[column].of(count).cost;
                    let mut at = 0;
                    for depth in (0..stack.len()).rev() {
                        let frame = stack[depth];
                        let name = &names[frame.index()];
                        let key = (at, Arc::clone(name), run.profile.frame(frame).mode);
                        let parent = at;
                        at = *places.entry(key).or_insert_with(|| {
                            nodes.push(Building::new(Arc::clone(name), Some(parent), runs));
                            nodes.len() - 1
                        });
                        nodes[at].vote(run.roles.prefix_role(&stack[depth..]), cost);
                    }
                    nodes[at].own[column].add(weight.samples, weight.weight);
                    by_role[run.roles.role(weight.stack).index()][column]
                        .add(weight.samples, weight.weight);
                }
            }
            let series = |counts: &[Count]| series(counts, a.len(), &all_scales);
            for (sum, counts) in roles.iter_mut().zip(&by_role) {
                if counts.iter().any(|count| count.samples > 0) {
                    match sum {
                        Some(sum) => sum.add(&series(counts)),
                        None => *sum = Some(series(counts)),
                    }
                }
            }
            tree.graft(nodes, &series);
        }
        let of_role = |(role, series): (Role, Option<Series>)| Some((role, series?));
        tree.roles = Role::ALL.into_iter().zip(roles).filter_map(of_role).collect();
        tree
    }

    /// Adds the tree of a member.
    fn graft(&mut self, building: Vec<Building>, series: &dyn Fn(&[Count]) -> Series) {
        let base = self.nodes.len();
        let mut totals: Vec<Vec<Count>> = building.iter().map(|node| node.own.clone()).collect();
        // Children come after their parents, so from the end all of a node's are in its total.
        for at in (1..building.len()).rev() {
            let Some(parent) = building[at].parent else { continue };
            let (before, after) = totals.split_at_mut(at);
            for (sum, count) in before[parent].iter_mut().zip(&after[0]) {
                sum.add(count.samples, count.weight);
            }
        }
        for (node, total) in building.iter().zip(&totals) {
            let role = node.roles.iter().max_by(|x, y| x.1.total_cmp(&y.1)).map(|(role, _)| *role);
            self.nodes.push(Node {
                name: Arc::clone(&node.name),
                role,
                parent: node.parent.map(|parent| base + parent),
                children: Vec::new(),
                own: series(&node.own),
                total: series(total),
            });
        }
        for at in base + 1..self.nodes.len() {
            if let Some(parent) = self.nodes[at].parent {
                self.nodes[parent].children.push(at);
            }
        }
        for at in base..self.nodes.len() {
            let mut children = std::mem::take(&mut self.nodes[at].children);
            children.sort_by(|&x, &y| self.nodes[x].name.cmp(&self.nodes[y].name));
            self.nodes[at].children = children;
        }
        self.roots.push(base);
    }
}

impl Building {
    fn new(name: Arc<str>, parent: Option<usize>, runs: usize) -> Self {
        Building { name, parent, own: vec![Count::default(); runs], roles: Vec::new() }
    }

    fn vote(&mut self, role: Role, cost: f64) {
        match self.roles.iter_mut().find(|(known, _)| *known == role) {
            Some((_, sum)) => *sum += cost,
            None => self.roles.push((role, cost)),
        }
    }
}

fn series(counts: &[Count], runs_of_a: usize, scales: &[Scale]) -> Series {
    let points: Vec<Point> =
        counts.iter().zip(scales).map(|(count, scale)| scale.of(*count)).collect();
    let (a, b) = points.split_at(runs_of_a);
    Series::sampled(a.to_vec(), b.to_vec())
}
