//! How a request shows who asks. A credential is rendered once per load from templates over secrets; what must be got first (OAuth 2,
//! sessions, tokens of our own making) is held in one place for all streams that use it (`holder`), and got by `login`.

mod digest;
mod holder;
mod login;
mod renew;
mod signed;
mod sigv4;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use super::request::{RequestFault, set_own, value_of};
use crate::client::Outgoing;
use crate::model::Timestamp;
use crate::provider::{Auth, KeyPlace, TokenPlace};
use crate::secret::Secret;
use crate::source::Source;
use crate::template::{Context, Template};

pub(super) use holder::{Holder, Pass};
use login::Grantor;
pub(super) use renew::Access;
use signed::Signer;
use sigv4::Keys;

type Result<T> = std::result::Result<T, RequestFault>;

/// A source's credential with its templates rendered. Made once per load; never printed.
#[derive(Clone)]
pub(super) enum Credential {
    None,
    Header {
        name: HeaderName,
        value: HeaderValue,
    },
    Query {
        name: String,
        value: String,
    },
    Cookie {
        name: String,
        value: Secret,
    },
    Digest {
        username: String,
        password: Secret,
    },
    /// Each request is signed by itself.
    Signed(Signer),
    SigV4(Keys),
    /// A token or a session, which must be got first.
    Got(Grantor),
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
            Auth::ApiKey { place, name, value } => put(*place, name, text(value, "auth.value", &context)?),
            Auth::Digest { username, password } => Ok(Credential::Digest {
                username: text(username, "auth.username", &context)?,
                password: Secret::new(text(password, "auth.password", &context)?),
            }),
            Auth::Hmac(spec) => Signer::of(spec, source, &context).map(Credential::Signed),
            Auth::SigV4(spec) => Keys::of(spec, &context).map(Credential::SigV4),
            Auth::OAuth2(_) | Auth::Jwt(_) | Auth::Session(_) => Grantor::of(source, &context).map(Credential::Got),
        }
    }

    /// Puts the credential on a request that is built.
    pub fn apply(&self, request: &mut Outgoing, pass: &Pass, now: Timestamp) -> Result<()> {
        match self {
            Credential::None | Credential::Signed(_) => Ok(()),
            Credential::Header { name, value } => {
                request.headers.insert(name, value.clone());
                Ok(())
            }
            Credential::Query { name, value } => {
                set_query(request, name, value);
                Ok(())
            }
            Credential::Cookie { name, value } => add_cookie(request, name, value.expose()),
            Credential::Digest { username, password } => match &pass.challenge {
                Some((challenge, count)) => {
                    let answer = challenge.answer(username, password.expose(), request, *count)?;
                    request.headers.insert(header::AUTHORIZATION, secret_value(&answer, "auth")?);
                    Ok(())
                }
                // The first request is answered with a challenge.
                None => Ok(()),
            },
            Credential::SigV4(keys) => keys.sign(request, now),
            Credential::Got(grantor) => {
                for (name, value) in &pass.cookies {
                    put_cookie(request, name, value)?;
                }
                match (&grantor.place, &pass.token) {
                    (Some(place), Some(token)) => place_token(request, place, &grantor.context, token),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What signs each request by its content, where that is the way.
    pub fn signer(&self) -> Option<&Signer> {
        match self {
            Credential::Signed(signer) => Some(signer),
            _ => None,
        }
    }

    /// Whose budget it spends: equal for equal credentials on one host, and telling nothing about them.
    pub fn budget_key(&self, source: &Source) -> String {
        let host = source.base_url.as_ref().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let hashed = |name: &str, value: &[u8]| key_of(&[host.as_bytes(), name.as_bytes(), value]);
        match self {
            Credential::None => hashed("", b""),
            Credential::Header { name, value } => hashed(name.as_str(), value.as_bytes()),
            Credential::Query { name, value } => hashed(name, value.as_bytes()),
            Credential::Cookie { name, value } => hashed(name, value.expose().as_bytes()),
            Credential::Digest { username, password } => hashed(username, password.expose().as_bytes()),
            Credential::Signed(signer) => hashed(signer.content(), signer.key()),
            Credential::SigV4(keys) => hashed(&keys.name(), keys.secret_key().as_bytes()),
            Credential::Got(grantor) => hashed("got", grantor.detail.as_bytes()),
        }
    }

    /// Under which what was got is held and kept: equal as long as the grant is the same.
    pub fn holder_key(&self, source: &Source) -> String {
        match self {
            Credential::Got(grantor) => key_of(&[b"grant", grantor.key.as_bytes()]),
            _ => self.budget_key(source),
        }
    }

    /// Secrets in the writing in which they go out, for masking.
    pub fn shown(&self) -> Vec<&str> {
        match self {
            Credential::Query { value, .. } => vec![value],
            Credential::Cookie { value, .. } => vec![value.expose()],
            _ => Vec::new(),
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

/// A hash over parts that cannot run into each other.
fn key_of(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn text(template: &Template, place: &str, context: &Context) -> Result<String> {
    template.text(context).map_err(|reason| RequestFault::new(place, reason))
}

fn authorization(value: &str) -> Result<Credential> {
    Ok(Credential::Header { name: header::AUTHORIZATION, value: secret_value(value, "auth")? })
}

fn put(place: KeyPlace, name: &str, value: String) -> Result<Credential> {
    match place {
        KeyPlace::Header => {
            Ok(Credential::Header { name: header_name(name)?, value: secret_value(&value, "auth.value")? })
        }
        KeyPlace::Query => Ok(Credential::Query { name: name.to_owned(), value }),
        KeyPlace::Cookie => {
            cookie_value(&value)?;
            Ok(Credential::Cookie { name: name.to_owned(), value: Secret::new(value) })
        }
    }
}

/// Puts a token that was got where the file says.
fn place_token(request: &mut Outgoing, place: &TokenPlace, own: &Context, token: &Secret) -> Result<()> {
    let mut context = own.clone();
    context.set("token", token.expose());
    let value = text(&place.value, "auth.value", &context)?;
    match place.place {
        KeyPlace::Header => {
            request.headers.insert(header_name(&place.name)?, secret_value(&value, "auth.value")?);
            Ok(())
        }
        KeyPlace::Query => {
            set_query(request, &place.name, &value);
            Ok(())
        }
        KeyPlace::Cookie => add_cookie(request, &place.name, &value),
    }
}

/// A key in the query replaces one that a next link may already hold.
fn set_query(request: &mut Outgoing, name: &str, value: &str) {
    let others: Vec<(String, String)> =
        request.url.query_pairs().filter(|(known, _)| known != name).map(|(n, v)| (n.into(), v.into())).collect();
    let replaces = others.len() < request.url.query_pairs().count();
    let mut query = request.url.query_pairs_mut();
    if replaces {
        query.clear().extend_pairs(others);
    }
    query.append_pair(name, value);
}

/// Adds a value of our own to the one `Cookie` header that a request has.
fn add_cookie(request: &mut Outgoing, name: &str, value: &str) -> Result<()> {
    cookie_value(value)?;
    put_cookie(request, name, value)
}

/// The same with a value that the provider set: it goes back as it came, whatever stands in it.
fn put_cookie(request: &mut Outgoing, name: &str, value: &str) -> Result<()> {
    let known = request.headers.get(header::COOKIE).and_then(|known| known.to_str().ok());
    let line = known.map_or_else(|| format!("{name}={value}"), |known| format!("{known}; {name}={value}"));
    request.headers.insert(header::COOKIE, secret_value(&line, "auth")?);
    Ok(())
}

fn cookie_value(value: &str) -> Result<()> {
    if value.bytes().any(|b| matches!(b, b';' | b',' | b' ' | b'"' | b'\\') || !b.is_ascii_graphic()) {
        return Err(RequestFault::new(
            "auth.value",
            "what it gives cannot stand in a cookie; encode it, such as with urlencode",
        ));
    }
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| RequestFault::new("auth.name", "that is no name of a header"))
}

fn secret_value(text: &str, place: &str) -> Result<HeaderValue> {
    let mut value = value_of(text).map_err(|reason| RequestFault::new(place, reason))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
