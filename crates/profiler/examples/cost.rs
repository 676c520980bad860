use pipeprof_profiler::{
    counters::{CounterSet, Target},
    environment::Environment,
};
use std::{
    io::Write,
    os::fd::AsFd,
    process::{Command, Stdio},
    time::Instant,
};
fn run(with: u8, samecpu: bool, mib: u64) -> f64 {
    let (r, w) = std::io::pipe().unwrap();
    let rc = if samecpu { "0" } else { "1" };
    let mut a = Command::new("taskset")
        .args([
            "-c",
            "0",
            "sh",
            "-c",
            &format!("read x; exec dd if=/dev/zero bs=64k count={} status=none", mib * 16),
        ])
        .stdin(Stdio::piped())
        .stdout(w)
        .spawn()
        .unwrap();
    let mut b = Command::new("taskset")
        .args(["-c", rc, "dd", "of=/dev/null", "bs=64k", "status=none"])
        .stdin(Stdio::from(r.as_fd().try_clone_to_owned().unwrap()))
        .spawn()
        .unwrap();
    drop(r);
    std::thread::sleep(std::time::Duration::from_millis(60));
    let pids = [a.id() as i32, b.id() as i32];
    let targets = pids.map(Target::alone);
    let mut c = None;
    let mut p = None;
    if with == 1 {
        let mut s = CounterSet::attach(&targets, &Environment::read()).unwrap();
        s.enable().unwrap();
        c = Some(s);
    }
    if with == 2 {
        p = Some(
            Command::new("perf")
                .args(["stat", "-p", &format!("{},{}", pids[0], pids[1])])
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let t = Instant::now();
    a.stdin.take().unwrap().write_all(b"\n").unwrap();
    a.wait().unwrap();
    b.wait().unwrap();
    let e = t.elapsed().as_secs_f64();
    if let Some(mut p) = p {
        p.wait().unwrap();
    }
    if let Some(s) = c
        && std::env::var_os("SHOW").is_some()
    {
        for m in s.read() {
            for c in m.counters {
                eprintln!("{} {:?}", c.name, c.value);
            }
        }
    }
    e
}
fn main() {
    for same in [true, false] {
        let mut v = [vec![], vec![], vec![]];
        for _ in 0..15 {
            for k in 0..3u8 {
                v[k as usize].push(run(k, same, if same { 1000 } else { 300 }));
            }
        }
        let mut ratio: Vec<f64> = v[1].iter().zip(&v[0]).map(|(a, b)| a / b).collect();
        ratio.sort_by(f64::total_cmp);
        let mut ratio2: Vec<f64> = v[2].iter().zip(&v[0]).map(|(a, b)| a / b).collect();
        ratio2.sort_by(f64::total_cmp);
        for x in &mut v {
            x.sort_by(f64::total_cmp);
        }
        println!(
            "same cpu {same}: median {:.3} / ours {:.3} / perf {:.3}; pair ratio ours {:.3} ({:.3}..{:.3}) perf {:.3}",
            v[0][7], v[1][7], v[2][7], ratio[7], ratio[3], ratio[11], ratio2[7]
        );
    }
}
