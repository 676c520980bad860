//! Keeps a [`Timeline`] small: bins are merged, joint states within them thinned out.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::{Account, Bin, ProcessRef, Timeline};

/// More bins than this are merged.
pub(super) const MOST_BINS: usize = 2_048;

/// More joint states than this in a bin are thinned out.
pub(super) const MOST_JOINTS: usize = 48;

impl Timeline {
    /// With no more bins than a watch makes, however many a file tells of.
    pub(crate) fn coarsen(&mut self) {
        while self.bins.len() > MOST_BINS {
            self.merge_neighbours();
        }
    }

    pub(super) fn merge_neighbours(&mut self) {
        let bins = std::mem::take(&mut self.bins);
        let mut bins = bins.into_iter();
        while let Some(mut first) = bins.next() {
            if let Some(second) = bins.next() {
                first.absorb(second);
            }
            self.bins.push(first);
        }
    }

    pub(super) fn forget_unused_joints(&mut self) {
        let mut new = vec![u32::MAX; self.joints.len()];
        let mut kept = Vec::new();
        for (joint, _) in self.bins.iter_mut().flat_map(|bin| &mut bin.joints) {
            let old = *joint as usize;
            if new[old] == u32::MAX {
                new[old] = kept.len() as u32;
                kept.push(std::mem::take(&mut self.joints[old]));
            }
            *joint = new[old];
        }
        self.joints = kept;
    }
}

impl Bin {
    /// Takes over the bin that follows.
    fn absorb(&mut self, next: Bin) {
        self.until_ns = next.until_ns;
        let mut joints = places(&self.joints);
        for (joint, looks) in next.joints {
            let at = *joints.entry(joint).or_insert_with(|| {
                self.joints.push((joint, 0.0));
                self.joints.len() - 1
            });
            self.joints[at].1 += looks;
        }
        let mut accounts = places(&self.accounts);
        for (process, account) in next.accounts {
            let at = *accounts.entry(process).or_insert_with(|| {
                self.accounts.push((process, Account::default()));
                self.accounts.len() - 1
            });
            self.accounts[at].1.add(account);
        }
        self.thin_out();
    }

    pub(super) fn add_looks(&mut self, joint: u32, looks: f32) {
        match self.joints.iter_mut().find(|(known, _)| *known == joint) {
            Some((_, sum)) => *sum += looks,
            None => self.joints.push((joint, looks)),
        }
    }

    pub(super) fn charge(&mut self, process: ProcessRef, account: Account) {
        match self.accounts.iter_mut().find(|(known, _)| *known == process) {
            Some((_, sum)) => sum.add(account),
            None => self.accounts.push((process, account)),
        }
    }

    /// Systematic sampling: what is kept stands for the same share of the looks as before, in the
    /// mean.
    pub(super) fn thin_out(&mut self) {
        if self.joints.len() <= MOST_JOINTS {
            return;
        }
        let whole: f32 = self.joints.iter().map(|(_, looks)| looks).sum();
        let step = whole / MOST_JOINTS as f32;
        let mut kept: Vec<(u32, f32)> = Vec::with_capacity(MOST_JOINTS);
        let (mut sum, mut next) = (0.0, step / 2.0);
        for &(joint, looks) in &self.joints {
            sum += looks;
            let mut weight = 0.0;
            while next < sum {
                weight += step;
                next += step;
            }
            if weight > 0.0 {
                kept.push((joint, weight));
            }
        }
        self.joints = kept;
    }
}

/// Where the first of each stands.
fn places<K: Copy + Eq + Hash, V>(of: &[(K, V)]) -> FxHashMap<K, usize> {
    of.iter().enumerate().rev().map(|(at, (key, _))| (*key, at)).collect()
}
