//! Bytes → records. Strict: an answer that cannot be read is an error, never an empty list; a record that cannot be read in a
//! good page is set aside with its reason. Records stay slices of what was received.

mod cursor;
mod end;
mod records;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::aside::{self, set_aside};
use super::{IngestError, PageAnswer, PageEnd};
use crate::answer::BadRecord;
use crate::canonical::without;
use crate::ingest::identity::fingerprint;
use crate::jq::{Jq, Json, Vars};
use crate::model::{Fingerprint, Key};
use crate::path::Path;
use crate::provider::{Detect, Stream};
use crate::store::SetAside;

pub use super::versions::read_time;
pub(super) use cursor::{cursor_of, cursor_of_answer};

/// A page taken apart.
pub struct Page {
    /// The answer as JSON.
    pub json: Bytes,
    pub records: Vec<Record>,
    pub unreadable: Vec<SetAside>,
    pub end: PageEnd,
}

/// One record as received, with what identifies it.
#[derive(Clone, Debug)]
pub struct Record {
    pub raw: Bytes,
    pub raw_hash: Fingerprint,
    pub key: Key,
    /// The name of its member, where records are an object's members.
    pub member: Option<String>,
}

impl Record {
    /// The record as text: it was sliced from valid JSON text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).unwrap_or_default()
    }

    /// Kept apart for this reason.
    pub fn set_aside(self, reason: String) -> SetAside {
        set_aside(&self.raw, self.member, reason)
    }
}

/// Reads one answer of a listing.
pub fn page(stream: &Stream, answer: &PageAnswer, vars: &Vars) -> Result<Page, IngestError> {
    let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let decoded = stream.answer.read(&answer.body, kind).map_err(IngestError::Unreadable)?;
    let text = text_of(&decoded.json)?;
    let mut whole = None;
    let raws = records::records_of(stream, text, vars, &mut whole)?;
    let mut page = Page {
        json: decoded.json.clone(),
        records: Vec::with_capacity(raws.len()),
        unreadable: decoded.bad.into_iter().map(|bad| unread(stream, bad)).collect(),
        end: PageEnd::default(),
    };
    let all = raws.len() + page.unreadable.len();
    let mut digest = Sha256::new();
    for (member, raw) in &raws {
        let bytes = masked(stream, records::slice(&decoded.json, raw))?;
        let hash = fingerprint(&bytes);
        digest.update(hash.0);
        match record(stream, bytes.clone(), hash, member.clone(), vars) {
            Ok(Some(record)) => page.records.push(record),
            Ok(None) => {}
            Err(reason) => page.unreadable.push(set_aside(&bytes, member.clone(), reason)),
        }
    }
    page.end = end::page_end(stream, text, &raws, vars, &mut whole)?;
    page.end.records = all;
    page.end.digest.copy_from_slice(&digest.finalize()[..16]);
    aside::check(&page.unreadable, all)?;
    Ok(page)
}

/// A line or row that is no record. What cannot be masked must not be kept.
fn unread(stream: &Stream, bad: BadRecord) -> SetAside {
    let raw = if stream.mask.is_empty() { bad.raw } else { Bytes::new() };
    set_aside(&raw, None, bad.reason)
}

/// The record without what is masked: nothing below this line sees it, and so it never reaches the disk.
fn masked(stream: &Stream, raw: Bytes) -> Result<Bytes, IngestError> {
    if stream.mask.is_empty() {
        return Ok(raw);
    }
    mask(&stream.mask, &raw).map_err(|error| IngestError::Unreadable(format!("a record cannot be masked: {error}")))
}

/// JSON without these places.
pub fn mask(places: &[Path], raw: &[u8]) -> Result<Bytes, String> {
    let text = std::str::from_utf8(raw).map_err(|_| "it is not UTF-8 text".to_owned())?;
    without(text, places).map(Bytes::from).map_err(|error| error.to_string())
}

/// Takes one record apart. None: the stream's filter leaves it out.
pub fn record(
    stream: &Stream,
    raw: Bytes,
    raw_hash: Fingerprint,
    member: Option<String>,
    vars: &Vars,
) -> Result<Option<Record>, String> {
    let text = std::str::from_utf8(&raw).map_err(|_| "is not UTF-8 text".to_owned())?;
    let with_member;
    let vars = match &member {
        Some(name) => {
            with_member = Vars { key: Json::from(serde_json::Value::from(name.as_str())), ..vars.clone() };
            &with_member
        }
        None => vars,
    };
    if let Some(filter) = &stream.filter {
        let json = Json::parse(text.as_bytes())?;
        if !filter.truth(&json, vars).map_err(|error| format!("`filter` {error}"))? {
            return Ok(None);
        }
    }
    let key = match stream.detect {
        Detect::Document => Key::from("document"),
        Detect::New | Detect::Changed | Detect::Snapshot => key_of(&stream.key, text, vars)?,
    };
    Ok(Some(Record { raw, raw_hash, key, member }))
}

/// Whether a record says of itself that it is deleted (`deletes.when`).
pub fn says_deleted(stream: &Stream, raw: &[u8], vars: &Vars) -> Result<bool, String> {
    let Some(jq) = &stream.deletes.when else { return Ok(false) };
    let truth = Json::parse(raw).and_then(|json| jq.truth(&json, vars).map_err(|error| error.to_string()));
    truth.map_err(|reason| format!("`deletes.when`: {reason}"))
}

/// The key: its parts joined with `/`; a null part is an error.
pub fn key_of(parts: &[Jq], record: &str, vars: &Vars) -> Result<Key, String> {
    let mut key = String::new();
    for (n, part) in parts.iter().enumerate() {
        let value = part.scalar(record, vars).map_err(|error| format!("key `{}`: {error}", part.text()))?;
        let value = value
            .filter(|v| !v.is_empty())
            .ok_or_else(|| format!("key `{}` is null, missing or empty", part.text()))?;
        if n > 0 {
            key.push('/');
        }
        key.push_str(&value);
    }
    Ok(Key::from(key))
}

fn text_of(body: &Bytes) -> Result<&str, IngestError> {
    let text = std::str::from_utf8(body).map_err(|_| IngestError::Unreadable("the answer is not UTF-8 text".into()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_start().chars().next() {
        None => Err(IngestError::Unreadable("the answer is empty".into())),
        Some('<') => Err(IngestError::Unreadable("the answer is HTML or XML, not JSON".into())),
        Some(_) => Ok(text),
    }
}
