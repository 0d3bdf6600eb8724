//! A made-up provider on loopback, and the real poller, ingest and store around it, in time that a test moves by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ringback::client::{Client, ClientOptions};
use ringback::clock::Clock;
use ringback::config::{self, Network, Proxy, Tls};
use ringback::ingest::Ingest;
use ringback::metrics::Metrics;
use ringback::model::{StreamName, Timestamp};
use ringback::poll::{Fetch, Mode, PollReport, Poller};
use ringback::source;
use ringback::store::sqlite::SqliteStore;
use ringback::store::{EventFilter, PollResult, Setup, Store, StreamState, StreamStatus, Which};
use ringback::subscription::Subscriptions;
use ringback::worker::{Progress, Step};
use tempfile::TempDir;

/// 2026-01-05, a Monday, 12:00 UTC.
pub const START: Timestamp = Timestamp(1_767_614_400_000);

/// A request as the provider sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// As it came, still encoded.
    pub query_string: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A field of a body that is a form.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(self.body.as_bytes());
        fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }

    /// A time in the query, in milliseconds since 1970.
    pub fn time(&self, name: &str) -> Option<i64> {
        chrono::DateTime::parse_from_rfc3339(self.get(name)?).ok().map(|time| time.timestamp_millis())
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

pub fn ok(body: impl Into<String>) -> Answer {
    Answer { status: 200, headers: vec![], body: body.into() }
}

pub fn status(status: u16) -> Answer {
    Answer { status, headers: vec![], body: "{}".into() }
}

impl Answer {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

type Answers = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// A time as the provider writes it, so many milliseconds after [`START`].
pub fn at(millis: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(START.0 + millis).expect("a time");
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[derive(Clone)]
struct Api {
    clock: Clock,
    /// How far the provider's clock is ahead, in milliseconds.
    skew: Arc<Mutex<i64>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Api {
    async fn serve(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(move |request: Request| {
            let api = self.clone();
            async move { api.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let request = Request::from_parts(parts, axum::body::Body::empty());
        let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let asked = Asked {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: query.into_owned().collect(),
            query_string: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        self.asked.lock().expect("lock").push(asked.clone());
        let answers = self.answers.lock().expect("lock").clone();
        let Answer { status, headers, body } = answers(&asked);
        let date = Timestamp(self.clock.now().0 + *self.skew.lock().expect("lock"));
        let date = date.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let status = StatusCode::from_u16(status).expect("a status");
        let mut response =
            (status, [("content-type", "application/json".to_owned()), ("date", date)], body).into_response();
        for (name, value) in headers {
            response.headers_mut().append(name, value.parse().expect("a header's value"));
        }
        response
    }
}

/// The source `core` of a provider file, polled by the real parts.
pub struct World {
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub poller: Poller,
    pub metrics: Metrics,
    pub base: String,
    api: Api,
    folder: TempDir,
}

/// What a test says beside the provider's streams.
#[derive(Default)]
pub struct Wish {
    /// Lines of the provider file before its streams.
    pub provider: String,
    /// Lines of `[sources.core]`.
    pub source: String,
    /// Lines of the configuration before its tables.
    pub config: String,
}

impl World {
    /// `streams` are `[streams.…]` tables; most tests have one, called `s`.
    pub async fn new(streams: &str, answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> World {
        World::wishing(Wish::default(), streams, answers).await
    }

    pub async fn wishing(
        wish: Wish,
        streams: &str,
        answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> World {
        let clock = Clock::manual(START);
        World::at_clock(clock, wish, streams, answers).await
    }

    pub async fn at_clock(
        clock: Clock,
        wish: Wish,
        streams: &str,
        answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> World {
        let api = Api {
            clock: clock.clone(),
            skew: Arc::default(),
            asked: Arc::default(),
            answers: Arc::new(Mutex::new(Arc::new(answers))),
        };
        let base = api.clone().serve().await;
        let folder = tempfile::tempdir().expect("a folder");
        let provider = format!("schema = 1\nbase_url = \"{base}\"\n{}\n{streams}\n", wish.provider);
        // Where a file needs the address of the provider itself, it says {base}.
        let provider = provider.replace("{base}", &base);
        std::fs::write(folder.path().join("provider.toml"), provider).expect("written");
        let config =
            format!("schema = 1\n{}\n[sources.core]\nprovider = \"./provider.toml\"\n{}\n", wish.config, wish.source);
        std::fs::write(folder.path().join("config.toml"), config).expect("written");
        std::fs::write(folder.path().join("secret"), "s3cret").expect("written");
        std::fs::write(folder.path().join("state.key"), "a key of more than sixteen letters").expect("written");
        World::open(clock, api, base, folder).await
    }

    async fn open(clock: Clock, api: Api, base: String, folder: TempDir) -> World {
        let show = |faults: Vec<ringback::shape::Fault>| panic!("{}", ringback::shape::render(&faults, false));
        let (config, _) = config::load(&folder.path().join("config.toml")).unwrap_or_else(show);
        let show = |faults: Vec<ringback::shape::Fault>| panic!("{}", ringback::shape::render(&faults, false));
        let (sources, _) = source::join_all(&config, true).unwrap_or_else(show);
        let store: Arc<dyn Store> = Arc::new(own(&folder.path().join("t.db"), &clock).await);
        let mut setup = Setup::default();
        for stream in sources.values().flat_map(|source| &source.streams) {
            setup.streams.push(ringback::ingest::stream_setup(stream));
        }
        store.register(setup).await.expect("registered");
        let metrics = Metrics::new();
        let ingest = Ingest::new(store.clone(), Arc::new(Subscriptions::default()), clock.clone(), metrics.clone());
        let poller = Poller::new(store.clone(), Arc::new(ingest), clock.clone(), metrics.clone());
        poller.restore().await.expect("restored");
        let fetchers = sources.values().map(|source| (source.clone(), client())).collect();
        poller.load(fetchers);
        poller.check_due_times().await.expect("checked");
        World { clock, store, poller, metrics, base, api, folder }
    }

    /// The process ends and another one begins.
    pub async fn restart(self) -> World {
        self.restart_with(|_, config| config).await
    }

    /// The same after the provider file and the configuration were edited.
    pub async fn restart_with(self, edit: impl Fn(&str, String) -> String) -> World {
        let World { clock, store, poller, metrics: _, base, api, folder } = self;
        drop((store, poller));
        for name in ["provider.toml", "config.toml"] {
            let text = std::fs::read_to_string(folder.path().join(name)).expect("read");
            std::fs::write(folder.path().join(name), edit(name, text)).expect("written");
        }
        // The writer's thread ends by itself once nobody has the store any more.
        let lock = || SqliteStore::open(&folder.path().join("t.db"), clock.clone());
        for _ in 0..500 {
            if lock().is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        World::open(clock, api, base, folder).await
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    /// The bytes of the database and what lies beside it.
    pub fn on_disk(&self) -> Vec<u8> {
        ["t.db", "t.db-wal"]
            .iter()
            .flat_map(|name| std::fs::read(self.folder.path().join(name)).unwrap_or_default())
            .collect()
    }

    /// The provider answers otherwise from here on.
    pub fn answers(&self, answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.api.answers.lock().expect("lock") = Arc::new(answers);
    }

    pub fn provider_clock_is_ahead_by(&self, millis: i64) {
        *self.api.skew.lock().expect("lock") = millis;
    }

    /// Requests since the last time somebody asked for them.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.api.asked.lock().expect("lock"))
    }

    /// One parameter of each of these requests; `-` where it was left out.
    pub fn asked_for(&self, name: &str) -> Vec<String> {
        self.asked().iter().map(|asked| asked.get(name).unwrap_or("-").to_owned()).collect()
    }

    /// Polls the stream `s` because a person asks.
    pub async fn poll(&self) -> PollReport {
        self.poll_stream("s").await
    }

    pub async fn poll_stream(&self, name: &str) -> PollReport {
        self.poller.poll_once(&stream(name), Mode::Normal).await.expect("polled")
    }

    /// Polls well.
    pub async fn polls(&self) {
        let report = self.poll().await;
        assert_eq!(report.result, PollResult::Ok, "{:?}", report.error);
    }

    /// Polls well, and there is nothing new.
    pub async fn polls_nothing(&self) {
        let report = self.poll().await;
        assert_eq!(report.result, PollResult::NotModified, "{:?}", report.error);
    }

    /// Polls the streams that are due, as the daemon does. Gives how many were.
    pub async fn polls_what_is_due(&self) -> usize {
        let mut polled = 0;
        while self.poller.step().await.expect("a step") == Progress::Worked {
            self.poller.drain(Duration::from_secs(20)).await;
            polled += 1;
            assert!(polled < 100, "a stream is due for ever");
        }
        polled
    }

    /// Events in order, as `type key`.
    pub async fn events(&self) -> Vec<String> {
        let filter = EventFilter { limit: 100_000, ..EventFilter::default() };
        let mut events: Vec<_> = self.store.events(filter).await.expect("events").events;
        events.reverse();
        events.iter().map(|event| format!("{} {}", event.event_type, event.key)).collect()
    }

    pub async fn problems(&self) -> Vec<String> {
        let problems = self.store.problems().await.expect("problems");
        problems.iter().map(|problem| format!("{} {}", problem.kind.as_str(), problem.subject)).collect()
    }

    pub async fn says(&self, kind: &str) -> String {
        let problems = self.store.problems().await.expect("problems");
        let found = problems.into_iter().find(|problem| problem.kind.as_str() == kind);
        found.map(|problem| problem.message).unwrap_or_default()
    }

    pub async fn state(&self) -> StreamState {
        self.store.stream(&stream("s")).await.expect("read").expect("it is known")
    }

    pub async fn status_of(&self, name: &str) -> StreamStatus {
        let all = self.store.streams().await.expect("streams");
        all.into_iter().find(|status| status.state.name == stream(name)).expect("it is known")
    }

    /// How long until the stream is due.
    pub async fn due_in(&self, name: &str) -> Duration {
        self.status_of(name).await.next_poll_at.expect("it is polled").since(self.clock.now())
    }

    /// The mark as a time after [`START`], in milliseconds.
    pub async fn mark(&self) -> Option<i64> {
        let mark: serde_json::Value = serde_json::from_str(&self.state().await.mark?).expect("JSON");
        mark["time"].as_i64().map(|time| time - START.0)
    }

    pub async fn is_free(&self, name: &str) -> bool {
        let lease = Duration::from_millis(1);
        self.store.claim_stream(Which::Named(stream(name)), lease).await.expect("asked").is_some()
    }
}

pub fn stream(name: &str) -> StreamName {
    StreamName::new("core", name)
}

fn client() -> Arc<dyn Fetch> {
    let client = Client::new(&ClientOptions {
        network: Network { proxy: Proxy::None, ca_files: vec![], allow: None, hosts: BTreeMap::new() },
        proxy: Proxy::None,
        proxy_password: None,
        tls: Tls::default(),
        connect_timeout: Duration::from_secs(5),
        pool_idle_max: 2,
        unix_socket: None,
    });
    Arc::new(client.expect("a client"))
}

/// Records as a provider holds them: `(id, time after START in milliseconds, text)`, oldest first.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Vec<(String, i64, String)>>>);

impl Shelf {
    pub fn of(records: &[(&str, i64)]) -> Shelf {
        let shelf = Shelf::default();
        records.iter().for_each(|(id, time)| shelf.put(id, *time, "a"));
        shelf
    }

    /// Adds a record, or changes it.
    pub fn put(&self, id: &str, time: i64, text: &str) {
        let mut records = self.0.lock().expect("lock");
        records.retain(|(known, _, _)| known != id);
        records.push((id.to_owned(), time, text.to_owned()));
        records.sort_by_key(|(_, time, _)| *time);
    }

    pub fn remove(&self, id: &str) {
        self.0.lock().expect("lock").retain(|(known, _, _)| known != id);
    }

    /// As `(id, time)`.
    pub fn all(&self) -> Vec<(String, i64)> {
        self.0.lock().expect("lock").iter().map(|(id, time, _)| (id.clone(), *time)).collect()
    }

    /// JSON of the records that a filter keeps, in the order of the shelf.
    pub fn json(&self, keep: impl Fn(i64) -> bool) -> Vec<String> {
        let records = self.0.lock().expect("lock");
        let kept = records.iter().filter(|(_, time, _)| keep(*time));
        kept.map(|(id, time, text)| format!(r#"{{"id":"{id}","at":"{}","text":"{text}"}}"#, at(*time))).collect()
    }

    /// Records dated at or after the `since` of the request, as an API with second precision shows them.
    pub fn since(&self, asked: &Asked) -> Vec<String> {
        let since = asked.time("since").map_or(i64::MIN, |time| time - START.0);
        self.json(|time| time >= since)
    }
}

pub fn list(records: &[String]) -> String {
    format!(r#"{{"items":[{}]}}"#, records.join(","))
}

/// Opens the database as its owner, once a task that ended with the last world has let it go.
async fn own(path: &std::path::Path, clock: &Clock) -> SqliteStore {
    let begun = std::time::Instant::now();
    loop {
        match SqliteStore::open(path, clock.clone()) {
            Ok(store) => return store,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
