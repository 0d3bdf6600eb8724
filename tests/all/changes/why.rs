//! Why was something announced, or why not: every answer of the daemon to that question.

use ringback::admin::why;
use ringback::model::Key;

use super::kit::*;

async fn asked(world: &World, key: &str) -> ringback::admin::shape::Why {
    why::of_key(&*world.store, world.name(), &Key::from(key)).await.expect("reads").expect("a stream")
}

fn decided(why: &ringback::admin::shape::Why) -> Vec<&str> {
    why.decisions.iter().map(|one| one.decided.as_str()).collect()
}

#[tokio::test]
async fn what_was_never_shown_was_never_shown() {
    let world = World::new(SNAPSHOT).await;
    assert!(asked(&world, "a").await.verdict.contains("never read with success"));
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    assert!(asked(&world, "nope").await.verdict.contains("no listing and no real webhook"));
    let a = asked(&world, "a").await;
    assert!(a.verdict.contains("taken silently by the first look"), "{}", a.verdict);
    assert!(a.record.expect("stored").silent);
    assert_eq!(a.runs.len(), 1);
}

#[tokio::test]
async fn an_event_is_explained_by_the_rule_that_made_it_one() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    world.poll(&[r#"[{"id":"a","v":2},{"id":"b","v":1}]"#]).await;
    let a = asked(&world, "a").await;
    assert_eq!((a.events.len(), a.events[0].why.as_str()), (1, "its content differs from the copy that was stored"));
    let b = asked(&world, "b").await;
    assert!(b.events[0].why.contains("no listing had shown before"));
    assert!(b.verdict.contains("announced last as s.created"), "{}", b.verdict);
}

#[tokio::test]
async fn copies_that_were_ignored_are_named_with_their_rule() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":5}]"#]).await;
    world.poll(&[r#"[{"id":"a","v":3}]"#]).await;
    let a = asked(&world, "a").await;
    assert_eq!(decided(&a), ["older"]);
    assert_eq!(a.decisions[0].detail, "version 3, stored 5");
    world.poll(&[r#"[{"id":"a","v":5}]"#]).await;
    world.poll(&[r#"[{"id":"a","v":3}]"#]).await;
    let a = asked(&world, "a").await;
    assert_eq!((a.decisions.len(), a.decisions[0].count), (1, 2), "kept once, counted");

    let mut polling = world.begin().await;
    world.webhook(r#"{"s":{"id":"a","v":7,"x":1}}"#).await;
    polling.page(r#"[{"id":"a","v":6}]"#).await.expect("a page");
    polling.finish().await.expect("ends");
    world.later(60);
    world.poll(&[r#"[{"id":"a","v":7,"x":1,"more":1}]"#]).await;
    world.later(60);
    world.webhook(r#"{"s":{"id":"a","v":7,"x":2}}"#).await;
    let a = asked(&world, "a").await;
    assert_eq!(decided(&a), ["notice", "twin", "overtaken", "older"]);
    assert!(a.verdict.contains("makes the stream be polled instead"), "{}", a.verdict);
}

#[tokio::test]
async fn absences_and_what_is_held_are_explained() {
    let world = World::new("detect = \"snapshot\"").await;
    let page = |from: usize| {
        let records: Vec<String> = (from..40).map(|n| format!(r#"{{"id":"k{n:02}"}}"#)).collect();
        format!("[{}]", records.join(","))
    };
    world.poll(&[&page(0)]).await;
    world.poll(&[&page(20)]).await;
    let k = asked(&world, "k00").await;
    assert_eq!((decided(&k), k.decisions[0].detail.as_str()), (vec!["absent"], "1 of 2 listings"));
    world.poll(&[&page(20)]).await;
    let k = asked(&world, "k00").await;
    assert_eq!(decided(&k)[0], "held");
    assert!(k.verdict.contains("waits for a person"), "{}", k.verdict);
}

#[tokio::test]
async fn the_last_runs_are_kept_and_no_more() {
    let world = World::new(SNAPSHOT).await;
    for _ in 0..30 {
        world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    }
    world.try_poll(&["null"]).await.expect_err("no list");
    let a = asked(&world, "a").await;
    assert_eq!((a.runs.len(), a.runs[0].result.as_str(), a.runs[1].result.as_str()), (20, "failed", "ok"));
    assert!(a.verdict.contains("the last run failed"), "{}", a.verdict);
}

#[tokio::test]
async fn an_unchanged_record_is_no_decision() {
    let world = World::new(SNAPSHOT).await;
    for _ in 0..5 {
        world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    }
    assert!(asked(&world, "a").await.decisions.is_empty());
}
