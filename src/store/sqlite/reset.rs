//! Forgetting: a stream's state by a person's order, and tombstones by age. Revisions never start again: the highest one dropped
//! becomes the stream's base (RULES R2.2).

use rusqlite::{Connection, params};

use super::book::Book;
use super::rows::{self, Code};
use super::writer::Outcome;
use super::{poll, records, rests};
use crate::model::{SeenBy, StreamName, Timestamp};
use crate::store::{Forgotten, Phase, Topic};

/// Counts what a reset forgets, and forgets it unless it is a dry run.
pub(super) fn reset(conn: &Connection, book: &mut Book, name: &StreamName, dry_run: bool) -> Outcome<Forgotten> {
    let stream = book.stream(name)?;
    let sql = "SELECT live, mark, max(base_revision, (SELECT ifnull(max(revision), 0) FROM record WHERE stream_id = ?1)), \
               (SELECT count(*) FROM record WHERE stream_id = ?1 AND flags & 1 = 1) FROM stream WHERE id = ?1";
    let forgotten = conn.prepare_cached(sql)?.query_row([stream], |row| {
        Ok(Forgotten {
            records: rows::number(row, 0)?,
            mark: row.get(1)?,
            base_revision: rows::number(row, 2)?,
            tombstones: rows::number(row, 3)?,
        })
    })?;
    if dry_run {
        return Ok(forgotten);
    }
    if book.stream_holds.remove(&stream).is_some() {
        // A run under way thinks with what is forgotten now: it finds that its lease is gone.
        book.rings(Topic::Polls);
    }
    for table in ["record", "journal", "set_aside", "awaited", "decision", "absence"] {
        conn.execute(&format!("DELETE FROM {table} WHERE stream_id = ?1"), [stream])?;
    }
    let (from, to) = (records::body_id(stream, 0, SeenBy::Poll), records::body_id(stream + 1, 0, SeenBy::Poll));
    conn.execute("DELETE FROM record_body WHERE id >= ?1 AND id < ?2", [from, to])?;
    conn.execute(
        "UPDATE stream SET base_revision = ?2, phase = ?3, live = 0, mark = NULL, validators = NULL, resume = NULL, \
         started_at = NULL, listed_once = 0, releasing = 0, retaken = NULL, recompare = 0, run_phase = NULL, \
         run_listed_once = NULL, backfill = NULL, notice = NULL, forgotten_below = NULL, change_number = change_number + 1 WHERE id = ?1",
        params![stream, forgotten.base_revision as i64, Phase::Baseline.code()],
    )?;
    poll::make_due(conn, book, stream)?;
    rests::forgotten(conn, book, stream)?;
    Ok(forgotten)
}

/// Removes tombstones written before this, at most `limit`. True when there may be more.
pub(super) fn prune_tombstones(conn: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<bool> {
    let sql = "SELECT stream_id, key, number, revision FROM record INDEXED BY record_gone \
               WHERE flags & 1 = 1 AND written_at < ?1 ORDER BY written_at LIMIT ?2";
    let mut select = conn.prepare_cached(sql)?;
    let found: Vec<(i64, String, u32, i64)> = select
        .query_map(params![before.0, limit as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, rows::small(row, 2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut record = conn.prepare_cached("DELETE FROM record WHERE stream_id = ?1 AND key = ?2")?;
    let mut body = conn.prepare_cached("DELETE FROM record_body WHERE id = ?1")?;
    // The change number moves on, so that nobody commits what was thought with a row that is gone.
    let mut base = conn.prepare_cached(
        "UPDATE stream SET base_revision = max(base_revision, ?2), change_number = change_number + 1 WHERE id = ?1",
    )?;
    let full = found.len() == limit;
    for (stream, key, number, revision) in found {
        record.execute(params![stream, key])?;
        for by in [SeenBy::Poll, SeenBy::Webhook] {
            body.execute([records::body_id(stream, number, by)])?;
        }
        base.execute([stream, revision])?;
    }
    Ok(full)
}
