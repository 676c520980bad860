//! Who members are, beyond their names, and what they have open: users, containers, threads, files.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use nix::unistd::{Uid, User};
use pipeprof_report::live::{FileNow, MemberNow, ThreadNow};
use pipeprof_runner::cgroup::{Place, place_of};
use pipeprof_runner::discover::{open_files, threads, user_of};
use pipeprof_runner::pipeline::MemberId;

/// What is known of members from interval to interval.
#[derive(Default)]
pub(crate) struct Known {
    members: HashMap<MemberId, Member>,
    users: HashMap<u32, String>,
    /// Positions in files and CPU time of threads, with when they were seen.
    positions: HashMap<(i32, i32, String), (Instant, u64)>,
    cpu_ns: HashMap<i32, (Instant, u64)>,
}

struct Member {
    user: Option<String>,
    place: Place,
    is_there: bool,
}

impl Known {
    /// Members not seen by the next interval are forgotten.
    pub(crate) fn begin(&mut self) {
        self.members.retain(|_, member| std::mem::take(&mut member.is_there));
    }

    /// Adds the user of a member and where it runs, which is looked up once.
    pub(crate) fn name(&mut self, id: MemberId, member: &mut MemberNow) {
        let users = &mut self.users;
        let known = self.members.entry(id).or_insert_with(|| Member {
            user: user_of(id.pid).map(|uid| name_of(users, uid)),
            place: place_of(id.pid),
            is_there: true,
        });
        known.is_there = true;
        member.user = known.user.clone();
        member.container = known.place.container.clone();
        member.unit = known.place.unit.clone();
    }

    /// Adds the open files of these members and the CPU use of their threads; other members are
    /// forgotten.
    pub(crate) fn detail<'a>(&mut self, members: impl Iterator<Item = &'a mut MemberNow>) {
        let (positions, cpu_ns) =
            (std::mem::take(&mut self.positions), std::mem::take(&mut self.cpu_ns));
        for member in members {
            let now = Instant::now();
            member.files = Some(self.files(member.pid, now, &positions));
            member.threads = Some(self.threads(member.pid, now, &cpu_ns));
        }
    }

    fn files(
        &mut self,
        pid: i32,
        now: Instant,
        before: &HashMap<(i32, i32, String), (Instant, u64)>,
    ) -> Vec<FileNow> {
        let mut files = Vec::new();
        for file in open_files(pid) {
            let path = file.path.to_string_lossy().into_owned();
            let key = (pid, file.fd, path.clone());
            let rate = before.get(&key).map(|&(then, position)| {
                let seconds = now.duration_since(then).as_secs_f64().max(1e-9);
                file.position_bytes.saturating_sub(position) as f64 / seconds
            });
            self.positions.insert(key, (now, file.position_bytes));
            files.push(FileNow {
                fd: file.fd,
                path,
                writes: file.writes,
                position_bytes: file.position_bytes,
                size_bytes: file.size_bytes,
                bytes_per_second: rate,
            });
        }
        files
    }

    fn threads(
        &mut self,
        pid: i32,
        now: Instant,
        before: &HashMap<i32, (Instant, u64)>,
    ) -> Vec<ThreadNow> {
        let mut found = Vec::new();
        for tid in threads(pid).unwrap_or_default() {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{file}"));
            let (Ok(name), Ok(account)) = (read("comm"), read("schedstat")) else { continue };
            let spent = account.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
            let cpus_used = before.get(&tid).zip(spent).map(|(&(then, ns), now_ns)| {
                let seconds = now.duration_since(then).as_secs_f64().max(1e-9);
                now_ns.saturating_sub(ns) as f64 / 1e9 / seconds
            });
            if let Some(ns) = spent {
                self.cpu_ns.insert(tid, (now, ns));
            }
            found.push(ThreadNow { tid, name: name.trim_end().to_owned(), cpus_used });
        }
        found
    }
}

/// The name of a user, or the number where the machine has none.
fn name_of(users: &mut HashMap<u32, String>, uid: u32) -> String {
    let look_up = || {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(|| uid.to_string(), |user| user.name)
    };
    users.entry(uid).or_insert_with(look_up).clone()
}
