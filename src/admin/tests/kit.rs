//! A listener on a port of its own over a database with one event, and a daemon that only notes what it is asked.

use std::net::SocketAddr;
use std::result::Result;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::*;
use crate::listener::serve_router;
use crate::model::*;
use crate::store::sqlite::SqliteStore;
use crate::store::*;

const NOW: Timestamp = Timestamp(1_763_630_647_000);

/// A daemon that only notes what it is asked.
#[derive(Default)]
pub(super) struct Noted(pub(super) Mutex<Vec<String>>);

#[async_trait]
impl Control for Noted {
    async fn poll(&self, stream: &StreamName, dry_run: bool) -> Result<shape::PollReport, ControlError> {
        if &*stream.stream != "payments" {
            return Err(ControlError::Unknown(format!("there is no stream `{stream}`")));
        }
        self.0.lock().expect("no panic").push(format!("poll {stream} dry_run={dry_run}"));
        Ok(shape::PollReport {
            source: stream.source.to_string(),
            stream: stream.stream.to_string(),
            dry_run,
            result: "ok".into(),
            error: None,
            requests: Vec::new(),
            found: None,
        })
    }

    async fn trigger(&self, stream: &StreamName, order: shape::TriggerOrder) -> Result<shape::Triggered, ControlError> {
        let data = order.data.map_or_else(String::new, |data| data.get().to_owned());
        let asked = format!("trigger {stream} {} {} {data}", order.event_type, order.key);
        self.0.lock().expect("no panic").push(asked);
        Ok(shape::Triggered { id: "evt_test".into(), handlers: 1 })
    }

    async fn retry(&self, kind: ProblemKind, subject: &str) -> Result<shape::Retried, ControlError> {
        self.0.lock().expect("no panic").push(format!("retry {} {subject}", kind.as_str()));
        Ok(shape::Retried { taken: 1, given_up: 0, left: 0, done: "done".into() })
    }

    async fn backfill(
        &self,
        stream: &StreamName,
        order: shape::BackfillOrder,
    ) -> Result<shape::Backfilled, ControlError> {
        self.0.lock().expect("no panic").push(format!("backfill {stream} {:?} {}", order.from, order.dry_run));
        Ok(shape::Backfilled { report: None, done: "done".into() })
    }

    async fn replay_to_address(&self, order: shape::ReplayOrder, by: &str) -> Result<shape::ReplayPlan, ControlError> {
        self.0.lock().expect("no panic").push(format!("replay to {:?} like {:?}", order.to, order.like));
        Err(ControlError::Wrong(format!("not asked for by {by}")))
    }

    async fn reload(&self) -> Result<shape::Reloaded, ControlError> {
        Err(ControlError::Configuration("config.toml:3: unknown key `lisen`".into()))
    }
}

/// Stands in where nothing is asked of the store.
pub(in crate::admin) fn parts() -> Parts {
    let folder = tempfile::tempdir().expect("a folder");
    parts_in(&folder, Arc::default())
}

fn parts_in(folder: &tempfile::TempDir, control: Arc<Noted>) -> Parts {
    let clock = Clock::manual(NOW);
    let names = crate::admin::Names { hosts: Vec::new(), listen: Some([127, 0, 0, 1].into()) };
    Parts {
        store: Arc::new(SqliteStore::open(&folder.path().join("ringback.db"), clock.clone()).expect("opened")),
        metrics: Metrics::new(),
        heartbeat: Heartbeat::new(clock.clone()),
        clock,
        control,
        names: Arc::new(arc_swap::ArcSwap::from_pointee(names)),
    }
}

pub(in crate::admin) fn sample_status() -> shape::Status {
    let time = shape::Time(NOW);
    shape::Status {
        version: "0.1.0".into(),
        now: time,
        running: true,
        problems: vec![shape::Problem {
            kind: "auth.failed".into(),
            subject: "core".into(),
            message: "the API answered 401".into(),
            opened_at: time,
            last_seen_at: time,
            count: 2,
            acknowledged: false,
            held: None,
            decided: None,
        }],
        streams: vec![shape::Stream {
            source: "core".into(),
            stream: "payments".into(),
            polled: true,
            phase: "live".into(),
            paused: None,
            records: 1_200,
            failures: 0,
            last_poll_at: Some(time),
            last_ok_at: Some(time),
            next_poll_at: None,
            last_result: Some("ok".into()),
            last_records: 200,
            last_changes: 3,
            last_duration_ms: 182,
            last_error: None,
            set_aside: 0,
            score: shape::Score::default(),
        }],
        handlers: vec![shape::Handler {
            name: "billing".into(),
            configured: true,
            temporary: None,
            paused: None,
            wait_until: None,
            strain: 0,
            pending: 7,
            claimed: 0,
            delivered: 40,
            failed: 0,
            held: 0,
            oldest_pending_at: Some(time),
            last_attempt: None,
        }],
        inbox: shape::Inbox::default(),
        store: shape::Store::default(),
    }
}

/// A daemon's listener over a database with one event, delivered to `billing`.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) control: Arc<Noted>,
    pub(super) cancel: CancellationToken,
    pub(super) parts: Arc<Parts>,
    pub(super) folder: tempfile::TempDir,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Listening {
    pub(super) async fn start() -> Listening {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Arc::new(Noted::default());
        let parts = Arc::new(parts_in(&folder, control.clone()));
        register(&*parts.store).await;
        announce(&*parts.store, "evt_1", "P-1").await;
        deliver(&*parts.store).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let cancel = CancellationToken::new();
        tokio::spawn(serve_router(listener.into(), router(parts.clone()), cancel.clone()));
        Listening { address, control, cancel, parts, folder }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        answer(client().get(self.url(path))).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(json_post(self.url(path), body)).await
    }
}

pub(super) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

pub(super) fn json_post(url: String, body: Value) -> reqwest::RequestBuilder {
    client().post(url).header("content-type", "application/json").body(body.to_string())
}

pub(super) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn register(store: &dyn Store) {
    let stream = StreamSetup {
        name: StreamName::new("core", "payments"),
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
        .expect("registered");
}

pub(super) async fn announce(store: &dyn Store, id: &str, key: &str) {
    let stream = StreamName::new("core", "payments");
    let event = Event {
        id: id.into(),
        event_type: "payment.created".into(),
        kind: ChangeKind::Created,
        stream: stream.clone(),
        key: key.into(),
        revision: 1,
        time: NOW,
        seen_at: NOW,
        seen_by: SeenBy::Poll,
        data: Some(Bytes::from_static(br#"{"amount":10.00}"#)),
        previous: None,
        changed: None,
        first_sight: false,
        test: false,
    };
    let delivery = NewDelivery { handler: "billing".into(), order: None, hold: None };
    let write = RecordWrite {
        key: key.into(),
        expected: None,
        fingerprint: Fingerprint([1; 16]),
        raw_hash: None,
        webhook_form: None,
        version: None,
        version_changes: 0,
        revision: 1,
        deleted: false,
        silent: false,
        listed: true,
        by: SeenBy::Poll,
        absences: 0,
        place: None,
        body: BodyWrite::Put(Bytes::from_static(b"{}")),
        event: Some(NewEvent {
            event,
            fingerprint: Fingerprint([1; 16]),
            own_id: true,
            inbound: None,
            deliveries: vec![delivery],
        }),
    };
    store.commit(Commit { writes: vec![write], ..Commit::new(stream, "d".into()) }).await.expect("committed");
}

pub(super) async fn deliver(store: &dyn Store) {
    let claimed = store.claim_deliveries(Duration::from_secs(60), vec![("billing".into(), 8)]).await.expect("claimed");
    for delivery in claimed.deliveries {
        let attempt = Attempt {
            started_at: NOW,
            duration: Duration::from_millis(31),
            result: AttemptResult::Delivered,
            status: Some(200),
            error: None,
            answer: Bytes::from_static(b"thanks"),
            detail: Default::default(),
        };
        let settled = Settled {
            id: delivery.id,
            lease: delivery.lease,
            handler: delivery.handler,
            attempt,
            outcome: Outcome::Delivered,
            handler_change: HandlerChange::None,
        };
        store.settle(vec![settled]).await.expect("settled");
    }
}
