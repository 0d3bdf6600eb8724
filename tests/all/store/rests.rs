//! What polling keeps beside marks: its memory of a stream, what credentials have spent, and waits over a clock that is set.

use std::time::Duration;

use ringback::store::*;

use super::kit::*;

#[tokio::test]
async fn what_polling_remembers_of_a_stream_is_replaced_by_the_end_of_a_run_and_outlives_a_restart() {
    let place = Place::new();
    let store = place.ready().await;
    let claim = || store.claim_stream(Which::Named(stream("a")), LEASE);
    for (told, known) in
        [(None, None), (Some("{\"x\":1}"), Some("{\"x\":1}")), (None, Some("{\"x\":1}")), (Some("{}"), Some("{}"))]
    {
        let claimed = claim().await.unwrap().expect("free");
        let end = PollEnd { memory: told.map(str::to_owned), ..poll_end(LEASE, PollResult::Ok) };
        store.finish_poll(&claimed.lease, end).await.unwrap();
        let state = store.stream(&stream("a")).await.unwrap().expect("known");
        assert_eq!(state.memory.as_deref(), known, "{told:?}");
    }
    drop(store);
    let again = place.ready().await;
    assert_eq!(again.stream(&stream("a")).await.unwrap().expect("known").memory.as_deref(), Some("{}"));
    // Another definition begins anew.
    let mut changed = setup();
    changed.streams.iter_mut().for_each(|stream| stream.definition = "another".into());
    again.register(changed).await.unwrap();
    assert_eq!(again.stream(&stream("a")).await.unwrap().expect("known").memory, None);
}

#[tokio::test]
async fn what_a_credential_has_spent_is_kept_by_its_key_and_forgotten_long_after_nobody_asks_with_it() {
    let place = Place::new();
    let store = place.ready().await;
    assert_eq!(store.budgets().await.unwrap(), []);
    store.put_budget("old", "1".into()).await.unwrap();
    place.clock.advance(Duration::from_secs(40 * 86_400));
    store.put_budget("key", "1".into()).await.unwrap();
    store.put_budget("key", "2".into()).await.unwrap();
    let text = |key: &str, state: &str| (key.to_owned(), state.to_owned());
    assert_eq!(store.budgets().await.unwrap(), [text("key", "2"), text("old", "1")]);
    drop(store);
    let again = place.ready().await;
    place.clock.advance(Duration::from_secs(40 * 86_400));
    again.put_budget("key", "3".into()).await.unwrap();
    assert_eq!(again.budgets().await.unwrap(), [text("key", "3")]);
}

#[tokio::test]
async fn r10_3_what_was_got_for_a_credential_is_kept_as_it_was_given() {
    let place = Place::new();
    let store = place.ready().await;
    assert_eq!(store.token("one").await.unwrap(), None);
    for sealed in [&b"\x01\x00\xffsealed"[..], b"another"] {
        store.put_token("one", bytes::Bytes::copy_from_slice(sealed)).await.unwrap();
        assert_eq!(store.token("one").await.unwrap().as_deref(), Some(sealed));
    }
    store.put_token("two", bytes::Bytes::from_static(b"2")).await.unwrap();
    drop(store);
    let again = place.ready().await;
    place.clock.advance(Duration::from_secs(390 * 86_400));
    again.put_token("two", bytes::Bytes::from_static(b"3")).await.unwrap();
    assert_eq!(again.token("one").await.unwrap().as_deref(), Some(&b"another"[..]), "a grant outlives a year of rest");
    place.clock.advance(Duration::from_secs(20 * 86_400));
    again.put_token("two", bytes::Bytes::from_static(b"4")).await.unwrap();
    assert_eq!(again.token("one").await.unwrap(), None);
    assert_eq!(again.token("two").await.unwrap().as_deref(), Some(&b"4"[..]));
}

#[tokio::test]
async fn how_a_registration_stands_is_kept_by_its_source() {
    let place = Place::new();
    let store = place.ready().await;
    let core = ringback::model::SourceName::from("core");
    assert_eq!(store.registration(&core).await.unwrap(), None);
    store.put_registration(&core, "1".into()).await.unwrap();
    store.put_registration(&core, "2".into()).await.unwrap();
    drop(store);
    let again = place.ready().await;
    assert_eq!(again.registration(&core).await.unwrap().as_deref(), Some("2"));
    assert_eq!(again.registration(&"other".into()).await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_may_be_made_due_later_or_sooner_than_it_was() {
    let place = Place::new();
    let store = place.ready().await;
    let due = async || store.streams().await.unwrap()[0].next_poll_at;
    store.poll_later(&stream("a"), Duration::from_secs(90)).await.unwrap();
    assert_eq!(due().await, Some(place.clock.now().plus(Duration::from_secs(90))));
    store.poll_later(&stream("a"), Duration::from_secs(5)).await.unwrap();
    assert_eq!(due().await, Some(place.clock.now().plus(Duration::from_secs(5))));
    assert_eq!(store.poll_later(&stream("nobody"), LEASE).await, Err(StoreError::Conflict));
}

#[tokio::test]
async fn r8_1_every_wait_under_way_is_as_long_after_the_wall_was_set_as_before() {
    let place = Place::new();
    let store = place.ready().await;
    let claimed = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().expect("free");
    store.finish_poll(&claimed.lease, poll_end(Duration::from_secs(90), PollResult::Ok)).await.unwrap();
    store.commit(announce(&place.clock, "evt_1", vec![to("x", None)])).await.unwrap();
    let taken = claim(&store, "x", 1).await;
    assert_eq!(ids(&taken), ["evt_1"]);
    for millis in [86_400_000, -3 * 86_400_000] {
        place.clock.set_wall(millis);
        let step = place.clock.look().expect("it was set");
        store.clock_stepped(step).await.unwrap();
        let now = place.clock.now();
        let status = &store.streams().await.unwrap()[0];
        assert_eq!(status.next_poll_at.map(|at| at.0 - now.0), Some(90_000), "{millis}");
        assert_eq!(status.state.last_ok_at, Some(now));
        assert_eq!(ids(&claim(&store, "x", 1).await), Vec::<&str>::new(), "the lease is still held");
    }
    place.clock.advance(LEASE);
    assert_eq!(ids(&claim(&store, "x", 1).await), ["evt_1"], "and runs out when it would have");
}
