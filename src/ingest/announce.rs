//! A change as it is announced: its event with id, type, `changed` and `previous`, and a delivery for each handler that wants it.

use bytes::Bytes;
use tracing::warn;

use super::compare::{Rules, difference};
use super::decode;
use super::identity::{Identity, IdentityOf};
use super::judge::{Copy, Judge};
use crate::jq::Json;
use crate::model::{ChangeKind, Event, EventId, Key};
use crate::provider::{Detect, Types};
use crate::store::{NewEvent, RecordWrite};

/// The copy stored before, and whether it came by the same way as the present one.
pub type Before<'a> = Option<(&'a str, bool)>;

impl Judge<'_> {
    /// The event of a change. `before` is what it changed; `last_known` what a deletion shows.
    pub(super) fn event(
        &self,
        copy: &Copy,
        write: &RecordWrite,
        kind: ChangeKind,
        first_sight: bool,
        before: Before<'_>,
        last_known: Before<'_>,
    ) -> Result<NewEvent, String> {
        let spec = &self.stream.spec;
        let data = copy.raw.clone().or_else(|| last_known.map(|(text, _)| Bytes::copy_from_slice(text.as_bytes())));
        let text = data.as_ref().map(|raw| std::str::from_utf8(raw).unwrap_or_default()).unwrap_or("null");
        let difference = match (before, kind) {
            (Some((old, same_way)), ChangeKind::Updated) => {
                let rules = Rules { comparing: &self.stream.comparing, common_only: !same_way };
                Some(difference(old, text, rules).map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        let route = copy.route.as_ref();
        let truncated = data.as_ref().is_some_and(|raw| raw.len() as u64 > spec.data_max);
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
        let deliveries = self.subscriptions.deliveries(&event, self.source_id, &order_key);
        // What is new is one event for each key, whoever gave its id.
        let own_id = spec.event_id.is_none() || spec.detect == Detect::New;
        let inbound = route.and_then(|route| route.inbound);
        Ok(NewEvent { event, fingerprint: write.fingerprint, own_id, inbound, deliveries })
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
            (Detect::New, _) => IdentityOf::Key { deleted: write.deleted },
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
}

/// A name of the provider's making as an event type: segments of letters, digits and underscore, joined by dots.
pub fn sanitised(name: &str) -> String {
    let replaced: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' }).collect();
    let segments: Vec<&str> = replaced.split('.').filter(|segment| !segment.is_empty()).collect();
    if segments.is_empty() { "_".to_owned() } else { segments.join(".") }
}
