//! Bytes → records. Strict: an answer that cannot be read is an error, never an empty list; a record that cannot be read in a
//! good page is set aside with its reason. Records stay slices of what was received.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{IngestError, PageAnswer, PageEnd};
use crate::answer::BadRecord;
use crate::canonical::without;
use crate::ingest::identity::fingerprint;
use crate::jq::{Jq, Json, Vars};
use crate::model::{Fingerprint, Key, Timestamp};
use crate::path::{self, Path, PathError};
use crate::provider::{CursorKind, CursorSpec, Detect, PageKind, RecordsAs, Stream, VersionKind};
use crate::store::SetAside;
use crate::template::{TimeFormat, outline};

/// A page taken apart.
pub struct Page {
    /// The answer as JSON.
    pub json: Bytes,
    pub records: Vec<Record>,
    pub unreadable: Vec<Unreadable>,
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
        Unreadable { raw: self.raw, member: self.member, reason }.set_aside()
    }
}

/// A record that could not be read, kept with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    pub raw: Bytes,
    pub member: Option<String>,
    pub reason: String,
}

impl Unreadable {
    /// As it is kept, up to the cap.
    pub fn set_aside(self) -> SetAside {
        SetAside { raw: super::settle::capped(&self.raw), member: self.member, reason: self.reason }
    }
}

/// Reads one answer of a listing.
pub fn page(stream: &Stream, answer: &PageAnswer, vars: &Vars) -> Result<Page, IngestError> {
    let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let decoded = stream.answer.read(&answer.body, kind).map_err(IngestError::Unreadable)?;
    let text = text_of(&decoded.json)?;
    let mut whole = None;
    let raws = records_of(stream, text, vars, &mut whole)?;
    let mut page = Page {
        json: decoded.json.clone(),
        records: Vec::with_capacity(raws.len()),
        unreadable: decoded.bad.into_iter().map(|bad| unread(stream, bad)).collect(),
        end: PageEnd::default(),
    };
    let all = raws.len() + page.unreadable.len();
    let mut digest = Sha256::new();
    for (member, raw) in &raws {
        let bytes = masked(stream, slice(&decoded.json, raw))?;
        let hash = fingerprint(&bytes);
        digest.update(hash.0);
        match record(stream, bytes.clone(), hash, member.clone(), vars) {
            Ok(Some(record)) => page.records.push(record),
            Ok(None) => {}
            Err(reason) => page.unreadable.push(Unreadable { raw: bytes, member: member.clone(), reason }),
        }
    }
    page.end = page_end(stream, text, &raws, vars, &mut whole)?;
    page.end.records = all;
    page.end.digest.copy_from_slice(&digest.finalize()[..16]);
    if page.unreadable.len() * 10 > all {
        let first = page.unreadable.first().map(|u| u.reason.as_str()).unwrap_or_default();
        let counts = format!("{} of {all} records cannot be read", page.unreadable.len());
        return Err(IngestError::Records(format!("{counts}; the first: {first}")));
    }
    Ok(page)
}

/// A line or row that is no record. What cannot be masked must not be kept.
fn unread(stream: &Stream, bad: BadRecord) -> Unreadable {
    let raw = if stream.mask.is_empty() { bad.raw } else { Bytes::new() };
    Unreadable { raw, member: None, reason: bad.reason }
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

type Raw<'a> = (Option<String>, Cow<'a, str>);

/// The records' texts: sliced along a plain path, else taken from what jq gives.
fn records_of<'a>(
    stream: &Stream,
    text: &'a str,
    vars: &Vars,
    whole: &mut Option<Json>,
) -> Result<Vec<Raw<'a>>, IngestError> {
    let missing = |error: PathError| match error {
        PathError::Syntax(reason) => IngestError::Unreadable(format!("the answer is not JSON: {reason}")),
        other => IngestError::PathMissing(format!("`records` ({}): {other}", stream.records.text())),
    };
    match (stream.records.path(), stream.records_as) {
        (Some(path), RecordsAs::List) => {
            Ok(path::list(text, path).map_err(missing)?.into_iter().map(|raw| (None, raw.get().into())).collect())
        }
        (Some(path), RecordsAs::Map) => Ok(path::members(text, path)
            .map_err(missing)?
            .into_iter()
            .map(|(name, raw)| (Some(name.to_string()), raw.get().into()))
            .collect()),
        (Some(path), RecordsAs::Columns) => columns(one(text, path).map_err(missing)?.get())
            .map_err(|reason| IngestError::PathMissing(format!("`records` ({}): {reason}", stream.records.text()))),
        (Some(path), RecordsAs::One) => Ok(vec![(None, one(text, path).map_err(missing)?.get().into())]),
        (None, records_as) => {
            let json = parsed(text, whole)?;
            let found = stream
                .records
                .first(json, vars)
                .map_err(|error| IngestError::PathMissing(format!("`records` ({}): {error}", stream.records.text())))?;
            let found = found.filter(|json| !json.is_null()).ok_or_else(|| missing(PathError::Null))?.to_text();
            let owned =
                |raws: Vec<&RawValue>| raws.into_iter().map(|raw| (None, raw.get().to_owned().into())).collect();
            let root = Path { text: ".".into(), steps: Vec::new() };
            match records_as {
                RecordsAs::List => path::list(&found, &root).map(owned).map_err(missing),
                RecordsAs::One => Ok(vec![(None, found.into())]),
                RecordsAs::Columns => columns(&found).map_err(|reason| {
                    IngestError::PathMissing(format!("`records` ({}): {reason}", stream.records.text()))
                }),
                RecordsAs::Map => Ok(path::members(&found, &root)
                    .map_err(missing)?
                    .into_iter()
                    .map(|(name, raw)| (Some(name.to_string()), raw.get().to_owned().into()))
                    .collect()),
            }
        }
    }
}

/// An object of equally long lists, one for each member of the records: the n-th record has the n-th item of each.
fn columns(text: &str) -> Result<Vec<Raw<'static>>, String> {
    let root = Path { text: ".".into(), steps: Vec::new() };
    let mut columns = Vec::new();
    for (name, raw) in path::members(text, &root).map_err(|error| error.to_string())? {
        let items = path::list(raw.get(), &root).map_err(|error| format!("column `{name}`: {error}"))?;
        columns.push((serde_json::Value::from(&*name).to_string(), name, items));
    }
    let Some((_, first, items)) = columns.first() else { return Ok(Vec::new()) };
    let length = items.len();
    if let Some((_, other, items)) = columns.iter().find(|(_, _, items)| items.len() != length) {
        return Err(format!("column `{first}` has {length} items, and `{other}` has {}", items.len()));
    }
    let record = |n: usize| {
        let members: Vec<String> =
            columns.iter().map(|(quoted, _, items)| format!("{quoted}:{}", items[n].get())).collect();
        (None, Cow::Owned(format!("{{{}}}", members.join(","))))
    };
    Ok((0..length).map(record).collect())
}

fn one<'a>(text: &'a str, path: &Path) -> Result<&'a RawValue, PathError> {
    let picked = path::pick(text, &[path]).map_err(|error| PathError::Syntax(error.to_string()))?;
    match picked.into_iter().next().flatten() {
        None => Err(PathError::Missing),
        Some(raw) if raw.get() == "null" => Err(PathError::Null),
        Some(raw) => Ok(raw),
    }
}

fn parsed<'w>(text: &str, whole: &'w mut Option<Json>) -> Result<&'w Json, IngestError> {
    if whole.is_none() {
        let json = Json::parse(text.as_bytes());
        *whole = Some(json.map_err(|error| IngestError::Unreadable(format!("the answer is not JSON: {error}")))?);
    }
    Ok(whole.as_ref().expect("it was just put there"))
}

/// A record's bytes: a slice of the answer's where it was sliced from it, else its own.
fn slice(body: &Bytes, raw: &str) -> Bytes {
    let (start, end) = (body.as_ptr() as usize, body.as_ptr() as usize + body.len());
    let at = raw.as_ptr() as usize;
    if at >= start && at + raw.len() <= end {
        body.slice_ref(raw.as_bytes())
    } else {
        Bytes::copy_from_slice(raw.as_bytes())
    }
}

fn page_end(
    stream: &Stream,
    text: &str,
    raws: &[Raw<'_>],
    vars: &Vars,
    whole: &mut Option<Json>,
) -> Result<PageEnd, IngestError> {
    let pagination = &stream.pagination;
    let rest = without_records(stream, text, raws);
    let fault = |what: &str, error: String| IngestError::Unreadable(format!("`pagination.{what}`: {error}"));
    let mut scalar = |what: &str, jq: &Jq| -> Result<Option<String>, IngestError> {
        if let Some(path) = jq.path() {
            let text = if leads_into(path, stream) { text } else { &*rest };
            return jq.scalar(text, vars).map_err(|error| fault(what, error.to_string()));
        }
        let found = jq.first(parsed(text, whole)?, vars).map_err(|error| fault(what, error.to_string()))?;
        Ok(found.filter(|json| !json.is_null()).map(|json| match json.as_str() {
            Some(text) => text.to_owned(),
            None => json.to_text(),
        }))
    };
    let mut end = PageEnd { records: raws.len(), ..PageEnd::default() };
    end.next = match &pagination.kind {
        PageKind::None | PageKind::Page | PageKind::Offset | PageKind::LinkHeader => None,
        PageKind::Token(jq) | PageKind::NextUrl(jq) => scalar("next", jq)?,
        PageKind::LastId(jq) => match raws.last() {
            Some((_, last)) => jq.scalar(last, vars).map_err(|error| fault("next", error.to_string()))?,
            None => None,
        },
    }
    .filter(|next| !next.is_empty());
    if let Some(jq) = &pagination.more {
        end.more = match scalar("more", jq)?.as_deref() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            other => return Err(fault("more", format!("must be true or false, not {}", other.unwrap_or("null")))),
        };
    }
    if let Some(jq) = &pagination.total {
        let total = scalar("total", jq)?;
        let number = total.as_deref().and_then(|t| t.parse().ok());
        end.total = Some(number.ok_or_else(|| {
            fault("total", format!("must be a whole number, not {}", total.as_deref().unwrap_or("null")))
        })?);
    }
    if let Some(jq) = &pagination.stop_when {
        end.stop = jq.truth(parsed(text, whole)?, vars).map_err(|error| fault("stop_when", error.to_string()))?;
    }
    if let Some(jq) = &stream.complete_when {
        let told = jq.truth(parsed(text, whole)?, vars);
        end.complete = Some(told.map_err(|error| IngestError::Unreadable(format!("`complete_when`: {error}")))?);
    }
    Ok(end)
}

/// The answer with its list of records emptied: what ends a listing stands beside them, and need not be looked for among them.
fn without_records<'a>(stream: &Stream, text: &'a str, raws: &[Raw<'_>]) -> Cow<'a, str> {
    let place = |raw: &str| {
        let start = (raw.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        (start + raw.len() <= text.len()).then_some(start..start + raw.len())
    };
    match (raws, stream.records_as, stream.records.path()) {
        ([(_, Cow::Borrowed(first)), .., (_, Cow::Borrowed(last))], RecordsAs::List, Some(_)) => {
            match (place(first), place(last)) {
                (Some(first), Some(last)) => [&text[..first.start], &text[last.end..]].concat().into(),
                _ => text.into(),
            }
        }
        _ => text.into(),
    }
}

/// Whether a path leads to the records, to something in them or to something around them.
fn leads_into(path: &Path, stream: &Stream) -> bool {
    stream.records.path().is_none_or(|records| {
        path.steps.starts_with(records.list_steps()) || records.steps.starts_with(path.list_steps())
    })
}

/// A record's version: as sent, and in order where its kind has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub text: String,
    order: Option<VersionOrder>,
}

#[derive(Clone, Debug, PartialEq)]
enum VersionOrder {
    Time(Timestamp),
    Number(Decimal),
}

impl Version {
    /// Reads a version as `kind`; an error when it is not of that kind.
    pub fn read(
        text: &str,
        kind: VersionKind,
        format: &TimeFormat,
        zone: Option<chrono_tz::Tz>,
    ) -> Result<Version, String> {
        let order = match kind {
            VersionKind::Text => None,
            VersionKind::Time => Some(VersionOrder::Time(read_time(text, format, zone)?)),
            VersionKind::Number => {
                let number = Decimal::parse(text).ok_or_else(|| format!("`{}` is no number", outline(text)));
                Some(VersionOrder::Number(number?))
            }
        };
        Ok(Version { text: text.to_owned(), order })
    }

    /// How this version stands to another; None when they have no order and differ.
    pub fn compare(&self, other: &Version) -> Option<std::cmp::Ordering> {
        match (&self.order, &other.order) {
            (Some(VersionOrder::Time(a)), Some(VersionOrder::Time(b))) => Some(a.cmp(b)),
            (Some(VersionOrder::Number(a)), Some(VersionOrder::Number(b))) => Some(a.cmp(b)),
            _ => (self.text == other.text).then_some(std::cmp::Ordering::Equal),
        }
    }
}

/// Reads a time in the declared format; RFC 3339 is understood everywhere.
pub fn read_time(text: &str, format: &TimeFormat, zone: Option<chrono_tz::Tz>) -> Result<Timestamp, String> {
    format.read(text, zone).or_else(|error| TimeFormat::Rfc3339.read(text, zone).map_err(|_| error))
}

/// A decimal number of any length, ordered by value: cursors and versions longer than 64 bits exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Decimal {
    /// Reads digits with an optional sign and fraction; exponents are not accepted.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Decimal { negative: negative && !zero, whole, fraction })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> std::cmp::Ordering {
        let size = |a: &Decimal, b: &Decimal| {
            a.whole
                .len()
                .cmp(&b.whole.len())
                .then_with(|| a.whole.cmp(&b.whole))
                .then_with(|| a.fraction.cmp(&b.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (negative, _) => {
                if negative {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Greater
                }
            }
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The cursor value of a record, comparable within its kind.
pub fn cursor_of(cursor: &CursorSpec, field: &Jq, record: &str, vars: &Vars) -> Result<super::CursorValue, String> {
    let text = field.scalar(record, vars).map_err(|error| format!("cursor `{}`: {error}", field.text()))?;
    let text = text.ok_or_else(|| format!("cursor `{}` is null or missing", field.text()))?;
    cursor_value(cursor, text)
}

/// The place to go on from that an answer names. None: this answer names none (often only the last page does).
pub fn cursor_of_answer(
    cursor: &CursorSpec,
    jq: &Jq,
    body: &Bytes,
    vars: &Vars,
) -> Result<Option<super::CursorValue>, IngestError> {
    let fault = |reason: String| IngestError::Unreadable(format!("`cursor.answer` ({}): {reason}", jq.text()));
    let text = jq.scalar(text_of(body)?, vars).map_err(|error| fault(error.to_string()))?;
    text.filter(|text| !text.is_empty()).map(|text| cursor_value(cursor, text)).transpose().map_err(fault)
}

fn cursor_value(cursor: &CursorSpec, text: String) -> Result<super::CursorValue, String> {
    match cursor.kind {
        CursorKind::Time => read_time(&text, &cursor.format, cursor.timezone).map(super::CursorValue::Time),
        CursorKind::Number if Decimal::parse(&text).is_some() => Ok(super::CursorValue::Number(text)),
        CursorKind::Number => Err(format!("cursor `{}` is no number", outline(&text))),
        CursorKind::Text | CursorKind::Link => Ok(super::CursorValue::Text(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;
    use crate::shape::SourceFile;

    fn end_of(pagination: &str, body: &str) -> Result<PageEnd, IngestError> {
        let file = format!(
            "schema = 1\nbase_url = \"http://bank.example\"\n[streams.all]\npath = \"/all\"\nrecords = \".data.items\"\nkey = \".id\"\n\
             query = {{ page = \"{{{{ page.number }}}}\" }}\ndetect = \"new\"\npagination = {{ type = \"page\", size = 2, {pagination} }}\n"
        );
        let (provider, _) =
            provider::read(SourceFile::new("bank.toml", &file)).unwrap_or_else(|faults| panic!("{faults:?}"));
        let answer = PageAnswer { body: body.to_owned().into(), headers: http::HeaderMap::new(), date: None };
        page(&provider.streams[0], &answer, &Vars::default()).map(|page| page.end)
    }

    #[test]
    fn the_end_of_a_listing_is_found_before_behind_and_inside_the_records() {
        let body = r#"{"more":false,"data":{"total":9,"items":[{"id":1,"more":true},{"id":2,"total":7}],"left":3},"more":true}"#;
        let more =
            |pagination: &str| end_of(pagination, body).map(|end| (end.more, end.total)).map_err(|e| e.to_string());
        assert_eq!(more(r#"more = ".more""#), Ok((Some(true), None)), "of two members the last counts");
        assert_eq!(more(r#"total = ".data.left""#), Ok((None, Some(3))));
        assert_eq!(more(r#"more = ".data.items[0].more""#), Ok((Some(true), None)));
        assert_eq!(more(r#"total = ".data.items[1].total""#), Ok((None, Some(7))));
        assert_eq!(more(r#"total = ".data.items | length""#), Ok((None, Some(2))));
        assert!(more(r#"total = ".data.items""#).is_err());
    }

    #[test]
    fn pages_with_the_same_records_have_the_same_digest_and_no_others() {
        let digest = |body: &str| end_of(r#"more = ".more""#, body).expect("a page").digest;
        let one = digest(r#"{"data":{"items":[{"id":1},{"id":2}]},"more":true}"#);
        assert_eq!(one, digest(r#"{"more":false,"data":{"items":[ {"id":1} , {"id":2} ]}}"#));
        assert_ne!(one, digest(r#"{"data":{"items":[{"id":2},{"id":1}]},"more":true}"#));
        assert_ne!(one, digest(r#"{"data":{"items":[{"id":1}]},"more":true}"#));
    }

    #[test]
    fn decimals_are_ordered_by_value_at_any_length() {
        let sorted = [
            "-10",
            "-9.5",
            "-0.1",
            "0",
            "0.09",
            "0.1",
            "9",
            "10",
            "10.25",
            "99999999999999999999",
            "100000000000000000000",
        ];
        let numbers: Vec<Decimal> = sorted.iter().map(|t| Decimal::parse(t).expect("a number")).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        assert_eq!(Decimal::parse("-0.0"), Decimal::parse("0"));
        for wrong in ["", "-", "1e5", "0x1", "1.2.3", " 1", "NaN"] {
            assert_eq!(Decimal::parse(wrong), None, "{wrong}");
        }
    }
}
