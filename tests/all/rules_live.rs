//! What the whole program tells of itself, and what it refuses to go on with: told against the daemon as a process.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::rig::{Daemon, SECRET};

/// A provider with one listing, and handlers by name: `deaf` refuses whatever it gets.
#[derive(Clone, Default)]
struct Town(Arc<Mutex<Streets>>);

#[derive(Default)]
struct Streets {
    records: Vec<Value>,
    polls: u64,
    heard: BTreeMap<String, Vec<Value>>,
}

impl Town {
    async fn open() -> (Town, std::net::SocketAddr) {
        let town = Town::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let listing = async |State(town): State<Town>| {
            let mut streets = town.0.lock().expect("no panic");
            streets.polls += 1;
            Json(streets.records.clone())
        };
        let hook = async |State(town): State<Town>, Path(name): Path<String>, body: Bytes| {
            let body = serde_json::from_slice(&body).expect("JSON");
            town.0.lock().expect("no panic").heard.entry(name.clone()).or_default().push(body);
            if name == "deaf" { (StatusCode::BAD_REQUEST, "no such account") } else { (StatusCode::OK, "") }
        };
        let router = Router::new().route("/{at}/items", get(listing)).route("/hooks/{name}", post(hook));
        tokio::spawn(axum::serve(listener, router.with_state(town.clone())).into_future());
        (town, address)
    }

    fn adds(&self, id: &str) {
        let text = "x".repeat(1000);
        self.0.lock().expect("no panic").records.push(json!({ "id": id, "text": text }));
    }

    fn polls(&self) -> u64 {
        self.0.lock().expect("no panic").polls
    }

    /// Types that a handler heard.
    fn heard(&self, name: &str) -> Vec<(String, Value)> {
        let heard = self.0.lock().expect("no panic").heard.get(name).cloned().unwrap_or_default();
        heard.into_iter().map(|body| (body["type"].as_str().unwrap_or_default().to_owned(), body)).collect()
    }

    async fn until(&self, daemon: &Daemon, what: &str, holds: impl Fn(&Town) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            assert!(started.elapsed() < Duration::from_secs(25), "never: {what}; its log:\n{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first event of this type that a handler hears.
    async fn hears(&self, daemon: &Daemon, handler: &str, event_type: &str) -> Value {
        let find = |town: &Town| town.heard(handler).into_iter().find(|(found, _)| found == event_type);
        self.until(daemon, event_type, |town| find(town).is_some()).await;
        find(self).expect("it was heard").1
    }
}

const PROVIDER: &str = "schema = 1\nname = \"town\"\nbase_url = \"http://localhost/one\"\n[streams.items]\npath = \"/items\"\nrecords = \".\"\n\
     key = \".id\"\ndetect = \"new\"\n[[webhook.signature]]\ntype = \"token\"\nheader = \"X-Token\"\n[[webhook.messages]]\n";

/// A daemon with handlers of these names and keys.
fn daemon(api: std::net::SocketAddr, at: &str, handlers: &[(&str, &str)]) -> Daemon {
    let daemon = Daemon::new(api);
    std::fs::write(daemon.path("town.toml"), PROVIDER).expect("written");
    std::fs::write(daemon.path("token"), "a token").expect("written");
    configure(&daemon, api, at, handlers);
    daemon
}

fn configure(daemon: &Daemon, api: std::net::SocketAddr, at: &str, handlers: &[(&str, &str)]) {
    let mut text = format!(
        "schema = 1\ndata_dir = \"data\"\nmin_free = \"1MiB\"\n[admin]\nlisten = \"off\"\n[receive]\nlisten = \"{}\"\n\
         [sources.town]\nprovider = \"./town.toml\"\nbase_url = \"http://{api}/{at}\"\nwebhook = {{ secret = {{ file = \"token\" }} }}\n\
         streams.items = {{ every = \"200ms\", first_run = \"send-all\" }}\n",
        daemon.receive
    );
    for (name, keys) in handlers {
        text.push_str(&format!(
            "[handlers.{name}]\nurl = \"http://{api}/hooks/{name}\"\nsecret = {{ file = \"whsec\" }}\n{keys}\n"
        ));
    }
    std::fs::write(daemon.path("config.toml"), text).expect("written");
    assert!(std::fs::read_to_string(daemon.path("whsec")).expect("a secret").contains(SECRET));
}

async fn command(daemon: &Daemon, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    let config = daemon.path("config.toml");
    command.args(words).arg("-c").arg(config);
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_delivery_is_told_to_another_handler_with_its_event_and_the_last_answer() {
    let (town, api) = Town::open().await;
    town.adds("one");
    let deaf = ("deaf", "from = [\"town\", \"ringback\"]\nretry = { schedule = [\"50ms\"] }");
    let mut daemon = daemon(api, "one", &[deaf, ("ops", "from = [\"ringback\"]")]);
    daemon.start();
    let failed = town.hears(&daemon, "ops", "ringback.delivery.failed").await;
    let data = &failed["data"];
    assert_eq!((&failed["source"], &failed["stream"]), (&"ringback".into(), &"deliveries".into()));
    assert_eq!((&data["handler"], &data["attempts"]), (&"deaf".into(), &2.into()));
    assert_eq!((&data["event"]["type"], &data["event"]["key"]), (&"items.created".into(), &"one".into()));
    let id = data["event"]["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("evt_"), "{id}");
    let last = &data["last"];
    assert_eq!((&last["status"], &last["result"]), (&400.into(), &"refused".into()));
    assert_eq!((&last["answer"], &last["error"]), (&"no such account".into(), &"answered 400".into()));
    let (done, shown) = command(&daemon, &["event", "show", &id]).await;
    assert!(done && shown.contains("failed"), "{shown}");
    let (done, shown) = command(&daemon, &["handler", "pause", "deaf"]).await;
    assert!(done, "{shown}");
    assert_eq!(town.hears(&daemon, "ops", "ringback.handler.paused").await["data"]["handler"], "deaf");
    // Nothing of this was told to the handler that it is about, although it asked.
    let types: Vec<String> = town.heard("deaf").into_iter().map(|(event_type, _)| event_type).collect();
    assert!(types.iter().all(|event_type| event_type == "items.created"), "{types:?}");
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_4_a_source_with_another_address_waits_for_a_person_and_then_goes_on_where_it_was() {
    let (town, api) = Town::open().await;
    town.adds("one");
    let handlers = [("ops", "from = [\"ringback\"]"), ("ledger", "from = [\"town\"]")];
    let mut daemon = daemon(api, "one", &handlers);
    daemon.start();
    town.until(&daemon, "the first record", |town| !town.heard("ledger").is_empty()).await;
    let (done, said) = command(&daemon, &["source", "keep", "town"]).await;
    assert!(!done && said.contains("nothing to confirm"), "{said}");
    configure(&daemon, api, "two", &handlers);
    daemon.signal("-HUP");
    let opened = town.hears(&daemon, "ops", "ringback.problem.opened").await;
    assert_eq!(
        (&opened["data"]["kind"], &opened["data"]["subject"]),
        (&"source.address-changed".into(), &"town".into())
    );
    // What was under way ends; then five intervals bring nothing.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = town.polls();
    town.adds("two");
    let (done, said) = command(&daemon, &["poll", "town/items"]).await;
    assert!(!done && said.contains("source keep town"), "{said}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(town.polls(), before);
    // A restart confirms nothing either.
    daemon.kill();
    daemon.start();
    daemon.says("it is not polled").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(town.polls(), before);
    let (done, said) = command(&daemon, &["source", "keep", "town"]).await;
    assert!(done, "{said}");
    town.until(&daemon, "the second record", |town| town.heard("ledger").len() >= 2).await;
    assert_eq!(town.hears(&daemon, "ops", "ringback.problem.closed").await["data"]["kind"], "source.address-changed");
    let keys: Vec<Value> = town.heard("ledger").into_iter().map(|(_, body)| body["key"].clone()).collect();
    assert_eq!(keys, ["one", "two"], "what was known stays known");
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_1_a_full_backlog_stops_what_fills_it_and_loses_nothing() {
    let (town, api) = Town::open().await;
    for n in 0..8 {
        town.adds(&format!("{n}"));
    }
    let ledger = |keys: &str| format!("from = [\"town\"]\nmax_backlog = \"10KiB\"\n{keys}");
    let (closed, open) = (ledger("enabled = false"), ledger(""));
    let mut daemon = daemon(api, "one", &[("ledger", &closed), ("ops", "from = [\"ringback\"]")]);
    daemon.start();
    let full = town.hears(&daemon, "ops", "ringback.problem.opened").await;
    assert_eq!((&full["data"]["kind"], &full["data"]["subject"]), (&"handler.backlog".into(), &"ledger".into()));
    town.adds("8");
    town.adds("9");
    // Eight are 80 %, ten are over 100 %: from there on the polls rest.
    let started = Instant::now();
    loop {
        let before = town.polls();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if town.polls() == before {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(25), "it polls on; its log:\n{}", daemon.log());
    }
    let posted = reqwest::Client::new().post(format!("http://{}/webhooks/town", daemon.receive));
    let answer = posted.header("X-Token", "a token").body("{\"id\":\"pushed\"}").send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()), (503, Some("30")));
    let (_, shown) = command(&daemon, &["source", "show", "town"]).await;
    assert!(shown.contains("max_backlog"), "{shown}");
    town.adds("10");
    configure(&daemon, api, "one", &[("ledger", &open), ("ops", "from = [\"ringback\"]")]);
    daemon.signal("-HUP");
    town.until(&daemon, "all of them", |town| town.heard("ledger").len() >= 11).await;
    let mut keys: Vec<String> =
        town.heard("ledger").iter().map(|(_, body)| body["key"].as_str().unwrap_or_default().to_owned()).collect();
    keys.sort_by_key(|key| key.parse::<u32>().unwrap_or(u32::MAX));
    assert_eq!(keys, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    daemon.kill();
}
