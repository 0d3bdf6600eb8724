//! Long polls: the provider answers when there is something, and the next request starts as soon as an answer came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringback::store::PollResult;
use ringback::worker::Step as _;

use super::kit::*;

const STREAM: &str = "[streams.s]\npath = \"/updates\"\nquery = { offset = \"{{ cursor + 1 }}\" }\nlong_poll = \"5s\"\nrecords = \".items\"\n\
                      key = \".id\"\ndetect = \"new\"\ncursor = { field = \".id\", type = \"number\" }\nevery = \"60s\"\nfirst_run = \"send-all\"\n";

#[tokio::test]
async fn after_an_answer_the_next_request_is_due_at_once_and_after_an_error_as_the_interval_says() {
    let world = World::new(STREAM, |asked| match asked.get("offset") {
        None => ok(r#"{"items":[{"id":7}]}"#),
        Some(_) => ok(r#"{"items":[]}"#),
    })
    .await;
    world.polls().await;
    assert_eq!(world.due_in("s").await, Duration::ZERO, "something came");
    world.polls().await;
    let rest = world.due_in("s").await;
    assert!(!rest.is_zero() && rest <= Duration::from_secs(1), "empty-handed at once: {rest:?}");
    assert_eq!(world.asked_for("offset"), ["-", "8"], "what came is acknowledged by the next request");
    world.answers(|_| status(502));
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(world.poll().await.result, PollResult::Failed);
        waits.push(world.due_in("s").await);
    }
    assert!(waits[0] > Duration::from_secs(1) && waits[5] > waits[0] + Duration::from_secs(100), "{waits:?}");
    world.answers(|_| status(429).with("retry-after", "240"));
    world.poll().await;
    assert!(world.due_in("s").await >= Duration::from_secs(240));
}

/// What a server knows that holds its answers back.
#[derive(Default)]
struct Held {
    newest: AtomicUsize,
    /// The highest number that a request acknowledged.
    taken: AtomicUsize,
    asked: AtomicUsize,
    broken: AtomicBool,
    bell: tokio::sync::Notify,
}

async fn answer(held: Arc<Held>, offset: usize) -> (axum::http::StatusCode, String) {
    held.asked.fetch_add(1, Ordering::SeqCst);
    if held.broken.load(Ordering::SeqCst) {
        return (axum::http::StatusCode::BAD_GATEWAY, String::new());
    }
    held.taken.fetch_max(offset.saturating_sub(1), Ordering::SeqCst);
    let waits = held.bell.notified();
    if held.newest.load(Ordering::SeqCst) < offset {
        let _ = tokio::time::timeout(Duration::from_millis(1500), waits).await;
    }
    let newest = held.newest.load(Ordering::SeqCst);
    let items: Vec<String> = (offset..=newest).map(|id| format!("{{\"id\":{id}}}")).collect();
    (axum::http::StatusCode::OK, format!("{{\"items\":[{}]}}", items.join(",")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_fetched_in_the_moment_and_a_broken_provider_is_not_hammered() {
    let held = Arc::new(Held::default());
    let served = held.clone();
    let router = axum::Router::new().fallback(move |uri: axum::http::Uri| {
        let query = uri.query().unwrap_or_default().to_owned();
        let offset = query.strip_prefix("offset=").and_then(|offset| offset.parse().ok()).unwrap_or(1);
        answer(served.clone(), offset)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let api = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut daemon = crate::rig::Daemon::new(api);
    let config = "schema = 1\ndata_dir = \"data\"\nmin_free = \"1MiB\"\n[admin]\nlisten = \"off\"\n\
                  [sources.core]\nprovider = \"./updates.toml\"\n";
    let provider = format!("schema = 1\nbase_url = \"http://{api}\"\n{}", STREAM.replace("60s", "1h"));
    std::fs::write(daemon.path("updates.toml"), provider).expect("written");
    std::fs::write(daemon.path("config.toml"), config).expect("written");
    daemon.start();
    for number in 1..=4 {
        let begun = Instant::now();
        while held.asked.load(Ordering::SeqCst) == 0 || held.taken.load(Ordering::SeqCst) + 1 < number {
            assert!(begun.elapsed() < Duration::from_secs(20), "{number} is not fetched; its log:\n{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        held.newest.store(number, Ordering::SeqCst);
        held.bell.notify_waiters();
    }
    held.broken.store(true, Ordering::SeqCst);
    held.bell.notify_waiters();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = held.asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = held.asked.load(Ordering::SeqCst) - before;
    assert!(more <= 1, "{more} requests to a provider that is broken");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer_that_is_held_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (asked, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            let _ = asked.send(());
        }
    });
    let world =
        World::new(&STREAM.replace("/updates", &format!("http://{address}/updates")).replace("path", "url"), |_| {
            ok("{}")
        })
        .await;
    world.poller.step().await.expect("a step");
    arrived.recv().await.expect("it asks");
    let begun = Instant::now();
    world.poller.stop();
    world.poller.drain(Duration::from_secs(60)).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited for the provider");
    assert_eq!(world.poller.in_flight(), 0);
}
