//! The perf.data file: what `perf record` writes and `perf report -i` reads
//! (tools/perf/Documentation/perf.data-file-format.txt, v6.1).

pub mod build_ids;
mod cursor;
pub mod event;
mod features;
pub mod file;
mod format_error;
pub mod forms;
mod framing;
pub mod layout;
mod naming;
pub mod read;
pub(crate) mod readings;
pub mod record;
pub mod relabel;
pub mod stream;
pub mod synthesizer;
pub mod write;

/// First eight bytes of a file in native byte order.
pub const MAGIC: [u8; 8] = *b"PERFILE2";

/// Size of `struct perf_file_header`: magic, two sizes, three sections, a 256-bit feature map.
pub const HEADER_BYTES: u64 = 104;

/// Size of the header of a stream: magic and this size, as nothing can be sought back to.
pub const STREAM_HEADER_BYTES: u64 = 16;

/// Bit numbers of the feature map (tools/perf/util/header.h, v6.1).
pub mod feature {
    /// Formats of the tracepoints.
    pub const TRACING_DATA: u32 = 1;
    /// Build ids of the files that were sampled.
    pub const BUILD_ID: u32 = 2;
    /// Host name.
    pub const HOSTNAME: u32 = 3;
    /// Kernel release.
    pub const OSRELEASE: u32 = 4;
    /// Machine architecture.
    pub const ARCH: u32 = 6;
    /// CPUs available and online.
    pub const NRCPUS: u32 = 7;
    /// The recording command.
    pub const CMDLINE: u32 = 11;
    /// Names, attributes and ids of the events.
    pub const EVENT_DESC: u32 = 12;
    /// There is a processor trace.
    pub const AUXTRACE: u32 = 18;
    /// Names of the PMUs by the types of their events.
    pub const PMU_MAPPINGS: u32 = 22;
    /// The records are compressed.
    pub const COMPRESSED: u32 = 27;
}
