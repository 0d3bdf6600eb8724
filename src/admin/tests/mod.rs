//! The listeners asked over real sockets, with a real database behind them.

mod kit;

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::listener::{bind_unix, serve_router};
use crate::model::ProblemKind;
use kit::{Listening, announce, answer, client, deliver, json_post};
pub(super) use kit::{parts, sample_status};

#[tokio::test]
async fn events_are_listed_filtered_and_shown_whole() {
    let daemon = Listening::start().await;
    let (status, page) = daemon.get("/api/v1/events?source=core&type=payment.*&handler=billing&state=delivered").await;
    assert_eq!((status, &page["events"][0]["id"]), (200, &json!("evt_1")), "{page}");
    let (_, none) = daemon.get("/api/v1/events?key=P-2").await;
    assert_eq!(none["events"], json!([]));
    let (_, none) = daemon.get("/api/v1/events?until=2020-01-01T00:00:00Z").await;
    assert_eq!(none["events"], json!([]));

    let shown = client().get(daemon.url("/api/v1/events/evt_1")).send().await.expect("an answer");
    let text = shown.text().await.expect("a body");
    assert!(text.contains(r#""data":{"amount":10.00}"#), "the record's own bytes: {text}");
    let detail: shape::EventDetail = serde_json::from_str(&text).expect("the shape");
    assert_eq!(detail.deliveries[0].attempts[0].answer, "thanks");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_the_answer_is_json_with_error_and_help() {
    let daemon = Listening::start().await;
    let refused = [
        (daemon.get("/api/v1/events/evt_none").await, 404),
        (daemon.get("/api/v1/nothing").await, 404),
        (daemon.get("/elsewhere").await, 404),
        (daemon.get("/api/v1/events?colour=red").await, 400),
        (daemon.get("/api/v1/events?state=stuck").await, 400),
        (daemon.get("/api/v1/events?since=yesterday").await, 400),
        (daemon.get("/api/v1/replay").await, 405),
        (daemon.post("/api/v1/replay", json!({})).await, 400),
        (daemon.post("/api/v1/replay", json!([["evt_1"]])).await, 400),
        (daemon.post("/api/v1/replay", json!({"ids": ["evt_1"], "dryrun": true})).await, 400),
        (daemon.post("/api/v1/replay", json!({"ids": ["evt_1"], "to": "nobody"})).await, 404),
        (daemon.post("/api/v1/replay", json!({"ids": ["evt_1"], "to": "http://h.example/"})).await, 403),
        (daemon.post("/api/v1/replay", json!({"ids": ["evt_1"], "to": "billing", "like": "billing"})).await, 400),
        (daemon.post("/api/v1/handlers/nobody/pause", json!({})).await, 404),
        (daemon.post("/api/v1/sources/nobody/resume", json!({})).await, 404),
        (daemon.post("/api/v1/streams/core/other/poll", json!({})).await, 404),
        (daemon.post("/api/v1/problems/ack", json!({"kind": "disk.low"})).await, 404),
        (daemon.post("/api/v1/problems/ack", json!({"kind": "no.such"})).await, 400),
        (daemon.post("/api/v1/reload", json!({})).await, 422),
        (answer(client().post(daemon.url("/api/v1/replay")).body("ids=1")).await, 415),
    ];
    for ((status, body), want) in refused {
        assert_eq!(status, want, "{body}");
        let refusal: shape::Refusal = serde_json::from_value(body).expect("the shape of a refusal");
        assert!(!refusal.error.is_empty() && !refusal.help.is_empty());
    }
}

#[tokio::test]
async fn an_event_is_sent_again_after_a_dry_run_that_counts_only() {
    let daemon = Listening::start().await;
    let (status, plan) = daemon.post("/api/v1/replay", json!({"ids": ["evt_1"], "dry_run": true})).await;
    assert_eq!((status, &plan["deliveries"]), (200, &json!(1)), "{plan}");
    let pending = async || daemon.parts.store.handlers().await.expect("handlers")[0].pending;
    assert_eq!(pending().await, 0);
    daemon.post("/api/v1/replay", json!({"events": {"handler": "billing"}})).await;
    assert_eq!(pending().await, 1);
}

#[tokio::test]
async fn pausing_says_by_whom_and_resuming_ends_it() {
    let daemon = Listening::start().await;
    let (status, done) = daemon.post("/api/v1/handlers/billing/pause", json!({"reason": "upgrade"})).await;
    assert_eq!(status, 200, "{done}");
    let (_, handlers) = daemon.get("/api/v1/handlers").await;
    assert_eq!(handlers[0]["paused"], json!({"by": "127.0.0.1", "reason": "upgrade"}));
    daemon.post("/api/v1/handlers/billing/resume", json!({})).await;
    assert_eq!(daemon.get("/api/v1/handlers").await.1[0].get("paused"), None);

    daemon.post("/api/v1/sources/core/pause", json!({})).await;
    assert_eq!(daemon.get("/api/v1/streams").await.1[0]["paused"]["by"], "127.0.0.1");
}

#[tokio::test]
async fn polls_and_made_up_events_are_asked_of_the_daemon() {
    let daemon = Listening::start().await;
    let (status, report) = daemon.post("/api/v1/streams/core/payments/poll", json!({"dry_run": true})).await;
    assert_eq!((status, &report["result"]), (200, &json!("ok")));
    let order = json!({"event_type": "payment.created", "key": "P-9", "data": {"amount": 5}});
    let (status, triggered) = daemon.post("/api/v1/streams/core/payments/trigger", order).await;
    assert_eq!((status, triggered), (200, json!({"id": "evt_test", "handlers": 1})));
    assert_eq!(
        *daemon.control.0.lock().expect("no panic"),
        ["poll core/payments dry_run=true", r#"trigger core/payments payment.created P-9 {"amount":5}"#]
    );
}

#[tokio::test]
async fn a_problem_is_acknowledged_and_counts_in_the_metrics() {
    let daemon = Listening::start().await;
    daemon.parts.store.open_problem(ProblemKind::DiskLow, "", "200 MiB are left").await.expect("opened");
    let (status, _) = daemon.post("/api/v1/problems/ack", json!({"kind": "disk.low"})).await;
    assert_eq!(status, 200);
    assert_eq!(daemon.get("/api/v1/problems").await.1[0]["acknowledged"], true);
    let (_, text) = daemon.get("/metrics").await;
    let text = text.as_str().expect("text");
    assert!(text.contains("ringback_problems{kind=\"disk.low\"} 1"), "{text}");
    assert!(text.contains("ringback_problems{kind=\"auth.failed\"} 0"), "{text}");
    assert!(text.contains("ringback_deliveries{handler=\"billing\",state=\"pending\"} 0"), "{text}");
}

#[tokio::test]
async fn tail_waits_for_the_next_attempt_and_then_answers_at_once() {
    let daemon = Listening::start().await;
    let (_, first) = daemon.get("/api/v1/tail?lines=5").await;
    assert_eq!(first["lines"].as_array().map(Vec::len), Some(1), "{first}");
    let next = first["next"].as_str().expect("a position").to_owned();
    let path = format!("/api/v1/tail?wait=30&after={next}");
    let (page, ()) = tokio::join!(daemon.get(&path), async {
        announce(&*daemon.parts.store, "evt_2", "P-2").await;
        deliver(&*daemon.parts.store).await;
    });
    assert_eq!(page.1["lines"][0]["event"]["id"], "evt_2", "{page:?}");
    let after = page.1["next"].as_str().expect("a position");
    let (_, nothing) = daemon.get(&format!("/api/v1/tail?after={after}")).await;
    assert_eq!((&nothing["lines"], &nothing["next"]), (&json!([]), &json!(after)));
}

#[tokio::test]
async fn ready_until_a_loop_falls_silent() {
    let daemon = Listening::start().await;
    daemon.parts.heartbeat.beat("deliver");
    assert_eq!(daemon.get("/readyz").await, (200, json!({"ready": true, "reasons": []})));
    daemon.parts.clock.advance(Duration::from_secs(120));
    let (status, body) = daemon.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body["reasons"][0].as_str().is_some_and(|reason| reason.contains("deliver")), "{body}");
    assert_eq!(daemon.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_foreign_name_is_refused_over_tcp() {
    let daemon = Listening::start().await;
    let foreign = async |path: &str| answer(client().get(daemon.url(path)).header("host", "evil.example")).await.0;
    assert_eq!(foreign("/api/v1/status").await, 421);
    assert_eq!(foreign("/").await, 421);
    assert_eq!(foreign("/metrics").await, 421);
    assert_eq!(foreign("/healthz").await, 200);
    let crossing =
        json_post(daemon.url("/api/v1/handlers/billing/pause"), json!({})).header("origin", "https://evil.example");
    assert_eq!(answer(crossing).await.0, 403);
}

#[tokio::test]
async fn the_control_socket_serves_the_same_and_knows_its_caller() {
    let daemon = Listening::start().await;
    let path = daemon.folder.path().join("control.sock");
    let listener = bind_unix(&path, 0o660).expect("bound");
    tokio::spawn(serve_router(listener.into(), router(daemon.parts.clone()), daemon.cancel.clone()));
    let client = reqwest::Client::builder().unix_socket(path).build().expect("a client");
    let status: shape::Status = {
        let response = client.get("http://ringback/api/v1/status").send().await.expect("an answer");
        serde_json::from_slice(&response.bytes().await.expect("a body")).expect("the shape")
    };
    assert_eq!((status.running, status.handlers[0].delivered), (true, 1));
    let pause = client.post("http://ringback/api/v1/handlers/billing/pause");
    assert_eq!(answer(pause).await.0, 200);
    let handlers = daemon.get("/api/v1/handlers").await.1;
    assert!(handlers[0]["paused"]["by"].as_str().is_some_and(|by| by.starts_with("user ")), "{handlers}");
}

#[tokio::test]
async fn the_overview_shows_the_last_events_under_a_strict_policy() {
    let daemon = Listening::start().await;
    let response = client().get(daemon.url("/")).send().await.expect("an answer");
    let policy = response.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = response.text().await.expect("a page");
    for part in ["No problems", "core/payments", "billing", "evt_1", "payment.created"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let daemon = Listening::start().await;
    let mut stream = tokio::net::TcpStream::connect(daemon.address).await.expect("connected");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.expect("sent");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stays open for ever");
}

#[test]
fn every_path_of_the_api_is_documented() {
    let page = include_str!("../../../docs/api.md");
    let sources = [include_str!("../api.rs"), include_str!("../detection.rs")];
    let routes = sources.iter().flat_map(|text| text.split(".route(\"").skip(1));
    let paths: Vec<&str> = routes.filter_map(|rest| rest.split('"').next()).collect();
    assert!(paths.len() > 20, "hardly any routes were found: {paths:?}");
    for path in &paths {
        assert!(page.contains(&format!("| `{path}` |")), "docs/api.md says nothing of {path}");
    }
    let written = page.lines().filter_map(|line| line.strip_prefix("| `/")?.split('`').next());
    for path in written {
        assert!(paths.contains(&format!("/{path}").as_str()), "docs/api.md names /{path}, which is not there");
    }
}
