//! Turns a recording into a profile: one pass over the records in order of time, then one look-up
//! per distinct address.

mod outcome;
mod records;

use rustc_hash::FxHashSet;

use crate::address_space::AddressSpaces;
use crate::depths::Depths;
use crate::effect::Scale;
use crate::error::Error;
use crate::kernel_code::RecordedKernel;
use crate::losses::Losses;
use crate::members::Members;
use crate::paging::Paging;
use crate::perfdata::build_ids::BuildIds;
use crate::perfdata::read::{FormatError, PerfDataFile};
use crate::perfdata::readings::Readings;
use crate::profile::{Profile, Unwinding};
use crate::raw_stacks::RawStacks;
use crate::recording::{EventRole, Loaded, Meta, Recording};
use crate::sleep::Sleep;
use crate::symbolize::Symbolizer;
use crate::time_order::each_in_time_order;
use crate::timeline::{Spool, Timeline};
use crate::wakeups::WakeTracker;
use crate::windows::Window;

/// Turns a recording into a profile.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Format`] where it is no recording. Bad
/// records inside it are counted, not errors.
pub fn analyse(recording: &Recording, symbolizer: &mut dyn Symbolizer) -> Result<Profile, Error> {
    analyse_watched(recording, symbolizer, &mut |_| {})
}

/// How far the pass over the records has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of records that are behind.
    pub bytes: u64,
    /// Bytes of records in all.
    pub total_bytes: u64,
    /// Samples among those behind.
    pub samples: u64,
}

/// As [`analyse`], and tells every few megabytes how far it has come.
///
/// # Errors
/// Those of [`analyse`].
pub fn analyse_watched(
    recording: &Recording,
    symbolizer: &mut dyn Symbolizer,
    watch: &mut dyn FnMut(Progress),
) -> Result<Profile, Error> {
    analyse_part(recording, None, symbolizer, watch)
}

/// As [`analyse_watched`], of what happened within a part of the time alone, by the clock of the
/// records.
///
/// # Errors
/// Those of [`analyse`].
pub fn analyse_part(
    recording: &Recording,
    part: Option<Window>,
    symbolizer: &mut dyn Symbolizer,
    watch: &mut dyn FnMut(Progress),
) -> Result<Profile, Error> {
    analyse_into(recording, part, symbolizer, Observers { spool: None, watch: Some(watch) })
}

/// As [`analyse`], and keeps the samples and sleeps that the profile adds up; of a part of the time,
/// where that is asked for.
///
/// # Errors
/// Those of [`analyse`], and [`Error::File`] where the temporary folder does not hold them.
pub fn analyse_with_timeline(
    recording: &Recording,
    part: Option<Window>,
    symbolizer: &mut dyn Symbolizer,
) -> Result<(Profile, Timeline), Error> {
    let failed =
        |source| Error::File { action: "keeping samples in", path: std::env::temp_dir(), source };
    let mut spool = Spool::new().map_err(failed)?;
    let observers = Observers { spool: Some(&mut spool), watch: None };
    let profile = analyse_into(recording, part, symbolizer, observers)?;
    Ok((profile, spool.finish().map_err(failed)?))
}

fn analyse_into(
    recording: &Recording,
    part: Option<Window>,
    symbolizer: &mut dyn Symbolizer,
    observers: Observers<'_>,
) -> Result<Profile, Error> {
    let Loaded { file, bytes, unwinding } = recording.load()?;
    let paging = Paging::new(&bytes);
    let (meta, unwinding) = (&recording.meta, unwinding.as_ref());
    let records = Records { file: &file, bytes: &bytes, paging, part };
    let mut profile = analyse_records(records, meta, unwinding, symbolizer, observers);
    if part.is_some() {
        return Ok(profile);
    }
    for (member, &cpu_time_ns) in profile.members.iter_mut().zip(&recording.about.cpu_time_ns) {
        member.cpu_time_ns = member.cpu_time_ns.or(cpu_time_ns);
    }
    Ok(profile)
}

/// The receiver of the progress of the pass.
#[derive(Default)]
struct Observers<'a> {
    /// Of each sample and sleep.
    spool: Option<&'a mut Spool>,
    /// Of how far it has come.
    watch: Option<&'a mut dyn FnMut(Progress)>,
}

/// Bytes between two words on progress: some milliseconds.
const TELL_EVERY: usize = 4 << 20;

/// Turns the bytes of a perf.data file into a profile.
///
/// # Errors
/// [`FormatError`] where they are none.
pub fn analyse_bytes(
    bytes: &[u8],
    meta: &Meta,
    symbolizer: &mut dyn Symbolizer,
) -> Result<Profile, FormatError> {
    let file = PerfDataFile::parse(bytes)?;
    let unwinding = meta.unwinding.as_ref();
    let records = Records { file: &file, bytes, paging: Paging::none(), part: None };
    Ok(analyse_records(records, meta, unwinding, symbolizer, Observers::default()))
}

/// What the pass goes over.
struct Records<'a> {
    file: &'a PerfDataFile,
    bytes: &'a [u8],
    paging: Paging<'a>,
    /// Only what happens within this time counts.
    part: Option<Window>,
}

fn analyse_records(
    records: Records<'_>,
    meta: &Meta,
    unwinding: Option<&Unwinding>,
    symbolizer: &mut dyn Symbolizer,
    observers: Observers<'_>,
) -> Profile {
    let Observers { spool, mut watch } = observers;
    let Records { file, bytes, paging, part } = records;
    let mut pass = Pass::new(meta, unwinding, file);
    if let Some(part) = part {
        pass.part = Some(part);
        pass.sleep.only(part);
    }
    if spool.is_some() {
        pass.sleep.keep_sleeps();
    }
    pass.spool = spool;
    pass.build_ids = file.build_ids.clone();
    let (data_at, mut tell_at) = (bytes.as_ptr() as usize + file.data.start, TELL_EVERY);
    let passed = each_in_time_order(file, bytes, paging, |record, event| {
        pass.take(record, event, file);
        let at = (record.body.as_ptr() as usize).saturating_sub(data_at);
        if at >= tell_at {
            tell_at = at + TELL_EVERY;
            let (bytes, total_bytes) = (at as u64, file.data.len() as u64);
            if let Some(watch) = &mut watch {
                watch(Progress { bytes, total_bytes, samples: pass.samples });
            }
        }
    });
    pass.cut_short = passed.cut_short;
    pass.malformed += passed.malformed;
    pass.pass_gaps(meta.end_ns);
    pass.into_profile(symbolizer)
}

/// The most that all samples together can represent: 146 years of nanoseconds. It is impossible to
/// tell which single period is damaged (`perf record --off-cpu` has one of hours), but a sum beyond
/// this is, and with it all that follows.
const MOST_WEIGHT: u64 = 1 << 62;

/// What the pass over the records gathers.
struct Pass<'a> {
    meta: &'a Meta,
    /// How user stacks were unwound, where they were.
    unwinding: Option<&'a Unwinding>,
    /// The event that is shown.
    sampled: usize,
    /// Only what happens within this time counts.
    part: Option<Window>,
    /// What each event of the file is for.
    roles: Vec<EventRole>,
    /// It is a file of perf with switches, which has no list of the threads.
    tells_lives: bool,
    members: Members,
    spaces: AddressSpaces,
    stacks: RawStacks,
    sleep: Sleep<'a>,
    /// Threads whose switches have call chains of their own, apart from those of their CPU.
    own_chains: FxHashSet<i32>,
    /// Thread and time of the latest switch that was sampled, and the switches it stands for.
    latest_switch: Option<((i32, Option<u64>), u64)>,
    wakes: WakeTracker,
    /// Times without records of switches that are still to come, the next one last.
    gaps: Vec<Window>,
    /// The end of the latest gap. What was still recorded after its beginning, while the events
    /// were being turned off, is left out: its other half is missing.
    gap_until: u64,
    kernel: RecordedKernel,
    build_ids: BuildIds,
    /// What samples read that stand for several events.
    readings: Readings,
    samples: u64,
    /// Sum of what their periods stand for.
    weight: u64,
    scale: Scale<'a>,
    /// The times of the first and the last of them.
    span_ns: Option<(u64, u64)>,
    foreign_samples: u64,
    losses: Losses,
    throttled: u64,
    depths: Depths,
    malformed: u64,
    cut_short: bool,
    chain: Vec<u64>,
    /// Where samples and sleeps are kept one by one.
    spool: Option<&'a mut Spool>,
}
