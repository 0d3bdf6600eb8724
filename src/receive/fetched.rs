//! What verifying needs from outside: certificates, kept for a day, and calls that confirm a subscription. Only addresses that the
//! provider file allows come here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

use super::floor::Floor;
use crate::client::{Bounds, Exchange, Outgoing, Over};
use crate::model::{SourceName, Timestamp};
use crate::secret::Secret;

/// By which each source goes out.
pub type Clients = BTreeMap<SourceName, Arc<dyn Exchange>>;

/// The provider waits for our answer meanwhile.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(5), body_max: 64 << 10, over: Over::Error };
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// So long a certificate that could not be had is not asked for again.
const FAILED: Duration = Duration::from_secs(30);
/// Certificates of one source.
const KEPT_MAX: usize = 64;

/// Certificates of each source by their address.
#[derive(Default)]
pub struct Fetched(Mutex<Book>);

#[derive(Default)]
struct Book {
    known: HashMap<SourceName, HashMap<String, Known>>,
    floor: Floor,
}

#[derive(Clone)]
struct Known {
    until: Timestamp,
    /// When it was last asked for.
    used: Timestamp,
    found: Result<Secret, String>,
}

impl Fetched {
    /// The text at an address; what was asked for lately is not asked for again. `fits`: whether a text is what is wanted.
    pub async fn text(
        &self,
        client: &dyn Exchange,
        source: &SourceName,
        url: &Url,
        fits: impl Fn(&Secret) -> bool,
        now: Timestamp,
    ) -> Result<Secret, String> {
        let known = self.book().find(source, url, now);
        if let Some(known) = known.as_ref().filter(|known| known.until > now) {
            return known.found.clone();
        }
        // One that was good stays so while it cannot be asked for anew: its own dates are judged each time.
        let good = known.and_then(|known| known.found.ok());
        if !self.book().floor.may_ask(source, now) {
            return good.ok_or_else(|| "too many were asked for within a minute".to_owned());
        }
        let found = match call(client, url).await {
            Ok(body) => match String::from_utf8(body.to_vec()).map(Secret::new) {
                Ok(text) if fits(&text) => Ok(text),
                Ok(_) | Err(_) => Err("what came is no certificate".to_owned()),
            },
            Err(error) => Err(error),
        };
        let until = now.plus(if found.is_ok() { KEPT } else { FAILED });
        let found = found.or_else(|error| good.ok_or(error));
        self.book().keep(source, url, Known { until, used: now, found: found.clone() });
        found
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn find(&mut self, source: &SourceName, url: &Url, now: Timestamp) -> Option<Known> {
        let known = self.known.get_mut(source)?.get_mut(url.as_str())?;
        known.used = now;
        Some(known.clone())
    }

    /// Whoever may name addresses must not fill the memory with them, nor push out what is good: failures go first, then what was
    /// not used for longest.
    fn keep(&mut self, source: &SourceName, url: &Url, known: Known) {
        let all = self.known.entry(source.clone()).or_default();
        if all.len() >= KEPT_MAX && !all.contains_key(url.as_str()) {
            let least = all.iter().min_by_key(|(_, known)| (known.found.is_ok(), known.used));
            if let Some(url) = least.map(|(url, _)| url.clone()) {
                all.remove(&url);
            }
        }
        all.insert(url.to_string(), known);
    }
}

/// Calls an address; anything but 2xx is a failure. The error holds neither path nor query.
pub async fn call(client: &dyn Exchange, url: &Url) -> Result<Bytes, String> {
    let request = Outgoing { method: Method::GET, url: url.clone(), headers: HeaderMap::new(), body: Bytes::new() };
    let answer = client.exchange(request, BOUNDS).await.map_err(|error| error.to_string())?;
    match answer.status {
        200..=299 => Ok(answer.body),
        status => Err(format!("{} answered {status}", url.host_str().unwrap_or("?"))),
    }
}
