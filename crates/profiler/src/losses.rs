//! Lost records of each event. The same loss may be reported twice: by the kernel, as soon as there
//! is room in the ring again (`PERF_RECORD_LOST`), and at the end by `perf record`, which reads the
//! count of each event (`PERF_RECORD_LOST_SAMPLES`, perf 6.1 and later on Linux 6.0 and later).

/// Losses by event.
#[derive(Debug)]
pub(crate) struct Losses {
    events: Vec<Lost>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    /// Reported in the ring. If several events share one, the loss is reported for the first that
    /// had room again.
    in_ring: u64,
    /// Counted by the event itself.
    counted: u64,
    /// Left out by the PMU, which no ring and no event counts.
    by_pmu: u64,
}

impl Losses {
    /// Of so many events.
    pub(crate) fn new(events: usize) -> Self {
        Losses { events: vec![Lost::default(); events] }
    }

    /// A ring tells of a loss.
    pub(crate) fn in_ring(&mut self, event: usize, count: u64) {
        add(&mut self.events[event].in_ring, count);
    }

    /// Samples lost of an event. perf writes what the events counted in the end, at no time.
    pub(crate) fn samples(&mut self, event: usize, time: Option<u64>, count: u64) {
        let lost = &mut self.events[event];
        let told = if time.unwrap_or(0) == 0 { &mut lost.counted } else { &mut lost.by_pmu };
        add(told, count);
    }

    /// What was lost of one event. Where events were asked for their counts these are exact, and of
    /// one that is not among them nothing was lost.
    pub(crate) fn of(&self, event: usize) -> u64 {
        let were_counted = self.events.iter().any(|lost| lost.counted > 0);
        let lost = self.events[event];
        let in_rings = if were_counted { lost.counted } else { lost.in_ring };
        in_rings.saturating_add(lost.by_pmu)
    }
}

fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ring_and_event_both_tell_was_lost_once() {
        let mut losses = Losses::new(2);
        losses.in_ring(0, 947);
        losses.in_ring(0, 628);
        assert_eq!(losses.of(0), 1575);
        losses.samples(0, Some(0), 1575);
        assert_eq!((losses.of(0), losses.of(1)), (1575, 0));
        // A PMU that dropped samples tells so with a time.
        losses.samples(0, Some(77), 5);
        assert_eq!(losses.of(0), 1580);
    }

    #[test]
    fn counts_of_the_events_tell_whose_loss_a_shared_ring_told() {
        let mut losses = Losses::new(2);
        losses.in_ring(0, 100);
        losses.samples(1, None, 100);
        assert_eq!((losses.of(0), losses.of(1)), (0, 100));
    }
}
