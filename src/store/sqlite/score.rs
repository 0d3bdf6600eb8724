//! Who saw a stream's changes first, and which of them only a poll found (DESIGN §6).

use rusqlite::{Connection, params};

use super::book::Book;
use crate::model::SeenBy;
use crate::store::{ANNOUNCED_WITHIN, Commit};

/// Counts what a commit announces and confirms. Most commits of a stream without real webhooks write nothing here.
pub(super) fn count(conn: &Connection, book: &Book, stream: i64, commit: &Commit) -> rusqlite::Result<()> {
    let (mut webhook, mut poll) = (0_i64, 0_i64);
    for new in commit.writes.iter().filter_map(|write| write.event.as_ref()) {
        match new.event.seen_by {
            SeenBy::Webhook => webhook += 1,
            SeenBy::Poll => poll += 1,
        }
    }
    if !commit.awaited.is_empty() {
        let sql = "INSERT OR REPLACE INTO awaited (stream_id, key, seen_at) VALUES (?1, ?2, ?3)";
        let mut wait = conn.prepare_cached(sql)?;
        for key in &commit.awaited {
            wait.execute(params![stream, key.as_str(), book.now().0])?;
        }
    }
    let mut met = 0;
    if !commit.announced.is_empty() {
        let mut meet = conn.prepare_cached("DELETE FROM awaited WHERE stream_id = ?1 AND key = ?2")?;
        for key in &commit.announced {
            met += meet.execute(params![stream, key.as_str()])? as i64;
        }
    }
    add(conn, stream, webhook, poll, met + commit.confirmed as i64)
}

/// A notice speaks of the whole stream: whatever waits for its webhook has been announced.
pub(super) fn noticed(conn: &Connection, stream: i64) -> rusqlite::Result<()> {
    let met = conn.prepare_cached("DELETE FROM awaited WHERE stream_id = ?1")?.execute([stream])?;
    add(conn, stream, 0, 0, met as i64)
}

fn add(conn: &Connection, stream: i64, webhook: i64, poll: i64, both: i64) -> rusqlite::Result<()> {
    if webhook + poll + both == 0 {
        return Ok(());
    }
    conn.prepare_cached(
        "UPDATE stream SET by_webhook = by_webhook + ?2, by_poll = by_poll + ?3, by_both = by_both + ?4, \
         announced_in_row = announced_in_row + max(?2, ?4) WHERE id = ?1",
    )?
    .execute([stream, webhook, poll, both])?;
    Ok(())
}

/// What waited too long for its webhook was recovered by the poll: the webhooks are not healthy.
pub(super) fn recover(conn: &Connection, book: &Book, stream: i64) -> rusqlite::Result<()> {
    let before = book.now().minus(ANNOUNCED_WITHIN).0;
    let sql = "DELETE FROM awaited WHERE stream_id = ?1 AND seen_at < ?2";
    let recovered = conn.prepare_cached(sql)?.execute([stream, before])?;
    if recovered > 0 {
        let sql = "UPDATE stream SET recovered = recovered + ?2, announced_in_row = 0 WHERE id = ?1";
        conn.prepare_cached(sql)?.execute([stream, recovered as i64])?;
    }
    Ok(())
}
