//! Handlers that are closed and open again: what that means for the age of what waited, and for the problems that were told.

use std::sync::Arc;
use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A registration in which `x` is as told; None: it is not there.
fn with_x(enabled: Option<bool>) -> Setup {
    let mut setup = setup();
    match enabled {
        Some(enabled) => setup.handlers[0].enabled = enabled,
        None => drop(setup.handlers.remove(0)),
    }
    setup
}

async fn problems(store: &Arc<dyn Store>) -> Vec<(ProblemKind, String)> {
    store.problems().await.unwrap().into_iter().map(|problem| (problem.kind, problem.subject)).collect()
}

#[tokio::test]
async fn r7_1_the_time_that_a_handler_was_closed_does_not_count_however_it_was_closed() {
    let place = Place::new();
    let mut store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", Some(1)), to("y", Some(1))])).await.unwrap();
    let started = place.clock.now();
    let mut closed = Duration::ZERO;
    for way in ["paused", "disabled", "removed", "410"] {
        let close = async || match way {
            "paused" => store.set_handler_paused(&"x".into(), paused()).await,
            "disabled" => store.register(with_x(Some(false))).await.map(drop),
            "removed" => store.register(with_x(None)).await.map(drop),
            _ => {
                let first = claim(&store, "x", 1).await.remove(0);
                let retry = Outcome::Retry { after: Duration::ZERO, counted: false };
                let gone = Settled {
                    handler_change: HandlerChange::Pause("410".into()),
                    ..settled(&first, &place.clock, retry)
                };
                store.settle(vec![gone]).await.map(drop)
            }
        };
        close().await.unwrap();
        place.clock.advance(100 * HOUR);
        close_again(&store, way).await;
        place.clock.advance(10 * HOUR);
        closed += 110 * HOUR;
        store.register(setup()).await.unwrap();
        store.set_handler_paused(&"x".into(), None).await.unwrap();
        place.clock.advance(HOUR);
        drop(store);
        store = place.ready().await;
        let taken = claim(&store, "x", 1).await.remove(0);
        assert_eq!(taken.first_due_at, started.plus(closed), "{way}");
        // A process ends, and with it its claims.
        drop(store);
        store = place.ready().await;
    }
    let other = claim(&store, "y", 1).await.remove(0);
    assert_eq!(other.first_due_at, started, "another handler was open all the time");
}

/// Closed once more while it is closed already: that begins nothing anew.
async fn close_again(store: &Arc<dyn Store>, way: &str) {
    if way == "paused" {
        store.set_handler_paused(&"x".into(), paused()).await.unwrap();
        store.register(with_x(Some(false))).await.unwrap();
    }
}

#[tokio::test]
async fn r7_1_what_becomes_due_while_its_handler_is_closed_is_young_when_it_opens_and_ages_from_then_on() {
    let place = Place::new();
    let store = place.ready().await;
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    place.clock.advance(10 * HOUR);
    store.commit(announce(&place.clock, "1", vec![to("x", Some(1))])).await.unwrap();
    store.commit(announce(&place.clock, "2", vec![to("x", Some(1))])).await.unwrap();
    place.clock.advance(10 * HOUR);
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    let opened = place.clock.now();
    place.clock.advance(HOUR);
    let first = claim(&store, "x", 1).await.remove(0);
    assert_eq!(first.first_due_at, opened);
    settle(&store, &place.clock, &first, Outcome::Delivered).await;
    place.clock.advance(HOUR);
    let second = claim(&store, "x", 1).await.remove(0);
    assert_eq!((second.event.id.as_str(), second.first_due_at), ("2", opened.plus(HOUR)), "from its turn on");
}

#[tokio::test]
async fn r8_1_a_clock_that_is_set_while_a_handler_is_closed_makes_nothing_older_or_younger() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    place.clock.advance(HOUR);
    store.set_handler_paused(&"x".into(), paused()).await.unwrap();
    for millis in [86_400_000, -3 * 86_400_000] {
        place.clock.set_wall(millis);
        let step = place.clock.look().expect("it was set");
        store.clock_stepped(step).await.unwrap();
        place.clock.advance(HOUR);
    }
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    let taken = claim(&store, "x", 1).await.remove(0);
    assert_eq!(place.clock.now().since(taken.first_due_at), HOUR, "the hour before the pause");
}

#[tokio::test]
async fn a_held_order_is_a_problem_until_a_person_resumes_the_handler() {
    let place = Place::new();
    let store = place.ready().await;
    for id in ["1", "2"] {
        store.commit(announce(&place.clock, id, vec![to("x", Some(1))])).await.unwrap();
    }
    let first = claim(&store, "x", 9).await.remove(0);
    settle(&store, &place.clock, &first, Outcome::Failed { hold_key: true }).await;
    let blocked = [(ProblemKind::HandlerKeyBlocked, "x".to_owned())];
    assert_eq!(problems(&store).await, blocked);
    drop(store);
    let store = place.ready().await;
    assert_eq!(problems(&store).await, blocked);
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    assert_eq!(problems(&store).await, []);
    assert_eq!(ids(&claim(&store, "x", 9).await), ["2"]);
}

#[tokio::test]
async fn problems_of_a_handler_close_with_its_resume_or_its_removal_and_come_back_with_it() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "1", vec![to("x", None)])).await.unwrap();
    let first = claim(&store, "x", 1).await.remove(0);
    let retry = Outcome::Retry { after: Duration::ZERO, counted: true };
    let gone = Settled {
        handler_change: HandlerChange::Pause("it answered 410".into()),
        ..settled(&first, &place.clock, retry)
    };
    store.settle(vec![gone]).await.unwrap();
    let told = [(ProblemKind::HandlerGone, "x".to_owned())];
    assert_eq!(problems(&store).await, told);
    for (kind, subject) in [
        (ProblemKind::HandlerFailing, "x"),
        (ProblemKind::HostRefused, "x"),
        (ProblemKind::HostRefused, "core/a"),
        (ProblemKind::AuthFailed, "x"),
    ] {
        store.open_problem(kind, subject, "why").await.unwrap();
    }
    store.register(with_x(None)).await.unwrap();
    let mut left = problems(&store).await;
    left.sort();
    let others = [(ProblemKind::AuthFailed, "x".to_owned()), (ProblemKind::HostRefused, "core/a".to_owned())];
    assert_eq!(left, others, "a source of the same name keeps its own");
    for (kind, subject) in others {
        store.close_problem(kind, &subject).await.unwrap();
    }
    store.register(setup()).await.unwrap();
    assert_eq!(problems(&store).await, told, "it is still paused by its own answer");
    store.set_handler_paused(&"x".into(), None).await.unwrap();
    assert_eq!(problems(&store).await, []);
}

#[tokio::test]
async fn a_position_that_nobody_can_have_been_given_is_refused_and_changes_nothing() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "a", vec![to("x", Some(1))])).await.unwrap();
    let pull = async |after| store.pull(Pull { handler: "x".into(), after, max: 9 }).await.unwrap();
    let first = pull(None).await.events[0].position;
    let (day, now) = (Duration::from_secs(86_400), place.clock.now());
    let edge = now.plus(day).0 * 1_000;
    for after in [edge + 1, (1 << 53) - 1, i64::MAX] {
        let page = pull(Some(after)).await;
        assert!(page.ahead && page.events.is_empty(), "{after}: {page:?}");
    }
    assert_eq!(pull(None).await.events[0].position, first, "nothing moved");
    // A database that was put back: the feed goes on beyond what its reader has, and what is handed out is always taken.
    assert_eq!(pull(Some(edge)).await.events[0].position, edge + 1);
    let end = pull(Some(edge + 1)).await;
    assert!(!end.ahead && end.events.is_empty() && end.taken == 1, "{end:?}");
}
