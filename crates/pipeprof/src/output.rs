//! Where data goes: standard output, or a file that is whole or not there.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;

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
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut beside = tempfile::Builder::new()
        .prefix(".pipeprof-")
        // What the umask leaves of this, as for any file that a program creates.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(failed)?;
    {
        let mut out = BufWriter::new(beside.as_file_mut());
        write(&mut out).with_context(failed)?;
        out.flush().with_context(failed)?;
    }
    beside.persist(path).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub(crate) fn write_stdout(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
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
