//! Standard Webhooks 1.0.0: `v1`, the scheme that handlers get by default, and `v1a` for those who must not be able to sign.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::asymmetric::{PrivateKey, Written};
use super::{
    Algorithm, Encoding, KeyEncoding, Scheme, SchemeKind, SignError, SignaturePlace, TimestampPlace, TimestampSpec,
    TimestampUnit, ValuePattern, key,
};
use crate::model::Timestamp;
use crate::secret::Secret;
use crate::template::Template;

pub const ID: &str = "webhook-id";
pub const TIMESTAMP: &str = "webhook-timestamp";
pub const SIGNATURE: &str = "webhook-signature";

/// How old or how far ahead the reference libraries let a timestamp be.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The scheme as a description, for verifying.
pub fn standard() -> Scheme {
    let content =
        Template::parse("{{ header['webhook-id'] }}.{{ timestamp }}.{{ body }}").expect("a template of ours is valid");
    Scheme {
        name: "standard-webhooks".into(),
        kind: SchemeKind::Hmac,
        algorithm: Algorithm::Sha256,
        named: None,
        encoding: Encoding::Base64,
        key_encoding: KeyEncoding::Whsec,
        place: SignaturePlace::Header(vec![SIGNATURE.into()]),
        each: None,
        value: ValuePattern { text: "v1,{{ signature }}".into(), separator: Some(" ".into()) },
        content: vec![content],
        body_hash: None,
        timestamp: Some(TimestampSpec {
            place: Some(TimestampPlace::Header(TIMESTAMP.into())),
            unit: TimestampUnit::Seconds,
            past: TOLERANCE,
            future: TOLERANCE,
        }),
        certificate: None,
        fetched: None,
        accept: None,
        once: Vec::new(),
    }
}

/// The same with Ed25519: `whpk_…` verifies, `whsk_…` signs.
pub fn standard_asymmetric() -> Scheme {
    Scheme {
        name: "standard-webhooks-v1a".into(),
        kind: SchemeKind::Ed25519,
        key_encoding: KeyEncoding::Whpk,
        value: ValuePattern { text: "v1a,{{ signature }}".into(), separator: Some(" ".into()) },
        ..standard()
    }
}

/// Signs many bodies with the same keys: the first block of a shared secret is hashed once.
#[derive(Clone)]
pub struct StandardSigner {
    keys: Vec<Signer>,
}

#[derive(Clone)]
enum Signer {
    V1(Hmac<Sha256>),
    V1a(Arc<PrivateKey>),
}

impl StandardSigner {
    /// Takes `whsec_…` secrets, which sign `v1`, and `whsk_…` keys, which sign `v1a`; all of them sign.
    pub fn new(secrets: &[Secret]) -> Result<StandardSigner, SignError> {
        let wrong = || SignError::WrongKey("standard-webhooks".into());
        let mut keys = Vec::with_capacity(secrets.len());
        for secret in secrets {
            if secret.expose().starts_with("whsk_") {
                let key = PrivateKey::read(secret.expose(), KeyEncoding::Whpk).ok_or_else(wrong)?;
                keys.push(Signer::V1a(Arc::new(key)));
                continue;
            }
            let bytes = key::decode(secret.expose(), KeyEncoding::Whsec).ok_or_else(wrong)?;
            keys.push(Signer::V1(Hmac::new_from_slice(&bytes).map_err(|_| wrong())?));
        }
        if keys.is_empty() { Err(SignError::NoKey) } else { Ok(StandardSigner { keys }) }
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> String {
        let timestamp = at.unix_seconds().to_string();
        let mut value = String::with_capacity(self.keys.len() * 48);
        for key in &self.keys {
            if !value.is_empty() {
                value.push(' ');
            }
            let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
            match key {
                Signer::V1(key) => {
                    let mut mac = key.clone();
                    parts.iter().for_each(|part| mac.update(part));
                    value.push_str("v1,");
                    STANDARD.encode_string(mac.finalize().into_bytes(), &mut value);
                }
                Signer::V1a(key) => {
                    // An Ed25519 key always signs.
                    let signature = key.sign(Algorithm::Sha256, Written::Der, &parts.concat()).unwrap_or_default();
                    value.push_str("v1a,");
                    STANDARD.encode_string(signature, &mut value);
                }
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Refusal, Request};
    use super::*;

    /// Published facts of the specification's reference implementation.
    const PUBLISHED: [(&str, &str, i64, &str, &str); 2] = [
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ];

    fn verify(
        secrets: &[Secret],
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
        now: i64,
    ) -> Result<(), Refusal> {
        let headers: Vec<(String, String)> = [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .to_vec();
        let settings = serde_json::Map::new();
        let request = Request { method: "POST", url: None, headers: &headers, body, settings: &settings };
        standard().verify(&request, secrets, Timestamp(now * 1000)).map(drop)
    }

    #[test]
    fn the_published_facts_hold_in_both_directions() {
        for (secret, id, at, body, signature) in PUBLISHED {
            let secrets = [Secret::new(secret)];
            let signer = StandardSigner::new(&secrets).expect("a good secret");
            assert_eq!(signer.sign(id, Timestamp(at * 1000), body.as_bytes()), signature);
            assert_eq!(verify(&secrets, id, &at.to_string(), signature, body.as_bytes(), at), Ok(()));
        }
    }

    #[test]
    fn the_official_library_accepts_what_is_signed() {
        let secret = PUBLISHED[0].0;
        let signer = StandardSigner::new(&[Secret::new(PUBLISHED[1].0), Secret::new(secret)]).expect("good secrets");
        let now = crate::clock::Clock::system().now();
        let mut headers = http::HeaderMap::new();
        let insert = |headers: &mut http::HeaderMap, name: &'static str, value: String| {
            headers.insert(name, value.parse().expect("a header value"));
        };
        insert(&mut headers, ID, "evt_1".into());
        insert(&mut headers, TIMESTAMP, now.unix_seconds().to_string());
        insert(&mut headers, SIGNATURE, signer.sign("evt_1", now, b"{}"));
        let judge = standardwebhooks::Webhook::new(secret).expect("a good secret");
        assert!(judge.verify(b"{}", &headers).is_ok());
        assert!(judge.verify(b"{ }", &headers).is_err());
    }

    #[test]
    fn what_the_official_library_signs_is_verified() {
        let (secret, id, at, body, _) = PUBLISHED[1];
        let judge = standardwebhooks::Webhook::new(secret).expect("a good secret");
        let signature = judge.sign(id, at, body.as_bytes()).expect("it signs");
        let mine = [Secret::new(PUBLISHED[0].0), Secret::new(secret)];
        assert_eq!(verify(&mine, id, &at.to_string(), &signature, body.as_bytes(), at), Ok(()));
        assert_eq!(
            verify(&mine[..1], id, &at.to_string(), &signature, body.as_bytes(), at),
            Err(Refusal::WrongSignature)
        );
    }

    #[test]
    fn an_asymmetric_pair_signs_beside_a_secret_and_each_is_verified_by_its_own_key() {
        let (private, public) = super::super::fresh_pair().expect("random bytes");
        let secret = PUBLISHED[0].0;
        let signer = StandardSigner::new(&[Secret::new(private.clone()), Secret::new(secret)]).expect("good keys");
        let value = signer.sign("evt_1", Timestamp(1_000_000), b"{}");
        assert!(value.starts_with("v1a,") && value.contains(" v1,"), "{value}");
        assert_eq!(verify(&[Secret::new(secret)], "evt_1", "1000", &value, b"{}", 1000), Ok(()));
        let headers: Vec<(String, String)> = [(ID, "evt_1"), (TIMESTAMP, "1000"), (SIGNATURE, value.as_str())]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .to_vec();
        let settings = serde_json::Map::new();
        let check = |body: &[u8], key: &str| {
            let request = Request { method: "POST", url: None, headers: &headers, body, settings: &settings };
            standard_asymmetric().verify(&request, &[Secret::new(key)], Timestamp(1_000_000)).map(drop)
        };
        assert_eq!(check(b"{}", &public), Ok(()));
        assert_eq!(check(b"{ }", &public), Err(Refusal::WrongSignature));
        let (_, other) = super::super::fresh_pair().expect("random bytes");
        assert_eq!(check(b"{}", &other), Err(Refusal::WrongSignature));
        assert_eq!(check(b"{}", "whpk_AAAA"), Err(Refusal::NoKey));
        // A pair signs for nobody who thinks it a secret.
        let request = Request { method: "POST", url: None, headers: &headers, body: b"{}", settings: &settings };
        let added =
            standard_asymmetric().sign(&request, &[Secret::new(private)], Timestamp(1_000_000)).expect("signed");
        assert!(value.starts_with(&added.headers[1].1), "Ed25519 signs the same text in the same way");
    }

    #[test]
    fn what_is_stale_changed_or_unsigned_is_refused() {
        let (secret, id, at, body, signature) = PUBLISHED[0];
        let (secrets, time) = ([Secret::new(secret)], at.to_string());
        let check = |id: &str, time: &str, signature: &str, body: &str, now: i64| {
            verify(&secrets, id, time, signature, body.as_bytes(), now)
        };
        assert_eq!(check(id, &time, signature, body, at + 300), Ok(()));
        assert_eq!(check(id, &time, signature, body, at + 301), Err(Refusal::TooOld(Duration::from_secs(1))));
        assert_eq!(check(id, &time, signature, body, at - 301), Err(Refusal::TooNew(Duration::from_secs(1))));
        assert_eq!(check("msg_other", &time, signature, body, at), Err(Refusal::WrongSignature));
        assert_eq!(check(id, &(at + 1).to_string(), signature, body, at), Err(Refusal::WrongSignature));
        assert_eq!(check(id, &time, signature, "{}", at), Err(Refusal::WrongSignature));
        assert_eq!(check(id, &time, "", body, at), Err(Refusal::MissingSignature));
        assert_eq!(check(id, &time, "v2,xx", body, at), Err(Refusal::MalformedSignature));
        assert_eq!(check(id, "soon", signature, body, at), Err(Refusal::WrongSignature));
        assert_eq!(verify(&[], id, &time, signature, body.as_bytes(), at), Err(Refusal::NoKey));
    }
}
