//! The one path from bytes to committed events: decode, compare with what is stored, choose handlers, then one store call.
//!
//! Both ways in end here: a poll opens a [`Run`] and hands it pages; the inbox hands over real webhooks. Thinking is pure
//! (`decode`, `judge`, `compare`, `deletes`); the store alone makes it true.

mod announce;
mod aside;
mod batch;
mod bitmap;
mod compare;
mod decimal;
pub mod decode;
mod deletes;
mod ending;
mod first_look;
mod forget;
mod going_on;
mod guards;
mod identity;
mod inbound;
mod journal;
mod judge;
mod look;
mod mark;
mod pending;
mod problems;
mod recompare;
mod repeats;
mod retry;
mod run;
mod settle;
mod told;
mod trigger;
mod versions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Fingerprint, Key, ProblemKind, StreamName, Timestamp};
use crate::source::SourceStream;
use crate::store::{Store, StreamClaim, StreamSetup, StreamState};
use crate::subscription::Subscriptions;

use decimal::Decimal;

pub use announce::sanitised as type_name;
pub use forget::forgettable;
pub use going_on::{RunProgress, Whose, first_part};
pub use identity::fingerprint;
pub use inbound::{RoutedInbound, RoutedRecord};
pub use look::Look;
pub use retry::Retried;
pub use run::{Run, headers};
pub use trigger::MadeUp;

/// The way in. One for the daemon, shared by all streams.
pub struct Ingest {
    store: Arc<dyn Store>,
    subscriptions: ArcSwap<Subscriptions>,
    clock: Clock,
    metrics: Metrics,
    /// Older copies that the last run of a stream ignored: shown again, they are changes (RULES R3.5). Lost in a restart,
    /// which only asks for one more showing.
    older: Mutex<HashMap<StreamName, HashMap<Key, Fingerprint>>>,
    problems: problems::Problems,
    /// When the log last said that something is held.
    said: Mutex<HashMap<(ProblemKind, String), Timestamp>>,
    /// Where the next look at a stream asks from, in place of what is stored.
    look_from: Mutex<HashMap<StreamName, String>>,
}

/// A stream that a real webhook was faster than is polled again after this.
const OVERTAKEN_REST: Duration = Duration::from_secs(1);
/// What is held is said so often.
const SAID_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Ingest {
    pub fn new(
        store: Arc<dyn Store>,
        subscriptions: Arc<Subscriptions>,
        clock: Clock,
        metrics: Metrics,
    ) -> Arc<Ingest> {
        let subscriptions = ArcSwap::new(subscriptions);
        let (older, said, look_from) = (Mutex::default(), Mutex::default(), Mutex::default());
        let problems = problems::Problems::default();
        Arc::new(Ingest { store, subscriptions, clock, metrics, older, problems, said, look_from })
    }

    /// Takes new subscriptions at a reload: runs that begin from now on use them.
    pub fn subscribe(&self, subscriptions: Arc<Subscriptions>) {
        self.subscriptions.store(subscriptions);
    }

    /// Begins a poll run of a stream that was claimed.
    pub async fn begin(self: &Arc<Self>, stream: &Arc<SourceStream>, claim: StreamClaim) -> Result<Run, IngestError> {
        Run::begin(self.clone(), stream.clone(), claim).await
    }

    /// Begins a look at a stream: judged like a run, and nothing is written.
    pub fn look(self: &Arc<Self>, stream: &Arc<SourceStream>, mut state: StreamState) -> Look {
        let from = self.look_from.lock().unwrap_or_else(PoisonError::into_inner).get(&stream.name).cloned();
        state.detection.backfill = from.or(state.detection.backfill);
        Look::begin(self.clone(), stream.clone(), state)
    }

    /// Has looks at a stream ask from here, as a look back would (`Some`), or as ever.
    pub fn look_from(&self, stream: &StreamName, from: Option<String>) {
        let mut look_from = self.look_from.lock().unwrap_or_else(PoisonError::into_inner);
        match from {
            Some(from) => look_from.insert(stream.clone(), from),
            None => look_from.remove(stream),
        };
    }

    /// Ingests real webhooks of one stream, in order of receipt, and settles them. Gives the number of events stored.
    pub async fn inbounds(
        self: &Arc<Self>,
        stream: &Arc<SourceStream>,
        batch: Vec<RoutedInbound>,
    ) -> Result<usize, IngestError> {
        inbound::ingest(self, stream, batch).await
    }

    /// Whether the log may say again that this is held.
    fn says_today(&self, kind: ProblemKind, subject: &str, now: Timestamp) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let last = said.get(&(kind, subject.to_owned())).copied();
        let due = last.is_none_or(|last| now.since(last) >= SAID_EVERY);
        if due {
            said.insert((kind, subject.to_owned()), now);
        }
        due
    }

    fn subscriptions(&self) -> Arc<Subscriptions> {
        self.subscriptions.load_full()
    }

    fn older_copies(&self, stream: &StreamName) -> HashMap<Key, Fingerprint> {
        self.older.lock().unwrap_or_else(PoisonError::into_inner).get(stream).cloned().unwrap_or_default()
    }

    fn remember_older(&self, stream: &StreamName, copies: HashMap<Key, Fingerprint>) {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        if copies.is_empty() {
            older.remove(stream)
        } else {
            older.insert(stream.clone(), copies)
        };
    }
}

/// One answer of a listing, as fetched.
#[derive(Clone, Debug)]
pub struct PageAnswer {
    pub body: Bytes,
    pub headers: HeaderMap,
    /// The provider's own time of the answer (`Date`).
    pub date: Option<Timestamp>,
}

/// How a page ended: what pagination decides on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageEnd {
    /// Records in the page, before the stream's filter.
    pub records: usize,
    /// What `pagination.next` gave: token, id of the last record, or URL. None: null, missing or empty.
    pub next: Option<String>,
    /// What `pagination.more` gave.
    pub more: Option<bool>,
    /// What `pagination.total` gave.
    pub total: Option<u64>,
    /// `pagination.stop_when` was true.
    pub stop: bool,
    /// What `complete_when` gave.
    pub complete: Option<bool>,
    /// Hash of the page's records: the same page twice in a run is a loop.
    pub digest: [u8; 16],
    /// The cursor value of the page's last record.
    pub last: Option<CursorValue>,
    /// A record of this run contradicted the declared order.
    pub disordered: bool,
}

/// The value that a request's `{{ cursor }}` stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum CursorValue {
    Time(Timestamp),
    /// As digits.
    Number(String),
    Text(String),
}

impl CursorValue {
    /// As text to be read again by [`CursorValue::from_stored`].
    pub fn to_stored(&self) -> String {
        mark::Mark::of(self).to_stored()
    }

    pub fn from_stored(text: &str) -> Option<CursorValue> {
        mark::Mark::stored(Some(text)).map(|mark| mark.value())
    }
}

/// What the store must know of a stream. `renamed_from` is its source's.
pub fn stream_setup(stream: &SourceStream) -> StreamSetup {
    StreamSetup {
        name: stream.name.clone(),
        renamed_from: None,
        polled: stream.polled,
        definition: stream.definition.clone(),
        comparison: stream.comparison.clone(),
        first_due_in: Duration::ZERO,
    }
}

/// Whether a number of any length lies after another.
pub fn number_after(number: &str, other: &str) -> bool {
    Decimal::parse(number) > Decimal::parse(other)
}

/// Why a page or a run could not be taken in. Nothing of it was kept, the cursor did not move.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum IngestError {
    /// The answer cannot be read: not JSON, HTML, a wrong kind.
    #[error("{0}")]
    Unreadable(String),
    /// The path to the records is missing or null.
    #[error("{0}")]
    PathMissing(String),
    /// Too many records of the page could not be read.
    #[error("{0}")]
    Records(String),
    /// A guard held the run.
    #[error("{0}")]
    Held(String),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    pub records: u64,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub unreadable: u64,
    /// Stored without an event (baseline).
    pub silent: u64,
    pub events: u64,
    /// The run proved nothing because its pages may have shifted: it is made again at once (RULES R1.5).
    pub again: bool,
    /// The mark is another than before the run.
    pub moved: bool,
    /// A record lies further ahead of the provider's clock than the stream allows: its date.
    pub ahead: Option<Timestamp>,
    /// More was found than goes out of one run: the rest goes with the next ones.
    pub deferred: bool,
    /// Deletes or the whole run were held, or a record waits for its absence to be confirmed: the next listing must be a whole one.
    pub owed: bool,
    /// How long after the provider's time of a change it was seen: the longest of this run.
    pub lag: Option<std::time::Duration>,
    /// The stream's change number when the run had ended.
    pub change_number: u64,
}
