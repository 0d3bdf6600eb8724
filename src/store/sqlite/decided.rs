//! What `ringback why` reads beside rows and events: the last decision of each kind for a key, and a ring of each stream's last
//! runs. Both are bounded by themselves: a decision takes the place of the former one, a run that of the oldest.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::book::Book;
use super::records;
use super::rows::{self, Code};
use super::writer::Outcome;
use crate::model::{Key, StreamName, Timestamp};
use crate::store::{Decision, KeptDecision, PollEnd, RunLine};

/// Runs kept of each stream.
const RUNS: i64 = 20;
/// A decision that was not made again for so long explains nothing any more.
const FORGET: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) fn note(conn: &Connection, book: &Book, stream: i64, decisions: &[Decision]) -> rusqlite::Result<()> {
    if decisions.is_empty() {
        return Ok(());
    }
    let mut put = conn.prepare_cached(
        "INSERT INTO decision (stream_id, key, what, seen_by, at, count, detail) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6) \
         ON CONFLICT (stream_id, key, what) DO UPDATE SET seen_by = excluded.seen_by, at = excluded.at, \
         count = count + 1, detail = excluded.detail",
    )?;
    for one in decisions {
        let (what, by) = (one.what.code(), one.by.code());
        put.execute(params![stream, one.key.as_str(), what, by, book.now().0, one.detail])?;
    }
    Ok(())
}

pub(super) fn of_key(conn: &Connection, name: &StreamName, key: &Key) -> Outcome<Vec<KeptDecision>> {
    let Some(stream) = records::stream_id(conn, name)? else { return Ok(Vec::new()) };
    let sql = "SELECT what, seen_by, at, count, detail FROM decision WHERE stream_id = ?1 AND key = ?2 ORDER BY at DESC, what";
    let mut select = conn.prepare_cached(sql)?;
    let found = select.query_map(params![stream, key.as_str()], |row| {
        let decision =
            Decision { key: key.clone(), what: rows::coded(row, 0)?, by: rows::coded(row, 1)?, detail: row.get(4)? };
        Ok(KeptDecision { decision, at: rows::time(row, 2)?, count: rows::number(row, 3)? })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Forgets old decisions, at most `limit`. True when there may be more.
pub(super) fn prune(conn: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM decision WHERE (stream_id, key, what) IN \
               (SELECT stream_id, key, what FROM decision WHERE at < ?1 ORDER BY at LIMIT ?2)";
    let gone = conn.prepare_cached(sql)?.execute(params![now.minus(FORGET).0, limit as i64])?;
    Ok(gone == limit)
}

/// Notes a run that has ended, in place of the oldest.
pub(super) fn run_ended(conn: &Connection, book: &Book, stream: i64, end: &PollEnd) -> rusqlite::Result<()> {
    let next = "SELECT ifnull(max(number), 0) + 1 FROM run WHERE stream_id = ?1";
    let number: i64 = conn.prepare_cached(next)?.query_row([stream], |row| row.get(0))?;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO run (stream_id, slot, number, ended_at, result, records, changes, pages, duration, error) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        stream,
        number % RUNS,
        number,
        book.now().0,
        end.result.code(),
        end.records as i64,
        end.changes as i64,
        end.pages as i64,
        rows::micros(end.duration),
        end.error
    ])?;
    Ok(())
}

pub(super) fn runs(conn: &Connection, name: &StreamName) -> Outcome<Vec<RunLine>> {
    let Some(stream) = records::stream_id(conn, name)? else { return Ok(Vec::new()) };
    let sql = "SELECT ended_at, result, records, changes, pages, duration, error FROM run WHERE stream_id = ?1 \
               ORDER BY number DESC";
    let mut select = conn.prepare_cached(sql)?;
    let found = select.query_map([stream], |row| {
        Ok(RunLine {
            ended_at: rows::time(row, 0)?,
            result: rows::coded(row, 1)?,
            records: rows::number(row, 2)?,
            changes: rows::number(row, 3)?,
            pages: rows::number(row, 4)?,
            duration: Duration::from_micros(rows::number(row, 5)?),
            error: row.get(6)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
