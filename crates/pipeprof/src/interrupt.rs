//! Ctrl-C: the first one asks to stop and to write what there is, the second one quits.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Whether the user has asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// A folder that a second signal removes, as nobody else will.
    temporary: Arc<Mutex<Option<PathBuf>>>,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from here on, for the rest of the program: whoever can
    /// be stopped is handed the one that its command installed.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let interrupt = Interrupt {
            asked: Arc::new(AtomicBool::new(false)),
            temporary: Arc::new(Mutex::new(None)),
        };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catching Ctrl-C")?;
        let heard = interrupt.clone();
        // A thread of its own, as the others may be deep in an analysis when the user has had
        // enough.
        let listen = move || {
            for signal in signals.forever() {
                if heard.asked.swap(true, Ordering::Relaxed) {
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

    /// Whether one of them came.
    pub(crate) fn is_set(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Has a second signal remove a folder before it quits.
    pub(crate) fn remove_on_quit(&self, folder: &Path) {
        *self.temporary.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
    }

    fn quit(&self, signal: i32) {
        if let Some(folder) = self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // There is nobody left to tell.
            let _ = std::fs::remove_dir_all(folder);
        }
        let _ = emulate_default_handler(signal);
    }
}
