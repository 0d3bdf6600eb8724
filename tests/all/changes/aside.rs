//! What could not be read or decided, put through again by a person (RULES R3.7, R3.8).

use ringback::ingest::Retried;
use ringback::model::{DeliveryState, ProblemKind};

use super::kit::*;

fn page(odd: &str) -> String {
    let good: Vec<String> = (0..12).map(|n| format!(r#"{{"id":"k{n:02}"}}"#)).collect();
    format!("[{},{odd}]", good.join(","))
}

#[tokio::test]
async fn r3_8_a_record_set_aside_is_put_through_again_once_the_file_is_right() {
    let world = World::new("detect = \"changed\"").await;
    world.poll(&[&page(r#"{"id":"z0"}"#)]).await;
    world.poll(&[&page(r#"{"ref":"odd-1","x":1}"#)]).await;
    assert_eq!(world.status().await.set_aside, 1);
    let counted = world.metrics.render();
    assert!(counted.contains("ringback_records_total{result=\"unreadable\"} 1"), "every refusal is counted: {counted}");
    // Without a correction it stays.
    let retried = world.ingest.retry_set_aside(world.stream()).await.expect("tries");
    assert_eq!(retried, Retried { taken: 0, given_up: 0, left: 1 });
    let world = world.restart("detect = \"changed\"\nkey = \".id // .ref\"").await;
    // The key is another definition: first the new baseline, which does not show the odd one any more.
    world.poll(&[&page(r#"{"id":"z0"}"#)]).await;
    let retried = world.ingest.retry_set_aside(world.stream()).await.expect("tries");
    assert_eq!(retried, Retried { taken: 1, given_up: 0, left: 0 });
    assert_eq!(world.said().await, ["s.created odd-1"]);
    assert_eq!(world.status().await.set_aside, 0);
    assert!(world.problem(ProblemKind::RecordUnreadable).await.is_none());
}

#[tokio::test]
async fn r3_8_what_came_in_readable_since_then_is_not_overwritten_by_what_was_kept() {
    let stream = "filter = \"if .kind == null then error else true end\"";
    let world = World::new(stream).await;
    let good: Vec<String> = (0..12).map(|n| format!(r#"{{"id":"k{n:02}","kind":1}}"#)).collect();
    let page = |odd: &str| format!("[{},{odd}]", good.join(","));
    world.poll(&[&page(r#"{"id":"a","kind":1}"#)]).await;
    world.poll(&[&page(r#"{"id":"a","x":"old"}"#)]).await;
    assert_eq!(world.status().await.set_aside, 1);
    world.poll(&[&page(r#"{"id":"a","kind":1,"x":"new"}"#)]).await;
    assert_eq!(world.said().await, ["s.updated a"]);
    assert!(world.problem(ProblemKind::RecordUnreadable).await.is_some(), "it is still kept");
    let world = world.restart("").await;
    world.poll(&[&page(r#"{"id":"a","kind":1,"x":"new"}"#)]).await;
    let retried = world.ingest.retry_set_aside(world.stream()).await.expect("tries");
    assert_eq!(retried, Retried { taken: 0, given_up: 1, left: 0 });
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r5_6_unreadable_webhooks_are_taken_in_again_by_a_person() {
    let messages = |records: &str| format!("[[webhook.messages]]\nrecords = \"{records}\"\nid = \".message\"\n");
    let world = World::new(Wish::from(SNAPSHOT).messages(&messages("[.wrong]"))).await;
    world.poll(&["[]"]).await;
    world.webhook(r#"{"message":"m1","s":{"id":"a","v":1}}"#).await;
    assert!(world.said().await.is_empty());
    assert!(world.problem(ProblemKind::WebhookUnmatched).await.is_some());
    let world = world.restart(Wish::from(SNAPSHOT).messages(&messages("[.s]"))).await;
    assert_eq!(world.store.retry_inbounds(&"shop".into()).await, Ok(1));
    world.take_in().await;
    assert_eq!(world.said().await, ["s.created a"]);
    assert_eq!(world.store.retry_inbounds(&"shop".into()).await, Ok(0), "once");
}

#[tokio::test]
async fn r3_7_deliveries_that_a_when_could_not_decide_go_or_are_dropped_once_it_can() {
    let handler = |when: &str| {
        format!("[handlers.h]\nurl = \"http://127.0.0.1:1\"\nsecret = {{ file = \"whsec\" }}\nwhen = \"{when}\"\n")
    };
    let world = World::new(Wish::from("").config(&handler(".data.sum"))).await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a","sum":"500"},{"id":"b","sum":"5"}]"#]).await;
    world.poll(&[r#"[{"id":"a","sum":"501"}]"#]).await;
    let states = async |world: &World| {
        let mut states = Vec::new();
        for id in world.ids().await {
            let detail = world.store.event(&id).await.expect("reads").expect("stored");
            states.push(detail.deliveries.first().map(|delivery| delivery.state));
        }
        states
    };
    assert_eq!(states(&world).await, [Some(DeliveryState::Held); 3]);
    let world = world.restart(Wish::from("").config(&handler("(.data.sum | tonumber) > 100"))).await;
    let retried = world.ingest.retry_when(&"h".into()).await.expect("tries");
    assert_eq!(retried, Retried { taken: 2, given_up: 1, left: 0 });
    assert_eq!(states(&world).await, [Some(DeliveryState::Pending), None, Some(DeliveryState::Pending)]);
    assert!(world.problem(ProblemKind::WhenFailed).await.is_none());
    // In order: the second of a waits for the first.
    let lease = std::time::Duration::from_secs(60);
    let claimed = world.store.claim_deliveries(lease, vec![("h".into(), 8)]).await.expect("claims");
    assert_eq!(claimed.deliveries.len(), 1);
}
