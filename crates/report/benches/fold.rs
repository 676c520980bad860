//! From a profile of 100,000 samples to everything drawn from it.
//!
//! The profile has 20,000 distinct stacks of up to 30 frames, as a pipeline of large programs gives.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use pipeprof_profiler::profile::{
    Frame, FrameKind, MemberProfile, Mode, Profile, Quality, Scope, StackWeight, WeightUnit,
};
use pipeprof_report::flamegraph::{self, View};
use pipeprof_report::folded;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::roles::Classification;
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
use pipeprof_runner::pipeline::End;

const STACKS: u64 = 20_000;
const SAMPLES_A_STACK: u64 = 5;

const KERNEL: [&[&str]; 4] = [
    &["_copy_from_iter", "copy_page_from_iter", "anon_pipe_write", "vfs_write", "ksys_write"],
    &["_raw_spin_unlock_irqrestore", "anon_pipe_write", "vfs_write", "ksys_write"],
    &["gup_fast_fallback", "iov_iter_get_pages2", "__do_sys_vmsplice"],
    &["finish_task_switch.isra.0", "__schedule", "schedule", "anon_pipe_read", "vfs_read"],
];

fn profile() -> Profile {
    let mut profile = Profile::new(Quality {
        event: "cpu-clock".into(),
        fallback: None,
        frequency_hz: Some(997),
        frequency_range_hz: None,
        sampling_effect: None,
        scope: Scope::PerCpu,
        unit: WeightUnit::Nanoseconds,
        timer_driven: true,
        interrupts_wait: true,
        kernel_visible: true,
        samples: STACKS * SAMPLES_A_STACK,
        foreign_samples: 0,
        lost: 0,
        throttled: 0,
        unresolved_frames: 0,
        frames: 0,
        truncated_stacks: 0,
        cut_user_stacks: 0,
        unwinding: None,
        malformed_records: 0,
        cut_short: false,
        notes: Vec::new(),
    });
    for (end, comm) in [(End::Writer, "pp-write"), (End::Reader, "pp-read")] {
        profile.members.push(MemberProfile::new(1000, comm.into(), Some(end)));
    }
    // A fixed sequence, so that runs can be compared (Knuth's MMIX generator).
    let mut state = 1u64;
    let mut below = |n: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for i in 0..STACKS {
        let mut frames = Vec::new();
        let mut frame = |profile: &mut Profile, mode, name: &str, offset| {
            frames.push(profile.intern_frame(Frame {
                name: Arc::from(name),
                module: None,
                mode,
                kind: FrameKind::Symbol,
                offset,
            }));
        };
        for (depth, name) in KERNEL[below(4) as usize].iter().enumerate() {
            let offset = if depth == 0 { i % 64 } else { 8 * below(4) + 1 };
            frame(&mut profile, Mode::Kernel, name, offset);
        }
        frame(&mut profile, Mode::Kernel, "do_syscall_64", 0x71);
        frame(&mut profile, Mode::Kernel, "entry_SYSCALL_64_after_hwframe", 0x76);
        for _ in 0..below(22) + 1 {
            let name = format!("<alloc::vec::Vec<T> as app::module::Trait{}>::call", below(40));
            frame(&mut profile, Mode::User, &name, below(4));
        }
        let stack = profile.intern_stack(&frames);
        let weight =
            StackWeight { stack, samples: SAMPLES_A_STACK, weight: SAMPLES_A_STACK * 1_003_009 };
        profile.members[(i % 2) as usize].on_cpu.push(weight);
    }
    profile
}

fn fold(criterion: &mut Criterion) {
    let run = Run { subject: "synthetic".into(), ..Run::bare(profile()) };
    let highlights = Highlights::article();
    let view = View::default();
    let mut group = criterion.benchmark_group("100,000 samples");
    group.sample_size(10);
    group.bench_function("classify", |b| b.iter(|| Classification::of(black_box(&run.profile))));
    group.bench_function("fold", |b| {
        b.iter(|| {
            let mut out = Vec::new();
            folded::render(black_box(&run), view, &mut out).map(|()| out)
        });
    });
    group.bench_function("summarise", |b| {
        b.iter(|| Summary::of(black_box(&run), &highlights, view));
    });
    group.bench_function("draw", |b| {
        b.iter(|| {
            let mut svg = Vec::new();
            flamegraph::render(black_box(&run), &highlights, view, None, &mut svg).map(|()| svg)
        });
    });
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
