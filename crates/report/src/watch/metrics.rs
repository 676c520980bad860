//! A watched pipeline as text for Prometheus, as the textfile collector of its node exporter takes
//! it (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

use pipeprof_runner::pipeline::PipeKey;
use rustc_hash::FxHashMap;

use crate::escape::printable;
use crate::live::{MemberNow, PipeNow, PipelineNow};

/// Bytes through each pipe since it was first seen, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Totals(FxHashMap<PipeKey, f64>);

impl Totals {
    /// Adds an interval. Pipes that have gone are forgotten.
    pub fn add(&mut self, now: &PipelineNow) {
        let before = std::mem::take(&mut self.0);
        for pipe in &now.pipes {
            let moved = pipe.bytes_per_second.unwrap_or(0.0) * now.elapsed_s;
            let total = before.get(&key(pipe)).copied().unwrap_or(0.0) + moved;
            self.0.insert(key(pipe), total);
        }
    }

    fn of(&self, pipe: &PipeNow) -> f64 {
        self.0.get(&key(pipe)).map_or(0.0, |total| total.round())
    }
}

fn key(pipe: &PipeNow) -> PipeKey {
    PipeKey { device: pipe.device, inode: pipe.inode }
}

/// What a watch has done so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Each trigger, and how often it fired.
    pub triggers: Vec<(String, u64)>,
    /// Recordings that are kept now.
    pub kept: u64,
    /// What became of profiles that were to be pushed; `None` where none are.
    pub pushes: Option<Pushes>,
}

/// What became of profiles that were to be pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushes {
    /// A server took them.
    pub sent: u64,
    /// Dropped: there was no room for more, or the server will never take them.
    pub dropped: u64,
    /// They wait.
    pub waiting: u64,
}

/// The text. Series of one machine are told apart by `watch`, the name of the watch.
pub fn render(
    watch: &str,
    pipeline: Option<&PipelineNow>,
    totals: &Totals,
    progress: &Progress,
) -> String {
    let mut page = Page { text: String::new(), watch };
    if let Some(now) = pipeline {
        page.pipeline(now);
        page.pipes(now, totals);
        let there = now.members.iter().filter(|member| !member.has_ended);
        page.members(&there.collect::<Vec<_>>());
    }
    page.progress(progress);
    page.text
}

struct Page<'a> {
    text: String,
    watch: &'a str,
}

type Labels = Vec<(&'static str, String)>;

/// A figure of a member.
type Value = fn(&MemberNow) -> f64;

/// A series: its labels and its value.
type Series = (Labels, f64);

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str, series: Vec<Series>) {
        if series.is_empty() {
            return;
        }
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "# HELP pipeprof_{name} {help}\n# TYPE pipeprof_{name} {kind}");
        for (labels, value) in series {
            let _ = write!(self.text, "pipeprof_{name}{{watch=\"{}\"", escaped(self.watch));
            for (label, of) in labels {
                let _ = write!(self.text, ",{label}=\"{}\"", escaped(&of));
            }
            let _ = writeln!(self.text, "}} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, series: Vec<Series>) {
        self.family(name, "gauge", help, series);
    }

    fn pipeline(&mut self, now: &PipelineNow) {
        let rate = now.bytes_per_second.map(|rate| (Labels::new(), rate));
        self.gauge(
            "pipeline_bytes_per_second",
            "Bytes per second through the pipe that carries most.",
            rate.into_iter().collect(),
        );
        let cpus = vec![(Labels::new(), now.cpus_used)];
        self.gauge("pipeline_cpus_used", "CPUs that all members use together.", cpus);
    }

    fn pipes(&mut self, now: &PipelineNow, totals: &Totals) {
        let labels = |pipe: &PipeNow| {
            let name = |members: &[usize]| {
                let member = members.first().and_then(|&at| now.members.get(at));
                member.map_or(String::new(), |member| member.name.clone())
            };
            let pipe_name = pipe.link.named(pipe.inode).to_string();
            vec![
                ("pipe", pipe_name),
                ("device", pipe.device.to_string()),
                ("writer", name(&pipe.writers)),
                ("reader", name(&pipe.readers)),
            ]
        };
        let is_there = |at: &usize| now.members.get(*at).is_some_and(|member| !member.has_ended);
        let is_held = |pipe: &&PipeNow| pipe.writers.iter().chain(&pipe.readers).any(is_there);
        let all = |value: &dyn Fn(&PipeNow) -> Option<f64>| -> Vec<Series> {
            let pipes = now.pipes.iter().filter(|pipe| is_held(pipe));
            pipes.filter_map(|pipe| Some((labels(pipe), value(pipe)?))).collect()
        };
        let series = [
            all(&|pipe| Some(totals.of(pipe))),
            all(&|pipe| pipe.bytes_per_second),
            all(&|pipe| pipe.fill_bytes.map(|bytes| bytes as f64)),
            all(&|pipe| pipe.capacity_bytes.map(|bytes| bytes as f64)),
        ];
        let [total, rate, fill, capacity] = series;
        let help = "Bytes through the pipe in the intervals in which they were known.";
        self.family("pipe_bytes_total", "counter", help, total);
        self.gauge("pipe_bytes_per_second", "Bytes per second through the pipe.", rate);
        self.gauge("pipe_fill_bytes", "Bytes in the pipe at the end of the interval.", fill);
        self.gauge("pipe_capacity_bytes", "Capacity of the pipe.", capacity);
    }

    fn members(&mut self, members: &[&MemberNow]) {
        let all = |value: Value| -> Vec<Series> {
            members.iter().map(|member| (member_labels(member), value(member))).collect()
        };
        self.gauge("member_cpus_used", "CPUs that the member uses.", all(|of| of.cpus_used));
        let shares: [(&str, Value); 4] = [
            ("busy", |of| of.busy),
            ("waits_for_data", |of| of.waits_for_data),
            ("waits_for_space", |of| of.waits_for_space),
            ("outside", |of| of.outside),
        ];
        let of_state = |(state, share): (&str, Value)| {
            let labels = move |of: &MemberNow| {
                let mut labels = member_labels(of);
                labels.push(("state", state.to_owned()));
                labels
            };
            members.iter().map(move |member| (labels(member), share(member))).collect::<Vec<_>>()
        };
        let states = shares.into_iter().flat_map(of_state).collect();
        let help = "Share of the interval that the member was in each state, 0 to 1.";
        self.gauge("member_state_ratio", help, states);
        let help = "Share of the interval in which the member limited the pipeline, 0 to 1.";
        self.gauge("member_limit_ratio", help, all(|of| of.limits));
    }

    fn progress(&mut self, progress: &Progress) {
        let fired =
            |(trigger, fired): &(String, u64)| (vec![("trigger", trigger.clone())], *fired as f64);
        let fired = progress.triggers.iter().map(fired).collect();
        let help = "How often the trigger fired since the watch began.";
        self.family("watch_triggers_fired_total", "counter", help, fired);
        let one = |value: u64| vec![(Labels::new(), value as f64)];
        let help = "Recordings of this watch that are kept now.";
        self.gauge("watch_recordings_kept", help, one(progress.kept));
        let Some(pushes) = progress.pushes else { return };
        let help = "Profiles that the server took since the watch began.";
        self.family("watch_profiles_pushed_total", "counter", help, one(pushes.sent));
        let help = "Profiles that were dropped: too many waited, or the server refused them.";
        self.family("watch_profiles_dropped_total", "counter", help, one(pushes.dropped));
        let help = "Profiles that wait to be pushed.";
        self.gauge("watch_profiles_waiting", help, one(pushes.waiting));
    }
}

fn member_labels(member: &MemberNow) -> Labels {
    let mut labels = vec![("pid", member.pid.to_string()), ("name", member.name.clone())];
    labels.extend(member.container.as_ref().map(|of| ("container", of.name())));
    labels.extend(member.unit.clone().map(|unit| ("unit", unit)));
    labels
}

/// The value of a label, between its quotation marks.
fn escaped(value: &str) -> String {
    printable(value).replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// Labels and value of a series.
    type Parsed = (HashMap<String, String>, f64);

    /// Reads what the format allows and nothing else: metadata before the series of a family, a
    /// family in one piece, no series twice.
    fn parse(text: &str) -> HashMap<String, Vec<Parsed>> {
        assert!(text.ends_with('\n'), "the last line has to end");
        let is_name = |name: &str| {
            let first = name.chars().next().unwrap();
            let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (first.is_ascii_alphabetic() || first == '_') && name.chars().all(rest)
        };
        let mut families: HashMap<String, Vec<Parsed>> = HashMap::new();
        let (mut help, mut kind) = (String::new(), String::new());
        let mut seen = HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !text.is_empty() && !text.contains('\\'), "{line}");
                assert!(!families.contains_key(name), "{name} comes twice");
                help = name.to_owned();
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                assert_eq!(name, help, "its help comes first");
                assert!(["counter", "gauge"].contains(&of), "{line}");
                assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
                kind = name.to_owned();
                families.insert(kind.clone(), Vec::new());
                continue;
            }
            let (name, rest) = line.split_once('{').unwrap();
            assert_eq!(name, kind, "{line}");
            let mut chars = rest.chars().peekable();
            let mut labels = HashMap::new();
            loop {
                let label: String = std::iter::from_fn(|| chars.next_if(|&c| c != '=')).collect();
                assert!(is_name(&label) && !label.contains(':'), "{line}");
                assert_eq!((chars.next(), chars.next()), (Some('='), Some('"')), "{line}");
                let mut value = String::new();
                loop {
                    match chars.next().unwrap() {
                        '"' => break,
                        '\\' => match chars.next().unwrap() {
                            'n' => value.push('\n'),
                            c @ ('\\' | '"') => value.push(c),
                            c => panic!("\\{c} in {line}"),
                        },
                        c => value.push(c),
                    }
                }
                assert!(labels.insert(label, value).is_none(), "a label twice: {line}");
                match chars.next() {
                    Some(',') => {}
                    Some('}') => break,
                    other => panic!("{other:?} in {line}"),
                }
            }
            let value: String = chars.collect();
            let value: f64 = value.strip_prefix(' ').unwrap().parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let mut id: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
            id.sort();
            assert!(seen.insert((name.to_owned(), id)), "a series twice: {line}");
            families.get_mut(name).unwrap().push((labels, value));
        }
        families
    }

    fn pipeline() -> PipelineNow {
        let member = |pid, name: &str| MemberNow {
            pid,
            name: name.into(),
            busy: 0.25,
            ..Default::default()
        };
        let pipe = |inode, rate| PipeNow {
            inode,
            writers: vec![0],
            readers: vec![1],
            bytes_per_second: rate,
            fill_bytes: Some(512),
            ..PipeNow::default()
        };
        let mut gzip = member(8, "gz\"i\\p\n\u{1b}");
        gzip.unit = Some("backup.service".into());
        PipelineNow {
            members: vec![member(7, "yes"), gzip],
            pipes: vec![pipe(1, Some(100.0)), pipe(2, None)],
            bytes_per_second: Some(100.0),
            elapsed_s: 2.0,
            ..PipelineNow::default()
        }
    }

    #[test]
    fn what_is_written_is_valid_and_complete() {
        let now = pipeline();
        let mut totals = Totals::default();
        totals.add(&now);
        totals.add(&now);
        let pushes = Some(Pushes { sent: 3, dropped: 1, waiting: 2 });
        let triggers = vec![("throughput < 5".to_owned(), 2), ("limit changes".to_owned(), 0)];
        let progress = Progress { triggers, kept: 4, pushes };
        let families = parse(&render("back\"up", Some(&now), &totals, &progress));
        let values = |name: &str| -> Vec<f64> {
            families[&format!("pipeprof_{name}")].iter().map(|(_, value)| *value).collect()
        };
        assert_eq!(values("pipe_bytes_total"), [400.0, 0.0]);
        assert_eq!(values("pipe_bytes_per_second"), [100.0], "the other is unknown");
        assert_eq!(values("pipe_fill_bytes"), [512.0, 512.0]);
        assert!(!families.contains_key("pipeprof_pipe_capacity_bytes"));
        assert_eq!(values("member_state_ratio").len(), 8);
        assert_eq!(values("watch_triggers_fired_total"), [2.0, 0.0]);
        assert_eq!(values("watch_profiles_waiting"), [2.0]);
        let gzip = &families["pipeprof_member_cpus_used"][1].0;
        assert_eq!(gzip["name"], "gz\"i\\p\\n\\u{1b}", "it names no other than is shown elsewhere");
        assert_eq!((gzip["unit"].as_str(), gzip["watch"].as_str()), ("backup.service", "back\"up"));
    }

    #[test]
    fn who_has_ended_has_no_series_and_no_pipe() {
        let mut now = pipeline();
        now.members[1].has_ended = true;
        let text =
            |now: &PipelineNow| render("w", Some(now), &Totals::default(), &Progress::default());
        assert!(text(&now).contains("reader=") && !text(&now).contains("pid=\"8\""));
        now.members[0].has_ended = true;
        assert!(!text(&now).contains("reader="));
    }

    #[test]
    fn a_watch_without_a_pipeline_is_still_valid() {
        let text = render("w", None, &Totals::default(), &Progress::default());
        assert_eq!(parse(&text).len(), 1);
    }

    #[test]
    fn the_total_of_a_pipe_that_has_gone_is_forgotten() {
        let mut now = pipeline();
        let mut totals = Totals::default();
        totals.add(&now);
        now.pipes.remove(0);
        totals.add(&now);
        assert_eq!(totals.0.len(), 1);
    }
}
