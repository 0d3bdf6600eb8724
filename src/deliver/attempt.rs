//! One attempt: made, judged, and told to the store together with those that end beside it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{error, warn};

use super::handler::Handler;
use super::outcome;
use super::settling::{Ended, Settling, Turn};
use super::standing::Change;
use super::transport::{self, Carried};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Attempt, AttemptDetail, AttemptResult, HandlerName, Trigger};
use crate::store::{ClaimedDelivery, DeliveryId, Outcome, Settled, Store, StoreError};

/// What attempts work with.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    metrics: Metrics,
    /// Rung when a permit is free again: what was due and found no room can go now.
    pub(super) freed: watch::Sender<u64>,
    settling: Settling,
}

impl Shared {
    pub(super) fn new(store: Arc<dyn Store>, clock: Clock, metrics: Metrics) -> Shared {
        Shared { store, clock, metrics, freed: watch::Sender::new(0), settling: Settling::default() }
    }

    /// Says that a permit was given back.
    pub(super) fn free(&self) {
        self.freed.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    pub(super) async fn attempt(&self, handler: Arc<Handler>, permit: OwnedSemaphorePermit, delivery: ClaimedDelivery) {
        let (started_at, clock) = (self.clock.now(), Instant::now());
        let Carried { tried, error, answer, detail } = transport::carry(&handler, &delivery, started_at).await;
        let duration = clock.elapsed();
        let delivered = tried.result == AttemptResult::Delivered;
        // What went well need not hold up the next; what did not may mean that there is to be no next.
        let permit = Some(permit).filter(|_| !delivered);
        if permit.is_none() {
            self.free();
        }
        let now = self.clock.now();
        let latency =
            (tried.result == AttemptResult::Delivered && !delivery.replay).then(|| now.since(delivery.event.seen_at));
        self.metrics.attempt(&handler.config.name, tried.result, duration, latency);
        let alone = handler.permits.available_permits() + usize::from(permit.is_some()) >= handler.config.concurrency;
        // What was never sent says nothing of how the handler is.
        let breaks = tried.result != AttemptResult::NotSent
            && handler.breaker.ended(&delivery.event.key, delivered, alone, delivery.strain > 0);
        let (outcome, handler_change) = outcome::judge(&tried, &delivery, &handler.config, breaks, now);
        if let Some(reason) = &error {
            self.log(&handler, &delivery, &outcome, reason);
        }
        let detail = AttemptDetail { trigger: trigger(&delivery), ..detail };
        let (result, status) = (tried.result, tried.status);
        let attempt = Attempt { started_at, duration, result, status, error, answer, detail };
        let (id, lease, name) = (delivery.id, delivery.lease, handler.config.name.clone());
        let settled = Settled { id, lease, handler: name, attempt, outcome, handler_change };
        if let Some(turn) = self.settling.join(Ended { handler, settled, permit }) {
            self.settle(turn).await;
        }
    }

    /// Tells the store of the attempts that have ended, until there are none.
    async fn settle(&self, mut turn: Turn<'_>) {
        while let Some(ended) = turn.next(&self.clock).await {
            let (mut settled, mut permits, mut changes) = (Vec::with_capacity(ended.len()), Vec::new(), Vec::new());
            for Ended { handler, settled: one, permit } in ended {
                let Attempt { result, error, detail, .. } = &one.attempt;
                let standing = handler.standing.ended(*result, detail.class, error.as_deref().unwrap_or_default());
                changes.extend(standing.into_iter().map(|change| (handler.clone(), change)));
                permits.extend(permit);
                settled.push(one);
            }
            let ids: Vec<DeliveryId> = settled.iter().map(|one| one.id).collect();
            let end = self.store.settle(settled).await;
            if !permits.is_empty() {
                drop(permits);
                self.free();
            }
            match end {
                // A lost lease means that somebody else has the delivery.
                Ok(_) | Err(StoreError::Stale | StoreError::Conflict) => {}
                // The process ends.
                Err(StoreError::Broken(_)) => return,
                Err(StoreError::Busy(reason)) => {
                    for id in ids {
                        warn!(delivery.id = id.0, "an attempt could not be settled: {reason}; it will be made again");
                    }
                }
            }
            for (handler, change) in changes {
                self.problem(&handler.config.name, change).await;
            }
        }
    }

    fn log(&self, handler: &Handler, delivery: &ClaimedDelivery, outcome: &Outcome, reason: &str) {
        let (name, id) = (&handler.config.name, &delivery.event.id);
        match outcome {
            Outcome::Failed { .. } => {
                error!(handler.name = %name, event.id = %id, "delivery failed for good: {reason}; replay it with `ringback replay {id}`");
            }
            _ => warn!(handler.name = %name, event.id = %id, "attempt {}: {reason}", delivery.attempts + 1),
        }
    }

    /// Opens or closes a problem of a handler. That it is gone, the store tells by itself.
    async fn problem(&self, name: &HandlerName, change: Change) {
        let done = match &change {
            Change::Open(kind, message) => self.store.open_problem(*kind, name.as_str(), message).await,
            Change::Close(kind) => self.store.close_problem(*kind, name.as_str()).await,
        };
        if let Err(error) = done {
            warn!(handler.name = %name, "a problem could not be noted: {error}");
        }
    }
}

/// What made this attempt happen now.
fn trigger(delivery: &ClaimedDelivery) -> Trigger {
    match delivery {
        ClaimedDelivery { strain: 1.., .. } => Trigger::Probe,
        ClaimedDelivery { attempts: 1.., .. } => Trigger::Retry,
        ClaimedDelivery { replay: true, .. } => Trigger::Replay,
        _ => Trigger::First,
    }
}
