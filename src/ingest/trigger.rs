//! Made-up events: `ringback trigger`. They go the way of all others, to whoever subscribes, and say that they are a test.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ingest, IngestError, fingerprint};
use crate::model::{ChangeKind, Event, EventId, Key, SeenBy};
use crate::source::SourceStream;
use crate::store::{Commit, NewEvent, StoreError};

/// What to make up.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeUp {
    pub event_type: String,
    pub key: Key,
    /// A record: JSON.
    pub data: Bytes,
}

impl Ingest {
    /// Stores a made-up event of a stream; no record and no cursor is touched. Gives its id and how many handlers get it.
    pub async fn trigger(
        self: &Arc<Self>,
        stream: &Arc<SourceStream>,
        made_up: MadeUp,
    ) -> Result<(EventId, usize), IngestError> {
        let text = std::str::from_utf8(&made_up.data)
            .map_err(|_| IngestError::Unreadable("the data is not UTF-8 text".into()))?;
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|error| IngestError::Unreadable(format!("the data is not JSON: {error}")))?;
        let state = self.store.stream(&stream.name).await?.ok_or(StoreError::Stale)?;
        let now = self.clock.now();
        // Never the id of a real change: those are hashed over other parts.
        let form = fingerprint(format!("test {} {} {now} {text}", stream.name, made_up.key).as_bytes());
        let event = Event {
            id: EventId::from(format!("evt_test_{}", hex::encode(form.0))),
            event_type: made_up.event_type,
            kind: ChangeKind::Updated,
            stream: stream.name.clone(),
            key: made_up.key.clone(),
            revision: 0,
            time: now,
            seen_at: now,
            seen_by: SeenBy::Poll,
            data: Some(made_up.data),
            previous: None,
            changed: None,
            first_sight: false,
            test: true,
        };
        // No place in any order: a test must neither wait for real events nor hold them up.
        let mut deliveries = self.subscriptions().deliveries(&event, &state.source_id, made_up.key.as_str());
        deliveries.iter_mut().for_each(|delivery| delivery.order = None);
        let (id, heard) = (event.id.clone(), deliveries.len());
        let mut commit = Commit::new(stream.name.clone(), state.definition);
        commit.loose_events.push(NewEvent { event, fingerprint: form, own_id: true, inbound: None, deliveries });
        self.store.commit(commit).await?;
        Ok((id, heard))
    }
}
