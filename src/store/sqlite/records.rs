//! Records: the commit that writes fingerprints, events, deliveries and cursor together, and the look-ups before it.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::book::Book;
use super::rows::{self, Code, RECORD_COLUMNS};
use super::writer::Outcome;
use super::{aside, decided, events_in, poll, receive, score};
use crate::model::{Key, SeenBy, StreamName, Timestamp};
use crate::store::{BodyWrite, Commit, Committed, RecordWrite, Row, StoreError};

/// A stored row as a commit must know it before it writes.
#[derive(Clone, Copy)]
struct Known {
    number: u32,
    live: bool,
}

/// What a commit adds to its stream.
struct Sums {
    change_number: u64,
    next_number: u32,
    live: i64,
}

pub(super) fn commit(conn: &Connection, book: &mut Book, commit: &Commit) -> Outcome<Committed> {
    let stream = book.stream(&commit.stream)?;
    if let Some(lease) = &commit.lease {
        book.check_stream(stream, lease.token)?;
    }
    receive::check(book, &commit.inbounds)?;
    let (change_number, next_number) = poll::check_definition(conn, stream, commit)?;
    if let Some(verdict) = &commit.verdict {
        poll::check_verdict(conn, book, stream, verdict)?;
    }
    // Rows are read and written in key order, which is the order of the table; events keep the order of the commit.
    let mut order: Vec<usize> = (0..commit.writes.len()).collect();
    order.sort_by(|&a, &b| commit.writes[a].key.cmp(&commit.writes[b].key));
    let known = check_rows(conn, stream, &commit.writes, &order)?;

    let mut sums = Sums { change_number, next_number, live: 0 };
    let mut events = 0;
    if !commit.writes.is_empty() {
        sums.change_number += 1;
        write_rows(conn, book, stream, commit, &order, known, &mut sums)?;
    }
    if !commit.writes.is_empty() || !commit.loose_events.is_empty() {
        let new = commit.writes.iter().filter_map(|write| write.event.as_ref()).chain(&commit.loose_events);
        events = events_in::write(conn, book, stream, new)?;
    }
    score::count(conn, book, stream, commit)?;
    aside::keep(conn, book, stream, &commit.set_aside)?;
    aside::forget(conn, stream, &commit.retried)?;
    decided::note(conn, book, stream, &commit.decisions)?;
    note_absent(conn, book, stream, commit.absent)?;
    release(conn, stream, &commit.released)?;
    update_stream(conn, stream, commit, &sums)?;
    if let Some(verdict) = &commit.verdict {
        poll::write_verdict(conn, stream, verdict)?;
    }
    receive::settle_checked(conn, book, &commit.inbounds)?;
    Ok(Committed { events, change_number: sums.change_number })
}

/// Each row must be as the caller thought (RULES R5.1). The answer is in the order of `order`.
fn check_rows(conn: &Connection, stream: i64, writes: &[RecordWrite], order: &[usize]) -> Outcome<Vec<Option<Known>>> {
    let mut select =
        conn.prepare_cached("SELECT change_number, number, flags FROM record WHERE stream_id = ?1 AND key = ?2")?;
    let mut known = Vec::with_capacity(order.len());
    for &index in order {
        let write = &writes[index];
        let mut found = select.query(params![stream, write.key.as_str()])?;
        let (number, row) = match found.next()? {
            Some(row) => {
                let known = Known { number: rows::small(row, 1)?, live: !rows::is_deleted(row.get(2)?) };
                (Some(rows::number(row, 0)?), Some(known))
            }
            None => (None, None),
        };
        if number != write.expected {
            return Err(StoreError::Conflict.into());
        }
        known.push(row);
    }
    Ok(known)
}

const INSERT_RECORD: &str = "INSERT INTO record (stream_id, key, number, fingerprint, raw_hash, webhook_form, version, \
     version_changes, revision, change_number, flags, absences, written_at, place) \
     VALUES (?1, ?2, ?14, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

const UPDATE_RECORD: &str = "UPDATE record SET fingerprint = ?3, raw_hash = ?4, webhook_form = ?5, version = ?6, \
     version_changes = ?7, revision = ?8, change_number = ?9, flags = ?10, absences = ?11, \
     written_at = ?12, place = ifnull(?13, place) WHERE stream_id = ?1 AND key = ?2";

fn write_rows(
    conn: &Connection,
    book: &Book,
    stream: i64,
    commit: &Commit,
    order: &[usize],
    known: Vec<Option<Known>>,
    sums: &mut Sums,
) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(INSERT_RECORD)?;
    let mut update = conn.prepare_cached(UPDATE_RECORD)?;
    let mut put_body = conn.prepare_cached(
        "INSERT INTO record_body (id, body) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET body = ?2",
    )?;
    let at = (sums.change_number, book.now());
    // Two changes of one key may share a commit; they stand side by side, as the order is stable.
    let mut last: Option<(&Key, Known)> = None;
    for (&index, before) in order.iter().zip(known) {
        let write = &commit.writes[index];
        let before = last.filter(|(key, _)| *key == &write.key).map(|(_, known)| known).or(before);
        let number = before.map_or(sums.next_number, |known| known.number);
        if before.is_some() {
            put(&mut update, stream, write, at, None)?;
        } else {
            put(&mut insert, stream, write, at, Some(number))?;
            sums.next_number += 1;
        }
        if let BodyWrite::Put(body) = &write.body {
            put_body.execute(params![body_id(stream, number, write.by), &body[..]])?;
        }
        sums.live += i64::from(!write.deleted) - i64::from(before.is_some_and(|known| known.live));
        last = Some((&write.key, Known { number, live: !write.deleted }));
    }
    Ok(())
}

fn put(
    statement: &mut Statement<'_>,
    stream: i64,
    write: &RecordWrite,
    (change_number, now): (u64, Timestamp),
    number: Option<u32>,
) -> rusqlite::Result<()> {
    let flags = rows::record_flags(write.deleted, write.silent, write.listed, write.by);
    statement.raw_bind_parameter(1, stream)?;
    statement.raw_bind_parameter(2, write.key.as_str())?;
    statement.raw_bind_parameter(3, &write.fingerprint.0[..])?;
    statement.raw_bind_parameter(4, write.raw_hash.as_ref().map(|hash| &hash.0[..]))?;
    statement.raw_bind_parameter(5, write.webhook_form.as_ref().map(|hash| &hash.0[..]))?;
    statement.raw_bind_parameter(6, write.version.as_deref())?;
    statement.raw_bind_parameter(7, write.version_changes)?;
    statement.raw_bind_parameter(8, write.revision as i64)?;
    statement.raw_bind_parameter(9, change_number as i64)?;
    statement.raw_bind_parameter(10, flags)?;
    statement.raw_bind_parameter(11, write.absences)?;
    let matters = write.deleted || write.by == SeenBy::Webhook || write.place.is_some();
    statement.raw_bind_parameter(12, matters.then_some(now.0))?;
    statement.raw_bind_parameter(13, write.place)?;
    if let Some(number) = number {
        statement.raw_bind_parameter(14, number)?;
    }
    statement.raw_execute().map(|_| ())
}

/// Where the body of a record lies: records of a stream in order of arrival, both ways' forms side by side.
pub(super) fn body_id(stream: i64, number: u32, by: SeenBy) -> i64 {
    (stream << 33) | (i64::from(number) << 1) | by.code()
}

/// Deletions that rest on absence alone count together for a day (RULES R6.2).
fn note_absent(conn: &Connection, book: &Book, stream: i64, gone: u64) -> rusqlite::Result<()> {
    if gone == 0 {
        return Ok(());
    }
    let now = book.now();
    conn.prepare_cached("DELETE FROM absence WHERE stream_id = ?1 AND at < ?2")?
        .execute([stream, now.minus(Duration::from_secs(24 * 3600)).0])?;
    conn.prepare_cached(
        "INSERT INTO absence (stream_id, at, gone) VALUES (?1, ?2, ?3) ON CONFLICT (stream_id, at) DO UPDATE SET gone = gone + ?3",
    )?
    .execute([stream, now.0, gone as i64])?;
    Ok(())
}

pub(super) fn absent_since(conn: &Connection, name: &StreamName, since: Timestamp) -> Outcome<u64> {
    let Some(stream) = stream_id(conn, name)? else { return Ok(0) };
    let sql = "SELECT ifnull(sum(gone), 0) FROM absence WHERE stream_id = ?1 AND at >= ?2";
    Ok(conn.prepare_cached(sql)?.query_row([stream, since.0], |row| rows::number(row, 0))?)
}

fn release(conn: &Connection, stream: i64, released: &[u64]) -> rusqlite::Result<()> {
    if released.is_empty() {
        return Ok(());
    }
    let mut delete = conn.prepare_cached("DELETE FROM journal WHERE id = ?1 AND stream_id = ?2")?;
    for &id in released {
        delete.execute(params![id as i64, stream])?;
    }
    conn.prepare_cached(
        "UPDATE stream SET releasing = 0, run_phase = NULL, run_listed_once = NULL WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM journal WHERE stream_id = ?1)",
    )?
    .execute([stream])?;
    Ok(())
}

const UPDATE_STREAM: &str = "UPDATE stream SET change_number = ?2, next_number = ?3, live = live + ?4, \
     mark = CASE WHEN ?13 THEN ?14 ELSE ifnull(?5, mark) END, retaken = retaken + ?15, \
     recompare = CASE WHEN ?16 THEN 0 ELSE recompare END, \
     resume = CASE WHEN ?6 THEN ?7 ELSE resume END, started_at = ifnull(?8, started_at), phase = ifnull(?9, phase), \
     listed_once = ifnull(?10, listed_once), validators = CASE WHEN ?11 THEN ?12 ELSE validators END WHERE id = ?1";

fn update_stream(conn: &Connection, stream: i64, commit: &Commit, sums: &Sums) -> rusqlite::Result<()> {
    let Commit { writes, mark, resume, started_at, phase, validators, .. } = commit;
    let stays = mark.is_none() && resume.is_none() && started_at.is_none() && phase.is_none() && validators.is_none();
    if writes.is_empty() && stays && commit.unmark.is_none() && commit.retaken == 0 && !commit.recompared {
        return Ok(());
    }
    conn.prepare_cached(UPDATE_STREAM)?.execute(params![
        stream,
        sums.change_number as i64,
        sums.next_number,
        sums.live,
        mark,
        resume.is_some(),
        resume.as_ref().and_then(Option::as_ref),
        started_at.map(|at| at.0),
        phase.map(|(phase, _)| phase.code()),
        phase.map(|(_, listed_once)| listed_once),
        validators.is_some(),
        validators.as_ref().and_then(Option::as_ref),
        commit.unmark.is_some(),
        commit.unmark.as_ref().and_then(Option::as_ref),
        commit.retaken as i64,
        commit.recompared
    ])?;
    Ok(())
}

// ---- look-ups, on the reading side ----

/// A stream's number, by the names of source and stream.
pub(super) fn stream_id(conn: &Connection, name: &StreamName) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT t.id FROM stream t JOIN source s ON s.id = t.source_id WHERE s.name = ?1 AND t.name = ?2";
    let mut find = conn.prepare_cached(sql)?;
    find.query_row(params![name.source.as_str(), &*name.stream], |row| row.get(0)).optional()
}

pub(super) fn look_up(conn: &Connection, stream: &StreamName, keys: &[Key]) -> Outcome<Vec<Option<Row>>> {
    let Some(stream) = stream_id(conn, stream)? else { return Ok(vec![None; keys.len()]) };
    let mut select =
        conn.prepare_cached(&format!("SELECT {RECORD_COLUMNS} FROM record WHERE stream_id = ?1 AND key = ?2"))?;
    select.raw_bind_parameter(1, stream)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        select.raw_bind_parameter(2, key.as_str())?;
        let mut rows = select.raw_query();
        found.push(rows.next()?.map(rows::record).transpose()?);
    }
    Ok(found)
}

pub(super) fn bodies(conn: &Connection, stream: &StreamName, keys: &[Key], by: SeenBy) -> Outcome<Vec<Option<Bytes>>> {
    let Some(stream) = stream_id(conn, stream)? else { return Ok(vec![None; keys.len()]) };
    let mut number = conn.prepare_cached("SELECT number FROM record WHERE stream_id = ?1 AND key = ?2")?;
    let mut body = conn.prepare_cached("SELECT body FROM record_body WHERE id = ?1")?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let known = number.query_row(params![stream, key.as_str()], |row| rows::small(row, 0)).optional()?;
        let stored = match known {
            Some(number) => body.query_row([body_id(stream, number, by)], |row| rows::blob(row, 0)).optional()?,
            None => None,
        };
        found.push(stored.flatten());
    }
    Ok(found)
}

/// Live rows alone; `flags & 1` is the tombstone's mark.
pub(super) fn after(
    conn: &Connection,
    stream: &StreamName,
    after: Option<&Key>,
    limit: usize,
) -> Outcome<Vec<(Key, Row)>> {
    let Some(stream) = stream_id(conn, stream)? else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT {RECORD_COLUMNS}, key FROM record WHERE stream_id = ?1 AND key > ?2 AND flags & 1 = 0 ORDER BY key LIMIT ?3"
    );
    let mut select = conn.prepare_cached(&sql)?;
    // No key is empty, so every key comes after the empty text.
    let from = after.map_or("", Key::as_str);
    let found = select.query_map(params![stream, from, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok((Key::from(row.get_ref(11)?.as_str()?), rows::record(row)?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
