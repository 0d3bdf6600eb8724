//! One run of a stream: page after page until the listing ends. It asks, judges and hands on; what follows from its end is
//! decided in `settle`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::auth::Credential;
use super::limits::{self, Budget, Exhausted};
use super::mask::Mask;
use super::pagination::{Next, PageFault, Pager};
use super::request::{self, Frozen, RequestFault};
use super::sink::{Fetch, SinkRun};
use super::verdict::{self, Cause, Failure, Verdict};
use super::{conditional, pace};
use crate::client::{Bounds, Incoming, Outgoing, Over, SendError};
use crate::clock::Clock;
use crate::ingest::{self, IngestError, PageAnswer, RunReport};
use crate::jq::{Jq, Json, Vars};
use crate::model::{ProblemKind, Timestamp};
use crate::planted::{self, Fault};
use crate::source::{Source, SourceStream};
use crate::store::{StoreError, StreamState};

/// One request, its answer included.
const REQUEST: Duration = Duration::from_secs(30);
/// An answer after decompression.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// How often a page after the first is asked for again when it fails: what was listed so far shall not be in vain. The first
/// page has nothing to lose and waits for the next poll.
const AGAIN: u32 = 2;
/// How long a credential keeps quiet when the provider says "too many" but not for how long.
const QUIET: Duration = Duration::from_secs(30);

/// A stream with all it takes to poll it; made at each load of the configuration.
pub(super) struct Polled {
    pub source: Arc<Source>,
    pub stream: Arc<SourceStream>,
    pub client: Arc<dyn Fetch>,
    /// Err: the credential cannot be built, and the stream cannot be asked.
    pub credential: Result<Credential, RequestFault>,
    /// The budget of the credential, which all its streams share.
    pub budget: Arc<Budget>,
    /// The stream's own limits, where it has any.
    pub own_budget: Option<Arc<Budget>>,
    pub mask: Mask,
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
    NotModified,
    Failed(Failure),
    /// The budget allows the next request only then; nothing is wrong.
    Waits(Timestamp),
    /// It took longer than a run may.
    Overdue,
    /// The lease is somebody else's: the work is dropped without a word.
    Stale,
}

/// Why the pages of a run ended early.
enum Stop {
    NotModified,
    Failed(Failure),
    Waits(Timestamp),
    Stale,
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

impl From<PageFault> for Stop {
    fn from(fault: PageFault) -> Stop {
        Stop::Failed(Failure::new(Cause::Lasting(fault.problem()), fault.to_string()))
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

/// One run in progress.
pub(super) struct Run<'a> {
    polled: &'a Polled,
    clock: &'a Clock,
    /// Validators of the last accepted listing, sent with the request.
    conditions: Vec<(HeaderName, HeaderValue)>,
    frozen: Frozen,
    /// A person asked: a refused credential is tried once more.
    insist: bool,
    pub asked: Vec<Asked>,
    pub records: u64,
    pub pages: u64,
    /// What an ordered listing had committed, page by page, before it broke off.
    pub kept: RunReport,
}

impl<'a> Run<'a> {
    pub fn new(polled: &'a Polled, clock: &'a Clock, state: &StreamState, insist: bool) -> Run<'a> {
        Run {
            polled,
            clock,
            conditions: conditional::headers(&polled.stream, state),
            frozen: Frozen { cursor: None, run_start: clock.now() },
            insist,
            asked: Vec::new(),
            records: 0,
            pages: 0,
            kept: RunReport::default(),
        }
    }

    /// Polls the stream within `deadline` and hands every page on. What was begun ends with exactly one of finish and abandon.
    pub async fn poll(&mut self, begun: Result<Box<dyn SinkRun>, IngestError>, deadline: Duration) -> Outcome {
        let mut sink = match begun {
            Ok(sink) => sink,
            Err(error) => return outcome(Stop::from(error)),
        };
        self.frozen.cursor = sink.cursor();
        // A page that the deadline cuts off in the middle of its commit is either committed whole or not at all.
        let stop = match tokio::time::timeout(deadline, self.list(sink.as_mut())).await {
            Ok(Ok(validators)) => match sink.finish(validators).await {
                Ok(report) => return Outcome::Done(report),
                Err(error) => return outcome(Stop::from(error)),
            },
            Ok(Err(_)) if planted::is(Fault::PartialDeletes) && self.pages > 0 => {
                return sink.finish(None).await.map_or_else(|error| outcome(Stop::from(error)), Outcome::Done);
            }
            Ok(Err(stop)) => outcome(stop),
            Err(_) => Outcome::Overdue,
        };
        match sink.abandon().await {
            Ok(kept) => {
                self.kept = kept;
                stop
            }
            Err(error) => match Stop::from(error) {
                Stop::Stale => Outcome::Stale,
                // Why the run broke off says more than that its remains could not be cleared: the next run clears them.
                Stop::NotModified | Stop::Failed(_) | Stop::Waits(_) => stop,
            },
        }
    }

    /// Every page of the listing; gives the validators of a single-page one. Here belong, with later issues: slices by
    /// `window`, one listing for each `parent`, and the resume point of a capped run.
    async fn list(&mut self, sink: &mut dyn SinkRun) -> Result<Option<String>, Stop> {
        let polled = self.polled;
        let mut pager = Pager::new(&polled.stream.spec.pagination);
        loop {
            let request = self.request(&pager)?;
            let url = request.url.clone();
            let Some(answer) = self.ask(request, pager.pages() > 0).await? else { return Ok(None) };
            let link = links(&answer.headers);
            let validators = conditional::validators(&polled.stream, &answer.headers);
            let date = pace::date(&answer.headers);
            let end = sink.page(PageAnswer { body: answer.body, headers: answer.headers, date }).await?;
            self.read(end.records);
            if pager.next(&end, link.as_deref(), &url)? == Next::Done {
                return Ok(validators);
            }
        }
    }

    fn request(&self, pager: &Pager<'_>) -> Result<Outgoing, Stop> {
        let Polled { source, stream, credential, .. } = self.polled;
        let context = request::context(source, stream, &self.frozen, pager.context(), self.clock.now());
        let mut request = request::build(source, stream, &context, pager.address())?;
        request.headers.extend(self.conditions.iter().cloned());
        credential.as_ref().map_err(Clone::clone)?.apply(&mut request);
        Ok(request)
    }

    /// Asks until there is an answer that can be read, or a reason to give up. None: a listing without records.
    async fn ask(&mut self, request: Outgoing, something_to_lose: bool) -> Result<Option<Incoming>, Stop> {
        let again = if something_to_lose { AGAIN } else { 0 };
        let mut tries = 0;
        loop {
            let failure = match self.ask_once(request.clone()).await? {
                (Verdict::Page, Some(answer)) => return Ok(Some(answer)),
                (Verdict::Page | Verdict::Empty, _) => return Ok(None),
                (Verdict::NotModified, _) => return Err(Stop::NotModified),
                (Verdict::Failed(failure), _) => failure,
            };
            let wait = match failure.cause {
                Cause::Passing { after } => after.unwrap_or(Duration::from_secs(1 << tries)),
                // The budget keeps quiet for as long as the provider asked.
                Cause::RateLimited { .. } => Duration::ZERO,
                Cause::Refused | Cause::Expired | Cause::Held | Cause::Lasting(_) => return Err(failure.into()),
            };
            if tries == again || wait > limits::WAIT_MAX {
                return Err(failure.into());
            }
            tries += 1;
            self.clock.sleep_until(self.clock.now().plus(wait)).await;
        }
    }

    /// One exchange, within the budget.
    async fn ask_once(&mut self, request: Outgoing) -> Result<(Verdict, Option<Incoming>), Stop> {
        let polled = self.polled;
        let permits = limits::enter(&polled.budgets(), self.clock).await?;
        // Asked after the wait: another stream may have met a refusal meanwhile, and banks lock accounts.
        if let Some(reason) = polled.budget.refused().filter(|_| !self.insist) {
            let message = format!("not asked, because the provider refused the credential: {reason}");
            return Err(Failure::new(Cause::Refused, message).into());
        }
        let (method, url) = (request.method.to_string(), polled.mask.url(&request.url));
        let begun = tokio::time::Instant::now();
        let sent = polled.client.fetch(request, polled.bounds()).await;
        drop(permits);
        let answer = sent.as_ref().ok();
        self.asked.push(Asked {
            method,
            url,
            status: answer.map(|answer| answer.status),
            records: None,
            bytes: answer.map_or(0, |answer| answer.body.len()),
            took: begun.elapsed(),
        });
        Ok(self.judge(sent))
    }

    fn judge(&self, sent: Result<Incoming, SendError>) -> (Verdict, Option<Incoming>) {
        let polled = self.polled;
        let masked = |failure: Failure| Failure { message: polled.mask.text(&failure.message), ..failure };
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return (Verdict::Failed(masked(verdict::unsent(error))), None),
        };
        let now = self.clock.now();
        let rules = polled.stream.spec.response_actions.iter().chain(&polled.source.provider.response_actions);
        let when = |jq: &Jq| asked_of(jq, &answer, &polled.stream);
        let mut verdict = verdict::judge(rules, &answer, !self.conditions.is_empty(), now, when);
        if let Verdict::Failed(failure) = &mut verdict {
            *failure = masked(failure.clone());
            match &mut failure.cause {
                Cause::RateLimited { after } => polled.budget.quiet_until(now.plus(after.unwrap_or(QUIET))),
                Cause::Refused if matches!(&polled.credential, Ok(credential) if credential.is_some()) => {
                    polled.budget.set_refused(Some(failure.message.clone()));
                }
                Cause::Refused => {
                    failure
                        .message
                        .push_str(" (the source sends no credential: does the provider file need an `auth`?)");
                }
                Cause::Passing { .. } | Cause::Expired | Cause::Held | Cause::Lasting(_) => {}
            }
        }
        (verdict, Some(answer))
    }

    fn read(&mut self, records: usize) {
        self.pages += 1;
        self.records = self.records.saturating_add(u64::try_from(records).unwrap_or(u64::MAX));
        if let Some(asked) = self.asked.last_mut() {
            asked.records = Some(records);
        }
    }
}

impl Polled {
    /// The stream's own budget first: what it may not spend is not taken from the others.
    fn budgets(&self) -> Vec<Arc<Budget>> {
        self.own_budget.iter().chain([&self.budget]).cloned().collect()
    }

    fn bounds(&self) -> Bounds {
        let timeout = REQUEST.saturating_add(self.stream.spec.long_poll.unwrap_or_default());
        Bounds { timeout, body_max: BODY_MAX, over: Over::Error }
    }
}

fn outcome(stop: Stop) -> Outcome {
    match stop {
        Stop::NotModified => Outcome::NotModified,
        Stop::Failed(failure) => Outcome::Failed(failure),
        Stop::Waits(until) => Outcome::Waits(until),
        Stop::Stale => Outcome::Stale,
    }
}

/// All `Link` fields as one.
fn links(headers: &HeaderMap) -> Option<String> {
    let fields: Vec<&str> = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).collect();
    if fields.is_empty() { None } else { Some(fields.join(", ")) }
}

/// A rule's `when`, asked of an answer's body.
fn asked_of(jq: &Jq, answer: &Incoming, stream: &SourceStream) -> Result<bool, String> {
    let input = Json::parse(&answer.body).map_err(|reason| format!("the answer is not JSON: {reason}"))?;
    let settings = Json::from(&*stream.settings);
    let vars = Vars { settings, headers: ingest::headers(&answer.headers), ..Vars::default() };
    jq.truth(&input, &vars).map_err(|error| error.to_string())
}
