//! A step of the wall clock (RULES R8.1): due times and leases move with it, so that every wait that is under way stays as long
//! as it was. What has happened keeps its date.

use rusqlite::Connection;

use super::book::Book;
use super::writer::Outcome;
use crate::model::Timestamp;
use crate::store::Topic;

const SHIFTS: [&str; 5] = [
    "UPDATE stream SET next_poll_at = next_poll_at + ?1, last_poll_at = last_poll_at + ?1, last_ok_at = last_ok_at + ?1",
    "UPDATE delivery SET due_at = due_at + ?1, first_due_at = first_due_at + ?1 WHERE state < 3",
    "UPDATE handler SET wait_until = wait_until + ?1 WHERE wait_until IS NOT NULL",
    "UPDATE replay_job SET last_due_at = last_due_at + ?1 WHERE position IS NOT NULL",
    "UPDATE handler SET closed_at = closed_at + ?1 WHERE closed_at IS NOT NULL",
];

pub(super) fn shift(conn: &Connection, book: &mut Book, millis: i64) -> Outcome<()> {
    for sql in SHIFTS {
        conn.execute(sql, [millis])?;
    }
    let shifted = |at: &mut Timestamp| at.0 = at.0.saturating_add(millis);
    book.stream_holds.values_mut().for_each(|hold| shifted(&mut hold.until));
    book.inbound_holds.values_mut().for_each(|hold| shifted(&mut hold.until));
    book.claims.shift(millis);
    for card in book.handlers.values_mut() {
        card.wait_until.iter_mut().chain(&mut card.closed_at).for_each(shifted);
    }
    for topic in [Topic::Polls, Topic::Inbounds, Topic::Deliveries] {
        book.rings(topic);
    }
    Ok(())
}
