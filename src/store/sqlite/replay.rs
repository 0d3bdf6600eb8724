//! Sending stored events again: new deliveries beside the old ones, outside every order (RULES R7.4).

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::book::{Book, Numbered};
use super::deliver::Inserter;
use super::events::{self, View};
use super::rows::{self, DELIVERED, FAILED, PENDING};
use super::writer::Outcome;
use crate::model::{HandlerName, Timestamp};
use crate::store::{Replay, ReplayJob, ReplayPlan, StoreError};

pub(super) fn replay(conn: &Connection, book: &mut Book, replay: &Replay) -> Outcome<ReplayPlan> {
    let now = book.now();
    let view = View::read(conn, book.claims.live(now))?;
    let chosen = events::choose(&replay.events, &view);
    let named = match &replay.handler {
        Some(name) if replay.dry_run => Some(book.handler_ids.get(name).copied().unwrap_or_default()),
        Some(name) => Some(book.handler(conn, name)?),
        None => None,
    };
    let limit =
        if replay.events.limit == 0 { i64::MAX } else { i64::try_from(replay.events.limit).unwrap_or(i64::MAX) };
    let sql = format!(
        "SELECT e.seq, e.seen_at, ifnull(length(b.data), 0) FROM event e JOIN event_body b ON b.seq = e.seq \
         WHERE e.seq < {} AND {} ORDER BY e.seq LIMIT {limit}",
        // What this very replay adds takes no part in it.
        book.peek(Numbered::Event),
        chosen.sql
    );
    // Whoever had the event; of a filter that names handler or state, only those that it names.
    let had = events::deliveries_sql("DISTINCT d.handler_id").replace(" ORDER BY d.seq", &chosen.deliveries);
    let mut handlers = conn.prepare(&had)?;
    let mut select = conn.prepare(&sql)?;
    let mut found = select.query(params_from_iter(chosen.values))?;
    let mut plan = ReplayPlan::default();
    let mut inserter = Inserter::new(conn)?;
    let (first, mut last_due) = (book.peek(Numbered::Delivery), now);
    while let Some(row) = found.next()? {
        let (seq, seen_at, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let to: Vec<i64> = match named {
            Some(handler) => vec![handler],
            None => handlers.query_map([seq], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?,
        };
        let sent = match replay.fresh_ids && !replay.dry_run && !to.is_empty() {
            true => copy(conn, book, seq)?,
            false => seq,
        };
        for handler in &to {
            if !replay.dry_run {
                let nth = u32::try_from(plan.deliveries).unwrap_or(u32::MAX);
                last_due = now.plus(replay.spacing.saturating_mul(nth));
                inserter.replay(book, sent, *handler, last_due)?;
            }
            plan.deliveries += 1;
            plan.bytes += bytes as u64;
        }
        plan.events += 1;
        plan.oldest = plan.oldest.into_iter().chain([Timestamp(seen_at)]).min();
        plan.newest = plan.newest.max(Some(Timestamp(seen_at)));
    }
    if !replay.dry_run && plan.deliveries > 0 {
        let handler = replay.handler.as_ref().map(HandlerName::as_str);
        let counts = (plan.events as i64, plan.deliveries as i64);
        conn.prepare_cached(INSERT_JOB)?.execute(params![
            now.0,
            replay.by,
            handler,
            replay.fresh_ids,
            counts.0,
            first,
            counts.1,
            last_due.0
        ])?;
        plan.job = Some(conn.last_insert_rowid() as u64);
    }
    Ok(plan)
}

const INSERT_JOB: &str = "INSERT INTO replay_job (started_at, asked_by, handler, fresh, events, first_delivery, delivery_count, last_due_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const COPY_EVENT: &str = "INSERT INTO event (seq, id, stream_id, event_type, kind, key, revision, time, seen_at, seen_by, first_sight, test, \
     fingerprint, inbound_id, first_delivery, delivery_count) \
     SELECT ?2, ?3, stream_id, event_type, kind, key, revision, time, seen_at, seen_by, first_sight, test, fingerprint, inbound_id, 0, 0 \
     FROM event WHERE seq = ?1";

/// The same event under an id of its own.
fn copy(conn: &Connection, book: &mut Book, event: i64) -> Outcome<i64> {
    let id = fresh_id().ok_or_else(|| StoreError::Busy("the system gives no random bytes".into()))?;
    let seq = book.number(Numbered::Event);
    conn.prepare_cached(COPY_EVENT)?.execute(params![event, seq, id])?;
    let body = "INSERT INTO event_body (seq, data, previous, changed) SELECT ?2, data, previous, changed FROM event_body WHERE seq = ?1";
    conn.prepare_cached(body)?.execute([event, seq])?;
    Ok(seq)
}

/// As ids are written, but drawn by chance: it follows from nothing.
fn fresh_id() -> Option<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0_u8; 26];
    getrandom::fill(&mut bytes).ok()?;
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte & 31)]));
    Some(format!("evt_{}", String::from_iter(letters)))
}

// ---- jobs ----

const SELECT_JOBS: &str = "SELECT id, started_at, asked_by, handler, fresh, events, first_delivery, delivery_count, last_due_at, cancelled_by, \
     cancelled FROM replay_job ORDER BY id DESC LIMIT ?1";

pub(super) fn jobs(conn: &Connection, limit: usize) -> Outcome<Vec<ReplayJob>> {
    let mut select = conn.prepare_cached(SELECT_JOBS)?;
    let found = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let [first, count] = [row.get::<_, i64>(6)?, row.get::<_, i64>(7)?];
        let (pending, failed) = progress(conn, first, count)?;
        let (deliveries, cancelled) = (count as u64, rows::number(row, 10)?);
        Ok(ReplayJob {
            id: rows::number(row, 0)?,
            started_at: rows::time(row, 1)?,
            by: row.get(2)?,
            to: row.get::<_, Option<String>>(3)?.map(HandlerName::from),
            fresh_ids: row.get(4)?,
            events: rows::number(row, 5)?,
            deliveries,
            pending,
            // What was settled long ago is no longer there to be counted.
            delivered: deliveries.saturating_sub(pending + failed + cancelled),
            failed,
            cancelled,
            cancelled_by: row.get(9)?,
            last_due_at: rows::time(row, 8)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Deliveries of a job that are not settled, and that failed.
fn progress(conn: &Connection, first: i64, count: i64) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT ifnull(sum(state < 3), 0), ifnull(sum(state = 4), 0) FROM delivery WHERE seq >= ?1 AND seq < ?2";
    conn.prepare_cached(sql)?
        .query_row([first, first.saturating_add(count)], |row| Ok((rows::number(row, 0)?, rows::number(row, 1)?)))
}

pub(super) fn cancel(conn: &Connection, book: &mut Book, job: u64, by: &str) -> Outcome<Option<u64>> {
    let sql = "SELECT first_delivery, first_delivery + delivery_count FROM replay_job WHERE id = ?1";
    let found: Option<[i64; 2]> =
        conn.prepare_cached(sql)?.query_row([job as i64], |row| Ok([row.get(0)?, row.get(1)?])).optional()?;
    let Some(range) = found else { return Ok(None) };
    let busy = book.claims.live(book.now());
    let sql =
        "SELECT seq, handler_id, attempts FROM delivery WHERE seq >= ?1 AND seq < ?2 AND replay = 1 AND state = 0";
    let waiting: Vec<[i64; 3]> = conn
        .prepare_cached(sql)?
        .query_map(range, |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?
        .collect::<rusqlite::Result<_>>()?;
    let mut taken = 0;
    for [seq, handler, attempts] in waiting {
        if busy.contains_key(&seq) {
            // It is being sent right now.
            continue;
        }
        give_up(conn, book, seq, handler, attempts > 0)?;
        // One that was never tried leaves nothing behind; what was tried has failed.
        taken += u64::from(attempts == 0);
    }
    let sql = "UPDATE replay_job SET cancelled = cancelled + ?2, cancelled_by = ifnull(cancelled_by, ?3) WHERE id = ?1";
    conn.prepare_cached(sql)?.execute(params![job as i64, taken as i64, by])?;
    Ok(Some(taken))
}

fn give_up(conn: &Connection, book: &mut Book, seq: i64, handler: i64, tried: bool) -> rusqlite::Result<()> {
    // A look that began before this ends must not hand it out.
    book.settled.push(seq);
    let now = book.now().0;
    let tally = book.tally(handler);
    tally.add(PENDING, -1);
    if tried {
        tally.add(FAILED, 1);
        conn.prepare_cached("UPDATE delivery SET state = 4, settled_at = ?2 WHERE seq = ?1")?.execute([seq, now])?;
    } else {
        conn.prepare_cached("DELETE FROM delivery WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(())
}

/// Jobs go with their events, once all of them is settled.
pub(super) fn prune(conn: &Connection, before: Timestamp) -> rusqlite::Result<()> {
    let sql = "DELETE FROM replay_job WHERE started_at < ?1 AND NOT EXISTS (SELECT 1 FROM delivery d \
               WHERE d.seq >= first_delivery AND d.seq < first_delivery + delivery_count AND d.state < ?2)";
    conn.prepare_cached(sql)?.execute([before.0, DELIVERED])?;
    Ok(())
}
