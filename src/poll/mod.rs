//! The step that polls: claims streams that are due, runs each beside the others, and records how it went. A run asks page after
//! page, hands each to `ingest`, and ends with a verdict; what it found is committed there, never here.
//!
//! Reading order: `run` (one run), `pagination` (how a listing goes on), `request` and `auth` (what is asked), `verdict` (what an
//! answer means), `limits` and `pace` (how often), `settle` (what follows). Called by `app` through [`crate::worker::run_loop`], and
//! for one stream by `ringback poll`.
//!
//! Left to later issues, each at its place: date windows, parents and resumed runs (`run::list`), the second look for late
//! indexes and the score that lengthens intervals (`settle`), refreshable credentials (`auth`), budgets that outlive a restart
//! (`limits`).

mod auth;
mod conditional;
#[cfg(test)]
mod fixtures;
mod limits;
mod link;
mod mask;
mod once;
mod pace;
mod pagination;
mod problems;
mod request;
mod run;
mod settle;
mod sink;
mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::ingest::RunReport;
use crate::metrics::Metrics;
use crate::model::{ProblemKind, StreamName, Timestamp};
use crate::schedule;
use crate::source::{Source, SourceStream};
use crate::store::{PollEnd, PollResult, Store, StoreError, StreamClaim, Topic, Wake, Which};
use crate::worker::{Progress, Step, StepError};

pub use once::{PollError, PollReport};
pub use run::Asked;
pub use sink::{Fetch, Mode, Sink, SinkRun};

use auth::Credential;
use limits::Budgets;
use mask::Mask;
use problems::OpenProblems;
use run::{Outcome, Polled, Run};
use settle::{DEADLINE, Facts};

/// Runs in flight at once, over all sources.
const RUNS_MAX: usize = 64;
/// Longer than the longest run and the release of what it found. A crash loses no time by it: a store with one owner frees the
/// leases of the last process when it opens.
const LEASE: Duration = Duration::from_secs(600 + 300);
/// A stream that is due but unknown here (the configuration is being changed) is looked at again after this.
const UNKNOWN: Duration = Duration::from_secs(60);

/// Polls all streams of the configuration. Clones share everything.
#[derive(Clone)]
pub struct Poller(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    clock: Clock,
    metrics: Metrics,
    loaded: ArcSwap<Loaded>,
    /// A hanging source holds one of these and delays nobody else.
    runs: Mutex<JoinSet<()>>,
    /// Rung when a run has ended: there is room for another, and a stream has a new time.
    ended: watch::Sender<u64>,
    problems: OpenProblems,
}

/// What the configuration gives; swapped whole at a reload. A run in flight goes on with what it began with.
#[derive(Default)]
struct Loaded {
    streams: HashMap<StreamName, Arc<Polled>>,
    budgets: Budgets,
}

impl Poller {
    /// A poller without sources; [`Poller::load`] gives it some.
    pub fn new(store: Arc<dyn Store>, sink: Arc<dyn Sink>, clock: Clock, metrics: Metrics) -> Poller {
        Poller(Arc::new(Shared {
            store,
            sink,
            clock,
            metrics,
            loaded: ArcSwap::default(),
            runs: Mutex::default(),
            ended: watch::Sender::new(0),
            problems: OpenProblems::default(),
        }))
    }

    /// Takes over the sources of a configuration, each with its client. What budgets have spent is kept; a credential that was
    /// refused is tried again once it differs.
    pub fn load(&self, sources: Vec<(Arc<Source>, Arc<dyn Fetch>)>) {
        let former = self.0.loaded.load();
        let mut loaded = Loaded::default();
        for (source, client) in sources {
            for stream in source.streams.iter().filter(|stream| stream.spec.request.is_some()) {
                let polled = polled(&source, stream, &client, &former.budgets, &mut loaded.budgets);
                loaded.streams.insert(stream.name.clone(), Arc::new(polled));
            }
        }
        self.0.loaded.store(Arc::new(loaded));
    }

    /// Rings when there may be a stream to claim: by the store, and when a run has ended.
    pub fn wake(&self) -> Wake {
        self.0.store.wake(Topic::Polls).or(Wake::new(self.0.ended.subscribe()))
    }

    /// Runs in flight.
    pub fn in_flight(&self) -> usize {
        self.runs().len()
    }

    /// Waits for the runs in flight, at most so long, then breaks off those that are left: what they committed stays, the
    /// rest is found again. Nothing new is claimed, as long as nobody calls [`Poller::step`].
    pub async fn drain(&self, grace: Duration) {
        let mut runs = std::mem::take(&mut *self.runs());
        let all = async { while runs.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!("{} polls did not end in time and are broken off", runs.len());
            runs.shutdown().await;
        }
    }

    /// Breaks off the runs in flight and waits for nothing: what a crash is to them.
    pub fn break_off(&self) {
        self.runs().abort_all();
    }

    fn runs(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets runs that have ended. A run that panicked is said; its lease runs out and the stream is polled again.
    fn reap(&self) {
        let mut runs = self.runs();
        while let Some(ended) = runs.try_join_next() {
            if let Err(panic) = ended.map_err(|error| error.is_panic()) {
                error!("a poll ended without an outcome{}", if panic { ": it panicked" } else { "" });
            }
        }
    }
}

impl Step for Poller {
    /// Claims one stream and starts its run.
    async fn step(&self) -> Result<Progress, StepError> {
        self.reap();
        if self.in_flight() >= RUNS_MAX {
            // The end of a run rings.
            return Ok(Progress::Idle { until: None });
        }
        match self.0.store.claim_stream(Which::Due, LEASE).await.map_err(StepError::new)? {
            Some(claim) => {
                let shared = self.0.clone();
                self.runs().spawn(async move {
                    let _ring = Ring(shared.ended.clone());
                    shared.run_claimed(claim).await;
                });
                Ok(Progress::Worked)
            }
            None => {
                let until = self.0.store.next_due(Topic::Polls).await.map_err(StepError::new)?;
                Ok(Progress::Idle { until })
            }
        }
    }
}

/// Rings when a run ends, however it ends.
struct Ring(watch::Sender<u64>);

impl Drop for Ring {
    fn drop(&mut self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

fn polled(
    source: &Arc<Source>,
    stream: &Arc<SourceStream>,
    client: &Arc<dyn Fetch>,
    former: &Budgets,
    budgets: &mut Budgets,
) -> Polled {
    let credential = Credential::of(source);
    let known = credential.as_ref().unwrap_or(&Credential::None);
    let key = known.budget_key(source);
    let own_key = || format!("{key}/{}/{}", source.provider.name, stream.spec.name);
    Polled {
        budget: budgets.of(former, &key, &source.provider.limits),
        own_budget: stream.spec.limits.as_ref().map(|limits| budgets.of(former, &own_key(), limits)),
        mask: Mask::of(source, known),
        source: source.clone(),
        stream: stream.clone(),
        client: client.clone(),
        credential,
    }
}

/// How a claimed stream's run went.
struct Went {
    outcome: Outcome,
    result: PollResult,
    error: Option<String>,
    asked: Vec<Asked>,
}

impl Shared {
    fn find(&self, stream: &StreamName) -> Option<Arc<Polled>> {
        self.loaded.load().streams.get(stream).cloned()
    }

    /// The whole life of one claimed stream. A store that is broken ends the process elsewhere; here the work is dropped.
    async fn run_claimed(&self, claim: StreamClaim) {
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
        };
        self.store.finish_poll(&claim.lease, end).await
    }

    /// Polls and settles. `insist`: a person asked, so that a refused credential is tried once more.
    async fn poll_claimed(&self, polled: &Polled, claim: StreamClaim, insist: bool) -> Result<Went, StoreError> {
        let (lease, state) = (claim.lease.clone(), claim.state.clone());
        let begun = tokio::time::Instant::now();
        let mut run = Run::new(polled, &self.clock, &state, insist);
        let sink = self.sink.begin(&polled.stream, claim, Mode::Normal).await;
        let outcome = run.poll(sink, DEADLINE).await;
        let (asked, records, pages) = (std::mem::take(&mut run.asked), run.records, run.pages);
        let changes = changes(if let Outcome::Done(report) = &outcome { report } else { &run.kept });
        let now = self.clock.now();
        let facts = Facts {
            schedule: &polled.stream.schedule,
            scheduled_in: scheduled_in(polled, now),
            long_poll: polled.stream.spec.long_poll.is_some(),
            failures: state.failures,
            since_ok: state.last_ok_at.map(|ok| now.since(ok)),
            took: begun.elapsed(),
            records,
            now,
        };
        let Some(settlement) = settle::decide(&outcome, &facts) else { return Err(StoreError::Stale) };
        let error = settlement.error.map(|error| polled.mask.text(&error));
        let end = PollEnd {
            next_in: settlement.next_in,
            result: settlement.result,
            records,
            changes,
            pages,
            duration: facts.took,
            error: error.clone(),
        };
        say(&polled.stream.name, &end, state.failures);
        self.metrics.poll(&polled.stream.name, settlement.result.as_str(), facts.took, now);
        // The lease is given back first: problems concern no lease, and a stream must not wait for them.
        self.store.finish_poll(&lease, end).await?;
        self.judge_problems(polled, &settlement.problems, settlement.result).await?;
        Ok(Went { outcome, result: settlement.result, error, asked })
    }

    /// Opens what went wrong, or closes what is over. A credential's problem is its source's.
    async fn judge_problems(
        &self,
        polled: &Polled,
        problems: &[(ProblemKind, String)],
        result: PollResult,
    ) -> Result<(), StoreError> {
        let (stream, source) = (polled.stream.name.to_string(), polled.source.name.as_str());
        for (kind, message) in problems {
            let subject = if *kind == ProblemKind::AuthFailed { source } else { &stream };
            self.problems.open(&*self.store, *kind, subject, &polled.mask.text(message)).await?;
        }
        match result {
            PollResult::Ok | PollResult::NotModified => {
                polled.budget.set_refused(None);
                self.problems.over(&*self.store, &stream, source).await
            }
            PollResult::Failed | PollResult::Deferred => Ok(()),
        }
    }
}

/// How long until the schedule's next time.
fn scheduled_in(polled: &Polled, now: Timestamp) -> Duration {
    let stream = &polled.stream;
    schedule::next(&stream.schedule, &stream.name.to_string(), Some(now), now).since(now)
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

#[cfg(test)]
mod tests;
