//! Handlers that come with a replay to an address: there while anything of it is unsettled, over restarts too, and never asked again.

use std::sync::Arc;
use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

const URL: &str = "https://repair.example/hooks?key=s3cret";

/// A store with so many events that `x` had.
async fn stored(place: &Place, many: usize) -> Arc<dyn Store> {
    let store = place.ready().await;
    for number in 0..many {
        let id = format!("e{number}");
        store.commit(announce(&place.clock, &id, vec![to("x", None)])).await.expect("commits");
    }
    for delivery in claim(&store, "x", many).await {
        assert!(settle(&store, &place.clock, &delivery, Outcome::Delivered).await);
    }
    store
}

fn everything_to(to: ReplayTo) -> Replay {
    let (events, spacing) = (EventFilter::default(), Duration::ZERO);
    Replay { events, to, dry_run: false, spacing, fresh_ids: false, by: "a person".into() }
}

fn to_address() -> Replay {
    everything_to(ReplayTo::Address { like: "x".into(), url: URL.into() })
}

async fn work(store: &Arc<dyn Store>) {
    while store.replay_step().await.expect("works") == ReplayStep::Worked {}
}

async fn names(store: &Arc<dyn Store>) -> Vec<String> {
    store.handlers().await.expect("reads").iter().map(|handler| handler.name.to_string()).collect()
}

/// The configuration again, which can send to what the store says is under way, or cannot for this reason.
async fn register(store: &Arc<dyn Store>, refused: Option<&str>) {
    let mut temporaries = store.temporaries().await.expect("reads");
    temporaries.iter_mut().for_each(|temporary| temporary.refused = refused.map(str::to_owned));
    store.register(Setup { temporaries, ..setup() }).await.expect("registers");
}

#[tokio::test]
async fn an_address_has_a_handler_of_its_own_until_the_last_is_settled() {
    let place = Place::new();
    let store = stored(&place, 2).await;
    let plan = store.replay(Replay { dry_run: true, ..to_address() }).await.expect("counted");
    assert_eq!((plan.events, plan.deliveries, plan.temporary), (2, 2, None));
    assert!(store.temporaries().await.unwrap().is_empty(), "a dry run makes nothing");
    let plan = store.replay(to_address()).await.expect("started");
    let name = plan.temporary.expect("a name");
    assert_eq!((name.as_str(), name.replay(), plan.job), ("x~1", Some(1), Some(1)));
    let status = store.handlers().await.unwrap().into_iter().find(|handler| handler.name == name).expect("it is shown");
    let want = Temporary { name, like: "x".into(), url: URL.into(), refused: None };
    assert_eq!((status.temporary, status.configured, status.pending), (Some(want), true, 2));
    store.commit(announce(&place.clock, "live", vec![to("x", None)])).await.unwrap();
    let claimed = claim(&store, "x~1", 9).await;
    assert_eq!((ids(&claimed), claimed[0].replay), (vec!["e0", "e1"], true));
    assert!(settle(&store, &place.clock, &claimed[0], Outcome::Delivered).await);
    work(&store).await;
    assert_eq!(names(&store).await, ["x", "x~1", "y"], "one is left");
    assert!(settle(&store, &place.clock, &claimed[1], Outcome::Failed { hold_key: false }).await);
    work(&store).await;
    assert_eq!(names(&store).await, ["x", "y"]);
    assert!(store.temporaries().await.unwrap().is_empty());
    let shown = store.event(&"e1".into()).await.unwrap().expect("it is stored");
    let to: Vec<&str> = shown.deliveries.iter().map(|delivery| delivery.handler.as_str()).collect();
    assert_eq!(to, ["x", "x~1"], "what was sent to it is still told");
    let job = store.replay_jobs(1).await.unwrap().remove(0);
    assert_eq!((job.to, job.delivered, job.failed), (Some("x~1".into()), 1, 1));
}

#[tokio::test]
async fn a_restart_and_a_reload_keep_it_and_one_that_is_refused_is_held() {
    let place = Place::new();
    let store = stored(&place, 1).await;
    store.replay(to_address()).await.expect("started");
    drop(store);
    let store = place.ready().await;
    assert_eq!(
        states(&store, "e0").await[1],
        (DeliveryState::Held, Some(HoldReason::NoHandler)),
        "nobody vouches for it"
    );
    register(&store, None).await;
    assert_eq!(states(&store, "e0").await[1], (DeliveryState::Pending, None));
    register(&store, Some("handler `x` is gone")).await;
    work(&store).await;
    assert!(claim(&store, "x~1", 9).await.is_empty());
    assert_eq!(states(&store, "e0").await[1], (DeliveryState::Held, Some(HoldReason::NoHandler)));
    let there = store.temporaries().await.unwrap().remove(0);
    assert_eq!((there.url.as_str(), there.refused.as_deref()), (URL, Some("handler `x` is gone")));
    let mut renamed = setup();
    renamed.handlers[0] = HandlerSetup { renamed_from: Some("x".into()), ..handler_setup("z") };
    let like_z = Temporary { like: "z".into(), refused: None, ..there };
    let found = store.register(Setup { temporaries: vec![like_z.clone()], ..renamed }).await.expect("registers");
    assert!(found.orphaned_handlers.is_empty());
    assert_eq!(
        store.temporaries().await.unwrap(),
        [like_z],
        "it goes on in the manner of that one, under its own name"
    );
    assert_eq!(ids(&claim(&store, "x~1", 9).await), ["e0"]);
}

#[tokio::test]
async fn cancelling_the_replay_drops_it_paused_or_not() {
    let place = Place::new();
    let store = stored(&place, 3).await;
    for pause in [false, true] {
        let plan = store.replay(to_address()).await.expect("started");
        let name = plan.temporary.expect("a name");
        if pause {
            store.set_handler_paused(&name, paused()).await.expect("pauses");
            store.open_problem(ProblemKind::HandlerFailing, name.as_str(), "it fails").await.expect("told");
        }
        assert_eq!(store.cancel_replay(plan.job.unwrap(), "somebody").await.unwrap(), Some(3));
        work(&store).await;
        assert_eq!(names(&store).await, ["x", "y"]);
    }
    assert!(store.problems().await.unwrap().is_empty(), "its problems end with it");
    assert!(!store.open_problem(ProblemKind::HandlerFailing, "x~2", "a late word").await.unwrap());
    assert!(store.problems().await.unwrap().is_empty(), "an attempt that was under way opens none for ever");
}

#[tokio::test]
async fn an_address_is_sent_to_where_it_is_named_and_not_again() {
    let place = Place::new();
    let store = stored(&place, 1).await;
    store.replay(to_address()).await.expect("started");
    let again = everything_to(ReplayTo::ThoseThatHad);
    assert_eq!(store.replay(again.clone()).await.unwrap().deliveries, 1, "to x alone, while the other is there");
    let claimed = claim(&store, "x~1", 9).await;
    assert!(settle(&store, &place.clock, &claimed[0], Outcome::Failed { hold_key: false }).await);
    work(&store).await;
    assert_eq!(store.replay(again.clone()).await.unwrap().deliveries, 1, "and when it is gone");
    let of_it = EventFilter { handler: Some("x~1".into()), state: Some(DeliveryState::Failed), ..again.events.clone() };
    let had = store.replay(Replay { events: of_it.clone(), ..again }).await.unwrap();
    assert_eq!((had.events, had.deliveries), (1, 0), "nor when its failures are asked for");
    let elsewhere = store.replay(Replay { events: of_it, ..to_address() }).await.unwrap();
    assert_eq!(
        (elsewhere.deliveries, elsewhere.temporary),
        (1, Some("x~4".into())),
        "they can be sent to an address that is named"
    );
}

#[tokio::test]
async fn its_name_goes_with_what_was_sent_to_it_and_its_number_is_not_given_twice() {
    let place = Place::new();
    let store = stored(&place, 1).await;
    store.replay(to_address()).await.expect("started");
    let claimed = claim(&store, "x~1", 9).await;
    assert!(settle(&store, &place.clock, &claimed[0], Outcome::Delivered).await);
    work(&store).await;
    place.clock.advance(Duration::from_secs(3_600));
    // The events of one source may be kept for longer than replays are.
    let longer = vec![("core".into(), Timestamp(0))];
    let prune = Prune { of_sources: longer, ..older_than(place.clock.now(), 9) };
    while store.prune(prune.clone()).await.expect("prunes") {}
    assert_eq!(states(&store, "e0").await.len(), 2);
    assert_eq!(store.replay(to_address()).await.unwrap().temporary, Some("x~2".into()));
    store.cancel_replay(2, "somebody").await.unwrap();
    work(&store).await;
    place.clock.advance(Duration::from_secs(3_600));
    for _ in 0..2 {
        prune_all(&store, place.clock.now(), 9).await;
    }
    assert!(store.replay_jobs(9).await.unwrap().is_empty());
    assert_eq!(names(&store).await, ["x", "y"]);
}
