//! A world around the real program: a provider whose records change under load, a handler that remembers what it accepted, and the
//! daemon as a process that can be killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path as Segment, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

pub const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
pub const STREAMS: [&str; 3] = ["changed", "snap", "feed"];
const SHOWN_AT_ONCE: usize = 20;

/// One change of one record, or one webhook that was sent (`stream` is then `messages`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub stream: String,
    pub key: String,
    /// For a deletion: that of the record that went.
    pub version: u64,
    pub deleted: bool,
}

/// What the provider holds and what the handler accepted.
pub struct Records {
    shown: BTreeMap<(&'static str, String), u64>,
    pub made: BTreeSet<Change>,
    waiting: BTreeSet<(String, String)>,
    accepted: BTreeMap<String, (Change, Bytes)>,
    revisions: BTreeMap<(String, String), u64>,
    pub polls: BTreeMap<String, u64>,
    pub faults: Vec<String>,
    /// Which of two handlers got something: by the path they listen on.
    pub calls: BTreeMap<String, u64>,
    version: u64,
    dice: u64,
    /// One answer in so many is an error; 0: none.
    pub errors: u64,
}

#[derive(Clone)]
pub struct World(Arc<Mutex<Records>>);

impl World {
    pub fn new(seed: u64) -> World {
        let mut records = Records {
            shown: BTreeMap::new(),
            made: BTreeSet::new(),
            waiting: BTreeSet::new(),
            accepted: BTreeMap::new(),
            revisions: BTreeMap::new(),
            polls: BTreeMap::new(),
            faults: Vec::new(),
            calls: BTreeMap::new(),
            version: 0,
            dice: seed | 1,
            errors: 10,
        };
        for stream in STREAMS {
            for number in 0..40 {
                records.version += 1;
                records.shown.insert((stream, format!("{stream}-{number:05}")), records.version);
            }
        }
        World(Arc::new(Mutex::new(records)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the provider and the handler; the answer is the address.
    pub async fn serve(&self) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new()
            .route("/api/{stream}", get(list))
            .route("/hooks/{handler}", post(take))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// How many changes were made, and how many have arrived.
    pub fn counts(&self) -> (usize, usize) {
        let records = self.lock();
        (records.made.len(), records.accepted.len())
    }

    /// Waits until a condition holds.
    pub async fn until(&self, limit: Duration, holds: impl Fn(&Records) -> bool) -> bool {
        let started = Instant::now();
        while !holds(&self.lock()) {
            if started.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// Every stream's first look is stored: polls of a stream never overlap, so a second request proves the first.
    pub async fn first_look(&self, daemon: &Daemon) {
        let looked = |records: &Records| STREAMS.iter().all(|stream| records.polls.get(*stream) > Some(&3));
        assert!(self.until(Duration::from_secs(20), looked).await, "no first look; its log:\n{}", daemon.log());
    }

    /// Waits until every change arrived, then a little for what should not, and says what is wrong.
    pub async fn settle(&self, limit: Duration) -> Vec<String> {
        self.until(limit, |records| records.waiting.is_empty()).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        self.lock().verdict()
    }
}

impl Records {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    /// Makes a change to a record whose former change has arrived.
    pub fn change(&mut self) {
        let stream = STREAMS[self.roll(3) as usize];
        let of_stream = self.shown.range((stream, String::new())..).take_while(|((of, _), _)| *of == stream);
        let free: Vec<String> = of_stream
            .map(|((_, key), _)| key.clone())
            .filter(|key| !self.waiting.contains(&(stream.to_owned(), key.clone())))
            .collect();
        let what = self.roll(4);
        self.version += 1;
        let version = self.version;
        let new = stream == "feed" || what == 0 || free.len() < 5;
        let key =
            if new { format!("{stream}-{version:05}x") } else { free[self.roll(free.len() as u64) as usize].clone() };
        if stream == "snap" && what == 1 && !new {
            let version = self.shown.remove(&(stream, key.clone())).expect("it was just found");
            return self.note(stream, key, version, true);
        }
        self.shown.insert((stream, key.clone()), version);
        self.note(stream, key, version, false);
    }

    pub fn note(&mut self, stream: &str, key: String, version: u64, deleted: bool) {
        self.waiting.insert((stream.to_owned(), key.clone()));
        self.made.insert(Change { stream: stream.to_owned(), key, version, deleted });
    }

    fn accept(&mut self, id: &str, body: Bytes) {
        let Ok(event) = serde_json::from_slice::<Value>(&body) else {
            return self.faults.push(format!("{id}: no JSON"));
        };
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        if event["id"].as_str().is_some_and(|first| first != id) {
            self.faults.push(format!("{id} was {} at the daemon before", event["id"]));
        }
        let change = Change {
            stream: text("stream"),
            key: text("key"),
            version: event["data"]["version"].as_u64().unwrap_or(0),
            deleted: text("type").ends_with(".deleted"),
        };
        if let Some((_, before)) = self.accepted.get(id) {
            if *before != body {
                self.faults.push(format!("{id} came with two bodies: {before:?} and {body:?}"));
            }
            return;
        }
        let place = (change.stream.clone(), change.key.clone());
        let revision = event["revision"].as_u64().unwrap_or(0);
        let before = self.revisions.insert(place.clone(), revision).unwrap_or(0);
        if revision <= before {
            self.faults.push(format!("{change:?} has revision {revision} after {before}"));
        }
        if !self.made.contains(&change) {
            self.faults.push(format!("phantom {id}: {}", String::from_utf8_lossy(&body)));
        }
        self.waiting.remove(&place);
        self.accepted.insert(id.to_owned(), (change, body));
    }

    pub fn verdict(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let mut ids: BTreeMap<&Change, Vec<&str>> = BTreeMap::new();
        for (id, (change, _)) in &self.accepted {
            ids.entry(change).or_default().push(id);
        }
        for change in &self.made {
            match ids.get(change).map_or(0, Vec::len) {
                0 => faults.push(format!("lost: {change:?}")),
                1 => {}
                _ => faults.push(format!("doubled: {change:?} as {:?}", ids[change])),
            }
        }
        faults
    }
}

async fn list(
    State(world): State<World>,
    Segment(stream): Segment<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
    let mut records = world.lock();
    *records.polls.entry(stream.clone()).or_default() += 1;
    let since = number("since").unwrap_or(0).max(number("after").map_or(0, |after| after + 1));
    let before = number("before").unwrap_or(u64::MAX);
    let mut found: Vec<(u64, &String)> = records
        .shown
        .iter()
        .filter(|((of, _), version)| *of == stream && **version >= since && **version < before)
        .map(|((_, key), version)| (*version, key))
        .collect();
    found.sort();
    let total = found.len();
    match stream.as_str() {
        "changed" => found.truncate(SHOWN_AT_ONCE),
        "feed" => found = found.into_iter().rev().take(SHOWN_AT_ONCE).collect(),
        _ => {}
    }
    let next =
        (stream != "snap" && total > SHOWN_AT_ONCE).then(|| found.last().map(|(version, _)| version.to_string()));
    let data: Vec<Value> = found.iter().map(|(version, key)| json!({ "id": key, "version": version })).collect();
    Json(json!({ "data": data, "total": total, "next": next.flatten() }))
}

async fn take(
    State(world): State<World>,
    Segment(handler): Segment<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut records = world.lock();
    *records.calls.entry(handler).or_default() += 1;
    if let Err(error) = Webhook::new(SECRET).expect("a secret").verify(&body, &headers) {
        records.faults.push(format!("a wrong signature: {error}"));
        return StatusCode::UNAUTHORIZED;
    }
    if records.errors > 0 && {
        let errors = records.errors;
        records.roll(errors)
    } == 0
    {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    records.accept(&id, body);
    StatusCode::NO_CONTENT
}

/// The daemon's files, and the daemon as a process.
pub struct Daemon {
    folder: tempfile::TempDir,
    api: std::net::SocketAddr,
    pub receive: std::net::SocketAddr,
    child: Option<Child>,
}

impl Daemon {
    pub fn new(api: std::net::SocketAddr) -> Daemon {
        let folder = tempfile::tempdir().expect("a folder");
        // The port must be the same after every restart, so it cannot be 0 in the file.
        let receive = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let daemon = Daemon { folder, api, receive, child: None };
        std::fs::write(daemon.path("shop.toml"), PROVIDER).expect("written");
        std::fs::write(daemon.path("whsec"), SECRET).expect("written");
        daemon.configure("first");
        daemon
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a good configuration with this handler.
    pub fn configure(&self, handler: &str) {
        let text = CONFIG
            .replace("{api}", &self.api.to_string())
            .replace("{receive}", &self.receive.to_string())
            .replace("{handler}", handler);
        std::fs::write(self.path("config.toml"), text).expect("written");
    }

    pub fn start(&mut self) {
        self.start_under("");
    }

    /// Starts it from a shell that has carried out these words.
    pub fn start_under(&mut self, words: &str) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        let child = Command::new("sh")
            .args(["-c", &format!("{words} exec {}", self.command())])
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the program starts"));
    }

    fn command(&self) -> String {
        format!("{} run -c {}", env!("CARGO_BIN_EXE_ringback"), self.path("config.toml").display())
    }

    /// What becomes of a second one with the same files.
    pub fn second(&self) -> std::process::Output {
        Command::new("sh").args(["-c", &format!("exec {}", self.command())]).output().expect("the program starts")
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the daemon ended by itself ({status}); its log:\n{}", self.log());
            }
            child.kill().and_then(|()| child.wait()).expect("it can be killed");
        }
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id();
        let sent = Command::new("kill").args([name, &id.to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub async fn end(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("it can be asked")) {
                self.child = None;
                return status;
            }
            assert!(started.elapsed() < limit, "it has not ended within {limit:?}; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for words in the log.
    pub async fn says(&self, words: &str) {
        let started = Instant::now();
        while !std::fs::read_to_string(self.path("log")).unwrap_or_default().contains(words) {
            assert!(started.elapsed() < Duration::from_secs(15), "it never says `{words}`; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of the log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const CONFIG: &str = r#"schema = 1
data_dir = "data"
min_free = "1MiB"
[admin]
listen = "off"
[receive]
listen = "{receive}"
[defaults.stream]
every = "200ms"
[sources.shop]
provider = "./shop.toml"
base_url = "http://{api}/api"
[sources.partner]
provider = "standard-webhooks"
webhook  = { secret = { file = "whsec" } }
[handlers.ledger]
url    = "http://{api}/hooks/{handler}"
secret = { file = "whsec" }
retry  = { schedule = ["100ms", "100ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "200ms", "1s", "1s"] }
"#;

const PROVIDER: &str = r#"schema = 1
name = "shop"
base_url = "http://localhost/api"

[streams.changed]
path       = "/changed"
query      = { since = "{{ cursor }}", after = "{{ page.token }}" }
records    = ".data"
key        = ".id"
version    = { field = ".version", type = "number" }
detect     = "changed"
cursor     = { field = ".version", type = "number", order = "asc" }
pagination = { type = "token", size = 20, next = ".next" }

[streams.snap]
path       = "/snap"
records    = ".data"
key        = ".id"
version    = { field = ".version", type = "number" }
detect     = "snapshot"
deletes    = { confirm_after = 2, max_percent = 100, max_count = 100000 }

[streams.feed]
path       = "/feed"
query      = { since = "{{ cursor }}", before = "{{ page.token }}" }
records    = ".data"
key        = ".id"
detect     = "new"
cursor     = { field = ".version", type = "number", order = "desc" }
pagination = { type = "token", size = 20, next = ".next" }
"#;
