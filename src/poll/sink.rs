//! What a run talks to: where pages go, and where answers come from. Narrow, so that a run can be tested with planned answers.

use std::sync::Arc;

use async_trait::async_trait;

use crate::client::{Bounds, Client, Incoming, Outgoing, SendError};
use crate::ingest::{self, CursorValue, Ingest, IngestError, PageAnswer, PageEnd, RunReport};
use crate::source::SourceStream;
use crate::store::StreamClaim;

/// Whether a poll stores what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Normal,
    /// Everything is asked and compared, nothing is written.
    DryRun,
}

/// Takes in the pages of runs.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    async fn begin(
        &self,
        stream: &Arc<SourceStream>,
        claim: StreamClaim,
        mode: Mode,
    ) -> Result<Box<dyn SinkRun>, IngestError>;
}

/// One run as ingest sees it. A run that is dropped keeps nothing that was not committed.
#[async_trait]
pub trait SinkRun: Send {
    /// The value of `{{ cursor }}` for the whole run, its lookback taken off.
    fn cursor(&self) -> Option<CursorValue>;
    async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError>;
    /// The listing is complete.
    async fn finish(self: Box<Self>, validators: Option<String>) -> Result<RunReport, IngestError>;
    /// The listing broke off: what is not committed is dropped, what is committed is told.
    async fn abandon(self: Box<Self>) -> Result<RunReport, IngestError>;
}

/// Sends requests; one for each source.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    async fn fetch(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError>;
}

#[async_trait]
impl Fetch for Client {
    async fn fetch(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError> {
        self.send(request, bounds).await
    }
}

#[async_trait]
impl Sink for Arc<Ingest> {
    async fn begin(
        &self,
        stream: &Arc<SourceStream>,
        claim: StreamClaim,
        mode: Mode,
    ) -> Result<Box<dyn SinkRun>, IngestError> {
        match mode {
            Mode::Normal => Ok(Box::new(Ingest::begin(self, stream, claim).await?)),
            Mode::DryRun => Ok(Box::new(Ingest::look(self, stream, claim.state))),
        }
    }
}

#[async_trait]
impl SinkRun for ingest::Run {
    fn cursor(&self) -> Option<CursorValue> {
        ingest::Run::cursor(self)
    }

    async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError> {
        ingest::Run::page(self, answer).await
    }

    async fn finish(self: Box<Self>, validators: Option<String>) -> Result<RunReport, IngestError> {
        ingest::Run::finish(*self, validators).await
    }

    async fn abandon(self: Box<Self>) -> Result<RunReport, IngestError> {
        ingest::Run::abandon(*self).await
    }
}

#[async_trait]
impl SinkRun for ingest::Look {
    fn cursor(&self) -> Option<CursorValue> {
        ingest::Look::cursor(self)
    }

    async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError> {
        ingest::Look::page(self, answer).await
    }

    async fn finish(self: Box<Self>, _validators: Option<String>) -> Result<RunReport, IngestError> {
        Ok(self.report())
    }

    async fn abandon(self: Box<Self>) -> Result<RunReport, IngestError> {
        Ok(self.report())
    }
}
