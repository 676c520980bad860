//! Signals to pipeprof: the first one asks it to stop and to write what it has, the second one
//! quits. Either way every launched process ends.
//!
//! A signal that was ignored when pipeprof began (`nohup`, `trap '' HUP`) stays ignored.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use pipeprof_profiler::stop::Stop;
use pipeprof_runner::command;
use pipeprof_runner::signals::ignored_at_start;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Whether the user has asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    /// The first signal that came; 0 before.
    first: Arc<AtomicI32>,
    /// A folder that quitting removes.
    temporary: Arc<Mutex<Option<PathBuf>>>,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM, SIGHUP and SIGQUIT for the rest of the program. Each command passes
    /// it on to whatever it can stop.
    pub(crate) fn install() -> anyhow::Result<Self> {
        Self::catching(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT])
    }

    /// Catches SIGINT alone, while a program of the user's choice has the terminal and heeds it.
    pub(crate) fn leave_ctrl_c_to_another() -> anyhow::Result<Self> {
        Self::catching(&[SIGINT])
    }

    fn catching(signals: &[i32]) -> anyhow::Result<Self> {
        let interrupt =
            Interrupt { first: Arc::new(AtomicI32::new(0)), temporary: Arc::new(Mutex::new(None)) };
        let heeded = signals.iter().filter(|&&signal| !ignored_at_start(signal));
        let mut signals = Signals::new(heeded).context("catching Ctrl-C")?;
        let heard = interrupt.clone();
        // A thread of its own, as the others may be deep in an analysis when the user has had
        // enough.
        let listen = move || {
            for signal in signals.forever() {
                let first =
                    heard.first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                // Ctrl-\ wants nothing written.
                if first.is_err() || signal == SIGQUIT {
                    heard.quit(signal);
                }
            }
        };
        thread::Builder::new()
            .name("pp-interrupt".to_owned())
            .spawn(listen)
            .context("catching Ctrl-C")?;
        Ok(interrupt)
    }

    /// The same, as the watcher takes it.
    pub(crate) fn stop(&self) -> Stop {
        Stop::told_by(Arc::clone(&self.first))
    }

    /// Whether one of them came.
    pub(crate) fn is_set(&self) -> bool {
        self.first.load(Ordering::Relaxed) != 0
    }

    /// Has quitting remove a folder first.
    pub(crate) fn remove_on_quit(&self, folder: &Path) {
        *self.temporary.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
    }

    fn quit(&self, signal: i32) {
        command::kill_all();
        if let Some(folder) = self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // No error can be reported any more.
            let _ = std::fs::remove_dir_all(folder);
        }
        let _ = emulate_default_handler(signal);
    }
}
