//! Finds the file that an object was mapped from on this machine: the same build, or none.
//!
//! Its build id says which one that is. Where the recording has none, the file is the one with the
//! inode that was mapped, unchanged since.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::image::{Identity, Image};
use super::stores::{Part, Stores};
use crate::build_id::BuildId;
use crate::object_file::Object;
use crate::process::Process;

/// The result of looking for an object's file.
#[derive(Debug)]
pub(crate) enum Place {
    /// Here it is.
    Found(Found),
    /// Another build, or another file, has its name.
    Replaced,
    /// The file of its name was written to after it was mapped.
    Changed,
    /// It was a file, and is nowhere now.
    Missing,
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
    /// The same moment by the clock of its records, where that is known.
    until_ns: Option<u64>,
}

impl Finder {
    /// On this machine, for a recording that ended then.
    pub(crate) fn new(until: Option<SystemTime>) -> Self {
        let (proc_root, stores) = (PathBuf::from("/proc"), Stores::of_user());
        Finder { proc_root, stores, until, until_ns: None }
    }

    /// The end of the recording, by the clock of its records.
    pub(crate) fn until_ns(self, until_ns: Option<u64>) -> Self {
        Finder { until_ns, ..self }
    }

    /// When an object had been mapped at the latest.
    fn mapped(&self, object: &Object) -> Option<SystemTime> {
        let age = self.until_ns.filter(|_| object.mapped_ns != 0)?.checked_sub(object.mapped_ns)?;
        self.until?.checked_sub(Duration::from_nanos(age))
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
        let mut why = Place::Missing;
        let as_we_see_it = || Image::open(name);
        // Where only the name is known, it is to be the same process.
        let is_recorded = || {
            object.build_id.is_some()
                || object.inode != 0
                || Process::living(object.pid).is_some_and(|it| it.was_there(self.until))
        };
        let as_process_sees_it = || match is_recorded() {
            true => Image::open_below(&process.join("root"), inside),
            false => Err(io::ErrorKind::NotFound.into()),
        };
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
            None => {
                let mapped = self.mapped(object).or(self.until);
                if mapped.is_some_and(|mapped| file.written > mapped) {
                    return Err(Other::Changed);
                }
            }
        }
        // The very file, and what was in it when it was mapped, is as good as a build id.
        let is_certain = object.build_id.is_some()
            || object.device == file.device
                && is_same_inode(object, &file)
                && self.mapped(object).is_some();
        let is_unchecked = !is_certain;
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
        let name = object.path.strip_suffix(b" (deleted)").unwrap_or(&object.path);
        let is_candidate = |line: &&[u8]| line.windows(name.len()).any(|part| part == name);
        // All are of one file, but for files that took each other's name.
        let lines = maps.split(|&byte| byte == b'\n').filter(is_candidate).take(MOST_MAPPINGS);
        lines.filter_map(|line| map_file(process, line)).find_map(|path| {
            let opened = Image::open(&path).ok()?;
            self.examine(object, opened, &path).ok()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::sys::stat::{major, minor};

    use super::*;

    fn finder(folder: &Path, until: Option<SystemTime>) -> Finder {
        let (proc_root, stores) = (folder.join("proc"), Stores::default());
        Finder { proc_root, stores, until, until_ns: None }
    }

    fn object(path: &Path) -> Object {
        let meta = path.metadata().unwrap();
        let device = (major(meta.dev()) as u32, minor(meta.dev()) as u32);
        Object { device, inode: meta.ino(), ..Object::named(path.as_os_str().as_bytes()) }
    }

    #[test]
    fn without_a_build_id_a_file_is_known_by_its_inode_and_by_when_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "it").unwrap();
        let it = object(&path);
        let now = Some(SystemTime::now() + Duration::from_secs(1));
        let find = |object: &Object, until| finder(folder.path(), until).find(object);
        assert!(matches!(find(&it, now), Place::Found(found) if found.is_unchecked));
        let named = Object { inode: 0, ..it.clone() };
        assert!(matches!(find(&named, now), Place::Found(_)));
        let other = Object { inode: it.inode + 1, ..it.clone() };
        assert!(matches!(find(&other, now), Place::Replaced));
        let elsewhere = Object { device: (it.device.0, it.device.1 + 1), ..it.clone() };
        if it.device.0 != 0 {
            assert!(matches!(find(&elsewhere, now), Place::Replaced));
        }
        let earlier = Some(SystemTime::now() - Duration::from_secs(60));
        assert!(matches!(find(&it, earlier), Place::Changed));
        fs::remove_file(&path).unwrap();
        assert!(matches!(find(&it, now), Place::Missing));
    }

    #[test]
    fn a_file_that_was_written_to_after_it_was_mapped_is_not_what_ran() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "it").unwrap();
        // The recording ended in a minute, by a clock that then tells 100 s.
        let until = Some(SystemTime::now() + Duration::from_secs(60));
        let finder = finder(folder.path(), until).until_ns(Some(100_000_000_000));
        let mapped = |mapped_ns| Object { mapped_ns, ..object(&path) };
        let find = |mapped_ns| finder.find(&mapped(mapped_ns));
        assert!(matches!(find(30_000_000_000), Place::Changed));
        assert!(matches!(find(50_000_000_000), Place::Found(found) if !found.is_unchecked));
        assert!(matches!(find(0), Place::Found(found) if found.is_unchecked));
    }

    #[test]
    fn a_file_with_another_build_id_is_another() {
        let ours = Path::new("/proc/self/exe").canonicalize().unwrap();
        let (image, _) = Image::open(&ours).unwrap();
        let id = BuildId::of(&image.elf().unwrap());
        let find = |build_id| {
            let object = Object { inode: 0, device: (0, 0), build_id, ..object(&ours) };
            finder(Path::new("/no/such"), None).find(&object)
        };
        if id.is_some() {
            assert!(matches!(find(id), Place::Found(found) if !found.is_unchecked));
        }
        assert!(matches!(find(BuildId::new(&[7; 20])), Place::Replaced));
    }

    #[test]
    fn a_file_is_found_as_its_process_sees_it_and_behind_its_mapping() {
        let folder = tempfile::tempdir().unwrap();
        let process = folder.path().join("proc/7");
        fs::create_dir_all(process.join("root/only")).unwrap();
        fs::create_dir(process.join("map_files")).unwrap();
        let inside = process.join("root/only/inside");
        fs::write(&inside, "it").unwrap();
        let find = |object: Object| finder(folder.path(), None).find(&object);
        let seen = Object { pid: 7, path: b"/only/inside"[..].into(), ..object(&inside) };
        assert!(matches!(find(seen.clone()), Place::Found(found) if found.path == inside));

        let mapped = process.join("map_files/10-20");
        fs::rename(&inside, &mapped).unwrap();
        fs::write(process.join("maps"), "0010-0020 r-xp 0 fd:00 42   /only/inside (deleted)\n")
            .unwrap();
        let deleted = Object { path: b"/only/inside (deleted)"[..].into(), ..seen.clone() };
        assert!(matches!(find(deleted), Place::Found(found) if found.path == mapped));
        let other = Object { inode: seen.inode + 1, ..seen };
        assert!(matches!(find(other), Place::Missing));
        assert!(matches!(find(Object::named(b"[vsyscall]")), Place::NoFile));
        assert!(matches!(find(Object::named(b"//anon")), Place::NoFile));
    }
}
