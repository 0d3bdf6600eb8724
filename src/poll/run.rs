//! One run of a stream: asks what `listing` says is to be listed, judges the answers and hands them on; what follows from its end
//! is decided in `settle`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::auth::{Credential, Holder};
use super::begin::Beginning;
use super::conditional;
use super::files::FilesMemory;
use super::limits::{Budget, Exhausted};
use super::listing::{Listed, OVERTIME, Point};
use super::mask::Mask;
use super::memory::Memory;
use super::pagination::PageFault;
use super::parked::Parking;
use super::provider_clock::ProviderClock;
use super::request::{Frozen, RequestFault};
use super::sink::{Fetch, SinkRun};
use super::verdict::{Cause, Failure};
use crate::clock::Clock;
use crate::ingest::{CursorValue, IngestError, RunReport};
use crate::jq::Json;
use crate::model::{ProblemKind, Timestamp};
use crate::planted::{self, Fault};
use crate::source::{Source, SourceStream};
use crate::store::{Store, StoreError, StreamState};

/// A stream with all it takes to poll it; made at each load of the configuration.
pub(super) struct Polled {
    pub source: Arc<Source>,
    pub stream: Arc<SourceStream>,
    pub client: Arc<dyn Fetch>,
    /// Err: the credential cannot be built, and the stream cannot be asked.
    pub credential: Result<Credential, RequestFault>,
    /// What was got for the credential, which all its streams share.
    pub holder: Arc<Holder>,
    /// The budget of the credential, which all its streams share.
    pub budget: Arc<Budget>,
    /// The stream's own limits, where it has any.
    pub own_budget: Option<Arc<Budget>>,
    /// The source's.
    pub clock: Arc<ProviderClock>,
    pub mask: Mask,
    /// Of a stream that is asked by long polls.
    pub parking: Option<Arc<Parking>>,
}

/// A request that was made, as a person may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    /// With `***` for secrets.
    pub url: String,
    /// None: there was no answer.
    pub status: Option<u16>,
    /// Records of the page; None: it was not read.
    pub records: Option<usize>,
    pub bytes: usize,
    pub took: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(RunReport),
    /// All but a part of it, which failed; what was listed is stored.
    Partly(RunReport, Failure),
    /// It had its time, its number of changes or its quota: what it found is kept, and the next run goes on there.
    Paused(RunReport, Pause),
    NotModified,
    Failed(Failure),
    /// The budget allows the next request only then; nothing is wrong.
    Waits(Timestamp),
    /// The answer that it waited for did not come within the time of a run.
    Overdue,
    /// The lease is somebody else's: the work is dropped without a word.
    Stale,
}

impl Outcome {
    /// What was stored.
    pub fn report(&self) -> Option<&RunReport> {
        match self {
            Outcome::Done(report) | Outcome::Partly(report, _) | Outcome::Paused(report, _) => Some(report),
            Outcome::NotModified | Outcome::Failed(_) | Outcome::Waits(_) | Outcome::Overdue | Outcome::Stale => None,
        }
    }
}

/// Why a run goes on later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pause {
    /// The run had its time.
    Time,
    /// So many changes went out; the rest goes with the next runs.
    Cap,
    /// The budget allows the next request only then.
    Budget(Timestamp),
    /// Another stream must be looked at first.
    NotYet,
}

/// Why the pages of a run ended early.
#[derive(Debug)]
pub(super) enum Stop {
    NotModified,
    Failed(Failure),
    Waits(Timestamp),
    Stale,
    /// This parent is gone.
    Gone,
    /// The parents' stream has not been looked at yet.
    NotYet,
    /// The provider shows no more than so many records of the listing.
    Capped(u64),
    /// Enough for this run; the mark is where the next one begins.
    Paused,
    /// Enough for this run; the next one goes on here.
    At(Box<Point>, Pause),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl From<RequestFault> for Stop {
    fn from(fault: RequestFault) -> Stop {
        let message =
            format!("the request cannot be asked: {fault}; correct the provider file or the source's settings");
        Stop::Failed(Failure::new(Cause::Lasting(ProblemKind::AnswerUnreadable), message))
    }
}

impl From<Exhausted> for Stop {
    fn from(exhausted: Exhausted) -> Stop {
        Stop::Waits(exhausted.until)
    }
}

impl From<IngestError> for Stop {
    fn from(error: IngestError) -> Stop {
        let message = error.to_string();
        let cause = match error {
            IngestError::Unreadable(_) => Cause::Lasting(ProblemKind::AnswerUnreadable),
            IngestError::PathMissing(_) => Cause::Lasting(ProblemKind::AnswerPathMissing),
            IngestError::Records(_) => Cause::Lasting(ProblemKind::RecordUnreadable),
            IngestError::Held(_) => Cause::Held,
            IngestError::Store(StoreError::Stale) => return Stop::Stale,
            IngestError::Store(StoreError::Conflict | StoreError::Busy(_) | StoreError::Broken(_)) => {
                Cause::Passing { after: None }
            }
        };
        Stop::Failed(Failure::new(cause, message))
    }
}

/// What a run begins with.
pub(super) struct Begin<'a> {
    pub store: &'a dyn Store,
    pub clock: &'a Clock,
    pub state: &'a StreamState,
    pub memory: Memory,
    pub beginning: Beginning,
    /// A person asked: a refused credential is tried once more.
    pub insist: bool,
}

/// One run in progress.
pub(super) struct Run<'a> {
    pub(super) polled: &'a Polled,
    pub(super) store: &'a dyn Store,
    pub(super) clock: &'a Clock,
    /// Validators of the last accepted listing, sent with its first request.
    pub(super) conditions: Vec<(HeaderName, HeaderValue)>,
    pub(super) frozen: Frozen,
    pub(super) beginning: Beginning,
    started_at: Option<Timestamp>,
    pub(super) insist: bool,
    pub(super) began: Timestamp,
    pub(super) deadline: Duration,
    /// It goes on where an earlier one stopped.
    pub resumed: bool,
    /// Everything that the provider still has is listed, by this run and the ones that it goes on with.
    pub relists: bool,
    /// It counts as a look for late records.
    pub late: bool,
    /// An earlier run of this round over the parents could not list one of them.
    pub round_failed: bool,
    /// What parents hand down, by the first part of their children's keys: for asking after single children.
    pub(super) parents: HashMap<String, Json>,
    /// The parent that was listed last.
    pub after_parent: Option<String>,
    /// It stands among those that were never listed whole, which come last where one request names several.
    pub among_new: bool,
    /// What is known of the files that are read in place of an API.
    pub files: Option<FilesMemory>,
    /// The provider's own least interval.
    pub pace: Option<Duration>,
    /// History was lost in a part of what is listed: why.
    pub gap: Option<String>,
    pub asked: Vec<Asked>,
    /// The provider took the credential.
    pub accepted: bool,
    pub records: u64,
    pub pages: u64,
    /// What an ordered listing had committed, page by page, before it broke off.
    pub kept: RunReport,
}

impl<'a> Run<'a> {
    pub fn new(polled: &'a Polled, begin: Begin<'a>) -> Run<'a> {
        let Begin { store, clock, state, memory, beginning, insist } = begin;
        // A listing that is owed is asked for whole (RULES R6.4).
        let whole = memory.unconditional || beginning.relist || beginning.late_from.is_some() || state.resume.is_some();
        let conditions = if whole { Vec::new() } else { conditional::headers(&polled.stream, state) };
        let now = clock.now();
        Run {
            polled,
            store,
            clock,
            conditions,
            frozen: Frozen { cursor: None, run_start: now, window: None, parent: None },
            relists: beginning.relist,
            late: beginning.late,
            round_failed: memory.parent_failed,
            after_parent: memory.after_parent,
            among_new: memory.among_new,
            files: memory.files,
            beginning,
            started_at: state.started_at,
            insist,
            parents: HashMap::new(),
            began: now,
            deadline: Duration::MAX,
            resumed: false,
            pace: None,
            gap: None,
            asked: Vec::new(),
            accepted: false,
            records: 0,
            pages: 0,
            kept: RunReport::default(),
        }
    }

    /// Polls the stream within `deadline` and hands every page on. What was begun ends with exactly one of finish, pause and
    /// abandon.
    pub async fn poll(&mut self, begun: Result<Box<dyn SinkRun>, IngestError>, deadline: Duration) -> Outcome {
        let mut sink = match begun {
            Ok(sink) => sink,
            Err(error) => return outcome(Stop::from(error)),
        };
        self.deadline = deadline;
        if sink.progress().releasing {
            // What an earlier run found goes out first; nothing is asked for meanwhile.
            return match sink.put_off().await {
                Ok(report) => Outcome::Paused(report, Pause::Cap),
                Err(error) => outcome(Stop::from(error)),
            };
        }
        self.frozen.cursor = self.asks_from(sink.cursor());
        // A page that is cut off in the middle of its commit is either committed whole or not at all.
        match tokio::time::timeout(deadline.saturating_add(OVERTIME), self.list(sink.as_mut())).await {
            Ok(Ok(listed)) => self.finish(sink, listed).await,
            Ok(Err(Stop::At(point, pause))) => paused(sink.pause(point.to_stored()).await, pause),
            Ok(Err(Stop::Paused)) => {
                let pause = if self.overdue() { Pause::Time } else { Pause::Cap };
                paused(sink.abandon().await, pause)
            }
            Ok(Err(_)) if planted::is(Fault::PartialDeletes) && self.pages > 0 => {
                let report = sink.finish(None).await;
                report.map_or_else(|error| outcome(Stop::from(error)), Outcome::Done)
            }
            Ok(Err(stop)) => self.broken_off(sink, outcome(stop)).await,
            Err(_) => self.broken_off(sink, Outcome::Overdue).await,
        }
    }

    async fn broken_off(&mut self, sink: Box<dyn SinkRun>, stop: Outcome) -> Outcome {
        let passing = matches!(
            stop,
            Outcome::Waits(_)
                | Outcome::Failed(Failure {
                    cause: Cause::Passing { .. } | Cause::RateLimited { .. } | Cause::Refused,
                    ..
                })
        );
        // The resume point outlives what may go well the next time, and nothing else: a page that the provider has forgotten
        // would be asked for for ever.
        let ended = if self.resumed && passing { sink.put_off().await } else { sink.abandon().await };
        match ended {
            Ok(kept) => {
                self.kept = kept;
                stop
            }
            Err(error) => match Stop::from(error) {
                Stop::Stale => Outcome::Stale,
                // Why the run broke off says more than that its remains could not be cleared: the next run clears them.
                _ => stop,
            },
        }
    }

    async fn finish(&mut self, mut sink: Box<dyn SinkRun>, listed: Listed) -> Outcome {
        if listed.failed.is_some() || listed.stopped.is_some() || (self.resumed && self.round_failed) {
            sink.incomplete();
        }
        if let Err(error) = self.confirm(sink.as_mut()).await {
            return self.broken_off(sink, outcome(error)).await;
        }
        let report = match sink.finish(listed.validators).await {
            Ok(report) => report,
            Err(error) => return outcome(Stop::from(error)),
        };
        match (listed.stopped, listed.failed) {
            (Some(Stop::Failed(failure)), _) | (None, Some(failure)) => Outcome::Partly(report, failure),
            (Some(Stop::Waits(until)), _) => Outcome::Paused(report, Pause::Budget(until)),
            (Some(Stop::Stale), _) => Outcome::Stale,
            (Some(_), _) => Outcome::Paused(report, Pause::Time),
            (None, None) => Outcome::Done(report),
        }
    }

    /// The value that requests ask from where everything that the provider still has is listed.
    pub(super) fn asks_from_the_start(&self) -> Option<CursorValue> {
        let spec = &self.polled.stream.spec;
        let whole = Beginning { relist: true, ..self.beginning.clone() };
        whole.from(spec.cursor.as_ref(), None, self.started_at, spec.history, self.polled.clock.at(self.began))
    }

    /// The value that requests ask from, given the one that follows from the mark.
    pub(super) fn asks_from(&self, by_mark: Option<CursorValue>) -> Option<CursorValue> {
        let spec = &self.polled.stream.spec;
        let now = self.polled.clock.at(self.began);
        self.beginning.from(spec.cursor.as_ref(), by_mark, self.started_at, spec.history, now)
    }

    pub(super) fn read(&mut self, records: usize) {
        self.pages += 1;
        self.records = self.records.saturating_add(u64::try_from(records).unwrap_or(u64::MAX));
        if let Some(asked) = self.asked.last_mut() {
            asked.records = Some(records);
        }
    }
}

impl Polled {
    /// The stream's own budget first: what it may not spend is not taken from the others.
    pub(super) fn budgets(&self) -> Vec<Arc<Budget>> {
        self.own_budget.iter().chain([&self.budget]).cloned().collect()
    }
}

pub(super) fn outcome(stop: Stop) -> Outcome {
    match stop {
        Stop::NotModified => Outcome::NotModified,
        Stop::Failed(failure) => Outcome::Failed(failure),
        Stop::Waits(until) => Outcome::Waits(until),
        Stop::Stale => Outcome::Stale,
        Stop::Gone => Outcome::Done(RunReport::default()),
        Stop::NotYet => Outcome::Paused(RunReport::default(), Pause::NotYet),
        Stop::Capped(cap) => {
            let why = "all of it lies in one moment, or the stream has no `cursor.order = \"asc\"` and no `window`";
            outcome(Stop::from(PageFault::Capped(cap, why)))
        }
        Stop::Paused | Stop::At(..) => Outcome::Paused(RunReport::default(), Pause::Time),
    }
}

fn paused(report: Result<RunReport, IngestError>, pause: Pause) -> Outcome {
    match report {
        Ok(report) => Outcome::Paused(report, pause),
        Err(error) => outcome(Stop::from(error)),
    }
}

/// All `Link` fields as one.
pub(super) fn links(headers: &HeaderMap) -> Option<String> {
    let fields: Vec<&str> = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).collect();
    if fields.is_empty() { None } else { Some(fields.join(", ")) }
}
