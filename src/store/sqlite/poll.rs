//! What the poll step asks of the store, apart from the commit itself: leases of streams, run journals, verdicts, due times.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::rows::{self, Code, STREAM_COLUMNS};
use super::writer::Outcome;
use super::{decided, notice, records, rests, score};
use crate::model::{Key, StreamName, Timestamp};
use crate::store::{
    Commit, JournalEntry, Phase, PollEnd, PollResult, StoreError, StreamClaim, StreamLease, StreamState, Topic,
    Verdict, Which,
};

const SELECT_DUE: &str = "SELECT t.id, t.next_poll_at FROM stream t INDEXED BY stream_due JOIN source s ON s.id = t.source_id \
     WHERE t.polled = 1 AND t.configured = 1 AND t.next_poll_at IS NOT NULL AND s.paused_by IS NULL \
     AND s.new_address IS NULL AND t.rests IS NULL ORDER BY t.next_poll_at";

/// The stream longest due that nobody holds and when it is due; a later one when none is due yet.
fn first_free(conn: &Connection, book: &Book) -> rusqlite::Result<Option<(i64, Timestamp)>> {
    let now = book.now();
    let mut due = conn.prepare_cached(SELECT_DUE)?;
    let mut found = due.query([])?;
    while let Some(row) = found.next()? {
        let stream = row.get(0)?;
        if book.stream_holds.get(&stream).is_none_or(|hold| hold.until <= now) {
            return Ok(Some((stream, rows::time(row, 1)?)));
        }
    }
    Ok(None)
}

pub(super) fn claim(
    conn: &Connection,
    book: &mut Book,
    which: &Which,
    lease: Duration,
) -> Outcome<Option<StreamClaim>> {
    let stream = match which {
        Which::Named(name) => book.stream(name)?,
        Which::Due => match first_free(conn, book)? {
            Some((stream, due)) if due <= book.now() => stream,
            _ => return Ok(None),
        },
    };
    // A person may poll by hand what somebody paused, but not what would be compared with another place's state.
    if rests::is_resting(conn, stream)? {
        return Ok(None);
    }
    let Some(token) = book.hold_stream(stream, lease) else { return Ok(None) };
    let notice = conn
        .prepare_cached("SELECT notice FROM stream WHERE id = ?1")?
        .query_row([stream], |row| row.get::<_, Option<i64>>(0))?;
    if let Some(hold) = book.stream_holds.get_mut(&stream) {
        hold.notice = notice;
    }
    let state = read_state(conn, stream)?;
    if let Some(hold) = book.stream_holds.get_mut(&stream) {
        hold.rules = (state.definition.clone(), state.comparison.clone());
    }
    if state.resume.is_none() && !state.releasing {
        // What a run left that ended without a verdict and does not go on: it proves nothing any more (RULES R1.3).
        conn.prepare_cached("DELETE FROM journal WHERE stream_id = ?1")?.execute([stream])?;
    }
    Ok(Some(StreamClaim { lease: StreamLease { stream: state.name.clone(), token }, state }))
}

fn read_state(conn: &Connection, stream: i64) -> rusqlite::Result<StreamState> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream t JOIN source s ON s.id = t.source_id WHERE t.id = ?1");
    conn.prepare_cached(&sql)?.query_row([stream], rows::stream_state)
}

/// What is stored of a stream, by its name.
pub(super) fn state_of(conn: &Connection, name: &StreamName) -> Outcome<Option<StreamState>> {
    let id = super::records::stream_id(conn, name)?;
    Ok(id.map(|stream| read_state(conn, stream)).transpose()?)
}

pub(super) fn finish(conn: &Connection, book: &mut Book, lease: &StreamLease, end: &PollEnd) -> Outcome<()> {
    let stream = book.stream(&lease.stream)?;
    book.check_stream(stream, lease.token)?;
    let hold = book.stream_holds.remove(&stream);
    let now = book.now();
    let (notice, soon) = notice::after_notice(hold.as_ref(), end);
    let within = hold.as_ref().and_then(|hold| hold.within);
    let next_in = [Some(end.next_in), soon, within].into_iter().flatten().min().unwrap_or(end.next_in);
    let next = if hold.is_some_and(|hold| hold.again) { now } else { now.plus(next_in) };
    if let Some(notice) = notice {
        conn.prepare_cached("UPDATE stream SET notice = ?2 WHERE id = ?1")?.execute(params![stream, notice])?;
    }
    let ok = matches!(end.result, PollResult::Ok | PollResult::NotModified);
    let failed = end.result == PollResult::Failed;
    conn.prepare_cached(
        "UPDATE stream SET next_poll_at = ?2, last_poll_at = ?3, last_ok_at = CASE WHEN ?4 THEN ?3 ELSE last_ok_at END, \
         failures = CASE WHEN ?4 THEN 0 WHEN ?5 THEN failures + 1 ELSE failures END, last_result = ?6, last_records = ?7, \
         last_changes = ?8, last_duration = ?9, last_error = ?10, memory = ifnull(?11, memory) WHERE id = ?1",
    )?
    .execute(params![
        stream,
        next.0,
        now.0,
        ok,
        failed,
        end.result.code(),
        end.records as i64,
        end.changes as i64,
        rows::micros(end.duration),
        end.error,
        end.memory
    ])?;
    decided::run_ended(conn, book, stream, end)?;
    score::recover(conn, book, stream)?;
    book.rings(Topic::Polls);
    Ok(())
}

/// Due now. While a run is on, also once more after it: the run may have begun before what this is about.
pub(super) fn poll_now(conn: &Connection, book: &mut Book, name: &StreamName) -> Outcome<()> {
    let stream = book.stream(name)?;
    make_due(conn, book, stream)?;
    Ok(())
}

/// Due so long from now, sooner or later than before.
pub(super) fn poll_later(conn: &Connection, book: &mut Book, name: &StreamName, after: Duration) -> Outcome<()> {
    let stream = book.stream(name)?;
    let at = book.now().plus(after).0;
    conn.prepare_cached("UPDATE stream SET next_poll_at = ?2 WHERE id = ?1")?.execute([stream, at])?;
    book.rings(Topic::Polls);
    Ok(())
}

pub(super) fn make_due(conn: &Connection, book: &mut Book, stream: i64) -> rusqlite::Result<()> {
    if let Some(hold) = book.stream_holds.get_mut(&stream) {
        hold.again = true;
    }
    let now = book.now().0;
    conn.prepare_cached("UPDATE stream SET next_poll_at = min(ifnull(next_poll_at, ?2), ?2) WHERE id = ?1")?
        .execute([stream, now])?;
    book.rings(Topic::Polls);
    Ok(())
}

pub(super) fn append(conn: &Connection, book: &mut Book, lease: &StreamLease, entries: &[JournalEntry]) -> Outcome<()> {
    let stream = book.stream(&lease.stream)?;
    book.check_stream(stream, lease.token)?;
    let mut insert = conn.prepare_cached(
        "INSERT OR REPLACE INTO journal (stream_id, time, place, key, asked_at, record, parent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for entry in entries {
        insert.execute(params![
            stream,
            entry.time.map(|time| time.0),
            entry.place,
            entry.key.as_str(),
            entry.asked_at as i64,
            entry.record.as_deref(),
            entry.parent
        ])?;
    }
    Ok(())
}

/// What the journal holds of keys, verdict or not.
pub(super) fn journaled(conn: &Connection, name: &StreamName, keys: &[Key]) -> Outcome<Vec<Option<Bytes>>> {
    let Some(stream) = records::stream_id(conn, name)? else { return Ok(vec![None; keys.len()]) };
    let mut select = conn.prepare_cached("SELECT record FROM journal WHERE stream_id = ?1 AND key = ?2")?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let record = select.query_row(params![stream, key.as_str()], |row| rows::blob(row, 0)).optional()?;
        found.push(record.flatten());
    }
    Ok(found)
}

pub(super) fn verdict(conn: &Connection, book: &mut Book, lease: &StreamLease, verdict: &Verdict) -> Outcome<()> {
    let stream = book.stream(&lease.stream)?;
    book.check_stream(stream, lease.token)?;
    check_verdict(conn, book, stream, verdict)?;
    Ok(write_verdict(conn, stream, verdict)?)
}

/// Nothing is accepted under other rules than the run began with.
pub(super) fn check_verdict(conn: &Connection, book: &Book, stream: i64, verdict: &Verdict) -> Outcome<()> {
    let same = "SELECT 1 FROM stream WHERE id = ?1 AND definition = ?2 AND comparison = ?3";
    if let (Verdict::Accepted { .. }, Some(hold)) = (verdict, book.stream_holds.get(&stream))
        && !conn.prepare_cached(same)?.exists(params![stream, hold.rules.0, hold.rules.1])?
    {
        return Err(StoreError::Conflict.into());
    }
    Ok(())
}

pub(super) fn write_verdict(conn: &Connection, stream: i64, verdict: &Verdict) -> rusqlite::Result<()> {
    let Verdict::Accepted { mark, validators, phase, listed_once, started_at } = verdict else {
        conn.prepare_cached("DELETE FROM journal WHERE stream_id = ?1")?.execute([stream])?;
        // Nobody may be told "nothing new" about what was not taken in (RULES R6.4).
        conn.prepare_cached("UPDATE stream SET resume = NULL, validators = NULL, releasing = 0 WHERE id = ?1")?
            .execute([stream])?;
        return Ok(());
    };
    let releasing = conn.prepare_cached("SELECT 1 FROM journal WHERE stream_id = ?1")?.exists([stream])?;
    conn.prepare_cached(
        "UPDATE stream SET mark = ifnull(?2, mark), validators = ?3, phase = ?4, listed_once = ?5, \
         started_at = ifnull(?6, started_at), resume = NULL, releasing = ?7, backfill = NULL, \
         retaken = CASE WHEN ?4 = ?8 THEN NULL ELSE retaken END, \
         run_phase = CASE WHEN ?7 THEN phase END, run_listed_once = CASE WHEN ?7 THEN listed_once END WHERE id = ?1",
    )?
    .execute(params![
        stream,
        mark,
        validators,
        phase.code(),
        listed_once,
        started_at.map(|at| at.0),
        releasing,
        Phase::Live.code()
    ])?;
    Ok(())
}

/// Empty until the run has its verdict.
pub(super) fn batch(conn: &Connection, name: &StreamName, skip: usize, limit: usize) -> Outcome<Vec<JournalEntry>> {
    let Some(stream) = records::stream_id(conn, name)? else { return Err(StoreError::Conflict.into()) };
    let sql = "SELECT j.id, j.key, j.record, j.time, j.place, j.asked_at, j.parent FROM journal j INDEXED BY journal_release \
               WHERE j.stream_id = ?1 AND (SELECT releasing FROM stream WHERE id = ?1) ORDER BY j.time, j.place, j.id LIMIT ?2 OFFSET ?3";
    let mut select = conn.prepare_cached(sql)?;
    let entries = select.query_map(params![stream, limit as i64, skip as i64], |row| {
        Ok(JournalEntry {
            id: rows::number(row, 0)?,
            key: Key::from(row.get_ref(1)?.as_str()?),
            record: rows::blob(row, 2)?,
            time: rows::time_opt(row, 3)?,
            place: row.get(4)?,
            asked_at: rows::number(row, 5)?,
            parent: row.get(6)?,
        })
    })?;
    Ok(entries.collect::<rusqlite::Result<_>>()?)
}

/// When a claim may find a stream without being woken: one falls due, or a lease runs out.
pub(super) fn next_due(conn: &Connection, book: &Book) -> Outcome<Option<Timestamp>> {
    let due = first_free(conn, book)?.map(|(_, at)| at);
    let now = book.now();
    let lease = book.stream_holds.values().map(|hold| hold.until).filter(|until| *until > now).min();
    Ok(due.into_iter().chain(lease).min())
}

/// Refuses when the stream is thought of under another definition by now; else its change number and next row number.
pub(super) fn check_definition(conn: &Connection, stream: i64, commit: &Commit) -> Outcome<(u64, u32)> {
    let sql = "SELECT definition = ?2 AND (?3 IS NULL OR comparison = ?3), change_number, next_number FROM stream WHERE id = ?1";
    let found = conn
        .prepare_cached(sql)?
        .query_row(params![stream, commit.definition, commit.comparison], |row| {
            Ok((row.get::<_, bool>(0)?, rows::number(row, 1)?, rows::small(row, 2)?))
        })
        .optional()?;
    match found {
        Some((true, change_number, next_number)) => Ok((change_number, next_number)),
        _ => Err(StoreError::Conflict.into()),
    }
}
