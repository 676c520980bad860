//! Files with the symbols or the debug information of another: found by its build id, or by the
//! link in it, and taken only where they belong to it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::Object as _;

use super::find::{Found, of_build};
use super::image::Image;
use super::stores::{Part, Stores};
use crate::build_id::BuildId;

/// The largest file whose checksum is computed.
const MOST_CHECKED: usize = 1 << 30;

/// What was found beside an object.
#[derive(Debug, Default)]
pub(super) struct DebugFiles {
    /// Those that belong to it.
    pub(super) images: Vec<Image>,
    /// A file has the name that the object's link gives, and is of another build.
    pub(super) is_stale: bool,
}

/// The debug files of an object. `name` is its path as the recorded process saw it.
pub(super) fn of(
    object: &Found,
    elf: &object::File<'_>,
    name: &[u8],
    stores: &Stores,
) -> DebugFiles {
    let mut files = DebugFiles::default();
    if let Some(id) = object.build_id {
        let paths = stores.paths(&id, Part::Debug);
        // A program without symbols may lie there, too, which would be no gain.
        let useful = |found: &Found| found.image.bytes().len() != object.image.bytes().len();
        let found = paths.iter().filter_map(|path| of_build(path, id)).find(useful);
        files.images.extend(found.map(|found| found.image));
    }
    if let Ok(Some((link, checksum))) = elf.gnu_debuglink()
        && files.images.is_empty()
    {
        for path in linked(object, name, Path::new(OsStr::from_bytes(link)), stores) {
            let Ok((image, _)) = Image::open(&path) else { continue };
            if belongs(&image, object.build_id, checksum) {
                files.images.push(image);
                files.is_stale = false;
                break;
            }
            files.is_stale = true;
        }
    }
    files
}

/// The file that a debug file shares with others (`.gnu_debugaltlink`).
pub(super) fn supplement(elf: &object::File<'_>, beside: &Path, stores: &Stores) -> Option<Image> {
    let (path, id) = elf.gnu_debugaltlink().ok().flatten()?;
    let id = BuildId::new(id)?;
    let linked = beside.parent()?.join(Path::new(OsStr::from_bytes(path)));
    let paths = std::iter::once(linked).chain(stores.paths(&id, Part::Debug));
    paths.filter_map(|path| of_build(&path, id)).map(|found| found.image).next()
}

/// Where gdb and perf look for the file of a link: beside the object, in `.debug` there, and in the
/// folder of its folder's name below each root of debug files.
fn linked(object: &Found, name: &[u8], link: &Path, stores: &Stores) -> Vec<PathBuf> {
    let named = Path::new(OsStr::from_bytes(name));
    // What was found by way of a process is beside nothing.
    let is_by_process = object.path.starts_with("/proc");
    let real = object.path.canonicalize().ok().filter(|_| !is_by_process);
    let mut folders: Vec<PathBuf> = Vec::new();
    for path in [Some(object.path.as_path()), real.as_deref(), Some(named)].into_iter().flatten() {
        if let Some(folder) = path.parent()
            && !folders.iter().any(|known| known == folder)
        {
            folders.push(folder.to_owned());
        }
    }
    let mut paths = Vec::new();
    for folder in folders {
        paths.push(folder.join(link));
        paths.push(folder.join(".debug").join(link));
        let below = folder.strip_prefix("/").unwrap_or(&folder);
        paths.extend(stores.debug_roots().iter().map(|root| root.join(below).join(link)));
    }
    paths.retain(|path| *path != object.path);
    paths
}

/// By build id, where both have one; else by the checksum in the link.
fn belongs(image: &Image, id: Option<BuildId>, checksum: u32) -> bool {
    let Some(elf) = image.elf() else { return false };
    match (id, BuildId::of(&elf)) {
        (Some(one), Some(other)) => one == other,
        _ => image.bytes().len() <= MOST_CHECKED && crc32fast::hash(image.bytes()) == checksum,
    }
}
