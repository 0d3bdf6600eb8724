//! Events with their deliveries and attempts: in a list, in full, and as they happen.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Time;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub started_at: Time,
    pub duration_ms: u64,
    pub result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The start of the answer's body; what is not UTF-8 is replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    #[serde(flatten)]
    pub detail: AttemptDetail,
}

/// What an attempt sent, why then, and where its time went. Parts that are not known are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptDetail {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Secrets and signatures are masked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// From a closed set; absent when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// `first`, `retry`, `probe`, `replay` or `pull`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trigger: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u64>,
    /// TCP; absent when the connection was open already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    /// From the connection to the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
}

/// `GET /api/v1/events`: newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    pub events: Vec<EventSummary>,
    /// Given back as `after` it continues the listing; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventSummary {
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: String,
    pub stream: String,
    pub key: String,
    pub revision: u64,
    pub time: Time,
    pub seen_at: Time,
    pub deliveries: Vec<DeliverySummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverySummary {
    pub handler: String,
    pub state: String,
}

/// `GET /api/v1/events/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventDetail {
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub kind: String,
    pub source: String,
    pub stream: String,
    pub key: String,
    pub revision: u64,
    pub time: Time,
    pub seen: Seen,
    #[serde(default, skip_serializing_if = "is_false")]
    pub first_sight: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub test: bool,
    /// The record exactly as received. Absent when it was over the event cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Box<RawValue>>,
    /// By which rule it was announced, in a sentence.
    #[serde(default)]
    pub why: String,
    pub deliveries: Vec<DeliveryDetail>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub at: Time,
    /// `poll` or `webhook`.
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryDetail {
    pub handler: String,
    pub state: String,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub replay: bool,
    /// Attempts that used up one of the schedule.
    pub counted: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    pub attempts: Vec<Attempt>,
}

/// `GET /api/v1/tail`: attempts in the order in which they became visible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailPage {
    pub lines: Vec<TailLine>,
    /// Given back as `after` it continues. Absent: nothing was ever attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailLine {
    pub event: EventSummary,
    pub handler: String,
    /// The delivery's state after this attempt.
    pub state: String,
    /// Which attempt it was, from 1.
    pub number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    pub attempt: Attempt,
}

/// Which events: query of `GET /api/v1/events` and part of [`ReplayOrder`](super::ReplayOrder). Every part that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// `payment.*` matches every type that starts with `payment.`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// `pending`, `claimed`, `delivered`, `failed` or `held`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}
