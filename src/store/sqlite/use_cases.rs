//! Which use case runs where: on the writer's quick or bulk lane, or on a reader. The SQL of each lies in the module named for
//! its step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::model::SeenBy;

#[async_trait]
impl Store for SqliteStore {
    async fn register(&self, setup: Setup) -> Result<Registered> {
        self.quick(move |conn, book| config::register(conn, book, &setup)).await
    }

    async fn claim_stream(&self, which: Which, lease: Duration) -> Result<Option<StreamClaim>> {
        self.quick(move |conn, book| poll::claim(conn, book, &which, lease)).await
    }

    async fn stream(&self, name: &StreamName) -> Result<Option<StreamState>> {
        let name = name.clone();
        self.read(move |conn| poll::state_of(conn, &name)).await
    }

    async fn rows(&self, stream: &StreamName, keys: Vec<Key>) -> Result<Vec<Option<Row>>> {
        let stream = stream.clone();
        self.read(move |conn| records::look_up(conn, &stream, &keys)).await
    }

    async fn bodies(&self, stream: &StreamName, keys: Vec<Key>, by: SeenBy) -> Result<Vec<Option<Bytes>>> {
        let stream = stream.clone();
        self.read(move |conn| records::bodies(conn, &stream, &keys, by)).await
    }

    async fn rows_after(&self, stream: &StreamName, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>> {
        let stream = stream.clone();
        self.read(move |conn| records::after(conn, &stream, after.as_ref(), limit)).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        // A change or two is as urgent as any acknowledgement; a page of them is not.
        let lane = if commit.writes.len() > 64 { Lane::Bulk } else { Lane::Quick };
        self.write(lane, move |conn, book| records::commit(conn, book, &commit)).await
    }

    async fn journal(&self, lease: &StreamLease, entries: Vec<JournalEntry>) -> Result<()> {
        let lease = lease.clone();
        self.bulk(move |conn, book| poll::append(conn, book, &lease, &entries)).await
    }

    async fn journaled(&self, stream: &StreamName, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>> {
        let stream = stream.clone();
        self.read(move |conn| poll::journaled(conn, &stream, &keys)).await
    }

    async fn verdict(&self, lease: &StreamLease, verdict: Verdict) -> Result<()> {
        let lease = lease.clone();
        self.bulk(move |conn, book| poll::verdict(conn, book, &lease, &verdict)).await
    }

    async fn journal_batch(&self, stream: &StreamName, skip: usize, limit: usize) -> Result<Vec<JournalEntry>> {
        let stream = stream.clone();
        self.read(move |conn| poll::batch(conn, &stream, skip, limit)).await
    }

    async fn finish_poll(&self, lease: &StreamLease, end: PollEnd) -> Result<()> {
        let lease = lease.clone();
        // Only the stream's own next poll waits for this.
        let lane = if end.next_in < Duration::from_secs(1) { Lane::Quick } else { Lane::Late };
        self.write(lane, move |conn, book| poll::finish(conn, book, &lease, &end)).await
    }

    async fn poll_now(&self, stream: &StreamName) -> Result<()> {
        let stream = stream.clone();
        self.quick(move |conn, book| poll::poll_now(conn, book, &stream)).await
    }

    async fn poll_within(&self, stream: &StreamName, after: Duration) -> Result<()> {
        let stream = stream.clone();
        self.quick(move |conn, book| notice::poll_within(conn, book, &stream, after)).await
    }

    async fn absent_since(&self, stream: &StreamName, since: Timestamp) -> Result<u64> {
        let stream = stream.clone();
        self.read(move |conn| records::absent_since(conn, &stream, since)).await
    }

    async fn set_aside(&self, stream: &StreamName, after: Option<u64>, limit: usize) -> Result<Vec<KeptAside>> {
        let stream = stream.clone();
        self.read(move |conn| aside::list(conn, &stream, after, limit)).await
    }

    async fn reset_stream(&self, stream: &StreamName, dry_run: bool) -> Result<Forgotten> {
        let stream = stream.clone();
        self.bulk(move |conn, book| reset::reset(conn, book, &stream, dry_run)).await
    }

    async fn set_backfill(&self, stream: &StreamName, from: Option<String>) -> Result<()> {
        let stream = stream.clone();
        self.quick(move |conn, book| notice::set_backfill(conn, book, &stream, &from)).await
    }

    async fn poll_later(&self, stream: &StreamName, after: Duration) -> Result<()> {
        let stream = stream.clone();
        self.quick(move |conn, book| poll::poll_later(conn, book, &stream, after)).await
    }

    async fn budgets(&self) -> Result<Vec<(String, String)>> {
        self.read(budget::all).await
    }

    async fn put_budget(&self, key: &str, state: String) -> Result<()> {
        let key = key.to_owned();
        self.quick(move |conn, book| budget::put(conn, book, &key, &state)).await
    }

    async fn token(&self, credential: &str) -> Result<Option<Bytes>> {
        let credential = credential.to_owned();
        self.read(move |conn| kept::token(conn, &credential)).await
    }

    async fn put_token(&self, credential: &str, sealed: Bytes) -> Result<()> {
        let credential = credential.to_owned();
        self.quick(move |conn, book| kept::put_token(conn, book, &credential, &sealed)).await
    }

    async fn registration(&self, source: &SourceName) -> Result<Option<String>> {
        let source = source.clone();
        self.read(move |conn| kept::registration(conn, &source)).await
    }

    async fn put_registration(&self, source: &SourceName, state: String) -> Result<()> {
        let source = source.clone();
        self.quick(move |conn, book| kept::put_registration(conn, book, &source, &state)).await
    }

    async fn clock_stepped(&self, millis: i64) -> Result<()> {
        self.quick(move |conn, book| stepped::shift(conn, book, millis)).await
    }

    async fn put_inbound(&self, inbound: NewInbound) -> Result<InboundStored> {
        let headers = receive::header_text(&inbound.request);
        self.quick(move |conn, book| receive::put(conn, book, &inbound, &headers)).await
    }

    async fn claim_inbounds(&self, lease: Duration, max: usize) -> Result<Vec<ClaimedInbound>> {
        self.quick(move |conn, book| receive::claim(conn, book, lease, max)).await
    }

    async fn settle_inbounds(&self, settled: Vec<InboundSettled>) -> Result<()> {
        self.quick(move |conn, book| receive::settle(conn, book, &settled)).await
    }

    async fn retry_inbounds(&self, source: &SourceName) -> Result<u64> {
        let source = source.clone();
        self.quick(move |conn, book| receive::retry(conn, book, &source)).await
    }

    async fn claim_deliveries(&self, lease: Duration, free: Vec<(HandlerName, usize)>) -> Result<ClaimedDeliveries> {
        if self.writer.is_none() && self.inline.is_none() {
            return self.quick(|_, _| Ok(ClaimedDeliveries::default())).await;
        }
        let (claims, now) = (self.claims.clone(), self.clock.now());
        self.read_on(&self.claimer, move |conn| claim::claim(conn, &claims, now, lease, &free)).await
    }

    async fn give_back(&self, claims: Vec<(DeliveryId, u64)>) -> Result<()> {
        self.claims.give_back(&claims);
        Ok(())
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<bool>> {
        self.quick(move |conn, book| deliver::settle(conn, book, &settled)).await
    }

    async fn set_handler_paused(&self, handler: &HandlerName, paused: Option<Paused>) -> Result<()> {
        let handler = handler.clone();
        self.quick(move |conn, book| config::pause_handler(conn, book, &handler, paused)).await
    }

    async fn set_source_paused(&self, source: &SourceName, paused: Option<Paused>) -> Result<()> {
        let source = source.clone();
        self.quick(move |conn, book| config::pause_source(conn, book, &source, &paused)).await
    }

    async fn keep_source(&self, source: &SourceName) -> Result<bool> {
        let source = source.clone();
        self.quick(move |conn, book| rests::keep_source(conn, book, &source)).await
    }

    async fn rest_streams(&self, resting: Vec<(StreamName, String)>) -> Result<()> {
        self.quick(move |conn, book| rests::rest_streams(conn, book, &resting)).await
    }

    async fn pull(&self, pull: Pull) -> Result<PullPage> {
        self.quick(move |conn, book| pull::pull(conn, book, &pull)).await
    }

    async fn replay(&self, replay: Replay) -> Result<ReplayPlan> {
        let asked = replay.clone();
        let order = self.view(move |conn, view| replay::Order::of(conn, view, &asked)).await?;
        let (mut plan, mut after) = (ReplayPlan::default(), Some(0));
        while let Some(from) = after {
            let (order, taken) = (order.clone(), plan.events);
            let part = self.view(move |conn, view| replay::look(conn, view, &order, from, taken)).await?;
            part.count(&mut plan);
            after = part.next;
        }
        if !replay.dry_run && plan.deliveries > 0 {
            let expected = plan.deliveries;
            let (job, temporary) =
                self.bulk(move |conn, book| replay::start(conn, book, &replay, &order, expected)).await?;
            // What is small is whole at once.
            self.make_replay(Some(job), 1).await?;
            plan.job = Some(job as u64);
            plan.temporary = temporary;
        }
        Ok(plan)
    }

    async fn replay_step(&self) -> Result<ReplayStep> {
        let taken_back = self.bulk(replay_job::take_back).await?;
        if taken_back == ReplayStep::Worked || self.make_replay(None, usize::MAX).await? {
            return Ok(ReplayStep::Worked);
        }
        self.bulk(temporary::end).await?;
        Ok(taken_back)
    }

    async fn temporaries(&self) -> Result<Vec<Temporary>> {
        self.read(temporary::list).await
    }

    async fn replay_jobs(&self, limit: usize) -> Result<Vec<ReplayJob>> {
        self.read(move |conn| replay_job::list(conn, limit)).await
    }

    async fn cancel_replay(&self, job: u64, by: &str) -> Result<Option<u64>> {
        let by = by.to_owned();
        let waiting = self.view(move |conn, view| replay_job::waiting(conn, view, job)).await?;
        if waiting.is_some() {
            self.bulk(move |conn, book| replay_job::cancel(conn, book, job, &by)).await?;
            // Those that are due next go at once.
            self.bulk(replay_job::take_back).await?;
        }
        Ok(waiting)
    }

    async fn held_by_when(
        &self,
        handler: &HandlerName,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<(DeliveryId, Event)>> {
        let handler = handler.clone();
        self.read(move |conn| by_when::list(conn, &handler, after, limit)).await
    }

    async fn release_by_when(&self, handler: &HandlerName, decided: Vec<(DeliveryId, bool)>) -> Result<()> {
        let handler = handler.clone();
        self.quick(move |conn, book| by_when::release(conn, book, &handler, &decided)).await
    }

    async fn open_problem(&self, kind: ProblemKind, subject: &str, message: &str) -> Result<bool> {
        let (subject, message) = (subject.to_owned(), message.to_owned());
        let open = move |conn: &Connection, book: &mut Book| {
            if kind.tells_of_a_handler(&subject) && temporary::is_over(book, &subject) {
                return Ok(false);
            }
            problems::open(conn, book, kind, &subject, &message)
        };
        self.quick(open).await
    }

    async fn close_problem(&self, kind: ProblemKind, subject: &str) -> Result<bool> {
        let subject = subject.to_owned();
        self.quick(move |conn, book| problems::close(conn, book, kind, &subject)).await
    }

    async fn ack_problem(&self, kind: ProblemKind, subject: &str) -> Result<bool> {
        let subject = subject.to_owned();
        self.quick(move |conn, book| problems::acknowledge(conn, book, kind, &subject)).await
    }

    async fn hold_problem(&self, kind: ProblemKind, subject: &str, message: &str, held: u64) -> Result<bool> {
        let (subject, message) = (subject.to_owned(), message.to_owned());
        self.quick(move |conn, book| problems::hold(conn, book, kind, &subject, &message, held)).await
    }

    async fn decide_problem(&self, kind: ProblemKind, subject: &str, approved: bool, by: &str) -> Result<bool> {
        let (subject, by) = (subject.to_owned(), by.to_owned());
        self.quick(move |conn, book| problems::decide(conn, book, kind, &subject, approved, &by)).await
    }

    async fn problems(&self) -> Result<Vec<Problem>> {
        self.read(problems::list).await
    }

    async fn streams(&self) -> Result<Vec<StreamStatus>> {
        self.read(query::streams).await
    }

    async fn handlers(&self) -> Result<Vec<HandlerStatus>> {
        let claimed = self.claims.live(self.clock.now());
        self.read(move |conn| query::handlers(conn, &claimed)).await
    }

    async fn inbox(&self) -> Result<InboxStatus> {
        self.read(query::inbox).await
    }

    async fn events(&self, filter: EventFilter) -> Result<EventPage> {
        self.view(move |conn, view| events::page(conn, view, &filter)).await
    }

    async fn event(&self, id: &EventId) -> Result<Option<EventDetail>> {
        let id = id.clone();
        self.view(move |conn, view| events::detail(conn, view, &id)).await
    }

    async fn tail(&self, after: Option<TailPosition>, limit: usize) -> Result<TailPage> {
        self.view(move |conn, view| events::tail(conn, view, after.as_ref(), limit)).await
    }

    async fn tail_start(&self, lines: usize) -> Result<Option<TailPosition>> {
        self.read(move |conn| events::tail_start(conn, lines)).await
    }

    async fn decisions(&self, stream: &StreamName, key: &Key) -> Result<Vec<KeptDecision>> {
        let (stream, key) = (stream.clone(), key.clone());
        self.read(move |conn| decided::of_key(conn, &stream, &key)).await
    }

    async fn runs(&self, stream: &StreamName) -> Result<Vec<RunLine>> {
        let stream = stream.clone();
        self.read(move |conn| decided::runs(conn, &stream)).await
    }

    async fn prune(&self, prune: Prune) -> Result<bool> {
        self.bulk(move |conn, book| housekeeping::prune(conn, book, &prune)).await
    }

    async fn prune_seen(&self, stream: &StreamName, seen: PruneSeen) -> Result<bool> {
        let stream = stream.clone();
        self.bulk(move |conn, book| seen::prune(conn, book, &stream, &seen)).await
    }

    async fn backlog(&self, handler: &HandlerName) -> Result<u64> {
        let handler = handler.clone();
        self.read(move |conn| backlog::bytes(conn, &handler)).await
    }

    async fn optimise(&self) -> Result<()> {
        self.bulk(|conn, _| housekeeping::optimise(conn)).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        let path = self.path.clone();
        self.read(move |conn| housekeeping::stats(conn, &path)).await
    }

    async fn ping(&self) -> Result<()> {
        self.quick(|_, _| Ok(())).await
    }

    async fn next_due(&self, topic: Topic) -> Result<Option<Timestamp>> {
        if topic == Topic::Deliveries {
            let (claims, now) = (self.claims.clone(), self.clock.now());
            return self.read(move |conn| claim::next_due(conn, &claims, now)).await;
        }
        self.quick(move |conn, book| match topic {
            Topic::Polls => poll::next_due(conn, book),
            Topic::Inbounds => receive::next_due(conn, book),
            Topic::Deliveries | Topic::Attempts | Topic::Replays => Ok(None),
        })
        .await
    }

    fn announce_to(&self, herald: Arc<dyn Herald>) {
        self.herald.store(Arc::new(Some(herald)));
    }

    fn wake(&self, topic: Topic) -> Wake {
        self.bells.wake(topic)
    }

    async fn broken(&self) -> String {
        let mut broken = self.broken.subscribe();
        let reason = broken.wait_for(Option::is_some).await.map(|reason| reason.clone().unwrap_or_default());
        reason.unwrap_or_else(|_| "the store was closed".into())
    }
}
