//! Cursor values, as records and answers carry them.

use bytes::Bytes;

use super::{read_time, text_of};
use crate::ingest::decimal::Decimal;
use crate::ingest::{CursorValue, IngestError};
use crate::jq::{Jq, Vars};
use crate::provider::{CursorKind, CursorSpec};
use crate::template::outline;

/// The cursor value of a record, comparable within its kind.
pub(in crate::ingest) fn cursor_of(
    cursor: &CursorSpec,
    field: &Jq,
    record: &str,
    vars: &Vars,
) -> Result<CursorValue, String> {
    let text = field.scalar(record, vars).map_err(|error| format!("cursor `{}`: {error}", field.text()))?;
    let text = text.ok_or_else(|| format!("cursor `{}` is null or missing", field.text()))?;
    cursor_value(cursor, text)
}

/// The place to go on from that an answer names. None: this answer names none (often only the last page does).
pub(in crate::ingest) fn cursor_of_answer(
    cursor: &CursorSpec,
    jq: &Jq,
    body: &Bytes,
    vars: &Vars,
) -> Result<Option<CursorValue>, IngestError> {
    let fault = |reason: String| IngestError::Unreadable(format!("`cursor.answer` ({}): {reason}", jq.text()));
    let text = jq.scalar(text_of(body)?, vars).map_err(|error| fault(error.to_string()))?;
    text.filter(|text| !text.is_empty()).map(|text| cursor_value(cursor, text)).transpose().map_err(fault)
}

fn cursor_value(cursor: &CursorSpec, text: String) -> Result<CursorValue, String> {
    match cursor.kind {
        CursorKind::Time => read_time(&text, &cursor.format, cursor.timezone).map(CursorValue::Time),
        CursorKind::Number if Decimal::parse(&text).is_some() => Ok(CursorValue::Number(text)),
        CursorKind::Number => Err(format!("cursor `{}` is no number", outline(&text))),
        CursorKind::Text | CursorKind::Link => Ok(CursorValue::Text(text)),
    }
}
