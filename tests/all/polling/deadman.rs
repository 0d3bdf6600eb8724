//! The dead man's switch: a stream of which nothing is heard is a problem, also when no poll is there to say so.

use std::time::Duration;

use super::kit::*;
use ringback::store::{Paused, PollResult};

const ITEMS: &str = "[streams.s]\npath = \"/s\"\nrecords = \".\"\nkey = \".id\"\ndetect = \"snapshot\"";
const MINUTE: Duration = Duration::from_secs(60);

async fn late(world: &World) -> bool {
    world.poller.watch().await.expect("it looks");
    world.problems().await.contains(&"stream.late core/s".to_owned())
}

#[tokio::test]
async fn a_stream_that_nobody_polls_any_more_is_late() {
    let world = World::new(ITEMS, |_| ok("[]")).await;
    world.polls().await;
    assert!(!late(&world).await);
    world.clock.advance(MINUTE * 15);
    assert!(!late(&world).await, "a run may still be under way");
    world.clock.advance(MINUTE * 2);
    assert!(late(&world).await);
    assert!(world.says("stream.late").await.contains("no good poll for"));
    world.polls().await;
    assert!(!late(&world).await, "its next good poll closes it");
}

#[tokio::test]
async fn a_stream_that_was_told_to_wait_for_a_day_is_late_long_before_its_next_poll() {
    let world = World::new(ITEMS, |_| ok("[]")).await;
    world.polls().await;
    world.answers(|_| status(429).with("retry-after", "86400"));
    world.clock.advance(MINUTE);
    assert_eq!(world.poll().await.result, PollResult::Failed);
    assert!(!late(&world).await, "one failure is no problem yet");
    world.clock.advance(MINUTE * 20);
    assert!(late(&world).await);
    let told = world.says("stream.late").await;
    assert!(told.contains("the last reason"), "{told}");
}

#[tokio::test]
async fn what_rests_by_intent_is_not_late_and_a_new_process_owes_nothing_from_before() {
    let world = World::new(ITEMS, |_| ok("[]")).await;
    world.polls().await;
    let paused = Paused { by: "a person".into(), reason: String::new() };
    world.store.set_source_paused(&"core".into(), Some(paused)).await.expect("paused");
    world.clock.advance(MINUTE * 60 * 24);
    assert!(!late(&world).await, "paused");
    world.store.set_source_paused(&"core".into(), None).await.expect("resumed");
    world.store.rest_streams(vec![(stream("s"), "a handler is full".into())]).await.expect("rests");
    assert!(!late(&world).await, "resting");
    world.store.rest_streams(vec![]).await.expect("goes on");
    world.poller.rest(true);
    assert!(!late(&world).await, "no room on the disk");
    world.poller.rest(false);
    let world = world.restart().await;
    assert!(!late(&world).await, "it was down, and has only just begun");
    world.clock.advance(MINUTE * 16);
    assert!(late(&world).await);
}

#[tokio::test]
async fn r8_1_a_wall_that_is_set_makes_no_stream_late_and_hides_none() {
    let world = World::new(ITEMS, |_| ok("[]")).await;
    world.polls().await;
    for days in [400, -800] {
        world.clock.set_wall(days * 86_400_000);
        let step = world.clock.look().expect("it was set");
        world.store.clock_stepped(step).await.expect("moved");
        world.poller.clock_stepped(step);
        assert!(!late(&world).await, "{days}");
    }
    world.clock.advance(MINUTE * 20);
    assert!(late(&world).await);
}
