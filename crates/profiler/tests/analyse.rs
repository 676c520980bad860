//! Recordings made by hand, analysed: every number is known beforehand.

#![allow(clippy::unwrap_used)]

#[path = "common/file.rs"]
mod file;

use std::path::Path;

use file::{CPU_SWITCHES, FileBuilder, KERNEL, NamesByAddress, OWN_SWITCHES, USER, meta};
use pipeprof_profiler::analyse::{Progress, analyse_bytes, analyse_watched, analyse_with_timeline};
use pipeprof_profiler::perfdata::record::misc;
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::recording::{Meta, Recording, ThreadStart};
use pipeprof_profiler::timeline::{Doing, Moment};

const K: u64 = 0xffff_ffff_8100_0000;

fn analyse(file: &FileBuilder, pids: &[i32]) -> Profile {
    analyse_bytes(&file.build(), &meta(pids), &mut NamesByAddress::default()).unwrap()
}

/// `root;…;leaf count`, sorted.
fn folded(profile: &Profile, member: usize) -> Vec<String> {
    let mut lines: Vec<String> = profile.members[member]
        .on_cpu
        .iter()
        .map(|weight| {
            let names: Vec<&str> =
                profile.stack_frames(weight.stack).rev().map(|f| f.name.as_ref()).collect();
            format!("{} {}", names.join(";"), weight.samples)
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn equal_chains_become_one_stack_and_callers_are_looked_up_before_their_return() {
    let mut file = FileBuilder::new();
    file.map(1, 1, 0x5000, "/bin/a");
    let chain = [KERNEL, K + 0x10, K + 0x20, USER, 0x5010, 0x5020];
    file.sample(1, 2, &chain).sample(1, 3, &chain);
    let profile = analyse(&file, &[1]);
    assert_eq!(folded(&profile, 0), ["/bin/a+1f;/bin/a+10;k1f;k10 2"]);
    assert_eq!(profile.members[0].weight(), 2_000_000);
    let offsets: Vec<u64> = profile
        .stack_frames(profile.members[0].on_cpu[0].stack)
        .map(|frame| frame.offset)
        .collect();
    // The return address, not the byte before it, identifies the call site.
    assert_eq!(offsets, [0, 1, 0, 1]);
}

#[test]
fn a_caller_outside_all_code_cuts_the_user_half_and_is_counted() {
    let mut file = FileBuilder::new();
    file.map(1, 1, 0x5000, "/bin/a");
    file.sample(1, 2, &[KERNEL, K, USER, 0x5010, 0x7fff_0000, 0x5020]);
    let profile = analyse(&file, &[1]);
    assert_eq!(folded(&profile, 0), ["/bin/a+10;k0 1"]);
    assert_eq!(profile.quality.cut_user_stacks, 1);
    assert_eq!(profile.quality.unresolved_frames, 0);
}

#[test]
fn records_of_two_rings_are_taken_in_the_order_of_time() {
    let mut file = FileBuilder::new();
    // The ring of the CPU that ran the program is drained first, that of the one that mapped it
    // last, though the mapping came in between.
    file.map(1, 1, 0x5000, "/bin/before");
    file.sample(1, 10, &[USER, 0x5010]).sample(1, 30, &[USER, 0x5010]);
    file.map(1, 20, 0x5000, "/bin/after");
    file.end_round();
    let profile = analyse(&file, &[1]);
    assert_eq!(folded(&profile, 0), ["/bin/after+10 1", "/bin/before+10 1"]);
}

#[test]
fn children_belong_to_their_member_and_strangers_to_nobody() {
    let mut file = FileBuilder::new();
    file.map(1, 1, 0x5000, "/bin/a");
    file.fork(1, 5, 2).sample(5, 3, &[USER, 0x5010]);
    file.sample(9, 4, &[USER, 0x5010]);
    // A stranger's child gets the number of a member: it is not the member.
    file.fork(9, 1, 5).sample(1, 6, &[KERNEL, K]);
    let profile = analyse(&file, &[1]);
    assert_eq!(folded(&profile, 0), ["/bin/a+10 1"]);
    assert_eq!(profile.quality.samples, 1);
    assert_eq!(profile.quality.foreign_samples, 2);
}

#[test]
fn a_file_cut_anywhere_opens_up_to_its_last_whole_record() {
    let mut file = FileBuilder::new();
    for time in 1..=5 {
        file.sample(1, time, &[KERNEL, K]);
    }
    let bytes = file.build();
    let whole = analyse_bytes(&bytes, &meta(&[1]), &mut NamesByAddress::default()).unwrap();
    assert_eq!((whole.quality.samples, whole.quality.cut_short), (5, false));
    let mut seen = 0;
    for cut in 0..bytes.len() {
        let cut = analyse_bytes(&bytes[..cut], &meta(&[1]), &mut NamesByAddress::default());
        if let Ok(profile) = cut {
            assert!(profile.quality.samples >= seen, "samples come in order");
            seen = profile.quality.samples;
        }
    }
    assert_eq!(seen, 5);
}

#[test]
fn losses_are_added_up_and_bad_records_counted() {
    let mut file = FileBuilder::new();
    file.lost(3).lost(4).push(9, 0, &[0; 16]).sample(1, 1, &[KERNEL, K]);
    let profile = analyse(&file, &[1]);
    assert_eq!(profile.quality.lost, 7);
    assert_eq!(profile.quality.malformed_records, 1);
    assert_eq!(profile.quality.samples, 1);
}

#[test]
fn each_distinct_address_is_asked_for_once() {
    let mut file = FileBuilder::new();
    for time in 1..200 {
        file.sample(1, time, &[KERNEL, K + time % 3, K + 0x100, K + 0x200 + time % 5]);
    }
    // Three processes that run one program, at two places.
    for (pid, start) in [(1, 0x5000), (2, 0x5000), (3, 0x7000)] {
        file.map(pid, 1, start, "/bin/a");
        file.sample(pid, 200, &[USER, start + 0x10, start + 0x21]);
        file.sample(pid, 201, &[USER, start + 0x20]);
    }
    let mut names = NamesByAddress::default();
    analyse_bytes(&file.build(), &meta(&[1, 2, 3]), &mut names).unwrap();
    assert_eq!(names.asked.len(), 3 + 1 + 5 + 2);
    assert!(names.asked.values().all(|&times| times == 1), "{:?}", names.asked);
}

/// The event is turned off a moment after its window was over, and by then it has recorded half of
/// a sleep.
#[test]
fn a_switch_after_the_end_of_its_window_does_not_make_the_pause_a_sleep() {
    let mut file = FileBuilder::new();
    let (inwards, out) = (0, misc::SWITCH_OUT);
    for (time, direction) in [(40, out), (60, inwards), (105, out), (1_005, inwards), (1_050, out)]
    {
        file.switch(7, time, direction);
    }
    let windows = vec![(0, 100), (1_000, 1_100)];
    let meta = Meta { windows, ..of_one_thread(1_100) };
    let profile = analyse_bytes(&file.build(), &meta, &mut NamesByAddress::default()).unwrap();
    let time = profile.members[0].time.unwrap();
    // Seen: 125 on the CPU, 70 asleep, of a life of 1,100.
    assert_eq!((time.on_cpu_ns, time.blocked_ns), (125 * 1_100 / 195, 70 * 1_100 / 195));
}

/// A recording of process 7 and its switches, which runs when it begins.
fn of_one_thread(end_ns: u64) -> Meta {
    let thread = ThreadStart { pid: 7, tid: 7, asleep: false, wchan: None };
    let mut meta = Meta { end_ns, threads: vec![thread], ..meta(&[7]) };
    meta.setup.switches = true;
    meta
}

/// Where both events that sample switches are due at once, either's id may be in both samples, or
/// that of another profiler: the thread slept once, and not as often as its CPU switched.
#[test]
fn a_switch_that_two_events_sampled_counts_once() {
    const STRANGER: u64 = 99;
    let weights = |ids: [u64; 2]| -> Vec<(u64, u64)> {
        let mut file = FileBuilder::with_switches();
        let asleep = |at: u64| [KERNEL, K + at];
        file.sample_of(ids[0], 7, 40, 2, &asleep(1)).sample_of(ids[1], 7, 40, 500, &asleep(1));
        file.switch(7, 40, misc::SWITCH_OUT).switch(7, 60, 0);
        file.sample_of(OWN_SWITCHES, 7, 80, 2, &asleep(2));
        file.switch(7, 80, misc::SWITCH_OUT).switch(7, 100, 0);
        let mut names = NamesByAddress::default();
        let profile = analyse_bytes(&file.build(), &of_one_thread(200), &mut names).unwrap();
        assert_eq!(profile.quality.samples, 0);
        profile.members[0].blocked.iter().map(|w| (w.samples, w.weight)).collect()
    };
    let alike = vec![(1, 20), (1, 20)];
    assert_eq!(weights([OWN_SWITCHES, CPU_SWITCHES]), alike);
    assert_eq!(weights([OWN_SWITCHES, OWN_SWITCHES]), alike);
    assert_eq!(weights([CPU_SWITCHES, CPU_SWITCHES]), alike);
    assert_eq!(weights([STRANGER, STRANGER]), alike);
}

#[test]
fn progress_is_told_every_few_megabytes_and_never_beyond_the_end() {
    let mut file = FileBuilder::new();
    for time in 0..200_000 {
        file.sample(1, time, &[KERNEL, K]);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("perf.data");
    std::fs::write(&path, file.build()).unwrap();
    let recording = Recording::open(&path).unwrap();
    let mut told: Vec<Progress> = Vec::new();
    let names = &mut NamesByAddress::default();
    analyse_watched(&recording, names, &mut |progress| told.push(progress)).unwrap();
    assert!((2..10).contains(&told.len()), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].bytes < pair[1].bytes), "{told:?}");
    assert!(told.iter().all(|at| at.bytes < at.total_bytes && at.samples <= 200_000), "{told:?}");
}

/// Samples of each member and process, one by one.
fn moments(folder: &Path, pids: &[i32], file: &FileBuilder) -> (Profile, Vec<Moment>) {
    let path = folder.join("perf.data");
    std::fs::write(&path, file.build()).unwrap();
    let mut recording = Recording::open(&path).unwrap();
    recording.meta = meta(pids);
    let mut names = NamesByAddress::default();
    let (profile, timeline) = analyse_with_timeline(&recording, None, &mut names).unwrap();
    (profile, timeline.moments().collect())
}

#[test]
fn a_time_line_has_each_sample_at_its_time_with_the_stack_of_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = FileBuilder::new();
    file.map(1, 1, 0x5000, "/bin/a");
    file.sample(1, 30, &[USER, 0x5010]).fork(1, 5, 2).sample(5, 20, &[KERNEL, K + 0x40]);
    file.sample(9, 25, &[USER, 0x5010]).sample(1, 10, &[USER, 0x5020]).end_round();
    let (profile, moments) = moments(folder.path(), &[1], &file);
    let name = |moment: &Moment| {
        let leaf = profile.stack(moment.stack.unwrap())[0];
        (moment.time_ns, moment.pid, moment.member, profile.frame(leaf).name.to_string())
    };
    // The stranger's is in no profile.
    assert_eq!(
        moments.iter().map(name).collect::<Vec<_>>(),
        [
            (10, 1, 0, "/bin/a+20".to_owned()),
            (20, 5, 0, "k40".to_owned()),
            (30, 1, 0, "/bin/a+10".to_owned()),
        ]
    );
    assert!(moments.iter().all(|moment| moment.doing == Doing::Running { period: 1_000_000 }));
    assert_eq!(moments.len() as u64, profile.quality.samples);
}

#[test]
fn a_time_line_follows_the_members_when_they_are_put_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = FileBuilder::new();
    file.sample(7, 1, &[KERNEL, K]);
    (2..5).for_each(|time| _ = file.sample(8, time, &[KERNEL, K]));
    let (profile, moments) = moments(folder.path(), &[], &file);
    assert_eq!(profile.members.iter().map(|member| member.pid).collect::<Vec<_>>(), [8, 7]);
    for moment in &moments {
        assert_eq!(profile.members[moment.member].pid, moment.pid as i32);
    }
    let (_, none) = self::moments(folder.path(), &[], &FileBuilder::new());
    assert_eq!(none, []);
}

#[test]
fn a_frame_knows_where_it_is_unless_it_is_many_places() {
    let mut file = FileBuilder::new();
    file.map(1, 1, 0x5000, "/bin/a");
    file.sample(1, 2, &[KERNEL, K + 0x10, K + 0x20, USER, 0x5010, 0x5020]).sample(2, 3, &[USER, 7]);
    let profile = analyse(&file, &[1, 2]);
    let addresses = |member: usize| -> Vec<Option<u64>> {
        let stack = profile.stack(profile.members[member].on_cpu[0].stack);
        stack.iter().map(|&frame| profile.address(frame)).collect()
    };
    // Of callers the byte before, which belongs to the call.
    assert_eq!(addresses(0), [Some(K + 0x10), Some(K + 0x1f), Some(0x10), Some(0x1f)]);
    assert_eq!(addresses(1), [None]);
}
