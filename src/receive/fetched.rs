//! What verifying needs from outside: certificates, kept for a day, and calls that confirm a subscription. Only addresses that the
//! provider file allows come here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

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
const KEPT_MAX: usize = 64;

/// Certificates by their address.
#[derive(Default)]
pub struct Fetched(Mutex<HashMap<String, Known>>);

#[derive(Clone)]
struct Known {
    until: Timestamp,
    found: Result<Secret, String>,
}

impl Fetched {
    /// The text at an address; what was asked for lately is not asked for again.
    pub async fn text(&self, client: &dyn Exchange, url: &Url, now: Timestamp) -> Result<Secret, String> {
        let known = self.known().get(url.as_str()).filter(|known| known.until > now).cloned();
        if let Some(known) = known {
            return known.found;
        }
        let found = match call(client, url).await {
            Ok(body) => {
                String::from_utf8(body.to_vec()).map(Secret::new).map_err(|_| "what came is no text".to_owned())
            }
            Err(error) => Err(error),
        };
        let until = now.plus(if found.is_ok() { KEPT } else { FAILED });
        let mut all = self.known();
        // Whoever may name addresses must not fill the memory with them.
        if all.len() >= KEPT_MAX {
            all.clear();
        }
        all.insert(url.to_string(), Known { until, found: found.clone() });
        found
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
