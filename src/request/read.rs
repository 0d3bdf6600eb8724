//! Parameters, headers and bodies out of TOML. Which templates are good in their place is for the caller to say.

use super::{Body, JsonTemplate, Param};
use crate::shape::{Table, Value};
use crate::template::Template;

/// Reads a template of the caller's place; None after a fault.
type Read<'r> = &'r dyn Fn(&Value<'_, '_>) -> Option<Template>;

/// Any method, as HTTP writes it.
pub fn method(value: &Value<'_, '_>) -> Option<String> {
    let method = value.filled_text()?;
    if !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        let help = format!("did you mean `{}`?", method.to_uppercase());
        value.fault(format!("`{}` is `{method}`, which is no method", value.name), Some(&help));
        return None;
    }
    Some(method)
}

/// A table of parameters: a template, a number, true or false, or a list of those.
pub fn params(value: &Value<'_, '_>, read: Read<'_>) -> Vec<(String, Param)> {
    let Some(table) = value.table() else { return Vec::new() };
    let one = |(name, value): (String, Value<'_, '_>)| Some((name, param(&value, read)?));
    table.entries().into_iter().filter_map(one).collect()
}

pub fn param(value: &Value<'_, '_>, read: Read<'_>) -> Option<Param> {
    if value.is_text() {
        return read(value).map(Param::Template);
    }
    if value.is_list() {
        let items = value.list()?;
        return Some(Param::List(items.iter().filter_map(|item| param(item, read)).collect()));
    }
    match value.json() {
        literal @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
            Some(Param::Literal(literal.to_string()))
        }
        _ => value.wrong("text, a number, true or false, or a list of those"),
    }
}

pub fn headers(value: &Value<'_, '_>, read: Read<'_>) -> Vec<(String, Template)> {
    let Some(table) = value.table() else { return Vec::new() };
    let header = |(name, value): (String, Value<'_, '_>)| {
        header_name(&name, &value)?;
        let template = read(&value)?;
        if template.text_source().contains(['\r', '\n']) && !template.has_blocks() {
            value.fault(format!("`{}` holds a line break, which no header may", value.name), None);
            return None;
        }
        Some((name, template))
    };
    table.entries().into_iter().filter_map(header).collect()
}

/// Notes a fault when this cannot be the name of a header.
pub fn header_name(name: &str, value: &Value<'_, '_>) -> Option<()> {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        let message = format!("`{name}` cannot be the name of a header");
        value.reading.fault(value.key_span.clone(), message, None);
        return None;
    }
    Some(())
}

/// `json`, `form` or `body`: one of them.
pub fn body(table: &Table<'_, '_>, read: Read<'_>) -> Option<Body> {
    let given: Vec<Value<'_, '_>> = ["json", "form", "body"].iter().filter_map(|key| table.take(key)).collect();
    let [value] = given.as_slice() else {
        if let [first, second, ..] = given.as_slice() {
            second.fault(format!("`{}` and `{}` exclude each other; keep one", first.name, second.name), None);
        }
        return None;
    };
    match value.name.rsplit('.').next() {
        Some("json") => json(value, read).map(Body::Json),
        Some("form") => Some(Body::Form(params(value, read))),
        _ => read(value).map(Body::Text),
    }
}

/// JSON whose texts are templates.
pub fn json(value: &Value<'_, '_>, read: Read<'_>) -> Option<JsonTemplate> {
    if value.is_text() {
        let template = read(value)?;
        let plain = !template.has_blocks() && !template.text_source().contains("{{");
        return Some(if plain { JsonTemplate::Literal(value.json()) } else { JsonTemplate::Template(template) });
    }
    if value.is_list() {
        let items = value.list()?;
        return Some(JsonTemplate::List(items.iter().filter_map(|item| json(item, read)).collect()));
    }
    if value.is_table() {
        let member = |(name, value): (String, Value<'_, '_>)| Some((name, json(&value, read)?));
        return Some(JsonTemplate::Object(value.table()?.entries().into_iter().filter_map(member).collect()));
    }
    Some(JsonTemplate::Literal(value.json()))
}
