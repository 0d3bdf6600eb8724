//! What may go and what may not: seen keys by their place in the order of the cursor (RULES R9.2), addresses that changed (R2.4),
//! and how much waits for a handler (R9.1).

use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);

fn seen(below: i64, now: Timestamp) -> PruneSeen {
    PruneSeen { below, written_before: now, placed_by: ".at".into(), limit: 2 }
}

async fn known(store: &std::sync::Arc<dyn Store>) -> Vec<String> {
    let rows = store.rows_after(&stream("a"), None, 100).await.unwrap();
    rows.into_iter().map(|(key, _)| key.to_string()).collect()
}

#[tokio::test]
async fn r9_2_seen_keys_go_by_their_place_and_their_age_in_small_batches() {
    let place = Place::new();
    let store = place.ready().await;
    let mut commit = Commit::new(stream("a"), "d1".into());
    for (key, at) in [("a", Some(10)), ("b", Some(20)), ("c", Some(30)), ("d", Some(40)), ("e", None)] {
        commit.writes.push(RecordWrite { place: at, ..write(key, None) });
    }
    store.commit(commit).await.unwrap();
    let now = place.clock.now();
    place.clock.advance(HOUR);
    let later = place.clock.now();
    assert!(!store.prune_seen(&stream("a"), seen(35, later)).await.unwrap());
    assert_eq!(known(&store).await.len(), 5, "without a mark nothing is older than it");
    let mut commit = Commit::new(stream("a"), "d1".into());
    commit.mark = Some("{\"number\":\"40\"}".into());
    store.commit(commit).await.unwrap();
    assert!(!store.prune_seen(&stream("a"), seen(35, now)).await.unwrap());
    assert_eq!(known(&store).await.len(), 5, "written too lately");
    let claimed = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().expect("free");
    store.prune_seen(&stream("a"), seen(35, later)).await.unwrap();
    assert_eq!(known(&store).await.len(), 5, "a run under way may still show them");
    store.finish_poll(&claimed.lease, poll_end(HOUR, PollResult::Ok)).await.unwrap();
    let before = store.stream(&stream("a")).await.unwrap().expect("known");
    assert!(store.prune_seen(&stream("a"), seen(35, later)).await.unwrap(), "two at a time");
    assert!(!store.prune_seen(&stream("a"), seen(35, later)).await.unwrap());
    assert_eq!(known(&store).await, ["d", "e"], "one without a place is kept for ever");
    let after = store.stream(&stream("a")).await.unwrap().expect("known");
    assert_eq!((after.detection.records, after.detection.forgotten_below), (2, Some(31)));
    assert_eq!(after.base_revision, before.base_revision);
    assert!(after.change_number > before.change_number, "nobody commits what was thought with a row that is gone");
    let thought = RecordWrite { event: None, ..write("a", Some(1)) };
    let mut commit = Commit::new(stream("a"), "d1".into());
    commit.writes.push(thought);
    assert_eq!(store.commit(commit).await, Err(StoreError::Conflict));
    // Another cursor: what is stored says nothing in its order.
    let other = PruneSeen { placed_by: ".number".into(), below: i64::MAX, ..seen(0, later) };
    store.prune_seen(&stream("a"), other.clone()).await.unwrap();
    store.prune_seen(&stream("a"), other).await.unwrap();
    assert_eq!(known(&store).await, ["d", "e"]);
    assert_eq!(store.reset_stream(&stream("a"), false).await.unwrap().records, 2);
    assert_eq!(store.stream(&stream("a")).await.unwrap().expect("known").detection.forgotten_below, None);
}

fn at(address: &str) -> Setup {
    Setup { sources: vec![SourceSetup { name: "core".into(), address: address.into() }], ..setup() }
}

#[tokio::test]
async fn r2_4_a_source_that_is_asked_elsewhere_is_not_polled_before_a_person_confirms_it_once() {
    let place = Place::new();
    let store = place.open();
    let claimed = async |which| store.claim_stream(which, LEASE).await.unwrap().is_some();
    assert!(store.register(at("https://one.example")).await.unwrap().readdressed.is_empty());
    let nothing_known = store.register(at("https://two.example")).await.unwrap();
    assert!(nothing_known.readdressed.is_empty(), "nothing is known that another place could contradict");
    let mut stopped = announce(&place.clock, "k", vec![]);
    stopped.resume = Some(Some("page 2".into()));
    store.commit(stopped).await.unwrap();
    let found = store.register(at("https://three.example")).await.unwrap();
    let want =
        Readdressed { source: "core".into(), from: "https://two.example".into(), to: "https://three.example".into() };
    assert_eq!(found.readdressed, std::slice::from_ref(&want));
    assert!(!claimed(Which::Due).await && !claimed(Which::Named(stream("a"))).await);
    assert_eq!(store.next_due(Topic::Polls).await.unwrap(), None);
    let paused = store.streams().await.unwrap()[0].paused.clone().expect("it says so");
    assert_eq!(paused.by, BY_ITSELF);
    assert!(paused.reason.contains("https://two.example") && paused.reason.contains("source keep core"), "{paused:?}");
    drop(store);
    // Neither a restart nor resuming confirms anything.
    let store = place.open();
    assert_eq!(store.register(at("https://three.example")).await.unwrap().readdressed, [want]);
    store.set_source_paused(&"core".into(), None).await.unwrap();
    let claimed = async |which| store.claim_stream(which, LEASE).await.unwrap().is_some();
    assert!(!claimed(Which::Due).await);
    store.open_problem(ProblemKind::AddressChanged, "core", "changed").await.unwrap();
    assert!(store.keep_source(&"core".into()).await.unwrap());
    assert!(!store.keep_source(&"core".into()).await.unwrap(), "once");
    assert!(store.problems().await.unwrap().is_empty());
    let resume = store.stream(&stream("a")).await.unwrap().expect("known").resume;
    assert_eq!(resume, None, "page 2 was one of the former address");
    assert!(store.register(at("https://three.example")).await.unwrap().readdressed.is_empty());
    assert!(claimed(Which::Due).await);
}

#[tokio::test]
async fn r2_4_going_back_or_forgetting_everything_needs_no_confirmation() {
    let place = Place::new();
    let store = place.open();
    store.register(at("https://one.example")).await.unwrap();
    store.commit(announce(&place.clock, "k", vec![])).await.unwrap();
    assert_eq!(store.register(at("https://two.example")).await.unwrap().readdressed.len(), 1);
    assert!(store.register(at("https://one.example")).await.unwrap().readdressed.is_empty(), "a slip was mended");
    assert!(store.streams().await.unwrap()[0].paused.is_none());
    assert_eq!(store.register(at("https://two.example")).await.unwrap().readdressed.len(), 1);
    store.open_problem(ProblemKind::AddressChanged, "core", "changed").await.unwrap();
    store.reset_stream(&stream("b"), false).await.unwrap();
    assert!(store.streams().await.unwrap()[0].paused.is_some(), "stream a still knows something");
    store.reset_stream(&stream("a"), false).await.unwrap();
    assert!(store.streams().await.unwrap()[0].paused.is_none());
    assert!(store.problems().await.unwrap().is_empty());
    // What was reset is no state any more, also when its source leaves the configuration.
    let bare = Setup { handlers: vec![handler_setup("x")], ..Setup::default() };
    assert!(store.register(bare).await.unwrap().orphaned_sources.is_empty());
}

#[tokio::test]
async fn r9_1_streams_rest_while_they_are_said_to_and_over_a_restart() {
    let place = Place::new();
    let store = place.ready().await;
    let why = || vec![(stream("a"), "billing is full".to_owned())];
    store.rest_streams(why()).await.unwrap();
    let claimed = store.claim_stream(Which::Due, LEASE).await.unwrap().expect("b is due");
    assert_eq!(claimed.lease.stream, stream("b"));
    assert!(store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().is_none());
    drop(store);
    let store = place.ready().await;
    assert_eq!(store.streams().await.unwrap()[0].paused.clone().expect("it rests").reason, "billing is full");
    let mut wake = store.wake(Topic::Polls);
    wake.seen();
    store.rest_streams(vec![]).await.unwrap();
    wake.rung().await;
    assert!(store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().is_some());
}

#[tokio::test]
async fn r9_1_a_backlog_is_what_waits_in_whatever_state_and_what_waits_is_never_pruned() {
    let place = Place::new();
    let store = place.ready().await;
    let one = "{\"a\":1}".len() + "{}".len() + "[\"/a\"]".len();
    assert_eq!(store.backlog(&"x".into()).await.unwrap(), 0);
    let held = NewDelivery { hold: Some(HoldReason::WhenFailed), ..to("x", None) };
    for (id, delivery) in [("1", to("x", Some(7))), ("2", to("x", Some(7))), ("3", to("x", None)), ("4", held)] {
        store.commit(announce(&place.clock, id, vec![delivery, to("y", None)])).await.unwrap();
    }
    assert_eq!(store.backlog(&"x".into()).await.unwrap(), 4 * one as u64, "pending, queued and held");
    let taken = claim(&store, "x", 9).await;
    assert_eq!(
        (taken.len(), store.backlog(&"x".into()).await.unwrap()),
        (2, 4 * one as u64),
        "what is in work waits too"
    );
    settle(&store, &place.clock, &taken[0], Outcome::Delivered).await;
    assert_eq!(store.backlog(&"x".into()).await.unwrap(), 3 * one as u64);
    for delivery in claim(&store, "y", 9).await {
        settle(&store, &place.clock, &delivery, Outcome::Delivered).await;
    }
    place.clock.advance(HOUR * 24 * 365);
    prune_all(&store, place.clock.now(), 100).await;
    assert_eq!(store.stats().await.unwrap().events, 3, "only the one that nobody waits for is gone");
    assert_eq!(store.backlog(&"x".into()).await.unwrap(), 3 * one as u64);
    assert!(store.stats().await.unwrap().disk_bytes > store.stats().await.unwrap().free_bytes);
}

#[tokio::test]
async fn a_source_may_be_kept_for_another_time_than_all_others() {
    let place = Place::new();
    let store = place.open();
    let mut both = setup();
    both.streams.push(stream_setup(StreamName::new("pay", "p")));
    store.register(both).await.unwrap();
    let of_pay = |id: &str| {
        let mut commit = announce(&place.clock, id, vec![]);
        commit.stream = StreamName::new("pay", "p");
        commit.writes[0].event.as_mut().expect("an event").event.stream = commit.stream.clone();
        commit
    };
    store.put_inbound(inbound_of("pay", None, "{}")).await.unwrap();
    store.put_inbound(inbound_of("core", None, "{}")).await.unwrap();
    for _ in 0..2 {
        let taken = store.claim_inbounds(LEASE, 9).await.unwrap();
        let settle = |inbound: &ClaimedInbound| InboundSettled {
            id: inbound.id,
            lease: inbound.lease,
            outcome: InboundOutcome::Done,
        };
        store.settle_inbounds(taken.iter().map(settle).collect()).await.unwrap();
    }
    store.commit(of_pay("pay-1")).await.unwrap();
    store.commit(announce(&place.clock, "core-1", vec![])).await.unwrap();
    place.clock.advance(HOUR * 48);
    store.commit(of_pay("pay-2")).await.unwrap();
    store.commit(announce(&place.clock, "core-2", vec![])).await.unwrap();
    let now = place.clock.now();
    let left = async |own: Duration, keep: Duration| {
        let of_sources = vec![("pay".into(), now.minus(own))];
        let prune = Prune { of_sources, ..older_than(now.minus(keep), 1) };
        while store.prune(prune.clone()).await.unwrap() {}
        let page = store.events(EventFilter { limit: 9, ..EventFilter::default() }).await.unwrap();
        let ids: Vec<String> = page.events.iter().rev().map(|event| event.id.to_string()).collect();
        (ids.join(" "), store.stats().await.unwrap().inbounds)
    };
    assert_eq!(left(HOUR * 999, HOUR * 999).await, ("pay-1 core-1 pay-2 core-2".into(), 2));
    assert_eq!(left(HOUR * 24, HOUR * 999).await, ("core-1 pay-2 core-2".into(), 1), "pay is kept for less");
    assert_eq!(left(HOUR * 999, HOUR * 24).await, ("pay-2 core-2".into(), 0), "and now for longer");
}
