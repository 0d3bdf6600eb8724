//! Why polls rest without anybody having paused them: a source that is asked elsewhere than its state comes from and that no person
//! has confirmed (RULES R2.4), and streams that a handler has no more room for (RULES R9.1).

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::problems;
use super::writer::Outcome;
use crate::model::{ProblemKind, SourceName, StreamName};
use crate::store::{Readdressed, SourceSetup, StoreError, Topic};

/// Whether anything is known of a stream `t` that another address could contradict.
pub(super) const HAS_STATE: &str =
    "(t.mark IS NOT NULL OR t.listed_once = 1 OR EXISTS (SELECT 1 FROM record r WHERE r.stream_id = t.id))";

pub(super) fn is_resting(conn: &Connection, stream: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT t.rests IS NOT NULL OR s.new_address IS NOT NULL FROM stream t JOIN source s ON s.id = t.source_id \
               WHERE t.id = ?1";
    conn.prepare_cached(sql)?.query_row([stream], |row| row.get(0))
}

/// Compares the address of a source with the one that its state comes from.
pub(super) fn address(conn: &Connection, setup: &SourceSetup) -> rusqlite::Result<Option<Readdressed>> {
    let mut find = conn.prepare_cached("SELECT id, address FROM source WHERE name = ?1")?;
    let found = find.query_row([setup.name.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((id, stored)): Option<(i64, Option<String>)> = found else { return Ok(None) };
    let to = &setup.address;
    match stored.filter(|from| from != to) {
        Some(from) if has_state(conn, id)? => {
            conn.execute("UPDATE source SET new_address = ?2 WHERE id = ?1", params![id, to])?;
            Ok(Some(Readdressed { source: setup.name.clone(), from, to: to.clone() }))
        }
        _ => {
            conn.execute("UPDATE source SET address = ?2, new_address = NULL WHERE id = ?1", params![id, to])?;
            Ok(None)
        }
    }
}

fn has_state(conn: &Connection, source: i64) -> rusqlite::Result<bool> {
    let sql = format!("SELECT 1 FROM stream t WHERE t.source_id = ?1 AND {HAS_STATE}");
    conn.prepare_cached(&sql)?.exists([source])
}

/// A person says that the new address shows the same records.
pub(super) fn keep_source(conn: &Connection, book: &mut Book, name: &SourceName) -> Outcome<bool> {
    let id = book.sources.get(name).copied().ok_or(StoreError::Conflict)?;
    let sql = "UPDATE source SET address = new_address, new_address = NULL WHERE id = ?1 AND new_address IS NOT NULL";
    if conn.prepare_cached(sql)?.execute([id])? == 0 {
        return Ok(false);
    }
    // Where a listing stopped is a place at the former address: it begins anew.
    conn.prepare_cached("UPDATE stream SET resume = NULL WHERE source_id = ?1")?.execute([id])?;
    problems::close(conn, book, ProblemKind::AddressChanged, name.as_str())?;
    book.rings(Topic::Polls);
    Ok(true)
}

/// A stream was reset. With the last one that knew anything, nothing is left that the new address could contradict.
pub(super) fn forgotten(conn: &Connection, book: &mut Book, stream: i64) -> Outcome<()> {
    let sql = "SELECT source_id FROM stream WHERE id = ?1";
    let source: i64 = conn.prepare_cached(sql)?.query_row([stream], |row| row.get(0))?;
    let name = book.stream_names.get(&stream).map(|name| name.source.clone());
    if let Some(name) = name
        && !has_state(conn, source)?
    {
        keep_source(conn, book, &name)?;
    }
    Ok(())
}

/// These streams rest from now on, and no others.
pub(super) fn rest_streams(conn: &Connection, book: &mut Book, resting: &[(StreamName, String)]) -> Outcome<()> {
    let mut select = conn.prepare_cached("SELECT id, rests FROM stream WHERE rests IS NOT NULL")?;
    let before: HashMap<i64, String> =
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let wanted: HashMap<i64, &String> =
        resting.iter().filter_map(|(name, reason)| book.streams.get(name).map(|id| (*id, reason))).collect();
    let mut update = conn.prepare_cached("UPDATE stream SET rests = ?2 WHERE id = ?1")?;
    for (id, reason) in wanted.iter().filter(|(id, reason)| before.get(*id) != Some(**reason)) {
        update.execute(params![id, reason])?;
    }
    for id in before.keys().filter(|id| !wanted.contains_key(*id)) {
        update.execute(params![id, None::<String>])?;
        book.rings(Topic::Polls);
    }
    Ok(())
}
