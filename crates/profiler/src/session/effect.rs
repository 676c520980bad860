//! Measures how much sampling slows the pipeline while it runs, if its bytes are counted.

use std::sync::Arc;

use super::{MOST_SWITCHED, Session, pids_of};
use crate::accounts::{now_ns, process_cpu_ns};
use crate::effect::{Measuring, Moved};
use crate::error::Error;

/// Samples of each busy member that are enough: a share of 25 % is known within ±3 points then.
const ENOUGH_SAMPLES: f64 = 1_000.0;

/// A member that uses less of a CPU than this is not waited for.
const BUSY: f64 = 0.1;

impl Session {
    /// Measures from now on what sampling does to the pipeline, by the bytes that have moved so far,
    /// and samples as often as that allows where the frequency is to rise.
    ///
    /// # Errors
    /// [`Error::Control`] where no thread can be started.
    pub(crate) fn measure_effect(&mut self, moved: Moved) -> Result<(), Error> {
        // Without events there is nothing whose effect could be measured.
        if self.events.is_empty() || self.sampling.cpus.len() > MOST_SWITCHED {
            return Ok(());
        }
        let pids = Arc::clone(&self.pids);
        let cpu_time = Box::new(move || {
            let pids = pids.lock().map(|pids| pids.clone()).unwrap_or_default();
            pids.into_iter().filter_map(|pid| Some((pid, process_cpu_ns(pid)?))).collect()
        });
        let members = pids_of(&self.meta.pipeline).into_iter();
        let used = members.filter_map(|pid| Some((pid, process_cpu_ns(pid)?))).collect();
        self.measured_from = (now_ns(), used);
        let (sampling, frequency) = (self.sampling.clone(), self.frequency);
        self.measuring = Some(Measuring::start(sampling, frequency, moved, cpu_time)?);
        Ok(())
    }

    /// Each busy member has [`ENOUGH_SAMPLES`], as far as its CPU time tells: the records are still
    /// in the rings.
    pub(crate) fn has_enough_samples(&self) -> bool {
        let Some(measuring) = &self.measuring else { return true };
        let elapsed_ns = now_ns().saturating_sub(self.measured_from.0).max(1) as f64;
        let given = measuring.samples_of_a_busy_cpu() as f64;
        self.measured_from.1.iter().all(|&(pid, before)| {
            let Some(now) = process_cpu_ns(pid) else { return true };
            let share = now.saturating_sub(before) as f64 / elapsed_ns;
            share < BUSY || given * share >= ENOUGH_SAMPLES
        })
    }

    /// Ends that, as the pipeline has ended, or nothing counts its bytes any longer.
    ///
    /// # Errors
    /// [`Error::DrainDied`] where the thread died.
    pub(crate) fn end_measuring(&mut self) -> Result<(), Error> {
        let Some(measuring) = self.measuring.take() else { return Ok(()) };
        let observed = measuring.finish()?;
        self.meta.frequency_hz = observed.usual_hz().or(self.meta.frequency_hz);
        self.meta.observed = Some(observed);
        Ok(())
    }
}
