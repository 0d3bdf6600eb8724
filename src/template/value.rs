//! What templates work with: times that know their format, numbers that keep their digits, bytes as received.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chrono_tz::Tz;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};

use super::TimeFormat;
use crate::jq::Json;
use crate::model::Timestamp;

/// A time that prints in its format.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub at: Timestamp,
    pub format: TimeFormat,
    pub zone: Option<Tz>,
}

impl Moment {
    pub fn text(&self) -> String {
        self.format.write(self.at, self.zone)
    }

    /// Whether it is written as a number.
    pub fn is_number(&self) -> bool {
        matches!(self.format, TimeFormat::Unix | TimeFormat::UnixMillis)
    }
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A number whose digits a machine number would not keep, such as `1.50`.
#[derive(Debug)]
pub(super) struct Digits(pub String);

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number as a template's value: one that can be reckoned with when that keeps its digits.
pub(super) fn number(digits: &str) -> Value {
    if let Ok(integer) = digits.parse::<i128>()
        && integer.to_string() == digits
    {
        return Value::from(integer);
    }
    match digits.parse::<f64>() {
        Ok(float) if float.is_finite() && Value::from(float).to_string() == digits => Value::from(float),
        _ => Value::from_object(Digits(digits.to_owned())),
    }
}

/// A body as received: prints as its very bytes; its members are read when one is asked for.
#[derive(Debug)]
pub(super) struct Received {
    pub bytes: Bytes,
    parsed: OnceLock<Value>,
}

impl Received {
    pub fn new(bytes: Bytes) -> Received {
        Received { bytes, parsed: OnceLock::new() }
    }

    /// The bytes as JSON; undefined when they are none.
    pub fn parsed(&self) -> &Value {
        self.parsed.get_or_init(|| Json::parse(&self.bytes).map_or(Value::UNDEFINED, |json| from_json(&json)))
    }
}

impl Object for Received {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.parsed().kind() {
            ValueKind::Map => ObjectRepr::Map,
            ValueKind::Seq => ObjectRepr::Seq,
            _ => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.parsed().get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match (self.parsed().kind(), self.parsed().len()) {
            (ValueKind::Seq, Some(length)) => Enumerator::Seq(length),
            (ValueKind::Map, _) => {
                Enumerator::Values(self.parsed().try_iter().map(|names| names.collect()).unwrap_or_default())
            }
            _ => Enumerator::NonEnumerable,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

/// A table whose members are looked up one by one when a template names them.
pub(super) struct Lookup(pub LookUp);

type LookUp = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

impl Object for Lookup {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (self.0)(key.as_str()?).map(Value::from)
    }
}

/// An object in the order it was received.
#[derive(Debug)]
struct Members(Vec<(String, Value)>);

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}

/// JSON as a template's value, numbers with their digits.
pub(super) fn from_json(json: &Json) -> Value {
    if let Some(items) = json.items() {
        return items.iter().map(from_json).collect();
    }
    if let Some(members) = json.members() {
        return Value::from_object(Members(members.into_iter().map(|(n, v)| (n, from_json(&v))).collect()));
    }
    match (json.as_str(), json.as_bool()) {
        (Some(text), _) => Value::from(text),
        (_, Some(flag)) => Value::from(flag),
        _ if json.is_null() => Value::from(()),
        _ => number(&json.to_text()),
    }
}
