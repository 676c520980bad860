//! The files of a ladder. They are written after each round, because the results cannot be measured
//! again; if their place fails, they are written elsewhere.

use std::io::Write;
use std::path::{Path, PathBuf};

use pipeprof_report::error::Error;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::ladder::{
    Ladder, ProfiledRun, Sweep, write_csv, write_heatmap, write_page, write_picture,
};

use crate::output::Output;
use crate::salvage::Attempts;
use crate::ui::{Ui, as_usage, hinted};

/// The results of a ladder.
pub(super) enum Results {
    Ladder { ladder: Ladder, seen: Vec<ProfiledRun> },
    Sweep(Sweep),
}

impl Results {
    fn ladder(&self) -> &Ladder {
        match self {
            Results::Ladder { ladder, .. } | Results::Sweep(Sweep { ladder, .. }) => ladder,
        }
    }

    pub(super) fn write_json(&self, out: impl Write) -> Result<(), Error> {
        match self {
            Results::Ladder { ladder, .. } => ladder.write_json(out),
            Results::Sweep(sweep) => sweep.write_json(out),
        }
    }

    fn write_picture(&self, out: impl Write) -> Result<(), Error> {
        match self {
            Results::Ladder { ladder, .. } => write_picture(ladder, out),
            Results::Sweep(sweep) => write_heatmap(sweep, out),
        }
    }
}

/// Where the results go.
pub(super) struct Files {
    picture: Output,
    /// Of a ladder, not of a sweep.
    page: Option<Output>,
    csv: Output,
    json: Output,
}

impl Files {
    /// # Errors
    /// Where one of them can't be written.
    pub(super) fn open(name: &Path, is_sweep: bool) -> anyhow::Result<Files> {
        if name == Path::new("-") {
            let error = "-o -: a ladder writes several files, and standard output takes only one";
            return Err(as_usage(hinted(
                error,
                Some("--json prints NAME.json, which has every run".into()),
            )));
        }
        let with = |ending: &str| {
            let mut path = name.as_os_str().to_owned();
            path.push(ending);
            Output::open(&PathBuf::from(path))
        };
        Ok(Files {
            picture: with(".svg")?,
            page: if is_sweep { None } else { Some(with(".html")?) },
            csv: with(".csv")?,
            json: with(".json")?,
        })
    }

    /// The runs so far.
    ///
    /// # Errors
    /// Where one of them can't be written.
    pub(super) fn write_runs(&self, ladder: &Ladder) -> anyhow::Result<()> {
        self.csv.write(|out| Ok(write_csv(ladder, out)?))?;
        self.json.write(|out| Ok(ladder.write_json(out)?))
    }

    /// All of them, as far as each can be written.
    fn write(&self, results: &Results) -> Attempts {
        let mut attempts = Attempts::default();
        attempts.note(self.csv.write(|out| Ok(write_csv(results.ladder(), out)?)));
        attempts.note(self.json.write(|out| Ok(results.write_json(out)?)));
        attempts.note(self.picture.write(|out| Ok(results.write_picture(out)?)));
        if let (Some(page), Results::Ladder { ladder, seen }) = (&self.page, results) {
            let highlights = Highlights::article();
            attempts.note(page.write(|out| Ok(write_page(ladder, seen, &highlights, out)?)));
        }
        attempts
    }

    /// Writes all of them, into a temporary folder if they can't be written to their own place, and
    /// prints where they are.
    pub(super) fn finish(&self, results: &Results, ui: &Ui) -> Attempts {
        let attempts = self.write(results);
        if !attempts.failed() {
            ui.note(format_args!("wrote {self}"));
            return attempts;
        }
        match elsewhere(results, self.page.is_none()) {
            Ok(files) => ui.remedy(format_args!("wrote {files} instead"), None),
            Err(error) => ui.error(&error),
        }
        attempts
    }
}

fn elsewhere(results: &Results, is_sweep: bool) -> anyhow::Result<Files> {
    let folder = tempfile::Builder::new().prefix("pipeprof-ladder-").tempdir()?;
    let files = Files::open(&folder.path().join("ladder"), is_sweep)?;
    files.write(results).into_result()?;
    let _ = folder.keep();
    Ok(files)
}

impl std::fmt::Display for Files {
    /// `ladder.svg, ladder.html, ladder.csv and ladder.json`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.picture)?;
        if let Some(page) = &self.page {
            write!(f, ", {page}")?;
        }
        write!(f, ", {} and {}", self.csv, self.json)
    }
}
