//! Every sentence of a verdict.

use pipeprof_profiler::states::{Connection, Why};

use super::units::{bytes, duration, gain, listed, percent};
use super::{network, pipe_bound};
use crate::facts::states::Outside;
use crate::facts::verdict::{
    Doubt, Judged, LEAST_GAIN, MemberFacts, Next, Parallel, Party, PhaseFacts, Quota, Unclear,
};
use crate::verdict::evidence::{Evidence, MemberEvidence, Work};
use crate::verdict::{
    Fact, Finding, LimitShare, PhaseSummary, PipeCause, PipeLevel, Remedy, State, Verdict,
    WorkShare,
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
        evidence: words.facts(),
        remedies: words.remedies(),
    }
}

struct Words<'a> {
    evidence: &'a Evidence,
    judged: &'a Judged,
}

impl Words<'_> {
    fn named(&self, member: usize) -> String {
        let MemberEvidence { label, pid, .. } = &self.evidence.members[member];
        format!("{label} (pid {pid})")
    }

    fn party(&self, party: Party) -> String {
        match party {
            Party::Member(member) => self.named(member),
            Party::Pipe(pipe) => self.evidence.pipes[pipe].name(),
            Party::Cpus => "the CPUs".to_owned(),
            Party::Unknown => "nothing known".to_owned(),
        }
    }

    /// `pipe:[88121]`.
    fn pipe_name(&self, pipe: Option<usize>) -> String {
        pipe.map_or_else(|| "pipe:[0]".to_owned(), |at| self.evidence.pipes[at].name())
    }

    fn limit(&self, party: Party, share: f64) -> LimitShare {
        let (mut pid, mut name, mut inode) = (None, None, None);
        let kind = match party {
            Party::Member(member) => {
                let member = &self.evidence.members[member];
                (pid, name) = (Some(member.pid), Some(member.label.clone()));
                "member"
            }
            Party::Pipe(pipe) => {
                let pipe = &self.evidence.pipes[pipe];
                inode = Some(pipe.inode);
                name = pipe.link.is_socket().then(|| pipe.name());
                "pipe"
            }
            Party::Cpus => "cpus",
            Party::Unknown => "unknown",
        };
        LimitShare { kind, pid, name, inode, percent: 100.0 * share }
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
                let child = judged.life(member).and_then(|life| life.children.first());
                let child = child.map(|(name, lived)| (crate::escape::printable(name), *lived));
                let what = match (judged.outside, child) {
                    (Some(Outside::For(Why::Child)), Some((child, _))) => {
                        format!("runs {child}, one short-lived child after the other")
                    }
                    (waits, child) => {
                        let child = child.filter(|&(_, lived)| lived >= 0.5);
                        let child = child.map(|(child, _)| format!(" (in its child {child})"));
                        let of_network = self.connection(member).and_then(network::waits);
                        let waits = waits.map_or("waits", outside);
                        of_network.unwrap_or_else(|| waits.to_owned()) + &child.unwrap_or_default()
                    }
                };
                format!("bottleneck: {}, {share} of the time: it {what}", self.named(member))
            }
            (Finding::Starved, Some(member)) => match self.quota(member) {
                Some(quota) => format!(
                    "bottleneck: the CPU quota of {}, {share} of the time: its control group may \
                     use {}, and was throttled {} of the time",
                    self.named(member),
                    cpus(quota.cpus),
                    percent(100.0 * quota.held_back)
                ),
                None => format!(
                    "bottleneck: the CPUs, {share} of the time: the pipeline used {:.1} of {}. {} \
                     needs one most: {}",
                    judged.cpus_used(self.evidence.elapsed_ns as f64),
                    self.evidence.cpus,
                    self.named(member),
                    judged.life(member).map_or_else(String::new, |life| {
                        busy_share(life) + &self.held_back(life)
                    })
                ),
            },
            (Finding::Balanced, Some(_)) => {
                let names: Vec<String> = judged.members.iter().map(|&at| self.named(at)).collect();
                // Without states it is the time in which each of them does not wait.
                let each = if judged.limits.is_empty() { "each busy" } else { "each" };
                format!("bottleneck: {} alike, {each} {share} of the time", listed(&names))
            }
            (Finding::PipeBound(PipeCause::TinyCalls), Some(member)) => {
                let pipe = self.pipe_name(judged.pipe);
                format!(
                    "bottleneck: {}, {share} of the time: at {pipe}, {}",
                    self.named(member),
                    pipe_bound::cause(self.evidence, judged, PipeCause::TinyCalls)
                )
            }
            (Finding::PipeBound(cause), Some(_)) => {
                let names: Vec<String> = judged.members.iter().map(|&at| self.named(at)).collect();
                let pipe = self.pipe_name(judged.pipe);
                format!(
                    "bottleneck: {pipe} between {}: {}",
                    listed(&names),
                    pipe_bound::cause(self.evidence, judged, cause)
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
            Some(Unclear::NoSwitches) => {
                "context switches were not recorded, so waiting is unknown".to_owned()
            }
            Some(Unclear::Lost(share)) => {
                format!("{} of the records were lost", percent(100.0 * share))
            }
            Some(Unclear::NoKernel) => {
                "kernel code was not measured, and members wait there".to_owned()
            }
            Some(Unclear::NoMember) => "no member lived long enough to be judged".to_owned(),
            Some(Unclear::AllWait { member, share }) => format!(
                "every member waited for a neighbour most of the time ({}: {})",
                self.named(member),
                percent(100.0 * share)
            ),
            Some(Unclear::NoCause(member)) => {
                format!("{} sleeps, cause unknown: no call chain was sampled", self.named(member))
            }
            None => "no member could be looked at".to_owned(),
        }
    }

    fn busy(&self, life: &MemberFacts) -> String {
        let alive = life.used.alive_ns.max(1.0);
        if life.parallel == Parallel::Summed {
            return format!("its threads use {:.1} CPUs", life.cpus);
        }
        let mut text = busy_share(life);
        let lived = |(_, lived): &&(String, f64)| *lived >= 0.1;
        let mut children = life.children.iter().filter(lived);
        if let Some((first, _)) = children.next() {
            let more = if children.next().is_some() { " and others" } else { "" };
            text += &format!(" with its children ({}{more})", crate::escape::printable(first));
        }
        match life.parallel {
            Parallel::OneThread => {
                let name = life.busiest_thread.as_deref().unwrap_or("main");
                let name = crate::escape::printable(name);
                let does = match life.busiest_thread_ns as f64 {
                    ns if ns >= 0.8 * alive => "uses one CPU fully".to_owned(),
                    ns => format!(
                        "does {} of its work",
                        percent(100.0 * (ns / life.used.cpu_ns).min(1.0))
                    ),
                };
                text += &format!("; its thread {name} {does}, so more CPUs do not help");
            }
            Parallel::OneAtATime => {
                let name = &self.evidence.members[life.member].label;
                let lock =
                    if has_interpreter_lock(name) { "the interpreter's lock" } else { "a lock" };
                text += &format!(
                    "; of its {} threads one runs at a time ({lock}), so more CPUs do not help",
                    life.threads
                );
            }
            Parallel::AllCpus => text += "; it uses all CPUs",
            Parallel::Some | Parallel::Summed => {}
        }
        text + &self.held_back(life)
    }

    /// What kept a busy member from running.
    fn held_back(&self, life: &MemberFacts) -> String {
        let waits = 1.0 - life.used.on_cpu_share();
        match life.quota {
            Some(quota) if quota.held_back >= 0.05 => format!(
                "; its CPU quota of {} held it back {} of its life",
                cpus(quota.cpus),
                percent(100.0 * quota.held_back)
            ),
            _ if waits >= 0.1 => {
                let idle = self.judged.cpus_are_idle;
                let why = if idle { "not yet scheduled" } else { "no CPU free" };
                format!("; runnable {} of that: {why}", percent(100.0 * waits))
            }
            _ => String::new(),
        }
    }

    /// The quota that keeps a member from running more than anything else does.
    fn quota(&self, member: usize) -> Option<Quota> {
        let life = self.judged.life(member)?;
        let waits = life.used.run_delay_ns / life.used.alive_ns.max(1.0);
        life.quota.filter(|quota| quota.held_back >= 0.5 * waits.min(1.0))
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
                format!("{} is not filled as expected", self.evidence.pipes[pipe].name())
            }
            Doubt::LooksOnly => "drawn from looks at /proc alone; `pipeprof doctor` says how to \
                                 allow kernel profiling"
                .to_owned(),
            Doubt::Neighbours => "not every neighbour waits as expected".to_owned(),
            Doubt::Averages => "drawn from averages; states over time were not recorded".to_owned(),
            Doubt::Scattered => "no member or pipe limits half of the time".to_owned(),
        };
        format!("{level}: {why}")
    }

    /// What each member did most, but one that alone limits, and what the pipes cost.
    fn facts(&self) -> Vec<Fact> {
        if self.judged.finding == Finding::Unclear {
            return Vec::new();
        }
        let is_sole = matches!(self.judged.finding, Finding::CpuBound | Finding::Outside(_));
        let is_told = |life: &&MemberFacts| is_sole && self.judged.members.contains(&life.member);
        let mut shown: Vec<&MemberFacts> =
            self.judged.lives.iter().filter(|life| !is_told(life)).collect();
        shown.sort_by_key(|life| life.member);
        shown
            .into_iter()
            .map(|life| self.member(life))
            .chain(self.pressure())
            .chain(self.pipe_code())
            .collect()
    }

    fn member(&self, life: &MemberFacts) -> Fact {
        let member = &self.evidence.members[life.member];
        let used = &life.used;
        let states = [
            (used.busy_ns, State::Busy),
            (used.data_ns, State::WaitsForData),
            (used.space_ns, State::WaitsForSpace),
            (used.outside_ns, State::WaitsOutside),
            (used.follows_ns, State::WaitsForChildren),
        ];
        let most = states.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let (ns, state) = most.unwrap_or((0.0, State::Busy));
        let pipe = match state {
            State::WaitsForData => self.level(&member.reads_from, false),
            State::WaitsForSpace => self.level(&member.writes_to, true),
            _ => None,
        };
        let outside = life.outside.first().map(|(outside, _)| *outside);
        Fact::Member {
            pid: member.pid,
            name: member.label.clone(),
            state,
            waits_for: outside.filter(|_| state == State::WaitsOutside),
            percent: 100.0 * ns / used.alive_ns.max(1.0),
            pipe,
        }
    }

    /// The fullest, or emptiest, of some pipes.
    fn level(&self, pipes: &[usize], is_full: bool) -> Option<PipeLevel> {
        let level = |at: &usize| {
            let pipe = &self.evidence.pipes[*at];
            let share = if is_full { pipe.full } else { pipe.empty }?;
            let (link, inode) = (pipe.link, pipe.inode);
            Some(PipeLevel { link, inode, is_full, percent: 100.0 * share })
        };
        pipes.iter().filter_map(level).max_by(|a, b| a.percent.total_cmp(&b.percent))
    }

    fn pressure(&self) -> Option<Fact> {
        let share = self.judged.memory_pressure?;
        Some(Fact::MemoryPressure { percent: 100.0 * share })
    }

    /// What the pipes themselves cost.
    fn pipe_code(&self) -> Option<Fact> {
        if self.evidence.pipes.is_empty() {
            return None;
        }
        let members = &self.evidence.members;
        let on_cpu = members.iter().map(|member| member.on_cpu_ns).sum::<u64>().max(1) as f64;
        let mut work = Vec::from(Work::ALL.map(|work| {
            let ns: u64 = members.iter().map(|member| member.work(work)).sum();
            WorkShare { what: work.label(), percent: 100.0 * ns as f64 / on_cpu }
        }));
        let percent = work.iter().map(|share| share.percent).sum();
        work.retain(|share| share.percent >= 0.5);
        work.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        Some(Fact::PipeCode { percent, work })
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
                        format!("reduce the work of the busy thread of {name}, or split it")
                    }
                    Some(Parallel::OneAtATime) => {
                        format!("reduce the CPU time of {name}, or split it into several processes")
                    }
                    Some(Parallel::AllCpus) => {
                        format!("reduce the CPU time of {name}, or give it more CPUs")
                    }
                    _ => format!("reduce the CPU time of {name}, or spread it over more CPUs"),
                };
                vec![self.without_limit(what), self.larger_pipe()]
            }
            (Finding::Outside(_), Some(member)) => {
                let what = judged.outside.map_or("find out what it waits for", advice);
                let of_network = self.connection(member).and_then(network::advice);
                let what = of_network.unwrap_or(what);
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
            (Finding::Starved, Some(member)) if self.quota(member).is_some() => vec![Remedy::new(
                "raise the CPU quota of its control group (cpu.max), or use a cheaper member",
                format!(
                    "it waited for a CPU {} of the time that limits",
                    percent(100.0 * judged.share)
                ),
                None,
            )],
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
                pipe_bound::remedies(self.evidence, judged, cause)
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
        let pipe = self.pipe_name(larger.pipe);
        let drain = larger.drain_seconds.map_or_else(String::new, |seconds| {
            format!("; its price: {} to drain", duration(2e9 * seconds))
        });
        match larger.burst_bytes {
            Some(burst) if burst > 512.0 * 1024.0 && !self.is_socket(larger.pipe) => {
                let mib = (2.0 * burst / (1 << 20) as f64).ceil().max(2.0) as u64;
                Remedy::new(
                    format!(
                        "buffer two batches at {pipe}: `| mbuffer -q -m {mib}M |` or \
                         `| pipeprof buffer -m {mib}M |`",
                        mib = mib.next_power_of_two()
                    ),
                    format!(
                        "{}: batches of about {} exceed a pipe{drain}",
                        gain(bound),
                        bytes(burst)
                    ),
                    Some(bound),
                )
            }
            _ if self.is_socket(larger.pipe) => Remedy::new(
                format!("a larger send buffer of {pipe} (SO_SNDBUF)"),
                format!("{}: writer and reader alternate{drain}", gain(bound)),
                Some(bound),
            ),
            _ => Remedy::new(
                format!("a larger {pipe} (F_SETPIPE_SZ, up to 1 MiB)"),
                format!("{}: writer and reader alternate{drain}", gain(bound)),
                Some(bound),
            )
            .for_tune(),
        }
    }

    /// The connection at which a member waits, where it waits for the network.
    fn connection(&self, member: usize) -> Option<&Connection> {
        let is_network = self.judged.outside == Some(Outside::For(Why::Network));
        self.evidence.members[member].connection.as_ref().filter(|_| is_network)
    }

    fn is_socket(&self, pipe: Option<usize>) -> bool {
        pipe.is_some_and(|at| self.evidence.pipes[at].link.is_socket())
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

/// A line of evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Who it is about, where it is a member.
    pub(crate) who: String,
    pub(crate) what: String,
    /// Where that shows.
    pub(crate) pipe: String,
}

/// What bears a verdict out: a line for each phase where there are several, for each member beside
/// the limiting one, and for the pipes.
pub(crate) fn lines(verdict: &Verdict) -> Vec<Line> {
    let sentence = |what: String| Line { what, ..Line::default() };
    let mut lines = Vec::new();
    let phases = &verdict.phases;
    if phases.len() > 1 && verdict.finding != Finding::Unclear {
        let whole = phases.iter().map(|phase| phase.until_ns - phase.from_ns).sum::<u64>();
        lines.extend(phases.iter().enumerate().map(|(at, phase)| {
            sentence(format!(
                "phase {}, {} to {} ({} of the time): {} {} of it",
                at + 1,
                duration(phase.from_ns as f64),
                duration(phase.until_ns as f64),
                super::units::share(phase.until_ns - phase.from_ns, whole),
                limited_by(&phase.limit),
                percent(phase.limit.percent)
            ))
        }));
    }
    let names = |name: &str| {
        let same = |fact: &&Fact| matches!(fact, Fact::Member { name: other, .. } if other == name);
        verdict.evidence.iter().filter(same).count()
    };
    let mut left_out = 0;
    for fact in &verdict.evidence {
        match fact {
            Fact::Member { .. }
                if lines.iter().filter(|l: &&Line| !l.who.is_empty()).count() >= MOST_LINES =>
            {
                left_out += 1;
            }
            Fact::Member { pid, name, state, waits_for, percent: share, pipe } => {
                let who = if names(name) > 1 { format!("{name} ({pid})") } else { name.clone() };
                let what = match (state, waits_for) {
                    (State::Busy, _) => "busy",
                    (State::WaitsForData, _) => "waits for data",
                    (State::WaitsForSpace, _) => "waits for space",
                    (State::WaitsOutside, Some(of)) => outside(*of),
                    (State::WaitsOutside, None) => "waits",
                    (State::WaitsForChildren, _) => "waits for its children",
                };
                let pipe = pipe.map_or_else(String::new, |pipe| {
                    let level = if pipe.is_full { "full" } else { "empty" };
                    format!("{} {level} {}", pipe.link.named(pipe.inode), percent(pipe.percent))
                });
                lines.push(Line { who, what: format!("{what} {}", percent(*share)), pipe });
            }
            Fact::MemoryPressure { percent: share } => lines.push(sentence(format!(
                "memory pressure: some task of this machine waited for memory {} of the time",
                percent(*share)
            ))),
            Fact::PipeCode { percent: share, work } => {
                if left_out > 0 {
                    lines.push(sentence(format!("and {left_out} more")));
                }
                let each: Vec<String> = work
                    .iter()
                    .map(|one| format!("{} {}", one.what, percent(one.percent)))
                    .collect();
                let each = match &each[..] {
                    [] => String::new(),
                    each => format!(" ({})", each.join(", ")),
                };
                lines.push(sentence(format!(
                    "pipe code: {} of all CPU time{each}",
                    percent(*share)
                )));
            }
        }
    }
    lines
}

/// `busy 97 % of its life, on 1.9 CPUs`.
fn busy_share(life: &MemberFacts) -> String {
    let busy = percent(100.0 * life.used.busy_ns / life.used.alive_ns.max(1.0));
    match life.cpus {
        cpus if cpus >= 1.15 => format!("busy {busy} of its life, on {cpus:.1} CPUs"),
        _ => format!("busy {busy} of its life"),
    }
}

/// Runs the code of one thread at a time, whatever the number of threads.
fn has_interpreter_lock(name: &str) -> bool {
    ["python", "ruby", "pypy"].iter().any(|start| name.starts_with(start))
}

/// `0.5 CPUs`.
fn cpus(count: f64) -> String {
    let rounded = (100.0 * count).round() / 100.0;
    if rounded == 1.0 { "1 CPU".to_owned() } else { format!("{rounded} CPUs") }
}

fn limited_by(limit: &LimitShare) -> String {
    match (limit.kind, &limit.name, limit.pid, limit.inode) {
        (_, Some(name), Some(pid), _) => format!("{name} (pid {pid}) limits"),
        (_, Some(name), None, Some(_)) => format!("{name} limits"),
        (_, _, _, Some(inode)) => format!("pipe:[{inode}] limits"),
        ("cpus", ..) => "the CPUs limit".to_owned(),
        _ => "nothing tells what limits".to_owned(),
    }
}

/// What a member does that waits outside, after its name.
fn outside(outside: Outside) -> &'static str {
    match outside {
        Outside::ForeignData => "waits for data of a pipe from outside of this pipeline",
        Outside::ForeignSpace => "waits for space in a pipe to outside of this pipeline",
        Outside::For(why) => match why {
            Why::Disk => "waits for a disk",
            Why::Writeback => "waits for dirty pages to be written back to the disk",
            Why::Memory => "waits for pages: of files that it maps, or for free memory",
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
            Why::Writeback => {
                "a faster disk, less to write, or a higher limit of dirty pages (vm.dirty_bytes)"
            }
            Why::Memory => "more memory, or members that use less",
            Why::Network => "a faster peer or network, or more than one connection",
            Why::Timer => "find out why it sleeps: a rate limit (pv -L), a poll loop, a timer",
            Why::Terminal => "read the input from a file",
            Why::FileLock => "find who holds the lock (/proc/locks)",
            Why::Open => "start the program at the other end of the FIFO",
            Why::Stopped => "continue it (kill -CONT)",
            Why::Child => "do more in each child, or start fewer (xargs -n)",
            Why::Thread => "look at which thread it waits for, in its blocked tower",
            _ => "look at where it sleeps, in its blocked tower",
        },
    }
}
