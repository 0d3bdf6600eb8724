//! A handler under a new name. What waits for it goes with it, also what was stored under the former name afterwards: a run that was
//! under way when the configuration was read again still names that one.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::deliver;
use super::rows::{PENDING, QUEUED};
use crate::model::HandlerName;

/// From here on the former name means the handler of the new one.
pub(super) fn remember(book: &mut Book, former: &HandlerName, now: &HandlerName) {
    // Renamed twice: the first name means the last one.
    book.former_handlers.values_mut().filter(|name| *name == former).for_each(|name| *name = now.clone());
    book.former_handlers.insert(former.clone(), now.clone());
}

/// What is unsettled, by the three indexes that hold it.
const SELECT_WAITING: &str = "SELECT seq, order_hash, state FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 \
     UNION ALL SELECT seq, order_hash, state FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash IS NOT NULL AND state < 3 AND state = 1 \
     UNION ALL SELECT seq, order_hash, state FROM delivery INDEXED BY delivery_held WHERE handler_id = ?1 AND state = 2";

/// Both names have a row: what is unsettled under the former one is carried over, every order by the age of its events.
pub(super) fn carry_over(
    conn: &Connection,
    book: &mut Book,
    former: &HandlerName,
    now: &HandlerName,
) -> rusqlite::Result<()> {
    let mut find = conn.prepare_cached("SELECT id, pending + held FROM handler WHERE name = ?1")?;
    let mut look = |name: &HandlerName| {
        find.query_row([name.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()
    };
    let (Some((from, 1..)), Some((to, _))) = (look(former)?, look(now)?) else { return Ok(()) };
    let waiting: Vec<(i64, Option<i64>, i64)> = conn
        .prepare(SELECT_WAITING)?
        .query_map([from], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut carry = conn.prepare_cached("UPDATE delivery SET handler_id = ?2 WHERE seq = ?1")?;
    for (seq, _, state) in &waiting {
        carry.execute([*seq, to])?;
        book.tally(from).add(*state, -1);
        book.tally(to).add(*state, 1);
    }
    let orders: BTreeSet<i64> = waiting.iter().filter_map(|(_, order, _)| *order).collect();
    for order in &orders {
        one_head(conn, book, to, *order)?;
    }
    let held = "INSERT OR IGNORE INTO held_order (handler_id, order_hash) SELECT ?2, order_hash FROM held_order WHERE handler_id = ?1";
    conn.prepare_cached(held)?.execute([from, to])?;
    conn.prepare_cached("DELETE FROM held_order WHERE handler_id = ?1")?.execute([from])?;
    let moved: Vec<i64> = book.held_orders.iter().filter(|(of, _)| *of == from).map(|(_, order)| *order).collect();
    book.held_orders.retain(|(of, _)| *of != from);
    book.held_orders.extend(moved.into_iter().map(|order| (to, order)));
    // Who asks next within this transaction counts by the rows of the handlers.
    book.flush(conn)
}

/// Of two heads that met in one order, the later one waits for the earlier; one that is being sent just now is past that.
fn one_head(conn: &Connection, book: &mut Book, handler: i64, order: i64) -> rusqlite::Result<()> {
    let sql = "SELECT seq FROM delivery INDEXED BY delivery_order WHERE handler_id = ?1 AND order_hash = ?2 AND state < 3 AND state = ?3 \
               ORDER BY seq";
    let heads: Vec<i64> = conn
        .prepare_cached(sql)?
        .query_map([handler, order, PENDING], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in heads {
        if deliver::has_earlier(conn, handler, order, seq)? {
            conn.prepare_cached("UPDATE delivery SET state = ?2 WHERE seq = ?1")?.execute(params![seq, QUEUED])?;
        }
    }
    deliver::promote(conn, book, handler, order)
}
