//! Signatures of many providers, computed by their official libraries: every case, in the words of a provider file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use ringback::model::Timestamp;
use ringback::secret::Secret;
use ringback::shape::SourceFile;
use ringback::signature::{Refusal, Request, Scheme, SignaturePlace, TimestampPlace, Verified};
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
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn cases() -> Vec<Case> {
    let read: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/vectors/verify.json")).expect("the cases are JSON");
    read.iter().map(case).collect()
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
    }
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
    scheme.verify(&request, &case.keys, case.now)
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
    assert!(judged >= 368 && names.len() >= 45, "only {judged} cases of {} schemes were judged", names.len());
}

#[test]
fn schemes_that_sign_the_address_say_so() {
    let schemes = schemes();
    let names: Vec<&str> = schemes.values().filter(|s| s.needs_url()).map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["hubspot-v2", "hubspot-v3", "square-hmacsha256", "twilio"]);
}

/// The request as it goes out: what signing added, put where it belongs.
fn signed(scheme: &Scheme, case: &Case, body: &[u8]) -> Case {
    let ids = ["webhook-id", "svix-id", "twitch-eventsub-message-id"];
    let mut headers: Vec<(String, String)> = ids.map(|name| (name.to_owned(), "msg_1".to_owned())).to_vec();
    let request = Request { method: "POST", url: Some(&case.url), headers: &headers, body, settings: &case.settings };
    let added = scheme.sign(&request, &case.keys, case.now).expect("it can be signed");
    headers.extend(added.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)));
    let mut body = body.to_vec();
    for (name, value) in added.form {
        let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
        body.extend_from_slice(format!("&{pair}").as_bytes());
    }
    Case { headers, body, ..case.clone() }
}

/// Schemes that can sign whatever body they are given.
fn signing(schemes: &BTreeMap<String, Arc<Scheme>>) -> Vec<&Scheme> {
    let in_body = |scheme: &Scheme| {
        matches!(scheme.place, SignaturePlace::Json(_))
            || scheme.timestamp.iter().any(|spec| matches!(spec.place, Some(TimestampPlace::Json(_))))
    };
    schemes.values().map(Arc::as_ref).filter(|scheme| !in_body(scheme) && !scheme.is_asymmetric()).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_scheme_signs_it_verifies_and_nothing_else(
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        second in 0_i64..4_000_000_000,
        millis in 0_i64..1000,
    ) {
        let all = schemes();
        let schemes = signing(&all);
        assert!(schemes.len() >= 34, "only {} schemes can sign", schemes.len());
        let body = [b"data=1&bt_payload=2&rest=", tail.as_slice()].concat();
        for scheme in schemes {
            let secrets = match scheme.key_encoding {
                ringback::signature::KeyEncoding::Hex => ["00ff", "01ff"],
                ringback::signature::KeyEncoding::Whsec => ["whsec_AQID", "BAUG"],
                _ => ["one", "two"],
            };
            let case = Case {
                id: scheme.name.clone(),
                scheme: scheme.name.clone(),
                keys: secrets.map(Secret::new).to_vec(),
                settings: serde_json::Map::new(),
                method: "POST".into(),
                url: "https://hooks.example.test/in?a=b".to_owned(),
                headers: Vec::new(),
                body: Vec::new(),
                now: Timestamp(second * 1000 + millis),
                accept: true,
            };
            let sent = signed(scheme, &case, &body);
            let verdict = verify(scheme, &sent);
            assert_eq!(verdict.as_ref().map(|verified| verified.key), Ok(0), "{}", scheme.name);
            let stranger = Case { keys: vec![Secret::new("whsec_CQkJ"), Secret::new("abcd")], ..sent.clone() };
            assert!(verify(scheme, &stranger).is_err(), "{}: another's key verifies", scheme.name);
            let bound = !scheme.content.is_empty() && !matches!(scheme.place, SignaturePlace::Form(_));
            let changed = Case { body: [&sent.body[..], b"x"].concat(), ..sent };
            assert!(!bound || verify(scheme, &changed).is_err(), "{}: another body verifies", scheme.name);
        }
    }
}
