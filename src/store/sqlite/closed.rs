//! How long handlers were closed: paused, not enabled or not configured. Such a time is no part of the age of their deliveries (RULES R7.1).
//! It is summed up for each handler, and a delivery keeps the sum of the moment at which it became due: so a backlog of millions costs
//! nothing when its handler opens again.

use rusqlite::Connection;

use super::book::Book;

const OPENED: &str = "UPDATE handler SET closed_for = closed_for + max(?1 - closed_at, 0), closed_at = NULL \
     WHERE closed_at IS NOT NULL AND configured = 1 AND enabled = 1 AND paused_by IS NULL";

const CLOSED: &str = "UPDATE handler SET closed_at = ?1 \
     WHERE closed_at IS NULL AND NOT (configured = 1 AND enabled = 1 AND paused_by IS NULL)";

/// Notes which handlers opened or closed just now. To be called in the transaction that opens or closes any.
pub(super) fn note(conn: &Connection, book: &mut Book) -> rusqlite::Result<()> {
    let now = book.now().0;
    let changed = conn.prepare_cached(OPENED)?.execute([now])? + conn.prepare_cached(CLOSED)?.execute([now])?;
    if changed > 0 {
        book.load_names(conn)?;
    }
    Ok(())
}
