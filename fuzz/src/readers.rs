//! One function for each reader of files that a stranger may have made: none may panic, or take
//! more memory than its input accounts for. The fuzz targets call them, and so does an ordinary
//! test (`crates/report/tests/strangers.rs`), on the seeds and on all that was ever found.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeprof_profiler::analyse::{analyse, analyse_bytes};
use pipeprof_profiler::kernel_code::RecordedKernel;
use pipeprof_profiler::perfdata::layout::Layout;
use pipeprof_profiler::perfdata::read::{FormatError, Records};
use pipeprof_profiler::perfdata::record::{kind, parse};
use pipeprof_profiler::perfdata::{MAGIC, STREAM_HEADER_BYTES};
use pipeprof_profiler::profile::{MemberProfile, Profile};
use pipeprof_profiler::recording::Recording;
use pipeprof_profiler::symbolize::{
    Function, Functions, LocalSymbols, Object, PerfMap, Symbolizer,
};
use pipeprof_report::flamegraph::{self, Time, View};
use pipeprof_report::folded;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html;
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
use pipeprof_report::text::{self, Style};

/// perf.data: a file, a stream, or one cut short; opened, analysed and rendered.
pub fn perf_data(bytes: &[u8]) {
    let (_file, path) = in_memory(bytes);
    read_and_render(&path);
}

/// Records, packed into the compressed stream that `perf record -z -o -` makes: they are to yield
/// the profile of the plain ones. Their first byte says how many go into a block.
pub fn packed(bytes: &[u8]) {
    let Some((&block, records)) = bytes.split_first() else { return };
    let stream = |records: &[u8]| [&stream_header()[..], records].concat();
    let mut packed = Vec::new();
    let mut zstd = zstd_safe::CCtx::create();
    for block in records.chunks(usize::from(block) * 64 + 64) {
        let mut out = vec![0; zstd_safe::compress_bound(block.len()) + 64];
        let mut output = zstd_safe::OutBuffer::around(&mut out[..]);
        let mut input = zstd_safe::InBuffer::around(block);
        zstd.compress_stream(&mut output, &mut input).unwrap();
        zstd.flush_stream(&mut output).unwrap();
        push(&mut packed, kind::COMPRESSED, output.as_slice());
    }
    // Records of the stream itself are never packed.
    if Records::new(records).any(|(_, record)| record.kind >= kind::HEADER_ATTR) {
        return read_and_render(&in_memory(&stream(&packed)).1);
    }
    let (_file, path) = in_memory(&stream(&packed));
    let profile = |analysed: Option<Profile>| {
        analysed.map(|profile| {
            let mut out = Vec::new();
            let run = Run::bare(profile);
            folded::render(&run, View::default(), &mut out).unwrap();
            (out, run.profile.quality)
        })
    };
    let opened = Recording::open(&path).ok();
    let unpacked = opened.and_then(|recording| analyse(&recording, &mut Names).ok());
    let recording = Recording::open(&in_memory(&stream(&[])).1).unwrap();
    let plain = analyse_bytes(&stream(records), &recording.meta, &mut Names).ok();
    assert_eq!(profile(unpacked), profile(plain));
}

/// Records of an event with any layout: the first 16 bytes say which, the rest are records.
pub fn records(bytes: &[u8]) {
    let Some((layout, data)) = bytes.split_first_chunk::<16>() else { return };
    let word = |at: usize| u64::from_ne_bytes(*layout[at..].first_chunk().unwrap());
    let layout = Layout::new(word(0), word(8) >> 1, word(8) & 1 != 0);
    let mut end = 0;
    for (at, record) in Records::new(data) {
        assert!(at >= end && at + 8 + record.body.len() <= data.len());
        end = at + 8 + record.body.len();
        let _ = (layout.event_id(&record), layout.sample_id(&record));
        let _ = (layout.time(&record), parse(&record, layout));
        if record.kind == kind::SAMPLE
            && let Some(sample) = layout.sample(record.body)
        {
            assert!(sample.chain().len() * 8 <= record.body.len());
            assert_eq!(layout.time(&record), sample.id.time);
        }
    }
}

/// `pipeprof.json`, behind a NUL `symbols.json`, and behind another `states.json`, beside a good
/// perf.data.
pub fn sidecar(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |&byte| byte == 0);
    let folder = in_memory_folder();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    write("perf.data", include_bytes!("../seeds/perf_data/plain"));
    write("pipeprof.json", parts.next().unwrap_or_default());
    if let Some(symbols) = parts.next() {
        write("symbols.json", symbols);
    }
    if let Some(states) = parts.next() {
        write("states.json", states);
    }
    read_and_render(folder.path());
}

/// An ELF file, asked for functions all over it, and for its build id.
pub fn elf(bytes: &[u8]) {
    let (_file, path) = in_memory(bytes);
    let object = Object::named(path.to_str().unwrap().as_bytes());
    let mut symbols = LocalSymbols::new();
    let step = (bytes.len() as u64 / 64).max(1);
    let offsets: Vec<u64> = (0..66).map(|at| at * step).chain([u64::MAX, 1 << 40]).collect();
    assert_eq!(symbols.object(&object, &offsets).len(), offsets.len());
    let _ = symbols.build_id(&object);
}

/// A perf map, asked for functions in and around each of its first.
pub fn perf_map(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let starts = text.lines().take(100).filter_map(|line| {
        let start = line.split(' ').next()?.trim_start_matches("0x");
        u64::from_str_radix(start, 16).ok()
    });
    let around = |start: u64| [start.wrapping_sub(1), start, start.saturating_add(9)];
    let addresses: Vec<u64> = starts.flat_map(around).chain([0, u64::MAX]).collect();
    let found = PerfMap::parse(text).find(&addresses);
    for (address, functions) in addresses.iter().zip(&found) {
        assert!(functions.iter().all(|function| function.offset <= *address));
    }
}

/// A text in the form of /proc/kallsyms.
pub fn kallsyms(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut symbols = LocalSymbols::with_kallsyms(text);
    let base = Some((b"_text".to_vec(), 1 << 63));
    symbols.recorded_kernel(RecordedKernel { base, ..RecordedKernel::default() });
    let _ = symbols.kernel(&[0, 1, 0xffff_ffff_8100_0010, u64::MAX]);
}

/// Opens a recording and renders all that is made of one.
fn read_and_render(path: &Path) {
    let recording = match Recording::open(path) {
        Ok(recording) => recording,
        Err(error) => return says_where(&error),
    };
    let mut symbols = recording.symbolizer();
    // Names of this machine would be looked up in whatever files the records name.
    let names: &mut dyn Symbolizer = if path.is_dir() { symbols.as_mut() } else { &mut Names };
    let profile = match analyse(&recording, names) {
        Ok(profile) => profile,
        Err(error) => return says_where(&error),
    };
    let samples: u64 = profile.members.iter().map(MemberProfile::samples).sum();
    assert_eq!(samples, profile.quality.samples);
    let run = Run::of(&recording, profile);
    let highlights = Highlights::article();
    let mut out = Vec::new();
    if run.states.is_some() {
        let told = run.clone().without_start_up();
        let mut summary = Summary::of(&told, &highlights, View::default());
        let style = Style::default();
        summary.add_timeline(&told, text::timeline_columns(&summary, style));
        let _ = text::timeline(&summary, style, &mut out);
        let _ = html::render(&told, &highlights, &mut out);
    }
    for (time, per_byte) in [(Time::Cpu, false), (Time::Wall, true)] {
        let view = View { time, per_byte, ..View::default() };
        let summary = Summary::of(&run, &highlights, view);
        let style = Style::default();
        let _ = text::full(&summary, style, &mut out);
        let _ = summary.write_json(&mut out);
        let _ = folded::render(&run, view, &mut out);
        let _ = flamegraph::render(&run, &highlights, view, None, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains('\x1b'), "a name reached the terminal unescaped");
}

/// Of a bad file the error is to say at which byte.
fn says_where(error: &pipeprof_profiler::Error) {
    use pipeprof_profiler::Error;
    let text = error.to_string();
    match error {
        Error::Format {
            source:
                FormatError::Magic { .. }
                | FormatError::Other(_)
                | FormatError::ByteOrder
                | FormatError::Traced,
            ..
        } => {}
        Error::Format { .. } => assert!(text.contains("at byte "), "{text}"),
        // What is wrong with states is seen when all are read.
        Error::Sidecar { path, .. } => {
            assert!(text.contains(" line ") || path.ends_with("states.json"), "{text}");
        }
        Error::Version { .. } | Error::Implausible { .. } => {}
        error => panic!("an unexpected error: {error}"),
    }
}

/// Names every address after itself.
struct Names;

impl Symbolizer for Names {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        let function = |address: &u64| {
            let name = Arc::from(format!("k{address:x}"));
            vec![Function { name, module: None, offset: 0, inlined: address.is_multiple_of(4) }]
        };
        addresses.iter().map(function).collect()
    }

    fn object(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        if object.is_jit() {
            return vec![Functions::new(); file_offsets.len()];
        }
        self.kernel(file_offsets)
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A file that never sees a disk, and a path by which it can be opened.
fn in_memory(bytes: &[u8]) -> (File, PathBuf) {
    let mut file = tempfile::tempfile_in(shared_memory()).unwrap();
    file.write_all(bytes).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

fn in_memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(shared_memory()).unwrap()
}

fn shared_memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// The header of a stream, and one event: `cpu-clock` with call chains.
fn stream_header() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(STREAM_HEADER_BYTES.to_ne_bytes());
    let mut attr = [0u64; 17];
    // Type 1 and its size of 128; 997 Hz; IP, TID, TIME, CALLCHAIN, PERIOD; freq, sample_id_all.
    (attr[0], attr[2], attr[3], attr[5]) = (1 | 128 << 32, 997, 0x127, 1 << 10 | 1 << 18);
    attr[16] = 7;
    let body: Vec<u8> = attr.iter().flat_map(|word| word.to_ne_bytes()).collect();
    push(&mut out, kind::HEADER_ATTR, &body);
    out
}

fn push(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    out.extend(kind.to_ne_bytes());
    out.extend(0u16.to_ne_bytes());
    out.extend((body.len() as u16 + 8).to_ne_bytes());
    out.extend(body);
}
