//! New events with their deliveries. An id is one event's for ever: what was stored before is not stored again, and another change
//! that comes with an id which is taken gets one of its own (RULES R2.1, R2.3).

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::book::{Book, Numbered};
use super::rows::Code;
use super::writer::Fault;
use super::{deliver, problems};
use crate::model::ProblemKind;
use crate::store::NewEvent;

const INSERT_EVENT: &str = "INSERT INTO event (seq, id, stream_id, event_type, kind, key, revision, time, seen_at, seen_by, \
     first_sight, test, fingerprint, inbound_id, first_delivery, delivery_count) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT (id) DO NOTHING";

/// Stores new events with their deliveries. Gives how many were not there before.
pub(super) fn write<'e>(
    conn: &Connection,
    book: &mut Book,
    stream: i64,
    new: impl Iterator<Item = &'e NewEvent>,
) -> rusqlite::Result<usize> {
    let mut insert = conn.prepare_cached(INSERT_EVENT)?;
    let mut body =
        conn.prepare_cached("INSERT INTO event_body (seq, data, previous, changed) VALUES (?1, ?2, ?3, ?4)")?;
    let (mut events, mut taken) = (0, None);
    let mut delivery = deliver::Inserter::new(conn)?;
    for new in new {
        let seq = book.peek(Numbered::Event);
        if !put(&mut insert, book, stream, seq, new, new.event.id.as_str())? {
            if is_repeat(conn, stream, new)? {
                continue;
            }
            let id = other_id(conn, stream, new)?;
            if !put(&mut insert, book, stream, seq, new, &id)? {
                continue;
            }
            taken = Some((new, id));
        }
        book.number(Numbered::Event);
        let event = &new.event;
        body.execute(params![seq, event.data.as_deref(), event.previous.as_deref(), event.changed.as_deref()])?;
        for to in &new.deliveries {
            delivery.insert(conn, book, seq, to)?;
        }
        events += 1;
    }
    if let Some((new, id)) = taken {
        tell(conn, book, new, &id)?;
    }
    Ok(events)
}

/// False when an event of this id is there already.
fn put(
    insert: &mut CachedStatement<'_>,
    book: &Book,
    stream: i64,
    seq: i64,
    new: &NewEvent,
    id: &str,
) -> rusqlite::Result<bool> {
    let event = &new.event;
    let inserted = insert.execute(params![
        seq,
        id,
        stream,
        event.event_type,
        event.kind.code(),
        event.key.as_str(),
        event.revision as i64,
        event.time.0,
        event.seen_at.0,
        event.seen_by.code(),
        event.first_sight,
        event.test,
        &new.fingerprint.0[..],
        new.inbound.map(|id| id.0 as i64),
        book.peek(Numbered::Delivery),
        new.deliveries.len() as i64
    ])?;
    Ok(inserted > 0)
}

/// Whether the event that has this id is this one. Ids that follow from the change meet only with themselves; one that the record
/// gave may come again with other content.
fn is_repeat(conn: &Connection, stream: i64, new: &NewEvent) -> rusqlite::Result<bool> {
    let sql = "SELECT stream_id = ?2 AND key = ?3 AND kind = ?4 AND (?5 OR (fingerprint = ?6 AND revision = ?7)) FROM event WHERE id = ?1";
    let event = &new.event;
    conn.prepare_cached(sql)?.query_row(
        params![
            event.id.as_str(),
            stream,
            event.key.as_str(),
            event.kind.code(),
            new.own_id,
            &new.fingerprint.0[..],
            event.revision as i64
        ],
        |row| row.get(0),
    )
}

/// The same for the same change, whenever it is seen.
fn other_id(conn: &Connection, stream: i64, new: &NewEvent) -> rusqlite::Result<String> {
    let sql = "SELECT s.identity, t.name FROM stream t JOIN source s ON s.id = t.source_id WHERE t.id = ?1";
    let names: Option<(String, String)> =
        conn.prepare_cached(sql)?.query_row([stream], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (source, name) = names.unwrap_or_default();
    let event = &new.event;
    let revision = if new.own_id { 0 } else { event.revision };
    let fingerprint = if new.own_id { &[][..] } else { &new.fingerprint.0[..] };
    let mut hash = Sha256::new();
    for part in [
        event.id.as_str().as_bytes(),
        source.as_bytes(),
        name.as_bytes(),
        event.key.as_str().as_bytes(),
        event.kind.as_str().as_bytes(),
        &revision.to_be_bytes(),
        fingerprint,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    Ok(id_of(std::array::from_fn(|n| digest[n])))
}

/// `evt_` and 26 letters, as all ids are written.
pub(super) fn id_of(bytes: [u8; 26]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte & 31)]));
    format!("evt_{}", String::from_iter(letters))
}

fn tell(conn: &Connection, book: &mut Book, new: &NewEvent, id: &str) -> rusqlite::Result<()> {
    let event = &new.event;
    let message = format!(
        "its record {} gave the event id {}, which another event has: this one was stored and sent as {id}. An `event_id` must be new \
         with each change, and no two streams may give the same.",
        event.key, event.id
    );
    match problems::open(conn, book, ProblemKind::EventIdTaken, &event.stream.to_string(), &message) {
        Ok(_) => Ok(()),
        Err(Fault::Sql(error)) => Err(error),
        // Opening a problem refuses nothing.
        Err(Fault::Refused(_)) => Ok(()),
    }
}
