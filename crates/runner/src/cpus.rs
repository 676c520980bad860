//! Which CPU each end runs on.

use std::fs;
use std::ops::RangeInclusive;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::pipeline::End;

/// `--pin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    /// Two CPUs that share no core, where there are two.
    #[default]
    Auto,
    /// Both on one CPU.
    Same,
    /// Wherever the scheduler puts them.
    None,
    /// The writer's and the reader's CPU; they may be the same.
    Cpus(usize, usize),
}

impl std::str::FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Pin, String> {
        let numbers = || {
            let (writer, reader) = text.split_once(',')?;
            Some(Pin::Cpus(writer.trim().parse().ok()?, reader.trim().parse().ok()?))
        };
        match text {
            "auto" => Ok(Pin::Auto),
            "same" => Ok(Pin::Same),
            "none" => Ok(Pin::None),
            _ => numbers().ok_or_else(|| {
                format!(
                    "{text:?}: use auto, same, none, or the writer's and reader's CPU, as in 0,1"
                )
            }),
        }
    }
}

/// Where the two ends will run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) writer: Option<usize>,
    pub(crate) reader: Option<usize>,
    /// Pinning was wanted, and this process may use one CPU only.
    pub(crate) only_one: bool,
}

/// # Errors
/// [`Error::Refused`] where `pin` names a CPU that this process may not use.
pub(crate) fn place(pin: Pin) -> Result<Placement, Error> {
    match pin {
        Pin::None => Ok(Placement::default()),
        Pin::Cpus(writer, reader) => {
            check_allowed(writer)?;
            check_allowed(reader)?;
            Ok(Placement { writer: Some(writer), reader: Some(reader), only_one: false })
        }
        Pin::Same => {
            let cpu = allowed().first().copied();
            Ok(Placement { writer: cpu, reader: cpu, only_one: false })
        }
        Pin::Auto => Ok(choose(&allowed(), core_of)),
    }
}

/// # Errors
/// [`Error::Refused`] where this process may not use `cpu`.
pub(crate) fn check_allowed(cpu: usize) -> Result<(), Error> {
    let allowed = allowed();
    // Empty where the kernel would not say: then it has the last word.
    if allowed.is_empty() || allowed.contains(&cpu) {
        return Ok(());
    }
    let list: Vec<String> = allowed.iter().map(usize::to_string).collect();
    Err(Error::Refused(format!(
        "--pin: this process may not use CPU {cpu}; choose among {}",
        list.join(", ")
    )))
}

/// The first CPU allowed, and the first other one that shares no core with it, in the same
/// package if there is one: crossing packages would be measured as a slow pipe.
fn choose(allowed: &[usize], core_of: impl Fn(usize) -> Option<Core>) -> Placement {
    let Some((&writer, rest)) = allowed.split_first() else { return Placement::default() };
    let own = core_of(writer);
    let distance = |&&cpu: &&usize| match (own, core_of(cpu)) {
        (Some(own), Some(other)) if own == other => 2,
        (Some(own), Some(other)) if own.package != other.package => 1,
        _ => 0,
    };
    // The first of equals.
    let reader = rest.iter().min_by_key(distance).copied();
    Placement { writer: Some(writer), reader: reader.or(Some(writer)), only_one: reader.is_none() }
}

/// A physical core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Core {
    package: i64,
    core: i64,
}

fn core_of(cpu: usize) -> Option<Core> {
    let number = |name: &str| {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    Some(Core { package: number("physical_package_id")?, core: number("core_id")? })
}

fn allowed() -> Vec<usize> {
    of_thread(0).unwrap_or_default()
}

/// The CPUs that a thread may run on, 0 being the calling one; `None` where it cannot be asked.
pub fn of_thread(tid: i32) -> Option<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(tid)).ok()?;
    Some((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect())
}

/// The ranges of a list as the kernel prints it, `0-3,8`; `None` where it is none.
pub fn ranges(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.parse().ok()?..=last.parse().ok()?;
        (!range.is_empty()).then_some(range)
    };
    list.trim().split(',').map(range).collect()
}

/// Pins the calling thread.
pub(crate) fn pin_to(cpu: usize, end: End) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|source| Error::Pin { end, cpu, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(ranges("0-3,8\n"), Some(vec![0..=3, 8..=8]));
        assert_eq!(ranges("0"), Some(vec![0..=0]));
        for list in ["", "0,", "3-1", "a", "0-"] {
            assert_eq!(ranges(list), None, "{list:?}");
        }
    }

    #[test]
    fn reads_the_flag() {
        assert_eq!("auto".parse(), Ok(Pin::Auto));
        assert_eq!("same".parse(), Ok(Pin::Same));
        assert_eq!("none".parse(), Ok(Pin::None));
        assert_eq!("3,0".parse(), Ok(Pin::Cpus(3, 0)));
        for text in ["", "0", "0,", ",1", "a,b", "0,1,2", "-1,0"] {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
    }

    fn pair(allowed: &[usize], cores: &[(i64, i64)]) -> (Option<usize>, Option<usize>) {
        let core_of = |cpu: usize| cores.get(cpu).map(|&(package, core)| Core { package, core });
        let placement = choose(allowed, core_of);
        (placement.writer, placement.reader)
    }

    #[test]
    fn auto_takes_two_cores_of_one_package() {
        let smt = [(0, 0), (0, 0), (0, 1), (0, 1)];
        assert_eq!(pair(&[0, 1, 2, 3], &smt), (Some(0), Some(2)));
        assert_eq!(pair(&[0, 1], &smt), (Some(0), Some(1)));
        let two_packages = [(0, 0), (1, 0), (0, 1), (1, 1)];
        assert_eq!(pair(&[0, 1, 2, 3], &two_packages), (Some(0), Some(2)));
        assert_eq!(pair(&[0, 1], &two_packages), (Some(0), Some(1)));
        assert_eq!(pair(&[4, 7], &[]), (Some(4), Some(7)));
        assert_eq!(pair(&[5], &[]), (Some(5), Some(5)));
        assert!(choose(&[5], |_| None).only_one);
    }
}
