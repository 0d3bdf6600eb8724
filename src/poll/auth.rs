//! How a request shows who asks: none, basic, bearer, or a key in a header or in the query. Built from templates over secrets.
//! Refreshable kinds (OAuth 2, sessions) belong to a later issue.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::request::{RequestFault, set_own, value_of};
use crate::client::Outgoing;
use crate::provider::{Auth, KeyPlace};
use crate::source::Source;
use crate::template::{Context, Template};

type Result<T> = std::result::Result<T, RequestFault>;

/// A source's credential with its templates rendered. Made once per load; never printed.
#[derive(Clone)]
pub(super) enum Credential {
    None,
    Header { name: HeaderName, value: HeaderValue },
    Query { name: String, value: String },
}

impl Credential {
    pub fn of(source: &Source) -> Result<Credential> {
        let mut context = Context::new();
        set_own(&mut context, source);
        match &source.auth {
            Auth::None => Ok(Credential::None),
            Auth::Basic { username, password } => {
                let username = text(username, "auth.username", &context)?;
                if username.contains(':') {
                    return Err(RequestFault::new("auth.username", "a name with a colon cannot be sent as basic"));
                }
                let pair = format!("{username}:{}", text(password, "auth.password", &context)?);
                authorization(&format!("Basic {}", STANDARD.encode(pair)))
            }
            Auth::Bearer { token } => authorization(&format!("Bearer {}", text(token, "auth.token", &context)?)),
            Auth::ApiKey { place: KeyPlace::Header, name, value } => {
                let value = text(value, "auth.value", &context)?;
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| RequestFault::new("auth.name", "that is no name of a header"))?;
                Ok(Credential::Header { name, value: secret_value(&value, "auth.value")? })
            }
            Auth::ApiKey { place: KeyPlace::Query, name, value } => {
                Ok(Credential::Query { name: name.clone(), value: text(value, "auth.value", &context)? })
            }
        }
    }

    /// Puts the credential on a request. A key in the query replaces one that a next link may already hold.
    pub fn apply(&self, request: &mut Outgoing) {
        match self {
            Credential::None => {}
            Credential::Header { name, value } => {
                request.headers.insert(name, value.clone());
            }
            Credential::Query { name, value } => {
                let others: Vec<(String, String)> = request
                    .url
                    .query_pairs()
                    .filter(|(known, _)| known != name)
                    .map(|(n, v)| (n.into(), v.into()))
                    .collect();
                let replaces = others.len() < request.url.query_pairs().count();
                let mut query = request.url.query_pairs_mut();
                if replaces {
                    query.clear().extend_pairs(others);
                }
                query.append_pair(name, value);
            }
        }
    }

    /// Whose budget it spends: equal for equal credentials on one host, and telling nothing about them.
    pub fn budget_key(&self, source: &Source) -> String {
        let host = source.base_url.as_ref().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let (name, value) = match self {
            Credential::None => ("", &b""[..]),
            Credential::Header { name, value } => (name.as_str(), value.as_bytes()),
            Credential::Query { name, value } => (name.as_str(), value.as_bytes()),
        };
        let mut hash = Sha256::new();
        for part in [host.as_bytes(), name.as_bytes(), value] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }

    /// The key as it stands in a query, for masking.
    pub fn in_query(&self) -> Option<&str> {
        match self {
            Credential::Query { value, .. } => Some(value),
            Credential::None | Credential::Header { .. } => None,
        }
    }

    /// Whether the provider can refuse it.
    pub fn is_some(&self) -> bool {
        !matches!(self, Credential::None)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What tells one account of a credential from another: a hash over the source's settings.
pub(super) fn settings_key(source: &Source) -> String {
    let settings = serde_json::Value::Object(source.settings.clone()).to_string();
    hex::encode(&Sha256::digest(settings.as_bytes())[..8])
}

fn text(template: &Template, place: &str, context: &Context) -> Result<String> {
    template.text(context).map_err(|reason| RequestFault::new(place, reason))
}

fn authorization(value: &str) -> Result<Credential> {
    Ok(Credential::Header { name: header::AUTHORIZATION, value: secret_value(value, "auth")? })
}

fn secret_value(text: &str, place: &str) -> Result<HeaderValue> {
    let mut value = value_of(text).map_err(|reason| RequestFault::new(place, reason))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
