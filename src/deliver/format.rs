//! An event as a request to its handler: Standard Webhooks by default, or exactly what the provider itself would have posted.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::{Handler, context, custom};
use crate::client::Outgoing;
use crate::config::Format;
use crate::event_body;
use crate::model::{Event, Timestamp};
use crate::provider::Native;
use crate::secret::Secret;
use crate::signature::{self, Added, Request, StandardSigner};
use crate::source::Source;
use crate::store::ClaimedDelivery;
use crate::template::Context;

/// Builds the request of one attempt; it is signed for this very moment.
pub fn request(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Outgoing, String> {
    let mut request = match handler.config.format {
        Format::Standard => standard(handler, &delivery.event, now)?,
        Format::CloudEvents => cloud_event(handler, &delivery.event, now)?,
        Format::CloudEventsBinary => cloud_event_binary(handler, &delivery.event, now)?,
        Format::Native => native(handler, delivery, now)?,
        Format::Custom => custom::request(handler, delivery, now)?,
    };
    if delivery.replay {
        request.headers.insert("ringback-replay", HeaderValue::from_static("true"));
    }
    custom::add_headers(handler, delivery, now, &mut request.headers)?;
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
    let signer = handler.signer.as_ref().map_err(Clone::clone)?.as_ref();
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert("content-type", HeaderValue::from_static(content_type));
    sign(signer, event, now, &body, &mut headers)?;
    Ok(Outgoing { method: Method::POST, url: handler.config.url.clone(), headers, body })
}

/// Adds the headers of Standard Webhooks.
pub(super) fn sign(
    signer: Option<&StandardSigner>,
    event: &Event,
    now: Timestamp,
    body: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), String> {
    headers.insert(signature::ID, value(event.id.as_str())?);
    headers.insert(signature::TIMESTAMP, HeaderValue::from(now.unix_seconds()));
    if let Some(signer) = signer {
        headers.insert(signature::SIGNATURE, value(&signer.sign(event.id.as_str(), now, body))?);
    }
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a header value holds a character that HTTP does not allow".to_owned())
}

/// For whom something is emitted in a provider's own form.
pub struct Emission<'a> {
    pub source: &'a Source,
    /// None: the provider file's own choice, else its first.
    pub scheme: Option<&'a str>,
    pub secrets: &'a [Secret],
    /// Where it is sent.
    pub url: &'a Url,
    /// The address that the handler believes it has.
    pub signed_url: &'a Url,
}

fn native(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Outgoing, String> {
    let source = handler.sources.get(&delivery.event.stream.source);
    let url = &handler.config.url;
    let emission = Emission {
        source: source.ok_or("its source is no longer in the configuration")?,
        scheme: handler.config.scheme.as_deref(),
        secrets: &handler.secrets,
        url,
        signed_url: handler.config.signed_url.as_ref().unwrap_or(url),
    };
    emit(&emission, delivery, now)
}

/// What the provider itself would post, signed by its own scheme with the handler's secret, for this very moment.
pub fn emit(to: &Emission<'_>, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Outgoing, String> {
    let native = to.source.provider.native.as_ref();
    if let Some(sentence) = native.and_then(|native| native.impossible.as_ref()) {
        return Err(sentence.clone());
    }
    let webhook = to.source.provider.webhook.as_ref().ok_or("the provider says no signature")?;
    let scheme = match to.scheme.or_else(|| native.and_then(|n| n.scheme.as_deref())) {
        Some(name) => webhook.schemes.iter().find(|scheme| scheme.name == name),
        None => webhook.schemes.first(),
    };
    let scheme = scheme.ok_or("the provider has no such signature scheme")?;
    let mut context = context::of(delivery, to.signed_url, Some(to.source), now);
    context::set_secret(&mut context, to.secrets);
    let (body, content_type) = native_body(native, delivery, &context)?;
    let mut headers = HeaderMap::new();
    headers.insert("content-type", value(&content_type)?);
    for (name, template) in native.map(|n| n.headers.as_slice()).unwrap_or_default() {
        insert(&mut headers, name, &template.text(&context)?)?;
    }
    let pairs: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let signed = Request {
        method: "POST",
        url: Some(to.signed_url.as_str()),
        headers: &pairs,
        body: &body,
        settings: &to.source.settings,
    };
    let added = scheme.sign(&signed, to.secrets, now).map_err(|error| error.to_string())?;
    for (name, text) in &added.headers {
        insert(&mut headers, name, text)?;
    }
    let mut url = to.url.clone();
    if !added.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&added.query);
    }
    let body = with_added(body, added)?;
    Ok(Outgoing { method: Method::POST, url, headers, body })
}

/// A body with what signing put into it: the signature in its JSON, or fields of a form.
fn with_added(body: Bytes, added: Added) -> Result<Bytes, String> {
    if let Some(signed) = added.body {
        return Ok(signed.into());
    }
    if added.form.is_empty() {
        return Ok(body);
    }
    let text = String::from_utf8(body.into()).map_err(|_| "a form that carries its signature must be text")?;
    let mut form = url::form_urlencoded::Serializer::new(text);
    Ok(form.extend_pairs(&added.form).finish().into())
}

fn insert(headers: &mut HeaderMap, name: &str, text: &str) -> Result<(), String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?;
    headers.insert(name, value(text)?);
    Ok(())
}

/// A body of the provider file, else the real webhook as it came, else the record.
fn native_body(
    native: Option<&Native>,
    delivery: &ClaimedDelivery,
    context: &Context,
) -> Result<(Bytes, String), String> {
    const JSON: &str = "application/json";
    Ok(match (native.and_then(|n| n.body.as_ref()), &delivery.inbound) {
        (Some(body), _) => {
            let (bytes, kind) = body.fill(context)?;
            (bytes.into(), kind.unwrap_or(JSON).to_owned())
        }
        (None, Some(inbound)) => {
            let kind = inbound.headers.iter().find(|(name, _)| name == "content-type").map(|(_, kind)| kind.clone());
            (inbound.body.clone(), kind.unwrap_or_else(|| JSON.to_owned()))
        }
        (None, None) => {
            (delivery.event.data.clone().ok_or("the record is too large to be sent in native form")?, JSON.to_owned())
        }
    })
}
