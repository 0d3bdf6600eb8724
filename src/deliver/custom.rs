//! Requests that a handler's own templates make: `format = "custom"`, and the headers of every format.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::{Handler, context, format};
use crate::client::Outgoing;
use crate::model::Timestamp;
use crate::secret;
use crate::store::ClaimedDelivery;
use crate::template::{Context, Template};

/// A header of a handler.
pub enum Header {
    /// The same in every request.
    Fixed(HeaderValue),
    /// Made from the event.
    Made(Template),
}

impl Header {
    pub fn of(name: &str, template: &Template) -> Result<(HeaderName, Header), String> {
        let text = template.text_source();
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("header `{name}` cannot be sent"))?;
        if template.has_blocks() || text.contains("{{") {
            return Ok((key, Header::Made(template.clone())));
        }
        let value = HeaderValue::from_str(text).map_err(|_| format!("header `{name}` cannot be sent"))?;
        Ok((key, Header::Fixed(value)))
    }
}

/// The request of one attempt. What is said of a failure names no secret.
pub fn request(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Result<Outgoing, String> {
    let custom = handler.config.custom.as_ref().ok_or("the handler does not say what to send")?;
    let context = context_of(handler, delivery, now);
    let hidden = |error: String| hide(handler, &error);
    let url = match &custom.url {
        Some(template) => address(template, &context).map_err(hidden)?,
        None => handler.config.url.clone(),
    };
    let method = Method::from_bytes(custom.method.as_bytes()).map_err(|_| "`method` is no HTTP method".to_owned())?;
    let mut headers = HeaderMap::new();
    let body = match &custom.body {
        Some(body) => {
            let (bytes, kind) = body.fill(&context).map_err(hidden)?;
            headers.insert("content-type", HeaderValue::from_static(kind.unwrap_or("text/plain; charset=utf-8")));
            bytes.into()
        }
        None => bytes::Bytes::new(),
    };
    // A secret of another form is for the templates alone.
    if let Ok(Some(signer)) = &handler.signer {
        format::sign(Some(signer), &delivery.event, now, &body, &mut headers)?;
    }
    Ok(Outgoing { method, url, headers, body })
}

/// Adds the headers that the handler says, over those of the format.
pub fn add_headers(
    handler: &Handler,
    delivery: &ClaimedDelivery,
    now: Timestamp,
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let mut context = None;
    for (name, header) in &handler.headers {
        let value = match header {
            Header::Fixed(value) => value.clone(),
            Header::Made(template) => {
                let context = context.get_or_insert_with(|| context_of(handler, delivery, now));
                let wrong = |reason: String| hide(handler, &format!("header `{name}` cannot be made: {reason}"));
                // One that needs what this event does not have is left out.
                let Some(rendered) = template.value(context).map_err(wrong)? else { continue };
                HeaderValue::from_str(&rendered.to_text())
                    .map_err(|_| format!("header `{name}` would hold a character that HTTP does not allow"))?
            }
        };
        headers.insert(name.clone(), value);
    }
    Ok(())
}

fn address(template: &Template, context: &Context) -> Result<Url, String> {
    let text = template.segment(context)?;
    Url::parse(&text).map_err(|_| "what `url` gives is no address".to_owned())
}

fn context_of(handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Context {
    let url = handler.config.signed_url.as_ref().unwrap_or(&handler.config.url);
    let source = handler.sources.get(&delivery.event.stream.source).map(|source| &**source);
    let mut context = context::of(delivery, url, source, now);
    context::set_secret(&mut context, &handler.secrets);
    for (name, secret) in &handler.named {
        context.set(&format!("secrets.{name}"), secret.expose().to_owned());
    }
    context
}

fn hide(handler: &Handler, text: &str) -> String {
    secret::mask(text, handler.secrets.iter().chain(handler.named.values()))
}
