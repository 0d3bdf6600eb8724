//! The outbox: heads, leases, retries, holds, replays.

use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn r10_2_deliveries_of_one_order_go_one_after_another_and_others_do_not_wait() {
    let place = Place::new();
    let store = place.ready().await;
    for (id, order) in [("a1", Some(1)), ("a2", Some(1)), ("b1", Some(2)), ("n1", None), ("n2", None), ("a3", Some(1))]
    {
        store.commit(announce(&place.clock, id, vec![to("x", order), to("y", order)])).await.unwrap();
    }
    let first = claim(&store, "x", 99).await;
    assert_eq!(ids(&first), ["a1", "b1", "n1", "n2"]);
    assert!(claim(&store, "x", 99).await.is_empty(), "never two of one order");
    assert_eq!(claim(&store, "y", 99).await.len(), 4, "another handler has its own order");
    assert!(settle(&store, &place.clock, &first[0], Outcome::Delivered).await);
    assert_eq!(ids(&claim(&store, "x", 99).await), ["a2"]);
    drop(store);
    let store = place.ready().await;
    assert_eq!(ids(&claim(&store, "x", 99).await), ["a2", "b1", "n1", "n2"], "a restart frees claims, not the order");
}

#[tokio::test]
async fn never_more_than_the_free_permits() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2", "3"] {
        store.commit(announce(&place.clock, id, vec![to("x", None)])).await.unwrap();
    }
    assert!(claim(&store, "x", 0).await.is_empty());
    assert_eq!(ids(&claim(&store, "x", 2).await), ["1", "2"]);
    assert_eq!(ids(&claim(&store, "x", 2).await), ["3"]);
    assert!(claim(&store, "nobody", 2).await.is_empty());
}

#[tokio::test]
async fn an_expired_claim_is_given_again_and_the_old_one_settles_nothing() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", Some(1))])).await.unwrap();
    let old = claim(&store, "x", 1).await.remove(0);
    assert_eq!(store.next_due(Topic::Deliveries).await.unwrap(), Some(place.clock.now().plus(LEASE)));
    assert_eq!(states(&store, "1").await[0].0, DeliveryState::Claimed);
    place.clock.advance(LEASE);
    let new = claim(&store, "x", 1).await.remove(0);
    assert!(!settle(&store, &place.clock, &old, Outcome::Delivered).await);
    assert_eq!(states(&store, "1").await[0].0, DeliveryState::Claimed);
    assert!(settle(&store, &place.clock, &new, Outcome::Delivered).await);
    assert!(!settle(&store, &place.clock, &new, Outcome::Delivered).await, "settled once");
    assert_eq!(states(&store, "1").await[0].0, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_retry_is_due_in_its_time_and_holds_its_place_in_the_order() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2"] {
        store.commit(announce(&place.clock, id, vec![to("x", Some(1))])).await.unwrap();
    }
    let started = place.clock.now();
    let retry = |counted| Outcome::Retry { after: 5 * SECOND, counted };
    let first = claim(&store, "x", 9).await.remove(0);
    assert_eq!((first.attempts, first.counted, first.first_due_at), (0, 0, started));
    settle(&store, &place.clock, &first, retry(true)).await;
    let nothing = store.claim_deliveries(LEASE, vec![("x".into(), 9)]).await.unwrap();
    assert!(nothing.deliveries.is_empty());
    assert_eq!(nothing.next_due, Some(started.plus(5 * SECOND)));
    drop(store);
    let store = place.ready().await;
    assert_eq!(store.next_due(Topic::Deliveries).await.unwrap(), Some(started.plus(5 * SECOND)));
    place.clock.advance(5 * SECOND);
    let again = claim(&store, "x", 9).await.remove(0);
    assert_eq!((again.event.id.as_str(), again.attempts, again.counted), ("1", 1, 1));
    settle(&store, &place.clock, &again, retry(false)).await;
    place.clock.advance(5 * SECOND);
    let third = claim(&store, "x", 9).await.remove(0);
    assert_eq!((third.attempts, third.counted, third.first_due_at), (2, 1, started));
    settle(&store, &place.clock, &third, Outcome::Failed { hold_key: false }).await;
    assert_eq!(states(&store, "1").await[0].0, DeliveryState::Failed);
    let next = claim(&store, "x", 9).await.remove(0);
    assert_eq!((next.event.id.as_str(), next.first_due_at), ("2", place.clock.now()), "its age counts from its turn");
}

#[tokio::test]
async fn r7_4_a_failure_may_hold_its_order_until_a_person_resumes_the_handler() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2"] {
        store.commit(announce(&place.clock, id, vec![to("x", Some(1))])).await.unwrap();
    }
    let first = claim(&store, "x", 9).await.remove(0);
    settle(&store, &place.clock, &first, Outcome::Failed { hold_key: true }).await;
    drop(store);
    let store = place.ready().await;
    store.commit(announce(&place.clock, "3", vec![to("x", Some(1)), to("y", Some(1))])).await.unwrap();
    store.commit(announce(&place.clock, "other", vec![to("x", Some(2))])).await.unwrap();
    for id in ["2", "3"] {
        assert_eq!(states(&store, id).await[0], (DeliveryState::Held, Some(HoldReason::KeyHeld)));
    }
    assert_eq!(ids(&claim(&store, "x", 9).await), ["other"]);
    let status = store.handlers().await.unwrap().remove(0);
    assert_eq!((status.held, status.failed, status.pending, status.claimed), (2, 1, 0, 1));
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    assert_eq!(ids(&claim(&store, "x", 9).await), ["2"]);
    assert_eq!(states(&store, "3").await[0].0, DeliveryState::Pending);
}

#[tokio::test]
async fn a_delivery_held_at_ingest_holds_up_those_behind_it() {
    let place = Place::new();
    let store = place.ready().await;
    let held = NewDelivery { hold: Some(HoldReason::WhenFailed), ..to("x", Some(1)) };
    store.commit(announce(&place.clock, "1", vec![held])).await.unwrap();
    store.commit(announce(&place.clock, "2", vec![to("x", Some(1))])).await.unwrap();
    assert!(claim(&store, "x", 9).await.is_empty());
    assert_eq!(states(&store, "1").await[0], (DeliveryState::Held, Some(HoldReason::WhenFailed)));
    assert_eq!(states(&store, "2").await[0], (DeliveryState::Pending, None));
}

#[tokio::test]
async fn a_paused_handler_holds_its_deliveries_over_a_restart_until_it_is_resumed() {
    let place = Place::new();
    let store = place.ready().await;
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    store.commit(announce(&place.clock, "1", vec![to("x", Some(1)), to("y", Some(1))])).await.unwrap();
    store.commit(announce(&place.clock, "2", vec![to("x", Some(1))])).await.unwrap();
    drop(store);
    let store = place.ready().await;
    assert!(claim(&store, "x", 9).await.is_empty());
    assert_eq!(states(&store, "1").await[0], (DeliveryState::Held, Some(HoldReason::Paused)));
    assert_eq!(states(&store, "1").await[1], (DeliveryState::Pending, None));
    let status = store.handlers().await.unwrap().remove(0);
    assert_eq!((status.paused, status.held, status.pending), (paused(), 2, 0));
    let mut wake = store.wake(Topic::Deliveries);
    wake.seen();
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    tokio::time::timeout(5 * SECOND, wake.rung()).await.expect("rings");
    assert_eq!(ids(&claim(&store, "x", 9).await), ["1"]);
    assert!(store.set_handler_paused(&"stranger".into(), None).await.is_err());
}

#[tokio::test]
async fn a_disabled_handler_holds_and_an_enabled_one_goes_on_but_not_when_a_person_paused_it() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    let mut disabled = setup();
    disabled.handlers[0].enabled = false;
    store.register(disabled).await.unwrap();
    assert_eq!(states(&store, "1").await[0], (DeliveryState::Held, Some(HoldReason::Paused)));
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    store.register(setup()).await.unwrap();
    assert!(claim(&store, "x", 9).await.is_empty());
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    assert_eq!(claim(&store, "x", 9).await.len(), 1);
}

#[tokio::test]
async fn a_handler_that_asks_to_wait_is_left_alone_and_one_that_is_gone_is_paused() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2"] {
        store.commit(announce(&place.clock, id, vec![to("x", None)])).await.unwrap();
    }
    let first = claim(&store, "x", 1).await.remove(0);
    let mut busy = settled(&first, &place.clock, Outcome::Retry { after: Duration::ZERO, counted: false });
    busy.handler_change = HandlerChange::Wait(60 * SECOND);
    store.settle(vec![busy]).await.unwrap();
    let until = place.clock.now().plus(60 * SECOND);
    drop(store);
    let store = place.ready().await;
    let nothing = store.claim_deliveries(LEASE, vec![("x".into(), 9)]).await.unwrap();
    assert_eq!((nothing.deliveries.len(), nothing.next_due), (0, Some(until)));
    assert_eq!(store.handlers().await.unwrap()[0].wait_until, Some(until));
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    let claimed = claim(&store, "x", 9).await;
    assert_eq!(claimed.len(), 2, "resuming ends the wait");
    let mut gone = settled(&claimed[0], &place.clock, Outcome::Held(HoldReason::Paused));
    gone.handler_change = HandlerChange::Pause("410 Gone".into());
    store.settle(vec![gone]).await.unwrap();
    let status = store.handlers().await.unwrap().remove(0);
    assert_eq!(status.paused.expect("paused").reason, "410 Gone");
    assert_eq!((status.held, status.claimed), (1, 1));
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    assert_eq!(claim(&store, "x", 9).await.len(), 1);
}

#[tokio::test]
async fn r7_5_a_renamed_handler_keeps_its_deliveries() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    let mut renamed = setup();
    renamed.handlers[0] = HandlerSetup { renamed_from: Some("x".into()), ..handler_setup("z") };
    assert!(store.register(renamed).await.unwrap().orphaned_handlers.is_empty());
    assert_eq!(ids(&claim(&store, "z", 9).await), ["1"]);
}

#[tokio::test]
async fn r7_4_a_replay_is_marked_takes_no_part_in_the_order_and_is_spaced() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2"] {
        store.commit(announce(&place.clock, id, vec![to("x", Some(1)), to("y", Some(1))])).await.unwrap();
    }
    let first = claim(&store, "y", 9).await.remove(0);
    settle(&store, &place.clock, &first, Outcome::Failed { hold_key: false }).await;
    let replay = |handler: Option<&str>, events, dry_run| Replay {
        events,
        to: handler.map_or(ReplayTo::ThoseThatHad, |name| ReplayTo::Handler(name.into())),
        dry_run,
        spacing: 10 * SECOND,
        fresh_ids: false,
        by: "a person".into(),
    };
    let everything = EventFilter::default;
    let plan = store.replay(replay(None, everything(), true)).await.unwrap();
    assert_eq!((plan.events, plan.deliveries, plan.bytes), (2, 4, 28));
    assert_eq!((plan.oldest, plan.newest), (Some(place.clock.now()), Some(place.clock.now())));
    assert_eq!(states(&store, "1").await.len(), 2, "a dry run writes nothing");
    let failed = EventFilter { state: Some(DeliveryState::Failed), ..everything() };
    assert_eq!(store.replay(replay(None, failed, false)).await.unwrap().deliveries, 1, "only to whom it failed");
    let claimed = claim(&store, "y", 9).await;
    assert_eq!(ids(&claimed), ["2", "1"], "the order's next, and the replay beside it");
    assert_eq!(claimed.iter().map(|delivery| delivery.replay).collect::<Vec<_>>(), [false, true]);
    let done = store.replay(replay(Some("x"), everything(), false)).await.unwrap();
    assert_eq!(done.deliveries, 2);
    assert_eq!(ids(&claim(&store, "x", 9).await), ["1", "1"], "the head and its replay; the second comes later");
    place.clock.advance(10 * SECOND);
    assert_eq!(ids(&claim(&store, "x", 9).await), ["2"]);
    assert_eq!(states(&store, "1").await.len(), 4);
}

#[tokio::test]
async fn r7_4_what_happens_now_goes_before_what_is_replayed() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2", "3"] {
        store.commit(announce(&place.clock, id, vec![to("y", None)])).await.unwrap();
    }
    assert_eq!(store.replay(everything_to_x()).await.unwrap().deliveries, 3);
    place.clock.advance(SECOND);
    store.commit(announce(&place.clock, "now", vec![to("x", None)])).await.unwrap();
    assert_eq!(ids(&claim(&store, "x", 2).await), ["now", "1"]);
    assert_eq!(ids(&claim(&store, "x", 9).await), ["2", "3"]);
}

#[tokio::test]
async fn what_is_given_back_is_due_as_it_was_and_only_its_owner_can_give_it() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", Some(1))])).await.unwrap();
    let claimed = claim(&store, "x", 1).await.remove(0);
    store.give_back(vec![(claimed.id, claimed.lease.wrapping_add(1))]).await.unwrap();
    assert!(claim(&store, "x", 1).await.is_empty(), "somebody has it");
    store.give_back(vec![(claimed.id, claimed.lease)]).await.unwrap();
    assert_eq!(states(&store, "1").await[0].0, DeliveryState::Pending);
    let again = claim(&store, "x", 1).await.remove(0);
    assert_eq!((again.counted, again.attempts), (0, 0));
    assert!(!settle(&store, &place.clock, &claimed, Outcome::Delivered).await);
}

#[tokio::test]
async fn concurrent_claimers_never_share_a_delivery() {
    let place = Place::new();
    let store = place.ready().await;
    for batch in 0..20 {
        let mut commit = announce(&place.clock, &format!("e{batch}"), vec![to("x", None)]);
        for n in 0..10 {
            let id = format!("e{batch}-{n}");
            commit.writes.extend(announce(&place.clock, &id, vec![to("x", Some(n))]).writes);
        }
        store.commit(commit).await.unwrap();
    }
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, clock) = (store.clone(), place.clock.clone());
        workers.spawn(async move {
            let mut seen = Vec::new();
            loop {
                let claimed = claim(&store, "x", 7).await;
                if claimed.is_empty() {
                    return seen;
                }
                for delivery in &claimed {
                    assert!(settle(&store, &clock, delivery, Outcome::Delivered).await);
                    seen.push(delivery.event.id.to_string());
                }
            }
        });
    }
    let mut seen: Vec<String> = workers.join_all().await.concat();
    seen.extend(ids(&claim(&store, "x", 99).await).into_iter().map(String::from));
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((all, seen.len()), (220, 220));
}
