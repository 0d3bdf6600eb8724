//! What a template is rendered with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono_tz::Tz;
use minijinja::value::{Enumerator, Object, Value};

use super::TimeFormat;
use super::value::{Lookup, Moment, Received, from_json, number};
use crate::jq::Json;
use crate::model::Timestamp;

/// Variables by name. Cheap to clone; setting one on a clone leaves the other as it was.
#[derive(Clone, Debug, Default)]
pub struct Context(Arc<Variables>);

#[derive(Clone, Debug, Default)]
struct Variables(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
enum Entry {
    Value(Value),
    Table(Arc<Variables>),
}

impl Context {
    pub fn new() -> Context {
        Context::default()
    }

    /// Sets a variable. A dotted name such as `page.number` is a member of a table. Undefined removes it.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Context {
        Arc::make_mut(&mut self.0).set(name, value.into());
        self
    }

    /// A time that prints in this format, in this zone.
    pub fn set_time(&mut self, name: &str, at: Timestamp, format: &TimeFormat, zone: Option<Tz>) -> &mut Context {
        self.set(name, Value::from_object(Moment { at, format: format.clone(), zone }))
    }

    /// A number that prints with these digits.
    pub fn set_number(&mut self, name: &str, digits: &str) -> &mut Context {
        self.set(name, number(digits))
    }

    /// JSON, numbers with their digits.
    pub fn set_json(&mut self, name: &str, json: &Json) -> &mut Context {
        self.set(name, from_json(json))
    }

    /// A value of a file.
    pub fn set_value(&mut self, name: &str, value: &serde_json::Value) -> &mut Context {
        self.set_json(name, &Json::from(value.clone()))
    }

    /// Bytes as received: `{{ name }}` is these very bytes, `{{ name.member }}` reads them as JSON.
    pub fn set_received(&mut self, name: &str, bytes: Bytes) -> &mut Context {
        self.set(name, Value::from_object(Received::new(bytes)))
    }

    /// A table whose members are looked up when a template names them: `header['x']`, `json['.a.b']`.
    pub fn set_lookup(
        &mut self,
        name: &str,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> &mut Context {
        self.set(name, Value::from_object(Lookup(Box::new(lookup))))
    }

    /// Takes over a variable as another context has it.
    pub fn take_from(&mut self, other: &Context, name: &str) -> &mut Context {
        if let Some(entry) = other.0.0.get(name) {
            Arc::make_mut(&mut self.0).0.insert(name.to_owned(), entry.clone());
        }
        self
    }

    pub(super) fn root(&self) -> Value {
        Value::from_dyn_object(self.0.clone())
    }

    /// This context with the body of a request as `body`.
    pub(super) fn with_body(&self, body: &[u8]) -> Context {
        let mut context = self.clone();
        context.set_received("body", Bytes::copy_from_slice(body));
        context
    }

    /// Whether a variable, as far as its dotted name goes, is defined.
    pub fn has(&self, name: &str) -> bool {
        let mut value = self.root();
        for step in name.split('.') {
            value = match value.get_attr(step) {
                Ok(inner) if !inner.is_undefined() => inner,
                _ => return false,
            };
        }
        true
    }
}

impl Variables {
    fn set(&mut self, name: &str, value: Value) {
        match name.split_once('.') {
            Some((table, member)) => {
                let entry = self.0.entry(table.to_owned()).or_insert_with(|| Entry::Table(Arc::default()));
                if let Entry::Value(_) = entry {
                    *entry = Entry::Table(Arc::default());
                }
                if let Entry::Table(members) = entry {
                    Arc::make_mut(members).set(member, value);
                }
            }
            None if value.is_undefined() => {
                self.0.remove(name);
            }
            None => {
                self.0.insert(name.to_owned(), Entry::Value(value));
            }
        }
    }
}

impl Object for Variables {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.0.get(key)? {
            Entry::Value(value) => Some(value.clone()),
            Entry::Table(members) => Some(Value::from_dyn_object(members.clone())),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(|name| Value::from(name.as_str())).collect())
    }
}
