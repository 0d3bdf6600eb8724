//! Real webhooks a second: verified, stored once, synced, answered. Beside two raw limits measured in the same run: what the
//! same accept loop answers when nothing is stored, and what the database commits. `cargo bench --bench receive`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringback::clock::Clock;
use ringback::metrics::Metrics;
use ringback::receive::{Limits, Receiver, serve};
use ringback::secret::Secret;
use ringback::signature::Request;
use ringback::source::Sources;
use ringback::store::sqlite::SqliteStore;
use ringback::store::{Setup, Store, StreamSetup};
use rusqlite::{Connection, params};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 64;
const EACH: usize = 1_500;

const PROVIDER: &str = r#"
schema   = 1
base_url = "http://127.0.0.1:1"
[streams.events]
key    = ".id"
detect = "new"
[[webhook.signature]]
type   = "hmac"
header = "X-Hub-Signature-256"
value  = "sha256={{ signature }}"
[[webhook.messages]]
when    = '$headers["x-event"] == "issues"'
stream  = "events"
id      = '$headers["x-delivery"]'
[[webhook.messages]]
stream  = "events"
id      = '$headers["x-delivery"]'
"#;

const CONFIG: &str = r#"
schema = 1
[receive]
rate = "1000000000/s"
[sources.hub]
provider = "./provider.toml"
webhook  = { secret = { file = "secret" } }
"#;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let raw = median(raw_group_commit);
    println!("raw limit: one table, {CONNECTIONS} rows a commit, FULL        {raw:>10.0} rows/s");
    let refused = median(|| runtime.block_on(post(false)));
    println!("raw limit: read, verified, refused; nothing stored       {refused:>10.0}/s");
    let stored = median(|| runtime.block_on(post(true)));
    println!(
        "verified, stored once, synced, answered                  {stored:>10.0}/s   {:.2} and {:.2} of raw",
        stored / raw,
        stored / refused
    );
}

fn median(mut round: impl FnMut() -> f64) -> f64 {
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

fn folder() -> tempfile::TempDir {
    // Beside the build, as /tmp may lie in memory.
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a folder")
}

fn body() -> String {
    format!(r#"{{"id":"P-1","text":"{}"}}"#, "x".repeat(1_000))
}

fn raw_group_commit() -> f64 {
    let folder = folder();
    let conn = Connection::open(folder.path().join("raw.db")).expect("opens");
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL)",
    )
    .expect("a table");
    let (body, commits, started) = (body(), 400, Instant::now());
    for commit in 0..commits {
        conn.execute_batch("BEGIN").expect("begins");
        let mut insert = conn.prepare_cached("INSERT INTO t (name, body) VALUES (?1, ?2)").expect("prepares");
        for row in 0..CONNECTIONS {
            insert.execute(params![delivery(commit, row), body]).expect("inserts");
        }
        conn.execute_batch("COMMIT").expect("commits");
    }
    (commits * CONNECTIONS) as f64 / started.elapsed().as_secs_f64()
}

/// Message ids in no order, as providers give them.
fn delivery(connection: usize, n: usize) -> String {
    format!("{:016x}", ((connection as u64) << 32 | n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Starts a receiver, posts from all connections at once, and counts the answers a second.
async fn post(signed: bool) -> f64 {
    let folder = folder();
    for (name, text) in [("provider.toml", PROVIDER), ("config.toml", CONFIG), ("secret", "a secret")] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let (config, _) = ringback::config::load(&folder.path().join("config.toml")).expect("a good config");
    let (sources, _) = ringback::source::join_all(&config, true).expect("good sources");
    let store = SqliteStore::open(&folder.path().join("ringback.db"), Clock::system()).expect("the store opens");
    store.register(setup(&sources)).await.expect("registered");
    let store: Arc<dyn Store> = Arc::new(store);
    let receiver = Receiver::new(&sources, store, Clock::system(), Metrics::new(), config.receive.rate, 1 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let cancel = CancellationToken::new();
    let serving = tokio::spawn(serve(Arc::new(receiver), listener.into(), Limits::default(), cancel.clone()));
    let body = body();
    let signature = if signed { signature(&sources, &body) } else { format!("sha256={}", "0".repeat(64)) };
    let head = format!(
        "POST /webhooks/hub HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\ncontent-type: application/json\r\nx-event: issues\r\nx-hub-signature-256: {signature}\r\ncontent-length: {}\r\n",
        body.len()
    );
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        clients.spawn(client(address, connection, head.clone(), body.clone(), if signed { b'2' } else { b'4' }));
    }
    clients.join_all().await;
    let rate = (CONNECTIONS * EACH) as f64 / started.elapsed().as_secs_f64();
    cancel.cancel();
    serving.await.expect("it stops");
    rate
}

fn setup(sources: &Sources) -> Setup {
    let mut setup = Setup::default();
    for stream in sources.values().flat_map(|source| &source.streams) {
        setup
            .streams
            .push(StreamSetup { first_due_in: Duration::from_secs(3600), ..ringback::ingest::stream_setup(stream) });
    }
    setup
}

fn signature(sources: &Sources, body: &str) -> String {
    let source = &sources["hub"];
    let scheme = source.webhook.as_ref().and_then(|webhook| webhook.scheme.clone()).expect("a scheme");
    let request =
        Request { method: "POST", url: None, headers: &[], body: body.as_bytes(), settings: &source.settings };
    let clock = Clock::system();
    let added = scheme.sign(&request, &[Secret::new("a secret")], clock.now()).expect("signed");
    added.headers[0].1.clone()
}

async fn client(address: SocketAddr, connection: usize, head: String, body: String, class: u8) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut answer = vec![0; 4_096];
    for n in 0..EACH {
        let request = format!("{head}x-delivery: {}\r\n\r\n{body}", delivery(connection, n));
        stream.write_all(request.as_bytes()).await.expect("sent");
        // Answers are small: one read holds one answer.
        let read = stream.read(&mut answer).await.expect("an answer");
        assert!(read > 12 && answer[9] == class, "{}", String::from_utf8_lossy(&answer[..read]));
    }
}
