//! A run over a stream: its journal, its verdict, and how the poll ended.

use std::time::Duration;

use bytes::Bytes;

use super::Phase;
use crate::model::{Key, Timestamp};

/// A change found by a run that commits only at its end (RULES R1.3).
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// Given by the store; 0 when appended.
    pub id: u64,
    pub key: Key,
    /// None: the key is gone.
    pub record: Option<Bytes>,
    /// Released in order of (time, place); a newest-first listing gives falling places.
    pub time: Option<Timestamp>,
    pub place: i64,
    /// The stream's change number before the request that brought it (RULES R5.3).
    pub asked_at: u64,
    /// What its parent handed down, as JSON; None: the stream has no parents.
    pub parent: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Verdict {
    /// The run is complete and under the guards: its journal will be released.
    Accepted {
        mark: Option<String>,
        validators: Option<String>,
        phase: Phase,
        listed_once: bool,
        started_at: Option<Timestamp>,
    },
    /// The run failed or is held: its journal is dropped, everything else stays.
    Dropped,
}

/// How a poll went, and when to look next.
#[derive(Clone, Debug)]
pub struct PollEnd {
    pub next_in: Duration,
    pub result: PollResult,
    /// Records seen, changes found, pages fetched.
    pub records: u64,
    pub changes: u64,
    pub pages: u64,
    pub duration: Duration,
    /// The error for a person when it failed.
    pub error: Option<String>,
    /// Some: replaces what polling remembers of the stream.
    pub memory: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollResult {
    Ok,
    /// 304: nothing new.
    NotModified,
    Failed,
    /// Ran into a cap or its deadline and goes on next time.
    Deferred,
}

impl PollResult {
    pub fn as_str(self) -> &'static str {
        match self {
            PollResult::Ok => "ok",
            PollResult::NotModified => "not_modified",
            PollResult::Failed => "failed",
            PollResult::Deferred => "deferred",
        }
    }
}
