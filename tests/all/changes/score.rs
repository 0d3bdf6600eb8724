//! Who saw a change first (DESIGN §6), and lists that trail their webhooks (RULES R5.3).

use ringback::store::Score;

use super::kit::*;

async fn score(world: &World) -> Score {
    world.status().await.score
}

#[tokio::test]
async fn a_change_is_counted_by_the_way_that_saw_it_first_and_once_as_seen_by_both() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&["[]"]).await;
    world.webhook(r#"{"s":{"id":"a","v":1}}"#).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    assert_eq!(score(&world).await, Score { webhook: 1, poll: 0, both: 1, recovered: 0 });
    let both = r#"[{"id":"a","v":1},{"id":"b","v":1}]"#;
    world.poll(&[both]).await;
    world.webhook(r#"{"s":{"id":"b","v":1}}"#).await;
    world.webhook(r#"{"s":{"id":"b","v":1}}"#).await;
    world.poll(&[both]).await;
    assert_eq!(score(&world).await, Score { webhook: 1, poll: 1, both: 2, recovered: 0 });
    world.later(600);
    world.poll(&[both]).await;
    assert_eq!(score(&world).await.recovered, 0, "its webhook came in time");
}

#[tokio::test]
async fn a_change_that_no_webhook_announces_in_time_was_recovered_by_the_poll() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&["[]"]).await;
    world.webhook(r#"{"s":{"id":"a","v":1}}"#).await;
    assert_eq!(world.state().await.detection.announced_in_row, 1);
    let both = r#"[{"id":"a","v":1},{"id":"b","v":1}]"#;
    world.poll(&[both]).await;
    assert_eq!(score(&world).await.recovered, 0, "its webhook may still come");
    world.later(300);
    world.poll(&[both]).await;
    assert_eq!(score(&world).await.recovered, 1);
    assert_eq!(world.state().await.detection.announced_in_row, 0, "the webhooks are not healthy");
    // Too late: it was counted.
    world.webhook(r#"{"s":{"id":"b","v":1}}"#).await;
    assert_eq!(score(&world).await, Score { webhook: 1, poll: 1, both: 1, recovered: 1 });
}

#[tokio::test]
async fn a_notice_announces_what_its_stream_has_found() {
    let world = World::new("detect = \"snapshot\"").await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a"}]"#]).await;
    world.webhook(r#"{"s":{"id":"a"}}"#).await;
    world.later(300);
    world.poll(&[r#"[{"id":"a"}]"#]).await;
    let score = score(&world).await;
    assert_eq!((score.both, score.recovered), (1, 0));
}

#[tokio::test]
async fn a_stream_without_webhooks_keeps_no_score_of_recoveries() {
    let world =
        World::new(Wish::from(SNAPSHOT).messages("[[webhook.messages]]\nwhen = \"false\"\non_webhook = \"ignore\"\n"))
            .await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    world.later(600);
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    assert_eq!(score(&world).await, Score { webhook: 0, poll: 1, both: 0, recovered: 0 });
}

#[tokio::test]
async fn r5_3_a_list_that_trails_its_webhooks_is_not_believed_within_its_lag() {
    let old = r#"[{"id":"a","v":1,"x":"A"}]"#;
    for (lag, want) in [("", 2), ("\nlag = \"5m\"", 1)] {
        let world = World::new(
            format!("detect = \"snapshot\"\nversion = {{ field = \".v\", type = \"number\" }}{lag}").as_str(),
        )
        .await;
        world.poll(&[old]).await;
        world.webhook(r#"{"s":{"id":"a","v":2,"x":"B"}}"#).await;
        // Asked for after the webhook, and still showing what was before it: twice.
        world.later(10);
        world.poll(&[old]).await;
        world.poll(&[old]).await;
        assert_eq!(world.said().await.len(), want, "lag `{lag}`");
    }
    let world =
        World::new("detect = \"snapshot\"\nversion = { field = \".v\", type = \"number\" }\nlag = \"5m\"").await;
    world.poll(&[old]).await;
    world.webhook(r#"{"s":{"id":"a","v":2,"x":"B"}}"#).await;
    world.poll(&[old]).await;
    let next = world.status().await.next_poll_at.expect("planned");
    assert!(next.since(world.clock.now()).as_secs() <= 300, "it is polled again when the lag is over");
    // Also after a restart; and after the lag the list counts again.
    let world =
        world.restart("detect = \"snapshot\"\nversion = { field = \".v\", type = \"number\" }\nlag = \"5m\"").await;
    world.poll(&[old]).await;
    assert_eq!(world.said().await, ["s.updated a"]);
    world.later(600);
    world.poll(&[old]).await;
    world.poll(&[old]).await;
    assert_eq!(world.said().await, ["s.updated a", "s.updated a"]);
}
