//! What a copy of a record means, given what is stored: nothing, a silent write, or a change with its event and deliveries.
//! Pure: everything it needs is handed in, the time included.

use std::cmp::Ordering;

use super::announce::Before;
use super::compare::agree;
use super::decode::{self, Record};
use super::forget;
use super::identity::fingerprint;
use super::versions::Version;
use crate::canonical::{Comparing, canonical};
use crate::jq::Vars;
use crate::model::{ChangeKind, Fingerprint, Key, SeenBy, SourceName, Timestamp};
use crate::planted::{self, Fault};
use crate::provider::Detect;
use crate::schedule::FirstRun;
use crate::source::SourceStream;
use crate::store::{BodyWrite, InboundId, Phase, RecordWrite, Row, StreamState};
use crate::subscription::Subscriptions;
use bytes::Bytes;

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

impl Copy {
    /// A record that a listing shows.
    pub(super) fn polled(record: Record, deleted: bool, asked_at: u64) -> Copy {
        Copy {
            key: record.key,
            raw: Some(record.raw),
            raw_hash: Some(record.raw_hash),
            by: SeenBy::Poll,
            deleted,
            asked_at,
            route: None,
        }
    }
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
    /// Polled copies are stored without a word (RULES R4.1).
    pub silent: bool,
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
    pub(super) twin: bool,
}

impl Judge<'_> {
    /// The form that fingerprints are made of.
    pub fn form_of(&self, raw: &[u8]) -> Result<Fingerprint, String> {
        let text = std::str::from_utf8(raw).map_err(|_| "is not UTF-8 text".to_owned())?;
        canonical(text, &self.stream.comparing).map(|form| fingerprint(&form)).map_err(|error| error.to_string())
    }

    /// Judges by row alone where that is enough. `older` are the older copies that the run before ignored.
    pub fn glance(&self, copy: &Copy, row: Option<&Row>, older: Option<Fingerprint>) -> Result<Glance, String> {
        use Glance::{Closer as Near, Settled};
        let Some(raw) = &copy.raw else { return Ok(absent(copy, row)) };
        if let Some(row) = row {
            let same_bytes = copy.by == SeenBy::Poll && row.raw_hash.is_some() && row.raw_hash == copy.raw_hash;
            if same_bytes && !row.deleted && !copy.deleted && row.absences == 0 && row.listed {
                return Ok(Settled(Verdict::Unchanged));
            }
            if self.stream.spec.detect == Detect::New && (row.deleted || !copy.deleted) {
                let announce = copy.by == SeenBy::Webhook && row.silent && !row.deleted;
                let near = Closer { fingerprint: row.fingerprint, version: None, twin: true };
                return Ok(if announce { Near(near) } else { Settled(Verdict::Unchanged) });
            }
        }
        if row.is_none() && copy.by == SeenBy::Poll && self.is_forgotten(raw) {
            return Ok(Settled(Verdict::Unchanged));
        }
        let found = self.form_of(raw)?;
        let version = self.version(copy, std::str::from_utf8(raw).unwrap_or_default())?;
        let Some(row) = row else { return Ok(Near(Closer { fingerprint: found, version, twin: false })) };
        let stored = self.stored_version(row);
        Ok(match copy.by {
            SeenBy::Poll => self.glance_poll(copy, row, found, version, stored, older),
            SeenBy::Webhook => self.glance_webhook(copy, row, found, version, stored),
        })
    }

    /// Whether a listing that reaches back further than any other shows a key that was forgotten with age (RULES R9.2).
    fn is_forgotten(&self, raw: &[u8]) -> bool {
        let Some(below) = self.state.detection.forgotten_below else { return false };
        let text = std::str::from_utf8(raw).unwrap_or_default();
        forget::place_of(self.stream, text, self.vars).is_some_and(|place| place < below)
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
        if self.overtaken(copy, row) && order != Some(Ordering::Greater) && !planted::is(Fault::StalePage) {
            return Glance::Settled(Verdict::Overtaken);
        }
        // Under a changed definition a row is written anew even when its content is the same: its version may be read elsewhere.
        let retaken = self.state.detection.retaken.is_some();
        if found == row.fingerprint && row.deleted == copy.deleted {
            // A later version of the same content is kept: a webhook of a version in between may still be on its way.
            let later = order == Some(Ordering::Greater);
            if row.absences == 0 && row.listed && row.by == SeenBy::Poll && !retaken && !later {
                return Glance::Settled(Verdict::Unchanged);
            }
            return Glance::Closer(Closer { fingerprint: found, version, twin: true });
        }
        if planted::seen_before(copy.key.as_str(), found.0) {
            return Glance::Settled(Verdict::Unchanged);
        }
        if row.deleted && copy.deleted {
            // It is still gone, whatever else the provider writes into its tombstone.
            return match order {
                Some(Ordering::Greater) => Glance::Closer(Closer { fingerprint: found, version, twin: true }),
                _ => Glance::Settled(Verdict::Unchanged),
            };
        }
        // A listing that showed a key as gone is no newer than one that shows it again: versions may begin anew with the key.
        let gone_by_listing = row.deleted && row.by == SeenBy::Poll;
        let older = older == Some(found) || planted::is(Fault::OlderCopy);
        if order == Some(Ordering::Less) && !older && !retaken && !gone_by_listing {
            return Glance::Settled(Verdict::Older(found));
        }
        let twin = row.by == SeenBy::Webhook && order == Some(Ordering::Equal) && row.deleted == copy.deleted;
        Glance::Closer(Closer { fingerprint: found, version, twin })
    }

    /// A real webhook wrote the row after the page was asked for, or so shortly before that the listing may trail it (RULES R5.3).
    fn overtaken(&self, copy: &Copy, row: &Row) -> bool {
        let lag = self.stream.spec.lag;
        let trails = !lag.is_zero() && row.written_at.is_some_and(|at| at.plus(lag) > self.now);
        row.by == SeenBy::Webhook && (row.change_number > copy.asked_at || trails)
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
        let near = |twin| Glance::Closer(Closer { fingerprint: found, version: version.clone(), twin });
        match order {
            Some(Some(Ordering::Less)) if !planted::is(Fault::OlderCopy) => Glance::Settled(Verdict::Older(found)),
            Some(Some(Ordering::Less)) => near(false),
            // A deletion of what is gone tells nothing. A later version is kept: a webhook of one in between may be on its way.
            Some(Some(Ordering::Greater)) if copy.deleted && row.deleted => near(true),
            _ if copy.deleted && row.deleted => Glance::Settled(Verdict::Unchanged),
            // A deletion needs no greater version: it often bears that of the last change.
            _ if copy.deleted => near(false),
            Some(Some(Ordering::Greater)) => near(false),
            Some(Some(Ordering::Equal)) if !row.deleted => {
                if !row.silent && (row.fingerprint == found || row.webhook_form == Some(found)) {
                    return Glance::Settled(Verdict::Unchanged);
                }
                near(true)
            }
            _ => Glance::Settled(Verdict::Notice),
        }
    }

    /// The verdict on a copy that differs, with the stored body: that of the copy's own way, or of the other (`same_way`).
    /// `twin` is the other way's, where the copy may be the same change.
    pub fn decide(
        &self,
        copy: &Copy,
        row: Option<&Row>,
        near: Closer,
        body: Option<(Bytes, bool)>,
        twin: Option<&Bytes>,
    ) -> Result<Verdict, String> {
        let raw = copy.raw.as_ref().map(|raw| std::str::from_utf8(raw).unwrap_or_default());
        let old = body.as_ref().map(|(bytes, same_way)| (std::str::from_utf8(bytes).unwrap_or_default(), *same_way));
        if let (true, Some(row), Some(raw)) = (near.twin, row, raw) {
            let still_gone = row.deleted && copy.deleted;
            let same = still_gone || near.fingerprint == row.fingerprint || self.twins(twin, raw)?;
            match (same, copy.by) {
                // Taken silently by the first look, and now told by its webhook: announced, once (RULES R4.1).
                (true, SeenBy::Webhook) if row.silent && !still_gone => {
                    return self.change(copy, Some(row), near, None, true).map(|write| Verdict::Write(Box::new(write)));
                }
                (true, _) => return Ok(Verdict::Write(Box::new(self.twin(copy, row, near)))),
                (false, SeenBy::Webhook) => return Ok(Verdict::Notice),
                (false, SeenBy::Poll) => {}
            }
        }
        self.change(copy, row, near, old, false).map(|write| Verdict::Write(Box::new(write)))
    }

    /// Whether two copies of one version that came by different ways are the same change (RULES R5.2).
    fn twins(&self, old: Option<&Bytes>, new: &str) -> Result<bool, String> {
        let (Some(old), Some(version)) = (old, &self.stream.spec.version) else { return Ok(false) };
        let old = std::str::from_utf8(old).unwrap_or_default();
        let rules = &self.stream.comparing;
        if version.each_change {
            return Ok(true);
        }
        if version.same.is_empty() {
            return agree(old, new, rules).map_err(|error| error.to_string());
        }
        let only = Comparing { only: version.same.clone(), ..rules.clone() };
        let form = |text| canonical(text, &only).map_err(|error| error.to_string());
        Ok(form(old)? == form(new)?)
    }

    /// The same content again: stored in its present form, nothing is sent.
    fn twin(&self, copy: &Copy, row: &Row, near: Closer) -> RecordWrite {
        let polled = copy.by == SeenBy::Poll;
        let version_changes = self.version_changes(Some(row), near.version.as_ref(), row.deleted, true, row.revision);
        RecordWrite {
            key: copy.key.clone(),
            expected: Some(row.change_number),
            fingerprint: if polled { near.fingerprint } else { row.fingerprint },
            raw_hash: if polled { copy.raw_hash } else { None },
            webhook_form: if polled { row.webhook_form } else { Some(near.fingerprint) },
            version: near.version.map(|v| v.text).or_else(|| row.version.clone()),
            version_changes,
            revision: row.revision,
            deleted: row.deleted,
            silent: row.silent,
            listed: row.listed || polled,
            by: copy.by,
            absences: 0,
            place: None,
            body: copy.raw.clone().map_or(BodyWrite::Keep, BodyWrite::Put),
            event: None,
        }
    }

    /// A change, or what is stored of one silently. `untold`: the row was stored silently, and this is the first word about it.
    fn change(
        &self,
        copy: &Copy,
        row: Option<&Row>,
        near: Closer,
        old: Before<'_>,
        untold: bool,
    ) -> Result<RecordWrite, String> {
        let gone = copy.deleted || copy.raw.is_none();
        let known = row.filter(|row| !row.deleted && !untold);
        let (kind, first_sight) = match (gone, known) {
            (true, _) => (ChangeKind::Deleted, false),
            (false, Some(_)) => (ChangeKind::Updated, false),
            (false, None) => self.first_sight(copy, row, untold)?,
        };
        // What a webhook has told is known to the handlers: from there on they are told everything, also while a first look goes on, and
        // also after a polled twin has taken the webhook's place in the row.
        let told = row.is_some_and(|row| !row.silent);
        let silent = self.silent && copy.by == SeenBy::Poll && !(told && self.state.detection.retaken.is_none());
        let begins_again = planted::is(Fault::IdReused) && row.is_some_and(|row| row.deleted);
        let last = row.filter(|_| !begins_again).map_or(self.state.base_revision, |row| row.revision);
        let revision = if silent { last } else { last + 1 };
        let version_changes = self.version_changes(row, near.version.as_ref(), gone, silent, revision);
        let version =
            near.version.map(|v| v.text).or_else(|| if gone { row.and_then(|r| r.version.clone()) } else { None });
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
            place: copy
                .raw
                .as_ref()
                .and_then(|raw| forget::place_of(self.stream, std::str::from_utf8(raw).unwrap_or_default(), self.vars)),
            body: match &copy.raw {
                Some(raw) if self.stream.spec.detect != Detect::New => BodyWrite::Put(raw.clone()),
                _ => BodyWrite::Keep,
            },
            event: None,
        };
        if !silent {
            let before = if known.is_some() { old } else { None };
            write.event = Some(self.event(copy, &write, kind, first_sight, before, old)?);
        }
        Ok(write)
    }

    /// A key not known before: a creation only where that can be known (RULES R3.1).
    fn first_sight(&self, copy: &Copy, row: Option<&Row>, untold: bool) -> Result<(ChangeKind, bool), String> {
        let known_listing = !untold && (self.state.listed_once || row.is_some_and(|row| row.deleted));
        if self.stream.spec.detect == Detect::New || known_listing {
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
            (None, _) => self.state.phase == Phase::Baseline && self.stream.first_run != FirstRun::Baseline && !untold,
            // Without a start nothing tells whether it was there before.
            (Some(_), None) => false,
        };
        Ok(if after_start { (ChangeKind::Created, false) } else { (ChangeKind::Updated, true) })
    }

    /// The provider's time of a record's change.
    pub fn time(&self, record: &str) -> Option<Timestamp> {
        let text = self.stream.spec.time.as_ref()?.scalar(record, self.vars).ok()??;
        self.read_time(&text).ok()
    }

    fn read_time(&self, text: &str) -> Result<Timestamp, String> {
        decode::read_time(text, &self.stream.spec.time_format, self.stream.spec.timezone)
    }
}

/// What the absence of a record from a complete listing means.
fn absent(copy: &Copy, row: Option<&Row>) -> Glance {
    match row {
        // Written since the run began: the listing may be older than that.
        Some(row) if !row.deleted && row.change_number > copy.asked_at => Glance::Settled(Verdict::Overtaken),
        Some(row) if !row.deleted => {
            Glance::Closer(Closer { fingerprint: row.fingerprint, version: None, twin: false })
        }
        _ => Glance::Settled(Verdict::Unchanged),
    }
}
