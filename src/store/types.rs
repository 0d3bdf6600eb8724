//! What goes through the [`super::Store`] seam on the way to and from the working steps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::query::EventFilter;
use crate::model::{
    Attempt, Event, Fingerprint, HandlerName, HoldReason, Key, SeenBy, SourceName, StreamName, Timestamp,
};
pub use crate::wake::Wake;

// ---- configuration ----

/// What the configuration says, as far as the store must know it.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub streams: Vec<StreamSetup>,
    pub handlers: Vec<HandlerSetup>,
}

#[derive(Clone, Debug)]
pub struct StreamSetup {
    pub name: StreamName,
    /// The source's former name; state and event ids are carried over from it once.
    pub renamed_from: Option<SourceName>,
    /// Whether it is ever due by itself: false for webhook-only and switched-off streams.
    pub polled: bool,
    /// Hash over what makes a record the same (RULES R4.2): key, records, request.
    pub definition: String,
    /// Hash over the comparison rules alone (ignore, unordered, …).
    pub comparison: String,
    /// When a stream that was never polled is due: now plus this.
    pub first_due_in: Duration,
}

#[derive(Clone, Debug)]
pub struct HandlerSetup {
    pub name: HandlerName,
    pub renamed_from: Option<HandlerName>,
    /// false: its events are held as [`HoldReason::Paused`].
    pub enabled: bool,
}

/// What registering found.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    /// Sources with stored state that the configuration no longer names.
    pub orphaned_sources: Vec<SourceName>,
    /// Handlers with unsettled deliveries that the configuration no longer names.
    pub orphaned_handlers: Vec<HandlerName>,
    /// Streams whose stored definition differs; they are in phase baseline again.
    pub redefined: Vec<StreamName>,
}

// ---- poll ----

#[derive(Clone, Debug)]
pub enum Which {
    Due,
    Named(StreamName),
}

/// A right to write for one stream, with a fencing token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLease {
    pub stream: StreamName,
    pub token: u64,
}

#[derive(Clone, Debug)]
pub struct StreamClaim {
    pub lease: StreamLease,
    pub state: StreamState,
}

/// Whether a stream has had one complete run under its present definition (RULES R4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Baseline,
    Live,
}

/// What is stored of a stream beside its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    pub name: StreamName,
    /// The name the source was first stored under: part of every event id.
    pub source_id: SourceName,
    pub phase: Phase,
    pub definition: String,
    pub comparison: String,
    /// Raised by every commit that writes rows (RULES R5.1).
    pub change_number: u64,
    /// Where the next poll starts: JSON of the poller's own making, opaque here.
    pub mark: Option<String>,
    /// ETag and Last-Modified of the last accepted listing: JSON, opaque here.
    pub validators: Option<String>,
    /// Where a capped run goes on: JSON, opaque here.
    pub resume: Option<String>,
    /// The provider's time at the first answer (RULES R3.6).
    pub started_at: Option<Timestamp>,
    /// A complete listing was stored before: an unseen key is then a creation (RULES R3.1).
    pub listed_once: bool,
    /// New rows count revisions from here plus one (RULES R2.2).
    pub base_revision: u64,
    /// A run has its verdict and its journal is not yet released.
    pub releasing: bool,
    pub last_poll_at: Option<Timestamp>,
    pub last_ok_at: Option<Timestamp>,
    /// Polls that failed in a row.
    pub failures: u32,
}

/// One known record, without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// A small number, dense within the stream: its place in a run's bitmap.
    pub number: u32,
    pub fingerprint: Fingerprint,
    /// Hash of the raw bytes of the polled form last stored (RULES R3.4).
    pub raw_hash: Option<Fingerprint>,
    /// Fingerprint of the form that a webhook last brought (RULES R5.2).
    pub webhook_form: Option<Fingerprint>,
    pub version: Option<String>,
    /// Changes under this version so far, from 0.
    pub version_changes: u32,
    pub revision: u64,
    /// The stream's change number at this row's last write.
    pub change_number: u64,
    pub deleted: bool,
    /// Stored silently by a baseline, never announced (RULES R4.1).
    pub silent: bool,
    /// A listing has shown it at least once (RULES R6.1).
    pub listed: bool,
    /// The way that wrote it last.
    pub by: SeenBy,
    /// Complete listings in a row that did not show it.
    pub absences: u32,
}

/// One transaction of ingest: rows, events, deliveries, cursor, and what they settle.
#[derive(Clone, Debug)]
pub struct Commit {
    pub stream: StreamName,
    /// The poll's lease; None for an inbound's ingest, which [`Commit::inbounds`] fences.
    pub lease: Option<StreamLease>,
    /// The definition the caller thought under.
    pub definition: String,
    pub writes: Vec<RecordWrite>,
    /// Events that no row stands behind: made up by a person.
    pub loose_events: Vec<NewEvent>,
    /// Records that could not be read, with the reason (RULES R3.8).
    pub set_aside: Vec<SetAside>,
    /// Some: the new mark. None: it stays.
    pub mark: Option<String>,
    /// Some: replaces the resume point (inner None clears it).
    pub resume: Option<Option<String>>,
    pub started_at: Option<Timestamp>,
    /// Journal entries that this commit releases.
    pub released: Vec<u64>,
    /// Inbounds that this commit settles.
    pub inbounds: Vec<InboundSettled>,
    /// Some(phase, listed_once): the run ends with this commit.
    pub phase: Option<(Phase, bool)>,
    pub validators: Option<Option<String>>,
}

impl Commit {
    /// A commit that changes nothing yet.
    pub fn new(stream: StreamName, definition: String) -> Commit {
        Commit {
            stream,
            lease: None,
            definition,
            writes: Vec::new(),
            loose_events: Vec::new(),
            set_aside: Vec::new(),
            mark: None,
            resume: None,
            started_at: None,
            released: Vec::new(),
            inbounds: Vec::new(),
            phase: None,
            validators: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct RecordWrite {
    pub key: Key,
    /// Change number of the row that was thought with; None: the key was absent.
    pub expected: Option<u64>,
    pub fingerprint: Fingerprint,
    pub raw_hash: Option<Fingerprint>,
    pub webhook_form: Option<Fingerprint>,
    pub version: Option<String>,
    pub version_changes: u32,
    pub revision: u64,
    pub deleted: bool,
    pub silent: bool,
    pub listed: bool,
    pub by: SeenBy,
    pub absences: u32,
    pub body: BodyWrite,
    pub event: Option<NewEvent>,
}

/// What becomes of the body stored for the form that `by` brought.
#[derive(Clone, Debug)]
pub enum BodyWrite {
    Keep,
    Put(Bytes),
}

#[derive(Clone, Debug)]
pub struct NewEvent {
    pub event: Event,
    pub fingerprint: Fingerprint,
    /// The inbound it came with, for `native` emission.
    pub inbound: Option<InboundId>,
    pub deliveries: Vec<NewDelivery>,
}

#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub handler: HandlerName,
    /// Deliveries of one handler with equal order go one after another, in order of commit. None: no order.
    pub order: Option<u64>,
    pub hold: Option<HoldReason>,
}

#[derive(Clone, Debug)]
pub struct SetAside {
    pub raw: Bytes,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Events stored by this commit; smaller than asked when an id was there already.
    pub events: usize,
    pub change_number: u64,
}

/// A change found by a run that commits only at its end (RULES R1.3).
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// Given by the store; 0 when appended.
    pub id: u64,
    pub key: Key,
    /// None: the key is gone.
    pub record: Option<Bytes>,
    /// Released in order of (time, place); a newest-first listing gives falling places.
    pub time: Option<Timestamp>,
    pub place: i64,
    /// The stream's change number before the request that brought it (RULES R5.3).
    pub asked_at: u64,
}

#[derive(Clone, Debug)]
pub enum Verdict {
    /// The run is complete and under the guards: its journal will be released.
    Accepted {
        mark: Option<String>,
        validators: Option<String>,
        phase: Phase,
        listed_once: bool,
        started_at: Option<Timestamp>,
    },
    /// The run failed or is held: its journal is dropped, everything else stays.
    Dropped,
}

/// How a poll went, and when to look next.
#[derive(Clone, Debug)]
pub struct PollEnd {
    pub next_in: Duration,
    pub result: PollResult,
    /// Records seen, changes found, pages fetched.
    pub records: u64,
    pub changes: u64,
    pub pages: u64,
    pub duration: Duration,
    /// The error for a person when it failed.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollResult {
    Ok,
    /// 304: nothing new.
    NotModified,
    Failed,
    /// Ran into a cap or its deadline and goes on next time.
    Deferred,
}

impl PollResult {
    pub fn as_str(self) -> &'static str {
        match self {
            PollResult::Ok => "ok",
            PollResult::NotModified => "not_modified",
            PollResult::Failed => "failed",
            PollResult::Deferred => "deferred",
        }
    }
}

// ---- receive ----

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

// ---- deliver ----

/// A delivery's opaque identity, given by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub u64);

#[derive(Clone, Debug, Default)]
pub struct ClaimedDeliveries {
    pub deliveries: Vec<ClaimedDelivery>,
    /// When to ask again without being woken; None: when woken.
    pub next_due: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    pub id: DeliveryId,
    pub lease: u64,
    pub handler: HandlerName,
    pub event: Arc<Event>,
    /// The inbound it came with, for `native` emission.
    pub inbound: Option<Arc<InboundRequest>>,
    /// Attempts that counted so far (RULES R7.1).
    pub counted: u32,
    /// All attempts so far.
    pub attempts: u32,
    /// When it first became due: its age counts from here.
    pub first_due_at: Timestamp,
    pub replay: bool,
    /// How often in a row its handler had to be left alone before this claim; above zero, this delivery is the probe.
    pub strain: u32,
}

#[derive(Clone, Debug)]
pub struct Settled {
    pub id: DeliveryId,
    pub lease: u64,
    pub handler: HandlerName,
    pub attempt: Attempt,
    pub outcome: Outcome,
    pub handler_change: HandlerChange,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Delivered,
    /// Tried again after this long; `counted`: the attempt is one of the ten.
    Retry {
        after: Duration,
        counted: bool,
    },
    /// Gave up. `hold_key`: later deliveries of its order become held.
    Failed {
        hold_key: bool,
    },
    Held(HoldReason),
}

/// What an attempt says about its handler.
#[derive(Clone, Debug, PartialEq)]
pub enum HandlerChange {
    None,
    /// Nothing is sent to it for this long; then one delivery at a time, until one is accepted.
    Wait(Duration),
    /// The probe was accepted: it works again.
    Recovered,
    /// It wants no more (410): paused, its deliveries held.
    Pause(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Paused {
    pub by: String,
    pub reason: String,
}

/// What to send again.
#[derive(Clone, Debug)]
pub struct Replay {
    pub events: EventFilter,
    /// None: to each handler that had it (all its deliveries); Some: to this one.
    pub handler: Option<HandlerName>,
    pub dry_run: bool,
    /// Deliveries become due this far apart; zero: all at once.
    pub spacing: Duration,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReplayPlan {
    pub events: u64,
    pub deliveries: u64,
    pub bytes: u64,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
}

// ---- housekeeping and wake-ups ----

#[derive(Clone, Debug)]
pub struct Prune {
    /// Events settled before this, with their deliveries and attempts.
    pub events_before: Timestamp,
    /// Settled inbounds received before this.
    pub inbounds_before: Timestamp,
    /// Message ids received before this.
    pub message_ids_before: Timestamp,
    /// Rows a call may remove.
    pub limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A stream is due.
    Polls,
    Inbounds,
    Deliveries,
    /// A new line for `tail`.
    Attempts,
}
