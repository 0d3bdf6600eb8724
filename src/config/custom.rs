//! What a handler says of its request by templates: headers in every format, and for `format = "custom"` all of it.
//!
//! Every template is compiled here and tried on a made-up event, so that `ringback check` finds what the first event would stumble over.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Format, parts};
use crate::model::Timestamp;
use crate::request::{self, ANY, Body, Scope, Variables};
use crate::secret::SecretRef;
use crate::shape::{Table, Value};
use crate::template::{Context, Template, TimeFormat};

/// The request of `format = "custom"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom {
    pub method: String,
    /// The address with `{{ }}` in its path or query; None: the handler's `url` as it stands.
    pub url: Option<Template>,
    pub body: Option<Body>,
}

/// What the keys of rows 55 and 56 come to.
#[derive(Default)]
pub struct Written {
    pub custom: Option<Custom>,
    /// Names in lower case.
    pub headers: Vec<(String, Template)>,
    pub secrets: BTreeMap<String, SecretRef>,
}

const EVENT: &[&str] = &["id", "type", "kind", "time", "source", "stream", "key", "revision"];
const VARIABLES: &Variables = &[
    ("record", ANY),
    ("event", EVENT),
    ("previous", ANY),
    ("changed", ANY),
    ("settings", ANY),
    ("secrets", ANY),
    ("secret", ANY),
    ("now", ANY),
    ("url", ANY),
    ("attempt", ANY),
    ("inbound", &["body", "headers"]),
];
/// What stands for a template in an address that people are shown.
const HIDDEN: &str = "***";

/// Reads the keys; `signed` says whether the handler has a `secret`.
pub fn read(table: &Table<'_, '_>, base: &Path, format: Format, signed: bool) -> Written {
    let secrets = table.take("secrets").and_then(|value| value.table()).map(|named| {
        let entries = named.entries().into_iter();
        entries.filter_map(|(name, value)| Some((name, parts::secret(&value, base)?))).collect()
    });
    let secrets: BTreeMap<String, SecretRef> = secrets.unwrap_or_default();
    let names: Vec<String> = secrets.keys().cloned().collect();
    let variables: Vec<_> = VARIABLES.iter().copied().filter(|(name, _)| signed || *name != "secret").collect();
    let given = [("secrets", names.as_slice())];
    let scope = Scope { variables: &variables, given: &given, of: "handler", naming: "{ file = \"NAME.secret\" }" };
    let template = |value: &Value<'_, '_>| checked(&scope, value);
    let headers = table.take("headers").map(|value| headers(&value, &template)).unwrap_or_default();
    let custom = match format {
        Format::Custom => custom(table, &headers, &template),
        Format::Standard | Format::CloudEvents | Format::CloudEventsBinary | Format::Native => {
            only_for_custom(table);
            None
        }
    };
    Written { custom, headers, secrets }
}

/// A template over the event alone: what names the place that a message goes to is the same for every attempt.
pub fn of_event(value: &Value<'_, '_>) -> Option<Template> {
    value.filled_text()?;
    const OF_EVENT: [&str; 4] = ["record", "event", "previous", "changed"];
    let variables: Vec<_> = VARIABLES.iter().copied().filter(|(name, _)| OF_EVENT.contains(name)).collect();
    let scope = Scope { variables: &variables, given: &[], of: "handler", naming: "" };
    checked(&scope, value)
}

fn checked(scope: &Scope<'_>, value: &Value<'_, '_>) -> Option<Template> {
    let template = scope.template(value)?;
    if let Err(reason) = tried(&template) {
        let message = format!("`{}` cannot be filled in for a made-up event: {reason}", value.name);
        value.reading.warning(value.span.clone(), message, None);
    }
    Some(template)
}

/// An address as it can be shown and checked: `***` for every `{{ }}`.
pub fn hidden(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        shown.push_str(before);
        shown.push_str(HIDDEN);
        rest = after.split_once("}}").map_or("", |(_, rest)| rest);
    }
    shown + rest
}

fn custom(
    table: &Table<'_, '_>,
    headers: &[(String, Template)],
    template: &dyn Fn(&Value<'_, '_>) -> Option<Template>,
) -> Option<Custom> {
    let method = table.take("method");
    let said = method.is_some();
    let method = method.map_or(Some("POST".to_owned()), |value| request::method(&value));
    let url = table.take("url").filter(|value| value.value.as_str().is_some_and(|text| text.contains("{{")));
    let url = url.and_then(|value| address(&value, template));
    let bodies = ["json", "form", "body"].iter().any(|key| table.has(key));
    let body = request::body(table, template);
    if let (Some(Body::Text(text)), Some(value)) = (&body, table.take("body")) {
        gives_json(text, headers, &value);
    }
    if !bodies && !said {
        let message = format!("`{}` has `format = \"custom\"` but does not say what to send", table.name);
        table.reading.fault(table.span.clone(), message, Some("add json, form or body with templates".into()));
    }
    for key in ["scheme", "signed_url"] {
        if let Some(value) = table.take(key) {
            let help = "remove it; a custom request is signed by a header with a template";
            value.reading.fault(
                value.key_span.clone(),
                format!("`{key}` is for `format = \"native\"`"),
                Some(help.into()),
            );
        }
    }
    Some(Custom { method: method?, url, body })
}

/// What no other format would carry out is refused, not ignored.
fn only_for_custom(table: &Table<'_, '_>) {
    for key in ["method", "json", "form", "body"] {
        if let Some(value) = table.take(key) {
            let message =
                format!("`{key}` is for `format = \"custom\"`: the other formats say themselves what is sent");
            value.reading.fault(value.key_span, message, Some(format!("add format = \"custom\", or remove `{key}`")));
        }
    }
    if let Some(value) = table.take("url").filter(|value| value.value.as_str().is_some_and(|text| text.contains("{{")))
    {
        value.fault(
            "`{{ }}` in an address is for `format = \"custom\"`",
            Some("write the address out, or add format = \"custom\""),
        );
    }
}

/// The host is written out: credentials go wherever it leads.
fn address(value: &Value<'_, '_>, template: &dyn Fn(&Value<'_, '_>) -> Option<Template>) -> Option<Template> {
    let template = template(value)?;
    let text = template.text_source();
    if text.starts_with("unix:") {
        value.fault(
            format!("`{}` may hold no {{{{ }}}} when it names a socket", value.name),
            Some("write the path out"),
        );
        return None;
    }
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    if host.split(['/', '?']).next().is_some_and(|host| host.contains("{{")) {
        value.fault(
            format!("`{}` takes its host from a template: what it holds would decide where secrets go", value.name),
            Some("write the host out; `{{ }}` may stand in path and query"),
        );
        return None;
    }
    if template.has_blocks() {
        value.fault(format!("`{}` may hold {{{{ }}}} but no {{% %}}", value.name), None);
        return None;
    }
    Some(template)
}

fn headers(value: &Value<'_, '_>, template: &dyn Fn(&Value<'_, '_>) -> Option<Template>) -> Vec<(String, Template)> {
    let Some(table) = value.table() else { return Vec::new() };
    let own = |name: &str| {
        name.starts_with("webhook-") || matches!(name, "content-length" | "host" | "transfer-encoding" | "connection")
    };
    let taken: Vec<String> = table
        .entries()
        .into_iter()
        .filter(|(name, _)| own(&name.to_ascii_lowercase()))
        .map(|(name, value)| {
            value.fault(format!("`{name}` is set by ringback itself"), None);
            name
        })
        .collect();
    let read = request::headers(value, template).into_iter().filter(|(name, _)| !taken.contains(name));
    read.map(|(name, template)| (name.to_ascii_lowercase(), template)).collect()
}

/// A text that is called JSON must be JSON whatever stands in the record.
fn gives_json(text: &Template, headers: &[(String, Template)], value: &Value<'_, '_>) {
    let json = headers.iter().any(|(name, kind)| name == "content-type" && kind.text_source().contains("json"));
    let awkward = context(text, &"a \"quoted\" word".into());
    let filled = text.text(&awkward).ok().filter(|_| json);
    if filled.is_some_and(|filled| serde_json::from_str::<serde::de::IgnoredAny>(&filled).is_err()) {
        let message = format!("`{}` is no JSON when a value holds a quotation mark", value.name);
        let help = "write {{ … | json }} without quotation marks around it, or use `json` in place of `body`";
        value.reading.warning(value.span.clone(), message, Some(help.into()));
    }
}

/// Fills a template in for events that are made up to fit it: what is asked of a record is there, as a text, a time, a number or a list.
fn tried(template: &Template) -> Result<(), String> {
    // What is taken from a record as a whole, or by a name that is made while rendering, cannot be made up.
    let names = template.names();
    if ["record", "previous", "changed", "inbound"].iter().any(|name| names.contains(*name)) {
        return Ok(());
    }
    let made_up = [serde_json::json!("1"), "2026-01-31T12:00:00Z".into(), 1.into(), serde_json::json!([])];
    let mut first = None;
    for leaf in &made_up {
        match template.value(&context(template, leaf)) {
            Ok(_) => return Ok(()),
            Err(reason) => drop(first.get_or_insert(reason)),
        }
    }
    first.map_or(Ok(()), Err)
}

/// A made-up event whose record has everything that the template names, each with this value.
fn context(template: &Template, leaf: &serde_json::Value) -> Context {
    let mut context = Context::new();
    for name in EVENT {
        context.set(&format!("event.{name}"), "made_up");
    }
    let at = Timestamp(1_769_860_800_000);
    context.set_time("event.time", at, &TimeFormat::Rfc3339, None).set_time("now", at, &TimeFormat::Rfc3339, None);
    context.set("event.revision", 1).set("attempt", 1).set("secret", "made-up").set("url", "http://127.0.0.1/");
    let mut names: Vec<String> = template.names().into_iter().collect();
    // A place below another wins: what holds it is an object.
    names.sort_by_key(String::len);
    for name in names {
        let root = name.split('.').next().unwrap_or_default();
        if matches!(root, "record" | "previous" | "changed" | "settings" | "inbound") && name != root {
            context.set_value(&name, leaf);
        } else if root == "secrets" {
            context.set(&name, "made-up");
        }
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Reading, SourceFile};

    /// What is found in the keys of one handler, as `(is an error, message)`.
    fn found(keys: &str, format: Format) -> (Written, Vec<(bool, String)>) {
        let reading = Reading::new(SourceFile::new("t.toml", keys));
        let parsed = reading.parse();
        let written = {
            let table = Table::root(&reading, &parsed);
            let written = read(&table, Path::new(""), format, false);
            table.take("url");
            table.finish();
            written
        };
        drop(parsed);
        let faults = reading.into_faults().into_iter();
        (written, faults.map(|fault| (fault.level == crate::shape::Level::Error, fault.message)).collect())
    }

    const MESSENGER: &str = r#"
        url     = "https://api.messenger.example/bot{{ secrets.token }}/sendMessage"
        secrets = { token = { file = "bot.token" } }
        json    = { chat_id = 42, text = "{{ event.type }}: {{ record.amount }} {{ record.payer.name | upper }}", since = "{{ record.at | date('unix') }}" }
    "#;

    #[test]
    fn a_call_of_an_api_is_said_with_templates_alone() {
        let (written, faults) = found(MESSENGER, Format::Custom);
        assert_eq!(faults, []);
        let custom = written.custom.expect("custom");
        assert_eq!((custom.method.as_str(), written.secrets.len()), ("POST", 1));
        assert!(custom.url.is_some() && matches!(custom.body, Some(Body::Json(_))));
    }

    #[test]
    fn what_would_fail_at_the_first_event_is_found_by_reading() {
        let header = "headers = { Content-Type = \"application/json\" }\n";
        for (keys, error, phrase) in [
            ("json = { a = \"{{ recrod.x }}\" }".to_owned(), true, "`recrod.x` is not known"),
            ("json = { a = \"{{ event.typ }}\" }".to_owned(), true, "`event.typ` is not known"),
            (
                "json = { a = \"{{ secrets.key }}\" }".to_owned(),
                true,
                "`secrets.key` is not among the secrets of this handler",
            ),
            ("json = { a = \"{{ secret }}\" }".to_owned(), true, "`secret` is not known"),
            ("json = { a = \"{{ event.id | hsah('md5') }}\" }".to_owned(), true, "is no template"),
            ("json = 1\nform = { a = 1 }".to_owned(), true, "exclude each other"),
            ("method = \"post\"\njson = 1".to_owned(), true, "which is no method"),
            ("json = 1\nscheme = \"x\"".to_owned(), true, "`scheme` is for"),
            (String::new(), true, "does not say what to send"),
            ("url = \"https://{{ record.host }}/x\"\njson = 1".to_owned(), true, "takes its host from a template"),
            ("headers = { webhook-id = \"x\" }\njson = 1".to_owned(), true, "is set by ringback itself"),
            (
                "json = { a = \"{{ event.id | date('unix') }}\" }".to_owned(),
                false,
                "cannot be filled in for a made-up event",
            ),
            (format!("{header}body = '{{\"text\": \"{{{{ record.text }}}}\"}}'"), false, "holds a quotation mark"),
        ] {
            let (_, faults) = found(&keys, Format::Custom);
            let hit = faults.iter().any(|(is_error, message)| *is_error == error && message.contains(phrase));
            assert!(hit, "{keys}: {faults:?}");
        }
        let (_, faults) =
            found(&format!("{header}body = '{{\"text\": {{{{ record.text | json }}}}}}'"), Format::Custom);
        assert_eq!(faults, []);
    }

    #[test]
    fn other_formats_refuse_what_they_would_not_send() {
        for keys in
            ["json = 1", "method = \"PUT\"", "body = \"x\"", "form = { a = 1 }", "url = \"http://h/{{ event.id }}\""]
        {
            let (_, faults) = found(keys, Format::Standard);
            assert!(faults.iter().any(|(error, message)| *error && message.contains("custom")), "{keys}: {faults:?}");
        }
        let (written, faults) =
            found("headers = { X-Kind = \"{{ event.kind }}\", X-Env = \"prod\" }", Format::Standard);
        assert_eq!((faults.len(), written.headers.len()), (0, 2));
    }

    #[test]
    fn an_address_is_shown_without_what_its_templates_hold() {
        assert_eq!(
            hidden("https://a.example/bot{{ secrets.token }}/x?y={{ event.id }}"),
            "https://a.example/bot***/x?y=***"
        );
        assert_eq!(hidden("https://a.example/x"), "https://a.example/x");
        assert_eq!(hidden("https://a.example/{{ open"), "https://a.example/***");
    }
}
