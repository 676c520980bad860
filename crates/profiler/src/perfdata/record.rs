//! Records as the kernel lays them out: building the few that are synthesised, parsing the many
//! that are read.
//!
//! Parsing is ours, over byte slices, for three reasons: it has to say where a bad record lies, it
//! has to survive files from strangers without a panic, and it is the hot path of the analysis.

use std::ops::Range;

use crate::attr::sample_type;

/// `PERF_RECORD_*` (include/uapi/linux/perf_event.h; from 64 on tools/perf/util/event.h).
pub mod kind {
    /// Executable mapping, first form.
    pub const MMAP: u32 = 1;
    /// Records lost for want of room in the ring.
    pub const LOST: u32 = 2;
    /// Change of name.
    pub const COMM: u32 = 3;
    /// Thread exit.
    pub const EXIT: u32 = 4;
    /// The event went too fast and was stopped for a tick.
    pub const THROTTLE: u32 = 5;
    /// And started again.
    pub const UNTHROTTLE: u32 = 6;
    /// New thread or process.
    pub const FORK: u32 = 7;
    /// A sample.
    pub const SAMPLE: u32 = 9;
    /// Executable mapping with protection and inode.
    pub const MMAP2: u32 = 10;
    /// Samples lost, counted by the event.
    pub const LOST_SAMPLES: u32 = 13;
    /// Context switch of the task the event is attached to.
    pub const SWITCH: u32 = 14;
    /// Context switch seen per CPU, with the other task.
    pub const SWITCH_CPU_WIDE: u32 = 15;
    /// From perf itself, in a stream: an event.
    pub const HEADER_ATTR: u32 = 64;
    /// In a stream: the formats of tracepoints, as many bytes behind the record as it says.
    pub const HEADER_TRACING_DATA: u32 = 66;
    /// All rings were drained once.
    pub const FINISHED_ROUND: u32 = 68;
    /// A processor trace, as many bytes behind the record as it says.
    pub const AUXTRACE: u32 = 71;
    /// In a stream: a name or a unit of an event.
    pub const EVENT_UPDATE: u32 = 78;
    /// In a stream: what is a section after the records of a file.
    pub const HEADER_FEATURE: u32 = 80;
    /// Records within, by zstd.
    pub const COMPRESSED: u32 = 81;
    /// Likewise, with the length apart (perf 6.16 and later).
    pub const COMPRESSED2: u32 = 83;
}

/// `PERF_RECORD_MISC_*`.
pub mod misc {
    /// Mask of the CPU mode.
    pub const CPUMODE_MASK: u16 = 7;
    /// Kernel.
    pub const KERNEL: u16 = 1;
    /// User.
    pub const USER: u16 = 2;
    /// In a mapping record: mapped for data, not to execute.
    pub const MMAP_DATA: u16 = 1 << 13;
    /// In a name record: set by exec.
    pub const COMM_EXEC: u16 = 1 << 13;
    /// In a switch record: switched out.
    pub const SWITCH_OUT: u16 = 1 << 13;
    /// In a switch-out record: still runnable.
    pub const SWITCH_OUT_PREEMPT: u16 = 1 << 14;
    /// In an MMAP2 record: a build id in place of the inode.
    pub const MMAP_BUILD_ID: u16 = 1 << 14;
}

/// Markers within a call chain, as unsigned values from here up
/// (`PERF_CONTEXT_MAX` is -4095).
pub const CONTEXT_MAX: u64 = -4095i64 as u64;
/// What follows are kernel addresses.
pub const CONTEXT_KERNEL: u64 = -128i64 as u64;
/// What follows are user addresses.
pub const CONTEXT_USER: u64 = -512i64 as u64;

/// The most that one sample stands for: a quarter of an hour in nanoseconds, and more than any
/// counter counts between two. What claims more is damaged, and would spoil every sum.
const MOST_PERIOD: u64 = 1 << 40;

/// The latest time of a record, in nanoseconds: 146 years, or the clock of the day until 2116.
pub(crate) const MOST_TIME: u64 = 1 << 62;

/// Bytes of a record's header: type, misc, size.
pub const RECORD_HEADER: usize = 8;

/// One record, whole, its header parsed.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// One of [`kind`], or something this program has no use for.
    pub kind: u32,
    /// Bits of [`misc`].
    pub misc: u16,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Parses the record at the start of `bytes` and returns it with its length.
///
/// `None` where the bytes end before the record does, or its size cannot be one: the reader
/// cannot go on from there.
pub fn split_record(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let header = bytes.first_chunk::<RECORD_HEADER>()?;
    let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
    let misc = u16::from_ne_bytes([header[4], header[5]]);
    let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
    if size < RECORD_HEADER {
        return None;
    }
    let body = bytes.get(RECORD_HEADER..size)?;
    Some((Record { kind, misc, body }, size))
}

/// Reads integers from the front of a slice.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*head))
    }

    fn i32(&mut self) -> Option<i32> {
        self.u32().map(|value| value as i32)
    }

    fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*head))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// Up to the first NUL, which every string in a record has.
    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let (head, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(head)
    }
}

/// Where the fields are that all records of one event carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    sample_type: u64,
    read_format: u64,
    sample_id_all: bool,
    branch_sample_type: u64,
    regs_user: u64,
}

/// What `sample_id` fields a record carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleId {
    /// Process, -1 where unknown.
    pub pid: Option<i32>,
    /// Thread.
    pub tid: Option<i32>,
    /// In the clock of the attribute, ns.
    pub time: Option<u64>,
    /// Event id.
    pub id: Option<u64>,
    /// CPU.
    pub cpu: Option<u32>,
}

/// A sample, its call chain still in place.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Common fields.
    pub id: SampleId,
    /// Instruction pointer.
    pub ip: Option<u64>,
    /// Events since the sample before.
    pub period: Option<u64>,
    /// Call chain in 8-byte words, leaf first, with context markers; empty where not recorded.
    pub callchain: &'a [u8],
    /// Data of a tracepoint; empty where not recorded.
    pub raw: &'a [u8],
    /// The thread in user space; `None` where not recorded, and where it has no such side.
    pub user: Option<UserState<'a>>,
    /// What precedes the call chain.
    head: &'a [u8],
}

/// A thread as it was in user space, or will be when it returns there.
#[derive(Clone, Copy, Debug)]
pub struct UserState<'a> {
    /// Of 64 bits, rather than 32.
    pub is_64_bit: bool,
    mask: u64,
    values: &'a [u8],
    /// The stack from the stack pointer up, as far as it was copied.
    pub stack: &'a [u8],
}

impl UserState<'_> {
    /// A register by its number in `arch/ARCH/include/uapi/asm/perf_regs.h`, where it was recorded.
    pub fn register(&self, number: u32) -> Option<u64> {
        let bit = 1u64.checked_shl(number)?;
        if self.mask & bit == 0 {
            return None;
        }
        let index = (self.mask & (bit - 1)).count_ones() as usize;
        Cursor(self.values.get(index * 8..)?).u64()
    }
}

/// `PERF_SAMPLE_REGS_ABI_64`.
const REGS_ABI_64: u64 = 2;
/// `PERF_SAMPLE_BRANCH_HW_INDEX`: a word more before the branches.
const BRANCH_HW_INDEX: u64 = 1 << 17;
/// `PERF_SAMPLE_BRANCH_COUNTERS`: a word more for each branch.
const BRANCH_COUNTERS: u64 = 1 << 19;

impl Sample<'_> {
    /// The words of the call chain.
    pub fn chain(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.callchain.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_ne_bytes(bytes)
        })
    }
}

const READ_TOTAL_TIME_ENABLED: u64 = 1;
const READ_TOTAL_TIME_RUNNING: u64 = 2;
const READ_ID: u64 = 4;
const READ_GROUP: u64 = 8;
const READ_LOST: u64 = 16;

impl Layout {
    /// The layout of an attribute's records.
    pub fn new(sample_type: u64, read_format: u64, sample_id_all: bool) -> Self {
        Layout { sample_type, read_format, sample_id_all, branch_sample_type: 0, regs_user: 0 }
    }

    /// With those user registers, and branches of that kind.
    pub fn with_user_registers(self, regs_user: u64, branch_sample_type: u64) -> Self {
        Layout { regs_user, branch_sample_type, ..self }
    }

    /// Samples carry slices of the user stack, and the callers in them are still to be found.
    pub fn has_stack_slices(self) -> bool {
        let needed = sample_type::CALLCHAIN | sample_type::REGS_USER | sample_type::STACK_USER;
        self.sample_type & needed == needed
    }

    /// The layout of [`Layout::write_unwound`].
    pub fn unwound(self) -> Self {
        Layout { sample_type: without_slices(self.sample_type), ..self }
    }

    /// A sample's body again, with another call chain, and nothing behind its tracepoint data.
    pub fn write_unwound(self, sample: &Sample<'_>, chain: &[u64], out: &mut Vec<u8>) {
        out.extend_from_slice(sample.head);
        out.extend_from_slice(&(chain.len() as u64).to_ne_bytes());
        for word in chain {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        if self.has(sample_type::RAW) {
            out.extend_from_slice(&(sample.raw.len() as u32).to_ne_bytes());
            out.extend_from_slice(sample.raw);
        }
    }

    fn has(self, bit: u64) -> bool {
        self.sample_type & bit != 0
    }

    /// The fields of a sample up to its slice of stack.
    #[inline]
    pub fn sample<'a>(self, body: &'a [u8]) -> Option<Sample<'a>> {
        let mut at = Cursor(body);
        let mut id = SampleId::default();
        let mut ip = None;
        if self.has(sample_type::IDENTIFIER) {
            id.id = Some(at.u64()?);
        }
        if self.has(sample_type::IP) {
            ip = Some(at.u64()?);
        }
        if self.has(sample_type::TID) {
            id.pid = Some(at.i32()?);
            id.tid = Some(at.i32()?);
        }
        if self.has(sample_type::TIME) {
            id.time = Some(at.u64()?);
        }
        if self.has(sample_type::ADDR) {
            at.u64()?;
        }
        if self.has(sample_type::ID) {
            id.id = Some(at.u64()?);
        }
        if self.has(sample_type::STREAM_ID) {
            at.u64()?;
        }
        if self.has(sample_type::CPU) {
            id.cpu = Some(at.u32()?);
            at.u32()?;
        }
        let period = if self.has(sample_type::PERIOD) { Some(at.u64()?) } else { None };
        if period.is_some_and(|period| period > MOST_PERIOD) {
            return None;
        }
        if self.has(sample_type::READ) {
            self.skip_read(&mut at)?;
        }
        let head = &body[..body.len() - at.0.len()];
        let callchain = if self.has(sample_type::CALLCHAIN) {
            let words = usize::try_from(at.u64()?).ok()?;
            at.bytes(words.checked_mul(8)?)?
        } else {
            &[]
        };
        let raw = if self.has(sample_type::RAW) {
            let bytes = usize::try_from(at.u32()?).ok()?;
            at.bytes(bytes)?
        } else {
            &[]
        };
        let user = if self.has_stack_slices() { self.user(&mut at)? } else { None };
        Some(Sample { id, ip, period, callchain, raw, user, head })
    }

    /// Registers and stack; `Some(None)` where the thread has no user side.
    #[cold]
    fn user<'a>(self, at: &mut Cursor<'a>) -> Option<Option<UserState<'a>>> {
        if self.has(sample_type::BRANCH_STACK) {
            let branches = usize::try_from(at.u64()?).ok()?;
            if self.branch_sample_type & BRANCH_HW_INDEX != 0 {
                at.u64()?;
            }
            let counters = usize::from(self.branch_sample_type & BRANCH_COUNTERS != 0);
            at.bytes(branches.checked_mul(24 + 8 * counters)?)?;
        }
        let abi = at.u64()?;
        let words = if abi == 0 { 0 } else { self.regs_user.count_ones() as usize };
        let values = at.bytes(words * 8)?;
        let size = usize::try_from(at.u64()?).ok()?;
        let mut stack = at.bytes(size)?;
        if size > 0 {
            let copied = usize::try_from(at.u64()?).ok()?;
            stack = stack.get(..copied).unwrap_or(stack);
        }
        let is_64_bit = abi == REGS_ABI_64;
        let user = UserState { is_64_bit, mask: self.regs_user, values, stack };
        Some((abi != 0).then_some(user))
    }

    fn skip_read(self, at: &mut Cursor<'_>) -> Option<()> {
        let each = 1
            + usize::from(self.read_format & READ_ID != 0)
            + usize::from(self.read_format & READ_LOST != 0);
        let times = usize::from(self.read_format & READ_TOTAL_TIME_ENABLED != 0)
            + usize::from(self.read_format & READ_TOTAL_TIME_RUNNING != 0);
        let words = if self.read_format & READ_GROUP != 0 {
            let members = usize::try_from(at.u64()?).ok()?;
            members.checked_mul(each)?.checked_add(times)?
        } else {
            each + times
        };
        at.bytes(words.checked_mul(8)?).map(drop)
    }

    /// The event id of any record, without parsing the rest of it.
    pub fn event_id(self, record: &Record<'_>) -> Option<u64> {
        Cursor(record.body.get(self.event_id_at(record)?..)?).u64()
    }

    /// Where the event id of any record lies in its body.
    pub fn event_id_at(self, record: &Record<'_>) -> Option<usize> {
        let body = record.body;
        let words = |bits: u64| (self.sample_type & bits).count_ones() as usize * 8;
        if record.kind == kind::SAMPLE {
            let before = sample_type::IP | sample_type::TID | sample_type::TIME | sample_type::ADDR;
            if self.has(sample_type::IDENTIFIER) {
                Some(0)
            } else {
                self.has(sample_type::ID).then(|| words(before))
            }
        } else if !self.sample_id_all {
            None
        } else if self.has(sample_type::IDENTIFIER) {
            body.len().checked_sub(8)
        } else if self.has(sample_type::ID) {
            body.len().checked_sub(8 + words(sample_type::STREAM_ID | sample_type::CPU))
        } else {
            None
        }
    }

    /// The common fields of any record.
    pub fn sample_id(self, record: &Record<'_>) -> SampleId {
        if record.kind == kind::SAMPLE {
            return self.sample(record.body).map(|sample| sample.id).unwrap_or_default();
        }
        self.trailer(record.body).unwrap_or_default()
    }

    /// The time of any record, without parsing the rest of it.
    #[inline]
    pub fn time(self, record: &Record<'_>) -> Option<u64> {
        let range = self.time_range(record)?;
        Cursor(record.body.get(range)?).u64()
    }

    /// Where the time of a record lies in its body.
    #[inline]
    pub fn time_range(self, record: &Record<'_>) -> Option<Range<usize>> {
        if !self.has(sample_type::TIME) {
            return None;
        }
        let words = |bits: u64| (self.sample_type & bits).count_ones() as usize * 8;
        let at = if record.kind == kind::SAMPLE {
            words(sample_type::IDENTIFIER | sample_type::IP | sample_type::TID)
        } else if self.sample_id_all {
            let behind = sample_type::TIME
                | sample_type::ID
                | sample_type::STREAM_ID
                | sample_type::CPU
                | sample_type::IDENTIFIER;
            record.body.len().checked_sub(words(behind))?
        } else {
            return None;
        };
        Some(at..at + 8)
    }

    /// `struct sample_id` at the end of a record that is no sample.
    fn trailer(self, body: &[u8]) -> Option<SampleId> {
        if !self.sample_id_all {
            return None;
        }
        let fields = sample_type::TID
            | sample_type::TIME
            | sample_type::ID
            | sample_type::STREAM_ID
            | sample_type::CPU
            | sample_type::IDENTIFIER;
        let length = (self.sample_type & fields).count_ones() as usize * 8;
        let mut at = Cursor(body.get(body.len().checked_sub(length)?..)?);
        let mut id = SampleId::default();
        if self.has(sample_type::TID) {
            id.pid = Some(at.i32()?);
            id.tid = Some(at.i32()?);
        }
        if self.has(sample_type::TIME) {
            id.time = Some(at.u64()?);
        }
        if self.has(sample_type::ID) {
            id.id = Some(at.u64()?);
        }
        if self.has(sample_type::STREAM_ID) {
            at.u64()?;
        }
        if self.has(sample_type::CPU) {
            id.cpu = Some(at.u32()?);
            at.u32()?;
        }
        if self.has(sample_type::IDENTIFIER) {
            id.id = Some(at.u64()?);
        }
        Some(id)
    }
}

/// A sample type without slices of stack, and without what lies behind them in a sample.
pub(crate) fn without_slices(sample_type: u64) -> u64 {
    let up_to_raw = (sample_type::RAW << 1) - 1;
    sample_type & (up_to_raw | sample_type::IDENTIFIER)
}

/// An executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// Process; -1 for the kernel.
    pub pid: i32,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Offset in the file.
    pub file_offset: u64,
    /// Inode of the file; 0 where it is none, or is not known.
    pub inode: u64,
    /// Path, or `[vdso]`, `//anon`, `[kernel.kallsyms]_text`.
    pub path: &'a [u8],
}

/// A new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comm<'a> {
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// The name.
    pub name: &'a [u8],
    /// Set by exec, which also empties the address space.
    pub exec: bool,
}

/// A new thread or process, or the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Process.
    pub pid: i32,
    /// Its parent's.
    pub parent_pid: i32,
    /// Thread.
    pub tid: i32,
    /// The thread that made it.
    pub parent_tid: i32,
}

/// What the analysis reads from a record.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// A sample.
    Sample(Sample<'a>),
    /// An executable mapping.
    Mapping(Mapping<'a>),
    /// A new name.
    Comm(Comm<'a>),
    /// A new thread or process.
    Fork(Task),
    /// The end of a thread.
    Exit(Task),
    /// So many records lost.
    Lost(u64),
    /// The event was stopped for going too fast.
    Throttle,
    /// A thread left its CPU (`out`) or got one back.
    Switch {
        /// Left it.
        out: bool,
        /// Left it while still runnable.
        preempted: bool,
    },
    /// Nothing the analysis needs.
    Other,
}

/// Parses a record's body; `None` where it is shorter than its kind has to be.
#[inline]
pub fn parse<'a>(record: &Record<'a>, layout: Layout) -> Option<Parsed<'a>> {
    let mut at = Cursor(record.body);
    Some(match record.kind {
        kind::SAMPLE => Parsed::Sample(layout.sample(record.body)?),
        kind::MMAP | kind::MMAP2 => {
            let pid = at.i32()?;
            at.i32()?;
            let (start, length, file_offset) = (at.u64()?, at.u64()?, at.u64()?);
            let mut inode = 0;
            let mut executable = record.misc & misc::MMAP_DATA == 0;
            if record.kind == kind::MMAP2 {
                // Device, inode and generation, or a build id: 24 bytes either way.
                let identity = at.bytes(24)?;
                if record.misc & misc::MMAP_BUILD_ID == 0 {
                    inode = Cursor(&identity[8..]).u64()?;
                }
                let protection = at.u32()?;
                at.u32()?;
                executable &= protection & libc::PROT_EXEC as u32 != 0;
            }
            let path = at.string()?;
            if !executable {
                return Some(Parsed::Other);
            }
            Parsed::Mapping(Mapping { pid, start, length, file_offset, inode, path })
        }
        kind::COMM => Parsed::Comm(Comm {
            pid: at.i32()?,
            tid: at.i32()?,
            name: at.string()?,
            exec: record.misc & misc::COMM_EXEC != 0,
        }),
        kind::FORK | kind::EXIT => {
            let task = Task {
                pid: at.i32()?,
                parent_pid: at.i32()?,
                tid: at.i32()?,
                parent_tid: at.i32()?,
            };
            if record.kind == kind::FORK { Parsed::Fork(task) } else { Parsed::Exit(task) }
        }
        kind::LOST => {
            at.u64()?;
            Parsed::Lost(at.u64()?)
        }
        kind::LOST_SAMPLES => Parsed::Lost(at.u64()?),
        kind::THROTTLE => Parsed::Throttle,
        kind::SWITCH | kind::SWITCH_CPU_WIDE => Parsed::Switch {
            out: record.misc & misc::SWITCH_OUT != 0,
            preempted: record.misc & misc::SWITCH_OUT_PREEMPT != 0,
        },
        _ => Parsed::Other,
    })
}

/// Builds records for what was there before the events were, as perf does.
#[derive(Debug)]
pub struct Synthesizer {
    sample_type: u64,
    time_ns: u64,
    event_id: u64,
}

impl Synthesizer {
    /// Records of an event with this sample type and id, all at one time.
    pub fn new(sample_type: u64, time_ns: u64, event_id: u64) -> Self {
        Synthesizer { sample_type, time_ns, event_id }
    }

    /// A name; set by exec, the address space is empty after it.
    pub fn comm(&self, pid: i32, tid: i32, name: &[u8], exec: bool) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&pid.to_ne_bytes());
        body.extend_from_slice(&tid.to_ne_bytes());
        push_string(&mut body, name);
        self.finish(kind::COMM, if exec { misc::COMM_EXEC } else { 0 }, pid, tid, body)
    }

    /// A thread of a process, made by another process or by itself.
    pub fn fork(&self, parent: i32, pid: i32, tid: i32) -> Vec<u8> {
        let mut body = Vec::new();
        for id in [pid, parent, tid, parent] {
            body.extend_from_slice(&id.to_ne_bytes());
        }
        body.extend_from_slice(&self.time_ns.to_ne_bytes());
        self.finish(kind::FORK, 0, pid, tid, body)
    }

    /// An executable mapping of a process.
    pub fn mmap2(&self, mapping: &Mapping<'_>, device: (u32, u32)) -> Vec<u8> {
        let pid = mapping.pid;
        let mut body = mapping_head(mapping);
        body.extend_from_slice(&device.0.to_ne_bytes());
        body.extend_from_slice(&device.1.to_ne_bytes());
        body.extend_from_slice(&mapping.inode.to_ne_bytes());
        body.extend_from_slice(&0u64.to_ne_bytes());
        body.extend_from_slice(&((libc::PROT_READ | libc::PROT_EXEC) as u32).to_ne_bytes());
        body.extend_from_slice(&(libc::MAP_PRIVATE as u32).to_ne_bytes());
        push_string(&mut body, mapping.path);
        self.finish(kind::MMAP2, misc::USER, pid, pid, body)
    }

    /// The kernel's text or a module, as perf names it: `[kernel.kallsyms]_text`, `[ext4]`.
    pub fn kernel_mmap(&self, start: u64, length: u64, file_offset: u64, path: &[u8]) -> Vec<u8> {
        let inode = 0;
        let mapping = Mapping { pid: -1, start, length, file_offset, inode, path };
        let mut body = mapping_head(&mapping);
        push_string(&mut body, path);
        self.finish(kind::MMAP, misc::KERNEL, -1, 0, body)
    }

    fn finish(&self, kind: u32, misc: u16, pid: i32, tid: i32, mut body: Vec<u8>) -> Vec<u8> {
        let has = |bit| self.sample_type & bit != 0;
        if has(sample_type::TID) {
            body.extend_from_slice(&pid.to_ne_bytes());
            body.extend_from_slice(&tid.to_ne_bytes());
        }
        if has(sample_type::TIME) {
            body.extend_from_slice(&self.time_ns.to_ne_bytes());
        }
        if has(sample_type::CPU) {
            body.extend_from_slice(&0u64.to_ne_bytes());
        }
        if has(sample_type::IDENTIFIER) {
            body.extend_from_slice(&self.event_id.to_ne_bytes());
        }
        let size = u16::try_from(RECORD_HEADER + body.len()).unwrap_or(u16::MAX);
        let mut record = Vec::with_capacity(usize::from(size));
        record.extend_from_slice(&kind.to_ne_bytes());
        record.extend_from_slice(&misc.to_ne_bytes());
        record.extend_from_slice(&size.to_ne_bytes());
        record.extend_from_slice(&body);
        record
    }
}

fn mapping_head(mapping: &Mapping<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + mapping.path.len());
    body.extend_from_slice(&mapping.pid.to_ne_bytes());
    body.extend_from_slice(&if mapping.pid < 0 { 0 } else { mapping.pid }.to_ne_bytes());
    body.extend_from_slice(&mapping.start.to_ne_bytes());
    body.extend_from_slice(&mapping.length.to_ne_bytes());
    body.extend_from_slice(&mapping.file_offset.to_ne_bytes());
    body
}

/// A string of at most `PATH_MAX` bytes with its NUL, padded to eight as the kernel does.
fn push_string(body: &mut Vec<u8>, string: &[u8]) {
    let string = &string[..string.len().min(libc::PATH_MAX as usize)];
    body.extend_from_slice(string);
    let padded = (string.len() + 1).next_multiple_of(8);
    body.resize(body.len() + padded - string.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: u64 = sample_type::IDENTIFIER
        | sample_type::IP
        | sample_type::TID
        | sample_type::TIME
        | sample_type::CPU
        | sample_type::PERIOD
        | sample_type::CALLCHAIN;

    fn layout() -> Layout {
        Layout::new(TYPE, 0, true)
    }

    #[test]
    fn what_is_synthesised_parses_back() {
        let made = Synthesizer::new(TYPE, 77, 5);
        let mapping = Mapping {
            pid: 12,
            start: 0x1000,
            length: 0x2000,
            file_offset: 0x3000,
            inode: 99,
            path: b"/a b",
        };
        let bytes = made.mmap2(&mapping, (8, 1));
        let (record, size) = split_record(&bytes).unwrap();
        assert_eq!(size, bytes.len());
        assert!(size.is_multiple_of(8));
        assert!(matches!(parse(&record, layout()), Some(Parsed::Mapping(m)) if m == mapping));
        assert_eq!(layout().time(&record), Some(77));
        let id = layout().sample_id(&record);
        assert_eq!((id.pid, id.id), (Some(12), Some(5)));

        let bytes = made.comm(3, 4, b"name", false);
        let (record, _) = split_record(&bytes).unwrap();
        let Some(Parsed::Comm(comm)) = parse(&record, layout()) else { panic!() };
        assert_eq!((comm.pid, comm.tid, comm.name, comm.exec), (3, 4, &b"name"[..], false));
    }

    #[test]
    fn a_record_cut_anywhere_is_none_and_never_a_panic() {
        let made = Synthesizer::new(TYPE, 77, 5);
        let path = b"/usr/lib/libc.so.6";
        let mapping = Mapping { pid: 1, start: 0, length: 0, file_offset: 0, inode: 0, path };
        let whole = made.mmap2(&mapping, (0, 0));
        for cut in 0..whole.len() {
            assert!(split_record(&whole[..cut]).is_none());
            let record = Record {
                kind: kind::MMAP2,
                misc: 0,
                body: &whole[RECORD_HEADER..][..cut.saturating_sub(RECORD_HEADER)],
            };
            let _ = parse(&record, layout());
            let _ = layout().sample_id(&record);
        }
        let size_too_small = [9, 0, 0, 0, 0, 0, 7, 0];
        assert!(split_record(&size_too_small).is_none());
    }

    #[test]
    fn a_call_chain_longer_than_its_record_is_refused() {
        let mut body = vec![0u8; 48];
        body.extend_from_slice(&u64::MAX.to_ne_bytes());
        body.extend_from_slice(&[0; 64]);
        assert!(layout().sample(&body).is_none());
    }

    /// A sample with everything that may stand between its call chain and its slice of stack, and
    /// something behind it.
    fn with_slice() -> (Layout, Vec<u8>) {
        let behind = 1 << 14;
        let kinds = sample_type::RAW
            | sample_type::BRANCH_STACK
            | sample_type::REGS_USER
            | sample_type::STACK_USER;
        let layout = Layout::new(TYPE | kinds | behind, 0, true)
            .with_user_registers(1 << 6 | 1 << 8, BRANCH_HW_INDEX);
        let mut body = vec![0u8; 48];
        let mut words = |words: &[u64]| {
            words.iter().for_each(|word| body.extend_from_slice(&word.to_ne_bytes()));
        };
        words(&[2, CONTEXT_KERNEL, 0xffff_ffff_8100_0000]);
        words(&[u64::from_ne_bytes([4, 0, 0, 0, b'r', b'a', b'w', b'!'])]);
        words(&[1, 7, 0x10, 0x20, 0x30]);
        words(&[REGS_ABI_64, 0x66, 0x88]);
        words(&[24, 1, 2, 3, 16]);
        words(&[99]);
        (layout, body)
    }

    #[test]
    fn registers_and_the_copied_part_of_the_stack_are_found_behind_all_else() {
        let (layout, body) = with_slice();
        assert!(layout.has_stack_slices());
        let sample = layout.sample(&body).unwrap();
        let user = sample.user.unwrap();
        let registers = [6, 7, 8, 64].map(|number| user.register(number));
        assert_eq!(registers, [Some(0x66), None, Some(0x88), None]);
        assert_eq!((user.is_64_bit, user.stack.len(), sample.raw), (true, 16, &b"raw!"[..]));
        for cut in 0..body.len() - 8 {
            assert!(layout.sample(&body[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn a_sample_unwound_is_itself_with_another_chain_and_without_the_slice() {
        let (layout, body) = with_slice();
        let sample = layout.sample(&body).unwrap();
        let chain = [CONTEXT_KERNEL, 1, CONTEXT_USER, 2, 3];
        let mut out = Vec::new();
        layout.write_unwound(&sample, &chain, &mut out);
        assert!(!layout.unwound().has_stack_slices());
        let again = layout.unwound().sample(&out).unwrap();
        assert_eq!(again.id, sample.id);
        assert_eq!((again.period, again.raw), (sample.period, sample.raw));
        assert_eq!(again.chain().collect::<Vec<_>>(), chain);
        assert!(again.user.is_none());
    }
}
