//! One request, built from the provider's and the stream's tables and the values of the moment. Pure: `now` is an argument,
//! nothing is sent. The stream's own entries win over the provider's, key by key.

use std::time::Duration;

use bytes::Bytes;
use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use minijinja::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::pagination::PageValues;
use crate::client::Outgoing;
use crate::ingest::CursorValue;
use crate::jq::Json;
use crate::model::Timestamp;
use crate::provider::{Body, CursorSpec, JsonTemplate, Param, Request, Target};
use crate::source::{Source, SourceStream};
use crate::template::{Context, Rendered, Template};

/// Everything but what RFC 3986 calls unreserved: a space is `%20`, which every server reads.
pub(super) const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a request cannot be built. A sentence that names the place in the provider file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{place} cannot be built: {reason}")]
pub(super) struct RequestFault {
    pub place: String,
    pub reason: String,
}

impl RequestFault {
    pub fn new(place: impl Into<String>, reason: impl Into<String>) -> RequestFault {
        RequestFault { place: place.into(), reason: reason.into() }
    }
}

type Result<T> = std::result::Result<T, RequestFault>;

/// The values of one run that stay the same over its pages: query values are frozen for its length.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    pub cursor: Option<CursorValue>,
    pub run_start: Timestamp,
    /// The date slice that is listed.
    pub window: Option<(Timestamp, Timestamp)>,
    /// What the parent hands down whose children are listed.
    pub parent: Option<Json>,
}

/// What the templates of a page's request may use.
pub(super) fn context(
    source: &Source,
    stream: &SourceStream,
    frozen: &Frozen,
    page: &PageValues,
    now: Timestamp,
) -> Context {
    let zone = stream.spec.timezone.or(source.provider.timezone);
    let format = &stream.spec.time_format;
    let mut context = Context::new();
    context.set_time("now", now, format, zone);
    context.set_time("run.start", frozen.run_start, format, zone);
    set_own(&mut context, source);
    context.set("page", page_values(page));
    if let Some(parent) = &frozen.parent {
        context.set_json("parent", parent);
    }
    if let (Some((start, end)), Some(spec)) = (frozen.window, &stream.spec.cursor) {
        let zone = spec.timezone.or(zone);
        context.set_time("window.start", round_down(start, spec, zone), &spec.format, zone);
        context.set_time("window.end", round_up(end, spec, zone), &spec.format, zone);
    }
    match (&frozen.cursor, &stream.spec.cursor) {
        (Some(CursorValue::Time(time)), Some(spec)) => {
            let zone = spec.timezone.or(zone);
            context.set_time("cursor", round_down(*time, spec, zone), &spec.format, zone)
        }
        (Some(CursorValue::Time(time)), None) => context.set_time("cursor", *time, format, zone),
        (Some(CursorValue::Number(digits)), _) => context.set_number("cursor", digits),
        (Some(CursorValue::Text(text)), _) => context.set("cursor", text.as_str()),
        (None, _) => &mut context,
    };
    context
}

/// What a source gives to every template: its settings and its secrets.
pub(super) fn set_own(context: &mut Context, source: &Source) {
    context.set_value("settings", &serde_json::Value::Object(source.settings.clone()));
    let secrets = source.secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose()));
    context.set("secrets", Value::from_pairs(secrets));
}

fn page_values(page: &PageValues) -> Value {
    let values = [
        ("number", page.number.map(Value::from)),
        ("offset", page.offset.map(Value::from)),
        ("size", page.size.map(Value::from)),
        ("token", page.token.as_deref().map(Value::from)),
        ("last_id", page.last_id.as_deref().map(Value::from)),
    ];
    Value::from_pairs(values.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// Up to the precision of the provider's filter: a slice must hold its last moment.
fn round_up(time: Timestamp, spec: &CursorSpec, zone: Option<Tz>) -> Timestamp {
    let down = round_down(time, spec, zone);
    if down == time { time } else { down.plus(spec.precision) }
}

/// Down to the precision of the provider's filter, in the zone it counts in: never up, or records would be skipped.
pub(super) fn round_down(time: Timestamp, spec: &CursorSpec, zone: Option<Tz>) -> Timestamp {
    let step = i64::try_from(spec.precision.max(Duration::from_millis(1)).as_millis()).unwrap_or(i64::MAX);
    let offset = zone.map_or(0, |zone| {
        let utc = time.to_utc().naive_utc();
        i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1000
    });
    Timestamp(time.0.saturating_sub(time.0.saturating_add(offset).rem_euclid(step)))
}

/// Builds the request. `address`: the provider's own link to the next page, in place of path and query. `without`: leaves out the
/// entries that need this variable.
pub(super) fn build(
    source: &Source,
    stream: &SourceStream,
    context: &Context,
    address: Option<&Url>,
    without: Option<&str>,
) -> Result<Outgoing> {
    let empty = Request::default();
    let (own, all) = (stream.spec.request.as_ref().unwrap_or(&empty), &source.provider.request);
    let parts = Parts {
        target: own.target.as_ref().or(all.target.as_ref()),
        query: merged(&all.query, &own.query, |a, b| a == b),
        headers: merged(&all.headers, &own.headers, |a, b| a.eq_ignore_ascii_case(b)),
        body: own.body.as_ref().or(all.body.as_ref()),
        method: own.method.as_ref().or(all.method.as_ref()),
    };
    parts.build(source, context, address, without)
}

/// Builds the request that asks for one record (`deletes.confirm`), with the provider's headers.
pub(super) fn build_confirm(
    source: &Source,
    own: &Request,
    context: &Context,
    without: Option<&str>,
) -> Result<Outgoing> {
    let all = &source.provider.request;
    let parts = Parts {
        target: own.target.as_ref(),
        query: merged(&all.query, &own.query, |a, b| a == b),
        headers: merged(&all.headers, &own.headers, |a, b| a.eq_ignore_ascii_case(b)),
        body: own.body.as_ref(),
        method: own.method.as_ref(),
    };
    parts.build(source, context, None, without)
}

/// Builds a request that belongs to no stream (a login, the registration of a webhook), with those of the provider's parameters and
/// headers that need nothing of a stream.
pub(super) fn build_own(source: &Source, own: &Request, context: &Context, without: Option<&str>) -> Result<Outgoing> {
    let all = &source.provider.request;
    let known = |template: &Template| template.names().iter().all(|name| context.has(name));
    let query: Vec<_> = all.query.iter().filter(|(_, param)| every(param, &known)).cloned().collect();
    let headers: Vec<_> = all.headers.iter().filter(|(_, template)| known(template)).cloned().collect();
    let parts = Parts {
        target: own.target.as_ref(),
        query: merged(&query, &own.query, |a, b| a == b),
        headers: merged(&headers, &own.headers, |a, b| a.eq_ignore_ascii_case(b)),
        body: own.body.as_ref(),
        method: own.method.as_ref(),
    };
    parts.build(source, context, None, without)
}

/// Where a stream's request leads, its query left off.
pub(super) fn address(source: &Source, stream: &SourceStream, context: &Context) -> Result<Url> {
    let own = stream.spec.request.as_ref().and_then(|request| request.target.as_ref());
    target_url(source, own.or(source.provider.request.target.as_ref()), context)
}

/// A word that is used once.
pub(super) fn nonce() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| RequestFault::new("nonce", "the system gives no random bytes"))?;
    Ok(hex::encode(random))
}

/// Headers that every request has.
pub(super) fn own_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("ringback/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// What a request is built from, once it is decided whose entry counts.
struct Parts<'a> {
    target: Option<&'a Target>,
    query: Vec<(&'a str, &'a Param)>,
    headers: Vec<(&'a str, &'a Template)>,
    body: Option<&'a Body>,
    method: Option<&'a String>,
}

impl Parts<'_> {
    fn build(
        mut self,
        source: &Source,
        context: &Context,
        address: Option<&Url>,
        without: Option<&str>,
    ) -> Result<Outgoing> {
        let needs = |template: &Template, name: &str| template.names().contains(name);
        let signed = |param: &Param| !every(param, &|template| !needs(template, SIGNATURE));
        let url = match address {
            // What the provider wrote stays as it is, but for our own signature.
            Some(address) => {
                self.query.retain(|(_, param)| signed(param));
                without_pairs(address, &self.query)
            }
            None => target_url(source, self.target, context)?,
        };
        if let Some(name) = without {
            self.query.retain(|(_, param)| every(param, &|template| !needs(template, name)));
            self.headers.retain(|(_, template)| !needs(template, name));
        }
        let mut url = url;
        add_query(&mut url, &self.query, context)?;
        let (body, content_type) = match self.body {
            Some(Body::Form(params)) if without.is_some() => {
                let kept = params.iter().filter(|(_, param)| !signed(param)).cloned().collect();
                body_bytes(&Body::Form(kept), context)?
            }
            Some(body) => body_bytes(body, context)?,
            None => (Bytes::new(), None),
        };
        let headers = headers(&self.headers, content_type, context)?;
        let method = match self.method {
            Some(method) => Method::from_bytes(method.as_bytes())
                .map_err(|_| RequestFault::new("method", format!("`{method}` is no HTTP method")))?,
            None if self.body.is_some() => Method::POST,
            None => Method::GET,
        };
        Ok(Outgoing { method, url, headers, body })
    }
}

/// What `auth.content` gives.
const SIGNATURE: &str = "signature";

/// Whether this holds of every template of a parameter.
fn every(param: &Param, holds: &dyn Fn(&Template) -> bool) -> bool {
    match param {
        Param::Literal(_) => true,
        Param::Template(template) => holds(template),
        Param::List(list) => list.iter().all(|param| every(param, holds)),
    }
}

/// An address without the pairs of these names; untouched where it has none of them.
fn without_pairs(address: &Url, names: &[(&str, &Param)]) -> Url {
    let mut url = address.clone();
    let named = |pair: &str| {
        let name = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned());
        names.iter().any(|(known, _)| name.as_deref() == Some(known))
    };
    if let Some(query) = address.query()
        && query.split('&').any(named)
    {
        let kept: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
        url.set_query(Some(kept.join("&").as_str()).filter(|query| !query.is_empty()));
    }
    url
}

/// JSON with its templates filled in.
pub(super) fn json_text(template: &JsonTemplate, context: &Context) -> std::result::Result<String, String> {
    let mut text = String::new();
    match write_json(template, context, &mut text)? {
        true => Ok(text),
        false => Err("the whole of it is undefined".to_owned()),
    }
}

/// The provider's entries with the stream's in their place, then the stream's others; order is kept.
fn merged<'a, T>(
    all: &'a [(String, T)],
    own: &'a [(String, T)],
    same: impl Fn(&str, &str) -> bool,
) -> Vec<(&'a str, &'a T)> {
    let mut entries: Vec<(&str, &T)> = Vec::with_capacity(all.len() + own.len());
    for (name, value) in all.iter().chain(own) {
        match entries.iter_mut().find(|(known, _)| same(known, name)) {
            Some(entry) => *entry = (name, value),
            None => entries.push((name, value)),
        }
    }
    entries
}

/// A path is put after the base address and cannot lead to another host, whatever it holds.
fn target_url(source: &Source, target: Option<&Target>, context: &Context) -> Result<Url> {
    let base = || source.base_url.as_ref().ok_or_else(|| RequestFault::new("path", "the source has no `base_url`"));
    match target {
        Some(Target::Url(template)) => {
            let text = template.text(context).map_err(|reason| RequestFault::new("url", reason))?;
            let url = Url::parse(&text).map_err(|_| RequestFault::new("url", "what it gives is no URL"))?;
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(RequestFault::new("url", "what it gives is no http or https address"));
            }
            Ok(url)
        }
        Some(Target::Path(template)) => {
            let base = base()?;
            let path = template.segment(context).map_err(|reason| RequestFault::new("path", reason))?;
            let slash = if path.is_empty() || path.starts_with(['/', '?']) { "" } else { "/" };
            let text = format!("{}{slash}{path}", base.as_str().trim_end_matches('/'));
            let url = Url::parse(&text).map_err(|_| RequestFault::new("path", "what it gives is no path"))?;
            if url.origin() != base.origin() {
                return Err(RequestFault::new("path", "it leads to another host than `base_url`"));
            }
            Ok(url)
        }
        None => base().cloned(),
    }
}

fn add_query(url: &mut Url, params: &[(&str, &Param)], context: &Context) -> Result<()> {
    let mut query = url.query().unwrap_or_default().to_owned();
    for (name, value) in pairs(params, "query", context)? {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(&name, QUERY));
        query.push('=');
        query.extend(utf8_percent_encode(&value, QUERY));
    }
    url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
    Ok(())
}

/// Name and value of each parameter: a list repeats, an undefined value leaves out.
fn pairs(params: &[(&str, &Param)], place: &str, context: &Context) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for (name, param) in params {
        let mut values = Vec::new();
        param_values(param, context, &mut values)
            .map_err(|reason| RequestFault::new(format!("{place} parameter `{name}`"), reason))?;
        pairs.extend(values.into_iter().map(|value| ((*name).to_owned(), value)));
    }
    Ok(pairs)
}

/// The texts of one parameter that stands for itself.
pub(super) fn param_texts(param: &Param, context: &Context) -> std::result::Result<Vec<String>, String> {
    let mut texts = Vec::new();
    param_values(param, context, &mut texts)?;
    Ok(texts)
}

fn param_values(param: &Param, context: &Context, values: &mut Vec<String>) -> std::result::Result<(), String> {
    match param {
        Param::Literal(text) => values.push(text.clone()),
        Param::Template(template) => {
            if let Some(rendered) = template.value(context)? {
                rendered_values(rendered, values);
            }
        }
        Param::List(list) => list.iter().try_for_each(|param| param_values(param, context, values))?,
    }
    Ok(())
}

fn rendered_values(rendered: Rendered, values: &mut Vec<String>) {
    match rendered {
        Rendered::List(list) => list.into_iter().for_each(|item| rendered_values(item, values)),
        Rendered::Json(json) if json.get() == "null" => {}
        Rendered::Text(_) | Rendered::Number(_) | Rendered::Bool(_) | Rendered::Json(_) => {
            values.push(rendered.to_text());
        }
    }
}

/// Names come from the provider file, values from templates: a line break in either would be a header of its own.
fn headers(entries: &[(&str, &Template)], content_type: Option<&'static str>, context: &Context) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, template) in entries {
        let fault = |reason: &str| RequestFault::new(format!("header `{name}`"), reason);
        let Some(rendered) = template.value(context).map_err(|reason| fault(&reason))? else { continue };
        let mut values = Vec::new();
        rendered_values(rendered, &mut values);
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault("that is no name of a header"))?;
        headers.insert(key, value_of(&values.join(", ")).map_err(fault)?);
    }
    if let Some(content_type) = content_type {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    }
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    let agent = HeaderValue::from_static(concat!("ringback/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(agent);
    Ok(headers)
}

/// A header's value; the reason never repeats it, it may be a secret.
pub(super) fn value_of(text: &str) -> std::result::Result<HeaderValue, &'static str> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "its value holds a line break or another control character")
}

fn body_bytes(body: &Body, context: &Context) -> Result<(Bytes, Option<&'static str>)> {
    match body {
        Body::Json(template) => {
            let text = json_text(template, context).map_err(|reason| RequestFault::new("json", reason))?;
            Ok((text.into(), Some("application/json")))
        }
        Body::Form(params) => {
            let params: Vec<_> = params.iter().map(|(name, param)| (name.as_str(), param)).collect();
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(pairs(&params, "form", context)?);
            Ok((form.finish().into(), Some("application/x-www-form-urlencoded")))
        }
        Body::Text(template) => {
            let text = template.text(context).map_err(|reason| RequestFault::new("body", reason))?;
            Ok((text.into(), None))
        }
    }
}

/// Writes JSON with its numbers' own digits. False: the value is undefined, and nothing was written.
fn write_json(template: &JsonTemplate, context: &Context, out: &mut String) -> std::result::Result<bool, String> {
    match template {
        JsonTemplate::Literal(value) => out.push_str(&value.to_string()),
        JsonTemplate::Template(template) => match template.value(context)? {
            Some(rendered) => out.push_str(&rendered.to_json()),
            None => return Ok(false),
        },
        JsonTemplate::List(items) => {
            let entries = items.iter().map(|item| (None, item));
            write_entries(('[', ']'), entries, context, out)?;
        }
        JsonTemplate::Object(members) => {
            let entries = members.iter().map(|(name, item)| (Some(name.as_str()), item));
            write_entries(('{', '}'), entries, context, out)?;
        }
    }
    Ok(true)
}

/// An entry whose value is undefined is left out, its name with it.
fn write_entries<'t>(
    (open, close): (char, char),
    entries: impl Iterator<Item = (Option<&'t str>, &'t JsonTemplate)>,
    context: &Context,
    out: &mut String,
) -> std::result::Result<(), String> {
    out.push(open);
    let mut first = true;
    for (name, item) in entries {
        let before = out.len();
        if !first {
            out.push(',');
        }
        if let Some(name) = name {
            out.push_str(&serde_json::Value::from(name).to_string());
            out.push(':');
        }
        if write_json(item, context, out)? {
            first = false;
        } else {
            out.truncate(before);
        }
    }
    out.push(close);
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
