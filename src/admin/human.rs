//! Numbers, sizes and spans of time as a person reads them. Used by the dashboard and by the commands.

use std::time::Duration;

use crate::model::Timestamp;

/// `1,284`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 event`, `1,284 events`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `512 B`, `2.1 MB`.
pub fn bytes(number: u64) -> String {
    if number < 1_000 {
        return format!("{number} B");
    }
    let mut value = number as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `31 ms`, `3.1 s`, `64 s`, `9 m`, `5 h`, `3 d`.
pub fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{millis} ms"),
        1..=9 => format!("{:.1} s", millis as f64 / 1_000.0),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} m", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Where a moment lies from here: `8 s ago`, `in 3 m`, `now`.
pub fn from_now(at: Timestamp, now: Timestamp) -> String {
    let (past, future) = (now.since(at), at.since(now));
    if past.as_secs() == 0 && future.as_secs() == 0 {
        return "now".into();
    }
    if past.is_zero() { format!("in {}", whole(future)) } else { format!("{} ago", whole(past)) }
}

/// Like [`span`], without fractions.
fn whole(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=9 => format!("{seconds} s"),
        _ => span(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_rounded() {
        for (number, text) in [(0, "0"), (999, "999"), (1_284, "1,284"), (1_000_000, "1,000,000")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [(0, "0 B"), (999, "999 B"), (1_800, "1.8 kB"), (41_000, "41 kB"), (999_600, "1.0 MB")] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(counted(1, "event", "events"), "1 event");
        assert_eq!(counted(0, "event", "events"), "0 events");
    }

    #[test]
    fn spans_have_one_unit() {
        for (millis, text) in [
            (31, "31 ms"),
            (3_120, "3.1 s"),
            (64_000, "64 s"),
            (9 * 60_000, "9 m"),
            (5 * 3_600_000, "5 h"),
            (3 * 86_400_000, "3 d"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = Timestamp(1_000_000);
        for (at, text) in [(992_000, "8 s ago"), (1_180_000, "in 3 m"), (1_000_400, "now"), (999_600, "now")] {
            assert_eq!(from_now(Timestamp(at), now), text);
        }
    }
}
