//! Forgetting seen keys of streams that tell each new key once (RULES R9.2): only what lies behind everything that a listing
//! or a webhook can still show, which is the caller's to know.

use rusqlite::{Connection, params};

use super::book::Book;
use super::writer::Outcome;
use super::{records, rows};
use crate::model::{SeenBy, StreamName};
use crate::store::PruneSeen;

/// Tombstones (`flags & 1`) go by their own age.
const SELECT_OLD: &str = "SELECT key, number, place FROM record INDEXED BY record_place \
     WHERE stream_id = ?1 AND place < ?2 AND place IS NOT NULL AND flags & 1 = 0 AND written_at < ?3 ORDER BY place LIMIT ?4";

/// Removes at most `limit` of them. True when there may be more.
pub(super) fn prune(conn: &Connection, book: &mut Book, name: &StreamName, seen: &PruneSeen) -> Outcome<bool> {
    let stream = book.stream(name)?;
    let now = book.now();
    if book.stream_holds.get(&stream).is_some_and(|hold| hold.until > now) {
        // A run under way may still show what its own beginning reaches back to.
        return Ok(false);
    }
    let sql = "SELECT placed_by, mark IS NOT NULL FROM stream WHERE id = ?1";
    let (placed_by, marked): (Option<String>, bool) =
        conn.prepare_cached(sql)?.query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if placed_by.as_deref() != Some(seen.placed_by.as_str()) {
        if placed_by.is_some() {
            conn.execute("UPDATE record SET place = NULL WHERE stream_id = ?1 AND place IS NOT NULL", [stream])?;
        }
        conn.execute("UPDATE stream SET placed_by = ?2 WHERE id = ?1", params![stream, seen.placed_by])?;
    }
    if !marked {
        return Ok(false);
    }
    let limit = seen.limit.max(1);
    let mut select = conn.prepare_cached(SELECT_OLD)?;
    let found: Vec<(String, u32, i64)> = select
        .query_map(params![stream, seen.below, seen.written_before.0, limit as i64], |row| {
            Ok((row.get(0)?, rows::small(row, 1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let Some(last) = found.iter().map(|(_, _, place)| *place).max() else { return Ok(false) };
    let mut record = conn.prepare_cached("DELETE FROM record WHERE stream_id = ?1 AND key = ?2")?;
    let mut body = conn.prepare_cached("DELETE FROM record_body WHERE id = ?1")?;
    for (key, number, _) in &found {
        record.execute(params![stream, key])?;
        for by in [SeenBy::Poll, SeenBy::Webhook] {
            body.execute([records::body_id(stream, *number, by)])?;
        }
    }
    // The change number moves on, so that nobody commits what was thought with a row that is gone.
    conn.prepare_cached(
        "UPDATE stream SET live = live - ?2, forgotten_below = max(ifnull(forgotten_below, ?3), ?3), \
         change_number = change_number + 1 WHERE id = ?1",
    )?
    .execute(params![stream, found.len() as i64, last.saturating_add(1)])?;
    Ok(found.len() == limit)
}
