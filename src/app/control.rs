//! What the daemon's own listeners may ask of it: poll now, read the configuration again.

use async_trait::async_trait;

use super::Daemon;
use crate::admin::{Control, ControlError, shape};
use crate::model::StreamName;
use crate::poll::{Mode, PollError};
use crate::store::StoreError;

#[async_trait]
impl Control for Daemon {
    async fn poll(&self, stream: &StreamName, dry_run: bool) -> Result<shape::PollReport, ControlError> {
        let mode = if dry_run { Mode::DryRun } else { Mode::Normal };
        let report = self.poller.poll_once(stream, mode).await.map_err(|error| match error {
            PollError::Unknown(_) => ControlError::Unknown(error.to_string()),
            PollError::Busy(_) | PollError::Store(StoreError::Busy(_)) => ControlError::Busy(error.to_string()),
            PollError::Store(_) => ControlError::Failed(error.to_string()),
        })?;
        Ok(shape::PollReport {
            source: stream.source.to_string(),
            stream: stream.stream.to_string(),
            dry_run,
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

    async fn reload(&self) -> Result<shape::Reloaded, ControlError> {
        Daemon::reload(self).await.map_err(ControlError::Configuration)?;
        Ok(shape::Reloaded::default())
    }
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
