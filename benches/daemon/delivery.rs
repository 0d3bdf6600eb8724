//! How delivery holds up: the lateness of single events beside healthy and ill handlers, and a backlog of a million.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::parts::{CONFIG, HANDLER, PROVIDER, median, poke};
use crate::program::Program;
use crate::server::{World, serve};

/// Changes a second: so many sources, each polled every second and changed each time.
const CHANGES: usize = 200;
const SECONDS: u64 = 15;
const BACKLOG: u64 = 1_000_000;
const SMALL: u64 = 50_000;

/// One change per poll, 200 a second: from the API's answer until the event is at the handler. Alone, with a second handler, and with
/// three more that hang, reset the connection, and answer with a gigabyte.
pub async fn latency() {
    let raw = raw_latency(serve(Arc::default()).await).await;
    println!("raw limit: one row committed (FULL), one POST, {CHANGES}/s         {raw}");
    let (healthy, ill) = (["a", "b"], ["hang", "reset", "flood"]);
    for (what, healthy, ill) in [
        ("one handler", &healthy[..1], &[][..]),
        ("two handlers", &healthy[..], &[][..]),
        ("two, and three ill ones", &healthy[..], &ill[..]),
    ] {
        let world = Arc::new(World::default());
        let server = serve(world.clone()).await;
        let mut program = Program::new(
            &PROVIDER.replace("DETECT", "changed").replace("/records", "/now"),
            &config(healthy, ill),
            server,
        );
        program.start();
        // The first looks are baselines, and the ill ones shall have shown that they are ill.
        tokio::time::sleep(Duration::from_secs(8)).await;
        world.late.lock().expect("whole").clear();
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        let late = std::mem::take(&mut *world.late.lock().expect("whole"));
        let peak = program.memory("VmHWM");
        program.stop();
        for (path, late) in late {
            let late = Late::of(late);
            println!(
                "polled change at {CHANGES}/s → at {path}, {what:<24} {late}   {:.1} and {:.1} of raw; peak {peak:.0} MiB",
                late.p50 / raw.p50,
                late.p99 / raw.p99
            );
        }
    }
}

fn config(healthy: &[&str], ill: &[&str]) -> String {
    let mut config = CONFIG
        .replace("\"1h\"", "\"1s\"")
        .replace("[sources.bank]\nprovider = \"./provider.toml\"\nbase_url = \"http://{server}\"\n", "");
    for number in 0..CHANGES {
        config += &format!("[sources.s{number}]\nprovider = \"./provider.toml\"\nbase_url = \"http://{{server}}\"\n");
    }
    for name in healthy {
        config += &HANDLER.replace("ledger", name).replace("/sink", &format!("/sink/{name}"));
    }
    for name in ill {
        config += &HANDLER.replace("ledger", name).replace("/sink", &format!("/ill/{name}"));
    }
    config
}

/// How late events were, in milliseconds.
struct Late {
    p50: f64,
    p99: f64,
    count: usize,
}

impl Late {
    fn of(mut micros: Vec<u64>) -> Late {
        micros.sort_unstable();
        let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize] as f64 / 1e3;
        Late { p50: at(0.5), p99: at(0.99), count: micros.len() }
    }
}

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:>6.2} ms, p99 {:>6.2} ms of {}", self.p50, self.p99, self.count)
    }
}

/// What cannot be done without: the change made durable, and one POST; nothing polled, compared or signed.
async fn raw_latency(server: SocketAddr) -> Late {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let conn = Connection::open(folder.path().join("raw.db")).expect("opens");
    let table =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)";
    conn.execute_batch(table).expect("a table");
    let body = "x".repeat(1_400);
    let request = format!("POST /sink HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let (mut micros, mut answer) = (Vec::new(), [0; 1024]);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / CHANGES as u32);
    for _ in 0..CHANGES as u64 * 5 {
        tick.tick().await;
        let begun = Instant::now();
        conn.execute("INSERT INTO t (body) VALUES (?1)", [&body]).expect("inserted");
        stream.write_all(request.as_bytes()).await.expect("sent");
        assert!(stream.read(&mut answer).await.expect("an answer") > 0);
        micros.push(begun.elapsed().as_micros() as u64);
    }
    Late::of(micros)
}

/// A handler was down while a million events came. The daemon starts, the handler is back: until ready, the memory, the rate.
pub async fn backlog() {
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(drained(SMALL).await.rate);
    }
    let small = median(rates);
    let big = drained(BACKLOG).await;
    println!("a backlog of {SMALL:>9}                                    drained at {small:>8.0}/s");
    println!(
        "a backlog of {BACKLOG:>9}: ready after {:.0} ms, peak {:.0} MiB; drained at {:>8.0}/s   {:.2} of the small one's rate",
        big.ready.as_secs_f64() * 1e3,
        big.peak,
        big.rate,
        big.rate / small
    );
}

struct Drained {
    ready: Duration,
    peak: f64,
    rate: f64,
}

async fn drained(events: u64) -> Drained {
    let config = CONFIG.replace("\"1h\"", "\"1h\"\nfirst_run = \"send-all\"") + HANDLER;
    let ordered = PROVIDER.replace("DETECT", "changed").replace(
        "pagination",
        "cursor     = { field = \".updated\", type = \"number\", order = \"asc\", start = \"all\" }\npagination",
    );
    let world = Arc::new(World::default());
    world.records.store(events, Ordering::Relaxed);
    world.down.store(true, Ordering::Relaxed);
    let server = serve(world.clone()).await;
    let mut program = Program::new(&ordered, &config, server);
    program.start();
    poke(&program);
    program.polled().await;
    program.stop();
    world.down.store(false, Ordering::Relaxed);
    world.want(events);
    let ready = program.start();
    while world.taken.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = Instant::now();
    let all = tokio::time::timeout(Duration::from_secs(600), world.all_taken.notified()).await;
    assert!(all.is_ok(), "{} of {events} came\n{}", world.taken.load(Ordering::Relaxed), program.log());
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    let peak = program.memory("VmHWM");
    program.stop();
    Drained { ready, peak, rate }
}
