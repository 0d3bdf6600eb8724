//! What follows from an attempt: for its delivery, and for its handler (RULES R7.1). Pure.

use std::time::Duration;

use crate::config::{AfterFailure, Handler};
use crate::model::{AttemptResult, Timestamp};
use crate::schedule;
use crate::store::{ClaimedDelivery, HandlerChange, Outcome};

/// The longest wait that a `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// How long an open circuit breaker rests at first.
const OPEN_FIRST: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    pub result: AttemptResult,
    pub status: Option<u16>,
    /// As given by the answer, not yet capped.
    pub retry_after: Option<Duration>,
    /// Our own trouble (the proxy, a refused host): it says nothing of the event.
    pub own_fault: bool,
    /// It says itself that it cannot take events now, by other means than a status.
    pub busy: bool,
}

impl Tried {
    pub fn new(result: AttemptResult) -> Tried {
        Tried { result, status: None, retry_after: None, own_fault: false, busy: false }
    }
}

/// Judges an attempt. `breaks`: with this failure the handler's circuit breaker opens, or stays open.
pub fn judge(
    tried: &Tried,
    delivery: &ClaimedDelivery,
    handler: &Handler,
    breaks: bool,
    now: Timestamp,
) -> (Outcome, HandlerChange) {
    if tried.result == AttemptResult::Delivered {
        let probe = delivery.strain > 0;
        return (Outcome::Delivered, if probe { HandlerChange::Recovered } else { HandlerChange::None });
    }
    let (outcome, change) = judge_failure(tried, delivery, handler, now);
    let rest = match change {
        HandlerChange::None if breaks => HandlerChange::Wait(doubled(OPEN_FIRST, delivery.strain)),
        other => other,
    };
    (outcome, rest)
}

fn judge_failure(
    tried: &Tried,
    delivery: &ClaimedDelivery,
    handler: &Handler,
    now: Timestamp,
) -> (Outcome, HandlerChange) {
    let asked = tried.retry_after.map(|wait| wait.clamp(Duration::from_secs(1), RETRY_AFTER_MAX));
    let failed = || {
        (
            Outcome::Failed { hold_key: handler.after_failure == AfterFailure::Hold && !delivery.replay },
            HandlerChange::None,
        )
    };
    let left = delivery.first_due_at.plus(handler.retry.max_age).since(now);
    if tried.status == Some(410) {
        let reason = "the handler answered 410: it wants no more events".to_owned();
        return (Outcome::Retry { after: Duration::ZERO, counted: true }, HandlerChange::Pause(reason));
    }
    if left.is_zero() {
        return failed();
    }
    if speaks_of_the_handler(tried) {
        let wait = asked.unwrap_or_else(|| doubled(WAIT_FIRST, delivery.strain));
        return (Outcome::Retry { after: wait, counted: false }, HandlerChange::Wait(wait));
    }
    let seed = delivery.id.0 ^ u64::from(delivery.counted) << 56;
    match schedule::retry_after(&handler.retry.schedule, delivery.counted + 1, seed) {
        Some(wait) => {
            let after = wait.max(asked.unwrap_or_default()).min(left.max(Duration::from_secs(1)));
            (Outcome::Retry { after, counted: true }, HandlerChange::None)
        }
        None => failed(),
    }
}

/// Too many requests, a gateway's answer, no connection: none of it is the event's fault, and no attempt is burnt.
fn speaks_of_the_handler(tried: &Tried) -> bool {
    tried.own_fault
        || tried.busy
        || tried.result == AttemptResult::Unreachable
        || matches!(tried.status, Some(429 | 502 | 503 | 504))
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(WAIT_MAX)
}

/// `Retry-After` in seconds or as an HTTP date, against our own time.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    Some(Timestamp::from(date.to_utc()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::fixtures::{delivery, handler};

    fn tried(result: AttemptResult, status: Option<u16>, retry_after: Option<u64>) -> Tried {
        Tried { status, retry_after: retry_after.map(Duration::from_secs), ..Tried::new(result) }
    }

    fn check(tried: Tried, counted: u32, strain: u32) -> (Outcome, HandlerChange) {
        judge(&tried, &ClaimedDelivery { strain, ..delivery(counted) }, &handler(), false, Timestamp(0))
    }

    #[test]
    fn what_speaks_of_the_handler_burns_no_attempt() {
        use AttemptResult::{Refused, Unreachable};
        for (tried, waits, seconds) in [
            (tried(Refused, Some(429), None), 0, 1),
            (tried(Refused, Some(502), None), 1, 2),
            (tried(Refused, Some(503), Some(120)), 5, 120),
            (tried(Refused, Some(504), None), 20, 300),
            (tried(Unreachable, None, None), 3, 8),
            (tried(Refused, Some(503), Some(0)), 0, 1),
            (Tried { busy: true, ..tried(Refused, None, None) }, 2, 4),
            (tried(Refused, Some(503), Some(1_000_000)), 0, 86_400),
        ] {
            let wait = Duration::from_secs(seconds);
            let want = (Outcome::Retry { after: wait, counted: false }, HandlerChange::Wait(wait));
            assert_eq!(check(tried.clone(), 9, waits), want, "{tried:?}");
        }
    }

    #[test]
    fn other_failures_follow_the_schedule_until_the_tenth() {
        use AttemptResult::{Broken, Refused, Timeout};
        for tried in [
            tried(Refused, Some(400), None),
            tried(Refused, Some(302), None),
            tried(Timeout, None, None),
            tried(Broken, None, None),
        ] {
            let (outcome, change) = check(tried.clone(), 0, 0);
            assert!(
                matches!(outcome, Outcome::Retry { counted: true, after } if after >= Duration::from_secs(4) && after <= Duration::from_secs(6)),
                "{outcome:?}"
            );
            assert_eq!(change, HandlerChange::None);
            assert_eq!(check(tried, 9, 0).0, Outcome::Failed { hold_key: false });
        }
    }

    #[test]
    fn a_retry_after_on_another_failure_is_a_floor() {
        let (outcome, _) = check(tried(AttemptResult::Refused, Some(500), Some(600)), 0, 0);
        assert_eq!(outcome, Outcome::Retry { after: Duration::from_secs(600), counted: true });
    }

    #[test]
    fn an_open_breaker_rests_30_s_and_doubles_to_5_min_until_a_probe_is_accepted() {
        let refused = tried(AttemptResult::Refused, Some(500), None);
        for (strain, seconds) in [(0, 30), (1, 60), (3, 240), (4, 300), (40, 300)] {
            let probe = ClaimedDelivery { strain, ..delivery(2) };
            let (outcome, change) = judge(&refused, &probe, &handler(), true, Timestamp(0));
            assert_eq!(change, HandlerChange::Wait(Duration::from_secs(seconds)), "{strain}");
            assert!(matches!(outcome, Outcome::Retry { counted: true, .. }), "the attempt counts: {outcome:?}");
        }
        let accepted = tried(AttemptResult::Delivered, Some(200), None);
        assert_eq!(check(accepted.clone(), 0, 3).1, HandlerChange::Recovered);
        assert_eq!(check(accepted, 0, 0).1, HandlerChange::None);
    }

    #[test]
    fn gone_pauses_the_handler() {
        let (_, change) = check(tried(AttemptResult::Refused, Some(410), None), 0, 0);
        assert!(matches!(change, HandlerChange::Pause(_)));
    }

    #[test]
    fn an_old_delivery_is_given_up_whatever_the_answer() {
        let late = Timestamp(handler().retry.max_age.as_millis() as i64);
        let tried = tried(AttemptResult::Unreachable, None, None);
        assert_eq!(judge(&tried, &delivery(0), &handler(), false, late).0, Outcome::Failed { hold_key: false });
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Timestamp(1_445_412_420_000);
        for (text, want) in [
            ("120", Some(120)),
            ("99999999999999999999999", Some(86_400)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(60)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now).map(|d| d.as_secs()), want, "{text}");
        }
    }
}
