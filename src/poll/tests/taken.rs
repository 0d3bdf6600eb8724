//! What a poll hands over, noted instead of ingested.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::ingest::{CursorValue, IngestError, PageAnswer, PageEnd, RunReport};
use crate::poll::{Mode, Sink, SinkRun};
use crate::source::SourceStream;
use crate::store::StreamClaim;

/// Takes pages in and says how each ended, by the records in `.items` and a token in `.next`.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<Mutex<Vec<String>>>);

struct TakenRun(Taken, RunReport);

#[async_trait]
impl Sink for Taken {
    async fn begin(
        &self,
        _stream: &Arc<SourceStream>,
        _claim: StreamClaim,
        mode: Mode,
    ) -> std::result::Result<Box<dyn SinkRun>, IngestError> {
        self.say(format!("begin {mode:?}"));
        Ok(Box::new(TakenRun(self.clone(), RunReport::default())))
    }
}

impl Taken {
    fn say(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

#[async_trait]
impl SinkRun for TakenRun {
    fn cursor(&self) -> Option<CursorValue> {
        None
    }

    async fn page(&mut self, answer: PageAnswer) -> std::result::Result<PageEnd, IngestError> {
        let json: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|_| IngestError::Unreadable("this is not JSON".into()))?;
        let missing = || IngestError::PathMissing("`.items` is missing".into());
        let records = json["items"].as_array().ok_or_else(missing)?.len();
        self.0.say(format!("page {records}"));
        self.1.created += records as u64;
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&(answer.body.len() as u64).to_be_bytes());
        let next = json["next"].as_str().map(str::to_owned);
        Ok(PageEnd { records, next, digest, ..PageEnd::default() })
    }

    async fn finish(self: Box<Self>, validators: Option<String>) -> std::result::Result<RunReport, IngestError> {
        self.0.say(format!("finish {}", validators.unwrap_or_default()).trim().to_owned());
        Ok(self.1)
    }

    async fn abandon(self: Box<Self>) -> std::result::Result<RunReport, IngestError> {
        self.0.say("abandon".to_owned());
        Ok(RunReport::default())
    }
}
