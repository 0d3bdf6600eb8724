//! Handlers that come with a replay to an address and end with it. Such a one is a row beside those of the configuration while anything
//! of its replay is unsettled; at its end the address is forgotten, and its name stays for as long as something is kept that was sent to it.

use rusqlite::{Connection, Row, params};

use super::book::Book;
use super::writer::Outcome;
use super::{closed, problems};
use crate::model::{HandlerName, Timestamp};
use crate::store::Temporary;

/// What [`read`] reads.
pub(super) const COLUMNS: &str = "name, pattern, target, refused";

/// A handler of these columns, the first of which is at `first`; None: it is one of the configuration, or at its end.
pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Temporary>> {
    let (like, url): (Option<String>, Option<String>) = (row.get(first + 1)?, row.get(first + 2)?);
    let (Some(like), Some(url)) = (like, url) else { return Ok(None) };
    let name = HandlerName::from(row.get::<_, String>(first)?);
    Ok(Some(Temporary { name, like: like.into(), url, refused: row.get(first + 3)? }))
}

/// Those that are not at their end.
pub(super) fn list(conn: &Connection) -> Outcome<Vec<Temporary>> {
    let sql = format!("SELECT {COLUMNS} FROM handler WHERE target IS NOT NULL ORDER BY name");
    let mut select = conn.prepare_cached(&sql)?;
    let found = select.query_map([], |row| read(row, 0))?.filter_map(Result::transpose);
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Makes the handler of a replay that was just written down, and gives its name.
pub(super) fn make(
    conn: &Connection,
    book: &mut Book,
    job: i64,
    like: &HandlerName,
    url: &str,
) -> rusqlite::Result<HandlerName> {
    let name = HandlerName::temporary(like, job as u64);
    let sql = "INSERT INTO handler (name, configured, enabled, pattern, target) VALUES (?1, 1, 1, ?2, ?3) RETURNING id";
    let mut insert = conn.prepare_cached(sql)?;
    let id: i64 = insert.query_row(params![name.as_str(), like.as_str(), url], |row| row.get(0))?;
    conn.prepare_cached("UPDATE replay_job SET handler = ?2, handler_id = ?3 WHERE id = ?1")?.execute(params![
        job,
        name.as_str(),
        id
    ])?;
    book.load_names(conn)?;
    Ok(name)
}

/// Notes which of them can be sent to under the configuration that is registered just now.
pub(super) fn register(conn: &Connection, temporaries: &[Temporary]) -> rusqlite::Result<()> {
    let sql = "UPDATE handler SET configured = ?4 IS NULL, pattern = ?2, refused = ?4 WHERE name = ?1 AND target = ?3";
    let mut update = conn.prepare_cached(sql)?;
    for Temporary { name, like, url, refused } in temporaries {
        update.execute(params![name.as_str(), like.as_str(), url, refused])?;
    }
    Ok(())
}

/// Whether a problem would tell of one that is at its end, and whose problems nothing would close any more.
pub(super) fn is_over(book: &Book, subject: &str) -> bool {
    let name = HandlerName::from(subject);
    let is_there = || book.handler_ids.get(&name).and_then(|id| book.handlers.get(id)).is_some_and(|card| card.lasts);
    name.replay().is_some() && !is_there()
}

const SELECT_ENDED: &str = "SELECT id, name FROM handler h WHERE target IS NOT NULL AND pending + held = 0 AND NOT EXISTS \
     (SELECT 1 FROM replay_job j WHERE j.handler_id = h.id AND (j.position IS NOT NULL OR j.removing = 1))";

const END: &str = "UPDATE handler SET target = NULL, refused = NULL, configured = 0, paused_by = NULL, paused_reason = NULL, \
     wait_until = NULL, strain = 0 WHERE id = ?1";

/// Ends those whose replay is whole and settled, with what was open of them.
pub(super) fn end(conn: &Connection, book: &mut Book) -> Outcome<()> {
    // What others of this very transaction have made or settled counts.
    book.flush(conn)?;
    let mut select = conn.prepare_cached(SELECT_ENDED)?;
    let ended: Vec<(i64, String)> =
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    if ended.is_empty() {
        return Ok(());
    }
    let open = problems::list(conn)?;
    for (id, name) in &ended {
        conn.prepare_cached(END)?.execute([id])?;
        for problem in open.iter().filter(|problem| problem.subject == *name) {
            problems::close(conn, book, problem.kind, name)?;
        }
    }
    closed::note(conn, book)?;
    Ok(book.load_names(conn)?)
}

/// Names go when nothing is kept any more that was sent to them, and with them their replays.
pub(super) fn prune(conn: &Connection, book: &mut Book, before: Timestamp) -> rusqlite::Result<()> {
    let sql = "DELETE FROM handler WHERE pattern IS NOT NULL AND target IS NULL AND pending + held + delivered + failed = 0 AND NOT EXISTS \
               (SELECT 1 FROM replay_job j WHERE j.handler_id = handler.id AND j.started_at >= ?1)";
    if conn.prepare_cached(sql)?.execute([before.0])? > 0 {
        book.load_names(conn)?;
    }
    Ok(())
}
