//! How fast one thread reads and copies memory: the limit of every pipe whose reader looks at its
//! bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The block that stays in cache: the pair's own buffer.
const CACHE_BLOCK: usize = 256 << 10;
/// The block that doesn't, on machines with less than so much last-level cache.
const MEMORY_BLOCK: usize = 256 << 20;
/// How long each of the four is measured, and how often at least.
const AT_LEAST: Duration = Duration::from_millis(120);
const PASSES: u32 = 5;

/// Bandwidth of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bandwidths {
    /// Of a block that stays in the cache of a core.
    pub cache: Bandwidth,
    /// Of a block that comes from memory each time.
    pub memory: Bandwidth,
}

/// Bandwidth with blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Bytes gone through again and again.
    pub block_bytes: u64,
    /// Bytes read, with nothing done to them but one comparison.
    pub read_gib_per_s: f64,
    /// Bytes copied, each counted once, though it is read and written.
    pub copy_gib_per_s: f64,
}

/// Measures both, in about half a second. Takes 256 MiB of memory for that time.
///
/// Reading is comparing one half of the block with the other, which is the same, copying is
/// copying one half to the other: both are the C library's vectorised loops, whatever this crate
/// was compiled with. `sysbench memory` reads a word at a time and so stays below, unless its blocks
/// come from memory.
pub fn measure() -> Bandwidths {
    Bandwidths { cache: bandwidth(CACHE_BLOCK), memory: bandwidth(MEMORY_BLOCK) }
}

fn bandwidth(block_bytes: usize) -> Bandwidth {
    // Not zero, or the pages would all be the same one, which is never written.
    let mut block = vec![1u8; block_bytes];
    let (one, other) = block.split_at_mut(block_bytes / 2);
    let read_gib_per_s = rate(block_bytes, || {
        black_box(black_box(&*one) == black_box(&*other));
    });
    let copy_gib_per_s = rate(block_bytes / 2, || {
        black_box(&mut *other).copy_from_slice(black_box(&*one));
    });
    Bandwidth { block_bytes: block_bytes as u64, read_gib_per_s, copy_gib_per_s }
}

/// GiB/s of a pass that goes through so many bytes: that of the fastest few, as whatever else the
/// machine does can only make it slower.
fn rate(bytes: usize, mut pass: impl FnMut()) -> f64 {
    pass();
    // So many passes that the clock's own cost and resolution don't matter.
    let batch = (16 << 20) / bytes.min(16 << 20);
    let mut best = Duration::MAX;
    let started = Instant::now();
    let mut passes = 0;
    while started.elapsed() < AT_LEAST || passes < PASSES {
        passes += 1;
        let began = Instant::now();
        for _ in 0..batch {
            pass();
        }
        best = best.min(began.elapsed());
    }
    (bytes * batch) as f64 / (1u64 << 30) as f64 / best.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_that_of_a_machine() {
        let all = measure();
        for bandwidth in [all.cache, all.memory] {
            // A byte a cycle would be 1 GiB/s on the slowest machine there is; no core has 4 TiB/s.
            for rate in [bandwidth.read_gib_per_s, bandwidth.copy_gib_per_s] {
                assert!((0.05..4096.0).contains(&rate), "{all:?}");
            }
            // Reading takes no more than reading and writing, but for who else uses the memory.
            assert!(bandwidth.read_gib_per_s > 0.5 * bandwidth.copy_gib_per_s, "{all:?}");
        }
        assert!(all.cache.read_gib_per_s > 0.5 * all.memory.read_gib_per_s, "{all:?}");
    }
}
