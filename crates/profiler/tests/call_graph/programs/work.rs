// Known callers: closures through the library, recursion, threads.
use std::hint::black_box;

#[unsafe(no_mangle)]
#[inline(never)]
fn spin(rounds: u64) -> u64 {
    let mut x = rounds;
    for _ in 0..rounds {
        x = black_box(x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
    }
    x
}

#[unsafe(no_mangle)]
#[inline(never)]
fn descend(depth: u32) -> u64 {
    let below = if depth > 0 { descend(depth - 1) } else { spin(5000) };
    black_box(below.wrapping_add(u64::from(depth)))
}

#[unsafe(no_mangle)]
#[inline(never)]
fn key(number: u64) -> u64 {
    black_box(spin(30) ^ number)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn sort(numbers: &mut [u64]) {
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    numbers.sort_by_key(|number| key(*number));
    black_box(numbers);
}

#[unsafe(no_mangle)]
#[inline(never)]
fn in_thread(rounds: u64) -> u64 {
    (0..rounds).map(|round| black_box(descend(3) ^ round)).fold(0, u64::wrapping_add)
}

fn main() {
    let thread = std::thread::spawn(|| black_box(in_thread(black_box(30000))));
    let mut numbers = vec![0; 1024];
    for _ in 0..160 {
        sort(&mut numbers);
        for _ in 0..60 {
            black_box(descend(black_box(60)));
        }
    }
    black_box(thread.join().unwrap());
}
