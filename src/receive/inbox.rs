//! The step that takes stored webhooks in: claim a batch, route each, hand them to `ingest`, settle the rest. A crash leaves
//! leases behind and nothing else.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::warn;

use super::route::{Route, route};
use crate::ingest::{Ingest, RoutedInbound};
use crate::metrics::Metrics;
use crate::model::ProblemKind;
use crate::source::{SourceStream, Sources};
use crate::store::{ClaimedInbound, InboundOutcome, InboundSettled, Store};
use crate::worker::{Progress, Step, StepError};

const LEASE: Duration = Duration::from_secs(60);
const BATCH: usize = 256;

/// Takes stored webhooks in.
pub struct Inbox {
    store: Arc<dyn Store>,
    ingest: Arc<Ingest>,
    sources: ArcSwap<Sources>,
    metrics: Metrics,
}

impl Inbox {
    pub fn new(store: Arc<dyn Store>, ingest: Arc<Ingest>, sources: Sources, metrics: Metrics) -> Inbox {
        Inbox { store, ingest, sources: ArcSwap::from_pointee(sources), metrics }
    }

    /// Takes new sources at a reload.
    pub fn replace(&self, sources: Sources) {
        self.sources.store(Arc::new(sources));
    }

    /// Inbounds of one stream that stand one after another go in together; order of receipt is kept.
    async fn take(&self, claimed: Vec<ClaimedInbound>) -> Result<(), StepError> {
        let sources = self.sources.load_full();
        let mut run: Option<(Arc<SourceStream>, Vec<RoutedInbound>)> = None;
        let mut settled = Vec::new();
        for inbound in claimed {
            let (id, lease) = (inbound.id, inbound.lease);
            let routed = match sources.get(&inbound.source) {
                Some(source) => route(source, &inbound),
                None => Route::Unreadable("its source is no longer in the configuration".into()),
            };
            let outcome = match routed {
                Route::Merge(stream, records) => {
                    match &mut run {
                        Some((open, batch)) if open.name == stream.name => {
                            batch.push(RoutedInbound { inbound, records })
                        }
                        _ => {
                            self.flush(run.take()).await?;
                            run = Some((stream, vec![RoutedInbound { inbound, records }]));
                        }
                    }
                    continue;
                }
                Route::Notice(stream) => InboundOutcome::Notice(stream.name.clone()),
                Route::Ignored => {
                    self.metrics.webhook(Some(&inbound.source), "ignored");
                    InboundOutcome::Ignored
                }
                Route::Unreadable(reason) => {
                    warn!(source.name = %inbound.source, "a webhook cannot be read and is kept: {reason}");
                    let message = format!(
                        "a real webhook cannot be read: {reason}. It is kept. Check `[[webhook.messages]]` in the provider file."
                    );
                    self.store
                        .open_problem(ProblemKind::WebhookUnmatched, inbound.source.as_str(), &message)
                        .await
                        .map_err(StepError::new)?;
                    InboundOutcome::Unreadable(reason)
                }
            };
            settled.push(InboundSettled { id, lease, outcome });
        }
        self.flush(run).await?;
        if !settled.is_empty() {
            self.store.settle_inbounds(settled).await.map_err(StepError::new)?;
        }
        Ok(())
    }

    async fn flush(&self, run: Option<(Arc<SourceStream>, Vec<RoutedInbound>)>) -> Result<(), StepError> {
        let Some((stream, batch)) = run else { return Ok(()) };
        self.ingest.inbounds(&stream, batch).await.map(drop).map_err(StepError::new)
    }
}

impl Step for Inbox {
    async fn step(&self) -> Result<Progress, StepError> {
        let claimed = self.store.claim_inbounds(LEASE, BATCH).await.map_err(StepError::new)?;
        if claimed.is_empty() {
            return Ok(Progress::Idle { until: None });
        }
        self.take(claimed).await?;
        Ok(Progress::Worked)
    }
}
