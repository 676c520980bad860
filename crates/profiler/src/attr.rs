//! `struct perf_event_attr`: what an event measures and what its records carry.
//!
//! The same bytes go to `perf_event_open(2)` and into the recording, so that a reader of the
//! recording parses records by exactly the layout that the kernel wrote them in. That is why this
//! struct is ours: `perf-event-open` keeps its attribute to itself.

/// Size of the attribute we pass: `PERF_ATTR_SIZE_VER6`, known since Linux 5.5
/// (include/uapi/linux/perf_event.h).
pub const ATTR_SIZE: usize = 120;

/// `PERF_TYPE_*` (include/uapi/linux/perf_event.h).
pub mod event_type {
    /// A generalised hardware event.
    pub const HARDWARE: u32 = 0;
    /// An event of the kernel's own: clocks, faults, switches.
    pub const SOFTWARE: u32 = 1;
    /// A tracepoint, by its id.
    pub const TRACEPOINT: u32 = 2;
    /// A generalised cache event.
    pub const HW_CACHE: u32 = 3;
    /// A PMU-specific encoding.
    pub const RAW: u32 = 4;
}

/// `PERF_SAMPLE_*`: the fields of a sample, in the order in which they are written.
pub mod sample_type {
    /// Instruction pointer.
    pub const IP: u64 = 1 << 0;
    /// Process and thread id.
    pub const TID: u64 = 1 << 1;
    /// Timestamp.
    pub const TIME: u64 = 1 << 2;
    /// Data address.
    pub const ADDR: u64 = 1 << 3;
    /// Counter values.
    pub const READ: u64 = 1 << 4;
    /// Call chain.
    pub const CALLCHAIN: u64 = 1 << 5;
    /// Event id.
    pub const ID: u64 = 1 << 6;
    /// CPU number.
    pub const CPU: u64 = 1 << 7;
    /// Events since the sample before.
    pub const PERIOD: u64 = 1 << 8;
    /// Id of the event itself rather than of its group leader.
    pub const STREAM_ID: u64 = 1 << 9;
    /// Tracepoint data.
    pub const RAW: u64 = 1 << 10;
    /// Branch records.
    pub const BRANCH_STACK: u64 = 1 << 11;
    /// User registers.
    pub const REGS_USER: u64 = 1 << 12;
    /// A slice of the user stack.
    pub const STACK_USER: u64 = 1 << 13;
    /// Event id, first in a sample and last in any other record.
    pub const IDENTIFIER: u64 = 1 << 16;
}

/// Bits of the attribute's flag word.
pub mod flag {
    /// Starts disabled.
    pub const DISABLED: u64 = 1 << 0;
    /// Children inherit it.
    pub const INHERIT: u64 = 1 << 1;
    /// Does not count user space.
    pub const EXCLUDE_USER: u64 = 1 << 4;
    /// Does not count the kernel.
    pub const EXCLUDE_KERNEL: u64 = 1 << 5;
    /// Does not count the hypervisor.
    pub const EXCLUDE_HV: u64 = 1 << 6;
    /// Does not count when idle.
    pub const EXCLUDE_IDLE: u64 = 1 << 7;
    /// Records executable mappings.
    pub const MMAP: u64 = 1 << 8;
    /// Records changes of name.
    pub const COMM: u64 = 1 << 9;
    /// The period field is a frequency in Hz.
    pub const FREQ: u64 = 1 << 10;
    /// Enabled by the next exec.
    pub const ENABLE_ON_EXEC: u64 = 1 << 12;
    /// Records forks and exits.
    pub const TASK: u64 = 1 << 13;
    /// The wake-up field is a watermark in bytes.
    pub const WATERMARK: u64 = 1 << 14;
    /// First bit of the two-bit `precise_ip`.
    pub const PRECISE_IP_SHIFT: u32 = 15;
    /// All records carry the sample id fields.
    pub const SAMPLE_ID_ALL: u64 = 1 << 18;
    /// No host: the guest alone.
    pub const EXCLUDE_HOST: u64 = 1 << 19;
    /// No guest.
    pub const EXCLUDE_GUEST: u64 = 1 << 20;
    /// No kernel half in call chains.
    pub const EXCLUDE_CALLCHAIN_KERNEL: u64 = 1 << 21;
    /// No user half in call chains.
    pub const EXCLUDE_CALLCHAIN_USER: u64 = 1 << 22;
    /// Mapping records in their second form, with protection bits.
    pub const MMAP2: u64 = 1 << 23;
    /// Marks names set by exec.
    pub const COMM_EXEC: u64 = 1 << 24;
    /// Timestamps by the clock in `clockid`.
    pub const USE_CLOCKID: u64 = 1 << 25;
    /// Records context switches.
    pub const CONTEXT_SWITCH: u64 = 1 << 26;
    /// Records code that the kernel makes at run time (since Linux 5.1).
    pub const KSYMBOL: u64 = 1 << 29;
}

/// `PERF_FORMAT_TOTAL_TIME_ENABLED` and `_RUNNING`: for how long an event could have counted, and did.
pub const FORMAT_TIMES: u64 = 1 << 0 | 1 << 1;

/// How callers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallGraph {
    /// Not at all.
    None,
    /// By the kernel, along frame pointers.
    FramePointers,
    /// By unwind information, afterwards, from registers and a slice of the stack.
    Dwarf {
        /// The most that is copied of a stack with each sample: a multiple of 8, at most
        /// [`MOST_STACK_BYTES`].
        stack_bytes: u16,
    },
}

/// Records are shorter than 64 KiB, and the kernel wants whole words
/// (kernel/events/core.c, `perf_copy_attr`, v6.18).
pub const MOST_STACK_BYTES: u16 = 65528;

/// The registers that tell a caller (arch/x86/include/uapi/asm/perf_regs.h): BP, SP, IP.
#[cfg(target_arch = "x86_64")]
const UNWIND_REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// The registers that tell a caller (arch/arm64/include/uapi/asm/perf_regs.h): X29, LR, SP, PC.
#[cfg(target_arch = "aarch64")]
const UNWIND_REGISTERS: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;
/// Nothing unwinds here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const UNWIND_REGISTERS: u64 = 0;

/// `struct perf_event_attr` up to `PERF_ATTR_SIZE_VER6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventAttr {
    /// One of [`event_type`].
    pub kind: u32,
    /// Always [`ATTR_SIZE`].
    pub size: u32,
    /// Which event of that type.
    pub config: u64,
    /// Period, or frequency in Hz with [`flag::FREQ`].
    pub period_or_frequency: u64,
    /// Bits of [`sample_type`].
    pub sample_type: u64,
    /// `PERF_FORMAT_*`.
    pub read_format: u64,
    /// Bits of [`flag`].
    pub flags: u64,
    /// Bytes in the ring that wake its reader, with [`flag::WATERMARK`].
    pub wakeup: u32,
    /// Breakpoints only.
    pub bp_type: u32,
    /// Extension of `config`.
    pub config1: u64,
    /// Extension of `config1`.
    pub config2: u64,
    /// Branch stacks only.
    pub branch_sample_type: u64,
    /// Registers to dump.
    pub sample_regs_user: u64,
    /// User stack bytes to dump.
    pub sample_stack_user: u32,
    /// Clock of the timestamps, with [`flag::USE_CLOCKID`].
    pub clockid: i32,
    /// Interrupted registers to dump.
    pub sample_regs_intr: u64,
    /// AUX area only.
    pub aux_watermark: u32,
    /// Depth limit of call chains; 0 for the kernel's own.
    pub sample_max_stack: u16,
    /// Must be zero.
    pub reserved_2: u16,
    /// AUX area only.
    pub aux_sample_size: u32,
    /// Must be zero.
    pub reserved_3: u32,
}

const _: () = assert!(size_of::<EventAttr>() == ATTR_SIZE);

/// `PERF_COUNT_SW_DUMMY` (include/uapi/linux/perf_event.h).
const SW_DUMMY: u64 = 9;

/// What has records of forks, names, mappings and ends be written.
const TRACKING: u64 =
    flag::MMAP | flag::MMAP2 | flag::KSYMBOL | flag::COMM | flag::COMM_EXEC | flag::TASK;

impl EventAttr {
    /// An event that samples nothing and records nothing yet.
    pub fn new(kind: u32, config: u64) -> Self {
        EventAttr {
            kind,
            size: ATTR_SIZE as u32,
            config,
            period_or_frequency: 0,
            sample_type: 0,
            read_format: 0,
            flags: flag::DISABLED | flag::SAMPLE_ID_ALL | flag::USE_CLOCKID,
            wakeup: 0,
            bp_type: 0,
            config1: 0,
            config2: 0,
            branch_sample_type: 0,
            sample_regs_user: 0,
            sample_stack_user: 0,
            clockid: libc::CLOCK_MONOTONIC,
            sample_regs_intr: 0,
            aux_watermark: 0,
            sample_max_stack: 0,
            reserved_2: 0,
            aux_sample_size: 0,
            reserved_3: 0,
        }
    }

    /// Without the records of forks, names, mappings and ends: the kernel writes none of them while
    /// an event is disabled (`perf_iterate_ctx` in kernel/events/core.c, v6.18).
    #[must_use]
    pub fn without_tracking(self) -> Self {
        EventAttr { flags: self.flags & !TRACKING, ..self }
    }

    /// An event that counts nothing and has those records, in the same layout.
    #[must_use]
    pub fn tracking(self) -> Self {
        let kept = flag::DISABLED
            | flag::INHERIT
            | flag::SAMPLE_ID_ALL
            | flag::USE_CLOCKID
            | flag::WATERMARK
            | flag::EXCLUDE_USER
            | flag::EXCLUDE_KERNEL
            | flag::EXCLUDE_HV;
        EventAttr {
            sample_type: SAMPLE_TYPE,
            read_format: self.read_format,
            flags: self.flags & kept | TRACKING,
            wakeup: self.wakeup,
            ..EventAttr::new(event_type::SOFTWARE, SW_DUMMY)
        }
    }

    /// The attribute as the kernel and perf.data lay it out, in native byte order.
    pub fn to_bytes(&self) -> [u8; ATTR_SIZE] {
        let mut bytes = [0; ATTR_SIZE];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.kind.to_ne_bytes());
        put(&self.size.to_ne_bytes());
        put(&self.config.to_ne_bytes());
        put(&self.period_or_frequency.to_ne_bytes());
        put(&self.sample_type.to_ne_bytes());
        put(&self.read_format.to_ne_bytes());
        put(&self.flags.to_ne_bytes());
        put(&self.wakeup.to_ne_bytes());
        put(&self.bp_type.to_ne_bytes());
        put(&self.config1.to_ne_bytes());
        put(&self.config2.to_ne_bytes());
        put(&self.branch_sample_type.to_ne_bytes());
        put(&self.sample_regs_user.to_ne_bytes());
        put(&self.sample_stack_user.to_ne_bytes());
        put(&self.clockid.to_ne_bytes());
        put(&self.sample_regs_intr.to_ne_bytes());
        put(&self.aux_watermark.to_ne_bytes());
        put(&self.sample_max_stack.to_ne_bytes());
        put(&self.reserved_2.to_ne_bytes());
        put(&self.aux_sample_size.to_ne_bytes());
        put(&self.reserved_3.to_ne_bytes());
        bytes
    }

    /// With call chains found in that way.
    pub fn with_call_graph(mut self, call_graph: CallGraph) -> Self {
        match call_graph {
            CallGraph::None => {}
            CallGraph::FramePointers => self.sample_type |= sample_type::CALLCHAIN,
            CallGraph::Dwarf { stack_bytes } => {
                self.sample_type |=
                    sample_type::CALLCHAIN | sample_type::REGS_USER | sample_type::STACK_USER;
                self.flags |= flag::EXCLUDE_CALLCHAIN_USER;
                self.sample_regs_user = UNWIND_REGISTERS;
                self.sample_stack_user = u32::from(stack_bytes);
            }
        }
        self
    }

    /// What it would be if its stacks had come unwound.
    pub fn unwound(mut self) -> Self {
        self.sample_type = without_slices(self.sample_type);
        self.flags &= !flag::EXCLUDE_CALLCHAIN_USER;
        self.sample_regs_user = 0;
        self.sample_stack_user = 0;
        self
    }

    /// Sets or clears one flag bit.
    pub fn with_flag(mut self, bit: u64, on: bool) -> Self {
        if on {
            self.flags |= bit;
        } else {
            self.flags &= !bit;
        }
        self
    }
}

/// `wakeup_watermark`: 0 is half of the ring, however small that had to be. A mark that the ring
/// never passes wakes no reader (`ring_buffer_init` in kernel/events/ring_buffer.c, v6.18).
pub(crate) const HALF_OF_RING: u32 = 0;

/// What every sample carries.
pub(crate) const SAMPLE_TYPE: u64 = sample_type::IDENTIFIER
    | sample_type::IP
    | sample_type::TID
    | sample_type::TIME
    | sample_type::CPU
    | sample_type::PERIOD;

/// `PERF_FORMAT_LOST`, since Linux 6.0: the event counts what it had no room for.
pub(crate) const FORMAT_LOST: u64 = 1 << 4;

/// A sample type without slices of stack, and without what lies behind them in a sample.
pub(crate) fn without_slices(sample_type: u64) -> u64 {
    let up_to_raw = (sample_type::RAW << 1) - 1;
    sample_type & (up_to_raw | sample_type::IDENTIFIER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_layout_of_the_c_struct() {
        let mut attr = EventAttr::new(event_type::SOFTWARE, 7);
        attr.sample_max_stack = 0x1234;
        attr.clockid = -2;
        let bytes = attr.to_bytes();
        assert_eq!(bytes[8..16], 7u64.to_ne_bytes());
        assert_eq!(bytes[40..48], attr.flags.to_ne_bytes());
        assert_eq!(bytes[92..96], (-2i32).to_ne_bytes());
        assert_eq!(bytes[108..110], 0x1234u16.to_ne_bytes());
    }
}
