//! The sentence of a verdict, and how sure it is.

use pipeprof_profiler::states::{Connection, GroupLimits, Why};

use super::units::{cpus, duration, listed, percent, thousands};
use super::{control_group, network, pipe_bound};
use crate::facts::states::Outside;
use crate::facts::verdict::{
    Doubt, Judged, Limiter, MemberFacts, Parallel, PhaseFacts, Quota, Unclear,
};
use crate::verdict::evidence::{Evidence, MemberEvidence};
use crate::verdict::{Finding, LimitShare, PhaseSummary, PipeCause, Verdict};

/// The most members that a sentence names.
const MOST_NAMES: usize = 6;

pub(crate) fn verdict(evidence: &Evidence, judged: &Judged) -> Verdict {
    let words = Words { evidence, judged };
    Verdict {
        finding: judged.finding,
        members: judged.members.iter().map(|&at| evidence.members[at].pid).collect(),
        pipe: judged.pipe.map(|at| evidence.pipes[at].inode),
        confidence: judged.confidence,
        doubt: judged.doubt.map(|doubt| words.doubt(doubt)),
        limits: judged.limits.iter().map(|&(limiter, share)| words.limit(limiter, share)).collect(),
        phases: judged.phases.iter().map(|phase| words.phase_summary(phase)).collect(),
        headline: words.headline(),
        evidence: words.facts(),
        remedies: words.remedies(),
    }
}

pub(super) struct Words<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) judged: &'a Judged,
}

impl Words<'_> {
    pub(super) fn named(&self, member: usize) -> String {
        let MemberEvidence { label, pid, host, .. } = &self.evidence.members[member];
        match host {
            Some(host) => format!("{label} (pid {pid} on {host})"),
            None => format!("{label} (pid {pid})"),
        }
    }

    /// The members that a verdict is about.
    fn all_named(&self) -> String {
        let members = &self.judged.members;
        // A number takes the place of two names at the least.
        let shown = if members.len() > MOST_NAMES { MOST_NAMES - 1 } else { members.len() };
        let mut names: Vec<String> = members[..shown].iter().map(|&at| self.named(at)).collect();
        if shown < members.len() {
            names.push(format!("{} others", thousands((members.len() - shown) as u64)));
        }
        listed(&names)
    }

    fn limiter(&self, limiter: Limiter) -> String {
        match limiter {
            Limiter::Member(member) => self.named(member),
            Limiter::Pipe(pipe) => self.evidence.pipes[pipe].name(),
            Limiter::Cpus => "the CPUs".to_owned(),
            Limiter::Unknown => "an unknown cause".to_owned(),
        }
    }

    /// `pipe:[88121]`.
    pub(super) fn pipe_name(&self, pipe: Option<usize>) -> String {
        pipe.map_or_else(|| "pipe:[0]".to_owned(), |at| self.evidence.pipes[at].name())
    }

    fn limit(&self, limiter: Limiter, share: f64) -> LimitShare {
        let (mut pid, mut name, mut host, mut inode) = (None, None, None, None);
        let kind = match limiter {
            Limiter::Member(member) => {
                let member = &self.evidence.members[member];
                (pid, name) = (Some(member.pid), Some(member.label.clone()));
                host.clone_from(&member.host);
                "member"
            }
            Limiter::Pipe(pipe) => {
                let pipe = &self.evidence.pipes[pipe];
                if pipe.between.is_some() {
                    name = Some(pipe.name());
                    return LimitShare {
                        kind: "network",
                        pid,
                        name,
                        host,
                        inode,
                        percent: 100.0 * share,
                    };
                }
                inode = Some(pipe.inode);
                name = pipe.link.is_socket().then(|| pipe.name());
                "pipe"
            }
            Limiter::Cpus => "cpus",
            Limiter::Unknown => "unknown",
        };
        LimitShare { kind, pid, name, host, inode, percent: 100.0 * share }
    }

    fn phase_summary(&self, phase: &PhaseFacts) -> PhaseSummary {
        PhaseSummary {
            from_ns: phase.from_ns,
            until_ns: phase.until_ns,
            limit: self.limit(phase.limiter, phase.share),
            waits: phase.outside.map(outside),
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
                        let limits = self.limits(member).and_then(control_group::explains);
                        let waits = waits.map_or("waits", outside);
                        of_network.unwrap_or_else(|| waits.to_owned())
                            + &child.unwrap_or_default()
                            + &limits.unwrap_or_default()
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
                None => {
                    let (of_host, used) = match &self.evidence.members[member].host {
                        // CPUs of another host are of no use to it.
                        Some(host) => (format!(" of {host}"), String::new()),
                        None => {
                            let used = judged.cpus_used(self.evidence.elapsed_ns as f64);
                            let cpus = self.evidence.cpus;
                            (String::new(), format!("the pipeline used {used:.1} of {cpus}. "))
                        }
                    };
                    let busy = judged
                        .life(member)
                        .map_or_else(String::new, |life| busy_share(life) + &self.held_back(life));
                    format!(
                        "bottleneck: the CPUs{of_host}, {share} of the time: {used}{} needs a CPU \
                         most: {busy}",
                        self.named(member)
                    )
                }
            },
            (Finding::Balanced, Some(_)) => {
                // Without states it is the time in which each of them does not wait.
                let each = if judged.limits.is_empty() { "each busy" } else { "each" };
                format!("bottleneck: {} alike, {each} {share} of the time", self.all_named())
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
                let pipe = self.pipe_name(judged.pipe);
                format!(
                    "bottleneck: {pipe} between {}: {}",
                    self.all_named(),
                    pipe_bound::cause(self.evidence, judged, cause)
                )
            }
            (Finding::Network, _) => {
                let between = self.between().map(network::in_between).unwrap_or_default();
                format!(
                    "bottleneck: {}, {share} of the time: {between}",
                    self.pipe_name(judged.pipe)
                )
            }
            (Finding::Unclear, _) | (_, None) => format!("no verdict: {}", self.unclear()),
        }
    }

    /// The connection of two hosts that limits.
    pub(super) fn between(&self) -> Option<&Connection> {
        let pipe = &self.evidence.pipes[self.judged.pipe?];
        pipe.between.as_ref().map(|between| &between.connection)
    }

    fn unclear(&self) -> String {
        match self.judged.unclear {
            Some(Unclear::TooShort(ns)) => {
                format!("{} is too short to judge", duration(ns as f64))
            }
            Some(Unclear::FewLooks(looks)) => format!("only {looks} looks at the members"),
            Some(Unclear::Unexplained(share)) => format!(
                "what the members wait for is unknown {} of the time",
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
            None => "no member could be observed".to_owned(),
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
                    "; only one of its {} threads runs at a time ({lock}), so more CPUs do not help",
                    life.threads
                );
            }
            Parallel::AllCpus => text += "; it uses all CPUs",
            Parallel::Some | Parallel::Summed => {}
        }
        text + &self.held_back(life)
    }

    /// What kept a busy member from running: its CPU quota, or no free CPU.
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
    pub(super) fn quota(&self, member: usize) -> Option<Quota> {
        let life = self.judged.life(member)?;
        let waits = life.used.run_delay_ns / life.used.alive_ns.max(1.0);
        life.quota.filter(|quota| quota.held_back >= 0.5 * waits.min(1.0))
    }

    /// What the control group of a member limits, and what the member waits for.
    pub(super) fn limits(&self, member: usize) -> Option<(&GroupLimits, Outside)> {
        self.evidence.members[member].limits.as_ref().zip(self.judged.outside)
    }

    /// A member runs for longer than it waits for something outside the pipeline.
    fn works(&self, member: usize) -> bool {
        self.judged.life(member).is_none_or(|life| life.used.busy_ns >= life.used.outside_ns)
    }

    fn doubt(&self, doubt: Doubt) -> String {
        let level = match self.judged.confidence {
            Some(crate::verdict::Confidence::Low) => "low confidence",
            _ => "medium confidence",
        };
        let why = match doubt {
            Doubt::FewLooks(looks) => format!("only {looks} looks at the members"),
            Doubt::NextIsNear(Limiter::Member(member)) if self.works(member) => {
                format!("{} is almost as busy", self.named(member))
            }
            Doubt::NextIsNear(Limiter::Cpus) => "waiting for a CPU takes almost as long".to_owned(),
            Doubt::NextIsNear(limiter) => {
                format!("{} limits almost as often", self.limiter(limiter))
            }
            Doubt::Unexplained(share) => format!(
                "what the members wait for is unknown {} of the time",
                percent(100.0 * share)
            ),
            Doubt::FillDisagrees(pipe) => {
                format!("{} is not filled as expected", self.evidence.pipes[pipe].name())
            }
            Doubt::LooksOnly => "based on looks at /proc alone; `pipeprof doctor` says how to \
                                 allow kernel profiling"
                .to_owned(),
            Doubt::Neighbours => "not every neighbour waits as expected".to_owned(),
            Doubt::Averages => "based on averages; states over time were not recorded".to_owned(),
            Doubt::Clocks => {
                "the clocks of the two hosts are aligned by their date alone".to_owned()
            }
            Doubt::Scattered => "no member or pipe limits half of the time".to_owned(),
        };
        format!("{level}: {why}")
    }
}

/// `busy 97 % of its life, on 1.9 CPUs`.
fn busy_share(life: &MemberFacts) -> String {
    let busy = percent(100.0 * life.used.busy_ns / life.used.alive_ns.max(1.0));
    match life.cpus {
        cpus if cpus >= 1.15 => format!("busy {busy} of its life, on {cpus:.1} CPUs"),
        _ => format!("busy {busy} of its life"),
    }
}

/// Its interpreter runs one thread at a time, however many it has.
fn has_interpreter_lock(name: &str) -> bool {
    ["python", "ruby", "pypy"].iter().any(|start| name.starts_with(start))
}

/// What a member that waits outside the pipeline does, as a predicate.
pub(super) fn outside(outside: Outside) -> &'static str {
    match outside {
        Outside::ForeignData => "waits for data from a pipe outside this pipeline",
        Outside::ForeignSpace => "waits for space in a pipe outside this pipeline",
        Outside::For(why) => match why {
            Why::Disk => "waits for a disk",
            Why::Writeback => "waits for dirty pages to be written back to the disk",
            Why::Memory => "waits for memory: pages of files that it maps, or free memory",
            Why::SocketSpace => "waits for the peer of a socket to read",
            Why::SocketData => "waits for the peer of a socket to send",
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
