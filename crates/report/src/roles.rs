//! Roles: what each stack does for the pipe or the socket, exactly one per stack.
//!
//! The rules are applied in this order, to source names (see [`source_name`]), leaf first:
//!
//! 1. No kernel frame: [`Role::User`].
//! 2. A page fault or an interrupt that is under way decides, whichever began first, unless the
//!    task left the CPU inside it for a reason of its own (rule 4).
//! 3. Events are being counted or recorded for a profiler: [`Role::Profiling`].
//! 4. The task is leaving the CPU, or coming back to it: what it waits for is said by the first
//!    function rootward of the scheduler that waits for something. A stack recorded at switch-out
//!    has the same shape, so blocked time is classified by the same rule.
//! 5. No function of pipes, splice, poll or sockets: [`Role::Syscall`] or [`Role::NonPipe`].
//! 6. Otherwise the first function, from the leaf, that does something for a pipe or a socket.
//!    Helpers (locks, list checks) are charged to their caller; what both need (copies, pages,
//!    mutexes, wake-ups) counts for the one whose code called it.
//! 7. Where a helper was reached by a tail call its caller is missing from the stack. The return
//!    address then tells which function was called: it is learned from the stacks of the same
//!    profile in which that function can be seen, or read from the kernel's code. Where neither
//!    tells, and the helper is one in which both wake-ups and waits end, it is
//!    [`Role::WakeupOrWait`].

mod name;
mod reason;
mod role;
mod symbols;

use pipeprof_profiler::profile::{FrameId, Mode, Profile, StackId};
use pipeprof_runner::pipeline::End;
use rustc_hash::FxHashMap;
use serde::Serialize;

pub use name::source_name;
pub use reason::Reason;
pub use role::Role;
use symbols::{Medium, Part, Traits, Wait};

/// What a role rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// A function in the stack.
    Seen,
    /// The function that other stacks show at the same call site, where a tail call hid it.
    Learned,
    /// The call instruction at the call site.
    Decoded,
    /// Only that wake-ups and waits end in the function that was sampled.
    Inferred,
}

/// The roles of all stacks of one profile.
#[derive(Clone, Debug)]
pub struct Classification {
    /// `None` for user frames.
    traits: Vec<Option<Traits>>,
    callees: FxHashMap<FrameId, (Traits, Basis)>,
    stacks: Vec<(Role, Basis)>,
}

impl Classification {
    /// Classifies every stack of a profile: one pass to learn the call sites, one to decide.
    pub fn of(profile: &Profile) -> Self {
        // Stacks are many and functions few: all that a name says is found out here.
        let names: Vec<Option<&str>> = profile
            .frames()
            .iter()
            .map(|frame| (frame.mode == Mode::Kernel).then(|| source_name(&frame.name)))
            .collect();
        let mut by_name: FxHashMap<&str, Traits> = FxHashMap::default();
        let mut of = |name| *by_name.entry(name).or_insert_with(|| symbols::traits(name));
        let traits: Vec<Option<Traits>> = names.iter().map(|name| name.map(&mut of)).collect();
        let callees = learn_call_sites(profile, &names, &traits);
        let mut this = Classification { traits, callees, stacks: Vec::new() };
        this.stacks = profile.stack_ids().map(|id| this.decide(profile.stack(id))).collect();
        this
    }

    /// What a stack does.
    pub fn role(&self, stack: StackId) -> Role {
        self.stacks[stack.index()].0
    }

    /// What that rests on.
    pub fn basis(&self, stack: StackId) -> Basis {
        self.stacks[stack.index()].1
    }

    /// The role of a node in a flame graph: of the stack (leaf first) from that node to the root.
    ///
    /// It depends on nothing leafward of the node, so a node never has two; the role of the node
    /// of a whole stack is the role of that stack.
    pub fn prefix_role(&self, frames: &[FrameId]) -> Role {
        self.decide(frames).0
    }

    /// Why a thread slept, by the stack (leaf first) that it slept in. Unlike an on-CPU stack it may
    /// be a single frame, the kernel function that `/proc/PID/wchan` names.
    pub fn reason(&self, profile: &Profile, stack: &[FrameId]) -> Reason {
        let kernel: Vec<FrameId> =
            stack.iter().copied().take_while(|&f| self.traits_of(f).is_some()).collect();
        let unresolved = kernel.iter().all(|&f| profile.frame(f).is_unresolved());
        if unresolved { Reason::Unknown } else { Reason::of(self.blocked_role(stack)) }
    }

    /// The role of a node in the picture of blocked stacks, from that node to the root.
    pub fn blocked_role(&self, frames: &[FrameId]) -> Role {
        let kernel = frames.iter().take_while(|&&f| self.traits_of(f).is_some()).count();
        let inside = &frames[..kernel];
        let part = |&frame: &FrameId| self.traits_of(frame).unwrap_or_default().part;
        let outermost = inside.iter().rposition(|f| part(f) == Part::Schedule).unwrap_or(0);
        match self.reason_to_wait(&inside[outermost..]) {
            Some(role) => role,
            None => self.decide(frames).0,
        }
    }

    /// Which end of a pipe a stack works at; `None` where it shows neither, or both.
    pub fn end_at_work(&self, stack: &[FrameId]) -> Option<End> {
        stack.iter().rev().filter_map(|&frame| self.traits_of(frame)).find_map(|traits| traits.end)
    }

    /// The function that a sleeping thread called the scheduler from, for where no reason is known.
    pub fn slept_in<'a>(&self, profile: &'a Profile, stack: &[FrameId]) -> Option<&'a str> {
        let is_part = |frame: FrameId| {
            self.traits_of(frame)
                .is_some_and(|t| matches!(t.part, Part::Schedule | Part::WaitQueue))
        };
        let frame = stack.iter().copied().find(|&frame| !is_part(frame))?;
        self.traits_of(frame)?;
        Some(source_name(&profile.frame(frame).name))
    }

    /// The leaf of a stack, where it is a function that turns interrupts on and so absorbs the
    /// samples that a timer couldn't take before.
    pub fn absorber(&self, frames: &[FrameId]) -> Option<FrameId> {
        frames.first().copied().filter(|&leaf| self.traits_of(leaf).is_some_and(|t| t.unmasks))
    }

    fn traits_of(&self, frame: FrameId) -> Option<Traits> {
        self.traits[frame.index()]
    }

    fn decide(&self, stack: &[FrameId]) -> (Role, Basis) {
        // User frames are all rootward of the kernel's.
        let kernel = stack.iter().take_while(|&&f| self.traits_of(f).is_some()).count();
        let frames = &stack[..kernel];
        if frames.is_empty() {
            return (Role::User, Basis::Seen);
        }
        let part = |&frame: &FrameId| self.traits_of(frame).unwrap_or_default().part;

        let entry =
            frames.iter().rposition(|f| matches!(part(f), Part::FaultEntry | Part::InterruptEntry));
        let inside = &frames[..entry.unwrap_or(frames.len())];
        if entry.is_none() && frames.iter().any(|f| part(f) == Part::Profiling) {
            return (Role::Profiling, Basis::Seen);
        }
        if let Some(outermost) = inside.iter().rposition(|f| part(f) == Part::Schedule) {
            let waiting = self.reason_to_wait(&inside[outermost..]);
            if let Some(role) = waiting {
                return (role, Basis::Seen);
            }
            if entry.is_none() {
                return (Role::Scheduler, Basis::Seen);
            }
        }
        if let Some(entry) = entry {
            let role = match part(&frames[entry]) {
                Part::FaultEntry => Role::PageFault,
                _ => Role::Interrupt,
            };
            return (role, Basis::Seen);
        }
        if self.medium(frames).is_none() {
            return (self.outside_pipes(frames, kernel < stack.len()), Basis::Seen);
        }
        self.first_role(frames)
    }

    /// Rule 4, for the frames from the outermost scheduler frame to the root.
    fn reason_to_wait(&self, frames: &[FrameId]) -> Option<Role> {
        let of = |&frame: &FrameId| self.traits_of(frame);
        match frames.iter().filter_map(of).find_map(|t| t.waits_for)? {
            Wait::Preempted => Some(Role::Preempted),
            // Mutexes are everywhere; the pipe's is the one that a pipe function takes.
            Wait::For(Role::PipeLock) if self.medium(frames).is_none() => Some(Role::Scheduler),
            Wait::For(role) => Some(self.of_its_medium(role, frames)),
        }
    }

    /// What the innermost of these frames that is about a pipe or a socket is about.
    fn medium(&self, frames: &[FrameId]) -> Option<Medium> {
        frames.iter().filter_map(|&frame| self.traits_of(frame)).find_map(|traits| traits.medium)
    }

    /// The role of what pipes and sockets both need, by who called for it.
    fn of_its_medium(&self, role: Role, rootward: &[FrameId]) -> Role {
        match self.medium(rootward) {
            Some(Medium::Socket) => role.for_a_socket(),
            Some(Medium::Pipe) | None => role,
        }
    }

    /// Rule 5. What user code entered the kernel for and is only a helper (a thunk, through which
    /// the entry code jumps before it sets up a frame) belongs to the entry.
    fn outside_pipes(&self, frames: &[FrameId], from_user: bool) -> Role {
        let mut entered = from_user;
        for &frame in frames {
            let traits = self.traits_of(frame).unwrap_or_default();
            match traits.role {
                Some(Role::Syscall) => entered = true,
                _ if traits.part == Part::Absorber => {}
                _ => return Role::NonPipe,
            }
        }
        if entered { Role::Syscall } else { Role::Other }
    }

    /// Rules 6 and 7.
    fn first_role(&self, frames: &[FrameId]) -> (Role, Basis) {
        let mut helper_ends_wakeups = false;
        let mut below_helper = false;
        for (depth, &frame) in frames.iter().enumerate() {
            let traits = self.traits_of(frame).unwrap_or_default();
            if traits.part == Part::Absorber {
                helper_ends_wakeups = traits.unmasks;
                below_helper = true;
                continue;
            }
            let rootward = &frames[depth..];
            if below_helper && traits.part == Part::Ordinary {
                if let Some(&(callee, basis)) = self.callees.get(&frame)
                    && let Some(role) = self.role_at(callee, rootward)
                {
                    return (role, basis);
                }
                let runs_the_pipe =
                    matches!(traits.role, Some(Role::PipeWrite | Role::PipeRead | Role::Splice));
                if helper_ends_wakeups && runs_the_pipe && !self.callees.contains_key(&frame) {
                    return (Role::WakeupOrWait, Basis::Inferred);
                }
            }
            below_helper = false;
            if let Some(role) = self.role_at(traits, rootward) {
                return (role, Basis::Seen);
            }
        }
        (Role::Other, Basis::Seen)
    }

    /// The role of a function that was called with these frames, leaf first, rootward of it or
    /// with itself as the first of them.
    fn role_at(&self, traits: Traits, rootward: &[FrameId]) -> Option<Role> {
        let of = |&frame: &FrameId| self.traits_of(frame);
        match traits.part {
            Part::WaitQueue => rootward.iter().filter_map(of).find_map(|t| match t.waits_for {
                Some(Wait::For(role)) => Some(role),
                _ => None,
            }),
            _ => match traits.role? {
                // Letting go of a contended mutex wakes the next in line: that is the lock's cost.
                Role::Wakeup
                    if rootward.iter().filter_map(of).any(|t| t.part == Part::MutexUnlock) =>
                {
                    Some(self.of_its_medium(Role::PipeLock, rootward))
                }
                role => Some(self.of_its_medium(role, rootward)),
            },
        }
    }
}

/// For each call site (a caller's frame includes its return address) the function that is seen to
/// be called there most often, helpers left out; or the one that the call instruction names.
fn learn_call_sites(
    profile: &Profile,
    names: &[Option<&str>],
    traits: &[Option<Traits>],
) -> FxHashMap<FrameId, (Traits, Basis)> {
    let mut seen: FxHashMap<FrameId, FxHashMap<&str, u64>> = FxHashMap::default();
    for member in &profile.members {
        for weight in &member.on_cpu {
            for pair in profile.stack(weight.stack).windows(2) {
                let (callee, caller) = (pair[0], pair[1]);
                let (Some(name), Some(_)) = (names[callee.index()], names[caller.index()]) else {
                    continue;
                };
                let called = traits[callee.index()].unwrap_or_default();
                // Without a symbol all call sites of an object have offset 0.
                if called.part == Part::Absorber || profile.frame(caller).offset == 0 {
                    continue;
                }
                *seen.entry(caller).or_default().entry(name).or_default() += weight.samples;
            }
        }
    }
    let learned = seen.into_iter().filter_map(|(site, callees)| {
        let (name, _) = callees.into_iter().max_by_key(|&(name, count)| (count, name))?;
        Some((site, (symbols::traits(name), Basis::Learned)))
    });
    let mut callees: FxHashMap<_, _> = learned.collect();
    let decoded = profile.frame_ids().filter_map(|site| {
        let name = source_name(profile.callee(site)?);
        // A call through a register goes by way of a thunk, whatever it calls.
        let is_direct = !symbols::is_thunk(name);
        is_direct.then(|| (site, (symbols::traits(name), Basis::Decoded)))
    });
    callees.extend(decoded);
    callees
}
