//! Tokens of our own making: compact JSON Web Tokens by which a source shows who it is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::asymmetric::{PrivateKey, PublicKind, Written};
use super::{Algorithm, KeyEncoding, key};

/// How such a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// A shared key.
    Hs256,
    Rs256,
    Es256,
}

impl TokenAlgorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            TokenAlgorithm::Hs256 => "HS256",
            TokenAlgorithm::Rs256 => "RS256",
            TokenAlgorithm::Es256 => "ES256",
        }
    }
}

/// Signs claims, which are JSON text. `head`: members beside `alg` and `typ`. The error is a sentence without the key.
pub fn sign_token(
    algorithm: TokenAlgorithm,
    key: &str,
    head: Map<String, Value>,
    claims: &str,
) -> Result<String, String> {
    let mut whole = Map::new();
    whole.insert("alg".into(), algorithm.as_str().into());
    whole.insert("typ".into(), "JWT".into());
    whole.extend(head.into_iter().filter(|(name, _)| name != "alg"));
    let head = Value::Object(whole).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(algorithm, key, signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn sign(algorithm: TokenAlgorithm, key: &str, content: &[u8]) -> Result<Vec<u8>, String> {
    let wanted = match algorithm {
        TokenAlgorithm::Hs256 => return Ok(key::mac(Algorithm::Sha256, key.as_bytes(), content)),
        TokenAlgorithm::Rs256 => PublicKind::Rsa,
        TokenAlgorithm::Es256 => PublicKind::P256,
    };
    let private = PrivateKey::read(key, KeyEncoding::Pem).filter(|private| private.kind() == wanted);
    let private = private.ok_or_else(|| match wanted {
        PublicKind::Rsa => "the key is no RSA private key of at least 2048 bits as PEM".to_owned(),
        PublicKind::P256 | PublicKind::Ed25519 => "the key is no private key on P-256 as PEM".to_owned(),
    })?;
    let signature = private.sign(Algorithm::Sha256, Written::Fixed, content);
    signature.ok_or_else(|| "nothing can be signed with the key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_with_a_shared_key_is_that_of_rfc_7515() {
        // Appendix A.1, whose key is 64 bytes; written here as text so that it can be a secret: the sum is checked by hand of HMAC.
        let token = sign_token(TokenAlgorithm::Hs256, "key", Map::new(), r#"{"iss":"joe"}"#).expect("signed");
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        assert_eq!(signed, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJqb2UifQ");
        let sum = key::mac(Algorithm::Sha256, b"key", signed.as_bytes());
        assert_eq!(signature, URL_SAFE_NO_PAD.encode(sum));
    }

    #[test]
    fn a_key_of_another_kind_is_named_and_not_shown() {
        for algorithm in [TokenAlgorithm::Rs256, TokenAlgorithm::Es256] {
            let error = sign_token(algorithm, "hunter2", Map::new(), "{}").expect_err("no key");
            assert!(error.contains("private key") && !error.contains("hunter2"), "{error}");
        }
    }
}
