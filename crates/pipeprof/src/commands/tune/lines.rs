//! Compares a command line with others, each run anew: other numbers of threads, a buffer in a gap.

use std::time::{Duration, Instant};

use pipeprof_report::tuning::{Confirmed, Outcome, Side, Treatment, Tried, Window};
use pipeprof_runner::command::Spec;
use pipeprof_runner::tuning::line::{Variant, with_buffer, with_other_threads};

use super::compare::{Limits, Measured, block_of, compare};
use super::subject::Subject;

/// A line, the others that are tried, and where its bytes are counted.
pub(super) struct Lines {
    /// As it runs without any change.
    pub(super) original: Spec,
    pub(super) others: Vec<Other>,
}

/// Another line.
#[derive(Clone)]
pub(super) struct Other {
    pub(super) what: String,
    /// As a person would type it.
    pub(super) line: String,
    spec: Spec,
    price: String,
    is_buffer: bool,
}

/// What a buffer in a gap holds.
const BUFFER: &str = "64M";

impl Lines {
    /// For a shell line, without its mark. A command that is no shell line has no other lines.
    pub(super) fn of(spec: Spec, line: &str, try_flags: bool) -> Result<Lines, &'static str> {
        let typed = format!("pipeprof buffer -m {BUFFER}");
        let program = std::env::current_exe().map_or_else(
            |_| "pipeprof".to_owned(),
            |path| format!("'{}'", path.display().to_string().replace('\'', "'\\''")),
        );
        let mut others = Vec::new();
        let mut original = spec.clone();
        let mut unmarked = line.to_owned();
        let run = with_buffer(line, &format!("{program} buffer -m {BUFFER}"))?;
        if let (Some((without, run)), Some((_, shown))) = (run, with_buffer(line, &typed)?)
            && let (Some(plain), Some(spec)) =
                (spec.with_line(without.as_ref()), spec.with_line(run.as_ref()))
        {
            (original, unmarked) = (plain, without);
            others.push(Other {
                what: format!("a buffer of {BUFFER} in the gap"),
                line: shown,
                spec,
                price: format!("up to {BUFFER} of memory, and one more process"),
                is_buffer: true,
            });
        }
        if try_flags {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            for Variant { what, line } in with_other_threads(&unmarked, cpus) {
                let Some(spec) = original.with_line(line.as_ref()) else { continue };
                let price = "memory and CPU time of the threads".to_owned();
                others.push(Other { what, line, spec, price, is_buffer: false });
            }
        }
        Ok(Lines { original, others })
    }
}

/// A command that ends within this is measured from its start to its end.
const SHORT: Duration = Duration::from_secs(5);

/// One that does not is given this to settle, then its bytes are counted for the other, then it is
/// ended.
const SETTLES: Duration = Duration::from_millis(700);
const COUNTED: Duration = Duration::from_secs(2);

/// A short command that another number of threads makes slower gets this long.
const LONGEST: Duration = Duration::from_secs(60);

/// How runs are compared.
enum Measure {
    /// By the time that they take.
    Time,
    /// By the bytes through the pipe at this place from the end.
    Bytes { from_end: usize },
}

pub(super) struct LineTrial<'a> {
    pub(super) lines: &'a Lines,
    pub(super) limits: &'a Limits<'a>,
}

impl LineTrial<'_> {
    /// Tries all of them; the best once more. `family` comparisons share the error in all.
    pub(super) fn run(
        &self,
        payload_from_end: usize,
        family: usize,
        mut step: impl FnMut(&str),
    ) -> (Vec<Tried>, Option<Confirmed>) {
        let lines = self.lines;
        let measured = self.compare(&lines.others, payload_from_end, family, &mut step);
        let tried: Vec<Tried> = lines
            .others
            .iter()
            .zip(measured)
            .map(|(other, measured)| {
                let Measured { judged, failed, windows } = measured;
                let treatment = Treatment::Line { line: other.line.clone() };
                Tried { name: other.what.clone(), treatment, share: None, judged, failed, windows }
            })
            .collect();
        let faster = tried.iter().zip(&lines.others).filter_map(|(tried, other)| {
            let judged = tried.judged.filter(|judged| judged.outcome == Outcome::Faster)?;
            Some((judged.ratio, other))
        });
        let best = faster.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other.clone());
        let confirmed = best.filter(|_| !self.limits.is_stopped()).map(|best| {
            let again = |_: &str| step(&format!("{}, once more", best.what));
            let again = self.compare(std::slice::from_ref(&best), payload_from_end, 1, again);
            let Measured { judged, windows, .. } = again.into_iter().next().unwrap_or_default();
            let is_proven = judged.is_some_and(|judged| judged.outcome == Outcome::Faster);
            let said = |text: &str| if is_proven { vec![text.to_owned()] } else { Vec::new() };
            Confirmed {
                names: vec![best.what.clone()],
                judged,
                windows,
                permanent: said(&best.line),
                price: said(&best.price),
                kept: false,
            }
        });
        (tried, confirmed)
    }

    fn compare(
        &self,
        others: &[Other],
        payload_from_end: usize,
        family: usize,
        mut step: impl FnMut(&str),
    ) -> Vec<Measured> {
        let mut measures: Vec<Option<Measure>> = others.iter().map(|_| None).collect();
        compare(self.limits, others.len(), family, false, |at, windows| {
            let other = &others[at];
            step(&other.what);
            let measure = match &mut measures[at] {
                Some(measure) => measure,
                none => none.insert(self.measure(other, payload_from_end)?),
            };
            block_of(|side| self.run_rate(side, other, measure, windows))
        })
    }

    /// How it is compared: by a run of each that counts for nothing else.
    fn measure(&self, other: &Other, payload_from_end: usize) -> Result<Measure, String> {
        if self.to_the_end(&self.lines.original, SHORT)?.is_some() {
            return Ok(Measure::Time);
        }
        if !other.is_buffer {
            return Ok(Measure::Bytes { from_end: payload_from_end });
        }
        // What has left the buffer counts, not what it holds.
        let subject = self.launch(&other.spec)?;
        let pipeline = &subject.found.pipeline;
        let buffer = pipeline.members.iter().find(|member| {
            member.command_line.get(1).is_some_and(|word| word == "buffer")
                && member.command_line.get(2).is_some_and(|word| word == "-m")
        });
        let buffer = buffer.ok_or("the buffer did not start")?.id();
        let at = pipeline.pipes.iter().position(|pipe| pipe.writers.contains(&buffer));
        let at = at.ok_or("no process reads from the buffer")?;
        Ok(Measure::Bytes { from_end: pipeline.pipes.len() - at })
    }

    /// The rate of a run; `None` where nothing more is to be run.
    fn run_rate(
        &self,
        side: Side,
        other: &Other,
        measure: &Measure,
        windows: &mut Vec<Window>,
    ) -> Result<Option<f64>, String> {
        if self.limits.are_reached() {
            return Ok(None);
        }
        let spec = match side {
            Side::Original => &self.lines.original,
            Side::Treated => &other.spec,
        };
        let at_s = self.limits.began.elapsed().as_secs_f64();
        match measure {
            Measure::Time => {
                let took = self.to_the_end(spec, LONGEST)?;
                let took = took.ok_or("it took longer than a minute")?;
                // Of the same work, the rate is as many times higher as the time is shorter.
                Ok(Some(1.0 / took.as_secs_f64().max(1e-6)))
            }
            Measure::Bytes { from_end } => {
                let bytes_per_second = self.rate(spec, *from_end)?;
                windows.push(Window { at_s, side, bytes_per_second });
                Ok(Some(bytes_per_second))
            }
        }
    }

    /// Runs it to its end; `None` if that takes longer, or the user interrupts.
    fn to_the_end(&self, spec: &Spec, most: Duration) -> Result<Option<Duration>, String> {
        let refused = |error: pipeprof_runner::command::CommandError| error.to_string();
        let began = Instant::now();
        let mut running = spec
            .clone()
            .prepare()
            .and_then(pipeprof_runner::command::Prepared::release)
            .map_err(refused)?;
        while began.elapsed() < most && !self.limits.interrupt.is_set() {
            match running.try_wait().map_err(refused)? {
                Some(status) if status.success() => return Ok(Some(began.elapsed())),
                Some(status) => return Err(format!("the command ended with {status}")),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Ok(None)
    }

    fn launch(&self, spec: &Spec) -> Result<Subject, String> {
        super::subject::launch(spec.clone(), String::new(), self.limits.interrupt)
            .map_err(|error| format!("{error:#}"))
    }

    /// Bytes a second through a pipe of a run that is ended afterwards.
    fn rate(&self, spec: &Spec, from_end: usize) -> Result<f64, String> {
        let subject = self.launch(spec)?;
        let at = subject.found.pipeline.pipes.len().checked_sub(from_end);
        let at = at.ok_or("its pipeline has fewer pipes than before")?;
        let bytes = || -> Result<u64, String> {
            let totals = subject.totals().map_err(|error| format!("{error:#}"))?;
            let known = totals.get(at).and_then(|total| total.bytes.known());
            known.ok_or_else(|| "its bytes can't be counted".to_owned())
        };
        std::thread::sleep(SETTLES);
        let (before, since) = (bytes()?, Instant::now());
        std::thread::sleep(COUNTED);
        let after = bytes()?;
        let seconds = since.elapsed().as_secs_f64();
        if !subject.is_there() {
            return Err("a run ended sooner than the first".to_owned());
        }
        Ok(after.saturating_sub(before) as f64 / seconds)
    }
}
