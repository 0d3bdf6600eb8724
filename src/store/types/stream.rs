//! A stream as stored: the right to poll it, its state, and one known record of it without its body.

use crate::model::{Fingerprint, SeenBy, SourceName, StreamName, Timestamp};

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
