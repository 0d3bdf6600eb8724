//! A real webhook between arrival and ingest.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{SourceName, StreamName, Timestamp};

/// An inbound's opaque identity, given by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboundId(pub u64);

#[derive(Clone, Debug)]
pub struct NewInbound {
    pub source: SourceName,
    /// The provider's message id: a second one is a duplicate. None: every copy is taken.
    pub message_id: Option<String>,
    pub request: Arc<InboundRequest>,
}

/// A real webhook as it arrived, after verification.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct InboundRequest {
    pub method: String,
    /// Path and query as received.
    pub target: String,
    /// Names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundStored {
    New,
    Duplicate,
}

#[derive(Clone, Debug)]
pub struct ClaimedInbound {
    pub id: InboundId,
    pub lease: u64,
    pub source: SourceName,
    pub message_id: Option<String>,
    pub received_at: Timestamp,
    pub request: InboundRequest,
}

#[derive(Clone, Debug)]
pub struct InboundSettled {
    pub id: InboundId,
    pub lease: u64,
    pub outcome: InboundOutcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum InboundOutcome {
    Done,
    /// Matched no route.
    Ignored,
    /// Could not be decoded; kept with the reason, retried only by a person.
    Unreadable(String),
    /// Says only that something changed: this stream is polled now.
    Notice(StreamName),
}
