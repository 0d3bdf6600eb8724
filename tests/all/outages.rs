//! Handlers that are down, told in virtual time: an hour, a day, three days. Nothing is lost, the times are those that the rules give, and
//! nobody is run over at the recovery. Beside it handlers that are ill in their own ways, and two that notice nothing of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use ringback::client::{Bounds, Exchange, Incoming, Outgoing, SendError};
use ringback::clock::Clock;
use ringback::config;
use ringback::deliver::{Deliverer, Handler, Handlers};
use ringback::metrics::Metrics;
use ringback::model::{DeliveryState, Timestamp};
use ringback::secret::Secret;
use ringback::store::sqlite::SqliteStore;
use ringback::store::{EventFilter, Store};
use ringback::worker::{Progress, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::outbox::{created, happen, happens, setup};
use crate::ways::Bridge;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const HOUR: Duration = Duration::from_secs(3_600);
const START: Timestamp = Timestamp(1_763_630_400_000);

/// What a handler does while it is down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ill {
    Unreachable,
    Status(u16),
}

/// A handler that is down until a moment, and notes every request with its time.
struct Ear {
    clock: Clock,
    until: Timestamp,
    ill: Ill,
    heard: Arc<Mutex<Vec<(Timestamp, String, bool)>>>,
    now: AtomicUsize,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Exchange for Ear {
    async fn exchange(&self, request: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Gives the others time to be there too, if they may.
        tokio::task::yield_now().await;
        let event: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let (now, key) = (self.clock.now(), event["key"].as_str().unwrap_or_default().to_owned());
        let well = now >= self.until;
        self.heard.lock().expect("lock").push((now, key, well));
        self.now.fetch_sub(1, Ordering::SeqCst);
        let answer = |status| Ok(Incoming { status, headers: http::HeaderMap::new(), body: Bytes::new() });
        match self.ill {
            _ if well => answer(204),
            Ill::Status(status) => answer(status),
            Ill::Unreachable => Err(SendError::Unreachable("nobody is there".into())),
        }
    }
}

struct Told {
    heard: Vec<(Timestamp, String, bool)>,
    most: usize,
    states: Vec<(DeliveryState, u32)>,
    down: Timestamp,
}

/// A store with one handler `h`, and the part that delivers to it over this.
async fn delivering(
    folder: &tempfile::TempDir,
    clock: &Clock,
    more: &str,
    over: impl Exchange + 'static,
) -> (Arc<dyn Store>, Deliverer) {
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&folder.path().join("t.db"), clock.clone()).expect("a store"));
    let path = folder.path().join("config.toml");
    let text =
        format!("schema = 1\n[handlers.h]\nurl = \"http://127.0.0.1:9/\"\nsecret = {{ env = \"NONE\" }}\n{more}\n");
    std::fs::write(&path, text).expect("written");
    let (config, _) = config::load(&path).expect("good");
    let handler = Handler::new(config.handlers["h"].clone(), over, vec![Secret::new(SECRET)], BTreeMap::new());
    let handlers = Handlers::from([("h".into(), Arc::new(handler.expect("a handler")))]);
    store.register(setup(["h".into()])).await.expect("registered");
    let deliverer = Deliverer::new(store.clone(), handlers, clock.clone(), Metrics::new());
    (store, deliverer)
}

/// So many events in turn for so many orders.
async fn events(store: &dyn Store, count: u64, orders: u64) {
    let write = |n: u64| created(&format!("k{:02}-{}", n % orders, n / orders), &[("h", Some(n % orders))]);
    for from in (0..count).step_by(1_000) {
        happen(store, (from..count.min(from + 1_000)).map(write).collect()).await;
    }
}

/// Goes on until nothing is due any more.
async fn deliver_all(deliverer: &Deliverer, clock: &Clock, steps: u64) {
    for _ in 0..steps {
        let progress = deliverer.step().await.expect("a step");
        deliverer.drain(Duration::from_secs(60)).await;
        if let Progress::Idle { until } = progress {
            let Some(until) = until else { return };
            clock.advance(until.since(clock.now()).max(Duration::from_millis(1)));
        }
    }
    panic!("not at its end after {steps} steps");
}

/// Three events for each of so many keys, for a handler that is down for so long; played until nothing is due any more.
async fn play(ill: Ill, down: Duration, keys: u64) -> Told {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(START);
    let (heard, most) = (Arc::default(), Arc::default());
    let until = START.plus(down);
    let ear = Ear {
        clock: clock.clone(),
        until,
        ill,
        heard: Arc::clone(&heard),
        now: AtomicUsize::new(0),
        most: Arc::clone(&most),
    };
    let (store, deliverer) = delivering(&folder, &clock, "", ear).await;
    events(&*store, 3 * keys, keys).await;
    deliver_all(&deliverer, &clock, 20_000).await;
    let page = store.events(EventFilter { limit: 500, ..EventFilter::default() }).await.expect("read");
    let mut states = Vec::new();
    for event in page.events {
        let detail = store.event(&event.id).await.expect("read").expect("there");
        states.push((detail.deliveries[0].state, detail.deliveries[0].counted));
    }
    let heard = heard.lock().expect("lock").clone();
    Told { heard, most: most.load(Ordering::SeqCst), states, down: until }
}

/// A handler that refuses three requests of ten, by a hash of what they carry and how often that came.
struct Moody {
    next: Arc<Mutex<BTreeMap<String, u64>>>,
    tries: AtomicU64,
    refused: Arc<AtomicU64>,
}

#[async_trait]
impl Exchange for Moody {
    async fn exchange(&self, request: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
        let event: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let (order, place) = event["key"].as_str().and_then(|key| key.split_once('-')).expect("ORDER-PLACE");
        tokio::task::yield_now().await;
        let mut next = self.next.lock().expect("lock");
        let wanted = next.entry(order.to_owned()).or_insert(0);
        assert_eq!(place.parse(), Ok(*wanted), "{order}-{place} out of its turn");
        let answer = |status| Ok(Incoming { status, headers: http::HeaderMap::new(), body: Bytes::new() });
        // Fibonacci hashing of a counter: as even as dice, and the same every time.
        let mood = self.tries.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let mood = mood * 100 / 65_536;
        self.refused.fetch_add(u64::from(mood < 30), Ordering::SeqCst);
        match mood {
            0..2 => answer(503),
            2..16 => answer(500),
            16..30 => Err(SendError::Broken("the exchange broke off".into())),
            _ => {
                *wanted += 1;
                answer(204)
            }
        }
    }
}

/// R7.3. Each order goes on one by one, whatever fails: `RINGBACK_EVENTS` plays more than these.
#[tokio::test]
async fn r7_3_no_event_overtakes_another_of_its_order_while_three_requests_of_ten_fail() {
    let count: u64 = std::env::var("RINGBACK_EVENTS").map_or(4_000, |text| text.parse().expect("RINGBACK_EVENTS"));
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(START);
    let (next, refused) = (Arc::default(), Arc::default());
    let moody = Moody { next: Arc::clone(&next), tries: AtomicU64::new(0), refused: Arc::clone(&refused) };
    // So many attempts that none is given up: what is given up may be overtaken.
    let more = format!("retry = {{ schedule = [{}] }}\nconcurrency = 100", ["\"1s\""; 30].join(", "));
    let (store, deliverer) = delivering(&folder, &clock, &more, moody).await;
    events(&*store, count, 100).await;
    deliver_all(&deliverer, &clock, 100 * count).await;
    let accepted: u64 = next.lock().expect("lock").values().sum();
    assert_eq!(accepted, count, "every event was accepted once, in its turn");
    let refused = refused.load(Ordering::SeqCst);
    assert!((count / 3..count).contains(&refused), "{refused} of {} requests failed", count + refused);
    println!("{count} events, {refused} failures, 0 inversions");
}

/// R7.1. What speaks of the handler burns no attempt, however long it lasts; then everything is there within five minutes, in order, and
/// with no more requests at once than it always had.
#[tokio::test]
async fn r7_1_a_handler_that_is_down_for_hours_or_days_loses_nothing_and_is_not_run_over() {
    for ill in [Ill::Unreachable, Ill::Status(503)] {
        for hours in [1, 24, 72] {
            let told = play(ill, HOUR * hours, 10).await;
            assert_eq!(told.states, vec![(DeliveryState::Delivered, 1); 30], "{ill:?} for {hours} h");
            assert!(told.most <= 4, "{} at once", told.most);
            // 1, 2, 4 … s up to 5 min, with one look at a time: so many in the time, and no more.
            let looks = told.heard.iter().filter(|(_, _, well)| !well).count();
            let least = (u64::from(hours) * 3_600 / 300) as usize;
            assert!((least..=least + 16).contains(&looks), "{looks} looks in {hours} h");
            let waits: Vec<u64> = gaps(&told);
            let doubling = waits.windows(2).all(|pair| pair[1] == 300_000 || pair[1] >= pair[0]);
            assert!(doubling && waits.iter().all(|wait| *wait <= 300_000), "{ill:?}: {waits:?}");
            let last = told.heard.iter().map(|(at, ..)| *at).max().expect("requests");
            assert!(
                last.since(told.down) <= Duration::from_secs(300),
                "{ill:?} for {hours} h: {:?}",
                last.since(told.down)
            );
            in_order(&told);
        }
    }
}

/// The waits between looks at a handler that is down, in milliseconds; looks made side by side are one.
fn gaps(told: &Told) -> Vec<u64> {
    let mut times: Vec<Timestamp> = told.heard.iter().filter(|(_, _, well)| !well).map(|(at, ..)| *at).collect();
    times.dedup();
    times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect()
}

fn in_order(told: &Told) {
    let mut next = BTreeMap::new();
    for (_, key, well) in &told.heard {
        let (order, place) = key.split_once('-').expect("ORDER-PLACE");
        let place: u32 = place.parse().expect("a number");
        let wanted = next.entry(order.to_owned()).or_insert(0);
        assert_eq!(place, *wanted, "{key} before its turn");
        *wanted += u32::from(*well);
    }
}

/// R7.1. Answers that speak of the event follow the schedule, to within its ±20 %; the breaker adds its rest of five minutes at most.
#[tokio::test]
async fn r7_1_a_refused_event_is_tried_at_the_times_of_the_schedule() {
    const SCHEDULE: [u64; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400];
    for (hours, attempts) in [(1, 5), (24, 8)] {
        let told = play(Ill::Status(500), HOUR * hours, 1).await;
        assert_eq!(told.states.len(), 3);
        assert!(told.states.iter().all(|(state, _)| *state == DeliveryState::Delivered), "{:?}", told.states);
        in_order(&told);
        let first = told.heard.iter().filter(|(_, key, _)| key == "k00-0");
        let times: Vec<Timestamp> = first.map(|(at, ..)| *at).collect();
        // Jitter may bring one attempt to this side of the recovery or to the other.
        assert!(times.len().abs_diff(attempts) <= 1, "{hours} h: {times:?}");
        for (pair, wait) in times.windows(2).zip(SCHEDULE) {
            let took = pair[1].since(pair[0]).as_secs();
            assert!((wait * 4 / 5..=wait * 6 / 5 + 301).contains(&took), "{took} s for {wait} s: {times:?}");
        }
    }
}

/// A server that answers everything in its own ill way; gives its address.
async fn ill_server<F>(answer: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    format!("http://{address}/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_one_that_resets_and_one_that_answers_a_gigabyte_delay_nobody_else() {
    const EVENTS: usize = 24;
    let hung = Arc::new(AtomicUsize::new(0));
    let count = hung.clone();
    let hangs = ill_server(move |stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            std::future::pending::<()>().await;
            drop(stream);
        }
    })
    .await;
    let resets = ill_server(|stream| async move {
        // Closed with unread bytes, a connection is reset.
        let _ = stream.readable().await;
        drop(stream);
    })
    .await;
    let sent = Arc::new(AtomicU64::new(0));
    let bytes = sent.clone();
    let floods = ill_server(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            // Only once a request is there: an answer before it would be a broken exchange and not a large one.
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
            let chunk = vec![b'x'; 64 << 10];
            while stream.write_all(&chunk).await.is_ok() {
                bytes.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            }
        }
    })
    .await;
    let well = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut healthy = Vec::new();
    for n in 0..2 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        healthy.push(format!("http://{}/", listener.local_addr().expect("bound")));
        let well = well.clone();
        let hear = move || {
            well[n].fetch_add(1, Ordering::SeqCst);
            async { "" }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(hear))).await });
    }
    let table =
        |name: &str, url: &str| format!("[handlers.{name}]\nurl = \"{url}\"\nsecret = {{ file = \"s.whsec\" }}\n");
    let more = [table("hangs", &hangs), table("resets", &resets), table("floods", &floods), table("well", &healthy[0])]
        .concat();
    let bridge = Bridge::start(&format!("url = \"{}\"\nsecret = {{ file = \"s.whsec\" }}", healthy[1]), &more).await;
    let names = ["hangs", "resets", "floods", "well", "h"];
    for n in 0..EVENTS {
        let to = names.map(|name| (name, Some(n as u64)));
        happens(&*bridge.store, &format!("k{n}"), &to).await;
    }
    let all = async {
        let mut wake = bridge.store.wake(ringback::store::Topic::Attempts);
        loop {
            wake.seen();
            let handlers = bridge.store.handlers().await.expect("read");
            let of = |name: &str| handlers.iter().find(|h| h.name.as_str() == name).expect("there").clone();
            if [of("well"), of("h"), of("floods")].iter().all(|h| h.delivered == EVENTS as u64) {
                return (of("hangs"), of("resets"));
            }
            wake.rung().await;
        }
    };
    let Ok((hangs, resets)) = tokio::time::timeout(Duration::from_secs(120), all).await else {
        panic!("the healthy ones do not get everything: {:#?}", bridge.store.handlers().await)
    };
    assert_eq!(well.each_ref().map(|count| count.load(Ordering::SeqCst)), [EVENTS; 2], "each event once");
    // The hanging one has not answered a single request meanwhile: nobody waited for it.
    assert_eq!((hangs.delivered, hangs.failed, hangs.pending + hangs.claimed >= EVENTS as u64 - 4), (0, 0, true));
    assert!((1..=4).contains(&hung.load(Ordering::SeqCst)), "as many as its permits");
    assert_eq!(resets.delivered, 0);
    // Of a gigabyte a few buffers of the network are taken, not more.
    let each = sent.load(Ordering::SeqCst) / EVENTS as u64;
    assert!(each < 16 << 20, "{each} bytes of each answer were taken");
}

/// R7.1. A long weekend behind a pause is no part of `max_age`: the first refusal afterwards gives nothing up.
#[tokio::test]
async fn r7_1_what_waited_behind_a_pause_of_days_outlives_a_refusal_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(START);
    let (heard, most) = (Arc::default(), Arc::default());
    let until = START.plus(100 * HOUR);
    let (ill, now) = (Ill::Unreachable, AtomicUsize::new(0));
    let ear = Ear { clock: clock.clone(), until, ill, heard, now, most };
    let (store, deliverer) = delivering(&folder, &clock, "retry = { max_age = \"3d\" }", ear).await;
    let paused = ringback::store::Paused { by: "a person".into(), reason: "a long weekend".into() };
    store.set_handler_paused(&"h".into(), Some(paused)).await.expect("paused");
    events(&*store, 6, 3).await;
    clock.advance(96 * HOUR);
    store.set_handler_paused(&"h".into(), None).await.expect("resumed");
    deliver_all(&deliverer, &clock, 1_000).await;
    let handler = store.handlers().await.expect("read").remove(0);
    assert_eq!((handler.delivered, handler.failed), (6, 0));
    assert!(clock.now() >= until, "it was down at first");
}

/// The way to a handler that is barred at first, by the list or by the proxy.
struct Barred(Mutex<Vec<SendError>>);

#[async_trait]
impl Exchange for Barred {
    async fn exchange(&self, _: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
        match self.0.lock().expect("lock").pop() {
            Some(error) => Err(error),
            None => Ok(Incoming { status: 204, headers: http::HeaderMap::new(), body: Bytes::new() }),
        }
    }
}

#[tokio::test]
async fn a_barred_way_to_a_handler_is_a_problem_of_its_own_kind_until_something_gets_through() {
    use ringback::model::ProblemKind::{HostRefused, ProxyFailed};
    for (error, kind) in [
        (SendError::HostRefused("`h.example` is not in `network.allow`".into()), HostRefused),
        (SendError::Proxy("the proxy wants a user".into()), ProxyFailed),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual(START);
        let barred = Barred(Mutex::new(vec![error; 7]));
        let (store, deliverer) = delivering(&folder, &clock, "", barred).await;
        let open = async || -> Vec<_> {
            let problems = store.problems().await.expect("read");
            problems.into_iter().map(|problem| (problem.kind, problem.subject, problem.count)).collect()
        };
        events(&*store, 1, 1).await;
        for _ in 0..6 {
            deliverer.step().await.expect("a step");
            deliverer.drain(Duration::from_secs(60)).await;
            assert_eq!(open().await, [(kind, "h".to_owned(), 1)], "told once, and it is not the handler that fails");
            clock.advance(HOUR);
        }
        deliver_all(&deliverer, &clock, 100).await;
        assert_eq!(open().await, []);
        assert_eq!(store.handlers().await.expect("read")[0].delivered, 1);
    }
}
