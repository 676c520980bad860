//! The sequence of records in a file, each a header and a body.

use super::format_error::word;

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
    /// Code that the kernel made at run time, or gave up.
    pub const KSYMBOL: u32 = 17;
    /// From perf itself, in a stream: an event.
    pub const HEADER_ATTR: u32 = 64;
    /// In a stream: the formats of tracepoints, as many bytes behind the record as it says.
    pub const HEADER_TRACING_DATA: u32 = 66;
    /// The build id of a file, as the section of build ids has it.
    pub const HEADER_BUILD_ID: u32 = 67;
    /// All rings were drained once.
    pub const FINISHED_ROUND: u32 = 68;
    /// A processor trace, as many bytes behind the record as it says.
    pub const AUXTRACE: u32 = 71;
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
    /// In a record of lost samples: a BPF program left them out (perf 6.2 and later).
    pub const LOST_SAMPLES_BPF: u16 = 1 << 15;
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

/// Records packed by zstd.
pub(super) fn is_compressed(kind: u32) -> bool {
    matches!(kind, kind::COMPRESSED | kind::COMPRESSED2)
}

/// Whole records, one after the other, with the offset of each. What perf puts behind some of its
/// own is passed over.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// The records in these bytes.
    pub fn new(data: &'a [u8]) -> Self {
        Records { data, at: 0 }
    }

    /// Where the record after the latest begins, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes are left that are no whole record.
    pub fn is_cut_short(&self) -> bool {
        self.at < self.data.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (usize, Record<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let (record, size) = split_record(self.data.get(at..)?)?;
        let behind = match record.kind {
            kind::AUXTRACE => word(record.body, 0).ok()?,
            kind::HEADER_TRACING_DATA => {
                let bytes = record.body.first_chunk::<4>()?;
                u64::from(u32::from_ne_bytes(*bytes)).next_multiple_of(8)
            }
            _ => 0,
        };
        let next = (at + size).checked_add(usize::try_from(behind).ok()?)?;
        if next > self.data.len() {
            return None;
        }
        self.at = next;
        Some((at, record))
    }
}
