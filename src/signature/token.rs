//! Compact JSON Web Tokens as signatures: the token is signed, and a claim holds the hash of the body.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::asymmetric::{PrivateKey, PublicKey, PublicKind, Written, public_keys};
use super::verify::Refusal;
use super::{Algorithm, Scheme, SignError};
use crate::model::Timestamp;
use crate::secret::Secret;

/// A token taken apart; nothing of it is believed before its signature is verified.
pub(super) struct Token<'t> {
    algorithm: String,
    pub key_id: Option<String>,
    pub claims: Map<String, Value>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    pub fn read(text: &'t str) -> Result<Token<'t>, Refusal> {
        let malformed = || Refusal::MalformedSignature;
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (head, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let object = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let head = object(head).ok_or_else(malformed)?;
        // An extension that must be understood is one that is not understood here.
        if head.contains_key("crit") {
            return Err(malformed());
        }
        let text = |name: &str| head.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Token {
            algorithm: text("alg").ok_or_else(malformed)?,
            key_id: text("kid"),
            claims: object(claims).ok_or_else(malformed)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?,
        })
    }

    /// A claim as text: a number with its digits.
    pub fn claim(&self, name: &str) -> Option<String> {
        match self.claims.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Which of the keys signed it.
    pub fn matching(&self, scheme: &Scheme, keys: &[Secret], now: Timestamp) -> Result<usize, Refusal> {
        let (mut usable, mut named, mut expired) = (false, false, false);
        for (n, key) in keys.iter().enumerate() {
            for key in public_keys(key.expose(), scheme.key_encoding) {
                usable = true;
                if !self.is_of(&key) {
                    continue;
                }
                named = true;
                if key.is_expired(now) {
                    expired = true;
                } else if self.algorithm == algorithm_of(key.kind)
                    && key.verifies(Algorithm::Sha256, Written::Fixed, self.signed.as_bytes(), &self.signature)
                {
                    return Ok(n);
                }
            }
        }
        Err(match () {
            () if !usable => Refusal::NoKey,
            () if !named => Refusal::UnknownKey,
            () if expired => Refusal::ExpiredKey,
            () => Refusal::WrongSignature,
        })
    }

    /// A key without a name may be any; one with a name is only the one that the token names.
    fn is_of(&self, key: &PublicKey) -> bool {
        match (&self.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        }
    }
}

/// The only algorithm that a key of this kind is used with.
fn algorithm_of(kind: PublicKind) -> &'static str {
    match kind {
        PublicKind::Ed25519 => "EdDSA",
        PublicKind::P256 => "ES256",
        PublicKind::Rsa => "RS256",
    }
}

/// Writes and signs a token of these claims.
pub(super) fn write(scheme: &Scheme, claims: &Map<String, Value>, secret: &Secret) -> Result<String, SignError> {
    let wrong = || SignError::WrongKey(scheme.name.clone());
    let key = PrivateKey::read(secret.expose(), scheme.key_encoding).ok_or_else(wrong)?;
    let head = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, algorithm_of(key.kind()));
    let claims = Value::Object(claims.clone()).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(Algorithm::Sha256, Written::Fixed, signed.as_bytes()).ok_or_else(wrong)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
