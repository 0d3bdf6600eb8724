//! What makes a stream due besides its schedule: notices of real webhooks with the looks that follow them, a person, a look back.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::book::{Book, StreamHold};
use super::poll::make_due;
use super::score;
use super::writer::Outcome;
use crate::model::StreamName;
use crate::store::{PollEnd, PollResult, Topic};

/// Looks that follow a run that found nothing after a notice: lists trail their webhooks (RULES R5.7).
const LOOKS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// What a run's end makes of the notice that waited when it began (None: it stays as it is), and how soon to look again.
pub(super) fn after_notice(hold: Option<&StreamHold>, end: &PollEnd) -> (Option<Option<i64>>, Option<Duration>) {
    let Some(StreamHold { notice: Some(looks), noticed: false, .. }) = hold else { return (None, None) };
    match end.result {
        PollResult::Failed | PollResult::Deferred => (None, None),
        PollResult::Ok | PollResult::NotModified if end.changes > 0 => (Some(None), None),
        PollResult::Ok | PollResult::NotModified => match usize::try_from(*looks).ok().and_then(|n| LOOKS.get(n)) {
            Some(soon) => (Some(Some(looks + 1)), Some(*soon)),
            None => (Some(None), None),
        },
    }
}

/// A real webhook says that something changed: the stream is polled now, and a run under way does not count.
pub(super) fn notice(conn: &Connection, book: &mut Book, stream: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE stream SET notice = 0 WHERE id = ?1")?.execute([stream])?;
    if let Some(hold) = book.stream_holds.get_mut(&stream) {
        hold.noticed = true;
    }
    score::noticed(conn, stream)?;
    make_due(conn, book, stream)
}

/// Due at the latest so long from now, or from the end of the run that is on.
pub(super) fn poll_within(conn: &Connection, book: &mut Book, name: &StreamName, after: Duration) -> Outcome<()> {
    let stream = book.stream(name)?;
    if let Some(hold) = book.stream_holds.get_mut(&stream) {
        hold.within = Some(hold.within.map_or(after, |within| within.min(after)));
    }
    let at = book.now().plus(after).0;
    conn.prepare_cached("UPDATE stream SET next_poll_at = min(ifnull(next_poll_at, ?2), ?2) WHERE id = ?1")?
        .execute([stream, at])?;
    book.rings(Topic::Polls);
    Ok(())
}

/// The next complete run asks from here; the mark stays.
pub(super) fn set_backfill(
    conn: &Connection,
    book: &mut Book,
    name: &StreamName,
    from: &Option<String>,
) -> Outcome<()> {
    let stream = book.stream(name)?;
    conn.prepare_cached("UPDATE stream SET backfill = ?2, validators = NULL WHERE id = ?1")?
        .execute(params![stream, from])?;
    if from.is_some() {
        make_due(conn, book, stream)?;
    }
    Ok(())
}
