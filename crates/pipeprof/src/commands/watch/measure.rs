//! Measures the pipeline once per interval, asks the triggers, and writes the metrics.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use pipeprof_profiler::watcher::{Look, Tick};
use pipeprof_report::live::PipelineNow;
use pipeprof_report::watch::firing::Armed;
use pipeprof_report::watch::metrics::{Progress, Pushes, Totals};
use pipeprof_report::watch::moment;

use super::Counts;
use super::metrics_file::MetricsFile;
use super::subject::Subject;
use crate::commands::top::collect::{Collector, Detail, What};
use crate::ui::Ui;

/// How often to measure, and how long to go on after a trigger fired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) after: Duration,
}

/// A moment that is to be kept.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) at: SystemTime,
    /// The stretch goes on until then.
    until: Instant,
    /// What fired, and what was seen.
    pub(super) reasons: Vec<String>,
}

/// Measures, and knows what fired.
pub(super) struct Measure<'a> {
    collector: Collector,
    armed: Vec<Armed>,
    pace: Pace,
    totals: Totals,
    metrics: Option<MetricsFile>,
    counts: &'a Counts,
    pushes: bool,
    ui: &'a Ui,
    began: Instant,
    /// End of the last interval, since it began.
    last: Duration,
    stretch_began: Instant,
    moment: Option<Moment>,
}

/// A stretch of which nothing is to be kept makes place for another one after so long: what is
/// remembered of processes that came and went goes with it.
const LONGEST_STRETCH: Duration = Duration::from_secs(3600);

impl<'a> Measure<'a> {
    pub(super) fn new(
        subject: &Subject,
        armed: Vec<Armed>,
        pace: Pace,
        metrics: Option<MetricsFile>,
        counts: &'a Counts,
        pushes: bool,
        ui: &'a Ui,
    ) -> anyhow::Result<Self> {
        let (pids, extent) = (subject.pids(), subject.extent);
        let detail = Detail::Nobody;
        let what = What { pids, extent, pattern: None, fill: true, detail };
        Ok(Measure {
            collector: Collector::new(what)?,
            armed,
            pace,
            totals: Totals::default(),
            metrics,
            counts,
            pushes,
            ui,
            began: Instant::now(),
            last: Duration::ZERO,
            stretch_began: Instant::now(),
            moment: None,
        })
    }

    /// Another stretch begins. What is to be kept of the last one, if anything is.
    pub(super) fn begin_stretch(&mut self) -> Option<Moment> {
        self.stretch_began = Instant::now();
        self.moment.take()
    }

    fn interval_is_over(&mut self, tick: &Tick<'_>, now: Duration) {
        let there = tick.pipeline.members.iter().filter(|member| member.id().is_running());
        let there: Vec<i32> = there.map(|member| member.pid).collect();
        // Of no process it would look for every pipeline of the machine.
        if !there.is_empty() {
            self.collector.what.pids = there;
        }
        let snapshot = self.collector.take();
        let pipeline = snapshot.pipelines.first();
        if let Some(pipeline) = pipeline {
            self.totals.add(pipeline);
            self.ask(now, pipeline);
        }
        self.write_metrics(pipeline);
        self.last = now;
    }

    fn ask(&mut self, now: Duration, pipeline: &PipelineNow) {
        for armed in &mut self.armed {
            if !armed.step(self.last, now, pipeline) {
                continue;
            }
            let reason = moment(&armed.trigger().to_string(), pipeline);
            self.ui.note(format_args!("trigger fired: {reason}"));
            let until = Instant::now() + self.pace.after;
            let at = SystemTime::now();
            let moment = Moment { at, until, reasons: Vec::new() };
            self.moment.get_or_insert(moment).reasons.push(reason);
        }
    }

    fn write_metrics(&mut self, pipeline: Option<&PipelineNow>) {
        let Some(metrics) = &mut self.metrics else { return };
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let pushes = self.pushes.then(|| Pushes {
            sent: of(&self.counts.sent),
            dropped: of(&self.counts.dropped),
            waiting: of(&self.counts.waiting),
        });
        let fired = self.armed.iter().map(|armed| (armed.trigger().to_string(), armed.fired()));
        let progress = Progress { triggers: fired.collect(), kept: of(&self.counts.kept), pushes };
        metrics.write(pipeline, &self.totals, &progress, self.ui);
    }
}

impl Look for Measure<'_> {
    fn look(&mut self, tick: &Tick<'_>) {
        self.collector.look();
        let now = self.began.elapsed();
        if now >= self.last + self.pace.interval {
            self.interval_is_over(tick, now);
        }
    }

    fn is_satisfied(&self) -> bool {
        match &self.moment {
            Some(moment) => Instant::now() >= moment.until,
            None => self.stretch_began.elapsed() >= LONGEST_STRETCH,
        }
    }
}
