//! The shapes of the JSON API: a contract with its callers, written down as types and shared with the commands.
//!
//! Times are RFC 3339 in UTC, durations whole milliseconds, absent values are left out. Members are only ever added.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::Timestamp;

/// A moment, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = chrono::DateTime::parse_from_rfc3339(&text)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a time such as 2026-11-20T09:24:07Z")))?;
        Ok(Time(Timestamp::from(time.to_utc())))
    }
}

/// Why a request was refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub error: String,
    pub help: String,
}

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    pub records: u64,
    pub failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ok_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_poll_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_result: Option<String>,
    pub last_records: u64,
    pub last_changes: u64,
    pub last_duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// False: the configuration no longer names it.
    pub configured: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Nothing is sent before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_until: Option<Time>,
    /// How often in a row it had to be left alone; above zero it is tried with one delivery at a time.
    #[serde(default)]
    pub strain: u32,
    pub pending: u64,
    pub claimed: u64,
    pub delivered: u64,
    pub failed: u64,
    pub held: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
}

impl Handler {
    /// How it is, in a word or two.
    pub fn state(&self, now: Timestamp) -> String {
        let failing = self.last_attempt.as_ref().is_some_and(|attempt| attempt.result != "delivered");
        match (&self.paused, self.wait_until) {
            (Some(_), _) => "paused".into(),
            _ if !self.configured => "not configured".into(),
            (None, Some(Time(until))) if until > now => "waiting".into(),
            _ if self.strain > 0 => "probing".into(),
            _ if failing && self.pending > 0 => "failing".into(),
            _ => "ok".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub started_at: Time,
    pub duration_ms: u64,
    pub result: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// `GET /api/v1/inbox`: real webhooks between arrival and ingest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inbox {
    pub pending: u64,
    pub ignored: u64,
    pub unreadable: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    pub version: String,
}

/// `GET /api/v1/events`: newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    pub events: Vec<EventSummary>,
    /// Given back as `after` it continues the listing; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub replay: bool,
    /// Attempts that used up one of the schedule.
    pub counted: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    pub attempts: Vec<Attempt>,
}

/// `GET /api/v1/tail`: attempts in the order in which they became visible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailPage {
    pub lines: Vec<TailLine>,
    /// Given back as `after` it continues. Absent: nothing was ever attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    pub attempt: Attempt,
}

/// Which events: query of `GET /api/v1/events` and part of [`ReplayOrder`]. Every part that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// `payment.*` matches every type that starts with `payment.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// `pending`, `claimed`, `delivered`, `failed` or `held`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// `POST /api/v1/replay`: the events named, or all that match the query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    #[serde(default)]
    pub ids: Vec<String>,
    #[serde(default)]
    pub events: EventQuery,
    /// Absent: to each handler that had the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
    /// Deliveries become due this far apart; 0: all at once.
    #[serde(default)]
    pub spacing_ms: u64,
    /// Each event under a new id, so that handlers which drop repeats take it again.
    #[serde(default)]
    pub fresh_ids: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPlan {
    pub dry_run: bool,
    pub events: u64,
    pub deliveries: u64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// Absent: nothing was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
}

/// `GET /api/v1/replays`: replays that were asked for, the newest first; `GET /api/v1/replays/{id}`: one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayJob {
    pub id: u64,
    /// `running`, `done` or `cancelled`.
    pub state: String,
    pub started_at: Time,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default)]
    pub fresh_ids: bool,
    pub events: u64,
    pub deliveries: u64,
    pub pending: u64,
    pub delivered: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// When the last of them becomes due.
    pub last_due_at: Time,
}

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub requests: Vec<PollRequest>,
    /// Absent when the listing did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<PollFound>,
}

/// A request that a poll made, with `***` for secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PollRequest {
    pub method: String,
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<serde_json::value::RawValue>>,
}

/// The made-up event, and how many handlers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    pub id: String,
    pub handlers: usize,
}

/// `POST …/pause`: why, for those who find it paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseOrder {
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/v1/problems/ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckOrder {
    pub kind: String,
    #[serde(default)]
    pub subject: String,
}

/// `POST /api/v1/problems/retry`: what became of what was put through again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    pub taken: u64,
    pub given_up: u64,
    pub left: u64,
    pub done: String,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    pub base_revision: u64,
}

/// `POST /api/v1/streams/{source}/{stream}/backfill`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillOrder {
    /// Absent: from the declared start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// A look back: what it would find (dry run), or that it is ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backfilled {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<PollReport>,
    pub done: String,
}

/// `GET /api/v1/streams/{source}/{stream}/why?key=…`: what is known of one key, and what was decided about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    pub source: String,
    pub stream: String,
    pub key: String,
    /// Absent: no copy of it was ever stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What an action came to, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub done: String,
}

/// `POST /api/v1/reload`: what the new configuration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub changes: Vec<String>,
    pub warnings: Vec<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_out_and_come_back_as_rfc_3339_in_utc() {
        for (time, text) in
            [(Timestamp(0), "\"1970-01-01T00:00:00Z\""), (Timestamp(1_500), "\"1970-01-01T00:00:01.500Z\"")]
        {
            assert_eq!(serde_json::to_string(&Time(time)).expect("written"), text);
            assert_eq!(serde_json::from_str::<Time>(text).expect("read"), Time(time));
        }
        let elsewhere: Time = serde_json::from_str("\"1970-01-01T02:00:00+02:00\"").expect("read");
        assert_eq!(elsewhere, Time(Timestamp(0)));
        assert!(serde_json::from_str::<Time>("\"yesterday\"").is_err());
    }

    #[test]
    fn a_misspelt_part_of_an_order_is_refused() {
        assert!(serde_json::from_str::<ReplayOrder>(r#"{"ids":["evt_1"],"dryrun":true}"#).is_err());
    }
}
