//! The records of an answer, as texts: sliced out of it along a plain path, else taken from what jq gives.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::ingest::IngestError;
use crate::jq::{Json, Vars};
use crate::path::{self, Path, PathError};
use crate::provider::{RecordsAs, Stream};

/// A record's text, with the name of its member where records are an object's members.
pub(super) type Raw<'a> = (Option<String>, Cow<'a, str>);

/// The texts of all records. `whole` keeps the answer as jq reads it, for whoever asks it next.
pub(super) fn records_of<'a>(
    stream: &Stream,
    text: &'a str,
    vars: &Vars,
    whole: &mut Option<Json>,
) -> Result<Vec<Raw<'a>>, IngestError> {
    if let Some(path) = stream.records.path() {
        return sliced(stream, text, path);
    }
    let found = stream.records.first(parsed(text, whole)?, vars).map_err(|error| missing(stream, &error))?;
    let found = found.filter(|json| !json.is_null()).ok_or_else(|| missing(stream, &PathError::Null))?.to_text();
    let owned = |(member, raw): Raw<'_>| (member, raw.into_owned().into());
    Ok(sliced(stream, &found, &Path::root())?.into_iter().map(owned).collect())
}

fn sliced<'a>(stream: &Stream, text: &'a str, path: &Path) -> Result<Vec<Raw<'a>>, IngestError> {
    let fault = |error| match error {
        PathError::Syntax(reason) => IngestError::Unreadable(format!("the answer is not JSON: {reason}")),
        other => missing(stream, &other),
    };
    match stream.records_as {
        RecordsAs::List => list(text, path).map_err(fault),
        RecordsAs::Map => map(text, path).map_err(fault),
        RecordsAs::Columns => columns(one(text, path).map_err(fault)?).map_err(|reason| missing(stream, &reason)),
        RecordsAs::One => Ok(vec![(None, one(text, path).map_err(fault)?.into())]),
    }
}

fn missing(stream: &Stream, reason: &dyn std::fmt::Display) -> IngestError {
    IngestError::PathMissing(format!("`records` ({}): {reason}", stream.records.text()))
}

fn list<'a>(text: &'a str, path: &Path) -> Result<Vec<Raw<'a>>, PathError> {
    Ok(path::list(text, path)?.into_iter().map(|raw| (None, raw.get().into())).collect())
}

fn map<'a>(text: &'a str, path: &Path) -> Result<Vec<Raw<'a>>, PathError> {
    Ok(path::members(text, path)?.into_iter().map(|(name, raw)| (Some(name.to_string()), raw.get().into())).collect())
}

/// An object of equally long lists, one for each member of the records: the n-th record has the n-th item of each.
fn columns(text: &str) -> Result<Vec<Raw<'static>>, String> {
    let root = Path::root();
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

fn one<'a>(text: &'a str, path: &Path) -> Result<&'a str, PathError> {
    let picked = path::pick(text, &[path]).map_err(|error| PathError::Syntax(error.to_string()))?;
    match picked.into_iter().next().flatten().map(RawValue::get) {
        None => Err(PathError::Missing),
        Some("null") => Err(PathError::Null),
        Some(raw) => Ok(raw),
    }
}

/// The whole answer as jq reads it, read once.
pub(super) fn parsed<'w>(text: &str, whole: &'w mut Option<Json>) -> Result<&'w Json, IngestError> {
    if whole.is_none() {
        let json = Json::parse(text.as_bytes());
        *whole = Some(json.map_err(|error| IngestError::Unreadable(format!("the answer is not JSON: {error}")))?);
    }
    Ok(whole.as_ref().expect("it was just put there"))
}

/// A record's bytes: a slice of the answer's where it was sliced from it, else its own.
pub(super) fn slice(body: &Bytes, raw: &str) -> Bytes {
    let (start, end) = (body.as_ptr() as usize, body.as_ptr() as usize + body.len());
    let at = raw.as_ptr() as usize;
    if at >= start && at + raw.len() <= end {
        body.slice_ref(raw.as_bytes())
    } else {
        Bytes::copy_from_slice(raw.as_bytes())
    }
}
