//! Checks before the first run what about this machine affects the figures.

use std::fs;
use std::time::Duration;

use pipeprof_profiler::environment::Environment;
use pipeprof_report::ladder::MachineFact;
use pipeprof_runner::cpus::{Pin, of_thread, ranges};
use pipeprof_runner::pair::launch;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::Stage;

use crate::args::pair as pair_args;

/// How long other processes are watched.
const WATCH: Duration = Duration::from_millis(300);

/// More than this share of a CPU, used by other processes, spoils the figures.
const MUCH: f64 = 0.1;

/// The result of all checks.
pub(super) fn look(pin: Pin) -> Vec<MachineFact> {
    let environment = Environment::read();
    let placement = placement(pin);
    let mut facts = vec![cpus(&placement)];
    facts.push(governor(&read_governors(&placement)));
    facts.push(huge_pages(environment.huge_pages.transparent.as_deref()));
    facts.extend(load(watch_others()));
    if environment.virtualisation.guest {
        facts.push(fact("a virtual machine: waking a task on another CPU goes through the host"));
    }
    if let Some(limit) = environment.rights().kernel.limit() {
        facts.push(MachineFact {
            text: format!("no costs by role: {}", limit.consequence),
            remedy: limit.fix.clone(),
        });
    }
    facts
}

fn fact(text: impl Into<String>) -> MachineFact {
    MachineFact { text: text.into(), remedy: None }
}

fn spoilt(text: impl Into<String>, remedy: &str) -> MachineFact {
    MachineFact { text: text.into(), remedy: Some(remedy.to_owned()) }
}

/// The CPUs that each end of a pair may use here; empty where no pair can be started, which the
/// first run will tell.
fn placement(pin: Pin) -> Vec<Vec<u32>> {
    let plan = PairPlan::new(Stage::Write, &Knobs { pin, ..Knobs::default() });
    let prepared = plan.and_then(|plan| launch(&plan, &pair_args::reexec()));
    let Ok(prepared) = prepared else { return Vec::new() };
    let cpus = prepared.pipeline().members.iter().filter_map(|member| of_thread(member.pid));
    cpus.map(|cpus| cpus.into_iter().map(|cpu| cpu as u32).collect()).collect()
}

fn cpus(placement: &[Vec<u32>]) -> MachineFact {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let many = if count == 1 { "1 CPU".to_owned() } else { format!("{count} CPUs") };
    let [writer, reader] = placement else { return fact(many) };
    let ([writer], [reader]) = (&writer[..], &reader[..]) else {
        return spoilt(
            format!("{many}, and the ends are not pinned: they may move between CPUs"),
            "--pin auto",
        );
    };
    let text = format!("{many}, the writer on {writer} and the reader on {reader}");
    if writer == reader {
        let remedy = if count == 1 {
            "nothing: a pair that busy-loops needs two CPUs"
        } else {
            "--pin auto"
        };
        return spoilt(format!("{text}: the ends alternate"), remedy);
    }
    let siblings = format!("/sys/devices/system/cpu/cpu{writer}/topology/core_cpus_list");
    let siblings = fs::read_to_string(siblings).unwrap_or_default();
    if ranges(&siblings).is_some_and(|all| all.iter().any(|range| range.contains(reader))) {
        return spoilt(format!("{text}, which are one core"), "--pin with CPUs of two cores");
    }
    fact(text)
}

/// Of the CPUs that the ends use, each once.
fn read_governors(placement: &[Vec<u32>]) -> Vec<String> {
    let read = |cpu: &u32| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    };
    let mut found: Vec<String> = placement.iter().flatten().filter_map(read).collect();
    found.sort();
    found.dedup();
    found
}

fn governor(governors: &[String]) -> MachineFact {
    match governors {
        [] => fact("no frequency governor: this kernel does not set the CPUs' speed"),
        [one] if one == "performance" => fact("frequency governor performance"),
        others => spoilt(
            format!("frequency governor {}: a CPU that slept is slow at first", others.join(", ")),
            "sudo cpupower frequency-set -g performance",
        ),
    }
}

fn huge_pages(mode: Option<&str>) -> MachineFact {
    match mode {
        Some("never") => spoilt(
            "transparent huge pages are off: the stages from huge-page on have none",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(mode) => fact(format!("transparent huge pages {mode}")),
        None => fact("no transparent huge pages: the stages from huge-page on have none"),
    }
}

/// How many CPUs other processes use, and how many the host took.
fn watch_others() -> Option<(f64, f64)> {
    let read = || parse_stat(&fs::read_to_string("/proc/stat").ok()?);
    let before = read()?;
    std::thread::sleep(WATCH);
    let after = read()?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let cpus = |ticks_used: u64| ticks_used as f64 / ticks as f64 / WATCH.as_secs_f64();
    let (busy, stolen) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    Some((cpus(busy), cpus(stolen)))
}

/// Ticks that all CPUs were busy, and that the host had given away, since boot.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat
        .lines()
        .find(|line| line.starts_with("cpu "))?
        .split_ascii_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user and nice.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum();
    Some((busy, fields.get(7).copied().unwrap_or(0)))
}

fn load(others: Option<(f64, f64)>) -> Option<MachineFact> {
    let (busy, stolen) = others?;
    if stolen > MUCH {
        return Some(spoilt(
            format!("the host takes {stolen:.1} CPUs, and other processes use {busy:.1}"),
            "not fixable on this machine: use more --runs, or try at another time",
        ));
    }
    Some(if busy > MUCH {
        spoilt(
            format!("other processes use {busy:.1} CPUs"),
            "wait until they are done, or use more --runs",
        )
    } else {
        fact(format!("other processes use {busy:.2} CPUs"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spoils_the_figures_comes_with_a_remedy() {
        let is_spoilt = |fact: &MachineFact| fact.remedy.is_some();
        assert!(!is_spoilt(&governor(&[])));
        assert!(!is_spoilt(&governor(&["performance".to_owned()])));
        assert!(is_spoilt(&governor(&["powersave".to_owned()])));
        assert!(is_spoilt(&governor(&["performance".to_owned(), "powersave".to_owned()])));
        assert!(is_spoilt(&huge_pages(Some("never"))));
        assert!(!is_spoilt(&huge_pages(Some("madvise"))));
        assert!(is_spoilt(&load(Some((1.3, 0.0))).unwrap()));
        assert!(is_spoilt(&load(Some((0.0, 0.5))).unwrap()));
        assert!(!is_spoilt(&load(Some((0.05, 0.0))).unwrap()));
        assert!(load(None).is_none());
        assert!(is_spoilt(&cpus(&[vec![0], vec![0]])));
        assert!(is_spoilt(&cpus(&[vec![0, 1], vec![0, 1]])));
    }

    #[test]
    fn busy_and_stolen_ticks_are_told_apart() {
        let stat = "cpu  10 20 30 400 50 6 7 8 9 1\ncpu0 1 2 3 4\n";
        assert_eq!(parse_stat(stat), Some((73, 8)));
        assert_eq!(parse_stat("intr 5\n"), None);
    }
}
