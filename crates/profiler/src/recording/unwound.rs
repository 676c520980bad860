//! Recordings that were made with slices of the stack, once their stacks have been unwound.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{Loaded, Meta, Recording, private};
use crate::error::Error;
use crate::paging::Paging;
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::write::{EventDescription, PerfDataWriter, Provenance};
use crate::unwind::records::{self, Recorded};

/// Unwinds the stacks of a file that is as `perf record` or a capture that was killed left it,
/// into a temporary file without a name.
pub(super) fn load(recording: &Recording, loaded: Loaded) -> Result<Loaded, Error> {
    let Loaded { mut file, bytes, .. } = loaded;
    let recorded = Recorded {
        meta: &recording.meta,
        release: &recording.about.kernel,
        arch: file.arch.as_deref(),
        until: recording.until(),
    };
    let failed = |source| Error::File {
        action: "unwinding the stacks of",
        path: recording.perf_data(),
        source,
    };
    let written = || -> io::Result<_> {
        let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
        let unwinding = records::write(&file, &bytes, Paging::new(&bytes), recorded, &mut out)?;
        let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((crate::sys::map_file(&out)?, unwinding))
    };
    let (bytes, unwinding) = written().map_err(failed)?;
    file.data = 0..bytes.len();
    for event in &mut file.events {
        event.layout = event.layout.unwound();
    }
    Ok(Loaded { file, bytes, unwinding: Some(unwinding) })
}

/// Unwinds the stacks of a capture that has just ended, and puts what comes out in the place of its
/// perf.data.
///
/// # Errors
/// What the disk answers; the file is as it was then.
pub(crate) fn replace(
    path: &Path,
    events: Vec<EventDescription>,
    meta: &mut Meta,
    provenance: &Provenance,
) -> io::Result<()> {
    let bytes = crate::sys::map_file(&File::open(path)?)?;
    let file = PerfDataFile::parse(&bytes).map_err(io::Error::other)?;
    let beside = path.with_extension("unwound");
    let events = events
        .into_iter()
        .map(|event| EventDescription { attr: event.attr.unwound(), ..event })
        .collect();
    let recorded = Recorded { meta, release: &provenance.release, arch: None, until: None };
    let written = || -> io::Result<_> {
        let mut writer = PerfDataWriter::create(private::create(&beside)?, events)?;
        let mut out = BufWriter::with_capacity(1 << 20, writer.file());
        let unwinding = records::write(&file, &bytes, Paging::new(&bytes), recorded, &mut out)?;
        out.flush()?;
        drop(out);
        writer.finish(provenance)?;
        fs::rename(&beside, path)?;
        Ok(unwinding)
    };
    match written() {
        Ok(unwinding) => {
            meta.unwinding = Some(unwinding);
            Ok(())
        }
        Err(error) => {
            // What is left of it is no use, and takes room that is short.
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}
