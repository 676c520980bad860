//! Nothing of processes outside the pipeline reaches the disk, though events on a CPU record them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::may_profile_kernel;

/// What a stranger has on its stack: made up at run time, so that it is in no program's file.
fn secret() -> Vec<u8> {
    (0..32u32).map(|at| b'A' + (at * 7 % 26) as u8).collect()
}

const NAME: &str = "pp-stranger-xyz";

/// Threads of this process, which is in no pipeline, that keep every CPU busy.
struct Strangers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Strangers {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = thread::available_parallelism().map_or(1, usize::from);
        let spin = |stop: Arc<AtomicBool>| {
            let mut on_stack = [0u8; 2048];
            for (byte, secret) in on_stack.iter_mut().zip(secret().iter().cycle()) {
                *byte = *secret;
            }
            let mut sum = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let read = std::hint::black_box(&on_stack).iter().map(|&byte| u64::from(byte));
                sum = sum.wrapping_add(read.sum::<u64>());
            }
            sum
        };
        let threads = (0..count).map(|_| {
            let stop = Arc::clone(&stop);
            thread::Builder::new().name(NAME.to_owned()).spawn(move || spin(stop)).unwrap()
        });
        Strangers { threads: threads.collect(), stop }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
    }
}

/// Bytes of the files of a folder, and how often they hold a text.
fn search(folder: &Path, text: &[u8]) -> (usize, usize) {
    let mut found = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        found.0 += bytes.len();
        found.1 += bytes.windows(text.len()).filter(|window| *window == text).count();
    }
    found
}

/// The slices of the stack lie on the disk until the watch is over: the maker is killed before.
#[test]
fn no_byte_of_a_strangers_stack_is_written() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let strangers = Strangers::start();
    let mut pipeprof = Command::new(env!("CARGO_BIN_EXE_pipeprof"))
        .args(["record", "--call-graph", "dwarf", "-F", "997", "-o", "r.pipeprof", "-q", "-c"])
        .arg("timeout 8 yes | timeout 8 cat > /dev/null")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let partial = folder.path().join("r.pipeprof.partial");
    let started = Instant::now();
    // Some hundreds of slices of the members.
    while search(&partial, b"\0").0 < 12 << 20 {
        assert!(started.elapsed() < Duration::from_secs(8), "nothing was recorded");
        thread::sleep(Duration::from_millis(50));
    }
    // Its own threads are among the strangers: the name of one that begins now is recorded too.
    Strangers::start().stop();
    thread::sleep(Duration::from_millis(300));
    pipeprof.kill().unwrap();
    pipeprof.wait().unwrap();
    strangers.stop();
    let (bytes, secrets) = search(&partial, &secret());
    assert_eq!(secrets, 0, "in {bytes} bytes");
    assert_eq!(search(&partial, NAME.as_bytes()).1, 0, "a stranger's name in {bytes} bytes");
}
