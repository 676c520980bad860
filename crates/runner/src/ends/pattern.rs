//! Stream contents in which every position differs, so that a misplaced byte is detected.

use crate::error::Error;

/// 2^64 over the golden ratio: multiples of an odd constant repeat only after 2^64 words.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const WORD: usize = size_of::<u64>();

/// The word at `counter = STEP * (index + 1)`, so that none is zero. The fold spreads the index over all its bytes: words a
/// power of two apart, as the two buffers are, would else agree in their low ones.
fn mix(counter: u64) -> u64 {
    counter ^ (counter >> 32)
}

fn counter_at(offset: u64) -> u64 {
    (offset / WORD as u64 + 1).wrapping_mul(STEP)
}

fn byte_at(offset: u64) -> u8 {
    mix(counter_at(offset)).to_le_bytes()[(offset % WORD as u64) as usize]
}

/// Bytes before the first whole word of the stream.
fn head_length(offset: u64, length: usize) -> usize {
    (offset.wrapping_neg() as usize % WORD).min(length)
}

/// Writes what the stream holds from `offset` on.
#[inline(never)]
pub(crate) fn fill(buffer: &mut [u8], offset: u64) {
    let (head, rest) = buffer.split_at_mut(head_length(offset, buffer.len()));
    for (index, byte) in head.iter_mut().enumerate() {
        *byte = byte_at(offset + index as u64);
    }
    let offset = offset + head.len() as u64;
    let mut counter = counter_at(offset);
    let mut words = rest.chunks_exact_mut(WORD);
    for word in &mut words {
        word.copy_from_slice(&mix(counter).to_le_bytes());
        counter = counter.wrapping_add(STEP);
    }
    for (byte, value) in words.into_remainder().iter_mut().zip(mix(counter).to_le_bytes()) {
        *byte = value;
    }
}

/// Compares with what the stream holds from `offset` on.
///
/// # Errors
/// [`Error::Corrupt`] with the first byte that differs.
#[inline(never)]
pub(crate) fn check(data: &[u8], offset: u64) -> Result<(), Error> {
    let (head, rest) = data.split_at(head_length(offset, data.len()));
    let mut counter = counter_at(offset + head.len() as u64);
    let mut difference = 0;
    let words = rest.chunks_exact(WORD);
    let tail = words.remainder();
    for word in words {
        let found = word.first_chunk().copied().map_or(0, u64::from_le_bytes);
        difference |= found ^ mix(counter);
        counter = counter.wrapping_add(STEP);
    }
    let sound = difference == 0
        && tail.iter().zip(mix(counter).to_le_bytes()).all(|(&found, sent)| found == sent)
        && head.iter().zip(offset..).all(|(&found, at)| found == byte_at(at));
    if sound { Ok(()) } else { Err(first_difference(data, offset)) }
}

/// Compares with what the stream holds from `offset` on where its first `period` bytes are all
/// that is ever sent, over and over.
///
/// # Errors
/// As for [`check`]; the offset is one of the whole stream.
pub(crate) fn check_repeated(mut data: &[u8], mut offset: u64, period: u64) -> Result<(), Error> {
    while !data.is_empty() {
        let within = offset % period;
        let length = data.len().min((period - within) as usize);
        let (piece, rest) = data.split_at(length);
        check(piece, within).map_err(|error| match error {
            Error::Corrupt { offset: at, expected, found } => {
                Error::Corrupt { offset: offset - within + at, expected, found }
            }
            other => other,
        })?;
        offset += length as u64;
        data = rest;
    }
    Ok(())
}

#[cold]
fn first_difference(data: &[u8], offset: u64) -> Error {
    let (at, found) = data
        .iter()
        .zip(offset..)
        .find(|&(&found, at)| found != byte_at(at))
        .map_or((offset, 0), |(&found, at)| (at, found));
    Error::Corrupt { offset: at, expected: byte_at(at), found }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn filled_in_any_pieces_it_is_the_same_stream(
            start in 0u64..1 << 40,
            pieces in prop::collection::vec(0usize..70, 1..20),
        ) {
            let total: usize = pieces.iter().sum();
            let mut whole = vec![0; total];
            fill(&mut whole, start);
            prop_assert!(whole.iter().zip(start..).all(|(&byte, at)| byte == byte_at(at)));
            let mut at = 0;
            for piece in pieces {
                let mut part = vec![0; piece];
                fill(&mut part, start + at as u64);
                prop_assert_eq!(&part[..], &whole[at..at + piece]);
                prop_assert!(check(&part, start + at as u64).is_ok());
                at += piece;
            }
        }

        #[test]
        fn one_wrong_byte_is_found_where_it_is(
            start in 0u64..1 << 40,
            length in 1usize..200,
            place: prop::sample::Index,
            flip in 1u8..,
        ) {
            let mut data = vec![0; length];
            fill(&mut data, start);
            let place = place.index(length);
            data[place] ^= flip;
            match check(&data, start) {
                Err(Error::Corrupt { offset, expected, found }) => {
                    prop_assert_eq!(offset, start + place as u64);
                    prop_assert_eq!((expected ^ flip, found), (found, data[place]));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn a_repeated_stream_is_checked_from_anywhere() {
        let mut one = vec![0; 96];
        fill(&mut one, 0);
        let mut stream = one.repeat(5);
        for start in 0..stream.len() {
            assert!(check_repeated(&stream[start..], start as u64, 96).is_ok(), "{start}");
        }
        stream[200] ^= 1;
        match check_repeated(&stream[50..], 50, 96) {
            Err(Error::Corrupt { offset, .. }) => assert_eq!(offset, 200),
            other => panic!("{other:?}"),
        }
        assert!(check_repeated(&stream[201..], 201, 96).is_ok());
        assert!(check_repeated(&stream[..96], 96 + 8, 96).is_err(), "it must be in step");
    }

    #[test]
    fn a_buffer_from_another_turn_never_passes() {
        let mut data = vec![0; 4096];
        for turns in 1..=64u64 {
            fill(&mut data, turns << 17);
            assert!(check(&data, 0).is_err(), "{turns}");
            let agreeing = data.iter().zip(0..).filter(|&(&byte, at)| byte == byte_at(at)).count();
            assert!(agreeing < 4096 / 4, "{agreeing} bytes agree");
        }
    }
}
