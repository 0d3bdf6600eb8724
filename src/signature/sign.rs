//! Signing: what is to be added to a request so that its receiver can verify it.

use base64::Engine as _;

use super::content::{Request, render};
use super::{Scheme, SchemeKind, SignaturePlace, TimestampPlace, TimestampUnit, key};
use crate::model::Timestamp;
use crate::secret::Secret;

/// What signing adds to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Names as the scheme writes them.
    pub headers: Vec<(String, String)>,
    pub form: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
}

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("there is no key to sign with")]
    NoKey,
    #[error("the key is not of the form that scheme `{0}` needs")]
    WrongKey(String),
    #[error("scheme `{0}` signs inside the JSON body, which cannot be added afterwards")]
    InBody(String),
    #[error("the signed content cannot be made: {0}")]
    Content(String),
}

impl Scheme {
    /// Signs with all keys where the value can hold several signatures, else with the first.
    pub fn sign(&self, request: &Request<'_>, keys: &[Secret], now: Timestamp) -> Result<Added, SignError> {
        let mut added = Added::default();
        let timestamp = self.timestamp.as_ref().map(|spec| written(now, spec.unit)).unwrap_or_default();
        if let Some(TimestampPlace::Header(name)) = self.timestamp.as_ref().and_then(|spec| spec.place.as_ref()) {
            added.headers.push((name.clone(), timestamp.clone()));
        }
        let keys = if self.value.repeats() { keys } else { &keys[..keys.len().min(1)] };
        if keys.is_empty() {
            return Err(SignError::NoKey);
        }
        let mut signatures = Vec::with_capacity(keys.len());
        for secret in keys {
            signatures.push(self.signature(request, secret, &timestamp)?);
        }
        let value = self.value.write(&signatures, &timestamp);
        match &self.place {
            SignaturePlace::Header(names) => added.headers.push((names[0].trim_end_matches('*').to_owned(), value)),
            SignaturePlace::Form(names) => added.form.push((names[0].clone(), value)),
            SignaturePlace::Query(names) => added.query.push((names[0].clone(), value)),
            SignaturePlace::Json(_) => return Err(SignError::InBody(self.name.clone())),
        }
        Ok(added)
    }

    fn signature(&self, request: &Request<'_>, secret: &Secret, timestamp: &str) -> Result<String, SignError> {
        let bytes =
            key::decode(secret.expose(), self.key_encoding).ok_or_else(|| SignError::WrongKey(self.name.clone()))?;
        match self.kind {
            SchemeKind::Token => Ok(secret.expose().to_owned()),
            SchemeKind::Basic => {
                Ok(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(secret.expose())))
            }
            SchemeKind::Hmac | SchemeKind::Digest => {
                let content = self.content.first().ok_or_else(|| SignError::Content("it is not declared".into()))?;
                let content = render(content, request, timestamp, secret.expose()).map_err(SignError::Content)?;
                Ok(key::encode(&self.sum(&bytes, &content), self.encoding))
            }
        }
    }
}

fn written(now: Timestamp, unit: TimestampUnit) -> String {
    match unit {
        TimestampUnit::Seconds => now.unix_seconds().to_string(),
        TimestampUnit::Millis => now.0.to_string(),
        TimestampUnit::Rfc3339 => now.to_string(),
    }
}
