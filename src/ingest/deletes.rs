//! Records that a complete listing no longer shows, and the guard that keeps a broken listing from becoming mass deletion (RULES R6).

use super::bitmap::Bitmap;
use super::going_on::GoingOn;
use crate::model::Key;
use crate::planted::{self, Fault};
use crate::provider::Deletes;
use crate::source::SourceStream;
use crate::store::{BodyWrite, RecordWrite, Result, Row, Store};

/// Rows read at a time.
const PAGE: usize = 2_000;
/// So few deletions are never held for their share alone.
pub const ALWAYS_ALLOWED: u64 = 10;

/// What a complete listing did not show.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Absent {
    /// Absent often enough: deleted.
    pub gone: u64,
    /// Absent, and waiting for another listing.
    pub missed: u64,
    /// Keys known when the run began that it was to list.
    pub listed: u64,
    /// All listed keys known when the run began: those of parents that were not listed this time as well.
    pub known: u64,
}

/// A record that a listing did not show.
#[derive(Debug)]
pub struct Missing {
    pub key: Key,
    pub row: Row,
    /// Absent often enough.
    pub gone: bool,
}

/// Walks through the live rows in pages: those that a run did not see and that nobody wrote since it began.
pub struct Walk<'a> {
    stream: &'a SourceStream,
    seen: &'a Bitmap,
    /// Tells whether the run listed where a key lies.
    going: &'a GoingOn,
    began_at: u64,
    after: Option<Key>,
    done: bool,
    pub found: Absent,
}

impl<'a> Walk<'a> {
    pub fn new(stream: &'a SourceStream, seen: &'a Bitmap, going: &'a GoingOn, began_at: u64) -> Walk<'a> {
        Walk { stream, seen, going, began_at, after: None, done: false, found: Absent::default() }
    }

    /// The next page's missing records; None at the end. What was found is summed up on the way.
    pub async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<Missing>>> {
        if self.done {
            return Ok(None);
        }
        let rows = store.rows_after(&self.stream.name, self.after.take(), PAGE).await?;
        self.done = rows.len() < PAGE;
        self.after = rows.last().map(|(key, _)| key.clone());
        let mut missing = Vec::new();
        for (key, row) in rows {
            if !row.listed || row.deleted {
                continue;
            }
            let written_since = row.change_number > self.began_at && !planted::is(Fault::StalePage);
            self.found.known += u64::from(!written_since);
            if !self.going.lists(&key) {
                continue;
            }
            self.found.listed += u64::from(!written_since);
            if written_since || self.seen.has(row.number) {
                continue;
            }
            let gone = row.absences + 1 >= self.stream.spec.deletes.confirm_after;
            self.found.gone += u64::from(gone);
            self.found.missed += u64::from(!gone);
            missing.push(Missing { key, row, gone });
        }
        Ok(Some(missing))
    }
}

/// Counts what the run did not see.
pub async fn count(store: &dyn Store, mut walk: Walk<'_>) -> Result<Absent> {
    while walk.next(store).await?.is_some() {}
    Ok(walk.found)
}

/// Whether the absences may be believed.
#[derive(Debug, PartialEq)]
pub enum Guard {
    Under,
    /// Too many at once: only the deletes are held.
    Held(String),
    /// Nothing at all after there was something: the whole run is held.
    Empty(String),
}

/// Judges the absences of a run that listed `shown` records. `today` were deleted for their absence in the last 24 h.
pub fn guard(limits: &Deletes, absent: Absent, shown: u64, today: u64) -> Guard {
    let Absent { gone, listed, known, .. } = absent;
    if shown == 0 && listed > 0 {
        return Guard::Empty(format!(
            "the listing is empty, but {listed} records were known. Nothing was changed. If the records are really gone, approve it; if not, look at the provider's answer."
        ));
    }
    if gone == 0 {
        return Guard::Under;
    }
    let sum = gone + today;
    let share = sum > ALWAYS_ALLOWED && sum * 100 > (known + today) * u64::from(limits.max_percent);
    let count = sum > limits.max_count;
    if !share && !count && gone < known {
        return Guard::Under;
    }
    let before = if today > 0 { format!(" ({today} more were deleted within a day)") } else { String::new() };
    Guard::Held(format!(
        "{gone} of {known} records are absent from the listing{before}: more than {} % or {} at once, or all, so no delete was announced. Everything else goes on. If they are really gone, approve it.",
        limits.max_percent, limits.max_count
    ))
}

/// The row of a record that one more complete listing did not show.
pub fn missed_once_more(key: &Key, row: &Row) -> RecordWrite {
    RecordWrite { absences: row.absences + 1, ..as_stored(key, row) }
}

/// The row of a record that the new definition no longer lists: gone without a word (RULES R4.2).
pub fn retired(key: &Key, row: &Row) -> RecordWrite {
    RecordWrite { deleted: true, silent: true, raw_hash: None, ..as_stored(key, row) }
}

/// A row as it is, to be written with a difference.
pub fn as_stored(key: &Key, row: &Row) -> RecordWrite {
    RecordWrite {
        key: key.clone(),
        expected: Some(row.change_number),
        fingerprint: row.fingerprint,
        raw_hash: row.raw_hash,
        webhook_form: row.webhook_form,
        version: row.version.clone(),
        version_changes: row.version_changes,
        revision: row.revision,
        deleted: row.deleted,
        silent: row.silent,
        listed: row.listed,
        by: row.by,
        absences: row.absences,
        place: None,
        body: BodyWrite::Keep,
        event: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(gone: u64, listed: u64) -> Absent {
        Absent { gone, missed: 0, listed, known: listed }
    }

    #[test]
    fn mass_deletion_is_held_and_a_few_deletes_are_not() {
        let limits = Deletes { when: None, confirm_after: 2, max_percent: 10, max_count: 1_000 };
        for (gone, listed, today, held) in [
            (0, 3, 500, false),
            (1, 2, 0, false),
            (10, 20, 0, false),
            (11, 20, 0, true),
            (11, 110, 0, false),
            (12, 110, 0, true),
            (1_000, 100_000, 0, false),
            (1_001, 100_000, 0, true),
            (501, 100_000, 500, true),
            (6, 94, 6, true),
            (4, 94, 6, false),
            (3, 3, 0, true),
            (1, 1, 0, true),
        ] {
            let verdict = guard(&limits, absent(gone, listed), listed - gone + 1, today);
            assert_eq!(matches!(verdict, Guard::Held(_)), held, "{gone} of {listed} after {today}: {verdict:?}");
        }
    }

    #[test]
    fn an_empty_listing_after_a_full_one_holds_the_run() {
        let limits = Deletes { when: None, confirm_after: 1, max_percent: 100, max_count: 1_000 };
        assert!(matches!(guard(&limits, absent(3, 3), 0, 0), Guard::Empty(_)));
        assert_eq!(guard(&limits, absent(0, 0), 0, 0), Guard::Under);
    }
}
