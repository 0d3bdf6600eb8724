//! What a person has a stream do: look now, look back, forget, or pass on an event that is made up.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `POST /api/v1/streams/{source}/{stream}/poll`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollOrder {
    /// Asks and compares, stores and sends nothing.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PollReport {
    pub source: String,
    pub stream: String,
    pub dry_run: bool,
    pub result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub requests: Vec<PollRequest>,
    /// Absent when the listing did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<PollFound>,
}

/// A request that a poll made, with `***` for secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PollRequest {
    pub method: String,
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    pub bytes: u64,
    pub duration_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollFound {
    pub records: u64,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub unreadable: u64,
    /// Remembered without an event.
    pub silent: u64,
    pub events: u64,
}

/// `POST /api/v1/streams/…/trigger`: an event to be made up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerOrder {
    pub event_type: String,
    pub key: String,
    /// The record, kept as written; without it an empty object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// The made-up event, and how many handlers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    pub id: String,
    pub handlers: usize,
}

/// `POST /api/v1/streams/{source}/{stream}/reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetOrder {
    #[serde(default)]
    pub dry_run: bool,
}

/// What a reset forgets, or has forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    pub source: String,
    pub stream: String,
    pub dry_run: bool,
    pub records: u64,
    pub tombstones: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    pub base_revision: u64,
}

/// `POST /api/v1/streams/{source}/{stream}/backfill`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillOrder {
    /// Absent: from the declared start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// A look back: what it would find (dry run), or that it is ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backfilled {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<PollReport>,
    pub done: String,
}
