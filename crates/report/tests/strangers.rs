//! Files from strangers: the seeds of the fuzz targets, and whatever made one fail, go through every
//! reader. The targets themselves, with libFuzzer, are in fuzz/.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/readers.rs"]
mod readers;

use std::path::Path;

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
