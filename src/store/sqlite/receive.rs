//! The inbox: real webhooks stored once each, handed out in order of receipt, one batch of a source at a time.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::book::{Book, InboundHold, Numbered};
use super::notice;
use super::rows;
use super::writer::Outcome;
use crate::model::{SourceName, Timestamp};
use crate::store::{
    ClaimedInbound, InboundId, InboundOutcome, InboundRequest, InboundSettled, InboundStored, NewInbound, StoreError,
    Topic,
};

const PENDING: i64 = 0;
const DONE: i64 = 1;
const IGNORED: i64 = 2;
const UNREADABLE: i64 = 3;

/// Header lines as one text; made by the caller, so that the writer has less to do.
pub(super) fn header_text(request: &InboundRequest) -> String {
    serde_json::to_string(&request.headers).expect("pairs of strings are always JSON")
}

pub(super) fn put(conn: &Connection, book: &mut Book, inbound: &NewInbound, headers: &str) -> Outcome<InboundStored> {
    let source = book.source(conn, &inbound.source)?;
    let id = book.peek(Numbered::Inbound);
    let now = book.now().0;
    if let Some(message) = &inbound.message_id {
        let sql = "INSERT INTO inbound_message (id, source_id, message_id, received_at) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (source_id, message_id) DO NOTHING";
        if conn.prepare_cached(sql)?.execute(params![id, source, message, now])? == 0 {
            return Ok(InboundStored::Duplicate);
        }
    }
    book.number(Numbered::Inbound);
    conn.prepare_cached("INSERT INTO inbound (id, source_id, received_at, state) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, source, now, PENDING])?;
    let request = &inbound.request;
    conn.prepare_cached("INSERT INTO inbound_body (id, method, target, headers, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![id, request.method, request.target, headers, &request.body[..]])?;
    book.rings(Topic::Inbounds);
    Ok(InboundStored::New)
}

/// The source whose oldest pending inbound is the oldest of all, among those that nobody works on.
fn oldest_source(conn: &Connection, book: &Book) -> rusqlite::Result<Option<i64>> {
    let now = book.now();
    let sql =
        "SELECT id FROM inbound INDEXED BY inbound_pending WHERE state = 0 AND source_id = ?1 ORDER BY id LIMIT 1";
    let mut first = conn.prepare_cached(sql)?;
    let mut oldest: Option<(i64, i64)> = None;
    for &source in book.sources.values() {
        if book.inbound_holds.get(&source).is_some_and(|hold| hold.until > now) {
            continue;
        }
        let found: Option<i64> = first.query_row([source], |row| row.get(0)).optional()?;
        oldest = found.map(|id| (id, source)).into_iter().chain(oldest).min();
    }
    Ok(oldest.map(|(_, source)| source))
}

const SELECT_BATCH: &str = "SELECT i.id, i.received_at, m.message_id, b.method, b.target, b.headers, b.body \
     FROM inbound i INDEXED BY inbound_pending JOIN inbound_body b ON b.id = i.id LEFT JOIN inbound_message m ON m.id = i.id \
     WHERE i.state = 0 AND i.source_id = ?1 ORDER BY i.id LIMIT ?2";

pub(super) fn claim(conn: &Connection, book: &mut Book, lease: Duration, max: usize) -> Outcome<Vec<ClaimedInbound>> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let Some(source) = oldest_source(conn, book)? else { return Ok(Vec::new()) };
    let Some(name) = book.sources.iter().find_map(|(name, id)| (*id == source).then(|| name.clone())) else {
        return Ok(Vec::new());
    };
    let token = book.token();
    let mut select = conn.prepare_cached(SELECT_BATCH)?;
    let claimed: Vec<ClaimedInbound> = select
        .query_map(params![source, i64::try_from(max).unwrap_or(i64::MAX)], |row| claimed(row, token, &name))?
        .collect::<rusqlite::Result<_>>()?;
    let left: HashSet<u64> = claimed.iter().map(|inbound| inbound.id.0).collect();
    let until = book.now().plus(lease);
    book.inbound_holds.insert(source, InboundHold { token, until, left });
    Ok(claimed)
}

fn claimed(row: &rusqlite::Row<'_>, lease: u64, source: &SourceName) -> rusqlite::Result<ClaimedInbound> {
    Ok(ClaimedInbound {
        id: InboundId(rows::number(row, 0)?),
        lease,
        source: source.clone(),
        received_at: rows::time(row, 1)?,
        message_id: row.get(2)?,
        request: request(row, 3)?,
    })
}

/// A stored request from the columns method, target, headers, body.
pub(super) fn request(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<InboundRequest> {
    let headers = serde_json::from_str(row.get_ref(first + 2)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(first + 2, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(InboundRequest {
        method: row.get(first)?,
        target: row.get(first + 1)?,
        headers,
        body: rows::blob(row, first + 3)?.unwrap_or_default(),
    })
}

/// Refuses when one of them is no longer the caller's.
pub(super) fn check(book: &Book, settled: &[InboundSettled]) -> Result<(), StoreError> {
    settled.iter().try_for_each(|inbound| book.check_inbound(inbound.id, inbound.lease).map(|_| ()))
}

pub(super) fn settle(conn: &Connection, book: &mut Book, settled: &[InboundSettled]) -> Outcome<()> {
    check(book, settled)?;
    settle_checked(conn, book, settled)?;
    Ok(())
}

/// Settles what [`check`] has allowed. The source is free again when its whole batch is settled.
pub(super) fn settle_checked(conn: &Connection, book: &mut Book, settled: &[InboundSettled]) -> rusqlite::Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    let mut update = conn.prepare_cached("UPDATE inbound SET state = ?2, reason = ?3 WHERE id = ?1")?;
    for inbound in settled {
        let (state, reason) = match &inbound.outcome {
            InboundOutcome::Done => (DONE, None),
            InboundOutcome::Ignored => (IGNORED, None),
            InboundOutcome::Unreadable(reason) => (UNREADABLE, Some(reason)),
            InboundOutcome::Notice(stream) => {
                if let Some(&stream) = book.streams.get(stream) {
                    notice::notice(conn, book, stream)?;
                }
                (DONE, None)
            }
        };
        update.execute(params![inbound.id.0 as i64, state, reason])?;
        if let Ok(source) = book.check_inbound(inbound.id, inbound.lease)
            && let Some(hold) = book.inbound_holds.get_mut(&source)
        {
            hold.left.remove(&inbound.id.0);
            if hold.left.is_empty() {
                book.inbound_holds.remove(&source);
                book.rings(Topic::Inbounds);
            }
        }
    }
    Ok(())
}

/// A person has the unreadable ones looked at again, with the configuration of today.
pub(super) fn retry(conn: &Connection, book: &mut Book, source: &SourceName) -> Outcome<u64> {
    let source = book.sources.get(source).copied().ok_or(StoreError::Conflict)?;
    let sql = "UPDATE inbound INDEXED BY inbound_odd SET state = ?2, reason = NULL WHERE source_id = ?1 AND state = ?3 AND state > 1";
    let again = conn.prepare_cached(sql)?.execute([source, PENDING, UNREADABLE])?;
    book.rings(Topic::Inbounds);
    Ok(again as u64)
}

/// Now when there is a batch to claim; else when a lease runs out.
pub(super) fn next_due(conn: &Connection, book: &Book) -> Outcome<Option<Timestamp>> {
    if oldest_source(conn, book)?.is_some() {
        return Ok(Some(book.now()));
    }
    let now = book.now();
    Ok(book.inbound_holds.values().map(|hold| hold.until).filter(|until| *until > now).min())
}
