//! Measures the pipeline once per interval, asks the triggers, and writes the metrics.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use pipeprof_profiler::live::Live;
use pipeprof_profiler::watcher::{Look, Tick};
use pipeprof_report::live::PipelineNow;
use pipeprof_report::watch::firing::Armed;
use pipeprof_report::watch::metrics::{Progress, Pushes, Totals};
use pipeprof_report::watch::moment;
use pipeprof_runner::discover::{Extent, Found, discover_again};
use pipeprof_runner::pipeline::{Member, MemberId, Pipeline};

use super::Counts;
use super::metrics_file::MetricsFile;
use crate::ui::Ui;
use crate::who::Known;

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
    /// From the first look on.
    live: Option<Live>,
    /// What the watch had found when `live` followed it last.
    followed: Pipeline,
    extent: Extent,
    known: Known,
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
        extent: Extent,
        armed: Vec<Armed>,
        pace: Pace,
        metrics: Option<MetricsFile>,
        counts: &'a Counts,
        pushes: bool,
        ui: &'a Ui,
    ) -> Self {
        Measure {
            live: None,
            followed: Pipeline::default(),
            extent,
            known: Known::default(),
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
        }
    }

    /// Another stretch begins. What is to be kept of the last one, if anything is.
    pub(super) fn begin_stretch(&mut self) -> Option<Moment> {
        self.stretch_began = Instant::now();
        self.moment.take()
    }

    /// Measures those who are there by now, as far as the watch has found them.
    fn follow(&mut self, found: &Found) {
        if self.live.is_some() && found.pipeline == self.followed {
            return;
        }
        self.followed = found.pipeline.clone();
        match &mut self.live {
            Some(live) => live.follow(found.clone()),
            None => self.live = Some(Live::new(found.clone())),
        }
    }

    fn interval_is_over(&mut self, now: Duration) {
        let Some(live) = &mut self.live else { return };
        let interval = live.take(true);
        let mut pipeline = PipelineNow::of(&interval);
        self.known.begin();
        for (member, id) in pipeline.members.iter_mut().zip(&interval.pipeline.members) {
            self.known.name(id.id(), member);
            member.has_ended = !id.id().is_running();
        }
        // The watch itself looks for those who came, and not for those who went.
        if live.has_lost() {
            let ids: Vec<MemberId> = interval.pipeline.members.iter().map(Member::id).collect();
            if let Ok(found) = discover_again(&ids, self.extent, Vec::new()) {
                live.follow(found);
            }
        }
        self.totals.add(&pipeline);
        self.ask(now, &pipeline);
        self.write_metrics(&pipeline);
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

    fn write_metrics(&mut self, pipeline: &PipelineNow) {
        let Some(metrics) = &mut self.metrics else { return };
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let pushes = self.pushes.then(|| Pushes {
            sent: of(&self.counts.sent),
            dropped: of(&self.counts.dropped),
            waiting: of(&self.counts.waiting),
        });
        let fired = self.armed.iter().map(|armed| (armed.trigger().to_string(), armed.fired()));
        let progress = Progress { triggers: fired.collect(), kept: of(&self.counts.kept), pushes };
        metrics.write(Some(pipeline), &self.totals, &progress, self.ui);
    }
}

impl Look for Measure<'_> {
    fn look(&mut self, tick: &Tick<'_>) {
        self.follow(tick.found);
        if let Some(live) = &mut self.live {
            live.look();
        }
        let now = self.began.elapsed();
        if now >= self.last + self.pace.interval {
            self.interval_is_over(now);
        }
    }

    fn is_satisfied(&self) -> bool {
        match &self.moment {
            Some(moment) => Instant::now() >= moment.until,
            None => self.stretch_began.elapsed() >= LONGEST_STRETCH,
        }
    }
}
