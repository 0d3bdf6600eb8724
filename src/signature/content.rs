//! The signed bytes of a request. Contents that only join known parts take a short way; all others go through the template.

use std::borrow::Cow;

use crate::template::{Context, Template};

/// Settings of the source, which a scheme may name.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// A request, as received or to be sent, as far as signatures look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The address that the provider was told, or the handler's, to the letter: what a parser would write otherwise is signed as
    /// it stands.
    pub url: Option<&'a str>,
    /// Names in lower case.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub settings: &'a Settings,
}

impl<'a> Request<'a> {
    /// The values of all headers of this name (any case; a trailing `*` matches any ending).
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let headers = self.headers;
        headers.iter().filter(move |(found, _)| names_header(name, found)).map(|(_, value)| value.as_str())
    }

    /// Fields of a form body, decoded, in the order sent; none where the body says that it is something else.
    pub fn form(&self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        if self.is_form() { url::form_urlencoded::parse(self.body).collect() } else { Vec::new() }
    }

    /// Whether the body is a form: it says so, or says nothing.
    pub fn is_form(&self) -> bool {
        let kind = self.header_values("content-type").next();
        kind.is_none_or(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
    }

    /// Parameters of the address, decoded.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.url.and_then(|url| Address::of(url).query).unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }
}

/// A setting as text.
pub(super) fn setting(settings: &Settings, name: &str) -> String {
    match settings.get(name) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// An address taken apart without changing a letter of it.
struct Address<'u> {
    scheme: &'u str,
    /// With a user and its password, if there are any.
    host: &'u str,
    port: Option<&'u str>,
    /// Path, query and whatever follows.
    rest: &'u str,
    path: &'u str,
    query: Option<&'u str>,
}

impl<'u> Address<'u> {
    fn of(url: &'u str) -> Address<'u> {
        let (scheme, after) = url.split_once("://").unwrap_or(("", url));
        let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        let start = authority.rfind(['@', ']']).map_or(0, |at| at + 1);
        let (host, port) = match authority[start..].find(':') {
            Some(at) => (&authority[..start + at], Some(&authority[start + at + 1..])),
            None => (authority, None),
        };
        let plain = rest.split('#').next().unwrap_or_default();
        let (path, query) = plain.split_once('?').map_or((plain, None), |(path, query)| (path, Some(query)));
        Address { scheme, host, port, rest, path, query }
    }

    fn with_port(&self) -> String {
        let usual = if self.scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
        format!("{}://{}:{}{}", self.scheme, self.host, self.port.unwrap_or(usual), self.rest)
    }

    fn without_port(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.rest)
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

/// Renders the text that a request of our own is signed by; `add` gives what its place has beside the request itself.
pub fn render_own(
    template: &Template,
    request: &Request<'_>,
    add: impl FnOnce(&mut Context),
) -> Result<Vec<u8>, String> {
    let mut context = context(request, "", "");
    let query = request.url.and_then(|url| Address::of(url).query).unwrap_or_default();
    context.set("query_string", query.to_owned());
    add(&mut context);
    template.bytes(&context, request.body)
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
            "url" => bytes.extend_from_slice(request.url?.as_bytes()),
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
        let address = Address::of(url);
        context.set("url", url.to_owned()).set("path", address.path.to_owned());
        context.set("url_with_port", address.with_port()).set("url_without_port", address.without_port());
        let query = request.query();
        context.set_lookup("query", move |name| first(&query, name));
    }
    let headers = request.headers.to_vec();
    context.set_lookup("header", move |name| first(&headers, &name.to_ascii_lowercase()));
    let form: Vec<(String, String)> =
        request.form().into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    context.set("form_sorted", sorted(&form));
    context.set_lookup("form", move |name| first(&form, name));
    let body = request.body.to_vec();
    context.set_lookup("json", move |path| super::verify::json_text(&body, &crate::path::Path::parse(path)?));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<String, String> {
        let headers: Vec<(String, String)> = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let settings = Settings::new();
        let request =
            Request { method: "PUT", url: Some(url), headers: &headers, body: body.as_bytes(), settings: &settings };
        let template = Template::parse(text).expect("a template");
        render(&template, &request, "12", "s").map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn an_address_is_signed_to_the_letter() {
        let url = "https://Hooks.example/a%2Fb?q=it's+%27&e=";
        for (template, wanted) in [
            ("{{ url }}", url),
            ("{{ method }} {{ path }}", "PUT /a%2Fb"),
            ("{{ url_with_port }}", "https://Hooks.example:443/a%2Fb?q=it's+%27&e="),
            ("{{ url_without_port }}", url),
            ("{{ query['q'] }}|{{ query['e'] }}", "it's '|"),
        ] {
            assert_eq!(rendered(template, url, &[], "").as_deref(), Ok(wanted), "{template}");
        }
        for (url, with, without) in [
            ("http://h", "http://h:80", "http://h"),
            ("http://h:8080?a=b", "http://h:8080?a=b", "http://h?a=b"),
            ("https://u:p@h/", "https://u:p@h:443/", "https://u:p@h/"),
            ("https://[::1]:9/x", "https://[::1]:9/x", "https://[::1]/x"),
            ("https://[::1]/x", "https://[::1]:443/x", "https://[::1]/x"),
        ] {
            assert_eq!(rendered("{{ url_with_port }}", url, &[], "").as_deref(), Ok(with));
            assert_eq!(rendered("{{ url_without_port }}", url, &[], "").as_deref(), Ok(without));
        }
    }

    #[test]
    fn fields_are_those_of_a_form_and_sorted_with_their_distinct_values() {
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let body = "b=2&a=z&B=%C3%A9+x&b=1&b=2";
        assert_eq!(rendered("{{ form_sorted }}", "http://h", &form, body).as_deref(), Ok("B\u{e9} xazb1b2"));
        assert_eq!(rendered("{{ form.a }}", "http://h", &[], body).as_deref(), Ok("z"));
        let json = [("content-type", "application/json")];
        assert_eq!(rendered("<{{ form_sorted }}>", "http://h", &json, "{\"a\":1}").as_deref(), Ok("<>"));
    }

    #[test]
    fn members_of_a_json_body_are_read_with_their_digits_and_may_be_absent() {
        let body = r#"{"a":{"n":1.50,"t":"x\ny","none":null},"list":[1]}"#;
        let both =
            "{{ json['.a.n'] }}|{{ json['.a.t'] }}|{{ json['.a.none'] | default('-') }}|{{ json['.b'] | default('') }}";
        assert_eq!(rendered(both, "http://h", &[], body).as_deref(), Ok("1.50|x\ny|-|"));
        let present = "{{ 'S' if json['.a.none'] is defined else 'N' }}";
        assert_eq!(rendered(present, "http://h", &[], body).as_deref(), Ok("N"));
        assert!(rendered("{{ json['.b'] }}", "http://h", &[], body).is_err());
    }
}
