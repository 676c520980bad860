//! The regular files that a process has open, and how far it is in each.

use crate::proc_file;
use std::fs;
use std::path::PathBuf;

use super::level::flags;

/// A regular file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The number of its descriptor.
    pub fd: i32,
    /// Where it is, as the process sees it. Untrusted text.
    pub path: PathBuf,
    /// It was opened for writing only, or for both.
    pub writes: bool,
    /// How far the next read or write is from its beginning. `pread`, `pwrite` and mappings leave it
    /// where it is.
    pub position_bytes: u64,
    /// How large it is.
    pub size_bytes: u64,
}

/// Those of a process, by descriptor; none where it has gone or may not be read.
pub fn open_files(pid: i32) -> Vec<OpenFile> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let file = |entry: fs::DirEntry| -> Option<OpenFile> {
        let fd: i32 = entry.file_name().to_str()?.parse().ok()?;
        let meta = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
        let path = fs::read_link(entry.path()).ok()?;
        let info = proc_file::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let position = info.lines().find_map(|line| line.strip_prefix("pos:"))?;
        Some(OpenFile {
            fd,
            path,
            writes: flags(&info)? & libc::O_ACCMODE != libc::O_RDONLY,
            position_bytes: position.trim().parse().ok()?,
            size_bytes: meta.len(),
        })
    };
    let mut found: Vec<OpenFile> = folder.filter_map(file).collect();
    found.sort_by_key(|file| file.fd);
    found
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_tells_how_far_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        fs::write(&path, [7; 1000]).unwrap();
        let mut reader = fs::File::open(&path).unwrap();
        reader.read_exact(&mut [0; 250]).unwrap();
        let mut writer = fs::File::create(folder.path().join("out")).unwrap();
        writer.write_all(b"12345").unwrap();
        let found = open_files(std::process::id() as i32);
        let of = |name: &str| found.iter().find(|file| file.path.ends_with(name)).unwrap();
        let (read, written) = (of("data"), of("out"));
        assert_eq!((read.position_bytes, read.size_bytes, read.writes), (250, 1000, false));
        assert_eq!((written.position_bytes, written.size_bytes, written.writes), (5, 5, true));
    }
}
