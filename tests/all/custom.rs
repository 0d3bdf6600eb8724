//! Handlers without code: an event becomes a chat message, a lead, a row of a sheet, by templates of the configuration alone.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

const PROVIDER: &str = r#"schema = 1
name = "bank"
base_url = "http://localhost"
settings.branch = "which branch"
[streams.payments]
path    = "/payments"
records = "."
key     = ".id"
detect  = "snapshot"
types   = { created = "payment.created" }
"#;

const HANDLERS: &str = r#"
[handlers.telegram]
url     = "ADDRESS/bot{{ secrets.token }}/sendMessage"
format  = "custom"
secrets = { token = { file = "telegram.token" } }
json    = { chat_id = 42, text = "{{ record.payer.name }} paid {{ record.amount }}", silent = "{{ record.silent }}", missing = "{{ record.nothing }}" }

[handlers.slack]
url     = "ADDRESS/api/chat.postMessage"
format  = "custom"
secrets = { token = { file = "slack.token" } }
headers = { Authorization = "Bearer {{ secrets.token }}", X-Event = "{{ event.id }}" }
json    = { channel = "C1", text = "{{ event.type }} {{ event.key }} of {{ settings.branch }}", blocks = [{ type = "divider" }] }

[handlers.crm]
url     = "ADDRESS/leads/{{ event.key }}?from={{ record.payer.name }}"
format  = "custom"
method  = "PUT"
secrets = { key = { file = "crm.key" } }
headers = { X-Api-Key = "{{ secrets.key }}" }
form    = { name = "{{ record.payer.name }}", tag = ["payment", "{{ record.currency | lower }}"], amount = "{{ record.amount }}" }

[handlers.sheet]
url     = "ADDRESS/sheet/append"
format  = "custom"
headers = { Content-Type = "text/csv" }
body    = """
{{ event.kind | upper }};{{ record.id }};{{ record.payer.name | json }};{{ record.amount }}\r
"""

[handlers.signed]
url     = "ADDRESS/signed"
format  = "custom"
secret  = { file = "signed.whsec" }
json    = "{{ record }}"

[handlers.plain]
url     = "ADDRESS/plain"
secret  = { file = "signed.whsec" }
headers = { X-Kind = "{{ event.kind }}", X-Amount = "{{ record.amount }}", X-Env = "prod", X-None = "{{ record.nothing }}" }
"#;

const SECRETS: [(&str, &str); 4] = [
    ("telegram.token", "123456:AAH-secret/tele gram"),
    ("slack.token", "xoxb-secret-slack"),
    ("crm.key", "crm-secret-key"),
    ("signed.whsec", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
];

#[derive(Clone, Debug)]
struct Got {
    method: String,
    target: String,
    headers: axum::http::HeaderMap,
    body: Bytes,
}

/// Serves the payments, and takes whatever is sent; the first of each address is refused.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Vec<Got>>>);

async fn take(State(world): State<World>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let target = parts.uri.to_string();
    let mut taken = world.0.lock().expect("no panic");
    let first = !taken.iter().any(|got| got.target == target);
    taken.push(Got { method: parts.method.to_string(), target, headers: parts.headers, body });
    if first { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

async fn payments() -> axum::Json<Value> {
    axum::Json(
        json!([{ "id": "P 1", "amount": 12.5, "currency": "UAH", "silent": true, "payer": { "name": "Їжак \"X\" & co" } }]),
    )
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.current_dir(folder).stdin(Stdio::null()).env_remove("NOTIFY_SOCKET").env_remove("RUNTIME_DIRECTORY");
    for name in ["RINGBACK_CONFIG", "RINGBACK_SOCKET", "RINGBACK_OUTPUT", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

fn json_of(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap_or_else(|error| panic!("{error}: {:?}", got.body))
}

fn header<'g>(got: &'g Got, name: &str) -> &'g str {
    got.headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_becomes_a_chat_message_a_lead_and_a_row_and_no_secret_is_kept_of_it() {
    let world = World::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/payments", get(payments)).fallback(take).with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("bank.toml", PROVIDER);
    SECRETS.iter().for_each(|(name, text)| write(name, text));
    let handlers = HANDLERS.replace("ADDRESS", &format!("http://{address}"));
    write(
        "config.toml",
        &format!(
            "schema = 1\nadmin = {{ listen = \"off\" }}\n[defaults.handler]\nretry = {{ schedule = [\"100ms\"] }}\n[sources.bank]\n\
             provider = \"./bank.toml\"\nbase_url = \"http://{address}\"\nsettings = {{ branch = \"Lviv\" }}\n\
             streams.payments = {{ every = \"1h\", first_run = \"send-all\" }}\n{handlers}"
        ),
    );
    let checked = program(folder.path()).arg("check").output().expect("the program starts");
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && !told.contains("warning"), "{told}");

    let log = folder.path().join("daemon.log");
    let stderr = std::fs::File::create(&log).expect("a log");
    let daemon =
        Daemon(program(folder.path()).arg("run").stdout(Stdio::null()).stderr(stderr).spawn().expect("it starts"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.0.lock().expect("no panic").len() < 12 {
        assert!(
            Instant::now() < deadline,
            "{:?}\n{}",
            world.0.lock(),
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let taken = world.0.lock().expect("no panic").clone();
    let of = |path: &str| {
        let both: Vec<&Got> = taken.iter().filter(|got| got.target.contains(path)).collect();
        assert_eq!(both.len(), 2, "{path}: an attempt that was refused and one that was not: {taken:?}");
        both[1].clone()
    };

    let telegram = of("sendMessage");
    assert_eq!((telegram.method.as_str(), header(&telegram, "content-type")), ("POST", "application/json"));
    assert_eq!(telegram.target, "/bot123456%3AAAH-secret%2Ftele%20gram/sendMessage");
    // What the record does not have is left out; a number stays one.
    assert_eq!(json_of(&telegram), json!({ "chat_id": 42, "text": "Їжак \"X\" & co paid 12.5", "silent": true }));
    assert!(!telegram.headers.contains_key("webhook-id"), "nothing is signed without a secret");

    let slack = of("chat.postMessage");
    assert_eq!(header(&slack, "authorization"), "Bearer xoxb-secret-slack");
    assert!(header(&slack, "x-event").starts_with("evt_"));
    assert_eq!(
        json_of(&slack),
        json!({ "channel": "C1", "text": "payment.created P 1 of Lviv", "blocks": [{ "type": "divider" }] })
    );

    let crm = of("/leads/");
    assert_eq!((crm.method.as_str(), header(&crm, "x-api-key")), ("PUT", "crm-secret-key"));
    assert_eq!(crm.target, "/leads/P%201?from=%D0%87%D0%B6%D0%B0%D0%BA%20%22X%22%20%26%20co");
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&crm.body).into_owned().collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let tags = fields.iter().filter(|(name, _)| *name == "tag").map(|(_, value)| *value).collect::<Vec<_>>();
    assert_eq!(tags, ["payment", "uah"]);
    assert!(fields.contains(&("name", "Їжак \"X\" & co")) && fields.contains(&("amount", "12.5")), "{fields:?}");

    let sheet = of("/sheet/");
    assert_eq!(header(&sheet, "content-type"), "text/csv");
    assert_eq!(sheet.body, "CREATED;P 1;\"Їжак \\\"X\\\" & co\";12.5\r\n");

    let judge = standardwebhooks::Webhook::new(SECRETS[3].1).expect("a good secret");
    let signed = of("/signed");
    judge.verify(&signed.body, &signed.headers).expect("with a secret a custom request is signed as well");
    assert_eq!(json_of(&signed)["id"], "P 1");
    let plain = of("/plain");
    judge.verify(&plain.body, &plain.headers).expect("signed");
    assert_eq!(
        (header(&plain, "x-kind"), header(&plain, "x-amount"), header(&plain, "x-env")),
        ("created", "12.5", "prod")
    );
    assert!(!plain.headers.contains_key("x-none"), "what the event does not have makes no header");

    let id = header(&slack, "x-event").to_owned();
    let shown = program(folder.path()).args(["event", "show", &id, "-o", "json"]).output().expect("the program starts");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("answered 500"), "{shown}");
    drop(daemon);
    let mut kept = vec![shown, std::fs::read_to_string(&log).expect("a log")];
    for entry in std::fs::read_dir(folder.path().join("data")).expect("the data").flatten() {
        kept.push(String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()).into_owned());
    }
    assert!(kept.len() > 2, "the database was not found");
    for word in ["AAH-secret", "secret-slack", "crm-secret", "C2FVsBQIhrscChlQ"] {
        assert!(kept.iter().all(|text| !text.contains(word)), "{word} was kept somewhere");
    }
}

/// Every example in the documentation of delivery is a configuration that is right, without a warning.
#[test]
fn the_examples_in_the_documentation_are_right() {
    let text = include_str!("../../docs/delivery.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5, "only {} examples were found", examples.len());
    let folder = tempfile::tempdir().expect("a folder");
    for example in examples {
        let path = folder.path().join("config.toml");
        let core = "[sources.core]\nprovider = \"core-banking\"\nsecrets = { user = { env = \"U\" }, password = { env = \"P\" } }\n";
        std::fs::write(&path, format!("schema = 1\n{core}{example}")).expect("written");
        let told = match ringback::config::load(&path) {
            Ok((_, warnings)) => warnings,
            Err(faults) => faults,
        };
        let told = told.iter().map(|fault| fault.message.as_str());
        // What this build leaves out is told by every example of it, and is right all the same.
        let told: Vec<&str> = told.filter(|message| !message.contains("was built without")).collect();
        assert!(told.is_empty(), "{told:?} in\n{example}");
    }
}
