//! Every sentence of a verdict that was drawn from states.

use pipeprof_profiler::states::Why;

use super::units::{bytes, duration, listed, percent};
use crate::facts::states::Outside;
use crate::facts::verdict::{
    Doubt, Judged, LEAST_GAIN, MemberFacts, Next, Parallel, Party, PhaseFacts, Unclear,
};
use crate::verdict::evidence::Evidence;
use crate::verdict::{
    Finding, Found, LimitShare, PhaseSummary, PipeCause, Remedy, Verdict, remedy, words as averages,
};

/// Members that are told of beside the limiting one.
const MOST_LINES: usize = 8;

pub(crate) fn verdict(evidence: &Evidence, judged: &Judged) -> Verdict {
    let words = Words { evidence, judged };
    Verdict {
        finding: judged.finding,
        members: judged.members.iter().map(|&at| evidence.members[at].pid).collect(),
        pipe: judged.pipe.map(|at| evidence.pipes[at].inode),
        confidence: judged.confidence,
        doubt: judged.doubt.map(|doubt| words.doubt(doubt)),
        limits: judged.limits.iter().map(|&(party, share)| words.limit(party, share)).collect(),
        phases: judged.phases.iter().map(|phase| words.phase_summary(phase)).collect(),
        headline: words.headline(),
        evidence: words.lines(),
        remedies: words.remedies(),
    }
}

struct Words<'a> {
    evidence: &'a Evidence,
    judged: &'a Judged,
}

impl Words<'_> {
    fn named(&self, member: usize) -> String {
        averages::named(&self.evidence.members[member])
    }

    fn party(&self, party: Party) -> String {
        match party {
            Party::Member(member) => self.named(member),
            Party::Pipe(pipe) => format!("pipe:[{}]", self.evidence.pipes[pipe].inode),
            Party::Cpus => "the CPUs".to_owned(),
            Party::Unknown => "nothing known".to_owned(),
        }
    }

    fn limit(&self, party: Party, share: f64) -> LimitShare {
        let (kind, pid, inode) = match party {
            Party::Member(member) => ("member", Some(self.evidence.members[member].pid), None),
            Party::Pipe(pipe) => ("pipe", None, Some(self.evidence.pipes[pipe].inode)),
            Party::Cpus => ("cpus", None, None),
            Party::Unknown => ("unknown", None, None),
        };
        LimitShare { kind, pid, inode, percent: 100.0 * share }
    }

    fn phase_summary(&self, phase: &PhaseFacts) -> PhaseSummary {
        PhaseSummary {
            from_ns: phase.from_ns,
            until_ns: phase.until_ns,
            limit: self.limit(phase.party, phase.share),
        }
    }

    fn headline(&self) -> String {
        let judged = self.judged;
        let share = percent(100.0 * judged.share);
        let first = judged.members.first().copied();
        match (judged.finding, first) {
            (Finding::Idle, Some(member)) => format!(
                "nothing flows: no pipe carried a byte; {} {}",
                self.named(member),
                judged.outside.map_or("waits", outside)
            ),
            (Finding::CpuBound, Some(member)) => {
                let busy = judged.life(member).map_or_else(String::new, |life| self.busy(life));
                format!("bottleneck: {}, {share} of the time: {busy}", self.named(member))
            }
            (Finding::Outside(_), Some(member)) => {
                let what = judged.outside.map_or("it waits", outside);
                let child = judged.life(member).and_then(|life| life.children.first());
                let child =
                    child.map_or_else(String::new, |child| format!(" (in its child {child})"));
                format!("bottleneck: {}, {share} of the time: it {what}{child}", self.named(member))
            }
            (Finding::Starved, Some(member)) => format!(
                "bottleneck: the CPUs, {share} of the time: the pipeline used {:.1} of {}; \
                 waiting for one most: {}",
                judged.cpus_used(self.evidence.elapsed_ns as f64),
                self.evidence.cpus,
                self.named(member)
            ),
            (Finding::Balanced, Some(_)) => {
                let names: Vec<String> = judged.members.iter().map(|&at| self.named(at)).collect();
                format!("bottleneck: {} alike, each {share} of the time", listed(&names))
            }
            (Finding::PipeBound(cause), Some(_)) => {
                let names: Vec<String> = judged.members.iter().map(|&at| self.named(at)).collect();
                let pipe = judged.pipe.map_or(0, |at| self.evidence.pipes[at].inode);
                format!(
                    "bottleneck: pipe:[{pipe}] between {}: {}",
                    listed(&names),
                    self.pipe_words(cause)
                )
            }
            (Finding::Unclear, _) | (_, None) => format!("no verdict: {}", self.unclear()),
        }
    }

    fn unclear(&self) -> String {
        match self.judged.unclear {
            Some(Unclear::TooShort(ns)) => {
                format!("{} are too short to judge", duration(ns as f64))
            }
            Some(Unclear::FewLooks(looks)) => format!("only {looks} looks at the members"),
            Some(Unclear::Unexplained(share)) => format!(
                "for {} of the time nothing tells what the members wait for",
                percent(100.0 * share)
            ),
            None => "no member could be looked at".to_owned(),
        }
    }

    fn busy(&self, life: &MemberFacts) -> String {
        let alive = life.used.alive_ns.max(1.0);
        let busy = percent(100.0 * life.used.busy_ns / alive);
        let mut text = match life.cpus {
            cpus if cpus >= 1.15 => format!("busy {busy} of its life, on {cpus:.1} CPUs"),
            _ => format!("busy {busy} of its life"),
        };
        match life.parallel {
            Parallel::OneThread => {
                let name = life.busiest_thread.as_deref().unwrap_or("main");
                let name = crate::escape::printable(name);
                text +=
                    &format!("; its thread {name} uses one CPU fully, so more CPUs do not help");
            }
            Parallel::AllCpus => text += "; it uses all CPUs",
            Parallel::Some => {}
        }
        let waits = life.used.run_delay_ns / (life.used.run_delay_ns + life.used.cpu_ns).max(1.0);
        if waits >= 0.1 {
            text += &format!("; its threads waited for a CPU {} of that", percent(100.0 * waits));
        }
        text
    }

    fn found(&self) -> Found {
        let Judged { finding, members, pipe, confidence, .. } = self.judged;
        Found {
            finding: *finding,
            members: members.clone(),
            pipe: *pipe,
            confidence: *confidence,
            why: None,
        }
    }

    fn pipe_words(&self, cause: PipeCause) -> String {
        match cause {
            PipeCause::TooSmall => {
                let pipe = self.judged.pipe.map(|at| &self.evidence.pipes[at]);
                let size = pipe.and_then(|pipe| pipe.capacity_bytes);
                let size = size
                    .map_or_else(|| "it".to_owned(), |size| format!("its {}", bytes(size as f64)));
                let burst = self.judged.larger_pipe.burst_bytes;
                let burst =
                    burst.map_or_else(String::new, |burst| format!(" of about {}", bytes(burst)));
                format!("{size} hold less than one batch{burst}, so writer and reader alternate")
            }
            cause => averages::pipe_words(self.evidence, &self.found(), cause),
        }
    }

    fn doubt(&self, doubt: Doubt) -> String {
        let level = match self.judged.confidence {
            Some(crate::verdict::Confidence::Low) => "low confidence",
            _ => "medium confidence",
        };
        let why = match doubt {
            Doubt::FewLooks(looks) => format!("only {looks} looks at the members"),
            Doubt::NextIsNear(Party::Member(member)) => {
                format!("{} is almost as busy", self.named(member))
            }
            Doubt::NextIsNear(Party::Cpus) => "waiting for a CPU takes almost as long".to_owned(),
            Doubt::NextIsNear(party) => format!("{} limits almost as often", self.party(party)),
            Doubt::Unexplained(share) => format!(
                "for {} of the time nothing tells what the members wait for",
                percent(100.0 * share)
            ),
            Doubt::FillDisagrees(pipe) => {
                format!("pipe:[{}] is not filled as expected", self.evidence.pipes[pipe].inode)
            }
            Doubt::LooksOnly => "drawn from looks at /proc alone; `pipeprof doctor` says how to \
                                 allow kernel profiling"
                .to_owned(),
            Doubt::Scattered => "no member or pipe limits half of the time".to_owned(),
        };
        format!("{level}: {why}")
    }

    /// A line for each phase where there are several, one for each member, and one for the pipes.
    fn lines(&self) -> Vec<String> {
        if self.judged.finding == Finding::Unclear {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let phases = &self.judged.phases;
        if phases.len() > 1 {
            let whole = phases.iter().map(|phase| phase.until_ns - phase.from_ns).sum::<u64>();
            for (at, phase) in phases.iter().enumerate() {
                lines.push(format!(
                    "  phase {}, {} to {} ({} of the time): {} {} {} of it",
                    at + 1,
                    duration(phase.from_ns as f64),
                    duration(phase.until_ns as f64),
                    super::units::share(phase.until_ns - phase.from_ns, whole),
                    self.party(phase.party),
                    if phase.party == Party::Cpus { "limit" } else { "limits" },
                    percent(100.0 * phase.share)
                ));
            }
        }
        lines.extend(self.members());
        lines.extend(averages::in_pipes(self.evidence));
        lines
    }

    fn members(&self) -> Vec<String> {
        let is_sole = matches!(self.judged.finding, Finding::CpuBound | Finding::Outside(_));
        let mut shown: Vec<&MemberFacts> = self
            .judged
            .lives
            .iter()
            .filter(|life| !(is_sole && self.judged.members.contains(&life.member)))
            .collect();
        shown.sort_by_key(|life| life.member);
        let rows: Vec<(String, String, String)> =
            shown.iter().take(MOST_LINES).map(|life| self.row(life)).collect();
        let width = |column: fn(&(String, String, String)) -> &String| {
            rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0)
        };
        let (first, second) = (width(|row| &row.0), width(|row| &row.1));
        let mut lines: Vec<String> = rows
            .iter()
            .map(|(name, what, pipe)| {
                format!("  {name:first$}  {what:second$}  {pipe}").trim_end().to_owned()
            })
            .collect();
        if shown.len() > MOST_LINES {
            lines.push(format!("  and {} more", shown.len() - MOST_LINES));
        }
        lines
    }

    fn row(&self, life: &MemberFacts) -> (String, String, String) {
        let member = &self.evidence.members[life.member];
        let same = self.evidence.members.iter().filter(|other| other.label == member.label);
        let name = if same.count() > 1 {
            format!("{} ({})", member.label, member.pid)
        } else {
            member.label.clone()
        };
        let used = &life.used;
        let share = |ns: f64| percent(100.0 * ns / used.alive_ns.max(1.0));
        let states = [
            (used.busy_ns, "busy".to_owned()),
            (used.data_ns, "waits for data".to_owned()),
            (used.space_ns, "waits for space".to_owned()),
            (
                used.outside_ns,
                life.outside.first().map_or("waits", |(of, _)| outside(*of)).to_owned(),
            ),
            (used.follows_ns, "waits for its children".to_owned()),
        ];
        let most =
            (0..states.len()).max_by(|&a, &b| states[a].0.total_cmp(&states[b].0)).unwrap_or(0);
        let pipe = match most {
            1 => averages::pipe_at(self.evidence, &member.reads_from, false),
            2 => averages::pipe_at(self.evidence, &member.writes_to, true),
            _ => String::new(),
        };
        (name, format!("{} {}", states[most].1, share(states[most].0)), pipe)
    }

    fn remedies(&self) -> Vec<Remedy> {
        let judged = self.judged;
        let first = judged.members.first().copied();
        let mut remedies = match (judged.finding, first) {
            (Finding::Unclear | Finding::Idle, _) | (_, None) => return Vec::new(),
            (Finding::CpuBound, Some(member)) => {
                let name = &self.evidence.members[member].label;
                let what = match judged.life(member).map(|life| life.parallel) {
                    Some(Parallel::OneThread) => {
                        format!("make the busy thread of {name} cheaper, or split its work")
                    }
                    Some(Parallel::AllCpus) => {
                        format!("make {name} cheaper, or give it more CPUs")
                    }
                    _ => format!("make {name} cheaper, or spread it over more CPUs"),
                };
                vec![self.without_limit(what), self.larger_pipe()]
            }
            (Finding::Outside(_), Some(member)) => {
                let what = judged.outside.map_or("find out what it waits for", advice);
                let name = &self.evidence.members[member].label;
                vec![
                    self.without_limit(what.to_owned()),
                    Remedy::new(
                        format!("a faster CPU, or a cheaper {name}"),
                        self.busy_share(member),
                        None,
                    ),
                ]
            }
            (Finding::Balanced, Some(_)) => {
                let what = "make all of them faster; one alone gains little".to_owned();
                vec![self.without_limit(what), self.larger_pipe()]
            }
            (Finding::Starved, Some(_)) => vec![Remedy::new(
                "give it more CPUs, run less beside it, or use cheaper members (taskset, nice, cgroup)",
                format!(
                    "its members waited for a CPU {} of the time that limits",
                    percent(100.0 * judged.share)
                ),
                None,
            )],
            (Finding::PipeBound(PipeCause::TooSmall), Some(_)) => vec![self.larger_pipe()],
            (Finding::PipeBound(cause), Some(_)) => {
                remedy::pipe(self.evidence, &self.found(), cause)
            }
        };
        remedies.extend(self.removal());
        remedies
    }

    fn busy_share(&self, member: usize) -> String {
        let life = self.judged.life(member);
        let busy = life.map_or(0.0, |life| life.used.busy_ns / life.used.alive_ns.max(1.0));
        let name = &self.evidence.members[member].label;
        format!("little: {name} is busy {} of its life", percent(100.0 * busy))
    }

    fn without_limit(&self, what: String) -> Remedy {
        match &self.judged.next {
            Some(Next { member, needs, bound }) if *needs > 0.05 => {
                let text = format!(
                    "next limit: {}, busy {} of the time: {}",
                    self.named(*member),
                    percent(100.0 * needs),
                    gain(*bound)
                );
                Remedy::new(what, text, Some(*bound))
            }
            _ => Remedy::new(what, "no other limit found", None),
        }
    }

    fn larger_pipe(&self) -> Remedy {
        let larger = &self.judged.larger_pipe;
        let bound = larger.bound;
        if bound < LEAST_GAIN {
            let text = "negligible: no writer and reader alternate".to_owned();
            return Remedy::new("a larger pipe", text, Some(bound));
        }
        let pipe = larger.pipe.map_or(0, |at| self.evidence.pipes[at].inode);
        let drain = larger.drain_seconds.map_or_else(String::new, |seconds| {
            format!("; its price: {} to drain", duration(2e9 * seconds))
        });
        match larger.burst_bytes {
            Some(burst) if burst > 512.0 * 1024.0 => {
                let mib = (2.0 * burst / (1 << 20) as f64).ceil().max(2.0) as u64;
                Remedy::new(
                    format!(
                        "buffer two batches at pipe:[{pipe}]: `| mbuffer -q -m {}M |`",
                        mib.next_power_of_two()
                    ),
                    format!(
                        "{}: batches of about {} exceed a pipe{drain}",
                        gain(bound),
                        bytes(burst)
                    ),
                    Some(bound),
                )
            }
            _ => Remedy::new(
                format!("a larger pipe:[{pipe}] (F_SETPIPE_SZ, up to 1 MiB)"),
                format!("{}: writer and reader alternate{drain}", gain(bound)),
                Some(bound),
            ),
        }
    }

    fn removal(&self) -> Option<Remedy> {
        let at = self.judged.removable?;
        let member = &self.evidence.members[at];
        let all: u64 = self.evidence.members.iter().map(|member| member.on_cpu_ns).sum();
        let part = member.on_cpu_ns as f64 / all.max(1) as f64;
        if part < 0.03 {
            return None;
        }
        Some(Remedy::new(
            format!("remove {}: its reader can open the file itself", member.label),
            format!("saves {} of all CPU time", percent(100.0 * part)),
            None,
        ))
    }
}

/// `at most 1.8× faster`.
fn gain(bound: f64) -> String {
    match bound {
        ..LEAST_GAIN => "negligible".to_owned(),
        ..20.0 => format!("at most {bound:.1}× as fast"),
        _ => "no bound found".to_owned(),
    }
}

/// What a member does that waits outside, after its name.
fn outside(outside: Outside) -> &'static str {
    match outside {
        Outside::ForeignData => "waits for data of a pipe from outside of this pipeline",
        Outside::ForeignSpace => "waits for space in a pipe to outside of this pipeline",
        Outside::For(why) => match why {
            Why::Disk => "waits for a disk",
            Why::Memory => "waits for memory pages",
            Why::Network => "waits for the network",
            Why::Timer => "sleeps on a timer",
            Why::Terminal => "waits for the terminal",
            Why::FileLock => "waits for a file lock",
            Why::Open => "waits for the other end of a FIFO to open",
            Why::Stopped => "is stopped",
            Why::Child => "waits for a child",
            Why::Signal => "waits for a signal",
            Why::Poll => "waits in poll() for something other than these pipes",
            Why::Other => "waits for something other than pipes",
            Why::Thread => "waits between its own threads",
            Why::Unknown => "sleeps, cause unknown",
        },
    }
}

fn advice(outside: Outside) -> &'static str {
    match outside {
        Outside::ForeignData | Outside::ForeignSpace => {
            "profile the whole pipeline, without --only-pids"
        }
        Outside::For(why) => match why {
            Why::Disk => "a faster disk, larger requests, read-ahead, or less to read and write",
            Why::Memory => "more memory, or members that use less",
            Why::Network => "a faster peer or network, or more than one connection",
            Why::Timer => "find out why it sleeps: a rate limit (pv -L), a poll loop, a timer",
            Why::Terminal => "read the input from a file",
            Why::FileLock => "find who holds the lock (/proc/locks)",
            Why::Open => "start the program at the other end of the FIFO",
            Why::Stopped => "continue it (kill -CONT)",
            Why::Child => "look at the child that it waits for",
            Why::Thread => "look at which thread it waits for, in its blocked tower",
            _ => "look at where it sleeps, in its blocked tower",
        },
    }
}
