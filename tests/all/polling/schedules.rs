//! When a stream is looked at: windows, freezes, clocks that are set, and webhooks that let the poll rest.

use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

const ITEMS: &str = "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\n";

fn wish(settings: &str) -> Wish {
    Wish { source: format!("streams.s = {{ {settings} }}"), ..Wish::default() }
}

fn empty(_: &Asked) -> Answer {
    ok(r#"{"items":[]}"#)
}

#[tokio::test]
async fn pitfall_52_after_downtime_there_is_one_catch_up_and_no_more() {
    let world = World::wishing(wish("every = \"5m\""), ITEMS, empty).await;
    world.polls_what_is_due().await;
    world.clock.advance(Duration::from_secs(86_400));
    let world = world.restart().await;
    world.asked();
    assert_eq!(world.polls_what_is_due().await, 1);
    assert!(world.due_in("s").await > Duration::from_secs(150), "{:?}", world.due_in("s").await);
}

#[tokio::test]
async fn outside_of_its_active_times_a_stream_rests_is_not_late_and_a_person_may_ask_all_the_same() {
    let settings = "every = \"10m\", late_after = \"30m\", active = { days = \"MON-FRI\", hours = \"06:00-18:00\" }";
    let world = World::wishing(wish(settings), ITEMS, empty).await;
    // Monday noon; every due poll until the evening.
    for _ in 0..40 {
        world.polls_what_is_due().await;
        world.clock.advance(Duration::from_secs(600));
    }
    let asked = world.asked().len();
    assert!((34..=38).contains(&asked), "{asked} polls in the six hours that were left of the day");
    let opens = world.status_of("s").await.next_poll_at.expect("due").to_string();
    assert!(opens.starts_with("2026-01-06T06:0"), "{opens}");
    // A webhook's notice waits, too.
    world.store.poll_now(&stream("s")).await.expect("asked for");
    world.polls_what_is_due().await;
    assert_eq!(world.asked().len(), 0);
    assert_eq!(world.status_of("s").await.last_result, Some(PollResult::Deferred));
    assert_eq!(world.problems().await, Vec::<String>::new());
    world.polls().await;
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn a_change_freeze_in_the_calendar_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let calendar = folder.path().join("holidays.txt");
    std::fs::write(&calendar, "2026-01-05..2026-01-07 # change freeze\n").expect("written");
    let settings = format!("active = {{ holidays = \"{}\" }}", calendar.display());
    let world = World::wishing(wish(&settings), ITEMS, empty).await;
    assert_eq!(world.polls_what_is_due().await, 1);
    assert_eq!(world.asked().len(), 0);
    world.clock.advance(Duration::from_secs(60 * 3600 + 60));
    world.polls_what_is_due().await;
    assert_eq!(world.asked().len(), 1, "2026-01-08 has begun");
}

#[tokio::test]
async fn r8_1_a_wall_that_is_set_back_makes_no_stream_wait_and_one_that_is_set_forward_starts_no_herd() {
    let world = World::wishing(wish("every = \"1h\""), ITEMS, empty).await;
    world.polls_what_is_due().await;
    let due = world.due_in("s").await;
    for millis in [-40 * 86_400_000, 90 * 86_400_000] {
        world.clock.set_wall(millis);
        let step = world.clock.look().expect("it was set");
        world.store.clock_stepped(step).await.expect("moved");
        world.poller.clock_stepped(step);
        world.poller.check_due_times().await.expect("checked");
        assert_eq!(world.due_in("s").await, due, "{millis}");
    }
}

#[tokio::test]
async fn r8_1_a_wall_that_was_set_back_while_nobody_ran_is_found_by_due_times_that_no_schedule_gives() {
    let world = World::wishing(wish("every = \"1h\""), ITEMS, empty).await;
    world.polls_what_is_due().await;
    world.clock.set_wall(-3 * 86_400_000);
    world.clock.look();
    let world = world.restart().await;
    assert_eq!(world.polls_what_is_due().await, 1);
    assert!(world.due_in("s").await <= Duration::from_secs(5_400));
}

#[tokio::test]
async fn r8_1_a_lease_lasts_as_long_as_it_would_have() {
    let world = World::new(ITEMS, empty).await;
    let which = || ringback::store::Which::Named(stream("s"));
    let lease = Duration::from_secs(60);
    world.store.claim_stream(which(), lease).await.expect("asked").expect("free");
    world.clock.set_wall(86_400_000);
    let step = world.clock.look().expect("it was set");
    world.store.clock_stepped(step).await.expect("moved");
    assert!(!world.is_free("s").await);
    world.clock.advance(Duration::from_secs(59));
    assert!(!world.is_free("s").await);
    world.clock.advance(Duration::from_secs(2));
    assert!(world.is_free("s").await);
}

#[tokio::test]
async fn below_min_free_polls_rest_until_there_is_room() {
    let world = World::new(ITEMS, empty).await;
    world.poller.rest(true);
    assert_eq!(world.polls_what_is_due().await, 0);
    let mut wake = world.poller.wake();
    wake.seen();
    world.poller.rest(false);
    tokio::time::timeout(Duration::from_secs(5), wake.rung()).await.expect("room wakes the loop");
    assert_eq!(world.polls_what_is_due().await, 1);
}

#[tokio::test]
async fn pitfall_59_no_good_poll_for_as_long_as_the_source_says_is_late() {
    let world = World::wishing(wish("every = \"1m\", late_after = \"2m\""), ITEMS, empty).await;
    world.polls().await;
    world.answers(|_| status(503));
    world.clock.advance(Duration::from_secs(60));
    world.poll().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
    world.clock.advance(Duration::from_secs(61));
    world.poll().await;
    assert_eq!(world.problems().await, ["stream.late core/s"]);
    world.answers(empty);
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_59_a_source_that_fell_silent_is_a_problem_though_every_poll_is_good() {
    let shelf = Shelf::of(&[("a", -1_000)]);
    let shown = shelf.clone();
    let world = World::wishing(wish("expect_every = \"1h\""), ITEMS, move |_| ok(list(&shown.json(|_| true)))).await;
    world.polls().await;
    world.clock.advance(Duration::from_secs(3_700));
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(world.problems().await, ["stream.silent core/s"]);
    shelf.put("b", 0, "a");
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_59_a_cursor_that_stands_still_while_records_change_is_a_problem() {
    let streams = format!("{ITEMS}query = {{ since = \"{{{{ cursor }}}}\" }}\ncursor = {{ field = \".at\" }}\n");
    let shelf = Shelf::of(&[("a", -1_000)]);
    let shown = shelf.clone();
    let world = World::new(&streams, move |asked| ok(list(&shown.since(asked)))).await;
    world.polls().await;
    for turn in 0..5 {
        assert_eq!(world.problems().await, Vec::<String>::new(), "{turn}");
        shelf.put("a", -1_000, &format!("{turn}"));
        world.polls().await;
    }
    assert_eq!(world.problems().await, ["cursor.frozen core/s"]);
    shelf.put("a", 0, "moved");
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_lag_behind_the_providers_own_time_of_a_change_is_measured() {
    let streams = format!("{ITEMS}time = \".at\"\nfirst_run = \"send-all\"\n");
    let shelf = Shelf::of(&[("a", -90_000)]);
    let world = World::new(&streams, move |_| ok(list(&shelf.json(|_| true)))).await;
    world.polls().await;
    let metrics = world.metrics.render();
    assert!(metrics.contains("ringback_stream_lag_seconds{source=\"core\",stream=\"s\"} 90"), "{metrics}");
}
