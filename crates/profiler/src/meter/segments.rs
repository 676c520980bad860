//! Bytes through a pipe whose ends come and go.
//!
//! An end whose processes have ended has no counters any more, and what it moved after the last
//! look is in none of them. So the watch is cut wherever an end appears or vanishes. Each segment
//! is estimated from the ends that existed in it, and the segments add up.

use std::borrow::Cow;

use super::estimate::{Bytes, EndCount, START_UP_BYTES, Source, estimate, estimate_socket};

/// The counts of the two ends.
type Ends = (Option<EndCount>, Option<EndCount>);

/// `net.core.wmem_default` as it is on most machines (net/core/sock.c, v6.18).
const USUAL_SEND_BUFFER: u64 = 212_992;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Segments {
    done_bytes: u64,
    done_writes: u64,
    done_reads: u64,
    calls_unknown: (bool, bool),
    source: Option<Source>,
    unknown: Option<Cow<'static, str>>,
    /// What a writer that has gone had written beyond what was counted as gone through, where its
    /// count can be trusted.
    rest: Option<u64>,
    began: Ends,
    latest: Ends,
    /// What each end had counted when it was last seen to go.
    left: Ends,
    looked: bool,
    capacity_bytes: u64,
    is_socket: bool,
    /// All that each end has moved, where nothing else is in it.
    alone: (Option<u64>, Option<u64>),
    /// What all processes of each end have counted since the beginning, those that ended too.
    whole: Ends,
    /// Readers that were counted from their birth.
    born: u32,
}

/// Of a pipe that cannot be asked (include/linux/pipe_fs_i.h: 16 pages, v2.6.35 to v6.18).
const USUAL_CAPACITY: u64 = 65_536;

impl Segments {
    /// Of a pipe that holds so much.
    pub(super) fn new(capacity_bytes: Option<u64>) -> Self {
        let capacity_bytes = capacity_bytes.unwrap_or(USUAL_CAPACITY);
        Segments { capacity_bytes, alone: (Some(0), Some(0)), ..Segments::default() }
    }

    /// Of a Unix socket.
    pub(super) fn of_socket(capacity_bytes: Option<u64>) -> Self {
        let capacity_bytes = capacity_bytes.unwrap_or(USUAL_SEND_BUFFER);
        Segments { is_socket: true, ..Segments::new(Some(capacity_bytes)) }
    }

    /// The pipe holds so much by now.
    pub(super) fn holds(&mut self, capacity_bytes: u64) {
        self.capacity_bytes = self.capacity_bytes.max(capacity_bytes);
    }

    /// Takes the counts of a look, `None` for an end that is not there. An end that comes back goes
    /// on with what it had counted.
    pub(super) fn look(&mut self, writer: Option<EndCount>, reader: Option<EndCount>) {
        let (was, is) = (self.ends_there(), (writer.is_some(), reader.is_some()));
        if self.looked && was != is && !self.completes(writer, reader) {
            let is_new = |was: bool, is: bool, left: Option<EndCount>| !was && is && left.is_none();
            let new = (is_new(was.0, is.0, self.left.0), is_new(was.1, is.1, self.left.1));
            if new.0 || new.1 {
                // What has gone through by now is in the count of the other, whoever else moved it.
                self.latest = (writer.filter(|_| was.0), reader.filter(|_| was.1));
            }
            self.close();
            let keep = |was: bool, latest, left: &mut Option<EndCount>| {
                if was {
                    *left = latest;
                }
                *left
            };
            let began = (
                keep(was.0, self.latest.0, &mut self.left.0),
                keep(was.1, self.latest.1, &mut self.left.1),
            );
            let began =
                (if new.0 { writer } else { began.0 }, if new.1 { reader } else { began.1 });
            self.began = (began.0.filter(|_| is.0), began.1.filter(|_| is.1));
        }
        self.latest = (writer, reader);
        self.looked = true;
    }

    /// Takes what all processes of each end have counted since the beginning. If one writer follows
    /// another, the reader may have read from the second before a segment ends with the first, so the
    /// ends disagree in that segment, but not in all.
    pub(super) fn counted(&mut self, writer: Option<EndCount>, reader: Option<EndCount>) {
        self.whole = (writer, reader);
    }

    /// Nothing more than that an end is there for the first time that was counted from its birth, and
    /// that may have moved all that the other one has counted so far: it belongs to that.
    fn completes(&self, writer: Option<EndCount>, reader: Option<EndCount>) -> bool {
        let moved = self.moved();
        let explains = |now: EndCount, other: EndCount| {
            let start_up = u64::from(other.born) * START_UP_BYTES;
            now.bytes + self.capacity_bytes + start_up >= other.bytes
        };
        let side = |latest: Option<EndCount>,
                    now: Option<EndCount>,
                    left: Option<EndCount>,
                    other: Option<EndCount>| {
            latest.is_some() == now.is_some()
                || latest.is_none()
                    && left.is_none()
                    && now
                        .is_some_and(|now| now.born > 0 && other.is_none_or(|it| explains(now, it)))
        };
        side(self.latest.0, writer, self.left.0, moved.1)
            && side(self.latest.1, reader, self.left.1, moved.0)
    }

    /// Which ends were there at the latest look, or have been there since: with these counts they
    /// have moved something after they were last seen to go.
    pub(super) fn ends_since(
        &self,
        writer: Option<EndCount>,
        reader: Option<EndCount>,
    ) -> (bool, bool) {
        let has_moved = |now: Option<EndCount>, left: Option<EndCount>| {
            now.map_or(0, |end| end.bytes) > left.map_or(0, |end| end.bytes)
        };
        let was = self.ends_there();
        (was.0 || has_moved(writer, self.left.0), was.1 || has_moved(reader, self.left.1))
    }

    /// Which ends were there at the latest look.
    pub(super) fn ends_there(&self) -> (bool, bool) {
        (self.latest.0.is_some(), self.latest.1.is_some())
    }

    /// What has gone through so far.
    pub(super) fn total(&self) -> Bytes {
        if !self.looked {
            return Bytes::Unknown { why: "it had ended before the first look".into() };
        }
        if let Some(bytes) = self.overcounted() {
            return bytes;
        }
        match self.sum() {
            known @ Bytes::Known { .. } => known,
            unknown => match self.estimate(self.whole) {
                known @ Bytes::Known { .. } => known,
                Bytes::Unknown { .. } => unknown,
            },
        }
    }

    /// The segments added up.
    fn sum(&self) -> Bytes {
        match (self.unknown.clone(), self.current()) {
            (Some(why), _) => Bytes::Unknown { why },
            (None, Bytes::Known { bytes, source }) => {
                let source = self.source.unwrap_or(source);
                Bytes::Known { bytes: self.done_bytes + bytes, source }
            }
            // Where an end has gone, what is left in the pipe is all that can be missing.
            (None, unknown) => match self.source.filter(|_| self.ends_there() != (true, true)) {
                Some(source) => Bytes::Known { bytes: self.done_bytes, source },
                None => unknown,
            },
        }
    }

    /// Write calls so far, where they are this pipe's alone.
    pub(super) fn writes(&self) -> Option<u64> {
        let now = self.moved().0.filter(counts_alone).map(|end| end.calls);
        let known = !self.calls_unknown.0 && (now.is_some() || self.latest.0.is_none());
        known.then(|| self.done_writes + now.unwrap_or(0))
    }

    /// Read calls so far, where they are this pipe's alone.
    pub(super) fn reads(&self) -> Option<u64> {
        let now = self.moved().1.filter(counts_alone).map(|end| end.calls);
        let known = !self.calls_unknown.1 && (now.is_some() || self.latest.1.is_none());
        known.then(|| self.done_reads + now.unwrap_or(0))
    }

    /// What went through a pipe that was empty at first and whose ends have both gone, where the
    /// reader counts more than the writer.
    fn overcounted(&self) -> Option<Bytes> {
        let (written, read) = self.alone.0.zip(self.alone.1)?;
        let is_over = self.ends_there() == (false, false) && self.born > 0 && read > written;
        let end = |bytes| EndCount { bytes, born: self.born, ..EndCount::default() };
        (is_over && !self.is_socket).then(|| estimate(Some(end(written)), Some(end(read)), 0))
    }

    fn close(&mut self) {
        let (writer, reader) = self.moved();
        let add = |sum: &mut Option<u64>, end: Option<EndCount>| {
            if let Some(end) = end {
                *sum = sum.filter(|_| counts_alone(&end)).map(|sum| sum + end.bytes);
            }
        };
        add(&mut self.alone.0, writer);
        add(&mut self.alone.1, reader);
        self.born = self.born.max(reader.map_or(0, |end| end.born));
        let current = self.current();
        let trusted = writer.filter(counts_alone).zip(current.known());
        self.rest = trusted.map(|(writer, counted)| writer.bytes.saturating_sub(counted));
        match (writer, reader) {
            (None, None) => {}
            _ => match current {
                Bytes::Known { bytes, source } => {
                    self.done_bytes += bytes;
                    self.source.get_or_insert(source);
                }
                Bytes::Unknown { why } => self.unknown = Some(why),
            },
        }
        self.calls_unknown.0 |= writer.is_some_and(|end| !counts_alone(&end));
        self.calls_unknown.1 |= reader.is_some_and(|end| !counts_alone(&end));
        self.done_writes += writer.map_or(0, |end| end.calls);
        self.done_reads += reader.map_or(0, |end| end.calls);
    }

    fn current(&self) -> Bytes {
        let (writer, reader) = self.moved();
        match (self.estimate((writer, reader)), writer, self.rest) {
            // Whatever else the reader does: no more can come than the writer left behind.
            (Bytes::Unknown { .. }, None, Some(bytes)) => {
                Bytes::Known { bytes, source: Source::Writer }
            }
            (estimate, ..) => estimate,
        }
    }

    fn estimate(&self, (writer, reader): Ends) -> Bytes {
        let estimate = if self.is_socket { estimate_socket } else { estimate };
        estimate(writer, reader, self.capacity_bytes)
    }

    /// What each end has moved since the segment began.
    fn moved(&self) -> Ends {
        let since = |latest: Option<EndCount>, began: Option<EndCount>| {
            let latest = latest?;
            let (bytes, calls) = began.map_or((0, 0), |end| (end.bytes, end.calls));
            Some(EndCount {
                bytes: latest.bytes.saturating_sub(bytes),
                calls: latest.calls.saturating_sub(calls),
                spliced: latest.spliced.map(|spliced| {
                    spliced.saturating_sub(began.and_then(|end| end.spliced).unwrap_or(0))
                }),
                ..latest
            })
        };
        (since(self.latest.0, self.began.0), since(self.latest.1, self.began.1))
    }
}

fn counts_alone(end: &EndCount) -> bool {
    !end.splices && !end.elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: u64) -> Option<EndCount> {
        Some(EndCount { bytes, calls: bytes / 10, ..EndCount::default() })
    }

    fn total(looks: &[Ends]) -> Option<u64> {
        let mut segments = Segments::new(None);
        looks.iter().for_each(|&(writer, reader)| segments.look(writer, reader));
        segments.total().known()
    }

    #[test]
    fn a_writer_that_has_gone_leaves_the_rest_to_its_reader() {
        let looks = [(end(500), end(400)), (end(1000), end(950)), (None, end(1300))];
        assert_eq!(total(&looks), Some(1300));
    }

    #[test]
    fn a_reader_that_goes_on_to_read_its_own_files_does_not_spoil_what_was_counted() {
        let sorting = |bytes| end(bytes).map(|end| EndCount { elsewhere: true, ..end });
        let looks = [(end(500), sorting(400)), (end(1000), sorting(950)), (None, sorting(7000))];
        assert_eq!(total(&looks), Some(1000));
        let looks = [(end(1000), end(950)), (None, end(950)), (None, sorting(7000))];
        assert_eq!(total(&looks), Some(1000));
    }

    #[test]
    fn nothing_went_through_that_was_never_written() {
        let born = |bytes| end(bytes).map(|end| EndCount { born: 1, ..end });
        // What the reader is said to have read as it ended was partly another's.
        let of = |read| total(&[(born(100_000), born(90_000)), (None, born(read)), (None, None)]);
        assert_eq!([100_000, 116_000, 140_000].map(of), [Some(100_000), Some(100_000), None]);
        let at_once = |read| total(&[(born(100_000), born(read)), (None, None)]);
        assert_eq!([116_000, 140_000].map(at_once), [Some(100_000), None]);
    }

    #[test]
    fn an_end_that_comes_later_belongs_to_what_was_counted_so_far() {
        let born = |bytes| end(bytes).map(|end| EndCount { born: 1, ..end });
        // The reader has read its libraries meanwhile.
        let looks = [(None, born(7000)), (born(3000), born(9000)), (None, born(10_000))];
        assert_eq!(total(&looks), Some(3000));
    }

    #[test]
    fn a_writer_that_is_found_late_does_not_account_for_what_another_wrote() {
        let born = |bytes| end(bytes).map(|end| EndCount { born: 1, ..end });
        // The one before it has ended unseen, or it has been there all the time.
        for late in [end, born] {
            let looks = [
                (None, end(0)),
                (None, end(200_000_000)),
                (late(1_000_000), end(231_000_000)),
                (late(801_000_000), end(1_031_000_000)),
            ];
            assert_eq!(total(&looks), Some(1_031_000_000));
        }
    }

    #[test]
    fn a_segment_that_ends_between_two_counts_leaves_the_whole() {
        // The next one writes before the reader is looked at, and before it is known itself.
        let looks = [(end(200_000_000), end(199_990_000)), (None, end(230_000_000))];
        let later = (end(1_000_000_000), end(1_000_000_000));
        let mut segments = Segments::new(None);
        looks.iter().for_each(|&(writer, reader)| segments.look(writer, reader));
        segments.look(later.0, later.1);
        assert_eq!(segments.total().known(), None);
        segments.counted(later.0, later.1);
        assert_eq!(segments.total().known(), Some(1_000_000_000));
    }

    #[test]
    fn what_nobody_can_tell_of_later_ends_makes_the_sum_unknown() {
        let looks = [(end(1000), end(1000)), (None, end(1000)), (end(90_000_000), end(2_000_000))];
        assert_eq!(total(&looks), None);
    }

    #[test]
    fn a_writer_that_comes_back_counts_what_it_had_counted_once() {
        let looks = [(end(1000), end(1000)), (None, end(1000)), (end(1500), end(1500))];
        assert_eq!(total(&looks), Some(1500));
    }

    #[test]
    fn both_gone_keeps_what_was_counted() {
        assert_eq!(total(&[(end(1000), end(1000)), (None, None)]), Some(1000));
        assert_eq!(total(&[(None, end(10)), (None, None), (None, None)]), Some(10));
        assert_eq!(total(&[]), None);
    }

    #[test]
    fn calls_add_up_over_segments() {
        let mut segments = Segments::new(None);
        segments.look(end(1000), end(1000));
        segments.look(None, end(2000));
        assert_eq!((segments.writes(), segments.reads()), (Some(100), Some(200)));
    }
}
