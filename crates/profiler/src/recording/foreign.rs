//! A bare perf.data file: what its header tells stands in for what was noted beside ours.

use std::path::Path;

use pipeprof_runner::pipeline::Pipeline;

use super::{About, Meta, Recording, RecordingDir};
use crate::accounts::Accounts;
use crate::error::Error;
use crate::event::Event as NamedEvent;
use crate::perfdata::read::PerfDataFile;
use crate::profile::Scope;
use crate::sleepers::Sleepers;

/// `kernel.perf_event_max_stack` where nobody changed it; perf.data does not tell.
const DEFAULT_MAX_STACK: u64 = 127;

pub(super) fn open(path: &Path) -> Result<Recording, Error> {
    let bytes = super::map(path)?;
    let file = PerfDataFile::parse(&bytes)
        .map_err(|source| Error::Format { path: path.to_owned(), source })?;
    let title = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let kernel = file.kernel_release.clone().unwrap_or_default();
    Ok(Recording {
        dir: RecordingDir::Bare(path.to_owned()),
        meta: meta(&file),
        about: About { title, kernel, ..About::default() },
        environment: serde_json::Value::Null,
        symbols: None,
        cut_short: false,
    })
}

fn meta(file: &PerfDataFile) -> Meta {
    let sampled = file.sampled_event();
    let event = &file.events[sampled];
    let named = event.name.clone().unwrap_or_else(|| event.spelling());
    let code = NamedEvent { name: named.clone(), kind: event.kind, config: event.config };
    let others = file.events.len() - sampled - 1;
    let mut notes = Vec::new();
    if others > 0 {
        notes.push(format!("the file has {others} more events, which are not shown"));
    }
    Meta {
        pipeline: Pipeline::default(),
        event: named,
        frequency_hz: event.is_frequency.then_some(event.period_or_frequency),
        fallback: None,
        scope: if event.is_inherited { Scope::PerTask } else { Scope::PerCpu },
        timer_driven: code.is_timer_driven(),
        kernel_visible: !event.excludes_kernel,
        max_stack: DEFAULT_MAX_STACK,
        lost: None,
        switches: false,
        windows: Vec::new(),
        wakeups: Err("perf.data does not tell".to_owned()),
        wakeups_until_ns: None,
        start_ns: 0,
        end_ns: 0,
        boot_offset_ns: None,
        threads: Vec::new(),
        accounts: Accounts::default(),
        sleepers: Sleepers::default(),
        unwinding: None,
        notes,
    }
}
