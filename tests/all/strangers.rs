//! What strangers send: cases beside the recorded ones, through the schemes of shipped files, and anything at all at every scheme. A
//! request that nobody signed is refused with a plain reason, and never by a panic.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use ringback::model::Timestamp;
use ringback::provider;
use ringback::secret::Secret;
use ringback::shape::SourceFile;
use ringback::signature::{KeyEncoding, Request, Scheme, SignaturePlace, TimestampPlace};
use serde_json::Value;

use crate::signatures;

/// The schemes of shipped files.
static SHIPPED: LazyLock<Vec<Arc<Scheme>>> = LazyLock::new(|| {
    let names = provider::built_in_names();
    let read = |name: &String| {
        provider::read(provider::built_in(name).expect("built in"))
            .unwrap_or_else(|_| panic!("{name} is no good file"))
            .0
    };
    names.iter().map(read).filter_map(|provider| provider.webhook).flat_map(|webhook| webhook.schemes).collect()
});

/// And those of the recorded requests.
static ALL: LazyLock<Vec<Arc<Scheme>>> = LazyLock::new(|| {
    let file = SourceFile::new("schemes.toml", include_str!("../fixtures/vectors/schemes.toml"));
    let (provider, _) = provider::read(file).unwrap_or_else(|_| panic!("schemes.toml is a good file"));
    let recorded = provider.webhook.expect("real webhooks").schemes;
    SHIPPED.iter().cloned().chain(recorded).collect()
});

fn keys(case: &Value) -> Vec<Secret> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(several) = case["secrets"].as_array() {
        return several.iter().map(|secret| Secret::new(text(secret))).collect();
    }
    let chain = ["certificate_pem", "intermediate_pem", "trusted_roots_pem"].map(|name| text(&case["config"][name]));
    let one = [text(&case["secret"]), text(&case["public_key"]), chain.concat()];
    one.into_iter().find(|key| !key.is_empty()).map(Secret::new).into_iter().collect()
}

fn judged(scheme: &Scheme, case: &Value) -> bool {
    let text = |name: &str| case[name].as_str().unwrap_or_default();
    let headers = case["headers"].as_object().expect("headers");
    let headers: Vec<(String, String)> =
        headers.iter().map(|(n, v)| (n.to_lowercase(), v.as_str().unwrap_or_default().to_owned())).collect();
    let body = match case["body_base64"].as_str() {
        Some(body) => base64::engine::general_purpose::STANDARD.decode(body).expect("base64"),
        None => text("body").as_bytes().to_vec(),
    };
    let settings = case["config"].as_object().cloned().unwrap_or_default();
    let request =
        Request { method: text("method"), url: Some(text("url")), headers: &headers, body: &body, settings: &settings };
    scheme.verify(&request, &keys(case), Timestamp(case["now"].as_i64().expect("a time") * 1000)).is_ok()
}

#[test]
fn shipped_schemes_judge_recorded_and_further_requests_alike() {
    let texts = [include_str!("../fixtures/vectors/verify.json"), include_str!("../fixtures/vectors/more.json")];
    let cases: Vec<Value> =
        texts.iter().flat_map(|text| serde_json::from_str::<Vec<Value>>(text).expect("the cases are JSON")).collect();
    let (mut count, mut wrong) = (0, Vec::new());
    for case in &cases {
        let name = case["scheme"].as_str().unwrap_or_default();
        for scheme in SHIPPED.iter().filter(|scheme| scheme.name == name) {
            count += 1;
            let other = signatures::window(case).map(|window| scheme.within(window).expect("it bears a time"));
            if judged(other.as_ref().unwrap_or(scheme), case) != (case["expect"] == "accept") {
                wrong.push(format!("{}: {}", case["id"], case["reason"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 1_400 && cases.len() >= 1_400, "only {count} of {} cases", cases.len());
}

/// Puts a stranger's text where the scheme looks for its signature and its time.
fn stranger(scheme: &Scheme, value: &str, stamp: &str, body: &[u8]) -> (Vec<(String, String)>, Vec<u8>, String) {
    let mut headers = vec![("webhook-id".to_owned(), value.to_owned()), ("svix-id".to_owned(), value.to_owned())];
    let (mut body, mut url) = (body.to_vec(), "https://hooks.example.test/in?x=1".to_owned());
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    match &scheme.place {
        SignaturePlace::Header(names) => {
            headers.extend(names.iter().map(|name| (name.trim_end_matches('*').to_lowercase(), value.to_owned())));
        }
        SignaturePlace::Form(names) => {
            names.iter().for_each(|name| body.extend_from_slice(format!("&{name}={encoded}").as_bytes()));
        }
        SignaturePlace::Query(names) => names.iter().for_each(|name| url.push_str(&format!("&{name}={encoded}"))),
        SignaturePlace::Json(_) => {
            let text = serde_json::json!({ "signature": { "signature": value, "timestamp": stamp, "token": value }, "Signature": value });
            body = text.to_string().into_bytes();
        }
    }
    if let Some(TimestampPlace::Header(name)) = scheme.timestamp.as_ref().and_then(|spec| spec.place.as_ref()) {
        headers.push((name.to_lowercase(), stamp.to_owned()));
    }
    (headers, body, url)
}

/// A key of the form that a scheme takes, which the stranger does not have.
fn key_of(scheme: &Scheme) -> Secret {
    Secret::new(match scheme.key_encoding {
        KeyEncoding::Hex => "a1".repeat(32),
        KeyEncoding::Base64 => "a2V5a2V5a2V5a2V5a2V5a2V5".to_owned(),
        KeyEncoding::Whsec => "whsec_a2V5a2V5a2V5a2V5a2V5a2V5".to_owned(),
        _ => "a key that nobody guesses".to_owned(),
    })
}

/// Texts that have the look of something.
fn looks() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    prop_oneof![
        any::<String>(),
        "[ -~]{0,120}",
        "(sha1|sha256|sha512|v0|v1|v1a|t|ts|h1)=[0-9a-f]{0,128}",
        "t=-?[0-9]{0,40}(,v[0-9]=[0-9a-f]{0,64}){0,20}",
        "(v1,[A-Za-z0-9+/]{0,90}={0,3} ?){0,12}",
        "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}",
        "[,;=|&. ]{0,60}",
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_a_stranger_sends_is_accepted_or_breaks_a_scheme(
        value in looks(),
        stamp in looks(),
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        kind in "(application/json|application/x-www-form-urlencoded|text/xml|[ -~]{0,20})",
        second in proptest::num::i64::ANY,
    ) {
        let settings = serde_json::Map::new();
        for scheme in ALL.iter() {
            let (mut headers, body, url) = stranger(scheme, &value, &stamp, &body);
            headers.push(("content-type".to_owned(), kind.clone()));
            let request = Request { method: "POST", url: Some(&url), headers: &headers, body: &body, settings: &settings };
            for now in [Timestamp(1_760_000_000_000), Timestamp(second)] {
                for keys in [vec![key_of(scheme)], vec![Secret::new(value.clone()), key_of(scheme)], Vec::new()] {
                    let verdict = scheme.verify(&request, &keys, now);
                    // Whoever knows the key of a scheme that compares it is no stranger.
                    let knows = keys.len() == 2 && matches!(scheme.kind, ringback::signature::SchemeKind::Token);
                    assert!(verdict.is_err() || knows, "{}: {value:?} {stamp:?}", scheme.name);
                }
            }
            let _ = scheme.key_id(&request);
        }
    }
}
