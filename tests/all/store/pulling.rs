//! Handlers that ask for their events themselves, and replays as jobs.

use std::sync::Arc;
use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

const SECOND: Duration = Duration::from_secs(1);

async fn pull(store: &Arc<dyn Store>, after: Option<i64>, max: usize) -> PullPage {
    store.pull(Pull { handler: "x".into(), after, max }).await.expect("a page")
}

fn seen(page: &PullPage) -> Vec<&str> {
    page.events.iter().map(|pulled| pulled.event.id.as_str()).collect()
}

fn last(page: &PullPage) -> Option<i64> {
    page.events.last().map(|pulled| pulled.position)
}

#[tokio::test]
async fn a_page_is_the_same_until_it_is_acknowledged_and_holds_each_order_from_its_head_on() {
    let place = Place::new();
    let store = place.ready().await;
    assert!(seen(&pull(&store, None, 9).await).is_empty());
    for (id, order) in [("a1", 1), ("b1", 2), ("a2", 1), ("a3", 1), ("b2", 2)] {
        store.commit(announce(&place.clock, id, vec![to("x", Some(order))])).await.unwrap();
    }
    let page = pull(&store, None, 4).await;
    assert_eq!(seen(&page), ["a1", "b1", "a2", "a3"], "heads, and those behind them as far as there is room");
    assert_eq!(page.events[0].order, page.events[2].order);
    assert_ne!(page.events[0].order, page.events[1].order);
    let positions: Vec<i64> = page.events.iter().map(|pulled| pulled.position).collect();
    assert!(positions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{positions:?}");
    store.commit(announce(&place.clock, "c1", vec![to("x", Some(3))])).await.unwrap();
    for after in [None, Some(0), Some(positions[0] - 1)] {
        assert_eq!(seen(&pull(&store, after, 1).await), seen(&page), "it is handed out again: {after:?}");
    }
    // A part may be acknowledged; the rest keeps its positions.
    let rest = pull(&store, Some(positions[1]), 9).await;
    assert_eq!((seen(&rest), rest.events[0].position, rest.taken), (vec!["a2", "a3"], positions[2], 2));
    assert_eq!(states(&store, "a1").await, [(DeliveryState::Delivered, None)]);
    assert_eq!(states(&store, "a2").await, [(DeliveryState::Pending, None)]);
    let next = pull(&store, last(&rest), 9).await;
    assert_eq!((seen(&next), next.taken), (vec!["b2", "c1"], 2));
    let end = pull(&store, last(&next), 9).await;
    assert_eq!((seen(&end).len(), end.taken), (0, 2));
    assert_eq!(pull(&store, last(&next), 9).await.taken, 0, "once");
    let detail = store.event(&"a1".into()).await.unwrap().unwrap();
    let attempt = &detail.deliveries[0].attempts[0];
    assert_eq!((attempt.result, attempt.detail.trigger), (AttemptResult::Delivered, Trigger::Pull));
    let handler = store.handlers().await.unwrap().into_iter().find(|h| h.name.as_str() == "x").unwrap();
    assert_eq!((handler.delivered, handler.pending), (6, 0));
}

#[tokio::test]
async fn a_restart_changes_nothing_and_a_reader_ahead_of_a_restored_database_goes_on() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "a", vec![to("x", Some(1))])).await.unwrap();
    let page = pull(&store, None, 9).await;
    drop(store);
    let store = place.ready().await;
    let again = pull(&store, None, 9).await;
    assert_eq!((seen(&again), last(&again)), (seen(&page), last(&page)));
    // A database that was put back counts behind its reader: nothing is acknowledged by that, and the positions go on beyond it.
    let ahead = last(&page).map(|position| position + 1_000);
    let moved = pull(&store, ahead, 9).await;
    assert_eq!((seen(&moved), moved.taken), (vec!["a"], 0));
    assert!(last(&moved) > ahead);
    assert_eq!(pull(&store, last(&moved), 9).await.taken, 1);
}

#[tokio::test]
async fn a_paused_handler_gets_nothing_and_a_held_event_holds_up_those_behind_it() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "a1", vec![to("x", Some(1))])).await.unwrap();
    let held = NewDelivery { hold: Some(HoldReason::WhenFailed), ..to("x", Some(1)) };
    store.commit(announce(&place.clock, "a2", vec![held])).await.unwrap();
    store.commit(announce(&place.clock, "a3", vec![to("x", Some(1))])).await.unwrap();
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    let closed = pull(&store, None, 9).await;
    assert!(closed.closed && closed.events.is_empty());
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    let page = pull(&store, None, 9).await;
    assert_eq!(seen(&page), ["a1"]);
    assert!(pull(&store, last(&page), 9).await.events.is_empty(), "a3 waits behind a2, which waits for a person");
    assert_eq!(
        store.pull(Pull { handler: "nobody".into(), after: None, max: 1 }).await.err(),
        Some(StoreError::Conflict)
    );
}

fn replay(spacing: Duration, fresh_ids: bool) -> Replay {
    Replay { spacing, fresh_ids, ..everything_to_x() }
}

#[tokio::test]
async fn a_replay_is_a_job_that_survives_a_restart_and_can_be_watched_and_cancelled() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2", "3", "4"] {
        store.commit(announce(&place.clock, id, vec![])).await.unwrap();
    }
    let plan = store.replay(replay(10 * SECOND, false)).await.unwrap();
    let job = plan.job.expect("a job");
    assert_eq!(store.replay(Replay { dry_run: true, ..replay(SECOND, false) }).await.unwrap().job, None);
    let now =
        async |store: &Arc<dyn Store>| store.replay_jobs(9).await.unwrap().into_iter().find(|j| j.id == job).unwrap();
    let counts = |job: &ReplayJob| [job.deliveries, job.pending, job.delivered, job.failed, job.cancelled];
    assert_eq!(counts(&now(&store).await), [4, 4, 0, 0, 0]);
    assert_eq!(now(&store).await.last_due_at, place.clock.now().plus(30 * SECOND));
    let first = claim(&store, "x", 9).await.remove(0);
    settle(&store, &place.clock, &first, Outcome::Delivered).await;
    drop(store);
    let store = place.ready().await;
    assert_eq!(counts(&now(&store).await), [4, 3, 1, 0, 0]);
    place.clock.advance(10 * SECOND);
    let second = claim(&store, "x", 9).await.remove(0);
    assert_eq!(store.cancel_replay(job, "somebody").await.unwrap(), Some(2), "not the one that is being sent");
    settle(&store, &place.clock, &second, Outcome::Failed { hold_key: false }).await;
    let ended = now(&store).await;
    assert_eq!((counts(&ended), ended.cancelled_by.as_deref()), ([4, 0, 1, 1, 2], Some("somebody")));
    place.clock.advance(3_600 * SECOND);
    assert!(claim(&store, "x", 9).await.is_empty());
    let handler = store.handlers().await.unwrap().into_iter().find(|h| h.name.as_str() == "x").unwrap();
    assert_eq!((handler.pending, handler.delivered, handler.failed), (0, 1, 1));
    assert_eq!(store.cancel_replay(job + 1, "somebody").await.unwrap(), None);
}

#[tokio::test]
async fn new_ids_are_given_only_when_asked_for() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2"] {
        store.commit(announce(&place.clock, id, vec![])).await.unwrap();
    }
    let plan = store.replay(replay(Duration::ZERO, false)).await.unwrap();
    assert_eq!((plan.events, ids(&claim(&store, "x", 9).await)), (2, vec!["1", "2"]));
    let plan = store.replay(replay(Duration::ZERO, true)).await.unwrap();
    assert_eq!((plan.events, plan.deliveries), (2, 2));
    let fresh = claim(&store, "x", 9).await;
    let names: Vec<&str> = ids(&fresh);
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    assert!(names.iter().all(|id| id.len() == 30 && id.starts_with("evt_")), "{names:?}");
    assert_eq!(fresh[0].event.data.as_deref(), Some(&b"{\"a\":1}"[..]));
    assert!(fresh[0].replay && fresh[0].event.key.as_str() == "1");
}
