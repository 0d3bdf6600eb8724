//! Problems: one open row for each kind and subject; closing removes it.

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::writer::Outcome;
use super::{own, rows};
use crate::model::{HeldDecision, Problem, ProblemKind};

pub(super) fn open(
    conn: &Connection,
    book: &mut Book,
    kind: ProblemKind,
    subject: &str,
    message: &str,
) -> Outcome<bool> {
    let sql = "INSERT INTO problem (kind, subject, message, opened_at, last_seen_at, count, acknowledged) \
               VALUES (?1, ?2, ?3, ?4, ?4, 1, 0) ON CONFLICT (kind, subject) \
               DO UPDATE SET message = ?3, last_seen_at = ?4, count = count + 1 RETURNING count";
    let count: i64 = conn
        .prepare_cached(sql)?
        .query_row(params![kind.as_str(), subject, message, book.now().0], |row| row.get(0))?;
    if count == 1 {
        own::problem_opened(conn, book, kind, subject, message)?;
    }
    Ok(count == 1)
}

pub(super) fn close(conn: &Connection, book: &mut Book, kind: ProblemKind, subject: &str) -> Outcome<bool> {
    let sql = "DELETE FROM problem WHERE kind = ?1 AND subject = ?2 RETURNING message, opened_at, count";
    let mut delete = conn.prepare_cached(sql)?;
    let closed = delete
        .query_row(params![kind.as_str(), subject], |row| Ok((row.get(0)?, rows::time(row, 1)?, rows::number(row, 2)?)))
        .optional()?;
    let Some((message, opened_at, count)) = closed else { return Ok(false) };
    own::problem_closed(conn, book, kind, subject, own::Closed { message, opened_at, count })?;
    Ok(true)
}

pub(super) fn acknowledge(conn: &Connection, book: &mut Book, kind: ProblemKind, subject: &str) -> Outcome<bool> {
    // What only tells of something that is over closes with being seen.
    if matches!(kind, ProblemKind::StreamRebaselined | ProblemKind::EventIdTaken) {
        return close(conn, book, kind, subject);
    }
    let sql = "UPDATE problem SET acknowledged = 1 WHERE kind = ?1 AND subject = ?2 RETURNING 1";
    let mut update = conn.prepare_cached(sql)?;
    let found: Option<i64> = update.query_row(params![kind.as_str(), subject], |row| row.get(0)).optional()?;
    Ok(found.is_some())
}

/// A guard holds so many records with it. What a person decided before stays, so that an approval can be used.
pub(super) fn hold(
    conn: &Connection,
    book: &mut Book,
    kind: ProblemKind,
    subject: &str,
    message: &str,
    held: u64,
) -> Outcome<bool> {
    let new = open(conn, book, kind, subject, message)?;
    conn.prepare_cached("UPDATE problem SET held = ?3 WHERE kind = ?1 AND subject = ?2")?.execute(params![
        kind.as_str(),
        subject,
        held as i64
    ])?;
    Ok(new)
}

/// What a person decided about what is held now. False: nothing is held.
pub(super) fn decide(
    conn: &Connection,
    book: &Book,
    kind: ProblemKind,
    subject: &str,
    approved: bool,
    by: &str,
) -> Outcome<bool> {
    let sql = "UPDATE problem SET approved = ?3, decided_held = held, decided_by = ?4, decided_at = ?5 \
               WHERE kind = ?1 AND subject = ?2 AND held IS NOT NULL";
    let mut update = conn.prepare_cached(sql)?;
    Ok(update.execute(params![kind.as_str(), subject, approved, by, book.now().0])? > 0)
}

pub(super) fn list(conn: &Connection) -> Outcome<Vec<Problem>> {
    let sql = "SELECT kind, subject, message, opened_at, last_seen_at, count, acknowledged, held, approved, decided_held, \
               decided_by, decided_at FROM problem \
               ORDER BY opened_at, kind, subject";
    let mut select = conn.prepare_cached(sql)?;
    let problems = select.query_map([], |row| {
        let kind: String = row.get(0)?;
        Ok(Problem {
            kind: kind.parse().map_err(|_| rusqlite::Error::InvalidColumnName(kind))?,
            subject: row.get(1)?,
            message: row.get(2)?,
            opened_at: rows::time(row, 3)?,
            last_seen_at: rows::time(row, 4)?,
            count: rows::number(row, 5)?,
            acknowledged: row.get(6)?,
            held: row.get::<_, Option<i64>>(7)?.map(|held| held as u64),
            decided: decision(row)?,
        })
    })?;
    Ok(problems.collect::<rusqlite::Result<_>>()?)
}

fn decision(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<HeldDecision>> {
    let Some(approved) = row.get::<_, Option<bool>>(8)? else { return Ok(None) };
    let (held, by, at) = (rows::number(row, 9)?, row.get(10)?, rows::time(row, 11)?);
    Ok(Some(HeldDecision { approved, held, by, at }))
}
