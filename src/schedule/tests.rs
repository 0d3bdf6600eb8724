//! Tables over both clock changes of two zones, the grid of intervals, and the waits of a retry.

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from(DateTime::parse_from_rfc3339(text).expect("a time").to_utc())
}

/// The next `count` runs after `last`, each asked for at the moment the one before it ran.
fn runs(pattern: &str, zone: &str, last: &str, count: usize) -> Vec<String> {
    let zone: Tz = zone.parse().expect("a zone");
    let schedule = Schedule::Cron { text: pattern.into(), zone };
    let mut last = at(last);
    let mut found = Vec::new();
    for _ in 0..count {
        last = next(&schedule, "core/payments", Some(last), last);
        found.push(last.to_utc().with_timezone(&zone).to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    }
    found
}

fn check(pattern: &str, zone: &str, last: &str, wanted: &[&str]) {
    assert_eq!(runs(pattern, zone, last, wanted.len()), wanted, "{pattern} in {zone}");
}

#[test]
fn a_time_in_the_gap_of_spring_runs_once_at_the_first_moment_after_it() {
    // Kyiv: on 2026-03-29 the clocks go from 03:00 to 04:00.
    check(
        "30 3 * * *",
        "Europe/Kyiv",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T04:00:00+03:00", "2026-03-30T03:30:00+03:00"],
    );
    check(
        "10,20,50 3 * * *",
        "Europe/Kyiv",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T04:00:00+03:00", "2026-03-30T03:10:00+03:00"],
    );
    // New York: on 2026-03-08 from 02:00 to 03:00.
    check(
        "30 2 * * *",
        "America/New_York",
        "2026-03-07T12:00:00Z",
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
    );
    check(
        "30 2,3 * * *",
        "America/New_York",
        "2026-03-07T12:00:00Z",
        &["2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00", "2026-03-09T02:30:00-04:00"],
    );
}

#[test]
fn a_time_that_comes_twice_in_autumn_runs_once_the_first_time() {
    // Kyiv: on 2026-10-25 the clocks go from 04:00 back to 03:00.
    check(
        "30 3 * * *",
        "Europe/Kyiv",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T03:30:00+03:00", "2026-10-26T03:30:00+02:00"],
    );
    // New York: on 2026-11-01 from 02:00 back to 01:00.
    check(
        "0,30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:30:00-04:00", "2026-11-02T01:00:00-05:00"],
    );
    check(
        "45 1,2 * * SUN",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        &["2026-11-01T01:45:00-04:00", "2026-11-01T02:45:00-05:00", "2026-11-08T01:45:00-05:00"],
    );
}

#[test]
fn a_pattern_that_means_an_interval_goes_on_through_both_changes() {
    check(
        "*/20 * * * *",
        "Europe/Kyiv",
        "2026-10-25T00:30:00Z",
        &[
            "2026-10-25T03:40:00+03:00",
            "2026-10-25T03:00:00+02:00",
            "2026-10-25T03:20:00+02:00",
            "2026-10-25T03:40:00+02:00",
            "2026-10-25T04:00:00+02:00",
        ],
    );
    check(
        "*/20 * * * *",
        "America/New_York",
        "2026-03-08T06:30:00Z",
        &["2026-03-08T01:40:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:20:00-04:00"],
    );
    check(
        "30 * * * *",
        "America/New_York",
        "2026-11-01T05:10:00Z",
        &["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-01T02:30:00-05:00"],
    );
}

#[test]
fn every_pattern_goes_forward_and_misses_no_day_over_a_year() {
    for zone in ["Europe/Kyiv", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu", "UTC"] {
        for hour in 0..24 {
            let pattern = format!("17 {hour} * * *");
            let found = runs(&pattern, zone, "2026-01-01T12:00:00Z", 365);
            let days: std::collections::BTreeSet<&str> = found.iter().map(|run| &run[..10]).collect();
            assert_eq!(days.len(), 365, "{pattern} in {zone}: one run on each day");
            assert!(found.is_sorted_by(|a, b| at(a) < at(b)), "{pattern} in {zone}");
        }
    }
}

#[test]
fn working_hours_of_a_bank_are_kept_in_its_own_zone() {
    check(
        "*/5 6-20 * * MON-FRI",
        "Europe/Kyiv",
        "2026-11-20T18:54:00Z",
        &["2026-11-20T20:55:00+02:00", "2026-11-23T06:00:00+02:00"],
    );
}

#[test]
fn seconds_may_be_written() {
    check("*/20 * * * * *", "UTC", "2026-11-20T18:54:05Z", &["2026-11-20T18:54:20Z", "2026-11-20T18:54:40Z"]);
}

#[test]
fn a_stream_that_was_never_polled_is_due_at_once() {
    let now = Timestamp(1_700_000_000_123);
    let cron = Schedule::Cron { text: "0 0 1 1 *".into(), zone: chrono_tz::UTC };
    assert_eq!(next(&Schedule::Every(Duration::from_secs(60)), "a/b", None, now), now);
    assert_eq!(next(&cron, "a/b", None, now), now);
}

#[test]
fn downtime_is_caught_up_by_one_run() {
    let every = Schedule::Every(Duration::from_secs(60));
    let now = at("2026-11-20T12:00:00Z");
    for schedule in [every, Schedule::Cron { text: "* * * * *".into(), zone: chrono_tz::UTC }] {
        assert_eq!(next(&schedule, "a/b", Some(now.minus(Duration::from_secs(86_400))), now), now);
        let after = next(&schedule, "a/b", Some(now), now);
        assert!(after >= now.plus(Duration::from_secs(30)) && after <= now.plus(Duration::from_secs(90)), "{after}");
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_a_stream() {
    let now = at("2026-11-20T12:00:00Z");
    let ahead = now.plus(Duration::from_secs(86_400));
    let found = next(&Schedule::Every(Duration::from_secs(60)), "a/b", Some(ahead), now);
    assert!(found <= now.plus(Duration::from_secs(90)), "{found}");
}

#[test]
fn intervals_stand_on_a_grid_of_their_own_and_stay_there() {
    let minute = Schedule::Every(Duration::from_secs(60));
    let now = at("2026-11-20T12:00:00Z");
    let phase = |name: &str, last: Timestamp| next(&minute, name, Some(last), last).0.rem_euclid(60_000);
    let mut phases: Vec<i64> = (0..100).map(|n| phase(&format!("s{n}/orders"), now)).collect();
    // The run is late by some milliseconds, and the daemon was restarted in between: the grid is the same.
    for (n, phase_before) in phases.iter().enumerate() {
        for late in [3, 700, 7_300, 1_000_000_007] {
            assert_eq!(phase(&format!("s{n}/orders"), Timestamp(now.0 + late)), *phase_before);
        }
    }
    let mut in_each_ten_seconds = [0; 6];
    for phase in phases.drain(..) {
        in_each_ten_seconds[usize::try_from(phase / 10_000).expect("small")] += 1;
    }
    assert!(in_each_ten_seconds.iter().all(|count| *count >= 5), "not spread out: {in_each_ten_seconds:?}");
}

#[test]
fn an_absurd_interval_does_not_overflow() {
    for interval in [Duration::ZERO, Duration::from_millis(1), Duration::MAX] {
        for last in [i64::MIN, -1, 0, i64::MAX] {
            let found = next(&Schedule::Every(interval), "a/b", Some(Timestamp(last)), Timestamp(last));
            assert!(found >= Timestamp(last));
        }
    }
    let cron = Schedule::Cron { text: "0 0 * * *".into(), zone: chrono_tz::UTC };
    for last in [i64::MIN, i64::MAX] {
        next(&cron, "a/b", Some(Timestamp(last)), Timestamp(last));
    }
}

#[test]
fn a_cron_that_is_wrong_or_never_comes_is_told() {
    for text in ["", "five past", "61 * * * *", "* * *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert!(check_cron(text).is_err(), "{text:?} was accepted");
    }
    for text in ["* * * * *", "*/5 6-20 * * MON-FRI", "0 0 29 2 *", "0 0 L * *", "@hourly", "0 9 * * MON#1"] {
        assert_eq!(check_cron(text), Ok(()), "{text:?}");
    }
}

#[test]
fn a_retry_waits_for_its_time_give_or_take_a_fifth() {
    let schedule = [5, 300, 1800, 86_400].map(Duration::from_secs);
    assert_eq!(retry_after(&schedule, 0, 7), Some(Duration::ZERO), "the first attempt is made at once");
    for (counted, seconds) in [(1, 5.0), (2, 300.0), (3, 1800.0), (4, 86_400.0)] {
        let mut waits: Vec<f64> = (0..1000)
            .map(|seed| retry_after(&schedule, counted, seed).expect("a wait").as_secs_f64() / seconds)
            .collect();
        waits.sort_by(f64::total_cmp);
        assert!(waits[0] >= 0.8 && waits[999] <= 1.2, "{} to {}", waits[0], waits[999]);
        assert!(waits[0] < 0.81 && waits[999] > 1.19 && (waits[500] - 1.0).abs() < 0.03, "not spread evenly");
    }
    assert_eq!(retry_after(&schedule, 5, 7), None, "then it gives up");
    assert_eq!(retry_after(&schedule, u32::MAX, 7), None);
    assert_eq!(retry_after(&schedule, 2, 7), retry_after(&schedule, 2, 7), "the same seed, the same wait");
    assert_eq!(retry_after(&[], 1, 7), None);
    assert!(retry_after(&[Duration::MAX], 1, 7).is_some());
}

#[test]
fn a_stream_rests_outside_its_window_and_keeps_its_place_inside() {
    let at = |text: &str| Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc());
    let active = Active {
        days: read_days("MON-FRI").expect("days"),
        hours: vec![read_hours("06:00-20:00").expect("hours")],
        zone: Tz::UTC,
        holidays: std::sync::Arc::new([]),
    };
    let friday_evening = at("2026-11-20T19:59:30Z");
    let within = |schedule: &Schedule, seed: &str| {
        next_within(schedule, Some(&active), seed, Some(friday_evening), friday_evening)
    };
    let (opens, minutes) = (at("2026-11-23T06:00:00Z"), Schedule::Every(Duration::from_secs(600)));
    let places: Vec<Duration> = (0..20).map(|n| within(&minutes, &format!("s{n}")).since(opens)).collect();
    assert!(places.iter().all(|place| *place < Duration::from_secs(600)), "{places:?}");
    assert!(places.iter().any(|place| *place > Duration::from_secs(60)), "all at the opening: {places:?}");
    let daily = Schedule::Every(Duration::from_secs(86_400 * 7));
    assert!(active.open(within(&daily, "weekly")), "an interval longer than the window is polled all the same");
    let cron = |text: &str| Schedule::Cron { text: text.into(), zone: Tz::UTC };
    assert_eq!(within(&cron("0 */5 * * *"), "x"), at("2026-11-23T10:00:00Z"));
    assert_eq!(within(&cron("0 3 * * *"), "x"), Timestamp(i64::MAX));
    assert_eq!(next_within(&minutes, Some(&active), "x", None, friday_evening), friday_evening);
}
