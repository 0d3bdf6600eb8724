//! The run journal: released oldest first after the verdict, in batches, each one transaction of fingerprints, events, deliveries
//! and the entries removed (RULES R1.3). After a crash the next run goes on where this one was.

use bytes::Bytes;

use super::IngestError;
use super::aside::set_aside;
use super::batch;
use super::decode;
use super::identity::fingerprint;
use super::judge::{Copy, Judge, Verdict as Meaning};
use super::run::{Run, Way};
use crate::jq::{Json, Vars};
use crate::model::SeenBy;
use crate::store::{Commit, Decided, Decision, JournalEntry, Phase, Row, StoreError};

/// An entry as a copy, the stored row, and what it came to.
type Judged = (Copy, Option<Row>, Result<Meaning, String>);

/// Entries released in one transaction.
pub(super) const RELEASE: usize = 500;
/// How often a batch is thought through again because a webhook wrote in between.
pub(super) const RETHINKS: usize = 10;

impl Run {
    /// Releases the journal, as much of it as goes out of one run. Its changes are judged under the phase that the run had which found them.
    pub(super) async fn release_under(&mut self, (phase, listed_once): (Phase, bool)) -> Result<(), IngestError> {
        (self.state.phase, self.state.listed_once) = (phase, listed_once);
        self.way = Way::Journal;
        let mut rethinks = 0;
        let mut left = usize::try_from(self.stream.max_per_run).unwrap_or(usize::MAX);
        let mut ahead = None;
        while left > 0 {
            let batch = match ahead.take() {
                Some(batch) => batch,
                None => self.think_of_next(0, left).await?,
            };
            let count = batch.released.len();
            if count == 0 {
                return Ok(());
            }
            match self.release_and_think(batch, left - count).await {
                Err(IngestError::Store(StoreError::Conflict)) if rethinks < RETHINKS => {
                    rethinks += 1;
                    self.reread().await?;
                }
                other => {
                    ahead = Some(other?);
                    (rethinks, left) = (0, left - count);
                }
            }
        }
        self.report.deferred = !self.ingest.store.journal_batch(&self.stream.name, 0, 1).await?.is_empty();
        Ok(())
    }

    /// Stores a batch while the one behind it, of so many entries at most, is being thought through. The keys of the two differ, so
    /// that neither says anything of the other.
    async fn release_and_think(&mut self, batch: Commit, left: usize) -> Result<Commit, IngestError> {
        let behind = self.entries(batch.released.len(), left).await?;
        let (stored, ahead) = tokio::join!(self.put(batch), self.think_of(behind));
        self.count(stored?).await?;
        ahead
    }

    async fn think_of_next(&self, skip: usize, left: usize) -> Result<Commit, IngestError> {
        self.think_of(self.entries(skip, left).await?).await
    }

    /// What of the journal comes behind its first `skip` entries.
    async fn entries(&self, skip: usize, left: usize) -> Result<Vec<JournalEntry>, IngestError> {
        if left == 0 {
            return Ok(Vec::new());
        }
        Ok(self.ingest.store.journal_batch(&self.stream.name, skip, RELEASE.min(left)).await?)
    }

    async fn think_of(&self, entries: Vec<JournalEntry>) -> Result<Commit, IngestError> {
        let released = entries.iter().map(|entry| entry.id).collect();
        Ok(Commit { released, ..self.think(entries).await? })
    }

    /// What entries come to, before the store has been asked.
    pub(super) async fn think(&self, entries: Vec<JournalEntry>) -> Result<Commit, IngestError> {
        let mut commit = self.commit();
        let mut absent = 0;
        for (copy, row, meaning) in self.judge_entries(entries).await? {
            match meaning {
                Ok(Meaning::Write(write)) => {
                    if copy.raw.is_none() {
                        absent += 1;
                        let (key, by, what) = (copy.key, copy.by, Decided::Gone);
                        commit.decisions.push(Decision { key, by, what, detail: String::new() });
                    } else {
                        let twin = write.event.is_none() && row.is_some_and(|row| row.by != copy.by);
                        commit.confirmed += u64::from(twin);
                    }
                    commit.writes.push(*write);
                }
                Ok(Meaning::Unchanged | Meaning::Older(_) | Meaning::Overtaken | Meaning::Notice) => {}
                Err(reason) => commit.set_aside.push(set_aside(&copy.raw.unwrap_or_default(), None, reason)),
            }
        }
        commit.absent = if self.approved_deletes { 0 } else { absent };
        Ok(commit)
    }

    /// Judges each entry under the parent that it was found under, and gives the verdicts in the order of the entries.
    async fn judge_entries(&self, entries: Vec<JournalEntry>) -> Result<Vec<Judged>, IngestError> {
        let older = self.ingest.older_copies(&self.stream.name);
        let mut by_parent: Vec<(usize, JournalEntry)> = entries.into_iter().enumerate().collect();
        by_parent.sort_by(|(_, a), (_, b)| a.parent.cmp(&b.parent));
        let mut verdicts = Vec::with_capacity(by_parent.len());
        let mut vars = self.vars.clone();
        for siblings in by_parent.chunk_by(|(_, a), (_, b)| a.parent == b.parent) {
            let parent = siblings.first().and_then(|(_, entry)| entry.parent.as_deref());
            vars.parent = parent.and_then(|text| Json::parse(text.as_bytes()).ok()).unwrap_or_default();
            let copies = siblings.iter().map(|(_, entry)| self.copy_of(entry.clone(), &vars)).collect();
            let judged =
                batch::judge(&*self.ingest.store, &Judge { vars: &vars, ..self.judge() }, copies, &older).await?;
            verdicts.extend(siblings.iter().map(|(place, _)| *place).zip(judged.verdicts));
        }
        verdicts.sort_by_key(|(place, _)| *place);
        Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
    }

    fn copy_of(&self, entry: JournalEntry, vars: &Vars) -> Copy {
        let says_deleted = |raw: &Bytes| decode::says_deleted(&self.stream.spec, raw, vars).unwrap_or(false);
        let deleted = entry.record.as_ref().is_some_and(says_deleted);
        Copy {
            raw_hash: entry.record.as_ref().map(|raw| fingerprint(raw)),
            key: entry.key,
            raw: entry.record,
            by: SeenBy::Poll,
            deleted,
            asked_at: entry.asked_at,
            route: None,
        }
    }
}
