//! Health for supervisors and balancers, and the metrics with their gauges taken from the store at each scrape.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::warn;

use super::{Admin, Parts};
use crate::model::{DeliveryState, ProblemKind, Timestamp};
use crate::store::StoreError;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A store that needs longer to answer is not ready.
const PING_TIME: Duration = Duration::from_secs(5);
/// A loop beats every five seconds even when idle; silent for so long it hangs.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// The process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The store takes writes and every loop makes progress; else 503 with the reasons.
pub async fn readyz(State(admin): State<Admin>) -> Response {
    let mut reasons = silent_loops(&admin.heartbeat.loops(), admin.clock.now());
    match tokio::time::timeout(PING_TIME, admin.store.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => reasons.push(error.to_string()),
        Err(_) => reasons.push(format!("the database did not answer within {} s", PING_TIME.as_secs())),
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

fn silent_loops(loops: &[(&'static str, Timestamp)], now: Timestamp) -> Vec<String> {
    let silent = loops.iter().filter(|(_, at)| now.since(*at) > SILENT_MAX);
    silent.map(|(name, at)| format!("loop `{name}` has been silent for {} s", now.since(*at).as_secs())).collect()
}

pub async fn metrics(State(admin): State<Admin>) -> Response {
    if let Err(error) = take_gauges(&admin).await {
        // The counters are worth having even then.
        warn!("the gauges are not fresh: {error}");
    }
    ([(CONTENT_TYPE, OPENMETRICS)], admin.metrics.render()).into_response()
}

async fn take_gauges(parts: &Parts) -> Result<(), StoreError> {
    let Parts { store, metrics, heartbeat, .. } = parts;
    for (name, at) in heartbeat.loops() {
        metrics.loop_progress(name, at);
    }
    for handler in store.handlers().await? {
        let counts = [
            (DeliveryState::Pending, handler.pending),
            (DeliveryState::Claimed, handler.claimed),
            (DeliveryState::Failed, handler.failed),
            (DeliveryState::Held, handler.held),
        ];
        for (state, count) in counts {
            metrics.deliveries(&handler.name, state.as_str(), count);
        }
        metrics.oldest_pending(&handler.name, handler.oldest_pending_at);
    }
    let mut open: BTreeMap<ProblemKind, u64> = ProblemKind::ALL.iter().map(|kind| (*kind, 0)).collect();
    for problem in store.problems().await? {
        *open.entry(problem.kind).or_default() += 1;
    }
    for (kind, count) in open {
        metrics.problems(kind.as_str(), count);
    }
    if let Some(free) = store.stats().await?.free_bytes {
        metrics.disk_free(free);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_fell_silent_is_named() {
        let now = Timestamp(100_000);
        let loops = [("deliver", Timestamp(95_000)), ("poll", Timestamp(30_000)), ("ahead", Timestamp(200_000))];
        assert_eq!(silent_loops(&loops, now), ["loop `poll` has been silent for 70 s"]);
    }
}
