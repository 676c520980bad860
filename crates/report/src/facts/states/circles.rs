//! Members that wait for each other in a circle, one of them at a socket too.
//!
//! `sshd` polls its connection, and the pipe on which the program that it feeds may answer. That
//! program waits for `sshd`, so it is the network that both wait for.

use pipeprof_profiler::states::Why;

use super::{ActorId, Doing, Ends, Outside};

/// Members that wait for data of members that all wait in turn wait at their socket, if they wait
/// there too.
pub(super) fn break_circles(doing: &mut [Doing], at_socket: &[Option<Why>], pipes: &[Ends]) {
    let polling = at_socket.iter().enumerate().filter_map(|(actor, why)| Some((actor, (*why)?)));
    let in_circle: Vec<(ActorId, Why)> =
        polling.filter(|&(actor, _)| all_wait(actor, doing, pipes)).collect();
    for (actor, why) in in_circle {
        doing[actor] = Doing::Outside(Outside::For(why));
    }
}

/// It waits for data alone, and whoever it waits for waits at pipes, directly or through others: none
/// of them runs, or waits for something else.
fn all_wait(actor: ActorId, doing: &[Doing], pipes: &[Ends]) -> bool {
    if !matches!(&doing[actor], Doing::AtPipes(waits) if waits.space.is_empty()) {
        return false;
    }
    let mut seen = vec![false; doing.len()];
    seen[actor] = true;
    let mut left = vec![actor];
    while let Some(one) = left.pop() {
        let waits = match &doing[one] {
            Doing::AtPipes(waits) => waits,
            // A shell only holds the pipe, for the one that it waits for.
            Doing::Follows | Doing::Absent => continue,
            Doing::Busy(_) | Doing::Outside(_) => return false,
        };
        let writers = waits.data.iter().flat_map(|&pipe| &pipes[pipe].writers);
        let readers = waits.space.iter().flat_map(|&pipe| &pipes[pipe].readers);
        for &next in writers.chain(readers) {
            if !std::mem::replace(&mut seen[next], true) {
                left.push(next);
            }
        }
    }
    true
}
