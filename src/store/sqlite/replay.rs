//! Sending stored events again: new deliveries beside the old ones, outside every order (RULES R7.4).
//!
//! A replay may be of a million events, so no part of it is one long piece of work for the writer: what it comes to is counted on the
//! reading side, its deliveries are made in small batches, and what is cancelled is taken back in small batches (`taken_back`). How
//! far it is, is written down with each batch.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::book::{Book, Numbered};
use super::chosen::{self, Wanted};
use super::deliver::Inserter;
use super::events::{self, View};
use super::events_in;
use super::writer::Outcome;
use super::{rows, temporary};
use crate::model::{HandlerName, Timestamp};
use crate::store::{Replay, ReplayPlan, ReplayTo, StoreError, Topic};

/// Events that one look chooses at most.
pub(super) const LOOK: usize = 5_000;
/// Deliveries that one transaction makes, or takes back, at most; those of one event stay together.
pub(super) const BATCH: usize = 500;

/// Which events go to whom.
#[derive(Clone, Debug)]
pub(super) struct Order {
    wanted: Wanted,
    /// None: to each handler that had the event.
    to: Option<i64>,
    /// What comes later, this very replay's copies among it, takes no part.
    until: i64,
    /// Events at most, counted from the first.
    limit: Option<u64>,
}

impl Order {
    pub(super) fn of(conn: &Connection, view: &View, replay: &Replay) -> Outcome<Order> {
        let until: Option<i64> = conn.prepare_cached("SELECT max(seq) FROM event")?.query_row([], |row| row.get(0))?;
        Ok(Order {
            wanted: Wanted::of(&replay.events, view),
            // Whoever has no number yet has had nothing; it gets one when the replay starts.
            to: match &replay.to {
                ReplayTo::ThoseThatHad => None,
                ReplayTo::Handler(name) => Some(view.handler_of(name).unwrap_or_default()),
                ReplayTo::Address { .. } => Some(0),
            },
            until: until.unwrap_or(0) + 1,
            limit: Some(replay.events.limit as u64).filter(|limit| *limit > 0),
        })
    }
}

/// An event that is sent again.
pub(super) struct Again {
    event: i64,
    seen_at: Timestamp,
    bytes: u64,
    to: Vec<i64>,
}

/// What one look chose.
pub(super) struct Part {
    pub(super) events: Vec<Again>,
    /// Where the next look goes on; None: there is nothing more.
    pub(super) next: Option<i64>,
}

/// The next events of a replay behind `after`, `taken` being those before.
pub(super) fn look(conn: &Connection, view: &View, order: &Order, after: i64, taken: u64) -> Outcome<Part> {
    let left = order.limit.map_or(u64::MAX, |limit| limit.saturating_sub(taken));
    let most = left.min(LOOK as u64) as usize;
    let chosen = chosen::choose(&order.wanted, view);
    let sql = format!(
        "SELECT e.seq, e.seen_at, ifnull(length(b.data), 0) FROM event e JOIN event_body b ON b.seq = e.seq \
         WHERE e.seq > {after} AND e.seq < {} AND {} ORDER BY e.seq LIMIT {most}",
        order.until, chosen.sql
    );
    // Whoever had the event and lasts; of a filter that names handler or state, only those that it names.
    let temporary: Vec<String> = view.temporaries().map(|id| id.to_string()).collect();
    let lasting = format!("{} AND d.handler_id NOT IN ({})", chosen.deliveries, temporary.join(","));
    let had = events::deliveries_sql("DISTINCT d.handler_id").replace(" ORDER BY d.seq", &lasting);
    let mut handlers = conn.prepare(&had)?;
    let mut select = conn.prepare(&sql)?;
    let mut found = select.query(params_from_iter(chosen.values))?;
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        let event = row.get(0)?;
        let to = match order.to {
            Some(handler) => vec![handler],
            None => handlers.query_map([event], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?,
        };
        events.push(Again { event, seen_at: rows::time(row, 1)?, bytes: rows::number(row, 2)?, to });
    }
    let ended = events.len() < most || events.len() as u64 == left;
    Ok(Part { next: events.last().map(|last| last.event).filter(|_| !ended), events })
}

impl Part {
    pub(super) fn count(&self, plan: &mut ReplayPlan) {
        for again in &self.events {
            plan.events += 1;
            plan.deliveries += again.to.len() as u64;
            plan.bytes += again.bytes * again.to.len() as u64;
            plan.oldest = plan.oldest.into_iter().chain([again.seen_at]).min();
            plan.newest = plan.newest.max(Some(again.seen_at));
        }
    }

    /// Cut into pieces for one transaction each, with the place at which the replay goes on after each.
    pub(super) fn batches(self) -> Vec<Batch> {
        let (mut batches, mut open, mut deliveries) = (Vec::new(), Vec::new(), 0);
        for again in self.events {
            deliveries += again.to.len();
            let position = again.event;
            open.push(again);
            if deliveries >= BATCH || open.len() >= BATCH {
                batches.push(Batch { events: std::mem::take(&mut open), next: Some(position) });
                deliveries = 0;
            }
        }
        match batches.last_mut() {
            Some(last) if open.is_empty() => last.next = self.next,
            _ => batches.push(Batch { events: open, next: self.next }),
        }
        batches
    }
}

/// What one transaction adds to a replay.
pub(super) struct Batch {
    events: Vec<Again>,
    /// Where the replay goes on after it; None: it is whole.
    pub(super) next: Option<i64>,
}

// ---- jobs that are being made ----

/// A replay that is not whole yet.
pub(super) struct Unmade {
    pub(super) job: i64,
    pub(super) order: Order,
    pub(super) position: i64,
    pub(super) events: u64,
}

const INSERT_JOB: &str = "INSERT INTO replay_job (started_at, asked_by, handler, handler_id, fresh, events, delivery_count, last_due_at, wanted, \
     position, until_event, event_limit, spacing, expected) VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?1, ?6, 0, ?7, ?8, ?9, ?10)";

/// Writes down what was asked for, with the handler of its address; its deliveries are made from then on.
pub(super) fn start(
    conn: &Connection,
    book: &mut Book,
    replay: &Replay,
    order: &Order,
    expected: u64,
) -> Outcome<(i64, Option<HandlerName>)> {
    let named = match &replay.to {
        ReplayTo::Handler(name) => Some(name),
        ReplayTo::ThoseThatHad | ReplayTo::Address { .. } => None,
    };
    let handler = named.map(|name| book.handler(conn, name)).transpose()?;
    let wanted = serde_json::to_string(&order.wanted).map_err(|error| StoreError::Broken(error.to_string()))?;
    conn.prepare_cached(INSERT_JOB)?.execute(params![
        book.now().0,
        replay.by,
        named.map(HandlerName::as_str),
        handler,
        replay.fresh_ids,
        wanted,
        order.until,
        order.limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        i64::try_from(replay.spacing.as_millis()).unwrap_or(i64::MAX),
        expected as i64
    ])?;
    let job = conn.last_insert_rowid();
    let temporary = match &replay.to {
        ReplayTo::Address { like, url } => Some(temporary::make(conn, book, job, like, url)?),
        ReplayTo::Handler(_) | ReplayTo::ThoseThatHad => None,
    };
    book.rings(Topic::Replays);
    Ok((job, temporary))
}

/// This replay, or the one that lacks least, if it is not whole: a short one does not wait behind a long one.
pub(super) fn unmade(conn: &Connection, job: Option<i64>) -> Outcome<Option<Unmade>> {
    let sql = "SELECT id, wanted, handler_id, until_event, event_limit, position, events FROM replay_job \
               WHERE position IS NOT NULL AND id = ifnull(?1, id) ORDER BY expected - delivery_count, id LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| {
        let wanted: Option<String> = row.get(1)?;
        let limit: Option<i64> = row.get(4)?;
        let order = Order {
            wanted: serde_json::from_str(&wanted.unwrap_or_default()).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
            })?,
            to: row.get(2)?,
            until: row.get(3)?,
            limit: limit.map(|limit| limit as u64),
        };
        Ok(Unmade { job: row.get(0)?, order, position: row.get(5)?, events: rows::number(row, 6)? })
    };
    Ok(conn.prepare_cached(sql)?.query_row([job], read).optional()?)
}

/// Makes the deliveries of one batch. False: somebody cancelled the replay or made this batch meanwhile.
pub(super) fn make(conn: &Connection, book: &mut Book, job: i64, from: i64, batch: &Batch) -> Outcome<bool> {
    let sql = "SELECT fresh, spacing, delivery_count, last_due_at FROM replay_job WHERE id = ?1 AND position = ?2";
    let found = conn.prepare_cached(sql)?.query_row([job, from], |row| {
        Ok((row.get::<_, bool>(0)?, rows::number(row, 1)?, rows::number(row, 2)?, rows::time(row, 3)?))
    });
    let Some((fresh, spacing, made, mut due)) = found.optional()? else { return Ok(false) };
    let spacing = Duration::from_millis(spacing);
    let mut inserter = Inserter::new(conn)?;
    let mut there = conn.prepare_cached("SELECT 1 FROM event WHERE seq = ?1")?;
    let (mut events, mut deliveries) = (0, 0);
    for again in &batch.events {
        // It may have been pruned since the look.
        if !there.exists([again.event])? {
            continue;
        }
        let sent = match fresh && !again.to.is_empty() {
            true => copy(conn, book, again.event)?,
            false => again.event,
        };
        for handler in &again.to {
            if made + deliveries > 0 {
                due = due.plus(spacing);
            }
            inserter.replay(book, sent, *handler, job, due)?;
            deliveries += 1;
        }
        events += 1;
    }
    let sql = "UPDATE replay_job SET events = events + ?2, delivery_count = delivery_count + ?3, last_due_at = ?4, position = ?5 WHERE id = ?1";
    conn.prepare_cached(sql)?.execute(params![job, events, deliveries as i64, due.0, batch.next])?;
    // One that came to nothing is at its end, which no delivery tells.
    if batch.next.is_none() {
        book.rings(Topic::Replays);
    }
    Ok(true)
}

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
    let mut bytes = [0_u8; 26];
    getrandom::fill(&mut bytes).ok()?;
    Some(events_in::id_of(bytes))
}
