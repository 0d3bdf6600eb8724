//! The signed bytes of a request. Contents that only join known parts take a short way; all others go through the template.

use std::borrow::Cow;

use url::Url;

use crate::template::{Context, Template};

/// A request, as received or to be sent, as far as signatures look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The address that the provider was told, or the handler's.
    pub url: Option<&'a Url>,
    /// Names in lower case.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub settings: &'a serde_json::Map<String, serde_json::Value>,
}

impl<'a> Request<'a> {
    /// The values of all headers of this name (any case; a trailing `*` matches any ending).
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let headers = self.headers;
        headers.iter().filter(move |(found, _)| names_header(name, found)).map(|(_, value)| value.as_str())
    }

    /// Fields of a form body, decoded, in the order sent.
    pub fn form(&self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        url::form_urlencoded::parse(self.body).collect()
    }
}

/// Whether a name as a scheme writes it, maybe with `*` at its end, means this header (lower case).
pub fn names_header(name: &str, header: &str) -> bool {
    match name.strip_suffix('*') {
        Some(stem) => {
            header.len() >= stem.len() && header.as_bytes()[..stem.len()].eq_ignore_ascii_case(stem.as_bytes())
        }
        None => header.eq_ignore_ascii_case(name),
    }
}

/// Renders the signed bytes.
pub fn render(template: &Template, request: &Request<'_>, timestamp: &str, secret: &str) -> Result<Vec<u8>, String> {
    if let Some(bytes) = joined(template.text_source(), request, timestamp, secret) {
        return Ok(bytes);
    }
    template.bytes(&context(request, timestamp, secret), request.body)
}

/// The short way: literals, `{{ body }}`, `{{ timestamp }}`, `{{ secret }}`, `{{ method }}`, `{{ url }}`, `{{ header['x'] }}`.
fn joined(text: &str, request: &Request<'_>, timestamp: &str, secret: &str) -> Option<Vec<u8>> {
    if text.contains("{%") || text.contains("{#") {
        return None;
    }
    let mut bytes = Vec::with_capacity(request.body.len() + text.len() + 64);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        bytes.extend_from_slice(before.as_bytes());
        let (expression, after) = after.split_once("}}")?;
        match expression.trim() {
            "body" => bytes.extend_from_slice(request.body),
            "timestamp" => bytes.extend_from_slice(timestamp.as_bytes()),
            "secret" => bytes.extend_from_slice(secret.as_bytes()),
            "method" => bytes.extend_from_slice(request.method.as_bytes()),
            "url" => bytes.extend_from_slice(request.url?.as_str().as_bytes()),
            other => {
                let name = other.strip_prefix("header['")?.strip_suffix("']")?;
                bytes.extend_from_slice(request.header_values(name).next()?.as_bytes());
            }
        }
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

fn context(request: &Request<'_>, timestamp: &str, secret: &str) -> Context {
    let mut context = Context::new();
    context
        .set("timestamp", timestamp.to_owned())
        .set("secret", secret.to_owned())
        .set("method", request.method.to_owned());
    for (name, value) in request.settings {
        context.set_value(&format!("settings.{name}"), value);
    }
    if let Some(url) = request.url {
        context.set("url", url.as_str().to_owned());
        context.set("path", url.path().to_owned());
        context.set("url_with_port", with_port(url)).set("url_without_port", without_port(url));
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        context.set_lookup("query", move |name| first(&query, name));
    }
    let headers = request.headers.to_vec();
    context.set_lookup("header", move |name| first(&headers, &name.to_ascii_lowercase()));
    let form: Vec<(String, String)> =
        request.form().into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    context.set("form_sorted", sorted(&form));
    context.set_lookup("form", move |name| first(&form, name));
    let body = String::from_utf8_lossy(request.body).into_owned();
    context.set_lookup("json", move |path| {
        let path = crate::path::Path::parse(path)?;
        let picked = crate::path::pick(&body, &[&path]).ok()?;
        let raw = picked.into_iter().next().flatten()?;
        serde_json::from_str::<String>(raw.get()).ok().or_else(|| Some(raw.get().to_owned()))
    });
    context
}

fn first(pairs: &[(String, String)], name: &str) -> Option<String> {
    pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}

/// Each distinct name in code point order with its distinct values in order, nothing between them.
fn sorted(form: &[(String, String)]) -> String {
    let pairs: std::collections::BTreeSet<&(String, String)> = form.iter().collect();
    pairs.into_iter().map(|(name, value)| format!("{name}{value}")).collect()
}

fn with_port(url: &Url) -> String {
    match (url.port(), url.port_or_known_default(), url.host_str()) {
        (None, Some(port), Some(host)) => url.as_str().replacen(host, &format!("{host}:{port}"), 1),
        _ => url.as_str().to_owned(),
    }
}

fn without_port(url: &Url) -> String {
    let mut url = url.clone();
    // Refused only for addresses without a host, which have no port either.
    let _ = url.set_port(None);
    url.to_string()
}
