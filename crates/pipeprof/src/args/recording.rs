//! A recording as an argument.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser, ValueParser};
use pipeprof_profiler::recording::SUFFIX;

/// Takes the path of a recording: `before` is `before.pipeprof` where only that is there.
pub(crate) fn parser() -> ValueParser {
    PathBufValueParser::new().try_map(find).into()
}

fn find(path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() {
        return Ok(path);
    }
    let folder = with_suffix(&path);
    if folder.exists() {
        return Ok(folder);
    }
    if let Some(line) = as_line(&path) {
        let quoted = line.replace('\'', r"'\''");
        return Err(format!("no such recording\nhint: to run a shell line: -c '{quoted}'"));
    }
    // Opening it reports what is wrong with it.
    Ok(path)
}

/// The folder of a recording of that name.
pub(crate) fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// The argument as a shell line, if it looks like one rather than a recording.
fn as_line(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| text.contains(['|', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_recording_may_be_left_off() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("before.pipeprof")).unwrap();
        assert_eq!(find(at("before")), Ok(at("before.pipeprof")));
        assert_eq!(find(at("before.pipeprof")), Ok(at("before.pipeprof")));
        assert_eq!(find(at("after")), Ok(at("after")));
        let error = find(PathBuf::from("yes | head")).unwrap_err();
        assert!(error.contains("-c 'yes | head'"), "{error}");
    }
}
