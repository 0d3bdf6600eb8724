//! The whole life of one claimed stream: where its run begins, what is remembered of it, what is measured, when the stream is next
//! due, and which problems a person must see.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::files::Opening;
use super::memory::Memory;
use super::run::{Asked, Begin, Outcome, Polled, Run};
use super::settle::{self, DEADLINE, Facts, Settlement};
use super::signs::{self, Good};
use super::sink::Mode;
use super::{Shared, UNKNOWN, begin, pace, verdict};
use crate::ingest::RunReport;
use crate::model::{ProblemKind, StreamName, Timestamp};
use crate::schedule::{self, Schedule};
use crate::source::SourceStream;
use crate::store::{PollEnd, PollResult, StoreError, StreamClaim, StreamState, StreamStatus};

/// How a claimed stream's run went.
pub(super) struct Went {
    pub outcome: Outcome,
    pub result: PollResult,
    pub error: Option<String>,
    pub asked: Vec<Asked>,
}

impl Shared {
    pub(super) fn find(&self, stream: &StreamName) -> Option<Arc<Polled>> {
        self.loaded.load().streams.get(stream).cloned()
    }

    /// The whole life of one claimed stream. A store that is broken ends the process elsewhere; here the work is dropped.
    pub(super) async fn run_claimed(&self, claim: StreamClaim) {
        let name = claim.lease.stream.clone();
        let ended = match self.find(&name) {
            Some(polled) => self.poll_claimed(&polled, claim, false).await.map(|_| ()),
            None => self.give_back(claim).await,
        };
        match ended {
            Ok(()) => {}
            Err(StoreError::Stale) => debug!(stream.name = %name, "the poll of {name} lost its lease and is dropped"),
            Err(error) => warn!(stream.name = %name, "the end of a poll of {name} could not be stored: {error}"),
        }
    }

    async fn give_back(&self, claim: StreamClaim) -> Result<(), StoreError> {
        let end = PollEnd {
            next_in: UNKNOWN,
            result: PollResult::Deferred,
            records: 0,
            changes: 0,
            pages: 0,
            duration: Duration::ZERO,
            error: None,
            memory: None,
        };
        self.store.finish_poll(&claim.lease, end).await
    }

    /// Why nothing may be asked now, and until when.
    fn rests(
        &self,
        polled: &Polled,
        state: &StreamState,
        memory: &Memory,
        now: Timestamp,
    ) -> Option<(Timestamp, &'static str)> {
        let active = polled.stream.active.as_ref().filter(|active| !active.open(now));
        if let Some(active) = active {
            return Some((active.opens(now), "rests outside of its `active` times"));
        }
        // A poll dated in the future was made before the wall was set back.
        let last = state.last_poll_at.map(|last| last.min(now));
        let paced = last.zip(memory.pace).map(|(last, pace)| last.plus(Duration::from_millis(pace)));
        paced.filter(|until| *until > now).map(|until| (until, "keeps the provider's own least interval"))
    }

    /// Polls and settles. `insist`: a person asked, so that a refused credential is tried once more and no rest is kept.
    pub(super) async fn poll_claimed(
        &self,
        polled: &Polled,
        claim: StreamClaim,
        insist: bool,
    ) -> Result<Went, StoreError> {
        let (lease, state) = (claim.lease.clone(), claim.state.clone());
        let (begun, began) = (tokio::time::Instant::now(), self.clock.now());
        let mut memory = Memory::of(&state);
        if let Some((until, why)) = self.rests(polled, &state, &memory, began).filter(|_| !insist) {
            return self.put_off(claim, until, why).await;
        }
        let beginning = begin::decide(&polled.stream.spec, &state, &memory, polled.clock.at(began));
        let gap = beginning.gap.clone().filter(|_| state.resume.is_none());
        let begin =
            Begin { store: &*self.store, clock: &self.clock, state: &state, memory: memory.clone(), beginning, insist };
        let mut run = Run::new(polled, begin);
        let outcome = self.look(&mut run, polled, claim, Mode::Normal).await;
        let now = self.clock.now();
        let mut problems = self.remember(&mut memory, polled, &state, &run, &outcome, began);
        let gaps = gap.into_iter().chain(run.gap.take());
        problems.extend(gaps.map(|message| (ProblemKind::HistoryGap, message)));
        let facts = Facts {
            long_poll: polled.stream.spec.long_poll.is_some(),
            pace: run.pace,
            repeats: memory.repeats,
            took: begun.elapsed(),
            records: run.records,
            ..facts(polled, &state, &memory, now)
        };
        let Some(mut settlement) = settle::decide(&outcome, &facts) else { return Err(StoreError::Stale) };
        settlement.problems.splice(0..0, problems);
        if settlement.problems.iter().any(|(kind, _)| *kind == ProblemKind::HistoryGap) {
            memory.gap_at = Some(now.0);
        }
        memory.pace = run.pace.and_then(|pace| u64::try_from(pace.as_millis()).ok());
        memory.planned_at = Some(now.plus(settlement.next_in).0);
        let changes = changes(outcome.report().unwrap_or(&run.kept));
        let end = PollEnd {
            next_in: settlement.next_in,
            result: settlement.result,
            records: run.records,
            changes,
            pages: run.pages,
            duration: facts.took,
            error: settlement.error.as_ref().map(|error| polled.mask.text(error)),
            memory: Some(memory.to_stored()),
        };
        let (error, asked) = (end.error.clone(), std::mem::take(&mut run.asked));
        say(&polled.stream.name, &end, state.failures);
        self.measure(polled, &settlement, &outcome, facts.took, now);
        // The lease is given back first: problems concern no lease, and a stream must not wait for them.
        self.store.finish_poll(&lease, end).await?;
        self.judge_problems(polled, &settlement, &memory, run.accepted, now).await?;
        Ok(Went { outcome, result: settlement.result, error, asked })
    }

    /// Asks the API, or reads the files.
    pub(super) async fn look(&self, run: &mut Run<'_>, polled: &Polled, claim: StreamClaim, mode: Mode) -> Outcome {
        if polled.stream.spec.files.is_some() {
            return run.poll_files(Opening { sink: &*self.sink, claim, mode }, DEADLINE).await;
        }
        let sink = self.sink.begin(&polled.stream, claim, mode).await;
        run.poll(sink, DEADLINE).await
    }

    /// Gives a stream back that may not be asked now.
    async fn put_off(&self, claim: StreamClaim, until: Timestamp, why: &str) -> Result<Went, StoreError> {
        let error = if until.0 == i64::MAX { why.to_owned() } else { format!("{why} until {until}") };
        let end = PollEnd {
            // Looked at again at least once a day: the wall may be set, and calendars may change.
            next_in: until.since(self.clock.now()).min(pace::RETRY_AFTER_MAX),
            result: PollResult::Deferred,
            records: 0,
            changes: 0,
            pages: 0,
            duration: Duration::ZERO,
            error: Some(error.clone()),
            memory: None,
        };
        self.store.finish_poll(&claim.lease, end).await?;
        let outcome = Outcome::Waits(until);
        Ok(Went { outcome, result: PollResult::Deferred, error: Some(error), asked: Vec::new() })
    }

    /// Takes a run into the stream's memory; gives the problems that a good run shows.
    fn remember(
        &self,
        memory: &mut Memory,
        polled: &Polled,
        state: &StreamState,
        run: &Run<'_>,
        outcome: &Outcome,
        began: Timestamp,
    ) -> Vec<(ProblemKind, String)> {
        let ended = matches!(outcome, Outcome::Done(_) | Outcome::Partly(..));
        let relist_owed = memory.relist || run.beginning.relist;
        memory.relist = match outcome {
            Outcome::Failed(failure) if failure.cause == verdict::Cause::Expired => true,
            _ => relist_owed && !(ended && run.relists),
        };
        if ended && run.late {
            memory.late_at = Some(polled.clock.at(run.frozen.run_start).0);
        }
        // However this part ended: the round that goes on behind a parent that failed is no look at all of them.
        memory.parent_failed = run.after_parent.is_some() && run.round_failed;
        memory.after_parent = run.after_parent.clone();
        memory.among_new = run.among_new;
        memory.files = run.files.clone();
        let report = match outcome {
            Outcome::Done(report) => Some(report),
            Outcome::NotModified => None,
            Outcome::Stale => return Vec::new(),
            Outcome::Partly(report, _) | Outcome::Paused(report, _) => {
                memory.change_number = report.change_number.max(memory.change_number);
                memory.unconditional = true;
                return Vec::new();
            }
            Outcome::Failed(_) | Outcome::Waits(_) | Outcome::Overdue => {
                memory.change_number = run.kept.change_number.max(memory.change_number);
                memory.unconditional = true;
                return Vec::new();
            }
        };
        let stream = &polled.stream;
        let good = Good {
            report,
            began_at: state.change_number,
            has_mark: stream.spec.cursor.is_some() && stream.spec.parent.is_none() && state.mark.is_some(),
            late: run.late,
            asked_for: memory.planned_at.is_some_and(|planned| began.0.saturating_add(EARLY) < planned),
            expect_every: stream.expect_every,
            rested: rested(polled, state, self.clock.now()),
            interval: adaptive(stream),
            now: self.clock.now(),
        };
        signs::see(memory, &good)
    }

    fn measure(&self, polled: &Polled, settlement: &Settlement, outcome: &Outcome, took: Duration, now: Timestamp) {
        let (stream, source) = (&polled.stream.name, &polled.source.name);
        self.metrics.poll(stream, settlement.result.as_str(), took, now);
        if let Some(lag) = outcome.report().and_then(|report| report.lag) {
            self.metrics.stream_lag(stream, lag);
        }
        if let Some(skew) = polled.clock.skew() {
            self.metrics.provider_clock_skew(source, skew);
        }
        let left = polled.budgets().iter().filter_map(|budget| budget.left(now)).min();
        if let Some(left) = left {
            self.metrics.quota_remaining(stream, left);
        }
    }

    /// Opens what went wrong, or closes what is over. A credential's problem is its source's, and so is the clock's; it is over only
    /// when the provider took the credential again, and not when a run needed none.
    async fn judge_problems(
        &self,
        polled: &Polled,
        settlement: &Settlement,
        memory: &Memory,
        accepted: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (stream, source) = (polled.stream.name.to_string(), polled.source.name.as_str());
        for (kind, message) in &settlement.problems {
            let subject = if *kind == ProblemKind::AuthFailed { source } else { &stream };
            self.problems.open(&*self.store, *kind, subject, &polled.mask.text(message)).await?;
        }
        match signs::clocks(polled.clock.skew()) {
            Some((kind, message)) => self.problems.open_once(&*self.store, kind, source, &message).await?,
            None => self.problems.close(&*self.store, ProblemKind::ClockSkew, source).await?,
        }
        match settlement.result {
            PollResult::Ok | PollResult::NotModified => {
                let refused = !accepted || polled.budget.refused().is_some();
                let open = |kind: ProblemKind| settlement.problems.iter().any(|(opened, _)| *opened == kind);
                let gap_shown = memory.gap_at.is_some_and(|at| now.since(Timestamp(at)) < signs::GAP_SHOWN);
                let stays = |kind| match kind {
                    ProblemKind::HistoryGap => open(kind) || gap_shown,
                    ProblemKind::AuthFailed => refused,
                    kind => open(kind),
                };
                self.problems.over(&*self.store, &stream, source, stays).await
            }
            PollResult::Failed | PollResult::Deferred => Ok(()),
        }
    }
}

/// A run that begins so much before it was planned was asked for.
const EARLY: i64 = 1_000;

/// What settling needs to know of a stream beside its run.
pub(super) fn facts<'a>(polled: &'a Polled, state: &StreamState, memory: &Memory, now: Timestamp) -> Facts<'a> {
    Facts {
        schedule: &polled.stream.schedule,
        scheduled_in: scheduled_in(polled, memory.interval.map(Duration::from_millis), now),
        long_poll: false,
        late_after: polled.stream.late_after,
        pace: None,
        repeats: 0,
        failures: state.failures,
        since_ok: state.last_ok_at.map(|ok| now.since(ok).saturating_sub(rested(polled, state, now))),
        took: Duration::ZERO,
        records: 0,
        now,
    }
}

/// For how long since its last good poll the stream was not to be polled.
pub(super) fn rested(polled: &Polled, state: &StreamState, now: Timestamp) -> Duration {
    let Some((active, ok)) = polled.stream.active.as_ref().zip(state.last_ok_at) else { return Duration::ZERO };
    // Until its next time it was awake, whether that was inside of the window or not.
    let awake = match &polled.stream.schedule {
        Schedule::Every(every) => ok.plus(*every),
        Schedule::Cron { .. } => ok,
    };
    active.opens(awake).min(now).since(awake)
}

/// `every` and how far a healthy webhook may slow it.
fn adaptive(stream: &SourceStream) -> Option<(Duration, Duration)> {
    match (&stream.schedule, stream.every_healthy) {
        (Schedule::Every(every), Some(healthy)) => Some((*every, healthy.max(*every))),
        (Schedule::Every(_) | Schedule::Cron { .. }, _) => None,
    }
}

/// The latest moment at which a stream can be due by any rule.
pub(super) fn latest_due(polled: &Polled, status: &StreamStatus, now: Timestamp) -> Timestamp {
    let planned = now.plus(scheduled_in(polled, None, now));
    // A place on the grid is at most one and a half intervals away.
    let grid = match &polled.stream.schedule {
        Schedule::Every(every) => now.plus(polled.stream.every_healthy.unwrap_or(*every).max(*every).saturating_mul(2)),
        Schedule::Cron { .. } => now,
    };
    let asked = match status.last_result {
        Some(PollResult::Ok | PollResult::NotModified) => {
            Memory::of(&status.state).pace.map_or(now, |pace| now.plus(Duration::from_millis(pace)))
        }
        // A provider may have asked for quiet.
        Some(PollResult::Failed | PollResult::Deferred) | None => now.plus(pace::RETRY_AFTER_MAX),
    };
    planned.max(grid).max(asked.min(now.plus(pace::RETRY_AFTER_MAX)))
}

/// How long until the schedule's next time; `interval`: in place of its own.
pub(super) fn scheduled_in(polled: &Polled, interval: Option<Duration>, now: Timestamp) -> Duration {
    let stream = &polled.stream;
    let schedule = match (&stream.schedule, interval) {
        (Schedule::Every(every), Some(interval)) => Schedule::Every(interval.max(*every)),
        (schedule, _) => schedule.clone(),
    };
    let seed = stream.name.to_string();
    schedule::next_within(&schedule, stream.active.as_ref(), &seed, Some(now), now).since(now)
}

fn changes(report: &RunReport) -> u64 {
    report.created + report.updated + report.deleted
}

/// One line for each poll that a person would want to know of; a failure that goes on is said once.
fn say(stream: &StreamName, end: &PollEnd, failures_before: u32) {
    let (source_name, stream_name) = (stream.source.as_str(), &*stream.stream);
    let millis = u64::try_from(end.duration.as_millis()).unwrap_or(u64::MAX);
    match (&end.error, end.result) {
        (Some(error), PollResult::Failed) if failures_before == 0 => {
            warn!(
                source.name = source_name,
                stream.name = stream_name,
                duration_ms = millis,
                "could not poll {stream}: {error}"
            );
        }
        (Some(error), _) => {
            debug!(
                source.name = source_name,
                stream.name = stream_name,
                duration_ms = millis,
                "did not poll {stream}: {error}"
            );
        }
        (None, _) if end.changes > 0 || failures_before > 0 => {
            info!(
                source.name = source_name,
                stream.name = stream_name,
                records = end.records,
                changes = end.changes,
                duration_ms = millis,
                "polled {stream}: {} changes",
                end.changes
            );
        }
        (None, _) => {
            debug!(
                source.name = source_name,
                stream.name = stream_name,
                records = end.records,
                duration_ms = millis,
                "polled {stream}"
            );
        }
    }
}
