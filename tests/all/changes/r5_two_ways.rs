//! R5: polls and real webhooks as one stream.

use ringback::model::SeenBy;

use super::kit::*;

const ONE: &str = r#"[{"id":"a","v":1}]"#;
const TWO: &str = r#"[{"id":"a","v":2,"x":"B"}]"#;
const HOOK_TWO: &str = r#"{"s":{"id":"a","v":2,"x":"B"}}"#;

async fn known(stream: &str) -> World {
    let world = World::new(stream).await;
    world.poll(&[ONE]).await;
    world
}

#[tokio::test]
async fn r5_1_a_webhook_between_judging_and_committing_is_not_overwritten() {
    let world = known(SNAPSHOT).await;
    let mut polling = world.begin().await;
    polling.page(TWO).await.expect("a page");
    // The webhook of the next change arrives while the page waits in the journal.
    world.webhook(r#"{"s":{"id":"a","v":3,"x":"C"}}"#).await;
    polling.finish().await.expect("ends");
    assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("3"));
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r5_2_a_change_seen_both_ways_is_one_event_in_either_order() {
    for stream in [SNAPSHOT, UNSORTED, SORTED] {
        let world = known(stream).await;
        world.webhook(HOOK_TWO).await;
        world.poll(&[TWO]).await;
        world.poll(&[TWO]).await;
        assert_eq!(world.said().await, ["s.updated a"], "{stream}: webhook first");
        assert_eq!(world.last().await.seen_by, SeenBy::Webhook);
        let world = known(stream).await;
        world.poll(&[TWO]).await;
        world.webhook(HOOK_TWO).await;
        world.poll(&[TWO]).await;
        assert_eq!(world.said().await, ["s.updated a"], "{stream}: poll first");
        assert_eq!(world.last().await.seen_by, SeenBy::Poll);
    }
}

#[tokio::test]
async fn r5_2_twins_agree_where_both_have_a_place_and_need_not_be_equal() {
    let world = known(SNAPSHOT).await;
    world.webhook(r#"{"s":{"id":"a","v":2,"x":"B","only_here":1}}"#).await;
    world.poll(&[r#"[{"id":"a","v":2,"x":"B","links":{"self":"/a"}}]"#]).await;
    assert_eq!(world.said().await, ["s.updated a"]);
    // The polled form is the one that later polls are compared with.
    world.poll(&[r#"[{"id":"a","v":2,"x":"B","links":{"self":"/b"}}]"#]).await;
    assert_eq!(world.said().await.len(), 2);
    assert_eq!(world.last().await.changed.as_deref(), Some(&br#"["/links/self"]"#[..]));
}

#[tokio::test]
async fn r5_2_a_polled_copy_that_disagrees_under_one_version_is_a_change() {
    let world = known(SNAPSHOT).await;
    world.webhook(HOOK_TWO).await;
    world.poll(&[r#"[{"id":"a","v":2,"x":"other"}]"#]).await;
    assert_eq!(world.said().await, ["s.updated a", "s.updated a"]);
}

#[tokio::test]
async fn r5_2_a_webhook_of_an_equal_version_that_disagrees_is_a_notice() {
    let world = known(SNAPSHOT).await;
    world.poll(&[TWO]).await;
    world.webhook(r#"{"s":{"id":"a","v":2,"x":"other"}}"#).await;
    assert_eq!(world.said().await, ["s.updated a"]);
    assert!(world.status().await.next_poll_at.expect("planned") <= world.clock.now(), "the stream is polled instead");
}

#[tokio::test]
async fn r5_2_a_webhook_repeated_after_the_poll_took_its_own_form_is_known_by_its_form() {
    let world = known(SNAPSHOT).await;
    let hook = r#"{"s":{"id":"a","v":2,"x":"B","cut":"abc"}}"#;
    world.webhook(hook).await;
    world.poll(&[r#"[{"id":"a","v":2,"x":"B","cut":"abc","more":1}]"#]).await;
    world.webhook(hook).await;
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r5_2_a_late_older_copy_is_dropped() {
    let world = known(SNAPSHOT).await;
    world.webhook(r#"{"s":{"id":"a","v":5,"x":"E"}}"#).await;
    world.webhook(r#"{"s":{"id":"a","v":3,"x":"C"}}"#).await;
    world.webhook(r#"{"s":{"id":"a","v":4,"x":"D"}}"#).await;
    assert_eq!(world.said().await, ["s.updated a"]);
    assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("5"));
}

#[tokio::test]
async fn r5_2_a_later_version_of_the_same_content_is_kept_so_that_a_webhook_of_one_in_between_is_late() {
    let world = World::new(format!("{SNAPSHOT}\nignore = [\".v\"]").as_str()).await;
    world.poll(&[r#"[{"id":"a","v":1,"x":"A"}]"#]).await;
    // It went to B and back to A between two looks; the webhook of B comes late.
    world.poll(&[r#"[{"id":"a","v":3,"x":"A"}]"#]).await;
    world.webhook(r#"{"s":{"id":"a","v":2,"x":"B"}}"#).await;
    assert_eq!(world.said().await, Vec::<String>::new());
    assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("3"));
}

#[tokio::test]
async fn r4_1_what_a_webhook_told_during_the_first_look_is_told_on() {
    let world = World::new(SNAPSHOT).await;
    world.webhook(r#"{"s":{"id":"a","v":1,"x":"A"}}"#).await;
    world.poll(&[r#"[{"id":"a","v":2,"x":"B"},{"id":"b","v":1}]"#]).await;
    assert_eq!(world.said().await, ["s.updated a", "s.updated a"], "its handlers know it, so they learn the rest");
}

#[tokio::test]
async fn r5_3_a_stale_page_never_beats_a_fresh_webhook() {
    for stream in [UNSORTED, SORTED, SNAPSHOT] {
        let world = known(stream).await;
        let mark = world.mark().await;
        let mut polling = world.begin().await;
        // The page was asked for before the webhook came, and shows what was before it.
        world.webhook(r#"{"s":{"id":"a","v":3,"x":"C"}}"#).await;
        polling.page(TWO).await.expect("a page");
        polling.finish().await.expect("ends");
        assert_eq!(world.said().await, ["s.updated a"], "{stream}");
        assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("3"));
        assert_eq!(world.mark().await, mark, "{stream}: the mark does not pass an ignored copy");
        let next = world.status().await.next_poll_at.expect("planned");
        assert!(next.since(world.clock.now()) < std::time::Duration::from_secs(30), "{stream}: polled once more, soon");
    }
}

#[tokio::test]
async fn r5_3_a_page_asked_for_after_the_webhook_is_believed() {
    let world = known(SNAPSHOT).await;
    world.webhook(r#"{"s":{"id":"a","v":3,"x":"C"}}"#).await;
    for _ in 0..2 {
        world.poll(&[TWO]).await;
    }
    assert_eq!(world.said().await, ["s.updated a", "s.updated a"], "an older version, shown twice by later runs");
}

#[tokio::test]
async fn r5_3_a_webhook_never_moves_the_mark() {
    let world = known(UNSORTED).await;
    let mark = world.mark().await;
    world.webhook(r#"{"s":{"id":"z","v":900}}"#).await;
    assert_eq!(world.mark().await, mark);
    world.poll(&[r#"[{"id":"a","v":1},{"id":"b","v":2}]"#]).await;
    assert_eq!(world.said().await, ["s.created z", "s.created b"]);
}

#[tokio::test]
async fn r5_4_the_filter_of_a_stream_holds_for_its_webhooks() {
    let world = World::new(format!("{SNAPSHOT}\nfilter = \".kind != \\\"test\\\"\"").as_str()).await;
    world.poll(&["[]"]).await;
    world.webhook(r#"{"s":{"id":"t","v":1,"kind":"test"}}"#).await;
    world.webhook(r#"{"s":{"id":"r","v":1,"kind":"real"}}"#).await;
    assert_eq!(world.said().await, ["s.created r"]);
}

#[tokio::test]
async fn r5_4_a_copy_without_a_version_is_a_notice() {
    let world = World::new("detect = \"snapshot\"").await;
    world.poll(&[ONE]).await;
    world.webhook(HOOK_TWO).await;
    assert_eq!(world.said().await, Vec::<String>::new());
    assert!(world.status().await.next_poll_at.expect("planned") <= world.clock.now());
    world.poll(&[TWO]).await;
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r5_4_changed_and_previous_compare_copies_of_the_same_way() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1,"x":"A","links":1}]"#]).await;
    // Nothing of this way is known: only the places that both have.
    world.webhook(r#"{"s":{"id":"a","v":2,"x":"B","hook":1}}"#).await;
    assert_eq!(world.last().await.changed.as_deref(), Some(&br#"["/v","/x"]"#[..]));
    // The webhook's own former copy is known now.
    world.webhook(r#"{"s":{"id":"a","v":3,"x":"B","hook":2}}"#).await;
    assert_eq!(world.last().await.changed.as_deref(), Some(&br#"["/v","/hook"]"#[..]));
}

#[tokio::test]
async fn r5_4_a_pure_event_belongs_to_a_stream_that_webhooks_alone_feed() {
    let messages = "[[webhook.messages]]\nrecords = \"[.s]\"\nid = \".message\"\n";
    let stream = "[streams.pushes]\nkey = \".id\"\ndetect = \"new\"";
    let wish = Wish::from(format!("key = \".id\"\n{SNAPSHOT}\n{stream}").as_str())
        .messages(&messages.replace("records", "stream = \"pushes\"\nrecords"));
    let world = World::new(wish).await;
    for _ in 0..2 {
        world.webhook(r#"{"s":{"id":"p1"}}"#).await;
    }
    assert_eq!(world.said().await, ["pushes.created p1"]);
}

#[tokio::test]
async fn r5_5_a_declared_flag_deletes_in_every_mode_without_grace() {
    for detect in ["changed", "snapshot", "new"] {
        let world =
            World::new(format!("detect = \"{detect}\"\ndeletes = {{ when = \".gone == true\" }}").as_str()).await;
        world.poll(&[r#"[{"id":"a","gone":false},{"id":"b","gone":false}]"#]).await;
        let page = r#"[{"id":"a","gone":true},{"id":"b","gone":false}]"#;
        world.poll(&[page]).await;
        world.poll(&[page]).await;
        assert_eq!(world.said().await, ["s.deleted a"], "{detect}");
    }
}

#[tokio::test]
async fn r5_5_a_deleted_key_comes_back_only_by_a_greater_version_or_a_later_listing() {
    let world = known(SNAPSHOT).await;
    world.webhook(r#"{"s":{"id":"a","v":2},"deleted":true}"#).await;
    assert_eq!(world.said().await, ["s.deleted a"]);
    // The message of the last update arrives late; the delete arrives again.
    world.webhook(r#"{"s":{"id":"a","v":2}}"#).await;
    world.webhook(r#"{"s":{"id":"a","v":1}}"#).await;
    world.webhook(r#"{"s":{"id":"a","v":2},"deleted":true}"#).await;
    assert_eq!(world.said().await, ["s.deleted a"]);
    world.webhook(r#"{"s":{"id":"a","v":3}}"#).await;
    assert_eq!(world.said().await, ["s.deleted a", "s.created a"]);

    // A page asked for before the delete does not bring it back; one asked for afterwards does.
    let world = known(SNAPSHOT).await;
    let mut polling = world.begin().await;
    world.webhook(r#"{"s":{"id":"a","v":2},"deleted":true}"#).await;
    polling.page(ONE).await.expect("a page");
    polling.finish().await.expect("ends");
    assert_eq!(world.said().await, ["s.deleted a"]);
    world.poll(&[r#"[{"id":"a","v":2}]"#]).await;
    assert_eq!(world.said().await, ["s.deleted a", "s.created a"]);
}

#[tokio::test]
async fn r5_5_a_delete_that_arrives_late_does_not_delete_what_was_created_anew() {
    let world = known(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":7}]"#]).await;
    world.webhook(r#"{"s":{"id":"a","v":3},"deleted":true}"#).await;
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r5_6_a_message_id_is_taken_once_and_what_cannot_be_read_blocks_nobody() {
    let world = known(SNAPSHOT).await;
    world.arrives(r#"{"message":"m1","s":{"id":"b","v":1}}"#).await;
    world.arrives(r#"{"message":"m1","s":{"id":"b","v":2}}"#).await;
    world.arrives(r#"{"message":"m2","s":{"v":1}}"#).await;
    world.arrives(r#"{"message":"m3","s":{"id":"c","v":1}}"#).await;
    world.take_in().await;
    assert_eq!(world.said().await, ["s.created b", "s.created c"]);
    let inbox = world.store.inbox().await.expect("reads");
    assert_eq!((inbox.pending, inbox.unreadable), (0, 1));
}

#[tokio::test]
async fn r5_6_inbounds_of_a_stream_go_in_order_of_receipt() {
    let world = known(SNAPSHOT).await;
    for v in 2..6 {
        world.arrives(&format!(r#"{{"s":{{"id":"a","v":{v}}}}}"#)).await;
    }
    world.take_in().await;
    let versions: Vec<_> = world.events().await.iter().map(|e| e.revision).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("5"));
}

#[tokio::test]
async fn r5_6_a_crash_between_receipt_and_taking_in_loses_nothing_and_doubles_nothing() {
    let world = known(SNAPSHOT).await;
    world.arrives(r#"{"message":"m1","s":{"id":"a","v":2}}"#).await;
    let world = world.restart(SNAPSHOT).await;
    world.take_in().await;
    let world = world.restart(SNAPSHOT).await;
    world.arrives(r#"{"message":"m1","s":{"id":"a","v":2}}"#).await;
    world.take_in().await;
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r5_7_a_notice_is_settled_by_a_run_that_began_after_it_and_found_something() {
    let world = World::new("detect = \"snapshot\"").await;
    world.poll(&[ONE]).await;
    // The notice arrives while a run is on: that run may have looked before the change.
    let mut polling = world.begin().await;
    world.webhook(HOOK_TWO).await;
    polling.page(ONE).await.expect("a page");
    polling.finish().await.expect("ends");
    let due = |world: &World| {
        let (store, now) = (world.store.clone(), world.clock.now());
        async move { store.streams().await.expect("reads")[0].next_poll_at.expect("planned").since(now).as_secs() }
    };
    assert_eq!(due(&world).await, 0, "a run of its own");
    // It finds nothing: lists trail their webhooks. Three more looks follow, then the ordinary pace.
    for want in [5, 30, 120] {
        let polling = world.begin().await;
        polling.nothing_new(ONE).await;
        assert!(due(&world).await <= want, "{want}");
        world.later(want);
    }
    world.begin().await.nothing_new(ONE).await;
    assert!(due(&world).await > 120);

    // What is found ends it.
    world.webhook(HOOK_TWO).await;
    world.begin().await.found(TWO).await;
    assert!(due(&world).await > 120);

    // A run that fails settles nothing.
    world.webhook(HOOK_TWO).await;
    world.begin().await.abandon().await;
    world.begin().await.nothing_new(TWO).await;
    assert!(due(&world).await <= 5);
}
