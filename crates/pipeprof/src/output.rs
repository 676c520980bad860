//! Where data goes: standard output, or a file that is whole or not there.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tempfile::NamedTempFile;

/// Writes a file beside its target and renames it over, so that an interrupted run leaves the old
/// one whole.
///
/// A target that exists and is no regular file (`/dev/stdout`, a FIFO) is written to directly.
pub(crate) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let failed = || format!("writing {}", path.display());
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        let file = std::fs::OpenOptions::new().write(true).open(path).with_context(failed)?;
        let mut out = BufWriter::new(file);
        write(&mut out).with_context(failed)?;
        return out.flush().with_context(failed);
    }
    let mut beside = beside(path).with_context(failed)?;
    {
        let mut out = BufWriter::new(beside.as_file_mut());
        write(&mut out).with_context(failed)?;
        out.flush().with_context(failed)?;
    }
    beside.persist(path).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}

/// Finds out before a long run that its output could not be written after it.
pub(crate) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let tried = match path.metadata() {
        Ok(meta) if meta.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        // A device or a FIFO; opening one can have consequences.
        Ok(meta) if !meta.is_file() => Ok(()),
        _ => beside(path).map(drop),
    };
    tried.with_context(|| format!("writing {}", path.display()))
}

fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".pipeprof-")
        // What the umask leaves of this, as for any file that a program creates.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub(crate) fn write_stdout(text: &str) -> anyhow::Result<()> {
    stream_stdout(|out| Ok(out.write_all(text.as_bytes())?))
}

/// Writes to standard output piece by piece. A reader that has gone is no error.
pub(crate) fn stream_stdout(
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| Ok(out.flush()?)) {
        Err(error) if reader_has_gone(&error) => {
            // What is left to write would fail again, in its destructor.
            let _ = out.into_parts();
            Ok(())
        }
        result => result.context("writing to standard output"),
    }
}

fn reader_has_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        std::fs::write(&path, "old").unwrap();
        let result = write_file(&path, |out| {
            out.write_all(b"half of the new")?;
            anyhow::bail!("the disk is full")
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("the disk is full"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_takes_no_file_is_found_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        check_writable(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        check_writable(Path::new("/dev/stdout")).unwrap();
        assert!(check_writable(folder.path()).is_err());
        let missing = check_writable(&folder.path().join("no/out.svg")).unwrap_err();
        assert!(format!("{missing:#}").starts_with("writing "), "{missing:#}");
    }

    #[test]
    fn the_file_has_the_mode_of_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("ours");
        let theirs = folder.path().join("theirs");
        write_file(&ours, |out| Ok(out.write_all(b"x")?)).unwrap();
        std::fs::write(&theirs, "x").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&theirs));
    }
}
