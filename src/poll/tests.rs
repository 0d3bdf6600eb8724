//! Polls against a real HTTP server through the real client. The store and ingest are planned here: what they do with a run is
//! held to account in their own rooms and in the integration tests.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use async_trait::async_trait;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::fixtures::{get, source, stream, template};
use super::*;
use crate::client::{Client, ClientOptions};
use crate::config::{Network, Proxy, Tls};
use crate::ingest::{CursorValue, IngestError, PageAnswer, PageEnd, RunReport};
use crate::jq::Jq;
use crate::model::{Event, EventId, HandlerName, Key, Problem, ProblemKind, SeenBy, SourceName, Timestamp};
use crate::provider::{Auth, PageKind, Stream};
use crate::store::*;

/// A provider: gives the planned answers in turn, then empty listings, and keeps what it was asked.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Planned>>);

#[derive(Default)]
struct Planned {
    answers: VecDeque<Response>,
    asked: Vec<(String, http::HeaderMap)>,
    /// Requests to this path are never answered.
    hangs: Option<&'static str>,
}

impl Api {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let api = self.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let api = api.clone();
            async move { api.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    async fn answer(&self, request: Request) -> Response {
        let hangs = self.0.lock().expect("no panic").hangs == Some(request.uri().path());
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut planned = self.0.lock().expect("no panic");
        planned.asked.push((request.uri().to_string(), request.headers().clone()));
        planned.answers.pop_front().unwrap_or_else(|| page("[]"))
    }

    fn plans(&self, answers: impl IntoIterator<Item = Response>) {
        self.0.lock().expect("no panic").answers.extend(answers);
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().expect("no panic").asked.iter().map(|(uri, _)| uri.clone()).collect()
    }
}

fn page(items: &str) -> Response {
    ([("content-type", "application/json")], format!(r#"{{"items":{items}}}"#)).into_response()
}

fn status(status: u16, headers: [(&'static str, &'static str); 1]) -> Response {
    (http::StatusCode::from_u16(status).expect("a status"), headers, "").into_response()
}

/// Takes pages in and says how each ended, by the records in `.items` and a token in `.next`.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<String>>>);

struct TakenRun(Taken, RunReport);

#[async_trait]
impl Sink for Taken {
    async fn begin(
        &self,
        _stream: &Arc<SourceStream>,
        _claim: StreamClaim,
        mode: Mode,
    ) -> std::result::Result<Box<dyn SinkRun>, IngestError> {
        self.say(format!("begin {mode:?}"));
        Ok(Box::new(TakenRun(self.clone(), RunReport::default())))
    }
}

impl Taken {
    fn say(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

#[async_trait]
impl SinkRun for TakenRun {
    fn cursor(&self) -> Option<CursorValue> {
        None
    }

    async fn page(&mut self, answer: PageAnswer) -> std::result::Result<PageEnd, IngestError> {
        let json: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|_| IngestError::Unreadable("this is not JSON".into()))?;
        let missing = || IngestError::PathMissing("`.items` is missing".into());
        let records = json["items"].as_array().ok_or_else(missing)?.len();
        self.0.say(format!("page {records}"));
        self.1.created += records as u64;
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&(answer.body.len() as u64).to_be_bytes());
        let next = json["next"].as_str().map(str::to_owned);
        Ok(PageEnd { records, next, digest, ..PageEnd::default() })
    }

    async fn finish(self: Box<Self>, validators: Option<String>) -> std::result::Result<RunReport, IngestError> {
        self.0.say(format!("finish {}", validators.unwrap_or_default()).trim().to_owned());
        Ok(self.1)
    }

    async fn abandon(self: Box<Self>) -> std::result::Result<RunReport, IngestError> {
        self.0.say("abandon".to_owned());
        Ok(RunReport::default())
    }
}

/// The part of a store that polling uses.
struct Planning {
    states: Mutex<BTreeMap<StreamName, StreamState>>,
    due: Mutex<VecDeque<StreamName>>,
    ends: Mutex<Vec<(StreamName, PollEnd)>>,
    problems: Mutex<BTreeMap<(ProblemKind, String), String>>,
    budgets: Mutex<BTreeMap<String, String>>,
    bell: watch::Sender<u64>,
}

fn state(name: &StreamName) -> StreamState {
    StreamState {
        name: name.clone(),
        source_id: name.source.clone(),
        phase: Phase::Live,
        definition: "d".into(),
        comparison: "c".into(),
        change_number: 0,
        mark: None,
        validators: None,
        resume: None,
        started_at: None,
        listed_once: true,
        base_revision: 0,
        releasing: false,
        last_poll_at: None,
        last_ok_at: None,
        failures: 0,
        detection: Detection::default(),
        memory: None,
    }
}

/// Everything put together around one source.
struct Story {
    api: Api,
    taken: Taken,
    store: Arc<Planning>,
    poller: Poller,
    source: Arc<Source>,
}

fn client() -> Client {
    Client::new(&ClientOptions {
        network: Network { proxy: Proxy::None, ca_files: vec![], allow: None, hosts: BTreeMap::new() },
        proxy: Proxy::None,
        proxy_password: None,
        tls: Tls::default(),
        connect_timeout: Duration::from_secs(5),
        pool_idle_max: 2,
        unix_socket: None,
    })
    .expect("a client")
}

async fn story(streams: Vec<Stream>, auth: Auth) -> Story {
    let api = Api::default();
    let source = source(&api.start().await, streams, |source, _| source.auth = auth);
    let states = source.streams.iter().map(|stream| (stream.name.clone(), state(&stream.name))).collect();
    let store = Arc::new(Planning {
        states: Mutex::new(states),
        due: Mutex::default(),
        ends: Mutex::default(),
        problems: Mutex::default(),
        budgets: Mutex::default(),
        bell: watch::Sender::new(0),
    });
    let taken = Taken::default();
    let poller = Poller::new(store.clone(), Arc::new(taken.clone()), Clock::system(), Metrics::new());
    poller.load(vec![(source.clone(), Arc::new(client()))]);
    Story { api, taken, store, poller, source }
}

impl Story {
    /// Makes the stream due, takes a step, and waits for the end of its run.
    async fn polls(&self, stream: &str) -> PollEnd {
        self.starts(stream).await;
        self.ended(stream).await
    }

    async fn starts(&self, stream: &str) {
        self.store.due.lock().expect("no panic").push_back(StreamName::new("core", stream));
        assert_eq!(self.poller.step().await, Ok(Progress::Worked));
    }

    async fn ended(&self, stream: &str) -> PollEnd {
        let mut bell = self.poller.0.ended.subscribe();
        bell.mark_unchanged();
        let name = StreamName::new("core", stream);
        loop {
            let found = {
                let mut ends = self.store.ends.lock().expect("no panic");
                ends.iter().position(|(ended, _)| *ended == name).map(|at| ends.remove(at).1)
            };
            match found {
                // Problems are judged after the lease is given back: the run is over when it has rung.
                Some(end) => {
                    while self.poller.in_flight() > 0 && self.api.0.lock().expect("no panic").hangs.is_none() {
                        self.poller.reap();
                        tokio::task::yield_now().await;
                    }
                    return end;
                }
                None => bell.changed().await.expect("the poller lives"),
            }
        }
    }

    fn problems(&self) -> Vec<(ProblemKind, String)> {
        self.store.problems.lock().expect("no panic").keys().cloned().collect()
    }
}

fn by_token(name: &str) -> Stream {
    let mut spec = stream(name);
    spec.pagination.kind = PageKind::Token(Jq::parse(".next").expect("valid"));
    spec.request = Some(get("/items", &[("after", "{{ page.token }}")]));
    spec
}

fn key_in_query() -> Auth {
    let value = template("{{ secrets.key }}");
    Auth::ApiKey { place: crate::provider::KeyPlace::Query, name: "k".into(), value }
}

fn bearer() -> Auth {
    Auth::Bearer { token: template("{{ secrets.key }}") }
}

fn token_page(items: &str, next: &str) -> Response {
    format!(r#"{{"items":{items},"next":"{next}"}}"#).into_response()
}

#[tokio::test]
async fn a_listing_is_asked_for_page_by_page_and_its_end_is_recorded() {
    let story = story(vec![by_token("items")], Auth::None).await;
    story.api.plans([token_page("[1,2]", "a b"), token_page("[]", "c"), page("[3]")]);
    let end = story.polls("items").await;
    assert_eq!(story.api.asked(), ["/items", "/items?after=a%20b", "/items?after=c"]);
    assert_eq!(story.taken.lines(), ["begin Normal", "page 2", "page 0", "page 1", "finish"]);
    assert_eq!((end.result, end.records, end.changes, end.pages), (PollResult::Ok, 3, 3, 3));
    assert!(end.next_in <= Duration::from_secs(90) && end.error.is_none());
    assert_eq!(story.problems(), []);
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_abandoned_and_says_why() {
    let circle = || token_page("[1]", "a");
    for (answers, problem) in [
        (vec![token_page("[1]", "a"), token_page("[12]", "a")], Some(ProblemKind::PageLoop)),
        (vec![circle(), circle()], Some(ProblemKind::PageLoop)),
        (vec!["<html>".into_response()], Some(ProblemKind::AnswerUnreadable)),
        (vec!["{}".into_response()], Some(ProblemKind::AnswerPathMissing)),
        (vec![status(302, [("location", "https://evil.example/")])], Some(ProblemKind::AnswerUnreadable)),
        (vec![status(503, [("x-a", "b")])], None),
    ] {
        let story = story(vec![by_token("items")], Auth::None).await;
        story.api.plans(answers);
        let end = story.polls("items").await;
        assert_eq!(end.result, PollResult::Failed, "{problem:?}");
        assert!(end.error.is_some());
        assert_eq!(story.taken.lines().last().map(String::as_str), Some("abandon"), "{problem:?}");
        let want: Vec<_> = problem.map(|kind| (kind, "core/items".to_owned())).into_iter().collect();
        assert_eq!(story.problems(), want);
        // The next good poll closes what it opened.
        assert_eq!(story.polls("items").await.result, PollResult::Ok);
        assert_eq!(story.problems(), []);
    }
}

#[tokio::test]
async fn a_refused_credential_is_asked_once_and_not_again_until_a_person_insists_or_it_changes() {
    let story = story(vec![stream("items"), stream("others")], bearer()).await;
    story.api.plans([status(401, [("x-a", "b")])]);
    assert_eq!(story.polls("items").await.result, PollResult::Failed);
    let other = story.polls("others").await;
    assert_eq!(other.result, PollResult::Failed, "another stream of the credential");
    assert!(other.error.is_some_and(|error| error.contains("not asked")));
    assert_eq!(story.api.asked().len(), 1);
    assert_eq!(story.problems(), [(ProblemKind::AuthFailed, "core".to_owned())]);
    // A reload with the same credential changes nothing.
    story.poller.load(vec![(story.source.clone(), Arc::new(client()))]);
    story.polls("items").await;
    assert_eq!(story.api.asked().len(), 1);
    let report = story.poller.poll_once(&StreamName::new("core", "items"), Mode::Normal).await.expect("polled");
    assert_eq!(report.result, PollResult::Ok);
    assert_eq!(story.problems(), []);
    assert_eq!(story.polls("others").await.result, PollResult::Ok);
}

#[tokio::test]
async fn too_many_requests_keep_the_whole_credential_quiet() {
    let story = story(vec![stream("items"), stream("others")], bearer()).await;
    story.api.plans([status(429, [("retry-after", "7200")])]);
    let end = story.polls("items").await;
    assert_eq!((end.result, end.next_in), (PollResult::Failed, Duration::from_secs(7200)));
    let other = story.polls("others").await;
    assert_eq!(other.result, PollResult::Deferred);
    assert!(other.next_in > Duration::from_secs(7100), "{:?}", other.next_in);
    assert_eq!(story.api.asked().len(), 1);
}

#[tokio::test]
async fn what_was_listed_so_far_is_not_lost_to_one_bad_answer() {
    let story = story(vec![by_token("items")], Auth::None).await;
    story.api.plans([token_page("[1,2]", "a"), status(503, [("retry-after", "0")]), page("[3]")]);
    let end = story.polls("items").await;
    assert_eq!((end.result, end.records), (PollResult::Ok, 3));
    assert_eq!(story.api.asked(), ["/items", "/items?after=a", "/items?after=a"]);
}

#[tokio::test]
async fn an_unchanged_listing_is_not_read_again() {
    let mut spec = stream("items");
    spec.conditional = crate::provider::Conditional::Page;
    let story = story(vec![spec], Auth::None).await;
    let tagged = ([("etag", "\"v1\"")], r#"{"items":[1]}"#).into_response();
    story.api.plans([tagged, status(304, [("etag", "\"v1\"")])]);
    story.polls("items").await;
    assert_eq!(story.taken.lines(), ["begin Normal", "page 1", r#"finish {"etag":"\"v1\""}"#]);
    let name = StreamName::new("core", "items");
    story.store.states.lock().expect("no panic").get_mut(&name).expect("known").validators =
        Some(r#"{"etag":"\"v1\""}"#.into());
    assert_eq!(story.polls("items").await.result, PollResult::NotModified);
    assert_eq!(story.taken.lines(), ["begin Normal", "abandon"]);
    let sent = story.api.0.lock().expect("no panic").asked[1].1.get("if-none-match").cloned();
    assert_eq!(sent.expect("sent"), "\"v1\"");
}

#[tokio::test]
async fn a_source_that_hangs_delays_no_other_stream_and_can_be_broken_off() {
    let mut slow = stream("slow");
    slow.request = Some(get("/slow", &[]));
    let story = story(vec![slow, stream("items")], Auth::None).await;
    story.api.0.lock().expect("no panic").hangs = Some("/slow");
    story.starts("slow").await;
    assert_eq!(story.polls("items").await.result, PollResult::Ok);
    story.poller.reap();
    assert_eq!(story.poller.in_flight(), 1);
    story.poller.drain(Duration::from_millis(1)).await;
    assert_eq!(story.poller.in_flight(), 0);
    assert!(story.store.ends.lock().expect("no panic").is_empty(), "a run broken off settles nothing");
}

#[tokio::test]
async fn a_poll_by_hand_shows_its_requests_without_secrets_and_a_dry_run_stores_nothing() {
    let story = story(vec![by_token("items")], key_in_query()).await;
    story.api.plans([token_page("[1,2]", "a"), page("[3]"), status(400, [("x-a", "b")])]);
    let name = StreamName::new("core", "items");
    let report = story.poller.poll_once(&name, Mode::DryRun).await.expect("polled");
    let shown: Vec<_> =
        report.requests.iter().map(|asked| (asked.url.rsplit('/').next(), asked.status, asked.records)).collect();
    assert_eq!(shown, [(Some("items?k=***"), Some(200), Some(2)), (Some("items?after=a&k=***"), Some(200), Some(1))]);
    assert_eq!(report.report.map(|report| report.created), Some(3));
    assert_eq!(story.taken.lines(), ["begin DryRun", "page 2", "page 1", "finish"]);
    assert!(story.store.ends.lock().expect("no panic").is_empty());
    let report = story.poller.poll_once(&name, Mode::DryRun).await.expect("polled");
    assert_eq!((report.result, report.report), (PollResult::Failed, None));
    assert_eq!(story.problems(), [], "a dry run opens no problem");
    let unknown = story.poller.poll_once(&StreamName::new("core", "nope"), Mode::Normal).await;
    assert!(matches!(unknown, Err(PollError::Unknown(_))));
    story.store.states.lock().expect("no panic").clear();
    assert!(matches!(story.poller.poll_once(&name, Mode::Normal).await, Err(PollError::Busy(_))));
}

#[tokio::test]
async fn a_stream_that_the_configuration_no_longer_has_is_given_back() {
    let story = story(vec![stream("items")], Auth::None).await;
    story.poller.load(vec![]);
    let end = story.polls("items").await;
    assert_eq!((end.result, end.next_in), (PollResult::Deferred, UNKNOWN));
    assert_eq!(story.poller.step().await, Ok(Progress::Idle { until: None }));
}

macro_rules! unused {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Store for Planning {
            $(async fn $name(&self, $($arg: $kind),*) -> $out {
                $(let _ = $arg;)*
                panic!(concat!(stringify!($name), " is no part of polling"))
            })*

            async fn claim_stream(&self, which: Which, _lease: Duration) -> Result<Option<StreamClaim>> {
                let name = match which {
                    Which::Due => self.due.lock().expect("no panic").pop_front(),
                    Which::Named(name) => Some(name),
                };
                let states = self.states.lock().expect("no panic");
                let state = name.and_then(|name| states.get(&name).cloned());
                Ok(state.map(|state| StreamClaim {
                    lease: StreamLease { stream: state.name.clone(), token: 1 },
                    state,
                }))
            }

            async fn finish_poll(&self, lease: &StreamLease, end: PollEnd) -> Result<()> {
                assert_eq!(lease.token, 1, "a dry run has no lease");
                self.ends.lock().expect("no panic").push((lease.stream.clone(), end));
                Ok(())
            }

            async fn open_problem(&self, kind: ProblemKind, subject: &str, message: &str) -> Result<bool> {
                let key = (kind, subject.to_owned());
                Ok(self.problems.lock().expect("no panic").insert(key, message.to_owned()).is_none())
            }

            async fn close_problem(&self, kind: ProblemKind, subject: &str) -> Result<bool> {
                Ok(self.problems.lock().expect("no panic").remove(&(kind, subject.to_owned())).is_some())
            }

            async fn problems(&self) -> Result<Vec<Problem>> {
                Ok(vec![])
            }

            async fn streams(&self) -> Result<Vec<StreamStatus>> {
                Ok(vec![])
            }

            async fn stream(&self, name: &StreamName) -> Result<Option<StreamState>> {
                Ok(self.states.lock().expect("no panic").get(name).cloned())
            }

            async fn budgets(&self) -> Result<Vec<(String, String)>> {
                Ok(self.budgets.lock().expect("no panic").clone().into_iter().collect())
            }

            async fn put_budget(&self, key: &str, state: String) -> Result<()> {
                self.budgets.lock().expect("no panic").insert(key.to_owned(), state);
                Ok(())
            }

            async fn next_due(&self, _topic: Topic) -> Result<Option<Timestamp>> {
                Ok(None)
            }

            fn announce_to(&self, _herald: Arc<dyn Herald>) {}

            fn wake(&self, _topic: Topic) -> Wake {
                Wake::new(self.bell.subscribe())
            }

            async fn broken(&self) -> String {
                std::future::pending().await
            }
        }
    };
}

unused! {
    fn register(a: Setup) -> Result<Registered>;
    fn keep_source(a: &SourceName) -> Result<bool>;
    fn rest_streams(a: Vec<(StreamName, String)>) -> Result<()>;
    fn prune_seen(a: &StreamName, b: PruneSeen) -> Result<bool>;
    fn backlog(a: &HandlerName) -> Result<u64>;
    fn rows(a: &StreamName, b: Vec<Key>) -> Result<Vec<Option<Row>>>;
    fn bodies(a: &StreamName, b: Vec<Key>, c: SeenBy) -> Result<Vec<Option<Bytes>>>;
    fn rows_after(a: &StreamName, b: Option<Key>, c: usize) -> Result<Vec<(Key, Row)>>;
    fn commit(a: Commit) -> Result<Committed>;
    fn journaled(a: &StreamName, b: Vec<Key>) -> Result<Vec<Option<Bytes>>>;
    fn journal(a: &StreamLease, b: Vec<JournalEntry>) -> Result<()>;
    fn verdict(a: &StreamLease, b: Verdict) -> Result<()>;
    fn journal_batch(a: &StreamName, b: usize) -> Result<Vec<JournalEntry>>;
    fn poll_now(a: &StreamName) -> Result<()>;
    fn poll_later(a: &StreamName, b: Duration) -> Result<()>;
    fn clock_stepped(a: i64) -> Result<()>;
    fn token(a: &str) -> Result<Option<Bytes>>;
    fn put_token(a: &str, b: Bytes) -> Result<()>;
    fn registration(a: &SourceName) -> Result<Option<String>>;
    fn put_registration(a: &SourceName, b: String) -> Result<()>;
    fn put_inbound(a: NewInbound) -> Result<InboundStored>;
    fn claim_inbounds(a: Duration, b: usize) -> Result<Vec<ClaimedInbound>>;
    fn settle_inbounds(a: Vec<InboundSettled>) -> Result<()>;
    fn claim_deliveries(a: Duration, b: Vec<(HandlerName, usize)>) -> Result<ClaimedDeliveries>;
    fn settle(a: Vec<Settled>) -> Result<Vec<bool>>;
    fn set_handler_paused(a: &HandlerName, b: Option<Paused>) -> Result<()>;
    fn set_source_paused(a: &SourceName, b: Option<Paused>) -> Result<()>;
    fn pull(a: Pull) -> Result<PullPage>;
    fn replay(a: Replay) -> Result<ReplayPlan>;
    fn replay_jobs(a: usize) -> Result<Vec<ReplayJob>>;
    fn cancel_replay(a: u64, b: &str) -> Result<Option<u64>>;
    fn ack_problem(a: ProblemKind, b: &str) -> Result<bool>;
    fn handlers() -> Result<Vec<HandlerStatus>>;
    fn inbox() -> Result<InboxStatus>;
    fn events(a: EventFilter) -> Result<EventPage>;
    fn event(a: &EventId) -> Result<Option<EventDetail>>;
    fn tail(a: Option<TailPosition>, b: usize) -> Result<TailPage>;
    fn tail_start(a: usize) -> Result<Option<TailPosition>>;
    fn prune(a: Prune) -> Result<bool>;
    fn optimise() -> Result<()>;
    fn stats() -> Result<StoreStats>;
    fn ping() -> Result<()>;
    fn poll_within(a: &StreamName, b: Duration) -> Result<()>;
    fn absent_since(a: &StreamName, b: Timestamp) -> Result<u64>;
    fn set_aside(a: &StreamName, b: Option<u64>, c: usize) -> Result<Vec<KeptAside>>;
    fn reset_stream(a: &StreamName, b: bool) -> Result<Forgotten>;
    fn set_backfill(a: &StreamName, b: Option<String>) -> Result<()>;
    fn retry_inbounds(a: &SourceName) -> Result<u64>;
    fn held_by_when(a: &HandlerName, b: Option<DeliveryId>, c: usize) -> Result<Vec<(DeliveryId, Event)>>;
    fn release_by_when(a: &HandlerName, b: Vec<(DeliveryId, bool)>) -> Result<()>;
    fn hold_problem(a: ProblemKind, b: &str, c: &str, d: u64) -> Result<bool>;
    fn decide_problem(a: ProblemKind, b: &str, c: bool, d: &str) -> Result<bool>;
    fn decisions(a: &StreamName, b: &Key) -> Result<Vec<KeptDecision>>;
    fn runs(a: &StreamName) -> Result<Vec<RunLine>>;
}
