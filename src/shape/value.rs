//! One value of a file, read as what it should be; a fault with the kind found when it is something else.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::{Reading, Table, kind, nearest};

/// A value with its place and dotted name.
pub struct Value<'r, 't> {
    pub reading: &'r Reading,
    pub value: &'t DeValue<'t>,
    pub span: Range<usize>,
    pub key_span: Range<usize>,
    /// Its dotted name, such as `sources.core.provider`.
    pub name: String,
}

/// How far from now a signed time may lie; None: as it is elsewhere said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    pub past: Option<Duration>,
    pub future: Option<Duration>,
}

impl<'r, 't> Value<'r, 't> {
    /// Notes a fault about this value.
    pub fn fault(&self, message: impl Into<String>, help: Option<&str>) {
        self.reading.fault(self.span.clone(), message, help.map(str::to_owned));
    }

    /// Notes that this should have been `wanted`.
    pub fn wrong<T>(&self, wanted: &str) -> Option<T> {
        self.fault(format!("`{}` must be {wanted}, not {}", self.name, kind(self.value)), None);
        None
    }

    pub fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub fn text(&self) -> Option<String> {
        match self.value.as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.wrong("text"),
        }
    }

    /// Text that is not empty.
    pub fn filled_text(&self) -> Option<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.fault(format!("`{}` is empty", self.name), None);
            return None;
        }
        Some(text)
    }

    pub fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong("true or false"))
    }

    /// An integer within these bounds.
    pub fn integer(&self, bounds: RangeInclusive<i64>) -> Option<i64> {
        let Some(integer) = self.value.as_integer() else { return self.wrong("an integer") };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if bounds.contains(&number) => Some(number),
            _ => {
                let (low, high) = (bounds.start(), bounds.end());
                let range = if *high == i64::MAX { format!("at least {low}") } else { format!("{low} to {high}") };
                self.fault(format!("`{}` must be {range}", self.name), None);
                None
            }
        }
    }

    /// A duration as text: `"30s"`, `"15m"`, `"2h"`, `"30d"`.
    pub fn duration(&self) -> Option<Duration> {
        const WANTED: &str = "a duration as text, such as \"30s\", \"15m\" or \"30d\"";
        let Some(text) = self.value.as_str() else { return self.wrong(WANTED) };
        match humantime::parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.fault(format!("`{}` must be {WANTED}: {error}", self.name), None);
                None
            }
        }
    }

    /// A duration for both sides of a moment, or `{ past, future }`, of which either may be missing.
    pub fn tolerance(&self) -> Option<Tolerance> {
        if !self.is_table() {
            return self.duration().map(|both| Tolerance { past: Some(both), future: Some(both) });
        }
        let table = self.table()?;
        let part = |key: &str| table.take(key).map(|value| value.duration());
        let (past, future) = (part("past"), part("future"));
        table.finish();
        (past != Some(None) && future != Some(None))
            .then(|| Tolerance { past: past.flatten(), future: future.flatten() })
    }

    /// A size as text: `"256MiB"`, `"1GiB"`, `"64KiB"`, `"512B"`; in bytes.
    pub fn size(&self) -> Option<u64> {
        const WANTED: &str = "a size as text, such as \"256MiB\"";
        let Some(text) = self.value.as_str() else { return self.wrong(WANTED) };
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[split..].trim() {
            "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "TiB" => Some(1_u64 << 40),
            _ => None,
        };
        let size = text[..split].parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
        if size.is_none() {
            self.fault(format!("`{}` must be {WANTED}", self.name), Some("units: B, KiB, MiB, GiB, TiB"));
        }
        size
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let help = nearest(&text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let message = format!("`{}` is `{text}`, but must be one of {}", self.name, names.join(", "));
        self.reading.fault(self.span.clone(), message, help);
        None
    }

    pub fn list(&self) -> Option<Vec<Value<'r, 't>>> {
        let DeValue::Array(items) = self.value else { return self.wrong("a list") };
        let item = |(n, item): (usize, &'t toml::Spanned<DeValue<'t>>)| Value {
            reading: self.reading,
            value: item.get_ref(),
            span: item.span(),
            key_span: item.span(),
            name: format!("{}[{n}]", self.name),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, or the value itself as the only item.
    pub fn one_or_list(self) -> Vec<Value<'r, 't>> {
        if self.is_list() { self.list().unwrap_or_default() } else { vec![self] }
    }

    pub fn texts(&self) -> Option<Vec<String>> {
        self.list()?.iter().map(Value::text).collect()
    }

    pub fn table(&self) -> Option<Table<'r, 't>> {
        match self.value {
            DeValue::Table(table) => Some(Table::inner(self, table)),
            _ => self.wrong("a table"),
        }
    }

    /// The value as JSON; dates become text.
    pub fn json(&self) -> serde_json::Value {
        to_json(self.value)
    }
}

fn to_json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => number.into(),
            Err(_) => Json::String(integer.as_str().to_owned()),
        },
        DeValue::Float(float) => match float.as_str().parse::<f64>() {
            Ok(number) => number.into(),
            Err(_) => Json::String(float.as_str().to_owned()),
        },
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => table.iter().map(|(k, v)| (k.get_ref().to_string(), to_json(v.get_ref()))).collect(),
    }
}
