//! Credentials that were refused, and providers that want to be left alone: what must not end either. Banks lock accounts that ask and ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);
const STREAMS: &str = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\nevery = \"60s\"\n\
                       [streams.t]\npath = \"/others\"\nrecords = \".items\"\nkey = \".id\"\nevery = \"60s\"\n";

fn wish(auth: &str) -> Wish {
    Wish {
        provider: format!("secrets.a = \"one\"\n[auth]\n{auth}"),
        source: "secrets = { a = { file = \"secret\" } }".into(),
        config: "state_key = { file = \"state.key\" }".into(),
    }
}

fn empty() -> Answer {
    ok(r#"{"items":[]}"#)
}

fn logins(world: &World) -> usize {
    world.asked().iter().filter(|asked| asked.path == "/login").count()
}

#[tokio::test]
async fn pitfall_56_a_stream_that_asks_nothing_does_not_bring_a_refused_credential_back() {
    let streams = "[streams.parents]\npath = \"/parents\"\nrecords = \".items\"\nkey = \".id\"\ndetect = \"snapshot\"\nevery = \"60s\"\n\
                   [streams.s]\nparent = { stream = \"parents\", carry = { id = \".id\" } }\npath = \"/{{ parent.id }}\"\nrecords = \".items\"\n\
                   key = \".id\"\nevery = \"60s\"\n";
    let mut world = World::wishing(wish("type = \"bearer\"\ntoken = \"{{ secrets.a }}\""), streams, |_| empty()).await;
    for _ in 0..3 {
        world.polls_what_is_due().await;
        world.clock.advance(HOUR);
    }
    world.answers(|_| status(401));
    world.asked();
    for _ in 0..5 {
        world.polls_what_is_due().await;
        assert!(world.problems().await.contains(&"auth.failed core".to_owned()), "it stays until it is taken again");
        world.clock.advance(HOUR);
        world = world.restart().await;
    }
    assert_eq!(world.status_of("s").await.last_result, Some(PollResult::Ok), "it has no parents to ask for");
    assert_eq!(world.asked().len(), 1, "banks lock accounts");
    world.answers(|_| empty());
    world.poll_stream("parents").await;
    world.clock.advance(HOUR);
    assert_eq!(world.polls_what_is_due().await, 2);
    assert_eq!(world.asked().len(), 2, "a person made it try again, and it goes on by itself");
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_56_a_login_that_is_answered_with_what_cannot_be_read_is_tried_once() {
    let session = "type = \"session\"\nlogin = { path = \"/login\", form = { p = \"{{ secrets.a }}\" } }\ntoken_path = \".id\"\nname = \"X-S\"";
    let grant = "type = \"oauth2\"\ngrant = \"password\"\ntoken_url = \"{base}/login\"\nusername = \"u\"\npassword = \"{{ secrets.a }}\"";
    let page = "<html>Wrong password, 3 tries left: s3cret</html>";
    let endless = r#"{"id":"sess-1","ends":"when it rains"}"#;
    for (auth, said, words) in [
        (session.to_owned(), page, "cannot be read"),
        (grant.to_owned(), page, "cannot be read"),
        (format!("{session}\nlifetime = \".ends\""), endless, "auth.lifetime"),
    ] {
        let mut world = World::wishing(wish(&auth), STREAMS, move |_| ok(said)).await;
        for _ in 0..4 {
            world.polls_what_is_due().await;
            world.clock.advance(HOUR);
            world = world.restart().await;
        }
        assert_eq!(logins(&world), 1, "{auth}");
        let says = world.says("auth.failed").await;
        assert!(says.contains(words) && says.contains("not tried again") && !says.contains("s3cret"), "{says}");
        world.poll().await;
        assert_eq!(logins(&world), 1, "a person may try it once more");
    }
}

#[tokio::test]
async fn an_answer_that_refuses_a_session_sets_no_cookies_of_it_and_set_ones_go_back_as_they_came() {
    let auth = "type = \"session\"\nlogin = { path = \"/login\", form = { p = \"{{ secrets.a }}\" } }";
    let asked_so_far = Arc::new(AtomicUsize::new(0));
    let world = World::wishing(wish(auth), STREAMS, move |asked| match asked.path.as_str() {
        "/login" => ok("{}").with("set-cookie", "sid=s1; Path=/").with("set-cookie", "prefs=\"a, b\\c\"; Path=/"),
        _ if asked_so_far.fetch_add(1, Ordering::SeqCst) == 1 => status(401).with("set-cookie", "sid=guest; Path=/"),
        _ => empty().with("set-cookie", "seen=1"),
    })
    .await;
    world.polls().await;
    assert_eq!(world.poll().await.result, PollResult::Failed, "the session is too young to be renewed");
    world.polls().await;
    let sent: Vec<String> = world.asked().iter().map(|asked| asked.header("cookie").to_owned()).collect();
    let session = "sid=s1; prefs=\"a, b\\c\"";
    assert_eq!(sent, ["", session, &format!("{session}; seen=1"), &format!("{session}; seen=1")]);
}

#[tokio::test]
async fn pitfall_55_retry_after_of_a_provider_in_trouble_is_kept_also_when_a_webhook_asks_sooner() {
    let refused = Arc::new(AtomicBool::new(true));
    let served = refused.clone();
    let stream_s = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\nevery = \"60s\"\n";
    let mut world = World::new(stream_s, move |_| {
        if served.load(Ordering::SeqCst) { status(503).with("retry-after", "600") } else { ok(r#"{"items":[]}"#) }
    })
    .await;
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!(world.asked().len(), 1);
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(60));
        world = world.restart().await;
        world.store.poll_now(&stream("s")).await.expect("asked for");
        world.polls_what_is_due().await;
    }
    assert_eq!(world.asked().len(), 0, "ten minutes were asked for");
    refused.store(false, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(300));
    world.polls_what_is_due().await;
    assert_eq!(world.asked().len(), 1);
}
