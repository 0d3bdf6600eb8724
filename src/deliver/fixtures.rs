//! What the tests of delivery begin with.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;
use crate::model::{ChangeKind, Event, SeenBy, StreamName, Timestamp};
use crate::shape::SourceFile;
use crate::store::{ClaimedDelivery, DeliveryId};

/// A handler as a file with only what is required gives it.
pub fn handler() -> config::Handler {
    let defaults = config::HandlerDefaults::default();
    config::Handler {
        name: "billing".into(),
        transport: config::Transport::Http,
        url: "http://127.0.0.1:9/hooks".parse().expect("an address"),
        secrets: Vec::new(),
        from: Vec::new(),
        types: Vec::new(),
        when: None,
        format: defaults.format,
        scheme: None,
        signed_url: None,
        headers: Vec::new(),
        custom: None,
        named_secrets: BTreeMap::new(),
        timeout: defaults.timeout,
        concurrency: defaults.concurrency,
        rate: None,
        order: defaults.order,
        after_failure: defaults.after_failure,
        retry: defaults.retry,
        max_backlog: None,
        tls: config::Tls::default(),
        proxy: config::Proxy::None,
        enabled: true,
        renamed_from: None,
        place: config::Place { file: SourceFile::new("t.toml", ""), span: 0..0 },
    }
}

/// A delivery with so many counted attempts behind it, first due at the beginning of time.
pub fn delivery(counted: u32) -> ClaimedDelivery {
    let event = Event {
        id: "evt_1".into(),
        event_type: "payment.created".into(),
        kind: ChangeKind::Created,
        stream: StreamName::new("core", "payments"),
        key: "P-1".into(),
        revision: 1,
        time: Timestamp(0),
        seen_at: Timestamp(0),
        seen_by: SeenBy::Poll,
        data: Some("{}".into()),
        previous: None,
        changed: None,
        first_sight: false,
        test: false,
    };
    ClaimedDelivery {
        id: DeliveryId(1),
        lease: 1,
        handler: "billing".into(),
        event: Arc::new(event),
        inbound: None,
        counted,
        attempts: counted,
        first_due_at: Timestamp(0),
        replay: false,
        strain: 0,
    }
}
