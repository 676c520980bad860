//! The vDSO: code that the kernel maps into each process, and which lies in no file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::image::Image;
use crate::build_id::BuildId;

/// That of the running kernel, which every process has, ours too.
pub(crate) fn of_running_kernel() -> Option<Image> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let mut image = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    let mut memory = File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(start)).ok()?;
    memory.read_exact(&mut image).ok()?;
    Some(Image::held(image))
}

/// The build id of one.
pub(crate) fn build_id(image: &Image) -> Option<BuildId> {
    image.elf().and_then(|elf| BuildId::of(&elf))
}
