//! The four parts, each as a story: set the world, let the program work, print what it did beside what the machine can do.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::program::{Program, memory};
use crate::server::{PAGE, World, serve};

const ROUNDS: usize = 5;
const EVENTS: u64 = 50_000;
const RECORDS: u64 = 1_000_000;
const STREAMS: usize = 100;
const IN_FLIGHT: usize = 64;

pub const PROVIDER: &str = r#"
schema   = 1
base_url = "http://127.0.0.1:1"
[streams.payments]
path       = "/records"
query      = { page = "{{ page.number }}" }
records    = ".data"
key        = ".id"
detect     = "DETECT"
stable     = true
pagination = { type = "page", first = 1, size = 1000, more = ".more" }
"#;

pub const CONFIG: &str = r#"
schema   = 1
data_dir = "data"
min_free = "1MiB"
[admin]
listen = "off"
[defaults.stream]
every       = "1h"
max_per_run = 10000000
[sources.bank]
provider = "./provider.toml"
base_url = "http://{server}"
"#;

pub const HANDLER: &str = r#"
[handlers.ledger]
url         = "http://{server}/sink"
secret      = { file = "secret" }
concurrency = 64
"#;

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Polled change → stored → signed → accepted by the handler, events a second over a burst: of a stream listed oldest first, whose
/// pages commit as they come, and of a whole listing, which goes through the run journal so that a guard could still hold it.
pub async fn pipeline() {
    let config = CONFIG.replace("\"1h\"", "\"1h\"\nfirst_run = \"send-all\"") + HANDLER;
    let ordered = PROVIDER.replace("DETECT", "changed").replace(
        "pagination",
        "cursor     = { field = \".updated\", type = \"number\", order = \"asc\", start = \"all\" }\npagination",
    );
    let snapshot = PROVIDER.replace("DETECT", "snapshot");
    let (mut rates, mut posts, mut commits, mut peak) = ([vec![], vec![]], vec![], vec![], 0.0_f64);
    for _ in 0..ROUNDS {
        for (provider, rates) in [&ordered, &snapshot].into_iter().zip(&mut rates) {
            let world = Arc::new(World::default());
            world.records.store(EVENTS, Ordering::Relaxed);
            let server = serve(world.clone()).await;
            posts.push(raw_posts(server).await);
            world.want(EVENTS);
            commits.push(raw_group_commit());
            let mut program = Program::new(provider, &config, server);
            program.start();
            let begun = Instant::now();
            poke(&program);
            let all = tokio::time::timeout(Duration::from_secs(120), world.all_taken.notified()).await;
            assert!(all.is_ok(), "{} of {EVENTS} came\n{}", world.taken.load(Ordering::Relaxed), program.log());
            rates.push(EVENTS as f64 / begun.elapsed().as_secs_f64());
            peak = peak.max(program.memory("VmHWM"));
            program.stop();
        }
    }
    let ([ordered, snapshot], posts, commits) = (rates.map(median), median(posts), median(commits));
    println!("raw limit: POST of one event, {IN_FLIGHT} in flight, nothing stored   {posts:>10.0}/s");
    println!("raw limit: one table, {IN_FLIGHT} rows a commit, FULL              {commits:>10.0} rows/s");
    for (what, rate) in [("oldest first", ordered), ("a whole listing", snapshot)] {
        let (of_posts, of_commits) = (rate / posts, rate / commits);
        println!(
            "polled change, stored, signed, accepted: {what:<16}{rate:>10.0}/s   {of_posts:.2} and {of_commits:.2} of raw; peak {peak:.0} MiB"
        );
    }
}

/// Asks for a poll now: the first look of a stream would wait for its phase.
pub fn poke(program: &Program) {
    let child = Command::new(env!("CARGO_BIN_EXE_ringback"))
        .args(["poll", "bank", "-c"])
        .arg(program.path("config.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("it starts");
    std::thread::spawn(move || child.wait());
}

/// A snapshot of a million records: the first look, then one that finds nothing new. The time is that of the daemon's own log.
pub async fn snapshot() {
    let world = Arc::new(World::default());
    world.records.store(RECORDS, Ordering::Relaxed);
    let server = serve(world.clone()).await;
    let mut program = Program::new(&PROVIDER.replace("DETECT", "snapshot"), CONFIG, server);
    let (mut raws, mut rates, mut peak) = (vec![], vec![], 0.0_f64);
    program.start();
    let first = RECORDS as f64 / program.polled().await;
    let first_peak = program.memory("VmHWM");
    for _ in 0..3 {
        program.stop();
        raws.push(raw_read(server).await);
        program.start();
        poke(&program);
        rates.push(RECORDS as f64 / program.polled().await);
        peak = peak.max(program.memory("VmHWM"));
    }
    let (raw, rate) = (median(raws), median(rates));
    println!(
        "snapshot, first look                                     {first:>10.0} records/s, peak {first_peak:.0} MiB"
    );
    println!("raw limit: read, sliced and hashed, no store             {raw:>10.0} records/s");
    println!(
        "snapshot, nothing changed                                {rate:>10.0} records/s   {:.2} of raw; peak {peak:.0} MiB",
        rate / raw
    );
}

/// From the start of the process until it tells systemd that it is ready, with 100 streams and a database.
pub async fn ready() {
    let mut program = many_streams().await;
    let fresh = program.start();
    program.stop();
    let (mut raws, mut times) = (vec![], vec![]);
    for _ in 0..2 * ROUNDS + 1 {
        let begun = Instant::now();
        let version = Command::new(env!("CARGO_BIN_EXE_ringback")).arg("version").stdout(Stdio::null()).status();
        assert!(version.expect("it runs").success());
        raws.push(begun.elapsed().as_secs_f64() * 1e3);
        times.push(program.start().as_secs_f64() * 1e3);
        program.stop();
    }
    let (raw, time) = (median(raws), median(times));
    println!("raw limit: `ringback version`, start to end               {raw:>10.1} ms");
    println!(
        "ready with {STREAMS} streams                                   {time:>10.1} ms   {:.1} of raw; {:.1} ms with a new database",
        time / raw,
        fresh.as_secs_f64() * 1e3
    );
}

/// The memory of a daemon with 100 streams that have all been polled and now wait.
pub async fn idle() {
    let raw = raw_memory();
    let mut program = many_streams().await;
    program.start();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (now, peak) = (program.memory("VmRSS"), program.memory("VmHWM"));
    program.stop();
    println!("raw limit: the same binary as `ringback listen`          {raw:>10.1} MiB");
    println!(
        "idle with {STREAMS} streams, each polled every 2 s            {now:>10.1} MiB   {:.1} of raw; peak {peak:.1} MiB",
        now / raw
    );
}

async fn many_streams() -> Program {
    let world = Arc::new(World::default());
    world.records.store(10, Ordering::Relaxed);
    let server = serve(world).await;
    let mut config = CONFIG
        .replace("\"1h\"", "\"2s\"")
        .replace("[sources.bank]\nprovider = \"./provider.toml\"\nbase_url = \"http://{server}\"\n", "");
    for number in 0..STREAMS {
        config += &format!("[sources.s{number}]\nprovider = \"./provider.toml\"\nbase_url = \"http://{server}\"\n");
    }
    Program::new(&PROVIDER.replace("DETECT", "snapshot"), &(config + HANDLER), server)
}

fn raw_memory() -> f64 {
    let listener = Command::new(env!("CARGO_BIN_EXE_ringback"))
        .args(["listen", "--port", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut listener = listener.expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    let figure = memory(listener.id(), "VmRSS").expect("it runs");
    let _ = listener.kill();
    let _ = listener.wait();
    figure
}

async fn raw_posts(server: SocketAddr) -> f64 {
    let body = "x".repeat(1_400);
    let head = "POST /sink HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nwebhook-id: evt_0123456789abcdef\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: v1,0123456789012345678901234567890123456789012=\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let (each, begun) = (1_000, Instant::now());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let request = request.clone();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(server).await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            let mut answer = [0; 1024];
            for _ in 0..each {
                stream.write_all(request.as_bytes()).await.expect("sent");
                assert!(stream.read(&mut answer).await.expect("an answer") > 0);
            }
        });
    }
    clients.join_all().await;
    (IN_FLIGHT * each) as f64 / begun.elapsed().as_secs_f64()
}

fn raw_group_commit() -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let conn = Connection::open(folder.path().join("raw.db")).expect("opens");
    let tables = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                  CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL)";
    conn.execute_batch(tables).expect("a table");
    let (body, commits, begun) = ("x".repeat(1_000), 400_usize, Instant::now());
    for commit in 0..commits {
        conn.execute_batch("BEGIN").expect("begins");
        let mut insert = conn.prepare_cached("INSERT INTO t (name, body) VALUES (?1, ?2)").expect("prepares");
        for row in 0..IN_FLIGHT {
            let name = ((commit * IN_FLIGHT + row) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            insert.execute(params![format!("{name:016x}"), body]).expect("inserts");
        }
        conn.execute_batch("COMMIT").expect("commits");
    }
    (commits * IN_FLIGHT) as f64 / begun.elapsed().as_secs_f64()
}

/// The same million records over the same loopback: read, cut into records, each hashed.
async fn raw_read(server: SocketAddr) -> f64 {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    let begun = Instant::now();
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    let (mut seen, mut bytes) = (0_u64, Vec::new());
    for page in 1..=RECORDS / PAGE {
        let request = format!("GET /records?page={page} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        bytes.clear();
        let body = loop {
            assert!(stream.read_buf(&mut bytes).await.expect("an answer") > 0);
            if let Some(head) = bytes.windows(4).take(400).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&bytes[..head]);
                let length = text.rsplit("content-length: ").next().and_then(|length| length.parse::<usize>().ok());
                if bytes.len() >= head + 4 + length.expect("a length") {
                    break head + 4;
                }
            }
        };
        let answer: Answer = serde_json::from_slice(&bytes[body..]).expect("JSON");
        seen += answer.data.iter().filter(|record| Sha256::digest(record.get())[0] as usize <= 255).count() as u64;
    }
    assert_eq!(seen, RECORDS);
    RECORDS as f64 / begun.elapsed().as_secs_f64()
}
