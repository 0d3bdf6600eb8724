//! Real webhooks through the same path as a poll: judged, and committed together with what they settle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::batch;
use super::judge::{Copy, Judge, RouteValues, Verdict};
use super::{Ingest, IngestError};
use crate::jq::{Json, Vars};
use crate::model::{Key, SeenBy};
use crate::source::SourceStream;
use crate::store::{ClaimedInbound, Commit, InboundOutcome, InboundSettled, StoreError, StreamState};

/// A real webhook with the records that its route finds in it.
#[derive(Clone, Debug)]
pub struct RoutedInbound {
    pub inbound: ClaimedInbound,
    pub records: Vec<RoutedRecord>,
}

/// A record inside a real webhook, with what its route says in place of the stream.
#[derive(Clone, Debug)]
pub struct RoutedRecord {
    pub key: Key,
    pub raw: Bytes,
    pub deleted: bool,
    pub version: Option<String>,
    pub time: Option<crate::model::Timestamp>,
    pub event_type: Option<String>,
}

/// How often a batch is thought through again because a poll wrote in between.
const RETHINKS: usize = 10;

/// Ingests inbounds of one stream in order of receipt. Each inbound is settled in the commit that stores what it brought.
pub(super) async fn ingest(
    ingest: &Arc<Ingest>,
    stream: &Arc<SourceStream>,
    inbounds: Vec<RoutedInbound>,
) -> Result<usize, IngestError> {
    let mut events = 0;
    let mut part: Vec<RoutedInbound> = Vec::new();
    let mut keys: HashSet<Key> = HashSet::new();
    for inbound in inbounds {
        // Two copies of one key are judged one after the other: the second against what the first left.
        if inbound.records.iter().any(|record| keys.contains(&record.key)) {
            events += commit(ingest, stream, std::mem::take(&mut part)).await?;
            keys.clear();
        }
        keys.extend(inbound.records.iter().map(|record| record.key.clone()));
        part.push(inbound);
    }
    if !part.is_empty() {
        events += commit(ingest, stream, part).await?;
    }
    Ok(events)
}

async fn commit(
    ingest: &Arc<Ingest>,
    stream: &Arc<SourceStream>,
    part: Vec<RoutedInbound>,
) -> Result<usize, IngestError> {
    let vars = Vars { settings: Json::from(&*stream.settings), ..Vars::default() };
    for _ in 0..RETHINKS {
        let state = state_of(ingest, stream).await?;
        let commit = think(ingest, stream, &state, &vars, &part).await?;
        let kinds: Vec<_> = commit.writes.iter().filter_map(|w| w.event.as_ref().map(|e| e.event.kind)).collect();
        match ingest.store.commit(commit).await {
            Err(StoreError::Conflict) => {}
            other => {
                let committed = other?;
                kinds.into_iter().for_each(|kind| ingest.metrics.event(kind));
                return Ok(committed.events);
            }
        }
    }
    Err(StoreError::Conflict.into())
}

async fn think(
    ingest: &Arc<Ingest>,
    stream: &Arc<SourceStream>,
    state: &StreamState,
    vars: &Vars,
    part: &[RoutedInbound],
) -> Result<Commit, IngestError> {
    let subscriptions = ingest.subscriptions();
    let judge = Judge {
        stream,
        state,
        source_id: &state.source_id,
        subscriptions: &subscriptions,
        vars,
        now: ingest.clock.now(),
    };
    let mut commit = Commit::new(stream.name.clone(), state.definition.clone());
    let (mut copies, mut owners) = (Vec::new(), Vec::new());
    for (n, routed) in part.iter().enumerate() {
        for record in &routed.records {
            owners.push(n);
            copies.push(copy(record, routed, state));
        }
    }
    let judged = batch::judge(&*ingest.store, &judge, copies, &HashMap::new()).await?;
    let mut outcomes = vec![InboundOutcome::Done; part.len()];
    for ((_, verdict), owner) in judged.verdicts.into_iter().zip(owners) {
        match verdict {
            Ok(Verdict::Write(write)) => commit.writes.push(*write),
            Ok(Verdict::Notice) => outcomes[owner] = InboundOutcome::Notice(stream.name.clone()),
            Ok(Verdict::Unchanged | Verdict::Older(_) | Verdict::Overtaken) => {}
            Err(reason) => outcomes[owner] = InboundOutcome::Unreadable(reason),
        }
    }
    let settled = part.iter().zip(outcomes);
    commit.inbounds = settled
        .map(|(routed, outcome)| InboundSettled { id: routed.inbound.id, lease: routed.inbound.lease, outcome })
        .collect();
    Ok(commit)
}

fn copy(record: &RoutedRecord, routed: &RoutedInbound, state: &StreamState) -> Copy {
    Copy {
        key: record.key.clone(),
        raw: Some(record.raw.clone()),
        raw_hash: None,
        by: SeenBy::Webhook,
        deleted: record.deleted,
        asked_at: state.change_number,
        route: Some(RouteValues {
            version: record.version.clone(),
            time: record.time,
            event_type: record.event_type.clone(),
            inbound: Some(routed.inbound.id),
        }),
    }
}

async fn state_of(ingest: &Ingest, stream: &SourceStream) -> Result<StreamState, IngestError> {
    let state = ingest.store.stream(&stream.name).await?;
    // Registered at start and at each reload: a stream without a row is one that a reload has just taken away.
    state.ok_or(IngestError::Store(StoreError::Stale))
}
