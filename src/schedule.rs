//! When things happen next: polls (interval, cron with a time zone, phase) and retries. Pure: `now` is an argument.

use std::time::Duration;

use chrono_tz::Tz;

use crate::model::Timestamp;

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
}
