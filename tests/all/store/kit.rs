//! Words that the stories of the store are told in: a place that a store can be opened at again and again, and short ways to
//! make what goes into it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringback::clock::Clock;
use ringback::model::*;
use ringback::store::sqlite::SqliteStore;
use ringback::store::*;

pub const LEASE: Duration = Duration::from_secs(60);

/// Where a store lives, with the clock it reads. A new process is a new [`Place::open`].
pub struct Place {
    pub folder: tempfile::TempDir,
    pub clock: Clock,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Place { folder, clock: Clock::manual(Timestamp(1_700_000_000_000)) }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ringback.db")
    }

    pub fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.file(), self.clock.clone()).expect("the store opens"))
    }

    /// A store that knows source `core` with streams `a` and `b` and handlers `x` and `y`.
    pub async fn ready(&self) -> Arc<dyn Store> {
        let store = self.open();
        store.register(setup()).await.expect("registers");
        store
    }
}

pub fn stream(name: &str) -> StreamName {
    StreamName::new("core", name)
}

pub fn stream_setup(name: StreamName) -> StreamSetup {
    StreamSetup {
        name,
        renamed_from: None,
        polled: true,
        definition: "d1".into(),
        comparison: "c1".into(),
        first_due_in: Duration::ZERO,
    }
}

pub fn handler_setup(name: &str) -> HandlerSetup {
    HandlerSetup { name: name.into(), renamed_from: None, enabled: true }
}

pub fn setup() -> Setup {
    Setup {
        sources: Vec::new(),
        streams: vec![stream_setup(stream("a")), stream_setup(stream("b"))],
        handlers: vec![handler_setup("x"), handler_setup("y")],
        temporaries: Vec::new(),
    }
}

pub fn to(handler: &str, order: Option<u64>) -> NewDelivery {
    NewDelivery { handler: handler.into(), order, hold: None }
}

/// A record of this key, seen now and thought with as absent.
pub fn write(key: &str, expected: Option<u64>) -> RecordWrite {
    RecordWrite {
        key: key.into(),
        expected,
        fingerprint: Fingerprint([7; 16]),
        raw_hash: Some(Fingerprint([8; 16])),
        webhook_form: None,
        version: Some("v1".into()),
        version_changes: 0,
        revision: 1,
        deleted: false,
        silent: false,
        listed: true,
        by: SeenBy::Poll,
        absences: 0,
        place: None,
        body: BodyWrite::Put(Bytes::from(format!("{{\"id\":\"{key}\"}}"))),
        event: None,
    }
}

pub fn event(id: &str, key: &str, seen_at: Timestamp) -> Event {
    Event {
        id: id.into(),
        event_type: "payment.created".into(),
        kind: ChangeKind::Created,
        stream: stream("a"),
        key: key.into(),
        revision: 1,
        time: seen_at,
        seen_at,
        seen_by: SeenBy::Poll,
        data: Some(Bytes::from_static(b"{\"a\":1}")),
        previous: Some(Bytes::from_static(b"{}")),
        changed: Some(Bytes::from_static(b"[\"/a\"]")),
        first_sight: false,
        test: false,
    }
}

/// A commit to stream `a` that announces one event with these deliveries, on a new key of the event's own name.
pub fn announce(clock: &Clock, id: &str, deliveries: Vec<NewDelivery>) -> Commit {
    let mut new = write(id, None);
    new.event = Some(NewEvent {
        event: event(id, id, clock.now()),
        fingerprint: Fingerprint([7; 16]),
        own_id: true,
        inbound: None,
        deliveries,
    });
    let mut commit = Commit::new(stream("a"), "d1".into());
    commit.writes.push(new);
    commit
}

pub async fn claim(store: &Arc<dyn Store>, handler: &str, permits: usize) -> Vec<ClaimedDelivery> {
    store.claim_deliveries(LEASE, vec![(handler.into(), permits)]).await.expect("claims").deliveries
}

pub fn ids(claimed: &[ClaimedDelivery]) -> Vec<&str> {
    claimed.iter().map(|delivery| delivery.event.id.as_str()).collect()
}

pub fn settled(claimed: &ClaimedDelivery, clock: &Clock, outcome: Outcome) -> Settled {
    let delivered = outcome == Outcome::Delivered;
    Settled {
        id: claimed.id,
        lease: claimed.lease,
        handler: claimed.handler.clone(),
        attempt: Attempt {
            started_at: clock.now(),
            duration: Duration::from_micros(1500),
            result: if delivered { AttemptResult::Delivered } else { AttemptResult::Refused },
            status: Some(if delivered { 200 } else { 500 }),
            error: (!delivered).then(|| "refused".to_string()),
            answer: Bytes::from_static(b"ok"),
            detail: Default::default(),
        },
        outcome,
        handler_change: HandlerChange::None,
    }
}

pub async fn settle(store: &Arc<dyn Store>, clock: &Clock, claimed: &ClaimedDelivery, outcome: Outcome) -> bool {
    store.settle(vec![settled(claimed, clock, outcome)]).await.expect("settles")[0]
}

pub async fn states(store: &Arc<dyn Store>, id: &str) -> Vec<(DeliveryState, Option<HoldReason>)> {
    let detail = store.event(&id.into()).await.expect("reads").expect("the event is stored");
    detail.deliveries.iter().map(|delivery| (delivery.state, delivery.hold)).collect()
}

pub fn paused() -> Option<Paused> {
    Some(Paused { by: "a person".into(), reason: "maintenance".into() })
}

pub fn poll_end(next_in: Duration, result: PollResult) -> PollEnd {
    PollEnd {
        next_in,
        result,
        records: 2,
        changes: 1,
        pages: 1,
        duration: Duration::from_millis(5),
        error: None,
        memory: None,
    }
}

pub fn inbound(message: Option<&str>, body: &'static str) -> NewInbound {
    inbound_of("core", message, body)
}

pub fn inbound_of(source: &str, message: Option<&str>, body: &'static str) -> NewInbound {
    let request = InboundRequest {
        method: "POST".into(),
        target: "/webhooks/core?x=1".into(),
        headers: vec![("content-type".into(), "application/json".into()), ("x-odd".into(), "\"ü".into())],
        body: Bytes::from_static(body.as_bytes()),
    };
    NewInbound { source: source.into(), message_id: message.map(String::from), request: Arc::new(request) }
}

/// Everything that is older than this.
pub fn older_than(before: Timestamp, limit: usize) -> Prune {
    Prune {
        events_before: before,
        inbounds_before: before,
        of_sources: Vec::new(),
        message_ids_before: before,
        tombstones_before: before,
        limit,
    }
}

pub async fn prune_all(store: &Arc<dyn Store>, before: Timestamp, limit: usize) {
    let prune = older_than(before, limit);
    let mut rounds = 0;
    while store.prune(prune.clone()).await.unwrap() {
        rounds += 1;
        assert!(rounds < 100, "pruning comes to an end");
    }
}

/// All that is stored, to `x`, at once.
pub fn everything_to_x() -> Replay {
    Replay {
        events: EventFilter::default(),
        to: ReplayTo::Handler("x".into()),
        dry_run: false,
        spacing: Duration::ZERO,
        fresh_ids: false,
        by: "a person".into(),
    }
}
