//! R6: deletes and guards.

use ringback::ingest::IngestError;
use ringback::model::ProblemKind;

use super::kit::*;

const AT_ONCE: &str = "detect = \"snapshot\"\ndeletes = { confirm_after = 1 }";

fn page(numbers: impl IntoIterator<Item = usize>) -> String {
    let records: Vec<String> = numbers.into_iter().map(|n| format!(r#"{{"id":"k{n:03}"}}"#)).collect();
    format!("[{}]", records.join(","))
}

fn none() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn r6_1_a_record_is_deleted_after_as_many_complete_listings_without_it_as_asked() {
    let world = World::new("detect = \"snapshot\"\ndeletes = { confirm_after = 3 }").await;
    world.poll(&[&page(0..5)]).await;
    for _ in 0..2 {
        world.poll(&[&page(1..5)]).await;
        assert_eq!(world.said().await, none());
    }
    world.poll(&[&page(1..5)]).await;
    assert_eq!(world.said().await, ["s.deleted k000"]);
    let event = world.last().await;
    assert_eq!(event.data.as_deref(), Some(&br#"{"id":"k000"}"#[..]), "as it was last known");
    world.poll(&[&page(1..5)]).await;
    assert_eq!(world.said().await.len(), 1);
}

#[tokio::test]
async fn r6_1_a_record_that_shows_up_again_starts_its_grace_anew() {
    let world = World::new("detect = \"snapshot\"").await;
    world.poll(&[&page(0..5)]).await;
    for _ in 0..3 {
        world.poll(&[&page(1..5)]).await;
        world.poll(&[&page(0..5)]).await;
    }
    assert_eq!(world.said().await, none());
}

#[tokio::test]
async fn r6_1_absence_means_nothing_outside_a_snapshot_or_in_a_run_that_broke_off() {
    let world = World::new("detect = \"changed\"").await;
    world.poll(&[&page(0..5)]).await;
    for _ in 0..3 {
        world.poll(&[&page(1..5)]).await;
    }
    assert_eq!(world.said().await, none());
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..5)]).await;
    let mut polling = world.begin().await;
    polling.page(&page(1..3)).await.expect("a page");
    polling.abandon().await;
    assert!(world.try_poll(&[&page(1..3), "null"]).await.is_err());
    assert_eq!(world.said().await, none());
}

#[tokio::test]
async fn r6_1_a_record_that_no_listing_ever_showed_is_not_missed() {
    let stream =
        "detect = \"snapshot\"\nversion = { field = \".v\", type = \"number\" }\ndeletes = { confirm_after = 1 }";
    let world = World::new(stream).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    world.webhook(r#"{"s":{"id":"draft","v":1}}"#).await;
    for _ in 0..3 {
        world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    }
    assert_eq!(world.said().await, ["s.created draft"], "the listing may never show drafts");
}

#[tokio::test]
async fn r6_1_a_record_written_since_the_run_began_is_not_missed() {
    let stream =
        "detect = \"snapshot\"\nversion = { field = \".v\", type = \"number\" }\ndeletes = { confirm_after = 1 }";
    let world = World::new(stream).await;
    world.poll(&[r#"[{"id":"a","v":1},{"id":"b","v":1}]"#]).await;
    let mut polling = world.begin().await;
    world.webhook(r#"{"s":{"id":"b","v":2}}"#).await;
    polling.page(r#"[{"id":"a","v":1}]"#).await.expect("a page");
    polling.finish().await.expect("ends");
    assert_eq!(world.said().await, ["s.updated b"]);
}

#[tokio::test]
async fn r6_2_more_than_ten_and_more_than_a_tenth_are_held_and_the_rest_goes_out() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..100)]).await;
    world.poll(&[&page(11..101)]).await;
    assert_eq!(world.said().await, ["s.created k100"]);
    let problem = world.problem(ProblemKind::DeletesHeld).await.expect("a person is asked");
    assert!(problem.message.contains("11 of 100"), "{}", problem.message);
    // Back again: nothing happened, and nobody needs to do anything.
    world.poll(&[&page(0..101)]).await;
    assert!(world.problem(ProblemKind::DeletesHeld).await.is_none());
    // Ten are not held.
    world.poll(&[&page(10..101)]).await;
    assert_eq!(world.said().await.len(), 11);
}

#[tokio::test]
async fn r6_2_all_of_them_are_held_however_few() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..3)]).await;
    world.poll(&[&page(50..60)]).await;
    assert!(!world.said().await.iter().any(|line| line.contains("deleted")), "{:?}", world.said().await);
    assert!(world.problem(ProblemKind::DeletesHeld).await.is_some());
}

#[tokio::test]
async fn r6_2_an_empty_listing_after_a_full_one_holds_the_run() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..3)]).await;
    let error = world.try_poll(&["[]"]).await.expect_err("held");
    assert!(matches!(error, IngestError::Held(_)));
    assert!(world.problem(ProblemKind::ListEmpty).await.is_some());
    assert_eq!(world.said().await, none());
    world.poll(&[&page(0..3)]).await;
    assert!(world.problem(ProblemKind::ListEmpty).await.is_none());
}

#[tokio::test]
async fn r6_2_deletes_of_a_day_count_together() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..100)]).await;
    world.poll(&[&page(6..100)]).await;
    assert_eq!(world.said().await.len(), 6);
    world.later(3600);
    world.poll(&[&page(12..100)]).await;
    assert_eq!(world.said().await.len(), 6, "a listing that crumbles slowly is as broken as one that breaks at once");
    assert!(world.problem(ProblemKind::DeletesHeld).await.is_some());
    world.later(24 * 3600);
    world.poll(&[&page(12..100)]).await;
    assert_eq!(world.said().await.len(), 12, "the next day is another day");
}

#[tokio::test]
async fn r6_2_a_mass_change_is_told_and_held_only_where_asked() {
    let version = |n: usize, v: usize| format!(r#"{{"id":"k{n:03}","v":{v}}}"#);
    let listing = |v: usize| {
        format!("[{}]", (0..30).map(|n| version(n, if n < 20 { v } else { 1 })).collect::<Vec<_>>().join(","))
    };
    let world = World::new(SNAPSHOT).await;
    world.poll(&[&listing(1)]).await;
    world.poll(&[&listing(2)]).await;
    assert_eq!(world.said().await.len(), 20, "told, not held");
    assert!(world.problem(ProblemKind::ChangesHeld).await.is_some());
    world.poll(&[&listing(2)]).await;
    assert!(world.problem(ProblemKind::ChangesHeld).await.is_none());

    for stream in [SNAPSHOT, SORTED] {
        let world = World::new(Wish::from(stream).own("mass_change = { max_percent = 50, action = \"hold\" }")).await;
        world.poll(&[&listing(1)]).await;
        let mark = world.mark().await;
        let error = world.try_poll(&[&listing(2)]).await.expect_err("held");
        assert!(matches!(error, IngestError::Held(_)), "{stream}: {error}");
        assert_eq!(world.said().await, none(), "{stream}");
        assert_eq!(world.mark().await, mark);
        assert!(world.decide(ProblemKind::ChangesHeld, true).await);
        world.poll(&[&listing(2)]).await;
        assert_eq!(world.said().await.len(), 20, "{stream}");
        assert!(world.problem(ProblemKind::ChangesHeld).await.is_none());
    }
}

#[tokio::test]
async fn r6_3_an_approval_lets_fresh_data_pass_and_not_much_more_than_was_approved() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..100)]).await;
    world.poll(&[&page(20..100)]).await;
    assert!(world.decide(ProblemKind::DeletesHeld, true).await);
    // Meanwhile it has become much worse: that is not what was approved.
    world.poll(&[&page(60..100)]).await;
    assert_eq!(world.said().await, none());
    let problem = world.problem(ProblemKind::DeletesHeld).await.expect("still held");
    assert!(problem.message.contains("60 of 100"), "{}", problem.message);
    // About as many as approved, and not the very same: the fresh listing decides.
    world.poll(&[&page(22..100)]).await;
    assert_eq!(world.said().await.len(), 22);
    assert!(world.problem(ProblemKind::DeletesHeld).await.is_none());
    // An approval is for once.
    world.later(2 * 24 * 3600);
    world.poll(&[&page(42..100)]).await;
    assert_eq!(world.said().await.len(), 22);
}

#[tokio::test]
async fn r6_3_an_empty_listing_can_be_approved() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..3)]).await;
    assert!(world.try_poll(&["[]"]).await.is_err());
    assert!(world.decide(ProblemKind::ListEmpty, true).await);
    world.poll(&["[]"]).await;
    assert_eq!(world.said().await, ["s.deleted k000", "s.deleted k001", "s.deleted k002"]);
}

#[tokio::test]
async fn r6_3_a_rejection_keeps_the_stream_held_until_it_is_well_again() {
    let world = World::new(AT_ONCE).await;
    world.poll(&[&page(0..100)]).await;
    world.poll(&[&page(20..100)]).await;
    assert!(world.decide(ProblemKind::DeletesHeld, false).await);
    let world = world.restart(AT_ONCE).await;
    world.poll(&[&page(20..101)]).await;
    assert_eq!(world.said().await, ["s.created k100"], "everything but the deletes goes on");
    let problem = world.problem(ProblemKind::DeletesHeld).await.expect("shown");
    let decided = problem.decided.expect("with who and when");
    assert!(!decided.approved && decided.by == "a person");
    world.poll(&[&page(0..101)]).await;
    assert!(world.problem(ProblemKind::DeletesHeld).await.is_none());
}

#[tokio::test]
async fn r6_3_only_what_is_held_can_be_decided() {
    let world = World::new(AT_ONCE).await;
    assert!(!world.decide(ProblemKind::DeletesHeld, true).await);
    world.store.open_problem(ProblemKind::AuthFailed, "shop/s", "refused").await.expect("opened");
    assert!(!world.decide(ProblemKind::AuthFailed, true).await);
}

#[tokio::test]
async fn r6_4_no_validator_is_kept_while_a_delete_waits_or_is_held() {
    let world = World::new("detect = \"snapshot\"\nconditional = true").await;
    let poll = async |records: &str| {
        let mut polling = world.begin().await;
        polling.page(records).await.expect("a page");
        drop(polling.finish_with("{\"etag\":\"x\"}").await);
        world.later(60);
    };
    poll(&page(0..5)).await;
    assert!(world.state().await.validators.is_some());
    poll(&page(1..5)).await;
    assert!(world.state().await.validators.is_none(), "a 304 would never confirm the absence");
    poll(&page(1..5)).await;
    assert!(world.state().await.validators.is_some());
    poll("[]").await;
    assert!(world.state().await.validators.is_none(), "a 304 would hide that the listing is still empty");
}
