//! One poll run of a stream: pages in, and at its end a verdict. Listings in order of change commit page by page; the changes of all
//! others wait for the verdict, so that a guard can hold them: a few in memory, more in a journal (RULES R1).
//!
//! Reading order: this file (a run from its begin on), `settle` (what becomes of a page), `first_look`, `pending`, `ending`, `journal`,
//! `guards`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bitmap::Bitmap;
use super::decode::{self, Page, Record};
use super::first_look::{OpenBatch, Pick};
use super::going_on::GoingOn;
use super::guards::Absences;
use super::judge::{Copy, Judge};
use super::mark::{self, Tracker};
use super::pending::Pending;
use super::{CursorValue, Ingest, IngestError, PageAnswer, PageEnd, RunReport};
use crate::jq::{Json, Vars};
use crate::model::{Fingerprint, Key, SourceName, Timestamp};
use crate::planted::{self, Fault};
use crate::provider::{CursorOrder, Detect};
use crate::schedule::FirstRun;
use crate::source::SourceStream;
use crate::store::{Commit, Decision, Phase, SetAside, StoreError, StreamClaim, StreamLease, StreamState};
use crate::subscription::Subscriptions;

/// How a run's changes reach the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each page at once, with the mark.
    Straight,
    /// Many pages at a time, without events: the first look, and that under a changed definition.
    Silent,
    /// Kept, and released after the verdict.
    Journal,
}

/// A run under way.
pub struct Run {
    pub(super) ingest: Arc<Ingest>,
    pub(super) stream: Arc<SourceStream>,
    pub(super) lease: StreamLease,
    pub(super) state: StreamState,
    source_id: SourceName,
    pub(super) vars: Vars,
    subscriptions: Arc<Subscriptions>,
    pub(super) way: Way,
    pub(super) now: Timestamp,
    pub(super) tracker: Tracker,
    pub(super) report: RunReport,
    /// Which known rows this run has seen, by their numbers.
    pub(super) seen: Bitmap,
    /// Keys in this run's journal that have no row yet, by their hashes.
    pub(super) fresh: HashSet<u64>,
    /// What waits for the verdict in memory.
    pub(super) pending: Pending,
    /// The open batch of a silent run.
    pub(super) open: OpenBatch,
    /// What a first look picks out to be announced.
    pub(super) pick: Pick,
    /// Older copies that this run ignored.
    pub(super) older: HashMap<Key, Fingerprint>,
    /// False: a record was set aside or contradictory, so absence proves nothing.
    pub(super) proven: bool,
    /// A copy was ignored: the mark stays, and a "nothing new" would hide it.
    pub(super) ignored: bool,
    /// A real webhook was faster than this run: the stream is polled once more.
    pub(super) overtaken: bool,
    pub(super) contradicted: bool,
    /// A person approved this run's deletions: they do not count against the next.
    pub(super) approved_deletes: bool,
    /// Creations and updates found.
    pub(super) changes: u64,
    /// Decided and not yet written down.
    pub(super) decisions: Vec<Decision>,
    pub(super) place: i64,
    pub(super) pages: u64,
    /// The provider's time of the run's first answer.
    first_answer: Option<Timestamp>,
    /// Changes that this run found, whatever becomes of them.
    pub(super) found: u64,
    /// Numbered pages over an order that may change.
    pub(super) drifts: bool,
    /// The mark waits for what the next page shows.
    pub(super) holds: bool,
    /// What the run says of absent records; judged once.
    pub(super) absences: Option<Absences>,
    pub(super) going: GoingOn,
    /// The stream's change number when the run began.
    pub(super) began_at: u64,
    /// The same before the present request (RULES R5.3).
    asked_at: u64,
}

impl Run {
    /// Begins a run, after releasing what an earlier run's verdict left in the journal.
    pub(super) async fn begin(
        ingest: Arc<Ingest>,
        stream: Arc<SourceStream>,
        claim: StreamClaim,
    ) -> Result<Run, IngestError> {
        let lease = claim.lease;
        let state = super::recompare::fresh_state(&ingest, &stream, claim.state, Some(&lease)).await?;
        let vars = Vars { settings: Json::from(&*stream.settings), ..Vars::default() };
        let mut run = Run {
            way: Way::Journal,
            now: ingest.clock.now(),
            tracker: Tracker::new(state.mark.as_deref()),
            report: RunReport::default(),
            seen: Bitmap::default(),
            fresh: HashSet::new(),
            pending: Pending::beside_a_journal(state.resume.is_some() || state.releasing),
            open: OpenBatch::default(),
            pick: Pick::Nothing,
            older: HashMap::new(),
            proven: true,
            ignored: false,
            overtaken: false,
            contradicted: false,
            approved_deletes: false,
            changes: 0,
            decisions: Vec::new(),
            place: 0,
            pages: 0,
            first_answer: None,
            found: 0,
            drifts: false,
            holds: false,
            absences: None,
            going: GoingOn::of(&stream, &state),
            began_at: state.change_number,
            asked_at: state.change_number,
            source_id: state.source_id.clone(),
            subscriptions: ingest.subscriptions(),
            ingest,
            stream,
            lease,
            state,
            vars,
        };
        if run.state.releasing {
            // Judged under what the run knew that found them: it may have been the first look.
            let began = run.state.detection.released_as.unwrap_or((run.state.phase, run.state.listed_once));
            let now = (run.state.phase, run.state.listed_once);
            run.release_under(began).await?;
            run.going.releasing = run.report.deferred;
            (run.state.phase, run.state.listed_once) = now;
            (run.began_at, run.asked_at) = (run.state.change_number, run.state.change_number);
        }
        (run.way, run.pick) = run.choose_way();
        run.resume_at();
        Ok(run)
    }

    fn choose_way(&self) -> (Way, Pick) {
        let spec = &self.stream.spec;
        if self.state.phase == Phase::Baseline {
            match (&self.stream.first_run, self.state.detection.retaken) {
                (FirstRun::Baseline, _) | (_, Some(_)) => return (Way::Silent, Pick::Nothing),
                (FirstRun::Since(time), None) => return (Way::Silent, Pick::Since(*time)),
                (FirstRun::Last(count), None) => return (Way::Silent, Pick::last(*count)),
                (FirstRun::SendAll, None) => {}
            }
        }
        let ordered = spec.cursor.as_ref().is_some_and(|cursor| {
            let planted = planted::is(Fault::NewestFirstStraight) && cursor.order == CursorOrder::Desc;
            cursor.order == CursorOrder::Asc || planted
        });
        let straight = match spec.detect {
            Detect::Document => true,
            Detect::Snapshot => false,
            Detect::New | Detect::Changed => ordered && spec.parent.is_none(),
        };
        // What a guard may hold as a whole must not go out page by page; and a look back finds what lies before the mark.
        let waits = self.stream.mass_change.hold || self.state.detection.backfill.is_some();
        (if straight && !waits { Way::Straight } else { Way::Journal }, Pick::Nothing)
    }

    /// The value that this run's requests ask from; frozen for the whole run.
    pub fn cursor(&self) -> Option<CursorValue> {
        let cursor = self.stream.spec.cursor.as_ref()?;
        match self.going.parent_mark() {
            // A look back asks from one place, whatever each parent's own is.
            Some(mark) if self.state.detection.backfill.is_none() => mark::query_from(cursor, mark, self.now),
            _ => mark::query_value(cursor, asked_from(&self.state), self.now),
        }
    }

    /// Takes one page in.
    pub async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError> {
        self.pages += 1;
        let mut vars = self.vars.clone();
        vars.headers = headers(&answer.headers);
        let page = decode::page(&self.stream.spec, &answer, &vars)?;
        if let Some(cursor) = &self.stream.spec.cursor
            && let Some(jq) = &cursor.answer
            && let Some(value) = decode::cursor_of_answer(cursor, jq, &page.json, &vars)?
        {
            self.tracker.told(&value);
        }
        if self.state.started_at.is_none() {
            self.started(answer.date.unwrap_or(self.now)).await?;
        }
        let end = page.end.clone();
        self.report.records += page.records.len() as u64;
        // While a run goes from page to page, a record may change (or appear late) behind the page where it would have stood, and
        // a later page may show times beyond it. So nothing that is dated after the run's first answer moves the mark.
        let latest = *self.first_answer.get_or_insert(answer.date.unwrap_or(self.now));
        self.take(page, latest).await?;
        Ok(PageEnd { last: self.tracker.last(), disordered: self.tracker.disordered, ..end })
    }

    /// The pages were counted by numbers over an order that may change: rows can have slipped from one page to the other. Such a
    /// run stores what it found but proves nothing, unless it found nothing that was not known (RULES R1.5).
    pub fn drifts(&mut self) {
        self.drifts = true;
    }

    /// While it holds, no page moves the mark: a row may have slipped out of the tick that is being counted through.
    pub fn holds(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// The listing is asked for again from its last record on. Where the filter is coarser than the records' own times, that
    /// begins before what was seen last and contradicts no order.
    pub fn steps(&mut self) {
        self.tracker.asks_again();
    }

    /// The place to go on from is this link (`cursor.type = "link"`).
    pub fn told(&mut self, link: &str) {
        self.tracker.told(&CursorValue::Text(link.to_owned()));
    }

    /// The first answer's time is kept at once: what follows it is new, whatever becomes of this run (RULES R3.6).
    async fn started(&mut self, at: Timestamp) -> Result<(), IngestError> {
        let mut commit = self.commit();
        commit.started_at = Some(at);
        self.ingest.store.commit(commit).await?;
        self.state.started_at = Some(at);
        Ok(())
    }

    /// A record as a copy to be judged; its place in the order is noted.
    fn copy(&mut self, mut record: Record, latest: Timestamp) -> Result<Copy, SetAside> {
        let spec = &self.stream.spec;
        if let Some((cursor, field)) = spec.cursor.as_ref().and_then(|cursor| Some((cursor, cursor.field.as_ref()?))) {
            match decode::cursor_of(cursor, field, record.text(), &self.vars) {
                Ok(value) => self.tracker.see(cursor, &value, Some(latest)),
                Err(reason) => return Err(record.set_aside(reason)),
            }
        }
        let found = decode::says_deleted(spec, &record.raw, &self.vars);
        match found.and_then(|deleted| Ok((deleted, self.going.key(&record, &self.vars)?))) {
            Ok((deleted, key)) => {
                record.key = key;
                Ok(Copy::polled(record, deleted, self.asked_at))
            }
            Err(reason) => Err(record.set_aside(reason)),
        }
    }

    async fn take(&mut self, page: Page, latest: Timestamp) -> Result<(), IngestError> {
        let mut aside = page.unreadable;
        let mut copies: Vec<Copy> = Vec::with_capacity(page.records.len());
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(page.records.len());
        for record in page.records {
            let copy = match self.copy(record, latest) {
                Ok(copy) => copy,
                Err(unreadable) => {
                    aside.push(unreadable);
                    continue;
                }
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
            self.become_unsorted().await?;
        }
        self.settle(copies, aside).await?;
        self.note_request().await
    }

    /// A record contradicts the declared order: the mark of the pages before was not justified, and a crash now would lose what
    /// lies behind it. It goes back to where the run found it; the rest goes into the journal (RULES R1.2).
    async fn become_unsorted(&mut self) -> Result<(), IngestError> {
        self.way = Way::Journal;
        let mut commit = self.commit();
        commit.unmark = Some(self.state.mark.clone());
        self.ingest.store.commit(commit).await?;
        Ok(())
    }

    /// What a webhook writes from here on was not yet known to the next request (RULES R5.3).
    async fn note_request(&mut self) -> Result<(), IngestError> {
        if self.stream.announced {
            // Others write too: without asking, every one of their writes would count as later than the request.
            self.reread().await?;
        }
        self.asked_at = self.asked_at.max(self.state.change_number);
        Ok(())
    }

    /// A commit of this run that changes nothing yet.
    pub(super) fn commit(&self) -> Commit {
        let mut commit = Commit::new(self.stream.name.clone(), self.state.definition.clone());
        commit.comparison = Some(self.state.comparison.clone());
        commit.lease = Some(self.lease.clone());
        commit
    }

    /// Reads the stream's change number again. Under another definition this run's knowledge is worth nothing any more.
    pub(super) async fn reread(&mut self) -> Result<(), IngestError> {
        match self.ingest.store.stream(&self.stream.name).await? {
            Some(state)
                if (&state.definition, &state.comparison) == (&self.state.definition, &self.state.comparison) =>
            {
                self.state.change_number = state.change_number;
                Ok(())
            }
            // The lease is still its own: it ends as a run that failed, and the next one begins under the new definition.
            Some(_) => Err(StoreError::Conflict.into()),
            None => Err(StoreError::Stale.into()),
        }
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            stream: &self.stream,
            state: &self.state,
            source_id: &self.source_id,
            subscriptions: &self.subscriptions,
            vars: &self.vars,
            now: self.now,
            silent: self.way == Way::Silent,
        }
    }
}

/// The stored mark that requests ask from: that of a look back, where one was ordered.
pub(super) fn asked_from(state: &StreamState) -> Option<&str> {
    match &state.detection.backfill {
        Some(from) => Some(from.as_str()).filter(|from| !from.is_empty()),
        None => state.mark.as_deref(),
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
