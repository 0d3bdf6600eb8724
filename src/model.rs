//! The vocabulary of Ringback as types: sources, streams, records, changes, events, deliveries, attempts, problems.
//! No I/O, no clock, and no import of any other module of ours: everything else is written in these words.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};

mod attempt;
pub use attempt::{Attempt, AttemptDetail, AttemptResult, ErrorClass, Timings, Trigger};

/// A moment as milliseconds since 1970-01-01T00:00:00Z. Wall time; taken from [`crate::clock`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since 1970, rounded down, as signatures write them.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment plus `duration`; saturates at the ends of the range.
    pub fn plus(self, duration: std::time::Duration) -> Timestamp {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }

    /// This moment minus `duration`; saturates at the ends of the range.
    pub fn minus(self, duration: std::time::Duration) -> Timestamp {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a calendar time in UTC; moments outside chrono's range become its nearest end.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Timestamp(time.timestamp_millis())
    }
}

/// RFC 3339 in UTC; milliseconds are written only where there are any.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.0.rem_euclid(1000) == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
        f.write_str(&self.to_utc().to_rfc3339_opts(format, true))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A source: a provider plus settings and secrets, as named in `config.toml`.
    SourceName
}
name! {
    /// An internal service that receives events, as named in `config.toml`; or a temporary one, as a replay names it.
    HandlerName
}

impl HandlerName {
    /// What no name of the configuration holds.
    const TEMPORARY: char = '~';

    /// The handler of this replay to an address, that is sent to as `like` is.
    pub fn temporary(like: &HandlerName, replay: u64) -> HandlerName {
        HandlerName::from(format!("{like}{}{replay}", HandlerName::TEMPORARY))
    }

    /// The replay that it is there for; None: it is one of the configuration.
    pub fn replay(&self) -> Option<u64> {
        self.as_str().rsplit_once(HandlerName::TEMPORARY)?.1.parse().ok()
    }
}
name! {
    /// What identifies a record within its stream. Never empty.
    Key
}
name! {
    /// Identity of an event (`webhook-id`): computed from what changed, stored before anything is sent, never re-used for other content.
    EventId
}

/// One pollable collection of a source, written `source/stream`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    pub source: SourceName,
    pub stream: Arc<str>,
}

impl StreamName {
    pub fn new(source: impl Into<SourceName>, stream: &str) -> Self {
        StreamName { source: source.into(), stream: stream.into() }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.stream)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for StreamName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((source, stream)) if !source.is_empty() && !stream.is_empty() => Ok(StreamName::new(source, stream)),
            _ => Err(format!("`{text}` is not SOURCE/STREAM")),
        }
    }
}

/// 128 bits of SHA-256: over a record's canonical form (its fingerprint), or over its raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    Created,
    Updated,
    Deleted,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Created => "created",
            ChangeKind::Updated => "updated",
            ChangeKind::Deleted => "deleted",
        }
    }
}

/// Which of the two ways in brought a copy of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeenBy {
    Poll,
    Webhook,
}

impl SeenBy {
    pub fn as_str(self) -> &'static str {
        match self {
            SeenBy::Poll => "poll",
            SeenBy::Webhook => "webhook",
        }
    }
}

/// A change as announced. What a handler's body is rendered from, at every attempt anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: EventId,
    pub event_type: String,
    pub kind: ChangeKind,
    pub stream: StreamName,
    pub key: Key,
    /// Counts the changes of this key, from 1, and never starts again.
    pub revision: u64,
    /// The provider's time of the change where the stream names one, else the time seen.
    pub time: Timestamp,
    pub seen_at: Timestamp,
    pub seen_by: SeenBy,
    /// The record as it is now (last known, when deleted), as received. None when it was over the event cap.
    pub data: Option<Bytes>,
    /// JSON: the old values at the changed places, nested as in the record. None when nothing was known before.
    pub previous: Option<Bytes>,
    /// JSON: list of the changed places as JSON pointers. None when nothing was known before.
    pub changed: Option<Bytes>,
    /// The record was there before Ringback looked; it is not known whether this is its creation (RULES R3.1).
    pub first_sight: bool,
    /// Made up by `ringback trigger`, not seen at the provider.
    pub test: bool,
}

/// State of a delivery: one event for one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Waits for its time, its turn in the order, or its handler.
    Pending,
    /// A worker holds its lease.
    Claimed,
    /// The handler answered 2xx.
    Delivered,
    /// Gave up; stays replayable.
    Failed,
    /// Waits for a person; always has a [`HoldReason`].
    Held,
}

impl DeliveryState {
    pub const ALL: [DeliveryState; 5] = [
        DeliveryState::Pending,
        DeliveryState::Claimed,
        DeliveryState::Delivered,
        DeliveryState::Failed,
        DeliveryState::Held,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Claimed => "claimed",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Failed => "failed",
            DeliveryState::Held => "held",
        }
    }
}

/// Why a delivery is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// The handler is paused or disabled.
    Paused,
    /// The config has no handler of that name any more.
    NoHandler,
    /// An earlier event of its order key failed and the handler says `after_failure = "hold"`.
    KeyHeld,
    /// The handler's `when` gave neither true nor false.
    WhenFailed,
}

impl HoldReason {
    pub fn as_str(self) -> &'static str {
        match self {
            HoldReason::Paused => "paused",
            HoldReason::NoHandler => "no handler",
            HoldReason::KeyHeld => "key held",
            HoldReason::WhenFailed => "when failed",
        }
    }
}

macro_rules! problem_kinds {
    ($($variant:ident = $text:literal),* $(,)?) => {
        /// What needs a person. One list, used alike as log field, metric label, event type and `explain` page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ProblemKind { $($variant),* }

        impl ProblemKind {
            pub const ALL: &'static [ProblemKind] = &[$(ProblemKind::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(ProblemKind::$variant => $text),* }
            }
        }

        impl FromStr for ProblemKind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(ProblemKind::$variant),)*
                    other => Err(format!("`{other}` is no kind of problem")),
                }
            }
        }
    };
}

problem_kinds! {
    AuthFailed = "auth.failed",
    AnswerUnreadable = "answer.unreadable",
    AnswerPathMissing = "answer.path-missing",
    ListEmpty = "list.empty",
    DeletesHeld = "deletes.held",
    ChangesHeld = "changes.held",
    CursorFrozen = "cursor.frozen",
    CursorFuture = "cursor.future",
    StreamLate = "stream.late",
    StreamSilent = "stream.silent",
    StreamRebaselined = "stream.rebaselined",
    HistoryGap = "history.gap",
    PageLoop = "page.loop",
    PageClamped = "page.clamped",
    KeyMissing = "key.missing",
    KeyDuplicate = "key.duplicate",
    RecordUnreadable = "record.unreadable",
    RecordTooLarge = "record.too-large",
    EventIdTaken = "event.id-taken",
    QuotaExhausted = "quota.exhausted",
    ClockSkew = "clock.skew",
    CertificateExpiring = "certificate.expiring",
    WebhookRefused = "webhook.refused",
    WebhookUnmatched = "webhook.unmatched",
    HandlerGone = "handler.gone",
    HandlerFailing = "handler.failing",
    HandlerKeyBlocked = "handler.key-blocked",
    WhenFailed = "when.failed",
    HostRefused = "host.refused",
    ProxyFailed = "proxy.failed",
    DiskLow = "disk.low",
    SourceOrphaned = "source.orphaned",
    AddressChanged = "source.address-changed",
    HandlerBacklog = "handler.backlog",
}

impl ProblemKind {
    /// Whether its subject is a handler.
    pub fn is_of_handler(self) -> bool {
        matches!(
            self,
            ProblemKind::HandlerGone
                | ProblemKind::HandlerFailing
                | ProblemKind::HandlerKeyBlocked
                | ProblemKind::HandlerBacklog
                | ProblemKind::WhenFailed
        )
    }

    /// Whether it, with this subject, is a handler's: hosts and proxies may bar the way of a handler, and that of a stream, `SOURCE/STREAM`.
    pub fn tells_of_a_handler(self, subject: &str) -> bool {
        let barred = matches!(self, ProblemKind::HostRefused | ProblemKind::ProxyFailed);
        self.is_of_handler() || barred && !subject.contains('/')
    }

    /// Whether it is a guard that holds something until a person decides (RULES R6.3).
    pub fn holds(self) -> bool {
        matches!(self, ProblemKind::DeletesHeld | ProblemKind::ListEmpty | ProblemKind::ChangesHeld)
    }
}

/// Something that needs a person, grouped by cause: one open problem for each (kind, subject).
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// What it concerns: `core/payments`, `billing`, or the empty text for the daemon itself.
    pub subject: String,
    /// What happened, and what to do: sentences for a person.
    pub message: String,
    pub opened_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub count: u64,
    pub acknowledged: bool,
    /// How many records a guard holds with it; None: it holds nothing.
    pub held: Option<u64>,
    /// What a person decided about what is held (RULES R6.3).
    pub decided: Option<HeldDecision>,
}

/// What a person decided about what a guard holds.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldDecision {
    pub approved: bool,
    /// How many records were held then: about as many may pass.
    pub held: u64,
    pub by: String,
    pub at: Timestamp,
}
