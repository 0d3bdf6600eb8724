//! Polls against a real HTTP server through the real client. The store and ingest are planned here: what they do with a run is
//! held to account in their own rooms and in the integration tests.

mod api;
mod planning;
mod taken;

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};

use super::fixtures::{get, source, stream, template};
use super::*;
use crate::client::{Client, ClientOptions};
use crate::config::{Network, Proxy, Tls};
use crate::jq::Jq;
use crate::model::ProblemKind;
use crate::provider::{Auth, PageKind, Stream};
use crate::store::*;
use api::{Api, page, status};
use planning::Planning;
use taken::Taken;

/// Everything put together around one source.
struct Story {
    api: Api,
    taken: Taken,
    store: Arc<Planning>,
    poller: Poller,
    source: Arc<Source>,
}

fn client() -> Client {
    Client::new(&ClientOptions {
        network: Network { proxy: Proxy::None, ca_files: vec![], allow: None, hosts: BTreeMap::new() },
        proxy: Proxy::None,
        proxy_password: None,
        tls: Tls::default(),
        tls_key: None,
        connect_timeout: Duration::from_secs(5),
        pool_idle_max: 2,
        unix_socket: None,
    })
    .expect("a client")
}

async fn story(streams: Vec<Stream>, auth: Auth) -> Story {
    let api = Api::default();
    let source = source(&api.start().await, streams, |source, _| source.auth = auth);
    let store = Arc::new(Planning::of(source.streams.iter().map(|stream| &stream.name)));
    let taken = Taken::default();
    let poller = Poller::new(store.clone(), Arc::new(taken.clone()), Clock::system(), Metrics::new());
    poller.load(vec![(source.clone(), Arc::new(client()))]);
    Story { api, taken, store, poller, source }
}

impl Story {
    /// Makes the stream due, takes a step, and waits for the end of its run.
    async fn polls(&self, stream: &str) -> PollEnd {
        self.starts(stream).await;
        self.ended(stream).await
    }

    async fn starts(&self, stream: &str) {
        self.store.due.lock().expect("no panic").push_back(StreamName::new("core", stream));
        assert_eq!(self.poller.step().await, Ok(Progress::Worked));
    }

    async fn ended(&self, stream: &str) -> PollEnd {
        let mut bell = self.poller.0.ended.subscribe();
        bell.mark_unchanged();
        let name = StreamName::new("core", stream);
        loop {
            let found = {
                let mut ends = self.store.ends.lock().expect("no panic");
                ends.iter().position(|(ended, _)| *ended == name).map(|at| ends.remove(at).1)
            };
            match found {
                // Problems are judged after the lease is given back: the run is over when it has rung.
                Some(end) => {
                    while self.poller.in_flight() > 0 && self.api.0.lock().expect("no panic").hangs.is_none() {
                        self.poller.reap();
                        tokio::task::yield_now().await;
                    }
                    return end;
                }
                None => bell.changed().await.expect("the poller lives"),
            }
        }
    }

    fn problems(&self) -> Vec<(ProblemKind, String)> {
        self.store.problems.lock().expect("no panic").keys().cloned().collect()
    }
}

fn by_token(name: &str) -> Stream {
    let mut spec = stream(name);
    spec.pagination.kind = PageKind::Token(Jq::parse(".next").expect("valid"));
    spec.request = Some(get("/items", &[("after", "{{ page.token }}")]));
    spec
}

fn key_in_query() -> Auth {
    let value = template("{{ secrets.key }}");
    Auth::ApiKey { place: crate::provider::KeyPlace::Query, name: "k".into(), value }
}

fn bearer() -> Auth {
    Auth::Bearer { token: template("{{ secrets.key }}") }
}

fn token_page(items: &str, next: &str) -> Response {
    format!(r#"{{"items":{items},"next":"{next}"}}"#).into_response()
}

#[tokio::test]
async fn a_listing_is_asked_for_page_by_page_and_its_end_is_recorded() {
    let story = story(vec![by_token("items")], Auth::None).await;
    story.api.plans([token_page("[1,2]", "a b"), token_page("[]", "c"), page("[3]")]);
    let end = story.polls("items").await;
    assert_eq!(story.api.asked(), ["/items", "/items?after=a%20b", "/items?after=c"]);
    assert_eq!(story.taken.lines(), ["begin Normal", "page 2", "page 0", "page 1", "finish"]);
    assert_eq!((end.result, end.records, end.changes, end.pages), (PollResult::Ok, 3, 3, 3));
    assert!(end.next_in <= Duration::from_secs(90) && end.error.is_none());
    assert_eq!(story.problems(), []);
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_abandoned_and_says_why() {
    let circle = || token_page("[1]", "a");
    for (answers, problem) in [
        (vec![token_page("[1]", "a"), token_page("[12]", "a")], Some(ProblemKind::PageLoop)),
        (vec![circle(), circle()], Some(ProblemKind::PageLoop)),
        (vec!["<html>".into_response()], Some(ProblemKind::AnswerUnreadable)),
        (vec!["{}".into_response()], Some(ProblemKind::AnswerPathMissing)),
        (vec![status(302, [("location", "https://evil.example/")])], Some(ProblemKind::AnswerUnreadable)),
        (vec![status(503, [("x-a", "b")])], None),
    ] {
        let story = story(vec![by_token("items")], Auth::None).await;
        story.api.plans(answers);
        let end = story.polls("items").await;
        assert_eq!(end.result, PollResult::Failed, "{problem:?}");
        assert!(end.error.is_some());
        assert_eq!(story.taken.lines().last().map(String::as_str), Some("abandon"), "{problem:?}");
        let want: Vec<_> = problem.map(|kind| (kind, "core/items".to_owned())).into_iter().collect();
        assert_eq!(story.problems(), want);
        // The next good poll closes what it opened.
        assert_eq!(story.polls("items").await.result, PollResult::Ok);
        assert_eq!(story.problems(), []);
    }
}

#[tokio::test]
async fn a_refused_credential_is_asked_once_and_not_again_until_a_person_insists_or_it_changes() {
    let story = story(vec![stream("items"), stream("others")], bearer()).await;
    story.api.plans([status(401, [("x-a", "b")])]);
    assert_eq!(story.polls("items").await.result, PollResult::Failed);
    let other = story.polls("others").await;
    assert_eq!(other.result, PollResult::Failed, "another stream of the credential");
    assert!(other.error.is_some_and(|error| error.contains("not asked")));
    assert_eq!(story.api.asked().len(), 1);
    assert_eq!(story.problems(), [(ProblemKind::AuthFailed, "core".to_owned())]);
    // A reload with the same credential changes nothing.
    story.poller.load(vec![(story.source.clone(), Arc::new(client()))]);
    story.polls("items").await;
    assert_eq!(story.api.asked().len(), 1);
    let report = story.poller.poll_once(&StreamName::new("core", "items"), Mode::Normal).await.expect("polled");
    assert_eq!(report.result, PollResult::Ok);
    assert_eq!(story.problems(), []);
    assert_eq!(story.polls("others").await.result, PollResult::Ok);
}

#[tokio::test]
async fn too_many_requests_keep_the_whole_credential_quiet() {
    let story = story(vec![stream("items"), stream("others")], bearer()).await;
    story.api.plans([status(429, [("retry-after", "7200")])]);
    let end = story.polls("items").await;
    assert_eq!((end.result, end.next_in), (PollResult::Failed, Duration::from_secs(7200)));
    let other = story.polls("others").await;
    assert_eq!(other.result, PollResult::Deferred);
    assert!(other.next_in > Duration::from_secs(7100), "{:?}", other.next_in);
    assert_eq!(story.api.asked().len(), 1);
}

#[tokio::test]
async fn what_was_listed_so_far_is_not_lost_to_one_bad_answer() {
    let story = story(vec![by_token("items")], Auth::None).await;
    story.api.plans([token_page("[1,2]", "a"), status(503, [("retry-after", "0")]), page("[3]")]);
    let end = story.polls("items").await;
    assert_eq!((end.result, end.records), (PollResult::Ok, 3));
    assert_eq!(story.api.asked(), ["/items", "/items?after=a", "/items?after=a"]);
}

#[tokio::test]
async fn an_unchanged_listing_is_not_read_again() {
    let mut spec = stream("items");
    spec.conditional = crate::provider::Conditional::Page;
    let story = story(vec![spec], Auth::None).await;
    let tagged = ([("etag", "\"v1\"")], r#"{"items":[1]}"#).into_response();
    story.api.plans([tagged, status(304, [("etag", "\"v1\"")])]);
    story.polls("items").await;
    assert_eq!(story.taken.lines(), ["begin Normal", "page 1", r#"finish {"etag":"\"v1\""}"#]);
    let name = StreamName::new("core", "items");
    story.store.states.lock().expect("no panic").get_mut(&name).expect("known").validators =
        Some(r#"{"etag":"\"v1\""}"#.into());
    assert_eq!(story.polls("items").await.result, PollResult::NotModified);
    assert_eq!(story.taken.lines(), ["begin Normal", "abandon"]);
    let sent = story.api.0.lock().expect("no panic").asked[1].1.get("if-none-match").cloned();
    assert_eq!(sent.expect("sent"), "\"v1\"");
}

#[tokio::test]
async fn a_source_that_hangs_delays_no_other_stream_and_can_be_broken_off() {
    let mut slow = stream("slow");
    slow.request = Some(get("/slow", &[]));
    let story = story(vec![slow, stream("items")], Auth::None).await;
    story.api.0.lock().expect("no panic").hangs = Some("/slow");
    story.starts("slow").await;
    assert_eq!(story.polls("items").await.result, PollResult::Ok);
    story.poller.reap();
    assert_eq!(story.poller.in_flight(), 1);
    story.poller.drain(Duration::from_millis(1)).await;
    assert_eq!(story.poller.in_flight(), 0);
    assert!(story.store.ends.lock().expect("no panic").is_empty(), "a run broken off settles nothing");
}

#[tokio::test]
async fn a_poll_by_hand_shows_its_requests_without_secrets_and_a_dry_run_stores_nothing() {
    let story = story(vec![by_token("items")], key_in_query()).await;
    story.api.plans([token_page("[1,2]", "a"), page("[3]"), status(400, [("x-a", "b")])]);
    let name = StreamName::new("core", "items");
    let report = story.poller.poll_once(&name, Mode::DryRun).await.expect("polled");
    let shown: Vec<_> =
        report.requests.iter().map(|asked| (asked.url.rsplit('/').next(), asked.status, asked.records)).collect();
    assert_eq!(shown, [(Some("items?k=***"), Some(200), Some(2)), (Some("items?after=a&k=***"), Some(200), Some(1))]);
    assert_eq!(report.report.map(|report| report.created), Some(3));
    assert_eq!(story.taken.lines(), ["begin DryRun", "page 2", "page 1", "finish"]);
    assert!(story.store.ends.lock().expect("no panic").is_empty());
    let report = story.poller.poll_once(&name, Mode::DryRun).await.expect("polled");
    assert_eq!((report.result, report.report), (PollResult::Failed, None));
    assert_eq!(story.problems(), [], "a dry run opens no problem");
    let unknown = story.poller.poll_once(&StreamName::new("core", "nope"), Mode::Normal).await;
    assert!(matches!(unknown, Err(PollError::Unknown(_))));
    story.store.states.lock().expect("no panic").clear();
    assert!(matches!(story.poller.poll_once(&name, Mode::Normal).await, Err(PollError::Busy(_))));
}

#[tokio::test]
async fn a_stream_that_the_configuration_no_longer_has_is_given_back() {
    let story = story(vec![stream("items")], Auth::None).await;
    story.poller.load(vec![]);
    let end = story.polls("items").await;
    assert_eq!((end.result, end.next_in), (PollResult::Deferred, UNKNOWN));
    assert_eq!(story.poller.step().await, Ok(Progress::Idle { until: None }));
}
