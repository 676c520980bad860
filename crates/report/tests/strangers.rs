//! Files from strangers: the seeds of the fuzz targets, and whatever made one fail, go through every
//! reader. The targets themselves, with libFuzzer, are in fuzz/.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/readers.rs"]
mod readers;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Number, Value, json};

/// Each file of a target through its reader; how many there were.
fn run(target: &str, reader: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut files = 0;
    for kind in ["seeds", "regressions"] {
        let Ok(folder) = std::fs::read_dir(fuzz.join(kind).join(target)) else { continue };
        for file in folder {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes.len() < 100_000, "{} is large for a seed", path.display());
            // Captured, and shown with the panic of the one that fails.
            println!("{}", path.display());
            reader(&bytes);
            // Whatever was cut off while it was written or sent.
            for cut in (0..bytes.len()).step_by((bytes.len() / 16).max(1)) {
                reader(&bytes[..cut]);
            }
            files += 1;
        }
    }
    assert!(files > 0, "no seed for {target}");
}

#[test]
fn perf_data() {
    run("perf_data", readers::perf_data);
}

#[test]
fn packed_records() {
    run("packed", readers::packed);
}

#[test]
fn records_of_any_layout() {
    run("records", readers::records);
}

#[test]
fn sidecars() {
    run("sidecar", readers::sidecar);
}

/// The seed with all three files.
fn all_side_files() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/sidecar/states");
    let bytes = std::fs::read(path).unwrap();
    bytes.split(|&byte| byte == 0).map(|text| serde_json::from_slice(text).unwrap()).collect()
}

fn read_side_files(files: &[Value]) {
    let files: Vec<Vec<u8>> = files.iter().map(|file| serde_json::to_vec(file).unwrap()).collect();
    readers::sidecar(&files.join(&0));
}

/// Each value with the fields that lead to it; where it is in an array makes no difference.
fn each_value(value: &mut Value, path: &str, change: &mut dyn FnMut(&str, &mut Value)) {
    match value {
        Value::Array(values) => {
            values.iter_mut().for_each(|value| each_value(value, &format!("{path}[]"), change));
        }
        Value::Object(fields) => fields
            .iter_mut()
            .for_each(|(name, value)| each_value(value, &format!("{path}.{name}"), change)),
        _ => {}
    }
    change(path, value);
}

/// Where these files have values of a kind.
fn paths(files: &[Value], is_meant: fn(&Value) -> bool) -> BTreeSet<(usize, String)> {
    let mut paths = BTreeSet::new();
    for (file, value) in files.iter().enumerate() {
        each_value(&mut value.clone(), "", &mut |path, value| {
            if is_meant(value) {
                paths.insert((file, path.to_owned()));
            }
        });
    }
    paths
}

fn with_each(files: &[Value], at: &(usize, String), change: impl Fn(&mut Value)) -> Vec<Value> {
    let mut files = files.to_vec();
    each_value(&mut files[at.0], "", &mut |path, value| {
        if path == at.1 {
            change(value);
        }
    });
    files
}

#[test]
fn numbers_of_side_files_may_be_anything() {
    let files = all_side_files();
    let is_number: fn(&Value) -> bool = Value::is_number;
    for at in paths(&files, is_number) {
        println!("{at:?}");
        let most = json!(1u64 << 57);
        for other in
            [json!(0), json!(1), most, json!(u64::MAX), json!(-1), json!(1e300), json!(null)]
        {
            read_side_files(&with_each(&files, &at, |value| *value = other.clone()));
        }
    }
}

#[test]
fn sums_over_side_files_stay_within_what_a_number_holds() {
    let files = all_side_files();
    let is_number: fn(&Value) -> bool = Value::is_number;
    let is_array: fn(&Value) -> bool = Value::is_array;
    let large = |value: &mut Value| {
        if value.as_u64().is_some_and(|number| number > 1000) {
            // As much as 600 of them may add up to.
            *value = Value::Number(Number::from(1u64 << 52));
        }
    };
    for array in paths(&files, is_array) {
        let many = with_each(&files, &array, |value| {
            if let Value::Array(values) = value {
                *values = values.iter().cycle().take(300 * values.len().min(2)).cloned().collect();
            }
        });
        println!("{array:?}");
        read_side_files(&many);
        for at in paths(&many, is_number) {
            let name = at.1.rsplit('.').next().unwrap();
            if ["cpu_ns", "run_delay_ns", "bytes", "writes", "reads", "runs", "throttled_ns"]
                .contains(&name)
            {
                read_side_files(&with_each(&many, &at, large));
            }
        }
    }
}

#[test]
fn arrays_of_side_files_may_be_empty_reversed_or_of_anything() {
    let files = all_side_files();
    let is_array: fn(&Value) -> bool = Value::is_array;
    for array in paths(&files, is_array) {
        println!("{array:?}");
        let others: [fn(&mut Vec<Value>); 4] = [
            Vec::clear,
            |values| values.reverse(),
            |values| values.push(json!({})),
            |values| values.push(json!([[], []])),
        ];
        for other in others {
            read_side_files(&with_each(&files, &array, |value| {
                if let Value::Array(values) = value {
                    other(values);
                }
            }));
        }
    }
}

#[test]
fn elf_files() {
    run("elf", readers::elf);
}

#[test]
fn perf_maps() {
    run("perf_map", readers::perf_map);
}

#[test]
fn kernel_symbol_tables() {
    run("kallsyms", readers::kallsyms);
}
