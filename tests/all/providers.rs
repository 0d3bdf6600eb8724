//! The provider files that are shipped: each is read without a fault or a warning, is found by its name in the program, and
//! judges real webhooks as the provider's own library does.

use std::path::{Path, PathBuf};

use ringback::model::Timestamp;
use ringback::provider::{self, Provider};
use ringback::secret::Secret;
use ringback::signature::Request;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("providers")
}

fn shipped() -> Vec<Provider> {
    let entries = std::fs::read_dir(folder()).expect("the folder of provider files");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    let read = |path: &PathBuf| match provider::load(path) {
        Ok((provider, warnings)) => {
            let warnings: Vec<&str> = warnings.iter().map(|fault| fault.message.as_str()).collect();
            assert!(warnings.is_empty(), "{}: {warnings:?}", path.display());
            provider
        }
        Err(faults) => {
            let faults: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
            panic!("{}: {faults:?}", path.display())
        }
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_shipped_file_is_read_and_is_built_in() {
    let shipped = shipped();
    let names: Vec<&str> = shipped.iter().map(|provider| provider.name.as_str()).collect();
    assert!(names.len() >= 8, "{names:?}");
    assert_eq!(names, provider::built_in_names());
    for provider in &shipped {
        let file = provider::built_in(&provider.name).expect("built in under its name");
        assert!(provider::read(file).is_ok(), "{} as built in", provider.name);
        assert!(!provider.tests.is_empty(), "{} has no tests", provider.name);
    }
}

#[test]
fn shipped_schemes_judge_webhooks_as_the_official_libraries_do() {
    let text = include_str!("../fixtures/shipped_schemes.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(text).expect("the cases are JSON");
    let shipped = shipped();
    let schemes: Vec<_> = shipped.iter().flat_map(|provider| &provider.webhook).flat_map(|w| &w.schemes).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let part = |name: &str| case[name].as_str().unwrap_or_default();
        let scheme =
            schemes.iter().find(|scheme| scheme.name == part("scheme")).expect("a shipped scheme of that name");
        let headers = case["headers"].as_object().expect("headers");
        let lower = |(name, value): (&String, &serde_json::Value)| {
            (name.to_ascii_lowercase(), value.as_str().unwrap_or_default().to_owned())
        };
        let headers: Vec<(String, String)> = headers.iter().map(lower).collect();
        let url = part("url");
        let settings = serde_json::Map::new();
        let body = part("body").as_bytes();
        let request = Request { method: part("method"), url: Some(url), headers: &headers, body, settings: &settings };
        let now = Timestamp(case["now"].as_i64().expect("a time") * 1000);
        let verdict = scheme.verify(&request, &[Secret::new(part("secret"))], now);
        if verdict.is_ok() != (part("expect") == "accept") {
            wrong.push(format!("{}: {verdict:?} ({})", part("id"), part("reason")));
        }
    }
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
