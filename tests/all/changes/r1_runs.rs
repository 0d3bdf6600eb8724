//! R1: runs and commits.

use ringback::model::ProblemKind;
use ringback::store::{PollEnd, PollResult};

use super::kit::*;

const FIRST: &str = r#"[{"id":"a","v":1},{"id":"b","v":2}]"#;

#[tokio::test]
async fn r1_1_the_mark_never_passes_a_record_whose_outcome_is_not_on_disk() {
    let world = World::new(UNSORTED).await;
    world.poll(&[FIRST]).await;
    let before = world.mark().await;
    let mut polling = world.begin().await;
    polling.page(r#"[{"id":"c","v":9}]"#).await.expect("a page");
    assert_eq!(world.mark().await, before, "the page is in the journal, and so is its mark");
    drop(polling);
    let world = world.restart(UNSORTED).await;
    assert_eq!(world.mark().await, before);
    world.poll(&[r#"[{"id":"c","v":9}]"#]).await;
    assert_eq!(world.said().await, ["s.created c"], "what the crash cut off is found again");
}

#[tokio::test]
async fn r1_2_an_ordered_listing_commits_each_page_with_its_mark() {
    let world = World::new(SORTED).await;
    world.poll(&[FIRST]).await;
    let mut polling = world.begin().await;
    polling.page(r#"[{"id":"c","v":3},{"id":"d","v":4}]"#).await.expect("a page");
    assert_eq!(world.said().await, ["s.created c", "s.created d"], "announced before the run has ended");
    assert!(world.mark().await.expect("a mark").contains('4'));
    drop(polling);
    let world = world.restart(SORTED).await;
    // The next run begins at the tick of the last page, inclusive.
    world.poll(&[r#"[{"id":"d","v":4},{"id":"e","v":4}]"#]).await;
    assert_eq!(world.said().await, ["s.created c", "s.created d", "s.created e"]);
}

#[tokio::test]
async fn r1_2_a_record_against_the_order_makes_the_run_an_unsorted_one() {
    let world = World::new(SORTED).await;
    world.poll(&[FIRST]).await;
    let before = world.mark().await;
    let mut polling = world.begin().await;
    polling.page(r#"[{"id":"c","v":5},{"id":"d","v":9}]"#).await.expect("a page");
    polling.page(r#"[{"id":"e","v":7},{"id":"f","v":12}]"#).await.expect("a page");
    // A crash now: e was dated before the mark of the first page, and would never be asked for again.
    drop(polling);
    let world = world.restart(SORTED).await;
    assert_eq!(world.mark().await, before, "a mark that the order did not justify is taken back");
    world.poll(&[r#"[{"id":"c","v":5},{"id":"d","v":9}]"#, r#"[{"id":"e","v":7},{"id":"f","v":12}]"#]).await;
    let mut said = world.said().await;
    said.sort();
    assert_eq!(said, ["s.created c", "s.created d", "s.created e", "s.created f"]);
    assert!(world.mark().await.expect("a mark").contains("12"));
}

#[tokio::test]
async fn r1_3_a_newest_first_listing_is_released_oldest_first() {
    let stream = "cursor = { field = \".v\", type = \"number\", order = \"desc\" }\nversion = { field = \".v\", type = \"number\" }";
    let world = World::new(stream).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    world.poll(&[r#"[{"id":"f","v":6},{"id":"e","v":5}]"#, r#"[{"id":"d","v":4},{"id":"c","v":3}]"#]).await;
    assert_eq!(world.said().await, ["s.created c", "s.created d", "s.created e", "s.created f"]);
}

#[tokio::test]
async fn r1_3_a_crash_before_the_verdict_drops_the_journal() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[FIRST]).await;
    let mut polling = world.begin().await;
    polling.page(r#"[{"id":"a","v":5}]"#).await.expect("a page");
    drop(polling);
    let world = world.restart(SNAPSHOT).await;
    // The change was taken back meanwhile: what the first run saw is no longer so, and half a run proves nothing.
    world.poll(&[FIRST]).await;
    assert_eq!(world.said().await, Vec::<String>::new());
}

#[tokio::test]
async fn r1_3_a_crash_before_the_verdict_drops_a_journal_on_disk() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[FIRST]).await;
    let mut polling = world.begin().await;
    polling.page(&many(1_200)).await.expect("a page");
    assert!(world.waits("k7").await, "more than is kept in memory");
    drop(polling);
    let world = world.restart(SNAPSHOT).await;
    world.poll(&[FIRST]).await;
    assert_eq!(world.said().await, Vec::<String>::new());
}

#[tokio::test]
async fn r1_3_a_few_changes_become_known_with_the_verdict_in_one_transaction() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[FIRST]).await;
    let mut polling = world.begin().await;
    polling.page(r#"[{"id":"a","v":5},{"id":"b","v":1}]"#).await.expect("a page");
    assert!(!world.waits("a").await, "nothing is written before the verdict");
    polling.finish().await.expect("accepted");
    assert_eq!(world.said().await, ["s.updated a"]);
    // One more than is kept in memory takes the way over the disk, and nothing is different.
    world.poll(&[&many(501)]).await;
    assert_eq!(world.said().await.len(), 1 + 501);
}

#[tokio::test]
async fn r1_3_a_crash_after_the_verdict_goes_on_releasing() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[FIRST]).await;
    let polling = world.begin().await;
    let found = [(1, "a", 5), (2, "b", 6), (3, "c", 7)];
    let entries = found.map(|(place, key, v)| waiting(place, key, &format!(r#"{{"id":"{key}","v":{v}}}"#)));
    world.store.journal(&polling.lease, entries.to_vec()).await.expect("stored");
    // The verdict as a run stores it that has found much, and then nothing more: the process is gone.
    let verdict = ringback::store::Verdict::Accepted {
        mark: None,
        validators: None,
        phase: ringback::store::Phase::Live,
        listed_once: true,
        started_at: None,
    };
    world.store.verdict(&polling.lease, verdict).await.expect("stored");
    drop(polling);
    let world = world.restart(SNAPSHOT).await;
    let polling = world.begin().await;
    assert_eq!(world.said().await, ["s.updated a", "s.updated b", "s.created c"], "before anything is asked");
    polling.abandon().await;
    world.poll(&[r#"[{"id":"a","v":5},{"id":"b","v":6},{"id":"c","v":7}]"#]).await;
    assert_eq!(world.said().await.len(), 3, "and nothing twice");
}

#[tokio::test]
async fn r1_6_where_pages_share_a_commit_the_keys_of_the_open_batch_lie_over_the_stored_ones() {
    // The pages of a first look wait for one commit; the record changes while it is listed.
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":3,"x":1},{"id":"b","v":1}]"#, r#"[{"id":"a","v":4,"x":2}]"#]).await;
    assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("4"));
    assert!(world.problem(ProblemKind::KeyDuplicate).await.is_none());
    world.poll(&[r#"[{"id":"a","v":4,"x":2},{"id":"b","v":1}]"#]).await;
    assert_eq!(world.said().await, Vec::<String>::new());
    // Without an order of the two nobody can say which one is true.
    let world = World::new("detect = \"snapshot\"").await;
    world.poll(&[r#"[{"id":"a","x":1}]"#, r#"[{"id":"a","x":2}]"#]).await;
    assert!(world.problem(ProblemKind::KeyDuplicate).await.is_some());
    // The same copy on two pages is no contradiction.
    let world = World::new("detect = \"snapshot\"\nignore = [\".t\"]").await;
    world.poll(&[r#"[{"id":"a","x":1,"t":1}]"#, r#"[{"id":"a","x":1,"t":2}]"#]).await;
    world.poll(&[r#"[{"id":"a","x":2,"t":3}]"#, r#"[{"id":"a","x":2,"t":4}]"#]).await;
    assert!(world.problem(ProblemKind::KeyDuplicate).await.is_none());
    assert_eq!(world.said().await, ["s.updated a"]);
}

#[tokio::test]
async fn r1_7_a_later_copy_within_one_listing_counts_and_nothing_is_lost_behind_the_mark() {
    let world = World::new(UNSORTED).await;
    world.poll(&[FIRST]).await;
    // The record changes while it is listed, and moves to a later page; another record pulls the mark past it.
    world.poll(&[r#"[{"id":"a","v":3,"x":1}]"#, r#"[{"id":"a","v":4,"x":2},{"id":"c","v":9}]"#]).await;
    let a: Vec<_> = world.events().await.into_iter().filter(|event| event.key.as_str() == "a").collect();
    assert_eq!(a.len(), 1, "judged once a run");
    assert!(String::from_utf8_lossy(a[0].data.as_ref().expect("data")).contains("\"x\":2"), "as the later copy says");
}

#[tokio::test]
async fn r1_7_the_twin_of_a_webhook_listed_twice_is_no_contradiction() {
    for stream in [SNAPSHOT, UNSORTED, SORTED] {
        let world = World::new(stream).await;
        world.poll(&[FIRST]).await;
        world.webhook(r#"{"s":{"id":"a","v":5,"x":1}}"#).await;
        let page = r#"[{"id":"a","v":5,"x":1,"more":"only here"}]"#;
        world.poll(&[page, page]).await;
        assert!(world.problem(ProblemKind::KeyDuplicate).await.is_none(), "{stream}");
        assert_eq!(world.said().await, ["s.updated a"], "{stream}");
    }
}

#[tokio::test]
async fn r1_7_a_first_look_that_picks_judges_a_key_once_too() {
    let world = World::new(Wish::from(SNAPSHOT).own("first_run = { last = 2 }")).await;
    let pages = [r#"[{"id":"a","v":1},{"id":"b","v":2}]"#, r#"[{"id":"a","v":4,"x":2},{"id":"c","v":1}]"#];
    world.poll(&pages).await;
    assert_eq!(world.said().await, ["s.created a", "s.created c"], "a moved to the end of the listing");
    assert_eq!(world.row("a").await.expect("known").version.as_deref(), Some("4"));
    let since = Wish::from("detect = \"snapshot\"\ntime = \".at\"").own("first_run = { since = \"2020-01-01\" }");
    let world = World::new(since).await;
    let at = r#""at":"2026-01-01T00:00:00Z""#;
    world.poll(&[&format!(r#"[{{"id":"a","x":1,{at}}}]"#), &format!(r#"[{{"id":"a","x":2,{at}}}]"#)]).await;
    assert!(world.problem(ProblemKind::KeyDuplicate).await.is_some());
    assert_eq!(world.said().await, ["s.created a"]);
}

#[tokio::test]
async fn r1_7_a_key_shown_twice_without_order_is_a_problem_and_the_mark_waits() {
    let world = World::new("cursor = { field = \".n\", type = \"number\" }").await;
    world.poll(&[r#"[{"id":"a","n":1}]"#]).await;
    let before = world.mark().await;
    for pages in [
        &[r#"[{"id":"a","n":2,"x":1},{"id":"a","n":3,"x":2}]"#][..],
        &[r#"[{"id":"a","n":2,"x":1}]"#, r#"[{"id":"a","n":3,"x":2}]"#][..],
    ] {
        world.poll(pages).await;
        assert!(world.problem(ProblemKind::KeyDuplicate).await.is_some());
        assert_eq!(world.mark().await, before, "the copy that was left out must come again");
    }
}

#[tokio::test]
async fn r1_7_a_listing_that_contradicts_itself_judges_no_deletes() {
    let world = World::new("detect = \"snapshot\"\ndeletes = { confirm_after = 1 }").await;
    world.poll(&[r#"[{"id":"a"},{"id":"b"},{"id":"c"}]"#]).await;
    world.poll(&[r#"[{"id":"a","x":1},{"id":"a","x":2},{"id":"c"}]"#]).await;
    assert!(!world.said().await.contains(&"s.deleted b".to_owned()));
    world.poll(&[r#"[{"id":"a","x":1},{"id":"c"}]"#]).await;
    assert!(world.said().await.contains(&"s.deleted b".to_owned()));
    assert!(world.problem(ProblemKind::KeyDuplicate).await.is_none(), "a clean listing closes the problem");
}

#[tokio::test]
async fn r1_8_an_unchanged_record_causes_no_write() {
    for stream in [SNAPSHOT, UNSORTED, SORTED, "detect = \"new\""] {
        let world = World::new(stream).await;
        world.poll(&[FIRST]).await;
        world.poll(&[FIRST]).await;
        let before = world.state().await.change_number;
        world.poll(&[FIRST]).await;
        assert_eq!(world.state().await.change_number, before, "{stream}");
    }
}

#[tokio::test]
async fn a_run_that_meets_a_new_configuration_is_given_back_and_not_lost_with_its_lease() {
    let mut world = World::new(SNAPSHOT).await;
    world.poll(&[FIRST]).await;
    let mut polling = world.begin().await;
    let other = format!("{SNAPSHOT}\nfilter = \".v < 100\"");
    world.reload(other.as_str()).await;
    let ended = match polling.page(r#"[{"id":"a","v":5}]"#).await {
        Ok(()) => {
            let lease = polling.lease.clone();
            let report = polling.run.finish(None).await;
            let end = PollEnd {
                next_in: std::time::Duration::ZERO,
                result: PollResult::Failed,
                records: 0,
                changes: 0,
                pages: 0,
                duration: std::time::Duration::ZERO,
                error: None,
                memory: None,
            };
            world.store.finish_poll(&lease, end).await.expect("the lease is still its own");
            report.map(drop)
        }
        Err(error) => {
            polling.abandon().await;
            Err(error)
        }
    };
    let error = ended.expect_err("it was thought under another definition");
    assert_ne!(error, ringback::store::StoreError::Stale.into(), "stale means that somebody else has the lease");
    assert_eq!(world.said().await, Vec::<String>::new());
}
