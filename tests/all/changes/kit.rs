//! Words that the stories of detection are told in: one source with one stream `s`, a store on disk that can be closed like a
//! crash and opened again, polls with planned pages, and real webhooks through the real inbox.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use ringback::clock::Clock;
use ringback::config;
use ringback::ingest::{Ingest, IngestError, PageAnswer, Run, RunReport};
use ringback::metrics::Metrics;
use ringback::model::{Event, EventId, Key, Problem, ProblemKind, SourceName, StreamName, Timestamp};
use ringback::receive::inbox::Inbox;
use ringback::receive::{masked_body, message_id};
use ringback::shape::render;
use ringback::source::{self, Source, SourceStream, Sources};
use ringback::store::sqlite::SqliteStore;
use ringback::store::{
    EventFilter, HandlerSetup, InboundRequest, JournalEntry, NewInbound, PollEnd, PollResult, Row, Setup, Store,
    StreamLease, StreamState, StreamStatus, Which,
};
use ringback::subscription::Subscriptions;
use ringback::worker::Step as _;

/// 2026-11-20T00:00:00Z: where every story begins.
pub const START: i64 = 1_795_132_800_000;

/// A stream that is listed whole, with versions.
pub const SNAPSHOT: &str = "detect = \"snapshot\"\nversion = { field = \".v\", type = \"number\" }";
/// A stream in no order, with a number as cursor.
pub const UNSORTED: &str =
    "cursor = { field = \".v\", type = \"number\" }\nversion = { field = \".v\", type = \"number\" }";
/// The same, oldest first.
pub const SORTED: &str =
    "cursor = { field = \".v\", type = \"number\", order = \"asc\" }\nversion = { field = \".v\", type = \"number\" }";

/// What the rest of the configuration says, where a story wants more than one stream.
#[derive(Clone, Default)]
pub struct Wish {
    /// Keys of `[streams.s]`, and whatever tables follow.
    pub stream: String,
    /// Keys of `streams.s` in the source.
    pub own: String,
    /// Tables after the source.
    pub config: String,
    /// How real webhooks are read; empty: `{"s": record}` merged.
    pub messages: String,
}

impl From<&str> for Wish {
    fn from(stream: &str) -> Wish {
        Wish { stream: stream.to_owned(), ..Wish::default() }
    }
}

impl Wish {
    pub fn own(mut self, keys: &str) -> Wish {
        self.own = keys.to_owned();
        self
    }

    pub fn config(mut self, tables: &str) -> Wish {
        self.config = tables.to_owned();
        self
    }

    pub fn messages(mut self, tables: &str) -> Wish {
        self.messages = tables.to_owned();
        self
    }
}

/// A change as it waits for its run's verdict.
pub fn waiting(place: i64, key: &str, record: &str) -> JournalEntry {
    let record = Some(record.to_owned().into());
    JournalEntry { id: 0, key: key.into(), record, time: None, place, asked_at: 0, parent: None }
}

/// A page of so many records of version 1.
pub fn many(count: usize) -> String {
    let records: Vec<String> = (0..count).map(|n| format!(r#"{{"id":"k{n}","v":1}}"#)).collect();
    format!("[{}]", records.join(","))
}

pub struct World {
    folder: tempfile::TempDir,
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub ingest: Arc<Ingest>,
    pub metrics: Metrics,
    sources: Sources,
    inbox: Inbox,
}

impl World {
    pub async fn new(wish: impl Into<Wish>) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("hook"), "secret").expect("written");
        std::fs::write(folder.path().join("whsec"), "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")
            .expect("written");
        let clock = Clock::manual(Timestamp(START));
        World::open(folder, clock, &wish.into()).await
    }

    async fn open(folder: tempfile::TempDir, clock: Clock, wish: &Wish) -> World {
        let sources = configure(&folder, wish);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&folder.path().join("ringback.db"), clock.clone()).expect("the store opens"));
        let metrics = Metrics::new();
        let (config, _) = config::load(&folder.path().join("config.toml")).expect("a configuration");
        let subscriptions = Arc::new(Subscriptions::new(config.handlers.values()));
        let ingest = Ingest::new(store.clone(), subscriptions, clock.clone(), metrics.clone());
        let inbox = Inbox::new(store.clone(), ingest.clone(), sources.clone(), metrics.clone());
        let world = World { folder, clock, store, ingest, metrics, sources, inbox };
        world.register(&config).await;
        world
    }

    async fn register(&self, config: &config::Config) {
        let mut setup = Setup::default();
        for stream in self.sources.values().flat_map(|source| &source.streams) {
            setup.streams.push(ringback::ingest::stream_setup(stream));
        }
        for handler in config.handlers.values() {
            setup.handlers.push(HandlerSetup { name: handler.name.clone(), renamed_from: None, enabled: true });
        }
        self.store.register(setup).await.expect("registers");
    }

    /// What a crash leaves: the file. Everything in memory is gone; the configuration may be another one afterwards.
    pub async fn restart(self, wish: impl Into<Wish>) -> World {
        let World { folder, clock, store, ingest, inbox, .. } = self;
        drop((inbox, ingest));
        assert_eq!(Arc::strong_count(&store), 1, "somebody still holds the store");
        drop(store);
        World::open(folder, clock, &wish.into()).await
    }

    /// The same after a copy of the database was put aside.
    pub async fn backed_up(self, wish: impl Into<Wish>) -> World {
        let wish = wish.into();
        // Closed and opened, so that everything is in the one file.
        let world = self.restart(wish.clone()).await;
        let folder = world.folder.path().to_owned();
        let copy = rusqlite::Connection::open(folder.join("ringback.db")).expect("opens");
        copy.execute("VACUUM INTO ?1", [folder.join("backup.db").display().to_string()]).expect("copied");
        drop(copy);
        world
    }

    /// The same with the copy put back.
    pub async fn restored(self, wish: impl Into<Wish>) -> World {
        let World { folder, clock, store, ingest, inbox, .. } = self;
        drop((inbox, ingest));
        assert_eq!(Arc::strong_count(&store), 1, "somebody still holds the store");
        drop(store);
        let _ = std::fs::remove_file(folder.path().join("ringback.db-wal"));
        std::fs::copy(folder.path().join("backup.db"), folder.path().join("ringback.db")).expect("put back");
        World::open(folder, clock, &wish.into()).await
    }

    /// Another configuration while the daemon runs.
    pub async fn reload(&mut self, wish: impl Into<Wish>) {
        self.sources = configure(&self.folder, &wish.into());
        let (config, _) = config::load(&self.folder.path().join("config.toml")).expect("a configuration");
        self.ingest.subscribe(Arc::new(Subscriptions::new(config.handlers.values())));
        self.inbox.replace(self.sources.clone());
        self.register(&config).await;
    }

    /// What a person decides about what a guard of the stream holds.
    pub async fn decide(&self, kind: ProblemKind, approved: bool) -> bool {
        self.store.decide_problem(kind, &self.name().to_string(), approved, "a person").await.expect("works")
    }

    pub fn source(&self) -> &Arc<Source> {
        &self.sources[&SourceName::from("shop")]
    }

    pub fn stream(&self) -> &Arc<SourceStream> {
        &self.source().streams[0]
    }

    pub fn name(&self) -> &StreamName {
        &self.stream().name
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Begins a run; its pages are handed over one by one.
    pub async fn begin(&self) -> Polling {
        let claim = self.store.claim_stream(Which::Named(self.name().clone()), Duration::from_secs(600)).await;
        let claim = claim.expect("the store works").expect("nobody else polls");
        let lease = claim.lease.clone();
        let run = self.ingest.begin(self.stream(), claim).await.expect("begins");
        Polling { run, lease, store: self.store.clone(), date: self.clock.now() }
    }

    /// A whole poll: every text is a page, a JSON list of records.
    pub async fn try_poll(&self, pages: &[&str]) -> Result<RunReport, IngestError> {
        let mut polling = self.begin().await;
        for page in pages {
            if let Err(error) = polling.page(page).await {
                polling.abandon().await;
                self.later(60);
                return Err(error);
            }
        }
        let done = polling.finish().await;
        self.later(60);
        done
    }

    pub async fn poll(&self, pages: &[&str]) -> RunReport {
        self.try_poll(pages).await.expect("a good poll")
    }

    /// A real webhook with this body, taken in.
    pub async fn webhook(&self, body: &str) {
        self.arrives(body).await;
        self.take_in().await;
    }

    /// A real webhook that waits in the inbox.
    pub async fn arrives(&self, body: &str) {
        let request = InboundRequest {
            method: "POST".into(),
            target: "/webhooks/shop".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let message_id = message_id(self.source(), &request);
        let body = masked_body(self.source(), &request).unwrap_or(request.body);
        let request = InboundRequest { body, ..request };
        let inbound = NewInbound { source: "shop".into(), message_id, request: Arc::new(request) };
        self.store.put_inbound(inbound).await.expect("stored");
    }

    pub async fn take_in(&self) {
        self.inbox.step().await.expect("taken in");
    }

    /// Whether a change of this key waits in the journal on disk.
    pub async fn waits(&self, key: &str) -> bool {
        self.store.journaled(self.name(), vec![key.into()]).await.expect("reads")[0].is_some()
    }

    /// Every event as `type key`, oldest first.
    pub async fn said(&self) -> Vec<String> {
        let page = self.store.events(EventFilter { limit: 1000, ..EventFilter::default() }).await.expect("reads");
        let mut lines: Vec<String> = page.events.iter().map(|e| format!("{} {}", e.event_type, e.key)).collect();
        lines.reverse();
        lines
    }

    /// What was said since this was asked last, as `type key`.
    pub async fn said_after(&self, told: &mut usize) -> Vec<String> {
        let page = self.store.events(EventFilter { limit: 1000, ..EventFilter::default() }).await.expect("reads");
        let stats = self.store.stats().await.expect("reads");
        let new = stats.events as usize - *told;
        *told = stats.events as usize;
        page.events.iter().take(new).map(|e| format!("{} {}", e.event_type, e.key)).collect()
    }

    /// Every event whole, oldest first.
    pub async fn events(&self) -> Vec<Event> {
        let page = self.store.events(EventFilter { limit: 1000, ..EventFilter::default() }).await.expect("reads");
        let mut events = Vec::new();
        for summary in page.events.iter().rev() {
            events.push(self.store.event(&summary.id).await.expect("reads").expect("it is there").event);
        }
        events
    }

    pub async fn ids(&self) -> Vec<EventId> {
        self.events().await.into_iter().map(|event| event.id).collect()
    }

    pub async fn last(&self) -> Event {
        self.events().await.pop().expect("an event")
    }

    pub async fn row(&self, key: &str) -> Option<Row> {
        self.store.rows(self.name(), vec![Key::from(key)]).await.expect("reads").remove(0)
    }

    pub async fn state(&self) -> StreamState {
        self.store.stream(self.name()).await.expect("reads").expect("it is registered")
    }

    pub async fn status(&self) -> StreamStatus {
        let streams = self.store.streams().await.expect("reads");
        streams.into_iter().find(|stream| stream.state.name == *self.name()).expect("it is registered")
    }

    pub async fn mark(&self) -> Option<String> {
        self.state().await.mark
    }

    pub async fn problems(&self) -> Vec<Problem> {
        self.store.problems().await.expect("reads")
    }

    pub async fn problem(&self, kind: ProblemKind) -> Option<Problem> {
        self.problems().await.into_iter().find(|problem| problem.kind == kind)
    }

    /// Everything in the database's files as text, to look for what must not be there.
    pub fn on_disk(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in ["ringback.db", "ringback.db-wal"] {
            bytes.extend(std::fs::read(self.folder.path().join(name)).unwrap_or_default());
        }
        bytes
    }
}

/// A run under way.
pub struct Polling {
    pub run: Run,
    pub lease: StreamLease,
    store: Arc<dyn Store>,
    pub date: Timestamp,
}

impl Polling {
    pub async fn page(&mut self, records: &str) -> Result<(), IngestError> {
        let body = Bytes::from(format!("{{\"data\":{records}}}"));
        let answer = PageAnswer { body, headers: HeaderMap::new(), date: Some(self.date) };
        self.run.page(answer).await.map(|_| ())
    }

    pub async fn finish(self) -> Result<RunReport, IngestError> {
        let Polling { run, lease, store, .. } = self;
        let report = run.finish(None).await;
        end(&store, &lease, report.is_ok()).await;
        report
    }

    pub async fn finish_with(self, validators: &str) -> Result<RunReport, IngestError> {
        let Polling { run, lease, store, .. } = self;
        let report = run.finish(Some(validators.to_owned())).await;
        end(&store, &lease, report.is_ok()).await;
        report
    }

    /// A whole listing without a change.
    pub async fn nothing_new(mut self, records: &str) {
        self.page(records).await.expect("a page");
        let Polling { run, lease, store, .. } = self;
        let report = run.finish(None).await.expect("ends");
        assert_eq!(report.events, 0);
        end_with(&store, &lease, PollResult::Ok, 0).await;
    }

    /// A whole listing with a change.
    pub async fn found(mut self, records: &str) {
        self.page(records).await.expect("a page");
        let Polling { run, lease, store, .. } = self;
        let report = run.finish(None).await.expect("ends");
        assert_ne!(report.events, 0);
        end_with(&store, &lease, PollResult::Ok, report.events).await;
    }

    pub async fn abandon(self) {
        let Polling { run, lease, store, .. } = self;
        run.abandon().await.expect("abandoned");
        end(&store, &lease, false).await;
    }
}

async fn end(store: &Arc<dyn Store>, lease: &StreamLease, ok: bool) {
    end_with(store, lease, if ok { PollResult::Ok } else { PollResult::Failed }, 0).await;
}

async fn end_with(store: &Arc<dyn Store>, lease: &StreamLease, result: PollResult, changes: u64) {
    let end = PollEnd {
        next_in: Duration::from_secs(300),
        result,
        records: 0,
        changes,
        pages: 1,
        duration: Duration::ZERO,
        error: None,
        memory: None,
    };
    store.finish_poll(lease, end).await.expect("ends");
}

/// Writes the files of a wish and joins them.
fn configure(folder: &tempfile::TempDir, wish: &Wish) -> Sources {
    let merge = "[[webhook.messages]]\nrecords = \"[.s]\"\ndeleted = \".deleted == true\"\nid = \".message\"\n";
    let needs_version = !wish.stream.contains("version") && !wish.stream.contains("detect = \"new\"");
    let messages = match wish.messages.as_str() {
        "" if needs_version => "[[webhook.messages]]\nrecords = \"[.s]\"\non_webhook = \"poll\"\n",
        "" => merge,
        given => given,
    };
    let provider = format!(
        "schema = 1\nname = \"shop\"\nbase_url = \"http://shop.example\"\n[streams.s]\npath = \"/s\"\nrecords = \".data\"\n{}{}\n\
         [webhook]\n[[webhook.signature]]\ntype = \"token\"\nheader = \"X-Token\"\n{messages}",
        if wish.stream.contains("key = ") || wish.stream.contains("document") { "" } else { "key = \".id\"\n" },
        wish.stream,
    );
    let config = format!(
        "schema = 1\n[sources.shop]\nprovider = \"./shop.toml\"\nwebhook = {{ secret = {{ file = \"hook\" }} }}\n\
         [sources.shop.streams.s]\nevery = \"1m\"\n{}\n{}",
        wish.own, wish.config
    );
    std::fs::write(folder.path().join("shop.toml"), provider).expect("written");
    std::fs::write(folder.path().join("config.toml"), config).expect("written");
    let read = config::load(&folder.path().join("config.toml"));
    let (config, _) = read.unwrap_or_else(|faults| panic!("{}", render(&faults, false)));
    let (sources, _) = source::join_all(&config, true).unwrap_or_else(|faults| panic!("{}", render(&faults, false)));
    sources
}
