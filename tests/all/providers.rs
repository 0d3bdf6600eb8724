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

/// What the catalogue promises: providers by name, and whether they are polled, received, and emitted in their own form.
const PROMISED: [(&str, &str); 40] = [
    ("adyen", "received, emitted"),
    ("auth0", "polled, received, emitted"),
    ("aws-sns", "received"),
    ("bitbucket", "polled, received, emitted"),
    ("braintree", "received, emitted"),
    ("discord", "polled, received, emitted"),
    ("docusign", "polled, received, emitted"),
    ("github", "polled, received, emitted"),
    ("gitlab", "polled, received, emitted"),
    ("gocardless", "polled, received, emitted"),
    ("hubspot", "polled, received, emitted"),
    ("intercom", "polled, received, emitted"),
    ("jira", "polled, received, emitted"),
    ("linear", "polled, received, emitted"),
    ("liqpay", "polled, received, emitted"),
    ("mailgun", "polled, received, emitted"),
    ("meta", "received, emitted"),
    ("mollie", "polled, received, emitted"),
    ("monobank", "polled, received"),
    ("notion", "polled, received, emitted"),
    ("okta", "polled, received, emitted"),
    ("paddle", "polled, received, emitted"),
    ("pagerduty", "polled, received, emitted"),
    ("paypal", "polled, received"),
    ("plaid", "polled, received"),
    ("revolut", "polled, received, emitted"),
    ("sendgrid", "received, emitted"),
    ("shopify", "polled, received, emitted"),
    ("slack", "polled, received, emitted"),
    ("square", "polled, received, emitted"),
    ("standard-webhooks", "received, emitted"),
    ("stripe", "polled, received, emitted"),
    ("telegram", "polled, received, emitted"),
    ("twilio", "polled, received, emitted"),
    ("twitch", "polled, received, emitted"),
    ("typeform", "polled, received, emitted"),
    ("wise", "polled, received, emitted"),
    ("youtube", "polled, received, emitted"),
    ("zendesk", "polled, received, emitted"),
    ("zoom", "polled, received, emitted"),
];

#[test]
fn the_catalogue_holds_what_it_promises_with_a_rejecting_case_for_each() {
    let shipped = shipped();
    for (name, promised) in PROMISED {
        let provider = shipped.iter().find(|provider| provider.name == name);
        let provider = provider.unwrap_or_else(|| panic!("{name} is not shipped"));
        let mut ways = Vec::new();
        if provider.streams.iter().any(|stream| stream.request.is_some()) {
            ways.push("polled");
            assert!(provider.tests.iter().any(|test| !test.polls.is_empty()), "{name} has no recorded pages");
        }
        let webhook = provider.webhook.as_ref().unwrap_or_else(|| panic!("{name} receives nothing"));
        if !webhook.schemes.is_empty() {
            ways.push("received");
        }
        let native = provider.native.as_ref();
        match native.and_then(|native| native.impossible.as_ref()) {
            Some(sentence) => assert!(sentence.split(' ').count() > 6, "{name}: {sentence}"),
            None => ways.push("emitted"),
        }
        assert_eq!(ways.join(", "), promised, "{name}");
        let notes = provider.notes.as_deref().unwrap_or_default();
        if !ways.contains(&"polled") {
            assert!(notes.contains("Fed by webhooks alone"), "{name} does not say that nothing is polled");
        }
        // What a webhook brings to a stream of its own is told twice when a poll tells it too: that must be said.
        let polled = |name: &str| provider.streams.iter().any(|stream| stream.name == name && stream.request.is_some());
        let aside = webhook.messages.iter().all(|message| !polled(&message.stream));
        if aside && ways.contains(&"polled") {
            assert!(notes.contains("two streams"), "{name} does not say that a change may be told in two streams");
        }
        let verdict = |wanted: &dyn Fn(&str) -> bool| {
            provider.tests.iter().any(|test| test.verdict.as_deref().is_some_and(wanted))
        };
        assert!(verdict(&|verdict| verdict == "accept"), "{name} has no accepted webhook among its tests");
        assert!(verdict(&|verdict| verdict != "accept"), "{name} has no refused webhook among its tests");
        // A challenge that fetches an address, or is signed with a key that only the provider has, cannot be played offline.
        let played = provider.tests.iter().any(|test| test.answer.is_some());
        let sentence = notes.contains("challenge cannot be recorded");
        assert!(webhook.handshakes.is_empty() || played || sentence, "{name} has no challenge among its tests");
    }
}

/// Every file that is shipped, whether the list above names it or not: what it polls has recorded pages and expected events, what it
/// receives a case that is accepted and one that is refused, and what it cannot do a sentence.
#[test]
fn every_shipped_file_shows_what_it_can_and_says_what_it_cannot() {
    let shipped = shipped();
    assert!(shipped.len() >= 50, "only {} files", shipped.len());
    for provider in &shipped {
        let (name, notes) = (&provider.name, provider.notes.as_deref().unwrap_or_default());
        let tests = |wanted: &dyn Fn(&provider::ProviderTest) -> bool| provider.tests.iter().any(wanted);
        for stream in provider.streams.iter().filter(|stream| stream.is_polled()) {
            let told = |test: &provider::ProviderTest| {
                test.stream.as_deref() == Some(&stream.name) && !test.polls.is_empty() && !test.expect.is_empty()
            };
            assert!(tests(&told), "{name}: `{}` has no recorded pages with the events that they give", stream.name);
        }
        let Some(webhook) = &provider.webhook else {
            assert!(notes.contains("Polled alone"), "{name} does not say that nothing is received");
            continue;
        };
        assert!(tests(&|test| test.verdict.as_deref() == Some("accept")), "{name}: no request is accepted");
        assert!(tests(&|test| test.verdict.as_deref().is_some_and(|v| v != "accept")), "{name}: no request is refused");
        // A merged record and a polled one of the same key must be shown to be one event.
        let polled = |stream: &str| provider.streams.iter().any(|s| s.name == stream && s.request.is_some());
        if webhook.messages.iter().any(|message| polled(&message.stream)) {
            let twin = |test: &provider::ProviderTest| test.request.is_some() && !test.polls.is_empty();
            assert!(tests(&twin), "{name}: no test shows a change that a webhook and a poll tell");
        }
        let native = provider.native.as_ref();
        let emitted = native.is_some_and(|native| native.impossible.is_none());
        let reason = native.and_then(|native| native.impossible.as_deref());
        assert!(
            emitted || reason.is_some_and(|reason| reason.split(' ').count() > 6),
            "{name}: neither native nor why"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tests_inside_shipped_files_pass() {
    let mut count = 0;
    for provider in shipped() {
        let file = provider.file.clone();
        for outcome in ringback::provider_test::run(provider, &file).await {
            assert!(
                outcome.fault.is_none(),
                "{}: {}: {}",
                file.display(),
                outcome.name,
                outcome.fault.unwrap_or_default()
            );
            count += 1;
        }
    }
    assert!(count >= 155, "only {count} tests");
}

/// The recorded polls of every file again, as they may come in life: each page twice in a row, and at the end once more the first one, which
/// by then holds older copies. Nothing is told a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_is_told_once_however_often_and_late_it_is_shown() {
    let (mut stories, mut wrong) = (0, Vec::new());
    for mut provider in shipped() {
        let again = provider.tests.iter().flat_map(|test| shown_again(&provider, test));
        provider.tests = again.collect();
        stories += provider.tests.len();
        let file = provider.file.clone();
        for outcome in ringback::provider_test::run(provider, &file).await {
            wrong.extend(outcome.fault.map(|fault| format!("{}: {}: {fault}", file.display(), outcome.name)));
        }
    }
    assert!(wrong.is_empty(), "{} of {stories}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(stories >= 180, "only {stories} stories");
}

/// A test with its pages twice, and with the first one once more.
fn shown_again(provider: &Provider, test: &provider::ProviderTest) -> Vec<provider::ProviderTest> {
    let mut found = provider.streams.iter().filter(|s| test.stream.as_ref().is_none_or(|name| s.name == *name));
    let Some(stream) = found.next().filter(|_| !test.polls.is_empty()) else { return Vec::new() };
    let mut stories = Vec::new();
    // A copy that a second look shows again is a change, however old: where a test ends with an older one, it stays alone.
    let times = |n: usize| if test.polls[..n].contains(&test.polls[n]) { 1 } else { 2 };
    // Absence counts.
    if stream.detect != provider::Detect::Snapshot {
        let polls = (0..test.polls.len()).flat_map(|n| std::iter::repeat_n(test.polls[n].clone(), times(n))).collect();
        let request_after = (0..test.request_after).map(times).sum();
        let name = format!("{}: each page twice", test.name);
        stories.push(provider::ProviderTest { name, polls, request_after, ..test.clone() });
    }
    let placed = stream.detect == provider::Detect::New || stream.version.is_some();
    // What was deleted comes back with a listing that shows it, where that is asked for afterwards.
    let deleted = test.expect.iter().any(|line| line.split(' ').next() == Some(&*stream.types.deleted));
    if placed && !deleted && (0..test.polls.len()).all(|n| times(n) == 2) {
        let polls = test.polls.iter().chain(test.polls.first()).cloned().collect();
        let name = format!("{}: the first page once more", test.name);
        stories.push(provider::ProviderTest { name, polls, ..test.clone() });
    }
    stories
}

#[test]
fn no_providers_name_stands_in_the_code() {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the code").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                // Tests may tell the story of a provider.
                path if path.to_string_lossy().ends_with("tests.rs") => {}
                path => files.push(path),
            }
        }
    }
    assert!(files.len() > 100, "only {} files", files.len());
    // Names that are words of their own, and the default scheme, which is a standard.
    let plain =
        ["square", "linear", "meta", "wise", "zoom", "notion", "standard-webhooks", "document", "slack", "plaid"];
    let names = PROMISED.iter().map(|(name, _)| *name).filter(|name| !plain.contains(name));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 25);
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_lowercase();
        for name in &names {
            let word = |found: &str| !found.chars().next().is_some_and(|c| c.is_alphanumeric());
            let named = code.match_indices(name).any(|(at, _)| word(&code[at + name.len()..]));
            assert!(!named, "{} names {name}", file.display());
        }
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

#[test]
fn what_built_in_providers_send_natively_can_be_rendered() {
    let mut context = ringback::template::Context::new();
    let record = br#"{"id":1.50,"user":{"login":"u"}}"#;
    context
        .set_received("record", bytes::Bytes::from_static(record))
        .set("event.id", "evt_1")
        .set("event.key", "1")
        .set("event.stream", "issues")
        .set("event.type", "issues.opened")
        .set_value("settings", &serde_json::json!({"owner": "o", "repo": "r"}));
    // Of the others each test inside the file emits what it led to; here the record is an odd one.
    for name in ["github", "stripe", "telegram"] {
        let (provider, _) = provider::built_in(name).map(provider::read).expect("its file").expect("valid");
        let Some(native) = provider.native else { continue };
        for (header, template) in &native.headers {
            let text = template.text(&context).unwrap_or_else(|error| panic!("{name}: {header}: {error}"));
            assert!(!text.is_empty() && !text.contains('\n'), "{name}: {header}: {text:?}");
        }
        if let Some(provider::Body::Text(template)) = &native.body {
            let text = template.text(&context).unwrap_or_else(|error| panic!("{name}: {error}"));
            let raw: &serde_json::value::RawValue =
                serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
            assert!(raw.get().contains("1.50"), "{name}: the record as it was sent: {text}");
        }
    }
}

/// Many providers are both polled and received: who gives only the secret of the webhooks is not told of polls that cannot log in.
#[test]
fn a_source_with_webhooks_and_without_credentials_asks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    let polled = |keys: &str| {
        let source = "[sources.s]\nprovider = \"gocardless\"\nwebhook = { secret = { file = \"a\" } }\n";
        std::fs::write(&path, format!("schema = 1\n{source}{keys}")).expect("written");
        let (config, _) = ringback::config::load(&path).expect("valid");
        let (sources, _) = ringback::source::join_all(&config, false).expect("valid");
        sources.values().flat_map(|source| &source.streams).any(|stream| stream.polled)
    };
    assert!(!polled(""));
    assert!(polled("secrets = { access_token = { file = \"b\" } }\n"));
    assert!(polled("streams.events = { enabled = true }\n"), "what is asked for in so many words is done");
}
