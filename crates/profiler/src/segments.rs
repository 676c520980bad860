//! Which part of a recording stays on disk: all of it, everything up to a size, or the last stretch
//! of a long watch.
//!
//! For the last stretch the records go to one perf.data after the other. Each is a whole file: it
//! begins with the processes as they are then, as the first of a recording does. Files that are too
//! old are removed, and in the end the others become one, which begins with the oldest of them. So
//! every statement about the recording holds exactly from there on.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::accounts::{Accounts, now_ns};
use crate::perfdata::write::{EventDescription, PerfDataWriter, Provenance};
use crate::recording::ThreadStart;
use crate::recording::private::{self, reserve};

/// How much of a recording is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Only what happened so long before the end, and up to a quarter more.
    pub keep: Option<Duration>,
    /// So many bytes of records. With `keep` older ones go; without, the recording is
    /// [full](crate::session::Session::is_full).
    pub max_bytes: Option<u64>,
}

impl Limits {
    /// How long the drain may sleep: a limit is to be noticed in time.
    pub(crate) fn longest_wait(self) -> Option<Duration> {
        let none = self == Limits::default();
        (!none).then(|| self.keep.map_or(LOOK, |keep| (keep / PARTS / 2).min(LOOK)))
    }
}

/// Often enough that a file grows little beyond its limit.
const LOOK: Duration = Duration::from_millis(100);

/// The last stretch is in so many files, and the one that is being written.
const PARTS: u32 = 4;

/// The state when a stretch began.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) at_ns: u64,
    pub(crate) threads: Vec<ThreadStart>,
    pub(crate) accounts: Accounts,
    /// The processes and the kernel, as records.
    pub(crate) state: Vec<u8>,
}

/// A stretch that is complete.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    began: Beginning,
    bytes: u64,
}

/// Tells how things stand.
pub(crate) type Look = Box<dyn Fn() -> Beginning + Send>;

/// The files of a recording that is being made.
pub(crate) struct Segments {
    limits: Limits,
    path: PathBuf,
    events: Vec<EventDescription>,
    provenance: Provenance,
    look: Look,
    writer: PerfDataWriter,
    began: Beginning,
    /// Of the current file, when its own records begin.
    data_start: u64,
    older: VecDeque<Segment>,
    made: u64,
    full: Arc<AtomicBool>,
    /// For the end of a recording whose disk is full.
    reserve: Option<File>,
}

/// The features of a perf.data, who the members are, and the names of some ten thousand functions.
const RESERVED_BYTES: u64 = 2 << 20;

/// What is left of a recording in the end.
pub(crate) struct Joined {
    pub(crate) writer: PerfDataWriter,
    /// How things stood where it begins; `None` where that is the beginning of the watch.
    pub(crate) began: Option<Beginning>,
}

impl Segments {
    /// Begins the first file.
    ///
    /// # Errors
    /// What the file answers.
    pub(crate) fn create(
        path: &Path,
        events: Vec<EventDescription>,
        provenance: Provenance,
        limits: Limits,
        look: Look,
        full: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let began = look();
        let (writer, data_start) = begin(path, &events, &began.state)?;
        Ok(Segments {
            limits,
            path: path.to_owned(),
            events,
            provenance,
            look,
            writer,
            began,
            data_start,
            older: VecDeque::new(),
            made: 0,
            full,
            reserve: path.parent().and_then(|folder| reserve(folder, RESERVED_BYTES)),
        })
    }

    /// Where records go.
    pub(crate) fn file(&mut self) -> &mut File {
        self.writer.file()
    }

    /// No more records can be written: makes room for the end, and has the watch come to it.
    pub(crate) fn give_up(&mut self) {
        self.reserve = None;
        self.full.store(true, Ordering::Relaxed);
    }

    /// Keeps to the limits. To be called when all rings have just been drained.
    ///
    /// # Errors
    /// What the files answer.
    pub(crate) fn keep_to_limits(&mut self) -> io::Result<()> {
        if self.limits == Limits::default() {
            return Ok(());
        }
        let bytes = self.writer.file().stream_position()? - self.data_start;
        let part = |whole: u64| whole / u64::from(PARTS);
        let Some(keep) = self.limits.keep else {
            if self.limits.max_bytes.is_some_and(|most| bytes >= most) {
                self.full.store(true, Ordering::Relaxed);
            }
            return Ok(());
        };
        let age = Duration::from_nanos(now_ns().saturating_sub(self.began.at_ns));
        if age >= keep / PARTS || self.limits.max_bytes.is_some_and(|most| bytes >= part(most)) {
            self.begin_another(bytes)?;
        }
        let since = now_ns().saturating_sub(keep.as_nanos() as u64);
        let held = |segments: &Self| segments.older.iter().map(|old| old.bytes).sum::<u64>();
        loop {
            let next = self.older.get(1).map_or(self.began.at_ns, |next| next.began.at_ns);
            let too_much = self.limits.max_bytes.is_some_and(|most| held(self) > most - part(most));
            if self.older.is_empty() || (next > since && !too_much) {
                return Ok(());
            }
            if let Some(old) = self.older.pop_front() {
                fs::remove_file(&old.path)?;
            }
        }
    }

    fn begin_another(&mut self, bytes: u64) -> io::Result<()> {
        self.made += 1;
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}", self.made));
        let old = PathBuf::from(name);
        let began = (self.look)();
        // It gets the name of a whole file when it is one, as we may be killed at any moment.
        let next = self.path.with_file_name("next");
        let (writer, data_start) =
            begin(&next, &self.events, &began.state).inspect_err(|_| _ = fs::remove_file(&next))?;
        std::mem::replace(&mut self.writer, writer).finish(&self.provenance)?;
        // Whoever is killed in between leaves a recording all the same; not every file system links.
        if fs::hard_link(&self.path, &old).is_err() {
            fs::rename(&self.path, &old)?;
        }
        fs::rename(&next, &self.path)?;
        let began = std::mem::replace(&mut self.began, began);
        self.older.push_back(Segment { path: old, began, bytes });
        self.data_start = data_start;
        Ok(())
    }

    /// One file of all that was kept.
    ///
    /// # Errors
    /// What the files answer. What is still there then is whole files.
    pub(crate) fn join(mut self) -> io::Result<Joined> {
        if self.made == 0 {
            return Ok(Joined { writer: self.writer, began: None });
        }
        let bytes = self.writer.file().stream_position()? - self.data_start;
        self.begin_another(bytes)?;
        let Some(first) = self.older.pop_front() else {
            return Ok(Joined { writer: self.writer, began: Some(self.began) });
        };
        let (mut writer, _) = begin(&self.path, &self.events, &first.began.state)?;
        append(writer.file(), &first)?;
        for segment in &self.older {
            append(writer.file(), segment)?;
        }
        Ok(Joined { writer, began: Some(first.began) })
    }
}

/// A file and its records of how things stand; where those that come begin.
fn begin(
    path: &Path,
    events: &[EventDescription],
    state: &[u8],
) -> io::Result<(PerfDataWriter, u64)> {
    let mut writer = PerfDataWriter::create(private::create(path)?, events.to_vec())?;
    writer.file().write_all(state)?;
    let data_start = writer.file().stream_position()?;
    Ok((writer, data_start))
}

/// Moves the records of a segment, without how things stood at its beginning, to the end of a file.
fn append(file: &mut File, segment: &Segment) -> io::Result<()> {
    let mut from = File::open(&segment.path)?;
    let start = data_start(&mut from)? + segment.began.state.len() as u64;
    from.seek(SeekFrom::Start(start))?;
    io::copy(&mut from.take(segment.bytes), file)?;
    fs::remove_file(&segment.path)
}

/// `struct perf_file_header.data.offset`.
fn data_start(file: &mut File) -> io::Result<u64> {
    let mut word = [0; 8];
    file.seek(SeekFrom::Start(40))?;
    file.read_exact(&mut word)?;
    Ok(u64::from_ne_bytes(word))
}
