//! The outbox as it is written: deliveries join their order, and what follows from an attempt.
//!
//! Of the unsettled deliveries of one (handler, order) only the first, the head, is ever `pending`; the others are `queued`
//! and not in the index of due ones. Settling the head makes the next one pending. A held head holds up those behind it.
//!
//! Order 0 is that of a handler with `order = "strict"`. Where a handler changed from one kind of order to the other, what comes waits
//! behind what was there: by joining order 0 while anything of it is unsettled, or in order 0 behind everything that has an order.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::book::{Book, Numbered};
use super::claims::Claim;
use super::rows::{self, Code, DELIVERED, FAILED, HELD, PENDING, QUEUED};
use super::writer::Outcome;
use super::{closed, detail, own, problems};
use crate::model::{HandlerName, HoldReason, ProblemKind, Timestamp};
use crate::store::{HandlerChange, NewDelivery, Outcome as After, Settled, Topic};

const SELECT_HEAD: &str = "SELECT 1 FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash = ?2 AND state < 3";

const SELECT_ORDERED: &str = "SELECT 1 FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash IS NOT NULL AND state < 3";

/// The one order of a handler that gets everything one after another.
const STRICT: i64 = 0;

const INSERT_DELIVERY: &str = "INSERT INTO delivery (seq, event_seq, handler_id, order_hash, state, hold, due_at, first_due_at, \
     counted, attempts, replay, job, closed_before) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?9 IS NOT NULL, ?9, ?10)";

/// The statements that add deliveries, prepared once for a commit.
pub(super) struct Inserter<'c> {
    head: CachedStatement<'c>,
    any: CachedStatement<'c>,
    insert: CachedStatement<'c>,
}

impl<'c> Inserter<'c> {
    pub(super) fn new(conn: &'c Connection) -> rusqlite::Result<Inserter<'c>> {
        Ok(Inserter {
            head: conn.prepare_cached(SELECT_HEAD)?,
            any: conn.prepare_cached(SELECT_ORDERED)?,
            insert: conn.prepare_cached(INSERT_DELIVERY)?,
        })
    }

    /// Adds a delivery of a new event: to the end of its order.
    pub(super) fn insert(
        &mut self,
        conn: &Connection,
        book: &mut Book,
        event: i64,
        new: &NewDelivery,
    ) -> rusqlite::Result<()> {
        let handler = book.handler(conn, &new.handler)?;
        let order = match new.order.map(|order| order as i64) {
            Some(order) if order != STRICT && self.head.exists([handler, STRICT])? => Some(STRICT),
            order => order,
        };
        let (state, hold) = match (new.hold, order) {
            (Some(hold), _) => (HELD, Some(hold)),
            (None, None) => (PENDING, None),
            (None, Some(order)) if book.held_orders.contains(&(handler, order)) => (HELD, Some(HoldReason::KeyHeld)),
            (None, Some(order)) => (self.place(handler, order)?, None),
        };
        let due = book.now().0;
        self.write(book, [event, handler], order, (state, hold), due, None)
    }

    /// Adds a delivery of a replay, which takes no part in any order.
    pub(super) fn replay(
        &mut self,
        book: &mut Book,
        event: i64,
        handler: i64,
        job: i64,
        due: Timestamp,
    ) -> rusqlite::Result<()> {
        self.write(book, [event, handler], None, (PENDING, None), due.0, Some(job))
    }

    /// The state of a delivery that joins an order last.
    fn place(&mut self, handler: i64, order: i64) -> rusqlite::Result<i64> {
        let behind = match order {
            STRICT => self.any.exists([handler])?,
            _ => self.head.exists([handler, order])?,
        };
        Ok(if behind { QUEUED } else { PENDING })
    }

    fn write(
        &mut self,
        book: &mut Book,
        [event, handler]: [i64; 2],
        order: Option<i64>,
        (state, hold): (i64, Option<HoldReason>),
        due: i64,
        job: Option<i64>,
    ) -> rusqlite::Result<()> {
        let seq = book.number(Numbered::Delivery);
        let hold = hold.map(Code::code);
        let closed = book.closed_for(handler);
        self.insert.execute(params![seq, event, handler, order, state, hold, due, due, job, closed])?;
        book.tally(handler).add(state, 1);
        book.rings(Topic::Deliveries);
        Ok(())
    }
}

// ---- settle ----

const INSERT_ATTEMPT: &str = "INSERT INTO attempt (seq, delivery_seq, number, started_at, duration, result, status, state, \
     next_attempt_at, error, answer, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const UPDATE_DELIVERY: &str = "UPDATE delivery SET state = ?2, hold = ?3, due_at = ifnull(?4, due_at), counted = ?5, attempts = ?6, \
     settled_at = ?7 WHERE seq = ?1";

pub(super) fn settle(conn: &Connection, book: &mut Book, settled: &[Settled]) -> Outcome<Vec<bool>> {
    let mut answers = Vec::with_capacity(settled.len());
    for one in settled {
        answers.push(settle_one(conn, book, one)?);
    }
    Ok(answers)
}

/// What an attempt leaves of its delivery.
struct Left {
    state: i64,
    hold: Option<HoldReason>,
    due_at: Option<Timestamp>,
    counted: bool,
}

fn judge(outcome: &After, now: Timestamp) -> Left {
    let settled = |state| Left { state, hold: None, due_at: None, counted: true };
    match outcome {
        After::Delivered => settled(DELIVERED),
        After::Failed { .. } => settled(FAILED),
        After::Retry { after, counted } => {
            Left { state: PENDING, hold: None, due_at: Some(now.plus(*after)), counted: *counted }
        }
        After::Held(hold) => Left { state: HELD, hold: Some(*hold), due_at: None, counted: false },
    }
}

/// False when the delivery is no longer the caller's.
fn settle_one(conn: &Connection, book: &mut Book, settled: &Settled) -> Outcome<bool> {
    let seq = settled.id.0 as i64;
    let Some(claim) = book.claims.settle(seq, settled.lease) else { return Ok(false) };
    book.settled.push(seq);
    let now = book.now();
    let left = judge(&settled.outcome, now);
    let counted = claim.counted + u32::from(left.counted);
    let attempts = claim.attempts + 1;
    let settled_at = (left.state >= DELIVERED).then_some(now.0);
    conn.prepare_cached(UPDATE_DELIVERY)?.execute(params![
        seq,
        left.state,
        left.hold.map(Code::code),
        left.due_at.map(|at| at.0),
        counted,
        attempts,
        settled_at
    ])?;
    record_attempt(conn, book, seq, claim.handler, attempts, settled, &left)?;
    if left.state == FAILED {
        own::delivery_failed(conn, book, seq, &claim, &settled.attempt)?;
    }
    if left.state != PENDING {
        let tally = book.tally(claim.handler);
        tally.add(PENDING, -1);
        tally.add(left.state, 1);
    }
    if let (Some(order), true) = (claim.order, left.state >= DELIVERED) {
        if settled.outcome == (After::Failed { hold_key: true }) {
            hold_order(conn, book, claim.handler, order)?;
        } else {
            promote(conn, book, claim.handler, order)?;
        }
    }
    change_handler(conn, book, &claim, &settled.handler_change)?;
    // A handler under strain is claimed from one by one: who waits for this one to end must be told.
    let strained = book.handlers.get(&claim.handler).is_some_and(|card| card.wait_until.is_some());
    if left.state == PENDING || claim.strain > 0 || strained {
        book.rings(Topic::Deliveries);
    }
    book.rings(Topic::Attempts);
    Ok(true)
}

fn record_attempt(
    conn: &Connection,
    book: &mut Book,
    delivery: i64,
    handler: i64,
    number: u32,
    settled: &Settled,
    left: &Left,
) -> rusqlite::Result<()> {
    let seq = book.number(Numbered::Attempt);
    let attempt = &settled.attempt;
    conn.prepare_cached(INSERT_ATTEMPT)?.execute(params![
        seq,
        delivery,
        number,
        attempt.started_at.0,
        rows::micros(attempt.duration),
        attempt.result.code(),
        attempt.status,
        left.state,
        left.due_at.map(|at| at.0),
        attempt.error,
        &attempt.answer[..],
        detail::write(&attempt.detail)
    ])?;
    book.tally(handler).last_attempt = Some(seq);
    Ok(())
}

const SELECT_NEXT: &str = "SELECT seq, state FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash = ?2 AND state < 3 ORDER BY seq LIMIT 1";

/// Makes the first of an order pending and due now, if it has been waiting for its turn.
pub(super) fn promote(conn: &Connection, book: &mut Book, handler: i64, order: i64) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached(SELECT_NEXT)?;
    let mut first = |order: i64| -> rusqlite::Result<Option<(i64, i64)>> {
        select.query_row([handler, order], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    };
    let mut next = first(order)?;
    if next.is_none() && order != STRICT {
        // What is strict by now waits for the last of what was in order by key.
        next = match first(STRICT)? {
            Some((seq, QUEUED)) if !has_earlier(conn, handler, STRICT, seq)? => Some((seq, QUEUED)),
            _ => None,
        };
    }
    if let Some((seq, QUEUED)) = next {
        let now = book.now().0;
        conn.prepare_cached(
            "UPDATE delivery SET state = 0, due_at = ?2, first_due_at = ?2, closed_before = ?3 WHERE seq = ?1",
        )?
        .execute([seq, now, book.closed_for(handler)])?;
        book.rings(Topic::Deliveries);
    }
    Ok(())
}

/// Everything that waits in this order becomes held, until a person decides.
fn hold_order(conn: &Connection, book: &mut Book, handler: i64, order: i64) -> Outcome<()> {
    let sql = "UPDATE delivery INDEXED BY delivery_order SET state = 2, hold = ?3 \
               WHERE handler_id = ?1 AND order_hash = ?2 AND state < 3 AND state < 2";
    let held = conn.prepare_cached(sql)?.execute(params![handler, order, HoldReason::KeyHeld.code()])? as i64;
    conn.prepare_cached("INSERT OR IGNORE INTO held_order (handler_id, order_hash) VALUES (?1, ?2)")?
        .execute([handler, order])?;
    book.held_orders.insert((handler, order));
    let tally = book.tally(handler);
    tally.add(PENDING, -held);
    tally.add(HELD, held);
    match book.handlers.get(&handler).map(|card| card.name.clone()) {
        Some(name) => tell_blocked(conn, book, &name),
        None => Ok(()),
    }
}

/// Says that orders of this handler are held.
pub(super) fn tell_blocked(conn: &Connection, book: &mut Book, name: &HandlerName) -> Outcome<()> {
    let message = format!(
        "a delivery failed for good, and `after_failure = \"hold\"` keeps back what came later for its key; `ringback handler resume \
         {name}` sends it"
    );
    problems::open(conn, book, ProblemKind::HandlerKeyBlocked, name.as_str(), &message).map(drop)
}

/// Says that this handler wants no more events.
pub(super) fn tell_gone(conn: &Connection, book: &mut Book, name: &HandlerName, reason: &str) -> Outcome<()> {
    let message =
        format!("{reason}; it was paused and its events are held. `ringback handler resume {name}` sends them.");
    problems::open(conn, book, ProblemKind::HandlerGone, name.as_str(), &message).map(drop)
}

/// Who paused a handler that did so by its own answer.
pub(super) const BY_ITSELF: &str = "handler";

fn change_handler(conn: &Connection, book: &mut Book, claim: &Claim, change: &HandlerChange) -> Outcome<()> {
    let (now, handler) = (book.now(), claim.handler);
    let Some(card) = book.handlers.get_mut(&handler) else { return Ok(()) };
    match change {
        HandlerChange::None => return Ok(()),
        HandlerChange::Wait(time) => {
            let until = now.plus(*time).max(card.wait_until.unwrap_or_default());
            card.wait_until = Some(until);
            // Attempts made side by side speak of one and the same trouble: each tells the strain that it was claimed under.
            conn.prepare_cached("UPDATE handler SET wait_until = ?2, strain = max(strain, ?3) WHERE id = ?1")?
                .execute([handler, until.0, i64::from(claim.strain) + 1])?;
        }
        HandlerChange::Recovered => {
            card.wait_until = card.wait_until.filter(|until| *until > now);
            conn.prepare_cached("UPDATE handler SET strain = 0 WHERE id = ?1")?.execute([handler])?;
        }
        HandlerChange::Pause(reason) => {
            let paused = crate::store::Paused { by: BY_ITSELF.into(), reason: reason.clone() };
            conn.prepare_cached("UPDATE handler SET paused_by = ?2, paused_reason = ?3 WHERE id = ?1")?
                .execute(params![handler, paused.by, paused.reason])?;
            let (name, before) = (card.name.clone(), card.paused.replace(paused.clone()));
            closed::note(conn, book)?;
            if before.is_none() {
                own::handler_paused(conn, book, &name, Some(&paused))?;
            }
            tell_gone(conn, book, &name, reason)?;
        }
    }
    book.rings(Topic::Deliveries);
    Ok(())
}

// ---- holds ----

const SELECT_HELD: &str = "SELECT seq, order_hash FROM delivery INDEXED BY delivery_held WHERE handler_id = ?1 AND hold = ?2 AND state = 2 ORDER BY seq";

const SELECT_EARLIER: &str = "SELECT 1 FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash = ?2 AND state < 3 AND seq < ?3";

const SELECT_EARLIER_BELOW: &str = "SELECT 1 FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash < 0 AND state < 3 AND seq < ?2";

const SELECT_EARLIER_ABOVE: &str = "SELECT 1 FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash > 0 AND state < 3 AND seq < ?2";

/// Whether an unsettled delivery stands before this one in its order.
pub(super) fn has_earlier(conn: &Connection, handler: i64, order: i64, seq: i64) -> rusqlite::Result<bool> {
    if conn.prepare_cached(SELECT_EARLIER)?.exists([handler, order, seq])? {
        return Ok(true);
    }
    // Two ranges of the index, both empty but for a handler that has just become strict.
    let other = |sql: &str| conn.prepare_cached(sql)?.exists([handler, seq]);
    Ok(order == STRICT && (other(SELECT_EARLIER_BELOW)? || other(SELECT_EARLIER_ABOVE)?))
}

/// What a handler's deliveries were held for is over: those that are heads become pending, the others take their turn.
pub(super) fn release_held(conn: &Connection, book: &mut Book, handler: i64, hold: HoldReason) -> rusqlite::Result<()> {
    let held: Vec<(i64, Option<i64>)> = conn
        .prepare_cached(SELECT_HELD)?
        .query_map([handler, hold.code()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let (now, closed) = (book.now().0, book.closed_for(handler));
    let sql = "UPDATE delivery SET state = ?2, hold = NULL, due_at = ?3, first_due_at = ?3, closed_before = ?4 WHERE seq = ?1";
    let mut update = conn.prepare_cached(sql)?;
    for (seq, order) in &held {
        let behind = match order {
            Some(order) => has_earlier(conn, handler, *order, *seq)?,
            None => false,
        };
        update.execute(params![seq, if behind { QUEUED } else { PENDING }, now, closed])?;
    }
    let count = held.len() as i64;
    let tally = book.tally(handler);
    tally.add(HELD, -count);
    tally.add(PENDING, count);
    Ok(())
}

/// A person lets a handler's held orders go on.
pub(super) fn release_orders(conn: &Connection, book: &mut Book, handler: i64) -> Outcome<()> {
    conn.prepare_cached("DELETE FROM held_order WHERE handler_id = ?1")?.execute([handler])?;
    book.held_orders.retain(|(of, _)| *of != handler);
    release_held(conn, book, handler, HoldReason::KeyHeld)?;
    if let Some(name) = book.handlers.get(&handler).map(|card| card.name.clone()) {
        problems::close(conn, book, ProblemKind::HandlerKeyBlocked, name.as_str())?;
    }
    Ok(())
}
