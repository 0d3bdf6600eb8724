//! An event as a request to its handler: Standard Webhooks by default, or exactly what the provider itself would have posted.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Handler;
use crate::client::Outgoing;
use crate::config::Format;
use crate::event_body;
use crate::model::{Event, Timestamp};
use crate::provider::{Body, JsonTemplate, Native, Param};
use crate::signature::{self, Request};
use crate::store::ClaimedDelivery;
use crate::template::{Context, Rendered};

/// Builds the request of one attempt; it is signed for this very moment.
pub fn request(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Outgoing, String> {
    let mut request = match handler.config.format {
        Format::Standard => standard(handler, &delivery.event, now)?,
        Format::CloudEvents => cloud_event(handler, &delivery.event, now)?,
        Format::CloudEventsBinary => cloud_event_binary(handler, &delivery.event, now)?,
        Format::Native => native(handler, delivery, now)?,
    };
    if delivery.replay {
        request.headers.insert("ringback-replay", HeaderValue::from_static("true"));
    }
    for (name, value) in &handler.headers {
        request.headers.insert(name.clone(), value.clone());
    }
    Ok(request)
}

fn standard(handler: &Handler, event: &Event, now: Timestamp) -> Result<Outgoing, String> {
    signed(handler, event, now, "application/json", event_body::standard(event).into())
}

/// Structured mode of the CloudEvents HTTP binding.
fn cloud_event(handler: &Handler, event: &Event, now: Timestamp) -> Result<Outgoing, String> {
    signed(handler, event, now, "application/cloudevents+json; charset=utf-8", event_body::cloud_event(event).into())
}

/// Binary mode of the CloudEvents HTTP binding.
fn cloud_event_binary(handler: &Handler, event: &Event, now: Timestamp) -> Result<Outgoing, String> {
    let mut request = signed(handler, event, now, "application/json", event.data.clone().unwrap_or_default())?;
    if event.data.is_none() {
        request.headers.remove("content-type");
    }
    for (name, text) in event_body::attributes(event) {
        let header = format!("ce-{name}");
        insert(&mut request.headers, &header, &event_body::header_value(&text))?;
    }
    Ok(request)
}

/// The request with the headers of Standard Webhooks, which sign any body.
fn signed(
    handler: &Handler,
    event: &Event,
    now: Timestamp,
    content_type: &'static str,
    body: Bytes,
) -> Result<Outgoing, String> {
    let signer = handler.signer.as_ref().map_err(Clone::clone)?;
    let signature = signer.sign(event.id.as_str(), now, &body);
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.insert(signature::ID, value(event.id.as_str())?);
    headers.insert(signature::TIMESTAMP, HeaderValue::from(now.unix_seconds()));
    headers.insert(signature::SIGNATURE, value(&signature)?);
    Ok(Outgoing { method: Method::POST, url: handler.config.url.clone(), headers, body })
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a header value holds a character that HTTP does not allow".to_owned())
}

/// What the provider itself would post, signed by its own scheme with the handler's secret.
fn native(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Outgoing, String> {
    let event = &delivery.event;
    let source = handler.sources.get(&event.stream.source).ok_or("its source is no longer in the configuration")?;
    let native = source.provider.native.as_ref();
    let context = context(delivery, source, now);
    let (body, content_type) = native_body(native, delivery, &context)?;
    let mut url = handler.config.url.clone();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    for (name, template) in native.map(|n| n.headers.as_slice()).unwrap_or_default() {
        insert(&mut headers, name, &template.text(&context)?)?;
    }
    let webhook = source.provider.webhook.as_ref().ok_or("the provider says no signature")?;
    let wanted = handler.config.scheme.as_ref().or_else(|| native.and_then(|n| n.scheme.as_ref()));
    let scheme = match wanted {
        Some(name) => webhook.schemes.iter().find(|scheme| scheme.name == *name),
        None => webhook.schemes.first(),
    };
    let scheme = scheme.ok_or("the provider has no such signature scheme")?;
    let pairs: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let signed = Request {
        method: "POST",
        url: Some(handler.config.signed_url.as_ref().unwrap_or(&handler.config.url)),
        headers: &pairs,
        body: &body,
        settings: &source.settings,
    };
    let added = scheme.sign(&signed, &handler.secrets, now).map_err(|error| error.to_string())?;
    for (name, text) in &added.headers {
        insert(&mut headers, name, text)?;
    }
    if !added.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&added.query);
    }
    if !added.form.is_empty() {
        return Err(format!("scheme `{}` signs inside a form, which is not carried out yet", scheme.name));
    }
    Ok(Outgoing { method: Method::POST, url, headers, body })
}

fn insert(headers: &mut HeaderMap, name: &str, text: &str) -> Result<(), String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?;
    headers.insert(name, value(text)?);
    Ok(())
}

fn native_body(
    native: Option<&Native>,
    delivery: &ClaimedDelivery,
    context: &Context,
) -> Result<(Bytes, &'static str), String> {
    const JSON: &str = "application/json";
    Ok(match native.and_then(|n| n.body.as_ref()) {
        None => match &delivery.inbound {
            Some(inbound) => (inbound.body.clone(), JSON),
            None => (delivery.event.data.clone().ok_or("the record is too large to be sent in native form")?, JSON),
        },
        Some(Body::Text(template)) => (template.bytes(context, b"")?.into(), JSON),
        Some(Body::Json(json)) => {
            let mut text = String::new();
            fill(json, context, &mut text)?;
            (text.into_bytes().into(), JSON)
        }
        Some(Body::Form(fields)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, param) in fields {
                for text in texts(param, context)? {
                    form.append_pair(name, &text);
                }
            }
            (form.finish().into_bytes().into(), "application/x-www-form-urlencoded")
        }
    })
}

fn texts(param: &Param, context: &Context) -> Result<Vec<String>, String> {
    Ok(match param {
        Param::Literal(text) => vec![text.clone()],
        Param::Template(template) => vec![template.text(context)?],
        Param::List(items) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(texts(item, context)?);
            }
            all
        }
    })
}

/// JSON text with its templates filled in; what a template gives goes in with its own digits.
fn fill(json: &JsonTemplate, context: &Context, out: &mut String) -> Result<(), String> {
    match json {
        JsonTemplate::Literal(value) => out.push_str(&value.to_string()),
        JsonTemplate::Template(template) => match template.value(context)? {
            None => out.push_str("null"),
            Some(rendered) => rendered_json(&rendered, out),
        },
        JsonTemplate::List(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                fill(item, context, out)?;
            }
            out.push(']');
        }
        JsonTemplate::Object(members) => {
            out.push('{');
            for (n, (name, member)) in members.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                out.push(':');
                fill(member, context, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn rendered_json(rendered: &Rendered, out: &mut String) {
    match rendered {
        Rendered::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
        Rendered::Number(digits) => out.push_str(digits),
        Rendered::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Rendered::Json(raw) => out.push_str(raw.get()),
        Rendered::List(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                rendered_json(item, out);
            }
            out.push(']');
        }
    }
}

fn context(delivery: &ClaimedDelivery, source: &crate::source::Source, now: Timestamp) -> Context {
    let event = &delivery.event;
    let mut context = Context::new();
    if let Some(data) = &event.data {
        context.set_received("record", data.clone());
    }
    context.set("event.id", event.id.to_string()).set("event.type", event.event_type.clone());
    context.set("event.kind", event.kind.as_str()).set("event.source", event.stream.source.to_string());
    context.set("event.stream", event.stream.stream.to_string()).set("event.key", event.key.to_string());
    context.set("event.revision", event.revision).set("attempt", delivery.attempts + 1);
    context.set_time("event.time", event.time, &crate::template::TimeFormat::Rfc3339, None);
    context.set_time("now", now, &crate::template::TimeFormat::Rfc3339, None);
    for (name, value) in &source.settings {
        context.set_value(&format!("settings.{name}"), value);
    }
    if let Some(inbound) = &delivery.inbound {
        context.set_received("inbound.body", inbound.body.clone());
        let headers = inbound.headers.clone();
        context.set_lookup("inbound.headers", move |name| {
            headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        });
    }
    context
}
