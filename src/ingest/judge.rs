//! What a copy of a record means, given what is stored: nothing, a silent write, or a change with its event and deliveries.
//! Pure: everything it needs is handed in, the time included.

use std::cmp::Ordering;

use bytes::Bytes;
use tracing::warn;

use super::compare::{Rules, agree, difference};
use super::decode::{self, Version};
use super::identity::{Identity, IdentityOf, fingerprint};
use crate::canonical::canonical;
use crate::jq::{Json, Vars};
use crate::model::{ChangeKind, Event, EventId, Fingerprint, Key, SeenBy, SourceName, Timestamp};
use crate::planted::{self, Fault};
use crate::provider::{Detect, Types};
use crate::schedule::FirstRun;
use crate::source::SourceStream;
use crate::store::{BodyWrite, InboundId, NewEvent, Phase, RecordWrite, Row, StreamState};
use crate::subscription::Subscriptions;

/// Larger event data is left out of the event, which then says so (DESIGN §13).
pub const EVENT_DATA_MAX: usize = 1 << 20;

/// A copy of a record to be judged.
#[derive(Clone, Debug)]
pub struct Copy {
    pub key: Key,
    /// None: a complete listing shows that it is gone.
    pub raw: Option<Bytes>,
    pub raw_hash: Option<Fingerprint>,
    pub by: SeenBy,
    /// The provider says that it is deleted.
    pub deleted: bool,
    /// The stream's change number before the request that brought it (RULES R5.3).
    pub asked_at: u64,
    /// What a real webhook's route says in place of the stream.
    pub route: Option<RouteValues>,
}

#[derive(Clone, Debug, Default)]
pub struct RouteValues {
    pub version: Option<String>,
    pub time: Option<Timestamp>,
    pub event_type: Option<String>,
    pub inbound: Option<InboundId>,
}

/// What a copy came to.
#[derive(Debug)]
pub enum Verdict {
    /// As stored: nothing is written.
    Unchanged,
    /// Older than what is stored; remembered, in case it comes again (RULES R3.5).
    Older(Fingerprint),
    /// A webhook wrote the row after the page was asked for (RULES R5.3): asked again next time.
    Overtaken,
    /// A webhook that cannot be placed by version: the stream is polled instead (RULES R5.2).
    Notice,
    Write(Box<RecordWrite>),
}

/// What judging needs to know of a stream. Cheap to build, one for each batch.
pub struct Judge<'a> {
    pub stream: &'a SourceStream,
    pub state: &'a StreamState,
    pub source_id: &'a SourceName,
    pub subscriptions: &'a Subscriptions,
    pub vars: &'a Vars,
    pub now: Timestamp,
}

/// The first look at a copy: whether its stored body is needed to say more.
pub enum Glance {
    Settled(Verdict),
    Closer(Closer),
}

/// A copy that differs from what is stored, on its way to a verdict.
pub struct Closer {
    fingerprint: Fingerprint,
    version: Option<Version>,
    /// The stored copy is a webhook's of the same version: perhaps a twin.
    twin: bool,
}

impl Closer {
    /// Whether the stored copy may be the very same change, brought by the other way.
    pub fn perhaps_twin(&self) -> bool {
        self.twin
    }
}

impl Judge<'_> {
    /// Whether polled records are stored without a word (RULES R4.1).
    pub fn silent(&self) -> bool {
        self.state.phase == Phase::Baseline && self.stream.first_run == FirstRun::Baseline
    }

    /// Judges by row alone where that is enough. `older` are the older copies that the run before ignored.
    pub fn glance(&self, copy: &Copy, row: Option<&Row>, older: Option<Fingerprint>) -> Result<Glance, String> {
        use Glance::{Closer as Near, Settled};
        let Some(raw) = &copy.raw else {
            let fingerprint = row.map_or(Fingerprint([0; 16]), |row| row.fingerprint);
            return Ok(match row {
                Some(row) if !row.deleted => Near(Closer { fingerprint, version: None, twin: false }),
                _ => Settled(Verdict::Unchanged),
            });
        };
        if let Some(row) = row {
            if self.stream.spec.detect == Detect::New {
                return Ok(Settled(Verdict::Unchanged));
            }
            let same_bytes = copy.by == SeenBy::Poll && row.raw_hash.is_some() && row.raw_hash == copy.raw_hash;
            if same_bytes && !row.deleted && row.absences == 0 && row.listed {
                return Ok(Settled(Verdict::Unchanged));
            }
        }
        let text = std::str::from_utf8(raw).map_err(|_| "is not UTF-8 text".to_owned())?;
        let form =
            canonical(text, &self.stream.ignore, &self.stream.spec.unordered).map_err(|error| error.to_string())?;
        let found = fingerprint(&form);
        let version = self.version(copy, text)?;
        let Some(row) = row else { return Ok(Near(Closer { fingerprint: found, version, twin: false })) };
        let stored = self.stored_version(row);
        Ok(match copy.by {
            SeenBy::Poll => self.glance_poll(copy, row, found, version, stored, older),
            SeenBy::Webhook => self.glance_webhook(copy, row, found, version, stored),
        })
    }

    fn glance_poll(
        &self,
        copy: &Copy,
        row: &Row,
        found: Fingerprint,
        version: Option<Version>,
        stored: Option<Version>,
        older: Option<Fingerprint>,
    ) -> Glance {
        let order = version.as_ref().zip(stored.as_ref()).and_then(|(new, old)| new.compare(old));
        if row.by == SeenBy::Webhook
            && row.change_number > copy.asked_at
            && order != Some(Ordering::Greater)
            && !planted::is(Fault::StalePage)
        {
            return Glance::Settled(Verdict::Overtaken);
        }
        if found == row.fingerprint && row.deleted == copy.deleted {
            // A later version of the same content is kept: a webhook of a version in between may still be on its way.
            let later = order == Some(Ordering::Greater);
            if row.absences == 0 && row.listed && row.by == SeenBy::Poll && !later {
                return Glance::Settled(Verdict::Unchanged);
            }
            return Glance::Closer(Closer { fingerprint: found, version, twin: true });
        }
        if row.deleted && copy.deleted {
            // It is still gone, whatever else the provider writes into its tombstone.
            return match order {
                Some(Ordering::Less) => Glance::Settled(Verdict::Unchanged),
                _ => Glance::Closer(Closer { fingerprint: found, version, twin: true }),
            };
        }
        if planted::seen_before(copy.key.as_str(), found.0) {
            return Glance::Settled(Verdict::Unchanged);
        }
        if order == Some(Ordering::Less) && older != Some(found) && !planted::is(Fault::OlderCopy) {
            return Glance::Settled(Verdict::Older(found));
        }
        let twin = row.by == SeenBy::Webhook && order == Some(Ordering::Equal) && row.deleted == copy.deleted;
        Glance::Closer(Closer { fingerprint: found, version, twin })
    }

    fn glance_webhook(
        &self,
        copy: &Copy,
        row: &Row,
        found: Fingerprint,
        version: Option<Version>,
        stored: Option<Version>,
    ) -> Glance {
        let order = version.as_ref().zip(stored.as_ref()).map(|(new, old)| new.compare(old));
        if copy.deleted {
            return match order {
                // It came late: the record has come back since, or was deleted long ago.
                Some(Some(Ordering::Less)) => Glance::Settled(Verdict::Older(found)),
                _ if row.deleted => Glance::Settled(Verdict::Unchanged),
                _ => Glance::Closer(Closer { fingerprint: found, version, twin: false }),
            };
        }
        match order {
            Some(Some(Ordering::Greater)) => Glance::Closer(Closer { fingerprint: found, version, twin: false }),
            Some(Some(Ordering::Less)) if !planted::is(Fault::OlderCopy) => Glance::Settled(Verdict::Older(found)),
            Some(Some(Ordering::Less)) => Glance::Closer(Closer { fingerprint: found, version, twin: false }),
            Some(Some(Ordering::Equal)) if !row.deleted => {
                if !row.silent && (row.fingerprint == found || row.webhook_form == Some(found)) {
                    return Glance::Settled(Verdict::Unchanged);
                }
                Glance::Closer(Closer { fingerprint: found, version, twin: true })
            }
            _ => Glance::Settled(Verdict::Notice),
        }
    }

    /// The verdict on a copy that differs, with the stored body: that of the copy's own way, or of the other (`same_way`).
    pub fn decide(
        &self,
        copy: &Copy,
        row: Option<&Row>,
        near: Closer,
        body: Option<(Bytes, bool)>,
    ) -> Result<Verdict, String> {
        let raw = copy.raw.as_ref().map(|raw| std::str::from_utf8(raw).unwrap_or_default());
        let old = body.as_ref().map(|(bytes, same_way)| (std::str::from_utf8(bytes).unwrap_or_default(), *same_way));
        if let (true, Some(row), Some(raw)) = (near.twin, row, raw) {
            let same = near.fingerprint == row.fingerprint
                || (row.deleted && copy.deleted)
                || match old {
                    Some((old, _)) => {
                        agree(old, raw, &self.stream.ignore, &self.stream.spec.unordered).map_err(|e| e.to_string())?
                    }
                    None => false,
                };
            match (same, copy.by) {
                (true, SeenBy::Webhook) if row.silent => {}
                (true, _) => return Ok(Verdict::Write(Box::new(self.twin(copy, row, near)))),
                (false, SeenBy::Webhook) => return Ok(Verdict::Notice),
                (false, SeenBy::Poll) => {}
            }
        }
        self.change(copy, row, near, old).map(|write| Verdict::Write(Box::new(write)))
    }

    /// The same content again: stored in its present form, nothing is sent.
    fn twin(&self, copy: &Copy, row: &Row, near: Closer) -> RecordWrite {
        let polled = copy.by == SeenBy::Poll;
        let version = near.version.map(|v| v.text).or_else(|| row.version.clone());
        RecordWrite {
            key: copy.key.clone(),
            expected: Some(row.change_number),
            fingerprint: if polled { near.fingerprint } else { row.fingerprint },
            raw_hash: if polled { copy.raw_hash } else { None },
            webhook_form: if polled { row.webhook_form } else { Some(near.fingerprint) },
            version_changes: if version == row.version { row.version_changes } else { 0 },
            version,
            revision: row.revision,
            deleted: row.deleted,
            silent: row.silent,
            listed: row.listed || polled,
            by: copy.by,
            absences: 0,
            body: copy.raw.clone().map_or(BodyWrite::Keep, BodyWrite::Put),
            event: None,
        }
    }

    fn change(
        &self,
        copy: &Copy,
        row: Option<&Row>,
        near: Closer,
        old: Option<(&str, bool)>,
    ) -> Result<RecordWrite, String> {
        let gone = copy.deleted || copy.raw.is_none();
        let known = row.filter(|row| !row.deleted);
        let (kind, first_sight) = match (gone, known) {
            (true, _) => (ChangeKind::Deleted, false),
            (false, Some(_)) => (ChangeKind::Updated, false),
            (false, None) => self.first_sight(copy, row)?,
        };
        // What a webhook has told already is known to the handlers: from there on they are told everything, also while the first
        // look goes on.
        let told = row.is_some_and(|row| row.by == SeenBy::Webhook && !row.silent);
        let silent = self.silent() && copy.by == SeenBy::Poll && !told;
        let version = near
            .version
            .as_ref()
            .map(|v| v.text.clone())
            .or_else(|| if gone { row.and_then(|r| r.version.clone()) } else { None });
        let same_version = row.is_some_and(|row| row.version.is_some() && row.version == version);
        let version_changes =
            if same_version { row.map_or(0, |row| row.version_changes + u32::from(!silent)) } else { 0 };
        let begins_again = planted::is(Fault::IdReused) && row.is_some_and(|row| row.deleted);
        let last = row.filter(|_| !begins_again).map_or(self.state.base_revision, |row| row.revision);
        let revision = if silent { last } else { last + 1 };
        let mut write = RecordWrite {
            key: copy.key.clone(),
            expected: row.map(|row| row.change_number),
            fingerprint: near.fingerprint,
            raw_hash: if copy.by == SeenBy::Poll && !gone { copy.raw_hash } else { None },
            webhook_form: if copy.by == SeenBy::Webhook { Some(near.fingerprint) } else { None },
            version,
            version_changes,
            revision,
            deleted: gone,
            silent,
            listed: row.is_some_and(|row| row.listed) || copy.by == SeenBy::Poll,
            by: copy.by,
            absences: 0,
            body: match &copy.raw {
                Some(raw) if self.stream.spec.detect != Detect::New => BodyWrite::Put(raw.clone()),
                _ => BodyWrite::Keep,
            },
            event: None,
        };
        if !silent {
            write.event =
                Some(self.event(copy, &write, kind, first_sight, if known.is_some() { old } else { None }, old)?);
        }
        Ok(write)
    }

    /// A key not known before: a creation only where that can be known (RULES R3.1).
    fn first_sight(&self, copy: &Copy, row: Option<&Row>) -> Result<(ChangeKind, bool), String> {
        if self.stream.spec.detect == Detect::New || self.state.listed_once || row.is_some_and(|row| row.deleted) {
            return Ok((ChangeKind::Created, false));
        }
        let created = match (&self.stream.spec.created, &copy.raw) {
            (Some(jq), Some(raw)) => {
                let text = std::str::from_utf8(raw).unwrap_or_default();
                jq.scalar(text, self.vars).map_err(|error| format!("`created`: {error}"))?
            }
            _ => None,
        };
        let created = created.and_then(|text| self.read_time(&text).ok());
        let after_start = match (created, self.state.started_at) {
            (Some(created), Some(started)) => created >= started,
            // Sent on request from an empty store, with nothing that says it was there before.
            (None, _) => self.state.phase == Phase::Baseline && self.stream.first_run == FirstRun::SendAll,
            // Without a start nothing tells whether it was there before.
            (Some(_), None) => false,
        };
        Ok(if after_start { (ChangeKind::Created, false) } else { (ChangeKind::Updated, true) })
    }

    fn event(
        &self,
        copy: &Copy,
        write: &RecordWrite,
        kind: ChangeKind,
        first_sight: bool,
        before: Option<(&str, bool)>,
        last_known: Option<(&str, bool)>,
    ) -> Result<NewEvent, String> {
        let spec = &self.stream.spec;
        let data = copy.raw.clone().or_else(|| last_known.map(|(text, _)| Bytes::copy_from_slice(text.as_bytes())));
        let text = data.as_ref().map(|raw| std::str::from_utf8(raw).unwrap_or_default()).unwrap_or("null");
        let difference = match (before, kind) {
            (Some((old, same_way)), ChangeKind::Updated) => {
                let rules = Rules { ignore: &self.stream.ignore, unordered: &spec.unordered, common_only: !same_way };
                Some(difference(old, text, rules).map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        let route = copy.route.as_ref();
        let truncated = data.as_ref().is_some_and(|raw| raw.len() > EVENT_DATA_MAX);
        let event_type = match route.and_then(|r| r.event_type.clone()) {
            Some(name) => name,
            None => {
                let changed = difference.as_ref().map(|d| d.changed.as_slice());
                self.event_type(&spec.types, kind, before.map(|(old, _)| old), text, changed)?
            }
        };
        let time = route.and_then(|r| r.time).or_else(|| if copy.raw.is_some() { self.time(text) } else { None });
        let event = Event {
            id: self.id(copy, write, text)?,
            event_type,
            kind,
            stream: self.stream.name.clone(),
            key: copy.key.clone(),
            revision: write.revision,
            time: time.unwrap_or(self.now),
            seen_at: self.now,
            seen_by: copy.by,
            previous: difference.as_ref().filter(|_| !truncated).map(|d| Bytes::copy_from_slice(d.previous.as_bytes())),
            changed: difference.as_ref().map(|d| Bytes::from(d.changed_json())),
            data: if truncated { None } else { data.clone() },
            first_sight,
            test: false,
        };
        let order_key = self.order_key(text, &copy.key);
        let deliveries = self.subscriptions.deliveries(&event, &order_key);
        Ok(NewEvent { event, fingerprint: write.fingerprint, inbound: route.and_then(|r| r.inbound), deliveries })
    }

    fn id(&self, copy: &Copy, write: &RecordWrite, text: &str) -> Result<EventId, String> {
        let spec = &self.stream.spec;
        if let Some(jq) = &spec.event_id {
            let id = jq.scalar(text, self.vars).map_err(|error| format!("`event_id`: {error}"))?;
            return id
                .filter(|id| !id.is_empty())
                .map(EventId::from)
                .ok_or_else(|| "`event_id` is null or missing".to_owned());
        }
        let of = match (spec.detect, &write.version) {
            (Detect::New, _) => IdentityOf::Key,
            (_, Some(version)) => IdentityOf::Version {
                deleted: write.deleted,
                version,
                n: write.version_changes,
                fingerprint: write.fingerprint,
            },
            (_, None) => IdentityOf::Revision {
                deleted: write.deleted,
                revision: write.revision,
                fingerprint: write.fingerprint,
            },
        };
        Ok(Identity { source: self.source_id, stream: &self.stream.name.stream, key: &copy.key, of }.id())
    }

    fn event_type(
        &self,
        types: &Types,
        kind: ChangeKind,
        old: Option<&str>,
        new: &str,
        changed: Option<&[String]>,
    ) -> Result<String, String> {
        let rules: Vec<_> = types.when.iter().filter(|rule| rule.on == kind).collect();
        if !rules.is_empty() && (old.is_some() || kind != ChangeKind::Updated) {
            let changed = serde_json::to_string(changed.unwrap_or_default()).unwrap_or_default();
            let (old, kind) = (old.unwrap_or("null"), kind.as_str());
            let input =
                Json::parse(format!(r#"{{"kind":"{kind}","old":{old},"new":{new},"changed":{changed}}}"#).as_bytes())?;
            for rule in rules {
                if rule.when.truth(&input, self.vars).map_err(|error| format!("`types.when`: {error}"))? {
                    return Ok(rule.event_type.clone());
                }
            }
        }
        if let Some(from) = &types.from {
            let name = from.scalar(new, self.vars).map_err(|error| format!("`types.from`: {error}"))?;
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                return Ok(sanitised(&name));
            }
        }
        Ok(match kind {
            ChangeKind::Created => types.created.clone(),
            ChangeKind::Updated => types.updated.clone(),
            ChangeKind::Deleted => types.deleted.clone(),
        })
    }

    fn order_key(&self, record: &str, key: &Key) -> String {
        if self.stream.spec.order_key.is_empty() {
            return key.to_string();
        }
        match decode::key_of(&self.stream.spec.order_key, record, self.vars) {
            Ok(order_key) => order_key.to_string(),
            Err(error) => {
                // Without the declared order key the record's own key still keeps its changes in order.
                warn!(stream.name = %self.stream.name, "`order_key` gives nothing ({error}); the key is taken");
                key.to_string()
            }
        }
    }

    fn version(&self, copy: &Copy, record: &str) -> Result<Option<Version>, String> {
        let Some(spec) = &self.stream.spec.version else { return Ok(None) };
        let text = match copy.route.as_ref().and_then(|r| r.version.clone()) {
            Some(text) => Some(text),
            None => spec.field.scalar(record, self.vars).map_err(|error| format!("`version`: {error}"))?,
        };
        let read = |text: String| {
            Version::read(&text, spec.kind, &self.stream.spec.time_format, self.stream.spec.timezone)
                .map_err(|e| format!("`version`: {e}"))
        };
        text.map(read).transpose()
    }

    /// A copy's version, where the stream has versions and this one can be read.
    pub fn version_of(&self, copy: &Copy) -> Option<Version> {
        let text = std::str::from_utf8(copy.raw.as_ref()?).ok()?;
        self.version(copy, text).ok()?
    }

    fn stored_version(&self, row: &Row) -> Option<Version> {
        let (spec, text) = (self.stream.spec.version.as_ref()?, row.version.as_ref()?);
        Version::read(text, spec.kind, &self.stream.spec.time_format, self.stream.spec.timezone).ok()
    }

    fn time(&self, record: &str) -> Option<Timestamp> {
        let text = self.stream.spec.time.as_ref()?.scalar(record, self.vars).ok()??;
        self.read_time(&text).ok()
    }

    /// The provider's time of a record's change, for the order in which a run's events are released.
    pub fn time_of(&self, record: &str) -> Option<Timestamp> {
        self.time(record)
    }

    fn read_time(&self, text: &str) -> Result<Timestamp, String> {
        decode::read_time(text, &self.stream.spec.time_format, self.stream.spec.timezone)
    }
}

/// A name of the provider's making as an event type: segments of letters, digits and underscore, joined by dots.
pub fn sanitised(name: &str) -> String {
    let replaced: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' }).collect();
    let segments: Vec<&str> = replaced.split('.').filter(|segment| !segment.is_empty()).collect();
    if segments.is_empty() { "_".to_owned() } else { segments.join(".") }
}
