//! What the daemon's own listeners may ask of it: poll now, read the configuration again.

use async_trait::async_trait;

use super::Daemon;
use crate::admin::{Control, ControlError, shape};
use crate::ingest::MadeUp;
use crate::model::{ProblemKind, StreamName};
use crate::poll::{Mode, PollError, Poller};
use crate::store::StoreError;

#[async_trait]
impl Control for Daemon {
    async fn poll(&self, stream: &StreamName, dry_run: bool) -> Result<shape::PollReport, ControlError> {
        poll(&self.poller, stream, if dry_run { Mode::DryRun } else { Mode::Normal }).await
    }

    async fn retry(&self, kind: ProblemKind, subject: &str) -> Result<shape::Retried, ControlError> {
        self.put_through(kind, subject).await
    }

    async fn backfill(
        &self,
        stream: &StreamName,
        order: shape::BackfillOrder,
    ) -> Result<shape::Backfilled, ControlError> {
        self.look_back(stream, order).await
    }

    async fn trigger(&self, stream: &StreamName, order: shape::TriggerOrder) -> Result<shape::Triggered, ControlError> {
        let found = self.find_stream(stream)?;
        let data = order.data.map_or_else(|| "{}".to_owned(), |data| data.get().to_owned());
        let made_up = MadeUp { event_type: order.event_type, key: order.key.as_str().into(), data: data.into() };
        let (id, handlers) =
            self.ingest.trigger(&found, made_up).await.map_err(|e| ControlError::Failed(e.to_string()))?;
        Ok(shape::Triggered { id: id.to_string(), handlers })
    }

    async fn replay_to_address(&self, order: shape::ReplayOrder, by: &str) -> Result<shape::ReplayPlan, ControlError> {
        self.send_again_to(order, by).await
    }

    async fn reload(&self) -> Result<shape::Reloaded, ControlError> {
        let done = Daemon::reload(self).await.map_err(ControlError::Configuration)?;
        Ok(shape::Reloaded { changes: done.changes, warnings: done.waits })
    }
}

/// Polls one stream now.
pub(super) async fn poll(poller: &Poller, stream: &StreamName, mode: Mode) -> Result<shape::PollReport, ControlError> {
    let report = poller.poll_once(stream, mode).await.map_err(|error| match error {
        PollError::Unknown(_) => ControlError::Unknown(error.to_string()),
        PollError::Busy(_) | PollError::Rests(..) | PollError::Store(StoreError::Busy(_)) => {
            ControlError::Busy(error.to_string())
        }
        PollError::Store(_) => ControlError::Failed(error.to_string()),
    })?;
    Ok(shape::PollReport {
        source: stream.source.to_string(),
        stream: stream.stream.to_string(),
        dry_run: mode == Mode::DryRun,
        result: report.result.as_str().to_owned(),
        error: report.error,
        requests: report.requests.iter().map(request).collect(),
        found: report.report.map(|found| shape::PollFound {
            records: found.records,
            created: found.created,
            updated: found.updated,
            deleted: found.deleted,
            unreadable: found.unreadable,
            silent: found.silent,
            events: found.events,
        }),
    })
}

fn request(asked: &crate::poll::Asked) -> shape::PollRequest {
    shape::PollRequest {
        method: asked.method.clone(),
        url: asked.url.clone(),
        status: asked.status,
        records: asked.records.map(|n| n as u64),
        bytes: asked.bytes as u64,
        duration_ms: u64::try_from(asked.took.as_millis()).unwrap_or(u64::MAX),
    }
}
