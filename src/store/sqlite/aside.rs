//! Records that could not be read (RULES R3.8): each kept once with its reason, until a person has them put through again.

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::book::Book;
use super::writer::Outcome;
use super::{records, rows};
use crate::model::StreamName;
use crate::store::{KeptAside, SetAside};

/// Keeps them; one that is kept already only gets its present reason.
pub(super) fn keep(conn: &Connection, book: &Book, stream: i64, aside: &[SetAside]) -> rusqlite::Result<()> {
    if aside.is_empty() {
        return Ok(());
    }
    let mut insert = conn.prepare_cached(
        "INSERT INTO set_aside (stream_id, seen_at, reason, raw, member, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (stream_id, hash) DO UPDATE SET reason = excluded.reason WHERE reason <> excluded.reason",
    )?;
    for one in aside {
        let hash = Sha256::digest(&one.raw);
        insert.execute(params![stream, book.now().0, one.reason, &one.raw[..], one.member, &hash[..16]])?;
    }
    Ok(())
}

/// Forgets those that were taken in or given up.
pub(super) fn forget(conn: &Connection, stream: i64, retried: &[u64]) -> rusqlite::Result<()> {
    if retried.is_empty() {
        return Ok(());
    }
    let mut delete = conn.prepare_cached("DELETE FROM set_aside WHERE id = ?1 AND stream_id = ?2")?;
    for &id in retried {
        delete.execute(params![id as i64, stream])?;
    }
    Ok(())
}

pub(super) fn list(conn: &Connection, name: &StreamName, after: Option<u64>, limit: usize) -> Outcome<Vec<KeptAside>> {
    let Some(stream) = records::stream_id(conn, name)? else { return Ok(Vec::new()) };
    let sql =
        "SELECT id, raw, member, reason, seen_at FROM set_aside WHERE stream_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
    let mut select = conn.prepare_cached(sql)?;
    let found = select.query_map(params![stream, after.map_or(-1, |id| id as i64), limit as i64], |row| {
        Ok(KeptAside {
            id: rows::number(row, 0)?,
            raw: rows::blob(row, 1)?.unwrap_or_default(),
            member: row.get(2)?,
            reason: row.get(3)?,
            seen_at: rows::time(row, 4)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
