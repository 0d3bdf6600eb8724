//! What a run talks to: where pages go, and where answers come from. Narrow, so that a run can be tested with planned answers.

use std::sync::Arc;

use async_trait::async_trait;

use crate::client::{Bounds, Incoming, Outgoing, SendError};
use crate::ingest::{CursorValue, IngestError, PageAnswer, PageEnd, RunReport};
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
pub trait Sink: Send + Sync + 'static {
    fn begin(&self, stream: &Arc<SourceStream>, claim: StreamClaim, mode: Mode) -> Box<dyn SinkRun>;
}

/// One run as ingest sees it. A run that is dropped keeps nothing that was not committed.
#[async_trait]
pub trait SinkRun: Send {
    /// The value of `{{ cursor }}` for the whole run, its lookback taken off.
    fn cursor(&self) -> Option<CursorValue>;
    async fn page(&mut self, answer: PageAnswer) -> Result<PageEnd, IngestError>;
    /// The listing is complete.
    async fn finish(self: Box<Self>, validators: Option<String>) -> Result<RunReport, IngestError>;
    /// The listing broke off: what is not committed is dropped.
    async fn abandon(self: Box<Self>) -> Result<(), IngestError>;
}

/// Sends requests; one for each source.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    async fn fetch(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError>;
}
