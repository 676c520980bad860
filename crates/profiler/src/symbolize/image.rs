//! Opens an ELF file safely: the path may lead to anything.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::read::ZlibDecoder;
use memmap2::Mmap;
use nix::sys::stat::{major, minor};
use object::{CompressionFormat, Object as _, ObjectSection, ObjectSegment as _};
use xz2::stream::Stream;

use crate::regular_file;

/// The largest file that is looked at: a browser with debug information comes to some GB. A sparse
/// file may claim to be of any size.
const MOST_BYTES: u64 = 8 << 30;

/// Times that what is packed may grow, beside [`ROOM`]. Debug information shrinks to a fifth.
const MOST_EXPANSION: u64 = 64;

/// Bytes that any section may have, however few it is packed into.
const ROOM: u64 = 1 << 20;

/// Bytes that the decoder of xz may take for itself.
const XZ_MEMORY: u64 = 128 << 20;

/// Which file it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Major and minor number of its device.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// Of the inode, where the file system tells.
    pub(crate) generation: Option<u32>,
    /// When it was last written to. The time of the last change of its attributes would be harder
    /// to forge, but perf changes it itself, when it links files into its cache.
    pub(crate) written: SystemTime,
    /// When it was made.
    pub(crate) made: SystemTime,
}

/// The bytes of a file.
#[derive(Debug)]
pub(crate) struct Image {
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Held(Vec<u8>),
}

impl Image {
    /// Opens a regular file, which nothing else is: a FIFO would be waited for.
    ///
    /// # Errors
    /// What the kernel answers; one that is no regular file, or too large, is `Unsupported`.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Identity)> {
        Self::of(&regular_file::open(path)?)
    }

    /// Likewise, below a folder that is the root of symbolic links.
    ///
    /// # Errors
    /// As for [`Image::open`].
    pub(crate) fn open_below(root: &Path, path: &Path) -> io::Result<(Self, Identity)> {
        Self::of(&regular_file::open_below(root, path)?)
    }

    fn of(file: &File) -> io::Result<(Self, Identity)> {
        let meta = file.metadata()?;
        if meta.len() > MOST_BYTES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let time = |seconds: i64, ns: i64| {
            SystemTime::UNIX_EPOCH + Duration::new(seconds.max(0) as u64, ns.max(0) as u32)
        };
        let written = time(meta.mtime(), meta.mtime_nsec());
        let identity = Identity {
            device: (major(meta.dev()) as u32, minor(meta.dev()) as u32),
            inode: meta.ino(),
            generation: crate::sys::generation(file),
            written,
            // A file system that notes no births notes changes.
            made: meta.created().unwrap_or_else(|_| time(meta.ctime(), meta.ctime_nsec())),
        };
        Ok((Image { bytes: Bytes::Mapped(crate::sys::map_file(file)?) }, identity))
    }

    /// Of bytes that are in no file.
    pub(crate) fn held(bytes: Vec<u8>) -> Self {
        Image { bytes: Bytes::Held(bytes) }
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }

    /// As an ELF file, where it is one.
    pub(crate) fn elf(&self) -> Option<object::File<'_>> {
        object::File::parse(self.bytes()).ok()
    }
}

/// The file's own address of a byte of it.
pub(super) fn address_of(elf: &object::File<'_>, file_offset: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (start, length) = segment.file_range();
        let within = file_offset.checked_sub(start).filter(|&at| at < length)?;
        segment.address().checked_add(within)
    })
}

/// A section's bytes, unpacked. `None` if they cannot be read, or are more than a section of its
/// size can hold.
pub(super) fn section<'data>(elf: &object::File<'data>, name: &str) -> Option<Cow<'data, [u8]>> {
    let section = elf.section_by_name(name)?;
    let packed = section.compressed_data().ok()?;
    let limit = room_for(packed.data.len());
    if packed.format == CompressionFormat::None {
        return Some(Cow::Borrowed(packed.data));
    }
    if packed.uncompressed_size > limit {
        return None;
    }
    let size = usize::try_from(packed.uncompressed_size).ok()?;
    let bytes = match packed.format {
        CompressionFormat::Zlib => up_to(ZlibDecoder::new(packed.data), limit)?,
        CompressionFormat::Zstandard => {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(size).ok()?;
            zstd_safe::decompress(&mut bytes, packed.data).ok()?;
            bytes
        }
        _ => return None,
    };
    (bytes.len() == size).then_some(Cow::Owned(bytes))
}

/// The ELF file with symbols in `.gnu_debugdata` (MiniDebugInfo), packed by xz.
pub(super) fn mini_debug_info(elf: &object::File<'_>) -> Option<Image> {
    let packed = elf.section_by_name(".gnu_debugdata")?.data().ok()?;
    let stream = Stream::new_stream_decoder(XZ_MEMORY, 0).ok()?;
    let decoder = xz2::read::XzDecoder::new_stream(packed, stream);
    up_to(decoder, room_for(packed.len())).map(Image::held)
}

fn room_for(packed: usize) -> u64 {
    (packed as u64).saturating_mul(MOST_EXPANSION).saturating_add(ROOM)
}

/// All that a decoder yields, unless that is more.
fn up_to(decoder: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    decoder.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}
