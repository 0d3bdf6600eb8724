//! A provider file as an author writes it → a valid [`Provider`]: auth, streams, pagination, how its webhooks are signed.
//!
//! Data only. No provider's name appears in code; what TOML cannot say becomes a member of an enum here, for everyone.
//! The types are what `poll`, `ingest`, `receive` and `deliver` work with; reading them is in the submodules.

mod auth;
mod catalogue;
mod cursor;
mod file;
mod language;
mod limits;
mod listing;
mod request;
mod signature;
mod stream;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;

use crate::answer::AnswerFormat;
use crate::canonical::Equal;
use crate::jq::Jq;
use crate::path::Path;
use crate::schedule::StreamSettings;
use crate::signature::Scheme;
use crate::template::{Template, TimeFormat};

pub use crate::request::{Body, JsonTemplate, Param};
pub use auth::{
    Assertion, Auth, ClientAuth, Grant, KeyPlace, Lifetime, OAuth2, SelfSigned, Session, SigV4, SignedRequests,
    TokenPlace,
};
pub use catalogue::{built_in, built_in_names};
pub use file::{load, read};
pub use language::{check_jq, check_template};
pub use request::templates;
pub use stream::files_of;

/// The JSON Schema of provider files: what editors complete and check by. A test holds its keys to those that are read.
pub const SCHEMA: &str = include_str!("schema.json");

/// A valid provider file.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    pub title: String,
    pub notes: Option<String>,
    /// Where it came from: a file, or `built in`.
    pub file: PathBuf,
    /// None when no stream asks an API.
    pub base_url: Option<Template>,
    pub timezone: Option<Tz>,
    pub time_format: TimeFormat,
    pub secrets: Vec<SecretSpec>,
    pub settings: Vec<SettingSpec>,
    /// `[request]`: for all requests; a stream's own values win.
    pub request: Request,
    /// How answers are read where a stream does not say otherwise.
    pub answer: AnswerFormat,
    pub response_actions: Vec<ResponseAction>,
    /// The first whose secrets are all given.
    pub auth: Vec<Auth>,
    pub limits: Limits,
    pub streams: Vec<Stream>,
    pub webhook: Option<Webhook>,
    pub native: Option<Native>,
    pub tests: Vec<ProviderTest>,
}

#[derive(Clone, Debug)]
pub struct SecretSpec {
    pub name: String,
    pub help: String,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct SettingSpec {
    pub name: String,
    pub help: String,
    /// None: the source must give it.
    pub default: Option<serde_json::Value>,
    pub choices: Vec<serde_json::Value>,
}

/// A request to be built from templates (KEYS rows 8–12).
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// None: GET, or POST when there is a body.
    pub method: Option<String>,
    pub target: Option<Target>,
    /// In the order of the file. A value is a template, a number, true/false, or a list of those.
    pub query: Vec<(String, Param)>,
    pub headers: Vec<(String, Template)>,
    pub body: Option<Body>,
}

#[derive(Clone, Debug)]
pub enum Target {
    /// Appended to `base_url`; every `{{ }}` is percent-encoded as one segment.
    Path(Template),
    Url(Template),
}

/// What an answer means (KEYS row 17); asked in order, the first match wins, then the built-in meaning.
#[derive(Clone, Debug)]
pub struct ResponseAction {
    /// Empty: any.
    pub status: Vec<u16>,
    /// jq over the answer.
    pub when: Option<Jq>,
    pub action: Action,
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Ok,
    /// An answer without records.
    Empty,
    Retry,
    RateLimited,
    /// Log in again, once.
    Login,
    /// The cursor is too old.
    Expired,
    /// This parent is gone.
    Skip,
    Fatal,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// So many in so long, all of them kept: `"5/s"`, `["5/s", "4/24h"]`.
    pub rates: Vec<(u32, Duration)>,
    /// None: 2.
    pub concurrency: Option<usize>,
    /// Header with the number of requests that are left.
    pub remaining: Option<String>,
    /// Header with the moment from which the quota is full again, and how it is written.
    pub reset: Option<(String, ResetUnit)>,
    /// Nothing is asked while no more than so many are left.
    pub stop_below: u64,
    /// Header with the least interval between two polls, in seconds.
    pub pace: Option<String>,
}

/// How a provider writes when its quota is full again. It cannot be guessed: one name of a header is used both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetUnit {
    /// From now.
    Seconds,
    /// Since 1970.
    Unix,
    UnixMs,
    /// As HTTP writes dates, or RFC 3339.
    Date,
}

/// One pollable collection.
#[derive(Clone, Debug)]
pub struct Stream {
    pub name: String,
    pub title: String,
    pub enabled: bool,
    /// None: files are read in place of an API, or real webhooks alone feed it.
    pub request: Option<Request>,
    /// The files that are read: a pattern of names, over the settings.
    pub files: Option<Template>,
    /// How its answers are read.
    pub answer: AnswerFormat,
    pub response_actions: Vec<ResponseAction>,
    pub records: Jq,
    pub records_as: RecordsAs,
    pub filter: Option<Jq>,
    /// Empty for `document`.
    pub key: Vec<Jq>,
    pub version: Option<VersionSpec>,
    pub time: Option<Jq>,
    pub created: Option<Jq>,
    /// Empty: the key.
    pub order_key: Vec<Jq>,
    /// The id of the event is the record's own.
    pub event_id: Option<Jq>,
    pub detect: Detect,
    pub ignore: Vec<Path>,
    pub unordered: Vec<Path>,
    /// Empty: every place takes part in the comparison.
    pub only: Vec<Path>,
    pub equal: Equal,
    /// Never stored, never sent.
    pub mask: Vec<Path>,
    /// Bytes of a record that its event may hold; of a larger one the event holds nothing and says so.
    pub data_max: u64,
    /// How long its listing trails its real webhooks (RULES R5.3).
    pub lag: Duration,
    pub types: Types,
    pub timezone: Option<Tz>,
    pub time_format: TimeFormat,
    pub cursor: Option<CursorSpec>,
    pub pagination: Pagination,
    pub deletes: Deletes,
    /// Asks for a record before its absence is believed.
    pub confirm: Option<Request>,
    /// ETag or Last-Modified.
    pub conditional: Conditional,
    pub long_poll: Option<Duration>,
    pub history: Option<Duration>,
    pub parent: Option<Parent>,
    pub late: Option<Late>,
    /// Date slices of this length, one listing each.
    pub window: Option<Duration>,
    /// Over the last answer of a listing: whether it was all of it.
    pub complete_when: Option<Jq>,
    /// Numbered pages never shift: the order is immutable and grows at its end (RULES R1.5).
    pub stable: bool,
    pub limits: Option<Limits>,
    /// The author's advice: stronger than `[defaults.stream]`, weaker than the source.
    pub settings: StreamSettings,
}

/// What validators of an answer stand for (RULES R6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditional {
    No,
    /// The one page of the listing.
    Page,
    /// Those of the first page stand for the whole list.
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordsAs {
    List,
    /// An object whose members are the records; the member's name is `$key`.
    Map,
    One,
    /// An object of lists: the n-th record has the n-th item of each.
    Columns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detect {
    /// Each unseen key is one event.
    New,
    /// Unseen keys and changed content.
    Changed,
    /// Also keys that went away.
    Snapshot,
    /// One document, field changes.
    Document,
}

impl Detect {
    pub fn as_str(self) -> &'static str {
        match self {
            Detect::New => "new",
            Detect::Changed => "changed",
            Detect::Snapshot => "snapshot",
            Detect::Document => "document",
        }
    }
}

#[derive(Clone, Debug)]
pub struct VersionSpec {
    pub field: Jq,
    pub kind: VersionKind,
    /// Two copies of one version are twins when they agree here. Empty: on every place that both have.
    pub same: Vec<Path>,
    /// Every change has a new version: the version alone tells twins.
    pub each_change: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionKind {
    Time,
    Number,
    /// Equal or not, without order.
    Text,
}

/// How events are named (KEYS rows 48–50).
#[derive(Clone, Debug)]
pub struct Types {
    pub created: String,
    pub updated: String,
    pub deleted: String,
    /// The record names its own type.
    pub from: Option<Jq>,
    pub when: Vec<TypeRule>,
}

#[derive(Clone, Debug)]
pub struct TypeRule {
    /// Over `{ kind, old, new, changed }`.
    pub when: Jq,
    pub event_type: String,
    pub on: crate::model::ChangeKind,
}

#[derive(Clone, Debug)]
pub struct CursorSpec {
    /// Over a record. Exactly one of `field` and `answer` is there, but for a link, which may have neither.
    pub field: Option<Jq>,
    /// Over the answer: the provider itself names the place to go on from.
    pub answer: Option<Jq>,
    pub kind: CursorKind,
    /// How the field is written, and the query value with it.
    pub format: TimeFormat,
    pub timezone: Option<Tz>,
    pub precision: Duration,
    pub inclusive: bool,
    pub order: CursorOrder,
    pub start: Start,
    /// Asked again each time; never lowers the mark.
    pub lookback: Lookback,
    /// The mark keeps out of ticks younger than this: they may still be filling.
    pub settle: Duration,
    /// A record dated further ahead of the provider's clock is a problem.
    pub max_future: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorKind {
    Time,
    Number,
    /// Opaque: equal or not.
    Text,
    /// The last link to a next page; it stands in place of the request.
    Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorOrder {
    Asc,
    Desc,
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    All,
    Now,
    /// This long before the first look.
    Ago(Duration),
    At(crate::model::Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lookback {
    Time(Duration),
    Number(u64),
}

impl Lookback {
    /// Whether nothing is asked again.
    pub fn is_none(&self) -> bool {
        match self {
            Lookback::Time(time) => time.is_zero(),
            Lookback::Number(number) => *number == 0,
        }
    }
}

/// One listing for each parent, or for several (KEYS row 35); keys are unique within it.
#[derive(Clone, Debug)]
pub struct Parent {
    pub of: ParentOf,
    /// `{{ parent.NAME }}`: jq over the parent's record.
    pub carry: Vec<(String, Jq)>,
    /// Which parents: jq over the parent's record.
    pub when: Option<Jq>,
    /// Several with one request.
    pub batch: Option<Batch>,
}

/// One listing for several parents: `{{ parent.NAME }}` is the list of what they hand down.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The most that one request names.
    pub size: usize,
    /// Whose a record is: what the parent hands down under this name, and where the record holds it. None: keys are unique in the
    /// whole stream.
    pub owner: Option<(String, Jq)>,
}

#[derive(Clone, Debug)]
pub enum ParentOf {
    /// The known records of this stream.
    Stream(String),
    /// `{{ parent.value }}`: these, or what a template over the settings gives.
    Values(Param),
}

/// A second look for indexes that fill late: every so often a run asks as far back as records may still turn up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// How late a record may turn up in the listing.
    pub lag: Duration,
    /// How much further back is asked, to be sure.
    pub window: Duration,
    pub every: Duration,
}

/// How a listing goes on (KEYS rows 60–64).
#[derive(Clone, Debug)]
pub struct Pagination {
    pub kind: PageKind,
    /// First page number (`page`).
    pub first: i64,
    /// Size asked for; without it clamping cannot be seen.
    pub size: Option<u64>,
    /// Has more, over the answer.
    pub more: Option<Jq>,
    /// Declared number of records, over the answer.
    pub total: Option<Jq>,
    /// Own rule, over the answer.
    pub stop_when: Option<Jq>,
    /// Its links only count pages, whether or not that can be seen in them.
    pub numbered: bool,
    /// Reaching it is an error, never an end.
    pub max_pages: u64,
    /// The provider shows no more than so many records of a listing: it is split before that.
    pub split_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum PageKind {
    None,
    Page,
    Offset,
    /// Over the answer.
    Token(Jq),
    /// Over the last record.
    LastId(Jq),
    LinkHeader,
    /// Over the answer.
    NextUrl(Jq),
}

#[derive(Clone, Debug)]
pub struct Deletes {
    /// Soft delete or tombstone: jq over a record.
    pub when: Option<Jq>,
    pub confirm_after: u32,
    pub max_percent: u32,
    pub max_count: u64,
}

/// How real webhooks are signed and read.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub setup: Option<String>,
    /// The provider refuses polls while its webhook is set.
    pub exclusive: bool,
    pub redelivers: Duration,
    /// Registers our address at the provider, and again every so often.
    pub subscribe: Option<Request>,
    pub renew_every: Option<Duration>,
    pub answer: Answer,
    /// One or several; the source picks one, default the first.
    pub schemes: Vec<Arc<Scheme>>,
    /// How the public keys of a scheme are fetched, by its name.
    pub keys: Vec<(String, KeysSpec)>,
    /// Asked in order before anything is stored: a challenge is answered and leads to no event.
    pub handshakes: Vec<Handshake>,
    pub messages: Vec<Message>,
}

/// Public keys that are fetched (KEYS row 80).
#[derive(Clone, Debug)]
pub struct KeysSpec {
    pub request: Request,
    /// Over the answer; `$key` is the id. None: the answer is the key.
    pub read: Option<Jq>,
    /// One request for each id; false: the answer holds them all.
    pub by_id: bool,
}

/// A request by which the provider asks whether the address is ours (KEYS rows 84–85).
#[derive(Clone, Debug)]
pub struct Handshake {
    pub method: String,
    /// Whether a request is this challenge; None: always.
    pub when: Option<Jq>,
    /// Answered only when its signature is right.
    pub signed: bool,
    /// Whether it is one that we wanted; None: always.
    pub accept: Option<Jq>,
    pub answer: HandshakeAnswer,
    /// The status for one that we did not want.
    pub refuse: u16,
    /// An address that is called to confirm, on one of the hosts.
    pub fetch: Option<Template>,
    /// `*` stands for one label.
    pub hosts: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct HandshakeAnswer {
    pub status: u16,
    pub headers: Vec<(String, Template)>,
    pub body: Option<Body>,
}

/// What the provider wants to hear after an accepted webhook.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Which message belongs to which stream (KEYS rows 81–83).
#[derive(Clone, Debug)]
pub struct Message {
    /// None: always.
    pub when: Option<Jq>,
    pub stream: String,
    /// Only where the source polls the stream of this name; elsewhere the next rule is asked.
    pub where_polled: Option<String>,
    /// None: the body is the one record.
    pub records: Option<Jq>,
    /// Empty or None: the stream's.
    pub key: Vec<Jq>,
    pub version: Option<Jq>,
    pub time: Option<Jq>,
    pub event_type: Option<Jq>,
    /// The provider's message id.
    pub id: Option<Jq>,
    pub on_webhook: OnWebhook,
    /// The message says the record is gone.
    pub deleted: Option<Jq>,
    /// What of its body is never stored: its stream's `mask`, from the top of the body.
    pub mask: Vec<Path>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWebhook {
    /// The payload is the whole record.
    Merge,
    /// A notice: poll the stream now.
    Poll,
    Ignore,
}

/// What the provider itself would post, for `format = "native"`.
#[derive(Clone, Debug)]
pub struct Native {
    /// None: the inbound's body if there is one, else the record.
    pub body: Option<Body>,
    pub headers: Vec<(String, Template)>,
    /// None: the first.
    pub scheme: Option<String>,
    /// The sentence that says why native emission cannot be.
    pub impossible: Option<String>,
}

/// One `[[tests]]` entry, run offline by `ringback provider test`.
#[derive(Clone, Debug)]
pub struct ProviderTest {
    pub name: String,
    pub stream: Option<String>,
    pub settings: Vec<(String, serde_json::Value)>,
    pub secrets: Vec<(String, String)>,
    pub now: Option<crate::model::Timestamp>,
    /// A poll is the list of its pages: files beside the provider file.
    pub polls: Vec<Vec<PathBuf>>,
    /// `"type key"`, in order.
    pub expect: Vec<String>,
    pub request: Option<PathBuf>,
    /// It arrives after so many of the polls.
    pub request_after: usize,
    /// One of the provider's schemes; None: the first.
    pub scheme: Option<String>,
    /// `accept`, or the reason for refusing.
    pub verdict: Option<String>,
    /// The request is a challenge, and this is the body of its answer.
    pub answer: Option<String>,
    /// The request that `native` would send.
    pub native: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
