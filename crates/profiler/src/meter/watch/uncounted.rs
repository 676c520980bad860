//! What `/proc/PID/io` does not count: splices, and what arrives over TCP.

use pipeprof_runner::pipeline::{Link, MemberId};
use pipeprof_runner::sock_diag::SockDiag;

use super::{Gone, Watch};
use crate::meter::splices::Splices;
use crate::meter::{EndCount, estimate};

impl Watch {
    pub(super) fn count_splices_where_nothing_else_counts(&mut self) {
        for index in 0..self.pipes.len() {
            let (writer, reader) = self.ends(&self.pipes[index], Gone::AreNoEnd);
            let uncounted = |end: EndCount| end.splices && end.spliced.is_none();
            if !(writer.is_some_and(uncounted) && reader.is_some_and(uncounted))
                || estimate(writer, reader, 0).known().is_some()
            {
                continue;
            }
            let pipe = &self.pipes[index];
            // One end is enough: the reader's, where it can tell, as what it takes has gone through.
            let ends = [(&pipe.readers, true), (&pipe.writers, false)];
            let Some(members) = ends.iter().find_map(|&(ids, reads)| self.unambiguous(ids, reads))
            else {
                continue;
            };
            let splices = self.splices.get_or_insert_with(Splices::new);
            for (id, pipes) in members {
                let Ok(counting) = splices else { break };
                match counting.add(id.pid) {
                    Ok(()) => {
                        if let Some(process) = self.processes.get_mut(&id) {
                            process.counted = Some(pipes);
                        }
                    }
                    Err(why) => *splices = Err(why),
                }
            }
        }
    }

    /// The processes of an end that splice, with the pipes that they have, where a splice of theirs
    /// can only be of this pipe: they have no other on this side, and nothing else to splice there.
    fn unambiguous(
        &self,
        ids: &[MemberId],
        reads: bool,
    ) -> Option<Vec<(MemberId, (usize, usize))>> {
        let mut counted = Vec::new();
        for &id in ids {
            let process = self.processes.get(&id)?;
            let Some(watch) = &process.watch else { continue };
            let pipes = watch.pipes();
            let (ends, elsewhere) = if reads {
                (pipes.0, process.elsewhere.reads)
            } else {
                (pipes.1, process.elsewhere.writes)
            };
            if ends > 1 || elsewhere {
                return None;
            }
            counted.push((id, pipes));
        }
        Some(counted)
    }

    /// What has arrived over TCP, by the kernel's own count.
    pub(super) fn count_arrivals(&mut self) {
        for pipe in &mut self.pipes {
            let Link::Tcp { from, to, .. } = pipe.pipe.link else { continue };
            if self.sockets.is_none() {
                self.sockets = SockDiag::open().ok();
            }
            let socket = self.sockets.as_mut().and_then(|sockets| sockets.tcp_with(to, from));
            // One that has been closed says nothing more.
            let socket = socket.filter(|socket| socket.inode == pipe.pipe.inode);
            if let Some(now) = socket.and_then(|socket| socket.received_bytes) {
                let first = if self.from_birth { 0 } else { now };
                let (first, _) = pipe.arrived.unwrap_or((first, now));
                pipe.arrived = Some((first, now));
            }
        }
    }
}
