//! Times as providers write them: reading and writing, with the zone of a time that names none.

use std::fmt::Write as _;

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::model::Timestamp;

/// How times are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    Rfc3339,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMillis,
    /// strftime.
    Pattern(String),
}

impl TimeFormat {
    /// `rfc3339`, `unix`, `unix_ms` or a strftime pattern; the error is a sentence.
    pub fn parse(name: &str) -> Result<TimeFormat, String> {
        match name {
            "rfc3339" => Ok(TimeFormat::Rfc3339),
            "unix" => Ok(TimeFormat::Unix),
            "unix_ms" => Ok(TimeFormat::UnixMillis),
            pattern if !pattern.contains('%') => {
                Err(format!("`{pattern}` is no time format: use rfc3339, unix, unix_ms or a pattern such as %Y-%m-%d"))
            }
            pattern if StrftimeItems::new(pattern).any(|item| item == Item::Error) => {
                Err(format!("`{pattern}` holds a % that strftime does not know"))
            }
            pattern => Ok(TimeFormat::Pattern(pattern.to_owned())),
        }
    }

    /// Reads a time; the error is a sentence. A time that names no zone is read in `zone` and is an error without one.
    ///
    /// Where clocks are put back a local time happens twice: the earlier is meant, so that a cursor never starts too late.
    /// Where they are put forward a local time never happens: it is counted on from before the change (02:30 becomes 03:30).
    pub fn read(&self, text: &str, zone: Option<Tz>) -> Result<Timestamp, String> {
        let text = text.trim();
        match self {
            TimeFormat::Rfc3339 => read_rfc3339(text, zone),
            TimeFormat::Unix => read_unix(text, 3),
            TimeFormat::UnixMillis => read_unix(text, 0),
            TimeFormat::Pattern(pattern) => read_pattern(pattern, text, zone),
        }
    }

    /// Writes a time, in UTC when there is no zone. `unix` writes whole seconds, rounded down.
    pub fn write(&self, time: Timestamp, zone: Option<Tz>) -> String {
        match (self, zone) {
            (TimeFormat::Unix, _) => time.unix_seconds().to_string(),
            (TimeFormat::UnixMillis, _) => time.0.to_string(),
            (TimeFormat::Rfc3339, None | Some(Tz::UTC)) => time.to_string(),
            (TimeFormat::Rfc3339, Some(zone)) => {
                let form = if time.0.rem_euclid(1000) == 0 {
                    chrono::SecondsFormat::Secs
                } else {
                    chrono::SecondsFormat::Millis
                };
                time.to_utc().with_timezone(&zone).to_rfc3339_opts(form, false)
            }
            (TimeFormat::Pattern(pattern), zone) => {
                let mut text = String::new();
                let local = time.to_utc().with_timezone(&zone.unwrap_or(Tz::UTC));
                // The pattern was checked when it was read; what fails nevertheless writes nothing.
                let _ = write!(text, "{}", local.format(pattern));
                text
            }
        }
    }
}

fn not(text: &str, what: &str) -> String {
    format!("`{}` is not {what}", outline(text))
}

/// How a text is written, without what it says: `9999-99-99` for a date. For messages, where a record's content has no place.
pub fn outline(text: &str) -> String {
    const LONGEST: usize = 30;
    let drawn = |c: char| match c {
        c if c.is_numeric() => '9',
        c if c.is_alphabetic() => 'x',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut outline: String = text.chars().take(LONGEST).map(drawn).collect();
    if text.chars().nth(LONGEST).is_some() {
        outline.push('…');
    }
    outline
}

/// RFC 3339 as it is met: also a space for the T, `+0000` for the offset, and no offset at all.
fn read_rfc3339(text: &str, zone: Option<Tz>) -> Result<Timestamp, String> {
    const WHAT: &str = "a time such as 2026-01-31T12:00:00Z";
    if let Ok(time) = DateTime::parse_from_rfc3339(&with_colon(text)) {
        return Ok(time.with_timezone(&Utc).into());
    }
    let normal = text.replacen([' ', 't'], "T", 1);
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(&normal, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN)));
    local.ok_or_else(|| not(text, WHAT)).and_then(|local| in_zone(local, zone, text))
}

/// `+0000` → `+00:00`, `+00` → `+00:00`.
fn with_colon(text: &str) -> String {
    let Some(sign) = text.get(10..).and_then(|rest| rest.rfind(['+', '-'])).map(|at| at + 10) else {
        return text.to_owned();
    };
    let (time, offset) = text.split_at(sign);
    let digits = &offset[1..];
    match (digits.len(), digits.bytes().all(|b| b.is_ascii_digit())) {
        (4, true) => format!("{time}{}:{}", &offset[..3], &offset[3..]),
        (2, true) => format!("{offset_time}{offset}:00", offset_time = time),
        _ => text.to_owned(),
    }
}

/// A number of seconds (three digits of which are kept after the point) or of milliseconds (none), rounded down.
fn read_unix(text: &str, kept: usize) -> Result<Timestamp, String> {
    let what = if kept == 0 { "a number of milliseconds since 1970" } else { "a number of seconds since 1970" };
    let wrong = || not(text, what);
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        // A float as some languages write it, such as 1.7e9.
        let float: f64 = text.parse().map_err(|_| wrong())?;
        let millis = (if kept == 0 { float } else { float * 1000.0 }).floor();
        // Floats of this size are exact; beyond it they are no times.
        return if millis.abs() < 9e15 { Ok(Timestamp(millis as i64)) } else { Err(wrong()) };
    }
    let scaled: String = whole.chars().chain(fraction.chars().chain(std::iter::repeat('0')).take(kept)).collect();
    let millis: i64 = scaled.parse().map_err(|_| wrong())?;
    let rest = fraction.get(kept..).unwrap_or("").bytes().any(|b| b != b'0');
    Ok(Timestamp(if negative { -millis - i64::from(rest) } else { millis }))
}

fn read_pattern(pattern: &str, text: &str, zone: Option<Tz>) -> Result<Timestamp, String> {
    let what = format!("a time written as {pattern}");
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, StrftimeItems::new(pattern)).map_err(|_| not(text, &what))?;
    if parsed.offset().is_some() {
        return parsed.to_datetime().map(|time| time.with_timezone(&Utc).into()).map_err(|_| not(text, &what));
    }
    let moment = parsed.to_naive_datetime_with_offset(0);
    if parsed.timestamp().is_some() {
        return moment.map(|time| time.and_utc().into()).map_err(|_| not(text, &what));
    }
    let local = moment.or_else(|_| parsed.to_naive_date().map(|day| day.and_time(clock_of(&parsed))));
    local.map_err(|_| not(text, &what)).and_then(|local| in_zone(local, zone, text))
}

/// The time of day as far as a pattern names it: `%Y-%m-%d %H` is on the hour, `%Y-%m-%d` at midnight.
fn clock_of(parsed: &Parsed) -> NaiveTime {
    let hour = match (parsed.hour_div_12(), parsed.hour_mod_12()) {
        (Some(half), Some(hour)) => half * 12 + hour,
        _ => 0,
    };
    NaiveTime::from_hms_opt(hour, parsed.minute().unwrap_or(0), 0).unwrap_or(NaiveTime::MIN)
}

/// A local time of this zone.
fn in_zone(local: NaiveDateTime, zone: Option<Tz>, text: &str) -> Result<Timestamp, String> {
    let Some(zone) = zone else {
        return Err(format!("`{}` names no time zone; say which with `timezone`", outline(text)));
    };
    if let Some(time) = zone.from_local_datetime(&local).earliest() {
        return Ok(time.with_timezone(&Utc).into());
    }
    // The clocks were put forward over this time: three hours for summer time, a day where a country crossed the date line.
    [3, 25]
        .iter()
        .filter_map(|hours| {
            let step = Duration::hours(*hours);
            let before = zone.from_local_datetime(&local.checked_sub_signed(step)?).earliest()?;
            Some(before.with_timezone(&Utc).checked_add_signed(step)?.into())
        })
        .next()
        .ok_or_else(|| format!("`{}` is no time in {zone}", outline(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Option<Tz> {
        if name.is_empty() { None } else { Some(name.parse().expect("a zone")) }
    }

    #[test]
    fn times_are_read_as_providers_write_them() {
        let cases = [
            ("rfc3339", "2026-01-31T12:00:00Z", "", "2026-01-31T12:00:00Z"),
            ("rfc3339", "2026-01-31T12:00:00.123456+02:00", "", "2026-01-31T10:00:00.123Z"),
            ("rfc3339", "2026-01-31 12:00:00+0200", "", "2026-01-31T10:00:00Z"),
            ("rfc3339", "2026-01-31T12:00:00-0530", "Europe/Kyiv", "2026-01-31T17:30:00Z"),
            ("rfc3339", "2026-01-31T12:00:00+00", "", "2026-01-31T12:00:00Z"),
            ("rfc3339", "2026-01-31t12:00:00z", "", "2026-01-31T12:00:00Z"),
            ("rfc3339", "2026-01-31T12:00:00", "Europe/Kyiv", "2026-01-31T10:00:00Z"),
            ("rfc3339", "2026-01-31 12:00", "UTC", "2026-01-31T12:00:00Z"),
            ("rfc3339", "2026-07-01", "Europe/Berlin", "2026-06-30T22:00:00Z"),
            ("unix", "1700000000", "", "2023-11-14T22:13:20Z"),
            ("unix", "1700000000.5", "", "2023-11-14T22:13:20.500Z"),
            ("unix", "1700000000.123999", "", "2023-11-14T22:13:20.123Z"),
            ("unix", "1.7e9", "", "2023-11-14T22:13:20Z"),
            ("unix", "-1", "", "1969-12-31T23:59:59Z"),
            ("unix", "-0.0001", "", "1969-12-31T23:59:59.999Z"),
            ("unix_ms", "1700000000123", "", "2023-11-14T22:13:20.123Z"),
            ("unix_ms", "1700000000123.9", "", "2023-11-14T22:13:20.123Z"),
            ("%d.%m.%Y %H:%M:%S", "31.01.2026 12:00:00", "Europe/Kyiv", "2026-01-31T10:00:00Z"),
            ("%Y-%m-%d", "2026-01-31", "Europe/Berlin", "2026-01-30T23:00:00Z"),
            ("%Y-%m-%d %H:%M", "2026-01-31 12:05", "UTC", "2026-01-31T12:05:00Z"),
            ("%Y-%m-%d %H", "2026-01-31 12", "UTC", "2026-01-31T12:00:00Z"),
            ("%Y-%m-%dT%H:%M:%S%z", "2026-01-31T12:00:00+0200", "", "2026-01-31T10:00:00Z"),
            ("%a, %d %b %Y %H:%M:%S %z", "Sat, 31 Jan 2026 12:00:00 +0000", "", "2026-01-31T12:00:00Z"),
            ("%s", "1700000000", "Europe/Kyiv", "2023-11-14T22:13:20Z"),
        ];
        for (format, text, name, want) in cases {
            let read = TimeFormat::parse(format).and_then(|format| format.read(text, zone(name)));
            assert_eq!(read.map(|time| time.to_string()), Ok(want.into()), "{format} {text}");
        }
    }

    #[test]
    fn both_clock_changes_are_decided() {
        let cases = [
            // Put forward at 03:00 in Kyiv: 03:30 never was and is counted on from before.
            ("2026-03-29T03:30:00", "Europe/Kyiv", "2026-03-29T01:30:00Z"),
            ("2026-03-29T02:59:59", "Europe/Kyiv", "2026-03-29T00:59:59Z"),
            ("2026-03-29T04:00:00", "Europe/Kyiv", "2026-03-29T01:00:00Z"),
            // Put back at 04:00: 03:30 was twice, the earlier counts.
            ("2026-10-25T03:30:00", "Europe/Kyiv", "2026-10-25T00:30:00Z"),
            ("2026-10-25T04:00:00", "Europe/Kyiv", "2026-10-25T02:00:00Z"),
            // Samoa left out a whole day.
            ("2011-12-30T12:00:00", "Pacific/Apia", "2011-12-30T22:00:00Z"),
        ];
        for (text, name, want) in cases {
            let read = TimeFormat::Rfc3339.read(text, zone(name));
            assert_eq!(read.map(|time| time.to_string()), Ok(want.into()), "{text} {name}");
        }
    }

    #[test]
    fn what_is_no_time_or_has_no_zone_is_an_error() {
        let cases = [
            ("rfc3339", "2026-01-31T12:00:00", "names no time zone"),
            ("%Y-%m-%d", "2026-01-31", "names no time zone"),
            ("rfc3339", "yesterday", "is not a time such as"),
            ("rfc3339", "", "is not a time such as"),
            ("rfc3339", "2026-02-30T00:00:00Z", "is not a time such as"),
            ("rfc3339", "é-2026", "is not a time such as"),
            ("unix", "1e300", "is not a number of seconds"),
            ("unix", "99999999999999999999", "is not a number of seconds"),
            ("unix", "NaN", "is not a number of seconds"),
            ("unix", "1,5", "is not a number of seconds"),
            ("unix", "", "is not a number of seconds"),
            ("%d.%m.%Y", "2026-01-31", "is not a time written as"),
        ];
        for (format, text, want) in cases {
            let error = TimeFormat::parse(format).and_then(|format| format.read(text, None)).expect_err(text);
            assert!(error.contains(want), "{format} {text}: {error}");
        }
        for name in ["iso", "", "%Q"] {
            assert!(TimeFormat::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn times_are_written_in_their_format_and_zone() {
        let time = Timestamp(1_700_000_000_123);
        let cases = [
            ("rfc3339", "", "2023-11-14T22:13:20.123Z"),
            ("rfc3339", "Europe/Kyiv", "2023-11-15T00:13:20.123+02:00"),
            ("unix", "Europe/Kyiv", "1700000000"),
            ("unix_ms", "", "1700000000123"),
            ("%Y-%m-%d", "", "2023-11-14"),
            ("%Y-%m-%d", "Europe/Kyiv", "2023-11-15"),
            ("%d.%m.%Y %H:%M", "America/New_York", "14.11.2023 17:13"),
        ];
        for (format, name, want) in cases {
            assert_eq!(
                TimeFormat::parse(format).map(|f| f.write(time, zone(name))),
                Ok(want.into()),
                "{format} {name}"
            );
        }
    }
}
