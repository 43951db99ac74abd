//! When something is tried again, and how long is waited before.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822::DateTimeParser;

/// Tries of one request.
const MAX_TRIES: u32 = 5;
/// Tries when not even a connection comes about: a network that is not there will not be in a minute.
const MAX_CONNECTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// What a registry may ask for. Who wants more is not waited for: the person may have other plans.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(60);

/// Counts tries and doubles the wait, with a random part so that many who were sent away do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
    connects: u32,
}

impl Backoff {
    /// How long to wait before the next try; `None` when there is none.
    pub(super) fn next(&mut self) -> Option<Duration> {
        self.tries += 1;
        (self.tries < MAX_TRIES).then(|| wait(self.tries))
    }

    /// The same after a connection that did not come about.
    pub(super) fn next_connect(&mut self) -> Option<Duration> {
        self.connects += 1;
        (self.connects < MAX_CONNECTS).then(|| wait(self.connects))
    }

    /// Something came through: what failed before does not count.
    pub(super) fn progress(&mut self) {
        *self = Self::default();
    }
}

fn wait(tries: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_WAIT);
    // A hasher with random keys is all the randomness that is needed, and the standard library has it.
    let random = RandomState::new().hash_one(tries) % 1000;
    full / 2 + full.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 2000.0)
}

/// Whether an answer of this status may be another one the next time.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429) || (500..600).contains(&status) && !matches!(status, 501 | 505)
}

/// What a `Retry-After` says: seconds, or a date.
pub(super) fn rest(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until: SystemTime = DateTimeParser::new().parse_timestamp(header).ok()?.into();
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = std::iter::from_fn(|| backoff.next()).collect();
        assert_eq!(waits.len(), 4);
        for (at, wait) in waits.iter().enumerate() {
            let full = FIRST_WAIT * (1 << at);
            assert!(*wait >= full / 2 && *wait <= full, "{waits:?}");
        }
        backoff.progress();
        assert!(backoff.next().is_some());
    }

    #[test]
    fn a_rest_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(1_445_412_450);
        assert_eq!(rest("7", now), Some(Duration::from_secs(7)));
        assert_eq!(rest("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(rest("Wed, 21 Oct 2009 07:28:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(rest("soon", now), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!([408, 429, 500, 502, 503, 504].into_iter().all(is_passing));
        assert!(![200, 400, 401, 403, 404, 416, 501].into_iter().any(is_passing));
    }
}
