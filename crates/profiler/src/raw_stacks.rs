//! Call chains as the kernel wrote them, each kept once.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use crate::address_space::SpaceId;
use crate::perfdata::record::{CONTEXT_KERNEL, CONTEXT_MAX};
use crate::profile::Mode;
use crate::resolve::RawFrame;

/// Distinct call chains as the kernel wrote them, with what was sampled of each.
#[derive(Debug, Default)]
pub(crate) struct RawStacks {
    /// All chains, end to end.
    words: Vec<u64>,
    entries: Vec<RawEntry>,
    by_hash: FxHashMap<u64, u32>,
}

#[derive(Debug)]
struct RawEntry {
    member: usize,
    space: SpaceId,
    start: usize,
    end: usize,
    samples: u64,
    weight: u64,
    /// The next entry of the same hash.
    next: Option<u32>,
}

impl RawStacks {
    /// Adds samples and weight to a chain, new or known, and returns its index.
    pub(crate) fn add(
        &mut self,
        member: usize,
        space: SpaceId,
        chain: &[u64],
        samples: u64,
        weight: u64,
    ) -> usize {
        let mut hasher = FxHasher::default();
        (member, space).hash(&mut hasher);
        chain.hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.by_hash.get(&hash).copied();
        let mut at = first;
        while let Some(index) = at {
            let entry = &mut self.entries[index as usize];
            if entry.member == member
                && entry.space == space
                && self.words[entry.start..entry.end] == *chain
            {
                entry.samples += samples;
                entry.weight += weight;
                return index as usize;
            }
            at = entry.next;
        }
        let start = self.words.len();
        self.words.extend_from_slice(chain);
        let end = self.words.len();
        self.by_hash.insert(hash, self.entries.len() as u32);
        self.entries.push(RawEntry { member, space, start, end, samples, weight, next: first });
        self.entries.len() - 1
    }

    /// The weight of a chain, to be changed.
    pub(crate) fn weight_mut(&mut self, index: usize) -> &mut u64 {
        &mut self.entries[index].weight
    }

    /// Counts one more sample of a chain.
    pub(crate) fn count(&mut self, index: usize) {
        self.entries[index].samples += 1;
    }

    /// The member of a chain.
    pub(crate) fn member(&self, index: usize) -> usize {
        self.entries[index].member
    }

    /// How many distinct chains there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All chains as frames.
    pub(crate) fn split(&self) -> Vec<RawStack> {
        self.iter().map(|(entry, chain)| RawStack::of(entry, chain)).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&RawEntry, &[u64])> {
        self.entries.iter().map(|entry| (entry, &self.words[entry.start..entry.end]))
    }
}

/// A chain split into frames by its markers.
pub(crate) struct RawStack {
    pub(crate) member: usize,
    pub(crate) frames: Vec<RawFrame>,
    pub(crate) samples: u64,
    pub(crate) weight: u64,
}

impl RawStack {
    fn of(entry: &RawEntry, chain: &[u64]) -> Self {
        let mut mode = Mode::Kernel;
        let mut first_of_mode = true;
        let mut frames = Vec::with_capacity(chain.len());
        for &word in chain {
            if word >= CONTEXT_MAX {
                mode = if word == CONTEXT_KERNEL { Mode::Kernel } else { Mode::User };
                first_of_mode = true;
                continue;
            }
            // The first of each half is where the CPU was; the others are return addresses.
            frames.push(match mode {
                Mode::Kernel => RawFrame::kernel(word, first_of_mode),
                Mode::User => RawFrame::user(entry.space, word, first_of_mode),
            });
            first_of_mode = false;
        }
        RawStack { member: entry.member, frames, samples: entry.samples, weight: entry.weight }
    }
}
