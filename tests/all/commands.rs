//! The commands as a person types them: the real program, asked while its daemon runs and after it has stopped.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::program::{Program, text};

const PROVIDER: &str = r#"schema = 1
name = "shop"
base_url = "http://localhost"
[streams.items]
path    = "/items"
records = "."
key     = ".id"
detect  = "snapshot"
"#;

/// A made-up shop and a handler that refuses the first request.
#[derive(Clone)]
struct World {
    items: Arc<Mutex<Value>>,
    received: Arc<Mutex<Vec<String>>>,
    address: std::net::SocketAddr,
}

impl World {
    async fn start() -> World {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let items = Arc::new(Mutex::new(json!([{ "id": "a", "price": 1 }, { "id": "b", "price": 2 }])));
        let world = World { items, received: Arc::default(), address };
        let list = async |State(world): State<World>| axum::Json(world.items.lock().expect("no panic").clone());
        let take = async |State(world): State<World>, body: String| {
            let mut received = world.received.lock().expect("no panic");
            received.push(body);
            if received.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
        };
        let router = Router::new().route("/items", get(list)).route("/hooks", post(take)).with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        world
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
    async fn new() -> Bridge {
        let (program, world) = (Program::new(), World::start().await);
        program.write("shop.toml", PROVIDER);
        let config = format!(
            "schema = 1\nadmin = {{ listen = \"off\" }}\n[sources.shop]\nprovider = \"./shop.toml\"\nbase_url = \"http://{0}\"\n\
             streams.items = {{ every = \"100ms\" }}\n[handlers.billing]\nurl = \"http://{0}/hooks\"\n\
             secret = {{ file = \"billing.whsec\" }}\nretry = {{ schedule = [\"100ms\", \"100ms\"] }}\n",
            world.address
        );
        program.write("config.toml", &config);
        program.succeeds(&["secret", "new", "--file", "billing.whsec"]);
        Bridge { program, world }
    }

    fn start(&mut self) {
        self.program.start();
        self.until("the first look is remembered", |status| status["streams"][0]["phase"] == "live");
    }

    fn stop(&mut self) -> Option<i32> {
        self.program.stop()
    }

    /// Asks `status` of the running daemon until it is so.
    fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.program.until(what, &["status"], |status| status["running"] == true && so(status))
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_followed_from_the_poll_to_the_replay() {
    let mut bridge = Bridge::new().await;
    bridge.succeeds(&["check"]);
    bridge.start();
    *bridge.world.items.lock().expect("no panic") = json!([{ "id": "a", "price": 1.50 }, { "id": "b", "price": 2 }]);
    bridge.until("delivered", |status| status["handlers"][0]["delivered"] == 1);

    let events = lines(&bridge.succeeds(&["event", "list", "-o", "jsonl"]));
    assert_eq!((events.len(), &events[0]["type"], &events[0]["key"]), (1, &json!("items.updated"), &json!("a")));
    let id = events[0]["id"].as_str().expect("an id").to_owned();
    let shown = bridge.succeeds(&["event", "show", &id]);
    assert!(shown.contains("/price  1 -> 1.5") && shown.contains("2 attempts   503"), "{shown}");
    let tail = bridge.succeeds(&["tail"]);
    assert!(tail.lines().count() == 2 && tail.contains("try 2"), "{tail}");

    let plan = bridge.succeeds(&["replay", "--handler", "billing", "--dry-run"]);
    assert!(plan.starts_with("1 event, ") && plan.contains("Nothing sent"), "{plan}");
    bridge.succeeds(&["replay", &id]);
    bridge.until("delivered again", |status| status["handlers"][0]["delivered"] == 2);
    let ids = |received: &[String]| received.iter().filter(|body| body.contains("\"key\":\"a\"")).count();
    assert_eq!(ids(&bridge.world.received.lock().expect("no panic")), 3);

    let made_up =
        bridge.succeeds(&["trigger", "shop/items", "items.updated", "--key", "made-up", "--data", "{\"n\":1}"]);
    assert!(made_up.contains("goes to 1 handler"), "{made_up}");
    bridge.until("the made-up event is delivered", |status| status["handlers"][0]["delivered"] == 3);
    assert!(bridge.world.received.lock().expect("no panic").iter().any(|body| body.contains("\"test\":true")));

    let report = bridge.succeeds(&["poll", "shop/items", "--dry-run"]);
    assert!(report.contains("2 records") && report.ends_with("Nothing was stored or sent.\n"), "{report}");
    let (out, _) = bridge.ends(&["reload"], 0);
    assert_eq!(out, "reloaded; nothing changed\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_handler_says_by_whom_until_it_is_resumed() {
    let mut bridge = Bridge::new().await;
    bridge.start();
    let (out, err) = bridge.ends(&["handler", "pause", "billing", "--reason", "upgrade"], 0);
    assert_eq!((out.as_str(), err.as_str()), ("", "handler `billing` is paused; its events are held\n"));
    let shown = bridge.succeeds(&["handler", "show", "billing"]);
    assert!(shown.contains(": upgrade") && shown.contains("ringback handler resume billing"), "{shown}");
    bridge.succeeds(&["handler", "resume", "billing"]);
    assert!(bridge.succeeds(&["handler", "show", "billing"]).starts_with("billing   ok\n"));
    let (_, err) = bridge.ends(&["handler", "show", "biling"], 4);
    assert!(err.contains("did you mean `billing`?"), "{err}");
    bridge.ends(&["event", "show", "evt_none"], 4);
    bridge.ends(&["problem", "ack", "disk.low"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_when_the_daemon_has_stopped_and_acting_names_its_socket() {
    let mut bridge = Bridge::new().await;
    let report = bridge.succeeds(&["poll", "shop/items", "--dry-run"]);
    assert!(report.contains("2 records, 2 remembered silently"), "a look needs no daemon: {report}");
    let (_, err) = bridge.ends(&["status"], 69);
    assert!(err.contains("ringback.sock") && err.contains("no database"), "{err}");
    bridge.start();
    assert_eq!(bridge.stop(), Some(0));

    let (out, err) = bridge.ends(&["status"], 1);
    assert!(out.contains("not running") && out.contains("shop/items"), "{out}");
    assert!(err.contains("the daemon is not running: read from"), "{err}");
    let (_, quiet) = bridge.ends(&["status", "-q"], 1);
    assert_eq!(quiet, "");
    bridge.succeeds(&["source", "show", "shop"]);
    bridge.ends(&["event", "list"], 4);
    for acting in
        [&["replay", "evt_1"][..], &["reload"], &["handler", "pause", "billing"], &["poll", "shop"], &["tail", "-f"]]
    {
        let (_, err) = bridge.ends(acting, 69);
        assert!(err.contains("ringback.sock") || err.contains("not running"), "{acting:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_panic() {
    let mut bridge = Bridge::new().await;
    bridge.start();
    for arguments in [
        &["status"][..],
        &["completions", "bash"],
        &["provider", "list"],
        &["event", "list", "-o", "json"],
        &["--help"],
    ] {
        let mut child =
            bridge.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(!text(&output.stderr).contains("panicked"), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_with_78_and_every_fault() {
    let bridge = Bridge::new().await;
    bridge.write("config.toml", "schema = 1\nlisen = 1\n[handlers.h]\nulr = \"x\"\n");
    for command in [&["check"][..], &["run"], &["status"]] {
        let (_, err) = bridge.ends(command, 78);
        for part in ["config.toml:2:1", "config.toml:4:1", "did you mean `url`?"] {
            assert!(err.contains(part), "{command:?}: {part} is missing in {err}");
        }
    }
}

#[test]
fn recorded_webhooks_are_judged_by_the_provider_s_scheme() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_test_4b3f0a1c2d5e\n").expect("written");
    let request = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("providers/fixtures/stripe");
    let verify = |file: &str, at: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringback"))
            .args(["verify", "--provider", "stripe", "--scheme", "stripe-v1", "--at", at, "--request"])
            .arg(request.join(file))
            .arg("--secret-file")
            .arg(&secret)
            .output()
            .expect("the program starts");
        (output.status.code(), text(&output.stdout))
    };
    let (code, out) = verify("request-accept.json", "1760000000");
    assert!(code == Some(0) && out.starts_with("valid: scheme stripe-v1"), "{out}");
    let (code, out) = verify("request-tampered.json", "1760000000");
    assert!(code == Some(1) && out.starts_with("refused: the signature does not match"), "{out}");
    let (code, out) = verify("request-accept.json", "1760000301");
    assert!(code == Some(1) && out.contains("too old"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guard_holds_is_approved_and_a_stream_is_reset_looked_into_and_explained() {
    let mut bridge = Bridge::new().await;
    bridge.start();
    // The listing is empty all of a sudden.
    *bridge.world.items.lock().expect("no panic") = json!([]);
    let held = |status: &Value| status["problems"].as_array().is_some_and(|all| all.iter().any(|p| p["held"] == 2));
    bridge.until("the run is held", held);
    let (out, _) = bridge.ends(&["status"], 1);
    assert!(out.contains("2 records are held: `ringback problem approve list.empty shop/items`"), "{out}");
    let why = bridge.succeeds(&["why", "shop/items", "a"]);
    assert!(why.contains("too much at once waits for a person") && why.contains("RUN ENDED"), "{why}");
    let (_, err) = bridge.ends(&["problem", "approve", "auth.failed", "shop/items"], 2);
    assert!(err.contains("holds nothing"), "{err}");
    let (_, err) = bridge.ends(&["problem", "approve", "changes.held", "shop/items"], 4);
    assert!(err.contains("nothing is held"), "{err}");
    bridge.succeeds(&["problem", "reject", "list.empty", "shop/items"]);
    let rejected = |status: &Value| status["problems"][0]["decided"]["approved"] == false;
    bridge.until("the rejection is shown", rejected);
    bridge.succeeds(&["problem", "approve", "list.empty", "shop/items"]);
    // The verdict closes the problem, and the deletions follow it.
    let through = |status: &Value| status["problems"] == json!([]) && status["streams"][0]["records"] == 0;
    bridge.until("the deletions went through", through);
    let events = bridge.succeeds(&["event", "list", "--type", "items.deleted"]);
    assert_eq!(events.matches("items.deleted").count(), 2, "{events}");

    *bridge.world.items.lock().expect("no panic") = json!([{ "id": "z", "price": 9 }]);
    bridge.until("the new one is seen", |status| status["streams"][0]["records"] == 1);
    assert!(bridge.succeeds(&["why", "shop/items", "z"]).contains("announced last as items.created"));

    let planned = bridge.succeeds(&["source", "reset", "shop/items", "--dry-run"]);
    assert!(planned.contains("would forget 1 record and 2 deleted ones"), "{planned}");
    assert!(planned.contains("revisions go on from 1"), "{planned}");
    let forgotten = bridge.succeeds(&["source", "reset", "shop", "-o", "json"]);
    let forgotten: Value = serde_json::from_str(&forgotten).expect("JSON");
    assert_eq!((&forgotten["records"], &forgotten["dry_run"]), (&json!(1), &json!(false)));
    bridge.until("the first look is made again", |status| status["streams"][0]["records"] == 1);
    let (_, err) = bridge.ends(&["source", "backfill", "shop/items"], 1);
    assert!(err.contains("every poll of shop/items reads everything"), "{err}");
    let (out, _) = bridge.ends(&["problem", "retry", "record.unreadable", "shop/items", "-o", "json"], 0);
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["left"], 0);
    bridge.ends(&["why", "shop/items", "nobody"], 4);
    bridge.ends(&["why", "shop/nothing", "a"], 4);
    // The reading side answers from the database, too.
    assert_eq!(bridge.stop(), Some(0));
    assert!(bridge.succeeds(&["why", "shop/items", "z"]).contains("taken silently"));
}

#[test]
fn verify_refuses_a_field_given_twice_as_the_way_in_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "sandbox_private").expect("written");
    let verify = |file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringback"))
            .args(["verify", "--provider", "liqpay", "--request"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/fixtures/liqpay").join(file))
            .arg("--secret-file")
            .arg(&secret)
            .output()
            .expect("the program starts");
        (output.status.code(), text(&output.stdout))
    };
    let (code, out) = verify("request-pay.json");
    assert_eq!(code, Some(0), "{out}");
    let (code, out) = verify("request-repeated.json");
    assert!(code == Some(1) && out.contains("form field `data` is given more than once"), "{out}");
}
