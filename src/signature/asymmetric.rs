//! Public keys that verify and private keys that sign: Ed25519, ECDSA on P-256, RSA. The arithmetic is a library's.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::Value;

use super::{Algorithm, KeyEncoding, SchemeKind};
use crate::certificate::der;
use crate::model::Timestamp;
use crate::secret::Secret;

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub kind: PublicKind,
    /// As the library takes it: raw bits, a point, or an RSAPublicKey.
    bytes: Vec<u8>,
    /// Its name in a set of keys.
    pub id: Option<String>,
    /// Unix seconds from which on it must not be used.
    expires: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublicKind {
    Ed25519,
    P256,
    Rsa,
}

/// How a P-256 signature is written: DER, or two numbers of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Der,
    Fixed,
}

impl PublicKey {
    fn new(kind: PublicKind, bytes: &[u8]) -> PublicKey {
        PublicKey { kind, bytes: bytes.to_vec(), id: None, expires: None }
    }

    /// From a DER SubjectPublicKeyInfo.
    pub fn of_spki(spki: &[u8]) -> Option<PublicKey> {
        let found = der::spki(spki)?;
        let kind = match (found.algorithm, found.curve) {
            (der::OID_ED25519, None) => PublicKind::Ed25519,
            (der::OID_EC, Some(der::OID_P256)) => PublicKind::P256,
            (der::OID_RSA, _) => PublicKind::Rsa,
            _ => return None,
        };
        Some(PublicKey::new(kind, found.bits))
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now.unix_seconds())
    }

    /// Whether this key made the signature.
    pub fn verifies(&self, algorithm: Algorithm, written: Written, content: &[u8], signature: &[u8]) -> bool {
        let by: &'static dyn VerificationAlgorithm = match (self.kind, algorithm, written) {
            (PublicKind::Ed25519, _, _) => &ED25519,
            (PublicKind::P256, Algorithm::Sha256, Written::Der) => &ECDSA_P256_SHA256_ASN1,
            (PublicKind::P256, Algorithm::Sha256, Written::Fixed) => &ECDSA_P256_SHA256_FIXED,
            (PublicKind::P256, Algorithm::Sha1 | Algorithm::Sha384 | Algorithm::Sha512, _) => return false,
            (PublicKind::Rsa, Algorithm::Sha1, _) => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (PublicKind::Rsa, Algorithm::Sha256, _) => &RSA_PKCS1_2048_8192_SHA256,
            (PublicKind::Rsa, Algorithm::Sha384, _) => &RSA_PKCS1_2048_8192_SHA384,
            (PublicKind::Rsa, Algorithm::Sha512, _) => &RSA_PKCS1_2048_8192_SHA512,
        };
        UnparsedPublicKey::new(by, &self.bytes).verify(content, signature).is_ok()
    }
}

/// Whether a scheme can use this kind of key.
pub(super) fn fits(scheme: SchemeKind, key: PublicKind) -> bool {
    match scheme {
        SchemeKind::Ed25519 => key == PublicKind::Ed25519,
        SchemeKind::Ecdsa => key == PublicKind::P256,
        SchemeKind::Rsa => key == PublicKind::Rsa,
        SchemeKind::Jwt => true,
        SchemeKind::Hmac | SchemeKind::Digest | SchemeKind::Token | SchemeKind::Basic => false,
    }
}

/// All public keys in a text. PEM and JSON are recognised by themselves; anything else is read as the scheme says.
pub(super) fn public_keys(text: &str, encoding: KeyEncoding) -> Vec<PublicKey> {
    let text = text.trim();
    if text.contains("-----BEGIN") {
        return of_pem(text.as_bytes());
    }
    if text.starts_with('{') {
        return serde_json::from_str(text).map(|json| of_jwks(&json)).unwrap_or_default();
    }
    let raw = |bytes: Option<Vec<u8>>| bytes.filter(|b| b.len() == 32).map(|b| PublicKey::new(PublicKind::Ed25519, &b));
    let one = match encoding {
        KeyEncoding::Hex => raw(hex::decode(text).ok()),
        KeyEncoding::Base64 => raw(STANDARD.decode(text).ok()),
        KeyEncoding::Whpk => raw(STANDARD.decode(text.strip_prefix("whpk_").unwrap_or(text)).ok()),
        KeyEncoding::SpkiBase64 => STANDARD.decode(text).ok().and_then(|spki| PublicKey::of_spki(&spki)),
        KeyEncoding::PemBase64 => return STANDARD.decode(text).map(|pem| of_pem(&pem)).unwrap_or_default(),
        KeyEncoding::Pem | KeyEncoding::Jwk | KeyEncoding::Text | KeyEncoding::Whsec | KeyEncoding::Sha1 => None,
    };
    one.into_iter().collect()
}

fn of_pem(pem: &[u8]) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> = SubjectPublicKeyInfoDer::pem_slice_iter(pem)
        .filter_map(|spki| PublicKey::of_spki(spki.ok()?.as_ref()))
        .collect();
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    keys.extend(certificates.filter_map(|found| PublicKey::of_spki(der::certificate(&found)?.spki)));
    keys
}

fn of_jwks(json: &Value) -> Vec<PublicKey> {
    match json.get("keys").and_then(Value::as_array) {
        Some(keys) => keys.iter().filter_map(of_jwk).collect(),
        // One key, maybe as an answer holds it.
        None => of_jwk(json.get("key").unwrap_or(json)).into_iter().collect(),
    }
}

fn of_jwk(jwk: &Value) -> Option<PublicKey> {
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
    let mut key = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
        ("EC", Some("P-256")) => {
            let (x, y) = (part("x").filter(|x| x.len() == 32)?, part("y").filter(|y| y.len() == 32)?);
            PublicKey::new(PublicKind::P256, &[&[4], x.as_slice(), y.as_slice()].concat())
        }
        ("OKP", Some("Ed25519")) => PublicKey::new(PublicKind::Ed25519, &part("x").filter(|x| x.len() == 32)?),
        ("RSA", _) => PublicKey::new(PublicKind::Rsa, &der::rsa_public_key(&part("n")?, &part("e")?)),
        _ => return None,
    };
    key.id = jwk["kid"].as_str().map(str::to_owned);
    key.expires = jwk["expired_at"].as_i64();
    Some(key)
}

/// A key that signs.
pub(super) enum PrivateKey {
    Ed25519(Ed25519KeyPair),
    /// PKCS#8 or SEC 1: the way of writing is part of the library's key.
    P256(PrivateKeyDer<'static>),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// From a PEM private key, `whsk_` and base64, or the raw seed in the scheme's encoding.
    pub fn read(text: &str, encoding: KeyEncoding) -> Option<PrivateKey> {
        let text = text.trim();
        if text.contains("-----BEGIN") {
            return PrivateKey::of_der(PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()?);
        }
        let bytes = match encoding {
            KeyEncoding::Hex => hex::decode(text).ok()?,
            KeyEncoding::Whpk => STANDARD.decode(text.strip_prefix("whsk_").unwrap_or(text)).ok()?,
            KeyEncoding::PemBase64 => {
                let pem = STANDARD.decode(text).ok()?;
                return PrivateKey::of_der(PrivateKeyDer::from_pem_slice(&pem).ok()?);
            }
            _ => STANDARD.decode(text).ok()?,
        };
        let pair = match bytes.len() {
            32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
            // The seed and its public half.
            64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
            _ => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes),
        };
        pair.ok().map(PrivateKey::Ed25519)
    }

    fn of_der(der: PrivateKeyDer<'static>) -> Option<PrivateKey> {
        let bytes = der.secret_der();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
            return Some(PrivateKey::Ed25519(pair));
        }
        if p256(&der, Written::Der).is_some() {
            return Some(PrivateKey::P256(der));
        }
        RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes)).ok().map(PrivateKey::Rsa)
    }

    pub fn kind(&self) -> PublicKind {
        match self {
            PrivateKey::Ed25519(_) => PublicKind::Ed25519,
            PrivateKey::P256(_) => PublicKind::P256,
            PrivateKey::Rsa(_) => PublicKind::Rsa,
        }
    }

    /// None: the algorithm is not one that this key signs with.
    pub fn sign(&self, algorithm: Algorithm, written: Written, content: &[u8]) -> Option<Vec<u8>> {
        match self {
            PrivateKey::Ed25519(pair) => Some(pair.sign(content).as_ref().to_vec()),
            PrivateKey::P256(der) if algorithm == Algorithm::Sha256 => {
                let signature = p256(der, written)?.sign(&SystemRandom::new(), content).ok()?;
                Some(signature.as_ref().to_vec())
            }
            PrivateKey::P256(_) => None,
            PrivateKey::Rsa(pair) => {
                let by: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::Sha1 => return None,
                    Algorithm::Sha256 => &RSA_PKCS1_SHA256,
                    Algorithm::Sha384 => &RSA_PKCS1_SHA384,
                    Algorithm::Sha512 => &RSA_PKCS1_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(by, &SystemRandom::new(), content, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

fn p256(der: &PrivateKeyDer<'_>, written: Written) -> Option<EcdsaKeyPair> {
    let by = match written {
        Written::Der => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Written::Fixed => &ECDSA_P256_SHA256_FIXED_SIGNING,
    };
    let bytes = der.secret_der();
    EcdsaKeyPair::from_pkcs8(by, bytes).or_else(|_| EcdsaKeyPair::from_private_key_der(by, bytes)).ok()
}

/// A fresh pair for Standard Webhooks `v1a`: `whsk_…` signs, `whpk_…` verifies. None: the system gives no random bytes.
pub fn fresh_pair() -> Option<(String, String)> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).ok()?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
    let public = pair.public_key().as_ref();
    let private = STANDARD.encode([&seed, public].concat());
    Some((format!("whsk_{private}"), format!("whpk_{}", STANDARD.encode(public))))
}

/// The public half, `whpk_…`, of a private key `whsk_…`; None for every other secret.
pub fn public_half(secret: &Secret) -> Option<String> {
    let bytes = STANDARD.decode(secret.expose().strip_prefix("whsk_")?).ok()?;
    let pair = Ed25519KeyPair::from_seed_unchecked(bytes.get(..32)?).ok()?;
    Some(format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref())))
}
