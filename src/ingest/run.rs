//! One poll run of a stream: pages in, and at its end a verdict. Listings in order of change commit page by page; all others
//! write a journal first, so that a guard can hold them and a crash in the middle costs nothing (RULES R1).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::batch::{self, Judged};
use super::decode::{self, Page};
use super::deletes;
use super::judge::{Copy, Judge, Verdict as Meaning};
use super::mark::{self, Tracker};
use super::{CursorValue, Ingest, IngestError, PageAnswer, PageEnd, RunReport};
use crate::jq::{Json, Vars};
use crate::model::{Fingerprint, Key, ProblemKind, SeenBy, SourceName, Timestamp};
use crate::planted::{self, Fault};
use crate::provider::{CursorOrder, Detect};
use crate::source::SourceStream;
use crate::store::{
    Commit, Committed, JournalEntry, Phase, RecordWrite, SetAside, StoreError, StreamClaim, StreamLease, StreamState,
    Verdict,
};
use crate::subscription::Subscriptions;

/// Writes that a silent first look gathers before it commits: 10 to 50 pages at a time are 2.6 times faster than one.
const SILENT_WRITES: usize = 20_000;
const SILENT_BYTES: usize = 8 << 20;
/// Journal entries released in one transaction.
const RELEASE: usize = 500;
/// How often a batch is thought through again because a webhook wrote in between.
const RETHINKS: usize = 10;

/// How a run's changes reach the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Each page at once, with the mark.
    Straight,
    /// Many pages at a time, without events: the first look.
    Silent,
    /// Into the journal, released after the verdict.
    Journal,
}

/// A run under way.
pub struct Run {
    ingest: Arc<Ingest>,
    stream: Arc<SourceStream>,
    lease: StreamLease,
    state: StreamState,
    source_id: SourceName,
    vars: Vars,
    subscriptions: Arc<Subscriptions>,
    way: Way,
    now: Timestamp,
    tracker: Tracker,
    report: RunReport,
    /// Which known rows this run has seen, by their numbers.
    seen: Bitmap,
    /// Keys taken in by this run that were no rows when they were seen, as hashes.
    fresh: HashSet<u64>,
    /// The open batch of a silent run.
    batch: Vec<RecordWrite>,
    batch_keys: HashSet<Key>,
    batch_bytes: usize,
    /// Older copies that this run ignored.
    older: HashMap<Key, Fingerprint>,
    /// False: a record was set aside or contradictory, so absence proves nothing.
    proven: bool,
    place: i64,
    /// The stream's change number when the run began.
    began_at: u64,
    /// The same before the present request (RULES R5.3).
    asked_at: u64,
    /// The provider's time of the run's first answer.
    first_answer: Option<Timestamp>,
}

impl Run {
    /// Begins a run, after releasing what an earlier run's verdict left in the journal.
    pub(super) async fn begin(
        ingest: Arc<Ingest>,
        stream: Arc<SourceStream>,
        claim: StreamClaim,
    ) -> Result<Run, IngestError> {
        let (state, lease) = (claim.state, claim.lease);
        let vars = Vars { settings: Json::from(&*stream.settings), ..Vars::default() };
        let ordered = stream.spec.cursor.as_ref().is_some_and(|cursor| {
            let planted = planted::is(Fault::NewestFirstStraight) && cursor.order == CursorOrder::Desc;
            cursor.order == CursorOrder::Asc || planted
        });
        let mut run = Run {
            way: Way::Journal,
            now: ingest.clock.now(),
            tracker: Tracker::new(state.mark.as_deref()),
            report: RunReport::default(),
            seen: Bitmap::default(),
            fresh: HashSet::new(),
            batch: Vec::new(),
            batch_keys: HashSet::new(),
            batch_bytes: 0,
            older: HashMap::new(),
            proven: true,
            place: 0,
            began_at: state.change_number,
            asked_at: state.change_number,
            first_answer: None,
            source_id: state.source_id.clone(),
            subscriptions: ingest.subscriptions(),
            ingest,
            stream,
            lease,
            state,
            vars,
        };
        if run.state.releasing {
            run.release().await?;
            run.began_at = run.state.change_number;
            run.asked_at = run.began_at;
        }
        run.way = match (ordered && run.stream.spec.detect != Detect::Snapshot, run.judge().silent()) {
            (_, true) => Way::Silent,
            (true, false) => Way::Straight,
            (false, false) => {
                if run.stream.spec.detect == Detect::Document {
                    Way::Straight
                } else {
                    Way::Journal
                }
            }
        };
        Ok(run)
    }

    /// The value that this run's requests ask from; frozen for the whole run.
    pub fn cursor(&self) -> Option<CursorValue> {
        let cursor = self.stream.spec.cursor.as_ref()?;
        mark::query_value(cursor, self.state.mark.as_deref(), self.now)
    }

    /// Takes one page in.
    pub async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError> {
        let mut vars = self.vars.clone();
        vars.headers = headers(&answer.headers);
        let page = decode::page(&self.stream.spec, &answer, &vars)?;
        if self.state.started_at.is_none() {
            self.state.started_at = Some(answer.date.unwrap_or(self.now));
        }
        let end = page.end.clone();
        self.report.records += page.records.len() as u64;
        // While a run goes from page to page, a record may change (or appear late) behind the page where it would have stood, and
        // a later page may show times beyond it. So nothing that is dated after the run's first answer moves the mark.
        let latest = *self.first_answer.get_or_insert(answer.date.unwrap_or(self.now));
        self.take(page, latest).await?;
        Ok(end)
    }

    async fn take(&mut self, page: Page, latest: Timestamp) -> Result<(), IngestError> {
        let mut aside: Vec<SetAside> = Vec::new();
        for unreadable in page.unreadable {
            aside.push(SetAside { raw: unreadable.raw, reason: unreadable.reason });
        }
        let mut copies: Vec<Copy> = Vec::with_capacity(page.records.len());
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(page.records.len());
        for record in page.records {
            if let Some(cursor) = &self.stream.spec.cursor {
                match decode::cursor_of(cursor, record.text(), &self.vars) {
                    Ok(value) => self.tracker.see(cursor, &value, Some(latest)),
                    Err(reason) => {
                        aside.push(SetAside { raw: record.raw, reason });
                        continue;
                    }
                }
            }
            let deleted = match &self.stream.spec.deletes.when {
                Some(jq) => match Json::parse(&record.raw)
                    .and_then(|json| jq.truth(&json, &self.vars).map_err(|e| e.to_string()))
                {
                    Ok(deleted) => deleted,
                    Err(reason) => {
                        aside.push(SetAside { raw: record.raw, reason: format!("`deletes.when`: {reason}") });
                        continue;
                    }
                },
                None => false,
            };
            let copy = Copy {
                key: record.key,
                raw: Some(record.raw),
                raw_hash: Some(record.raw_hash),
                by: SeenBy::Poll,
                deleted,
                asked_at: self.asked_at,
                route: None,
            };
            match places.get(&copy.key) {
                Some(at) if copies[*at].raw_hash == copy.raw_hash => {}
                Some(at) => self.second_copy(&mut copies[*at], copy).await?,
                None => {
                    places.insert(copy.key.clone(), copies.len());
                    copies.push(copy);
                }
            }
        }
        if self.tracker.disordered && self.way == Way::Straight {
            self.way = Way::Journal;
        }
        self.settle(copies, aside).await?;
        // What a webhook writes from here on was not yet known to the next request.
        self.asked_at = self.asked_at.max(self.state.change_number);
        Ok(())
    }

    /// A second, different copy of a key in one page: the later version counts; without order it is a problem (RULES R1.7).
    async fn second_copy(&mut self, first: &mut Copy, second: Copy) -> Result<(), IngestError> {
        let judge = self.judge();
        match (judge.version_of(first), judge.version_of(&second)) {
            (Some(one), Some(two)) if two.compare(&one) == Some(std::cmp::Ordering::Greater) => *first = second,
            (Some(one), Some(two)) if one.compare(&two) == Some(std::cmp::Ordering::Greater) => {}
            _ => {
                self.proven = false;
                let message = format!(
                    "one listing showed key `{}` twice with different content; the first copy was taken. Check `key` in the provider file.",
                    second.key
                );
                let subject = self.stream.name.to_string();
                self.ingest.store.open_problem(ProblemKind::KeyDuplicate, &subject, &message).await?;
            }
        }
        Ok(())
    }

    /// Judges a page's copies and hands what they came to to the store in this run's way.
    async fn settle(&mut self, mut copies: Vec<Copy>, aside: Vec<SetAside>) -> Result<(), IngestError> {
        if !aside.is_empty() {
            self.proven = false;
            self.report.unreadable += aside.len() as u64;
            self.problem_unreadable(&aside).await?;
        }
        copies.retain(|copy| !self.batch_keys.contains(&copy.key));
        for _ in 0..RETHINKS {
            let older = self.ingest.older_copies(&self.stream.name);
            let judged = batch::judge(&*self.ingest.store, &self.judge(), copies.clone(), &older).await?;
            match self.hand_over(judged, &aside).await {
                Err(IngestError::Store(StoreError::Conflict)) => self.reread().await?,
                other => return other,
            }
        }
        Err(IngestError::Store(StoreError::Conflict))
    }

    async fn hand_over(&mut self, judged: Judged, aside: &[SetAside]) -> Result<(), IngestError> {
        let mut writes = Vec::new();
        let mut entries = Vec::new();
        let mut unreadable = aside.to_vec();
        for ((copy, meaning), known) in judged.verdicts.into_iter().zip(judged.known) {
            self.place += 1;
            if let Some(number) = known {
                self.seen.set(number);
            }
            match meaning {
                Ok(Meaning::Unchanged | Meaning::Notice) => {}
                Ok(Meaning::Overtaken) => self.tracker.freeze(),
                Ok(Meaning::Older(form)) => {
                    self.tracker.freeze();
                    self.older.insert(copy.key.clone(), form);
                }
                Ok(Meaning::Write(write)) => match self.way {
                    Way::Journal => entries.extend(self.entry(copy)),
                    Way::Straight | Way::Silent => writes.push(*write),
                },
                Err(reason) => {
                    self.proven = false;
                    unreadable.push(SetAside { raw: copy.raw.unwrap_or_default(), reason });
                }
            }
        }
        if unreadable.len() > aside.len() {
            self.report.unreadable += (unreadable.len() - aside.len()) as u64;
            self.problem_unreadable(&unreadable[aside.len()..]).await?;
        }
        match self.way {
            Way::Straight => self.commit(writes, unreadable, true).await,
            Way::Silent => self.gather(writes, unreadable).await,
            Way::Journal => {
                if !entries.is_empty() {
                    self.ingest.store.journal(&self.lease, entries).await?;
                }
                if unreadable.is_empty() { Ok(()) } else { self.commit(Vec::new(), unreadable, false).await }
            }
        }
    }

    fn entry(&mut self, copy: Copy) -> Option<JournalEntry> {
        if !self.fresh.insert(hash(&copy.key)) {
            return None;
        }
        let newest_first = self.stream.spec.cursor.as_ref().is_some_and(|c| c.order == CursorOrder::Desc);
        let time = copy.raw.as_ref().and_then(|raw| self.judge().time_of(std::str::from_utf8(raw).unwrap_or_default()));
        Some(JournalEntry {
            id: 0,
            key: copy.key,
            record: copy.raw,
            time,
            place: if newest_first { -self.place } else { self.place },
            asked_at: copy.asked_at,
        })
    }

    async fn gather(&mut self, writes: Vec<RecordWrite>, unreadable: Vec<SetAside>) -> Result<(), IngestError> {
        for write in writes {
            self.batch_bytes += match &write.body {
                crate::store::BodyWrite::Put(body) => body.len(),
                crate::store::BodyWrite::Keep => 0,
            };
            self.fresh.insert(hash(&write.key));
            self.batch_keys.insert(write.key.clone());
            self.batch.push(write);
        }
        if self.batch.len() >= SILENT_WRITES || self.batch_bytes >= SILENT_BYTES || !unreadable.is_empty() {
            return self.flush(unreadable).await;
        }
        Ok(())
    }

    /// Commits the open batch of a silent run. A row that a webhook wrote in between is left as the webhook wrote it.
    async fn flush(&mut self, unreadable: Vec<SetAside>) -> Result<(), IngestError> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_keys.clear();
        self.batch_bytes = 0;
        loop {
            match self.commit(batch.clone(), unreadable.clone(), false).await {
                Err(IngestError::Store(StoreError::Conflict)) => {
                    batch.sort_by(|a, b| a.key.cmp(&b.key));
                    let keys = batch.iter().map(|w| w.key.clone()).collect();
                    let rows = self.ingest.store.rows(&self.stream.name, keys).await?;
                    let mut rows = rows.into_iter();
                    batch.retain(|w| rows.next().flatten().map(|row| row.change_number) == w.expected);
                    self.tracker.freeze();
                    self.reread().await?;
                }
                other => return other,
            }
        }
    }

    async fn commit(
        &mut self,
        writes: Vec<RecordWrite>,
        set_aside: Vec<SetAside>,
        with_mark: bool,
    ) -> Result<(), IngestError> {
        let mut commit = Commit::new(self.stream.name.clone(), self.state.definition.clone());
        commit.lease = Some(self.lease.clone());
        commit.started_at = self.state.started_at;
        let mark = if with_mark && !self.tracker.disordered { self.tracker.moved(None) } else { None };
        commit.mark = mark.map(|mark| mark.to_stored()).filter(|text| Some(text) != self.state.mark.as_ref());
        if writes.is_empty() && set_aside.is_empty() && commit.mark.is_none() {
            return Ok(());
        }
        let counted: Vec<_> = writes.iter().map(|w| w.event.as_ref().map(|e| e.event.kind)).collect();
        (commit.writes, commit.set_aside) = (writes, set_aside);
        let committed = self.put(commit).await?;
        self.state.change_number = committed.change_number;
        self.count(&counted, committed.events);
        Ok(())
    }

    /// One commit, one transaction: a change's fingerprint, event and deliveries (RULES R1.1).
    async fn put(&self, mut commit: Commit) -> Result<Committed, StoreError> {
        if !planted::is(Fault::SplitTransaction) {
            return self.ingest.store.commit(commit).await;
        }
        let mut events = Commit::new(commit.stream.clone(), commit.definition.clone());
        events.loose_events = commit.writes.iter_mut().filter_map(|write| write.event.take()).collect();
        self.ingest.store.commit(commit).await?;
        self.ingest.store.commit(events).await
    }

    fn count(&mut self, kinds: &[Option<crate::model::ChangeKind>], events: usize) {
        use crate::model::ChangeKind::{Created, Deleted, Updated};
        for kind in kinds {
            match kind {
                Some(Created) => self.report.created += 1,
                Some(Updated) => self.report.updated += 1,
                Some(Deleted) => self.report.deleted += 1,
                None => self.report.silent += 1,
            }
            if let Some(kind) = kind {
                self.ingest.metrics.event(*kind);
            }
        }
        self.report.events += events as u64;
    }

    /// Ends a complete run: absences, guards, verdict, release.
    pub async fn finish(mut self, validators: Option<String>) -> Result<RunReport, IngestError> {
        if !self.batch.is_empty() {
            self.flush(Vec::new()).await?;
        }
        let snapshot = self.stream.spec.detect == Detect::Snapshot;
        let absent = if snapshot && self.proven { self.absences().await? } else { deletes::Absent::default() };
        for key in &absent.gone {
            self.place += 1;
            let entry = JournalEntry {
                id: 0,
                key: key.clone(),
                record: None,
                time: None,
                place: self.place,
                asked_at: self.began_at,
            };
            self.ingest.store.journal(&self.lease, vec![entry]).await?;
        }
        let listed_once = self.state.listed_once || self.lists_everything();
        let verdict = Verdict::Accepted {
            mark: self.tracker.moved(self.start_mark()).map(|mark| mark.to_stored()),
            validators,
            phase: Phase::Live,
            listed_once,
            started_at: self.state.started_at,
        };
        let first = (self.state.phase, self.state.listed_once);
        self.ingest.store.verdict(&self.lease, verdict).await?;
        self.release_under(first).await?;
        self.miss(absent.missed).await?;
        self.ingest.remember_older(&self.stream.name, std::mem::take(&mut self.older));
        Ok(self.report)
    }

    /// Ends a run that failed: its journal is dropped, the mark stays. What was committed page by page stays.
    pub async fn abandon(self) -> Result<RunReport, IngestError> {
        if self.way == Way::Journal {
            self.ingest.store.verdict(&self.lease, Verdict::Dropped).await?;
        }
        if planted::is(Fault::MarkOnError) {
            let mut commit = Commit::new(self.stream.name.clone(), self.state.definition.clone());
            commit.lease = Some(self.lease.clone());
            commit.mark = self.tracker.moved(None).map(|mark| mark.to_stored());
            self.ingest.store.commit(commit).await?;
        }
        Ok(self.report)
    }

    /// A complete run shows every record there is: only then is an unseen key later a creation.
    fn lists_everything(&self) -> bool {
        match &self.stream.spec.cursor {
            None => true,
            Some(cursor) => cursor.start == crate::provider::Start::All,
        }
    }

    fn start_mark(&self) -> Option<Timestamp> {
        let cursor = self.stream.spec.cursor.as_ref()?;
        let from_now = cursor.start == crate::provider::Start::Now && cursor.kind == crate::provider::CursorKind::Time;
        if from_now { self.state.started_at } else { None }
    }

    async fn absences(&mut self) -> Result<deletes::Absent, IngestError> {
        let store = &*self.ingest.store;
        let absent = deletes::find(store, &self.stream, &self.seen, self.began_at).await?;
        let subject = self.stream.name.to_string();
        match deletes::guard(&self.stream.spec.deletes, &absent, self.report.records) {
            deletes::Guard::Under => {
                store.close_problem(ProblemKind::DeletesHeld, &subject).await?;
                store.close_problem(ProblemKind::ListEmpty, &subject).await?;
                Ok(absent)
            }
            deletes::Guard::Held(message) => {
                store.open_problem(ProblemKind::DeletesHeld, &subject, &message).await?;
                Ok(deletes::Absent::default())
            }
            deletes::Guard::Empty(message) => {
                store.open_problem(ProblemKind::ListEmpty, &subject, &message).await?;
                store.verdict(&self.lease, Verdict::Dropped).await?;
                Err(IngestError::Held(message))
            }
        }
    }

    /// Notes one more complete listing without these records.
    async fn miss(&mut self, missed: Vec<(Key, crate::store::Row)>) -> Result<(), IngestError> {
        for chunk in missed.chunks(RELEASE) {
            let mut commit = Commit::new(self.stream.name.clone(), self.state.definition.clone());
            commit.lease = Some(self.lease.clone());
            commit.writes = chunk.iter().map(|(key, row)| deletes::missed_once_more(key, row)).collect();
            match self.ingest.store.commit(commit).await {
                // Somebody wrote a row meanwhile: it is there, and the next listing will tell.
                Err(StoreError::Conflict) => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    async fn release(&mut self) -> Result<(), IngestError> {
        self.release_under((self.state.phase, self.state.listed_once)).await
    }

    /// Releases the journal oldest first. Its changes are judged under the phase that the run had.
    async fn release_under(&mut self, (phase, listed_once): (Phase, bool)) -> Result<(), IngestError> {
        (self.state.phase, self.state.listed_once) = (phase, listed_once);
        let mut rethinks = 0;
        loop {
            let entries = self.ingest.store.journal_batch(&self.stream.name, RELEASE).await?;
            if entries.is_empty() {
                return Ok(());
            }
            match self.release_batch(entries).await {
                Err(IngestError::Store(StoreError::Conflict)) if rethinks < RETHINKS => rethinks += 1,
                other => {
                    other?;
                    rethinks = 0;
                }
            }
        }
    }

    async fn release_batch(&mut self, entries: Vec<JournalEntry>) -> Result<(), IngestError> {
        let mut copies = Vec::with_capacity(entries.len());
        let released = entries.iter().map(|entry| entry.id).collect();
        for entry in entries {
            let deleted = match (&entry.record, &self.stream.spec.deletes.when) {
                (Some(raw), Some(jq)) => Json::parse(raw)
                    .and_then(|json| jq.truth(&json, &self.vars).map_err(|e| e.to_string()))
                    .unwrap_or(false),
                _ => false,
            };
            copies.push(Copy {
                raw_hash: entry.record.as_ref().map(|raw| super::identity::fingerprint(raw)),
                key: entry.key,
                raw: entry.record,
                by: SeenBy::Poll,
                deleted,
                asked_at: entry.asked_at,
                route: None,
            });
        }
        let older = self.ingest.older_copies(&self.stream.name);
        let judged = batch::judge(&*self.ingest.store, &self.judge(), copies, &older).await?;
        let mut commit = Commit::new(self.stream.name.clone(), self.state.definition.clone());
        commit.lease = Some(self.lease.clone());
        commit.released = released;
        for (copy, meaning) in judged.verdicts {
            match meaning {
                Ok(Meaning::Write(write)) => commit.writes.push(*write),
                Ok(Meaning::Unchanged | Meaning::Older(_) | Meaning::Overtaken | Meaning::Notice) => {}
                Err(reason) => commit.set_aside.push(SetAside { raw: copy.raw.unwrap_or_default(), reason }),
            }
        }
        let counted: Vec<_> = commit.writes.iter().map(|w| w.event.as_ref().map(|e| e.event.kind)).collect();
        let committed = self.put(commit).await?;
        self.state.change_number = committed.change_number;
        self.count(&counted, committed.events);
        Ok(())
    }

    async fn reread(&mut self) -> Result<(), IngestError> {
        match self.ingest.store.stream(&self.stream.name).await? {
            // The definition changed under the run: what it knows is worth nothing any more.
            Some(state) if state.definition != self.state.definition => Err(StoreError::Stale.into()),
            Some(state) => {
                self.state.change_number = state.change_number;
                Ok(())
            }
            None => Err(StoreError::Stale.into()),
        }
    }

    async fn problem_unreadable(&self, aside: &[SetAside]) -> Result<(), IngestError> {
        let Some(first) = aside.first() else { return Ok(()) };
        let message = format!(
            "{} record(s) could not be read and were set aside; the first: {}. The stream goes on without them and judges no deletes.",
            aside.len(),
            first.reason
        );
        self.ingest.store.open_problem(ProblemKind::RecordUnreadable, &self.stream.name.to_string(), &message).await?;
        Ok(())
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            stream: &self.stream,
            state: &self.state,
            source_id: &self.source_id,
            subscriptions: &self.subscriptions,
            vars: &self.vars,
            now: self.now,
        }
    }
}

/// Header names in lower case to values, as `$headers` of jq.
pub fn headers(headers: &http::HeaderMap) -> Json {
    let mut map = serde_json::Map::new();
    for (name, value) in headers {
        map.insert(name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned().into());
    }
    Json::from(&map)
}

fn hash(key: &Key) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// One bit for each known row.
#[derive(Debug, Default)]
pub struct Bitmap(Vec<u64>);

impl Bitmap {
    pub fn set(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}
