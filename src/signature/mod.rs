//! Signatures of webhooks: one description of a [`Scheme`], used both ways: to verify (receive) and to sign (deliver). Pure.

mod content;
mod key;
mod pattern;
mod sign;
mod standard;
mod verify;

use std::time::Duration;

use crate::template::Template;

pub use content::Request;
pub use sign::{Added, SignError};
pub use standard::{ID, SIGNATURE, StandardSigner, TIMESTAMP, standard};
pub use verify::{Refusal, Verified};

/// How a provider signs: where the signature stands, how it looks, which bytes it covers (KEYS rows 72–80).
#[derive(Clone, Debug)]
pub struct Scheme {
    pub name: String,
    pub kind: SchemeKind,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
    pub key_encoding: KeyEncoding,
    pub place: SignaturePlace,
    /// Its look, read and written.
    pub value: ValuePattern,
    /// The signed bytes; of several any may match, the first is used to sign.
    pub content: Vec<Template>,
    pub timestamp: Option<TimestampSpec>,
}

impl Scheme {
    /// Whether the address that the provider was told must be known to verify.
    pub fn needs_url(&self) -> bool {
        let of_url = |name: &String| {
            let first = name.split('.').next().unwrap_or_default();
            matches!(first, "url" | "url_with_port" | "url_without_port" | "path" | "query")
        };
        matches!(self.place, SignaturePlace::Query(_))
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemeKind {
    Hmac,
    /// Plain hash over text that holds the secret.
    Digest,
    /// The secret itself.
    Token,
    Basic,
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
}

/// Where the signature stands; of several names, any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignaturePlace {
    /// A name may end in `*`.
    Header(Vec<String>),
    Form(Vec<String>),
    Query(Vec<String>),
    Json(crate::path::Path),
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
    Json(crate::path::Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    Seconds,
    Millis,
    Rfc3339,
}
