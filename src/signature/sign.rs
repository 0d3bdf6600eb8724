//! Signing: what is to be added to a request so that its receiver can verify it.

use super::asymmetric::{PrivateKey, Written, fits};
use super::content::{Request, render};
use super::verify::{Refusal, json_text};
use super::{
    Encoding, HashPlace, Scheme, SchemeKind, SignaturePlace, TimestampPlace, TimestampSpec, TimestampUnit, key, token,
};
use crate::model::Timestamp;
use crate::path::{Path, Step};
use crate::secret::Secret;

/// What signing adds to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Names as the scheme writes them.
    pub headers: Vec<(String, String)>,
    pub form: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    /// The body with the signature in it, where that is its place. The body must hold a value there already: it is put in its
    /// place, and every other byte stays.
    pub body: Option<String>,
}

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("there is no key to sign with")]
    NoKey,
    #[error("the key is not of the form that scheme `{0}` needs")]
    WrongKey(String),
    #[error("the body has no value at `{0}` that the signature could take the place of")]
    NoPlace(String),
    #[error("scheme `{0}` is signed with a certificate that only the provider has")]
    Certificate(String),
    #[error("the signed content cannot be made: {0}")]
    Content(String),
}

impl Scheme {
    /// Signs with all keys where the value can hold several signatures or each may have a header of its own (`X-Signature-*`),
    /// else with the first. Asymmetric schemes take private keys.
    pub fn sign(&self, request: &Request<'_>, keys: &[Secret], now: Timestamp) -> Result<Added, SignError> {
        if self.certificate.is_some() {
            return Err(SignError::Certificate(self.name.clone()));
        }
        if let SignaturePlace::Json(path) = &self.place {
            let body = self.signed_body(path, request, keys, now)?;
            return Ok(Added { body: Some(body), ..Added::default() });
        }
        let mut added = Added::default();
        let timestamp = self.signing_time(request, now)?;
        if let Some(TimestampPlace::Header(name)) = self.timestamp.as_ref().and_then(|spec| spec.place.as_ref()) {
            added.headers.push((name.clone(), timestamp.clone()));
        }
        added.headers.extend(self.named.as_ref().and_then(|named| named.header(self.algorithm, request.settings)));
        let hashed = self.add_hash(request, &mut added);
        let request = &Request { url: hashed.as_deref().or(request.url), ..*request };
        let numbered = match &self.place {
            SignaturePlace::Header(names) => names[0].strip_suffix('*'),
            SignaturePlace::Form(_) | SignaturePlace::Query(_) | SignaturePlace::Json(_) => None,
        };
        let several = numbered.is_some() || self.value.repeats();
        let keys = if several { keys } else { &keys[..keys.len().min(1)] };
        if keys.is_empty() {
            return Err(SignError::NoKey);
        }
        let mut signatures = Vec::with_capacity(keys.len());
        for secret in keys {
            signatures.push(self.signature(request, secret, &timestamp, now)?);
        }
        let algorithm = self.named.as_ref().and_then(|named| named.written(self.algorithm)).unwrap_or_default();
        let write = |signatures: &[String]| self.value.write(signatures, &timestamp, algorithm, request.settings);
        if let Some(stem) = numbered {
            let values = signatures.iter().map(|signature| write(std::slice::from_ref(signature)));
            added.headers.extend(values.enumerate().map(|(n, value)| (format!("{stem}{}", n + 1), value)));
            return Ok(added);
        }
        let value = write(&signatures);
        match &self.place {
            SignaturePlace::Header(names) => added.headers.push((names[0].clone(), value)),
            SignaturePlace::Form(names) => added.form.push((names[0].clone(), value)),
            SignaturePlace::Query(names) => added.query.push((names[0].clone(), value)),
            SignaturePlace::Json(_) => {}
        }
        Ok(added)
    }

    /// The body with a signature in each of its items, or in itself.
    fn signed_body(
        &self,
        path: &Path,
        request: &Request<'_>,
        keys: &[Secret],
        now: Timestamp,
    ) -> Result<String, SignError> {
        let no_place = || SignError::NoPlace(path.text.clone());
        let text = std::str::from_utf8(request.body).map_err(|_| no_place())?;
        let key = keys.first().ok_or(SignError::NoKey)?;
        let algorithm = self.named.as_ref().and_then(|named| named.written(self.algorithm)).unwrap_or_default();
        let (mut signed, mut done) = (String::with_capacity(text.len() + 128), 0);
        for item in self.items(text).ok_or_else(no_place)? {
            let request = Request { body: item.as_bytes(), ..*request };
            let timestamp = self.signing_time(&request, now)?;
            let signature = self.signature(&request, key, &timestamp, now)?;
            let value = self.value.write(&[signature], &timestamp, algorithm, request.settings);
            let place = crate::path::pick(item, &[path]).ok().and_then(|found| found.into_iter().next().flatten());
            let place = place.ok_or_else(no_place)?.get();
            // Items and places are parts of the text itself, one after another.
            let start = place.as_ptr() as usize - text.as_ptr() as usize;
            signed.push_str(&text[done..start]);
            signed.push_str(&serde_json::Value::from(value).to_string());
            done = start + place.len();
        }
        signed.push_str(&text[done..]);
        Ok(signed)
    }

    /// What is signed one by one: the items that a plain path leads to, else the whole. None: there is nothing.
    fn items<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let Some(each) = &self.each else { return Some(vec![text]) };
        let path = each.path()?;
        let at = path.steps.iter().position(|step| *step == Step::Each)?;
        let part = |steps: &[Step]| Path { text: path.text.clone(), steps: steps.to_vec() };
        let below = part(&path.steps[at + 1..]);
        let found = crate::path::list(text, &part(&path.steps[..at])).ok()?.into_iter();
        let items = found.map(|item| crate::path::pick(item.get(), &[&below]).ok()?.into_iter().next().flatten());
        let items: Option<Vec<&str>> = items.map(|item| item.map(|item| item.get())).collect();
        items.filter(|items| !items.is_empty())
    }

    /// Adds the hash of the body where it has a place outside of the signature; gives the address when that is the place.
    fn add_hash(&self, request: &Request<'_>, added: &mut Added) -> Option<String> {
        let hash = self.body_hash.as_ref().filter(|hash| hash.is_needed(request))?;
        match &hash.place {
            HashPlace::Claim(_) => None,
            HashPlace::Header(name) => {
                added.headers.push((name.clone(), hash.of(request.body)));
                None
            }
            HashPlace::Query(name) => {
                added.query.push((name.clone(), hash.of(request.body)));
                let mut pairs = url::form_urlencoded::Serializer::new(String::new());
                let pair = pairs.append_pair(name, &hash.of(request.body)).finish();
                let url = request.url?;
                Some(format!("{url}{}{pair}", if url.contains('?') { '&' } else { '?' }))
            }
        }
    }

    /// The time as it is signed: now, or what the body says where that is its place.
    fn signing_time(&self, request: &Request<'_>, now: Timestamp) -> Result<String, SignError> {
        match &self.timestamp {
            None => Ok(String::new()),
            Some(TimestampSpec { place: Some(TimestampPlace::Json(path)), .. }) => json_text(request.body, path)
                .ok_or_else(|| SignError::Content(format!("the body has no time at `{}`", path.text))),
            Some(spec) => Ok(written(now, spec.unit)),
        }
    }

    fn signature(
        &self,
        request: &Request<'_>,
        secret: &Secret,
        timestamp: &str,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let wrong = || SignError::WrongKey(self.name.clone());
        let content = |secret: &str| {
            let content = self.content.first().ok_or_else(|| SignError::Content("it is not declared".into()))?;
            render(content, request, timestamp, secret).map_err(|refusal| match refusal {
                Refusal::MissingContent(reason) => SignError::Content(reason),
                other => SignError::Content(other.to_string()),
            })
        };
        match self.kind {
            SchemeKind::Token if !secret.expose().is_empty() => Ok(secret.expose().to_owned()),
            SchemeKind::Basic if !secret.expose().is_empty() => {
                Ok(format!("Basic {}", key::encode(secret.expose().as_bytes(), Encoding::Base64)))
            }
            SchemeKind::Token | SchemeKind::Basic => Err(wrong()),
            SchemeKind::Hmac | SchemeKind::Digest => {
                let bytes = key::decode(secret.expose(), self.key_encoding).ok_or_else(wrong)?;
                Ok(key::encode(&self.sum(self.algorithm, &bytes, &content(secret.expose())?), self.encoding))
            }
            SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa => {
                let key = PrivateKey::read(secret.expose(), self.key_encoding).ok_or_else(wrong)?;
                if !fits(self.kind, key.kind()) {
                    return Err(wrong());
                }
                let signature = key.sign(self.algorithm, Written::Der, &content("")?).ok_or_else(wrong)?;
                Ok(key::encode(&signature, self.encoding))
            }
            SchemeKind::Jwt => token::write(self, &self.claims(request, now), secret),
        }
    }

    fn claims(&self, request: &Request<'_>, now: Timestamp) -> serde_json::Map<String, serde_json::Value> {
        let mut claims = serde_json::Map::new();
        if let Some(TimestampSpec { place: Some(TimestampPlace::Claim(name)), unit, .. }) = &self.timestamp {
            let value = match unit {
                TimestampUnit::Seconds => now.unix_seconds().into(),
                TimestampUnit::Millis => now.0.into(),
                TimestampUnit::Rfc3339 => now.to_string().into(),
            };
            claims.insert(name.clone(), value);
        }
        if let Some(hash) = &self.body_hash
            && let HashPlace::Claim(name) = &hash.place
        {
            claims.insert(name.clone(), hash.of(request.body).into());
        }
        claims
    }
}

fn written(now: Timestamp, unit: TimestampUnit) -> String {
    match unit {
        TimestampUnit::Seconds => now.unix_seconds().to_string(),
        TimestampUnit::Millis => now.0.to_string(),
        TimestampUnit::Rfc3339 => now.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ValuePattern, standard};
    use super::*;

    fn sign(scheme: &Scheme, keys: &[&str]) -> Result<Added, SignError> {
        let headers = [("webhook-id".to_owned(), "evt_1".to_owned())];
        let settings = serde_json::Map::new();
        let request = Request { method: "POST", url: None, headers: &headers, body: b"{}", settings: &settings };
        let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
        scheme.sign(&request, &keys, Timestamp(1_000_000))
    }

    #[test]
    fn during_a_rotation_all_keys_sign_where_there_is_room_for_them() {
        let keys = ["whsec_AQID", "whsec_BAUG"];
        let one = |scheme: &Scheme, key: &str| sign(scheme, &[key]).expect("signed").headers[1].1.clone();
        let list = standard();
        let (first, second) = (one(&list, keys[0]), one(&list, keys[1]));
        let time = ("webhook-timestamp".to_owned(), "1000".to_owned());
        let wanted = vec![time.clone(), ("webhook-signature".to_owned(), format!("{first} {second}"))];
        assert_eq!(sign(&list, &keys).expect("signed").headers, wanted);

        let single = Scheme { value: ValuePattern { separator: None, ..list.value.clone() }, ..list.clone() };
        let wanted = vec![time.clone(), ("webhook-signature".to_owned(), first.clone())];
        assert_eq!(sign(&single, &keys).expect("signed").headers, wanted);

        let numbered = Scheme { place: SignaturePlace::Header(vec!["X-Sign-*".into()]), ..single };
        let wanted = vec![time, ("X-Sign-1".to_owned(), first), ("X-Sign-2".to_owned(), second)];
        assert_eq!(sign(&numbered, &keys).expect("signed").headers, wanted);
    }

    #[test]
    fn a_signature_inside_the_body_takes_the_place_of_what_stands_there() {
        let settings = serde_json::Map::new();
        let scheme = Scheme {
            kind: SchemeKind::Hmac,
            place: SignaturePlace::Json(Path::parse(".s").expect("a path")),
            value: ValuePattern::plain(),
            content: vec![crate::template::Template::parse("{{ json['.n'] }}").expect("a template")],
            timestamp: None,
            ..standard()
        };
        let items = Scheme { each: Some(crate::jq::Jq::parse(".items[].one").expect("jq")), ..scheme.clone() };
        let keys = [Secret::new("whsec_AQID")];
        for (scheme, body) in [
            (&scheme, r#"{ "n":1.50,"s" : null }"#),
            (&items, r#"{"items": [{"one":{"n":1,"s":""}}, {"one":{"s":"old","n":2}}] }"#),
        ] {
            let request =
                Request { method: "POST", url: None, headers: &[], body: body.as_bytes(), settings: &settings };
            let signed = scheme.sign(&request, &keys, Timestamp(0)).expect("signed").body.expect("a body");
            assert_ne!(signed, body);
            let request = Request { body: signed.as_bytes(), ..request };
            assert!(scheme.verify(&request, &keys, Timestamp(0)).is_ok(), "{signed}");
            let changed = signed.replace('1', "3");
            let request = Request { body: changed.as_bytes(), ..request };
            assert!(scheme.verify(&request, &keys, Timestamp(0)).is_err(), "{changed}");
        }
        for body in ["{\"n\":1}", "{\"items\":[]}", "[1]", "no JSON", ""] {
            let request =
                Request { method: "POST", url: None, headers: &[], body: body.as_bytes(), settings: &settings };
            assert!(items.sign(&request, &keys, Timestamp(0)).is_err(), "{body}");
        }
    }

    #[test]
    fn a_key_that_is_missing_or_of_another_form_signs_nothing() {
        assert_eq!(sign(&standard(), &[]), Err(SignError::NoKey));
        let wrong = SignError::WrongKey("standard-webhooks".into());
        assert_eq!(sign(&standard(), &["whsec_AQID", "whsec_not base64"]), Err(wrong));
    }
}
