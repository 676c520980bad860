//! The file that an object was mapped from, on this machine and now: the very build, or none.
//!
//! Its build id says which one that is. Where the recording has none, the file is the one with the
//! inode that was mapped, unchanged since.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::build_id::BuildId;
use super::image::{Identity, Image};
use super::object::Object;
use super::stores::{Part, Stores};

/// What became of an object's file.
#[derive(Debug)]
pub(crate) enum Place {
    /// Here it is.
    Found(Found),
    /// Another build, or another file, has its name.
    Replaced,
    /// The file of its name was written to after it was mapped.
    Changed,
    /// It was a file, and is nowhere.
    Gone,
    /// It never was a file.
    NoFile,
}

/// The file of an object.
#[derive(Debug)]
pub(crate) struct Found {
    /// What is in it.
    pub(crate) image: Image,
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// Its build id, where it has one.
    pub(crate) build_id: Option<BuildId>,
    /// The recording had no build id to compare it with.
    pub(crate) is_unchecked: bool,
}

/// Why a file is not the one.
enum Other {
    /// Nothing can be read there.
    Nothing,
    Build,
    Changed,
}

/// Looks for files.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    proc_root: PathBuf,
    stores: Stores,
    /// When the recording ended, where that is known: what was mapped was mapped before.
    until: Option<SystemTime>,
}

/// File systems note times by a clock that lags behind by a tick (`current_time` in fs/inode.c, v6.18).
const TICK: Duration = Duration::from_millis(20);

impl Finder {
    /// On this machine, for a recording that ended then.
    pub(crate) fn new(until: Option<SystemTime>) -> Self {
        Finder { proc_root: PathBuf::from("/proc"), stores: Stores::of_user(), until }
    }

    /// Where files lie by build id.
    pub(super) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Looks for the file: under its name, under its name as the process sees it (a container has
    /// a root of its own), behind the mapping as long as the process lives, and by its build id.
    pub(crate) fn find(&self, object: &Object) -> Place {
        if !object.path.starts_with(b"/") || object.is_jit() {
            return Place::NoFile;
        }
        let deleted = object.path.strip_suffix(b" (deleted)");
        let name = Path::new(OsStr::from_bytes(deleted.unwrap_or(&object.path)));
        let process = self.proc_root.join(object.pid.to_string());
        let inside = name.strip_prefix("/").unwrap_or(name);
        let mut why = Place::Gone;
        let as_we_see_it = || Image::open(name);
        let as_process_sees_it = || Image::open_below(&process.join("root"), inside);
        for (path, open) in [
            (name.to_owned(), &as_we_see_it as &dyn Fn() -> io::Result<_>),
            (process.join("root").join(inside), &as_process_sees_it),
        ] {
            match open().map_err(|_| Other::Nothing).and_then(|it| self.examine(object, it, &path))
            {
                Ok(found) => return Place::Found(found),
                Err(Other::Nothing) => {}
                Err(Other::Build) => why = Place::Replaced,
                Err(Other::Changed) => why = Place::Changed,
            }
        }
        if let Some(found) = self.behind_mapping(object, &process) {
            return Place::Found(found);
        }
        let stored = object.build_id.filter(|_| !matches!(why, Place::Changed));
        let stored = stored.map(|id| self.stores.paths(&id, Part::Program)).unwrap_or_default();
        let stored = stored.into_iter().find_map(|path| of_build(&path, object.build_id?));
        stored.map_or(why, Place::Found)
    }

    /// The file at a path, if it is the one.
    fn examine(
        &self,
        object: &Object,
        (image, file): (Image, Identity),
        path: &Path,
    ) -> Result<Found, Other> {
        let build_id = image.elf().and_then(|elf| BuildId::of(&elf));
        match object.build_id {
            Some(id) if build_id != Some(id) => return Err(Other::Build),
            // The recorder read the build id from this name in the end, when another file had it
            // than the one that had been mapped.
            Some(_) if self.was_replaced_before_the_end(object, &file) => {
                return Err(Other::Changed);
            }
            Some(_) => {}
            None if !is_same_file(object, &file) => return Err(Other::Build),
            None if self.until.is_some_and(|until| file.written > until + TICK) => {
                return Err(Other::Changed);
            }
            None => {}
        }
        let is_unchecked = object.build_id.is_none();
        Ok(Found { image, path: path.to_owned(), build_id, is_unchecked })
    }

    fn was_replaced_before_the_end(&self, object: &Object, file: &Identity) -> bool {
        let is_other = object.device == file.device && !is_same_inode(object, file);
        let is_known = object.inode != 0;
        is_known && is_other && self.until.is_some_and(|until| file.made < until)
    }

    /// `/proc/PID/map_files/START-END`, which opens the file behind a mapping whatever became of
    /// its name.
    fn behind_mapping(&self, object: &Object, process: &Path) -> Option<Found> {
        let maps = fs::read(process.join("maps")).ok()?;
        let inode_of = |line: &[u8]| -> Option<u64> {
            let field =
                line.split(|&byte| byte == b' ').filter(|field| !field.is_empty()).nth(4)?;
            std::str::from_utf8(field).ok()?.parse().ok()
        };
        let name = object.path.strip_suffix(b" (deleted)").unwrap_or(&object.path);
        let is_it = |line: &&[u8]| match object.build_id {
            Some(_) => line.windows(name.len()).any(|part| part == name),
            None => object.inode != 0 && inode_of(line) == Some(object.inode),
        };
        // One is as good as another: all are of one file, but for files that took each other's name.
        let lines = maps.split(|&byte| byte == b'\n').filter(is_it).take(MOST_MAPPINGS);
        lines.filter_map(|line| map_file(process, line)).find_map(|path| {
            let (image, _) = Image::open(&path).ok()?;
            let build_id = image.elf().and_then(|elf| BuildId::of(&elf));
            let is_it = object.build_id.is_none() || object.build_id == build_id;
            let is_unchecked = object.build_id.is_none();
            is_it.then_some(Found { image, path, build_id, is_unchecked })
        })
    }
}

/// Mappings of one name that are looked behind.
const MOST_MAPPINGS: usize = 64;

/// The path of a line of `/proc/PID/maps` in `map_files`.
pub(crate) fn map_file(process: &Path, line: &[u8]) -> Option<PathBuf> {
    let range = std::str::from_utf8(line.split(|&byte| byte == b' ').next()?).ok()?;
    // Addresses are padded with zeros in the one place and not in the other.
    let (start, end) = range.split_once('-')?;
    let plain = |address| u64::from_str_radix(address, 16).ok();
    let range = format!("{:x}-{:x}", plain(start)?, plain(end)?);
    Some(process.join("map_files").join(range))
}

/// The file at a path, if it is of that build.
pub(super) fn of_build(path: &Path, id: BuildId) -> Option<Found> {
    let (image, _) = Image::open(path).ok()?;
    let build_id = image.elf().and_then(|elf| BuildId::of(&elf));
    let path = path.to_owned();
    (build_id == Some(id)).then_some(Found { image, path, build_id, is_unchecked: false })
}

/// Overlay and btrfs show one device in a mapping and another to `stat`, an overlay another inode
/// too: devices of theirs have the major number 0.
fn is_same_file(object: &Object, file: &Identity) -> bool {
    let is_same_device = object.device == (0, 0) || object.device == file.device;
    let is_anonymous = file.device.0 == 0;
    match object.inode {
        0 => true,
        _ if is_same_device => is_same_inode(object, file),
        _ => is_anonymous,
    }
}

/// By number and generation: a file that is made after another was removed may get its number.
fn is_same_inode(object: &Object, file: &Identity) -> bool {
    let is_other =
        |generation| object.generation != 0 && object.generation != u64::from(generation);
    object.inode == file.inode && !file.generation.is_some_and(is_other)
}
