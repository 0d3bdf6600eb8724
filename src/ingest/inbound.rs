//! Real webhooks through the same path as a poll: judged, and committed together with what they settle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::judge::{Copy, Judge, RouteValues, Verdict};
use super::{Ingest, IngestError};
use super::{batch, decode, recompare, told};
use crate::jq::{Json, Vars};
use crate::model::{Key, ProblemKind, SeenBy};
use crate::source::SourceStream;
use crate::store::{
    ClaimedInbound, Commit, Decided, Decision, InboundOutcome, InboundSettled, StoreError, StreamState,
};

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
        let (commit, unreadable) = think(ingest, stream, &state, &vars, &part).await?;
        let news = told::News::of(&commit.writes);
        match ingest.store.commit(commit).await {
            Err(StoreError::Conflict) => {}
            other => {
                let committed = other?;
                news.tell(ingest, &stream.name).await?;
                if let Some(reason) = unreadable {
                    tell_unreadable(ingest, stream, &reason).await?;
                }
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
) -> Result<(Commit, Option<String>), IngestError> {
    let subscriptions = ingest.subscriptions();
    let judge = Judge {
        stream,
        state,
        source_id: &state.source_id,
        subscriptions: &subscriptions,
        vars,
        now: ingest.clock.now(),
        silent: false,
    };
    let mut commit = Commit::new(stream.name.clone(), state.definition.clone());
    commit.comparison = Some(state.comparison.clone());
    let mut unreadable = None;
    let (mut copies, mut owners) = (Vec::new(), Vec::new());
    for (n, routed) in part.iter().enumerate() {
        for record in &routed.records {
            owners.push(n);
            copies.push(copy(stream, record, routed, state));
        }
    }
    let judged = batch::judge(&*ingest.store, &judge, copies, &HashMap::new()).await?;
    let mut outcomes = vec![InboundOutcome::Done; part.len()];
    for ((copy, row, verdict), owner) in judged.verdicts.into_iter().zip(owners) {
        let mut decided = |what| {
            let (key, by) = (copy.key.clone(), SeenBy::Webhook);
            commit.decisions.push(Decision { key, by, what, detail: String::new() });
        };
        let polled = stream.announced && row.is_some_and(|row| row.by == SeenBy::Poll);
        match verdict {
            Ok(Verdict::Write(write)) => {
                if write.event.is_none() {
                    decided(Decided::Twin);
                    commit.announced.extend(polled.then(|| copy.key.clone()));
                }
                commit.writes.push(*write);
            }
            Ok(Verdict::Notice) => {
                decided(Decided::Notice);
                outcomes[owner] = InboundOutcome::Notice(stream.name.clone());
            }
            Ok(Verdict::Older(_)) => decided(Decided::Older),
            Ok(Verdict::Unchanged | Verdict::Overtaken) => {
                commit.announced.extend(polled.then(|| copy.key.clone()));
            }
            Err(reason) => {
                unreadable = Some(reason.clone());
                outcomes[owner] = InboundOutcome::Unreadable(reason);
            }
        }
    }
    let settled = part.iter().zip(outcomes);
    commit.inbounds = settled
        .map(|(routed, outcome)| InboundSettled { id: routed.inbound.id, lease: routed.inbound.lease, outcome })
        .collect();
    Ok((commit, unreadable))
}

/// A webhook that cannot be judged is kept and blocks nobody; a person is told.
async fn tell_unreadable(ingest: &Ingest, stream: &SourceStream, reason: &str) -> Result<(), IngestError> {
    let source = &stream.name.source;
    ingest.metrics.webhook(Some(source), "unreadable");
    let message = format!(
        "a real webhook for {} cannot be read: {reason}. It is kept. Correct the provider file, reload, then `ringback problem retry webhook.unmatched {source}`.",
        stream.name
    );
    ingest.problems.open(&*ingest.store, ProblemKind::WebhookUnmatched, source.as_str(), &message).await?;
    Ok(())
}

fn copy(stream: &SourceStream, record: &RoutedRecord, routed: &RoutedInbound, state: &StreamState) -> Copy {
    Copy {
        key: record.key.clone(),
        // What is routed is JSON, so it can be masked; what could not be would be nothing.
        raw: Some(match stream.spec.mask.as_slice() {
            [] => record.raw.clone(),
            places => decode::mask(places, &record.raw).unwrap_or_else(|_| Bytes::from_static(b"null")),
        }),
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
    let state = state.ok_or(IngestError::Store(StoreError::Stale))?;
    recompare::fresh_state(ingest, stream, state, None).await
}
