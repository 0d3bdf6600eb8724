//! What is kept beside streams and events: tokens that providers gave, sealed by whoever asks, and webhooks that we registered.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::writer::Outcome;
use crate::model::SourceName;

/// A credential that nobody renewed for so long is gone from the configuration.
const FORGET: Duration = Duration::from_secs(400 * 24 * 3600);

pub(super) fn put_token(conn: &Connection, book: &Book, credential: &str, sealed: &[u8]) -> Outcome<()> {
    let now = book.now();
    conn.prepare_cached("DELETE FROM token WHERE put_at < ?1")?.execute([now.minus(FORGET).0])?;
    let sql = "INSERT INTO token (credential, sealed, put_at) VALUES (?1, ?2, ?3) \
               ON CONFLICT (credential) DO UPDATE SET sealed = excluded.sealed, put_at = excluded.put_at";
    conn.prepare_cached(sql)?.execute(params![credential, sealed, now.0])?;
    Ok(())
}

pub(super) fn token(conn: &Connection, credential: &str) -> Outcome<Option<Bytes>> {
    let mut select = conn.prepare_cached("SELECT sealed FROM token WHERE credential = ?1")?;
    let found: Option<Vec<u8>> = select.query_row([credential], |row| row.get(0)).optional()?;
    Ok(found.map(Bytes::from))
}

pub(super) fn put_registration(conn: &Connection, book: &Book, source: &SourceName, state: &str) -> Outcome<()> {
    let sql = "INSERT INTO registration (source, state, put_at) VALUES (?1, ?2, ?3) \
               ON CONFLICT (source) DO UPDATE SET state = excluded.state, put_at = excluded.put_at";
    conn.prepare_cached(sql)?.execute(params![source.as_str(), state, book.now().0])?;
    Ok(())
}

pub(super) fn registration(conn: &Connection, source: &SourceName) -> Outcome<Option<String>> {
    let mut select = conn.prepare_cached("SELECT state FROM registration WHERE source = ?1")?;
    Ok(select.query_row([source.as_str()], |row| row.get(0)).optional()?)
}
