//! Sending stored events again: new deliveries beside the old ones, outside every order (RULES R7.4).

use rusqlite::{Connection, params_from_iter};

use super::book::Book;
use super::deliver::Inserter;
use super::events::{self, View};
use super::writer::Outcome;
use crate::model::Timestamp;
use crate::store::{Replay, ReplayPlan};

pub(super) fn replay(conn: &Connection, book: &mut Book, replay: &Replay) -> Outcome<ReplayPlan> {
    let now = book.now();
    let view = View::read(conn, book.claims.live(now))?;
    let chosen = events::choose(&replay.events, &view);
    let named = match &replay.handler {
        Some(name) if replay.dry_run => Some(book.handler_ids.get(name).copied().unwrap_or_default()),
        Some(name) => Some(book.handler(conn, name)?),
        None => None,
    };
    let limit =
        if replay.events.limit == 0 { i64::MAX } else { i64::try_from(replay.events.limit).unwrap_or(i64::MAX) };
    let sql = format!(
        "SELECT e.seq, e.seen_at, ifnull(length(b.data), 0) FROM event e JOIN event_body b ON b.seq = e.seq \
         WHERE {} ORDER BY e.seq LIMIT {limit}",
        chosen.sql
    );
    // Whoever had the event; of a filter that names handler or state, only those that it names.
    let had = events::deliveries_sql("DISTINCT d.handler_id").replace(" ORDER BY d.seq", &chosen.deliveries);
    let mut handlers = conn.prepare(&had)?;
    let mut select = conn.prepare(&sql)?;
    let mut found = select.query(params_from_iter(chosen.values))?;
    let mut plan = ReplayPlan::default();
    let mut inserter = Inserter::new(conn)?;
    while let Some(row) = found.next()? {
        let (seq, seen_at, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let to: Vec<i64> = match named {
            Some(handler) => vec![handler],
            None => handlers.query_map([seq], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?,
        };
        for handler in &to {
            if !replay.dry_run {
                let nth = u32::try_from(plan.deliveries).unwrap_or(u32::MAX);
                inserter.replay(book, seq, *handler, now.plus(replay.spacing.saturating_mul(nth)))?;
            }
            plan.deliveries += 1;
            plan.bytes += bytes as u64;
        }
        plan.events += 1;
        plan.oldest = plan.oldest.into_iter().chain([Timestamp(seen_at)]).min();
        plan.newest = plan.newest.max(Some(Timestamp(seen_at)));
    }
    Ok(plan)
}
