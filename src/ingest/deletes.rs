//! Records that a complete listing no longer shows, and the guard that keeps a broken listing from becoming mass deletion (RULES R6).

use super::run::Bitmap;
use crate::model::Key;
use crate::planted::{self, Fault};
use crate::provider::Deletes;
use crate::source::SourceStream;
use crate::store::{BodyWrite, RecordWrite, Result, Row, Store};

/// Rows read at a time.
const PAGE: usize = 2_000;
/// So few deletions are never held for their share alone.
const ALWAYS_ALLOWED: usize = 10;

/// What a complete listing did not show.
#[derive(Debug, Default)]
pub struct Absent {
    /// Absent often enough: deleted.
    pub gone: Vec<Key>,
    /// Absent, and waiting for another listing.
    pub missed: Vec<(Key, Row)>,
    /// Listed keys that were known when the run began.
    pub listed: usize,
}

/// Finds the live rows that the run did not see and nobody wrote since it began.
pub async fn find(store: &dyn Store, stream: &SourceStream, seen: &Bitmap, began_at: u64) -> Result<Absent> {
    let mut absent = Absent::default();
    let mut after = None;
    loop {
        let rows = store.rows_after(&stream.name, after.take(), PAGE).await?;
        let last = rows.last().map(|(key, _)| key.clone());
        for (key, row) in rows {
            if !row.listed || row.deleted {
                continue;
            }
            if row.change_number <= began_at {
                absent.listed += 1;
            }
            let written_since = row.change_number > began_at && !planted::is(Fault::StalePage);
            if seen.has(row.number) || written_since {
                continue;
            }
            if row.absences + 1 >= stream.spec.deletes.confirm_after {
                absent.gone.push(key);
            } else {
                absent.missed.push((key, row));
            }
        }
        match last {
            Some(key) => after = Some(key),
            None => return Ok(absent),
        }
    }
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

/// Judges the absences of a run that listed `shown` records.
pub fn guard(limits: &Deletes, absent: &Absent, shown: u64) -> Guard {
    if shown == 0 && absent.listed > 0 {
        return Guard::Empty(format!(
            "the listing is empty, but {} records were known. Nothing was changed. If the records are really gone, approve it; if not, look at the provider's answer.",
            absent.listed
        ));
    }
    let (gone, listed) = (absent.gone.len(), absent.listed);
    let share = gone > ALWAYS_ALLOWED && gone * 100 > listed * limits.max_percent as usize;
    let count = gone as u64 > limits.max_count;
    let all = gone > 0 && gone == listed && listed > ALWAYS_ALLOWED;
    if share || count || all {
        return Guard::Held(format!(
            "{gone} of {listed} records are absent from the listing: more than {} % or {} at once, so no delete was announced. Everything else went out.",
            limits.max_percent, limits.max_count
        ));
    }
    Guard::Under
}

/// The row of a record that one more complete listing did not show.
pub fn missed_once_more(key: &Key, row: &Row) -> RecordWrite {
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
        absences: row.absences + 1,
        body: BodyWrite::Keep,
        event: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(gone: usize, listed: usize) -> Absent {
        Absent { gone: (0..gone).map(|n| Key::from(format!("k{n}"))).collect(), missed: Vec::new(), listed }
    }

    #[test]
    fn mass_deletion_is_held_and_a_few_deletes_are_not() {
        let limits = Deletes { when: None, confirm_after: 2, max_percent: 10, max_count: 1_000 };
        for (gone, listed, held) in [
            (1, 2, false),
            (10, 20, false),
            (11, 20, true),
            (11, 110, false),
            (12, 110, true),
            (1_001, 100_000, true),
            (3, 3, false),
        ] {
            let verdict = guard(&limits, &absent(gone, listed), (listed - gone) as u64 + 1);
            assert_eq!(matches!(verdict, Guard::Held(_)), held, "{gone} of {listed}: {verdict:?}");
        }
    }

    #[test]
    fn an_empty_listing_after_a_full_one_holds_the_run() {
        let limits = Deletes { when: None, confirm_after: 1, max_percent: 100, max_count: 1_000 };
        assert!(matches!(guard(&limits, &absent(3, 3), 0), Guard::Empty(_)));
        assert_eq!(guard(&limits, &absent(0, 0), 0), Guard::Under);
    }
}
