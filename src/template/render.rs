//! A template's value → text, bytes or JSON. Undefined is an error everywhere; numbers print with their digits.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;

use super::value::{Digits, Moment, Received};

/// What a template that is one expression gives, with its type.
#[derive(Clone, Debug)]
pub enum Rendered {
    Text(String),
    /// Its digits.
    Number(String),
    Bool(bool),
    List(Vec<Rendered>),
    /// An object or null, as JSON text with every number as it was sent.
    Json(Box<RawValue>),
}

impl PartialEq for Rendered {
    fn eq(&self, other: &Rendered) -> bool {
        match (self, other) {
            (Rendered::Text(a), Rendered::Text(b)) | (Rendered::Number(a), Rendered::Number(b)) => a == b,
            (Rendered::Bool(a), Rendered::Bool(b)) => a == b,
            (Rendered::List(a), Rendered::List(b)) => a == b,
            (Rendered::Json(a), Rendered::Json(b)) => a.get() == b.get(),
            _ => false,
        }
    }
}

impl Rendered {
    pub(super) fn of(value: &Value) -> Result<Rendered, Error> {
        if let Some(moment) = value.downcast_object_ref::<Moment>() {
            let text = moment.text();
            return Ok(if moment.is_number() { Rendered::Number(text) } else { Rendered::Text(text) });
        }
        if let Some(digits) = value.downcast_object_ref::<Digits>() {
            return Ok(Rendered::Number(digits.0.clone()));
        }
        match value.kind() {
            ValueKind::Bool => Ok(Rendered::Bool(value.is_true())),
            ValueKind::Number => Ok(Rendered::Number(number_text(value)?)),
            ValueKind::String | ValueKind::Bytes => text(value).map(Rendered::Text),
            ValueKind::Seq | ValueKind::Iterable if value.downcast_object_ref::<Received>().is_none() => {
                value.try_iter()?.map(|item| Rendered::of(&item)).collect::<Result<_, _>>().map(Rendered::List)
            }
            _ => {
                let mut json = String::new();
                write_json(&mut json, value)?;
                RawValue::from_string(json).map(Rendered::Json).map_err(|_| invalid("this is not JSON"))
            }
        }
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        match self {
            // Text always becomes JSON.
            Rendered::Text(text) => serde_json::to_string(text).unwrap_or_default(),
            Rendered::Number(digits) => digits.clone(),
            Rendered::Bool(flag) => flag.to_string(),
            Rendered::List(items) => {
                format!("[{}]", items.iter().map(Rendered::to_json).collect::<Vec<_>>().join(","))
            }
            Rendered::Json(json) => json.get().to_owned(),
        }
    }

    /// As text: what a query parameter or a form field holds.
    pub fn to_text(&self) -> String {
        match self {
            Rendered::Text(text) => text.clone(),
            other => other.to_json(),
        }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// A value as it stands in text.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        return Ok(moment.text());
    }
    if let Some(digits) = value.downcast_object_ref::<Digits>() {
        return Ok(digits.0.clone());
    }
    if let Some(bytes) = bytes(value) {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("these bytes are no text; use hex or base64"))?;
        return Ok(text.to_owned());
    }
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Err(invalid("the value is null; say what to write instead with `default`")),
        ValueKind::Bool => Ok(value.is_true().to_string()),
        ValueKind::Number => number_text(value),
        _ => {
            let mut json = String::new();
            write_json(&mut json, value)?;
            Ok(json)
        }
    }
}

/// The bytes of text, of raw bytes and of what was received; None for anything else.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value.downcast_object_ref::<Received>() {
        Some(received) => Some(&received.bytes),
        None => value.as_bytes(),
    }
}

/// What a filter over bytes works on: raw bytes, or the bytes of the text that the value prints as.
pub(super) fn to_bytes(value: &Value) -> Result<Vec<u8>, Error> {
    match bytes(value) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => text(value).map(String::into_bytes),
    }
}

fn number_text(value: &Value) -> Result<String, Error> {
    let text = value.to_string();
    if text.contains(['n', 'N']) {
        return Err(invalid("the number is not finite"));
    }
    Ok(text)
}

/// A value as JSON text.
pub(super) fn write_json(out: &mut String, value: &Value) -> Result<(), Error> {
    if let Some(received) = value.downcast_object_ref::<Received>() {
        if received.parsed().is_undefined() {
            return Err(invalid("the body is not JSON"));
        }
        out.push_str(&String::from_utf8_lossy(&received.bytes));
        return Ok(());
    }
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        let text = moment.text();
        out.push_str(&if moment.is_number() { text } else { quoted(&text) });
        return Ok(());
    }
    if let Some(digits) = value.downcast_object_ref::<Digits>() {
        out.push_str(&digits.0);
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => out.push_str("null"),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (n, item) in value.try_iter()?.enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_json(out, &item)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (n, name) in value.try_iter()?.enumerate() {
                if n > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(&text(&name)?));
                out.push(':');
                write_json(out, &value.get_item(&name)?)?;
            }
            out.push('}');
        }
        ValueKind::Bool | ValueKind::Number => out.push_str(&text(value)?),
        ValueKind::String | ValueKind::Bytes => out.push_str(&quoted(&text(value)?)),
        _ => return Err(invalid("this value cannot be written")),
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    // Text always becomes JSON.
    serde_json::to_string(text).unwrap_or_default()
}

/// Everything but the characters that RFC 3986 never needs to encode.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes so that the text is one segment of a path or one value of a query.
pub fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
