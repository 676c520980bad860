//! A real pipe to capture, shared by the live tests.
#![allow(clippy::unwrap_used)]

pub(crate) mod wait;

use std::process::{Child, Command, Stdio};

use pipeprof_runner::pipeline::{Link, Member, Pipe, Pipeline};

/// `dd | dd`, killed when dropped.
pub(crate) struct Pair {
    pub(crate) writer: Child,
    pub(crate) reader: Child,
}

impl Pair {
    pub(crate) fn start() -> Pair {
        let mut writer = Command::new("dd")
            .args(["if=/dev/zero", "bs=64K", "status=none"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let reader = Command::new("dd")
            .args(["of=/dev/null", "bs=64K", "status=none"])
            .stdin(writer.stdout.take().unwrap())
            .spawn()
            .unwrap();
        Pair { writer, reader }
    }

    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.writer.id(), self.reader.id()]
    }

    pub(crate) fn pipeline(&self) -> Pipeline {
        let member = |child: &Child| Member {
            pid: child.id() as i32,
            start_time_ticks: None,
            comm: "dd".to_owned(),
            command_line: Vec::new(),
            end: None,
        };
        let members = [member(&self.writer), member(&self.reader)];
        let [writer, reader] = members.each_ref().map(Member::id);
        Pipeline {
            members: members.to_vec(),
            pipes: vec![Pipe {
                link: Link::Pipe,
                inode: 0,
                device: 0,
                path: None,
                writers: vec![writer],
                readers: vec![reader],
                capacity_bytes: None,
            }],
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in [&mut self.writer, &mut self.reader] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
