//! When a stream may be polled at all: weekdays, hours, a calendar of holidays and change freezes. Pure: `at` is an argument.

use std::sync::Arc;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Weekday};
use chrono_tz::Tz;

use super::moments_of;
use crate::model::Timestamp;

/// A window further off than this never comes.
const AHEAD_DAYS: u64 = 800;
const DAY: u32 = 24 * 60;

/// The times at which a stream is polled. Outside of them it rests, and is not late.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    pub days: Vec<Weekday>,
    /// Minutes of the day, from and to; one that ends before it begins goes over midnight. Empty: all day.
    pub hours: Vec<(u32, u32)>,
    pub zone: Tz,
    /// Days on which nothing is polled, from and to, both included.
    pub holidays: Arc<[(NaiveDate, NaiveDate)]>,
}

impl Active {
    /// Whether a stream may be polled at this moment.
    pub fn open(&self, at: Timestamp) -> bool {
        let wall = at.to_utc().with_timezone(&self.zone).naive_local();
        let (today, minute) = (wall.date(), wall.hour() * 60 + wall.minute());
        let works = |date: Option<NaiveDate>| date.is_some_and(|date| self.works(date));
        let within = |(from, to): &(u32, u32)| match from < to {
            true => (*from..*to).contains(&minute) && works(Some(today)),
            // The hours after midnight belong to the day on which they began.
            false => (minute >= *from && works(Some(today))) || (minute < *to && works(today.pred_opt())),
        };
        if self.hours.is_empty() { self.works(today) } else { self.hours.iter().any(within) }
    }

    /// The first moment from `at` on at which it is open; `Timestamp(i64::MAX)`: never.
    pub fn opens(&self, at: Timestamp) -> Timestamp {
        if self.open(at) {
            return at;
        }
        let today = at.to_utc().with_timezone(&self.zone).date_naive();
        let days = (0..AHEAD_DAYS).filter_map(|ahead| today.checked_add_days(Days::new(ahead)));
        for day in days {
            let moments = self.starts().into_iter().filter_map(|minute| self.moment(day, minute));
            if let Some(found) = moments.filter(|moment| *moment > at && self.open(*moment)).min() {
                return found;
            }
        }
        Timestamp(i64::MAX)
    }

    fn works(&self, date: NaiveDate) -> bool {
        let off = self.holidays.iter().any(|(from, to)| (*from..=*to).contains(&date));
        !off && self.days.contains(&date.weekday())
    }

    /// Minutes of a day at which a window may begin; midnight, because a holiday may end there.
    fn starts(&self) -> Vec<u32> {
        self.hours.iter().map(|(from, _)| *from).chain([0]).collect()
    }

    /// A wall time that the clocks of the zone skip is the end of their gap.
    fn moment(&self, day: NaiveDate, minute: u32) -> Option<Timestamp> {
        let time = NaiveTime::from_num_seconds_from_midnight_opt(minute % DAY * 60, 0)?;
        moments_of(NaiveDateTime::new(day, time), self.zone, false).into_iter().next()
    }
}

/// Reads a calendar: one date or `FROM..TO` a line, `#` begins a comment. The error names its line.
pub fn read_holidays(text: &str) -> Result<Arc<[(NaiveDate, NaiveDate)]>, String> {
    let mut days = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (from, to) = line.split_once("..").unwrap_or((line, line));
        let date = |text: &str| text.trim().parse::<NaiveDate>().ok();
        match (date(from), date(to)) {
            (Some(from), Some(to)) if from <= to => days.push((from, to)),
            _ => {
                return Err(format!(
                    "line {}: `{line}` is neither a date such as 2026-12-25 nor a range such as 2026-12-24..2027-01-02",
                    number + 1
                ));
            }
        }
    }
    Ok(days.into())
}

/// `MON-FRI`, `SAT`: the days of one word.
pub fn read_days(word: &str) -> Option<Vec<Weekday>> {
    let day = |text: &str| text.trim().parse::<Weekday>().ok();
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    let (from, to) = (day(from)?, day(to)?);
    let mut days = vec![from];
    while days.last() != Some(&to) {
        days.push(days.last()?.succ());
    }
    Some(days)
}

/// `06:00-20:00` as minutes of the day.
pub fn read_hours(text: &str) -> Option<(u32, u32)> {
    let minute = |text: &str| {
        let (hours, minutes) = text.trim().split_once(':')?;
        let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
    };
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    (from < DAY && from != to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into()
    }

    fn bank() -> Active {
        Active {
            days: read_days("MON-FRI").expect("days"),
            hours: vec![read_hours("06:00-20:00").expect("hours")],
            zone: chrono_tz::Europe::Kyiv,
            holidays: read_holidays("2026-12-24..2027-01-02 # change freeze\n\n2026-08-24\n").expect("dates"),
        }
    }

    #[test]
    fn a_bank_is_looked_at_on_its_days_and_hours_and_not_in_its_change_freeze() {
        let bank = bank();
        // Kyiv is two hours ahead in winter, three in summer.
        for (moment, opens) in [
            ("2026-11-20T04:00:00Z", "2026-11-20T04:00:00Z"),
            ("2026-11-20T03:59:59Z", "2026-11-20T04:00:00Z"),
            ("2026-11-20T18:00:00Z", "2026-11-23T04:00:00Z"),
            ("2026-11-22T10:00:00Z", "2026-11-23T04:00:00Z"),
            ("2026-12-23T17:59:00Z", "2026-12-23T17:59:00Z"),
            ("2026-12-24T10:00:00Z", "2027-01-04T04:00:00Z"),
            ("2026-08-24T10:00:00Z", "2026-08-25T03:00:00Z"),
        ] {
            assert_eq!(bank.opens(at(moment)), at(opens), "{moment}");
            assert_eq!(bank.open(at(moment)), moment == opens, "{moment}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_began() {
        let night = Active { hours: vec![(22 * 60, 4 * 60)], zone: Tz::UTC, holidays: Arc::new([]), ..bank() };
        assert!(night.open(at("2026-11-20T23:00:00Z")), "Friday night");
        assert!(night.open(at("2026-11-21T03:59:00Z")), "still Friday's");
        assert_eq!(night.opens(at("2026-11-21T04:00:00Z")), at("2026-11-23T22:00:00Z"));
    }

    #[test]
    fn an_hour_that_the_clocks_skip_opens_at_the_end_of_the_gap() {
        let early = Active { days: read_days("MON-SUN").expect("days"), hours: vec![(3 * 60 + 30, 5 * 60)], ..bank() };
        // On 29 March 2026 Kyiv's clocks go from 03:00 to 04:00.
        assert_eq!(early.opens(at("2026-03-28T23:00:00Z")), at("2026-03-29T01:00:00Z"));
    }

    #[test]
    fn what_never_opens_is_said_so() {
        let never = Active { holidays: read_holidays("2020-01-01..2100-01-01").expect("dates"), ..bank() };
        assert_eq!(never.opens(at("2026-01-01T00:00:00Z")), Timestamp(i64::MAX));
    }

    #[test]
    fn words_that_are_no_days_hours_or_dates_are_refused() {
        assert_eq!(read_days("SAT-MON").map(|days| days.len()), Some(3));
        for wrong in ["", "MOO", "MON-"] {
            assert_eq!(read_days(wrong), None, "{wrong}");
        }
        for wrong in ["", "6-20", "06:00", "06:60-07:00", "25:00-26:00", "06:00-06:00", "24:00-03:00"] {
            assert_eq!(read_hours(wrong), None, "{wrong}");
        }
        assert_eq!(read_hours("20:00-24:00"), Some((1200, 1440)));
        for wrong in ["24.12.2026", "2026-12-25..2026-12-24", "2026-12-25.."] {
            assert!(read_holidays(wrong).is_err_and(|error| error.starts_with("line 1:")), "{wrong}");
        }
    }
}
