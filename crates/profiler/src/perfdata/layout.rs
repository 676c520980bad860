//! Where the fields are in the records of an event, according to its attribute.

use std::ops::Range;

use super::cursor::Cursor;
use super::framing::{Record, kind};
use crate::attr::{sample_type, without_slices};

/// Where the fields are that all records of one event carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    sample_type: u64,
    read_format: u64,
    sample_id_all: bool,
    branch_sample_type: u64,
    regs_user: u64,
    /// Of samples that don't tell theirs.
    implied_period: u64,
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
    /// What it stands for: the events since the sample before.
    pub period: u64,
    /// Call chain in 8-byte words, leaf first, with context markers; empty where not recorded.
    pub callchain: &'a [u8],
    /// Data of a tracepoint; empty where not recorded.
    pub raw: &'a [u8],
    /// The calls that the CPU remembered, where it was asked for them; empty where not recorded.
    pub calls: Calls<'a>,
    /// The thread in user space; `None` where not recorded, and where it has no such side.
    pub user: Option<UserState<'a>>,
    /// What precedes the call chain.
    head: &'a [u8],
    /// The counters that it read: the end of `head`.
    read: &'a [u8],
}

/// The calls that led to where a sample was taken, as the CPU's last branch records hold them
/// (`perf record --call-graph lbr`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls<'a> {
    /// `struct perf_branch_entry`: from, to, flags; the latest first.
    entries: &'a [u8],
}

impl Calls<'_> {
    /// No call is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the latest call went, then where each came from, the latest first: what perf takes for
    /// the user half of the call chain (`lbr_callchain_add_lbr_ip` in tools/perf/util/machine.c,
    /// v6.1).
    pub fn addresses(&self) -> impl Iterator<Item = u64> + '_ {
        let word = |entry: &[u8], at: usize| {
            let bytes = entry.get(at..).and_then(<[u8]>::first_chunk::<8>);
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        let entries = self.entries.chunks_exact(BRANCH_ENTRY);
        let latest = entries.clone().next().map(move |entry| word(entry, 8));
        latest.into_iter().chain(entries.map(move |entry| word(entry, 0)))
    }
}

/// A thread as it was in user space, or will be when it returns there.
#[derive(Clone, Copy, Debug)]
pub struct UserState<'a> {
    /// Of 64 bits, rather than 32.
    pub is_64_bit: bool,
    mask: u64,
    values: &'a [u8],
    /// Bytes that the record has for the stack.
    room: usize,
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
/// `struct perf_branch_entry`: from, to, flags.
const BRANCH_ENTRY: usize = 24;
/// `PERF_SAMPLE_BRANCH_CALL_STACK`: returns take calls off again, so that what is left is a stack.
const BRANCH_CALL_STACK: u64 = 1 << 11;
/// `PERF_SAMPLE_BRANCH_HW_INDEX`: a word more before the branches.
const BRANCH_HW_INDEX: u64 = 1 << 17;
/// `PERF_SAMPLE_BRANCH_COUNTERS`: a word more for each branch.
const BRANCH_COUNTERS: u64 = 1 << 19;

impl Sample<'_> {
    /// The same with another period.
    pub(crate) fn standing_for(self, period: u64) -> Self {
        Sample { period, ..self }
    }

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
        Layout {
            sample_type,
            read_format,
            sample_id_all,
            branch_sample_type: 0,
            regs_user: 0,
            implied_period: 1,
        }
    }

    /// With those user registers, and branches of that kind.
    pub fn with_user_registers(self, regs_user: u64, branch_sample_type: u64) -> Self {
        Layout { regs_user, branch_sample_type, ..self }
    }

    /// Where a sample doesn't tell, it stands for that much.
    pub fn with_period(self, implied_period: u64) -> Self {
        Layout { implied_period, ..self }
    }

    /// Records tell the CPU that they were written on.
    pub fn tells_cpu(self) -> bool {
        self.has(sample_type::CPU)
    }

    /// Samples carry slices of the user stack, and the callers in them are still to be found.
    pub fn has_stack_slices(self) -> bool {
        let needed = sample_type::CALLCHAIN | sample_type::REGS_USER | sample_type::STACK_USER;
        self.sample_type & needed == needed
    }

    /// Samples carry the calls that the CPU remembered.
    pub fn has_call_stacks(self) -> bool {
        let needed = sample_type::CALLCHAIN | sample_type::BRANCH_STACK;
        self.sample_type & needed == needed && self.branch_sample_type & BRANCH_CALL_STACK != 0
    }

    /// Samples carry the values of counters, and which counters those are.
    pub(crate) fn has_readings(self) -> bool {
        self.has(sample_type::READ) && self.read_format & READ_ID != 0
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
        self.who_and_when(&mut at, &mut id)?;
        if self.has(sample_type::ADDR) {
            at.u64()?;
        }
        self.which_and_where(&mut at, &mut id)?;
        let period = if self.has(sample_type::PERIOD) { at.u64()? } else { self.implied_period };
        let read = if self.has(sample_type::READ) { self.read(&mut at)? } else { &[] };
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
        let calls = if self.has_call_stacks() {
            Calls { entries: self.branches(&mut at)? }
        } else {
            Calls::default()
        };
        let user = if self.has_stack_slices() { self.user(&mut at)? } else { None };
        Some(Sample { id, ip, period, callchain, raw, calls, user, head, read })
    }

    /// The entries of the branch stack.
    #[cold]
    fn branches<'a>(self, at: &mut Cursor<'a>) -> Option<&'a [u8]> {
        let branches = usize::try_from(at.u64()?).ok()?;
        if self.branch_sample_type & BRANCH_HW_INDEX != 0 {
            at.u64()?;
        }
        let entries = at.bytes(branches.checked_mul(BRANCH_ENTRY)?)?;
        if self.branch_sample_type & BRANCH_COUNTERS != 0 {
            at.bytes(branches.checked_mul(8)?)?;
        }
        Some(entries)
    }

    /// Registers and stack; `Some(None)` where the thread has no user side.
    #[cold]
    fn user<'a>(self, at: &mut Cursor<'a>) -> Option<Option<UserState<'a>>> {
        if self.has(sample_type::BRANCH_STACK) && !self.has_call_stacks() {
            self.branches(at)?;
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
        let user = UserState { is_64_bit, mask: self.regs_user, values, room: size, stack };
        Some((abi != 0).then_some(user))
    }

    /// `struct read_format`.
    #[cold]
    fn read<'a>(self, at: &mut Cursor<'a>) -> Option<&'a [u8]> {
        let words = if self.read_format & READ_GROUP != 0 {
            let counters = usize::try_from(Cursor(at.0).u64()?).ok()?;
            counters.checked_mul(self.words_a_counter())?.checked_add(1 + self.words_of_times())?
        } else {
            self.words_a_counter() + self.words_of_times()
        };
        at.bytes(words.checked_mul(8)?)
    }

    fn words_a_counter(self) -> usize {
        1 + (self.read_format & (READ_ID | READ_LOST)).count_ones() as usize
    }

    fn words_of_times(self) -> usize {
        let times = READ_TOTAL_TIME_ENABLED | READ_TOTAL_TIME_RUNNING;
        (self.read_format & times).count_ones() as usize
    }

    /// The counters that a sample has read: the id and the value of each. `None` where it read none,
    /// or where nothing tells which.
    pub(super) fn readings(self, sample: &Sample<'_>) -> Option<impl Iterator<Item = (u64, u64)>> {
        if !self.has_readings() || sample.read.is_empty() {
            return None;
        }
        // A group tells how many it has, then the times, then the counters; one alone has the times
        // behind its value.
        let times = self.words_of_times();
        let (skipped, between) =
            if self.read_format & READ_GROUP != 0 { (1 + times, 0) } else { (0, times) };
        let each = self.words_a_counter() + between;
        let counters = sample.read.get(skipped * 8..)?.chunks_exact(each * 8);
        Some(counters.filter_map(move |counter| {
            let id = Cursor(counter.get((1 + between) * 8..)?).u64()?;
            Some((id, Cursor(counter).u64()?))
        }))
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

    /// Where in its body a sample has room for its slice of the stack that the slice did not fill:
    /// the kernel leaves there what was in the ring before, of whomever (`perf_output_sample_ustack` in kernel/events/core.c, v6.18).
    pub fn unfilled_stack(self, body: &[u8]) -> Option<Range<usize>> {
        if !self.has_stack_slices() {
            return None;
        }
        let user = self.sample(body)?.user?;
        let start = (user.stack.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
        (user.stack.len() < user.room).then_some(start + user.stack.len()..start + user.room)
    }

    /// The process of a sample, without parsing the rest of it.
    pub fn sample_pid(self, body: &[u8]) -> Option<i32> {
        if !self.has(sample_type::TID) {
            return None;
        }
        let before = sample_type::IDENTIFIER | sample_type::IP;
        let at = (self.sample_type & before).count_ones() as usize * 8;
        Cursor(body.get(at..)?).i32()
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
        self.who_and_when(&mut at, &mut id)?;
        self.which_and_where(&mut at, &mut id)?;
        if self.has(sample_type::IDENTIFIER) {
            id.id = Some(at.u64()?);
        }
        Some(id)
    }

    /// What a sample and a trailer have in common, up to where a sample has its address.
    #[inline]
    fn who_and_when(self, at: &mut Cursor<'_>, id: &mut SampleId) -> Option<()> {
        if self.has(sample_type::TID) {
            id.pid = Some(at.i32()?);
            id.tid = Some(at.i32()?);
        }
        if self.has(sample_type::TIME) {
            id.time = Some(at.u64()?);
        }
        Some(())
    }

    /// And what follows there.
    #[inline]
    fn which_and_where(self, at: &mut Cursor<'_>, id: &mut SampleId) -> Option<()> {
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
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perfdata::record::{CONTEXT_KERNEL, CONTEXT_USER};

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
        // The third word of the stack was not copied; after it comes the word that says so.
        let unfilled = layout.unfilled_stack(&body).unwrap();
        assert_eq!(body[unfilled.clone()], 3u64.to_ne_bytes());
        assert_eq!(body[unfilled.end..][..8], 16u64.to_ne_bytes());
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
