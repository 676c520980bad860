//! Where files lie by their build id: perf's cache (`~/.debug`, as `perf record` and `perf archive`
//! fill it), the distribution's debug files (`/usr/lib/debug`), and what debuginfod has fetched.

use std::path::{Path, PathBuf};

use crate::build_id::BuildId;

/// The places of this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Stores {
    /// perf's cache.
    perf: Option<PathBuf>,
    debuginfod: Option<PathBuf>,
    /// Roots of debug files.
    debug: Vec<PathBuf>,
}

/// What a file has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The object as it is mapped.
    Program,
    /// Its symbols or debug information.
    Debug,
    /// The image of a vDSO.
    Vdso,
    /// The symbol table of a kernel.
    Kallsyms,
}

impl Stores {
    /// Those of the user.
    pub(super) fn of_user() -> Self {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        Stores {
            perf: variable("PERF_BUILDID_DIR").map(PathBuf::from).or_else(|| below_home(".debug")),
            debuginfod: variable("DEBUGINFOD_CACHE_PATH")
                .map(PathBuf::from)
                .or_else(|| below_home(".cache/debuginfod_client")),
            debug: vec![PathBuf::from("/usr/lib/debug")],
        }
    }

    /// Where debug files lie that a link in the object names.
    pub(super) fn debug_roots(&self) -> &[PathBuf] {
        &self.debug
    }

    /// Paths at which a part of that build may lie. What does is to be checked: anybody can put
    /// anything there.
    pub(super) fn paths(&self, id: &BuildId, part: Part) -> Vec<PathBuf> {
        let digits = id.to_string();
        let (first, rest) = digits.split_at(2);
        let by_id = |root: &Path| root.join(".build-id").join(first).join(rest);
        let mut paths = Vec::new();
        if let Some(perf) = &self.perf {
            let folder = by_id(perf);
            paths.push(folder.join(match part {
                Part::Program => "elf",
                Part::Debug => "debug",
                Part::Vdso => "vdso",
                Part::Kallsyms => "kallsyms",
            }));
            // Before perf 4.12 the link led to the file itself.
            paths.push(folder);
        }
        for root in &self.debug {
            match part {
                Part::Program => paths.push(by_id(root)),
                Part::Debug => {
                    let mut path = by_id(root).into_os_string();
                    path.push(".debug");
                    paths.push(path.into());
                }
                Part::Vdso | Part::Kallsyms => {}
            }
        }
        if let Some(debuginfod) = &self.debuginfod {
            match part {
                Part::Program => paths.push(debuginfod.join(&digits).join("executable")),
                Part::Debug => paths.push(debuginfod.join(&digits).join("debuginfo")),
                Part::Vdso | Part::Kallsyms => {}
            }
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfs_cache_comes_before_the_distributions_files() {
        let stores = Stores {
            perf: Some("/home/u/.debug".into()),
            debuginfod: None,
            debug: vec!["/usr/lib/debug".into()],
        };
        let id = BuildId::new(&[0xab, 0xcd, 0xef]).unwrap();
        let paths = |part| {
            let paths = stores.paths(&id, part);
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            paths(Part::Debug),
            [
                "/home/u/.debug/.build-id/ab/cdef/debug",
                "/home/u/.debug/.build-id/ab/cdef",
                "/usr/lib/debug/.build-id/ab/cdef.debug"
            ]
        );
        assert_eq!(paths(Part::Kallsyms)[0], "/home/u/.debug/.build-id/ab/cdef/kallsyms");
    }
}
