//! Challenges by which a provider asks whether the address is ours: found by the provider file, answered at once, never stored.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use url::Url;

use crate::jq::{Json, Vars};
use crate::provider::{Handshake, Webhook};
use crate::secret::Secret;
use crate::signature::{Request, allows_host};
use crate::source::Source;
use crate::store::InboundRequest;
use crate::template::Context;

/// What is to be done with a challenge.
pub enum Challenge {
    /// Answered as it stands.
    Answer(Response<Full<Bytes>>),
    /// Answered once this address was called.
    Confirm(Url, Response<Full<Bytes>>),
    /// Not one that we wanted.
    Refuse(StatusCode),
}

/// The challenge that a request is; None: an ordinary webhook. `signed`: among those whose signature was verified.
pub fn find<'w>(
    webhook: &'w Webhook,
    source: &Source,
    request: &InboundRequest,
    signed: bool,
) -> Option<&'w Handshake> {
    let candidates = || webhook.handshakes.iter().filter(|h| h.signed == signed && h.method == request.method);
    candidates().next()?;
    let (body, vars) = judged(source, request);
    // A body of another shape than a challenge has is none.
    candidates().find(|h| h.when.as_ref().is_none_or(|when| when.truth(&body, &vars).unwrap_or(false)))
}

/// What to do with it. The error is a sentence about the provider file; it holds nothing of the request.
pub fn judge(
    handshake: &Handshake,
    source: &Source,
    request: &InboundRequest,
    secret: Option<&Secret>,
) -> Result<Challenge, String> {
    let (body, vars) = judged(source, request);
    let accepted = handshake.accept.as_ref().map_or(Ok(true), |accept| accept.truth(&body, &vars));
    if !accepted.map_err(|error| format!("`accept` of a handshake: {error}"))? {
        let status = StatusCode::from_u16(handshake.refuse).unwrap_or(StatusCode::FORBIDDEN);
        return Ok(Challenge::Refuse(status));
    }
    let context = context(source, request, secret);
    let answer = answer(handshake, &context).map_err(|error| format!("the answer to a handshake: {error}"))?;
    let Some(fetch) = &handshake.fetch else { return Ok(Challenge::Answer(answer)) };
    let text = fetch.text(&context).map_err(|error| format!("`fetch` of a handshake: {error}"))?;
    match Url::parse(&text).ok().filter(|url| may_be_called(url, &handshake.hosts)) {
        Some(url) => Ok(Challenge::Confirm(url, answer)),
        None => Ok(Challenge::Refuse(StatusCode::FORBIDDEN)),
    }
}

fn may_be_called(url: &Url, hosts: &[String]) -> bool {
    let plain =
        url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none();
    plain && url.host_str().is_some_and(|host| hosts.iter().any(|pattern| allows_host(pattern, host)))
}

fn judged(source: &Source, request: &InboundRequest) -> (Json, Vars) {
    (Json::parse(&request.body).unwrap_or_default(), super::route::vars(source, request))
}

fn answer(handshake: &Handshake, context: &Context) -> Result<Response<Full<Bytes>>, String> {
    let (body, kind) = match &handshake.answer.body {
        Some(body) => body.fill(context)?,
        None => (Vec::new(), None),
    };
    let kind = kind.or((!body.is_empty()).then_some("text/plain; charset=utf-8"));
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(handshake.answer.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // What is echoed must stay what it is, whoever looks at it.
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, template) in &handshake.answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?;
        let value = HeaderValue::from_str(&template.text(context)?);
        headers.insert(name, value.map_err(|_| "a header value holds a character that HTTP does not allow")?);
    }
    Ok(response)
}

fn context(source: &Source, request: &InboundRequest, secret: Option<&Secret>) -> Context {
    let mut context = Context::new();
    context.set_received("body", request.body.clone());
    for (name, value) in &source.settings {
        context.set_value(&format!("settings.{name}"), value);
    }
    if let Some(secret) = secret {
        context.set("secret", secret.expose().to_owned());
    }
    let InboundRequest { method, headers, body, .. } = request;
    let form = Request { method, url: None, headers, body, settings: &source.settings }.form();
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let mut lookup = |name: &str, pairs: Vec<(String, String)>| {
        context.set_lookup(name, move |wanted| pairs.iter().find(|(n, _)| n == wanted).map(|(_, value)| value.clone()));
    };
    // Of equal names the first counts, as in `when` and `accept`: what was accepted is what is answered.
    lookup("query", url::form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    lookup("form", form.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect());
    let headers = request.headers.clone();
    context.set_lookup("header", move |name| {
        headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    });
    context
}
