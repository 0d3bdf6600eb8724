//! The first look, and the one under a changed definition: many pages in one commit, without a word; only what `first_run` picks
//! is announced, when the look is complete (RULES R4.1).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::IngestError;
use super::judge::Copy;
use super::pending::Waiting;
use super::run::{Run, Way};
use super::settle::hash;
use crate::model::{Key, Timestamp};
use crate::store::{BodyWrite, JournalEntry, RecordWrite, SetAside, StoreError};

/// Writes that a silent look gathers before it commits: 10 to 50 pages at a time are 2.6 times faster than one.
const SILENT_WRITES: usize = 20_000;
const SILENT_BYTES: usize = 8 << 20;

/// Writes that wait for their commit.
#[derive(Default)]
pub(super) struct OpenBatch {
    writes: Vec<RecordWrite>,
    places: HashMap<u64, usize>,
    bytes: usize,
    retaken: u64,
}

/// What of a first look is announced.
pub(super) enum Pick {
    Nothing,
    /// What the provider dates at or after this.
    Since(Timestamp),
    /// The newest so many; kept here until it is known which they are.
    Last(Newest),
}

/// The newest records of a look so far.
pub(super) struct Newest {
    count: usize,
    records: BTreeMap<Age, (JournalEntry, RecordWrite)>,
    ages: HashMap<Key, Age>,
}

/// Where a record stands among those of a look: by the provider's time, then by place, as a journal is released.
type Age = (Option<Timestamp>, i64, Reverse<Key>);

impl Pick {
    pub fn last(count: usize) -> Pick {
        Pick::Last(Newest { count, records: BTreeMap::new(), ages: HashMap::new() })
    }
}

impl Newest {
    /// Takes a record in; what is not among the newest any more comes out.
    fn put(&mut self, entry: JournalEntry, write: RecordWrite) -> Option<RecordWrite> {
        let (key, age) = (entry.key.clone(), (entry.time, entry.place, Reverse(entry.key.clone())));
        if let Some(former) = self.ages.insert(key, age.clone()) {
            self.records.remove(&former);
        }
        self.records.insert(age, (entry, write));
        if self.records.len() <= self.count {
            return None;
        }
        let (_, (entry, write)) = self.records.pop_first()?;
        self.ages.remove(&entry.key);
        Some(write)
    }

    fn get(&self, key: &Key) -> Option<&RecordWrite> {
        self.records.get(self.ages.get(key)?).map(|(_, write)| write)
    }
}

impl Run {
    /// Whether a copy of an unknown record may be announced.
    pub(super) fn picks(&self, copy: &Copy) -> bool {
        match &self.pick {
            Pick::Nothing => false,
            Pick::Last(_) => true,
            Pick::Since(since) => {
                let text = copy.raw.as_ref().and_then(|raw| std::str::from_utf8(raw).ok());
                text.and_then(|text| self.judge().time(text)).is_some_and(|time| time >= *since)
            }
        }
    }

    /// What this look holds of a key and has not yet handed to the store.
    pub(super) fn waiting(&self, key: &Key) -> Option<&RecordWrite> {
        let picked = match &self.pick {
            Pick::Last(newest) => newest.get(key),
            Pick::Nothing | Pick::Since(_) => None,
        };
        picked.or_else(|| self.open.get(key))
    }

    pub(super) async fn gather(
        &mut self,
        writes: Vec<RecordWrite>,
        picked: Vec<(JournalEntry, RecordWrite)>,
        unreadable: Vec<SetAside>,
        retaken: u64,
    ) -> Result<(), IngestError> {
        self.open.retaken += retaken;
        for write in writes {
            self.open.put(write);
        }
        let mut journal = Vec::new();
        for (entry, write) in picked {
            match &mut self.pick {
                Pick::Nothing => self.open.put(write),
                Pick::Since(_) => journal.push(entry),
                // What comes out is not among the newest: it is remembered without a word.
                Pick::Last(newest) => newest.put(entry, write).into_iter().for_each(|older| self.open.put(older)),
            }
        }
        if !journal.is_empty() {
            self.journal(journal.into_iter().map(Waiting::from).collect()).await?;
        }
        if self.open.writes.len() >= SILENT_WRITES || self.open.bytes >= SILENT_BYTES || !unreadable.is_empty() {
            return self.flush(unreadable).await;
        }
        Ok(())
    }

    /// Commits the open batch. A row that a webhook wrote in between is left as the webhook wrote it.
    pub(super) async fn flush(&mut self, unreadable: Vec<SetAside>) -> Result<(), IngestError> {
        let OpenBatch { mut writes, retaken, .. } = std::mem::take(&mut self.open);
        if writes.is_empty() && unreadable.is_empty() {
            return Ok(());
        }
        loop {
            let mut commit = self.commit();
            (commit.writes, commit.set_aside, commit.retaken) = (writes.clone(), unreadable.clone(), retaken);
            match self.store(commit).await {
                Err(IngestError::Store(StoreError::Conflict)) => {
                    writes.sort_by(|a, b| a.key.cmp(&b.key));
                    let keys = writes.iter().map(|w| w.key.clone()).collect();
                    let rows = self.ingest.store.rows(&self.stream.name, keys).await?;
                    let mut rows = rows.into_iter();
                    writes.retain(|w| rows.next().flatten().map(|row| row.change_number) == w.expected);
                    self.tracker.freeze();
                    (self.ignored, self.overtaken) = (true, true);
                    self.reread().await?;
                }
                other => return other,
            }
        }
    }

    /// The look is complete: what it picked is known now, and goes into the journal, to be announced oldest first.
    pub(super) async fn announce_picked(&mut self) -> Result<(), IngestError> {
        let entries = match std::mem::replace(&mut self.pick, Pick::Nothing) {
            Pick::Nothing => return Ok(()),
            Pick::Since(_) => Vec::new(),
            Pick::Last(newest) => newest.records.into_values().map(|(entry, _)| entry).collect::<Vec<_>>(),
        };
        self.journal(entries.into_iter().map(Waiting::from).collect()).await?;
        // What is released from here on is announced.
        self.way = Way::Journal;
        Ok(())
    }
}

impl OpenBatch {
    fn get(&self, key: &Key) -> Option<&RecordWrite> {
        let write = self.writes.get(*self.places.get(&hash(key))?)?;
        (write.key == *key).then_some(write)
    }

    /// A later copy of a key takes the place of the one that waits.
    fn put(&mut self, write: RecordWrite) {
        self.bytes += match &write.body {
            BodyWrite::Put(body) => body.len(),
            BodyWrite::Keep => 0,
        };
        match self.places.get(&hash(&write.key)) {
            Some(&place) if self.writes[place].key == write.key => self.writes[place] = write,
            _ => {
                self.places.insert(hash(&write.key), self.writes.len());
                self.writes.push(write);
            }
        }
    }
}
