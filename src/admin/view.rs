//! What the store says, in the shapes of the API. Used by the daemon's listeners and, when no daemon runs, by the commands
//! that read the database themselves: both show the same.

use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;
use url::Url;

use super::shape::{self, Time};
use crate::config::query_masked;
use crate::model::{Attempt, DeliveryState, EventId, HandlerName, Problem, SourceName, Timestamp};
use crate::store::{
    EventDetail, EventFilter, EventPage, EventSummary, HandlerStatus, InboxStatus, Paused, Phase, Replay, ReplayJob,
    ReplayPlan, ReplayTo, Store, StoreError, StoreStats, StreamStatus, TailLine, TailPage, TailPosition, Temporary,
};

/// Most events in one page of a listing.
pub const EVENTS_MAX: usize = 500;
/// Most lines in one page of `tail`.
pub const LINES_MAX: usize = 500;
/// Replays that are shown.
const JOBS_MAX: usize = 50;

/// One screen: problems first, then sources and handlers.
pub async fn status(store: &dyn Store, now: Timestamp, running: bool) -> Result<shape::Status, StoreError> {
    Ok(shape::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: Time(now),
        running,
        problems: problems(store).await?,
        streams: streams(store).await?,
        handlers: handlers(store).await?,
        inbox: inbox(store).await?,
        store: stats(store.stats().await?),
    })
}

pub async fn problems(store: &dyn Store) -> Result<Vec<shape::Problem>, StoreError> {
    Ok(store.problems().await?.into_iter().map(problem).collect())
}

pub async fn streams(store: &dyn Store) -> Result<Vec<shape::Stream>, StoreError> {
    Ok(store.streams().await?.into_iter().map(stream).collect())
}

pub async fn handlers(store: &dyn Store) -> Result<Vec<shape::Handler>, StoreError> {
    Ok(store.handlers().await?.into_iter().map(handler).collect())
}

pub async fn inbox(store: &dyn Store) -> Result<shape::Inbox, StoreError> {
    let InboxStatus { pending, ignored, unreadable, oldest_pending_at } = store.inbox().await?;
    Ok(shape::Inbox { pending, ignored, unreadable, oldest_pending_at: oldest_pending_at.map(Time) })
}

pub async fn events(store: &dyn Store, filter: EventFilter) -> Result<shape::EventPage, StoreError> {
    let limit = if filter.limit == 0 { 50 } else { filter.limit.min(EVENTS_MAX) };
    let EventPage { events, next } = store.events(EventFilter { limit, ..filter }).await?;
    Ok(shape::EventPage { events: events.into_iter().map(summary).collect(), next })
}

pub async fn event(store: &dyn Store, id: &str) -> Result<Option<shape::EventDetail>, StoreError> {
    Ok(store.event(&EventId::from(id)).await?.map(detail))
}

/// Lines after a position; without one, the newest `lines`.
pub async fn tail(store: &dyn Store, after: Option<&str>, lines: usize) -> Result<shape::TailPage, StoreError> {
    let lines = lines.min(LINES_MAX);
    let position = match after {
        Some(after) => Some(TailPosition(after.to_owned())),
        None => store.tail_start(lines).await?,
    };
    let TailPage { lines, next } = store.tail(position.clone(), lines.max(1)).await?;
    let next = next.or(position).map(|TailPosition(text)| text);
    Ok(shape::TailPage { lines: lines.into_iter().map(tail_line).collect(), next })
}

/// The filter that a query means; the error is a sentence.
pub fn filter(query: &shape::EventQuery, ids: &[String]) -> Result<EventFilter, String> {
    let state = query.state.as_deref().map(state_named).transpose()?;
    Ok(EventFilter {
        ids: ids.iter().map(|id| EventId::from(id.as_str())).collect(),
        source: query.source.as_deref().map(SourceName::from),
        stream: query.stream.clone(),
        event_type: query.event_type.clone(),
        key: query.key.as_deref().map(crate::model::Key::from),
        handler: query.handler.as_deref().map(HandlerName::from),
        state,
        since: query.since.map(|Time(at)| at),
        until: query.until.map(|Time(at)| at),
        limit: query.limit.unwrap_or(0),
        after: query.after.clone(),
    })
}

fn state_named(name: &str) -> Result<DeliveryState, String> {
    DeliveryState::ALL.into_iter().find(|state| state.as_str() == name).ok_or_else(|| {
        let known = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        format!("`{name}` is no state of a delivery; there are {known}")
    })
}

/// Whether `to` is meant as an address: no name of a handler holds such a character.
pub fn is_address(to: &str) -> bool {
    to.contains([':', '/', '.'])
}

/// The store's order for a replay to handlers; the error is a sentence.
pub fn replay(order: &shape::ReplayOrder, by: &str) -> Result<Replay, String> {
    if order.ids.is_empty() && order.events == shape::EventQuery::default() {
        return Err("a replay needs event ids or at least one filter: nothing is sent again by mistake".into());
    }
    let to = order.to.as_deref().map(HandlerName::from);
    if order.like.is_some() {
        return Err("`like` goes with an address in `to`".into());
    }
    if let Some(temporary) = to.as_ref().filter(|name| name.replay().is_some()) {
        return Err(format!("`{temporary}` is there for its replay alone: name the address"));
    }
    Ok(Replay {
        events: filter(&order.events, &order.ids)?,
        to: to.map_or(ReplayTo::ThoseThatHad, ReplayTo::Handler),
        dry_run: order.dry_run,
        spacing: Duration::from_millis(order.spacing_ms),
        fresh_ids: order.fresh_ids,
        by: by.to_owned(),
    })
}

pub fn replay_plan(plan: ReplayPlan, dry_run: bool) -> shape::ReplayPlan {
    let ReplayPlan { events, deliveries, bytes, oldest, newest, job, temporary } = plan;
    shape::ReplayPlan {
        dry_run,
        events,
        deliveries,
        bytes,
        oldest: oldest.map(Time),
        newest: newest.map(Time),
        job,
        address: None,
        like: None,
        handler: temporary.map(|name| name.to_string()),
    }
}

/// An address as it is shown: a query says what its parameters are and not their values, which may be keys.
pub fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    format!("{bare}{}", query_masked(url))
}

/// The last replays that were asked for.
pub async fn replay_jobs(store: &dyn Store) -> Result<Vec<shape::ReplayJob>, StoreError> {
    Ok(store.replay_jobs(JOBS_MAX).await?.into_iter().map(replay_job).collect())
}

fn replay_job(job: ReplayJob) -> shape::ReplayJob {
    let state = match (&job.cancelled_by, job.pending) {
        (Some(_), 1..) => "cancelling",
        (Some(_), 0) => "cancelled",
        (None, 0) if !job.filling => "done",
        (None, _) => "running",
    };
    shape::ReplayJob {
        id: job.id,
        state: state.to_owned(),
        started_at: Time(job.started_at),
        by: job.by,
        to: job.to.map(|to| to.to_string()),
        fresh_ids: job.fresh_ids,
        events: job.events,
        deliveries: job.deliveries,
        expected: job.expected,
        pending: job.pending,
        delivered: job.delivered,
        failed: job.failed,
        cancelled: job.cancelled,
        last_due_at: Time(job.last_due_at),
    }
}

/// The kind of problem of this name; the error is a sentence.
pub fn problem_kind(name: &str) -> Result<crate::model::ProblemKind, String> {
    crate::model::ProblemKind::from_str(name)
}

fn problem(problem: Problem) -> shape::Problem {
    shape::Problem {
        kind: problem.kind.as_str().to_owned(),
        subject: problem.subject,
        message: problem.message,
        opened_at: Time(problem.opened_at),
        last_seen_at: Time(problem.last_seen_at),
        count: problem.count,
        acknowledged: problem.acknowledged,
        held: problem.held,
        decided: problem.decided.map(|decided| shape::HeldDecision {
            approved: decided.approved,
            held: decided.held,
            by: decided.by,
            at: Time(decided.at),
        }),
    }
}

fn stream(status: StreamStatus) -> shape::Stream {
    let state = status.state;
    shape::Stream {
        source: state.name.source.to_string(),
        stream: state.name.stream.to_string(),
        polled: status.polled,
        phase: match state.phase {
            Phase::Baseline => "baseline".to_owned(),
            Phase::Live => "live".to_owned(),
        },
        paused: status.paused.map(paused),
        records: status.records,
        failures: state.failures,
        last_poll_at: state.last_poll_at.map(Time),
        last_ok_at: state.last_ok_at.map(Time),
        next_poll_at: status.next_poll_at.map(Time),
        last_result: status.last_result.map(|result| result.as_str().to_owned()),
        last_records: status.last_records,
        last_changes: status.last_changes,
        last_duration_ms: millis(status.last_duration),
        last_error: status.last_error,
        set_aside: status.set_aside,
        score: shape::Score {
            webhook: status.score.webhook,
            poll: status.score.poll,
            both: status.score.both,
            recovered: status.score.recovered,
        },
    }
}

fn handler(status: HandlerStatus) -> shape::Handler {
    shape::Handler {
        name: status.name.to_string(),
        configured: status.configured,
        paused: status.paused.map(paused),
        wait_until: status.wait_until.map(Time),
        strain: status.strain,
        pending: status.pending,
        claimed: status.claimed,
        delivered: status.delivered,
        failed: status.failed,
        held: status.held,
        temporary: status.temporary.map(temporary),
        oldest_pending_at: status.oldest_pending_at.map(Time),
        last_attempt: status.last_attempt.map(attempt),
    }
}

fn temporary(temporary: Temporary) -> shape::Temporary {
    let url = Url::parse(&temporary.url);
    shape::Temporary {
        like: temporary.like.to_string(),
        url: url.map_or_else(|_| temporary.url, |url| shown(&url)),
        replay: temporary.name.replay().unwrap_or_default(),
        refused: temporary.refused,
    }
}

fn paused(paused: Paused) -> shape::Paused {
    shape::Paused { by: paused.by, reason: paused.reason }
}

fn attempt(attempt: Attempt) -> shape::Attempt {
    shape::Attempt {
        started_at: Time(attempt.started_at),
        duration_ms: millis(attempt.duration),
        result: attempt.result.as_str().to_owned(),
        status: attempt.status,
        error: attempt.error,
        answer: String::from_utf8_lossy(&attempt.answer).into_owned(),
        detail: attempt_detail(attempt.detail),
    }
}

fn attempt_detail(detail: crate::model::AttemptDetail) -> shape::AttemptDetail {
    let micros =
        |time: Option<std::time::Duration>| time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    shape::AttemptDetail {
        target: detail.target,
        headers: detail.headers,
        error_class: detail.class.map(|class| class.as_str().to_owned()),
        trigger: detail.trigger.as_str().to_owned(),
        dns_us: micros(detail.timings.dns),
        connect_us: micros(detail.timings.connect),
        tls_us: micros(detail.timings.tls),
        first_byte_us: micros(detail.timings.first_byte),
    }
}

fn stats(stats: StoreStats) -> shape::Store {
    let StoreStats { bytes, events, records, deliveries, attempts, inbounds, free_bytes, version, .. } = stats;
    shape::Store { bytes, events, records, deliveries, attempts, inbounds, free_bytes, version }
}

fn summary(event: EventSummary) -> shape::EventSummary {
    let delivery = |(handler, state): (HandlerName, DeliveryState)| shape::DeliverySummary {
        handler: handler.to_string(),
        state: state.as_str().to_owned(),
    };
    shape::EventSummary {
        id: event.id.to_string(),
        event_type: event.event_type,
        source: event.stream.source.to_string(),
        stream: event.stream.stream.to_string(),
        key: event.key.to_string(),
        revision: event.revision,
        time: Time(event.time),
        seen_at: Time(event.seen_at),
        deliveries: event.deliveries.into_iter().map(delivery).collect(),
    }
}

fn detail(EventDetail { event, deliveries }: EventDetail) -> shape::EventDetail {
    let delivery = |delivery: crate::store::DeliveryDetail| shape::DeliveryDetail {
        handler: delivery.handler.to_string(),
        state: delivery.state.as_str().to_owned(),
        hold: delivery.hold.map(|reason| reason.as_str().to_owned()),
        replay: delivery.replay,
        counted: delivery.counted,
        next_attempt_at: delivery.next_attempt_at.map(Time),
        attempts: delivery.attempts.into_iter().map(attempt).collect(),
    };
    let why = super::why::of_event(&event);
    shape::EventDetail {
        id: event.id.to_string(),
        event_type: event.event_type,
        kind: event.kind.as_str().to_owned(),
        source: event.stream.source.to_string(),
        stream: event.stream.stream.to_string(),
        key: event.key.to_string(),
        revision: event.revision,
        time: Time(event.time),
        seen: shape::Seen { at: Time(event.seen_at), by: event.seen_by.as_str().to_owned() },
        first_sight: event.first_sight,
        test: event.test,
        data: event.data.as_deref().map(raw),
        previous: event.previous.as_deref().map(raw),
        changed: event.changed.as_deref().map(raw),
        why,
        deliveries: deliveries.into_iter().map(delivery).collect(),
    }
}

/// Stored JSON goes out byte for byte; what is not JSON after all goes out as text rather than not at all.
fn raw(bytes: &[u8]) -> Box<RawValue> {
    if let Ok(value) = serde_json::from_slice::<Box<RawValue>>(bytes) {
        return value;
    }
    let text = serde_json::to_string(&String::from_utf8_lossy(bytes)).expect("a string can be written");
    RawValue::from_string(text).expect("a string as JSON is JSON")
}

fn tail_line(line: TailLine) -> shape::TailLine {
    shape::TailLine {
        event: summary(line.event),
        handler: line.handler.to_string(),
        state: line.state.as_str().to_owned(),
        number: line.number,
        next_attempt_at: line.next_attempt_at.map(Time),
        attempt: attempt(line.attempt),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_goes_out_byte_for_byte_and_what_is_no_json_as_text() {
        assert_eq!(raw(br#"{"amount":10.00}"#).get(), r#"{"amount":10.00}"#);
        assert_eq!(raw(b"not json").get(), r#""not json""#);
    }

    #[test]
    fn a_replay_of_everything_must_be_meant() {
        assert!(replay(&shape::ReplayOrder::default(), "me").is_err());
        let order = shape::ReplayOrder {
            events: shape::EventQuery { handler: Some("audit".into()), ..Default::default() },
            to: Some("audit".into()),
            spacing_ms: 50,
            ..Default::default()
        };
        let replay = replay(&order, "me").expect("a filter is enough");
        assert_eq!(replay.events.handler, Some("audit".into()));
        assert_eq!(replay.to, ReplayTo::Handler("audit".into()));
        assert_eq!(replay.spacing, Duration::from_millis(50));
    }

    #[test]
    fn an_unknown_state_is_refused_with_the_known_ones() {
        let query = shape::EventQuery { state: Some("stuck".into()), ..Default::default() };
        let error = filter(&query, &[]).expect_err("refused");
        assert!(error.contains("`stuck`") && error.contains("pending"), "{error}");
    }
}
