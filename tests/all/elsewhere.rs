//! Stored events sent to an address that no table of the configuration names: the real program, the handler whose manner is used, and
//! whoever listens at that address.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::sync::watch;

use crate::program::Program;
use crate::rig::SECRET;

const PROVIDER: &str = "schema = 1\nname = \"shop\"\nbase_url = \"http://localhost\"\n[streams.items]\npath = \"/items\"\n\
                        records = \".\"\nkey = \".id\"\ndetect = \"snapshot\"\n";
const OTHER_SECRET: &str = "whsec_IB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=";
const LIMIT: Duration = Duration::from_secs(30);

/// One request as it came.
#[derive(Clone)]
struct Call {
    query: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Heard {
    /// By the path behind `/at/`.
    calls: BTreeMap<String, Vec<Call>>,
    /// What is answered there; 204 where nothing is said.
    answers: BTreeMap<String, u16>,
}

/// Everybody that is called: the shop, its handlers, and the addresses that are named for once.
#[derive(Clone)]
struct World {
    heard: Arc<Mutex<Heard>>,
    rings: Arc<watch::Sender<u64>>,
    address: std::net::SocketAddr,
}

impl World {
    async fn start() -> World {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let world = World { heard: Arc::default(), rings: Arc::new(watch::Sender::new(0)), address };
        let take = async |State(world): State<World>,
                          Path(place): Path<String>,
                          RawQuery(query): RawQuery,
                          headers: HeaderMap,
                          body: Bytes| {
            let mut heard = world.lock();
            let status = heard.answers.get(&place).copied().unwrap_or(204);
            heard.calls.entry(place).or_default().push(Call { query, headers, body });
            drop(heard);
            world.rings.send_modify(|rings| *rings += 1);
            (StatusCode::from_u16(status).expect("a status"), [("location", "http://169.254.169.254/latest")])
        };
        let items = async || axum::Json(json!([]));
        let router =
            Router::new().route("/items", get(items)).route("/at/{place}", post(take)).with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        world
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, place: &str, status: u16) {
        self.lock().answers.insert(place.to_owned(), status);
    }

    fn url(&self, place: &str) -> String {
        format!("http://{}/at/{place}", self.address)
    }

    fn calls(&self, place: &str) -> Vec<Call> {
        self.lock().calls.get(place).cloned().unwrap_or_default()
    }

    fn ids(&self, place: &str) -> Vec<String> {
        let mut ids: Vec<String> = self.calls(place).iter().map(|call| call.header("webhook-id").to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Waits until so many requests came there.
    async fn called(&self, place: &str, times: usize) {
        let mut rings = self.rings.subscribe();
        let enough = rings.wait_for(|_| self.calls(place).len() >= times);
        let came = tokio::time::timeout(LIMIT, enough).await.is_ok();
        assert!(came, "{place} was called {} times, not {times}", self.calls(place).len());
    }
}

/// The program beside that world.
struct Bridge {
    program: Program,
    world: World,
}

impl Deref for Bridge {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl Bridge {
    /// With these handlers; `{billing}` stands for the usual one.
    async fn with(handlers: &str) -> Bridge {
        let bridge = Bridge { program: Program::new(), world: World::start().await };
        for (name, text) in [("shop.toml", PROVIDER), ("billing.whsec", SECRET), ("audit.whsec", OTHER_SECRET)] {
            bridge.write(name, text);
        }
        bridge.configure(handlers);
        bridge
    }

    fn configure(&self, handlers: &str) {
        let billing = format!(
            "[handlers.billing]\nurl = \"{}\"\nsecret = {{ file = \"billing.whsec\" }}\nheaders = {{ X-Team = \"{{{{ event.key }}}} of billing\" }}\n\
             retry = {{ schedule = [\"50ms\"] }}\n",
            self.world.url("billing")
        );
        let text = format!(
            "schema = 1\nmin_free = \"1MiB\"\nadmin = {{ listen = \"off\" }}\n[sources.shop]\nprovider = \"./shop.toml\"\nbase_url = \"http://{}\"\n\
             streams.items = {{ every = \"1h\" }}\n{}",
            self.world.address,
            handlers.replace("{billing}", &billing).replace("{at}", &self.world.url(""))
        );
        self.write("config.toml", &text);
    }

    fn start(&mut self) {
        self.program.start();
        self.until("it answers", &["status"], |status| status["running"] == true);
    }

    fn kill(&mut self) {
        self.program.kill();
    }

    /// Made-up events with these keys, delivered to `billing`.
    async fn events(&self, keys: &[&str]) {
        let before = self.world.calls("billing").len();
        for key in keys {
            self.succeeds(&["trigger", "shop/items", "items.created", "--key", key, "--data", "{\"n\":1}"]);
        }
        self.world.called("billing", before + keys.len()).await;
        self.until("all is settled", &["status"], |status| {
            status["handlers"]
                .as_array()
                .is_some_and(|all| all.iter().all(|one| one["pending"] == 0 && one["claimed"] == 0))
        });
    }

    fn handlers(&self) -> Vec<String> {
        let listed = self.json(&["handler", "list"]);
        let names = listed.as_array().into_iter().flatten().filter_map(|handler| handler["name"].as_str());
        names.map(str::to_owned).collect()
    }

    fn only(&self, names: &[&str]) {
        self.until("the temporary handler is gone", &["handler", "list"], |listed| {
            let found = listed.as_array().into_iter().flatten().filter_map(|handler| handler["name"].as_str());
            found.eq(names.iter().copied())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_the_address_alone_signed_as_the_handler_s_and_nothing_of_it_stays() {
    let mut bridge = Bridge::with("{billing}").await;
    bridge.start();
    bridge.events(&["a", "b", "c"]).await;
    let ids = bridge.world.ids("billing");
    let to = format!("{}?key=hunter2", bridge.world.url("repair"));
    let plan = bridge.succeeds(&["replay", "--since", "1h", "--rate", "20/s", "--to", &to, "--dry-run"]);
    let want = format!("; about 150 ms; to {}?key=*** like `billing`.   Nothing sent", bridge.world.url("repair"));
    assert!(plan.starts_with("3 events, oldest ") && plan.contains(", newest ") && plan.contains(&want), "{plan}");
    assert_eq!(bridge.handlers(), ["billing"]);

    let (_, followed) = bridge.ends(&["replay", "--since", "1h", "--to", &to, "--watch"], 0);
    assert!(followed.contains("replay 1: 3 of 3 deliveries (100 %)"), "{followed}");
    assert_eq!((bridge.world.ids("repair"), bridge.world.calls("billing").len()), (ids.clone(), 3));
    let signed = Webhook::new(SECRET).expect("a secret");
    for call in bridge.world.calls("repair") {
        signed.verify(&call.body, &call.headers).expect("signed as billing's are");
        let event: Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(call.header("x-team"), format!("{} of billing", event["key"].as_str().expect("a key")));
        assert_eq!((call.query.as_deref(), call.header("ringback-replay")), (Some("key=hunter2"), "true"));
        let first =
            bridge.world.calls("billing").into_iter().find(|c| c.header("webhook-id") == call.header("webhook-id"));
        assert_eq!(first.map(|first| first.body), Some(call.body), "byte for byte");
    }
    bridge.only(&["billing"]);
    let shown = bridge.succeeds(&["event", "show", &ids[0], "--attempts"]);
    assert!(shown.contains("billing~1") && shown.contains("key=***") && !shown.contains("hunter2"), "{shown}");

    // Neither what happens now nor a later replay goes there.
    bridge.events(&["d"]).await;
    bridge.ends(&["replay", &ids[0], "--watch"], 0);
    bridge.ends(&["replay", &ids[0], "--to", &bridge.world.url("again"), "--fresh-id", "--watch"], 0);
    assert_eq!((bridge.world.calls("repair").len(), bridge.world.calls("billing").len()), (3, 5));
    let again = bridge.world.ids("again");
    assert!(again.len() == 1 && !ids.contains(&again[0]), "a new id where it is asked for");
    let log = bridge.log();
    assert!(log.contains("ready") && !log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_to_an_address_survives_a_kill_and_a_reload() {
    let mut bridge = Bridge::with("{billing}").await;
    bridge.world.answer("repair", 503);
    bridge.start();
    bridge.events(&["a", "b"]).await;
    bridge.succeeds(&["replay", "--handler", "billing", "--to", &bridge.world.url("repair")]);
    bridge.world.called("repair", 1).await;
    bridge.kill();
    bridge.start();
    let shown = bridge.succeeds(&["handler", "show", "billing~1"]);
    assert!(shown.contains("like `billing`, to http://") && shown.contains("--cancel 1"), "{shown}");
    let (out, _) = bridge.ends(&["reload"], 0);
    assert_eq!(out, "reloaded; nothing changed\n");
    let table = bridge.succeeds(&["status"]);
    assert!(table.contains("TEMPORARY, TO") && table.contains(&bridge.world.url("repair")), "{table}");
    bridge.world.answer("repair", 200);
    bridge.ends(&["replay", "--job", "1", "--watch"], 0);
    assert_eq!(bridge.world.ids("repair"), bridge.world.ids("billing"));
    bridge.only(&["billing"]);
    assert_eq!(bridge.world.calls("billing").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_pattern_it_is_held_and_says_why_until_there_is_one_again() {
    let mut bridge = Bridge::with("{billing}").await;
    bridge.world.answer("repair", 503);
    bridge.start();
    bridge.events(&["a"]).await;
    let id = bridge.world.ids("billing").remove(0);
    bridge.succeeds(&["replay", &id, "--to", &bridge.world.url("repair")]);
    bridge.world.called("repair", 1).await;
    let audit = "[handlers.audit]\nurl = \"{at}audit\"\nsecret = { file = \"audit.whsec\" }\nfrom = [\"ringback\"]\n";
    bridge.configure(audit);
    bridge.succeeds(&["reload"]);
    bridge.world.answer("repair", 200);
    let held = |bridge: &Bridge| {
        let shown = bridge.succeeds(&["handler", "show", "billing~1"]);
        assert!(shown.starts_with("billing~1   held\n"), "{shown}");
        assert!(shown.contains("no longer has handler `billing`, in whose manner it is sent to"), "{shown}");
        let event = bridge.json(&["event", "show", &id]);
        let last = event["deliveries"].as_array().and_then(|all| all.last()).expect("a delivery").clone();
        assert_eq!(
            (&last["handler"], &last["state"], &last["hold"]),
            (&json!("billing~1"), &json!("held"), &json!("no handler"))
        );
    };
    held(&bridge);
    bridge.kill();
    bridge.start();
    held(&bridge);
    let tries = bridge.world.calls("repair").len();
    // A handler under a new name is the same manner.
    bridge.configure(
        &format!("{audit}{{billing}}renamed_from = \"billing\"\n").replace(
            "{billing}",
            "[handlers.invoices]\nurl = \"{at}invoices\"\nsecret = { file = \"billing.whsec\" }\n",
        ),
    );
    bridge.succeeds(&["reload"]);
    bridge.ends(&["replay", "--job", "1", "--watch"], 0);
    let calls = bridge.world.calls("repair");
    assert_eq!(calls.len(), tries + 1);
    Webhook::new(SECRET).and_then(|signed| signed.verify(&calls[tries].body, &calls[tries].headers)).expect("signed");
    bridge.only(&["audit", "invoices"]);
    assert!(bridge.world.calls("audit").is_empty() && bridge.world.calls("invoices").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_fails_for_good_is_told_and_one_that_is_gone_can_be_dropped() {
    let mut bridge = Bridge::with("{billing}").await;
    bridge.start();
    bridge.events(&["a", "b"]).await;
    let id = bridge.world.ids("billing").remove(0);
    bridge.world.answer("moved", 302);
    bridge.ends(&["replay", "--handler", "billing", "--to", &bridge.world.url("moved"), "--watch"], 1);
    let job = bridge.json(&["replay", "--job", "1"]);
    assert_eq!((&job[0]["state"], &job[0]["failed"]), (&json!("done"), &json!(2)));
    assert_eq!(bridge.world.calls("moved").len(), 4, "as often as billing's retries say");
    let shown = bridge.succeeds(&["event", "show", &id, "--attempts"]);
    assert!(shown.contains("(replay, redirect)"), "{shown}");
    bridge.only(&["billing"]);
    assert_eq!(bridge.json(&["problem", "list"]), json!([]), "nothing stays open of one that is no longer there");

    for job in ["2", "3"] {
        bridge.world.answer("gone", 410);
        bridge.succeeds(&["replay", "--handler", "billing", "--to", &bridge.world.url("gone")]);
        let paused = |handlers: &Value| handlers[1]["paused"]["by"] == "handler" && handlers[1]["claimed"] == 0;
        bridge.until("410 pauses it", &["handler", "list"], paused);
        let (problems, name) = (bridge.json(&["problem", "list"]), format!("billing~{job}"));
        assert_eq!((&problems[0]["kind"], &problems[0]["subject"]), (&json!("handler.gone"), &json!(name)));
        let pattern = bridge.succeeds(&["handler", "show", "billing"]);
        assert!(pattern.starts_with("billing   ok\n"), "it is not its pattern's trouble: {pattern}");
        if job == "2" {
            bridge.world.answer("gone", 200);
            bridge.succeeds(&["handler", "resume", &name]);
        } else {
            bridge.succeeds(&["replay", "--cancel", job]);
        }
        bridge.only(&["billing"]);
        assert_eq!(bridge.json(&["problem", "list"]), json!([]));
    }
    assert_eq!(bridge.world.ids("gone"), bridge.world.ids("billing"), "a person resumed the first of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_to_is_refused_before_anything_is_stored() {
    let handlers = "{billing}[handlers.audit]\nurl = \"{at}audit\"\nsecret = { file = \"audit.whsec\" }\nfrom = [\"ringback\"]\n\
                    [handlers.lines]\nfile = \"lines.jsonl\"\nfrom = [\"ringback\"]\n[network]\nallow = [\"127.0.0.1\", \"127.0.0.9\"]\n\
                    hosts = { \"repair.bank.example\" = \"127.0.0.9\", \"other.example\" = \"10.1.2.3\" }\n";
    let mut bridge = Bridge::with(handlers).await;
    bridge.start();
    bridge.events(&["a"]).await;
    let id = bridge.world.ids("billing").remove(0);
    let here = bridge.world.url("repair");
    for (arguments, code, want) in [
        (&["--to", &here][..], 2, "in whose manner it is sent, with --like: audit, billing"),
        (&["--to", &here, "--like", "lines"], 2, "`lines` is not sent to over HTTP; those that are: audit, billing"),
        (&["--to", &here, "--like", "biling"], 2, "did you mean `billing`?"),
        (&["--to", "https://other.example/", "--like", "billing"], 2, "`network.allow` shuts out `other.example`"),
        (&["--to", "http://127.0.0.2:1/", "--like", "billing", "--dry-run"], 2, "`network.allow` shuts out"),
        (&["--to", "http://169.254.169.254/", "--like", "billing"], 2, "never called"),
        (&["--to", "https://me:hunter2@repair.bank.example/", "--like", "billing"], 2, "a user or a password"),
        (&["--to", "https://repair.bank.example/#x", "--like", "billing"], 2, "behind `#`"),
        (&["--to", "ftp://repair.bank.example/", "--like", "billing"], 2, "only http:// and https://"),
        (&["--to", "repair.bank.example/hooks", "--like", "billing"], 2, "no address"),
        (&["--to", "billing", "--like", "audit"], 2, "`--like` goes with an address"),
        (&["--like", "billing"], 2, "--to <HANDLER|URL>"),
        (&["--to", "billing~1"], 2, "is there for its replay alone"),
        (&["--to", "nobody"], 4, "no handler `nobody`"),
    ] {
        let (_, err) = bridge.ends(&[&["replay", &id][..], arguments].concat(), code);
        assert!(err.contains(want) && !err.contains("hunter2"), "{arguments:?}: {err}");
    }
    bridge.ends(&["replay", "--jobs"], 4);
    assert_eq!(bridge.handlers(), ["audit", "billing", "lines"]);

    // The filter says whose manner where nothing else does, and each has its own secret.
    bridge.ends(&["replay", "--handler", "billing", "--to", &here, "--watch"], 0);
    bridge.ends(&["replay", &id, "--to", &here, "--like", "audit", "--watch"], 0);
    for (call, secret) in bridge.world.calls("repair").iter().zip([SECRET, OTHER_SECRET]) {
        Webhook::new(secret).and_then(|signed| signed.verify(&call.body, &call.headers)).expect("signed");
    }
    // An address that the configuration comes to refuse is no longer called.
    let late = "http://repair.bank.example:1/";
    bridge.succeeds(&["replay", &id, "--to", late, "--like", "billing"]);
    bridge.configure(&handlers.replace(", \"127.0.0.9\"", ""));
    bridge.succeeds(&["reload"]);
    let shown = bridge.succeeds(&["handler", "show", "billing~3"]);
    assert!(shown.contains("billing~3   held\n") && shown.contains("`network.allow` shuts out"), "{shown}");
    bridge.succeeds(&["replay", "--cancel", "3"]);
    bridge.only(&["audit", "billing", "lines"]);
}
