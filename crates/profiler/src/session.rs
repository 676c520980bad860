//! Attaching: opens the events on a pipeline that is held at its gate (or running), and ends with
//! a recording.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use pipeprof_runner::pipeline::Pipeline;

use crate::accounts::{Accounts, now_ns};
use crate::attr::{EventAttr, event_type, flag, sample_type};
use crate::drain::Drain;
use crate::environment::{Environment, Explanation, Operation, explain_open_error};
use crate::error::Error;
use crate::event::{Candidate, Choice, Event, candidates, choose};
use crate::perfdata::record::Synthesizer;
use crate::perfdata::write::{EventDescription, PerfDataWriter, Provenance};
use crate::profile::Scope;
use crate::recording::{Meta, Recording, RecordingDir, ThreadStart};
use crate::ring::{Ring, page_bytes};
use crate::sleepers::Sleepers;
use crate::switching::Switching;
use crate::synth;
use crate::sys::PerfSystem;
use crate::windows::{Windows, read_counts};

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The event to sample; `None` for the best that can be had.
    pub event: Option<Event>,
    /// Samples a second and CPU.
    pub frequency_hz: u64,
    /// Record call chains by frame pointer.
    pub call_chains: bool,
    /// Record context switches, which tell blocked time, with a call chain for as many
    /// switches-out a second and thread as samples.
    pub switches: bool,
    /// With `switches`, record who wakes the members too, where tracepoints can be read.
    pub wakeups: bool,
    /// The members run on these CPUs and nowhere else, so that per-CPU events are needed on no
    /// other. `None` where they may run anywhere.
    pub cpus: Option<Vec<u32>>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            event: None,
            frequency_hz: 997,
            call_chains: true,
            switches: false,
            wakeups: true,
            cpus: None,
        }
    }
}

/// Room for records of one CPU: two seconds of 997 Hz with deep call chains, several times over,
/// so that the drain thread sleeps through most runs.
pub(crate) const RING_BYTES: usize = 2 << 20;

/// What every sample carries.
pub(crate) const SAMPLE_TYPE: u64 = sample_type::IDENTIFIER
    | sample_type::IP
    | sample_type::TID
    | sample_type::TIME
    | sample_type::CPU
    | sample_type::PERIOD;

/// `PERF_FORMAT_LOST`, since Linux 6.0: the event counts what it had no room for.
pub(crate) const FORMAT_LOST: u64 = 1 << 4;

/// A running capture.
#[derive(Debug)]
pub struct Session {
    events: Arc<[OwnedFd]>,
    drain: Drain,
    windows: Option<Windows>,
    tracing_data: Option<Vec<u8>>,
    counts_lost: bool,
    dir: RecordingDir,
    meta: Meta,
}

/// An event that is open on all its targets.
pub(crate) struct Opened {
    name: String,
    attr: EventAttr,
    /// With the CPU that each is bound to.
    pub(crate) fds: Vec<(OwnedFd, i32)>,
}

pub(crate) struct Target {
    pid: i32,
    cpu: i32,
}

impl Target {
    /// The operation on this target.
    fn aim<'a>(&self, operation: &Operation<'a>) -> Operation<'a> {
        match *operation {
            Operation::Open { event, kernel, per_cpu, .. } => {
                let pid = (self.pid >= 0).then_some(self.pid);
                Operation::Open { event, kernel, per_cpu, pid }
            }
            other => other,
        }
    }
}

fn explain(candidate: &Candidate, errno: Errno) -> Explanation {
    explain_open_error(errno, &candidate.operation(), &Environment::read())
}

pub(crate) fn with_hint(what: &str, why: &Explanation) -> String {
    match &why.hint {
        Some(hint) => format!("{what}: {}; hint: {hint}", why.reason),
        None => format!("{what}: {}", why.reason),
    }
}

impl Session {
    /// Opens the events on every thread of every member and starts them. The members are to be
    /// held at their gate, or running; neither is stopped nor signalled.
    ///
    /// # Errors
    /// [`Error::NoEvent`] where the kernel refuses every way to sample, [`Error::NoTasks`] where
    /// no member is alive, and the others where descriptors, locked memory or disk run out.
    pub fn attach(
        system: &dyn PerfSystem,
        pipeline: &Pipeline,
        config: &CaptureConfig,
        dir: RecordingDir,
    ) -> Result<Session, Error> {
        let tids: Vec<i32> = pipeline.members.iter().flat_map(|m| threads(m.pid)).collect();
        let &first = tids.first().ok_or(Error::NoTasks)?;
        let cpus = config.cpus.clone().unwrap_or_else(online_cpus);
        let choice = choose(candidates(config.event.as_ref()), |candidate| {
            let pid = if candidate.scope == Scope::PerCpu { -1 } else { first };
            let cpu = cpus.first().map_or(0, |&cpu| cpu as i32);
            system.open(&candidate.attr(), pid, cpu).map(drop)
        })
        .map_err(|refused| {
            // The most modest of them says most about what is wrong.
            let last = refused.last().map(|(candidate, errno)| explain(candidate, *errno));
            last.map_or(Error::NoTasks, Error::NoEvent)
        })?;
        let mut notes = Vec::new();
        if let Some((candidate, errno)) = choice.kernel_refusal() {
            let why = explain(candidate, *errno);
            notes.push(with_hint("the kernel half is missing", &why));
        }
        let per_task = tids.len() * cpus.len();
        raise_descriptor_limit((per_task * 2 + cpus.len()) as u64);
        let mut opened = vec![open_all(
            system,
            &choice.candidate.operation(),
            recorded_attr(&choice.candidate, config),
            &targets(choice.candidate.scope, &tids, &cpus),
        )?];
        let mut by_turns = 0..0;
        let mut wakeups = Err("wake-ups were not recorded".to_owned());
        if config.switches {
            let first = opened.iter().map(|event| event.fds.len()).sum::<usize>();
            let switching = Switching::open(system, config, &tids, &cpus, &mut notes)?;
            if switching.by_turns {
                by_turns = first..first + switching.switches.fds.len();
            }
            opened.push(switching.switches);
            opened.extend(switching.own_chains);
            wakeups = switching.wakeups;
        }
        let (wakeups, tracing_data) = match wakeups {
            Ok(wakeups) => {
                opened.push(wakeups.opened);
                (Ok(wakeups.format), Some(wakeups.tracing_data))
            }
            Err(why) => (Err(why), None),
        };
        let rings = map_rings(system, &opened, &mut notes)?;
        let path = dir.path().join("perf.data");
        let descriptions = describe(system, &opened)?;
        let mut meta = meta(pipeline, config, &choice, notes);
        meta.wakeups = wakeups;
        let writer = start_file(&path, descriptions, pipeline).map_err(|source| Error::File {
            action: "writing",
            path,
            source,
        })?;
        let counts_lost = opened.iter().all(|event| event.attr.read_format & FORMAT_LOST != 0);
        let tracepoints = if meta.wakeups.is_ok() { opened.pop() } else { None };
        let tracepoints = tracepoints.into_iter().flat_map(|event| event.fds);
        let tracepoints = tracepoints.map(|(fd, _)| fd).collect();
        let events = opened.into_iter().flat_map(|event| event.fds);
        let events: Arc<[OwnedFd]> = events.map(|(fd, _)| fd).collect();
        let drain = Drain::start(rings, Arc::clone(&events), writer)?;
        for (index, event) in events.iter().enumerate() {
            if !by_turns.contains(&index) {
                system
                    .enable(event.as_fd())
                    .map_err(|errno| Error::Control { action: "starting", errno })?;
            }
        }
        meta.start_ns = now_ns();
        let windows = (!by_turns.is_empty())
            .then(|| Windows::start(Arc::clone(&events), by_turns, tracepoints))
            .transpose()?;
        for member in &pipeline.members {
            meta.threads.extend(thread_starts(member.pid));
            meta.accounts.read(member.pid, false);
        }
        Ok(Session { events, drain, windows, tracing_data, counts_lost, dir, meta })
    }

    /// To be called right before members that wait at a gate are let go: their lives begin here,
    /// and the wait at the gate is none of it.
    pub fn members_are_released(&mut self) {
        self.meta.start_ns = now_ns();
        for thread in &mut self.meta.threads {
            thread.asleep = false;
            thread.wchan = None;
        }
        for member in &self.meta.pipeline.members {
            self.meta.accounts.read(member.pid, false);
        }
    }

    /// Reads the scheduler's account of the members' threads, and of `children`: processes that
    /// began after the capture did; and where they sleep, if switches are recorded. To be called
    /// some ten times a second: a thread that ends takes its account with it.
    pub fn read_accounts(&mut self, children: &[i32]) {
        if self.meta.switches {
            let members = self.meta.pipeline.members.iter().map(|member| member.pid);
            let others: Vec<i32> = members.clone().collect();
            let children = children.iter().copied().filter(|pid| !others.contains(pid));
            self.meta.sleepers.look(members.chain(children), now_ns());
        }
        for member in &self.meta.pipeline.members {
            self.meta.accounts.read(member.pid, false);
        }
        for &pid in children {
            self.meta.accounts.read(pid, true);
        }
    }

    /// Where the recording lies, and what is known of it so far.
    pub fn so_far(&self) -> (&Path, &Meta) {
        (self.dir.path(), &self.meta)
    }

    /// Says who the members were in the end, where more came to light while they were watched.
    pub fn set_pipeline(&mut self, pipeline: Pipeline) {
        self.meta.pipeline = pipeline;
    }

    /// Stops the events and completes the recording.
    ///
    /// # Errors
    /// [`Error::DrainDied`]. A disk that filled up is no error: the recording holds what came
    /// before, and a note says so.
    pub fn finish(mut self, system: &dyn PerfSystem) -> Result<Recording, Error> {
        self.read_accounts(&[]);
        let turns = self.windows.take().map(Windows::finish).transpose()?.unwrap_or_default();
        self.meta.end_ns = now_ns();
        match turns.windows[..] {
            // On from start to end.
            [(_, until)] if turns.tracepoints_until.is_none() => self.meta.end_ns = until,
            _ => self.meta.windows = turns.windows,
        }
        self.meta.wakeups_until_ns = turns.tracepoints_until;
        for event in self.events.iter() {
            // An event whose task has exited may refuse; there is nothing left to stop then.
            let _ = system.disable(event.as_fd());
        }
        if self.counts_lost {
            let lost = self.events.iter().map(|event| read_counts(event)?[1]).sum::<Option<u64>>();
            self.meta.lost = lost.map(|lost| lost + turns.lost);
        }
        let drained = self.drain.finish()?;
        if let Some(failure) = drained.failure {
            self.meta.notes.push(format!(
                "the recording stops early: writing {} failed: {failure}",
                self.dir.path().display()
            ));
        } else if let Err(error) = drained.writer.finish(&provenance(self.tracing_data)) {
            self.meta.notes.push(format!("the recording's end could not be written: {error}"));
        }
        Ok(Recording::captured(self.dir, self.meta))
    }
}

pub(crate) fn targets(scope: Scope, tids: &[i32], cpus: &[u32]) -> Vec<Target> {
    let cpus = cpus.iter().map(|&cpu| cpu as i32);
    match scope {
        Scope::PerCpu => cpus.map(|cpu| Target { pid: -1, cpu }).collect(),
        // An inherited event can only have a ring on one CPU (kernel/events/core.c, perf_mmap,
        // v6.18), so there is one a thread and CPU, as perf has.
        Scope::PerTask => {
            tids.iter().flat_map(|&pid| cpus.clone().map(move |cpu| Target { pid, cpu })).collect()
        }
    }
}

fn recorded_attr(candidate: &Candidate, config: &CaptureConfig) -> EventAttr {
    let mut attr = candidate.attr();
    attr.period_or_frequency = config.frequency_hz;
    attr.sample_type = SAMPLE_TYPE;
    if config.call_chains {
        attr.sample_type |= sample_type::CALLCHAIN;
    }
    attr.flags |= flag::FREQ
        | flag::MMAP
        | flag::MMAP2
        | flag::COMM
        | flag::COMM_EXEC
        | flag::TASK
        | flag::WATERMARK;
    attr.wakeup = (RING_BYTES / 2) as u32;
    attr.read_format = FORMAT_LOST;
    attr.with_flag(flag::EXCLUDE_CALLCHAIN_KERNEL, !candidate.kernel)
}

/// Opens one event a target. Tasks and CPUs that have gone meanwhile are passed over.
pub(crate) fn open_all(
    system: &dyn PerfSystem,
    operation: &Operation<'_>,
    mut attr: EventAttr,
    targets: &[Target],
) -> Result<Opened, Error> {
    let mut fds = Vec::with_capacity(targets.len());
    let asked = attr.period_or_frequency;
    let staggered = attr.kind == event_type::SOFTWARE && attr.config <= 1;
    for target in targets {
        if staggered {
            attr.period_or_frequency = staggered_frequency(asked, target.cpu);
        }
        let mut result = system.open(&attr, target.pid, target.cpu);
        if matches!(result, Err(Errno::EINVAL)) && attr.read_format & FORMAT_LOST != 0 {
            attr.read_format &= !FORMAT_LOST;
            result = system.open(&attr, target.pid, target.cpu);
        }
        match result {
            Ok(fd) => fds.push((fd, target.cpu)),
            Err(Errno::ESRCH | Errno::ENODEV) => {}
            Err(errno) => {
                let env = Environment::read();
                let why = explain_open_error(errno, &target.aim(operation), &env);
                return Err(Error::Open(why));
            }
        }
    }
    if fds.is_empty() {
        return Err(Error::NoTasks);
    }
    attr.period_or_frequency = asked;
    let Operation::Open { event, .. } = operation else { return Err(Error::NoTasks) };
    Ok(Opened { name: (*event).to_owned(), attr, fds })
}

/// The frequency of a clock on one CPU, up to 2 % below what was asked.
///
/// Clocks of one frequency on two CPUs keep their distance for a whole run. The two ends of a pipe
/// depend on each other within microseconds, so each would always be sampled in the same state of
/// the other: in that of having just been interrupted, if the distance happens to be small.
fn staggered_frequency(asked: u64, cpu: i32) -> u64 {
    const STEPS: u64 = 8;
    let step = (asked / 400).max(1);
    asked.saturating_sub(cpu as u64 % STEPS * step).max(1)
}

/// The events as the file describes them.
fn describe(system: &dyn PerfSystem, opened: &[Opened]) -> Result<Vec<EventDescription>, Error> {
    opened
        .iter()
        .map(|event| {
            let ids = event.fds.iter().map(|(fd, _)| system.id(fd.as_fd()));
            let ids = ids
                .collect::<Result<_, Errno>>()
                .map_err(|errno| Error::Control { action: "asking the id of", errno })?;
            Ok(EventDescription { name: event.name.clone(), attr: event.attr, ids })
        })
        .collect()
}

/// One ring a CPU, shared by all events there; smaller ones where the allowance is small.
fn map_rings(
    system: &dyn PerfSystem,
    opened: &[Opened],
    notes: &mut Vec<String>,
) -> Result<Vec<Ring>, Error> {
    let mut owners: Vec<(i32, &OwnedFd)> = Vec::new();
    let events = || opened.iter().flat_map(|event| &event.fds);
    for (fd, cpu) in events() {
        if !owners.iter().any(|(owned, _)| owned == cpu) {
            owners.push((*cpu, fd));
        }
    }
    let mut bytes = RING_BYTES;
    let rings = loop {
        let mapped: Result<Vec<Ring>, Errno> =
            owners.iter().map(|(_, fd)| system.map(fd.as_fd(), bytes)).collect();
        match mapped {
            Ok(rings) => break rings,
            Err(Errno::EPERM | Errno::ENOMEM) if bytes > page_bytes() => bytes /= 2,
            Err(errno) => {
                let bytes = (bytes + page_bytes()) as u64;
                let env = Environment::read();
                let why = explain_open_error(errno, &Operation::MapRing { bytes }, &env);
                return Err(Error::Ring(why));
            }
        }
    };
    if bytes < RING_BYTES {
        notes.push(format!(
            "ring buffers are {} KiB a CPU instead of {} KiB, as locked memory is limited; \
             hint: sudo sysctl kernel.perf_event_mlock_kb={}",
            bytes >> 10,
            RING_BYTES >> 10,
            ((RING_BYTES + page_bytes()) * owners.len()) >> 10
        ));
    }
    for (fd, cpu) in events() {
        let owner = owners.iter().find(|(owned, _)| owned == cpu).map(|&(_, owner)| owner);
        if let Some(owner) = owner.filter(|&owner| !std::ptr::eq(owner, fd)) {
            system
                .redirect(fd.as_fd(), owner.as_fd())
                .map_err(|errno| Error::Control { action: "redirecting", errno })?;
        }
    }
    Ok(rings)
}

fn start_file(
    path: &Path,
    events: Vec<EventDescription>,
    pipeline: &Pipeline,
) -> std::io::Result<PerfDataWriter> {
    // Older than any record to come, and not 0, which perf takes for "no time".
    let time_ns = now_ns();
    let first = events.first().map(|event| (event.attr.sample_type, event.ids.first().copied()));
    let (sample_type, id) = first.unwrap_or_default();
    let mut writer = PerfDataWriter::create(File::create(path)?, events)?;
    let made = Synthesizer::new(sample_type, time_ns, id.unwrap_or(0));
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    let mut records = synth::kernel(&made, &head_of_kallsyms(), &modules);
    for member in &pipeline.members {
        records.extend(synth::process(&made, Path::new("/proc"), member.pid));
    }
    writer.file().write_all(&records)?;
    Ok(writer)
}

/// The start of the symbol table, where `_text` is; all of it is 200,000 lines.
fn head_of_kallsyms() -> String {
    use std::io::Read;
    let mut head = Vec::new();
    if let Ok(file) = File::open("/proc/kallsyms") {
        // What was read before an error is still true.
        let _ = file.take(256 << 10).read_to_end(&mut head);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn meta(pipeline: &Pipeline, config: &CaptureConfig, choice: &Choice, notes: Vec<String>) -> Meta {
    let candidate = &choice.candidate;
    let fallback = choice.fallback_from().map(|(first, errno)| explain(first, *errno).message);
    Meta {
        pipeline: pipeline.clone(),
        event: candidate.event.name.clone(),
        frequency_hz: Some(config.frequency_hz),
        fallback,
        scope: candidate.scope,
        timer_driven: candidate.event.is_timer_driven(),
        kernel_visible: candidate.kernel,
        max_stack: read_number("/proc/sys/kernel/perf_event_max_stack").unwrap_or(127),
        lost: None,
        switches: config.switches,
        windows: Vec::new(),
        wakeups_until_ns: None,
        wakeups: Err(String::new()),
        start_ns: 0,
        end_ns: 0,
        threads: Vec::new(),
        accounts: Accounts::default(),
        sleepers: Sleepers::default(),
        notes,
    }
}

fn provenance(tracing_data: Option<Vec<u8>>) -> Provenance {
    let Ok(system) = nix::sys::utsname::uname() else { return Provenance::default() };
    let online = online_cpus().len() as u32;
    Provenance {
        hostname: system.nodename().to_string_lossy().into_owned(),
        release: system.release().to_string_lossy().into_owned(),
        arch: system.machine().to_string_lossy().into_owned(),
        cpus: (online, online),
        command_line: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        tracing_data,
    }
}

/// The threads of a process; empty where it has gone.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// How the threads of a process are at this moment.
fn thread_starts(pid: i32) -> Vec<ThreadStart> {
    let start = |tid: i32| {
        let root = format!("/proc/{pid}/task/{tid}");
        let stat = fs::read_to_string(format!("{root}/stat")).ok()?;
        // The name before it may hold anything, so the state is what follows the last `)`.
        let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
        let wchan = fs::read_to_string(format!("{root}/wchan")).unwrap_or_default();
        let known = !matches!(wchan.as_str(), "" | "0");
        let wchan = (state != 'R' && known).then_some(wchan);
        Some(ThreadStart { pid, tid, asleep: state != 'R', wchan })
    };
    threads(pid).into_iter().filter_map(start).collect()
}

/// The CPUs that a process may run on, or `None` where it cannot be asked.
pub fn affinity(pid: i32) -> Option<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(pid)).ok()?;
    Some(
        (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).map(|c| c as u32).collect(),
    )
}

/// The CPUs that are online.
pub fn online_cpus() -> Vec<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = parse_cpu_list(&text);
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// A list as the kernel prints it: `0-3,8`.
fn parse_cpu_list(text: &str) -> Vec<u32> {
    text.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
        })
        .flatten()
        .collect()
}

/// Makes room for that many more descriptors, as far as the hard limit allows; where it does not,
/// opening says so.
fn raise_descriptor_limit(needed: u64) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = (needed + 256).min(hard);
        if wanted > soft {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
        }
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_neighbouring_cpus_drift_apart() {
        let on = |cpu| staggered_frequency(997, cpu);
        assert_eq!((on(0), on(1), on(8)), (997, 995, 997));
        assert!((0..64).all(|cpu| on(cpu) * 100 >= 997 * 98));
        assert_eq!(staggered_frequency(1, 5), 1);
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cpu_list("0"), [0]);
        assert!(parse_cpu_list("").is_empty());
    }
}
