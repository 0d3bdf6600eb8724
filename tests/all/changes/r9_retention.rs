//! R9 Retention: what a stream forgets with age is never told a second time.

use std::time::Duration;

use ringback::ingest::forgettable;
use ringback::store::{Detection, Phase, Prune, StreamState};

use super::kit::*;

const DAY: Duration = Duration::from_secs(86_400);

const LOG: &str = "detect = \"new\"\ntime = \".at\"\n\
     cursor = { field = \".at\", order = \"asc\", lookback = \"10m\" }\nlate = { lag = \"1h\", window = \"1h\", every = \"10m\" }";

fn record(id: &str, world: &World, ago: Duration) -> String {
    format!(r#"{{"id":"{id}","at":"{}"}}"#, world.clock.now().minus(ago))
}

/// What housekeeping does: seen keys as the stream allows, and every event that is settled.
async fn tidy(world: &World, redelivers: Duration) {
    let now = world.clock.now();
    let prune = Prune {
        events_before: now,
        inbounds_before: now,
        of_sources: Vec::new(),
        message_ids_before: now,
        tombstones_before: now.minus(DAY * 90),
        limit: 100,
    };
    while world.store.prune(prune.clone()).await.expect("prunes") {}
    if let Some(seen) = forgettable(world.stream(), &world.state().await, redelivers, now) {
        while world.store.prune_seen(world.name(), seen.clone()).await.expect("prunes") {}
    }
}

#[tokio::test]
async fn r9_2_a_seen_key_goes_only_when_nothing_can_show_it_again() {
    let world = World::new(Wish::from(LOG).own("first_run = \"send-all\"")).await;
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let (old, redelivered) = (record("old", &world, DAY * 3), record("redelivered", &world, DAY));
    let (late, bound) = (record("late", &world, minutes(100)), record("bound", &world, minutes(0)));
    world.poll(&[&format!("[{old},{redelivered},{late},{bound}]")]).await;
    assert_eq!(world.said().await.len(), 4);
    world.later(60);
    tidy(&world, DAY).await;
    assert!(world.said().await.is_empty(), "the events themselves are gone, so nothing but the keys remembers them");
    assert!(world.row("old").await.is_none());
    // The mark's own tick, the look for late records, the provider's redelivery: each shows what was told already.
    world.poll(&[&format!("[{late},{bound}]")]).await;
    world.webhook(&format!(r#"{{"s":{redelivered}}}"#)).await;
    assert!(world.said().await.is_empty(), "{:?}", world.said().await);
    let new = record("new", &world, minutes(0));
    world.poll(&[&format!("[{bound},{new}]")]).await;
    assert_eq!(world.said().await, ["s.created new"]);
}

#[tokio::test]
async fn r9_2_what_a_lookback_or_a_look_for_late_records_reaches_is_kept() {
    for (keys, within, beyond) in [
        ("lookback = \"10m\" }", 9, 11),
        ("lookback = \"10m\" }\nlate = { lag = \"1h\", window = \"1h\", every = \"10m\" }", 129, 131),
    ] {
        let stream = format!("detect = \"new\"\ncursor = {{ field = \".at\", order = \"asc\", {keys}");
        let world = World::new(stream.as_str()).await;
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let records =
            [("beyond", beyond), ("within", within), ("now", 0)].map(|(id, ago)| record(id, &world, minutes(ago)));
        world.poll(&[&format!("[{}]", records.join(","))]).await;
        tidy(&world, Duration::ZERO).await;
        assert!(world.row("within").await.is_some(), "{keys}");
        assert!(world.row("beyond").await.is_none(), "{keys}");
    }
}

#[tokio::test]
async fn r9_2_a_listing_of_everything_tells_nothing_of_what_was_forgotten() {
    let world = World::new(Wish::from(LOG).own("first_run = \"send-all\"")).await;
    let (old, now) = (record("old", &world, DAY * 3), record("now", &world, Duration::ZERO));
    world.poll(&[&format!("[{old},{now}]")]).await;
    world.later(60);
    tidy(&world, DAY).await;
    assert!(world.row("old").await.is_none());
    // After a gap in the provider's history everything that it still has is listed and compared.
    world.poll(&[&format!("[{old},{now}]")]).await;
    assert!(world.said().await.is_empty(), "{:?}", world.said().await);
}

#[tokio::test]
async fn r9_2_nothing_is_forgotten_without_a_cursor_or_while_a_run_goes_on() {
    let world = World::new("detect = \"new\"").await;
    world.poll(&[r#"[{"id":"a"}]"#]).await;
    world.later(86_400 * 400);
    tidy(&world, Duration::ZERO).await;
    assert!(world.row("a").await.is_some(), "its listing shows it for ever");

    let world = World::new(LOG).await;
    let old = record("old", &world, DAY * 30);
    world.poll(&[&format!("[{old},{}]", record("now", &world, Duration::ZERO))]).await;
    let known = world.state().await;
    let may = |state: &StreamState| forgettable(world.stream(), state, Duration::ZERO, world.clock.now()).is_some();
    assert!(may(&known));
    // What goes on later, or looks back, lists from further back than the mark.
    let backfill = Detection { backfill: Some(String::new()), ..Detection::default() };
    for under_way in [
        StreamState { phase: Phase::Baseline, ..known.clone() },
        StreamState { resume: Some("{}".into()), ..known.clone() },
        StreamState { releasing: true, ..known.clone() },
        StreamState { detection: backfill, ..known.clone() },
        StreamState { mark: None, ..known.clone() },
    ] {
        assert!(!may(&under_way), "{under_way:?}");
    }
    tidy(&world, Duration::ZERO).await;
    assert!(world.row("old").await.is_none() && world.row("now").await.is_some());
}

#[tokio::test]
async fn r9_2_a_numbered_key_goes_by_its_number_and_by_when_it_was_seen() {
    let numbered = "detect = \"new\"\ncursor = { field = \".n\", type = \"number\", lookback = 10 }";
    let world = World::new(Wish::from(numbered).own("first_run = \"send-all\"")).await;
    let all: Vec<String> = [1, 90, 95, 100].iter().map(|n| format!(r#"{{"id":"k{n}","n":{n}}}"#)).collect();
    world.poll(&[&format!("[{}]", all.join(","))]).await;
    tidy(&world, DAY).await;
    assert!(world.row("k1").await.is_some(), "its webhook may still come again");
    world.later(2 * 86_400);
    tidy(&world, DAY).await;
    let mut left = Vec::new();
    for key in ["k1", "k90", "k95", "k100"] {
        left.extend(world.row(key).await.map(|_| key));
    }
    assert_eq!(left, ["k90", "k95", "k100"]);
}
