//! Our types as SQLite stores them, and back. Closed sets are small numbers; a number nobody wrote is a damaged file.

use bytes::Bytes;
use rusqlite::Row as SqlRow;
use rusqlite::types::ValueRef;

use super::detail;
use crate::model::{
    Attempt, AttemptResult, ChangeKind, DeliveryState, Fingerprint, HoldReason, SeenBy, SourceName, StreamName,
    Timestamp,
};
use crate::store::{Decided, Detection, Paused, Phase, PollResult, Row, StreamState};

/// Waits for its time; the head of its order, if it has one.
pub(super) const PENDING: i64 = 0;
/// Waits behind an earlier delivery of its order; not in the index of due ones.
pub(super) const QUEUED: i64 = 1;
pub(super) const HELD: i64 = 2;
pub(super) const DELIVERED: i64 = 3;
pub(super) const FAILED: i64 = 4;

/// A closed set as the numbers it is stored under. Numbers are never re-used.
pub(super) trait Code: Sized {
    fn code(self) -> i64;
    fn from_code(code: i64) -> Option<Self>;
}

macro_rules! coded {
    ($($type:ident { $($variant:ident = $code:literal),* $(,)? })*) => {$(
        impl Code for $type {
            fn code(self) -> i64 {
                match self { $($type::$variant => $code),* }
            }

            fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some($type::$variant),)* _ => None }
            }
        }
    )*};
}

coded! {
    Phase { Baseline = 0, Live = 1 }
    SeenBy { Poll = 0, Webhook = 1 }
    ChangeKind { Created = 0, Updated = 1, Deleted = 2 }
    HoldReason { Paused = 0, NoHandler = 1, KeyHeld = 2, WhenFailed = 3 }
    Decided {
        Older = 0, Overtaken = 1, Notice = 2, Twin = 3, Contradicted = 4, SetAside = 5, Absent = 6, Gone = 7, Held = 8,
        Retaken = 9,
    }
    PollResult { Ok = 0, NotModified = 1, Failed = 2, Deferred = 3 }
    DeliveryState { Pending = 0, Claimed = 1, Held = 2, Delivered = 3, Failed = 4 }
    AttemptResult { Delivered = 0, Refused = 1, Timeout = 2, Unreachable = 3, Broken = 4, NotSent = 5 }
}

/// The value of a closed set in column `index`.
pub(super) fn coded<T: Code>(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<T> {
    let code: i64 = row.get(index)?;
    T::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(index, code))
}

/// The value of a closed set in column `index`, where there is one.
pub(super) fn coded_opt<T: Code>(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    let Some(code) = row.get::<_, Option<i64>>(index)? else { return Ok(None) };
    T::from_code(code).map(Some).ok_or(rusqlite::Error::IntegralValueOutOfRange(index, code))
}

pub(super) fn number(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(|value| value as u64)
}

pub(super) fn small(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<u32> {
    let value: i64 = row.get(index)?;
    u32::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

pub(super) fn time(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    row.get(index).map(Timestamp)
}

pub(super) fn time_opt(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Timestamp))
}

pub(super) fn blob(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Bytes>> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        value => Ok(Some(Bytes::copy_from_slice(value.as_blob()?))),
    }
}

fn fingerprint(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Fingerprint>> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        value => {
            let bytes = value.as_blob()?;
            let wrong = || rusqlite::Error::IntegralValueOutOfRange(index, bytes.len() as i64);
            bytes.try_into().map(|hash| Some(Fingerprint(hash))).map_err(|_| wrong())
        }
    }
}

pub(super) fn paused(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Paused>> {
    let by: Option<String> = row.get(index)?;
    let reason: Option<String> = row.get(index + 1)?;
    Ok(by.map(|by| Paused { by, reason: reason.unwrap_or_default() }))
}

const DELETED: i64 = 1;
const SILENT: i64 = 2;
const LISTED: i64 = 4;
const BY_WEBHOOK: i64 = 8;

/// The yes-or-no columns of a record packed into one number.
pub(super) fn record_flags(deleted: bool, silent: bool, listed: bool, by: SeenBy) -> i64 {
    i64::from(deleted) * DELETED
        + i64::from(silent) * SILENT
        + i64::from(listed) * LISTED
        + i64::from(by == SeenBy::Webhook) * BY_WEBHOOK
}

pub(super) fn is_deleted(flags: i64) -> bool {
    flags & DELETED != 0
}

/// What [`record`] reads, in its order. Used by several statements.
pub(super) const RECORD_COLUMNS: &str = "number, fingerprint, raw_hash, webhook_form, version, version_changes, revision, change_number, flags, absences, \
     written_at";

/// A stored record from [`RECORD_COLUMNS`].
pub(super) fn record(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let flags: i64 = row.get(8)?;
    Ok(Row {
        number: small(row, 0)?,
        fingerprint: fingerprint(row, 1)?.ok_or(rusqlite::Error::IntegralValueOutOfRange(1, 0))?,
        raw_hash: fingerprint(row, 2)?,
        webhook_form: fingerprint(row, 3)?,
        version: row.get(4)?,
        version_changes: small(row, 5)?,
        revision: number(row, 6)?,
        change_number: number(row, 7)?,
        deleted: is_deleted(flags),
        silent: flags & SILENT != 0,
        listed: flags & LISTED != 0,
        by: if flags & BY_WEBHOOK != 0 { SeenBy::Webhook } else { SeenBy::Poll },
        absences: small(row, 9)?,
        written_at: time_opt(row, 10)?,
    })
}

/// What [`stream_state`] reads, in its order, from `stream t JOIN source s`.
pub(super) const STREAM_COLUMNS: &str = "s.name, t.name, s.identity, t.phase, t.definition, t.comparison, t.change_number, \
     t.mark, t.validators, t.resume, t.started_at, t.listed_once, t.base_revision, t.releasing, t.last_poll_at, t.last_ok_at, \
     t.failures, t.memory, t.retaken, t.recompare, t.run_phase, t.run_listed_once, t.backfill, t.live, t.announced_in_row, \
     t.forgotten_below";

/// How many columns [`STREAM_COLUMNS`] has: where a statement's further columns begin.
pub(super) const STREAM_WIDTH: usize = 26;

pub(super) fn stream_state(row: &SqlRow<'_>) -> rusqlite::Result<StreamState> {
    Ok(StreamState {
        name: StreamName::new(row.get::<_, String>(0)?, row.get_ref(1)?.as_str()?),
        source_id: SourceName::from(row.get::<_, String>(2)?),
        phase: coded(row, 3)?,
        definition: row.get(4)?,
        comparison: row.get(5)?,
        change_number: number(row, 6)?,
        mark: row.get(7)?,
        validators: row.get(8)?,
        resume: row.get(9)?,
        started_at: time_opt(row, 10)?,
        listed_once: row.get(11)?,
        base_revision: number(row, 12)?,
        releasing: row.get(13)?,
        last_poll_at: time_opt(row, 14)?,
        last_ok_at: time_opt(row, 15)?,
        failures: small(row, 16)?,
        memory: row.get(17)?,
        detection: detection(row, 18)?,
    })
}

fn detection(row: &SqlRow<'_>, first: usize) -> rusqlite::Result<Detection> {
    let phase: Option<Phase> = coded_opt(row, first + 2)?;
    let listed_once: Option<bool> = row.get(first + 3)?;
    Ok(Detection {
        retaken: row.get::<_, Option<i64>>(first)?.map(|taken| taken as u64),
        recompare: row.get(first + 1)?,
        released_as: phase.map(|phase| (phase, listed_once.unwrap_or(false))),
        backfill: row.get(first + 4)?,
        records: number(row, first + 5)?,
        announced_in_row: number(row, first + 6)?,
        forgotten_below: row.get(first + 7)?,
    })
}

/// What [`attempt`] reads, in its order, from `attempt a`.
pub(super) const ATTEMPT_COLUMNS: &str = "a.started_at, a.duration, a.result, a.status, a.error, a.answer, a.detail";

pub(super) fn attempt(row: &SqlRow<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        started_at: time(row, 0)?,
        duration: std::time::Duration::from_micros(number(row, 1)?),
        result: coded(row, 2)?,
        status: row.get(3)?,
        error: row.get(4)?,
        answer: blob(row, 5)?.unwrap_or_default(),
        detail: detail::read(row.get::<_, Option<String>>(6)?.as_deref()),
    })
}

/// A duration as stored: microseconds, at most what an integer column holds.
pub(super) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
