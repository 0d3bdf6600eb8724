//! The ways that events go beside HTTP over TCP, told against the real thing each: a server on a Unix socket, a command, a file, a mail
//! server; and what is kept of an attempt for people to read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use ringback::app;
use ringback::clock::Clock;
use ringback::config;
use ringback::deliver::{Deliverer, Handlers};
use ringback::metrics::Metrics;
use ringback::model::{Attempt, AttemptResult, DeliveryState, ErrorClass, Trigger};
use ringback::store::Store;
use ringback::store::sqlite::SqliteStore;
use ringback::worker::{Heartbeat, run_loop};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

use crate::outbox;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A store with one stream and its handlers, whose deliverer runs in its loop.
pub struct Bridge {
    pub store: Arc<dyn Store>,
    pub certificates: Arc<app::Certificates>,
    folder: tempfile::TempDir,
    cancel: CancellationToken,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Bridge {
    /// One handler `h` with these keys, and more tables before it.
    pub async fn start(keys: &str, more: &str) -> Bridge {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("s.whsec"), SECRET).expect("written");
        let keys = keys.replace("{folder}", &folder.path().display().to_string());
        let text = format!("schema = 1\n{more}\n[handlers.h]\nretry = {{ schedule = [\"10ms\"] }}\n{keys}\n");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let (config, _) =
            config::load(&path).unwrap_or_else(|faults| panic!("{:?}", faults.first().map(|f| &f.message)));
        let parts = app::sources_and_handlers(&config, BTreeMap::new())
            .unwrap_or_else(|faults| panic!("{:?}", faults.first().map(|f| &f.message)));
        let clock = Clock::system();
        let store = SqliteStore::open(&folder.path().join("t.db"), clock.clone()).expect("a store");
        let store: Arc<dyn Store> = Arc::new(store);
        store.register(outbox::setup(config.handlers.keys().cloned())).await.expect("registered");
        let cancel = CancellationToken::new();
        let handlers: Handlers = parts.handlers.clone();
        let deliverer = Arc::new(Deliverer::new(store.clone(), handlers, clock.clone(), Metrics::new()));
        let (wake, heart) = (deliverer.wake(), Heartbeat::new(clock.clone()));
        tokio::spawn(run_loop("deliver", deliverer, wake, clock, cancel.clone(), heart));
        Bridge { store, certificates: parts.certificates, folder, cancel }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub async fn happens(&self, key: &str) {
        outbox::happens(&*self.store, key, &[("h", None)]).await;
    }

    /// Waits for so many attempts of the event of this key, and gives them with the delivery's state.
    pub async fn attempts(&self, key: &str, count: usize) -> (DeliveryState, Vec<Attempt>) {
        let id = format!("evt_{key}").into();
        let mut wake = self.store.wake(ringback::store::Topic::Attempts);
        let found = async {
            loop {
                wake.seen();
                let detail = self.store.event(&id).await.expect("read").expect("there");
                let delivery = detail.deliveries.into_iter().next().expect("one");
                if delivery.attempts.len() >= count {
                    return (delivery.state, delivery.attempts);
                }
                wake.rung().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found)
            .await
            .unwrap_or_else(|_| panic!("no {count} attempts of {key}"))
    }
}

/// Not at its end: between two attempts, or in the next one.
fn waits(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Pending | DeliveryState::Claimed)
}

#[tokio::test]
async fn a_handler_on_a_unix_socket_gets_signed_events_and_one_that_is_not_there_yet_costs_no_attempt() {
    let bridge = Bridge::start("url = \"unix:x.sock:/hooks/a\"\nsecret = { file = \"s.whsec\" }", "").await;
    bridge.happens("early").await;
    let (state, attempts) = bridge.attempts("early", 1).await;
    assert!(waits(state), "{state:?}");
    assert_eq!(attempts[0].result, AttemptResult::Unreachable);
    assert_eq!(attempts[0].detail.class, Some(ErrorClass::Connect));
    let listener = tokio::net::UnixListener::bind(bridge.path("x.sock")).expect("bound");
    let hear = |headers: HeaderMap, body: axum::body::Bytes| async move {
        let judge = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        judge.verify(&body, &headers).map(|()| "thanks").map_err(|_| axum::http::StatusCode::UNAUTHORIZED)
    };
    let router = Router::new().route("/hooks/a", post(hear));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (state, attempts) = bridge.attempts("early", 2).await;
    assert_eq!(state, DeliveryState::Delivered);
    let last = attempts.last().expect("there are two");
    assert_eq!((&last.answer[..], last.status), (&b"thanks"[..], Some(200)));
    let socket = bridge.path("x.sock");
    assert_eq!(last.detail.target, format!("unix:{}:/hooks/a", socket.display()));
    assert_eq!(last.detail.trigger, Trigger::Probe);
    assert!(last.detail.headers.contains(&("webhook-signature".into(), "***".into())), "{:?}", last.detail.headers);
    assert!(last.detail.timings.first_byte.is_some_and(|time| time <= last.duration), "{:?}", last.detail.timings);
}

#[tokio::test]
async fn a_commands_exit_code_is_its_answer() {
    const SCRIPT: &str = r#"#!/bin/sh
count=$(cat "$1" 2>/dev/null || echo 0); count=$((count + 1)); echo $count > "$1"
case "$count" in
  1) echo "not today" >&2; exit 9 ;;
  2) exit 75 ;;
  *) cat > "$1.body"; env | grep ^RINGBACK_ > "$1.env" ;;
esac
"#;
    let folder = tempfile::tempdir().expect("a folder");
    let (script, mark) = (folder.path().join("book.sh"), folder.path().join("mark"));
    std::fs::write(&script, SCRIPT).expect("written");
    let keys = format!(
        "exec = [\"/bin/sh\", \"{}\", \"{}\"]\nsecret = {{ file = \"s.whsec\" }}",
        script.display(),
        mark.display()
    );
    let bridge = Bridge::start(&keys, "allow_exec = true").await;
    bridge.happens("a").await;
    let (state, attempts) = bridge.attempts("a", 3).await;
    assert_eq!(state, DeliveryState::Delivered);
    let results: Vec<_> =
        attempts.iter().map(|a| (a.result, a.detail.class, a.error.clone().unwrap_or_default())).collect();
    assert_eq!(results[0], (AttemptResult::Refused, Some(ErrorClass::Command), "/bin/sh ended with 9".into()));
    assert_eq!(&attempts[0].answer[..], b"not today\n");
    let busy = "/bin/sh ended with 75: it cannot take events now".to_owned();
    assert_eq!(results[1], (AttemptResult::Refused, Some(ErrorClass::Command), busy));
    let body = std::fs::read(folder.path().join("mark.body")).expect("the body came");
    let text = std::fs::read_to_string(folder.path().join("mark.env")).expect("the environment");
    let variable = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    };
    assert_eq!((variable("RINGBACK_ID"), variable("RINGBACK_ATTEMPT")), ("evt_a".into(), "3".into()));
    assert_eq!(variable("RINGBACK_HEADER_CONTENT_TYPE"), "application/json");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", "RINGBACK_ID"),
        ("webhook-timestamp", "RINGBACK_TIMESTAMP"),
        ("webhook-signature", "RINGBACK_SIGNATURE"),
    ] {
        headers.insert(name, variable(value).parse().expect("a value"));
    }
    standardwebhooks::Webhook::new(SECRET).expect("a secret").verify(&body, &headers).expect("it is signed");
}

#[tokio::test]
async fn a_file_gets_a_line_for_each_event_and_a_folder_that_is_missing_costs_no_attempt() {
    let bridge = Bridge::start("file = \"{folder}/out/events.jsonl\"", "").await;
    bridge.happens("a").await;
    let (state, attempts) = bridge.attempts("a", 1).await;
    assert!(waits(state), "{state:?}");
    assert_eq!(attempts[0].detail.class, Some(ErrorClass::File));
    std::fs::create_dir(bridge.path("out")).expect("made");
    bridge.attempts("a", 2).await;
    for key in ["b", "c"] {
        bridge.happens(key).await;
        assert_eq!(bridge.attempts(key, 1).await.0, DeliveryState::Delivered);
    }
    let text = std::fs::read_to_string(bridge.path("out/events.jsonl")).expect("text");
    let ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is a document"))
        .map(|event| event["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids, ["evt_a", "evt_b", "evt_c"]);
    assert!(text.contains("\"amount\":10.50"), "numbers stay as they came");
}

/// What a mail server was told, line by line, and what it answers to the end of a message.
#[derive(Clone, Default)]
struct Post {
    lines: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

impl Post {
    /// A mail server as small as it can be: RFC 5321 without extensions.
    async fn serve(&self) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let post = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(post.clone().talk(stream));
            }
        });
        port
    }

    async fn talk(self, stream: tokio::net::TcpStream) {
        let (reading, mut writing) = stream.into_split();
        let mut lines = BufReader::new(reading).lines();
        let _ = writing.write_all(b"220 post.example ready\r\n").await;
        let mut inside = false;
        while let Ok(Some(line)) = lines.next_line().await {
            self.lines.lock().expect("lock").push(line.clone());
            let answer = match line.split(' ').next().unwrap_or_default() {
                "." if inside => {
                    inside = false;
                    self.answers.lock().expect("lock").pop().unwrap_or("250 taken")
                }
                _ if inside => continue,
                "DATA" => {
                    inside = true;
                    "354 go on"
                }
                "QUIT" => "221 bye",
                _ => "250 good",
            };
            if writing.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_mail_server_decides_and_the_templates_say_what_stands_in_the_message() {
    let post = Post::default();
    // The last first: a server that refuses the message, is busy, and takes it.
    post.answers.lock().expect("lock").extend(["451 later", "550 no such message"]);
    let port = post.serve().await;
    let keys = format!(
        "mail = {{ server = \"smtp+plain://127.0.0.1:{port}\", from = \"ringback@bank.example\", to = [\"Ops <ops@bank.example>\", \"two@bank.example\"], \
         subject = \"{{{{ event.type }}}}: {{{{ record.note }}}}\", body = \"{{{{ record.amount }}}} for {{{{ event.key }}}}\" }}"
    );
    let bridge = Bridge::start(&keys, "").await;
    bridge.happens("a").await;
    let (state, attempts) = bridge.attempts("a", 3).await;
    let seen: Vec<_> = attempts.iter().map(|a| (a.result, a.status, a.detail.class)).collect();
    assert_eq!(seen[1], (AttemptResult::Refused, Some(451), Some(ErrorClass::Mail)));
    assert_eq!(seen[0], (AttemptResult::Refused, Some(550), Some(ErrorClass::Mail)));
    assert_eq!((state, seen[2].0), (DeliveryState::Delivered, AttemptResult::Delivered));
    assert_eq!(attempts[2].detail.target, "mailto:ops@bank.example,two@bank.example");
    let detail = bridge.store.event(&"evt_a".into()).await.expect("read").expect("there");
    assert_eq!(detail.deliveries[0].counted, 2, "the busy answer was not counted");
    let lines = post.lines.lock().expect("lock").clone();
    let has = |wanted: &str| lines.iter().any(|line| line.starts_with(wanted));
    for wanted in [
        "MAIL FROM:<ringback@bank.example>",
        "RCPT TO:<ops@bank.example>",
        "RCPT TO:<two@bank.example>",
        "Message-ID: <evt_a@ringback>",
        "Subject: payment.created: line break",
        "10.50 for a",
    ] {
        assert!(has(wanted), "{wanted} in {lines:#?}");
    }
}

/// Neither the list nor the metadata rule is gone round by another protocol.
#[tokio::test]
async fn a_mail_server_that_may_not_be_called_is_not_called() {
    let mail = "mail = { server = \"smtp+plain://127.0.0.1:9\", from = \"a@b.example\", to = \"a@b.example\" }";
    let bridge = Bridge::start(mail, "network = { allow = [\"10.0.0.0/8\"] }").await;
    bridge.happens("a").await;
    let (state, attempts) = bridge.attempts("a", 1).await;
    assert!(waits(state), "{state:?}");
    assert_eq!(attempts[0].result, AttemptResult::NotSent);
    assert_eq!(attempts[0].detail.class, Some(ErrorClass::HostRefused));
}

#[tokio::test]
async fn an_attempt_says_where_it_went_why_and_where_its_time_did() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let refusals = Arc::new(Mutex::new(vec![302_u16, 500]));
    let answer = move || async move {
        let status = refusals.lock().expect("lock").pop().unwrap_or(204);
        axum::http::StatusCode::from_u16(status).expect("a status")
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hooks", post(answer))).await });
    let keys = format!(
        "url = \"http://localhost:{port}/hooks?token=abc\"\nsecret = {{ file = \"s.whsec\" }}\n\
         headers = {{ X-Team = \"ledger\", Authorization = \"Basic abc\" }}"
    );
    let bridge = Bridge::start(&keys, "").await;
    bridge.happens("a").await;
    let (state, attempts) = bridge.attempts("a", 2).await;
    assert_eq!(state, DeliveryState::Failed, "the schedule holds two attempts");
    let seen: Vec<_> = attempts.iter().map(|a| (a.detail.trigger, a.detail.class, a.status)).collect();
    assert_eq!(
        seen,
        [
            (Trigger::First, Some(ErrorClass::Status), Some(500)),
            (Trigger::Retry, Some(ErrorClass::Redirect), Some(302)),
        ]
    );
    let (first, second) = (&attempts[0].detail, &attempts[1].detail);
    assert_eq!(first.target, format!("http://localhost:{port}/hooks?token=***"));
    assert!(first.headers.contains(&("x-team".into(), "ledger".into())), "{:?}", first.headers);
    assert!(first.headers.contains(&("authorization".into(), "***".into())), "{:?}", first.headers);
    let (dns, connect) = (first.timings.dns.expect("it was resolved"), first.timings.connect.expect("it was made"));
    let whole = dns + connect + first.timings.first_byte.expect("it answered");
    assert!(whole <= attempts[0].duration, "{:?} of {:?}", first.timings, attempts[0].duration);
    assert_eq!((second.timings.dns, second.timings.connect), (None, None), "the connection was open already");
    bridge.happens("b").await;
    assert_eq!(bridge.attempts("b", 1).await.0, DeliveryState::Delivered);
}

/// What a reader sees of `GET /pull/<handler>`: its token, the wait for a first event, the same page until it is acknowledged.
#[tokio::test]
async fn a_reader_asks_with_the_handlers_secret_and_waits_for_a_first_event() {
    let bridge = Bridge::start("pull = true\nsecret = { file = \"s.whsec\" }", "").await;
    let secret = ringback::secret::Secret::new(SECRET);
    let mut readers = ringback::pull::Readers::default();
    readers.admit(&"h".into(), vec![secret], Vec::new());
    let (private, public) = ringback::signature::fresh_pair().expect("random bytes");
    readers.publish(&"other".into(), &[ringback::secret::Secret::new(private)]);
    let desk = Arc::new(ringback::pull::Desk::new(bridge.store.clone(), Metrics::new(), readers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let router = ringback::pull::router(desk.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let get = async |path: &str, token: &str| {
        let answer = client.get(format!("{base}{path}")).bearer_auth(token).send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        (status, serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), text)
    };
    for (path, token, status) in [
        ("/pull/h", "wrong", 401),
        ("/pull/nobody", SECRET, 401),
        ("/pull/h?max=0", SECRET, 400),
        ("/status", SECRET, 404),
        ("/pull/h", SECRET, 200),
    ] {
        assert_eq!(get(path, token).await.0, status, "{path}");
    }
    let waiting = get("/pull/h?wait=30s", SECRET);
    let (page, ()) = tokio::join!(waiting, bridge.happens("a"));
    let (_, page, text) = page;
    assert_eq!((&page["events"][0]["id"], &page["events"][0]["type"]), (&"evt_a".into(), &"payment.created".into()));
    assert!(text.contains("\"amount\":10.50"), "records go out as they came: {text}");
    assert_eq!(page["cursor"], page["events"][0]["position"]);
    assert_eq!(get("/pull/h", SECRET).await.1, page, "the same until it is acknowledged");
    let (_, empty, _) = get(&format!("/pull/h?after={}", page["cursor"]), SECRET).await;
    assert_eq!((empty["events"].as_array().map(Vec::len), &empty["cursor"]), (Some(0), &page["cursor"]));
    assert_eq!(bridge.attempts("a", 1).await.0, DeliveryState::Delivered);
    let (_, keys, _) = get("/.well-known/webhook-keys", "").await;
    assert_eq!((&keys["keys"][0]["handler"], &keys["keys"][0]["key"]), (&"other".into(), &public.into()));
    assert!(keys["keys"].as_array().is_some_and(|keys| keys.len() == 1), "shared secrets are nobody's business");
    let begun = std::time::Instant::now();
    let ask = format!("/pull/h?wait=50s&after={}", page["cursor"]);
    let (waiting, ()) = tokio::join!(get(&ask, SECRET), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        desk.stop();
    });
    assert_eq!((waiting.0, waiting.1["events"].as_array().map(Vec::len)), (200, Some(0)));
    assert!(begun.elapsed() < Duration::from_secs(20), "a stop does not wait for those who wait");
}
