//! What becomes of a profile after a call, and when the next one is due.

use std::time::Duration;

/// What becomes of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The server has it.
    Sent,
    /// The server will never take it.
    Refused(String),
    /// It is to be sent again.
    Later(String),
}

/// By the status that a server answered with, or why it gave no answer.
pub(super) fn fate(answer: &Result<u16, String>) -> Fate {
    match answer {
        Ok(200..=299) => Fate::Sent,
        // It is about this profile. Others (401, 404) are about the server and may be put right.
        Ok(status @ (400 | 413 | 415 | 422)) => Fate::Refused(format!("HTTP status {status}")),
        Ok(status) => Fate::Later(format!("HTTP status {status}")),
        Err(why) => Fate::Later(why.clone()),
    }
}

/// After so many failures in a row: half a second, doubled each time, five minutes at most.
pub(super) fn pause(failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    FIRST.saturating_mul(doubled).min(LONGEST)
}

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_the_profile_itself_loses_it() {
        let of = |status: u16| fate(&Ok(status));
        assert_eq!([200, 204].map(of), [Fate::Sent, Fate::Sent]);
        assert!([400, 413, 415, 422].map(of).iter().all(|of| matches!(of, Fate::Refused(_))));
        for status in [302, 401, 403, 404, 408, 429, 500, 503] {
            assert!(matches!(of(status), Fate::Later(_)), "{status}");
        }
        assert_eq!(fate(&Err("refused".into())), Fate::Later("refused".into()));
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let ms = [1, 2, 3, 4, 10, 11, 40, u32::MAX].map(|failures| pause(failures).as_millis());
        assert_eq!(ms, [500, 1000, 2000, 4000, 256_000, 300_000, 300_000, 300_000]);
    }
}
