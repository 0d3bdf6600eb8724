//! Replays of many events: counted without the writer, made and taken back in small pieces, and going on after a restart.

use std::sync::Arc;
use std::time::Duration;

use ringback::model::*;
use ringback::store::sqlite::SqliteStore;
use ringback::store::*;

use super::kit::*;

/// More than two pieces of work.
const MANY: usize = 1_200;

/// A store with so many events that nobody heard.
async fn stored(place: &Place, many: usize) -> Arc<dyn Store> {
    let store = place.ready().await;
    let mut commit = Commit::new(stream("a"), "d1".into());
    for number in 0..many {
        commit.writes.extend(announce(&place.clock, &format!("e{number:04}"), Vec::new()).writes);
    }
    store.commit(commit).await.expect("commits");
    store
}

async fn job(store: &Arc<dyn Store>, id: u64) -> ReplayJob {
    store.replay_jobs(9).await.expect("reads").into_iter().find(|job| job.id == id).expect("the job is there")
}

async fn pending(store: &Arc<dyn Store>) -> u64 {
    let handlers = store.handlers().await.expect("reads");
    handlers.iter().find(|handler| handler.name.as_str() == "x").expect("it is there").pending
}

async fn work(store: &Arc<dyn Store>) {
    while store.replay_step().await.expect("works") == ReplayStep::Worked {}
}

#[tokio::test]
async fn a_dry_run_of_a_replay_needs_no_writer() {
    let place = Place::new();
    drop(stored(&place, MANY).await);
    let reading = SqliteStore::open_read_only(&place.file(), place.clock.clone()).expect("opens");
    let plan = reading.replay(Replay { dry_run: true, ..everything_to_x() }).await.expect("counted");
    assert_eq!((plan.events, plan.deliveries, plan.job), (MANY as u64, MANY as u64, None));
}

#[tokio::test]
async fn a_large_replay_is_made_in_small_pieces_and_goes_on_after_a_restart() {
    let place = Place::new();
    let store = stored(&place, MANY).await;
    let plan = store.replay(everything_to_x()).await.expect("started");
    assert_eq!(plan.deliveries, MANY as u64, "what it comes to is known at once");
    let id = plan.job.expect("a job");
    let early = job(&store, id).await;
    assert!(early.filling && early.deliveries > 0 && early.deliveries < MANY as u64, "{early:?}");
    assert_eq!(
        (early.expected, early.pending),
        (MANY as u64, early.deliveries),
        "what is not made yet is not called pending"
    );
    drop(store);
    let store = place.ready().await;
    // What is announced meanwhile is no part of it.
    store.commit(announce(&place.clock, "late", Vec::new())).await.unwrap();
    work(&store).await;
    let whole = job(&store, id).await;
    assert_eq!((whole.filling, whole.events, whole.deliveries, whole.pending), (false, 1_200, 1_200, 1_200));
    assert_eq!(pending(&store).await, MANY as u64);
    let claimed = claim(&store, "x", 2 * MANY).await;
    let mut seen = ids(&claimed);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((claimed.len(), seen.len()), (MANY, MANY), "each once");
    assert_eq!(store.replay_step().await.unwrap(), ReplayStep::Nothing);
}

#[tokio::test]
async fn a_limit_holds_over_all_pieces_and_a_small_replay_is_whole_at_once() {
    let place = Place::new();
    let store = stored(&place, MANY).await;
    let limited = EventFilter { limit: 700, ..EventFilter::default() };
    let large = store.replay(Replay { events: limited, ..everything_to_x() }).await.unwrap();
    let one = EventFilter { ids: vec!["e0003".into()], ..EventFilter::default() };
    let small = store.replay(Replay { events: one, ..everything_to_x() }).await.unwrap();
    let small = job(&store, small.job.unwrap()).await;
    assert_eq!((small.filling, small.deliveries), (false, 1), "it does not wait for the other");
    assert!(job(&store, large.job.unwrap()).await.filling);
    work(&store).await;
    assert_eq!((large.deliveries, job(&store, large.job.unwrap()).await.deliveries), (700, 700));
}

#[tokio::test]
async fn a_cancelled_replay_makes_nothing_more_and_is_taken_back_in_small_pieces() {
    let place = Place::new();
    let store = stored(&place, MANY).await;
    let id = store.replay(everything_to_x()).await.unwrap().job.unwrap();
    store.replay_step().await.unwrap();
    let first = claim(&store, "x", 1).await.remove(0);
    assert_eq!(store.cancel_replay(id, "somebody").await.unwrap(), Some(MANY as u64 - 1));
    let early = job(&store, id).await;
    assert!(early.cancelled > 0 && early.pending > 1, "not all in one piece: {early:?}");
    drop(store);
    let store = place.ready().await;
    work(&store).await;
    let ended = job(&store, id).await;
    assert_eq!((ended.pending, ended.cancelled), (0, MANY as u64), "the restart freed the one that was being sent");
    assert_eq!((pending(&store).await, claim(&store, "x", 9).await.len()), (0, 0));
    assert!(!settle(&store, &place.clock, &first, Outcome::Delivered).await);
}

#[tokio::test]
async fn what_is_being_sent_when_a_replay_is_cancelled_is_not_tried_again() {
    let place = Place::new();
    let store = stored(&place, 3).await;
    let id = store.replay(everything_to_x()).await.unwrap().job.unwrap();
    let first = claim(&store, "x", 1).await.remove(0);
    assert_eq!(store.cancel_replay(id, "somebody").await.unwrap(), Some(2));
    assert_eq!(store.replay_step().await.unwrap(), ReplayStep::Waits);
    let again = Outcome::Retry { after: Duration::ZERO, counted: true };
    assert!(settle(&store, &place.clock, &first, again).await);
    work(&store).await;
    let ended = job(&store, id).await;
    assert_eq!((ended.pending, ended.failed, ended.cancelled), (0, 1, 2));
    assert!(claim(&store, "x", 9).await.is_empty());
}

#[tokio::test]
async fn what_is_asked_for_by_name_stays_the_same_when_the_name_changes_meanwhile() {
    let place = Place::new();
    let store = stored(&place, MANY).await;
    let of_core = EventFilter { source: Some("core".into()), ..EventFilter::default() };
    let id = store.replay(Replay { events: of_core, ..everything_to_x() }).await.unwrap().job.unwrap();
    let mut renamed = setup();
    renamed.streams.truncate(1);
    renamed.streams[0] =
        StreamSetup { renamed_from: Some("core".into()), ..stream_setup(StreamName::new("bank", "a")) };
    renamed.handlers[0] = HandlerSetup { renamed_from: Some("x".into()), ..handler_setup("z") };
    store.register(renamed).await.expect("registers");
    work(&store).await;
    assert_eq!(job(&store, id).await.deliveries, MANY as u64);
    assert_eq!(claim(&store, "z", 2 * MANY).await.len(), MANY);
}
