//! The seam to the database. Each method of [`Store`] is one use case and exactly one transaction; no connection,
//! transaction, query object or row number leaves this module. Everything durable lives behind it: cursors, fingerprints,
//! the outbox, the inbox, due times, leases.
//!
//! What every implementation owes its callers (RULES R10): leases are asked for by duration and the store reads its own
//! clock; a step's writes carry its lease and are refused as [`StoreError::Stale`] once it is no longer the owner's; a refusal
//! writes nothing; a storage error fails everything after it and must end the process.
//!
//! Lock order, wake-ups and group commit are the implementation's own affair. The conformance suite (`tests/`) holds
//! every implementation to the same behaviour.

pub mod query;
pub mod sqlite;
pub mod types;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Event, EventId, HandlerName, Key, Problem, ProblemKind, SourceName, StreamName, Timestamp};
pub use query::*;
pub use types::*;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum StoreError {
    /// A row or the definition changed since the caller read it: read again, think again. Nothing was written.
    #[error("the stored state changed in between")]
    Conflict,
    /// The lease is no longer the caller's: drop the work, somebody else has it. Nothing was written.
    #[error("the lease is no longer held")]
    Stale,
    /// For the moment it cannot (locked, no space for a reserve): try again later. Nothing was written.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// It cannot be trusted any more (write or sync error, corruption): the process must stop and say this.
    #[error("the database failed: {0}")]
    Broken(String),
}

pub type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
pub trait Store: Send + Sync + 'static {
    // ---- start and configuration ----

    /// Brings stored sources, streams and handlers in line with the configuration, before any step runs and at each reload.
    /// Unknown streams are added (due now), known ones keep their state; deliveries of handlers that are gone become held.
    async fn register(&self, setup: Setup) -> Result<Registered>;

    // ---- poll ----

    /// Leases one stream: the one longest due, or the named one now. None: nothing due, or somebody has it.
    async fn claim_stream(&self, which: Which, lease: Duration) -> Result<Option<StreamClaim>>;

    /// What is stored of one stream, its rows apart. None: it was never registered.
    async fn stream(&self, name: &StreamName) -> Result<Option<StreamState>>;

    /// The stored rows of these keys, in the order asked; None where the key is unknown. Ask with sorted keys: it is faster.
    async fn rows(&self, stream: &StreamName, keys: Vec<Key>) -> Result<Vec<Option<Row>>>;

    /// The stored bodies of these keys, in the order asked, of the form that `by` brought.
    async fn bodies(
        &self,
        stream: &StreamName,
        keys: Vec<Key>,
        by: crate::model::SeenBy,
    ) -> Result<Vec<Option<bytes::Bytes>>>;

    /// All live rows of a stream in key order, after `after`, at most `limit`: to find what a complete listing did not show.
    async fn rows_after(&self, stream: &StreamName, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>>;

    /// Fingerprints, events, deliveries and cursor in one transaction (RULES R1.1, R5.1). `Conflict` when a row's change
    /// number or the definition differs from what the caller thought with; `Stale` when its lease is gone.
    async fn commit(&self, commit: Commit) -> Result<Committed>;

    /// Appends a page's changes to the stream's run journal (RULES R1.3). State and events are untouched.
    async fn journal(&self, lease: &StreamLease, entries: Vec<JournalEntry>) -> Result<()>;

    /// What the journal of the run under way holds of these keys, in the order asked.
    async fn journaled(&self, stream: &StreamName, keys: Vec<Key>) -> Result<Vec<Option<bytes::Bytes>>>;

    /// Stores a run's verdict: its journal may be released, or is dropped. One transaction with mark and validators.
    async fn verdict(&self, lease: &StreamLease, verdict: Verdict) -> Result<()>;

    /// The oldest entries behind the first `skip` of a journal that has its verdict, in order of release. Removed by a [`Commit`] that
    /// names them.
    async fn journal_batch(&self, stream: &StreamName, skip: usize, limit: usize) -> Result<Vec<JournalEntry>>;

    /// Gives the stream's lease back, with when to poll next and how this poll went.
    async fn finish_poll(&self, lease: &StreamLease, end: PollEnd) -> Result<()>;

    /// Makes a stream due now: a notice from a webhook, or a person.
    async fn poll_now(&self, stream: &StreamName) -> Result<()>;

    /// Makes a stream due at the latest so long from now; one that is being polled counts from its end.
    async fn poll_within(&self, stream: &StreamName, after: Duration) -> Result<()>;

    /// Deletions of the stream since then that rest on absence alone (RULES R6.2).
    async fn absent_since(&self, stream: &StreamName, since: Timestamp) -> Result<u64>;

    /// Records set aside, oldest first, after this one.
    async fn set_aside(&self, stream: &StreamName, after: Option<u64>, limit: usize) -> Result<Vec<KeptAside>>;

    /// Forgets what is stored of a stream and keeps its highest revision as base (RULES R2.2). A dry run only counts.
    async fn reset_stream(&self, stream: &StreamName, dry_run: bool) -> Result<Forgotten>;

    /// Has the next complete run ask from here, without touching the mark. None: from the mark, as ever.
    async fn set_backfill(&self, stream: &StreamName, from: Option<String>) -> Result<()>;
    /// Sets when a stream is due, counted from now: its schedule gives another time than the one stored.
    async fn poll_later(&self, stream: &StreamName, after: Duration) -> Result<()>;

    /// What every credential has spent, by key: text of the poller's own making.
    async fn budgets(&self) -> Result<Vec<(String, String)>>;

    /// Keeps what a credential has spent. Ok means: on disk, so that no restart forgets a request that was counted.
    async fn put_budget(&self, key: &str, state: String) -> Result<()>;

    /// What was got for a credential, sealed by whoever asks. None: nothing yet.
    async fn token(&self, credential: &str) -> Result<Option<bytes::Bytes>>;

    /// Keeps what was got for a credential. Ok means: on disk, so that a refresh token which can be used once is never lost.
    async fn put_token(&self, credential: &str, sealed: bytes::Bytes) -> Result<()>;

    /// How it stands with the webhook that we registered for a source: text of the caller's own making. None: nothing yet.
    async fn registration(&self, source: &SourceName) -> Result<Option<String>>;

    async fn put_registration(&self, source: &SourceName, state: String) -> Result<()>;

    /// The wall clock was found to have stepped by so much: leases and due times move with it (RULES R8.1).
    async fn clock_stepped(&self, millis: i64) -> Result<()>;

    // ---- receive ----

    /// Stores a real webhook durably, once per provider's message id. Ok means: on disk.
    async fn put_inbound(&self, inbound: NewInbound) -> Result<InboundStored>;

    /// Leases pending inbounds, oldest first, all of one source.
    async fn claim_inbounds(&self, lease: Duration, max: usize) -> Result<Vec<ClaimedInbound>>;

    /// Settles inbounds that change no record: ignored, unreadable, or a notice (polls the named stream now).
    async fn settle_inbounds(&self, settled: Vec<InboundSettled>) -> Result<()>;

    /// Puts a source's unreadable inbounds into the inbox again. Gives how many.
    async fn retry_inbounds(&self, source: &SourceName) -> Result<u64>;

    // ---- deliver ----

    /// Leases due heads: never two unsettled deliveries of one (handler, order), never more than a handler's free permits.
    async fn claim_deliveries(&self, lease: Duration, free: Vec<(HandlerName, usize)>) -> Result<ClaimedDeliveries>;

    /// Ends leases without an attempt: those deliveries are due as they were.
    async fn give_back(&self, claims: Vec<(DeliveryId, u64)>) -> Result<()>;

    /// Records attempts and what follows from them. A delivery whose lease is gone is skipped (its answer: false).
    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<bool>>;

    /// Pauses a handler (its deliveries become held) or resumes it (held for `Paused` become pending, waits are cleared).
    async fn set_handler_paused(&self, handler: &HandlerName, paused: Option<Paused>) -> Result<()>;

    /// Pauses or resumes all streams of a source; kept over restarts.
    async fn set_source_paused(&self, source: &SourceName, paused: Option<Paused>) -> Result<()>;

    /// A person says that a source's state holds for its new address too (RULES R2.4). False: there was nothing to say.
    async fn keep_source(&self, source: &SourceName) -> Result<bool>;

    /// These streams are not polled for the reasons given, all others are: replaces what was said before.
    async fn rest_streams(&self, resting: Vec<(StreamName, String)>) -> Result<()>;

    /// Settles what a handler that asks for its events acknowledges, and gives its next page; the same one until it is acknowledged.
    async fn pull(&self, pull: Pull) -> Result<PullPage>;

    /// New deliveries of stored events to subscribed or named handlers, marked as replays (RULES R7.4). The first of them are made before
    /// it answers, the others by [`Store::replay_step`]. Dry run: counts only.
    async fn replay(&self, replay: Replay) -> Result<ReplayPlan>;

    /// Makes or takes back a few deliveries of replays that are not whole or were cancelled, and ends temporary handlers that have had
    /// their last delivery. Whoever has the store calls it until there is nothing, and again when [`Topic::Replays`] rings and after a start.
    async fn replay_step(&self) -> Result<ReplayStep>;

    /// The handlers that replays to addresses made and that are not at their end, by name.
    async fn temporaries(&self) -> Result<Vec<Temporary>>;

    /// The last replays that were asked for, the newest first, with their progress.
    async fn replay_jobs(&self, limit: usize) -> Result<Vec<ReplayJob>>;

    /// Cancels a replay: what it has not sent yet is taken back, the first of it before this answers, the rest by
    /// [`Store::replay_step`]. None: there is no such job; else how many deliveries are not sent.
    async fn cancel_replay(&self, job: u64, by: &str) -> Result<Option<u64>>;

    /// Deliveries of a handler that are held because its `when` gave neither true nor false, oldest first, after this one.
    async fn held_by_when(
        &self,
        handler: &HandlerName,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<(DeliveryId, Event)>>;

    /// Lets such deliveries go (true) or drops them, as not subscribed to (false).
    async fn release_by_when(&self, handler: &HandlerName, decided: Vec<(DeliveryId, bool)>) -> Result<()>;

    // ---- problems ----

    /// Opens a problem, or counts it up when one of this kind and subject is open. True when it is new.
    async fn open_problem(&self, kind: ProblemKind, subject: &str, message: &str) -> Result<bool>;

    /// Closes the problem of this kind and subject. True when there was one.
    async fn close_problem(&self, kind: ProblemKind, subject: &str) -> Result<bool>;

    async fn ack_problem(&self, kind: ProblemKind, subject: &str) -> Result<bool>;

    /// Opens or updates the problem of a guard that holds so many records; what a person decided stays with it.
    async fn hold_problem(&self, kind: ProblemKind, subject: &str, message: &str, held: u64) -> Result<bool>;

    /// Approves or rejects what a guard holds, for as many as it holds now (RULES R6.3). False: it holds nothing.
    async fn decide_problem(&self, kind: ProblemKind, subject: &str, approved: bool, by: &str) -> Result<bool>;

    // ---- reading, for commands, dashboard and metrics: a consistent look that holds up nobody ----

    async fn problems(&self) -> Result<Vec<Problem>>;
    async fn streams(&self) -> Result<Vec<StreamStatus>>;
    async fn handlers(&self) -> Result<Vec<HandlerStatus>>;
    async fn inbox(&self) -> Result<InboxStatus>;
    /// Events newest first, one page; `filter.after` continues.
    async fn events(&self, filter: EventFilter) -> Result<EventPage>;
    async fn event(&self, id: &EventId) -> Result<Option<EventDetail>>;
    /// Attempts in order of visibility after a position, at most `limit`: what `tail` shows.
    async fn tail(&self, after: Option<TailPosition>, limit: usize) -> Result<TailPage>;
    /// The position after the newest line but `lines`: where `tail` starts.
    async fn tail_start(&self, lines: usize) -> Result<Option<TailPosition>>;
    /// What was decided for a key that was neither unchanged nor announced, newest first.
    async fn decisions(&self, stream: &StreamName, key: &Key) -> Result<Vec<KeptDecision>>;
    /// The stream's last runs, newest first.
    async fn runs(&self, stream: &StreamName) -> Result<Vec<RunLine>>;

    // ---- housekeeping ----

    /// Removes what is older than the given times, in one small batch (RULES R9). True when there may be more.
    async fn prune(&self, prune: Prune) -> Result<bool>;
    /// Forgets seen keys that no listing and no webhook shows again, in one small batch (RULES R9.2). True when there may be more.
    async fn prune_seen(&self, stream: &StreamName, seen: PruneSeen) -> Result<bool>;
    /// Bytes of what waits for a handler: pending, claimed and held. Of a long backlog an estimate, by the size of some of it.
    async fn backlog(&self, handler: &HandlerName) -> Result<u64>;
    async fn optimise(&self) -> Result<()>;
    async fn stats(&self) -> Result<StoreStats>;
    /// Returns when the writer has passed this point: proof of life for the watchdog.
    async fn ping(&self) -> Result<()>;
    /// Next moment at which a claim on this topic may find something without a wake-up; None: not before a wake-up.
    async fn next_due(&self, topic: Topic) -> Result<Option<Timestamp>>;

    /// Who hears Ringback's own events from now on.
    fn announce_to(&self, herald: Arc<dyn Herald>);

    /// Rung by every commit that may give work to this topic. Take it before looking, so that no commit is missed.
    fn wake(&self, topic: Topic) -> Wake;

    /// Completes with the reason once the store is broken. The app waits for it and ends the process.
    async fn broken(&self) -> String;
}
