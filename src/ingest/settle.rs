//! What becomes of a page's copies: judged, thought over, and handed to the store in the run's way. Thinking is done before the
//! store is asked and taken back whole when somebody wrote in between (RULES R1.6, R5.1).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::aside::{self, set_aside};
use super::batch::{self, Judged};
use super::first_look::Pick;
use super::judge::{Copy, Verdict as Meaning};
use super::pending::Waiting;
use super::repeats::Second;
use super::run::{Run, Way};
use super::{IngestError, told};
use crate::model::{ChangeKind, Fingerprint, Key, SeenBy};
use crate::planted::{self, Fault};
use crate::provider::CursorOrder;
use crate::store::{Commit, Committed, Decided, Decision, JournalEntry, RecordWrite, Row, SetAside, StoreError};

/// How often a batch is thought through again because a webhook wrote in between.
const RETHINKS: usize = 10;
/// Decisions written down of one run: a run that decides more says the same about all of them.
const DECISIONS: usize = 200;

/// What a page comes to, before the store has been asked.
#[derive(Default)]
struct Plan {
    writes: Vec<RecordWrite>,
    entries: Vec<Waiting>,
    /// Copies that a first look picks to be announced, with their silent writes.
    picked: Vec<(JournalEntry, RecordWrite)>,
    unreadable: Vec<SetAside>,
    decisions: Vec<Decision>,
    seen: Vec<u32>,
    fresh: Vec<u64>,
    older: Vec<(Key, Fingerprint)>,
    ignored: bool,
    overtaken: bool,
    contradicted: Vec<Key>,
    confirmed: u64,
    retaken: u64,
    changes: u64,
    /// Copies that were not as they are stored.
    found: u64,
    place: i64,
}

/// A commit that is on disk.
pub(super) struct Stored {
    news: told::News,
    silent: u64,
    committed: Committed,
}

impl Run {
    /// Judges a page's copies and hands what they came to to the store in this run's way.
    pub(super) async fn settle(&mut self, copies: Vec<Copy>, aside: Vec<SetAside>) -> Result<(), IngestError> {
        let total = copies.len() + aside.len();
        let mut copies = Some(copies);
        for rethink in 0..RETHINKS {
            let older = self.ingest.older_copies(&self.stream.name);
            // Kept for another thought only where somebody else may write.
            let these =
                if self.way == Way::Straight && rethink + 1 < RETHINKS { copies.clone() } else { copies.take() };
            let judged = batch::judge(&*self.ingest.store, &self.judge(), these.unwrap_or_default(), &older).await?;
            let journaled = self.journaled_before(&judged).await?;
            let plan = self.plan(judged, &aside, &journaled);
            aside::check(&plan.unreadable, total)?;
            match self.hand_over(plan).await {
                Err(IngestError::Store(StoreError::Conflict)) if copies.is_some() => self.reread().await?,
                other => return other,
            }
        }
        Err(IngestError::Store(StoreError::Conflict))
    }

    fn plan(&self, judged: Judged, aside: &[SetAside], journaled: &HashMap<Key, Bytes>) -> Plan {
        let mut plan = Plan { unreadable: aside.to_vec(), place: self.place, ..Plan::default() };
        for (copy, row, meaning) in judged.verdicts {
            plan.place += 1;
            match self.second(&copy, row.as_ref(), journaled) {
                None | Some(Second::Later) => self.plan_one(&mut plan, copy, row, meaning),
                // The later copy was taken: an earlier one says nothing new.
                Some(Second::Same | Second::Earlier) => {}
                Some(Second::Contradicts) => plan.contradicted.push(copy.key),
            }
        }
        plan
    }

    fn plan_one(&self, plan: &mut Plan, copy: Copy, row: Option<Row>, meaning: Result<Meaning, String>) {
        if let Some(row) = &row {
            plan.seen.push(row.number);
        }
        let mut decided = |what, detail: &str| {
            let (key, detail) = (copy.key.clone(), detail.to_owned());
            plan.decisions.push(Decision { key, by: copy.by, what, detail });
        };
        match meaning {
            Ok(Meaning::Unchanged | Meaning::Notice) => {}
            Ok(Meaning::Overtaken) => {
                decided(Decided::Overtaken, "");
                (plan.ignored, plan.overtaken) = (true, true);
            }
            Ok(Meaning::Older(form)) => {
                decided(Decided::Older, &self.versions(&copy, row.as_ref()));
                plan.ignored = true;
                plan.older.push((copy.key, form));
            }
            Ok(Meaning::Write(write)) => {
                if write.event.is_none() && !write.silent && row.as_ref().is_some_and(|row| row.by != copy.by) {
                    decided(Decided::Twin, "");
                    plan.confirmed += 1;
                }
                self.plan_write(plan, copy, row, *write);
            }
            Err(reason) => {
                decided(Decided::SetAside, &reason);
                plan.unreadable.push(set_aside(&copy.raw.unwrap_or_default(), None, reason));
            }
        }
    }

    fn plan_write(&self, plan: &mut Plan, copy: Copy, row: Option<Row>, write: RecordWrite) {
        let known = row.as_ref().filter(|row| !row.deleted);
        let told = write.event.as_ref().is_some_and(|new| new.event.kind != ChangeKind::Deleted);
        plan.changes += u64::from(told);
        plan.found += 1;
        match self.way {
            Way::Journal => {
                // A known row has its bit; this is for those that have none yet.
                plan.fresh.extend(row.is_none().then(|| hash(&copy.key)));
                let twin = write.event.is_none() && row.as_ref().is_some_and(|row| row.by != copy.by);
                plan.entries.push(Waiting { entry: self.entry(copy, plan.place), thought: Some((write, twin)) });
            }
            Way::Straight => plan.writes.push(write),
            Way::Silent => {
                let same = known.is_some_and(|row| row.fingerprint == write.fingerprint);
                plan.retaken += u64::from(self.state.detection.retaken.is_some() && !same);
                if row.is_none() && !copy.deleted && self.picks(&copy) {
                    plan.fresh.extend(matches!(self.pick, Pick::Since(_)).then(|| hash(&copy.key)));
                    plan.picked.push((self.entry(copy, plan.place), write));
                } else {
                    plan.writes.push(write);
                }
            }
        }
    }

    fn versions(&self, copy: &Copy, row: Option<&Row>) -> String {
        let new = self.judge().version_of(copy).map(|version| version.text);
        let old = row.and_then(|row| row.version.clone());
        format!("version {}, stored {}", new.as_deref().unwrap_or("none"), old.as_deref().unwrap_or("none"))
    }

    fn entry(&self, copy: Copy, place: i64) -> JournalEntry {
        let newest_first = self.stream.spec.cursor.as_ref().is_some_and(|c| c.order == CursorOrder::Desc);
        let time = copy.raw.as_ref().and_then(|raw| self.judge().time(std::str::from_utf8(raw).unwrap_or_default()));
        JournalEntry {
            id: 0,
            key: copy.key,
            record: copy.raw,
            time,
            place: if newest_first { -place } else { place },
            asked_at: copy.asked_at,
            parent: self.stream.spec.parent.as_ref().map(|_| self.vars.parent.to_text()),
        }
    }

    /// Asks the store first; what the run remembers changes only when it said yes.
    async fn hand_over(&mut self, mut plan: Plan) -> Result<(), IngestError> {
        let writes = std::mem::take(&mut plan.writes);
        let unreadable = std::mem::take(&mut plan.unreadable);
        if plan.overtaken || plan.ignored || !plan.contradicted.is_empty() {
            self.tracker.freeze();
        }
        match self.way {
            Way::Straight => self.store_page(writes, unreadable.clone(), plan.confirmed).await?,
            Way::Silent => {
                let picked = std::mem::take(&mut plan.picked);
                self.gather(writes, picked, unreadable.clone(), plan.retaken).await?;
            }
            Way::Journal => {
                self.journal(std::mem::take(&mut plan.entries)).await?;
                if !unreadable.is_empty() {
                    let mut commit = self.commit();
                    commit.set_aside = unreadable.clone();
                    self.ingest.store.commit(commit).await?;
                }
            }
        }
        self.remember(plan, &unreadable).await
    }

    async fn remember(&mut self, plan: Plan, unreadable: &[SetAside]) -> Result<(), IngestError> {
        plan.seen.into_iter().for_each(|number| self.seen.set(number));
        self.fresh.extend(plan.fresh);
        self.older.extend(plan.older);
        self.place = plan.place;
        self.changes += plan.changes;
        self.found += plan.found;
        self.ignored |= plan.ignored;
        self.overtaken |= plan.overtaken;
        let room = DECISIONS.saturating_sub(self.decisions.len());
        self.decisions.extend(plan.decisions.into_iter().take(room));
        for key in plan.contradicted {
            self.contradicts(&key).await?;
        }
        if !unreadable.is_empty() {
            self.proven = false;
            self.report.unreadable += unreadable.len() as u64;
            told::unreadable(&self.ingest, &self.stream.name, unreadable).await?;
        }
        Ok(())
    }

    /// A page of an ordered listing: at once, with the mark.
    async fn store_page(
        &mut self,
        writes: Vec<RecordWrite>,
        set_aside: Vec<SetAside>,
        confirmed: u64,
    ) -> Result<(), IngestError> {
        let mut commit = self.commit();
        let mark = if self.tracker.disordered || self.drifts || self.holds { None } else { self.tracker.moved(None) };
        commit.mark = mark.map(|mark| mark.to_stored()).filter(|text| Some(text) != self.state.mark.as_ref());
        if writes.is_empty() && set_aside.is_empty() && commit.mark.is_none() {
            return Ok(());
        }
        let moved = commit.mark.is_some();
        (commit.writes, commit.set_aside, commit.confirmed) = (writes, set_aside, confirmed);
        self.store(commit).await?;
        self.report.moved |= moved;
        Ok(())
    }

    /// Commits, counts, and raises what a person must know of the events.
    pub(super) async fn store(&mut self, commit: Commit) -> Result<(), IngestError> {
        let stored = self.put(commit).await?;
        self.count(stored).await
    }

    /// Counts what was stored, and raises what a person must know of the events.
    pub(super) async fn count(&mut self, stored: Stored) -> Result<(), IngestError> {
        let Stored { news, silent, committed } = stored;
        self.state.change_number = committed.change_number;
        self.report.created += news.created;
        self.report.updated += news.updated;
        self.report.deleted += news.deleted;
        self.report.silent += silent;
        self.report.lag = self.report.lag.max(news.lag);
        self.report.events += committed.events as u64;
        news.tell(&self.ingest, &self.stream.name).await
    }

    /// One commit, one transaction: a change's fingerprint, event and deliveries (RULES R1.1).
    pub(super) async fn put(&self, mut commit: Commit) -> Result<Stored, StoreError> {
        if self.stream.announced {
            commit.awaited = commit.writes.iter().filter(|w| w.event.is_some()).map(|w| w.key.clone()).collect();
        }
        let news = told::News::of(&commit.writes);
        let silent = commit.writes.iter().filter(|write| write.event.is_none()).count() as u64;
        if !planted::is(Fault::SplitTransaction) {
            return Ok(Stored { news, silent, committed: self.ingest.store.commit(commit).await? });
        }
        let mut events = self.commit();
        events.loose_events = commit.writes.iter_mut().filter_map(|write| write.event.take()).collect();
        self.ingest.store.commit(commit).await?;
        Ok(Stored { news, silent, committed: self.ingest.store.commit(events).await? })
    }

    pub(super) fn decide(&mut self, key: Key, what: Decided, detail: &str) {
        if self.decisions.len() < DECISIONS {
            self.decisions.push(Decision { key, by: SeenBy::Poll, what, detail: detail.to_owned() });
        }
    }

    /// Writes down what was decided and not announced, for `ringback why`.
    pub(super) async fn write_down(&mut self) -> Result<(), IngestError> {
        if self.decisions.is_empty() {
            return Ok(());
        }
        let mut commit = self.commit();
        commit.decisions = std::mem::take(&mut self.decisions);
        match self.ingest.store.commit(commit).await {
            // Under a new definition it explains nothing any more.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn hash(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
