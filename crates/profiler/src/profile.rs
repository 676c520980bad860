//! The profile: interned stacks with weights, per member, plus what limits trust in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::effect::Effect;
use pipeprof_runner::pipeline::End;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::wakeups::Wakeups;

/// Index of a [`Frame`] in [`Profile::frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(u32);

/// Index of a stack in [`Profile::stack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

impl StackId {
    /// Position in the order of interning, from 0 and dense: an index for side tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl FrameId {
    /// Position in the order of interning, from 0 and dense: an index for side tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a frame's code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Kernel text, modules and BPF included.
    Kernel,
    /// A program, a library or the vDSO.
    User,
}

/// How a frame came by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    /// A symbol that covers the address.
    Symbol,
    /// A function inlined into the next frame rootward, known from debug information.
    Inlined,
    /// No symbol covers the address: the name is that of the object, `[libc.so.6]`, or `[unknown]`.
    Unresolved,
}

/// One call site (or, for a leaf, one sampled function at one address).
///
/// Two frames of one function at different addresses are different frames, because the return
/// address says which call was made where a tail call hid the callee.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Kernel names as the kernel spells them, user names demangled. Untrusted text.
    pub name: Arc<str>,
    /// The object: `[kernel.kallsyms]`, a module as `[ext4]`, a file's path, `[vdso]`.
    pub module: Option<Arc<str>>,
    /// Kernel or user.
    pub mode: Mode,
    /// How the name was found.
    pub kind: FrameKind,
    /// Bytes from the start of the symbol to the address: for a leaf the instruction pointer, for
    /// a caller the return address. Zero where no symbol covers it.
    pub offset: u64,
}

impl Frame {
    /// No symbol covers its address.
    pub fn is_unresolved(&self) -> bool {
        self.kind == FrameKind::Unresolved
    }
}

/// Samples of one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackWeight {
    /// The stack.
    pub stack: StackId,
    /// How often it was sampled.
    pub samples: u64,
    /// Sum of the samples' periods, in [`WeightUnit`].
    pub weight: u64,
}

/// What a weight counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightUnit {
    /// Nanoseconds on a CPU (`cpu-clock`, `task-clock`).
    Nanoseconds,
    /// Occurrences of the event (`cycles`, `page-faults`, …).
    Events,
}

/// The samples of one member of the pipeline, its threads and children included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProfile {
    /// Thread-group id.
    pub pid: i32,
    /// `comm`: chosen by the process, untrusted text.
    pub comm: String,
    /// How many processes of that name it stands for; of several the pid is that of the first.
    pub processes: usize,
    /// Which end, where the pipeline is a built-in pair.
    pub end: Option<End>,
    /// The member that started it, by its index in the profile, and when, by the clock of the
    /// recording. `None` if it existed before the records, or no member started it.
    pub started_by: Option<(usize, u64)>,
    /// On-CPU samples, one entry a distinct stack, in order of first appearance.
    pub on_cpu: Vec<StackWeight>,
    /// Where its threads slept: samples of switches-out, weighted with nanoseconds asleep. Empty
    /// where context switches were not recorded.
    pub blocked: Vec<StackWeight>,
    /// The lives of its threads; `None` where context switches were not recorded.
    pub time: Option<TimeSplit>,
    /// CPU time that the scheduler charged while the pipeline ran (schedstat or task-clock), an
    /// account independent of the samples. `None` where it could not be read.
    pub cpu_time_ns: Option<u64>,
}

/// The lives of a member's threads, added up, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimeSplit {
    /// From the start of the capture, or the thread's birth, to its end, or the thread's.
    pub lifetime_ns: u64,
    /// Between switch-in and switch-out.
    pub on_cpu_ns: u64,
    /// Asleep.
    pub blocked_ns: u64,
    /// Preempted or woken, and waiting for a CPU.
    pub runnable_ns: u64,
    /// The part of `runnable_ns` after wake-ups, by the scheduler's account. `None` where that
    /// account could not be read for some thread: it is in `blocked_ns` then.
    pub wake_delay_ns: Option<u64>,
    /// Switches-out of the threads' own will.
    pub sleeps: u64,
    /// Switches-out while runnable.
    pub preemptions: u64,
}

impl TimeSplit {
    /// Both lives together.
    #[must_use]
    pub fn plus(self, other: TimeSplit) -> TimeSplit {
        TimeSplit {
            lifetime_ns: self.lifetime_ns + other.lifetime_ns,
            on_cpu_ns: self.on_cpu_ns + other.on_cpu_ns,
            blocked_ns: self.blocked_ns + other.blocked_ns,
            runnable_ns: self.runnable_ns + other.runnable_ns,
            wake_delay_ns: self.wake_delay_ns.zip(other.wake_delay_ns).map(|(a, b)| a + b),
            sleeps: self.sleeps + other.sleeps,
            preemptions: self.preemptions + other.preemptions,
        }
    }
}

impl MemberProfile {
    /// A member with nothing sampled.
    pub fn new(pid: i32, comm: String, end: Option<End>) -> Self {
        MemberProfile {
            pid,
            comm,
            processes: 1,
            end,
            started_by: None,
            on_cpu: Vec::new(),
            blocked: Vec::new(),
            time: None,
            cpu_time_ns: None,
        }
    }

    /// Samples of all stacks.
    pub fn samples(&self) -> u64 {
        self.on_cpu.iter().map(|w| w.samples).sum()
    }

    /// Weight of all stacks.
    pub fn weight(&self) -> u64 {
        self.on_cpu.iter().map(|w| w.weight).sum()
    }
}

/// Where the sampling event was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One event a CPU, records of other processes dropped afterwards.
    PerCpu,
    /// One event a thread (and CPU), inherited by what it starts.
    PerTask,
}

/// How far the user stacks of the members' samples could be unwound by the unwind information of
/// the mapped objects, those of switches-out included. Each of `stacks` ended for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwinding {
    /// Stacks that were unwound.
    pub stacks: u64,
    /// Reached their root: `_start`, the start of a thread.
    pub rooted: u64,
    /// Went on beyond the slice of stack that was recorded with the sample.
    pub short: u64,
    /// Came to code that no unwind information covers.
    pub uninformed: u64,
    /// Came to a return address that lies in no executable mapping, or to a stack pointer that
    /// moves the wrong way.
    pub astray: u64,
    /// Deeper than what is unwound, some thousand frames.
    pub deep: u64,
    /// Not counted above: nothing of the stack could be copied, as it was paged out, or its program
    /// was being replaced.
    pub stackless: u64,
    /// The objects that most of `uninformed` came to, with how many did. Untrusted text.
    pub uninformed_in: Vec<(String, u64)>,
}

/// What limits trust in the numbers. Every output carries it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// The sampled event, in perf's spelling: `cycles`, `cpu-clock`.
    pub event: String,
    /// Why a better event was not used: what was tried first, and the kernel's answer.
    pub fallback: Option<String>,
    /// Asked frequency, or the one used most; `None` for a fixed period.
    pub frequency_hz: Option<u64>,
    /// The lowest and the highest frequency, where it changed.
    pub frequency_range_hz: Option<(u64, u64)>,
    /// How much sampling slowed the pipeline; `None` if it was not measured.
    pub sampling_effect: Option<Effect>,
    /// Where it was attached.
    pub scope: Scope,
    /// What a weight counts.
    pub unit: WeightUnit,
    /// Samples come from a timer that cannot fire while interrupts are off (cpu-clock): code that
    /// runs so is charged to whatever turns them on again.
    pub timer_driven: bool,
    /// Whatever takes the samples waits while interrupts are off, as a timer does, and as the PMU of
    /// arm64 does without pseudo-NMIs.
    pub interrupts_wait: bool,
    /// The event measured kernel code as well as user code.
    pub kernel_visible: bool,
    /// Samples that ended in a member's profile.
    pub samples: u64,
    /// Samples of processes outside the pipeline, counted and dropped.
    pub foreign_samples: u64,
    /// Records that the kernel had no room for: the sum of `PERF_RECORD_LOST` and
    /// `PERF_RECORD_LOST_SAMPLES`.
    pub lost: u64,
    /// `PERF_RECORD_THROTTLE` records: times the kernel stopped the event for going too fast.
    pub throttled: u64,
    /// Frames, over all samples, that no symbol covers.
    pub unresolved_frames: u64,
    /// Frames over all samples.
    pub frames: u64,
    /// Samples whose call chain reached the kernel's depth limit.
    pub truncated_stacks: u64,
    /// Samples whose user half was cut where a frame lay in no executable mapping: what a
    /// frame-pointer walk yields in code built without frame pointers.
    pub cut_user_stacks: u64,
    /// How user stacks were unwound from slices of them; `None` where the kernel walked them by
    /// frame pointer.
    pub unwinding: Option<Unwinding>,
    /// Records that could not be parsed and were passed over.
    pub malformed_records: u64,
    /// The recording ends before its last record did.
    pub cut_short: bool,
    /// Sentences for a person on anything else that limits the numbers (a ring made smaller, names
    /// that the kernel hides), each with its fix.
    pub notes: Vec<String>,
}

/// What is said for the sampled event where the kernel refused every event.
pub const NO_EVENT: &str = "none";

impl Quality {
    /// There was an event to sample, whether or not it ever did.
    pub fn has_event(&self) -> bool {
        self.event != NO_EVENT
    }

    /// A share of the samples is that share of CPU time: both halves, user and kernel, were
    /// sampled, by a clock or by cycles.
    pub fn shares_are_of_cpu_time(&self) -> bool {
        self.kernel_visible && self.samples_cpu_time()
    }

    /// The event was a clock or cycles, at least in user mode.
    pub fn samples_cpu_time(&self) -> bool {
        // As perf spells it, with modifiers or a PMU: `cycles:P`, `cpu_core/cycles/`.
        let mut words = self.event.split([':', '/']);
        let is_cycles = |word| matches!(word, "cycles" | "cpu-cycles" | "ref-cycles");
        self.unit == WeightUnit::Nanoseconds || words.any(is_cycles)
    }
}

/// Interned stacks with weights, per member.
#[derive(Clone, Debug)]
pub struct Profile {
    frames: Vec<Frame>,
    frame_ids: FxHashMap<Frame, FrameId>,
    /// By frame; `None` where it has no address of its own.
    addresses: Vec<Option<u64>>,
    /// By caller's frame in the kernel.
    callees: FxHashMap<FrameId, Arc<str>>,
    stacks: Vec<Box<[FrameId]>>,
    stack_ids: FxHashMap<Box<[FrameId]>, StackId>,
    /// In pipeline order.
    pub members: Vec<MemberProfile>,
    /// The builds that were running, in hexadecimal, by [`Frame::module`], where they are known.
    pub build_ids: BTreeMap<Arc<str>, String>,
    /// Who woke the members, and how long they then waited for a CPU.
    pub wakeups: Wakeups,
    /// When the first and the last sample of a member were taken, in the clock of the recording,
    /// ns. `None` without samples.
    pub span_ns: Option<(u64, u64)>,
    /// What limits trust in the numbers.
    pub quality: Quality,
}

impl Profile {
    /// A profile with no stacks yet.
    pub fn new(quality: Quality) -> Self {
        Profile {
            frames: Vec::new(),
            frame_ids: FxHashMap::default(),
            addresses: Vec::new(),
            callees: FxHashMap::default(),
            build_ids: BTreeMap::new(),
            stacks: Vec::new(),
            stack_ids: FxHashMap::default(),
            members: Vec::new(),
            wakeups: Wakeups::Unknown { why: "wake-ups were not recorded".to_owned() },
            span_ns: None,
            quality,
        }
    }

    /// The id of a frame, new or known.
    pub fn intern_frame(&mut self, frame: Frame) -> FrameId {
        if let Some(&id) = self.frame_ids.get(&frame) {
            return id;
        }
        let id = FrameId(self.frames.len() as u32);
        self.frames.push(frame.clone());
        self.addresses.push(None);
        self.frame_ids.insert(frame, id);
        id
    }

    /// The id of a stack, leaf first, new or known.
    pub fn intern_stack(&mut self, frames: &[FrameId]) -> StackId {
        if let Some(&id) = self.stack_ids.get(frames) {
            return id;
        }
        let id = StackId(self.stacks.len() as u32);
        self.stacks.push(frames.into());
        self.stack_ids.insert(frames.into(), id);
        id
    }

    /// Notes where a frame is: the first address is kept.
    pub fn set_address(&mut self, id: FrameId, address: u64) {
        self.addresses[id.index()].get_or_insert(address);
    }

    /// Where a frame is: a kernel address, or an offset in the file of its module (where code was
    /// made at run time, a user address); of a caller, within the call. `None` where it is not one
    /// place: what no symbol covers is one frame a module.
    pub fn address(&self, id: FrameId) -> Option<u64> {
        let resolved = !self.frame(id).is_unresolved();
        self.addresses[id.index()].filter(|_| resolved)
    }

    /// Notes which function the call goes to that a caller's frame stands behind.
    pub fn set_callee(&mut self, id: FrameId, name: Arc<str>) {
        self.callees.insert(id, name);
    }

    /// The function that a frame of the kernel calls there, where the kernel's code tells. It need
    /// not be the next frame leafward: what that function calls in its place last has its frame.
    pub fn callee(&self, id: FrameId) -> Option<&str> {
        self.callees.get(&id).map(AsRef::as_ref)
    }

    /// A frame by its id.
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.index()]
    }

    /// The frames of a stack, leaf first.
    pub fn stack(&self, id: StackId) -> &[FrameId] {
        &self.stacks[id.index()]
    }

    /// All frames, in the order of their ids.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The ids of all frames, in order.
    pub fn frame_ids(&self) -> impl ExactSizeIterator<Item = FrameId> + use<> {
        (0..self.frames.len() as u32).map(FrameId)
    }

    /// The ids of all stacks, in order.
    pub fn stack_ids(&self) -> impl ExactSizeIterator<Item = StackId> + use<> {
        (0..self.stacks.len() as u32).map(StackId)
    }

    /// The frames of a stack with their records, leaf first.
    pub fn stack_frames(&self, id: StackId) -> impl DoubleEndedIterator<Item = &Frame> + Clone {
        self.stack(id).iter().map(|&frame| self.frame(frame))
    }
}
