//! `--source`, `--type`, `--since` and their like: which events a command means.

use std::time::Duration;

use chrono::{Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use clap::Args;

use super::exit::Failure;
use super::output::Out;
use crate::admin::shape::{EventQuery, Time};
use crate::model::Timestamp;

/// Every part that is given must match.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of this source, or of this stream when written SOURCE/STREAM
    #[arg(long, value_name = "SOURCE[/STREAM]")]
    pub source: Option<String>,
    /// Of this stream (of any source)
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,
    /// Of this type; `payment.*` matches all below `payment.`
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Of the record with this key
    #[arg(long)]
    pub key: Option<String>,
    /// With a delivery to this handler
    #[arg(long)]
    pub handler: Option<String>,
    /// With a delivery in this state (to the handler, when one is given)
    #[arg(long, value_name = "STATE", visible_alias = "state", value_parser = ["pending", "claimed", "delivered", "failed", "held"])]
    pub status: Option<String>,
    /// Seen at or after: a time, or so long ago (`2h`)
    #[arg(long, value_name = "TIME|AGO")]
    pub since: Option<String>,
    /// Seen before: a time, or so long ago
    #[arg(long, value_name = "TIME|AGO")]
    pub until: Option<String>,
}

impl Filter {
    /// As the API takes it.
    pub fn query(&self, out: &Out) -> Result<EventQuery, Failure> {
        let (source, within) = match self.source.as_deref().map(|text| text.split_once('/').unwrap_or((text, ""))) {
            Some((source, stream)) => (Some(source.to_owned()), Some(stream.to_owned()).filter(|s| !s.is_empty())),
            None => (None, None),
        };
        if within.is_some() && self.stream.is_some() && within != self.stream {
            return Err(Failure::usage("`--source` and `--stream` name different streams"));
        }
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, out.now, out.utc)).transpose();
        Ok(EventQuery {
            source,
            stream: within.or_else(|| self.stream.clone()),
            event_type: self.event_type.clone(),
            key: self.key.clone(),
            handler: self.handler.clone(),
            state: self.status.clone(),
            since: time(&self.since)?.map(Time),
            until: time(&self.until)?.map(Time),
            limit: None,
            after: None,
        })
    }
}

/// A moment as a person writes it: `2026-11-20T02:00:00Z`, `2026-11-20T02:00`, `2026-11-20`, `02:30` (today), or `90m` (ago).
/// Times without a zone are local, or UTC with `--utc`.
fn moment(text: &str, now: Timestamp, utc: bool) -> Result<Timestamp, Failure> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.minus(ago));
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc().into());
    }
    let today = if utc { now.to_utc().date_naive() } else { now.to_utc().with_timezone(&Local).date_naive() };
    let bare = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN)))
        .or_else(|| NaiveTime::parse_from_str(text, "%H:%M").ok().map(|time| today.and_time(time)))
        .ok_or_else(|| {
            Failure::usage(format!("`{text}` is no time"))
                .help("write 2026-11-20T02:00, 2026-11-20, 02:00 (today), or 90m (ago)")
        })?;
    if utc {
        return Ok(Utc.from_utc_datetime(&bare).into());
    }
    // In the hour that a clock change repeats the earlier is meant; one that it skips does not exist.
    Local.from_local_datetime(&bare).earliest().map(|time| time.to_utc().into()).ok_or_else(|| {
        Failure::usage(format!("`{text}` did not happen here: the clock was put forward over it"))
            .help("add a zone, or use --utc")
    })
}

/// A rate such as `20/s` as the time between two.
pub fn spacing(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no rate such as 20/s, 100/m or 5/10s");
    let (count, per) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    let per = per.trim();
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
    let spacing = humantime::parse_duration(&per).map_err(|_| wrong())? / count;
    // The store keeps times in milliseconds; less would silently mean all at once.
    if spacing < Duration::from_millis(1) { Err(format!("`{text}`: at most 1000/s")) } else { Ok(spacing) }
}

#[cfg(test)]
mod tests {
    use super::super::output::{Format, capture};
    use super::*;

    #[test]
    fn moments_are_written_as_people_write_them() {
        let now = Timestamp(1_763_630_647_000);
        for (text, want) in [
            ("2h", "2025-11-20T07:24:07Z"),
            ("1d", "2025-11-19T09:24:07Z"),
            ("2025-11-20T02:00:00+02:00", "2025-11-20T00:00:00Z"),
            ("2025-11-20T02:00", "2025-11-20T02:00:00Z"),
            ("2025-11-20 02:00:05", "2025-11-20T02:00:05Z"),
            ("2025-11-20", "2025-11-20T00:00:00Z"),
            ("02:30", "2025-11-20T02:30:00Z"),
        ] {
            assert_eq!(moment(text, now, true).expect(text).to_string(), want, "{text}");
        }
        assert!(moment("yesterday", now, true).is_err());
    }

    #[test]
    fn a_rate_is_the_time_between_two() {
        for (text, millis) in [("20/s", 50), ("60/m", 1_000), ("5/10s", 2_000)] {
            assert_eq!(spacing(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["20", "0/s", "x/s", "5/parsec", "5000/s"] {
            assert!(spacing(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_source_may_name_its_stream() {
        let (out, _) = capture::out(Format::Table);
        let filter = Filter { source: Some("core/payments".into()), ..Filter::default() };
        let query = filter.query(&out).expect("a query");
        assert_eq!((query.source.as_deref(), query.stream.as_deref()), (Some("core"), Some("payments")));
        let both = Filter { stream: Some("customers".into()), ..filter };
        assert!(both.query(&out).is_err());
    }
}
