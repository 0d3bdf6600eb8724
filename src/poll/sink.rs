//! What a run talks to: where pages go, and where answers come from. Narrow, so that a run can be tested with planned answers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::client::{Bounds, Client, Incoming, Outgoing, SendError};
use crate::ingest::{self, CursorValue, Ingest, IngestError, PageAnswer, PageEnd, RunProgress, RunReport, Whose};
use crate::jq::Json;
use crate::model::{Key, Timestamp};
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

    /// Numbered pages over an order that may change: rows can have slipped from one to the other (RULES R1.5).
    fn drifts(&mut self) {}
    /// The next page is asked for by its number, within one tick of a listing that is filtered by its cursor: until it shows whether
    /// there was anything more, the mark stays (RULES R1.5).
    fn holds(&mut self, _holds: bool) {}
    /// The first page is asked for again, from its last record on: what comes now is in an order of its own.
    fn steps(&mut self) {}
    /// The place to go on from is this link.
    fn told(&mut self, _link: &str) {}
    /// Everything up to this moment has been listed, and nothing is written there any more.
    fn passed(&mut self, _until: Timestamp) {}
    /// The parents that there are now.
    fn parents(&mut self, _ids: &[&str]) {}
    /// Pages from here on are those of one parent, or of several that one request names.
    fn enter(&mut self, _whose: &[Whose], _values: &Json) {}
    /// Whether an earlier run listed this parent whole.
    fn is_marked(&self, _parent: &str) -> bool {
        true
    }
    /// The pages of these parents have ended; false: not all of them were read.
    fn leave(&mut self, _listed: bool) {}
    /// The listing has ended, and does not show that it was all of it.
    fn unproven(&mut self) {}
    /// Not everything was listed: the run is accepted, and proves nothing of what is missing.
    fn incomplete(&mut self) {}
    /// How far the run has come.
    fn progress(&self) -> RunProgress {
        RunProgress::default()
    }
    /// Where an earlier run of the stream stopped, as [`SinkRun::pause`] was told.
    fn resume(&self) -> Option<String> {
        None
    }
    /// Stops here and goes on with the next run.
    async fn pause(self: Box<Self>, _point: String) -> Result<RunReport, IngestError> {
        self.abandon().await
    }
    /// Leaves the resume point as it was: what broke off may go well the next time.
    async fn put_off(self: Box<Self>) -> Result<RunReport, IngestError> {
        self.abandon().await
    }
    /// Records that this complete listing would report as deleted, with their bodies.
    async fn absent(&mut self) -> Result<Vec<(Key, Option<Bytes>)>, IngestError> {
        Ok(Vec::new())
    }
    /// This one is not gone, or nobody could tell.
    fn spare(&mut self, _key: &Key) {}
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
    fn drifts(&mut self) {
        ingest::Run::drifts(self);
    }

    fn holds(&mut self, holds: bool) {
        ingest::Run::holds(self, holds);
    }

    fn steps(&mut self) {
        ingest::Run::steps(self);
    }

    fn told(&mut self, link: &str) {
        ingest::Run::told(self, link);
    }

    fn passed(&mut self, until: Timestamp) {
        ingest::Run::passed(self, until);
    }

    fn parents(&mut self, ids: &[&str]) {
        ingest::Run::parents(self, ids);
    }

    fn enter(&mut self, whose: &[Whose], values: &Json) {
        ingest::Run::enter(self, whose, values);
    }

    fn is_marked(&self, parent: &str) -> bool {
        ingest::Run::is_marked(self, parent)
    }

    fn leave(&mut self, listed: bool) {
        ingest::Run::leave(self, listed);
    }

    fn unproven(&mut self) {
        ingest::Run::unproven(self);
    }

    fn incomplete(&mut self) {
        ingest::Run::incomplete(self);
    }

    fn progress(&self) -> RunProgress {
        ingest::Run::progress(self)
    }

    fn resume(&self) -> Option<String> {
        ingest::Run::resume(self)
    }

    async fn pause(self: Box<Self>, point: String) -> Result<RunReport, IngestError> {
        ingest::Run::pause(*self, point).await
    }

    async fn put_off(self: Box<Self>) -> Result<RunReport, IngestError> {
        ingest::Run::put_off(*self).await
    }

    async fn absent(&mut self) -> Result<Vec<(Key, Option<Bytes>)>, IngestError> {
        ingest::Run::absent(self).await
    }

    fn spare(&mut self, key: &Key) {
        ingest::Run::spare(self, key);
    }

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
    fn enter(&mut self, whose: &[Whose], values: &Json) {
        ingest::Look::enter(self, whose, values);
    }

    fn is_marked(&self, parent: &str) -> bool {
        ingest::Look::is_marked(self, parent)
    }

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
