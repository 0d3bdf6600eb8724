//! The part of a store that polling uses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::model::{Event, EventId, HandlerName, Key, Problem, ProblemKind, SeenBy, SourceName, StreamName, Timestamp};
use crate::store::*;

pub(super) struct Planning {
    pub(super) states: Mutex<BTreeMap<StreamName, StreamState>>,
    pub(super) due: Mutex<VecDeque<StreamName>>,
    pub(super) ends: Mutex<Vec<(StreamName, PollEnd)>>,
    pub(super) problems: Mutex<BTreeMap<(ProblemKind, String), String>>,
    budgets: Mutex<BTreeMap<String, String>>,
    bell: watch::Sender<u64>,
}

impl Planning {
    pub(super) fn of<'a>(streams: impl Iterator<Item = &'a StreamName>) -> Planning {
        Planning {
            states: Mutex::new(streams.map(|name| (name.clone(), state(name))).collect()),
            due: Mutex::default(),
            ends: Mutex::default(),
            problems: Mutex::default(),
            budgets: Mutex::default(),
            bell: watch::Sender::new(0),
        }
    }
}

fn state(name: &StreamName) -> StreamState {
    StreamState {
        name: name.clone(),
        source_id: name.source.clone(),
        phase: Phase::Live,
        definition: "d".into(),
        comparison: "c".into(),
        change_number: 0,
        mark: None,
        validators: None,
        resume: None,
        started_at: None,
        listed_once: true,
        base_revision: 0,
        releasing: false,
        last_poll_at: None,
        last_ok_at: None,
        failures: 0,
        detection: Detection::default(),
        memory: None,
    }
}

macro_rules! unused {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Store for Planning {
            $(async fn $name(&self, $($arg: $kind),*) -> $out {
                $(let _ = $arg;)*
                panic!(concat!(stringify!($name), " is no part of polling"))
            })*

            async fn claim_stream(&self, which: Which, _lease: Duration) -> Result<Option<StreamClaim>> {
                let name = match which {
                    Which::Due => self.due.lock().expect("no panic").pop_front(),
                    Which::Named(name) => Some(name),
                };
                let states = self.states.lock().expect("no panic");
                let state = name.and_then(|name| states.get(&name).cloned());
                Ok(state.map(|state| StreamClaim {
                    lease: StreamLease { stream: state.name.clone(), token: 1 },
                    state,
                }))
            }

            async fn finish_poll(&self, lease: &StreamLease, end: PollEnd) -> Result<()> {
                assert_eq!(lease.token, 1, "a dry run has no lease");
                self.ends.lock().expect("no panic").push((lease.stream.clone(), end));
                Ok(())
            }

            async fn open_problem(&self, kind: ProblemKind, subject: &str, message: &str) -> Result<bool> {
                let key = (kind, subject.to_owned());
                Ok(self.problems.lock().expect("no panic").insert(key, message.to_owned()).is_none())
            }

            async fn close_problem(&self, kind: ProblemKind, subject: &str) -> Result<bool> {
                Ok(self.problems.lock().expect("no panic").remove(&(kind, subject.to_owned())).is_some())
            }

            async fn problems(&self) -> Result<Vec<Problem>> {
                Ok(vec![])
            }

            async fn streams(&self) -> Result<Vec<StreamStatus>> {
                Ok(vec![])
            }

            async fn stream(&self, name: &StreamName) -> Result<Option<StreamState>> {
                Ok(self.states.lock().expect("no panic").get(name).cloned())
            }

            async fn budgets(&self) -> Result<Vec<(String, String)>> {
                Ok(self.budgets.lock().expect("no panic").clone().into_iter().collect())
            }

            async fn put_budget(&self, key: &str, state: String) -> Result<()> {
                self.budgets.lock().expect("no panic").insert(key.to_owned(), state);
                Ok(())
            }

            async fn next_due(&self, _topic: Topic) -> Result<Option<Timestamp>> {
                Ok(None)
            }

            fn announce_to(&self, _herald: Arc<dyn Herald>) {}

            fn wake(&self, _topic: Topic) -> Wake {
                Wake::new(self.bell.subscribe())
            }

            async fn broken(&self) -> String {
                std::future::pending().await
            }
        }
    };
}

unused! {
    fn register(a: Setup) -> Result<Registered>;
    fn keep_source(a: &SourceName) -> Result<bool>;
    fn rest_streams(a: Vec<(StreamName, String)>) -> Result<()>;
    fn prune_seen(a: &StreamName, b: PruneSeen) -> Result<bool>;
    fn backlog(a: &HandlerName) -> Result<u64>;
    fn rows(a: &StreamName, b: Vec<Key>) -> Result<Vec<Option<Row>>>;
    fn bodies(a: &StreamName, b: Vec<Key>, c: SeenBy) -> Result<Vec<Option<Bytes>>>;
    fn rows_after(a: &StreamName, b: Option<Key>, c: usize) -> Result<Vec<(Key, Row)>>;
    fn commit(a: Commit) -> Result<Committed>;
    fn journaled(a: &StreamName, b: Vec<Key>) -> Result<Vec<Option<Bytes>>>;
    fn journal(a: &StreamLease, b: Vec<JournalEntry>) -> Result<()>;
    fn verdict(a: &StreamLease, b: Verdict) -> Result<()>;
    fn journal_batch(a: &StreamName, b: usize, c: usize) -> Result<Vec<JournalEntry>>;
    fn poll_now(a: &StreamName) -> Result<()>;
    fn poll_later(a: &StreamName, b: Duration) -> Result<()>;
    fn clock_stepped(a: i64) -> Result<()>;
    fn token(a: &str) -> Result<Option<Bytes>>;
    fn put_token(a: &str, b: Bytes) -> Result<()>;
    fn registration(a: &SourceName) -> Result<Option<String>>;
    fn put_registration(a: &SourceName, b: String) -> Result<()>;
    fn put_inbound(a: NewInbound) -> Result<InboundStored>;
    fn claim_inbounds(a: Duration, b: usize) -> Result<Vec<ClaimedInbound>>;
    fn settle_inbounds(a: Vec<InboundSettled>) -> Result<()>;
    fn claim_deliveries(a: Duration, b: Vec<(HandlerName, usize)>) -> Result<ClaimedDeliveries>;
    fn give_back(a: Vec<(DeliveryId, u64)>) -> Result<()>;
    fn settle(a: Vec<Settled>) -> Result<Vec<bool>>;
    fn set_handler_paused(a: &HandlerName, b: Option<Paused>) -> Result<()>;
    fn set_source_paused(a: &SourceName, b: Option<Paused>) -> Result<()>;
    fn pull(a: Pull) -> Result<PullPage>;
    fn replay(a: Replay) -> Result<ReplayPlan>;
    fn replay_step() -> Result<ReplayStep>;
    fn temporaries() -> Result<Vec<Temporary>>;
    fn replay_jobs(a: usize) -> Result<Vec<ReplayJob>>;
    fn cancel_replay(a: u64, b: &str) -> Result<Option<u64>>;
    fn ack_problem(a: ProblemKind, b: &str) -> Result<bool>;
    fn handlers() -> Result<Vec<HandlerStatus>>;
    fn inbox() -> Result<InboxStatus>;
    fn events(a: EventFilter) -> Result<EventPage>;
    fn event(a: &EventId) -> Result<Option<EventDetail>>;
    fn tail(a: Option<TailPosition>, b: usize) -> Result<TailPage>;
    fn tail_start(a: usize) -> Result<Option<TailPosition>>;
    fn prune(a: Prune) -> Result<bool>;
    fn optimise() -> Result<()>;
    fn stats() -> Result<StoreStats>;
    fn ping() -> Result<()>;
    fn poll_within(a: &StreamName, b: Duration) -> Result<()>;
    fn absent_since(a: &StreamName, b: Timestamp) -> Result<u64>;
    fn set_aside(a: &StreamName, b: Option<u64>, c: usize) -> Result<Vec<KeptAside>>;
    fn reset_stream(a: &StreamName, b: bool) -> Result<Forgotten>;
    fn set_backfill(a: &StreamName, b: Option<String>) -> Result<()>;
    fn retry_inbounds(a: &SourceName) -> Result<u64>;
    fn held_by_when(a: &HandlerName, b: Option<DeliveryId>, c: usize) -> Result<Vec<(DeliveryId, Event)>>;
    fn release_by_when(a: &HandlerName, b: Vec<(DeliveryId, bool)>) -> Result<()>;
    fn hold_problem(a: ProblemKind, b: &str, c: &str, d: u64) -> Result<bool>;
    fn decide_problem(a: ProblemKind, b: &str, c: bool, d: &str) -> Result<bool>;
    fn decisions(a: &StreamName, b: &Key) -> Result<Vec<KeptDecision>>;
    fn runs(a: &StreamName) -> Result<Vec<RunLine>>;
}
