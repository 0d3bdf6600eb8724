//! Guards at the end of a run: an empty listing after a full one, mass deletion, mass change. What they hold waits for a person:
//! an approval lets the next complete run pass, with fresh data and about as many as were approved (RULES R6.2, R6.3).

use std::time::Duration;

use tracing::warn;

use super::IngestError;
use super::deletes::{self, Guard, Walk};
use super::pending::Waiting;
use super::run::{Run, Way};
use crate::model::{Key, ProblemKind, SeenBy};
use crate::provider::Detect;
use crate::store::{Decided, JournalEntry, Phase, RecordWrite, StoreError, Verdict};

/// Rows or entries written in one transaction.
const BATCH: usize = 500;
/// Deletions for absence count together for so long.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Below so many known records a share of them says nothing.
const KNOWN_MIN: u64 = 20;

/// What a run says of the records it did not see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absences {
    what: What,
    /// Nothing waits for another listing.
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// Nothing: it is no listing of everything, or proves nothing.
    Nothing,
    /// Those absent often enough are deleted.
    Gone,
    /// All that are absent are deleted: a person has approved an empty listing.
    AllGone,
    /// They are no longer part of the listing.
    Retired,
    /// Their deletion waits for a person.
    Held,
}

impl Run {
    /// Asks the guards. False: something waits for another look, so that the next one must not be answered with "nothing new".
    /// An error: the run is held as a whole, and changes nothing. `ended`: the run listed everything it was to list.
    pub(super) async fn guard_run(&mut self, ended: bool) -> Result<bool, IngestError> {
        let retaking = self.state.detection.retaken.is_some();
        let absences = self.judge_absences().await?;
        match absences.what {
            What::Nothing => {}
            What::Gone => self.journal_gone(true, false).await?,
            What::AllGone => self.journal_gone(true, true).await?,
            What::Held => self.journal_gone(false, false).await?,
            What::Retired => self.retire().await?,
        }
        if retaking && ended {
            if self.stream.spec.detect == Detect::Snapshot && !self.proven {
                self.unlist().await?;
            }
            self.tell_retaken().await?;
        } else if self.state.phase == Phase::Live {
            self.guard_changes().await?;
        }
        Ok(absences.quiet && self.going.spared.is_empty())
    }

    /// Judged once, also where it is asked for before the run ends.
    async fn judge_absences(&mut self) -> Result<Absences, IngestError> {
        if let Some(absences) = self.absences {
            return Ok(absences);
        }
        self.proven &= !self.must_repeat();
        let judges = self.stream.spec.detect == Detect::Snapshot && self.proven;
        let absences =
            if judges { self.guard_absences().await? } else { Absences { what: What::Nothing, quiet: true } };
        self.absences = Some(absences);
        Ok(absences)
    }

    /// The keys of the records that this run would report as deleted.
    pub(super) async fn gone(&mut self) -> Result<Vec<Key>, IngestError> {
        let all = match self.judge_absences().await?.what {
            What::Gone => false,
            What::AllGone => true,
            What::Nothing | What::Held | What::Retired => return Ok(Vec::new()),
        };
        let store = self.ingest.store.clone();
        let mut walk = Walk::new(&self.stream, &self.seen, &self.going, self.began_at);
        let mut keys = Vec::new();
        while let Some(missing) = walk.next(&*store).await? {
            keys.extend(missing.into_iter().filter(|one| one.gone || all).map(|one| one.key));
        }
        Ok(keys)
    }

    async fn guard_absences(&mut self) -> Result<Absences, IngestError> {
        let (store, retaking) = (self.ingest.store.clone(), self.state.detection.retaken.is_some());
        let walk = Walk::new(&self.stream, &self.seen, &self.going, self.began_at);
        let absent = deletes::count(&*store, walk).await?;
        let today = match absent.gone {
            0 => 0,
            _ => store.absent_since(&self.stream.name, self.now.minus(DAY)).await?,
        };
        let guard = match deletes::guard(&self.stream.spec.deletes, absent, self.report.records, today) {
            // A new baseline deletes nothing: it only stops to look at what its definition no longer lists.
            Guard::Held(_) if retaking => Guard::Under,
            guard => guard,
        };
        let missing = absent.gone + absent.missed;
        let subject = self.stream.name.to_string();
        let what = match guard {
            Guard::Under if missing == 0 => What::Nothing,
            Guard::Under if retaking => What::Retired,
            Guard::Under => What::Gone,
            Guard::Held(message) if self.approved(ProblemKind::DeletesHeld, absent.gone).await? => {
                warn!(stream.name = %self.stream.name, "{subject}: an approved run goes on: {message}");
                self.approved_deletes = true;
                What::Gone
            }
            Guard::Held(message) => {
                self.hold(ProblemKind::DeletesHeld, &message, absent.gone).await?;
                return Ok(Absences { what: What::Held, quiet: false });
            }
            // Approved, so the grace is over as well: there is no listing to wait for.
            Guard::Empty(message) if self.approved(ProblemKind::ListEmpty, missing).await? => {
                warn!(stream.name = %self.stream.name, "{subject}: an approved run goes on: {message}");
                self.approved_deletes = true;
                if retaking { What::Retired } else { What::AllGone }
            }
            Guard::Empty(message) => {
                self.hold(ProblemKind::ListEmpty, &message, missing).await?;
                self.journal_gone(false, true).await?;
                self.ingest.store.verdict(&self.lease, Verdict::Dropped).await?;
                self.write_down().await?;
                return Err(IngestError::Held(message));
            }
        };
        self.under_guard().await?;
        Ok(Absences { what, quiet: absent.missed == 0 || what != What::Gone })
    }

    /// The problems of held deletions and empty lists are over.
    async fn under_guard(&self) -> Result<(), IngestError> {
        let (store, subject) = (&*self.ingest.store, self.stream.name.to_string());
        self.ingest.problems.close(store, ProblemKind::DeletesHeld, &subject).await?;
        self.ingest.problems.close(store, ProblemKind::ListEmpty, &subject).await?;
        Ok(())
    }

    /// Puts what is gone into the journal (`announce`), or notes that it is held. `all`: what is only missed as well.
    async fn journal_gone(&mut self, announce: bool, all: bool) -> Result<(), IngestError> {
        let (store, stream) = (self.ingest.store.clone(), self.stream.clone());
        let (seen, going) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.going));
        let mut walk = Walk::new(&stream, &seen, &going, self.began_at);
        while let Some(missing) = walk.next(&*store).await? {
            let mut entries = Vec::new();
            for one in missing.into_iter().filter(|one| (one.gone || all) && !going.spared.contains(&one.key)) {
                self.place += 1;
                if announce {
                    let (key, place) = (one.key, self.place);
                    let (asked_at, parent) = (self.began_at, going.handed_down(&key));
                    let entry = JournalEntry { id: 0, key, record: None, time: None, place, asked_at, parent };
                    entries.push(Waiting::from(entry));
                } else {
                    self.decide(one.key, Decided::Held, "its deletion is held: see `ringback problem list`");
                }
            }
            self.journal(entries).await?;
        }
        (self.seen, self.going) = (seen, going);
        Ok(())
    }

    /// Notes one more complete listing without the records that it did not show and that are not deleted for it yet.
    pub(super) async fn miss(&mut self) -> Result<(), IngestError> {
        if self.stream.spec.detect != Detect::Snapshot || !self.proven || self.state.detection.retaken.is_some() {
            return Ok(());
        }
        let (store, stream) = (self.ingest.store.clone(), self.stream.clone());
        let (seen, going) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.going));
        let mut walk = Walk::new(&stream, &seen, &going, self.began_at);
        while let Some(missing) = walk.next(&*store).await? {
            let missed: Vec<_> = missing.into_iter().filter(|one| !one.gone).collect();
            for chunk in missed.chunks(BATCH) {
                let mut commit = self.commit();
                commit.writes = chunk.iter().map(|one| deletes::missed_once_more(&one.key, &one.row)).collect();
                for one in chunk {
                    let of = self.stream.spec.deletes.confirm_after;
                    let detail = format!("{} of {of} listings", one.row.absences + 1);
                    self.decide(one.key.clone(), Decided::Absent, &detail);
                }
                match store.commit(commit).await {
                    Ok(committed) => self.state.change_number = committed.change_number,
                    // Somebody wrote a row meanwhile: it is there, and the next listing will tell.
                    Err(StoreError::Conflict) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        (self.seen, self.going) = (seen, going);
        Ok(())
    }

    /// What the new definition no longer lists is forgotten without a word; its revision stays with its tombstone (RULES R4.2).
    async fn retire(&mut self) -> Result<(), IngestError> {
        let (store, stream) = (self.ingest.store.clone(), self.stream.clone());
        let (seen, going) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.going));
        let mut walk = Walk::new(&stream, &seen, &going, self.began_at);
        while let Some(missing) = walk.next(&*store).await? {
            for chunk in missing.chunks(BATCH) {
                for one in chunk {
                    self.decide(one.key.clone(), Decided::Retaken, "the new definition no longer lists it");
                }
                self.write_rows(chunk.iter().map(|one| deletes::retired(&one.key, &one.row)).collect()).await?;
            }
        }
        (self.seen, self.going) = (seen, going);
        Ok(())
    }

    /// A new baseline that proves nothing of what is absent: what it did not show is not missed until some listing shows it. Those
    /// rows are known by their raw hash, which the changed definition cleared and every copy sets.
    async fn unlist(&mut self) -> Result<(), IngestError> {
        let (store, stream) = (self.ingest.store.clone(), self.stream.clone());
        let mut after = None;
        loop {
            let rows = store.rows_after(&stream.name, after.take(), BATCH).await?;
            let last = rows.last().map(|(key, _)| key.clone());
            let unseen = rows.iter().filter(|(_, row)| row.listed && row.by == SeenBy::Poll && row.raw_hash.is_none());
            let writes: Vec<RecordWrite> =
                unseen.map(|(key, row)| RecordWrite { listed: false, ..deletes::as_stored(key, row) }).collect();
            self.write_rows(writes).await?;
            match last {
                Some(key) => after = Some(key),
                None => return Ok(()),
            }
        }
    }

    async fn write_rows(&mut self, writes: Vec<RecordWrite>) -> Result<(), IngestError> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut commit = self.commit();
        commit.writes = writes;
        match self.ingest.store.commit(commit).await {
            Ok(committed) => self.state.change_number = committed.change_number,
            Err(StoreError::Conflict) => self.reread().await?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Says what a new baseline took without a word.
    async fn tell_retaken(&self) -> Result<(), IngestError> {
        let state = self.ingest.store.stream(&self.stream.name).await?;
        let taken = state.and_then(|state| state.detection.retaken).unwrap_or(0);
        let message = format!(
            "its definition changed, so the stored records were compared with a new baseline: {taken} record(s) were taken silently, all others are the same. From now on changes are announced as ever. Acknowledge this to close it."
        );
        let subject = self.stream.name.to_string();
        self.ingest.problems.open(&*self.ingest.store, ProblemKind::StreamRebaselined, &subject, &message).await?;
        Ok(())
    }

    /// Updates and creations of very many records at once: told, and held where the configuration says so.
    async fn guard_changes(&mut self) -> Result<(), IngestError> {
        let (rules, known) = (self.stream.mass_change, self.state.detection.records);
        let judged = matches!(self.stream.spec.detect, Detect::Changed | Detect::Snapshot) && self.state.listed_once;
        let over = judged
            && known >= KNOWN_MIN
            && self.changes > deletes::ALWAYS_ALLOWED
            && self.changes * 100 > known * u64::from(rules.max_percent);
        let subject = self.stream.name.to_string();
        let (store, problems) = (self.ingest.store.clone(), &self.ingest.problems);
        if !over {
            return Ok(problems.close(&*store, ProblemKind::ChangesHeld, &subject).await?);
        }
        let counts = format!(
            "{} of {known} known records changed or are new in one run: more than {} %",
            self.changes, rules.max_percent
        );
        if !rules.hold || self.way != Way::Journal {
            let message = format!(
                "{counts}. They were announced. If the provider did not change so much, look at `ignore` and `only`."
            );
            return Ok(problems.open(&*store, ProblemKind::ChangesHeld, &subject, &message).await?);
        }
        if self.approved(ProblemKind::ChangesHeld, self.changes).await? {
            return Ok(problems.close(&*store, ProblemKind::ChangesHeld, &subject).await?);
        }
        let message = format!("{counts}, so nothing was announced. If that is right, approve it.");
        self.hold(ProblemKind::ChangesHeld, &message, self.changes).await?;
        store.verdict(&self.lease, Verdict::Dropped).await?;
        self.write_down().await?;
        Err(IngestError::Held(message))
    }

    /// Whether a person approved about as many: at most those held then and a tenth more.
    async fn approved(&self, kind: ProblemKind, count: u64) -> Result<bool, IngestError> {
        let (subject, problems) = (self.stream.name.to_string(), self.ingest.store.problems().await?);
        let decided = problems.into_iter().find(|p| p.kind == kind && p.subject == subject).and_then(|p| p.decided);
        Ok(decided.is_some_and(|decided| decided.approved && count * 10 <= decided.held * 11))
    }

    /// Opens or updates the problem of what is held. The log says it once a day.
    async fn hold(&self, kind: ProblemKind, message: &str, held: u64) -> Result<(), IngestError> {
        let subject = self.stream.name.to_string();
        self.ingest.metrics.records("held", held);
        self.ingest.problems.hold(&*self.ingest.store, kind, &subject, message, held).await?;
        if self.ingest.says_today(kind, &subject, self.now) {
            let help = format!("`ringback problem approve {} {subject}` lets it pass once", kind.as_str());
            warn!(stream.name = %self.stream.name, "{subject}: {message} {help}");
        }
        Ok(())
    }
}
