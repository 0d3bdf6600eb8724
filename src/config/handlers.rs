//! `[handlers.*]` of the configuration, and `[defaults.handler]`.

use std::path::Path;
use std::time::Duration;

use super::sources::name_is_good;
use super::{
    AfterFailure, Format, From, Handler, HandlerDefaults, Order, Place, Proxy, Retry, Transport, custom, parts,
    transport,
};
use crate::jq::Jq;
use crate::model::HandlerName;
use crate::shape::{Table, Value};

/// Reads every handler of a file.
pub fn read_all(table: &Table<'_, '_>, base: &Path, defaults: &HandlerDefaults) -> Vec<Handler> {
    let Some(handlers) = table.take("handlers").and_then(|v| v.table()) else { return Vec::new() };
    handlers.entries().into_iter().filter_map(|(name, value)| read(name, &value, base, defaults)).collect()
}

/// The keys that `[defaults.handler]` and a handler share, over what was said before.
pub fn read_defaults(table: &Table<'_, '_>, base: &Path, before: &HandlerDefaults) -> HandlerDefaults {
    let before = before.clone();
    let format = table.take("format").and_then(|v| {
        v.choice(&[
            ("standard", Format::Standard),
            ("cloudevents", Format::CloudEvents),
            ("cloudevents-binary", Format::CloudEventsBinary),
            ("native", Format::Native),
            ("custom", Format::Custom),
        ])
    });
    HandlerDefaults {
        format: format.unwrap_or(before.format),
        scheme: table.take("scheme").and_then(|v| v.filled_text()).or(before.scheme),
        timeout: table.take("timeout").and_then(|v| v.duration()).unwrap_or(before.timeout),
        concurrency: table
            .take("concurrency")
            .and_then(|v| v.integer(1..=1_024))
            .map_or(before.concurrency, |n| n as usize),
        rate: table.take("rate").and_then(|v| parts::rate(&v)).or(before.rate),
        order: table
            .take("order")
            .and_then(|v| v.choice(&[("key", Order::Key), ("none", Order::None), ("strict", Order::Strict)]))
            .unwrap_or(before.order),
        after_failure: table
            .take("after_failure")
            .and_then(|v| v.choice(&[("skip", AfterFailure::Skip), ("hold", AfterFailure::Hold)]))
            .unwrap_or(before.after_failure),
        retry: table.take("retry").and_then(|v| retry(&v, &before.retry)).unwrap_or(before.retry),
        max_backlog: table.take("max_backlog").and_then(|v| max_backlog(&v)).or(before.max_backlog),
        tls: table.take("tls").and_then(|v| parts::tls(&v, base)).unwrap_or(before.tls),
        proxy: table.take("proxy").and_then(|v| parts::proxy(&v, base)).unwrap_or(before.proxy),
    }
}

impl Default for HandlerDefaults {
    fn default() -> HandlerDefaults {
        HandlerDefaults {
            format: Format::Standard,
            scheme: None,
            timeout: Duration::from_secs(15),
            concurrency: 4,
            rate: None,
            order: Order::Key,
            after_failure: AfterFailure::Skip,
            retry: Retry {
                // Before the second to the tenth counted attempt: 75 h 35 m and 5 s in all.
                schedule: [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
                    .map(Duration::from_secs)
                    .to_vec(),
                max_age: Duration::from_secs(7 * 24 * 60 * 60),
            },
            max_backlog: None,
            tls: super::Tls::default(),
            proxy: Proxy::None,
        }
    }
}

fn read(name: String, value: &Value<'_, '_>, base: &Path, defaults: &HandlerDefaults) -> Option<Handler> {
    let good = name_is_good(value, &name, "handler");
    let table = value.table()?;
    let way = transport::read(&table, base);
    let common = read_defaults(&table, base, defaults);
    let secrets = table.take("secret").map(|v| parts::secrets(v, base));
    let written = custom::read(&table, base, common.format, secrets.is_some());
    let transport = way.as_ref().map(|(transport, _)| transport);
    if common.format == Format::Custom && transport.is_some_and(|t| !matches!(t, Transport::Http | Transport::Unix(_)))
    {
        let message = format!("handler `{name}` has `format = \"custom\"`, which says what an HTTP request holds");
        value.reading.fault(value.key_span.clone(), message, Some("give it `url`, or another format".into()));
    }
    let needs_secret = common.format != Format::Custom && transport.is_none_or(Transport::needs_secret);
    if secrets.is_none() && needs_secret {
        let message = format!("handler `{name}` has no `secret`");
        let help = "make one with `ringback secret new --file NAME.whsec` and write secret = { file = \"NAME.whsec\" }";
        value.reading.fault(value.key_span.clone(), message, Some(help.into()));
    }
    let from = table.take("from").and_then(|v| v.texts()).unwrap_or_default();
    let found = way.is_some();
    let (transport, url) =
        way.unwrap_or_else(|| (Transport::Http, url::Url::parse("http://localhost/").expect("it is an address")));
    let handler = Handler {
        transport,
        url,
        secrets: secrets.unwrap_or_default(),
        from: from.iter().map(|text| from_of(text)).collect(),
        types: table.take("types").map(|v| types(&v)).unwrap_or_default(),
        when: table.take("when").and_then(|v| jq(&v)),
        format: common.format,
        scheme: common.scheme,
        signed_url: table.take("signed_url").and_then(|v| parts::url(&v)),
        headers: written.headers,
        custom: written.custom,
        named_secrets: written.secrets,
        timeout: common.timeout,
        concurrency: common.concurrency,
        rate: common.rate,
        order: common.order,
        after_failure: common.after_failure,
        retry: common.retry,
        max_backlog: common.max_backlog,
        tls: common.tls,
        proxy: common.proxy,
        enabled: table.take("enabled").and_then(|v| v.boolean()).unwrap_or(true),
        renamed_from: table.take("renamed_from").and_then(|v| v.filled_text()).map(HandlerName::from),
        place: Place { file: value.reading.file.clone(), span: value.key_span.clone() },
        name: HandlerName::from(name),
    };
    table.finish();
    (good && found).then_some(handler)
}

fn max_backlog(value: &Value<'_, '_>) -> Option<u64> {
    let bytes = value.size()?;
    if bytes == 0 {
        let message = format!("`{}` is 0: nothing could ever be taken in for this handler", value.name);
        value.fault(message, Some("a size such as \"10GiB\"; without the key it is a tenth of the disk"));
        return None;
    }
    Some(bytes)
}

fn from_of(text: &str) -> From {
    match text.split_once('/') {
        None if text == "ringback" => From::Ringback,
        None => From::Source(text.into()),
        Some(("*", stream)) => From::AnySource(stream.to_owned()),
        Some((source, stream)) => From::Stream(source.into(), stream.to_owned()),
    }
}

fn types(value: &Value<'_, '_>) -> Vec<String> {
    let mut types = Vec::new();
    for item in value.list().unwrap_or_default() {
        let Some(text) = item.filled_text() else { continue };
        let body = text.strip_suffix('*').unwrap_or(&text);
        let pattern = text.len() == body.len() || body.is_empty() || body.ends_with('.');
        if !pattern || !body.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
            item.fault(
                format!("`{text}` is no event type"),
                Some("letters, digits and `_` joined by dots; `payment.*` matches all below"),
            );
        }
        types.push(text);
    }
    types
}

fn jq(value: &Value<'_, '_>) -> Option<Jq> {
    let text = value.filled_text()?;
    Jq::parse(&text).map_err(|error| value.fault(format!("`{}` is not jq: {error}", value.name), None)).ok()
}

fn retry(value: &Value<'_, '_>, before: &Retry) -> Option<Retry> {
    let table = value.table()?;
    let given = table.take("schedule");
    let listed = given.as_ref().and_then(|v| v.list()).map(|items| items.iter().filter_map(|v| v.duration()).collect());
    let schedule = super::retry::growing(&table, given.is_some()).or(listed);
    let max_age = table.take("max_age").and_then(|v| v.duration());
    table.finish();
    Some(Retry {
        schedule: schedule.unwrap_or_else(|| before.schedule.clone()),
        max_age: max_age.unwrap_or(before.max_age),
    })
}
