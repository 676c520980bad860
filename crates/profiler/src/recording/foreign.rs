//! A bare perf.data file: its header stands in for the pipeprof.json of our own recordings.

use pipeprof_runner::pipeline::Pipeline;

use super::choice::choose;
use super::{About, Meta, Recording, RecordingDir, Setup, UNKNOWN_DEPTH, load};
use crate::error::Error;
use crate::perfdata::event::Event;
use crate::perfdata::read::FormatError;
use crate::profile::Scope;
use crate::symbolize::PerfMaps;

/// Opens what `perf record` wrote, to show the event of that name, else the one that tells most.
pub(super) fn open(dir: RecordingDir, event: Option<&str>) -> Result<Recording, Error> {
    let path = dir.path().to_owned();
    let (file, _) = load::header(&dir.perf_data())?;
    let several = file.events.iter().filter(|event| !event.is_dummy()).count() > 1;
    let samples = if several || file.has_trace {
        let (file, bytes) = load::records(&dir)?;
        file.samples_by_event(&bytes)
    } else {
        Vec::new()
    };
    if file.has_trace && samples.iter().all(|&samples| samples == 0) {
        return Err(Error::Format { path, source: FormatError::Traced });
    }
    let choice = choose(&file, &samples, event).map_err(|known| Error::NoEventOfName {
        path: path.clone(),
        name: event.unwrap_or_default().to_owned(),
        known,
    })?;
    let title = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let kernel = file.kernel_release.clone().unwrap_or_default();
    let until = super::written(&dir.perf_data());
    Ok(Recording {
        meta: meta(
            &file.events[choice.event],
            file.events.iter().any(Event::records_switches),
            choice.notes,
        ),
        event: Some(choice.event),
        dir,
        about: About { title, kernel, ..About::default() },
        environment: serde_json::Value::Null,
        symbols: None,
        write_failure: None,
        cut_short: false,
        until,
        until_ns: None,
        perf_maps: PerfMaps::default(),
    })
}

fn meta(event: &Event, switches: bool, notes: Vec<String>) -> Meta {
    let setup = Setup {
        event: event.name.clone(),
        fallback: None,
        scope: if event.is_per_cpu() { Scope::PerCpu } else { Scope::PerTask },
        timer_driven: event.is_clock(),
        interrupts_wait: false,
        kernel_visible: !event.excludes_kernel(),
        max_stack: event.max_stack.map_or(UNKNOWN_DEPTH, u64::from),
        events: Vec::new(),
        switches,
        wakeups: Err("a perf.data file does not record them".to_owned()),
        boot_offset_ns: None,
    };
    let frequency_hz = event.is_frequency().then_some(event.period_or_frequency);
    Meta { frequency_hz, notes, ..setup.meta(Pipeline::default()) }
}
