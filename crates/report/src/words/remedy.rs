//! What to do about a limit, and how much it gains at most.

use pipeprof_profiler::states::{Connection, Why};

use super::units::{bytes, duration, gain, percent};
use super::verdict::Words;
use super::{control_group, network, pipe_bound};
use crate::facts::states::Outside;
use crate::facts::verdict::{LEAST_GAIN, Next, Parallel, Redundant, Removable};
use crate::verdict::{Finding, PipeCause, Remedy};

impl Words<'_> {
    pub(super) fn remedies(&self) -> Vec<Remedy> {
        let judged = self.judged;
        let first = judged.members.first().copied();
        let mut remedies = match (judged.finding, first) {
            (Finding::Network, _) => {
                let advice = self.between().map_or("", network::advice_in_between);
                vec![self.without_limit(advice.to_owned())]
            }
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
                let of_limits = self.limits(member).and_then(control_group::advice);
                let what = of_limits.unwrap_or_else(|| of_network.unwrap_or(what).to_owned());
                let name = &self.evidence.members[member].label;
                vec![
                    self.without_limit(what),
                    Remedy::new(
                        format!("a faster CPU, or a cheaper {name}"),
                        self.busy_share(member),
                        None,
                    ),
                ]
            }
            (Finding::Balanced, Some(_)) => {
                let what = "make all of them faster; a faster one alone gains little".to_owned();
                vec![self.without_limit(what), self.larger_pipe()]
            }
            (Finding::Starved, Some(member)) if self.quota(member).is_some() => vec![Remedy::new(
                "raise the CPU quota of its control group (cpu.max), or use a cheaper member",
                format!(
                    "waiting for a CPU limits the pipeline {} of the time",
                    percent(100.0 * judged.share)
                ),
                None,
            )],
            (Finding::Starved, Some(_)) => vec![Remedy::new(
                "give the pipeline more CPUs, run less beside it, or use cheaper members (taskset, \
                 nice, cgroup)",
                format!(
                    "waiting for a CPU limits the pipeline {} of the time",
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
                let used = self.judged.life(*member).map(|life| life.used);
                let waits = used.is_some_and(|used| used.outside_ns > used.busy_ns);
                let text = format!(
                    "next limit: {}, {} {} of the time: {}",
                    self.named(*member),
                    if waits { "waiting for something other than pipes" } else { "busy" },
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
        if !larger.is_shown() {
            let text = "gain unknown: too few looks at the members; profile for longer";
            return Remedy::new("a larger pipe", text, None);
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

    /// The connection that a member waits for, if it waits at a socket.
    pub(super) fn connection(&self, member: usize) -> Option<&Connection> {
        let waits = matches!(self.judged.outside, Some(Outside::For(why)) if why.is_at_socket());
        self.evidence.members[member].connection.as_ref().filter(|_| waits)
    }

    fn is_socket(&self, pipe: Option<usize>) -> bool {
        pipe.is_some_and(|at| self.evidence.pipes[at].link.is_socket())
    }

    fn removal(&self) -> Option<Remedy> {
        let Removable { member, because } = self.judged.removable?;
        let member = &self.evidence.members[member];
        let all: u64 = self.evidence.members.iter().map(|member| member.on_cpu_ns).sum();
        let part = member.on_cpu_ns as f64 / all.max(1) as f64;
        if part < 0.03 {
            return None;
        }
        Some(Remedy::new(
            match because {
                Redundant::ReadsFile => format!("replace {} by `< FILE`", member.label),
                Redundant::Copies => format!("remove {}: it only copies", member.label),
                Redundant::ShowsProgress => {
                    format!("remove {}: another one shows the progress", member.label)
                }
            },
            format!("saves {} of all CPU time", percent(100.0 * part)),
            None,
        ))
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
            Why::SocketSpace | Why::SocketData => "a faster peer, or a faster way to it",
            Why::Network => "a faster peer or network, or more than one connection",
            Why::Timer => "find out why it sleeps: a rate limit (pv -L), a poll loop, a timer",
            Why::Terminal => "read the input from a file",
            Why::FileLock => "find who holds the lock (/proc/locks)",
            Why::Open => "start the program at the other end of the FIFO",
            Why::Stopped => "continue it (kill -CONT)",
            Why::Child => "do more in each child, or start fewer (xargs -n)",
            Why::Thread => "see which thread it waits for in its blocked call chains",
            _ => "see where it sleeps in its blocked call chains",
        },
    }
}
