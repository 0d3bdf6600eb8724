//! Verifying: is this request signed by one of these keys, and recently?

use std::time::Duration;

use super::asymmetric::{Written, fits, public_keys};
use super::content::{Request, render};
use super::pattern::Offered;
use super::plain::each_once;
use super::token::Token;
use super::{
    Algorithm, BodyHash, Encoding, HashPlace, KeyIdPlace, Scheme, SchemeKind, SignaturePlace, TimestampPlace,
    TimestampUnit, key,
};
use crate::jq::{Json, Vars};
use crate::model::Timestamp;
use crate::secret::Secret;

/// A request that is what it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// When it was signed, where the scheme says.
    pub timestamp: Option<Timestamp>,
    /// Which of the keys matched.
    pub key: usize,
}

/// Why a request is refused. Plain sentences; they hold neither body nor secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the signature is missing")]
    MissingSignature,
    #[error("the signature has not the form of this scheme")]
    MalformedSignature,
    #[error("the signature is given more than once")]
    SeveralSignatures,
    #[error("the signature does not match: wrong secret, or the body was changed on its way")]
    WrongSignature,
    #[error("{0} is given more than once, and only one of them can be meant")]
    Repeated(String),
    #[error("it is signed, but not for this source: the scheme's `accept` refuses it")]
    NotOurs,
    #[error("the timestamp is missing")]
    MissingTimestamp,
    #[error("the timestamp cannot be read")]
    MalformedTimestamp,
    #[error("the timestamp is too old by {}", humantime::format_duration(*.0))]
    TooOld(Duration),
    #[error("the timestamp lies too far in the future by {}", humantime::format_duration(*.0))]
    TooNew(Duration),
    #[error("there is no key to verify with, or it is not of the form that this scheme needs")]
    NoKey,
    #[error("what the signature covers is not in the request: {0}")]
    MissingContent(String),
    #[error("the request names no algorithm that this scheme allows")]
    UnknownAlgorithm,
    #[error("the hash of the body is missing, so that nothing covers the body")]
    MissingBodyHash,
    #[error("the hash of the body does not match: the body was changed on its way")]
    WrongBodyHash,
    #[error("the request names a key that is not among ours")]
    UnknownKey,
    #[error("the key that the request names has expired")]
    ExpiredKey,
    #[error("the certificate is refused: {0}")]
    Certificate(String),
}

impl Refusal {
    /// Whether another clock than ours would judge otherwise.
    pub fn rests_on_time(&self) -> bool {
        matches!(self, Refusal::TooOld(_) | Refusal::TooNew(_) | Refusal::ExpiredKey | Refusal::Certificate(_))
    }

    /// A word for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Refusal::MissingSignature | Refusal::MalformedSignature | Refusal::SeveralSignatures => "no_signature",
            Refusal::WrongSignature
            | Refusal::Repeated(_)
            | Refusal::NotOurs
            | Refusal::NoKey
            | Refusal::MissingContent(_)
            | Refusal::UnknownAlgorithm
            | Refusal::MissingBodyHash
            | Refusal::WrongBodyHash
            | Refusal::UnknownKey
            | Refusal::ExpiredKey
            | Refusal::Certificate(_) => "bad_signature",
            Refusal::MissingTimestamp | Refusal::MalformedTimestamp | Refusal::TooOld(_) | Refusal::TooNew(_) => {
                "bad_timestamp"
            }
        }
    }
}

impl Scheme {
    /// Verifies a request against keys that are all in force: secrets, or public keys where the scheme is asymmetric.
    pub fn verify(&self, request: &Request<'_>, keys: &[Secret], now: Timestamp) -> Result<Verified, Refusal> {
        self.is_plain(request)?;
        let verified = self.verify_all(request, keys, now)?;
        // Judged last: who cannot sign learns nothing of what we accept.
        match &self.accept {
            Some(accept) if !self.is_ours(accept, request) => Err(Refusal::NotOurs),
            _ => Ok(verified),
        }
    }

    fn verify_all(&self, request: &Request<'_>, keys: &[Secret], now: Timestamp) -> Result<Verified, Refusal> {
        let Some(each) = &self.each else { return self.verify_one(request, keys, now) };
        let body = Json::parse(request.body).map_err(|_| Refusal::MissingSignature)?;
        let found = each.all(&body, &Vars::default()).map_err(|error| Refusal::MissingContent(error.to_string()))?;
        let items = found.into_iter().flat_map(|item| item.items().unwrap_or_else(|| vec![item]));
        let mut verified = Err(Refusal::MissingSignature);
        // One item that is not signed spoils the whole message.
        for item in items {
            verified = Ok(self.verify_one(&Request { body: item.to_text().as_bytes(), ..*request }, keys, now)?);
        }
        verified
    }

    /// The id of the key that a request says it was signed with, where it says one. Nothing of it is believed.
    pub fn key_id(&self, request: &Request<'_>) -> Result<Option<String>, Refusal> {
        let id = match &self.fetched {
            None | Some(KeyIdPlace::Nowhere) => None,
            Some(KeyIdPlace::Header(name)) => request.one_header(name)?.map(str::to_owned),
            Some(KeyIdPlace::Json(path)) => json_text(request.body, path),
            Some(KeyIdPlace::Token) => {
                let values = self.values(request)?;
                let found = values.iter().flat_map(|value| self.value.read(value, request.settings).signatures).next();
                let found = found.ok_or(Refusal::MalformedSignature)?;
                Token::read(&found.text)?.key_id
            }
        };
        let plain = |id: &String| !id.is_empty() && id.len() <= 256 && id.bytes().all(|b| b.is_ascii_graphic());
        if id.as_ref().is_some_and(|id| !plain(id)) { Err(Refusal::UnknownKey) } else { Ok(id) }
    }

    fn verify_one(&self, request: &Request<'_>, keys: &[Secret], now: Timestamp) -> Result<Verified, Refusal> {
        // Where the certificate may come from is asked whether or not there is one already.
        self.certificate_url(request)?;
        let values = self.values(request)?;
        let mut signatures = Vec::new();
        let (mut in_value, mut algorithm) = (None, None);
        for value in &values {
            let found = self.value.read(value, request.settings);
            signatures.extend(found.signatures);
            in_value = in_value.or(found.timestamp);
            algorithm = algorithm.or(found.algorithm);
        }
        signatures.retain(|signature| !signature.text.is_empty());
        if signatures.is_empty() {
            return Err(Refusal::MalformedSignature);
        }
        if self.kind == SchemeKind::Jwt {
            return self.verify_token(request, &signatures[0].text, keys, now);
        }
        for signature in &mut signatures {
            signature.algorithm = signature.algorithm.take().or_else(|| algorithm.clone());
        }
        let timestamp = self.timestamp_of(request, in_value)?;
        let key = self.matching(request, keys, &signatures, timestamp.as_deref().unwrap_or_default(), now)?;
        if let Some(hash) = &self.body_hash {
            hash.check(request, None)?;
        }
        // Age is judged last: an attacker learns nothing from a stale request that was not signed.
        let at = timestamp.map(|text| self.in_time(&text, now)).transpose()?;
        Ok(Verified { timestamp: at, key })
    }

    fn verify_token(
        &self,
        request: &Request<'_>,
        text: &str,
        keys: &[Secret],
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let token = Token::read(text)?;
        let key = token.matching(self, keys, now)?;
        if let Some(hash) = &self.body_hash {
            hash.check(request, Some(&token))?;
        }
        let bound = |name: &str| token.claims.get(name).and_then(serde_json::Value::as_i64);
        if let Some(end) = bound("exp").filter(|end| *end <= now.unix_seconds()) {
            return Err(Refusal::TooOld(Duration::from_secs(now.unix_seconds().abs_diff(end))));
        }
        if let Some(start) = bound("nbf").filter(|start| *start > now.unix_seconds()) {
            return Err(Refusal::TooNew(Duration::from_secs(now.unix_seconds().abs_diff(start))));
        }
        let in_claim = |spec: &super::TimestampSpec| match &spec.place {
            Some(TimestampPlace::Claim(name)) => token.claim(name),
            _ => None,
        };
        let timestamp = self.timestamp_of(request, self.timestamp.as_ref().and_then(in_claim))?;
        let at = timestamp.map(|text| self.in_time(&text, now)).transpose()?;
        Ok(Verified { timestamp: at, key })
    }

    pub(super) fn values(&self, request: &Request<'_>) -> Result<Vec<String>, Refusal> {
        let values: Vec<String> = match &self.place {
            SignaturePlace::Header(names) => {
                let values = |name: &String| request.header_values(name).map(str::to_owned).collect::<Vec<_>>();
                each_once(names, values)?
            }
            SignaturePlace::Form(names) => {
                let form = request.form();
                each_once(names, |name| form.iter().filter(|(n, _)| n == name).map(|(_, v)| v.to_string()).collect())?
            }
            SignaturePlace::Query(names) => {
                let query = request.query();
                each_once(names, |name| query.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect())?
            }
            SignaturePlace::Json(path) => json_text(request.body, path).into_iter().collect(),
        };
        if values.iter().all(String::is_empty) { Err(Refusal::MissingSignature) } else { Ok(values) }
    }

    fn timestamp_of(&self, request: &Request<'_>, in_value: Option<String>) -> Result<Option<String>, Refusal> {
        let Some(spec) = &self.timestamp else { return Ok(None) };
        let text = match &spec.place {
            None | Some(TimestampPlace::Claim(_)) => in_value,
            Some(TimestampPlace::Header(name)) => request.one_header(name)?.map(str::to_owned),
            Some(TimestampPlace::Json(path)) => json_text(request.body, path),
        };
        text.filter(|text| !text.is_empty()).map(Some).ok_or(Refusal::MissingTimestamp)
    }

    fn matching(
        &self,
        request: &Request<'_>,
        keys: &[Secret],
        signatures: &[Offered],
        timestamp: &str,
        now: Timestamp,
    ) -> Result<usize, Refusal> {
        let mut refusal = Refusal::NoKey;
        for (n, secret) in keys.iter().enumerate() {
            let matches = match self.kind {
                SchemeKind::Token => Ok(signatures.iter().any(|s| key::equal(&s.text, secret.expose()))),
                SchemeKind::Basic => {
                    let wanted = key::encode(secret.expose().as_bytes(), Encoding::Base64);
                    Ok(signatures.iter().filter_map(|s| basic(&s.text)).any(|offered| key::equal(offered, &wanted)))
                }
                SchemeKind::Hmac | SchemeKind::Digest => self.by_secret(request, secret, signatures, timestamp),
                SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa => {
                    self.by_public_key(request, secret, signatures, timestamp, now)
                }
                // A token is judged by itself.
                SchemeKind::Jwt => Ok(false),
            };
            match matches {
                // An empty secret is none: anybody could send it.
                Ok(true) if !secret.expose().is_empty() => return Ok(n),
                Ok(_) if secret.expose().is_empty() => {}
                Ok(_) => refusal = Refusal::WrongSignature,
                Err(Refusal::NoKey) => {}
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }

    fn by_secret(
        &self,
        request: &Request<'_>,
        secret: &Secret,
        signatures: &[Offered],
        timestamp: &str,
    ) -> Result<bool, Refusal> {
        let bytes = key::decode(secret.expose(), self.key_encoding).ok_or(Refusal::NoKey)?;
        let mut fault = None;
        for content in self.contents(request, timestamp, secret.expose()) {
            match content {
                Err(repeated @ Refusal::Repeated(_)) => return Err(repeated),
                Err(missing) => fault = Some(missing),
                Ok(content) => {
                    for offered in signatures {
                        match self.algorithm_of(request, offered.algorithm.as_deref()) {
                            Ok(algorithm) => {
                                let wanted = self.sum(algorithm, &bytes, &content);
                                if key::same(&offered.text, &wanted, self.encoding) {
                                    return Ok(true);
                                }
                            }
                            Err(refusal) => fault = Some(refusal),
                        }
                    }
                }
            }
        }
        fault.map_or(Ok(false), Err)
    }

    fn by_public_key(
        &self,
        request: &Request<'_>,
        text: &Secret,
        signatures: &[Offered],
        timestamp: &str,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let keys = match &self.certificate {
            Some(spec) => vec![spec.key(text.expose(), now)?],
            None => public_keys(text.expose(), self.key_encoding),
        };
        let keys: Vec<_> = keys.into_iter().filter(|key| fits(self.kind, key.kind)).collect();
        if keys.is_empty() {
            return Err(Refusal::NoKey);
        }
        for content in self.contents(request, timestamp, "") {
            let content = content?;
            for offered in signatures {
                let algorithm = self.algorithm_of(request, offered.algorithm.as_deref())?;
                let Some(signature) = key::read(&offered.text, self.encoding) else { continue };
                if keys.iter().any(|key| key.verifies(algorithm, Written::Der, &content, &signature)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn contents(
        &self,
        request: &Request<'_>,
        timestamp: &str,
        secret: &str,
    ) -> impl Iterator<Item = Result<Vec<u8>, Refusal>> {
        self.content.iter().map(move |content| render(content, request, timestamp, secret))
    }

    pub(super) fn sum(&self, algorithm: Algorithm, key_bytes: &[u8], content: &[u8]) -> Vec<u8> {
        match self.kind {
            SchemeKind::Hmac => key::mac(algorithm, key_bytes, content),
            _ => key::digest(algorithm, content),
        }
    }

    /// What tells one signed message from another: the signed bytes with their timestamp. Where the signature covers nothing but
    /// itself (a token) it is the body; where it is a token of claims, that comes first.
    pub fn signed(&self, request: &Request<'_>) -> Vec<u8> {
        let values = self.values(request).unwrap_or_default();
        let in_value = values.iter().find_map(|value| self.value.read(value, request.settings).timestamp);
        let timestamp = self.timestamp_of(request, in_value).ok().flatten().unwrap_or_default();
        let mut signed = timestamp.clone().into_bytes();
        if self.kind == SchemeKind::Jwt {
            // Without its signature: of some kinds there are several that fit.
            let claims = values.iter().map(|value| value.rsplit_once('.').map_or(value.as_str(), |(claims, _)| claims));
            signed.extend(claims.collect::<String>().into_bytes());
        }
        // So that no timestamp runs into what follows it.
        signed.push(0);
        let covers_nothing =
            matches!(self.kind, SchemeKind::Token | SchemeKind::Basic | SchemeKind::Jwt) || self.each.is_some();
        let content = if covers_nothing { None } else { self.contents(request, &timestamp, "").find_map(Result::ok) };
        signed.extend(content.unwrap_or_else(|| request.body.to_vec()));
        signed
    }

    fn in_time(&self, text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
        let Some(spec) = &self.timestamp else { return Err(Refusal::MissingTimestamp) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let at = match spec.unit {
            TimestampUnit::Seconds if digits => {
                text.parse::<i64>().ok().and_then(|s| s.checked_mul(1000)).map(Timestamp)
            }
            TimestampUnit::Millis if digits => text.parse().ok().map(Timestamp),
            TimestampUnit::Seconds | TimestampUnit::Millis => None,
            TimestampUnit::Rfc3339 => chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.to_utc().into()),
        };
        let at = at.ok_or(Refusal::MalformedTimestamp)?;
        let (age, ahead) = (now.since(at), at.since(now));
        // Whole seconds are compared as whole seconds: what is signed at .0 is not older for having been sent at .9.
        let age = if spec.unit == TimestampUnit::Seconds { Duration::from_secs(age.as_secs()) } else { age };
        if age > spec.past {
            return Err(Refusal::TooOld(age - spec.past));
        }
        if ahead > spec.future {
            return Err(Refusal::TooNew(ahead - spec.future));
        }
        Ok(at)
    }
}

impl BodyHash {
    /// The hash as it is written.
    pub(super) fn of(&self, body: &[u8]) -> String {
        key::encode(&key::digest(self.algorithm, body), self.encoding)
    }

    /// Whether a request needs this hash: the fields of a form are signed themselves, and no body needs none.
    pub(super) fn is_needed(&self, request: &Request<'_>) -> bool {
        match self.place {
            HashPlace::Query(_) => !request.body.is_empty() && !request.is_form(),
            HashPlace::Header(_) | HashPlace::Claim(_) => true,
        }
    }

    fn check(&self, request: &Request<'_>, token: Option<&Token<'_>>) -> Result<(), Refusal> {
        let given = match &self.place {
            HashPlace::Query(name) => {
                let mut found = request.query().into_iter().filter(|(n, _)| n == name).map(|(_, value)| value);
                let first = found.next();
                if found.next().is_some() {
                    return Err(Refusal::Repeated(format!("parameter `{name}`")));
                }
                first
            }
            HashPlace::Header(name) => request.one_header(name)?.map(str::to_owned),
            HashPlace::Claim(name) => token.and_then(|token| token.claim(name)),
        };
        match given {
            None if self.is_needed(request) => Err(Refusal::MissingBodyHash),
            None => Ok(()),
            Some(given) if key::same(&given, &key::digest(self.algorithm, request.body), self.encoding) => Ok(()),
            Some(_) => Err(Refusal::WrongBodyHash),
        }
    }
}

/// What follows `Basic`, whose case does not matter.
fn basic(value: &str) -> Option<&str> {
    let (name, credentials) = value.split_once(' ')?;
    name.eq_ignore_ascii_case("basic").then_some(credentials)
}

/// A text, number, true or false of a JSON body; numbers with their digits.
pub(super) fn json_text(body: &[u8], path: &crate::path::Path) -> Option<String> {
    let picked = crate::path::pick(std::str::from_utf8(body).ok()?, &[path]).ok()?;
    let raw = picked.into_iter().next().flatten()?.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(raw.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, KeyEncoding, TimestampSpec, ValuePattern};
    use super::*;
    use crate::jq::Jq;
    use crate::template::Template;

    const NOW: Timestamp = Timestamp(1_760_000_000_000);

    fn scheme(kind: SchemeKind, encoding: Encoding) -> Scheme {
        Scheme {
            name: "x".into(),
            kind,
            algorithm: Algorithm::Sha256,
            named: None,
            encoding,
            key_encoding: KeyEncoding::Text,
            place: SignaturePlace::Header(vec!["X-Signature".into()]),
            each: None,
            value: ValuePattern::plain(),
            content: vec![Template::parse("{{ body }}").expect("a template")],
            body_hash: None,
            timestamp: None,
            certificate: None,
            fetched: None,
            accept: None,
            once: Vec::new(),
        }
    }

    fn verdict(scheme: &Scheme, headers: &[(&str, &str)], body: &[u8], keys: &[&str]) -> Result<usize, Refusal> {
        let headers: Vec<(String, String)> = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let settings = serde_json::Map::new();
        let request = Request { method: "POST", url: None, headers: &headers, body, settings: &settings };
        let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
        scheme.verify(&request, &keys, NOW).map(|verified| verified.key)
    }

    #[test]
    fn an_encoding_is_compared_as_it_is_written() {
        let sum = key::mac(Algorithm::Sha256, b"k", b"{}");
        let (hex, base64, url) = (
            key::encode(&sum, Encoding::Hex),
            key::encode(&sum, Encoding::Base64),
            key::encode(&sum, Encoding::Base64Url),
        );
        assert_ne!(hex, hex.to_uppercase());
        for (encoding, offered, good) in [
            (Encoding::Hex, hex.clone(), true),
            (Encoding::Hex, hex.to_uppercase(), false),
            (Encoding::HexAnyCase, hex.to_uppercase(), true),
            (Encoding::HexAnyCase, hex[2..].to_owned(), false),
            (Encoding::Base64, base64.clone(), true),
            (Encoding::Base64, base64.trim_end_matches('=').to_owned(), false),
            (Encoding::Base64, hex.clone(), false),
            (Encoding::Base64Url, url, true),
            (Encoding::Hex, format!(" {hex}"), false),
            (Encoding::Hex, format!("{hex}\u{e9}"), false),
            (Encoding::Hex, "\u{fffd}".repeat(64), false),
        ] {
            let found = verdict(&scheme(SchemeKind::Hmac, encoding), &[("x-signature", &offered)], b"{}", &["k"]);
            assert_eq!(found, if good { Ok(0) } else { Err(Refusal::WrongSignature) }, "{encoding:?} {offered}");
        }
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        let hmac = scheme(SchemeKind::Hmac, Encoding::Hex);
        let good = key::encode(&key::mac(Algorithm::Sha256, b"k", b"{}"), Encoding::Hex);
        let twice = [("x-signature", good.as_str()), ("x-signature", good.as_str())];
        assert_eq!(verdict(&hmac, &twice[..1], b"{}", &["old", "k"]), Ok(1), "every key in force is tried");
        for (headers, keys, reason) in [
            (&[][..], &["k"][..], Refusal::MissingSignature),
            (&[("x-signature", "")], &["k"], Refusal::MissingSignature),
            (&[("x-other", &good)], &["k"], Refusal::MissingSignature),
            (&twice, &["k"], Refusal::SeveralSignatures),
            (&twice[..1], &["j"], Refusal::WrongSignature),
            (&twice[..1], &[], Refusal::NoKey),
            (&twice[..1], &[""], Refusal::NoKey),
        ] {
            assert_eq!(verdict(&hmac, headers, b"{}", keys), Err(reason), "{headers:?} {keys:?}");
        }
        let whsec = Scheme { key_encoding: KeyEncoding::Whsec, ..hmac };
        assert_eq!(verdict(&whsec, &twice[..1], b"{}", &["whsec_not base64"]), Err(Refusal::NoKey));
    }

    #[test]
    fn what_tells_a_token_from_another_is_what_is_signed_and_not_its_signature() {
        let jwt = Scheme { content: Vec::new(), ..scheme(SchemeKind::Jwt, Encoding::Hex) };
        let settings = serde_json::Map::new();
        let signed = |token: &str| {
            let headers = vec![("x-signature".to_owned(), token.to_owned())];
            let request = Request { method: "POST", url: None, headers: &headers, body: b"{}", settings: &settings };
            jwt.signed(&request)
        };
        assert_eq!(signed("head.claims.one"), signed("head.claims.other"));
        assert_ne!(signed("head.claims.one"), signed("head.others.one"));
    }

    #[test]
    fn what_is_signed_by_its_members_has_each_of_them_once() {
        let members = Scheme {
            place: SignaturePlace::Json(crate::path::Path::parse(".sum").expect("a path")),
            content: vec![Template::parse("{{ json['.a'] }}").expect("a template")],
            ..scheme(SchemeKind::Hmac, Encoding::Hex)
        };
        let sum = key::encode(&key::mac(Algorithm::Sha256, b"k", b"1"), Encoding::Hex);
        let body = |start: &str| format!(r#"{{{start}"a":1,"b":{{"c":0}},"sum":"{sum}"}}"#);
        assert_eq!(verdict(&members, &[], body("").as_bytes(), &["k"]), Ok(0));
        for start in [r#""a":2,"#, r#""\u0061":2,"#, r#""b":3,"#, r#""x":{"c":1,"c":2},"#] {
            let found = verdict(&members, &[], body(start).as_bytes(), &["k"]);
            assert!(matches!(found, Err(Refusal::Repeated(_))), "{start} {found:?}");
        }
    }

    #[test]
    fn a_header_that_is_read_by_its_name_elsewhere_is_there_once_and_what_is_signed_may_not_be_for_us() {
        let own = Scheme {
            accept: Some(Jq::parse(".to == $settings.me").expect("a filter")),
            once: vec!["x-delivery".into()],
            ..scheme(SchemeKind::Hmac, Encoding::Hex)
        };
        let settings = serde_json::Map::from_iter([("me".to_owned(), "us".into())]);
        let judged = |body: &[u8], ids: &[&str]| {
            let sum = key::encode(&key::mac(Algorithm::Sha256, b"k", body), Encoding::Hex);
            let mut headers = vec![("x-signature".to_owned(), sum)];
            headers.extend(ids.iter().map(|id| ("x-delivery".to_owned(), (*id).to_owned())));
            let request = Request { method: "POST", url: None, headers: &headers, body, settings: &settings };
            own.verify(&request, &[Secret::new("k")], NOW).map(|verified| verified.key)
        };
        assert_eq!(judged(br#"{"to":"us"}"#, &["1"]), Ok(0));
        assert_eq!(judged(br#"{"to":"us"}"#, &["1", "2"]), Err(Refusal::Repeated("header `x-delivery`".into())));
        for body in [r#"{"to":"others"}"#, "{}", "not json", r#"{"to":["us"]}"#] {
            assert_eq!(judged(body.as_bytes(), &["1"]), Err(Refusal::NotOurs), "{body}");
        }
    }

    #[test]
    fn a_token_and_basic_authentication_are_the_secret_itself() {
        let token = scheme(SchemeKind::Token, Encoding::Hex);
        assert_eq!(verdict(&token, &[("x-signature", "s3cret")], b"", &["other", "s3cret"]), Ok(1));
        assert_eq!(verdict(&token, &[("x-signature", "S3cret")], b"", &["s3cret"]), Err(Refusal::WrongSignature));
        let basic = scheme(SchemeKind::Basic, Encoding::Hex);
        for (value, good) in [
            ("Basic dXNlcjpwYXNz", true),
            ("basic dXNlcjpwYXNz", true),
            ("Bearer dXNlcjpwYXNz", false),
            ("dXNlcjpwYXNz", false),
            ("Basic dXNlcjpwYXN0", false),
        ] {
            assert_eq!(verdict(&basic, &[("x-signature", value)], b"", &["user:pass"]).is_ok(), good, "{value}");
        }
    }

    #[test]
    fn times_are_judged_on_both_sides_and_in_their_unit() {
        let spec = |unit| TimestampSpec {
            place: Some(TimestampPlace::Header("x-time".into())),
            unit,
            past: Duration::from_secs(300),
            future: Duration::from_secs(60),
        };
        let good = key::encode(&key::mac(Algorithm::Sha256, b"k", b"{}"), Encoding::Hex);
        let (old, new) = (Refusal::TooOld(Duration::from_secs(1)), Refusal::TooNew(Duration::from_secs(1)));
        for (unit, time, wanted) in [
            (TimestampUnit::Seconds, "1759999700", Ok(0)),
            (TimestampUnit::Seconds, "1759999699", Err(old.clone())),
            (TimestampUnit::Seconds, "1760000060", Ok(0)),
            (TimestampUnit::Seconds, "1760000061", Err(new)),
            (TimestampUnit::Millis, "1759999699000", Err(old)),
            (TimestampUnit::Millis, "1759999700000", Ok(0)),
            (TimestampUnit::Rfc3339, "2025-10-09T08:53:20.634234626Z", Ok(0)),
            (TimestampUnit::Rfc3339, "2025-10-09T11:53:20+03:00", Ok(0)),
            (TimestampUnit::Rfc3339, "1760000000", Err(Refusal::MalformedTimestamp)),
            (TimestampUnit::Seconds, "-1760000000", Err(Refusal::MalformedTimestamp)),
            (TimestampUnit::Seconds, "99999999999999999999", Err(Refusal::MalformedTimestamp)),
            (TimestampUnit::Seconds, "9223372036854775807", Err(Refusal::MalformedTimestamp)),
            (TimestampUnit::Seconds, "", Err(Refusal::MissingTimestamp)),
        ] {
            let scheme = Scheme { timestamp: Some(spec(unit)), ..scheme(SchemeKind::Hmac, Encoding::Hex) };
            let found = verdict(&scheme, &[("x-signature", &good), ("x-time", time)], b"{}", &["k"]);
            assert_eq!(found, wanted, "{unit:?} {time}");
        }
    }
}
