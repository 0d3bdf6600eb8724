//! Reading, problems, retention.

use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn events_come_newest_first_in_pages_without_gap_or_double() {
    let place = Place::new();
    let store = place.ready().await;
    for n in 0..7 {
        store.commit(announce(&place.clock, &format!("e{n}"), vec![to("x", None)])).await.unwrap();
    }
    let mut filter = EventFilter { limit: 3, ..EventFilter::default() };
    let mut seen = Vec::new();
    loop {
        let page = store.events(filter.clone()).await.unwrap();
        seen.extend(page.events.iter().map(|event| event.id.to_string()));
        // An event that arrives meanwhile is not slipped into later pages.
        store.commit(announce(&place.clock, &format!("new{}", seen.len()), vec![])).await.unwrap();
        match page.next {
            Some(next) => filter.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ["e6", "e5", "e4", "e3", "e2", "e1", "e0"]);
}

#[tokio::test]
async fn every_part_of_a_filter_must_match() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "old", vec![to("x", None)])).await.unwrap();
    place.clock.advance(DAY);
    let mut other = announce(&place.clock, "typed", vec![to("y", None)]);
    other.writes[0].event.as_mut().unwrap().event.event_type = "refund.created".into();
    store.commit(other).await.unwrap();
    store.commit(announce(&place.clock, "both", vec![to("x", None), to("y", None)])).await.unwrap();
    let claimed = claim(&store, "y", 9).await;
    settle(&store, &place.clock, &claimed[1], Outcome::Failed { hold_key: false }).await;
    let check = async |name: &str, filter: EventFilter, expected: &[&str]| {
        let page = store.events(filter).await.unwrap();
        assert_eq!(page.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), expected, "{name}");
    };
    let all = EventFilter::default;
    let state = |handler: Option<&str>, state| EventFilter {
        handler: handler.map(HandlerName::from),
        state: Some(state),
        ..all()
    };
    check("nothing asked", all(), &["both", "typed", "old"]).await;
    check("ids", EventFilter { ids: vec!["old".into(), "both".into()], ..all() }, &["both", "old"]).await;
    check("source", EventFilter { source: Some("core".into()), ..all() }, &["both", "typed", "old"]).await;
    check("no such source", EventFilter { source: Some("zz".into()), ..all() }, &[]).await;
    check("stream", EventFilter { stream: Some("b".into()), ..all() }, &[]).await;
    check("type", EventFilter { event_type: Some("refund.created".into()), ..all() }, &["typed"]).await;
    check("types", EventFilter { event_type: Some("payment.*".into()), ..all() }, &["both", "old"]).await;
    check("key", EventFilter { key: Some("old".into()), ..all() }, &["old"]).await;
    check("handler", EventFilter { handler: Some("y".into()), ..all() }, &["both", "typed"]).await;
    check("no such handler", EventFilter { handler: Some("zz".into()), ..all() }, &[]).await;
    check("since", EventFilter { since: Some(place.clock.now()), ..all() }, &["both", "typed"]).await;
    check("until", EventFilter { until: Some(place.clock.now()), ..all() }, &["old"]).await;
    check("failed", state(None, DeliveryState::Failed), &["both"]).await;
    check("claimed", state(None, DeliveryState::Claimed), &["typed"]).await;
    check("pending", state(None, DeliveryState::Pending), &["both", "old"]).await;
    check("pending at y", state(Some("y"), DeliveryState::Pending), &[]).await;
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    check("held", state(None, DeliveryState::Held), &["both", "old"]).await;
    assert!(store.events(EventFilter { after: Some("?".into()), ..all() }).await.is_err());
}

#[tokio::test]
async fn tail_shows_each_attempt_once_in_order_of_visibility() {
    let place = Place::new();
    let store = place.ready().await;
    assert_eq!(store.tail_start(5).await.unwrap(), None);
    for id in ["1", "2", "3"] {
        store.commit(announce(&place.clock, id, vec![to("x", None)])).await.unwrap();
    }
    let mut wake = store.wake(Topic::Attempts);
    wake.seen();
    let claimed = claim(&store, "x", 9).await;
    let retry = Outcome::Retry { after: Duration::from_secs(5), counted: true };
    settle(&store, &place.clock, &claimed[2], Outcome::Delivered).await;
    settle(&store, &place.clock, &claimed[0], retry).await;
    settle(&store, &place.clock, &claimed[1], Outcome::Failed { hold_key: false }).await;
    tokio::time::timeout(Duration::from_secs(5), wake.rung()).await.expect("rings");
    let page = store.tail(None, 2).await.unwrap();
    let shown = |page: &TailPage| {
        page.lines.iter().map(|line| (line.event.id.to_string(), line.state, line.number)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&page), [("3".into(), DeliveryState::Delivered, 1), ("1".into(), DeliveryState::Pending, 1)]);
    assert_eq!(page.lines[1].next_attempt_at, Some(place.clock.now().plus(Duration::from_secs(5))));
    assert_eq!(page.lines[0].attempt.duration, Duration::from_micros(1500));
    let rest = store.tail(page.next, 9).await.unwrap();
    assert_eq!(shown(&rest), [("2".into(), DeliveryState::Failed, 1)]);
    let none = store.tail(rest.next.clone(), 9).await.unwrap();
    assert_eq!((none.lines.len(), none.next), (0, rest.next));
    let last = store.tail(store.tail_start(1).await.unwrap(), 9).await.unwrap();
    assert_eq!(shown(&last).len(), 1);
    assert_eq!(shown(&store.tail(store.tail_start(99).await.unwrap(), 9).await.unwrap()).len(), 3);
}

#[tokio::test]
async fn an_event_shows_its_deliveries_with_every_attempt() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    for outcome in [Outcome::Retry { after: Duration::ZERO, counted: true }, Outcome::Delivered] {
        let claimed = claim(&store, "x", 1).await;
        settle(&store, &place.clock, &claimed[0], outcome).await;
    }
    let detail = store.event(&"1".into()).await.unwrap().unwrap();
    let delivery = &detail.deliveries[0];
    let results: Vec<AttemptResult> = delivery.attempts.iter().map(|attempt| attempt.result).collect();
    assert_eq!(results, [AttemptResult::Refused, AttemptResult::Delivered]);
    assert_eq!((delivery.state, delivery.next_attempt_at), (DeliveryState::Delivered, None));
    let status = store.handlers().await.unwrap().remove(0);
    assert_eq!((status.delivered, status.pending), (1, 0));
    assert_eq!(status.last_attempt, delivery.attempts.last().cloned());
    assert!(store.event(&"none".into()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_problem_is_open_once_for_its_kind_and_subject() {
    let place = Place::new();
    let store = place.ready().await;
    let kind = ProblemKind::StreamLate;
    assert!(store.open_problem(kind, "core/a", "late").await.unwrap());
    place.clock.advance(DAY);
    assert!(!store.open_problem(kind, "core/a", "later").await.unwrap());
    assert!(store.open_problem(kind, "core/b", "late").await.unwrap());
    assert!(store.ack_problem(kind, "core/a").await.unwrap());
    assert!(!store.ack_problem(kind, "none").await.unwrap());
    let problem = store.problems().await.unwrap().remove(0);
    assert_eq!((problem.message.as_str(), problem.count, problem.acknowledged), ("later", 2, true));
    assert_eq!(problem.last_seen_at, problem.opened_at.plus(DAY));
    assert!(store.close_problem(kind, "core/a").await.unwrap());
    assert!(!store.close_problem(kind, "core/a").await.unwrap());
    assert_eq!(store.problems().await.unwrap().len(), 1);
}

#[tokio::test]
async fn pruning_takes_what_is_settled_and_old_and_never_what_is_not_delivered() {
    let place = Place::new();
    let store = place.ready().await;
    for (id, handlers) in [("settled", vec!["x"]), ("half", vec!["x", "y"]), ("unheard", vec![]), ("late", vec!["x"])] {
        let deliveries = handlers.into_iter().map(|handler| to(handler, None)).collect();
        store.commit(announce(&place.clock, id, deliveries)).await.unwrap();
    }
    let claimed = claim(&store, "x", 9).await;
    for delivery in &claimed[..2] {
        settle(&store, &place.clock, delivery, Outcome::Delivered).await;
    }
    place.clock.advance(2 * DAY);
    let late = claim(&store, "x", 9).await.remove(0);
    settle(&store, &place.clock, &late, Outcome::Failed { hold_key: false }).await;
    store.commit(announce(&place.clock, "young", vec![])).await.unwrap();
    prune_all(&store, place.clock.now().minus(DAY), 1).await;
    let left = store.events(EventFilter::default()).await.unwrap().events;
    assert_eq!(left.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["young", "late", "half"]);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.events, stats.deliveries, stats.attempts, stats.records), (3, 3, 2, 5));
    assert_eq!(store.handlers().await.unwrap()[0].delivered, 1);
    assert_eq!(ids(&claim(&store, "y", 9).await), ["half"]);
}

#[tokio::test]
async fn a_position_of_tail_stays_good_when_everything_before_it_is_pruned() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    let claimed = claim(&store, "x", 1).await;
    settle(&store, &place.clock, &claimed[0], Outcome::Delivered).await;
    let position = store.tail(None, 9).await.unwrap().next;
    place.clock.advance(2 * DAY);
    prune_all(&store, place.clock.now(), 10).await;
    assert_eq!(store.stats().await.unwrap().attempts, 0);
    drop(store);
    let store = place.ready().await;
    store.commit(announce(&place.clock, "2", vec![to("x", None)])).await.unwrap();
    let claimed = claim(&store, "x", 1).await;
    settle(&store, &place.clock, &claimed[0], Outcome::Delivered).await;
    assert_eq!(store.tail(position, 9).await.unwrap().lines.len(), 1);
}

#[tokio::test]
async fn message_ids_outlive_bodies_and_pending_inbounds_outlive_everything() {
    let place = Place::new();
    let store = place.ready().await;
    store.put_inbound(inbound(Some("m1"), "1")).await.unwrap();
    store.put_inbound(inbound(Some("m2"), "2")).await.unwrap();
    let batch = store.claim_inbounds(LEASE, 1).await.unwrap();
    let settled = InboundSettled { id: batch[0].id, lease: batch[0].lease, outcome: InboundOutcome::Ignored };
    store.settle_inbounds(vec![settled]).await.unwrap();
    place.clock.advance(2 * DAY);
    let now = place.clock.now();
    let prune = Prune { message_ids_before: now.minus(3 * DAY), ..older_than(now, 10) };
    store.prune(prune).await.unwrap();
    assert_eq!(store.stats().await.unwrap().inbounds, 1);
    assert_eq!(store.put_inbound(inbound(Some("m1"), "1")).await, Ok(InboundStored::Duplicate));
    prune_all(&store, now, 10).await;
    assert_eq!(store.put_inbound(inbound(Some("m1"), "1")).await, Ok(InboundStored::New));
    assert_eq!(store.put_inbound(inbound(Some("m2"), "2")).await, Ok(InboundStored::Duplicate), "still pending");
    assert_eq!(store.inbox().await.unwrap().pending, 2);
}

#[tokio::test]
async fn the_writer_proves_that_it_lives_and_tells_its_figures() {
    let place = Place::new();
    let store = place.ready().await;
    store.ping().await.unwrap();
    store.optimise().await.unwrap();
    let stats = store.stats().await.unwrap();
    assert!(stats.bytes > 0 && stats.free_bytes.is_some_and(|free| free > 0));
    assert!(!stats.version.is_empty());
    assert_eq!(store.next_due(Topic::Attempts).await.unwrap(), None);
    assert_eq!(store.next_due(Topic::Deliveries).await.unwrap(), None);
}
