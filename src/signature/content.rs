//! The signed bytes of a request. Contents that only join known parts take a short way; all others go through the template.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use super::verify::Refusal;
use crate::jq::{Json, Vars};
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

    /// The one header of this name. Twice the same: which one is meant is anybody's guess.
    pub(super) fn one_header(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.header_values(name);
        let first = values.next();
        if values.next().is_some() { Err(repeated(HEADER, name)) } else { Ok(first) }
    }

    /// What jq sees of a request whose address has this query. Whoever routes a request reads it here, as whoever verifies it does:
    /// of equal names the first counts.
    pub fn vars(&self, query: &str) -> Vars {
        let cookies = self.header_values("cookie").flat_map(|line| line.split(';'));
        let cookies = cookies.filter_map(|pair| pair.split_once('='));
        Vars {
            settings: Json::from(self.settings),
            headers: object(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            query: object(url::form_urlencoded::parse(query.as_bytes())),
            form: object(self.form()),
            cookies: object(cookies.map(|(name, value)| (name.trim(), value.trim()))),
            ..Vars::default()
        }
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
        url::form_urlencoded::parse(self.raw_query().as_bytes()).into_owned().collect()
    }

    /// The query as it stands in the address.
    pub(super) fn raw_query(&self) -> &'a str {
        self.url.and_then(|url| Address::of(url).query).unwrap_or_default()
    }
}

const HEADER: &str = "header";

fn repeated(kind: &str, name: &str) -> Refusal {
    Refusal::Repeated(format!("{kind} `{name}`"))
}

fn object<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Json {
    let mut seen = HashSet::new();
    let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
    let first = pairs.filter(|(name, _): &(String, String)| seen.insert(name.clone()));
    Json::object(first.map(|(name, value): (String, String)| (name, Json::from(serde_json::Value::from(value)))))
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

/// Renders the signed bytes. A header, field or parameter that they name and that stands there twice is a refusal: one of the two
/// is not signed, and who routes the request might take that one.
pub fn render(template: &Template, request: &Request<'_>, timestamp: &str, secret: &str) -> Result<Vec<u8>, Refusal> {
    if let Some(bytes) = joined(template.text_source(), request, timestamp, secret)? {
        return Ok(bytes);
    }
    let twice = Twice::default();
    let rendered = template.bytes(&context(request, timestamp, secret, &twice), request.body);
    match twice.0.get() {
        Some(refusal) => Err(refusal.clone()),
        None => rendered.map_err(Refusal::MissingContent),
    }
}

/// What a template asked for and found more than once, whatever it then made of it.
#[derive(Clone, Default)]
struct Twice(Arc<OnceLock<Refusal>>);

impl Twice {
    /// Looks names up among these pairs, and remembers one that is there twice.
    fn lookup(
        &self,
        kind: &'static str,
        pairs: Vec<(String, String)>,
    ) -> impl Fn(&str) -> Option<String> + Send + Sync + 'static {
        let twice = self.0.clone();
        move |name| {
            let mut found = pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
            let first = found.next()?;
            if found.next().is_some() {
                twice.get_or_init(|| repeated(kind, name));
            }
            Some(first.clone())
        }
    }
}

/// Renders the text that a request of our own is signed by; `add` gives what its place has beside the request itself.
pub fn render_own(
    template: &Template,
    request: &Request<'_>,
    add: impl FnOnce(&mut Context),
) -> Result<Vec<u8>, String> {
    let mut context = context(request, "", "", &Twice::default());
    context.set("query_string", request.raw_query().to_owned());
    add(&mut context);
    template.bytes(&context, request.body)
}

/// The short way: literals, `{{ body }}`, `{{ timestamp }}`, `{{ secret }}`, `{{ method }}`, `{{ url }}`, `{{ header['x'] }}`.
/// None: it takes the long one.
fn joined(text: &str, request: &Request<'_>, timestamp: &str, secret: &str) -> Result<Option<Vec<u8>>, Refusal> {
    if text.contains("{%") || text.contains("{#") {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(request.body.len() + text.len() + 64);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        bytes.extend_from_slice(before.as_bytes());
        let Some((expression, after)) = after.split_once("}}") else { return Ok(None) };
        let part = match expression.trim() {
            "body" => Some(request.body),
            "timestamp" => Some(timestamp.as_bytes()),
            "secret" => Some(secret.as_bytes()),
            "method" => Some(request.method.as_bytes()),
            "url" => request.url.map(str::as_bytes),
            other => match other.strip_prefix("header['").and_then(|name| name.strip_suffix("']")) {
                Some(name) => request.one_header(name)?.map(str::as_bytes),
                None => None,
            },
        };
        let Some(part) = part else { return Ok(None) };
        bytes.extend_from_slice(part);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(Some(bytes))
}

fn context(request: &Request<'_>, timestamp: &str, secret: &str, twice: &Twice) -> Context {
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
        context.set_lookup("query", twice.lookup("parameter", request.query()));
    }
    let header = twice.lookup(HEADER, request.headers.to_vec());
    context.set_lookup("header", move |name| header(&name.to_ascii_lowercase()));
    let form: Vec<(String, String)> =
        request.form().into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    context.set("form_sorted", sorted(&form));
    context.set_lookup("form", twice.lookup("form field", form));
    let body = request.body.to_vec();
    context.set_lookup("json", move |path| super::verify::json_text(&body, &crate::path::Path::parse(path)?));
    context
}

/// Each distinct name in code point order with its distinct values in order, nothing between them.
fn sorted(form: &[(String, String)]) -> String {
    let pairs: std::collections::BTreeSet<&(String, String)> = form.iter().collect();
    pairs.into_iter().map(|(name, value)| format!("{name}{value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<String, Refusal> {
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

    #[test]
    fn what_the_content_names_and_stands_there_twice_is_refused_whatever_the_template_makes_of_it() {
        let url = "https://h/a?q=1&q=2&r=1";
        let headers = [("x-id", "1"), ("x-id", "1"), ("x-one", "1")];
        let body = "a=1&b=2&%61=1";
        for (template, twice) in [
            ("{{ header['X-Id'] }}.{{ body }}", Some("header `X-Id`")),
            ("{{ header['X-Id'] | upper }}", Some("header `x-id`")),
            ("{{ header['X-Other'] | default(header['x-id']) }}", Some("header `x-id`")),
            ("{{ 'set' if form.a is defined else 'not set' }}", Some("form field `a`")),
            ("{{ query['q'] }}", Some("parameter `q`")),
            ("{{ header['X-One'] }}{{ form.b }}{{ query.r }}", None),
            ("{{ form_sorted }}{{ url }}{{ body }}", None),
        ] {
            let found = rendered(template, url, &headers, body);
            match twice {
                Some(what) => assert_eq!(found, Err(Refusal::Repeated(what.to_owned())), "{template}"),
                None => assert!(found.is_ok(), "{template}: {found:?}"),
            }
        }
    }

    #[test]
    fn jq_sees_of_equal_names_the_first_as_the_signature_does() {
        let headers = [("cookie", "s=1; t=2"), ("x-id", "1"), ("x-id", "2"), ("cookie", "s=3")];
        let headers: Vec<(String, String)> = headers.map(|(n, v)| (n.into(), v.into())).into();
        let settings = Settings::new();
        let request = Request { method: "POST", url: None, headers: &headers, body: b"a=1&a=2", settings: &settings };
        let vars = request.vars("q=1&q=2");
        let jq = crate::jq::Jq::parse(r#"[$headers["x-id"], $query.q, $form.a, $cookies.s, $cookies.t] | join(" ")"#);
        let seen = jq.expect("a filter").first(&Json::default(), &vars).expect("run").expect("a value");
        assert_eq!(seen.as_str(), Some("1 1 1 1 2"));
    }
}
