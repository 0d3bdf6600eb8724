//! The one path from bytes to committed events: decode, compare with what is stored, choose handlers, then one store call.

use bytes::Bytes;
use http::HeaderMap;

use crate::model::Timestamp;

/// One answer of a listing, as fetched.
#[derive(Clone, Debug)]
pub struct PageAnswer {
    pub body: Bytes,
    pub headers: HeaderMap,
    /// The provider's own time of the answer (`Date`).
    pub date: Option<Timestamp>,
}

/// How a page ended: what pagination decides on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageEnd {
    /// Records in the page, before the stream's filter.
    pub records: usize,
    /// What `pagination.next` gave: token, id of the last record, or URL. None: null, missing or empty.
    pub next: Option<String>,
    /// What `pagination.more` gave.
    pub more: Option<bool>,
    /// What `pagination.total` gave.
    pub total: Option<u64>,
    /// `pagination.stop_when` was true.
    pub stop: bool,
    /// Hash of the page's records: the same page twice in a run is a loop.
    pub digest: [u8; 16],
}

/// The value that a request's `{{ cursor }}` stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum CursorValue {
    Time(Timestamp),
    /// As digits.
    Number(String),
    Text(String),
}

/// Why a page or a run could not be taken in. Nothing of it was kept, the cursor did not move.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum IngestError {
    /// The answer cannot be read: not JSON, HTML, a wrong kind.
    #[error("{0}")]
    Unreadable(String),
    /// The path to the records is missing or null.
    #[error("{0}")]
    PathMissing(String),
    /// Too many records of the page could not be read.
    #[error("{0}")]
    Records(String),
    /// A guard held the run.
    #[error("{0}")]
    Held(String),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    pub records: u64,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub unreadable: u64,
    /// Stored without an event (baseline).
    pub silent: u64,
    pub events: u64,
}
