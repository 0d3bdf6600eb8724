//! Deliveries held because a handler's `when` gave neither true nor false (RULES R3.7), and what a person's order makes of them.

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::rows::{Code, HELD, PENDING, QUEUED};
use super::writer::Outcome;
use super::{deliver, events};
use crate::model::{Event, HandlerName, HoldReason};
use crate::store::{DeliveryId, StoreError, Topic};

pub(super) fn list(
    conn: &Connection,
    handler: &HandlerName,
    after: Option<DeliveryId>,
    limit: usize,
) -> Outcome<Vec<(DeliveryId, Event)>> {
    let sql = "SELECT d.seq, d.event_seq FROM delivery d INDEXED BY delivery_held \
               WHERE d.handler_id = (SELECT id FROM handler WHERE name = ?1) AND d.hold = ?2 AND d.state = 2 AND d.seq > ?3 \
               ORDER BY d.seq LIMIT ?4";
    let from = after.map_or(0, |id| id.0 as i64);
    let mut select = conn.prepare_cached(sql)?;
    let held: Vec<(i64, i64)> = select
        .query_map(params![handler.as_str(), HoldReason::WhenFailed.code(), from, limit as i64], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    held.into_iter()
        .map(|(seq, event)| Ok((DeliveryId(seq as u64), events::load(conn, event)?.0)))
        .collect::<rusqlite::Result<_>>()
        .map_err(Into::into)
}

/// True: it goes, in its turn. False: the handler does not want it after all, and the next of its order may go.
pub(super) fn release(
    conn: &Connection,
    book: &mut Book,
    handler: &HandlerName,
    decided: &[(DeliveryId, bool)],
) -> Outcome<()> {
    let handler = book.handler_ids.get(handler).copied().ok_or(StoreError::Conflict)?;
    let mut find = conn.prepare_cached(
        "SELECT order_hash FROM delivery WHERE seq = ?1 AND handler_id = ?2 AND state = 2 AND hold = ?3",
    )?;
    let (now, closed) = (book.now().0, book.closed_for(handler));
    for (id, send) in decided {
        let seq = id.0 as i64;
        let found: Option<Option<i64>> =
            find.query_row(params![seq, handler, HoldReason::WhenFailed.code()], |row| row.get(0)).optional()?;
        let Some(order) = found else { continue };
        book.tally(handler).add(HELD, -1);
        if *send {
            let behind = match order {
                Some(order) => deliver::has_earlier(conn, handler, order, seq)?,
                None => false,
            };
            let sql = "UPDATE delivery SET state = ?2, hold = NULL, due_at = ?3, first_due_at = ?3, closed_before = ?4 \
                       WHERE seq = ?1";
            conn.prepare_cached(sql)?.execute(params![seq, if behind { QUEUED } else { PENDING }, now, closed])?;
            book.tally(handler).add(PENDING, 1);
        } else {
            conn.prepare_cached("DELETE FROM attempt WHERE delivery_seq = ?1")?.execute([seq])?;
            conn.prepare_cached("DELETE FROM delivery WHERE seq = ?1")?.execute([seq])?;
            if let Some(order) = order {
                deliver::promote(conn, book, handler, order)?;
            }
        }
    }
    book.rings(Topic::Deliveries);
    Ok(())
}
