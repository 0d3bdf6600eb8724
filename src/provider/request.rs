//! Requests and what their answers mean (rows 8–17).

use super::language::{Names, Place, check_jq, plain_template, template};
use super::{Action, Body, JsonTemplate, Param, Request, ResponseAction, Target};
use crate::answer::{AnswerFormat, Charset, CsvShape, FormatKind, ListElement};
use crate::request;
pub(super) use crate::request::header_name as check_header_name;
use crate::shape::{Table, Value};
use crate::template::Template;

/// Reads the keys of a request out of a table that may hold others too.
pub(super) fn read_request(table: &Table<'_, '_>, place: Place, names: &Names) -> Request {
    let method = table.take("method").and_then(|value| request::method(&value));
    let target = read_target(table, place, names);
    let query = table.take("query").map(|value| read_params(&value, place, names)).unwrap_or_default();
    let headers = table.take("headers").map(|value| read_headers(&value, place, names)).unwrap_or_default();
    Request { method, target, query, headers, body: read_body(table, place, names) }
}

fn read_target(table: &Table<'_, '_>, place: Place, names: &Names) -> Option<Target> {
    match (table.take("path"), table.take("url")) {
        (Some(path), Some(url)) => {
            url.fault(format!("`{}` and `{}` exclude each other; keep one", path.name, url.name), None);
            None
        }
        (Some(path), None) => {
            let template = plain_template(&path, place, names)?;
            if !template.text_source().starts_with('/') {
                let help = format!("\"/{}\"", template.text_source());
                path.fault(format!("`{}` must begin with `/`", path.name), Some(&help));
                return None;
            }
            Some(Target::Path(template))
        }
        (None, Some(url)) => read_url(&url, place, names).map(Target::Url),
        (None, None) => None,
    }
}

/// A template that gives an absolute address.
pub(super) fn read_url(value: &Value<'_, '_>, place: Place, names: &Names) -> Option<Template> {
    let template = plain_template(value, place, names)?;
    let text = template.text_source();
    host_is_ours(value, text)?;
    let whole = !text.contains("{{");
    let absolute = ["http://", "https://", "{{"].iter().any(|start| text.starts_with(start));
    if !absolute || (whole && url::Url::parse(text).is_err()) {
        let message = format!("`{}` is `{text}`, but must be an address with https:// or http://", value.name);
        value.fault(message, None);
        return None;
    }
    Some(template)
}

/// The credential goes wherever the address leads: its host may come from the file or from the source's settings, never from what
/// a provider answered.
fn host_is_ours(value: &Value<'_, '_>, text: &str) -> Option<()> {
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let host = text[after_scheme..].split('/').next().unwrap_or_default();
    let foreign =
        ["cursor", "page.", "parent.", "run.", "window.", "now", "token", "nonce", "key_id"].into_iter().find(|name| {
            host.split("{{")
                .skip(1)
                .any(|inner| inner.split("}}").next().unwrap_or_default().trim_start().starts_with(name))
        });
    let Some(foreign) = foreign else { return Some(()) };
    let message = format!(
        "`{}` takes its host from `{}`: credentials would follow it",
        value.name,
        foreign.trim_end_matches('.')
    );
    value.fault(message, Some("only settings.* may stand in the host"));
    None
}

pub(super) fn read_params(value: &Value<'_, '_>, place: Place, names: &Names) -> Vec<(String, Param)> {
    request::params(value, &|value| template(value, place, names))
}

pub(super) fn read_param(value: &Value<'_, '_>, place: Place, names: &Names) -> Option<Param> {
    request::param(value, &|value| template(value, place, names))
}

pub(super) fn read_headers(value: &Value<'_, '_>, place: Place, names: &Names) -> Vec<(String, Template)> {
    request::headers(value, &|value| template(value, place, names))
}

/// `json`, `form` or `body`: one of them.
pub(super) fn read_body(table: &Table<'_, '_>, place: Place, names: &Names) -> Option<Body> {
    request::body(table, &|value| template(value, place, names))
}

pub(super) fn read_json(value: &Value<'_, '_>, place: Place, names: &Names) -> Option<JsonTemplate> {
    request::json(value, &|value| template(value, place, names))
}

/// The templates of a request, to see which variables it uses.
pub fn templates(request: &Request) -> Vec<&Template> {
    let mut found: Vec<&Template> = request.headers.iter().map(|(_, template)| template).collect();
    match &request.target {
        Some(Target::Path(template) | Target::Url(template)) => found.push(template),
        None => {}
    }
    request.query.iter().for_each(|(_, param)| of_param(param, &mut found));
    match &request.body {
        Some(Body::Json(json)) => of_json(json, &mut found),
        Some(Body::Form(params)) => params.iter().for_each(|(_, param)| of_param(param, &mut found)),
        Some(Body::Text(template)) => found.push(template),
        None => {}
    }
    found
}

pub(super) fn of_param<'p>(param: &'p Param, found: &mut Vec<&'p Template>) {
    match param {
        Param::Template(template) => found.push(template),
        Param::Literal(_) => {}
        Param::List(items) => items.iter().for_each(|item| of_param(item, found)),
    }
}

pub(super) fn of_json<'p>(json: &'p JsonTemplate, found: &mut Vec<&'p Template>) {
    match json {
        JsonTemplate::Literal(_) => {}
        JsonTemplate::Template(template) => found.push(template),
        JsonTemplate::List(items) => items.iter().for_each(|item| of_json(item, found)),
        JsonTemplate::Object(members) => members.iter().for_each(|(_, member)| of_json(member, found)),
    }
}

/// Rows 13–16; what is not said here is as around it.
pub(super) fn read_answer_format(table: &Table<'_, '_>, around: &AnswerFormat) -> AnswerFormat {
    let mut format = around.clone();
    let kinds = [
        ("json", FormatKind::Json),
        ("ndjson", FormatKind::Ndjson),
        ("xml", FormatKind::Xml),
        ("soap", FormatKind::Soap),
        ("csv", FormatKind::Csv),
        ("feed", FormatKind::Feed),
        ("text", FormatKind::Text),
    ];
    format.kind = table.take("format").and_then(|value| value.choice(&kinds)).unwrap_or(format.kind);
    format.charset = table.take("charset").and_then(|value| read_charset(&value)).or(format.charset);
    if let Some(value) = table.take("xml_lists") {
        format.lists = read_xml_lists(&value);
        let xml = matches!(format.kind, FormatKind::Xml | FormatKind::Soap | FormatKind::Feed);
        if !xml && !table.has("streams") {
            value.fault(format!("`{}` is about XML, and the answers are {}", value.name, format.kind.as_str()), None);
        }
    }
    if let Some(value) = table.take("csv") {
        format.csv = read_csv(&value, &format.csv);
        if format.kind != FormatKind::Csv && !table.has("streams") {
            let message = format!("`{}` is about CSV, and the answers are {}", value.name, format.kind.as_str());
            value.fault(message, Some("add format = \"csv\""));
        }
    }
    format
}

fn read_charset(value: &Value<'_, '_>) -> Option<Charset> {
    let name = value.filled_text()?;
    let charset = Charset::named(&name);
    if charset.is_none() {
        let message = format!("`{}` is `{name}`, which is no known charset", value.name);
        value.fault(message, Some("windows-1251, windows-1252, koi8-u, iso-8859-1 to -16, utf-16le, …"));
    }
    charset
}

/// `Item`, or `Items/Item` for a list that is one also where there is no such element.
fn read_xml_lists(value: &Value<'_, '_>) -> Vec<ListElement> {
    let read = |value: &Value<'_, '_>| {
        let text = value.filled_text()?;
        let (parent, name) = match text.split_once('/') {
            Some((parent, name)) => (Some(parent.to_owned()), name.to_owned()),
            None => (None, text.clone()),
        };
        let plain = |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "/:<>@".contains(c));
        if !plain(&name) || !parent.as_deref().is_none_or(plain) {
            let message = format!("`{}` is `{text}`, which names no element", value.name);
            value.fault(
                message,
                Some("the name without a prefix: \"Item\", or \"Items/Item\" inside that parent alone"),
            );
            return None;
        }
        Some(ListElement { parent, name })
    };
    value.list().unwrap_or_default().iter().filter_map(read).collect()
}

fn read_csv(value: &Value<'_, '_>, around: &CsvShape) -> CsvShape {
    let mut shape = around.clone();
    let Some(table) = value.table() else { return shape };
    let character = |value: Value<'_, '_>| {
        let text = value.text()?;
        match text.as_bytes() {
            [] => Some(None),
            [byte] if byte.is_ascii() && !b"\r\n".contains(byte) => Some(Some(*byte)),
            _ => value.wrong("one ASCII character"),
        }
    };
    if let Some(value) = table.take("delimiter") {
        let name = value.name.clone();
        let (reading, span) = (value.reading, value.span.clone());
        match character(value) {
            Some(Some(delimiter)) => shape.delimiter = delimiter,
            Some(None) => reading.fault(span, format!("`{name}` is empty"), Some("such as \";\" or \"\\t\"".into())),
            None => {}
        }
    }
    if let Some(quote) = table.take("quote").and_then(character) {
        shape.quote = quote;
    }
    shape.header = table.take("header").and_then(|value| value.boolean()).unwrap_or(shape.header);
    if shape.quote == Some(shape.delimiter) {
        value.fault(format!("`{}`: delimiter and quote are the same character", value.name), None);
    }
    table.finish();
    shape
}

/// Row 17.
pub(super) fn read_response_actions(table: &Table<'_, '_>) -> Vec<ResponseAction> {
    let Some(list) = table.take("response_actions").and_then(|value| value.list()) else { return Vec::new() };
    list.iter().filter_map(read_response_action).collect()
}

fn read_response_action(value: &Value<'_, '_>) -> Option<ResponseAction> {
    let table = value.table()?;
    let status = |value: &Value<'_, '_>| value.integer(100..=599).and_then(|status| u16::try_from(status).ok());
    let statuses = table.take("status").map(Value::one_or_list).unwrap_or_default();
    let statuses: Vec<u16> = statuses.iter().filter_map(status).collect();
    let when = table.take("when").map(|value| check_jq(&value));
    let action = table
        .require("action", "say what the answer means: ok, empty, retry, rate_limited, login, expired, skip or fatal");
    let action = action.and_then(|value| {
        value.choice(&[
            ("ok", Action::Ok),
            ("empty", Action::Empty),
            ("retry", Action::Retry),
            ("rate_limited", Action::RateLimited),
            ("login", Action::Login),
            ("expired", Action::Expired),
            ("skip", Action::Skip),
            ("fatal", Action::Fatal),
        ])
    });
    let message = table.take("message").and_then(|value| value.filled_text());
    if !table.has("status") && !table.has("when") {
        value.fault(format!("`{}` matches every answer", value.name), Some("give it `status` or `when`"));
    }
    table.finish();
    Some(ResponseAction { status: statuses, when: when.flatten(), action: action?, message })
}
