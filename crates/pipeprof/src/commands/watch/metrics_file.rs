//! The file of metrics, which is always whole: what reads it sees the old one or the new one.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pipeprof_report::live::PipelineNow;
use pipeprof_report::watch::metrics::{Progress, Totals, render};

use crate::ui::Ui;

/// The file. It is removed with the value: rates of a pipeline that has ended are wrong.
pub(super) struct MetricsFile {
    path: PathBuf,
    watch: String,
    /// The last attempt failed, and that was said.
    has_failed: bool,
}

/// Reads the name of the file. The collector reads no other files than those.
pub(super) fn parse(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|extension| extension == "prom") {
        return Ok(path);
    }
    Err(format!(
        "node-exporter reads only files that end in .prom\nhint: --metrics {}",
        path.with_extension("prom").display()
    ))
}

impl MetricsFile {
    /// Tries whether it can be written, before anything is started.
    pub(super) fn create(path: &Path, watch: &str) -> anyhow::Result<Self> {
        put(path, &render(watch, None, &Totals::default(), &Progress::default()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(MetricsFile { path: path.to_owned(), watch: watch.to_owned(), has_failed: false })
    }

    pub(super) fn write(
        &mut self,
        pipeline: Option<&PipelineNow>,
        totals: &Totals,
        progress: &Progress,
        ui: &Ui,
    ) {
        let result = put(&self.path, &render(&self.watch, pipeline, totals, progress));
        if let Err(error) = &result
            && !self.has_failed
        {
            ui.warn(format_args!("writing {} failed: {error}", self.path.display()));
        }
        self.has_failed = result.is_err();
    }
}

impl Drop for MetricsFile {
    fn drop(&mut self) {
        // What can't be removed can't be helped at the end.
        let _ = fs::remove_file(&self.path);
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    // The collector must not read this one.
    let mut file = tempfile::Builder::new()
        .prefix(".pipeprof-")
        .suffix(".tmp")
        .tempfile_in(super::folder(path))?;
    file.write_all(text.as_bytes())?;
    // It runs as another user, and a umask may take the right.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_collector_would_not_read_is_refused() {
        assert_eq!(parse("/x/a.prom"), Ok(PathBuf::from("/x/a.prom")));
        for wrong in ["a", "a.txt", "a.prom.tmp", ".prom"] {
            assert!(parse(wrong).unwrap_err().contains(".prom"), "{wrong}");
        }
    }

    #[test]
    fn the_file_is_readable_for_all_and_alone_and_goes_with_the_watch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.prom");
        let mut file = MetricsFile::create(&path, "w").unwrap();
        let ui = Ui::new(true, false, crate::ui::Colour::Never);
        file.write(None, &Totals::default(), &Progress { kept: 7, ..Default::default() }, &ui);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert!(fs::read_to_string(&path).unwrap().contains("} 7\n"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
    }
}
