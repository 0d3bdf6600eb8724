//! What is known of one key, and what was decided about it.

use serde::{Deserialize, Serialize};

use super::{Seen, Time};

/// `GET /api/v1/streams/{source}/{stream}/why?key=…`: what is known of one key, and what was decided about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    pub source: String,
    pub stream: String,
    pub key: String,
    /// Absent: no copy of it was ever stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<WhyRecord>,
    /// Its latest events, newest first.
    pub events: Vec<WhyEvent>,
    /// What was neither unchanged nor announced, the last of each kind, newest first.
    pub decisions: Vec<WhyDecision>,
    /// The stream's last runs, newest first.
    pub runs: Vec<WhyRun>,
    /// What it comes to, in a sentence.
    pub verdict: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyRecord {
    /// `live` or `deleted`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub revision: u64,
    /// The way that wrote it last.
    pub by: String,
    /// Taken without a word by a first look.
    pub silent: bool,
    /// Some listing has shown it.
    pub listed: bool,
    /// Complete listings in a row that did not show it.
    pub absences: u32,
    pub fingerprint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyEvent {
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub revision: u64,
    pub seen: Seen,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyDecision {
    pub at: Time,
    pub decided: String,
    pub by: String,
    pub count: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyRun {
    pub ended_at: Time,
    pub result: String,
    pub records: u64,
    pub changes: u64,
    pub pages: u64,
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
