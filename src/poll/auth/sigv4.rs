//! AWS Signature Version 4: a request is written in a canonical form, and the day, region and service are part of the key that signs
//! it. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};
use url::Url;

use super::{Result, secret_value, text};
use crate::client::Outgoing;
use crate::model::Timestamp;
use crate::poll::request::QUERY;
use crate::provider::SigV4;
use crate::secret::Secret;
use crate::signature::{Algorithm, mac};
use crate::template::Context;

/// A pair of keys for one service in one region.
#[derive(Clone)]
pub(in crate::poll) struct Keys {
    access_key: String,
    secret_key: Secret,
    session_token: Option<Secret>,
    service: String,
    region: String,
}

impl Keys {
    pub fn of(spec: &SigV4, context: &Context) -> Result<Keys> {
        let token = spec.session_token.as_ref().map(|token| text(token, "auth.token", context)).transpose()?;
        Ok(Keys {
            access_key: text(&spec.access_key, "auth.username", context)?,
            secret_key: Secret::new(text(&spec.secret_key, "auth.password", context)?),
            session_token: token.filter(|token| !token.is_empty()).map(Secret::new),
            service: text(&spec.service, "auth.service", context)?,
            region: text(&spec.region, "auth.region", context)?,
        })
    }

    /// Which pair it is, and for what.
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.access_key, self.region, self.service)
    }

    pub fn secret_key(&self) -> &str {
        self.secret_key.expose()
    }

    /// Adds the date and the signature to a request.
    pub fn sign(&self, request: &mut Outgoing, now: Timestamp) -> Result<()> {
        let time = now.to_utc().format("%Y%m%dT%H%M%SZ").to_string();
        let hash = hex::encode(Sha256::digest(&request.body));
        let mut set = |name: &'static str, value: &str| {
            secret_value(value, "auth").map(|value| request.headers.insert(HeaderName::from_static(name), value))
        };
        set("x-amz-date", &time)?;
        if let Some(token) = &self.session_token {
            set("x-amz-security-token", token.expose())?;
        }
        if self.service == "s3" {
            set("x-amz-content-sha256", &hash)?;
        }
        let (canonical, names) = self.canonical(request, &hash);
        let day = &time[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let signed = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(&canonical)));
        let first = format!("AWS4{}", self.secret_key.expose()).into_bytes();
        let parts = [day, self.region.as_str(), self.service.as_str(), "aws4_request"];
        let key = parts.into_iter().fold(first, |key, part| mac(Algorithm::Sha256, &key, part.as_bytes()));
        let signature = hex::encode(mac(Algorithm::Sha256, &key, signed.as_bytes()));
        let credential = format!("{}/{scope}", self.access_key);
        let value = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        request.headers.insert(header::AUTHORIZATION, secret_value(&value, "auth")?);
        Ok(())
    }

    /// The canonical form, and the names of the headers in it.
    fn canonical(&self, request: &Outgoing, hash: &str) -> (String, String) {
        let mut headers = signed_headers(&request.headers, &request.url);
        headers.sort();
        let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let (path, query) = (self.path(&request.url), query(&request.url));
        (format!("{}\n{path}\n{query}\n{lines}\n{names}\n{hash}", request.method), names)
    }

    /// Every service but one encodes the path a second time.
    fn path(&self, url: &Url) -> String {
        let segments = url.path().split('/');
        let twice = |segment: &str| match self.service.as_str() {
            "s3" => segment.to_owned(),
            _ => utf8_percent_encode(segment, QUERY).to_string(),
        };
        segments.map(twice).collect::<Vec<_>>().join("/")
    }
}

/// The host, the kind of the body, and what is AWS's own. Proxies change others on the way.
fn signed_headers(headers: &HeaderMap, url: &Url) -> Vec<(String, String)> {
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let ours = |name: &str| name == "content-type" || name.starts_with("x-amz-");
    let value = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let own = headers.iter().filter(|(name, _)| ours(name.as_str()));
    own.map(|(name, found)| (name.as_str().to_owned(), value(found))).chain([("host".to_owned(), host)]).collect()
}

/// Parameters sorted by name and value, each encoded once.
fn query(url: &Url) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let raw = url.query().unwrap_or_default();
    let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        (encoded(&decoded(name)), encoded(&decoded(value)))
    });
    let mut pairs: Vec<(String, String)> = pairs.collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::Method;

    fn keys(service: &str, session_token: Option<&str>) -> Keys {
        Keys {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: session_token.map(Secret::new),
            service: service.into(),
            region: "us-east-1".into(),
        }
    }

    /// 2015-08-30 12:36:00 UTC, the moment of AWS's published test suite.
    const MOMENT: Timestamp = Timestamp(1_440_938_160_000);

    fn signed(keys: &Keys, method: Method, url: &str, headers: &[(&'static str, &str)], body: &'static str) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let url = Url::parse(url).expect("a URL");
        let mut request = Outgoing { method, url, headers: map, body: Bytes::from_static(body.as_bytes()) };
        keys.sign(&mut request, MOMENT).expect("signed");
        request.headers["authorization"].to_str().expect("text").to_owned()
    }

    #[test]
    fn requests_of_awss_own_test_suite_have_its_signatures() {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        for (name, method, url, headers, body, want) in [
            (
                "get-vanilla",
                Method::GET,
                "https://example.amazonaws.com/",
                &[][..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                Method::GET,
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-empty-query-key",
                Method::GET,
                "https://example.amazonaws.com/?Param1=value1",
                &[],
                "",
                "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            ),
            (
                "post-vanilla",
                Method::POST,
                "https://example.amazonaws.com/",
                &[],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                Method::POST,
                "https://example.amazonaws.com/",
                &form,
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let value = signed(&keys("service", None), method, url, headers, body);
            assert!(value.ends_with(&format!("Signature={want}")), "{name}: {value}");
            assert!(value.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
            ));
        }
    }

    #[test]
    fn the_example_of_the_iam_documentation_has_its_signature() {
        let url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08";
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let value = signed(&keys("iam", None), Method::GET, url, &headers, "");
        let want = "SignedHeaders=content-type;host;x-amz-date, \
                    Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert!(value.ends_with(want), "{value}");
    }

    #[test]
    fn what_a_service_wants_besides_is_signed_too() {
        let value = signed(&keys("s3", Some("a token")), Method::GET, "https://b.example:8443/a%20b", &[], "");
        assert!(value.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"), "{value}");
        let of = |service: &str| keys(service, None).path(&Url::parse("https://b.example/a%20b/c").expect("a URL"));
        assert_eq!((of("s3").as_str(), of("other").as_str()), ("/a%20b/c", "/a%2520b/c"));
    }
}
