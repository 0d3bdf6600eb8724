//! `GET /pull/<handler>`: for handlers that cannot be called and ask instead. A page is the same until the next request acknowledges it
//! by its last position, so a reader that is killed between reading and storing loses nothing. Beside it the public keys of handlers.
//!
//! The listener is one of its own: what may be reached by readers shows neither the dashboard nor the way in for real webhooks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::event_body;
use crate::listener::Caller;
use crate::metrics::Metrics;
use crate::model::{AttemptResult, HandlerName};
use crate::secret::Secret;
use crate::signature;
use crate::store::{Pull, PullPage, Store, StoreError, Topic};

/// Longest wait for a first event.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Events of a page at most, and when nothing is asked for.
const EVENTS_MAX: usize = 1_000;
const EVENTS: usize = 100;
/// Commits of other handlers' deliveries ring too; between two looks there is at least this.
const PAUSE: Duration = Duration::from_millis(10);
const NO_POSITION: &str =
    "`after` must be a position of an earlier answer; without it the page that is out is shown again";
/// How long the public keys may be kept by those who read them.
const KEYS_CACHED: &str = "max-age=300";
/// When a paused handler may ask again.
const CLOSED_FOR: &str = "60";

/// By what a handler that asks is known: either is enough.
struct Known {
    secrets: Vec<Secret>,
    /// Names in its certificate, in lower case.
    clients: Vec<String>,
}

/// Who may ask; and every public key that handlers are signed for with.
#[derive(Default)]
pub struct Readers {
    known: BTreeMap<HandlerName, Known>,
    /// Names of handlers with their public keys.
    keys: Vec<(HandlerName, String)>,
}

impl Readers {
    /// Lets a handler ask that shows one of these secrets, or a certificate with one of these names.
    pub fn admit(&mut self, handler: &HandlerName, secrets: Vec<Secret>, clients: Vec<String>) {
        self.known.insert(handler.clone(), Known { secrets, clients });
    }

    /// Adds a handler's keys that are the private half of a pair.
    pub fn publish(&mut self, handler: &HandlerName, secrets: &[Secret]) {
        self.keys.extend(secrets.iter().filter_map(signature::public_half).map(|key| (handler.clone(), key)));
    }

    /// The document at `/.well-known/webhook-keys`.
    pub fn document(&self) -> String {
        let key = |(handler, key): &(HandlerName, String)| json!({ "handler": handler.as_str(), "algorithm": "ed25519", "signature": "v1a", "key": key });
        json!({ "keys": self.keys.iter().map(key).collect::<Vec<_>>() }).to_string()
    }
}

/// What the requests need.
pub struct Desk {
    store: Arc<dyn Store>,
    metrics: Metrics,
    readers: ArcSwap<Readers>,
    stopping: CancellationToken,
}

impl Desk {
    pub fn new(store: Arc<dyn Store>, metrics: Metrics, readers: Readers) -> Desk {
        Desk { store, metrics, readers: ArcSwap::from_pointee(readers), stopping: CancellationToken::new() }
    }

    /// Answers at once from now on: those who wait for a first event get an empty page.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Takes new readers at a reload.
    pub fn replace(&self, readers: Readers) {
        self.readers.store(Arc::new(readers));
    }
}

/// Pages and public keys.
pub fn router(desk: Arc<Desk>) -> Router {
    let pages = Router::new().route("/pull/{handler}", get(pull)).with_state(desk.clone());
    pages.merge(keys(desk)).fallback(|| async { refused(StatusCode::NOT_FOUND, "there is nothing here") })
}

/// The public keys alone: they may be shown to everybody.
pub fn keys(desk: Arc<Desk>) -> Router {
    Router::new().route("/.well-known/webhook-keys", get(show_keys)).with_state(desk)
}

async fn show_keys(State(desk): State<Arc<Desk>>) -> Response {
    let document = desk.readers.load().document();
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, KEYS_CACHED)], document).into_response()
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    after: Option<i64>,
    max: usize,
    wait: Duration,
}

fn asked(query: &str) -> Result<Asked, String> {
    let mut asked = Asked { after: None, max: EVENTS, wait: Duration::ZERO };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" if value.is_empty() => {}
            "after" => {
                let position = value.parse().ok().filter(|position| *position >= 0);
                asked.after = Some(position.ok_or(NO_POSITION)?);
            }
            "max" => {
                let max = value.parse().ok().filter(|max| (1..=EVENTS_MAX).contains(max));
                asked.max = max.ok_or(format!("`max` must be 1 to {EVENTS_MAX}"))?;
            }
            "wait" => {
                let wait = humantime::parse_duration(&value).map_err(|_| "`wait` must be a duration such as 30s")?;
                asked.wait = wait.min(WAIT_MAX);
            }
            other => return Err(format!("`{other}` is not known here; known: after, max, wait")),
        }
    }
    Ok(asked)
}

async fn pull(
    State(desk): State<Arc<Desk>>,
    Path(handler): Path<String>,
    RawQuery(query): RawQuery,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
) -> Response {
    let handler = HandlerName::from(handler);
    let caller = caller.map(|Extension(caller)| caller);
    let names = caller.as_ref().map_or(&[][..], Caller::names);
    let allowed =
        |known: &Known| names.iter().any(|name| known.clients.contains(name)) || shown(&headers, &known.secrets);
    if !desk.readers.load().known.get(&handler).is_some_and(allowed) {
        // The same for a name that is not there: who may not ask learns no names.
        let who = caller.map_or_else(|| "somebody".to_owned(), |caller| caller.to_string());
        warn!("{who} asked for the events of a handler without its secret or certificate");
        let error = "show the handler's secret (`Authorization: Bearer …`) or its certificate";
        let answer = refused(StatusCode::UNAUTHORIZED, error);
        return ([(WWW_AUTHENTICATE, "Bearer")], answer).into_response();
    }
    let asked = match asked(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error),
    };
    match desk.page(&handler, &asked).await {
        Ok(page) if page.closed => {
            let answer = refused(StatusCode::SERVICE_UNAVAILABLE, "the handler is paused");
            ([(RETRY_AFTER, CLOSED_FOR)], answer).into_response()
        }
        Ok(page) if page.ahead => refused(StatusCode::BAD_REQUEST, NO_POSITION),
        Ok(page) => answer(&page, asked.after),
        Err(StoreError::Conflict | StoreError::Stale) => refused(StatusCode::SERVICE_UNAVAILABLE, "try again"),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn shown(headers: &HeaderMap, secrets: &[Secret]) -> bool {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or_default();
    let equal = |secret: &Secret| bool::from(secret.expose().as_bytes().ct_eq(token.trim().as_bytes()));
    // Every one is looked at, so that the time says nothing.
    let found = secrets.iter().fold(false, |found, secret| equal(secret) | found);
    found && scheme.eq_ignore_ascii_case("bearer")
}

impl Desk {
    async fn page(&self, handler: &HandlerName, asked: &Asked) -> Result<PullPage, StoreError> {
        let deadline = tokio::time::Instant::now() + asked.wait;
        let mut wake = self.store.wake(Topic::Deliveries);
        loop {
            // Ask to be woken before looking, so that an event in between is not missed.
            wake.seen();
            let pull = Pull { handler: handler.clone(), after: asked.after, max: asked.max };
            let page = self.store.pull(pull).await?;
            for _ in 0..page.taken {
                self.metrics.attempt(handler, AttemptResult::Delivered, Duration::ZERO, None);
            }
            if page.taken > 0 {
                info!(handler.name = %handler, events = page.taken, "{handler} took {} events", page.taken);
            }
            let now = tokio::time::Instant::now();
            let over = now >= deadline || self.stopping.is_cancelled();
            if page.closed || page.ahead || !page.events.is_empty() || over {
                return Ok(page);
            }
            let until = page.next_in.map_or(deadline, |due| deadline.min(now + due));
            let rung = async {
                let _ = tokio::time::timeout_at(until, wake.rung()).await;
                tokio::time::sleep(PAUSE).await;
            };
            // Whichever is lost, the next look at the store is by what is there.
            tokio::select! {
                () = rung => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }
}

/// Events as handlers get them, each with its id and position. The bytes of records go out as they were received.
fn answer(page: &PullPage, after: Option<i64>) -> Response {
    let mut body = Vec::from(&b"{\"events\":["[..]);
    for (place, pulled) in page.events.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        let order = pulled.order.map(|order| format!("{order:016x}"));
        body.extend_from_slice(&event_body::in_feed(&pulled.event, pulled.position, order.as_deref(), pulled.replay));
    }
    let cursor = page.events.last().map(|pulled| pulled.position).or(after).or(page.position);
    body.extend_from_slice(format!("],\"cursor\":{}}}", cursor.unwrap_or_default()).as_bytes());
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], Body::from(body)).into_response()
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_and_bounded() {
        let read = |query: &str| asked(query);
        assert_eq!(read(""), Ok(Asked { after: None, max: 100, wait: Duration::ZERO }));
        let wanted = Asked { after: Some(7), max: 5, wait: Duration::from_secs(30) };
        assert_eq!(read("after=7&max=5&wait=30s"), Ok(wanted));
        assert_eq!(read("wait=1h").map(|a| a.wait), Ok(WAIT_MAX));
        assert_eq!(read("after=").map(|a| a.after), Ok(None));
        for wrong in ["after=x", "after=-1", "after=9223372036854775808", "max=0", "max=1001", "wait=soon", "cursor=1"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_handlers_own_secret_opens() {
        let secrets = [Secret::new("new"), Secret::new("old")];
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            shown(&headers, &secrets)
        };
        assert!(check("Bearer new") && check("bearer old"));
        for wrong in ["Bearer ne", "Bearer", "new", "Basic new", "Bearer newold", ""] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(!shown(&HeaderMap::new(), &secrets));
    }
}
