//! Resets, looks back and pruned tombstones: nothing of them repeats an id or loses a change (RULES R2.2, R9.2).

use std::collections::HashSet;

use ringback::store::{Phase, Prune};

use super::kit::*;

#[tokio::test]
async fn r2_2_a_reset_begins_anew_and_repeats_no_id() {
    for stream in [SNAPSHOT, "detect = \"snapshot\""] {
        let wish = Wish::from(stream).own("first_run = \"send-all\"");
        let world = World::new(wish).await;
        world.poll(&[r#"[{"id":"a","v":1,"x":"A"}]"#]).await;
        world.poll(&[r#"[{"id":"a","v":1,"x":"B"}]"#]).await;
        let forgotten = world.store.reset_stream(world.name(), true).await.expect("counts");
        assert_eq!((forgotten.records, forgotten.base_revision), (1, 2));
        assert_eq!(world.state().await.phase, Phase::Live, "a dry run changes nothing");
        world.store.reset_stream(world.name(), false).await.expect("resets");
        let state = world.state().await;
        assert_eq!((state.phase, state.mark, state.base_revision), (Phase::Baseline, None, 2));
        assert!(world.row("a").await.is_none());
        for x in ["A", "B", "A"] {
            world.poll(&[&format!(r#"[{{"id":"a","v":1,"x":"{x}"}}]"#)]).await;
        }
        let ids = world.ids().await;
        assert_eq!(ids.len(), 5);
        assert_eq!(
            ids.iter().collect::<HashSet<_>>().len(),
            5,
            "{stream}: what a handler dropped as seen would be lost"
        );
        assert_eq!(world.last().await.revision, 5, "revisions never start again");
    }
}

#[tokio::test]
async fn a_reset_under_a_run_leaves_that_run_without_a_right_to_write() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    let mut polling = world.begin().await;
    world.store.reset_stream(world.name(), false).await.expect("resets");
    let ended = match polling.page(r#"[{"id":"a","v":2}]"#).await {
        Ok(()) => polling.run.finish(None).await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(ended, Err(ringback::store::StoreError::Stale.into()));
    assert_eq!(world.state().await.phase, Phase::Baseline);
}

#[tokio::test]
async fn r2_2_pruned_tombstones_raise_the_base_so_that_a_key_created_anew_repeats_no_id() {
    for stream in [SNAPSHOT, "detect = \"snapshot\""] {
        let world = World::new(format!("{stream}\ndeletes = {{ confirm_after = 1 }}").as_str()).await;
        let (with, without) = (r#"[{"id":"k","v":1},{"id":"a","v":1}]"#, r#"[{"id":"k","v":1}]"#);
        world.poll(&[without]).await;
        world.poll(&[with]).await;
        world.poll(&[without]).await;
        assert!(world.row("a").await.expect("a tombstone").deleted);
        let prune = |world: &World, keep: u64| Prune {
            events_before: ringback::model::Timestamp(0),
            inbounds_before: ringback::model::Timestamp(0),
            of_sources: Vec::new(),
            message_ids_before: ringback::model::Timestamp(0),
            tombstones_before: world.clock.now().minus(std::time::Duration::from_secs(keep)),
            limit: 100,
        };
        world.later(3600);
        world.store.prune(prune(&world, 7200)).await.expect("prunes");
        assert!(world.row("a").await.is_some(), "{stream}: it is kept as long as an old copy may arrive");
        world.store.prune(prune(&world, 1800)).await.expect("prunes");
        assert!(world.row("a").await.is_none());
        assert!(world.row("k").await.is_some(), "a live row is never pruned");
        assert_eq!(world.state().await.base_revision, 2);
        world.poll(&[with]).await;
        let ids = world.ids().await;
        assert_eq!(world.said().await, ["s.created a", "s.deleted a", "s.created a"]);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 3, "{stream}");
    }
}

#[tokio::test]
async fn a_look_back_announces_what_differs_and_never_moves_the_mark_back() {
    for stream in [UNSORTED, SORTED] {
        let world = World::new(stream).await;
        world.poll(&[r#"[{"id":"a","v":1},{"id":"b","v":2}]"#]).await;
        world.poll(&[r#"[{"id":"c","v":9}]"#]).await;
        let mark = world.mark().await;
        // b changed without a new version, behind the mark: no ordinary poll would ask for it again.
        let from = world.ingest.mark_from(world.stream(), Some("1")).expect("a number");
        world.store.set_backfill(world.name(), Some(from)).await.expect("set");
        let mut polling = world.begin().await;
        assert_eq!(polling.run.cursor(), Some(ringback::ingest::CursorValue::Number("1".into())));
        polling
            .page(r#"[{"id":"a","v":1},{"id":"b","v":2,"x":"late"},{"id":"m","v":3},{"id":"c","v":9}]"#)
            .await
            .expect("a page");
        polling.finish().await.expect("ends");
        assert_eq!(world.said().await, ["s.created c", "s.updated b", "s.created m"], "{stream}");
        assert_eq!(world.mark().await, mark, "{stream}");
        let polling = world.begin().await;
        assert_eq!(polling.run.cursor(), Some(ringback::ingest::CursorValue::Number("9".into())), "once only");
        polling.abandon().await;
    }
    let world = World::new(SNAPSHOT).await;
    assert!(world.ingest.mark_from(world.stream(), None).expect_err("no cursor").contains("reads everything"));
    let world = World::new(UNSORTED).await;
    assert!(world.ingest.mark_from(world.stream(), Some("yesterday")).is_err());
}
