//! The provider's clock, estimated from the `Date` of its answers: what its records are dated by, and what cursors are clamped to.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{HeaderMap, header};

use super::pace;
use crate::model::Timestamp;

/// Two clocks that part by more than this are a problem.
pub(super) const SKEW_MAX: Duration = Duration::from_secs(30);
const UNKNOWN: i64 = i64::MIN;

/// How far a source's clock is ahead of ours, in milliseconds.
#[derive(Debug)]
pub(super) struct ProviderClock(AtomicI64);

impl Default for ProviderClock {
    fn default() -> ProviderClock {
        ProviderClock(AtomicI64::new(UNKNOWN))
    }
}

impl ProviderClock {
    /// Takes an answer in. A cached answer (`Age`) says nothing of the clock.
    pub fn see(&self, headers: &HeaderMap, sent: Timestamp, received: Timestamp) {
        let cached = headers.get(header::AGE).is_some_and(|age| age != "0");
        let Some(date) = pace::date(headers).filter(|_| !cached) else { return };
        // `Date` has whole seconds and was written somewhere between the two.
        let middle = sent.0 + (received.0 - sent.0) / 2;
        self.0.store((date.0 + 500).saturating_sub(middle), Ordering::Relaxed);
    }

    /// Our own wall was set by so much: theirs was not.
    pub fn clock_stepped(&self, millis: i64) {
        if let Some(skew) = self.skew() {
            self.0.store(skew.saturating_sub(millis), Ordering::Relaxed);
        }
    }

    /// Milliseconds; None: no answer told it yet.
    pub fn skew(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }

    /// The provider's time when our clock shows `now`.
    pub fn at(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add(self.skew().unwrap_or(0)))
    }
}

/// What a person is told when the clocks part.
pub(super) fn problem(skew: i64) -> Option<String> {
    let apart = Duration::from_millis(skew.unsigned_abs());
    let side = if skew > 0 { "ahead of" } else { "behind" };
    (apart > SKEW_MAX).then(|| {
        format!(
            "the provider's clock is {} s {side} ours; cursors go by the provider's clock, so nothing is lost, but check the time \
             of this machine (or of the provider)",
            apart.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_providers_clock_is_estimated_from_the_middle_of_the_exchange() {
        let clock = ProviderClock::default();
        assert_eq!((clock.skew(), clock.at(Timestamp(7))), (None, Timestamp(7)));
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, HeaderValue::from_static("Thu, 01 Jan 1970 00:01:40 GMT"));
        clock.see(&headers, Timestamp(39_500), Timestamp(41_500));
        assert_eq!(clock.skew(), Some(60_000));
        assert_eq!(clock.at(Timestamp(1_000)), Timestamp(61_000));
        headers.insert(header::AGE, HeaderValue::from_static("3600"));
        clock.see(&headers, Timestamp(0), Timestamp(0));
        assert_eq!(clock.skew(), Some(60_000), "a cached answer says nothing");
        assert!(problem(60_000).expect("apart").contains("60 s ahead"));
        assert_eq!((problem(-30_000), problem(30_000)), (None, None));
    }
}
