//! How much detail of a timeline fits in memory: a long watch of many members gets coarser instead
//! of taking a gigabyte.

use std::borrow::Cow;

use pipeprof_profiler::states::{Account, Bin, ProcessRef};
use rustc_hash::{FxHashMap, FxHashSet};

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// More neighbours than this are merged.
    pub(super) bins: usize,
    /// Of each bin the joint states that were found most often are kept.
    pub(super) moments: usize,
    /// Of all, likewise.
    pub(super) joints: usize,
}

impl Room {
    /// Of so many actors, and all that is known of them at one moment.
    pub(super) fn of(actors: usize, known: usize) -> Room {
        let room = |cells: usize, each: usize| (cells / each.max(1)).max(1);
        Room {
            bins: room(1_000_000, actors),
            moments: room(20_000_000, known),
            joints: room(3_000_000, known),
        }
    }
}

pub(super) fn thinned(bins: &[Bin], room: Room) -> Cow<'_, [Bin]> {
    let mut found: FxHashMap<u32, f32> = FxHashMap::default();
    for (joint, looks) in bins.iter().flat_map(|bin| &bin.joints) {
        *found.entry(*joint).or_default() += looks;
    }
    let moments: usize = bins.iter().map(|bin| bin.joints.len()).sum();
    if bins.len() <= room.bins && moments <= room.moments && found.len() <= room.joints {
        return Cow::Borrowed(bins);
    }
    let kept: FxHashSet<u32> =
        most_often(found, room.joints).into_iter().map(|(joint, _)| joint).collect();
    let together = bins.len().div_ceil(room.bins.min(room.moments)).max(1);
    let of_each = (room.moments / bins.len().div_ceil(together).max(1)).max(1);
    let merge = |bins: &[Bin]| {
        let mut joints: FxHashMap<u32, f32> = FxHashMap::default();
        let mut accounts: FxHashMap<ProcessRef, Account> = FxHashMap::default();
        for bin in bins {
            for (joint, looks) in bin.joints.iter().filter(|(joint, _)| kept.contains(joint)) {
                *joints.entry(*joint).or_default() += looks;
            }
            for (process, account) in &bin.accounts {
                accounts.entry(*process).or_default().add(*account);
            }
        }
        Bin {
            from_ns: bins.first().map_or(0, |bin| bin.from_ns),
            until_ns: bins.last().map_or(0, |bin| bin.until_ns),
            joints: most_often(joints, of_each),
            accounts: accounts.into_iter().collect(),
        }
    };
    Cow::Owned(bins.chunks(together).map(merge).collect())
}

/// So many joint states that were found most often.
fn most_often(found: FxHashMap<u32, f32>, most: usize) -> Vec<(u32, f32)> {
    let mut found: Vec<(u32, f32)> = found.into_iter().collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_members_are_looked_at_in_less_detail_and_for_as_long() {
        let bin = |at: u64| Bin {
            from_ns: at * 10,
            until_ns: (at + 1) * 10,
            joints: vec![(0, 1.0), (1 + at as u32, 2.0), (at as u32 % 3, 1.0)],
            accounts: vec![(ProcessRef(0), Account { cpu_ns: 4, run_delay_ns: 1 })],
        };
        let bins: Vec<Bin> = (0..100).map(bin).collect();
        let all = thinned(&bins, Room { bins: 100, moments: 300, joints: 101 });
        assert!(matches!(all, Cow::Borrowed(_)));
        let some = thinned(&bins, Room { bins: 30, moments: 50, joints: 20 });
        assert!(some.len() <= 30, "{}", some.len());
        assert_eq!((some[0].from_ns, some.last().unwrap().until_ns), (0, 1000));
        assert!(some.windows(2).all(|two| two[0].until_ns == two[1].from_ns));
        let cpu: u64 = some.iter().flat_map(|bin| &bin.accounts).map(|(_, one)| one.cpu_ns).sum();
        assert_eq!(cpu, 400);
        let joints: FxHashSet<u32> =
            some.iter().flat_map(|bin| &bin.joints).map(|(joint, _)| *joint).collect();
        assert!(joints.len() <= 20 && joints.contains(&0), "{joints:?}");
        assert!(some.iter().map(|bin| bin.joints.len()).sum::<usize>() <= 50);
    }
}
