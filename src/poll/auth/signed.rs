//! Requests that carry an HMAC of their own content: what the file calls `auth.content`, written as `{{ signature }}` where the
//! request wants it.

use http::HeaderMap;

use super::{RequestFault, Result, text};
use crate::client::Outgoing;
use crate::provider::SignedRequests;
use crate::secret::Secret;
use crate::signature::{self, Algorithm, Encoding};
use crate::source::Source;
use crate::template::{Context, Template};

/// Signs requests.
#[derive(Clone)]
pub(in crate::poll) struct Signer {
    algorithm: Algorithm,
    encoding: Encoding,
    key: std::sync::Arc<[u8]>,
    content: Template,
    settings: serde_json::Map<String, serde_json::Value>,
}

impl Signer {
    pub fn of(spec: &SignedRequests, source: &Source, context: &Context) -> Result<Signer> {
        let secret = Secret::new(text(&spec.key, "auth.key", context)?);
        let key = signature::key_bytes(secret.expose(), spec.key_encoding)
            .ok_or_else(|| RequestFault::new("auth.key", "it is empty, or not written as `key_encoding` says"))?;
        Ok(Signer {
            algorithm: spec.algorithm,
            encoding: spec.encoding,
            key: key.into(),
            content: spec.content.clone(),
            settings: source.settings.clone(),
        })
    }

    pub fn content(&self) -> &str {
        self.content.text_source()
    }

    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The signature of a request that is built but for it; `own`: what the templates of the request had.
    pub fn sign(&self, request: &Outgoing, own: &Context) -> Result<String> {
        let method = request.method.to_string();
        let headers = pairs(&request.headers);
        let request = signature::Request {
            method: &method,
            url: Some(request.url.as_str()),
            headers: &headers,
            body: &request.body,
            settings: &self.settings,
        };
        let content = signature::render_own(&self.content, &request, |context| {
            for name in ["now", "nonce", "secrets"] {
                context.take_from(own, name);
            }
        });
        let content = content.map_err(|reason| RequestFault::new("auth.content", reason))?;
        Ok(signature::encoded(&signature::mac(self.algorithm, &self.key, &content), self.encoding))
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
