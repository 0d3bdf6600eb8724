//! One screen: problems, streams, handlers, inbox and store.

use serde::{Deserialize, Serialize};

use super::{Attempt, Time};
use crate::model::Timestamp;

/// `GET /api/v1/status`: one screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub now: Time,
    /// False: read from the database while no daemon runs.
    pub running: bool,
    pub problems: Vec<Problem>,
    pub streams: Vec<Stream>,
    pub handlers: Vec<Handler>,
    pub inbox: Inbox,
    pub store: Store,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub kind: String,
    /// What it concerns: a source, a stream, a handler; empty for the daemon itself.
    pub subject: String,
    pub message: String,
    pub opened_at: Time,
    pub last_seen_at: Time,
    pub count: u64,
    pub acknowledged: bool,
    /// How many records a guard holds with it, for a person to approve or reject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<HeldDecision>,
}

/// What a person decided about what a guard holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDecision {
    pub approved: bool,
    /// How many were held then: about as many may pass.
    pub held: u64,
    pub by: String,
    pub at: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    pub source: String,
    pub stream: String,
    /// False: real webhooks alone feed it, or it is switched off.
    pub polled: bool,
    /// `baseline` until the first look is complete, then `live`.
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    pub records: u64,
    pub failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_poll_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ok_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_poll_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_result: Option<String>,
    pub last_records: u64,
    pub last_changes: u64,
    pub last_duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Records that could not be read and wait for `problem retry`.
    #[serde(default)]
    pub set_aside: u64,
    #[serde(default)]
    pub score: Score,
}

/// Who saw a stream's changes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    pub webhook: u64,
    pub poll: u64,
    /// Of both, those that the other way showed as well.
    pub both: u64,
    /// Found by a poll, and announced by no real webhook in time.
    pub recovered: u64,
}

impl Stream {
    /// `source/stream`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.source, self.stream)
    }

    /// How it is, in a word or two.
    pub fn state(&self) -> String {
        match (&self.paused, self.failures, &self.last_poll_at) {
            (Some(_), _, _) => "paused".into(),
            _ if !self.polled => "not polled".into(),
            (None, 0, None) => "not yet polled".into(),
            (None, 0, Some(_)) => if self.phase == "baseline" { "first look" } else { "ok" }.into(),
            (None, failures, _) => format!("failing ({failures} in a row)"),
        }
    }

    /// Whether the last looks failed.
    pub fn failing(&self) -> bool {
        self.paused.is_none() && self.failures > 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub by: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handler {
    pub name: String,
    /// False: the configuration no longer names it, or gives no manner in which this temporary one can be sent to.
    pub configured: bool,
    /// It came with a replay to an address and ends with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporary: Option<Temporary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Nothing is sent before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_until: Option<Time>,
    /// How often in a row it had to be left alone; above zero it is tried with one delivery at a time.
    #[serde(default)]
    pub strain: u32,
    pub pending: u64,
    pub claimed: u64,
    pub delivered: u64,
    pub failed: u64,
    pub held: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
}

/// What is special about a handler that came with a replay to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temporary {
    /// The handler in whose manner it is sent to.
    pub like: String,
    /// With `***` for the values of its query.
    pub url: String,
    pub replay: u64,
    /// Why nothing can be sent to it under the present configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Handler {
    /// How it is, in a word or two.
    pub fn state(&self, now: Timestamp) -> String {
        let failing = self.last_attempt.as_ref().is_some_and(|attempt| attempt.result != "delivered");
        match (&self.paused, self.wait_until) {
            (Some(_), _) => "paused".into(),
            _ if !self.configured && self.temporary.is_some() => "held".into(),
            _ if !self.configured => "not configured".into(),
            (None, Some(Time(until))) if until > now => "waiting".into(),
            _ if self.strain > 0 => "probing".into(),
            _ if failing && self.pending > 0 => "failing".into(),
            _ => "ok".into(),
        }
    }
}

/// `GET /api/v1/inbox`: real webhooks between arrival and ingest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inbox {
    pub pending: u64,
    pub ignored: u64,
    pub unreadable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending_at: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    pub bytes: u64,
    pub events: u64,
    pub records: u64,
    pub deliveries: u64,
    pub attempts: u64,
    pub inbounds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    pub version: String,
}
