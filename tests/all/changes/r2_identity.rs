//! R2: identity of events.

use std::collections::HashSet;

use super::kit::*;

async fn all_differ(world: &World, count: usize) {
    let ids = world.ids().await;
    assert_eq!(ids.len(), count, "{:?}", world.said().await);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), count);
}

#[tokio::test]
async fn r2_1_a_change_has_the_same_id_whichever_daemon_sees_it() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let world = World::new(SNAPSHOT).await;
        world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
        world.later(1234 * ids.len() as u64);
        world.poll(&[r#"[{"id":"a","v":2},{"id":"b","v":1}]"#]).await;
        ids.push(world.ids().await);
    }
    assert_eq!(ids[0].len(), 2);
    assert_eq!(ids[0], ids[1], "computed from what changed, not drawn by chance");
}

#[tokio::test]
async fn r2_1_content_that_changes_back_and_forth_under_one_version_has_an_id_each_time() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1,"x":"A"}]"#]).await;
    for x in ["B", "A", "B", "A"] {
        world.poll(&[&format!(r#"[{{"id":"a","v":1,"x":"{x}"}}]"#)]).await;
    }
    all_differ(&world, 4).await;
}

#[tokio::test]
async fn r2_1_a_text_version_that_comes_again_does_not_repeat_an_id() {
    let world = World::new("detect = \"snapshot\"\nversion = { field = \".v\", type = \"text\" }").await;
    world.poll(&["[]"]).await;
    for v in ["x", "y", "x", "y", "x"] {
        world.poll(&[&format!(r#"[{{"id":"a","v":"{v}"}}]"#)]).await;
    }
    all_differ(&world, 5).await;
}

#[tokio::test]
async fn r2_1_a_version_rolled_back_by_the_provider_does_not_repeat_an_id() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&["[]"]).await;
    // An older copy counts in the second run that shows it.
    for v in [1, 2, 1, 1, 2] {
        world.poll(&[&format!(r#"[{{"id":"a","v":{v}}}]"#)]).await;
    }
    all_differ(&world, 4).await;
}

#[tokio::test]
async fn r2_1_in_detect_new_a_key_has_one_id_whatever_its_content() {
    let mut ids = Vec::new();
    for content in ["{\"id\":\"a\",\"x\":1}", "{\"id\":\"a\",\"x\":2}"] {
        let world = World::new("detect = \"new\"").await;
        world.poll(&["[]"]).await;
        world.poll(&[&format!("[{content}]")]).await;
        ids.extend(world.ids().await);
    }
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn r2_1_a_record_may_bring_its_own_id() {
    let world = World::new("detect = \"new\"\nevent_id = \".id\"").await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"in_77"}]"#]).await;
    assert_eq!(world.last().await.id.as_str(), "in_77");
}

#[tokio::test]
async fn r2_3_an_id_of_the_records_own_that_comes_again_with_another_change_drops_nothing() {
    let world = World::new("event_id = \".eid\"\ndeletes = { when = \".gone == true\" }").await;
    world.poll(&["[]"]).await;
    for record in [r#""v":1"#, r#""v":2"#, r#""v":1"#, r#""v":1,"gone":true"#, r#""v":1"#, r#""v":1"#] {
        world.poll(&[&format!(r#"[{{"id":"a","eid":"E1",{record}}}]"#)]).await;
    }
    assert_eq!(world.said().await, ["s.created a", "s.updated a", "s.updated a", "s.deleted a", "s.created a"]);
    all_differ(&world, 5).await;
    assert!(world.ids().await.iter().any(|id| id.as_str() == "E1"));
    let problems = world.store.problems().await.expect("read");
    assert!(problems.iter().any(|problem| problem.kind.as_str() == "event.id-taken"), "{problems:?}");
}

#[tokio::test]
async fn r2_2_a_key_created_anew_with_equal_content_is_another_change() {
    for stream in [SNAPSHOT, "detect = \"snapshot\""] {
        let stream = format!("{stream}\ndeletes = {{ confirm_after = 1 }}");
        let world = World::new(stream.as_str()).await;
        world.poll(&[r#"[{"id":"k","v":1}]"#]).await;
        let with = r#"[{"id":"k","v":1},{"id":"a","v":1}]"#;
        for page in [with, r#"[{"id":"k","v":1}]"#, with, r#"[{"id":"k","v":1}]"#, with] {
            world.poll(&[page]).await;
        }
        let want = ["s.created a", "s.deleted a", "s.created a", "s.deleted a", "s.created a"];
        assert_eq!(world.said().await, want);
        all_differ(&world, 5).await;
        let revisions: Vec<u64> = world.events().await.iter().map(|event| event.revision).collect();
        assert_eq!(revisions, [1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn r2_1_in_detect_new_a_deletion_is_another_event_than_the_creation() {
    let world = World::new("detect = \"new\"\ndeletes = { when = \".gone == true\" }").await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a"}]"#]).await;
    world.poll(&[r#"[{"id":"a","gone":true}]"#]).await;
    assert_eq!(world.said().await, ["s.created a", "s.deleted a"]);
    all_differ(&world, 2).await;
}

#[tokio::test]
async fn r2_3_after_a_restored_backup_the_same_copy_has_the_same_id_and_other_content_another() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1},{"id":"b","v":1}]"#]).await;
    let world = world.backed_up(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":2},{"id":"b","v":1,"x":"first"}]"#]).await;
    let before = world.ids().await;
    let world = world.restored(SNAPSHOT).await;
    assert!(world.said().await.is_empty(), "the backup knows nothing of it");
    world.poll(&[r#"[{"id":"a","v":2},{"id":"b","v":1,"x":"second"}]"#]).await;
    let after = world.ids().await;
    assert_eq!(before[0], after[0], "a handler that has it drops it");
    assert_ne!(before[1], after[1], "a handler that has the first must not drop the second");
}

#[tokio::test]
async fn r2_4_a_renamed_source_keeps_its_ids() {
    use ringback::store::{Setup, StreamSetup};
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    let stream = world.stream().clone();
    let setup = |source: &str, former: Option<&str>| Setup {
        streams: vec![StreamSetup {
            name: ringback::model::StreamName::new(source, "s"),
            renamed_from: former.map(Into::into),
            ..ringback::ingest::stream_setup(&stream)
        }],
        ..Setup::default()
    };
    world.store.register(setup("store", Some("shop"))).await.expect("registers");
    let state = world.store.stream(&ringback::model::StreamName::new("store", "s")).await.expect("reads");
    assert_eq!(state.expect("carried over").source_id.as_str(), "shop");
}
