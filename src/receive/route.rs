//! Which stream a real webhook belongs to, and which records it holds: the provider file's `[[webhook.messages]]`, first match wins.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::answer::FormatKind;
use crate::ingest::{RoutedRecord, decode};
use crate::jq::{Jq, Json, Vars};
use crate::model::{Key, Timestamp};
use crate::provider::{Detect, Message, OnWebhook};
use crate::signature::Request;
use crate::source::{Source, SourceStream};
use crate::store::{ClaimedInbound, InboundRequest};

/// What becomes of a real webhook.
#[derive(Debug)]
pub enum Route {
    /// Its records are taken in.
    Merge(Arc<SourceStream>, Vec<RoutedRecord>),
    /// It says only that something changed.
    Notice(Arc<SourceStream>),
    /// No route wants it.
    Ignored,
    Unreadable(String),
}

/// The provider's message id. The ways that need no tree of the body come first: this is asked before the answer.
pub fn message_id(source: &Source, request: &InboundRequest) -> Option<String> {
    let messages = &source.provider.webhook.as_ref()?.messages;
    let first = messages.first()?;
    // Where all kinds of message carry their id in the same place, it need not be known which kind this is.
    let one_place = messages.iter().all(|message| message.id == first.id);
    if one_place && let Some(id) = by_short_way(first.id.as_ref()?, &request.headers, &request.body) {
        return filled(id);
    }
    let (json, vars) = (Json::parse(&as_json(source, request)).unwrap_or_default(), vars(source, request));
    // A `when` that cannot be judged is told by the inbox; here it only means that no copy is taken for a repeat.
    let message = messages.iter().find(|message| matches(source, message, &json, &vars).unwrap_or(true))?;
    let found = message.id.as_ref()?.first(&json, &vars).ok().flatten()?;
    filled(found.scalar().ok().flatten())
}

fn filled(id: Option<String>) -> Option<String> {
    id.filter(|id| !id.is_empty())
}

/// A plain path into the body, or `$headers["x"]`: None when it is neither.
fn by_short_way(jq: &Jq, headers: &[(String, String)], body: &[u8]) -> Option<Option<String>> {
    if jq.path().is_some() {
        let text = std::str::from_utf8(body).ok()?;
        return jq.scalar(text, &Vars::default()).ok();
    }
    let name = jq.text().trim().strip_prefix("$headers[\"")?.strip_suffix("\"]")?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    plain.then(|| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
}

/// The body without what its stream masks: what is stored must not hold it. None: nothing is masked.
pub fn masked_body(source: &Source, request: &InboundRequest) -> Option<Bytes> {
    let messages = &source.provider.webhook.as_ref()?.messages;
    if messages.iter().all(|message| message.mask.is_empty()) {
        return None;
    }
    let (json, vars) = (Json::parse(&as_json(source, request)).unwrap_or_default(), vars(source, request));
    // A `when` that cannot be judged may be any message: all masks apply.
    let found = messages.iter().find(|message| matches(source, message, &json, &vars).unwrap_or(false));
    let all: Vec<_> = match found {
        Some(message) => message.mask.clone(),
        None => messages.iter().flat_map(|message| message.mask.clone()).collect(),
    };
    if all.is_empty() {
        return None;
    }
    // What is no JSON cannot be masked, and nothing of it may be kept.
    Some(decode::mask(&all, &request.body).unwrap_or_default())
}

/// The body as JSON: XML is read as the answers of the stream are that it may belong to. What cannot be read stays as it came.
fn as_json(source: &Source, request: &InboundRequest) -> Bytes {
    let begins = request.body.iter().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    if begins != Some(&b'<') {
        return request.body.clone();
    }
    let messages = source.provider.webhook.iter().flat_map(|webhook| &webhook.messages);
    let streams = messages.filter_map(|message| source.streams.iter().find(|s| *s.name.stream == *message.stream));
    let mut formats = streams.map(|stream| &stream.spec.answer);
    let xml = formats.find(|answer| matches!(answer.kind, FormatKind::Xml | FormatKind::Soap | FormatKind::Feed));
    let kind = request.headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
    let read = xml.and_then(|answer| answer.read(&request.body, kind).ok());
    read.map_or_else(|| request.body.clone(), |decoded| decoded.json)
}

/// Whether a message is of this kind; anything but true and false is an error with a name (KEYS).
fn matches(source: &Source, message: &Message, json: &Json, vars: &Vars) -> Result<bool, String> {
    let is_polled = |name: &str| source.streams.iter().any(|stream| stream.polled && *stream.name.stream == *name);
    if message.where_polled.as_deref().is_some_and(|name| !is_polled(name)) {
        return Ok(false);
    }
    let Some(when) = &message.when else { return Ok(true) };
    when.truth(json, vars).map_err(|error| format!("`when` of a message for stream `{}`: {error}", message.stream))
}

/// Read by the same hand as the signature: what is routed must be what was signed.
pub(super) fn vars(source: &Source, request: &InboundRequest) -> Vars {
    let InboundRequest { method, target, headers, body } = request;
    let query = target.split_once('?').map_or("", |(_, query)| query);
    Request { method, url: None, headers, body, settings: &source.settings }.vars(query)
}

/// Decides what becomes of an inbound.
pub fn route(source: &Source, inbound: &ClaimedInbound) -> Route {
    let Some(webhook) = &source.provider.webhook else { return Route::Ignored };
    let request = &inbound.request;
    let vars = vars(source, request);
    // A body that is no JSON is only unreadable where a route needs it.
    let sent = as_json(source, request);
    let json = Json::parse(&sent);
    let body = json.clone().unwrap_or_default();
    let mut found = None;
    for message in &webhook.messages {
        match matches(source, message, &body, &vars) {
            Ok(false) => {}
            Ok(true) => {
                found = Some(message);
                break;
            }
            Err(reason) => return Route::Unreadable(reason),
        }
    }
    let Some(message) = found else { return Route::Ignored };
    let Some(stream) = source.streams.iter().find(|stream| *stream.name.stream == *message.stream) else {
        return Route::Ignored;
    };
    match message.on_webhook {
        OnWebhook::Ignore => Route::Ignored,
        OnWebhook::Poll => Route::Notice(stream.clone()),
        OnWebhook::Merge => match records(source, stream, message, inbound, (sent, json), &vars) {
            // Without a version a copy cannot be placed; only streams where each key is one event need none (RULES R5.4).
            Ok(records) if placeable(stream, &records) => Route::Merge(stream.clone(), records),
            Ok(_) => Route::Notice(stream.clone()),
            Err(reason) => Route::Unreadable(reason),
        },
    }
}

fn placeable(stream: &SourceStream, records: &[RoutedRecord]) -> bool {
    stream.spec.detect == Detect::New
        || stream.spec.version.is_some()
        || records.iter().all(|record| record.version.is_some())
}

/// What stands for the key of a pure event: the provider's message id, else a hash of what was signed with its timestamp, so that
/// two messages of equal content are two events, and a message that is sent again is none (RULES R5.6).
fn pure_key(source: &Source, inbound: &ClaimedInbound) -> String {
    if let Some(id) = &inbound.message_id {
        return id.clone();
    }
    let InboundRequest { method, target, headers, body } = &inbound.request;
    let webhook = source.webhook.as_ref();
    let url = super::told(webhook.and_then(|webhook| webhook.url.as_ref()), target);
    let request = Request { method, url: url.as_deref(), headers, body, settings: &source.settings };
    let signed = webhook.and_then(|webhook| webhook.scheme.as_ref()).map(|scheme| scheme.signed(&request));
    // A line break at the end is lost or added on the way, and some schemes take both for the same.
    hex::encode(&Sha256::digest(signed.as_deref().unwrap_or(body).trim_ascii_end())[..16])
}

fn records(
    source: &Source,
    stream: &SourceStream,
    message: &Message,
    inbound: &ClaimedInbound,
    (sent, parsed): (Bytes, Result<Json, String>),
    vars: &Vars,
) -> Result<Vec<RoutedRecord>, String> {
    let is_body = |jq: &Jq| jq.text().split_whitespace().collect::<String>() == "[.]";
    let (json, fault) = match parsed {
        Ok(json) => (json, None),
        Err(error) => (Json::default(), Some(format!("the body is not JSON: {error}"))),
    };
    let json = &json;
    let raws: Vec<Bytes> = match (message.records.as_ref().filter(|jq| !is_body(jq)), fault) {
        // The body itself as the one record keeps its very bytes.
        (None, None) => vec![sent],
        (None, Some(fault)) => return Err(fault),
        (Some(jq), fault) => {
            let found = jq.first(json, vars).map_err(|error| format!("`records`: {error}"));
            let items =
                found.and_then(|list| list.and_then(|list| list.items()).ok_or("`records` gives no list".into()));
            // Where the body is no JSON and that left nothing to read, it is the reason.
            let items = items.map_err(|error: String| fault.unwrap_or(error))?;
            items.into_iter().map(|item| Bytes::from(item.to_text())).collect()
        }
    };
    let text = |jq: &Option<Jq>, what: &str| -> Result<Option<String>, String> {
        let Some(jq) = jq else { return Ok(None) };
        let found = jq.first(json, vars).map_err(|error| format!("`{what}`: {error}"))?;
        found.map_or(Ok(None), |found| found.scalar().map_err(|kind| format!("`{what}` gives {kind}")))
    };
    let (version, time, event_type) =
        (text(&message.version, "version")?, text(&message.time, "time")?, text(&message.event_type, "type")?);
    let deleted = match &message.deleted {
        Some(jq) => jq.truth(json, vars).map_err(|error| format!("`deleted`: {error}"))?,
        None => false,
    };
    let time: Option<Timestamp> =
        time.and_then(|text| decode::read_time(&text, &stream.spec.time_format, stream.spec.timezone).ok());
    let parts = if message.key.is_empty() { &stream.spec.key } else { &message.key };
    let pure = parts.is_empty().then(|| pure_key(source, inbound));
    let several = raws.len() > 1;
    let mut records = Vec::new();
    for (n, raw) in raws.into_iter().enumerate() {
        let record = std::str::from_utf8(&raw).map_err(|_| "a record is not UTF-8 text".to_owned())?;
        let key = match &pure {
            Some(pure) if several => Key::from(format!("{pure}/{n}")),
            Some(pure) => Key::from(pure.as_str()),
            None => decode::key_of(parts, record, vars)?,
        };
        // The stream's filter holds for its webhooks too.
        if let Some(filter) = &stream.spec.filter
            && !filter.truth(&Json::parse(&raw)?, vars).map_err(|error| format!("`filter`: {error}"))?
        {
            continue;
        }
        // And what it calls a deletion. A webhook may hold less than a listing: what does not stand in it says nothing.
        let deleted = deleted || decode::says_deleted(&stream.spec, record.as_bytes(), vars).unwrap_or(false);
        records.push(RoutedRecord {
            key,
            raw,
            deleted,
            version: version.clone(),
            time,
            event_type: event_type.as_deref().map(crate::ingest::type_name),
        });
    }
    Ok(records)
}
