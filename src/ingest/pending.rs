//! The changes of a run that wait for its verdict. A few wait in memory and become known in one transaction with the verdict: a
//! crash before it loses nothing but the run, which begins anew. More go into the store's journal (RULES R1.3).

use std::collections::HashMap;

use bytes::Bytes;

use super::IngestError;
use super::run::{Run, Way};
use crate::model::Key;
use crate::store::{Commit, JournalEntry, Phase, RecordWrite, StoreError, Verdict};

/// What waits in memory at most: as much as one transaction releases, and so many bytes of records.
const ENTRIES: usize = super::journal::RELEASE;
const BYTES: usize = 1 << 20;
/// Entries that go into the journal at once.
const CHUNK: usize = 1_000;

/// A change that waits.
pub(super) struct Waiting {
    pub entry: JournalEntry,
    /// What it comes to if nobody writes its record meanwhile, and whether it only confirms what a webhook brought. None: it is judged
    /// when the verdict is there.
    pub thought: Option<(RecordWrite, bool)>,
}

impl From<JournalEntry> for Waiting {
    fn from(entry: JournalEntry) -> Waiting {
        Waiting { entry, thought: None }
    }
}

/// Changes in memory, by key: a later copy takes the place of an earlier one.
#[derive(Default)]
pub(super) struct Pending {
    changes: HashMap<Key, Waiting>,
    bytes: usize,
    /// Some of this run's changes are in the journal, and so all are to be.
    journaled: bool,
}

impl Pending {
    /// `journaled`: an earlier run has left something in the journal.
    pub(super) fn beside_a_journal(journaled: bool) -> Pending {
        Pending { journaled, ..Pending::default() }
    }
}

impl Run {
    /// Keeps changes until the verdict.
    pub(super) async fn journal(&mut self, changes: Vec<Waiting>) -> Result<(), IngestError> {
        if self.pending.journaled {
            return self.append(changes.into_iter()).await;
        }
        let pending = &mut self.pending;
        for change in changes {
            pending.bytes += change.entry.record.as_ref().map_or(0, Bytes::len);
            pending.changes.insert(change.entry.key.clone(), change);
        }
        if pending.changes.len() > ENTRIES || pending.bytes > BYTES {
            self.spill().await?;
        }
        Ok(())
    }

    /// Puts what waits in memory into the journal.
    pub(super) async fn spill(&mut self) -> Result<(), IngestError> {
        let changes = std::mem::take(&mut self.pending.changes);
        if !changes.is_empty() {
            self.pending.journaled = true;
            self.append(changes.into_values()).await?;
        }
        Ok(())
    }

    async fn append(&self, changes: impl Iterator<Item = Waiting>) -> Result<(), IngestError> {
        let entries: Vec<JournalEntry> = changes.map(|change| change.entry).collect();
        for chunk in entries.chunks(CHUNK) {
            self.ingest.store.journal(&self.lease, chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// The records that wait for the verdict, of these keys.
    pub(super) async fn journaled(&self, keys: Vec<Key>) -> Result<HashMap<Key, Bytes>, IngestError> {
        if !self.pending.journaled {
            let record = |key: Key| Some((self.pending.changes.get(&key)?.entry.record.clone()?, key));
            return Ok(keys.into_iter().filter_map(record).map(|(record, key)| (key, record)).collect());
        }
        let found = self.ingest.store.journaled(&self.stream.name, keys.clone()).await?;
        Ok(keys.into_iter().zip(found).filter_map(|(key, record)| Some((key, record?))).collect())
    }

    /// Stores the verdict and makes known what waited for it, judged under the phase that the run had which found it.
    pub(super) async fn release_after(&mut self, verdict: Verdict, began: (Phase, bool)) -> Result<(), IngestError> {
        let most = usize::try_from(self.stream.max_per_run).unwrap_or(usize::MAX);
        if self.pending.changes.len() > most {
            self.spill().await?;
        }
        if self.pending.journaled {
            self.ingest.store.verdict(&self.lease, verdict).await?;
            return self.release_under(began).await;
        }
        if self.pending.changes.is_empty() {
            return Ok(self.ingest.store.verdict(&self.lease, verdict).await?);
        }
        (self.state.phase, self.state.listed_once) = began;
        self.way = Way::Journal;
        let mut changes: Vec<Waiting> = std::mem::take(&mut self.pending.changes).into_values().collect();
        changes.sort_by_key(|change| (change.entry.time, change.entry.place));
        for thought in 0..super::journal::RETHINKS {
            let mut commit = match self.as_thought(&changes) {
                Some(commit) if thought == 0 => commit,
                _ => self.think(changes.iter().map(|change| change.entry.clone()).collect()).await?,
            };
            commit.verdict = Some(verdict.clone());
            match self.store(commit).await {
                Err(IngestError::Store(StoreError::Conflict)) => self.reread().await?,
                other => return other,
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What the changes came to when they were found.
    fn as_thought(&self, changes: &[Waiting]) -> Option<Commit> {
        let mut commit = self.commit();
        for change in changes {
            let (write, twin) = change.thought.as_ref()?;
            commit.confirmed += u64::from(*twin);
            commit.writes.push(write.clone());
        }
        Some(commit)
    }
}
