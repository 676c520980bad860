//! Progress bars on a terminal: for a watch, which Ctrl-C ends, and for an analysis.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pipeprof_profiler::analyse::Progress;
use pipeprof_profiler::watcher::{Look, Standby, Tick};
use pipeprof_report::escape::printable;

use crate::terminal;
use crate::ui::Ui;

/// A bar over bytes or time, if stderr is a terminal.
pub(crate) struct Watching(ProgressBar);

impl Look for Watching {
    fn look(&mut self, tick: &Tick<'_>) {
        match tick.moved {
            Some(bytes) => self.at(bytes),
            None => self.elapsed(tick.elapsed),
        }
    }
}

impl Watching {
    /// Towards the end of a watch.
    pub(crate) fn of(standby: &Standby, duration: Option<Duration>, ui: &Ui) -> Self {
        match standby.bytes() {
            Some(bytes) => Self::bytes(bytes, ui),
            None => {
                let pids: Vec<i32> = standby.found().everyone().map(|member| member.pid).collect();
                Self::beside(&pids, duration, ui)
            }
        }
    }

    /// Towards so many bytes.
    fn bytes(total: u64, ui: &Ui) -> Self {
        Self::new(ui, total, BYTES)
    }

    /// Towards so much time, or without an end in sight, while these processes run: a bar wipes the
    /// line that it is on, and where they may write to the terminal, that line may be theirs.
    pub(crate) fn beside(pids: &[i32], total: Option<Duration>, ui: &Ui) -> Self {
        if ui.shows_progress() && pids.iter().any(|&pid| terminal::is_shared_with(pid)) {
            ui.leaves_line();
            return Self::hidden();
        }
        match total {
            Some(total) => Self::new(ui, total.as_millis() as u64, "{bar:30} {msg}"),
            None => Self::new(ui, 0, "{msg}"),
        }
    }

    /// Towards so many steps.
    pub(crate) fn steps(total: u64, ui: &Ui) -> Self {
        Self::new(ui, total, "{bar:30} {msg}, {eta} left")
    }

    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Watching(ProgressBar::hidden())
    }

    fn new(ui: &Ui, total: u64, template: &str) -> Self {
        if !ui.shows_progress() {
            return Self::hidden();
        }
        ui.begins_line();
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Watching(ProgressBar::new(total).with_style(style))
    }

    /// So many bytes have gone through.
    fn at(&mut self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// So much time has passed.
    pub(crate) fn elapsed(&mut self, elapsed: Duration) {
        self.0.set_position(elapsed.as_millis() as u64);
        self.0.set_message(format!("watching for {:.1} s", elapsed.as_secs_f64()));
    }

    /// So much time has passed, and this is being done.
    pub(crate) fn doing(&mut self, elapsed: Duration, what: &str) {
        self.0.set_position(elapsed.as_millis() as u64);
        let left = self.0.length().unwrap_or(0).saturating_sub(elapsed.as_millis() as u64);
        self.0.set_message(format!("{}, at most {} s left", printable(what), left / 1000));
    }

    /// The next step begins. Nothing is drawn while it lasts, as drawing would disturb it.
    pub(crate) fn step(&mut self, what: impl std::fmt::Display) {
        self.0.set_message(printable(&what.to_string()).into_owned());
        self.0.inc(1);
    }

    /// Takes the bar away.
    pub(crate) fn done(self) {
        self.0.finish_and_clear();
    }
}

/// A bar over the records of a recording, once its analysis takes long enough to be noticed.
pub(crate) struct Analysing<'a> {
    ui: &'a Ui,
    started: Instant,
    bar: Option<Watching>,
}

/// What is over sooner needs no bar.
const NOTICED: Duration = Duration::from_millis(500);

impl<'a> Analysing<'a> {
    pub(crate) fn new(ui: &'a Ui) -> Self {
        Analysing { ui, started: Instant::now(), bar: None }
    }

    /// It has come so far.
    pub(crate) fn at(&mut self, progress: Progress) {
        let elapsed = self.started.elapsed();
        if elapsed < NOTICED {
            return;
        }
        let bar =
            self.bar.get_or_insert_with(|| Watching::new(self.ui, progress.total_bytes, RECORDS));
        let seconds = elapsed.as_secs_f64();
        let a_second = |count: u64, unit: f64| count as f64 / seconds / unit;
        bar.at(progress.bytes);
        bar.0.set_message(format!(
            "{:.0} MiB/s, {:.2} million samples/s",
            a_second(progress.bytes, 1_048_576.0),
            a_second(progress.samples, 1e6)
        ));
    }

    /// Takes the bar away.
    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.done();
        }
    }
}

const RECORDS: &str = "{bar:30} {bytes} of {total_bytes}, {msg}, {eta} left";

const BYTES: &str = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
