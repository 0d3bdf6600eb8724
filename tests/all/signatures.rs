//! Signatures of many providers, computed by their official libraries: every case, in the words of a provider file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use ringback::model::Timestamp;
use ringback::secret::Secret;
use ringback::shape::{SourceFile, Tolerance};
use ringback::signature::{
    KeyEncoding, Refusal, Request, Scheme, SchemeKind, SignaturePlace, TimestampPlace, Verified,
};
use serde_json::Value;

#[derive(Clone)]
struct Case {
    id: String,
    scheme: String,
    /// Secrets, or public keys.
    keys: Vec<Secret>,
    settings: serde_json::Map<String, Value>,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    now: Timestamp,
    accept: bool,
    window: Option<Tolerance>,
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn cases() -> Vec<Case> {
    let texts = [include_str!("../fixtures/vectors/verify.json"), include_str!("../fixtures/vectors/more.json")];
    let read = texts.iter().map(|text| serde_json::from_str::<Vec<Value>>(text).expect("the cases are JSON"));
    read.flatten().map(|value| case(&value)).collect()
}

fn case(case: &Value) -> Case {
    let several =
        case["secrets"].as_array().map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let chain: String =
        ["certificate_pem", "intermediate_pem", "trusted_roots_pem"].iter().map(|n| text(&case["config"], n)).collect();
    let keys: Vec<String> = several.unwrap_or_else(|| {
        let one = [text(case, "secret"), text(case, "public_key"), &chain].into_iter().find(|key| !key.is_empty());
        one.map(str::to_owned).into_iter().collect()
    });
    let settings = case["config"].as_object().cloned().unwrap_or_default();
    let headers = case["headers"].as_object().expect("headers").iter();
    let body = match case["body_base64"].as_str() {
        Some(body) => base64::engine::general_purpose::STANDARD.decode(body).expect("base64"),
        None => text(case, "body").as_bytes().to_vec(),
    };
    Case {
        id: text(case, "id").to_owned(),
        scheme: text(case, "scheme").to_owned(),
        keys: keys.into_iter().map(Secret::new).collect(),
        settings: settings.into_iter().filter(|(name, _)| !name.ends_with("_pem")).collect(),
        method: text(case, "method").to_owned(),
        url: text(case, "url").to_owned(),
        headers: headers.map(|(n, v)| (n.to_lowercase(), v.as_str().unwrap_or_default().to_owned())).collect(),
        body,
        now: Timestamp(case["now"].as_i64().expect("a time") * 1000),
        accept: text(case, "expect") == "accept",
        window: window(case),
    }
}

/// The time window that a case says of its receiver, as a source may.
pub fn window(case: &Value) -> Option<Tolerance> {
    let side =
        |name: &str| case["tolerance"][name].as_str().map(|text| humantime::parse_duration(text).expect("a duration"));
    case["tolerance"].is_object().then(|| Tolerance { past: side("past"), future: side("future") })
}

fn schemes() -> BTreeMap<String, Arc<Scheme>> {
    let file = SourceFile::new("schemes.toml", include_str!("../fixtures/vectors/schemes.toml"));
    let (provider, _) =
        ringback::provider::read(file).unwrap_or_else(|faults| panic!("{}", ringback::shape::render(&faults, false)));
    let webhook = provider.webhook.expect("real webhooks");
    webhook.schemes.iter().map(|scheme| (scheme.name.clone(), scheme.clone())).collect()
}

fn verify(scheme: &Scheme, case: &Case) -> Result<Verified, Refusal> {
    let request = Request {
        method: &case.method,
        url: Some(&case.url),
        headers: &case.headers,
        body: &case.body,
        settings: &case.settings,
    };
    let other = case.window.map(|window| scheme.within(window).expect("its signatures bear a time"));
    other.as_ref().unwrap_or(scheme).verify(&request, &case.keys, case.now)
}

#[test]
fn webhooks_of_many_providers_are_judged_as_their_own_libraries_do() {
    let schemes = schemes();
    let (mut judged, mut names, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for case in cases() {
        let scheme = schemes.get(&case.scheme).unwrap_or_else(|| panic!("{}: no scheme {}", case.id, case.scheme));
        let verdict = verify(scheme, &case);
        if verdict.is_ok() != case.accept {
            wrong.push(format!("{}: {verdict:?}", case.id));
        }
        judged += 1;
        names.insert(case.scheme);
    }
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(judged >= 1_420 && names.len() >= 45, "only {judged} cases of {} schemes were judged", names.len());
}

#[test]
fn schemes_that_sign_the_address_say_so() {
    let schemes = schemes();
    let names: Vec<&str> = schemes.values().filter(|s| s.needs_url()).map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["hubspot-v2", "hubspot-v3", "square-hmacsha256", "twilio"]);
}

/// The request as it goes out: what signing added, put where it belongs.
fn signed(scheme: &Scheme, case: &Case, body: &[u8]) -> Case {
    // What is covered beside the body must be there before it is signed.
    let covered = scheme.content.iter().flat_map(|content| content.text_source().split("header['").skip(1));
    let mut headers: Vec<(String, String)> = covered
        .filter_map(|rest| rest.split_once("']").map(|(name, _)| (name.to_lowercase(), "msg_1".to_owned())))
        .collect();
    headers.dedup();
    let request = Request { method: "POST", url: Some(&case.url), headers: &headers, body, settings: &case.settings };
    let added = scheme.sign(&request, &case.keys, case.now).expect("it can be signed");
    headers.extend(added.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)));
    let mut body = body.to_vec();
    for (name, value) in added.form {
        let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
        body.extend_from_slice(format!("&{pair}").as_bytes());
    }
    let mut url = case.url.clone();
    for (name, value) in added.query {
        url.push_str(&format!("&{name}={value}"));
    }
    Case { headers, body, url, ..case.clone() }
}

/// Schemes of this file and of every shipped provider, with settings that they may name.
fn known() -> Vec<Known> {
    let mut all: Vec<_> = schemes()
        .into_iter()
        .map(|(name, scheme)| {
            let settings = serde_json::Map::from_iter([
                ("public_key".to_owned(), "integration_public_key".into()),
                ("webhook_id".to_owned(), "1".into()),
            ]);
            (name, scheme, settings)
        })
        .collect();
    for name in ringback::provider::built_in_names() {
        let file = ringback::provider::built_in(&name).expect("built in");
        let (provider, _) = ringback::provider::read(file)
            .unwrap_or_else(|faults| panic!("{}", ringback::shape::render(&faults, false)));
        let settings: serde_json::Map<String, Value> = provider
            .settings
            .iter()
            .map(|spec| (spec.name.clone(), spec.default.clone().unwrap_or_else(|| "given".into())))
            .collect();
        for scheme in provider.webhook.iter().flat_map(|webhook| &webhook.schemes) {
            all.push((format!("{name}: {}", scheme.name), scheme.clone(), settings.clone()));
        }
    }
    all
}

/// Keys that sign, those that verify, and a stranger's.
fn keys_of(scheme: &Scheme) -> ([String; 2], [String; 2], String) {
    if scheme.is_asymmetric() {
        let pairs = [0, 1, 2].map(|n| pair(scheme, n));
        let [one, two, stranger] = pairs;
        return ([one.0, two.0], [one.1, two.1], stranger.1);
    }
    let same = |one: &str, two: &str, other: &str| {
        let both = [one.to_owned(), two.to_owned()];
        (both.clone(), both, other.to_owned())
    };
    match scheme.key_encoding {
        KeyEncoding::Hex => same("00ff", "01ff", "abcd"),
        KeyEncoding::Whsec => same("whsec_AQID", "BAUG", "whsec_CQkJ"),
        _ => same("one", "two", "three"),
    }
}

/// A private and a public key that a scheme can use, one of three.
fn pair(scheme: &Scheme, n: usize) -> (String, String) {
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    match scheme.kind {
        SchemeKind::Ed25519 => {
            let seed = [n as u8 + 1; 32];
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
            let public = pair.public_key().as_ref();
            match scheme.key_encoding {
                KeyEncoding::Whpk => (format!("whsk_{}", base64(&seed)), format!("whpk_{}", base64(public))),
                _ => (hex::encode(seed), hex::encode(public)),
            }
        }
        SchemeKind::Rsa => {
            static PAIRS: LazyLock<[(String, String); 3]> = LazyLock::new(|| {
                [0, 1, 2].map(|_| {
                    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
                    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("written");
                    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
                        pair.public_key().as_der().expect("written");
                    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
                })
            });
            PAIRS[n].clone()
        }
        _ => {
            static PAIRS: LazyLock<[(String, String); 3]> = LazyLock::new(|| {
                [0, 1, 2].map(|_| {
                    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
                    let private = pair.to_pkcs8v1().expect("written");
                    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
                        pair.public_key().as_der().expect("written");
                    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
                })
            });
            PAIRS[n].clone()
        }
    }
}

/// A request yet to be signed, for a scheme with these private keys.
fn unsigned(
    (name, scheme, settings): &Known,
    private: impl IntoIterator<Item = String>,
    url: &str,
    now: Timestamp,
) -> Case {
    Case {
        id: name.clone(),
        scheme: scheme.name.clone(),
        keys: private.into_iter().map(Secret::new).collect(),
        settings: settings.clone(),
        method: "POST".into(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        now,
        accept: true,
        window: None,
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn what_a_scheme_signs_it_verifies_and_nothing_else(
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        second in 0_i64..4_000_000_000,
        millis in 0_i64..1000,
    ) {
        let all = KNOWN.iter().filter(|(_, scheme, _)| signs_any_body(scheme));
        let mut count = 0;
        let body = [b"data=1&bt_payload=2&rest=", tail.as_slice()].concat();
        for known @ (name, scheme, _) in all {
            count += 1;
            let (private, public, stranger) = keys_of(scheme);
            let case = unsigned(known, private, "https://hooks.example.test/in?a=b%27'", Timestamp(second * 1000 + millis));
            let mut sent = signed(scheme, &case, &body);
            sent.keys = public.map(Secret::new).to_vec();
            let verdict = verify(scheme, &sent);
            assert_eq!(verdict.as_ref().map(|verified| verified.key), Ok(0), "{name}");
            let other = Case { keys: vec![Secret::new(stranger)], ..sent.clone() };
            assert!(verify(scheme, &other).is_err(), "{name}: another's key verifies");
            let bound = covers_body(scheme) && !matches!(scheme.place, SignaturePlace::Form(_));
            let changed = Case { body: [&sent.body[..], b"x"].concat(), ..sent };
            assert!(!bound || verify(scheme, &changed).is_err(), "{name}: another body verifies");
        }
        assert!(count >= 45, "only {count} schemes can sign");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]

    /// Schemes whose signature or time stands inside the JSON that is sent.
    #[test]
    fn what_is_signed_inside_a_body_is_verified_there_and_nothing_else(
        word in "[a-zA-Z0-9 :\\\\\"é_-]{0,24}",
        number in proptest::num::i64::ANY,
        second in 0_i64..4_000_000_000,
    ) {
        let all = KNOWN.iter().filter(|(_, scheme, _)| !signs_any_body(scheme) && scheme.certificate.is_none());
        let mut count = 0;
        for known @ (name, scheme, settings) in all {
            count += 1;
            let body = body_of(scheme, &word, number, second);
            let (private, public, stranger) = keys_of(scheme);
            let case = unsigned(known, private, "https://hooks.example.test/in", Timestamp(second * 1000));
            let request =
                Request { method: "POST", url: Some(&case.url), headers: &[], body: body.as_bytes(), settings };
            let added = scheme.sign(&request, &case.keys, case.now).unwrap_or_else(|error| panic!("{name}: {error}: {body}"));
            let headers = added.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
            let sent = Case {
                headers,
                body: added.body.unwrap_or(body).into_bytes(),
                keys: public.map(Secret::new).to_vec(),
                ..case.clone()
            };
            assert!(verify(scheme, &sent).is_ok(), "{name}: {:?}: {}", verify(scheme, &sent), String::from_utf8_lossy(&sent.body));
            let other = Case { keys: vec![Secret::new(stranger)], ..sent.clone() };
            assert!(verify(scheme, &other).is_err(), "{name}: another's key verifies");
            let text = String::from_utf8_lossy(&sent.body).replacen("covered-", "Covered-", 1);
            let changed = Case { body: text.into_bytes(), ..sent.clone() };
            assert!(changed.body != sent.body && verify(scheme, &changed).is_err(), "{name}: other content verifies");
        }
        assert!(count >= 5, "only {count} schemes sign inside the body");
    }
}

/// A body that has a place for everything such a scheme reads or writes; what it covers begins with `covered-`.
fn body_of(scheme: &Scheme, word: &str, number: i64, second: i64) -> String {
    let covered = format!("covered-{word}");
    let body = match (&scheme.each, &scheme.place) {
        (Some(_), _) => {
            let item = serde_json::json!({
                "additionalData": { "hmacSignature": "", "note": word }, "pspReference": covered, "originalReference": word,
                "merchantAccountCode": "m", "merchantReference": word, "amount": { "value": number, "currency": "EUR" },
                "eventCode": "AUTHORISATION", "success": "true",
            });
            serde_json::json!({ "notificationItems": [{ "NotificationRequestItem": item }, { "NotificationRequestItem": item }] })
        }
        (None, SignaturePlace::Json(_)) => serde_json::json!({
            "signature": { "timestamp": second.to_string(), "token": covered, "signature": "" }, "event-data": { "n": number, "w": word },
        }),
        (None, _) => serde_json::json!({ "data": covered, "n": number, "webhookTimestamp": second * 1000 }),
    };
    body.to_string()
}

/// Read once: compiling the templates of every provider takes longer than signing with them.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(known);

/// A scheme with its name and the settings of its provider.
type Known = (String, Arc<Scheme>, serde_json::Map<String, Value>);

/// Whether a scheme can sign whatever body it is given.
fn signs_any_body(scheme: &Scheme) -> bool {
    let in_body = matches!(scheme.place, SignaturePlace::Json(_))
        || scheme.timestamp.iter().any(|spec| matches!(spec.place, Some(TimestampPlace::Json(_))));
    !in_body && scheme.certificate.is_none()
}

fn covers_body(scheme: &Scheme) -> bool {
    let names = |name: &str| ["body", "form", "form_sorted"].contains(&name.split('.').next().unwrap_or_default());
    scheme.body_hash.is_some() || scheme.content.iter().any(|content| content.names().iter().any(|name| names(name)))
}
