//! What the stories of delivery begin with: a store that knows one stream, and records that happen in it, with their events.

use ringback::model::{ChangeKind, Event, Fingerprint, HandlerName, SeenBy, StreamName, Timestamp};
use ringback::store::{BodyWrite, Commit, HandlerSetup, NewDelivery, NewEvent, RecordWrite, Setup, Store, StreamSetup};
use std::time::Duration;

pub fn stream() -> StreamName {
    StreamName::new("core", "payments")
}

/// One stream, and these handlers.
pub fn setup(handlers: impl IntoIterator<Item = HandlerName>) -> Setup {
    let stream = StreamSetup {
        name: stream(),
        renamed_from: None,
        polled: true,
        definition: "d".into(),
        comparison: "c".into(),
        first_due_in: Duration::ZERO,
    };
    let handler = |name| HandlerSetup { name, renamed_from: None, enabled: true };
    let handlers = handlers.into_iter().map(handler).collect();
    Setup { streams: vec![stream], handlers, ..Setup::default() }
}

/// Stores one created record with its event for these handlers, each with its order.
pub async fn happens(store: &dyn Store, key: &str, to: &[(&str, Option<u64>)]) {
    happen(store, vec![created(key, to)]).await;
}

/// Stores these records with their events.
pub async fn happen(store: &dyn Store, writes: Vec<RecordWrite>) {
    let commit = Commit { writes, ..Commit::new(stream(), "d".into()) };
    store.commit(commit).await.expect("committed");
}

/// One created record with its event for these handlers, each with its order.
pub fn created(key: &str, to: &[(&str, Option<u64>)]) -> RecordWrite {
    let event = Event {
        id: format!("evt_{key}").into(),
        event_type: "payment.created".into(),
        kind: ChangeKind::Created,
        stream: stream(),
        key: key.into(),
        revision: 1,
        time: Timestamp(1_763_630_644_000),
        seen_at: Timestamp(1_763_630_644_000),
        seen_by: SeenBy::Poll,
        data: Some(format!(r#"{{"id":"{key}","amount":10.50,"note":"line\nbreak"}}"#).into()),
        previous: None,
        changed: None,
        first_sight: false,
        test: false,
    };
    let body = event.data.clone().expect("it has one");
    RecordWrite {
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
        body: BodyWrite::Put(body),
        event: Some(NewEvent {
            event,
            fingerprint: Fingerprint([1; 16]),
            own_id: true,
            inbound: None,
            deliveries: to
                .iter()
                .map(|(handler, order)| NewDelivery { handler: (*handler).into(), order: *order, hold: None })
                .collect(),
        }),
    }
}
