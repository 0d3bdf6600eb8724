//! When to ask again: what a `Retry-After` says, and how a stream that fails is asked less often. Pure.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use http::{HeaderMap, header};

use crate::model::Timestamp;
use crate::provider::ResetUnit;

/// The longest wait that a provider can ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// So many failures in a row keep the stream's interval; from there on it grows.
const PATIENCE: u32 = 3;
/// A failing stream is asked at least so often, unless its interval is longer.
const SLOWEST: Duration = Duration::from_secs(15 * 60);

/// How long the provider wants to be left alone: seconds, or a date counted from the provider's own `Date`. At most 24 h.
/// None: it does not say, or not so that one can read it.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(RETRY_AFTER_MAX)
        }
        Ok(_) => return None,
        Err(_) => http_date(text)?.since(date(headers).unwrap_or(now)),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// How long until the quota is full again, as a header says in its declared unit. At most 24 h. None: it does not say, or it is over
/// already, which no quota that is spent can be.
pub(super) fn reset(headers: &HeaderMap, name: &str, unit: ResetUnit, now: Timestamp) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    let number = || text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let millis = |number: f64| Timestamp(number.ceil().min(i64::MAX as f64) as i64);
    // Moments are the provider's: they count from its own clock.
    let theirs = date(headers).unwrap_or(now);
    let wait = match unit {
        ResetUnit::Seconds => Duration::try_from_secs_f64(number()?).unwrap_or(RETRY_AFTER_MAX),
        ResetUnit::Unix => millis(number()? * 1000.0).since(theirs),
        ResetUnit::UnixMs => millis(number()?).since(theirs),
        ResetUnit::Date => {
            let read = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc().into());
            http_date(text).or_else(read)?.since(theirs)
        }
    };
    (!wait.is_zero()).then_some(wait.min(RETRY_AFTER_MAX))
}

/// The provider's own least interval, in seconds (`X-Poll-Interval`). At most 24 h.
pub(super) fn interval(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let seconds: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The provider's own time of an answer.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(header::DATE)?.to_str().ok()?)
}

/// A date of HTTP in its three forms; each is in UTC.
fn http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc2822(text) {
        return Some(time.to_utc().into());
    }
    let formats = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).map(|time| time.and_utc().into())
}

/// When a stream that failed `failures` times in a row is asked again, given when it would be. Its interval is kept for the first
/// failures, then doubles, up to eight times itself or a quarter of an hour, whichever is less, and never less than itself.
pub(super) fn after_failures(interval: Duration, failures: u32) -> Duration {
    let times = 2u32.saturating_pow(failures.saturating_sub(PATIENCE)).min(8);
    interval.saturating_mul(times).min(SLOWEST.max(interval))
}

/// After how long without a good poll a stream is late where nobody says.
pub(super) fn late_after(interval: Duration) -> Duration {
    interval.saturating_mul(3).max(Duration::from_secs(300))
}

/// Whether so many failures in a row, without success for so long, are a stream that is late. `said`: the source says after how long.
pub(super) fn late(interval: Duration, said: Option<Duration>, failures: u32, since_ok: Option<Duration>) -> bool {
    let after = said.unwrap_or_else(|| late_after(interval));
    // Who says a time means it, however often the stream was asked meanwhile.
    (said.is_some() || failures >= PATIENCE) && since_ok.map_or(failures >= PATIENCE, |since| since >= after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now = Timestamp(1_800_000_000_000);
        let date = "Sun, 06 Nov 1994 08:49:00 GMT";
        for (value, want) in [
            ("30", Some(30)),
            (" 0 ", Some(0)),
            ("1.2", Some(2)),
            ("999999999", Some(86_400)),
            ("-5", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 13 Nov 1994 08:49:37 GMT", Some(86_400)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, HeaderValue::from_static(date));
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now), want.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_date_without_the_providers_own_counts_from_our_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Thu, 01 Jan 1970 00:01:40 GMT"));
        assert_eq!(retry_after(&headers, Timestamp(40_000)), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp(0)), None);
    }

    #[test]
    fn a_failing_stream_is_asked_less_often_within_bounds() {
        for (interval, failures, want) in [
            (60, 1, 60),
            (60, 3, 60),
            (60, 4, 120),
            (60, 5, 240),
            (60, 6, 480),
            (60, 60, 480),
            (300, 60, 900),
            (3600, 60, 3600),
            (1, 4_000_000_000, 8),
        ] {
            let got = after_failures(Duration::from_secs(interval), failures);
            assert_eq!(got, Duration::from_secs(want), "{interval} s after {failures}");
        }
    }

    #[test]
    fn a_stream_is_late_after_three_failed_intervals_of_at_least_five_minutes() {
        let seconds = Duration::from_secs;
        for (interval, failures, since_ok, want) in [
            (60, 3, Some(299), false),
            (60, 3, Some(300), true),
            (600, 3, Some(1_799), false),
            (600, 3, Some(1_800), true),
            (60, 2, Some(9_999), false),
            (60, 3, None, true),
        ] {
            assert_eq!(late(seconds(interval), None, failures, since_ok.map(seconds)), want, "{interval} {failures}");
        }
        let said = Some(seconds(20));
        assert!(late(seconds(60), said, 1, said) && !late(seconds(60), said, 9, Some(seconds(19))));
    }
}
