//! Signatures of webhooks: one description of a [`Scheme`], used both ways: to verify (receive) and to sign (deliver). Pure.

mod assertion;
mod asymmetric;
mod certificate;
mod content;
mod key;
mod named;
mod pattern;
mod plain;
mod sign;
mod standard;
mod token;
mod verify;

use std::time::Duration;

use crate::jq::Jq;
use crate::path::Path;
use crate::shape::Tolerance;
use crate::template::Template;

pub use assertion::{TokenAlgorithm, sign_token};
pub use asymmetric::{fresh_pair, public_half};
pub use certificate::allows_host;
pub use content::{Request, render_own};
pub use key::{decode as key_bytes, encode as encoded, mac};
pub use sign::{Added, SignError};
pub use standard::{ID, SIGNATURE, StandardSigner, TIMESTAMP, standard, standard_asymmetric};
pub use verify::{Refusal, Verified};

/// How a provider signs: where the signature stands, how it looks, which bytes it covers (KEYS rows 72–80).
#[derive(Clone, Debug)]
pub struct Scheme {
    pub name: String,
    pub kind: SchemeKind,
    /// To sign with; to verify with, where the request does not name its own.
    pub algorithm: Algorithm,
    /// The request names its algorithm: only these count.
    pub named: Option<NamedAlgorithm>,
    pub encoding: Encoding,
    pub key_encoding: KeyEncoding,
    pub place: SignaturePlace,
    /// The body holds several signed items, each with its own signature: jq over the body. An item is then what `json` and
    /// `body` mean.
    pub each: Option<Jq>,
    /// Its look, read and written.
    pub value: ValuePattern,
    /// The signed bytes; of several any may match, the first is used to sign.
    pub content: Vec<Template>,
    /// A hash of the body that must agree too.
    pub body_hash: Option<BodyHash>,
    pub timestamp: Option<TimestampSpec>,
    /// The key is in a certificate whose address the request names.
    pub certificate: Option<CertificateSpec>,
    /// Its public keys are fetched where none is given; where a request names the one that it means.
    pub fetched: Option<KeyIdPlace>,
    /// What must hold of a signed request beside its signature: where a provider signs for all its customers with one key, that
    /// it is for us. jq over the body.
    pub accept: Option<Jq>,
    /// Headers that are read by their names elsewhere in the provider file, in lower case: twice the same is refused.
    pub once: Vec<String>,
}

impl Scheme {
    /// With another time window; None: its signatures bear no time.
    pub fn within(&self, window: Tolerance) -> Option<Scheme> {
        let mut scheme = self.clone();
        let spec = scheme.timestamp.as_mut()?;
        spec.past = window.past.unwrap_or(spec.past);
        spec.future = window.future.unwrap_or(spec.future);
        Some(scheme)
    }

    /// Whether the address that the provider was told must be known to verify.
    pub fn needs_url(&self) -> bool {
        let of_url = |name: &String| {
            let first = name.split('.').next().unwrap_or_default();
            matches!(first, "url" | "url_with_port" | "url_without_port" | "path" | "query")
        };
        matches!(self.place, SignaturePlace::Query(_))
            || matches!(self.body_hash, Some(BodyHash { place: HashPlace::Query(_), .. }))
            || self.content.iter().any(|template| template.names().iter().any(of_url))
    }

    /// Whether a header of this name (lower case) holds the secret itself, so that it must not be kept.
    pub fn is_secret(&self, header: &str) -> bool {
        match (self.kind, &self.place) {
            (SchemeKind::Token | SchemeKind::Basic, SignaturePlace::Header(names)) => {
                names.iter().any(|name| content::names_header(name, header))
            }
            _ => false,
        }
    }

    /// Whether verifying takes a public key, which is no secret, and signing its private half.
    pub fn is_asymmetric(&self) -> bool {
        match self.kind {
            SchemeKind::Hmac | SchemeKind::Digest | SchemeKind::Token | SchemeKind::Basic => false,
            SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa | SchemeKind::Jwt => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemeKind {
    Hmac,
    /// Plain hash over text that holds the secret.
    Digest,
    /// The secret itself.
    Token,
    Basic,
    Ed25519,
    /// P-256 with SHA-256, the signature in DER.
    Ecdsa,
    /// PKCS#1 v1.5.
    Rsa,
    /// A compact token: ES256, RS256 or EdDSA by the kind of the key, never by what the token says.
    Jwt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    HexAnyCase,
    Base64,
    Base64Url,
}

/// How the key is made from the secret's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEncoding {
    Text,
    Hex,
    Base64,
    /// `whsec_` + base64.
    Whsec,
    /// The SHA-1 of the text.
    Sha1,
    /// `whpk_` + base64 of a raw Ed25519 key; `whsk_` for its private half.
    Whpk,
    Pem,
    /// Base64 of a PEM file.
    PemBase64,
    /// Base64 of a DER SubjectPublicKeyInfo.
    SpkiBase64,
    /// A JSON Web Key, or a set of them.
    Jwk,
}

/// Where the signature stands; of several names, any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignaturePlace {
    /// A name may end in `*`.
    Header(Vec<String>),
    Form(Vec<String>),
    Query(Vec<String>),
    Json(Path),
}

/// `"t={{ timestamp }},v1={{ signature }}"` with its separator, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuePattern {
    pub text: String,
    pub separator: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampSpec {
    /// None: it stands in the signature's value.
    pub place: Option<TimestampPlace>,
    pub unit: TimestampUnit,
    /// How old and how far ahead it may be.
    pub past: Duration,
    pub future: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampPlace {
    Header(String),
    Json(Path),
    /// A claim of a token, such as `iat`.
    Claim(String),
}

/// How a request names its algorithm.
#[derive(Clone, Debug)]
pub struct NamedAlgorithm {
    pub place: NamedPlace,
    /// Names that count, and what they mean. The first is written when signing.
    pub map: Vec<(String, Algorithm)>,
    /// What holds where the request names none; None: such a request is refused.
    pub otherwise: Option<Algorithm>,
}

#[derive(Clone, Debug)]
pub enum NamedPlace {
    /// `{{ algorithm }}` in the signature's value.
    Value,
    Header(String, NamePattern),
    Json(Path),
}

/// Where in a header's value the name stands.
#[derive(Clone, Debug)]
pub enum NamePattern {
    Whole,
    Template(ValuePattern),
    /// jq over the value as text: what a regular expression captures.
    Regex(Jq),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyHash {
    pub place: HashPlace,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPlace {
    /// Sent where the body is no form: the fields of a form are signed themselves.
    Query(String),
    Header(String),
    /// A claim of a token.
    Claim(String),
}

/// Where a request says its certificate is, and which it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    pub place: CertificatePlace,
    /// Hosts it may come from; `*` stands for one label.
    pub hosts: Vec<String>,
    /// What its path must look like; `*` stands for anything.
    pub path: Option<String>,
    /// The name it must be for, with a chain to a trusted root. None: coming from the host is enough.
    pub name: Option<String>,
}

/// Where a request names its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyIdPlace {
    /// The head of its token.
    Token,
    Header(String),
    Json(Path),
    /// It names none: all keys are tried.
    Nowhere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificatePlace {
    Header(String),
    Json(Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    Seconds,
    Millis,
    Rfc3339,
}
