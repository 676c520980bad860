//! The kernel's symbol table: read, and looked up in. As large as that of a distribution's kernel.

#![allow(missing_docs)]

use std::fmt::Write;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pipeprof_profiler::symbolize::{LocalSymbols, Symbolizer};

const SYMBOLS: u64 = 200_000;
const BASE: u64 = 0xffff_ffff_8100_0000;
const LOOKUPS: u64 = 10_000;

fn table() -> String {
    let mut text = String::new();
    for index in 0..SYMBOLS {
        let kind = if index % 3 == 0 { 'd' } else { 't' };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:016x} {kind} some_function_{index}", BASE + index * 0x80);
    }
    text
}

fn symbolize(criterion: &mut Criterion) {
    let text = table();
    let addresses: Vec<u64> =
        (0..LOOKUPS).map(|i| BASE + (i * 7919) % SYMBOLS * 0x80 + 0x11).collect();
    let mut group = criterion.benchmark_group("symbolize");
    group.throughput(Throughput::Elements(SYMBOLS));
    group.bench_function("parse_kallsyms", |bencher| {
        bencher.iter_batched(
            || text.clone(),
            |text| LocalSymbols::with_kallsyms(text).kernel(&[BASE]),
            BatchSize::LargeInput,
        );
    });
    group.throughput(Throughput::Elements(LOOKUPS));
    let mut symbols = LocalSymbols::with_kallsyms(text);
    symbols.kernel(&[BASE]);
    group.bench_function("look_up", |bencher| bencher.iter(|| symbols.kernel(&addresses)));
    group.finish();
}

criterion_group!(benches, symbolize);
criterion_main!(benches);
