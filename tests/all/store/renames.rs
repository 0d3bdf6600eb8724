//! What a new name, or another kind of order, does to what waits.

use std::sync::Arc;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

fn called_z() -> Setup {
    let mut renamed = setup();
    renamed.handlers[0] = HandlerSetup { renamed_from: Some("x".into()), ..handler_setup("z") };
    renamed
}

async fn put(store: &Arc<dyn Store>, place: &Place, id: &str, delivery: NewDelivery) {
    store.commit(announce(&place.clock, id, vec![delivery])).await.expect("commits");
}

/// What the handler gets, one after another, each being taken.
async fn drained(store: &Arc<dyn Store>, place: &Place, handler: &str) -> Vec<Vec<String>> {
    let mut rounds = Vec::new();
    loop {
        let claimed = claim(store, handler, 9).await;
        if claimed.is_empty() {
            return rounds;
        }
        rounds.push(ids(&claimed).into_iter().map(str::to_owned).collect());
        for delivery in &claimed {
            assert!(settle(store, &place.clock, delivery, Outcome::Delivered).await);
        }
    }
}

#[tokio::test]
async fn r7_5_a_run_that_began_under_the_former_name_of_a_handler_reaches_it() {
    let place = Place::new();
    let store = place.ready().await;
    put(&store, &place, "1", to("x", Some(1))).await;
    store.register(called_z()).await.expect("registers");
    put(&store, &place, "2", to("x", Some(1))).await;
    put(&store, &place, "3", to("z", Some(1))).await;
    let names: Vec<HandlerName> = store.handlers().await.unwrap().into_iter().map(|handler| handler.name).collect();
    assert_eq!(names, ["y".into(), "z".into()], "nothing is parked under the former name");
    assert_eq!(drained(&store, &place, "z").await, [["1"], ["2"], ["3"]]);
}

#[tokio::test]
async fn r7_5_what_was_parked_under_a_former_name_is_carried_over_in_order() {
    let place = Place::new();
    let store = place.ready().await;
    let mut without = called_z();
    without.handlers[0].renamed_from = None;
    // The name is given up, and taken for another handler, while events of the former one come in.
    for (id, name) in [("1", "x"), ("2", "z"), ("3", "x"), ("4", "z")] {
        put(&store, &place, id, to(name, Some(1))).await;
        put(&store, &place, &format!("o{id}"), to(name, Some(2))).await;
        store.register(without.clone()).await.expect("registers");
    }
    drop(store);
    let store = place.open();
    let found = store.register(called_z()).await.expect("registers");
    assert!(found.orphaned_handlers.is_empty(), "{:?}", found.orphaned_handlers);
    let handler = store.handlers().await.unwrap().into_iter().find(|handler| handler.name.as_str() == "z").unwrap();
    assert_eq!(handler.pending, 8);
    assert_eq!(drained(&store, &place, "z").await, [["1", "o1"], ["2", "o2"], ["3", "o3"], ["4", "o4"]]);
}

#[tokio::test]
async fn r7_3_a_handler_that_becomes_strict_gets_what_waits_before_what_comes() {
    let place = Place::new();
    let store = place.ready().await;
    for (id, order) in [("a1", 11), ("a2", 11), ("b1", u64::MAX - 5), ("s1", 0), ("s2", 0)] {
        put(&store, &place, id, to("x", Some(order))).await;
    }
    let want = [vec!["a1", "b1"], vec!["a2"], vec!["s1"], vec!["s2"]];
    assert_eq!(drained(&store, &place, "x").await, want);
}

#[tokio::test]
async fn r7_3_a_handler_that_was_strict_gets_what_waits_before_what_comes() {
    let place = Place::new();
    let store = place.ready().await;
    for (id, order) in [("s1", 0), ("s2", 0), ("a1", 11), ("b1", 12)] {
        put(&store, &place, id, to("x", Some(order))).await;
    }
    assert_eq!(drained(&store, &place, "x").await, [["s1"], ["s2"], ["a1"], ["b1"]]);
    for (id, order) in [("a2", 11), ("b2", 12)] {
        put(&store, &place, id, to("x", Some(order))).await;
    }
    assert_eq!(drained(&store, &place, "x").await, [["a2", "b2"]], "by key again, once nothing strict waits");
}

#[tokio::test]
async fn r2_3_an_id_that_another_stream_has_too_drops_nothing_and_is_told() {
    let place = Place::new();
    let store = place.ready().await;
    put(&store, &place, "E1", to("x", None)).await;
    let mut of_b = announce(&place.clock, "E1", vec![to("x", None)]);
    of_b.stream = stream("b");
    let event = of_b.writes[0].event.as_mut().expect("an event");
    event.event.stream = stream("b");
    assert_eq!(store.commit(of_b.clone()).await.unwrap().events, 1);
    let claimed = claim(&store, "x", 9).await;
    let names = ids(&claimed);
    assert!(names.len() == 2 && names[0] == "E1" && names[1].starts_with("evt_"), "{names:?}");
    let problem = store.problems().await.unwrap().into_iter().find(|p| p.kind == ProblemKind::EventIdTaken).unwrap();
    assert!(problem.subject == "core/b" && problem.message.contains(names[1]), "{problem:?}");
    // The same once more, as after a reset: nothing new, under either id.
    for mut again in [of_b, announce(&place.clock, "E1", vec![to("x", None)])] {
        again.writes[0].expected = Some(1);
        assert_eq!(store.commit(again).await.unwrap().events, 0);
    }
    assert!(store.ack_problem(ProblemKind::EventIdTaken, "core/b").await.unwrap());
    assert!(store.problems().await.unwrap().is_empty());
}
