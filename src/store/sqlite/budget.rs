//! Budgets of credentials: what was spent and how long to keep quiet, as text of the poller's own making.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::book::Book;
use super::writer::Outcome;

/// A credential that nobody asked with for so long is gone from the configuration; no window is longer.
const FORGET: Duration = Duration::from_secs(60 * 24 * 3600);

pub(super) fn put(conn: &Connection, book: &Book, key: &str, state: &str) -> Outcome<()> {
    let now = book.now();
    conn.prepare_cached("DELETE FROM budget WHERE put_at < ?1")?.execute([now.minus(FORGET).0])?;
    let sql = "INSERT INTO budget (key, state, put_at) VALUES (?1, ?2, ?3) \
               ON CONFLICT (key) DO UPDATE SET state = excluded.state, put_at = excluded.put_at";
    conn.prepare_cached(sql)?.execute(params![key, state, now.0])?;
    Ok(())
}

pub(super) fn all(conn: &Connection) -> Outcome<Vec<(String, String)>> {
    let mut select = conn.prepare_cached("SELECT key, state FROM budget ORDER BY key")?;
    let budgets = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(budgets.collect::<rusqlite::Result<_>>()?)
}
