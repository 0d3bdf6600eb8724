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
    pub sources: Vec<SourceSetup>,
    pub streams: Vec<StreamSetup>,
    pub handlers: Vec<HandlerSetup>,
}

#[derive(Clone, Debug)]
pub struct SourceSetup {
    pub name: SourceName,
    /// Where it is asked (`base_url`): what is known of another place says nothing of this one (RULES R2.4).
    pub address: String,
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
    /// Streams whose comparison rules alone differ: their records are fingerprinted anew before the next look.
    pub recompared: Vec<StreamName>,
    /// Sources with state from another address than the one they have now; not polled until a person confirms it (RULES R2.4).
    pub readdressed: Vec<Readdressed>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Readdressed {
    pub source: SourceName,
    pub from: String,
    pub to: String,
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
    /// What polling remembers beside the mark: JSON of the poller's own making, opaque here.
    pub memory: Option<String>,
    pub detection: Detection,
}

/// How a stream's changes are being found just now: what stands between two runs beside mark and rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detection {
    /// The definition changed: the next complete run takes a new baseline; so many records were taken silently so far (RULES R4.2).
    pub retaken: Option<u64>,
    /// The comparison rules changed: the stored records are to be fingerprinted anew (RULES R4.2).
    pub recompare: bool,
    /// What the run whose journal is being released began with: phase, and whether a complete listing was stored before it.
    pub released_as: Option<(Phase, bool)>,
    /// The next complete run asks from here instead of the mark: a mark as JSON, or the empty text for the declared start.
    pub backfill: Option<String>,
    /// Records known and not deleted.
    pub records: u64,
    /// Changes that real webhooks announced in a row without one that only a poll found.
    pub announced_in_row: u64,
    /// Keys that stand below this place were forgotten with age: a listing that shows one shows nothing new (RULES R9.2).
    pub forgotten_below: Option<i64>,
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
    /// When it was written last, where that matters: by a real webhook, or as deleted.
    pub written_at: Option<Timestamp>,
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
    /// The comparison rules the caller thought under; None: whatever they are.
    pub comparison: Option<String>,
    /// Some: puts the mark back to where a run found it, because its listing broke the declared order (RULES R1.2).
    pub unmark: Option<Option<String>>,
    /// Records that a new baseline takes silently with this commit (RULES R4.2).
    pub retaken: u64,
    /// Every stored record now has its fingerprint under `comparison`.
    pub recompared: bool,
    /// Deletions in this commit that rest on absence alone and that no person approved (RULES R6.2).
    pub absent: u64,
    /// Set-aside records that this commit takes in or gives up.
    pub retried: Vec<u64>,
    pub decisions: Vec<Decision>,
    /// Keys whose change a poll found first, in a stream that real webhooks announce.
    pub awaited: Vec<Key>,
    /// Keys for which a real webhook brought what a poll had found.
    pub announced: Vec<Key>,
    /// Changes that a webhook announced and that a poll now shows as well.
    pub confirmed: u64,
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
            comparison: None,
            unmark: None,
            retaken: 0,
            recompared: false,
            absent: 0,
            retried: Vec::new(),
            decisions: Vec::new(),
            awaited: Vec::new(),
            announced: Vec::new(),
            confirmed: 0,
        }
    }
}

/// How long a change that a poll found waits for its real webhook, before it counts as recovered by the poll.
pub const ANNOUNCED_WITHIN: Duration = Duration::from_secs(120);

/// What was decided for a key that was neither unchanged nor announced, and by which rule: for `ringback why`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub key: Key,
    pub by: SeenBy,
    pub what: Decided,
    /// What a person should know besides.
    pub detail: String,
}

/// From a closed set: what became of a copy or an absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decided {
    /// Older than what is stored (RULES R3.5, R5.2).
    Older,
    /// A real webhook wrote the record after the page was asked for (RULES R5.3).
    Overtaken,
    /// A real webhook that cannot be placed by version: the stream was polled instead (RULES R5.2, R5.4).
    Notice,
    /// The same change by the other way (RULES R5.2).
    Twin,
    /// A second, different copy in one listing (RULES R1.7).
    Contradicted,
    /// Could not be read (RULES R3.8).
    SetAside,
    /// Not shown by a complete listing, and waiting for another (RULES R6.1).
    Absent,
    /// Deleted, because enough complete listings did not show it (RULES R6.1).
    Gone,
    /// Its deletion, or the run that changed it, is held for a person (RULES R6.2).
    Held,
    /// Taken silently by a new baseline, or no longer part of the listing under the new definition (RULES R4.2).
    Retaken,
}

impl Decided {
    pub fn as_str(self) -> &'static str {
        match self {
            Decided::Older => "older",
            Decided::Overtaken => "overtaken",
            Decided::Notice => "notice",
            Decided::Twin => "twin",
            Decided::Contradicted => "contradicted",
            Decided::SetAside => "set aside",
            Decided::Absent => "absent",
            Decided::Gone => "gone",
            Decided::Held => "held",
            Decided::Retaken => "retaken",
        }
    }

    /// The rule behind it, in a sentence.
    pub fn rule(self) -> &'static str {
        match self {
            Decided::Older => {
                "a copy older than the stored one is ignored; a polled one counts when a second run shows it"
            }
            Decided::Overtaken => "a page asked for before a real webhook wrote the record says nothing about it",
            Decided::Notice => "a real webhook whose place in the order is unknown makes the stream be polled instead",
            Decided::Twin => "the same change seen by the other way is stored and not announced again",
            Decided::Contradicted => "a key is judged once a run; a second copy counts only with a greater version",
            Decided::SetAside => "a record that cannot be read is kept apart and stops nothing",
            Decided::Absent => {
                "a record is gone only after as many complete listings without it as `confirm_after` says"
            }
            Decided::Gone => "enough complete listings in a row did not show it",
            Decided::Held => "too much at once waits for a person",
            Decided::Retaken => "a changed definition takes a new baseline without events",
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
    /// Where it stands in the order of the stream's cursor, where seen keys are forgotten by it. None: as stored.
    pub place: Option<i64>,
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

/// A record that could not be read. Kept once, however often it is shown.
#[derive(Clone, Debug)]
pub struct SetAside {
    /// As received, up to the cap.
    pub raw: Bytes,
    /// The name of its member, where records are an object's members.
    pub member: Option<String>,
    pub reason: String,
}

/// A record that was set aside, as kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptAside {
    pub id: u64,
    pub raw: Bytes,
    pub member: Option<String>,
    pub reason: String,
    pub seen_at: Timestamp,
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
    /// Some: replaces what polling remembers of the stream.
    pub memory: Option<String>,
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

/// By whom a stream is paused that rests although no person paused it.
pub const BY_ITSELF: &str = "ringback";

#[derive(Clone, Debug, PartialEq)]
pub struct Paused {
    pub by: String,
    pub reason: String,
}

/// A handler asks for its events itself.
#[derive(Clone, Debug)]
pub struct Pull {
    pub handler: HandlerName,
    /// Everything up to this position was taken, and is on the reader's disk.
    pub after: Option<i64>,
    /// Events at most.
    pub max: usize,
}

/// What it gets: the same until it says that it has it.
#[derive(Clone, Debug, Default)]
pub struct PullPage {
    /// With rising positions.
    pub events: Vec<Pulled>,
    /// That of the last event, or what was acknowledged last.
    pub position: Option<i64>,
    /// How many this request acknowledged.
    pub taken: u64,
    /// Paused, disabled, or no longer configured: nothing is given.
    pub closed: bool,
    /// What was acknowledged is no position that can ever have been handed out: nothing was done.
    pub ahead: bool,
    /// Without events: when there may be some without a wake-up.
    pub next_in: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Pulled {
    pub position: i64,
    pub event: Arc<Event>,
    /// Equal for events that must be taken one after another.
    pub order: Option<u64>,
    pub replay: bool,
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
    /// Each event is sent as a new one, under an id of its own: handlers that drop repeats take it again.
    pub fresh_ids: bool,
    /// Who asked, for the record.
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReplayPlan {
    pub events: u64,
    pub deliveries: u64,
    pub bytes: u64,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// By which its progress is watched; None: it was a dry run, or nothing matched.
    pub job: Option<u64>,
}

/// A replay that was asked for, and how far it is. It goes on by itself, over restarts too: its deliveries are rows like all others.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayJob {
    pub id: u64,
    pub started_at: Timestamp,
    pub by: String,
    /// None: each handler that had the events.
    pub to: Option<HandlerName>,
    pub fresh_ids: bool,
    pub events: u64,
    pub deliveries: u64,
    pub pending: u64,
    pub delivered: u64,
    pub failed: u64,
    /// Taken back before they were sent.
    pub cancelled: u64,
    pub cancelled_by: Option<String>,
    /// When the last of them becomes due.
    pub last_due_at: Timestamp,
}

// ---- housekeeping and wake-ups ----

#[derive(Clone, Debug)]
pub struct Prune {
    /// Events settled before this, with their deliveries and attempts.
    pub events_before: Timestamp,
    /// Settled inbounds received before this.
    pub inbounds_before: Timestamp,
    /// Sources whose events and inbounds are kept for another time than those of all others: until when.
    pub of_sources: Vec<(SourceName, Timestamp)>,
    /// Message ids received before this.
    pub message_ids_before: Timestamp,
    /// Tombstones written before this (RULES R2.2, R9.2).
    pub tombstones_before: Timestamp,
    /// Rows a call may remove.
    pub limit: usize,
}

/// Which seen keys of a stream with `detect = "new"` may be forgotten (RULES R9.2).
#[derive(Clone, Debug, PartialEq)]
pub struct PruneSeen {
    /// Those that stand before this place in the order of the cursor.
    pub below: i64,
    /// And were written before this.
    pub written_before: Timestamp,
    /// What places are read by. Where it differs from last time, the places stored say nothing any more.
    pub placed_by: String,
    /// Rows a call may remove.
    pub limit: usize,
}

/// Who hears Ringback's own events. The store asks within the transaction that such an event tells of.
pub trait Herald: Send + Sync {
    /// A delivery for each handler that the event is for; `about` is the handler that it speaks of, which is not told of itself.
    fn deliveries(&self, event: &Event, about: Option<&HandlerName>) -> Vec<NewDelivery>;

    /// Whether this handler hears any of them.
    fn hears(&self, handler: &HandlerName) -> bool;
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
