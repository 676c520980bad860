//! The pass over the records: 100,000 samples of some hundred distinct call chains.

#![allow(missing_docs, dead_code, clippy::unwrap_used)]

#[path = "../tests/common/file.rs"]
mod file;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use file::{FileBuilder, KERNEL, NamesByAddress, USER, meta};
use pipeprof_profiler::analyse::analyse_bytes;

const SAMPLES: u64 = 100_000;

/// Two members, two rings drained in rounds, chains as deep as those of a pipe.
fn recording() -> Vec<u8> {
    let mut file = FileBuilder::new();
    file.map(1, 1, 0x5000, "/bin/a").map(2, 1, 0x5000, "/bin/b");
    for round in 0..SAMPLES / 1000 {
        for pid in [1, 2] {
            for sample in 0..500 {
                let leaf = 0xffff_ffff_8100_0000 + (round * 31 + sample * 7) % 199;
                let mut chain = vec![KERNEL, leaf];
                chain.extend((1..8).map(|depth| 0xffff_ffff_8200_0000 + depth));
                chain.extend([USER, 0x5010, 0x5020]);
                file.sample(pid, 2 + round * 1000 + sample * 2, &chain);
            }
        }
        file.end_round();
    }
    file.build()
}

fn decode(criterion: &mut Criterion) {
    let bytes = recording();
    let meta = meta(&[1, 2]);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(SAMPLES));
    group.bench_function("100k_samples", |bencher| {
        bencher.iter(|| analyse_bytes(&bytes, &meta, &mut NamesByAddress::default()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
