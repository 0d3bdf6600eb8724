//! Ringback's own events: told in the transaction of what they tell, to handlers that ask for them (`from = ["ringback"]`) and to
//! nobody else. Where nobody asks, none is made.
//!
//! Nothing here feeds itself: no handler is told of itself, a delivery of one of these events that fails is not told, and neither
//! are the problems of a handler that hears these events, as two such handlers could keep each other busy for ever.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::book::Book;
use super::claims::Claim;
use super::rows::Code;
use super::{config, events, events_in};
use crate::model::{
    Attempt, ChangeKind, Event, EventId, Fingerprint, HandlerName, ProblemKind, SeenBy, StreamName, Timestamp,
};
use crate::store::{NewEvent, Paused, Phase};

/// The source that they come from.
pub(super) const SOURCE: &str = "ringback";
const PROBLEMS: &str = "problems";
const DELIVERIES: &str = "deliveries";
const HANDLERS: &str = "handlers";
/// Of a kept answer, so much goes into the event: enough to see what the handler said.
const ANSWER_MAX: usize = 1 << 10;

/// One of Ringback's own events, before it has an id.
struct Own<'a> {
    stream: &'static str,
    event_type: &'static str,
    kind: ChangeKind,
    key: String,
    /// The handler that it speaks of.
    about: Option<&'a HandlerName>,
    data: Value,
}

/// What a closed problem was.
pub(super) struct Closed {
    pub(super) message: String,
    pub(super) opened_at: Timestamp,
    pub(super) count: u64,
}

pub(super) fn problem_opened(
    conn: &Connection,
    book: &mut Book,
    kind: ProblemKind,
    subject: &str,
    message: &str,
) -> rusqlite::Result<()> {
    let event_type = match kind {
        ProblemKind::StreamLate => "ringback.source.late",
        ProblemKind::StreamSilent => "ringback.stream.silent",
        _ => "ringback.problem.opened",
    };
    let data = json!({
        "kind": kind.as_str(), "subject": subject, "message": message, "opened_at": book.now().to_string(),
    });
    problem(conn, book, kind, subject, (event_type, ChangeKind::Created, data))
}

pub(super) fn problem_closed(
    conn: &Connection,
    book: &mut Book,
    kind: ProblemKind,
    subject: &str,
    closed: Closed,
) -> rusqlite::Result<()> {
    let data = json!({
        "kind": kind.as_str(), "subject": subject, "message": closed.message, "opened_at": closed.opened_at.to_string(),
        "closed_at": book.now().to_string(), "count": closed.count,
    });
    problem(conn, book, kind, subject, ("ringback.problem.closed", ChangeKind::Deleted, data))
}

fn problem(
    conn: &Connection,
    book: &mut Book,
    kind: ProblemKind,
    subject: &str,
    (event_type, change, data): (&'static str, ChangeKind, Value),
) -> rusqlite::Result<()> {
    // That it was paused is an event of its own.
    if kind == ProblemKind::HandlerGone {
        return Ok(());
    }
    let about = kind.tells_of_a_handler(subject).then(|| HandlerName::from(subject));
    if let (Some(herald), Some(about)) = (book.herald(), &about)
        && herald.hears(about)
    {
        return Ok(());
    }
    let key = format!("{} {subject}", kind.as_str());
    let own =
        Own { stream: PROBLEMS, event_type, kind: change, key: key.trim_end().to_owned(), about: about.as_ref(), data };
    tell(conn, book, own)
}

/// A delivery was given up with this attempt.
pub(super) fn delivery_failed(
    conn: &Connection,
    book: &mut Book,
    delivery: i64,
    claim: &Claim,
    last: &Attempt,
) -> rusqlite::Result<()> {
    if book.herald().is_none() {
        return Ok(());
    }
    let sql = "SELECT event_seq FROM delivery WHERE seq = ?1";
    let event: i64 = conn.prepare_cached(sql)?.query_row([delivery], |row| row.get(0))?;
    let (event, _) = events::load(conn, event)?;
    let Some(handler) = book.handlers.get(&claim.handler).map(|card| card.name.clone()) else { return Ok(()) };
    if event.stream.source.as_str() == SOURCE {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&last.answer[..last.answer.len().min(ANSWER_MAX)]).into_owned();
    let data = json!({
        "handler": handler.as_str(),
        "event": {
            "id": event.id.as_str(), "type": event.event_type, "source": event.stream.source.as_str(),
            "stream": &*event.stream.stream, "key": event.key.as_str(), "revision": event.revision,
            "timestamp": event.time.to_string(),
        },
        "attempts": claim.attempts + 1,
        "last": {
            "at": last.started_at.to_string(), "result": last.result.as_str(), "status": last.status, "error": last.error,
            "answer": answer,
        },
    });
    let own = Own {
        stream: DELIVERIES,
        event_type: "ringback.delivery.failed",
        kind: ChangeKind::Created,
        key: format!("{handler} {}", event.id),
        about: Some(&handler),
        data,
    };
    tell(conn, book, own)
}

/// A handler is sent nothing any more, or is sent to again.
pub(super) fn handler_paused(
    conn: &Connection,
    book: &mut Book,
    handler: &HandlerName,
    paused: Option<&Paused>,
) -> rusqlite::Result<()> {
    let (event_type, data) = match paused {
        Some(Paused { by, reason }) => {
            ("ringback.handler.paused", json!({ "handler": handler.as_str(), "by": by, "reason": reason }))
        }
        None => ("ringback.handler.resumed", json!({ "handler": handler.as_str() })),
    };
    let own = Own {
        stream: HANDLERS,
        event_type,
        kind: ChangeKind::Updated,
        key: handler.to_string(),
        about: Some(handler),
        data,
    };
    tell(conn, book, own)
}

fn tell(conn: &Connection, book: &mut Book, own: Own<'_>) -> rusqlite::Result<()> {
    let Some(herald) = book.herald() else { return Ok(()) };
    let now = book.now();
    let data = own.data.to_string();
    let mut event = Event {
        id: EventId::from(""),
        event_type: own.event_type.to_owned(),
        kind: own.kind,
        stream: StreamName::new(SOURCE, own.stream),
        key: own.key.as_str().into(),
        revision: 0,
        time: now,
        seen_at: now,
        seen_by: SeenBy::Poll,
        data: Some(Bytes::from(data.clone())),
        previous: None,
        changed: None,
        first_sight: false,
        test: false,
    };
    let deliveries = herald.deliveries(&event, own.about);
    if deliveries.is_empty() {
        return Ok(());
    }
    let stream = stream(conn, book, &event.stream)?;
    let sql = "UPDATE stream SET change_number = change_number + 1 WHERE id = ?1 RETURNING change_number";
    // Counted on for ever, so that no id comes twice.
    event.revision = conn.prepare_cached(sql)?.query_row([stream], |row| row.get::<_, i64>(0))? as u64;
    let parts = [own.stream, own.event_type, &own.key, &event.revision.to_string(), &now.to_string(), &data];
    let hash: [u8; 32] = Sha256::digest(parts.join("\n").as_bytes()).into();
    let short: [u8; 16] = std::array::from_fn(|n| hash[n]);
    event.id = EventId::from(format!("evt_own_{}", hex::encode(short)));
    let new = NewEvent { event, fingerprint: Fingerprint(short), own_id: true, inbound: None, deliveries };
    events_in::write(conn, book, stream, std::iter::once(&new)).map(drop)
}

/// The stream's number; made when it is first told of. It is never polled and belongs to no configuration.
fn stream(conn: &Connection, book: &mut Book, name: &StreamName) -> rusqlite::Result<i64> {
    if let Some(id) = book.streams.get(name) {
        return Ok(*id);
    }
    let mut find = conn.prepare_cached("SELECT id FROM source WHERE name = ?1")?;
    let source = find.query_row([SOURCE], |row| row.get(0)).optional()?;
    let source: i64 = source.map_or_else(|| config::insert_source(conn, &name.source), Ok)?;
    let sql = "INSERT INTO stream (source_id, name, configured, polled, phase, definition, comparison) \
               VALUES (?1, ?2, 0, 0, ?3, '', '')";
    conn.prepare_cached(sql)?.execute(params![source, &*name.stream, Phase::Live.code()])?;
    let id = conn.last_insert_rowid();
    book.sources.insert(name.source.clone(), source);
    book.streams.insert(name.clone(), id);
    book.stream_names.insert(id, name.clone());
    Ok(id)
}
