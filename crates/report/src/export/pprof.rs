//! pprof's profile.proto, gzipped: for `go tool pprof`, Pyroscope, Parca.

pub mod proto;

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use pipeprof_profiler::profile::{FrameId, FrameKind, Profile, StackId};
use prost::Message;

use super::{Source, pipe_name};
use crate::error::Error;
use crate::escape::printable;
use crate::ordered::{OrderedMap, OrderedSet};
use proto::{Function, Label, Line, Location, Mapping, Sample, ValueType};

/// Writes the on-CPU and the blocked stacks of a profile, with the values `samples`, `cpu` (or the
/// sampled event) and `blocked`, whose sums are those of the profile.
///
/// # Errors
/// [`Error::Write`] where `out` fails.
pub fn render(source: &Source<'_>, out: impl Write) -> Result<(), Error> {
    let encoded = profile(source).encode_to_vec();
    let mut packed = GzEncoder::new(out, Compression::default());
    packed.write_all(&encoded)?;
    packed.finish()?.flush()?;
    Ok(())
}

/// The message in what [`render`] wrote.
///
/// # Errors
/// What is wrong with it, where it is something else.
pub fn read(packed: &[u8]) -> io::Result<proto::Profile> {
    let mut encoded = Vec::new();
    GzDecoder::new(packed).take(MOST_BYTES).read_to_end(&mut encoded)?;
    Ok(proto::Profile::decode(&encoded[..])?)
}

/// More than any profile of a recording has.
const MOST_BYTES: u64 = 256 << 20;

/// The message.
pub fn profile(source: &Source<'_>) -> proto::Profile {
    let mut table = Table::new(&source.run.profile);
    let (weight, unit) = source.weight_type();
    let samples = table.value_type("samples", "count");
    let weight_type = table.value_type(&weight, unit);
    let blocked = table.value_type("blocked", "nanoseconds");
    let sample = table.samples(source);
    let quality = &source.run.profile.quality;
    let period = match (quality.frequency_hz, unit) {
        (Some(hz), "nanoseconds") => 1_000_000_000_u64.checked_div(hz).unwrap_or(0),
        _ => 0,
    };
    let comment = source.remarks().iter().map(|remark| table.string(remark)).collect();
    proto::Profile {
        sample_type: vec![samples, weight_type, blocked],
        sample,
        time_nanos: signed(source.run.started_unix_ns.unwrap_or(0)),
        duration_nanos: signed(source.run.elapsed_ns),
        period_type: Some(weight_type),
        period: signed(period),
        comment,
        default_sample_type: weight_type.r#type,
        mapping: table.mappings.into_values().collect(),
        location: table.locations.into_values().collect(),
        function: table.functions.into_values().collect(),
        string_table: table.strings.into_iter().collect(),
    }
}

/// What samples refer to, each kept once.
struct Table<'a> {
    profile: &'a Profile,
    strings: OrderedSet<String>,
    mappings: OrderedMap<&'a str, Mapping>,
    functions: OrderedMap<(&'a str, u64), Function>,
    locations: OrderedMap<&'a [FrameId], Location>,
}

impl<'a> Table<'a> {
    fn new(profile: &'a Profile) -> Self {
        Table {
            profile,
            strings: OrderedSet::from_iter([String::new()]),
            mappings: OrderedMap::default(),
            functions: OrderedMap::default(),
            locations: OrderedMap::default(),
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        let text = printable(text);
        let known = self.strings.get_index_of(&*text);
        known.unwrap_or_else(|| self.strings.insert_full(text.into_owned()).0) as i64
    }

    fn value_type(&mut self, what: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.string(what), unit: self.string(unit) }
    }

    fn label(&mut self, key: &str, value: &str) -> Label {
        Label { key: self.string(key), str: self.string(value), num: 0 }
    }

    fn samples(&mut self, source: &Source<'a>) -> Vec<Sample> {
        let (profile, roles) = (&source.run.profile, &source.run.roles);
        let mut samples = Vec::new();
        for (index, member) in source.members() {
            let pid = self.string("pid");
            let mut whose = vec![
                self.label("member", &member.comm),
                Label { key: pid, str: 0, num: i64::from(member.pid) },
            ];
            whose.extend(member.end.map(|end| self.label("end", end.as_str())));
            let container = source.run.container(index);
            whose.extend(container.map(|of| self.label("container", &of.name())));
            for weight in member.on_cpu.iter().filter(|weight| weight.samples > 0) {
                let mut label = whose.clone();
                label.push(self.label("role", roles.role(weight.stack).label()));
                let pipe = source.pipe_at_work(index, weight.stack);
                label.extend(pipe.map(|pipe| self.label("pipe", &pipe_name(pipe))));
                samples.push(Sample {
                    location_id: self.stack(weight.stack),
                    value: vec![signed(weight.samples), signed(weight.weight), 0],
                    label,
                });
            }
            for weight in member.blocked.iter().filter(|weight| weight.weight > 0) {
                let stack = profile.stack(weight.stack);
                let reason = roles.reason(profile, stack);
                let mut label = whose.clone();
                label.push(self.label("role", roles.blocked_role(stack).label()));
                label.push(self.label("reason", reason.label()));
                let pipe = source.pipe_waited_for(index, reason);
                label.extend(pipe.map(|pipe| self.label("pipe", &pipe_name(pipe))));
                samples.push(Sample {
                    location_id: self.stack(weight.stack),
                    value: vec![0, 0, signed(weight.weight)],
                    label,
                });
            }
        }
        samples
    }

    /// A location for each address: what was inlined there belongs to it.
    fn stack(&mut self, stack: StackId) -> Vec<u64> {
        let profile = self.profile;
        let inlined = |frame: FrameId| profile.frame(frame).kind == FrameKind::Inlined;
        let places = profile.stack(stack).split_inclusive(|&frame| !inlined(frame));
        places.map(|place| self.location(place)).collect()
    }

    fn location(&mut self, frames: &'a [FrameId]) -> u64 {
        if let Some(known) = self.locations.get(frames) {
            return known.id;
        }
        let id = self.locations.len() as u64 + 1;
        let (mut mapping_id, mut address) = (0, 0);
        if let Some(&outermost) = frames.last() {
            let frame = self.profile.frame(outermost);
            address = self.profile.address(outermost).unwrap_or(0);
            mapping_id = frame.module.as_deref().map_or(0, |module| self.mapping(module, address));
        }
        let line = frames.iter().map(|&frame| self.function(frame, mapping_id)).collect();
        self.locations.insert(frames, Location { id, mapping_id, address, line });
        id
    }

    fn function(&mut self, frame: FrameId, mapping: u64) -> Line {
        let frame = self.profile.frame(frame);
        // Functions of one name in two objects are two.
        let key = (frame.name.as_ref(), mapping);
        if let Some(known) = self.functions.get(&key) {
            return Line { function_id: known.id };
        }
        let name = self.string(&frame.name);
        let id = self.functions.len() as u64 + 1;
        self.functions.insert(key, Function { id, name, system_name: name });
        Line { function_id: id }
    }

    fn mapping(&mut self, module: &'a str, address: u64) -> u64 {
        if !self.mappings.contains_key(module) {
            let build_id = self.profile.build_ids.get(module).cloned().unwrap_or_default();
            let mapping = Mapping {
                id: self.mappings.len() as u64 + 1,
                filename: self.string(module),
                build_id: self.string(&build_id),
                has_functions: true,
                has_inline_frames: true,
                ..Mapping::default()
            };
            self.mappings.insert(module, mapping);
        }
        let mapping = &mut self.mappings[module];
        mapping.memory_limit = mapping.memory_limit.max(address.saturating_add(1));
        mapping.id
    }
}

/// pprof has signed numbers only.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
