//! Ringback's own events: who is told, once, in the transaction of what is told, and never of itself.

use std::sync::Arc;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

/// These handlers hear everything that Ringback tells of itself.
struct Ears(&'static [&'static str]);

impl Herald for Ears {
    fn deliveries(&self, _event: &Event, about: Option<&HandlerName>) -> Vec<NewDelivery> {
        let names = self.0.iter().map(|name| HandlerName::from(*name));
        names
            .filter(|name| Some(name) != about)
            .map(|handler| NewDelivery { handler, order: None, hold: None })
            .collect()
    }

    fn hears(&self, handler: &HandlerName) -> bool {
        self.0.contains(&handler.as_str())
    }
}

async fn heard_by(ears: &'static [&'static str]) -> (Place, Arc<dyn Store>) {
    let place = Place::new();
    let store = place.ready().await;
    store.announce_to(Arc::new(Ears(ears)));
    (place, store)
}

/// Ringback's own events, oldest first, as `type key > handlers`.
async fn told(store: &Arc<dyn Store>) -> Vec<String> {
    let filter = EventFilter { source: Some("ringback".into()), limit: 100, ..EventFilter::default() };
    let page = store.events(filter).await.expect("reads");
    let to =
        |event: &EventSummary| event.deliveries.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(" ");
    page.events.iter().rev().map(|event| format!("{} {} > {}", event.event_type, event.key, to(event))).collect()
}

async fn data(store: &Arc<dyn Store>, event_type: &str) -> serde_json::Value {
    let page =
        store.events(EventFilter { event_type: Some(event_type.into()), ..EventFilter::default() }).await.unwrap();
    let event = store.event(&page.events[0].id).await.unwrap().expect("it is there").event;
    serde_json::from_slice(&event.data.expect("data")).expect("JSON")
}

#[tokio::test]
async fn a_problem_is_told_when_it_opens_and_when_it_closes_and_not_when_it_is_seen_again() {
    let (place, store) = heard_by(&["x"]).await;
    for _ in 0..3 {
        store.open_problem(ProblemKind::AuthFailed, "core", "the credential was refused").await.unwrap();
    }
    assert_eq!(told(&store).await, ["ringback.problem.opened auth.failed core > x"]);
    let opened = data(&store, "ringback.problem.opened").await;
    assert_eq!((&opened["kind"], &opened["subject"]), (&"auth.failed".into(), &"core".into()));
    assert_eq!(opened["message"], "the credential was refused");
    drop(store);
    let store = place.ready().await;
    store.announce_to(Arc::new(Ears(&["x"])));
    store.close_problem(ProblemKind::AuthFailed, "core").await.unwrap();
    store.close_problem(ProblemKind::AuthFailed, "core").await.unwrap();
    store.open_problem(ProblemKind::AuthFailed, "core", "again").await.unwrap();
    let all = told(&store).await;
    assert_eq!(
        all[1..],
        ["ringback.problem.closed auth.failed core > x", "ringback.problem.opened auth.failed core > x"]
    );
    assert_eq!(data(&store, "ringback.problem.closed").await["count"], 3);
    let page = store.events(EventFilter { source: Some("ringback".into()), ..EventFilter::default() }).await.unwrap();
    let ids: std::collections::HashSet<_> = page.events.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), 3, "each raising has an id of its own");
    let revisions: Vec<u64> = page.events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [3, 2, 1]);
}

#[tokio::test]
async fn a_stream_that_is_late_or_silent_is_told_under_its_own_name() {
    let (_place, store) = heard_by(&["x"]).await;
    store.open_problem(ProblemKind::StreamLate, "core/a", "no good poll").await.unwrap();
    store.open_problem(ProblemKind::StreamSilent, "core/a", "no change").await.unwrap();
    let want = ["ringback.source.late stream.late core/a > x", "ringback.stream.silent stream.silent core/a > x"];
    assert_eq!(told(&store).await, want);
}

#[tokio::test]
async fn nobody_asks_so_nothing_is_made_and_no_status_shows_a_source_of_ours() {
    let (_place, store) = heard_by(&[]).await;
    store.open_problem(ProblemKind::AuthFailed, "core", "refused").await.unwrap();
    assert!(told(&store).await.is_empty());
    store.announce_to(Arc::new(Ears(&["x"])));
    store.open_problem(ProblemKind::DiskLow, "", "full").await.unwrap();
    assert_eq!(told(&store).await, ["ringback.problem.opened disk.low > x"]);
    let names: Vec<_> =
        store.streams().await.unwrap().into_iter().map(|status| status.state.name.to_string()).collect();
    assert_eq!(names, ["core/a", "core/b"]);
    let found = store.register(setup()).await.unwrap();
    assert!(found.orphaned_sources.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_delivery_that_failed_is_told_with_its_event_and_the_last_answer() {
    let (place, store) = heard_by(&["y"]).await;
    store.commit(announce(&place.clock, "evt_1", vec![to("x", None)])).await.unwrap();
    let first = claim(&store, "x", 1).await.remove(0);
    let retry = Outcome::Retry { after: std::time::Duration::ZERO, counted: true };
    settle(&store, &place.clock, &first, retry).await;
    assert!(told(&store).await.is_empty(), "it is tried again");
    let last = claim(&store, "x", 1).await.remove(0);
    settle(&store, &place.clock, &last, Outcome::Failed { hold_key: false }).await;
    assert_eq!(told(&store).await, ["ringback.delivery.failed x evt_1 > y"]);
    let failed = data(&store, "ringback.delivery.failed").await;
    assert_eq!((&failed["handler"], &failed["attempts"]), (&"x".into(), &2.into()));
    assert_eq!(failed["event"]["id"], "evt_1");
    assert_eq!(failed["event"]["type"], "payment.created");
    assert_eq!((&failed["event"]["source"], &failed["event"]["stream"]), (&"core".into(), &"a".into()));
    assert_eq!(failed["event"]["key"], "evt_1");
    let answer = &failed["last"];
    assert_eq!(
        (&answer["status"], &answer["result"], &answer["answer"]),
        (&500.into(), &"refused".into(), &"ok".into())
    );
    // Told in the transaction of the failure: what is on disk has both or neither.
    drop(store);
    let again = place.ready().await;
    assert_eq!(told(&again).await.len(), 1);
    assert_eq!(ids(&claim(&again, "y", 9).await).len(), 1, "it waits in the outbox like any other");
}

#[tokio::test]
async fn no_handler_is_told_of_itself_and_a_failing_one_feeds_nothing() {
    let (place, store) = heard_by(&["x", "y"]).await;
    store.commit(announce(&place.clock, "evt_1", vec![to("x", None)])).await.unwrap();
    let taken = claim(&store, "x", 1).await.remove(0);
    settle(&store, &place.clock, &taken, Outcome::Failed { hold_key: false }).await;
    assert_eq!(told(&store).await, ["ringback.delivery.failed x evt_1 > y"], "x is not told that x failed");
    // The news itself fails: that is the end of it.
    for _ in 0..3 {
        for news in claim(&store, "y", 9).await {
            settle(&store, &place.clock, &news, Outcome::Failed { hold_key: false }).await;
        }
    }
    assert_eq!(told(&store).await.len(), 1);
    // Two handlers that hear each other's troubles could go on for ever.
    for name in ["x", "y"] {
        store.open_problem(ProblemKind::HandlerFailing, name, "refuses").await.unwrap();
        store.close_problem(ProblemKind::HandlerFailing, name).await.unwrap();
    }
    assert_eq!(told(&store).await.len(), 1);
    store.open_problem(ProblemKind::HandlerFailing, "z", "refuses").await.unwrap();
    assert_eq!(told(&store).await[1..], ["ringback.problem.opened handler.failing z > x y"]);
}

#[tokio::test]
async fn a_pause_is_told_once_whoever_ordered_it() {
    let (place, store) = heard_by(&["y"]).await;
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    let by = data(&store, "ringback.handler.paused").await;
    assert_eq!((&by["handler"], &by["by"], &by["reason"]), (&"x".into(), &"a person".into(), &"maintenance".into()));
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    store.commit(announce(&place.clock, "evt_1", vec![to("x", None)])).await.unwrap();
    let taken = claim(&store, "x", 1).await.remove(0);
    let gone = Settled {
        handler_change: HandlerChange::Pause("it answered 410".into()),
        ..settled(&taken, &place.clock, Outcome::Held(HoldReason::Paused))
    };
    store.settle(vec![gone]).await.unwrap();
    store.open_problem(ProblemKind::HandlerGone, "x", "it answered 410").await.unwrap();
    let want = ["ringback.handler.paused x > y", "ringback.handler.resumed x > y", "ringback.handler.paused x > y"];
    assert_eq!(told(&store).await, want);
}
