//! How streams, handlers and the inbox stand: the counts and times behind `status`, dashboard and metrics.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::own::SOURCE as OWN;
use super::rows::{self, ATTEMPT_COLUMNS, STREAM_COLUMNS, STREAM_WIDTH};
use super::temporary;
use super::writer::Outcome;
use crate::model::HandlerName;
use crate::store::{HandlerStatus, InboxStatus, Score, StreamStatus};

/// By whom a stream `t` of a source `s` is not polled, and why: a person, or Ringback by itself.
const PAUSED: &str = "CASE WHEN s.paused_by IS NOT NULL THEN s.paused_by WHEN ifnull(s.new_address, t.rests) IS NOT NULL THEN 'ringback' END, \
     CASE WHEN s.paused_by IS NOT NULL THEN s.paused_reason WHEN s.new_address IS NOT NULL THEN 'its base_url was ' || s.address || \
     ' when its state was stored and is ' || s.new_address || ' now: `ringback source keep ' || s.name || '` or `source reset`' ELSE t.rests END";

pub(super) fn streams(conn: &Connection) -> Outcome<Vec<StreamStatus>> {
    let sql = format!(
        "SELECT {STREAM_COLUMNS}, t.polled AND t.configured, {PAUSED}, t.next_poll_at, t.live, t.last_result, \
         t.last_records, t.last_changes, t.last_duration, t.last_error, (SELECT count(*) FROM set_aside a WHERE a.stream_id = t.id), \
         t.by_webhook, t.by_poll, t.by_both, t.recovered \
         FROM stream t JOIN source s ON s.id = t.source_id WHERE s.name <> '{OWN}' ORDER BY s.name, t.name"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let streams = select.query_map([], |row| {
        let at = |column: usize| STREAM_WIDTH + column;
        let polled = row.get(at(0))?;
        Ok(StreamStatus {
            state: rows::stream_state(row)?,
            polled,
            paused: rows::paused(row, at(1))?,
            next_poll_at: rows::time_opt(row, at(3))?.filter(|_| polled),
            records: rows::number(row, at(4))?,
            last_result: rows::coded_opt(row, at(5))?,
            last_records: rows::number(row, at(6))?,
            last_changes: rows::number(row, at(7))?,
            last_duration: Duration::from_micros(rows::number(row, at(8))?),
            last_error: row.get(at(9))?,
            set_aside: rows::number(row, at(10))?,
            score: Score {
                webhook: rows::number(row, at(11))?,
                poll: rows::number(row, at(12))?,
                both: rows::number(row, at(13))?,
                recovered: rows::number(row, at(14))?,
            },
        })
    })?;
    Ok(streams.collect::<rusqlite::Result<_>>()?)
}

/// Of a long backlog both ends are looked at: what waits for its first attempt stands in front, by its age; what is tried again, behind.
/// What is replayed stands apart.
const SELECT_OLDEST: &str = "SELECT min(at) FROM ( \
     SELECT * FROM (SELECT first_due_at AS at FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 \
     AND replay = 0 ORDER BY due_at, first_due_at LIMIT 500) \
     UNION ALL SELECT * FROM (SELECT first_due_at AS at FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 \
     AND replay = 0 ORDER BY due_at DESC, first_due_at DESC LIMIT 500) \
     UNION ALL SELECT * FROM (SELECT first_due_at AS at FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 \
     AND replay = 1 ORDER BY due_at, first_due_at LIMIT 500))";

pub(super) fn handlers(conn: &Connection, claimed: &HashMap<i64, i64>) -> Outcome<Vec<HandlerStatus>> {
    let sql = "SELECT id, name, configured, enabled, paused_by, paused_reason, wait_until, pending, held, delivered, failed, \
               last_attempt, strain, name, pattern, target, refused FROM handler \
               WHERE pattern IS NULL OR target IS NOT NULL ORDER BY name";
    let last = format!("SELECT {ATTEMPT_COLUMNS} FROM attempt a WHERE a.seq = ?1");
    let mut last = conn.prepare_cached(&last)?;
    let mut oldest = conn.prepare_cached(SELECT_OLDEST)?;
    let mut select = conn.prepare_cached(sql)?;
    let handlers = select.query_map([], |row| {
        let id: i64 = row.get(0)?;
        let (configured, enabled): (bool, bool) = (row.get(2)?, row.get(3)?);
        let paused = rows::paused(row, 4)?;
        let open = configured && enabled && paused.is_none();
        let working = claimed.values().filter(|handler| **handler == id).count() as u64;
        let waiting = rows::number(row, 7)?.saturating_sub(working);
        let attempt: Option<i64> = row.get(11)?;
        Ok(HandlerStatus {
            name: HandlerName::from(row.get::<_, String>(1)?),
            configured,
            temporary: temporary::read(row, 13)?,
            paused,
            wait_until: rows::time_opt(row, 6)?,
            strain: rows::small(row, 12)?,
            pending: if open { waiting } else { 0 },
            claimed: working,
            delivered: rows::number(row, 9)?,
            failed: rows::number(row, 10)?,
            held: rows::number(row, 8)? + if open { 0 } else { waiting },
            oldest_pending_at: oldest.query_row([id], |row| rows::time_opt(row, 0))?,
            last_attempt: match attempt {
                Some(seq) => last.query_row([seq], rows::attempt).optional()?,
                None => None,
            },
        })
    })?;
    Ok(handlers.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn inbox(conn: &Connection) -> Outcome<InboxStatus> {
    let count =
        |sql: &str| -> rusqlite::Result<u64> { conn.prepare_cached(sql)?.query_row([], |row| rows::number(row, 0)) };
    let oldest = "SELECT min(received_at) FROM inbound WHERE id = \
                  (SELECT min(id) FROM inbound INDEXED BY inbound_pending WHERE state = 0)";
    Ok(InboxStatus {
        pending: count("SELECT count(*) FROM inbound INDEXED BY inbound_pending WHERE state = 0")?,
        ignored: count("SELECT count(*) FROM inbound WHERE state = 2 AND state > 1")?,
        unreadable: count("SELECT count(*) FROM inbound WHERE state = 3 AND state > 1")?,
        oldest_pending_at: conn.prepare_cached(oldest)?.query_row([], |row| rows::time_opt(row, 0))?,
    })
}
