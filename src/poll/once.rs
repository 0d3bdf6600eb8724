//! One poll of one stream because a person asked: `ringback poll`, with or without storing what it finds.

use super::begin::{self, Beginning};
use super::claimed::{Went, facts};
use super::memory::Memory;
use super::run::{Asked, Begin, Polled, Run};
use super::settle::{self, Facts};
use super::sink::Mode;
use super::{LEASE, Poller, Ring};
use crate::ingest::RunReport;
use crate::model::StreamName;
use crate::store::{BY_ITSELF, PollResult, StoreError, StreamClaim, StreamLease, Which};

/// What one poll asked and what it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct PollReport {
    pub result: PollResult,
    /// Why it failed or waits: a sentence without secrets.
    pub error: Option<String>,
    /// What was found; None when the listing did not end well.
    pub report: Option<RunReport>,
    /// Requests in order, with `***` for secrets.
    pub requests: Vec<Asked>,
}

/// Why a poll could not begin.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PollError {
    #[error("there is no stream `{0}` that can be polled; `ringback status` lists them")]
    Unknown(StreamName),
    #[error("`{0}` is being polled at this moment; try again when that has ended")]
    Busy(StreamName),
    #[error("`{0}` is not polled: {1}")]
    Rests(StreamName, String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Poller {
    /// Polls one stream now, whether it is due or not. A dry run asks and compares as ever and writes nothing.
    pub async fn poll_once(&self, stream: &StreamName, mode: Mode) -> Result<PollReport, PollError> {
        let polled = self.0.find(stream).ok_or_else(|| PollError::Unknown(stream.clone()))?;
        let went = match mode {
            Mode::Normal => {
                let claim = self.0.store.claim_stream(Which::Named(stream.clone()), LEASE).await?;
                let Some(claim) = claim else { return Err(self.why_not(stream).await?) };
                let _ring = Ring(self.0.ended.clone());
                self.0.poll_claimed(&polled, claim, true).await?
            }
            Mode::DryRun => self.dry_run(&polled).await?,
        };
        let report = went.outcome.report().cloned();
        Ok(PollReport { result: went.result, error: went.error, report, requests: went.asked })
    }

    /// Why a stream could not be claimed.
    async fn why_not(&self, stream: &StreamName) -> Result<PollError, PollError> {
        let streams = self.0.store.streams().await?;
        let paused = streams.into_iter().find(|status| status.state.name == *stream).and_then(|status| status.paused);
        Ok(match paused.filter(|paused| paused.by == BY_ITSELF) {
            Some(paused) => PollError::Rests(stream.clone(), paused.reason),
            None => PollError::Busy(stream.clone()),
        })
    }

    /// Without a lease: token 0 is nobody's, so that a write by mistake would be refused as stale.
    async fn dry_run(&self, polled: &Polled) -> Result<Went, PollError> {
        let shared = &self.0;
        let name = &polled.stream.name;
        let state = shared.store.stream(name).await?.ok_or_else(|| PollError::Unknown(name.clone()))?;
        let claim = StreamClaim { lease: StreamLease { stream: name.clone(), token: 0 }, state: state.clone() };
        let memory = Memory::of(&state);
        let now = shared.clock.now();
        let decided = begin::decide(&polled.stream.spec, &state, &memory, polled.clock.at(now));
        let beginning = Beginning { dry: true, ..decided };
        let begin = Begin {
            store: &*shared.store,
            clock: &shared.clock,
            state: &state,
            memory: memory.clone(),
            beginning,
            insist: true,
        };
        let mut run = Run::new(polled, begin);
        let outcome = shared.look(&mut run, polled, claim, Mode::DryRun).await;
        let asked = std::mem::take(&mut run.asked);
        let facts =
            Facts { records: run.records, since_ok: None, ..facts(polled, &state, &memory, shared.clock.now()) };
        let settlement = settle::decide(&outcome, &facts).ok_or(StoreError::Stale)?;
        let error = settlement.error.map(|error| polled.mask.text(&error));
        Ok(Went { outcome, result: settlement.result, error, asked })
    }
}
