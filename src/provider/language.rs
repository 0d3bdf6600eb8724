//! The two small languages where they stand in a file: every filter and template is compiled while the file is read, and a
//! template may name only what its place has.

use chrono_tz::Tz;

use crate::jq::Jq;
use crate::model::Timestamp;
use crate::request::{ANY, Scope, Variables};
use crate::shape::{Value, nearest};
use crate::template::{Template, TimeFormat};

/// A value as jq; a fault at the value when it is none.
pub fn check_jq(value: &Value<'_, '_>) -> Option<Jq> {
    let text = value.text()?;
    match Jq::parse(&text) {
        Ok(jq) => Some(jq),
        Err(error) => {
            value.fault(format!("`{}` is no jq filter: {error}", value.name), None);
            None
        }
    }
}

/// One filter or a list of them.
pub(super) fn check_jqs(value: Value<'_, '_>) -> Vec<Jq> {
    let parts = value.one_or_list();
    parts.iter().filter_map(check_jq).collect()
}

/// A value as a template of any place; a fault at the value when it is none.
pub fn check_template(value: &Value<'_, '_>) -> Option<Template> {
    let text = value.text()?;
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(error) => {
            value.fault(format!("`{}` is no template: {error}", value.name), None);
            None
        }
    }
}

/// The names that the author gave to secrets and settings.
#[derive(Default)]
pub(super) struct Names {
    pub secrets: Vec<String>,
    pub settings: Vec<String>,
}

/// What a template may name, by its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    BaseUrl,
    /// A request of a stream.
    Request,
    /// The request for one record whose absence is doubted.
    Confirm,
    Auth,
    /// Where a token that was got is put, and how a session ends.
    Token,
    /// The request that registers our address.
    Subscribe,
    /// The request for a public key.
    Keys,
    /// What an HMAC over a request of ours covers.
    Signed,
    /// The signed bytes.
    Content,
    /// What `format = "native"` sends.
    Native,
    /// The answer to a challenge.
    Handshake,
}

const PAGE: &[&str] = &["number", "offset", "size", "token", "last_id"];
const EVENT: &[&str] = &["id", "type", "kind", "time", "source", "stream", "key", "revision"];
const INBOUND: &[&str] = &["body", "headers"];
const RUN: &[&str] = &["start"];
const WINDOW: &[&str] = &["start", "end"];

impl Place {
    /// The variables of the place with their members.
    fn variables(self) -> &'static Variables {
        match self {
            Place::BaseUrl => &[("settings", ANY)],
            Place::Request => &[
                ("cursor", ANY),
                ("run", RUN),
                ("window", WINDOW),
                ("parent", ANY),
                ("page", PAGE),
                ("settings", ANY),
                ("secrets", ANY),
                ("token", ANY),
                ("signature", ANY),
                ("nonce", ANY),
                ("now", ANY),
            ],
            Place::Confirm => &[
                ("key", ANY),
                ("record", ANY),
                ("run", RUN),
                ("parent", ANY),
                ("settings", ANY),
                ("secrets", ANY),
                ("token", ANY),
                ("signature", ANY),
                ("nonce", ANY),
                ("now", ANY),
            ],
            Place::Auth => &[("settings", ANY), ("secrets", ANY), ("now", ANY)],
            Place::Token => &[("token", ANY), ("settings", ANY), ("secrets", ANY), ("now", ANY)],
            Place::Subscribe => &[
                ("url", ANY),
                ("secret", ANY),
                ("settings", ANY),
                ("secrets", ANY),
                ("token", ANY),
                ("nonce", ANY),
                ("signature", ANY),
                ("now", ANY),
            ],
            Place::Keys => &[("key_id", ANY), ("settings", ANY), ("secrets", ANY), ("now", ANY)],
            Place::Signed => &[
                ("method", ANY),
                ("url", ANY),
                ("url_with_port", ANY),
                ("url_without_port", ANY),
                ("path", ANY),
                ("query", ANY),
                ("query_string", ANY),
                ("form", ANY),
                ("form_sorted", ANY),
                ("header", ANY),
                ("json", ANY),
                ("body", ANY),
                ("nonce", ANY),
                ("settings", ANY),
                ("secrets", ANY),
                ("now", ANY),
            ],
            Place::Content => &[
                ("body", ANY),
                ("timestamp", ANY),
                ("method", ANY),
                ("url", ANY),
                ("url_with_port", ANY),
                ("url_without_port", ANY),
                ("path", ANY),
                ("form", ANY),
                ("form_sorted", ANY),
                ("query", ANY),
                ("header", ANY),
                ("json", ANY),
                ("settings", ANY),
                ("secret", ANY),
            ],
            Place::Handshake => {
                &[("body", ANY), ("query", ANY), ("form", ANY), ("header", ANY), ("settings", ANY), ("secret", ANY)]
            }
            Place::Native => &[
                ("record", ANY),
                ("event", EVENT),
                ("previous", ANY),
                ("changed", ANY),
                ("settings", ANY),
                ("secret", ANY),
                ("now", ANY),
                ("url", ANY),
                ("attempt", ANY),
                ("inbound", INBOUND),
            ],
        }
    }
}

/// A template of a place: compiled, and every name in it known.
pub(super) fn template(value: &Value<'_, '_>, place: Place, names: &Names) -> Option<Template> {
    let template = check_template(value)?;
    let mut good = true;
    for name in template.names() {
        if let Some((message, help)) = unknown(&name, place, names) {
            value.fault(message, help.as_deref());
            good = false;
        }
    }
    good.then_some(template)
}

/// A template that must not hold `{% %}`.
pub(super) fn plain_template(value: &Value<'_, '_>, place: Place, names: &Names) -> Option<Template> {
    let template = template(value, place, names)?;
    if template.has_blocks() {
        value.fault(format!("`{}` may hold {{{{ }}}} but no {{% %}}", value.name), None);
        return None;
    }
    Some(template)
}

/// What is wrong with a name in a template, and what was meant.
fn unknown(name: &str, place: Place, names: &Names) -> Option<(String, Option<String>)> {
    let given: [(&str, &[String]); 2] = [("secrets", &names.secrets), ("settings", &names.settings)];
    Scope { variables: place.variables(), given: &given, of: "file", naming: "\"what it is\"" }.unknown(name)
}

/// `rfc3339`, `unix`, `unix_ms` or strftime.
pub(super) fn time_format(value: &Value<'_, '_>) -> Option<TimeFormat> {
    let text = value.text()?;
    match TimeFormat::parse(&text) {
        Ok(format) => Some(format),
        Err(error) => {
            let near = nearest(&text, ["rfc3339", "unix", "unix_ms"].into_iter());
            value.fault(format!("`{}`: {error}", value.name), near.map(|n| format!("did you mean `{n}`?")).as_deref());
            None
        }
    }
}

/// A moment: RFC 3339 as text or as a TOML date; without an offset in this zone, or in UTC.
pub(super) fn moment(value: &Value<'_, '_>, zone: Option<Tz>) -> Option<Timestamp> {
    let json = value.json();
    let read = json.as_str().and_then(|text| TimeFormat::Rfc3339.read(text, zone.or(Some(Tz::UTC))).ok());
    read.or_else(|| value.wrong("a time such as 2026-01-31T12:00:00Z"))
}
