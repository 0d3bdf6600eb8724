//! How many bytes wait for a handler. A short backlog is counted; a long one is judged by some of what waits, as counting it would
//! read every body, and long backlogs are the ones that are asked about.

use rusqlite::{Connection, OptionalExtension};

use super::rows;
use super::writer::Outcome;
use crate::model::HandlerName;

/// So many deliveries are counted one by one.
const FEW: u64 = 1_000;
/// Of more, so many are read at each end of each index.
const SAMPLE: u64 = 500;

const SIZE: &str = "ifnull(length(b.data), 0) + ifnull(length(b.previous), 0) + ifnull(length(b.changed), 0)";

/// What is unsettled, by the three indexes that hold it.
const ALL: &str = "SELECT event_seq FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 \
     UNION ALL SELECT event_seq FROM delivery INDEXED BY delivery_order \
     WHERE handler_id = ?1 AND order_hash IS NOT NULL AND state < 3 AND state = 1 \
     UNION ALL SELECT event_seq FROM delivery INDEXED BY delivery_held WHERE handler_id = ?1 AND state = 2";

/// Some of it. What is old may be of another size than what is new, so both ends of each index are read; that some stand in two of them
/// does no harm to an average.
const SOME: [&str; 6] = [
    "SELECT event_seq FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 ORDER BY replay, due_at LIMIT ?2",
    "SELECT event_seq FROM delivery INDEXED BY delivery_due WHERE handler_id = ?1 AND state = 0 ORDER BY replay DESC, due_at DESC LIMIT ?2",
    "SELECT event_seq FROM delivery INDEXED BY delivery_order WHERE handler_id = ?1 AND order_hash IS NOT NULL AND state < 3 \
     ORDER BY order_hash LIMIT ?2",
    "SELECT event_seq FROM delivery INDEXED BY delivery_order WHERE handler_id = ?1 AND order_hash IS NOT NULL AND state < 3 \
     ORDER BY order_hash DESC LIMIT ?2",
    "SELECT event_seq FROM delivery INDEXED BY delivery_held WHERE handler_id = ?1 AND state = 2 ORDER BY hold LIMIT ?2",
    "SELECT event_seq FROM delivery INDEXED BY delivery_held WHERE handler_id = ?1 AND state = 2 ORDER BY hold DESC LIMIT ?2",
];

/// Bytes that wait for a handler: counted for a thousand deliveries, else their number times the average of some thousand of them.
pub(super) fn bytes(conn: &Connection, handler: &HandlerName) -> Outcome<u64> {
    let mut find = conn.prepare_cached("SELECT id, pending + held FROM handler WHERE name = ?1")?;
    let found = find.query_row([handler.as_str()], |row| Ok((row.get::<_, i64>(0)?, rows::number(row, 1)?)));
    let Some((id, waiting)) = found.optional()? else { return Ok(0) };
    let measure = |which: &str, most: u64| -> rusqlite::Result<(u64, u64)> {
        let sql = format!(
            "SELECT count(*), ifnull(sum({SIZE}), 0) FROM ({which}) d JOIN event_body b ON b.seq = d.event_seq WHERE ?2 > 0"
        );
        conn.prepare_cached(&sql)?
            .query_row([id, most as i64], |row| Ok((rows::number(row, 0)?, rows::number(row, 1)?)))
    };
    if waiting <= FEW {
        return Ok(measure(ALL, FEW)?.1);
    }
    let (mut read, mut bytes) = (0, 0);
    for some in SOME {
        let (number, size) = measure(some, SAMPLE)?;
        read += number;
        bytes += size;
    }
    let estimate = u128::from(bytes) * u128::from(waiting) / u128::from(read.max(1));
    Ok(u64::try_from(estimate).unwrap_or(u64::MAX))
}
