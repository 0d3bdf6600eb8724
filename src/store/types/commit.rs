//! One transaction of ingest, and what it writes: records, events with their deliveries, and what is set aside.

use bytes::Bytes;

use super::{Decision, InboundId, InboundSettled, Phase, StreamLease, Verdict};
use crate::model::{Event, Fingerprint, HandlerName, HoldReason, Key, SeenBy, StreamName, Timestamp};

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
    /// The verdict of a run whose changes are all in this commit, so that no journal need hold them meanwhile.
    pub verdict: Option<Verdict>,
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
            verdict: None,
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
    /// The id follows from the change (RULES R2.1), so one that is there already for this key is this very event. False: the record
    /// gave the id, and may give it to another change too.
    pub own_id: bool,
    /// The inbound it came with, for `native` emission.
    pub inbound: Option<InboundId>,
    pub deliveries: Vec<NewDelivery>,
}

#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub handler: HandlerName,
    /// Deliveries of one handler with equal order go one after another, in order of commit; 0: all of them do. None: no order.
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
