//! The recorded signatures of 45 schemes through the way in: what is stored and what is turned away.

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use ringback::model::Timestamp;
use ringback::receive::Posted;
use serde_json::Value;

use super::kit::{Gate, Wish};

/// What a source must be configured with to judge a case.
fn configured(case: &Value, files: &mut Vec<(String, String)>) -> String {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut place = |text: String| {
        let name = format!("key-{}", files.len());
        files.push((name.clone(), text));
        format!("{{ file = \"{name}\" }}")
    };
    let several: Vec<String> =
        case["secrets"].as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect();
    let chain: String = ["certificate_pem", "intermediate_pem", "trusted_roots_pem"]
        .iter()
        .map(|name| text(&case["config"], name))
        .collect();
    let key = match () {
        () if !several.is_empty() => {
            let places: Vec<String> = several.into_iter().map(&mut place).collect();
            format!("secret = [{}]", places.join(", "))
        }
        () if !text(case, "secret").is_empty() => format!("secret = {}", place(text(case, "secret"))),
        () if !chain.is_empty() => format!("public_key = {}", place(chain)),
        () => format!("public_key = {}", place(text(case, "public_key"))),
    };
    let url = text(case, "url");
    let sides = case["tolerance"].as_object().into_iter().flatten().map(|(side, value)| format!("{side} = {value}"));
    let sides: Vec<String> = sides.collect();
    let window = if sides.is_empty() { String::new() } else { format!(", tolerance = {{ {} }}", sides.join(", ")) };
    let settings: Vec<String> = ["webhook_id", "public_key"]
        .iter()
        .filter_map(|name| Some(format!("{name} = {}", toml::Value::from(case["config"][name].as_str()?))))
        .collect();
    format!(
        "provider = \"./provider.toml\"\nsettings = {{ {} }}\nwebhook = {{ scheme = \"{}\", url = \"{}\", {key}{window} }}\n",
        settings.join(", "),
        text(case, "scheme"),
        url.split('?').next().unwrap_or_default(),
    )
}

#[tokio::test]
async fn recorded_webhooks_of_every_scheme_are_stored_or_turned_away_at_the_door() {
    let texts = [include_str!("../../fixtures/vectors/verify.json"), include_str!("../../fixtures/vectors/more.json")];
    let cases = texts.iter().map(|text| serde_json::from_str::<Vec<Value>>(text).expect("the cases are JSON"));
    let cases: Vec<Value> = cases.flatten().collect();
    let mut by_time: BTreeMap<i64, Vec<&Value>> = BTreeMap::new();
    for case in &cases {
        // A configuration with an empty secret is not even read.
        if case["secret"] != "" {
            by_time.entry(case["now"].as_i64().expect("a time")).or_default().push(case);
        }
    }
    let (mut answered, mut wrong) = (BTreeMap::new(), Vec::new());
    for (second, cases) in &by_time {
        judge(Timestamp(second * 1000), cases, &mut answered, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(by_time.values().map(Vec::len).sum::<usize>() >= 1_390, "only {} cases", cases.len());
    assert!(answered[&200] > 500 && answered[&401] > 700, "{answered:?}");
}

async fn judge(now: Timestamp, cases: &[&Value], answered: &mut BTreeMap<u16, usize>, wrong: &mut Vec<String>) {
    let mut files = vec![("provider.toml".to_owned(), include_str!("../../fixtures/vectors/schemes.toml").to_owned())];
    let mut config = "schema = 1\n".to_owned();
    for (n, case) in cases.iter().enumerate() {
        config.push_str(&format!("[sources.s{n}]\n{}", configured(case, &mut files)));
    }
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let gate = Gate::of(Wish { now, ..Wish::default() }, &config, &files).await;
    for (n, case) in cases.iter().enumerate() {
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().expect("headers") {
            let value = HeaderValue::from_bytes(value.as_str().expect("text").as_bytes()).expect("a header value");
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a header name"), value);
        }
        let body = match case["body_base64"].as_str() {
            Some(body) => base64::engine::general_purpose::STANDARD.decode(body).expect("base64"),
            None => case["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
        };
        let query = case["url"].as_str().and_then(|url| url.split_once('?')).map(|(_, query)| format!("?{query}"));
        let path = format!("/webhooks/s{n}");
        let target = format!("{path}{}", query.unwrap_or_default());
        let posted =
            Posted { method: &Method::POST, path: &path, target: &target, headers: &headers, body: Bytes::from(body) };
        let answer = gate.receiver.handle(posted).await;
        let status = answer.status().as_u16();
        *answered.entry(status).or_default() += 1;
        if (200..300).contains(&status) != (case["expect"] == "accept") {
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            wrong.push(format!("{}: {status} {}", case["id"], String::from_utf8_lossy(&body)));
        }
    }
}
