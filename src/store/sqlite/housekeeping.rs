//! Retention in small batches, optimising, and figures about the database itself (RULES R9).

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::events::deliveries_sql;
use super::open::beside;
use super::rows;
use super::writer::Outcome;
use super::{decided, reset};
use crate::model::{SourceName, Timestamp};
use crate::store::{Prune, StoreStats};

pub(super) fn prune(conn: &Connection, book: &mut Book, prune: &Prune) -> Outcome<bool> {
    let limit = prune.limit.max(1);
    book.keep_numbers(conn)?;
    let (events, more_events) = prune_events(conn, book, prune, limit)?;
    let left = limit.saturating_sub(events).max(1);
    let (inbounds, more_inbounds) = prune_inbounds(conn, book, prune, left)?;
    let left = left.saturating_sub(inbounds).max(1);
    let more_ids = prune_message_ids(conn, prune.message_ids_before, left)?;
    let more_tombstones = reset::prune_tombstones(conn, prune.tombstones_before, left)?;
    super::temporary::prune(conn, book, prune.events_before)?;
    super::replay_job::prune(conn, prune.events_before)?;
    let more_decisions = decided::prune(conn, book.now(), left)?;
    Ok(more_events || more_inbounds || more_ids || more_tombstones || more_decisions)
}

/// Until when the events and inbounds of sources are kept that say so themselves, by number.
fn of_sources(book: &Book, prune: &Prune) -> HashMap<i64, Timestamp> {
    let known = |(name, before): &(SourceName, Timestamp)| book.sources.get(name).map(|id| (*id, *before));
    prune.of_sources.iter().filter_map(known).collect()
}

/// An event goes when nothing of it is unsettled and its last settling (or its arrival, without deliveries) is old enough.
fn prune_events(conn: &Connection, book: &mut Book, prune: &Prune, limit: usize) -> rusqlite::Result<(usize, bool)> {
    let own = of_sources(book, prune);
    let youngest = own.values().copied().chain([prune.events_before]).max().unwrap_or_default();
    let sql = "SELECT e.seq, e.seen_at, t.source_id FROM event e JOIN stream t ON t.id = e.stream_id \
               WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?2";
    let mut select = conn.prepare_cached(sql)?;
    let found: Vec<(i64, i64, i64)> = select
        .query_map(params![book.prune_from, limit as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let full = found.len() == limit;
    let mut removed = 0;
    for (seq, seen_at, source) in found {
        if seen_at >= youngest.0 {
            // Later events are younger still.
            book.prune_from = 0;
            return Ok((removed, false));
        }
        let before = own.get(&source).copied().unwrap_or(prune.events_before);
        if seen_at < before.0 && remove_event(conn, book, seq, before)? {
            removed += 1;
        }
        book.prune_from = seq;
    }
    if !full {
        book.prune_from = 0;
    }
    Ok((removed, full))
}

fn remove_event(conn: &Connection, book: &mut Book, event: i64, before: Timestamp) -> rusqlite::Result<bool> {
    let mut select = conn.prepare_cached(&deliveries_sql("d.seq, d.handler_id, d.state, d.settled_at"))?;
    let deliveries: Vec<(i64, i64, i64, Option<i64>)> = select
        .query_map([event], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let kept = |&(_, _, state, settled): &(i64, i64, i64, Option<i64>)| {
        state < rows::DELIVERED || settled.is_none_or(|at| at >= before.0)
    };
    if deliveries.iter().any(kept) {
        return Ok(false);
    }
    let mut attempts = conn.prepare_cached("DELETE FROM attempt WHERE delivery_seq = ?1")?;
    let mut delivery = conn.prepare_cached("DELETE FROM delivery WHERE seq = ?1")?;
    for (seq, handler, state, _) in deliveries {
        attempts.execute([seq])?;
        delivery.execute([seq])?;
        book.tally(handler).add(state, -1);
    }
    conn.prepare_cached("DELETE FROM event WHERE seq = ?1")?.execute([event])?;
    conn.prepare_cached("DELETE FROM event_body WHERE seq = ?1")?.execute([event])?;
    Ok(true)
}

/// Settled inbounds go, but not one that a stored event came with: a `native` replay sends it again.
fn prune_inbounds(conn: &Connection, book: &mut Book, prune: &Prune, limit: usize) -> rusqlite::Result<(usize, bool)> {
    let own = of_sources(book, prune);
    let youngest = own.values().copied().chain([prune.inbounds_before]).max().unwrap_or_default();
    let sql = "SELECT i.id, i.received_at, i.source_id, i.state = 0 OR EXISTS (SELECT 1 FROM event e WHERE e.inbound_id = i.id) \
               FROM inbound i WHERE i.id > ?1 ORDER BY i.id LIMIT ?2";
    let mut select = conn.prepare_cached(sql)?;
    let found: Vec<(i64, i64, i64, bool)> = select
        .query_map(params![book.prune_inbounds_from, limit as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let full = found.len() == limit;
    let mut removed = 0;
    for (id, received_at, source, needed) in found {
        if received_at >= youngest.0 {
            book.prune_inbounds_from = 0;
            return Ok((removed, false));
        }
        if !needed && received_at < own.get(&source).copied().unwrap_or(prune.inbounds_before).0 {
            conn.prepare_cached("DELETE FROM inbound WHERE id = ?1")?.execute([id])?;
            conn.prepare_cached("DELETE FROM inbound_body WHERE id = ?1")?.execute([id])?;
            removed += 1;
        }
        book.prune_inbounds_from = id;
    }
    if !full {
        book.prune_inbounds_from = 0;
    }
    Ok((removed, full))
}

fn prune_message_ids(conn: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<bool> {
    // In order of receipt: the first that is young ends the search. A pending inbound still needs its id.
    let sql = "SELECT m.id, m.received_at FROM inbound_message m WHERE NOT EXISTS \
               (SELECT 1 FROM inbound i WHERE i.id = m.id AND i.state = 0) ORDER BY m.id LIMIT ?1";
    let mut select = conn.prepare_cached(sql)?;
    let found: Vec<(i64, i64)> =
        select.query_map([limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut delete = conn.prepare_cached("DELETE FROM inbound_message WHERE id = ?1")?;
    let full = found.len() == limit;
    for (id, received_at) in found {
        if received_at >= before.0 {
            return Ok(false);
        }
        delete.execute([id])?;
    }
    Ok(full)
}

pub(super) fn optimise(conn: &Connection) -> Outcome<()> {
    let mut optimise = conn.prepare_cached("PRAGMA optimize")?;
    let mut ran = optimise.query([])?;
    while ran.next()?.is_some() {}
    Ok(())
}

pub(super) fn stats(conn: &Connection, path: &Path) -> Outcome<StoreStats> {
    let count = |sql: &str| -> rusqlite::Result<u64> {
        Ok(conn
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, Option<i64>>(0))
            .optional()?
            .flatten()
            .unwrap_or(0) as u64)
    };
    let size = |suffix: &str| std::fs::metadata(beside(path, suffix)).map(|meta| meta.len()).unwrap_or(0);
    let disk = rustix::fs::statvfs(path).ok();
    let bytes_of =
        |blocks: fn(&rustix::fs::StatVfs) -> u64| disk.as_ref().map(|disk| blocks(disk).saturating_mul(disk.f_frsize));
    Ok(StoreStats {
        bytes: size("") + size("-wal"),
        events: count("SELECT count(*) FROM event")?,
        records: count("SELECT sum(live) FROM stream")?,
        deliveries: count("SELECT sum(pending + held + delivered + failed) FROM handler")?,
        attempts: count("SELECT count(*) FROM attempt")?,
        inbounds: count("SELECT count(*) FROM inbound")?,
        free_bytes: bytes_of(|disk| disk.f_bavail),
        disk_bytes: bytes_of(|disk| disk.f_blocks),
        version: format!("SQLite {}", rusqlite::version()),
    })
}
