//! What the store does a second on this machine, each figure beside a raw limit measured in the same run.
//! `cargo bench --bench store`; every line is the median of five rounds. A word after `--` runs the lines that have it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringback::clock::Clock;
use ringback::model::*;
use ringback::store::sqlite::SqliteStore;
use ringback::store::*;
use rusqlite::{Connection, params};

const ROUNDS: usize = 5;
const CALLERS: usize = 64;
const PAGE: usize = 1_000;
const LEASE: Duration = Duration::from_secs(60);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let raw = median(|| raw_group_commit(CALLERS, 400));
    let raw_page = median(|| raw_group_commit(PAGE, 40));
    println!(
        "raw limit: one table, FULL, {CALLERS} rows a commit {raw:>10.0} rows/s; {PAGE} rows {raw_page:.0} rows/s"
    );
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let show = |what: &str, limit: f64, round: &dyn Fn() -> f64| {
        if what.contains(&wanted) {
            let rate = median(round);
            println!("{what:<54} {rate:>10.0}/s   {:.2} of raw", rate / limit);
        }
    };
    show("put_inbound, 1 KiB, 64 callers", raw, &|| runtime.block_on(put_inbound(CALLERS, 600)));
    show("put_inbound, 1 caller", raw, &|| runtime.block_on(put_inbound(1, 3_000)));
    show("commit of new records, no events, 1,000 a page", raw_page, &|| runtime.block_on(load(40, false)));
    show("commit of new records with event and delivery", raw_page, &|| runtime.block_on(load(20, true)));
    show("claim + settle, 64 workers' permits", raw, &|| runtime.block_on(deliver(20)));
    if "rows() of sorted keys".contains(&wanted) {
        let (raw, rows) = runtime.block_on(look_up());
        println!("raw limit: point SELECT of sorted keys {raw:>26.0} rows/s");
        println!(
            "{:<54} {rows:>10.0}/s   {:.2} of raw",
            "rows() of sorted keys, 1,000 a call, 200,000 stored",
            rows / raw
        );
    }
    println!("peak memory {} KiB", peak_memory());
}

fn median(mut round: impl FnMut() -> f64) -> f64 {
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().trim_end_matches(" kB").to_string()
}

fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

fn folder() -> tempfile::TempDir {
    // Beside the build, as /tmp may lie in memory.
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a folder")
}

fn raw_group_commit(rows: usize, commits: usize) -> f64 {
    let folder = folder();
    let conn = Connection::open(folder.path().join("raw.db")).expect("opens");
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;
         CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL)",
    )
    .expect("a table");
    let body = vec![b'x'; 1_044];
    let started = Instant::now();
    for commit in 0..commits {
        conn.execute_batch("BEGIN").expect("begins");
        let mut insert = conn.prepare_cached("INSERT INTO t (name, body) VALUES (?1, ?2)").expect("prepares");
        for row in 0..rows {
            insert.execute(params![scattered(commit * rows + row), body]).expect("inserts");
        }
        conn.execute_batch("COMMIT").expect("commits");
    }
    rate(rows * commits, started)
}

/// Names in no order, as message ids and keys are.
fn scattered(n: usize) -> String {
    format!("msg_{:016x}", (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

async fn open(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let store = SqliteStore::open(&folder.path().join("ringback.db"), Clock::system()).expect("opens");
    let stream = StreamSetup {
        name: stream(),
        renamed_from: None,
        polled: true,
        definition: "d".into(),
        comparison: "c".into(),
        first_due_in: Duration::ZERO,
    };
    let handler = HandlerSetup { name: "billing".into(), renamed_from: None, enabled: true };
    store
        .register(Setup { streams: vec![stream], handlers: vec![handler], ..Setup::default() })
        .await
        .expect("registers");
    Arc::new(store)
}

fn stream() -> StreamName {
    StreamName::new("core", "payments")
}

async fn put_inbound(callers: usize, each: usize) -> f64 {
    let folder = folder();
    let store = open(&folder).await;
    let request = Arc::new(InboundRequest {
        method: "POST".into(),
        target: "/webhooks/core".into(),
        headers: vec![("content-type".into(), "application/json".into()), ("x-signature".into(), "0".repeat(64))],
        body: Bytes::from(vec![b'x'; 1_044]),
    });
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (store, request) = (store.clone(), request.clone());
        tasks.spawn(async move {
            for n in 0..each {
                let message_id = Some(scattered(caller * each + n));
                let inbound = NewInbound { source: "core".into(), message_id, request: request.clone() };
                assert_eq!(store.put_inbound(inbound).await, Ok(InboundStored::New));
            }
        });
    }
    tasks.join_all().await;
    rate(callers * each, started)
}

fn page(number: usize, announced: bool, body: &Bytes) -> Commit {
    let mut commit = Commit::new(stream(), "d".into());
    for n in 0..PAGE {
        let key = Key::from(scattered(number * PAGE + n));
        let event = announced.then(|| NewEvent {
            event: Event {
                id: EventId::from(format!("evt_{}", scattered(number * PAGE + n))),
                event_type: "payment.created".into(),
                kind: ChangeKind::Created,
                stream: stream(),
                key: key.clone(),
                revision: 1,
                time: Timestamp(0),
                seen_at: Timestamp(0),
                seen_by: SeenBy::Poll,
                data: Some(body.clone()),
                previous: None,
                changed: None,
                first_sight: false,
                test: false,
            },
            fingerprint: Fingerprint([1; 16]),
            own_id: true,
            inbound: None,
            deliveries: vec![NewDelivery {
                handler: "billing".into(),
                order: Some((number * PAGE + n) as u64 * 0x9e37_79b9_7f4a_7c15),
                hold: None,
            }],
        });
        commit.writes.push(RecordWrite {
            key,
            expected: None,
            fingerprint: Fingerprint([1; 16]),
            raw_hash: Some(Fingerprint([2; 16])),
            webhook_form: None,
            version: Some("2026-01-01T00:00:00Z".into()),
            version_changes: 0,
            revision: 1,
            deleted: false,
            silent: false,
            listed: true,
            by: SeenBy::Poll,
            absences: 0,
            place: None,
            body: BodyWrite::Put(body.clone()),
            event,
        });
    }
    commit
}

async fn load(pages: usize, announced: bool) -> f64 {
    let folder = folder();
    let store = open(&folder).await;
    fill(&store, pages, announced).await
}

async fn fill(store: &Arc<dyn Store>, pages: usize, announced: bool) -> f64 {
    let body = Bytes::from(vec![b'x'; 1_044]);
    let commits: Vec<Commit> = (0..pages).map(|number| page(number, announced, &body)).collect();
    let started = Instant::now();
    for commit in commits {
        store.commit(commit).await.expect("commits");
    }
    rate(pages * PAGE, started)
}

fn settled(delivery: &ClaimedDelivery) -> Settled {
    Settled {
        id: delivery.id,
        lease: delivery.lease,
        handler: delivery.handler.clone(),
        attempt: Attempt {
            started_at: Timestamp(0),
            duration: Duration::from_millis(1),
            result: AttemptResult::Delivered,
            status: Some(200),
            error: None,
            answer: Bytes::from_static(b"ok"),
            detail: Default::default(),
        },
        outcome: Outcome::Delivered,
        handler_change: HandlerChange::None,
    }
}

/// One claimer for 64 permits; each delivery is settled on its own, as its worker would.
async fn deliver(pages: usize) -> f64 {
    let folder = folder();
    let store = open(&folder).await;
    fill(&store, pages, true).await;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let mut done = 0;
    loop {
        let free = CALLERS - tasks.len();
        let claimed = store.claim_deliveries(LEASE, vec![("billing".into(), free)]).await.expect("claims");
        if claimed.deliveries.is_empty() && tasks.is_empty() {
            assert_eq!(done, pages * PAGE);
            return rate(done, started);
        }
        for delivery in claimed.deliveries {
            let store = store.clone();
            tasks.spawn(async move { assert_eq!(store.settle(vec![settled(&delivery)]).await, Ok(vec![true])) });
        }
        if tasks.join_next().await.is_some() {
            done += 1;
        }
        while tasks.try_join_next().is_some() {
            done += 1;
        }
    }
}

async fn look_up() -> (f64, f64) {
    let folder = folder();
    let store = open(&folder).await;
    fill(&store, 200, false).await;
    let mut keys: Vec<Key> = (0..200 * PAGE).map(|n| Key::from(scattered(n))).collect();
    keys.sort();
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let conn = Connection::open(folder.path().join("ringback.db")).expect("opens");
    for _ in 0..ROUNDS {
        let started = Instant::now();
        conn.execute_batch("BEGIN").expect("begins");
        let sql = "SELECT fingerprint FROM record WHERE stream_id = 1 AND key = ?1";
        let mut select = conn.prepare_cached(sql).expect("prepares");
        for key in &keys {
            let found: Vec<u8> = select.query_row([key.as_str()], |row| row.get(0)).expect("found");
            assert_eq!(found.len(), 16);
        }
        conn.execute_batch("COMMIT").expect("commits");
        raw.push(rate(keys.len(), started));
        let started = Instant::now();
        for page in keys.chunks(PAGE) {
            let rows = store.rows(&stream(), page.to_vec()).await.expect("reads");
            assert!(rows.iter().all(Option::is_some));
        }
        ours.push(rate(keys.len(), started));
    }
    raw.sort_by(f64::total_cmp);
    ours.sort_by(f64::total_cmp);
    (raw[ROUNDS / 2], ours[ROUNDS / 2])
}
