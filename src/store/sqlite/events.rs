//! Events, their deliveries and attempts, as they are read: one by one for a delivery, in pages for commands, as lines for
//! `tail`. What a delivery is shown as follows from its row, its handler and whether a worker has it now.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params, params_from_iter};

use super::chosen::{self, Wanted};
use super::rows::{self, ATTEMPT_COLUMNS, DELIVERED, FAILED, HELD};
use super::writer::Outcome;
use crate::model::{DeliveryState, Event, EventId, HandlerName, HoldReason, Key, SourceName, StreamName};
use crate::store::{
    DeliveryDetail, EventDetail, EventFilter, EventPage, EventSummary, StoreError, TailLine, TailPage, TailPosition,
};

/// Events of a page when the caller names no limit.
const PAGE: usize = 50;

const SELECT_EVENT: &str = "SELECT e.id, e.event_type, e.kind, s.name, e.key, e.revision, e.time, e.seen_at, e.seen_by, \
     b.data, b.previous, b.changed, e.first_sight, e.test, e.inbound_id, t.name \
     FROM event e JOIN event_body b ON b.seq = e.seq JOIN stream t ON t.id = e.stream_id JOIN source s ON s.id = t.source_id \
     WHERE e.seq = ?1";

/// A whole event, and the inbound it came with.
pub(super) fn load(conn: &Connection, seq: i64) -> rusqlite::Result<(Event, Option<i64>)> {
    conn.prepare_cached(SELECT_EVENT)?.query_row([seq], |row| {
        let event = Event {
            id: EventId::from(row.get_ref(0)?.as_str()?),
            event_type: row.get(1)?,
            kind: rows::coded(row, 2)?,
            stream: StreamName::new(row.get_ref(3)?.as_str()?, row.get_ref(15)?.as_str()?),
            key: Key::from(row.get_ref(4)?.as_str()?),
            revision: rows::number(row, 5)?,
            time: rows::time(row, 6)?,
            seen_at: rows::time(row, 7)?,
            seen_by: rows::coded(row, 8)?,
            data: rows::blob(row, 9)?,
            previous: rows::blob(row, 10)?,
            changed: rows::blob(row, 11)?,
            first_sight: row.get(12)?,
            test: row.get(13)?,
        };
        Ok((event, row.get(14)?))
    })
}

/// What a look at deliveries needs beside their rows.
pub(super) struct View {
    handlers: HashMap<i64, (HandlerName, Option<HoldReason>)>,
    streams: HashMap<i64, StreamName>,
    /// Deliveries in work, with their handlers.
    claimed: HashMap<i64, i64>,
}

impl View {
    pub(super) fn read(conn: &Connection, claimed: HashMap<i64, i64>) -> rusqlite::Result<View> {
        let sql = "SELECT id, name, CASE WHEN configured = 0 THEN 1 WHEN enabled = 0 OR paused_by IS NOT NULL THEN 0 END FROM handler";
        let handlers = conn
            .prepare_cached(sql)?
            .query_map([], |row| {
                Ok((row.get(0)?, (HandlerName::from(row.get::<_, String>(1)?), rows::coded_opt(row, 2)?)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let sql = "SELECT t.id, s.name, t.name FROM stream t JOIN source s ON s.id = t.source_id";
        let streams = conn
            .prepare_cached(sql)?
            .query_map([], |row| {
                Ok((row.get(0)?, StreamName::new(row.get::<_, String>(1)?, row.get_ref(2)?.as_str()?)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(View { handlers, streams, claimed })
    }

    fn stream(&self, id: i64) -> rusqlite::Result<StreamName> {
        self.streams.get(&id).cloned().ok_or(rusqlite::Error::IntegralValueOutOfRange(0, id))
    }

    /// Streams of these names, each absent one being every name.
    pub(super) fn streams_of(&self, source: Option<&SourceName>, stream: Option<&str>) -> Vec<i64> {
        let of = |name: &StreamName| {
            source.is_none_or(|source| *source == name.source) && stream.is_none_or(|stream| *stream == *name.stream)
        };
        self.streams.iter().filter(|(_, name)| of(name)).map(|(id, _)| *id).collect()
    }

    pub(super) fn handler_of(&self, name: &HandlerName) -> Option<i64> {
        self.handlers.iter().find_map(|(id, (known, _))| (known == name).then_some(*id))
    }

    /// Those that came with a replay to an address.
    pub(super) fn temporaries(&self) -> impl Iterator<Item = i64> {
        self.handlers.iter().filter(|(_, (name, _))| name.replay().is_some()).map(|(id, _)| *id)
    }

    /// Whether a worker has this delivery now.
    pub(super) fn works_on(&self, seq: i64) -> bool {
        self.claimed.contains_key(&seq)
    }

    fn handler(&self, id: i64) -> rusqlite::Result<HandlerName> {
        let known = self.handlers.get(&id).map(|(name, _)| name.clone());
        known.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, id))
    }

    /// State and reason of a delivery as people see them.
    fn show(
        &self,
        seq: i64,
        handler: i64,
        state: i64,
        hold: Option<HoldReason>,
    ) -> (DeliveryState, Option<HoldReason>) {
        match state {
            DELIVERED => (DeliveryState::Delivered, None),
            FAILED => (DeliveryState::Failed, None),
            HELD => (DeliveryState::Held, hold),
            _ if self.claimed.contains_key(&seq) => (DeliveryState::Claimed, None),
            _ => match self.handlers.get(&handler).and_then(|(_, hold)| *hold) {
                Some(hold) => (DeliveryState::Held, Some(hold)),
                None => (DeliveryState::Pending, None),
            },
        }
    }

    /// An SQL condition on `d` that is [`View::show`] the other way round.
    pub(super) fn condition(&self, state: DeliveryState) -> String {
        let list = |ids: &mut dyn Iterator<Item = i64>| ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        let claimed = list(&mut self.claimed.keys().copied());
        let closed = list(&mut self.handlers.iter().filter(|(_, (_, hold))| hold.is_some()).map(|(id, _)| *id));
        match state {
            DeliveryState::Delivered => "d.state = 3".into(),
            DeliveryState::Failed => "d.state = 4".into(),
            DeliveryState::Claimed => format!("d.state < 2 AND d.seq IN ({claimed})"),
            DeliveryState::Held => {
                format!("(d.state = 2 OR (d.state < 2 AND d.handler_id IN ({closed}) AND d.seq NOT IN ({claimed})))")
            }
            DeliveryState::Pending => {
                format!("d.state < 2 AND d.handler_id NOT IN ({closed}) AND d.seq NOT IN ({claimed})")
            }
        }
    }
}

/// Deliveries of an event `e`: those made with it and its replays, under a further condition on `d`.
const OF_EVENT: &str = "SELECT {columns} FROM delivery d WHERE d.seq >= e.first_delivery \
     AND d.seq < e.first_delivery + e.delivery_count{condition} \
     UNION ALL SELECT {columns} FROM delivery d INDEXED BY delivery_replay WHERE d.event_seq = e.seq AND d.replay = 1{condition}";

pub(super) fn of_event(columns: &str, condition: &str) -> String {
    OF_EVENT.replace("{columns}", columns).replace("{condition}", condition)
}

/// What [`summary`] reads, in its order, from `event e`.
const SUMMARY_COLUMNS: &str = "e.seq, e.id, e.event_type, e.stream_id, e.key, e.revision, e.time, e.seen_at";

fn summary(conn: &Connection, view: &View, row: &SqlRow<'_>) -> rusqlite::Result<EventSummary> {
    Ok(EventSummary {
        id: EventId::from(row.get_ref(1)?.as_str()?),
        event_type: row.get(2)?,
        stream: view.stream(row.get(3)?)?,
        key: Key::from(row.get_ref(4)?.as_str()?),
        revision: rows::number(row, 5)?,
        time: rows::time(row, 6)?,
        seen_at: rows::time(row, 7)?,
        deliveries: states(conn, view, row.get(0)?)?,
    })
}

fn states(conn: &Connection, view: &View, event: i64) -> rusqlite::Result<Vec<(HandlerName, DeliveryState)>> {
    let sql = deliveries_sql("d.seq, d.handler_id, d.state, d.hold");
    let mut select = conn.prepare_cached(&sql)?;
    let found = select.query_map([event], |row| {
        let (seq, handler, state) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((view.handler(handler)?, view.show(seq, handler, state, rows::coded_opt(row, 3)?).0))
    })?;
    found.collect()
}

pub(super) fn page(conn: &Connection, view: &View, filter: &EventFilter) -> Outcome<EventPage> {
    let mut chosen = chosen::choose(&Wanted::of(filter, view), view);
    if let Some(after) = &filter.after {
        let seq: i64 = after.parse().map_err(|_| StoreError::Conflict)?;
        chosen.sql.push_str(" AND e.seq < ?");
        chosen.values.push(seq.into());
    }
    let limit = if filter.limit == 0 { PAGE } else { filter.limit };
    let sql = format!("SELECT {SUMMARY_COLUMNS} FROM event e WHERE {} ORDER BY e.seq DESC", chosen.sql);
    let mut select = conn.prepare(&sql)?;
    let mut found = select.query(params_from_iter(chosen.values))?;
    let (mut events, mut last) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        if events.len() == limit {
            return Ok(EventPage { events, next: Some(format!("{last}")) });
        }
        last = row.get::<_, i64>(0)?;
        events.push(summary(conn, view, row)?);
    }
    Ok(EventPage { events, next: None })
}

pub(super) fn detail(conn: &Connection, view: &View, id: &EventId) -> Outcome<Option<EventDetail>> {
    let mut find = conn.prepare_cached("SELECT seq FROM event WHERE id = ?1")?;
    let Some(seq) = find.query_row([id.as_str()], |row| row.get::<_, i64>(0)).optional()? else { return Ok(None) };
    let (event, _) = load(conn, seq)?;
    let columns = "d.seq, d.handler_id, d.state, d.hold, d.replay, d.counted, d.due_at";
    let mut select = conn.prepare_cached(&deliveries_sql(columns))?;
    let deliveries = select.query_map([seq], |row| {
        let (seq, handler, stored): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (state, hold) = view.show(seq, handler, stored, rows::coded_opt(row, 3)?);
        let due =
            (stored == rows::PENDING && state == DeliveryState::Pending).then(|| rows::time(row, 6)).transpose()?;
        Ok(DeliveryDetail {
            handler: view.handler(handler)?,
            state,
            hold,
            replay: row.get(4)?,
            counted: rows::small(row, 5)?,
            next_attempt_at: due,
            attempts: attempts(conn, seq)?,
        })
    })?;
    Ok(Some(EventDetail { event, deliveries: deliveries.collect::<rusqlite::Result<_>>()? }))
}

fn attempts(conn: &Connection, delivery: i64) -> rusqlite::Result<Vec<crate::model::Attempt>> {
    let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM attempt a WHERE a.delivery_seq = ?1 ORDER BY a.seq");
    conn.prepare_cached(&sql)?.query_map([delivery], rows::attempt)?.collect()
}

/// Deliveries of the event `?1`, oldest first.
pub(super) fn deliveries_sql(columns: &str) -> String {
    format!(
        "SELECT {columns} FROM delivery d WHERE d.seq IN (SELECT o.seq FROM event e JOIN delivery o ON o.seq >= e.first_delivery \
         AND o.seq < e.first_delivery + e.delivery_count WHERE e.seq = ?1 \
         UNION ALL SELECT o.seq FROM delivery o INDEXED BY delivery_replay WHERE o.event_seq = ?1 AND o.replay = 1) ORDER BY d.seq"
    )
}

// ---- tail ----

pub(super) fn tail(conn: &Connection, view: &View, after: Option<&TailPosition>, limit: usize) -> Outcome<TailPage> {
    let from: i64 = match after {
        Some(position) => position.0.parse().map_err(|_| StoreError::Conflict)?,
        None => 0,
    };
    let sql = format!(
        "SELECT {ATTEMPT_COLUMNS}, a.seq, a.number, a.state, a.next_attempt_at, d.handler_id, d.event_seq \
         FROM attempt a JOIN delivery d ON d.seq = a.delivery_seq WHERE a.seq > ?1 ORDER BY a.seq LIMIT ?2"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let mut find_event = conn.prepare_cached(&format!("SELECT {SUMMARY_COLUMNS} FROM event e WHERE e.seq = ?1"))?;
    let mut found = select.query(params![from, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let (mut lines, mut last) = (Vec::new(), from);
    while let Some(row) = found.next()? {
        last = row.get(7)?;
        let state: i64 = row.get(9)?;
        lines.push(TailLine {
            event: find_event.query_row([row.get::<_, i64>(12)?], |event| summary(conn, view, event))?,
            handler: view.handler(row.get(11)?)?,
            state: after_attempt(state),
            number: rows::small(row, 8)?,
            next_attempt_at: rows::time_opt(row, 10)?,
            attempt: rows::attempt(row)?,
        });
    }
    let next = (last > 0).then(|| TailPosition(last.to_string()));
    Ok(TailPage { lines, next })
}

/// What a delivery came to by an attempt; nobody holds it right then.
fn after_attempt(state: i64) -> DeliveryState {
    match state {
        HELD => DeliveryState::Held,
        DELIVERED => DeliveryState::Delivered,
        FAILED => DeliveryState::Failed,
        _ => DeliveryState::Pending,
    }
}

pub(super) fn tail_start(conn: &Connection, lines: usize) -> Outcome<Option<TailPosition>> {
    let sql = "SELECT seq FROM attempt ORDER BY seq DESC LIMIT 1 OFFSET ?1";
    let mut select = conn.prepare_cached(sql)?;
    let found: Option<i64> =
        select.query_row([i64::try_from(lines).unwrap_or(i64::MAX)], |row| row.get(0)).optional()?;
    Ok(found.map(|seq| TailPosition(seq.to_string())))
}
