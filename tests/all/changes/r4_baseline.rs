//! R4: the first look, and changed definitions.

use ringback::model::ProblemKind;
use ringback::store::Phase;

use super::kit::*;

const THREE: &str = r#"[{"id":"a","v":1},{"id":"b","v":2},{"id":"c","v":3}]"#;

fn none() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn r4_1_the_first_look_remembers_and_says_nothing_also_after_a_crash() {
    for stream in [
        SNAPSHOT,
        UNSORTED,
        SORTED,
        "detect = \"new\"",
        "detect = \"new\"\ncursor = { field = \".v\", type = \"number\", order = \"asc\" }",
    ] {
        let world = World::new(stream).await;
        let mut polling = world.begin().await;
        polling.page(r#"[{"id":"a","v":1}]"#).await.expect("a page");
        drop(polling);
        let world = world.restart(stream).await;
        assert_eq!(world.state().await.phase, Phase::Baseline);
        world.poll(&[THREE]).await;
        assert_eq!(world.said().await, none(), "{stream}");
        assert_eq!(world.state().await.phase, Phase::Live);
        world.poll(&[r#"[{"id":"c","v":3},{"id":"d","v":4}]"#]).await;
        assert_eq!(world.said().await, ["s.created d"], "{stream}");
    }
}

#[tokio::test]
async fn r4_1_a_webhook_is_announced_during_the_first_look() {
    let world = World::new(SNAPSHOT).await;
    world.webhook(r#"{"s":{"id":"x","v":1}}"#).await;
    assert_eq!(world.said().await.len(), 1);
    world.poll(&[r#"[{"id":"x","v":1},{"id":"y","v":1}]"#]).await;
    assert_eq!(world.said().await.len(), 1, "and the listing has nothing to add");
}

#[tokio::test]
async fn r4_1_the_webhook_of_what_the_first_look_took_silently_is_announced_once() {
    for stream in [SNAPSHOT, "detect = \"new\""] {
        let world = World::new(stream).await;
        world.poll(&[THREE]).await;
        assert_eq!(world.said().await, none());
        let message = r#"{"s":{"id":"b","v":2}}"#;
        world.webhook(message).await;
        assert_eq!(world.said().await.len(), 1, "{stream}: it happened while we looked, and its webhook says so");
        assert!(world.last().await.changed.is_none(), "nothing is known of what it was before");
        world.webhook(message).await;
        world.poll(&[THREE]).await;
        assert_eq!(world.said().await.len(), 1, "{stream}");
    }
}

#[tokio::test]
async fn r4_1_everything_is_sent_where_that_is_asked_for() {
    for stream in [SNAPSHOT, UNSORTED, SORTED, "detect = \"new\""] {
        let world = World::new(Wish::from(stream).own("first_run = \"send-all\"")).await;
        world.poll(&[THREE]).await;
        assert_eq!(world.said().await, ["s.created a", "s.created b", "s.created c"], "{stream}");
        world.poll(&[THREE]).await;
        assert_eq!(world.said().await.len(), 3);
    }
}

#[tokio::test]
async fn r4_1_only_what_is_dated_since_then_is_sent() {
    let stream = "time = \".at\"\ndetect = \"snapshot\"";
    let page = r#"[{"id":"old","at":"2026-01-01T00:00:00Z"},{"id":"new","at":"2026-10-01T00:00:00Z"},{"id":"undated","at":null}]"#;
    let world = World::new(Wish::from(stream).own("first_run = { since = \"2026-06-01T00:00:00Z\" }")).await;
    world.poll(&[page]).await;
    assert_eq!(world.said().await, ["s.created new"]);
    world.poll(&[page]).await;
    assert_eq!(world.said().await.len(), 1);
}

#[tokio::test]
async fn r4_1_only_the_newest_are_sent_also_when_a_crash_cuts_their_release() {
    let many: Vec<String> = (0..1200).map(|n| format!(r#"{{"id":"k{n:04}","v":{n}}}"#)).collect();
    for stream in [SNAPSHOT, SORTED, "detect = \"new\""] {
        let wish = Wish::from(stream).own("first_run = { last = 3 }");
        let world = World::new(wish.clone()).await;
        let page = format!("[{}]", many.join(","));
        world.poll(&[&page]).await;
        assert_eq!(world.said().await, ["s.created k1197", "s.created k1198", "s.created k1199"], "{stream}");
        world.poll(&[&page]).await;
        assert_eq!(world.said().await.len(), 3);
    }
    let wish = Wish::from(SNAPSHOT).own("first_run = { last = 3 }");
    let world = World::new(wish.clone()).await;
    let polling = world.begin().await;
    // What the run has written when it is cut off between its verdict and the release.
    let entry = |n: usize| waiting(n as i64, &format!("k{n}"), &many[n]);
    world.store.journal(&polling.lease, [1199, 1197, 1198].map(entry).to_vec()).await.expect("stored");
    let verdict = ringback::store::Verdict::Accepted {
        mark: None,
        validators: None,
        phase: Phase::Live,
        listed_once: true,
        started_at: None,
    };
    world.store.verdict(&polling.lease, verdict).await.expect("stored");
    drop(polling);
    let world = world.restart(wish).await;
    world.begin().await.abandon().await;
    assert_eq!(world.said().await, ["s.created k1197", "s.created k1198", "s.created k1199"]);
}

#[tokio::test]
async fn r4_1_what_the_first_look_left_in_the_journal_is_released_as_the_first_look() {
    let stream = "created = \".made\"\ndetect = \"snapshot\"";
    let wish = Wish::from(stream).own("first_run = \"send-all\"");
    let world = World::new(wish.clone()).await;
    let polling = world.begin().await;
    let found = waiting(1, "a", r#"{"id":"a","made":"2020-01-01T00:00:00Z"}"#);
    world.store.journal(&polling.lease, vec![found]).await.expect("stored");
    let verdict = ringback::store::Verdict::Accepted {
        mark: None,
        validators: None,
        phase: Phase::Live,
        listed_once: true,
        started_at: Some(ringback::model::Timestamp(START)),
    };
    world.store.verdict(&polling.lease, verdict).await.expect("stored");
    drop(polling);
    let world = world.restart(wish).await;
    world.begin().await.abandon().await;
    assert_eq!(world.said().await, ["s.updated a"], "it was there long before us");
    assert!(world.last().await.first_sight);
}

#[tokio::test]
async fn r4_2_changed_comparison_rules_lose_no_change_and_invent_none() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1,"t":1,"x":"A"},{"id":"b","v":1,"t":1,"x":"A"}]"#]).await;
    let ignoring = format!("{SNAPSHOT}\nignore = [\".t\"]");
    let world = world.restart(ignoring.as_str()).await;
    // Under the new rules a has not changed; b has, between the two configurations.
    world.poll(&[r#"[{"id":"a","v":1,"t":2,"x":"A"},{"id":"b","v":2,"t":2,"x":"B"}]"#]).await;
    assert_eq!(world.said().await, ["s.updated b"]);
    let world = world.restart(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1,"t":2,"x":"A"},{"id":"b","v":2,"t":9,"x":"B"}]"#]).await;
    // The copy of a that is known has another t than it shows now: that counts again, and nobody was told of it.
    assert_eq!(world.said().await, ["s.updated b", "s.updated a", "s.updated b"]);
}

#[tokio::test]
async fn r4_2_changed_comparison_rules_hold_for_webhooks_too() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"k","v":1}]"#]).await;
    world.webhook(r#"{"s":{"id":"a","v":1,"t":1}}"#).await;
    let world = world.restart(format!("{SNAPSHOT}\nignore = [\".t\"]").as_str()).await;
    world.webhook(r#"{"s":{"id":"a","v":1,"t":2}}"#).await;
    world.poll(&[r#"[{"id":"k","v":1},{"id":"a","v":1,"t":3}]"#]).await;
    assert_eq!(world.said().await, ["s.created a"]);
}

#[tokio::test]
async fn r4_2_a_changed_key_takes_a_new_baseline_without_flood_and_without_false_deletes() {
    let stream = "detect = \"snapshot\"\ndeletes = { confirm_after = 1 }\n";
    let page = r#"[{"id":"a","no":"1","x":1},{"id":"b","no":"2","x":1},{"id":"3","no":"3","x":1}]"#;
    let changed = page.replace("\"b\",\"no\":\"2\",\"x\":1", "\"b\",\"no\":\"2\",\"x\":5");
    for first_run in ["baseline", "send-all"] {
        let wish = |key: &str| {
            Wish::from(format!("{stream}key = \"{key}\"").as_str()).own(&format!("first_run = \"{first_run}\""))
        };
        let world = World::new(wish(".id")).await;
        world.poll(&[page]).await;
        let before = world.said().await;
        let revision = world.row("3").await.expect("known").revision;
        let world = world.restart(wish(".no")).await;
        world.poll(&[&changed]).await;
        world.poll(&[&changed]).await;
        world.poll(&[&changed]).await;
        assert_eq!(world.said().await, before, "{first_run}: neither the world again nor deletions of old keys");
        assert_eq!(world.row("3").await.expect("known").revision, revision, "same key, same content, same revision");
        let problem = world.problem(ProblemKind::StreamRebaselined).await.expect("a person is told");
        assert!(problem.message.contains("2 record"), "{}", problem.message);
        // And from now on changes and deletions are seen again.
        world.poll(&[r#"[{"id":"a","no":"1","x":2},{"id":"3","no":"3","x":1}]"#]).await;
        let said = world.said().await;
        assert_eq!(said[before.len()..], ["s.updated 1", "s.deleted 2"]);
    }
}

#[tokio::test]
async fn r4_2_what_says_nothing_of_the_records_changes_no_definition() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[THREE]).await;
    let other = format!("{SNAPSHOT}\ntypes = {{ updated = \"s.other\" }}\norder_key = \".v\"\nkey = \".id\"");
    let world = world.restart(other.as_str()).await;
    assert_eq!(world.state().await.phase, Phase::Live);
    world.poll(&[r#"[{"id":"a","v":1},{"id":"b","v":5},{"id":"c","v":3}]"#]).await;
    assert_eq!(world.said().await, ["s.other b"]);
}

#[tokio::test]
async fn r4_2_a_new_baseline_that_proves_nothing_of_absence_deletes_nothing_later() {
    let page = |numbers: std::ops::Range<usize>, odd: &str| {
        let records: Vec<String> = numbers.map(|n| format!(r#"{{"id":"k{n:02}","kind":1}}"#)).collect();
        format!("[{}{odd}]", records.join(","))
    };
    let stream = "detect = \"snapshot\"\ndeletes = { confirm_after = 1 }";
    let world = World::new(stream).await;
    world.poll(&[&page(0..20, "")]).await;
    let filtered = format!("{stream}\nfilter = \".kind == 1\"");
    let world = world.restart(filtered.as_str()).await;
    // One record of the new listing cannot be read, and five of the old ones are no longer part of it.
    world.poll(&[&page(5..20, ",{\"kind\":1}")]).await;
    assert_eq!(world.state().await.phase, Phase::Live);
    world.poll(&[&page(5..20, "")]).await;
    world.poll(&[&page(5..20, "")]).await;
    assert_eq!(world.said().await, none());
    // What a listing shows from now on can be missed again.
    world.poll(&[&page(6..20, "")]).await;
    assert_eq!(world.said().await, ["s.deleted k05"]);
}
