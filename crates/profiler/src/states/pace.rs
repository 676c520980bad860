//! How often to look: as often as a small share of one CPU allows.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The share of one CPU that looking may take.
const BUDGET: f64 = 0.004;

/// The shortest pause: 250 looks a second tell a share of 10 % within 2 % after one second.
const SHORTEST: Duration = Duration::from_millis(4);

/// The longest, so that even a thousand threads are looked at some times a second.
const LONGEST: Duration = Duration::from_millis(250);

/// Few threads are looked at this often whatever it costs: less would not do for a verdict on some
/// seconds, and a look at few costs little wherever code is compiled for speed.
const LONGEST_OF_FEW: Duration = Duration::from_millis(16);

/// So many are few.
const FEW: usize = 16;

/// What the wake-up of the looking thread costs the machine beside its own CPU time, measured.
const WAKE_UP: Duration = Duration::from_micros(4);

/// Chooses the pause between two looks from what the looks before have cost.
#[derive(Debug, Default)]
pub struct Pace {
    looks: u32,
    last_cpu: Duration,
    /// Smoothed cost of a look.
    cost: Option<f64>,
    random: u32,
}

impl Pace {
    /// The pause to make now, after a look at so many threads.
    pub fn pause(&mut self, threads: usize) -> Duration {
        self.looks += 1;
        let cpu = own_cpu_time();
        let spent = cpu.saturating_sub(self.last_cpu) + WAKE_UP;
        self.last_cpu = cpu;
        let guess = Duration::from_micros(6 + 2 * threads as u64).as_secs_f64();
        let before = self.cost.unwrap_or(guess);
        // The first look opens every file, which says nothing of those to come.
        let now = if self.looks == 1 { guess } else { spent.as_secs_f64() };
        let cost = before + (now - before) / 8.0;
        self.cost = Some(cost);
        let longest = if threads <= FEW { LONGEST_OF_FEW } else { LONGEST };
        let pause = Duration::from_secs_f64(cost / BUDGET).clamp(SHORTEST, longest);
        pause.mul_f64(self.jitter())
    }

    /// 0.75 to 1.25: looks must not fall into step with a pipeline that has a rhythm of its own.
    fn jitter(&mut self) -> f64 {
        // Numerical Recipes' linear congruence: its upper bits are random enough for this.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        0.75 + f64::from(self.random >> 16) / f64::from(1u32 << 17)
    }
}

fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_stays_within_its_bounds_and_is_never_the_same_twice_in_a_row() {
        let mut pace = Pace::default();
        let pauses: Vec<Duration> = (0..100).map(|_| pace.pause(4)).collect();
        let least = SHORTEST.mul_f64(0.75);
        assert!(pauses.iter().all(|pause| (least..=LONGEST.mul_f64(1.25)).contains(pause)));
        assert!(pauses.windows(2).all(|pair| pair[0] != pair[1]), "{pauses:?}");
    }
}
