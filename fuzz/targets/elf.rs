#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pipeprof_fuzz::elf(bytes));
