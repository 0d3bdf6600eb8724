//! When things happen next: polls (interval, cron with a time zone, phase) and retries. Pure: `now` is an argument.
//!
//! Wall times and clock changes: a cron time that falls into the gap of spring runs once, at the first moment after the gap.
//! A cron time that comes twice in autumn runs once, the first time; unless the pattern means an interval (`*` or `*/n` as its
//! hour or minute): then it goes on through both hours, so that `*/5 * * * *` never rests for an hour.

mod active;

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use sha2::{Digest, Sha256};

use crate::model::Timestamp;

pub use active::{Active, read_days, read_holidays, read_hours};

/// When a stream is polled.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    Every(Duration),
    Cron { text: String, zone: Tz },
}

/// What is said about what the first look finds.
#[derive(Clone, Debug, PartialEq)]
pub enum FirstRun {
    /// Remembered, nothing sent.
    Baseline,
    /// Everything is announced.
    SendAll,
    /// Only what the provider dates at or after this is announced.
    Since(Timestamp),
    /// Only the newest so many are announced.
    Last(usize),
}

/// What may be said of a stream in `[defaults.stream]`, in a provider file and in a source; the later wins where it speaks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSettings {
    pub enabled: Option<bool>,
    pub schedule: Option<Schedule>,
    pub first_run: Option<FirstRun>,
    /// Paths in addition to the provider's.
    pub ignore: Vec<crate::path::Path>,
    /// `confirm_after`, `max_percent`, `max_count` (RULES R6).
    pub confirm_after: Option<u32>,
    pub max_percent: Option<u32>,
    pub max_count: Option<u64>,
    pub mass_change: Option<MassChange>,
    /// How long the interval may grow while real webhooks prove healthy.
    pub every_healthy: Option<Duration>,
    pub active: Option<Active>,
    /// So many changes go out of one run; the rest waits for the next.
    pub max_per_run: Option<u64>,
    /// No change for so long is a problem.
    pub expect_every: Option<Duration>,
    /// No good poll for so long is a problem.
    pub late_after: Option<Duration>,
}

/// When updates and creations are too many at once (RULES R6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MassChange {
    pub max_percent: u32,
    /// Held for a person, not only told.
    pub hold: bool,
}

impl Default for MassChange {
    fn default() -> MassChange {
        MassChange { max_percent: 50, hold: false }
    }
}

/// When a stream is polled next; not after `now` means that it is due.
///
/// A stream that was never polled is due at once, and so is one whose time passed while nobody looked: one catch-up, however
/// many times were missed. Intervals stand on a grid whose phase comes from a hash of `seed` (the stream's name): streams
/// spread out, and stay where they are over restarts. `Timestamp(i64::MAX)`: never.
pub fn next(schedule: &Schedule, seed: &str, last: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let Some(last) = last else { return now };
    // A clock that was set back must not make a stream wait until it has caught up.
    let last = last.min(now);
    let next = match schedule {
        Schedule::Every(interval) => next_on_grid(*interval, seed, last),
        Schedule::Cron { text, zone } => next_by_cron(text, *zone, last),
    };
    next.max(now)
}

/// The same within the times at which the stream may be polled; `Timestamp(i64::MAX)`: never.
pub fn next_within(
    schedule: &Schedule,
    active: Option<&Active>,
    seed: &str,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    let planned = next(schedule, seed, last, now);
    let Some(active) = active.filter(|active| !active.open(planned)) else { return planned };
    let mut opens = active.opens(planned);
    match schedule {
        // All streams of a window would begin at its first second: each keeps its place on the grid where that is inside.
        Schedule::Every(interval) => {
            let placed = next_on_grid(*interval, seed, opens.minus(*interval / 2));
            if opens.0 < i64::MAX && active.open(placed) { placed } else { opens }
        }
        Schedule::Cron { text, zone } => {
            // A pattern that meets the window never, or only after many years, is not looked for for ever.
            for _ in 0..CRON_TRIES {
                let planned = next_by_cron(text, *zone, opens.minus(Duration::from_secs(1)));
                if opens.0 == i64::MAX || active.open(planned) {
                    return planned;
                }
                opens = active.opens(planned);
            }
            Timestamp(i64::MAX)
        }
    }
}

/// How many openings are tried for a cron pattern that does not fall into them.
const CRON_TRIES: usize = 400;

/// The first time of the grid that lies at least half an interval after `last`: a catch-up just before its turn counts for it.
fn next_on_grid(interval: Duration, seed: &str, last: Timestamp) -> Timestamp {
    let step = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let phase = (hash(seed) % step.unsigned_abs()).cast_signed();
    let from = last.0.saturating_add(step / 2).saturating_sub(phase);
    let slot = from.div_euclid(step).saturating_add(1);
    Timestamp(slot.saturating_mul(step).saturating_add(phase))
}

/// The first eight bytes of a SHA-256: the same in every build and on every machine.
fn hash(seed: &str) -> u64 {
    let digest = Sha256::digest(seed.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a cron pattern is well formed and ever comes; the error says what is wrong.
pub fn check_cron(text: &str) -> Result<(), String> {
    let cron = parse_cron(text)?;
    let start = DateTime::<Utc>::from_timestamp_millis(0).map(|t| t.naive_utc()).unwrap_or_default();
    match next_wall(&cron, start) {
        Some(_) => Ok(()),
        None => Err("it never comes".into()),
    }
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    text.parse::<Cron>().map_err(|error| error.to_string())
}

const YEAR_9000: i64 = 221_845_392_000_000;

/// Matches wall times of the zone as if it had no clock changes, and then asks when those wall times are.
fn next_by_cron(text: &str, zone: Tz, last: Timestamp) -> Timestamp {
    let never = Timestamp(i64::MAX);
    let Ok(cron) = parse_cron(text) else { return never };
    // Within the calendar's range with room to spare, whatever the clock says.
    let last = Timestamp(last.0.clamp(0, YEAR_9000));
    let interval = cron.pattern.minutes.from_wildcard || cron.pattern.hours.from_wildcard;
    // Begins before `last` on the wall: when the clock was just put back, the same wall times come again.
    let mut wall = last.to_utc().with_timezone(&zone).naive_local() - TimeDelta::hours(3);
    let mut best = never;
    while let Some(next) = next_wall(&cron, wall) {
        wall = next;
        let moments = moments_of(next, zone, interval);
        if let Some(found) = moments.iter().copied().find(|moment| *moment > last) {
            best = best.min(found);
        }
        // Three hours on, no earlier moment can follow: no zone puts its clock back by more.
        if best != never && moments.first().is_some_and(|first| first.minus(Duration::from_secs(3 * 3600)) > best) {
            break;
        }
        if best != never && !near_change(best, zone) {
            break;
        }
    }
    best
}

/// Whether the offset of the zone changes within three hours of this moment: only there is the order of wall times not that of moments.
fn near_change(moment: Timestamp, zone: Tz) -> bool {
    let offset = |t: Timestamp| t.to_utc().with_timezone(&zone).naive_local() - t.to_utc().naive_utc();
    let around = Duration::from_secs(3 * 3600);
    offset(moment.minus(around)) != offset(moment.plus(around))
}

fn next_wall(cron: &Cron, after: NaiveDateTime) -> Option<NaiveDateTime> {
    cron.find_next_occurrence(&after.and_utc(), false).ok().map(|time| time.naive_utc())
}

/// When the clocks of the zone show this wall time, in order; the end of the gap when they never do.
fn moments_of(wall: NaiveDateTime, zone: Tz, interval: bool) -> Vec<Timestamp> {
    use chrono::LocalResult::{Ambiguous, None, Single};
    let moments = match zone.from_local_datetime(&wall) {
        Single(time) => vec![time],
        Ambiguous(first, second) if interval => vec![first.min(second), first.max(second)],
        Ambiguous(first, second) => vec![first.min(second)],
        None => end_of_gap(wall, zone).into_iter().collect(),
    };
    moments.into_iter().map(|time| Timestamp(time.timestamp_millis())).collect()
}

/// The first moment after the gap that this wall time falls into.
fn end_of_gap(wall: NaiveDateTime, zone: Tz) -> Option<DateTime<Tz>> {
    // Gaps begin and end on whole minutes and are a day long at most (a zone that crossed the date line).
    let whole = wall - TimeDelta::seconds(i64::from(chrono::Timelike::second(&wall)));
    (1..=24 * 60 + 1).find_map(|minutes| zone.from_local_datetime(&(whole + TimeDelta::minutes(minutes))).earliest())
}

/// How long to wait after so many counted attempts, give or take a fifth; None when there are no more.
///
/// The fifth is drawn from `jitter_seed`: the same seed gives the same wait, so that a restart changes nothing.
pub fn retry_after(schedule: &[Duration], counted: u32, jitter_seed: u64) -> Option<Duration> {
    let Some(done) = counted.checked_sub(1) else { return Some(Duration::ZERO) };
    let wait = schedule.get(usize::try_from(done).ok()?)?;
    let drawn = hash(&format!("{jitter_seed} {counted}")) % 4001;
    // 0.8000 to 1.2000 in steps of a ten-thousandth.
    let factor = 8000 + u32::try_from(drawn).unwrap_or(0);
    Some(wait.checked_mul(factor).map_or(*wait, |product| product / 10_000))
}

#[cfg(test)]
mod tests;
