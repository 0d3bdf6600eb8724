//! What a person may have done again: records, inbounds and deliveries that were set aside, and a look back at a stream.

use std::sync::Arc;

use super::Daemon;
use super::control::poll;
use crate::admin::{ControlError, shape};
use crate::ingest::{IngestError, Retried};
use crate::model::{HandlerName, ProblemKind, SourceName, StreamName};
use crate::poll::Mode;
use crate::source::SourceStream;

impl Daemon {
    pub(super) fn find_stream(&self, name: &StreamName) -> Result<Arc<SourceStream>, ControlError> {
        let sources = self.sources.load();
        let found = sources.get(&name.source).and_then(|source| source.streams.iter().find(|s| s.name == *name));
        found.cloned().ok_or_else(|| {
            ControlError::Unknown(format!("there is no stream `{name}`; `ringback source list` shows them"))
        })
    }

    /// Puts through again what the problem of this kind and subject is about.
    pub(super) async fn put_through(&self, kind: ProblemKind, subject: &str) -> Result<shape::Retried, ControlError> {
        match kind {
            ProblemKind::RecordUnreadable => {
                let name: StreamName = subject.parse().map_err(ControlError::Unknown)?;
                let stream = self.find_stream(&name)?;
                let retried = self.ingest.retry_set_aside(&stream).await.map_err(failed)?;
                Ok(told(retried, "read and taken in", "not needed any more", "still unreadable"))
            }
            ProblemKind::WhenFailed => {
                let retried = self.ingest.retry_when(&HandlerName::from(subject)).await.map_err(failed)?;
                Ok(told(retried, "let go", "not wanted after all", "still undecided"))
            }
            ProblemKind::WebhookUnmatched => {
                let source = SourceName::from(subject);
                let taken = self.store.retry_inbounds(&source).await.map_err(|error| failed(error.into()))?;
                self.store.close_problem(kind, subject).await.map_err(|error| failed(error.into()))?;
                let done = format!("{taken} real webhook(s) are in the inbox again");
                Ok(shape::Retried { taken, given_up: 0, left: 0, done })
            }
            other => Err(ControlError::Unknown(format!("nothing can be put through again for `{}`", other.as_str()))),
        }
    }

    /// Looks back at a stream: at once as a dry run, or with its next complete run.
    pub(super) async fn look_back(
        &self,
        name: &StreamName,
        order: shape::BackfillOrder,
    ) -> Result<shape::Backfilled, ControlError> {
        let stream = self.find_stream(name)?;
        let from = self.ingest.mark_from(&stream, order.from.as_deref()).map_err(ControlError::Failed)?;
        if !order.dry_run {
            self.store.set_backfill(name, Some(from)).await.map_err(|error| failed(error.into()))?;
            let done = format!(
                "the next run of {name} looks back: what differs from the stored records is announced, the mark stays"
            );
            return Ok(shape::Backfilled { report: None, done });
        }
        self.ingest.look_from(name, Some(from));
        let report = poll(&self.poller, name, Mode::DryRun).await;
        self.ingest.look_from(name, None);
        Ok(shape::Backfilled { report: Some(report?), done: "nothing was stored or sent".into() })
    }
}

fn failed(error: IngestError) -> ControlError {
    ControlError::Failed(error.to_string())
}

fn told(retried: Retried, taken_word: &str, given_up_word: &str, left_word: &str) -> shape::Retried {
    let Retried { taken, given_up, left } = retried;
    let done = format!("{taken} {taken_word}, {given_up} {given_up_word}, {left} {left_word}");
    shape::Retried { taken, given_up, left, done }
}
