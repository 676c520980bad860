//! OTLP profiles: for the OpenTelemetry collector and whatever it feeds.
//!
//! It comes from a pprof profile, as the two are alike: the tables are the same, with an empty entry
//! in front. A sample of pprof has several values, and one of OTLP a single one, so that each kind
//! of value becomes a profile.

pub mod proto;

use prost::Message;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::pprof::proto as pprof;
use proto::{
    AnyValue, Dictionary, ExportRequest, Function, KeyValue, KeyValueAndUnit, Line, Link, Location,
    Mapping, Profile, Resource, ResourceProfiles, Sample, Scope, ScopeProfiles, Stack, Value,
    ValueType,
};

/// The request that sends a profile. `resource` says whose it is.
pub fn request(profile: &pprof::Profile, resource: &[(&str, &str)]) -> ExportRequest {
    let mut tables = Tables::of(profile);
    let profiles = (0..profile.sample_type.len()).map(|at| tables.profile(profile, at));
    let profiles = profiles.filter(|profile| !profile.samples.is_empty()).collect();
    let attribute = |&(key, value): &(&str, &str)| KeyValue {
        key: key.to_owned(),
        value: Some(text(value.to_owned())),
    };
    let scope =
        Scope { name: "pipeprof".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    ExportRequest {
        resource_profiles: vec![ResourceProfiles {
            resource: Some(Resource { attributes: resource.iter().map(attribute).collect() }),
            scope_profiles: vec![ScopeProfiles { scope: Some(scope), profiles }],
        }],
        dictionary: Some(tables.made),
    }
}

/// The dictionary, and where stacks and attributes are in it.
struct Tables {
    made: Dictionary,
    stacks: FxHashMap<Vec<u64>, i32>,
    attributes: FxHashMap<(i64, i64, i64), i32>,
    /// Of the pprof profile, so that one that is sent twice has the same.
    digest: Sha256,
}

impl Tables {
    fn of(profile: &pprof::Profile) -> Self {
        let link = Link { trace_id: vec![0; 16], span_id: vec![0; 8] };
        let mut tables = Tables {
            made: Dictionary {
                link_table: vec![link],
                string_table: profile.string_table.clone(),
                attribute_table: vec![KeyValueAndUnit::default()],
                stack_table: vec![Stack::default()],
                ..Dictionary::default()
            },
            stacks: FxHashMap::default(),
            attributes: FxHashMap::default(),
            digest: Sha256::new().chain_update(profile.encode_to_vec()),
        };
        if tables.made.string_table.is_empty() {
            tables.made.string_table.push(String::new());
        }
        let build_id = tables.made.string_table.len() as i64;
        tables.made.string_table.push("process.executable.build_id.gnu".to_owned());
        let mut mappings = vec![Mapping::default()];
        for of in &profile.mapping {
            let build = (of.build_id != 0).then(|| tables.attribute((build_id, of.build_id, 0)));
            mappings.push(Mapping {
                memory_start: of.memory_start,
                memory_limit: of.memory_limit,
                file_offset: of.file_offset,
                filename_strindex: index(of.filename),
                attribute_indices: build.into_iter().collect(),
            });
        }
        let function = |of: &pprof::Function| Function {
            name_strindex: index(of.name),
            system_name_strindex: index(of.system_name),
        };
        let line = |of: &pprof::Line| Line { function_index: place(of.function_id) };
        let location = |of: &pprof::Location| Location {
            mapping_index: place(of.mapping_id),
            address: of.address,
            lines: of.line.iter().map(line).collect(),
        };
        let made = &mut tables.made;
        made.mapping_table = mappings;
        made.function_table.push(Function::default());
        made.function_table.extend(profile.function.iter().map(function));
        made.location_table.push(Location::default());
        made.location_table.extend(profile.location.iter().map(location));
        tables
    }

    /// The values of one kind.
    fn profile(&mut self, profile: &pprof::Profile, at: usize) -> Profile {
        let kind = profile.sample_type.get(at).copied().unwrap_or_default();
        let mut samples = Vec::new();
        for sample in &profile.sample {
            let Some(&value) = sample.value.get(at).filter(|&&value| value != 0) else { continue };
            let labels = sample.label.iter().map(|of| self.attribute((of.key, of.str, of.num)));
            let attribute_indices = labels.collect();
            let stack_index = self.stack(&sample.location_id);
            samples.push(Sample { stack_index, attribute_indices, values: vec![value] });
        }
        let is_sampled = profile.period_type == Some(kind);
        let digest = self.digest.clone().chain_update([at as u8]).finalize();
        Profile {
            sample_type: Some(value_type(kind)),
            samples,
            time_unix_nano: u64::try_from(profile.time_nanos).unwrap_or(0),
            duration_nano: u64::try_from(profile.duration_nanos).unwrap_or(0),
            period_type: is_sampled.then(|| value_type(kind)),
            period: if is_sampled { profile.period } else { 0 },
            profile_id: digest[..16].to_vec(),
        }
    }

    fn stack(&mut self, locations: &[u64]) -> i32 {
        if let Some(&known) = self.stacks.get(locations) {
            return known;
        }
        let next = self.made.stack_table.len() as i32;
        let location_indices = locations.iter().map(|&id| place(id)).collect();
        self.made.stack_table.push(Stack { location_indices });
        self.stacks.insert(locations.to_vec(), next);
        next
    }

    /// The attribute of a label: its key, its text, and its number where it has no text.
    fn attribute(&mut self, label: (i64, i64, i64)) -> i32 {
        if let Some(&known) = self.attributes.get(&label) {
            return known;
        }
        let (key, string, number) = label;
        let string = self.made.string_table.get(index(string) as usize).cloned();
        let value = match string.filter(|string| !string.is_empty()) {
            Some(string) => text(string),
            None => AnyValue { value: Some(Value::Number(number)) },
        };
        let next = self.made.attribute_table.len() as i32;
        let attribute = KeyValueAndUnit { key_strindex: index(key), value: Some(value) };
        self.made.attribute_table.push(attribute);
        self.attributes.insert(label, next);
        next
    }
}

fn value_type(of: pprof::ValueType) -> ValueType {
    ValueType { type_strindex: index(of.r#type), unit_strindex: index(of.unit) }
}

fn text(text: String) -> AnyValue {
    AnyValue { value: Some(Value::Text(text)) }
}

/// The index of a string; of none where it is damaged.
fn index(string: i64) -> i32 {
    i32::try_from(string).ok().filter(|&index| index >= 0).unwrap_or(0)
}

/// The place of what has this id: ids count from 1, as places behind the empty entry do.
fn place(id: u64) -> i32 {
    i32::try_from(id).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two stacks of one member, one on a CPU and one blocked.
    fn profile() -> pprof::Profile {
        let strings =
            ["", "samples", "count", "cpu", "nanoseconds", "blocked", "pid", "comm", "yes"];
        let of = |text: &str| strings.iter().position(|known| *known == text).unwrap() as i64;
        let kind = |kind, unit| pprof::ValueType { r#type: of(kind), unit: of(unit) };
        let label = vec![
            pprof::Label { key: of("comm"), str: of("yes"), num: 0 },
            pprof::Label { key: of("pid"), str: 0, num: 7 },
        ];
        let sample = |location_id, value: [i64; 3]| pprof::Sample {
            location_id,
            value: value.to_vec(),
            label: label.clone(),
        };
        let cpu = kind("cpu", "nanoseconds");
        pprof::Profile {
            sample_type: vec![kind("samples", "count"), cpu, kind("blocked", "nanoseconds")],
            sample: vec![sample(vec![2, 1], [3, 30, 0]), sample(vec![1], [0, 0, 50])],
            mapping: vec![pprof::Mapping {
                id: 1,
                filename: of("yes"),
                build_id: of("cpu"),
                ..Default::default()
            }],
            location: [1, 2]
                .map(|id| pprof::Location {
                    id,
                    mapping_id: 1,
                    address: 16 * id,
                    line: vec![pprof::Line { function_id: 1 }],
                })
                .to_vec(),
            function: vec![pprof::Function { id: 1, name: of("yes"), system_name: of("yes") }],
            string_table: strings.map(str::to_owned).to_vec(),
            time_nanos: 5,
            duration_nanos: 6,
            period_type: Some(cpu),
            period: 10,
            ..Default::default()
        }
    }

    #[test]
    fn each_kind_of_value_is_a_profile_with_the_same_sum() {
        let request = request(&profile(), &[("service.name", "pipeprof")]);
        let request = ExportRequest::decode(&request.encode_to_vec()[..]).unwrap();
        let dictionary = request.dictionary.unwrap();
        let name = |index: i32| dictionary.string_table[index as usize].as_str();
        let profiles = &request.resource_profiles[0].scope_profiles[0].profiles;
        let kinds: Vec<(&str, &str, i64)> = profiles
            .iter()
            .map(|profile| {
                let kind = profile.sample_type.unwrap();
                let sum = profile.samples.iter().flat_map(|sample| &sample.values).sum();
                (name(kind.type_strindex), name(kind.unit_strindex), sum)
            })
            .collect();
        let expected =
            [("samples", "count", 3), ("cpu", "nanoseconds", 30), ("blocked", "nanoseconds", 50)];
        assert_eq!(kinds, expected);
        assert_eq!(profiles.iter().map(|of| of.period).collect::<Vec<_>>(), [0, 10, 0]);
        // What is in the dictionary once.
        assert_eq!(dictionary.stack_table.len(), 1 + 2);
        assert_eq!(dictionary.attribute_table.len(), 1 + 1 + 2);
        let sample = &profiles[1].samples[0];
        let stack = &dictionary.stack_table[sample.stack_index as usize];
        assert_eq!(stack.location_indices, [2, 1]);
        assert_eq!(dictionary.location_table[2].address, 32);
        let attributes: Vec<(&str, Value)> = sample
            .attribute_indices
            .iter()
            .map(|&at| dictionary.attribute_table[at as usize].clone())
            .map(|of| (name(of.key_strindex), of.value.unwrap().value.unwrap()))
            .collect();
        let expected = [("comm", Value::Text("yes".into())), ("pid", Value::Number(7))];
        assert_eq!(attributes, expected);
    }

    #[test]
    fn the_first_of_each_table_is_empty_and_ids_are_stable_and_distinct() {
        let (first, again) = (request(&profile(), &[]), request(&profile(), &[]));
        assert_eq!(first, again);
        let dictionary = first.dictionary.unwrap();
        assert_eq!(dictionary.mapping_table[0], Mapping::default());
        assert_eq!(dictionary.location_table[0], Location::default());
        assert_eq!(dictionary.function_table[0], Function::default());
        assert_eq!(dictionary.attribute_table[0], KeyValueAndUnit::default());
        assert_eq!(dictionary.stack_table[0], Stack::default());
        assert_eq!((dictionary.link_table.len(), dictionary.string_table[0].as_str()), (1, ""));
        let profiles = &first.resource_profiles[0].scope_profiles[0].profiles;
        let mut ids: Vec<&Vec<u8>> = profiles.iter().map(|profile| &profile.profile_id).collect();
        ids.sort();
        ids.dedup();
        assert!(ids.len() == 3 && ids.iter().all(|id| id.len() == 16));
    }

    #[test]
    fn indices_that_lead_nowhere_are_survived() {
        let mut damaged = profile();
        damaged.sample[0].label[0].str = i64::MAX;
        damaged.sample[0].label[1].key = -1;
        damaged.sample[0].location_id[0] = u64::MAX;
        damaged.string_table.clear();
        request(&damaged, &[]);
    }
}
