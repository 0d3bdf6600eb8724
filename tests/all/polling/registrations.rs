//! Webhooks that the daemon registers at providers by itself, and again before they end.

use std::time::Duration;

use ringback::worker::Step;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);
const STREAM: &str = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\n";

fn wish(subscribe: &str) -> Wish {
    Wish {
        provider: format!(
            "secrets.a = \"one\"\nauth = {{ type = \"bearer\", token = \"{{{{ secrets.a }}}}\" }}\n[webhook]\n{subscribe}\n\
             [[webhook.signature]]\ntype = \"token\"\nheader = \"X-Token\"\n[[webhook.messages]]\nstream = \"s\"\n"
        ),
        source:
            "secrets = { a = { file = \"secret\" } }\nwebhook = { secret = { file = \"state.key\" }, subscribe = true }"
                .into(),
        config: "[receive]\npublic_url = \"https://hooks.shop.example/in/\"".into(),
    }
}

const HOOK: &str =
    "subscribe = { path = \"/hooks\", json = { to = \"{{ url }}\", token = \"{{ secret }}\" } }\nrenew_every = \"24h\"";

/// One look at what is due; gives the requests it made.
async fn looks(world: &World) -> Vec<Asked> {
    world.poller.registrar().step().await.expect("a step");
    world.poller.drain(Duration::from_secs(20)).await;
    world.asked()
}

#[tokio::test]
async fn an_address_is_registered_once_renewed_in_time_and_not_again_after_a_restart() {
    let mut world = World::wishing(wish(HOOK), STREAM, |_| ok(r#"{"ok":true}"#)).await;
    let first = looks(&world).await;
    assert_eq!((first[0].method.as_str(), first[0].path.as_str()), ("POST", "/hooks"));
    assert_eq!(first[0].header("authorization"), "Bearer s3cret");
    let want = r#"{"to":"https://hooks.shop.example/in/webhooks/core","token":"a key of more than sixteen letters"}"#;
    assert_eq!(first[0].body, want);
    for (advance, requests) in [(0, 0), (23, 0), (1, 1), (23, 0), (1, 1)] {
        world.clock.advance(HOUR * advance);
        world = world.restart().await;
        assert_eq!(looks(&world).await.len(), requests, "{advance} h later");
        assert_eq!(looks(&world).await.len(), 0);
    }
    // Another secret is told at once.
    world.write("state.key", "another key of sixteen letters");
    let world = world.restart().await;
    assert_eq!(looks(&world).await.len(), 1);
}

#[tokio::test]
async fn a_refused_registration_is_a_problem_that_ends_with_the_next_good_one() {
    let world = World::wishing(wish(HOOK), STREAM, |_| {
        let mut answer = status(422);
        answer.body = r#"{"error":"s3cret is not https"}"#.into();
        answer
    })
    .await;
    assert_eq!(looks(&world).await.len(), 1);
    assert_eq!(world.problems().await, ["webhook.refused core"]);
    let says = world.says("webhook.refused").await;
    assert!(says.contains("422") && says.contains("webhook.subscribe") && !says.contains("s3cret"), "{says}");
    let world = world.restart().await;
    assert_eq!(looks(&world).await.len(), 0, "a refusal is not repeated at once, nor by a restart");
    world.answers(|_| ok("{}"));
    world.clock.advance(HOUR);
    assert_eq!(looks(&world).await.len(), 1);
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_growing_waits_and_is_a_problem_when_it_lasts() {
    let world = World::wishing(wish(HOOK), STREAM, |_| status(503)).await;
    let mut tried = Vec::new();
    for minute in 0..15 {
        if !looks(&world).await.is_empty() {
            tried.push((minute, world.problems().await.len()));
        }
        world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(tried, [(0, 0), (1, 0), (3, 1), (7, 1)]);
}

#[tokio::test]
async fn an_answer_that_is_a_fault_by_the_files_own_rules_is_no_registration() {
    let mut wished = wish("subscribe = { path = \"/hooks\", form = { url = \"{{ url }}\" } }");
    wished
        .provider
        .push_str("[[response_actions]]\nwhen = \".ok == false\"\naction = \"fatal\"\nmessage = \"not taken\"\n");
    let world = World::wishing(wished, STREAM, |_| ok(r#"{"ok":false}"#)).await;
    let asked = looks(&world).await;
    assert_eq!(asked[0].field("url").as_deref(), Some("https://hooks.shop.example/in/webhooks/core"));
    assert!(world.says("webhook.refused").await.contains("not taken"));
    world.answers(|_| ok(r#"{"ok":true}"#));
    world.clock.advance(HOUR);
    assert_eq!(looks(&world).await.len(), 1);
    world.clock.advance(HOUR * 24 * 300);
    assert_eq!(looks(&world).await.len(), 0, "without `renew_every` it stands until something changes");
}
