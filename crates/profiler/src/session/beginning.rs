//! The state before the first record: the kernel, its modules, and the processes in `/proc`.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex};

use pipeprof_runner::access;

use crate::accounts::{Accounts, now_ns};
use crate::perfdata::synthesizer::Synthesizer;
use crate::perfdata::write::EventDescription;
use crate::segments::{Beginning, Look};
use crate::synth;
use crate::tasks::thread_starts;

/// What writes down how the kernel and these processes stand; and, in the middle of a recording,
/// those that they started, whose births it may not hold.
pub(super) fn beginning(
    events: &[EventDescription],
    pids: Arc<Mutex<Vec<i32>>>,
    with_children: bool,
) -> Look {
    let first = events.first().map(|event| (event.attr.sample_type, event.ids.first().copied()));
    let (sample_type, id) = first.unwrap_or_default();
    Box::new(move || {
        // Older than any record to come, and not 0, which perf takes for "no time".
        let at_ns = now_ns();
        let made = Synthesizer::new(sample_type, at_ns, id.unwrap_or(0));
        let modules = access::with_rights(|| fs::read_to_string("/proc/modules"));
        let modules = modules.unwrap_or_default();
        let mut state = synth::kernel(&made, &head_of_kallsyms(), &modules);
        let members = pids.lock().map(|pids| pids.clone()).unwrap_or_default();
        let family = match with_children {
            true => synth::family(Path::new("/proc"), &members),
            false => members.iter().map(|&pid| (None, pid)).collect(),
        };
        let mut builds = synth::Builds::default();
        let mut began =
            Beginning { at_ns, threads: Vec::new(), accounts: Accounts::default(), state: vec![] };
        for (parent, pid) in family {
            state.extend(synth::process(&made, Path::new("/proc"), pid, parent, &mut builds));
            began.threads.extend(thread_starts(pid));
            began.accounts.read(pid, false);
        }
        Beginning { state, ..began }
    })
}

/// The start of the symbol table, where `_text` is; all of it is 200,000 lines.
fn head_of_kallsyms() -> String {
    use std::io::Read;
    let mut head = Vec::new();
    if let Ok(file) = access::with_rights(|| File::open("/proc/kallsyms")) {
        // What was read before an error is still true.
        let _ = file.take(256 << 10).read_to_end(&mut head);
    }
    String::from_utf8_lossy(&head).into_owned()
}
