//! What a process has read and written, and what it is doing now, according to `/proc`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::PathBuf;

use object::{Object as _, ObjectSymbol};
use pipeprof_runner::pipeline::{Link, Pipe};
use rustc_hash::{FxHashMap, FxHashSet};

use super::estimate::START_UP_BYTES;

/// `/proc/PID/io`: what went through read and write calls, over all descriptors of a process and
/// of the children it has waited for. `splice`, `vmsplice` and `tee` count nowhere (measured on
/// 6.18; fs/splice.c never calls `add_rchar`, v6.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Bytes returned by reads.
    pub read_bytes: u64,
    /// Bytes taken by writes.
    pub written_bytes: u64,
    /// Read calls.
    pub reads: u64,
    /// Write calls.
    pub writes: u64,
}

impl IoCounts {
    /// What was counted after `earlier`.
    pub fn since(self, earlier: IoCounts) -> IoCounts {
        IoCounts {
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            reads: self.reads.saturating_sub(earlier.reads),
            writes: self.writes.saturating_sub(earlier.writes),
        }
    }

    /// Both together.
    pub fn plus(self, other: IoCounts) -> IoCounts {
        IoCounts {
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            reads: self.reads.saturating_add(other.reads),
            writes: self.writes.saturating_add(other.writes),
        }
    }

    /// The larger of each.
    pub fn most(self, other: IoCounts) -> IoCounts {
        IoCounts {
            read_bytes: self.read_bytes.max(other.read_bytes),
            written_bytes: self.written_bytes.max(other.written_bytes),
            reads: self.reads.max(other.reads),
            writes: self.writes.max(other.writes),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(": ")?.trim().parse().ok()
        };
        Some(IoCounts {
            read_bytes: field("rchar")?,
            written_bytes: field("wchar")?,
            reads: field("syscr")?,
            writes: field("syscw")?,
        })
    }
}

/// What else a process reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// It reads something that is no pipe end, or may do so unseen.
    pub reads: bool,
    /// It writes something that is no pipe end, or may do so unseen.
    pub writes: bool,
}

/// The sockets that are links of a pipeline, by inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSockets {
    read: FxHashSet<u64>,
    written: FxHashSet<u64>,
}

impl LinkSockets {
    /// Those among these links.
    pub fn of(links: &[Pipe]) -> Self {
        let mut sockets = LinkSockets::default();
        for link in links {
            if let Link::Unix { sender } = link.link {
                sockets.read.insert(link.inode);
                sockets.written.insert(sender);
            }
        }
        sockets
    }
}

/// Keeps the files of one process open, so that a look costs a few microseconds.
#[derive(Debug)]
pub struct IoWatch {
    pid: i32,
    io: File,
    syscall: Option<File>,
    /// The regular files that it had open at the latest look, and where it was in them.
    files: Option<FxHashMap<u32, (PathBuf, u64)>>,
}

impl IoWatch {
    /// Opens the files of a process.
    ///
    /// # Errors
    /// ENOENT where it has gone, EACCES where it may not be traced.
    pub fn open(pid: i32) -> io::Result<Self> {
        let io = File::open(format!("/proc/{pid}/io"))?;
        let syscall = File::open(format!("/proc/{pid}/syscall")).ok();
        Ok(IoWatch { pid, io, syscall, files: None })
    }

    /// The counts now; `None` once the process has gone.
    pub fn counts(&self) -> Option<IoCounts> {
        let mut buffer = [0; 512];
        IoCounts::parse(read_at_start(&self.io, &mut buffer)?)
    }

    /// Whether the process sleeps in a call that splices at this moment.
    pub fn is_splicing(&self) -> bool {
        let mut buffer = [0; 256];
        let text = self.syscall.as_ref().and_then(|file| read_at_start(file, &mut buffer));
        let number = text.and_then(call);
        matches!(number, Some(libc::SYS_splice | libc::SYS_vmsplice | libc::SYS_tee))
    }

    /// How many pipes it can read, and write, leaving out where complaints go (descriptor 2).
    pub fn pipes(&self) -> (usize, usize) {
        let root = format!("/proc/{}", self.pid);
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(format!("{root}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let name = entry.file_name();
            let fd = name.to_string_lossy();
            if fd == "2" || !target.to_string_lossy().starts_with("pipe:[") {
                continue;
            }
            let info = std::fs::read_to_string(format!("{root}/fdinfo/{fd}")).unwrap_or_default();
            let access = access_mode(&info);
            if access != Some(libc::O_WRONLY) && !read.contains(&target) {
                read.push(target.clone());
            }
            if access != Some(libc::O_RDONLY) && !written.contains(&target) {
                written.push(target);
            }
        }
        (read.len(), written.len())
    }

    /// The program that it runs, as a name that changes with it.
    pub(super) fn program(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// What else counts into the same sums, looked up in its descriptors now. `from_birth` says
    /// that all its reading and writing is counted, and not only what follows the first look.
    ///
    /// A regular file counts once its position has moved, or when it was opened between two looks
    /// and read farther than a library's headers: one that is merely inherited is nobody's. (What
    /// `pread` takes from a file that was open before the first look moves nothing and goes unseen.)
    /// A socket or device has no position, and counts if it is open, but for `links`. Left out is what
    /// sees no data to speak of: terminals and `/dev/null` as standard descriptors, and those used
    /// against their direction (stdin is written by nobody, stderr carries complaints).
    pub fn elsewhere(&mut self, from_birth: bool, links: &LinkSockets) -> Elsewhere {
        let root = format!("/proc/{}", self.pid);
        let mut found = Elsewhere::default();
        let mut files = FxHashMap::default();
        let Ok(descriptors) = std::fs::read_dir(format!("{root}/fd")) else { return found };
        for entry in descriptors.flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let name = target.to_string_lossy();
            let fd = entry.file_name();
            let Some(fd) = fd.to_str().and_then(|fd| fd.parse::<u32>().ok()) else { continue };
            let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
            let is_sink = begins(&SINKS);
            if begins(&QUIET) || is_sink && (fd <= 2 || fd == TERMINAL_OF_BASH) {
                continue;
            }
            let kind = std::fs::metadata(entry.path()).map(|metadata| metadata.file_type()).ok();
            if kind.is_some_and(|kind| kind.is_fifo() || kind.is_dir()) {
                continue;
            }
            let info = std::fs::read_to_string(format!("{root}/fdinfo/{fd}")).unwrap_or_default();
            let Some(access) = access_mode(&info) else { continue };
            if kind.is_some_and(|kind| kind.is_file())
                && let Some(now) = position(&info)
            {
                let before = self.files.as_ref().map(|files| files.get(&fd));
                files.insert(fd, (target.clone(), now));
                let used = match before {
                    Some(Some((file, position))) => *file != target || *position != now,
                    // The libraries of a program that is starting are seen with their headers read.
                    Some(None) => now > START_UP_BYTES,
                    None => from_birth && now > START_UP_BYTES,
                };
                if !used {
                    continue;
                }
            }
            let socket = socket_inode(&name);
            let is_link = |of: &FxHashSet<u64>| socket.is_some_and(|inode| of.contains(&inode));
            found.reads |=
                !is_sink && fd != 1 && fd != 2 && access != libc::O_WRONLY && !is_link(&links.read);
            found.writes |=
                fd != 0 && fd != 2 && access != libc::O_RDONLY && !is_link(&links.written);
        }
        self.files = Some(files);
        found
    }
}

/// Starts of the names of descriptors that see no data to speak of, or are counted by themselves.
const QUIET: [&str; 2] = ["pipe:[", "anon_inode:"];

/// Likewise, unless a program opened it to write to: `tee /dev/null`, `tee /dev/tty`.
const SINKS: [&str; 4] = ["/dev/null", "/dev/pts/", "/dev/tty", "/dev/console"];

/// The descriptor at which bash keeps its terminal.
const TERMINAL_OF_BASH: u32 = 255;

/// Whether the program of a process can splice: it takes such a call from a library, or, linked
/// statically, has the name of one among its strings. A program that makes the call by its number is
/// missed here, and caught by [`IoWatch::is_splicing`] if it ever sleeps in it.
pub fn can_splice(pid: i32) -> bool {
    let Ok(program) = File::open(format!("/proc/{pid}/exe")) else { return false };
    let Ok(image) = crate::sys::map_file(&program) else { return false };
    has_splice(&image)
}

fn has_splice(image: &[u8]) -> bool {
    let mut has_imports = false;
    if let Ok(file) = object::File::parse(image) {
        let imported = file.dynamic_symbols().filter(ObjectSymbol::is_undefined);
        let names = imported.filter_map(|symbol| symbol.name_bytes().ok());
        for name in names.filter(|name| !name.is_empty()) {
            if SPLICING.contains(&name) {
                return true;
            }
            has_imports = true;
        }
    }
    // An interpreter may have a `splice` of its own language among its strings, as perl does.
    let has_string = |name: &&[u8]| {
        let string = [b"\0", *name, b"\0"].concat();
        memchr::memmem::find(image, &string).is_some()
    };
    !has_imports && SPLICING.iter().any(has_string)
}

/// The calls that `/proc/PID/io` does not count.
const SPLICING: [&[u8]; 3] = [b"splice", b"vmsplice", b"tee"];

/// `socket:[4711]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `flags:\t0100001` in fdinfo, octal.
fn access_mode(info: &str) -> Option<i32> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
    Some(i32::from_str_radix(flags, 8).ok()? & libc::O_ACCMODE)
}

/// `pos:\t4096` in fdinfo.
fn position(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
}

/// `275 0x0 0x0 0x5 …`: the number of the call a process sleeps in. `running` and `-1 …` (not in a
/// call) are none.
fn call(text: &str) -> Option<i64> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|&number| number >= 0)
}

fn read_at_start<'b>(file: &File, buffer: &'b mut [u8]) -> Option<&'b str> {
    let length = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let text = "rchar: 10\nwchar: 20\nsyscr: 1\nsyscw: 2\nread_bytes: 0\n";
        let counts = IoCounts { read_bytes: 10, written_bytes: 20, reads: 1, writes: 2 };
        assert_eq!(IoCounts::parse(text), Some(counts));
        assert_eq!(IoCounts::parse("rchar: 10\n"), None);
        assert_eq!(call("1 0x1 0x7f00 0x10000 0x7ffd 0x7f12"), Some(1));
        assert_eq!(access_mode("pos:\t0\nflags:\t0100001\n"), Some(libc::O_WRONLY));
        assert_eq!(call("running\n"), None);
        assert_eq!(call("-1 0x7ffd 0x7f12"), None);
    }

    #[test]
    fn a_file_that_is_merely_open_is_not_read() {
        use std::io::Read;
        use std::process::{Command, Stdio};
        use std::time::{Duration, Instant};

        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        let mut ours = file.try_clone().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("60").stdin(file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = sleep.spawn().unwrap();
        let mut watch = IoWatch::open(child.id() as i32).unwrap();
        // Until then the dynamic linker reads libraries, and those are files, too.
        let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
        let in_call = || {
            let mut buffer = [0; 256];
            watch.syscall.as_ref().and_then(|file| call(read_at_start(file, &mut buffer)?))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !in_call().is_some_and(|number| sleeps.contains(&number)) {
            assert!(Instant::now() < deadline, "sleep does not sleep");
            std::thread::sleep(Duration::from_millis(2));
        }
        let merely_open = [true, false]
            .map(|from_birth| watch.elsewhere(from_birth, &LinkSockets::default()).reads);
        // The two share one position.
        ours.read_exact(&mut [0; 4096]).unwrap();
        let moved = watch.elsewhere(false, &LinkSockets::default()).reads;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((merely_open, moved), ([false, false], true));
    }

    #[test]
    fn a_program_splices_where_it_takes_the_call_from_a_library() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = |name: &str, source: &str| {
            let (from, to) = (folder.path().join(format!("{name}.c")), folder.path().join(name));
            std::fs::write(&from, source).unwrap();
            let mut gcc = std::process::Command::new("gcc");
            gcc.arg("-o").args([&to, &from]);
            gcc.status().is_ok_and(|status| status.success()).then(|| std::fs::read(to).unwrap())
        };
        let word = "#include <stdio.h>\nint main(void) { puts(\"splice\"); return 0; }\n";
        let call = "#define _GNU_SOURCE\n#include <fcntl.h>\n\
             int main(void) { return splice(0, 0, 1, 0, 4096, 0) < 0; }\n";
        let Some(said) = compiled("said", word) else {
            return eprintln!("skipped: gcc cannot build a program here");
        };
        assert!(!has_splice(&said));
        assert!(has_splice(&compiled("called", call).unwrap()));
        assert!(has_splice(b"\x7fELF cut \0vmsplice\0"), "what cannot be read may splice");
    }

    #[test]
    fn our_own_writes_are_counted() {
        let watch = IoWatch::open(std::process::id() as i32).unwrap();
        let before = watch.counts().unwrap();
        let file = tempfile::tempfile().unwrap();
        for _ in 0..8 {
            file.write_all_at(&[7; 65_536], 0).unwrap();
        }
        let moved = watch.counts().unwrap().since(before);
        assert!(moved.written_bytes >= 8 * 65_536 && moved.writes >= 8, "{moved:?}");
    }
}
