//! Replays that were asked for: how far each is, and taking back what waits of one.

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::events::View;
use super::replay::BATCH;
use super::rows::{self, FAILED};
use super::writer::Outcome;
use crate::model::{HandlerName, Timestamp};
use crate::store::{ReplayJob, ReplayStep, Topic};

const SELECT_JOBS: &str = "SELECT id, started_at, asked_by, handler, fresh, events, delivery_count, last_due_at, cancelled_by, cancelled, \
     position IS NOT NULL, expected FROM replay_job ORDER BY id DESC LIMIT ?1";

pub(super) fn list(conn: &Connection, limit: usize) -> Outcome<Vec<ReplayJob>> {
    let mut select = conn.prepare_cached(SELECT_JOBS)?;
    let found = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let job: i64 = row.get(0)?;
        let (pending, failed) = (count(conn, job, "state < 3")?, count(conn, job, "state = 4")?);
        let (deliveries, cancelled) = (rows::number(row, 6)?, rows::number(row, 9)?);
        let filling: bool = row.get(10)?;
        let expected = rows::number(row, 11)?;
        Ok(ReplayJob {
            id: job as u64,
            started_at: rows::time(row, 1)?,
            by: row.get(2)?,
            to: row.get::<_, Option<String>>(3)?.map(HandlerName::from),
            fresh_ids: row.get(4)?,
            events: rows::number(row, 5)?,
            deliveries,
            expected: if filling { expected.max(deliveries) } else { deliveries },
            filling,
            pending,
            // What was settled long ago is no longer there to be counted.
            delivered: deliveries.saturating_sub(pending + failed + cancelled),
            failed,
            cancelled,
            cancelled_by: row.get(8)?,
            last_due_at: rows::time(row, 7)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Deliveries of a job in these states, by their index alone.
fn count(conn: &Connection, job: i64, states: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM delivery INDEXED BY delivery_job WHERE job = ?1 AND {states}");
    conn.prepare_cached(&sql)?.query_row([job], |row| rows::number(row, 0))
}

/// What a cancel keeps from being sent, as it stands now. None: there is no such job.
pub(super) fn waiting(conn: &Connection, view: &View, job: u64) -> Outcome<Option<u64>> {
    let sql = "SELECT CASE WHEN position IS NULL THEN 0 ELSE max(expected - delivery_count, 0) END FROM replay_job WHERE id = ?1";
    let unmade = conn.prepare_cached(sql)?.query_row([job as i64], |row| rows::number(row, 0)).optional()?;
    let Some(unmade) = unmade else { return Ok(None) };
    let sql = "SELECT seq FROM delivery INDEXED BY delivery_job WHERE job = ?1 AND state < 3";
    let mut select = conn.prepare_cached(sql)?;
    let (mut made, mut found) = (0, select.query([job as i64])?);
    while let Some(row) = found.next()? {
        made += u64::from(!view.works_on(row.get(0)?));
    }
    Ok(Some(unmade + made))
}

/// From here on nothing is added to the job, and what waits of it is taken back by and by.
pub(super) fn cancel(conn: &Connection, book: &mut Book, job: u64, by: &str) -> Outcome<()> {
    let sql =
        "UPDATE replay_job SET cancelled_by = ifnull(cancelled_by, ?2), position = NULL, removing = 1 WHERE id = ?1";
    conn.prepare_cached(sql)?.execute(params![job as i64, by])?;
    book.rings(Topic::Replays);
    Ok(())
}

/// Takes back one batch of what is cancelled.
pub(super) fn take_back(conn: &Connection, book: &mut Book) -> Outcome<ReplayStep> {
    let mut select = conn.prepare_cached("SELECT id FROM replay_job WHERE removing = 1 ORDER BY id")?;
    let jobs: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let busy = book.claims.live(book.now());
    let mut step = ReplayStep::Nothing;
    for job in jobs {
        let sql = "SELECT seq, handler_id, state, attempts FROM delivery INDEXED BY delivery_job \
                   WHERE job = ?1 AND state < 3 ORDER BY state, seq LIMIT ?2";
        let found: Vec<[i64; 4]> = conn
            .prepare_cached(sql)?
            // Those in work stay in front; there are never more of them than this.
            .query_map([job, (BATCH + busy.len()) as i64], |row| {
                Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
            })?
            .collect::<rusqlite::Result<_>>()?;
        if found.is_empty() {
            conn.prepare_cached("UPDATE replay_job SET removing = 0 WHERE id = ?1")?.execute([job])?;
            continue;
        }
        let free: Vec<[i64; 4]> = found.into_iter().filter(|[seq, ..]| !busy.contains_key(seq)).collect();
        if free.is_empty() {
            // An attempt that is under way may end in a retry, which is taken back too.
            step = ReplayStep::Waits;
            continue;
        }
        let mut untried = 0;
        for [seq, handler, state, attempts] in free {
            give_up(conn, book, seq, handler, state, attempts > 0)?;
            untried += i64::from(attempts == 0);
        }
        conn.prepare_cached("UPDATE replay_job SET cancelled = cancelled + ?2 WHERE id = ?1")?
            .execute([job, untried])?;
        return Ok(ReplayStep::Worked);
    }
    Ok(step)
}

/// One that was never tried leaves nothing behind; what was tried has failed.
fn give_up(
    conn: &Connection,
    book: &mut Book,
    seq: i64,
    handler: i64,
    state: i64,
    tried: bool,
) -> rusqlite::Result<()> {
    // A look that began before this ends must not hand it out.
    book.settled.push(seq);
    let now = book.now().0;
    let tally = book.tally(handler);
    tally.add(state, -1);
    if tried {
        tally.add(FAILED, 1);
        conn.prepare_cached("UPDATE delivery SET state = 4, hold = NULL, settled_at = ?2 WHERE seq = ?1")?
            .execute([seq, now])?;
    } else {
        conn.prepare_cached("DELETE FROM delivery WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(())
}

/// Jobs go with their events, once they are whole and all of them is settled; not before the names of their handlers, which hold their
/// numbers.
pub(super) fn prune(conn: &Connection, before: Timestamp) -> rusqlite::Result<()> {
    let sql = "DELETE FROM replay_job WHERE started_at < ?1 AND position IS NULL AND removing = 0 AND NOT EXISTS \
               (SELECT 1 FROM delivery d INDEXED BY delivery_job WHERE d.job = replay_job.id AND d.state < 3) \
               AND NOT EXISTS (SELECT 1 FROM handler h WHERE h.id = replay_job.handler_id AND h.pattern IS NOT NULL)";
    conn.prepare_cached(sql)?.execute([before.0])?;
    Ok(())
}
