//! Why something was announced, or was not: what is known of one key, what was decided about it, and the stream's last runs.

use super::shape::{self, Seen, Time};
use crate::model::{ChangeKind, Event, Key, SeenBy, StreamName};
use crate::store::{EventFilter, KeptDecision, PollResult, Row, RunLine, Store, StoreError};

/// Events of the key that are shown.
const EVENTS: usize = 10;

/// The rule by which an event was announced, in a sentence.
pub fn of_event(event: &Event) -> String {
    let by = event.seen_by;
    let sentence = match (event.test, event.kind, event.first_sight) {
        (true, _, _) => "made up by a person",
        (_, ChangeKind::Created, _) if by == SeenBy::Poll => "a key that no listing had shown before",
        (_, ChangeKind::Created, _) => "a key that was not known before",
        (_, ChangeKind::Updated, true) => {
            "a key not known before that may have been there before Ringback looked, so it is no creation"
        }
        (_, ChangeKind::Updated, false) if event.changed.is_none() => {
            "its real webhook is the first word about a record that the first look took silently"
        }
        (_, ChangeKind::Updated, false) => "its content differs from the copy that was stored",
        (_, ChangeKind::Deleted, _) if by == SeenBy::Webhook => "a real webhook says that it is gone",
        (_, ChangeKind::Deleted, _) => {
            "the provider marks it as gone, or as many complete listings did not show it as `confirm_after` says"
        }
    };
    sentence.to_owned()
}

/// Everything that explains one key.
pub async fn of_key(store: &dyn Store, stream: &StreamName, key: &Key) -> Result<Option<shape::Why>, StoreError> {
    let Some(state) = store.stream(stream).await? else { return Ok(None) };
    let row = store.rows(stream, vec![key.clone()]).await?.pop().flatten();
    let filter = EventFilter {
        source: Some(stream.source.clone()),
        stream: Some(stream.stream.to_string()),
        key: Some(key.clone()),
        limit: EVENTS,
        ..EventFilter::default()
    };
    let mut events = Vec::new();
    for summary in store.events(filter).await?.events {
        let Some(detail) = store.event(&summary.id).await? else { continue };
        events.push(shape::WhyEvent {
            id: summary.id.to_string(),
            event_type: summary.event_type,
            revision: summary.revision,
            seen: Seen { at: Time(detail.event.seen_at), by: detail.event.seen_by.as_str().to_owned() },
            why: of_event(&detail.event),
        });
    }
    let decisions = store.decisions(stream, key).await?;
    let runs = store.runs(stream).await?;
    let verdict = verdict(row.as_ref(), events.first(), decisions.first(), &runs, state.last_ok_at.is_some());
    Ok(Some(shape::Why {
        source: stream.source.to_string(),
        stream: stream.stream.to_string(),
        key: key.to_string(),
        record: row.as_ref().map(record),
        events,
        decisions: decisions.into_iter().map(decision).collect(),
        runs: runs.into_iter().map(run).collect(),
        verdict,
    }))
}

/// The sentence that a person came for.
fn verdict(
    row: Option<&Row>,
    event: Option<&shape::WhyEvent>,
    decision: Option<&KeptDecision>,
    runs: &[RunLine],
    looked: bool,
) -> String {
    let failing = runs.first().is_some_and(|run| run.result == PollResult::Failed);
    let since_event = decision.filter(|kept| event.is_none_or(|event| kept.at >= event.seen.at.0));
    match (row, since_event, event) {
        (None, _, _) if !looked => "the stream was never read with success, so nothing is known of any key".into(),
        (None, Some(kept), _) => format!("no copy is stored: {}", kept.decision.what.rule()),
        (None, None, _) => {
            "no listing and no real webhook has shown this key; is it within the stream's request and filter?".into()
        }
        (Some(_), _, _) if failing => {
            "the last run failed: what is shown here is older than that; see the error below".into()
        }
        (Some(row), Some(kept), _) if row.deleted || row.revision > 0 || event.is_some() => {
            format!("after its last event: {}", kept.decision.what.rule())
        }
        (Some(_), Some(kept), _) => format!("not announced: {}", kept.decision.what.rule()),
        (Some(row), None, None) if row.silent => {
            "taken silently by the first look, and unchanged since then: there was nothing to announce".into()
        }
        (Some(_), None, None) => "its events are older than `keep` or it has not changed since it was stored".into(),
        (Some(_), None, Some(event)) => format!("announced last as {}, and unchanged since then", event.event_type),
    }
}

fn record(row: &Row) -> shape::WhyRecord {
    shape::WhyRecord {
        state: if row.deleted { "deleted" } else { "live" }.to_owned(),
        version: row.version.clone(),
        revision: row.revision,
        by: row.by.as_str().to_owned(),
        silent: row.silent,
        listed: row.listed,
        absences: row.absences,
        fingerprint: format!("{:?}", row.fingerprint),
    }
}

fn decision(kept: KeptDecision) -> shape::WhyDecision {
    shape::WhyDecision {
        at: Time(kept.at),
        decided: kept.decision.what.as_str().to_owned(),
        by: kept.decision.by.as_str().to_owned(),
        count: kept.count,
        detail: kept.decision.detail,
        rule: kept.decision.what.rule().to_owned(),
    }
}

fn run(line: RunLine) -> shape::WhyRun {
    shape::WhyRun {
        ended_at: Time(line.ended_at),
        result: line.result.as_str().to_owned(),
        records: line.records,
        changes: line.changes,
        pages: line.pages,
        duration_ms: u64::try_from(line.duration.as_millis()).unwrap_or(u64::MAX),
        error: line.error,
    }
}
