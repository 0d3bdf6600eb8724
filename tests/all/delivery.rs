//! Delivery told against a real handler and the real store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ringback::client::{Client, ClientOptions};
use ringback::clock::Clock;
use ringback::config::{self, Network, Proxy, Tls};
use ringback::deliver::{Deliverer, Handler, Handlers};
use ringback::metrics::Metrics;
use ringback::model::{DeliveryState, Timestamp};
use ringback::secret::Secret;
use ringback::store::sqlite::SqliteStore;
use ringback::store::{DeliveryDetail, Store};
use ringback::worker::{Heartbeat, run_loop};
use tokio_util::sync::CancellationToken;

use crate::outbox;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A status, and a Retry-After in seconds.
type Refusal = (u16, Option<u64>);

/// A handler that answers as told, checks every signature with the official library, and remembers what it accepted.
#[derive(Clone, Default)]
struct Ear {
    accepted: Arc<Mutex<Vec<String>>>,
    /// Answers still to be given instead of 200, with a Retry-After for each.
    refusals: Arc<Mutex<Vec<Refusal>>>,
    requests: Arc<AtomicUsize>,
    hangs: bool,
    /// Takes every signature: for clocks that are set by hand.
    trusts: bool,
}

async fn hear(State(ear): State<Ear>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
    ear.requests.fetch_add(1, Ordering::SeqCst);
    if ear.hangs {
        std::future::pending::<()>().await;
    }
    let judge = standardwebhooks::Webhook::new(SECRET).expect("a good secret");
    if !ear.trusts && judge.verify(&body, &headers).is_err() {
        return (StatusCode::UNAUTHORIZED, HeaderMap::new());
    }
    if let Some((status, after)) = ear.refusals.lock().expect("lock").pop() {
        let mut answer = HeaderMap::new();
        if let Some(after) = after {
            answer.insert("retry-after", after.into());
        }
        return (StatusCode::from_u16(status).expect("a status"), answer);
    }
    let event: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    ear.accepted.lock().expect("lock").push(event["key"].as_str().unwrap_or_default().to_owned());
    (StatusCode::OK, HeaderMap::new())
}

impl Ear {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/hooks", post(hear)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/hooks")
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().expect("lock").clone()
    }
}

/// A store with one stream, and a deliverer that runs in its loop.
struct Bridge {
    store: Arc<dyn Store>,
    cancel: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Bridge {
    async fn start(ears: &[(&str, &Ear, &str)], clock: &Clock) -> Bridge {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&folder.path().join("t.db"), clock.clone()).expect("a store"));
        let mut handlers = Handlers::new();
        for (name, ear, keys) in ears {
            let url = ear.listen().await;
            std::fs::write(folder.path().join("s.whsec"), SECRET).expect("written");
            let text =
                format!("schema = 1\n[handlers.{name}]\nurl = \"{url}\"\nsecret = {{ file = \"s.whsec\" }}\n{keys}\n");
            let path = folder.path().join("config.toml");
            std::fs::write(&path, text).expect("written");
            let (config, _) = config::load(&path).expect("a good configuration");
            let given = config.handlers[*name].clone();
            let options = ClientOptions {
                network: Network::default(),
                proxy: Proxy::None,
                proxy_password: None,
                tls: Tls::default(),
                connect_timeout: Duration::from_secs(5),
                pool_idle_max: 8,
                unix_socket: None,
            };
            let client = Client::new(&options).expect("a client");
            let handler = Handler::new(given, client, vec![Secret::new(SECRET)], BTreeMap::new()).expect("a handler");
            handlers.insert((*name).into(), Arc::new(handler));
        }
        store.register(outbox::setup(handlers.keys().cloned())).await.expect("registered");
        let deliverer = Arc::new(Deliverer::new(store.clone(), handlers, clock.clone(), Metrics::new()));
        let cancel = CancellationToken::new();
        let wake = deliverer.wake();
        tokio::spawn(run_loop(
            "deliver",
            deliverer,
            wake,
            clock.clone(),
            cancel.clone(),
            Heartbeat::new(clock.clone()),
        ));
        Bridge { store, cancel, _folder: folder }
    }

    /// Stores one created record with its event for these handlers, in the order of `order`.
    async fn happens(&self, key: &str, order: Option<u64>, handlers: &[&str]) {
        let to: Vec<_> = handlers.iter().map(|name| (*name, order)).collect();
        outbox::happens(&*self.store, key, &to).await;
    }

    /// The one delivery of a key's event.
    async fn detail(&self, key: &str) -> DeliveryDetail {
        let detail = self.store.event(&format!("evt_{key}").into()).await.expect("read").expect("there");
        detail.deliveries.into_iter().next().expect("a delivery")
    }

    async fn states(&self, key: &str) -> Vec<DeliveryState> {
        let detail = self.store.event(&format!("evt_{key}").into()).await.expect("read").expect("there");
        detail.deliveries.iter().map(|delivery| delivery.state).collect()
    }
}

/// Waits until something is so; the deliverer works on its own.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap_or_else(|_| panic!("still not: {what}"));
}

#[tokio::test]
async fn more_events_than_permits_all_arrive() {
    let ear = Ear::default();
    let bridge = Bridge::start(&[("h", &ear, "concurrency = 2")], &Clock::system()).await;
    for n in 0..9 {
        bridge.happens(&format!("k{n}"), Some(n + 1), &["h"]).await;
    }
    until("nine events", async || ear.accepted().len() == 9).await;
}

#[tokio::test]
async fn a_hanging_handler_delays_no_other() {
    let (well, ill) = (Ear::default(), Ear { hangs: true, ..Ear::default() });
    let bridge = Bridge::start(&[("well", &well, ""), ("ill", &ill, "")], &Clock::system()).await;
    for n in 0..20 {
        bridge.happens(&format!("k{n}"), Some(n + 1), &["ill", "well"]).await;
    }
    until("twenty events at the healthy one", async || well.accepted().len() == 20).await;
    assert_eq!(ill.accepted().len(), 0);
}

#[tokio::test]
async fn r7_3_a_refused_event_keeps_later_ones_of_its_order_waiting_and_no_others() {
    let ear = Ear::default();
    ear.refusals.lock().expect("lock").push((500, None));
    let bridge =
        Bridge::start(&[("h", &ear, "concurrency = 1\nretry = { schedule = [\"300ms\", \"1s\"] }")], &Clock::system())
            .await;
    bridge.happens("a1", Some(1), &["h"]).await;
    until("the refusal", async || ear.requests.load(Ordering::SeqCst) == 1).await;
    bridge.happens("a2", Some(1), &["h"]).await;
    bridge.happens("b1", Some(2), &["h"]).await;
    until("all three", async || ear.accepted().len() == 3).await;
    let order = ear.accepted();
    let place = |key: &str| order.iter().position(|k| k == key).expect("it arrived");
    assert!(place("b1") < place("a1") && place("a1") < place("a2"), "{order:?}");
}

#[tokio::test]
async fn a_retry_after_is_kept_in_full_and_burns_no_attempt() {
    let ear = Ear::default();
    ear.refusals.lock().expect("lock").push((503, Some(3_600)));
    let clock = Clock::system();
    let bridge = Bridge::start(&[("h", &ear, "")], &clock).await;
    bridge.happens("k", Some(1), &["h"]).await;
    until("the refusal is settled", async || !bridge.detail("k").await.attempts.is_empty()).await;
    let delivery = bridge.detail("k").await;
    assert_eq!((delivery.state, delivery.counted), (DeliveryState::Pending, 0));
    let handlers = bridge.store.handlers().await.expect("read");
    let wait = handlers[0].wait_until.expect("the handler waits").since(clock.now());
    assert!(wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_600), "{wait:?}");
}

#[tokio::test]
async fn gone_pauses_the_handler_and_holds_its_events() {
    let ear = Ear::default();
    ear.refusals.lock().expect("lock").push((410, None));
    let bridge = Bridge::start(&[("h", &ear, "")], &Clock::system()).await;
    bridge.happens("k1", Some(1), &["h"]).await;
    until("the pause", async || bridge.states("k1").await == [DeliveryState::Held]).await;
    bridge.happens("k2", Some(2), &["h"]).await;
    assert_eq!(bridge.states("k2").await, [DeliveryState::Held]);
    bridge.store.set_handler_paused(&"h".into(), None).await.expect("resumed");
    until("both after the resume", async || ear.accepted().len() == 2).await;
}

/// R7.2. Without the breaker a handler that is down for a day burns the ten attempts of every event in its backlog.
#[tokio::test]
async fn r7_2_an_ill_handler_is_tried_with_one_event_at_a_time_and_never_twice_with_the_same_key() {
    let ear = Ear { trusts: true, ..Ear::default() };
    ear.refusals.lock().expect("lock").extend(vec![(500, None); 7]);
    let clock = Clock::manual(Timestamp(1_000_000_000_000));
    let bridge = Bridge::start(&[("h", &ear, "concurrency = 1\nretry = { schedule = [\"10m\"] }")], &clock).await;
    for n in 0..12 {
        bridge.happens(&format!("k{n:02}"), Some(n + 1), &["h"]).await;
    }
    let waits =
        async || bridge.store.handlers().await.expect("read")[0].wait_until.map(|until| until.since(clock.now()));
    until("the breaker is open", async || waits().await.is_some()).await;
    assert_eq!((ear.requests.load(Ordering::SeqCst), waits().await), (5, Some(Duration::from_secs(30))));
    for (tried, rest) in [(6, 60), (7, 120)] {
        until("nothing is under way", async || bridge.store.handlers().await.expect("read")[0].claimed == 0).await;
        clock.advance(waits().await.expect("it rests"));
        until("the probe was refused", async || waits().await == Some(Duration::from_secs(rest))).await;
        assert_eq!(ear.requests.load(Ordering::SeqCst), tried, "one probe");
    }
    for n in 0..12 {
        let counted = bridge.detail(&format!("k{n:02}")).await.counted;
        assert_eq!(counted, u32::from(n < 7), "k{n:02}");
    }
    until("nothing is under way", async || bridge.store.handlers().await.expect("read")[0].claimed == 0).await;
    clock.advance(Duration::from_secs(120));
    until("those that were never tried", async || ear.accepted().len() == 5).await;
    assert_eq!(bridge.store.handlers().await.expect("read")[0].strain, 0);
    until("nothing is under way", async || bridge.store.handlers().await.expect("read")[0].claimed == 0).await;
    clock.advance(Duration::from_secs(900));
    until("all of them", async || ear.accepted().len() == 12).await;
}

/// R7.1. Sixty answers of 503 at once are one trouble: the wait begins at a second, not at its longest.
#[tokio::test]
async fn r7_1_refusals_side_by_side_are_one_wait_and_the_next_look_is_one_probe() {
    let ear = Ear { trusts: true, ..Ear::default() };
    ear.refusals.lock().expect("lock").extend(vec![(503, None); 8]);
    let clock = Clock::manual(Timestamp(1_000_000_000_000));
    let bridge = Bridge::start(&[("h", &ear, "concurrency = 8")], &clock).await;
    for n in 0..8 {
        bridge.happens(&format!("k{n}"), Some(n + 1), &["h"]).await;
    }
    until("eight refusals", async || {
        let mut tried = 0;
        for n in 0..8 {
            tried += bridge.detail(&format!("k{n}")).await.attempts.len();
        }
        tried >= 1 && bridge.store.handlers().await.expect("read")[0].claimed == 0
    })
    .await;
    let status = bridge.store.handlers().await.expect("read").remove(0);
    assert_eq!(
        (status.strain, status.wait_until.map(|until| until.since(clock.now()))),
        (1, Some(Duration::from_secs(1)))
    );
    let before = ear.requests.load(Ordering::SeqCst);
    if before < 8 {
        clock.advance(Duration::from_secs(1));
        until("the probe", async || ear.requests.load(Ordering::SeqCst) == before + 1).await;
    }
    // A clock that is set while an attempt is under way would count its wait from then on.
    until("nothing is under way", async || bridge.store.handlers().await.expect("read")[0].claimed == 0).await;
    ear.refusals.lock().expect("lock").clear();
    clock.advance(Duration::from_secs(600));
    until("all of them", async || ear.accepted().len() == 8).await;
}

#[tokio::test]
async fn what_a_rate_does_not_let_go_is_in_nobodys_hands() {
    let ear = Ear::default();
    let bridge = Bridge::start(&[("h", &ear, "rate = \"2/24h\"")], &Clock::system()).await;
    for key in ["a", "b", "c", "d"] {
        bridge.happens(key, None, &["h"]).await;
    }
    until("two have gone and two wait for a pause, a reload or their time", async || {
        let handler = bridge.store.handlers().await.expect("read").remove(0);
        (handler.pending, handler.claimed) == (2, 0)
    })
    .await;
    assert_eq!(ear.accepted.lock().expect("whole").len(), 2);
}
