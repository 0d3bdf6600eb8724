//! A run that only looks: pages are decoded and judged against what is stored exactly as in a real one, and nothing is written.
//! For `ringback poll --dry-run`. What only the end of a listing shows (records that went away) is not judged.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::going_on::GoingOn;
use super::judge::{Copy, Judge, Verdict};
use super::{CursorValue, Ingest, IngestError, PageAnswer, PageEnd, RunReport, batch, decode, mark, run};
use crate::jq::{Json, Vars};
use crate::model::{ChangeKind, Key, Timestamp};
use crate::schedule::FirstRun;
use crate::source::SourceStream;
use crate::store::{Phase, RecordWrite, StreamState};

/// A look under way.
pub struct Look {
    ingest: Arc<Ingest>,
    stream: Arc<SourceStream>,
    state: StreamState,
    now: Timestamp,
    vars: Vars,
    keys: HashSet<Key>,
    report: RunReport,
    going: GoingOn,
}

impl Look {
    pub(super) fn begin(ingest: Arc<Ingest>, stream: Arc<SourceStream>, state: StreamState) -> Look {
        let vars = Vars { settings: Json::from(&*stream.settings), ..Vars::default() };
        let now = ingest.clock.now();
        let going = GoingOn::of(&stream, &state);
        Look { ingest, stream, state, now, vars, keys: HashSet::new(), report: RunReport::default(), going }
    }

    /// The value that the requests ask from.
    pub fn cursor(&self) -> Option<CursorValue> {
        let cursor = self.stream.spec.cursor.as_ref()?;
        let from = run::asked_from(&self.state);
        match self.going.parent_mark() {
            // A look back asks from one place, whatever each parent's own is.
            Some(mark) if self.state.detection.backfill.is_none() => mark::query_from(cursor, mark, self.now),
            _ => mark::query_value(cursor, from, self.now),
        }
    }

    /// Pages from here on are those of one parent.
    pub fn enter(&mut self, parent: &str, values: &Json) {
        if self.going.enter(parent).is_some() {
            self.vars.parent = values.clone();
        }
    }

    /// Judges one page.
    pub async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError> {
        let vars = Vars { headers: run::headers(&answer.headers), ..self.vars.clone() };
        let page = decode::page(&self.stream.spec, &answer, &vars)?;
        self.report.records += page.records.len() as u64;
        self.report.unreadable += page.unreadable.len() as u64;
        let mut copies = Vec::with_capacity(page.records.len());
        for record in page.records {
            match self.copy(record) {
                Ok(Some(copy)) => copies.push(copy),
                Ok(None) => {}
                Err(_) => self.report.unreadable += 1,
            }
        }
        let subscriptions = self.ingest.subscriptions();
        let judge = Judge {
            stream: &self.stream,
            state: &self.state,
            source_id: &self.state.source_id,
            subscriptions: &subscriptions,
            vars: &self.vars,
            now: self.now,
            silent: self.state.phase == Phase::Baseline
                && (self.stream.first_run == FirstRun::Baseline || self.state.detection.retaken.is_some()),
        };
        let judged = batch::judge(&*self.ingest.store, &judge, copies, &HashMap::new()).await?;
        for (_, _, verdict) in judged.verdicts {
            match verdict {
                Ok(Verdict::Write(write)) => self.count(&write),
                Ok(Verdict::Unchanged | Verdict::Notice | Verdict::Overtaken | Verdict::Older(_)) => {}
                Err(_) => self.report.unreadable += 1,
            }
        }
        Ok(page.end)
    }

    /// What a run would have found.
    pub fn report(mut self) -> RunReport {
        if let (Phase::Baseline, FirstRun::Last(count)) = (self.state.phase, &self.stream.first_run) {
            let (found, count) = (self.report.created + self.report.updated, *count as u64);
            self.report.silent += found.saturating_sub(count);
            self.report.updated = self.report.updated.min(count.saturating_sub(self.report.created.min(count)));
            self.report.created = self.report.created.min(count);
            self.report.events = self.report.events.min(count);
        }
        self.report
    }

    fn count(&mut self, write: &RecordWrite) {
        let report = &mut self.report;
        let event = write.event.as_ref().map(|new| &new.event);
        let since = match (self.state.phase, &self.stream.first_run) {
            (Phase::Baseline, FirstRun::Since(since)) => Some(*since),
            _ => None,
        };
        match event.filter(|event| since.is_none_or(|since| event.time >= since)) {
            Some(event) => {
                match event.kind {
                    ChangeKind::Created => report.created += 1,
                    ChangeKind::Updated => report.updated += 1,
                    ChangeKind::Deleted => report.deleted += 1,
                }
                report.events += 1;
            }
            None => report.silent += u64::from(write.silent || event.is_some()),
        }
    }

    /// None: a copy of this key was judged before.
    fn copy(&mut self, mut record: decode::Record) -> Result<Option<Copy>, String> {
        let deleted = decode::says_deleted(&self.stream.spec, &record.raw, &self.vars)?;
        record.key = self.going.key(record.key);
        if !self.keys.insert(record.key.clone()) {
            return Ok(None);
        }
        Ok(Some(Copy::polled(record, deleted, self.state.change_number)))
    }
}
