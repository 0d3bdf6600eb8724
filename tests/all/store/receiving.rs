//! The inbox.

use std::time::Duration;

use ringback::store::*;

use super::kit::*;

fn done(inbound: &ClaimedInbound) -> InboundSettled {
    InboundSettled { id: inbound.id, lease: inbound.lease, outcome: InboundOutcome::Done }
}

#[tokio::test]
async fn a_message_is_taken_once_and_comes_out_as_it_went_in() {
    let place = Place::new();
    let store = place.ready().await;
    assert_eq!(store.put_inbound(inbound(Some("m1"), "one")).await, Ok(InboundStored::New));
    assert_eq!(store.put_inbound(inbound(Some("m1"), "copy")).await, Ok(InboundStored::Duplicate));
    assert_eq!(store.put_inbound(inbound_of("other", Some("m1"), "of another")).await, Ok(InboundStored::New));
    assert_eq!(store.put_inbound(inbound(None, "nameless")).await, Ok(InboundStored::New));
    assert_eq!(store.put_inbound(inbound(None, "nameless")).await, Ok(InboundStored::New));
    drop(store);
    let store = place.ready().await;
    assert_eq!(store.put_inbound(inbound(Some("m1"), "copy")).await, Ok(InboundStored::Duplicate));
    let batch = store.claim_inbounds(LEASE, 9).await.unwrap();
    assert_eq!(batch.len(), 3);
    assert_eq!(batch[0].request, *inbound(Some("m1"), "one").request);
    assert_eq!((batch[0].message_id.as_deref(), batch[1].message_id.as_deref()), (Some("m1"), None));
    assert_eq!((batch[0].source.as_str(), batch[0].received_at), ("core", place.clock.now()));
}

#[tokio::test]
async fn inbounds_of_a_source_go_out_in_order_one_batch_at_a_time() {
    let place = Place::new();
    let store = place.ready().await;
    for body in ["1", "2", "3"] {
        store.put_inbound(inbound(None, body)).await.unwrap();
    }
    store.put_inbound(inbound_of("other", None, "4")).await.unwrap();
    let first = store.claim_inbounds(LEASE, 2).await.unwrap();
    assert_eq!(first.iter().map(|inbound| &inbound.request.body[..]).collect::<Vec<_>>(), [b"1", b"2"]);
    let other = store.claim_inbounds(LEASE, 2).await.unwrap();
    assert_eq!((other.len(), other[0].source.as_str()), (1, "other"));
    assert!(store.claim_inbounds(LEASE, 2).await.unwrap().is_empty(), "both sources are in work");
    assert_eq!(store.next_due(Topic::Inbounds).await.unwrap(), Some(place.clock.now().plus(LEASE)));
    store.settle_inbounds(vec![done(&first[0])]).await.unwrap();
    assert!(store.claim_inbounds(LEASE, 2).await.unwrap().is_empty(), "the batch is not settled");
    store.settle_inbounds(vec![done(&first[1])]).await.unwrap();
    assert_eq!(store.next_due(Topic::Inbounds).await.unwrap(), Some(place.clock.now()));
    assert_eq!(&store.claim_inbounds(LEASE, 2).await.unwrap()[0].request.body[..], b"3");
}

#[tokio::test]
async fn a_batch_whose_lease_ran_out_is_handed_out_again_and_its_old_owner_is_stale() {
    let place = Place::new();
    let store = place.ready().await;
    store.put_inbound(inbound(Some("m1"), "1")).await.unwrap();
    let old = store.claim_inbounds(LEASE, 9).await.unwrap();
    place.clock.advance(LEASE);
    let new = store.claim_inbounds(LEASE, 9).await.unwrap();
    assert_eq!(new.len(), 1);
    assert_eq!(store.settle_inbounds(vec![done(&old[0])]).await, Err(StoreError::Stale));
    let mut commit = announce(&place.clock, "evt_1", vec![]);
    commit.inbounds.push(done(&old[0]));
    assert_eq!(store.commit(commit.clone()).await, Err(StoreError::Stale));
    assert!(store.event(&"evt_1".into()).await.unwrap().is_none());
    commit.inbounds = vec![done(&new[0])];
    store.commit(commit).await.unwrap();
    assert_eq!(store.inbox().await.unwrap(), InboxStatus::default());
    assert!(store.claim_inbounds(LEASE, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn r8_2_a_restart_frees_what_was_in_work() {
    let place = Place::new();
    let store = place.ready().await;
    store.put_inbound(inbound(None, "1")).await.unwrap();
    let old = store.claim_inbounds(LEASE, 9).await.unwrap();
    drop(store);
    let store = place.ready().await;
    assert_eq!(store.claim_inbounds(LEASE, 9).await.unwrap().len(), 1);
    assert_eq!(store.settle_inbounds(vec![done(&old[0])]).await, Err(StoreError::Stale));
}

#[tokio::test]
async fn ignored_and_unreadable_ones_are_kept_and_block_nobody_and_a_notice_polls_its_stream() {
    let place = Place::new();
    let store = place.ready().await;
    for name in ["a", "b"] {
        let lease = store.claim_stream(Which::Named(stream(name)), LEASE).await.unwrap().unwrap().lease;
        store.finish_poll(&lease, poll_end(Duration::from_secs(3600), PollResult::Ok)).await.unwrap();
    }
    for body in ["1", "2", "3", "4"] {
        store.put_inbound(inbound(None, body)).await.unwrap();
    }
    let batch = store.claim_inbounds(LEASE, 3).await.unwrap();
    let outcomes =
        [InboundOutcome::Ignored, InboundOutcome::Unreadable("no JSON".into()), InboundOutcome::Notice(stream("b"))];
    let settled = batch.iter().zip(outcomes);
    let settled = settled.map(|(inbound, outcome)| InboundSettled { outcome, ..done(inbound) }).collect();
    store.settle_inbounds(settled).await.unwrap();
    let inbox = store.inbox().await.unwrap();
    assert_eq!((inbox.pending, inbox.ignored, inbox.unreadable), (1, 1, 1));
    assert_eq!(inbox.oldest_pending_at, Some(place.clock.now()));
    assert_eq!(&store.claim_inbounds(LEASE, 9).await.unwrap()[0].request.body[..], b"4");
    let polled = store.claim_stream(Which::Due, LEASE).await.unwrap().expect("the notice makes it due");
    assert_eq!(polled.lease.stream, stream("b"));
}

#[tokio::test]
async fn a_delivery_carries_the_inbound_it_came_with() {
    let place = Place::new();
    let store = place.ready().await;
    store.put_inbound(inbound(Some("m1"), "as it was")).await.unwrap();
    let batch = store.claim_inbounds(LEASE, 9).await.unwrap();
    let mut commit = announce(&place.clock, "evt_1", vec![to("x", None)]);
    commit.writes[0].event.as_mut().unwrap().inbound = Some(batch[0].id);
    commit.inbounds.push(done(&batch[0]));
    store.commit(commit).await.unwrap();
    let claimed = claim(&store, "x", 1).await;
    assert_eq!(**claimed[0].inbound.as_ref().expect("carried"), *inbound(Some("m1"), "as it was").request);
}

#[tokio::test]
async fn a_stored_webhook_rings_the_inbox() {
    let place = Place::new();
    let store = place.ready().await;
    let mut wake = store.wake(Topic::Inbounds);
    wake.seen();
    store.put_inbound(inbound(None, "1")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), wake.rung()).await.expect("rings");
}
