//! What the reading side of the [`super::Store`] gives to commands, dashboard and metrics.

use std::time::Duration;

use crate::model::{
    Attempt, DeliveryState, Event, EventId, HandlerName, HoldReason, Key, SourceName, StreamName, Timestamp,
};
use crate::store::types::{Decision, Paused, PollResult, StreamState, Temporary};

/// Which events; every part that is given must match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    pub ids: Vec<EventId>,
    pub source: Option<SourceName>,
    pub stream: Option<String>,
    /// Event type; `payment.*` matches every type that starts with `payment.`.
    pub event_type: Option<String>,
    pub key: Option<Key>,
    /// With a delivery to this handler.
    pub handler: Option<HandlerName>,
    /// With a delivery in this state (to `handler`, when given).
    pub state: Option<DeliveryState>,
    /// Seen at or after this.
    pub since: Option<Timestamp>,
    /// Seen before this.
    pub until: Option<Timestamp>,
    /// At most so many; 0 means the store's default (50).
    pub limit: usize,
    /// Continues a page: the former page's `next`.
    pub after: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    pub events: Vec<EventSummary>,
    /// Opaque; None at the end.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EventSummary {
    pub id: EventId,
    pub event_type: String,
    pub stream: StreamName,
    pub key: Key,
    pub revision: u64,
    pub time: Timestamp,
    pub seen_at: Timestamp,
    /// Handler and state of each delivery.
    pub deliveries: Vec<(HandlerName, DeliveryState)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EventDetail {
    pub event: Event,
    pub deliveries: Vec<DeliveryDetail>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryDetail {
    pub handler: HandlerName,
    pub state: DeliveryState,
    pub hold: Option<HoldReason>,
    pub replay: bool,
    pub counted: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamStatus {
    pub state: StreamState,
    pub polled: bool,
    pub paused: Option<Paused>,
    pub next_poll_at: Option<Timestamp>,
    /// Records known and not deleted.
    pub records: u64,
    pub last_result: Option<PollResult>,
    pub last_records: u64,
    pub last_changes: u64,
    pub last_duration: Duration,
    pub last_error: Option<String>,
    /// Records that were set aside and not yet put through again.
    pub set_aside: u64,
    pub score: Score,
}

/// Who saw a stream's changes first (DESIGN §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Changes that a real webhook brought first.
    pub webhook: u64,
    /// Changes that a poll found first.
    pub poll: u64,
    /// Of both, those that the other way showed as well.
    pub both: u64,
    /// Changes that a poll found and that no webhook announced within [`crate::store::ANNOUNCED_WITHIN`].
    pub recovered: u64,
}

/// A decision as kept: the last of its kind for its key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptDecision {
    pub decision: Decision,
    pub at: Timestamp,
    /// How often it was decided so.
    pub count: u64,
}

/// One of a stream's last runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunLine {
    pub ended_at: Timestamp,
    pub result: PollResult,
    pub records: u64,
    pub changes: u64,
    pub pages: u64,
    pub duration: Duration,
    pub error: Option<String>,
}

/// What resetting a stream forgets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forgotten {
    pub records: u64,
    pub tombstones: u64,
    pub mark: Option<String>,
    /// New rows count revisions from here plus one.
    pub base_revision: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HandlerStatus {
    pub name: HandlerName,
    /// False: no longer in the configuration, or a temporary one that nothing can be sent to.
    pub configured: bool,
    /// It came with a replay and ends with it.
    pub temporary: Option<Temporary>,
    pub paused: Option<Paused>,
    /// Nothing is sent before this.
    pub wait_until: Option<Timestamp>,
    /// How often in a row it had to be left alone; above zero it is tried with one delivery at a time.
    pub strain: u32,
    pub pending: u64,
    pub claimed: u64,
    pub delivered: u64,
    pub failed: u64,
    pub held: u64,
    pub oldest_pending_at: Option<Timestamp>,
    pub last_attempt: Option<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct InboxStatus {
    pub pending: u64,
    pub ignored: u64,
    pub unreadable: u64,
    pub oldest_pending_at: Option<Timestamp>,
}

/// Where a reader of `tail` stands; opaque, issued in order of visibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailPosition(pub String);

#[derive(Clone, Debug, PartialEq)]
pub struct TailPage {
    pub lines: Vec<TailLine>,
    pub next: Option<TailPosition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TailLine {
    pub event: EventSummary,
    pub handler: HandlerName,
    pub state: DeliveryState,
    /// Which attempt this was, from 1.
    pub number: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub attempt: Attempt,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct StoreStats {
    /// Bytes on disk, the log of writes included.
    pub bytes: u64,
    pub events: u64,
    pub records: u64,
    pub deliveries: u64,
    pub attempts: u64,
    pub inbounds: u64,
    /// Free bytes on the file system that holds it; None when unknown.
    pub free_bytes: Option<u64>,
    /// Bytes of that file system in all; None when unknown.
    pub disk_bytes: Option<u64>,
    pub version: String,
}
