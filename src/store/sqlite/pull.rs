//! The outbox as a handler reads it that asks for its events itself: a page stays the same until it is acknowledged, so a reader that
//! was killed in between finds it again, with the same positions.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::book::{Book, Numbered};
use super::deliver::promote;
use super::rows::{self, Code, DELIVERED, QUEUED};
use super::writer::Outcome;
use super::{detail, events};
use crate::model::{AttemptDetail, AttemptResult, HandlerName, Timestamp, Trigger};
use crate::store::{Pull, PullPage, Pulled, StoreError, Topic};

/// Bytes of event data in a page; one event may be larger.
const PAGE_BYTES: i64 = 4 << 20;

/// A reader may know a position that this database does not, as it was put back to an earlier state. But none was ever handed out that lies
/// further ahead than the clock may have been: such a one would take the feed to where nobody counts.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// The page that is out.
struct Out {
    first: i64,
    deliveries: Vec<i64>,
    handed_at: Timestamp,
}

pub(super) fn pull(conn: &Connection, book: &mut Book, pull: &Pull) -> Outcome<PullPage> {
    let handler = book.handler_ids.get(&pull.handler).copied().ok_or(StoreError::Conflict)?;
    if !open(conn, &pull.handler)? {
        return Ok(PullPage { closed: true, ..PullPage::default() });
    }
    let now = book.now();
    let mut out = match load(conn, handler)? {
        Some(out) => out,
        // From a time on that no earlier database has reached by counting: a reader's mark never moves back.
        None => Out { first: begin(now), deliveries: Vec::new(), handed_at: now },
    };
    let (mut changed, before) = (false, out.deliveries.len());
    if let Some(after) = pull.after {
        let last = out.first + out.deliveries.len() as i64 - 1;
        if after > last.max(begin(now.plus(AHEAD))) {
            return Ok(PullPage { ahead: true, ..PullPage::default() });
        }
        changed = acknowledge(conn, book, handler, &mut out, after)?;
    }
    let taken = (before - out.deliveries.len()) as u64;
    // What was settled by other means meanwhile (a person, another way) is not shown again; the positions of the rest stay.
    if unsettled(conn, &out)?.is_empty() {
        let next = choose(conn, book, handler, pull.max)?;
        if !next.is_empty() {
            out = Out { first: out.first + out.deliveries.len() as i64, deliveries: next, handed_at: now };
            changed = true;
        }
    }
    if changed {
        store(conn, handler, &out)?;
    }
    Ok(PullPage { taken, ..page(conn, book, handler, &out)? })
}

/// Where positions begin for a reader that first asks at this time.
fn begin(time: Timestamp) -> i64 {
    time.0.saturating_mul(1_000)
}

fn open(conn: &Connection, name: &HandlerName) -> rusqlite::Result<bool> {
    let sql = "SELECT configured = 1 AND enabled = 1 AND paused_by IS NULL FROM handler WHERE name = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0)).optional()?.unwrap_or(false))
}

fn load(conn: &Connection, handler: i64) -> rusqlite::Result<Option<Out>> {
    let sql = "SELECT first, deliveries, handed_at FROM pull_page WHERE handler_id = ?1";
    let found = conn.prepare_cached(sql)?.query_row([handler], |row| {
        let list: String = row.get(1)?;
        let deliveries = serde_json::from_str(&list).unwrap_or_default();
        Ok(Out { first: row.get(0)?, deliveries, handed_at: rows::time(row, 2)? })
    });
    found.optional()
}

fn store(conn: &Connection, handler: i64, out: &Out) -> rusqlite::Result<()> {
    let list = serde_json::to_string(&out.deliveries).expect("numbers are always JSON");
    let sql = "INSERT INTO pull_page (handler_id, first, deliveries, handed_at) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (handler_id) DO UPDATE SET first = excluded.first, deliveries = excluded.deliveries, handed_at = excluded.handed_at";
    conn.prepare_cached(sql)?.execute(params![handler, out.first, list, out.handed_at.0])?;
    Ok(())
}

/// Everything up to this position was taken. True when the page changed.
fn acknowledge(conn: &Connection, book: &mut Book, handler: i64, out: &mut Out, after: i64) -> rusqlite::Result<bool> {
    let last = out.first + out.deliveries.len() as i64 - 1;
    if after > last {
        // A reader ahead of us: this database was put back to an earlier state. Its mark never moves back, so we go on from there.
        out.first = after + 1;
        return Ok(true);
    }
    let count = usize::try_from(after - out.first + 1).unwrap_or(0);
    if count == 0 {
        return Ok(false);
    }
    let mut orders = Vec::new();
    for seq in out.deliveries.drain(..count) {
        orders.extend(settle(conn, book, handler, seq, out.handed_at)?);
    }
    out.first += count as i64;
    orders.sort_unstable();
    orders.dedup();
    for order in orders {
        promote(conn, book, handler, order)?;
    }
    Ok(true)
}

/// One delivery was taken; the answer is its order.
fn settle(
    conn: &Connection,
    book: &mut Book,
    handler: i64,
    seq: i64,
    handed_at: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT state, order_hash, attempts FROM delivery WHERE seq = ?1 AND state < 3";
    let found = conn.prepare_cached(sql)?.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, rows::small(row, 2)?)));
    let Some((state, order, attempts)): Option<(i64, Option<i64>, u32)> = found.optional()? else { return Ok(None) };
    let now = book.now();
    let sql = "UPDATE delivery SET state = 3, hold = NULL, counted = counted + 1, attempts = attempts + 1, settled_at = ?2 WHERE seq = ?1";
    conn.prepare_cached(sql)?.execute([seq, now.0])?;
    let attempt = book.number(Numbered::Attempt);
    let kept = AttemptDetail { target: "pull".into(), trigger: Trigger::Pull, ..AttemptDetail::default() };
    let sql = "INSERT INTO attempt (seq, delivery_seq, number, started_at, duration, result, state, answer, detail) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, x'', ?8)";
    conn.prepare_cached(sql)?.execute(params![
        attempt,
        seq,
        attempts + 1,
        handed_at.0,
        rows::micros(now.since(handed_at)),
        AttemptResult::Delivered.code(),
        DELIVERED,
        detail::write(&kept)
    ])?;
    let tally = book.tally(handler);
    tally.add(state, -1);
    tally.add(DELIVERED, 1);
    tally.last_attempt = Some(attempt);
    book.rings(Topic::Attempts);
    Ok(order)
}

/// The positions of a page that are still to be taken.
fn unsettled(conn: &Connection, out: &Out) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut select = conn.prepare_cached("SELECT 1 FROM delivery WHERE seq = ?1 AND state < 2")?;
    let mut left = Vec::new();
    for (place, seq) in out.deliveries.iter().enumerate() {
        if select.exists([seq])? {
            left.push((out.first + place as i64, *seq));
        }
    }
    Ok(left)
}

const SELECT_HEADS: &str = "SELECT seq, order_hash FROM delivery INDEXED BY delivery_due \
     WHERE handler_id = ?1 AND state = 0 AND due_at <= ?2 ORDER BY replay, due_at, first_due_at, seq";

const SELECT_FOLLOWERS: &str = "SELECT seq, state FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash = ?2 AND state < 3 AND seq > ?3 ORDER BY seq";

/// The next page: due heads and, where there is room, what waits behind them; in the order in which they were stored.
fn choose(conn: &Connection, book: &Book, handler: i64, max: usize) -> rusqlite::Result<Vec<i64>> {
    let now = book.now();
    // An attempt of before the handler asked for itself may still be under way.
    let busy = book.claims.live(now);
    let mut heads: Vec<(i64, Option<i64>)> = Vec::new();
    let mut select = conn.prepare_cached(SELECT_HEADS)?;
    let mut found = select.query([handler, now.0])?;
    while let (Some(row), true) = (found.next()?, heads.len() < max) {
        let seq = row.get(0)?;
        if !busy.contains_key(&seq) {
            heads.push((seq, row.get(1)?));
        }
    }
    let mut chosen: Vec<i64> = heads.iter().map(|(seq, _)| *seq).collect();
    let mut select = conn.prepare_cached(SELECT_FOLLOWERS)?;
    for (head, order) in &heads {
        let Some(order) = order.filter(|_| chosen.len() < max) else { continue };
        let mut found = select.query([handler, order, *head])?;
        while let (Some(row), true) = (found.next()?, chosen.len() < max) {
            if row.get::<_, i64>(1)? != QUEUED {
                // One that waits for a person holds up those behind it.
                break;
            }
            chosen.push(row.get(0)?);
        }
    }
    chosen.sort_unstable();
    fitting(conn, chosen)
}

/// As many from the start as fit into a page: what is left behind of an order is its end.
fn fitting(conn: &Connection, mut chosen: Vec<i64>) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT ifnull(length(b.data), 0) + ifnull(length(b.previous), 0) + ifnull(length(b.changed), 0) \
               FROM delivery d JOIN event_body b ON b.seq = d.event_seq WHERE d.seq = ?1";
    let mut select = conn.prepare_cached(sql)?;
    let mut bytes = 0;
    for (place, seq) in chosen.iter().enumerate() {
        bytes += select.query_row([seq], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0);
        if bytes > PAGE_BYTES && place > 0 {
            chosen.truncate(place);
            break;
        }
    }
    Ok(chosen)
}

fn page(conn: &Connection, book: &Book, handler: i64, out: &Out) -> Outcome<PullPage> {
    let mut page = PullPage { position: Some(out.first + out.deliveries.len() as i64 - 1), ..PullPage::default() };
    let sql = "SELECT event_seq, order_hash, replay FROM delivery WHERE seq = ?1";
    let mut select = conn.prepare_cached(sql)?;
    for (position, seq) in unsettled(conn, out)? {
        let (event, order, replay): (i64, Option<i64>, bool) =
            select.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (event, _) = events::load(conn, event)?;
        page.events.push(Pulled { position, event: Arc::new(event), order: order.map(|order| order as u64), replay });
    }
    if page.events.is_empty() {
        let sql = "SELECT min(due_at) FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 \
                   AND replay IN (0, 1) AND due_at > ?2";
        let due = conn.prepare_cached(sql)?.query_row([handler, book.now().0], |row| rows::time_opt(row, 0))?;
        page.next_in = due.map(|at| at.since(book.now()).max(Duration::from_millis(1)));
    }
    Ok(page)
}
