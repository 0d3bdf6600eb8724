//! Public keys that are fetched: the request names one by its id, or the provider shows a whole set. Kept for a day, asked for again
//! when a request names one that is not known, and never so often that a stranger could make us hammer the provider.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::floor::{FLOOR, Floor};
use crate::client::{Bounds, Exchange, Outgoing, Over};
use crate::jq::{Json, Vars};
use crate::model::Timestamp;
use crate::provider::{Action, KeysSpec, Target};
use crate::secret::Secret;
use crate::source::Source;
use crate::template::Context;

/// The provider waits for our answer meanwhile.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(5), body_max: 256 << 10, over: Over::Error };
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A key that there is not is not asked for again so soon.
const UNKNOWN: Duration = Duration::from_secs(300);
const KEPT_MAX: usize = 256;
/// Everything but what RFC 3986 calls unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why there is no key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NoKey {
    /// The provider does not know it: the request is not from there.
    Unknown,
    /// Our own trouble, or the provider's: the request may come again.
    Trouble(String),
}

/// Keys by source and id; no id: the whole set.
#[derive(Default)]
pub(super) struct Keys(Mutex<Book>);

#[derive(Default)]
struct Book {
    known: HashMap<(String, Option<String>), Known>,
    floor: Floor,
}

#[derive(Clone)]
struct Known {
    at: Timestamp,
    found: Option<Secret>,
}

impl Keys {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of this id. `again`: what is known does not verify, so it is asked for anew, if it is not too young for that.
    pub async fn of(
        &self,
        client: &dyn Exchange,
        source: &Source,
        spec: &KeysSpec,
        id: Option<&str>,
        again: bool,
        now: Timestamp,
    ) -> Result<Secret, NoKey> {
        let place = (source.name.to_string(), id.filter(|_| spec.by_id).map(str::to_owned));
        let known = self.book().known.get(&place).cloned();
        if let Some(known) = known {
            let age = now.since(known.at);
            let good = if known.found.is_some() { KEPT } else { UNKNOWN };
            if age < good && (!again || age < FLOOR) {
                return known.found.ok_or(NoKey::Unknown);
            }
        }
        if !self.book().floor.may_ask(&source.name, now) {
            return Err(NoKey::Trouble("too many keys were asked for within a minute".into()));
        }
        let found = fetch(client, source, spec, id, now).await?;
        let mut book = self.book();
        // Whoever may name ids must not fill the memory with them.
        if book.known.len() >= KEPT_MAX {
            book.known.retain(|_, known| known.found.is_some());
            if book.known.len() >= KEPT_MAX {
                book.known.clear();
            }
        }
        book.known.insert(place, Known { at: now, found: found.clone() });
        found.ok_or(NoKey::Unknown)
    }
}

/// None: the provider says that there is no such key.
async fn fetch(
    client: &dyn Exchange,
    source: &Source,
    spec: &KeysSpec,
    id: Option<&str>,
    now: Timestamp,
) -> Result<Option<Secret>, NoKey> {
    let trouble = |reason: String| NoKey::Trouble(reason);
    let request =
        build(source, spec, id, now).map_err(|reason| trouble(format!("the request cannot be built: {reason}")))?;
    let host = request.url.host_str().unwrap_or("?").to_owned();
    let answer = client.exchange(request, BOUNDS).await.map_err(|error| trouble(error.to_string()))?;
    match answer.status {
        200..=299 => {}
        404 | 410 if spec.by_id => return Ok(None),
        _ if spec.by_id && says_unknown(source, answer.status, &answer.body) => return Ok(None),
        // A refused credential, too: that is our trouble, and the request may be genuine.
        status => return Err(trouble(format!("{host} answered {status}"))),
    }
    let text = match &spec.read {
        None => String::from_utf8(answer.body.to_vec()).map_err(|_| trouble("what came is no text".into()))?,
        Some(read) => {
            let json =
                Json::parse(&answer.body).map_err(|reason| trouble(format!("what came is not JSON: {reason}")))?;
            let key = Json::from(id.map_or(serde_json::Value::Null, serde_json::Value::from));
            let vars = Vars { settings: Json::from(&source.settings), key, ..Vars::default() };
            let found = read.all(&json, &vars).map_err(|error| trouble(format!("`keys.read`: {error}")))?;
            texts(&found)
        }
    };
    Ok((!text.trim().is_empty()).then(|| Secret::new(text)))
}

/// Whether the file's `response_actions` call this answer one about something that there is not.
fn says_unknown(source: &Source, status: u16, body: &[u8]) -> bool {
    let json = Json::parse(body).unwrap_or_default();
    let vars = Vars { settings: Json::from(&source.settings), ..Vars::default() };
    let when = |jq: &crate::jq::Jq| jq.truth(&json, &vars).unwrap_or(false);
    let rules = &source.provider.response_actions;
    let found = rules
        .iter()
        .find(|rule| (rule.status.is_empty() || rule.status.contains(&status)) && rule.when.as_ref().is_none_or(when));
    found.is_some_and(|rule| matches!(rule.action, Action::Skip | Action::Empty))
}

/// Texts one below the other, and objects as a set of JSON Web Keys.
fn texts(found: &[Json]) -> String {
    let lines: Vec<&str> = found.iter().filter_map(Json::as_str).collect();
    if !lines.is_empty() {
        return lines.join("\n");
    }
    let objects: Vec<String> = found.iter().filter(|one| one.members().is_some()).map(Json::to_text).collect();
    match objects.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        several => format!("{{\"keys\":[{}]}}", several.join(",")),
    }
}

fn build(source: &Source, spec: &KeysSpec, id: Option<&str>, now: Timestamp) -> Result<Outgoing, String> {
    let mut context = Context::new();
    context.set_value("settings", &serde_json::Value::Object(source.settings.clone()));
    for (name, secret) in &source.secrets {
        context.set(&format!("secrets.{name}"), secret.expose());
    }
    context.set_time("now", now, &source.provider.time_format, source.provider.timezone);
    if let Some(id) = id {
        context.set("key_id", id);
    }
    let own = &spec.request;
    let mut url = match (&own.target, &source.base_url) {
        (Some(Target::Url(template)), _) => Url::parse(&template.text(&context)?).map_err(|_| "that is no URL")?,
        (Some(Target::Path(template)), Some(base)) => {
            let text = format!("{}{}", base.as_str().trim_end_matches('/'), template.segment(&context)?);
            let url = Url::parse(&text).map_err(|_| "that is no path")?;
            if url.origin() != base.origin() {
                return Err("its path leads to another host".into());
            }
            url
        }
        (Some(Target::Path(_)), None) | (None, _) => return Err("the source has no `base_url`".into()),
    };
    let mut query = url.query().unwrap_or_default().to_owned();
    for (name, param) in &own.query {
        for value in param.texts(&context)? {
            let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
            let between = if query.is_empty() { "" } else { "&" };
            query.push_str(&format!("{between}{}={}", encoded(name), encoded(&value)));
        }
    }
    url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
    let (body, kind) = match &own.body {
        Some(body) => body.fill(&context)?,
        None => (Vec::new(), None),
    };
    let mut headers = HeaderMap::new();
    for (name, template) in &own.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "that is no name of a header")?;
        let value = HeaderValue::from_str(&template.text(&context)?);
        headers.insert(name, value.map_err(|_| "a header's value holds a line break or another control character")?);
    }
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    if let Some(kind) = kind {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    }
    let method = match &own.method {
        Some(method) => Method::from_bytes(method.as_bytes()).map_err(|_| "that is no method")?,
        None if own.body.is_some() => Method::POST,
        None => Method::GET,
    };
    Ok(Outgoing { method, url, headers, body: Bytes::from(body) })
}
