//! Call chains as the kernel wrote them, each kept once.

use std::hash::{Hash, Hasher};
use std::ops::Range;

use rustc_hash::{FxHashMap, FxHasher};

use crate::address_space::{AddressSpaces, SpaceId};
use crate::perfdata::record::{CONTEXT_KERNEL, CONTEXT_MAX};
use crate::profile::Mode;
use crate::resolve::RawFrame;

/// Distinct call chains as the kernel wrote them, with what was sampled of each.
#[derive(Debug, Default)]
pub(crate) struct RawStacks {
    /// All chains, end to end, the [`key`] of its owner before each.
    words: Vec<u64>,
    entries: Vec<RawEntry>,
    by_hash: FxHashMap<u64, u32>,
}

/// Aligned to lie in one line of the cache: looking entries up is mostly waiting for memory.
#[derive(Debug)]
#[repr(align(32))]
struct RawEntry {
    /// Where its words begin.
    start: usize,
    /// How many words, the key among them.
    words: u32,
    /// The next entry of the same hash, or [`NONE`].
    next: u32,
    samples: u64,
    weight: u64,
}

const NONE: u32 = u32::MAX;

/// Whose chain it is, as one word.
fn key(member: usize, space: SpaceId) -> u64 {
    (member as u64) << 32 | u64::from(space.0)
}

/// The member and the space of a [`key`].
fn owner(key: u64) -> (usize, SpaceId) {
    ((key >> 32) as usize, SpaceId(key as u32))
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
        let key = key(member, space);
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        chain.hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.by_hash.get(&hash).copied().unwrap_or(NONE);
        let mut at = first;
        while let Some(entry) = self.entries.get_mut(at as usize) {
            let words = &self.words[entry.range()];
            if words[0] == key && words[1..] == *chain {
                entry.samples += samples;
                entry.weight += weight;
                return at as usize;
            }
            at = entry.next;
        }
        let start = self.words.len();
        self.words.push(key);
        self.words.extend_from_slice(chain);
        let words = (self.words.len() - start) as u32;
        self.by_hash.insert(hash, self.entries.len() as u32);
        self.entries.push(RawEntry { start, words, next: first, samples, weight });
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
        owner(self.words[self.entries[index].start]).0
    }

    /// How many distinct chains there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All chains as frames.
    pub(crate) fn split(&self, spaces: &AddressSpaces) -> Vec<RawStack> {
        let stack = |entry: &RawEntry| RawStack::of(entry, &self.words[entry.range()], spaces);
        self.entries.iter().map(stack).collect()
    }
}

impl RawEntry {
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.words as usize
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
    fn of(entry: &RawEntry, words: &[u64], spaces: &AddressSpaces) -> Self {
        let (member, space) = owner(words[0]);
        let chain = &words[1..];
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
                Mode::Kernel => RawFrame::kernel(spaces, space, word, first_of_mode),
                Mode::User => RawFrame::user(space, word, first_of_mode),
            });
            first_of_mode = false;
        }
        RawStack { member, frames, samples: entry.samples, weight: entry.weight }
    }
}
