//! The kind of limit: a member by what it does, a pipe by what it costs, the CPUs, or none.

use super::judge::{Judge, LEAST_PRESSURE, MOSTLY};
use super::{Judged, Limiter};
use crate::facts::blame::Limit;
use crate::facts::states::{ActorId, Outside};
use crate::roles::Reason;
use crate::verdict::evidence::Work;
use crate::verdict::{Finding, PipeCause};
use pipeprof_profiler::states::Why;
use rustc_hash::FxHashSet;

impl Judge<'_> {
    pub(super) fn find(&self, judged: &mut Judged) {
        let elapsed = self.history.elapsed_ns() as f64;
        let Some(&(top, share)) = judged.limits.first() else { return };
        judged.share = share;
        if let Some((member, outside)) = self.idle(judged, top) {
            (judged.finding, judged.members) = (Finding::Idle, vec![member]);
            judged.outside = Some(outside);
            return;
        }
        if self.is_starved(judged, top) {
            self.find_starved(judged);
            return;
        }
        if let Some(pipe) = self.alternating(judged) {
            judged.finding = Finding::PipeBound(PipeCause::TooSmall);
            judged.pipe = Some(pipe);
            judged.members = self.ends_by_share(pipe);
            return;
        }
        match top {
            Limiter::Pipe(pipe) if self.evidence.pipes[pipe].between.is_some() => {
                (judged.finding, judged.pipe) = (Finding::Network, Some(pipe));
            }
            Limiter::Pipe(pipe) => {
                judged.finding = Finding::PipeBound(self.cause(pipe, elapsed));
                judged.pipe = Some(pipe);
                judged.members = self.ends_by_share(pipe);
                if judged.finding == Finding::PipeBound(PipeCause::TinyCalls) {
                    // Whose calls are small is to blame, and all that it does is for them.
                    judged.members.sort_by_key(|&member| !self.is_tiny(member, pipe));
                    let own = judged.members.first().map(|&member| self.limits_of(member));
                    judged.share = own.unwrap_or(0.0).max(judged.share);
                }
            }
            Limiter::Member(member) => self.find_member(judged, member),
            Limiter::Cpus | Limiter::Unknown => {}
        }
    }

    /// Whether more CPUs would make the pipeline faster than any change to the limiting member, or
    /// that member mostly waits for a CPU.
    fn is_starved(&self, judged: &Judged, top: Limiter) -> bool {
        let no_cpu = self.whole.share(|limit| matches!(limit, Limit::NoCpu(_)));
        let is_throttled = judged.lives.iter().any(|life| {
            matches!((life.quota, top), (Some(quota), Limiter::Member(member))
                if life.member == member && quota.held_back >= LEAST_PRESSURE)
        });
        if no_cpu < LEAST_PRESSURE || self.cpus_are_idle() && !is_throttled {
            return false;
        }
        let share_of = |limiters: Vec<(Limiter, f64)>| {
            limiters.iter().find(|(limiter, _)| *limiter == top).map_or(0.0, |(_, share)| *share)
        };
        let own = share_of(self.limiters(&self.whole, true));
        let with_waits = share_of(self.limiters(&self.whole, false));
        if with_waits - own > own {
            return true;
        }
        let Limiter::Member(member) = top else { return false };
        let blamed: Vec<ActorId> = self.actors_of(&[member]);
        let (without, _) = self.time_without(&blamed);
        self.time_with_cpus() < 0.9 * without
    }

    fn find_starved(&self, judged: &mut Judged) {
        judged.finding = Finding::Starved;
        // The limiting member comes first, though all wait for the same CPUs.
        let mut members: Vec<usize> = self.member_of.iter().filter_map(|member| *member).collect();
        members.sort_by(|&a, &b| self.limits_of(b).total_cmp(&self.limits_of(a)));
        members.retain(|&member| self.limits_of(member) >= 0.05);
        judged.members = members;
        judged.limits = self.limiters(&self.whole, true);
        let of_cpus = judged.limits.iter().find(|(limiter, _)| *limiter == Limiter::Cpus);
        judged.share = of_cpus.map_or(0.0, |(_, share)| *share);
    }

    fn find_member(&self, judged: &mut Judged, member: usize) {
        judged.members = vec![member];
        let error = self.error(judged.share);
        let near = judged.limits.iter().skip(1).filter_map(|&(limiter, share)| match limiter {
            Limiter::Member(other) if judged.share - share <= error.max(0.05) => Some(other),
            _ => None,
        });
        let near: Vec<usize> = near.collect();
        if !near.is_empty() && judged.phases.len() <= 1 {
            judged.finding = Finding::Balanced;
            judged.members.extend(near);
            return;
        }
        let of_member =
            |limit: Limit| limit.actor().and_then(|actor| self.member_of[actor]) == Some(member);
        let outside = self.whole.limits.iter().find_map(|&(limit, ns)| match limit {
            Limit::Outside(_, outside) if of_member(limit) => Some((outside, ns)),
            _ => None,
        });
        let busy = self
            .whole
            .share(|limit| of_member(limit) && matches!(limit, Limit::Busy(_) | Limit::NoCpu(_)));
        let waits =
            self.whole.share(|limit| of_member(limit) && matches!(limit, Limit::Outside(..)));
        match outside {
            Some((outside, _)) if waits > busy => {
                judged.outside = Some(outside);
                judged.finding = Finding::Outside(reason(outside));
            }
            _ => judged.finding = Finding::CpuBound,
        }
    }

    /// Nothing went through any pipe, and no member did anything: which member waits for what.
    fn idle(&self, judged: &Judged, top: Limiter) -> Option<(usize, Outside)> {
        let pipes = &self.evidence.pipes;
        let nothing = !pipes.is_empty() && pipes.iter().all(|pipe| pipe.bytes == Some(0));
        let cpu: f64 = self.uses.iter().map(|used| used.cpu_ns.max(used.busy_ns)).sum();
        // A source that sleeps before it writes limits what comes after.
        let is_phase = self.evidence.is_phase;
        if is_phase || !nothing || cpu > 0.05 * self.history.elapsed_ns() as f64 {
            return None;
        }
        let Limiter::Member(member) = top else { return None };
        Some((member, judged.life(member)?.outside.first()?.0))
    }

    /// The pipe whose ends take turns, where that is what the time goes to.
    fn alternating(&self, judged: &Judged) -> Option<usize> {
        let pipe = judged.larger_pipe.pipe?;
        let ends: FxHashSet<usize> = self.evidence.ends(pipe).into_iter().collect();
        let of_ends = judged.limits.iter().filter_map(|&(limiter, share)| match limiter {
            Limiter::Member(member) if ends.contains(&member) => Some(share),
            Limiter::Pipe(at) if at == pipe => Some(share),
            _ => None,
        });
        let mut shares: Vec<f64> = of_ends.collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        let [largest, second, ..] = shares[..] else { return None };
        let matters = judged.larger_pipe.bound >= 1.2 && judged.phases.len() <= 1;
        let is_even = largest <= MOSTLY + self.error(largest) && second >= 0.6 * largest;
        (matters && is_even && shares.iter().sum::<f64>() >= 0.7).then_some(pipe)
    }

    fn cause(&self, pipe: usize, elapsed: f64) -> PipeCause {
        let ends = self.evidence.ends(pipe);
        let tiny = ends.iter().any(|&member| {
            self.is_tiny(member, pipe)
                && self.pipe_work(member).is_some_and(|(at, part)| at == pipe && part >= MOSTLY)
        });
        if tiny {
            return PipeCause::TinyCalls;
        }
        let circles: f64 = self.whole.share(|limit| match limit {
            Limit::WakeUps(at) => self.pipe_of[at] == Some(pipe),
            _ => false,
        });
        let work = |work: Work| -> u64 {
            ends.iter().map(|&member| self.evidence.members[member].work(work)).sum()
        };
        let heaviest =
            Work::ALL.into_iter().filter(|work| *work != Work::Other).max_by_key(|&kind| {
                work(kind) + if kind == Work::WakeUp { (circles * elapsed) as u64 } else { 0 }
            });
        heaviest.and_then(PipeCause::of).unwrap_or(PipeCause::WakeUps)
    }
}

/// What a wait outside is called in the tables.
fn reason(outside: Outside) -> Reason {
    match outside {
        Outside::ForeignData => Reason::WaitData,
        Outside::ForeignSpace => Reason::WaitSpace,
        Outside::For(why) => match why {
            Why::Disk | Why::Writeback => Reason::Disk,
            Why::SocketSpace => Reason::SocketSpace,
            Why::SocketData => Reason::SocketData,
            Why::Network => Reason::Network,
            Why::Timer => Reason::Sleep,
            Why::FileLock => Reason::FileLock,
            Why::Child => Reason::Child,
            Why::Poll => Reason::Poll,
            Why::Thread => Reason::Futex,
            Why::Memory | Why::Terminal | Why::Open | Why::Stopped | Why::Signal | Why::Other => {
                Reason::Other
            }
            Why::Unknown => Reason::Unknown,
        },
    }
}
