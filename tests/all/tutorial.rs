//! The tutorial, played: its files as they stand on the page, against an API and a handler that know nothing of Ringback. A provider that
//! is not in the catalogue, with OAuth client credentials, XML, `Link` headers, and an HMAC over timestamp, method, address and body.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/tutorial.md");
const ID: &str = "client-1";
const SECRET: &str = "client secret/+";
const SIGNING: &str = "acme-signing-secret";

/// The blocks of the page that are files, by name.
fn files() -> BTreeMap<&'static str, &'static str> {
    let blocks = PAGE.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.split_once('\n'))
        .filter_map(|(head, text)| Some((head.split_once(' ')?.1, text)))
        .collect()
}

fn acme_signature(timestamp: &str, url: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SIGNING.as_bytes()).expect("any length");
    mac.update(format!("{timestamp}POST{url}").as_bytes());
    mac.update(body);
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[derive(Clone, Debug)]
struct Entry {
    id: &'static str,
    status: &'static str,
    made: String,
    changed: String,
}

/// A moment so many minutes from now, as Acme writes it.
fn minute(from_now: i64) -> String {
    (chrono::Utc::now() + chrono::Duration::minutes(from_now)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An entry that was there before anybody looked, or one that is made after.
fn entry(id: &'static str, status: &'static str, old: bool, changed: i64) -> Entry {
    Entry { id, status, made: minute(if old { -60 } else { 1 }), changed: minute(changed) }
}

/// Acme, and the two handlers.
#[derive(Default)]
struct Acme {
    entries: Vec<Entry>,
    tokens: u32,
    pages: u32,
    heard: Vec<Value>,
    legacy: Vec<Value>,
    faults: Vec<String>,
    address: Option<SocketAddr>,
    whsec: String,
}

type World = Arc<Mutex<Acme>>;

async fn token(State(world): State<World>, headers: HeaderMap, body: String) -> Response {
    let mut acme = world.lock().expect("no panic");
    // As the standard has it: both are form-encoded before they are joined.
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", encoded(ID), encoded(SECRET)));
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let fields: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    if given != format!("Basic {pair}") || fields.get("grant_type").map(String::as_str) != Some("client_credentials") {
        acme.faults.push(format!("a token was asked for with {given} and {body}"));
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if fields.get("scope").map(String::as_str) != Some("ledger.read") {
        acme.faults.push(format!("no scope in {body}"));
    }
    acme.tokens += 1;
    axum::Json(json!({ "access_token": format!("T-{}", acme.tokens), "token_type": "Bearer", "expires_in": 3600 }))
        .into_response()
}

async fn entries(
    State(world): State<World>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut acme = world.lock().expect("no panic");
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given != format!("Bearer T-{}", acme.tokens) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let since = query.get("since").cloned().unwrap_or_default();
    let (size, page) =
        (query["size"].parse::<usize>().expect("a size"), query.get("page").map_or(0, |n| n.parse().expect("a page")));
    let mut found: Vec<Entry> = acme.entries.iter().filter(|entry| entry.changed >= since).cloned().collect();
    found.sort_by_key(|entry| entry.changed.clone());
    acme.pages = acme.pages.max(page as u32 + 1);
    let more = found.len() > (page + 1) * size;
    let shown: String = found.iter().skip(page * size).take(size).map(xml).collect();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a:ledger xmlns:a=\"urn:acme:ledger\"><a:entries>{shown}</a:entries></a:ledger>"
    );
    let address = acme.address.expect("it listens");
    let next: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("since", &since)
        .append_pair("size", &size.to_string())
        .append_pair("page", &(page + 1).to_string())
        .finish();
    let mut answer = ([("content-type", "application/xml")], body).into_response();
    if more {
        let link = format!("<http://{address}/v2/entries?{next}>; rel=\"next\"");
        answer.headers_mut().insert("link", link.parse().expect("a header"));
    }
    answer
}

fn xml(entry: &Entry) -> String {
    format!(
        "<a:entry id=\"{}\"><a:account>UA21</a:account><a:amount currency=\"UAH\">12500.00</a:amount><a:status>{}</a:status>\
         <a:made>{}</a:made><a:changed>{}</a:changed></a:entry>",
        entry.id, entry.status, entry.made, entry.changed
    )
}

async fn hooks(State(world): State<World>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut acme = world.lock().expect("no panic");
    let judge = standardwebhooks::Webhook::new(acme.whsec.trim()).expect("a good secret");
    if let Err(error) = judge.verify(&body, &headers) {
        acme.faults.push(format!("the official library refuses: {error}"));
        return StatusCode::UNAUTHORIZED;
    }
    acme.heard.push(serde_json::from_slice(&body).expect("JSON"));
    StatusCode::NO_CONTENT
}

/// Written for Acme's own webhooks.
async fn legacy(State(world): State<World>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut acme = world.lock().expect("no panic");
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = format!("http://{}/acme", acme.address.expect("it listens"));
    if acme_signature(header("x-acme-timestamp"), &url, &body) != header("x-acme-signature") {
        acme.faults.push(format!("Acme's own check refuses {headers:?}"));
        return StatusCode::UNAUTHORIZED;
    }
    acme.legacy.push(serde_json::from_slice(&body).expect("JSON"));
    StatusCode::NO_CONTENT
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ringback(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("NOTIFY_SOCKET")
        .env_remove("RUNTIME_DIRECTORY");
    for name in ["RINGBACK_CONFIG", "RINGBACK_SOCKET", "RINGBACK_OUTPUT", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = ringback(folder, arguments).output().expect("the program starts");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr()).expect("a port").port()
}

/// The files of the page in a folder, with the addresses of this machine in place of Acme's.
fn set_up(folder: &Path, address: SocketAddr, receive: u16) {
    let files = files();
    assert!(files.len() >= 5, "{:?}", files.keys());
    std::fs::create_dir(folder.join("fixtures")).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let config = std::fs::read_to_string(folder.join("config.toml")).expect("the page has it");
    let config = config
        .replace("[receive]\n", &format!("[admin]\nlisten = \"off\"\n[receive]\nlisten = \"127.0.0.1:{receive}\"\n"))
        .replace(
            "provider = \"./acme.toml\"\n",
            &format!(
                "provider = \"./acme.toml\"\nbase_url = \"http://{address}\"\nsettings = {{ token_url = \"http://{address}/oauth/token\" }}\n"
            ),
        )
        .replace("http://127.0.0.1:9000/", &format!("http://{address}/"))
        .replace("every = \"30s\"", "every = \"100ms\", every_healthy = \"100ms\"");
    std::fs::write(folder.join("config.toml"), config).expect("written");
    for (name, text) in [("acme.id", ID), ("acme.secret", SECRET), ("acme.signing", SIGNING)] {
        std::fs::write(folder.join(name), text).expect("written");
    }
}

/// Waits until it is so; what is wrong meanwhile ends the wait.
async fn until(world: &World, folder: &Path, what: &str, so: impl Fn(&Acme) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        {
            let acme = world.lock().expect("no panic");
            assert!(acme.faults.is_empty(), "{:?}", acme.faults);
            if so(&acme) {
                return;
            }
            let log = || std::fs::read_to_string(folder.join("daemon.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "never: {what}; heard {:?}\n{}", acme.heard, log());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn told(acme: &[Value]) -> Vec<String> {
    acme.iter()
        .map(|event| format!("{} {}", event["type"].as_str().unwrap_or("?"), event["key"].as_str().unwrap_or("?")))
        .collect()
}

async fn post_webhook(receive: u16, body: &str, signature: Option<&str>) -> u16 {
    let timestamp =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs().to_string();
    let right = acme_signature(&timestamp, "https://hooks.bank.example/webhooks/acme", body.as_bytes());
    let request = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{receive}/webhooks/acme"))
        .header("content-type", "application/json")
        .header("x-acme-timestamp", timestamp)
        .header("x-acme-signature", signature.unwrap_or(&right))
        .body(body.to_owned());
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tutorial_holds_what_it_says() {
    let world = World::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new()
        .route("/oauth/token", post(token))
        .route("/v2/entries", get(entries))
        .route("/hooks", post(hooks))
        .route("/acme", post(legacy))
        .with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (folder, receive) = (tempfile::tempdir().expect("a folder"), free_port());
    let folder = folder.path();
    set_up(folder, address, receive);

    let tested = succeeds(folder, &["provider", "test", "acme.toml"]);
    assert!(tested.contains("4 passed, 0 failed"), "{tested}");
    succeeds(folder, &["secret", "new", "--file", "billing.whsec"]);
    let checked = succeeds(folder, &["check"]);
    assert!(!checked.contains("warning"), "{checked}");
    {
        let mut acme = world.lock().expect("no panic");
        acme.address = Some(address);
        acme.whsec = std::fs::read_to_string(folder.join("billing.whsec")).expect("made");
        acme.entries = ["E-1", "E-2", "E-3"].map(|id| entry(id, "pending", true, -60)).to_vec();
    }
    let looked = succeeds(folder, &["poll", "acme/entries", "--dry-run"]);
    assert!(looked.contains("3"), "{looked}");

    let log = std::fs::File::create(folder.join("daemon.log")).expect("a log");
    let _daemon = Daemon(ringback(folder, &["run"]).stdout(Stdio::null()).stderr(log).spawn().expect("it starts"));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = ringback(folder, &["status", "-o", "json", "-q"]).output().expect("the program starts");
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        if status["running"] == true && status["streams"][0]["phase"] == "live" {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "no first look: {status}\n{}",
            std::fs::read_to_string(folder.join("daemon.log")).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // What changed is told in the order of its account, over three pages.
    {
        let mut acme = world.lock().expect("no panic");
        assert_eq!(acme.heard, Vec::<Value>::new(), "the first look says nothing");
        acme.entries[0] = entry("E-1", "booked", true, -20);
        for (id, changed) in [("E-4", -19), ("E-5", -18), ("E-6", -17)] {
            acme.entries.push(entry(id, "pending", false, changed));
        }
    }
    until(&world, folder, "four changes", |acme| acme.heard.len() >= 4 && acme.legacy.len() >= 4).await;
    // A webhook comes before the list knows; one whose signature is wrong is refused.
    let seventh = entry("E-7", "pending", false, -16);
    let record = json!({ "@id": "E-7", "account": "UA21", "amount": { "@currency": "UAH", "#text": "12500.00" }, "status": "pending",
        "made": seventh.made, "changed": seventh.changed });
    let body = json!({ "id": "m-7", "kind": "entry", "entry": record }).to_string();
    assert_eq!(post_webhook(receive, &body, Some("v1=00")).await, 401);
    assert_eq!(post_webhook(receive, &body, None).await, 200);
    until(&world, folder, "the webhook's entry", |acme| acme.heard.len() >= 5 && acme.legacy.len() >= 5).await;
    // The list tells the same entry now, and one more: only that one is news.
    {
        let mut acme = world.lock().expect("no panic");
        acme.entries.push(seventh);
        acme.entries.push(entry("E-8", "pending", false, -15));
    }
    until(&world, folder, "the last one", |acme| acme.heard.len() >= 6 && acme.legacy.len() >= 6).await;

    let acme = world.lock().expect("no panic");
    assert_eq!(
        told(&acme.heard),
        [
            "entry.booked E-1",
            "entry.created E-4",
            "entry.created E-5",
            "entry.created E-6",
            "entry.created E-7",
            "entry.created E-8"
        ]
    );
    assert_eq!(
        acme.heard[0]["data"]["amount"],
        json!({ "@currency": "UAH", "#text": "12500.00" }),
        "digits as they were sent"
    );
    assert_eq!(acme.heard[4]["seen"]["by"], "webhook");
    assert!(acme.pages >= 2, "the pages were not followed");
    assert_eq!(acme.tokens, 2, "one for the look by hand and one for the daemon: a token is kept while it holds");
    let ids: Vec<&Value> = acme.legacy.iter().map(|message| &message["entry"]["@id"]).collect();
    assert_eq!(ids, ["E-1", "E-4", "E-5", "E-6", "E-7", "E-8"]);
}
