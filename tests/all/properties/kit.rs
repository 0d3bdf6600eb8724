//! One stream over a database in memory: pages and real webhooks go in, what its handler would get comes out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ringback::clock::Clock;
use ringback::config;
use ringback::ingest::{CursorValue, Ingest, PageAnswer};
use ringback::metrics::Metrics;
use ringback::model::*;
use ringback::receive::inbox::Inbox;
use ringback::source::{self, SourceStream};
use ringback::store::sqlite::{Memory, Pace, SqliteStore};
use ringback::store::*;
use ringback::subscription::Subscriptions;
use ringback::worker::Step;

const LEASE: Duration = Duration::from_secs(60);

pub struct Bench {
    store: Arc<SqliteStore>,
    ingest: Arc<Ingest>,
    stream: Arc<SourceStream>,
    inbox: Inbox,
    clock: Clock,
}

/// The body of a real webhook is `{ "record": …, "gone": true | false }`.
const WEBHOOK: &str = r#"
    [[webhook.signature]]
    type = "hmac"
    header = "X-Signature"
    [[webhook.messages]]
    stream = "s"
    records = "[.record]"
    deleted = ".gone"
"#;

/// An event as a handler gets it.
pub struct Told {
    pub id: EventId,
    pub kind: ChangeKind,
    pub key: String,
    pub revision: u64,
    pub data: String,
}

/// Nobody waits for anybody.
struct AtOnce;

#[async_trait]
impl Pace for AtOnce {
    async fn pause(&self) {}
}

impl Bench {
    /// `file` is the stream in a provider file, without path, key and records.
    pub async fn new(file: &str) -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let provider = format!(
            "schema = 1\nname = \"p\"\nbase_url = \"http://api.invalid\"\n[streams.s]\npath = \"/s\"\nrecords = \".\"\nkey = \".id\"\n{file}\n{WEBHOOK}"
        );
        let config = "schema = 1\n[sources.p]\nprovider = \"./p.toml\"\nwebhook = { secret = { file = \"s\" } }\n\
             [handlers.h]\nurl = \"http://h.invalid/\"\nsecret = { file = \"s\" }\norder = \"none\"\n";
        std::fs::write(folder.path().join("s"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
        std::fs::write(folder.path().join("p.toml"), provider).expect("written");
        std::fs::write(folder.path().join("config.toml"), config).expect("written");
        let shown = |faults: Vec<_>| panic!("{}", ringback::shape::render(&faults, false));
        let (config, _) = config::load(&folder.path().join("config.toml")).unwrap_or_else(shown);
        let shown = |faults: Vec<_>| panic!("{}", ringback::shape::render(&faults, false));
        let (sources, _) = source::join_all(&config, true).unwrap_or_else(shown);
        let stream = sources.values().next().expect("a source").streams[0].clone();
        let clock = Clock::manual(Timestamp(1_795_000_000_000));
        let memory = Memory::new().expect("a database");
        let store = Arc::new(SqliteStore::open_memory(&memory, clock.clone(), Arc::new(AtOnce)).expect("opens"));
        store.register(setup(&stream)).await.expect("registers");
        let subscriptions = Arc::new(Subscriptions::new(config.handlers.values()));
        let ingest = Ingest::new(store.clone(), subscriptions, clock.clone(), Metrics::new());
        let inbox = Inbox::new(store.clone(), ingest.clone(), sources, Metrics::new());
        Bench { store, ingest, stream, inbox, clock }
    }

    /// A real webhook comes in. What it told comes back.
    pub async fn webhook(&self, record: &str, gone: bool) -> Vec<Told> {
        let body = Bytes::from(format!(r#"{{"record":{record},"gone":{gone}}}"#));
        let request = InboundRequest { method: "POST".into(), target: "/".into(), headers: Vec::new(), body };
        let inbound =
            NewInbound { source: self.stream.name.source.clone(), message_id: None, request: Arc::new(request) };
        self.store.put_inbound(inbound).await.expect("stores");
        self.inbox.step().await.expect("takes it in");
        self.take().await
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One complete run: `pages` gives the listing's pages from a cursor, a second apart. What it told comes back, oldest first.
    pub async fn poll(&self, pages: impl FnOnce(Option<CursorValue>) -> Vec<String>) -> Vec<Told> {
        self.run(true, pages).await
    }

    /// One run that could not list everything, so that a first look goes on with the next one.
    pub async fn poll_in_part(&self, pages: impl FnOnce(Option<CursorValue>) -> Vec<String>) -> Vec<Told> {
        self.run(false, pages).await
    }

    async fn run(&self, whole: bool, pages: impl FnOnce(Option<CursorValue>) -> Vec<String>) -> Vec<Told> {
        let claim = self.store.claim_stream(Which::Named(self.stream.name.clone()), LEASE).await.expect("claims");
        let claim = claim.expect("the stream is free");
        let lease = claim.lease.clone();
        let mut run = self.ingest.begin(&self.stream, claim).await.expect("begins");
        for page in pages(run.cursor()) {
            let date = Some(self.clock.now());
            let answer = PageAnswer { body: Bytes::from(page), headers: Default::default(), date };
            run.page(answer).await.expect("a good page");
            self.clock.advance(Duration::from_secs(1));
        }
        if !whole {
            run.incomplete();
        }
        run.finish(None).await.expect("a good run");
        let end = PollEnd {
            next_in: Duration::ZERO,
            result: PollResult::Ok,
            records: 0,
            changes: 0,
            pages: 1,
            duration: Duration::ZERO,
            error: None,
            memory: None,
        };
        self.store.finish_poll(&lease, end).await.expect("ends");
        self.take().await
    }

    /// Takes what is due for the handler.
    async fn take(&self) -> Vec<Told> {
        let free = vec![("h".into(), usize::MAX)];
        let due = self.store.claim_deliveries(Duration::from_secs(1 << 30), free).await.expect("claims").deliveries;
        let settled = due.iter().map(|due| self.delivered(due)).collect();
        self.store.settle(settled).await.expect("settles");
        let told = due.into_iter().map(|due| {
            let event = &due.event;
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            Told {
                id: event.id.clone(),
                kind: event.kind,
                key: event.key.to_string(),
                revision: event.revision,
                data: event.data.as_ref().map(text).unwrap_or_default(),
            }
        });
        told.collect()
    }
}

impl Bench {
    fn delivered(&self, due: &ClaimedDelivery) -> Settled {
        let attempt = Attempt {
            started_at: self.clock.now(),
            duration: Duration::ZERO,
            result: AttemptResult::Delivered,
            status: Some(204),
            error: None,
            answer: Bytes::new(),
            detail: Default::default(),
        };
        let (outcome, handler_change) = (Outcome::Delivered, HandlerChange::None);
        Settled { id: due.id, lease: due.lease, handler: due.handler.clone(), attempt, outcome, handler_change }
    }
}

fn setup(stream: &SourceStream) -> Setup {
    let stream = StreamSetup {
        name: stream.name.clone(),
        renamed_from: None,
        polled: true,
        definition: stream.definition.clone(),
        comparison: stream.comparison.clone(),
        first_due_in: Duration::ZERO,
    };
    let handler = HandlerSetup { name: "h".into(), renamed_from: None, enabled: true };
    Setup { streams: vec![stream], handlers: vec![handler], ..Setup::default() }
}
