//! Registering, leases of streams, commits, journals.

use std::time::Duration;

use ringback::model::*;
use ringback::store::*;

use super::kit::*;

#[tokio::test]
async fn a_new_stream_is_due_and_one_lease_holds_it() {
    let place = Place::new();
    let store = place.ready().await;
    let first = store.claim_stream(Which::Due, LEASE).await.unwrap().expect("due");
    let second = store.claim_stream(Which::Due, LEASE).await.unwrap().expect("the other is due too");
    assert_ne!(first.lease.stream, second.lease.stream);
    assert!(store.claim_stream(Which::Due, LEASE).await.unwrap().is_none());
    assert!(store.claim_stream(Which::Named(first.lease.stream.clone()), LEASE).await.unwrap().is_none());
    assert_eq!(first.state.phase, Phase::Baseline);
    assert_eq!(first.state.source_id, SourceName::from("core"));
}

#[tokio::test]
async fn a_finished_poll_is_due_again_in_its_time_and_a_person_may_ask_sooner() {
    let place = Place::new();
    let store = place.ready().await;
    let claim = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    let other = store.claim_stream(Which::Named(stream("b")), Duration::from_secs(600)).await.unwrap().unwrap();
    store.finish_poll(&claim.lease, poll_end(Duration::from_secs(30), PollResult::Ok)).await.unwrap();
    assert_eq!(store.next_due(Topic::Polls).await.unwrap(), Some(place.clock.now().plus(Duration::from_secs(30))));
    assert!(store.claim_stream(Which::Due, LEASE).await.unwrap().is_none());
    assert!(store.finish_poll(&claim.lease, poll_end(LEASE, PollResult::Ok)).await == Err(StoreError::Stale));
    store.poll_now(&stream("a")).await.unwrap();
    let again = store.claim_stream(Which::Due, LEASE).await.unwrap().expect("asked for");
    assert_eq!(again.lease.stream, stream("a"));
    assert_eq!((again.state.last_ok_at, again.state.failures), (Some(place.clock.now()), 0));
    assert_ne!(again.lease.token, other.lease.token);
}

#[tokio::test]
async fn a_poll_that_is_asked_for_during_a_run_follows_the_run() {
    let place = Place::new();
    let store = place.ready().await;
    let claim = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    store.poll_now(&stream("a")).await.unwrap();
    store.finish_poll(&claim.lease, poll_end(Duration::from_secs(3600), PollResult::Failed)).await.unwrap();
    let again = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    assert_eq!(again.state.failures, 1);
    let status = store.streams().await.unwrap();
    assert_eq!(status[0].next_poll_at, Some(place.clock.now()));
}

#[tokio::test]
async fn r10_1_an_expired_lease_goes_to_the_next_and_its_old_owner_is_stale() {
    let place = Place::new();
    let store = place.ready().await;
    let old = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    place.clock.advance(LEASE);
    let new = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().expect("free again");
    let mut commit = Commit::new(stream("a"), "d1".into());
    commit.writes.push(write("k", None));
    commit.lease = Some(old.lease.clone());
    assert_eq!(store.commit(commit.clone()).await, Err(StoreError::Stale));
    assert_eq!(store.journal(&old.lease, vec![]).await, Err(StoreError::Stale));
    assert_eq!(store.verdict(&old.lease, Verdict::Dropped).await, Err(StoreError::Stale));
    assert_eq!(store.rows(&stream("a"), vec!["k".into()]).await.unwrap(), [None]);
    commit.lease = Some(new.lease);
    store.commit(commit).await.expect("the owner writes");
}

#[tokio::test]
async fn a_paused_source_is_not_due_but_a_person_may_still_name_it() {
    let place = Place::new();
    let store = place.ready().await;
    store.set_source_paused(&"core".into(), paused()).await.unwrap();
    assert!(store.claim_stream(Which::Due, LEASE).await.unwrap().is_none());
    assert_eq!(store.streams().await.unwrap()[0].paused, paused());
    assert!(store.claim_stream(Which::Named(stream("b")), LEASE).await.unwrap().is_some());
    drop(store);
    let store = place.ready().await;
    assert!(store.claim_stream(Which::Due, LEASE).await.unwrap().is_none(), "kept over a restart");
    store.set_source_paused(&"core".into(), None).await.unwrap();
    assert!(store.claim_stream(Which::Due, LEASE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_commit_shows_at_once_and_everything_of_it() {
    let place = Place::new();
    let store = place.ready().await;
    let claim = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    let mut commit = announce(&place.clock, "evt_1", vec![to("x", Some(1)), to("y", None)]);
    commit.lease = Some(claim.lease);
    commit.mark = Some("{\"m\":1}".into());
    commit.resume = Some(Some("r".into()));
    commit.started_at = Some(Timestamp(5));
    commit.phase = Some((Phase::Live, true));
    commit.validators = Some(Some("etag".into()));
    commit.writes.push(write("other", None));
    commit.set_aside.push(SetAside { raw: "?".into(), member: None, reason: "no key".into() });
    let done = store.commit(commit).await.unwrap();
    assert_eq!(done, Committed { events: 1, change_number: 1 });
    let rows = store.rows(&stream("a"), vec!["evt_1".into(), "none".into(), "other".into()]).await.unwrap();
    let row = rows[0].as_ref().expect("stored");
    assert_eq!((row.change_number, row.revision, row.version.as_deref()), (1, 1, Some("v1")));
    assert_eq!(row.fingerprint, Fingerprint([7; 16]));
    assert!(rows[1].is_none());
    let mut numbers = [row.number, rows[2].as_ref().unwrap().number];
    numbers.sort();
    assert_eq!(numbers, [0, 1], "numbers are dense");
    let state = store.streams().await.unwrap()[0].state.clone();
    assert_eq!((state.phase, state.listed_once, state.change_number), (Phase::Live, true, 1));
    assert_eq!((state.mark.as_deref(), state.resume.as_deref()), (Some("{\"m\":1}"), Some("r")));
    assert_eq!((state.started_at, state.validators.as_deref()), (Some(Timestamp(5)), Some("etag")));
    let detail = store.event(&"evt_1".into()).await.unwrap().expect("stored");
    assert_eq!(detail.event, event("evt_1", "evt_1", place.clock.now()));
    assert_eq!(detail.deliveries.len(), 2);
    assert_eq!(store.streams().await.unwrap()[0].records, 2);
}

#[tokio::test]
async fn a_commit_thought_with_an_old_row_or_definition_writes_nothing() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "evt_1", vec![to("x", None)])).await.unwrap();
    let check = async |name: &str, change: &dyn Fn(&mut Commit)| {
        let mut commit = announce(&place.clock, "evt_2", vec![to("x", None)]);
        commit.mark = Some("moved".into());
        change(&mut commit);
        assert_eq!(store.commit(commit).await, Err(StoreError::Conflict), "{name}");
        assert!(store.event(&"evt_2".into()).await.unwrap().is_none(), "{name}");
        assert_eq!(store.rows(&stream("a"), vec!["evt_2".into()]).await.unwrap(), [None], "{name}");
        assert_eq!(store.streams().await.unwrap()[0].state.mark, None, "{name}");
    };
    check("the row is there, but was absent", &|commit| commit.writes.push(write("evt_1", None))).await;
    check("another change number", &|commit| commit.writes.push(write("evt_1", Some(9)))).await;
    check("absent, but was there", &|commit| commit.writes.push(write("gone", Some(1)))).await;
    check("another definition", &|commit| commit.definition = "d0".into()).await;
    check("an unknown stream", &|commit| commit.stream = stream("zz")).await;
    store.commit(announce(&place.clock, "evt_2", vec![])).await.expect("a commit that is right still goes");
}

#[tokio::test]
async fn a_key_may_change_twice_in_one_commit() {
    let place = Place::new();
    let store = place.ready().await;
    let mut commit = Commit::new(stream("a"), "d1".into());
    let mut second = write("k", None);
    (second.revision, second.deleted) = (2, true);
    commit.writes = vec![write("k", None), write("j", None), second];
    store.commit(commit).await.unwrap();
    let row = store.rows(&stream("a"), vec!["k".into()]).await.unwrap().remove(0).unwrap();
    assert_eq!((row.revision, row.deleted), (2, true));
    assert_eq!(store.streams().await.unwrap()[0].records, 1);
}

#[tokio::test]
async fn revision_and_number_outlive_a_delete() {
    let place = Place::new();
    let store = place.ready().await;
    let mut commit = Commit::new(stream("a"), "d1".into());
    commit.writes = vec![write("k", None), write("l", None)];
    store.commit(commit).await.unwrap();
    let mut commit = Commit::new(stream("a"), "d1".into());
    let mut gone = write("k", Some(1));
    (gone.revision, gone.deleted, gone.raw_hash) = (2, true, None);
    commit.writes.push(gone);
    store.commit(commit).await.unwrap();
    drop(store);
    let store = place.ready().await;
    let row = store.rows(&stream("a"), vec!["k".into()]).await.unwrap().remove(0).expect("a tombstone");
    assert_eq!((row.revision, row.deleted, row.change_number, row.raw_hash), (2, true, 2, None));
    let live = store.rows_after(&stream("a"), None, 10).await.unwrap();
    assert_eq!(live.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["l"]);
    assert!(store.rows_after(&stream("a"), Some("l".into()), 10).await.unwrap().is_empty());
    assert_eq!(store.streams().await.unwrap()[0].records, 1);
}

#[tokio::test]
async fn each_way_in_keeps_its_own_form_of_a_body() {
    let place = Place::new();
    let store = place.ready().await;
    let mut commit = Commit::new(stream("a"), "d1".into());
    commit.writes.push(write("k", None));
    store.commit(commit).await.unwrap();
    let mut commit = Commit::new(stream("a"), "d1".into());
    let mut hooked = write("k", Some(1));
    (hooked.by, hooked.body) = (SeenBy::Webhook, BodyWrite::Put("hook".into()));
    commit.writes.push(hooked);
    store.commit(commit).await.unwrap();
    let mut commit = Commit::new(stream("a"), "d1".into());
    let mut kept = write("k", Some(2));
    kept.body = BodyWrite::Keep;
    commit.writes.push(kept);
    store.commit(commit).await.unwrap();
    let keys = || vec![Key::from("k"), Key::from("none")];
    assert_eq!(store.bodies(&stream("a"), keys(), SeenBy::Webhook).await.unwrap(), [Some("hook".into()), None]);
    assert_eq!(store.bodies(&stream("a"), keys(), SeenBy::Poll).await.unwrap(), [Some("{\"id\":\"k\"}".into()), None]);
    assert_eq!(store.bodies(&stream("b"), keys(), SeenBy::Poll).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn an_event_of_a_known_id_is_not_stored_again() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "evt_1", vec![to("x", None)])).await.unwrap();
    let mut commit = announce(&place.clock, "evt_1", vec![to("x", None), to("y", None)]);
    commit.writes[0].expected = Some(1);
    commit.writes.push(announce(&place.clock, "evt_2", vec![to("x", None)]).writes.remove(0));
    let done = store.commit(commit).await.unwrap();
    assert_eq!(done, Committed { events: 1, change_number: 2 });
    assert_eq!(states(&store, "evt_1").await.len(), 1);
    assert_eq!(ids(&claim(&store, "x", 9).await), ["evt_1", "evt_2"]);
}

fn entry(key: &str, time: Option<i64>, place: i64) -> JournalEntry {
    JournalEntry {
        id: 0,
        key: key.into(),
        record: Some("{}".into()),
        time: time.map(Timestamp),
        place,
        asked_at: 3,
        parent: None,
    }
}

fn accepted() -> Verdict {
    Verdict::Accepted {
        mark: Some("m".into()),
        validators: Some("v".into()),
        phase: Phase::Live,
        listed_once: true,
        started_at: None,
    }
}

#[tokio::test]
async fn a_journal_is_released_by_time_and_place_after_its_verdict() {
    let place = Place::new();
    let store = place.ready().await;
    let lease = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap().lease;
    store.journal(&lease, vec![entry("c", Some(2), -3), entry("b", Some(2), -4)]).await.unwrap();
    store.journal(&lease, vec![entry("a", Some(1), -9)]).await.unwrap();
    assert!(store.journal_batch(&stream("a"), 0, 9).await.unwrap().is_empty(), "no verdict yet");
    store.verdict(&lease, accepted()).await.unwrap();
    store.finish_poll(&lease, poll_end(LEASE, PollResult::Ok)).await.unwrap();
    drop(store);
    let store = place.ready().await;
    let claim = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    assert!(claim.state.releasing, "releasing goes on after a restart");
    assert_eq!((claim.state.mark.as_deref(), claim.state.phase), (Some("m"), Phase::Live));
    let batch = store.journal_batch(&stream("a"), 0, 2).await.unwrap();
    assert_eq!(batch.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((batch[0].asked_at, batch[0].place, batch[0].time), (3, -9, Some(Timestamp(1))));
    let behind = store.journal_batch(&stream("a"), 2, 9).await.unwrap();
    assert_eq!(behind.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["c"], "behind the first two");
    let release = async |batch: Vec<JournalEntry>| {
        let mut commit = Commit::new(stream("a"), "d1".into());
        commit.lease = Some(claim.lease.clone());
        commit.released = batch.iter().map(|entry| entry.id).collect();
        store.commit(commit).await.unwrap();
        store.streams().await.unwrap()[0].state.releasing
    };
    assert!(release(batch).await);
    let rest = store.journal_batch(&stream("a"), 0, 9).await.unwrap();
    assert_eq!(rest.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(!release(rest).await);
}

#[tokio::test]
async fn a_dropped_verdict_or_a_crash_before_it_drops_the_journal_but_a_resumed_run_keeps_it() {
    let place = Place::new();
    let store = place.ready().await;
    let lease = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap().lease;
    store.journal(&lease, vec![entry("dropped", None, 1)]).await.unwrap();
    store.verdict(&lease, Verdict::Dropped).await.unwrap();
    store.journal(&lease, vec![entry("crashed", None, 1)]).await.unwrap();
    drop(store);

    let store = place.ready().await;
    let lease = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap().lease;
    store.journal(&lease, vec![entry("resumed", None, 1)]).await.unwrap();
    let mut commit = Commit::new(stream("a"), "d1".into());
    (commit.lease, commit.resume) = (Some(lease), Some(Some("page 2".into())));
    store.commit(commit).await.unwrap();
    drop(store);

    let store = place.ready().await;
    let lease = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap().lease;
    store.verdict(&lease, accepted()).await.unwrap();
    let batch = store.journal_batch(&stream("a"), 0, 9).await.unwrap();
    assert_eq!(batch.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["resumed"]);
}

#[tokio::test]
async fn a_changed_definition_begins_a_new_baseline_and_keeps_the_rows() {
    let place = Place::new();
    let store = place.ready().await;
    let mut commit = announce(&place.clock, "k", vec![]);
    (commit.mark, commit.phase) = (Some("m".into()), Some((Phase::Live, true)));
    store.commit(commit).await.unwrap();
    assert!(store.register(setup()).await.unwrap().redefined.is_empty());
    let mut changed = setup();
    changed.streams[0].definition = "d2".into();
    assert_eq!(store.register(changed).await.unwrap().redefined, [stream("a")]);
    let state = store.streams().await.unwrap()[0].state.clone();
    assert_eq!((state.phase, state.listed_once, state.mark), (Phase::Baseline, false, None));
    assert_eq!((state.definition.as_str(), state.change_number), ("d2", 1));
    assert!(store.rows(&stream("a"), vec!["k".into()]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_renamed_source_keeps_its_state_and_identity() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "k", vec![])).await.unwrap();
    let mut renamed = setup();
    for stream in &mut renamed.streams {
        stream.name.source = "bank".into();
        stream.renamed_from = Some("core".into());
    }
    let mut anew = stream_setup(stream("a"));
    anew.renamed_from = None;
    store.register(renamed.clone()).await.unwrap();
    let name = StreamName::new("bank", "a");
    let claim = store.claim_stream(Which::Named(name.clone()), LEASE).await.unwrap().unwrap();
    assert_eq!(claim.state.source_id, SourceName::from("core"));
    assert!(store.rows(&name, vec!["k".into()]).await.unwrap()[0].is_some());
    assert_eq!(store.event(&"k".into()).await.unwrap().unwrap().event.stream, name);
    renamed.streams.push(anew);
    store.register(renamed).await.unwrap();
    let claim = store.claim_stream(Which::Named(stream("a")), LEASE).await.unwrap().unwrap();
    assert_ne!(claim.state.source_id, SourceName::from("core"), "a new source never shares an identity");
}

#[tokio::test]
async fn state_whose_source_or_handler_left_the_configuration_is_reported_and_kept() {
    let place = Place::new();
    let store = place.ready().await;
    store.commit(announce(&place.clock, "k", vec![to("x", None), to("stranger", None)])).await.unwrap();
    let bare = Setup { handlers: vec![handler_setup("y")], ..Setup::default() };
    let found = store.register(bare).await.unwrap();
    assert_eq!(found.orphaned_sources, [SourceName::from("core")]);
    assert_eq!(found.orphaned_handlers, [HandlerName::from("stranger"), HandlerName::from("x")]);
    assert!(store.claim_stream(Which::Due, LEASE).await.unwrap().is_none());
    assert_eq!(states(&store, "k").await, [(DeliveryState::Held, Some(HoldReason::NoHandler)); 2]);
    assert!(claim(&store, "x", 9).await.is_empty());
    store.register(setup()).await.unwrap();
    assert_eq!(ids(&claim(&store, "x", 9).await), ["k"]);
    assert!(store.rows(&stream("a"), vec!["k".into()]).await.unwrap()[0].is_some());
}
