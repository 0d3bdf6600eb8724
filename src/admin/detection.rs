//! The part of the API that is about finding changes: what a guard holds, what was set aside, resets, looks back, and why.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tracing::info;

use super::api::{Answer, done};
use super::order::{Asked, Order, Refused};
use super::{Admin, shape, view, why};
use crate::listener::Caller;
use crate::model::{Key, ProblemKind, StreamName};

pub fn router() -> Router<Admin> {
    Router::new()
        .route("/problems/approve", post(approve))
        .route("/problems/reject", post(reject))
        .route("/problems/retry", post(retry))
        .route("/streams/{source}/{stream}/reset", post(reset))
        .route("/streams/{source}/{stream}/backfill", post(backfill))
        .route("/streams/{source}/{stream}/why", get(explain))
}

async fn approve(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Order(order): Order<shape::AckOrder>,
) -> Answer<shape::Done> {
    let held = decide(&admin, &caller, &order, true).await?;
    if let Ok(stream) = order.subject.parse::<StreamName>() {
        // Fresh data decides: the next complete run is made now.
        admin.store.poll_now(&stream).await?;
    }
    done(format!(
        "approved for {held} and a tenth more: the next complete run of {} may pass, with what it finds then",
        order.subject
    ))
}

async fn reject(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Order(order): Order<shape::AckOrder>,
) -> Answer<shape::Done> {
    decide(&admin, &caller, &order, false).await?;
    done(format!("{} stays held until a run is under the guard, or somebody approves or resets it", order.subject))
}

/// Gives how many are held.
async fn decide(admin: &Admin, caller: &Caller, order: &shape::AckOrder, approved: bool) -> Result<u64, Refused> {
    let kind = view::problem_kind(&order.kind).map_err(Refused::bad)?;
    if !kind.holds() {
        let error = format!("a problem of kind `{}` holds nothing", order.kind);
        return Err(Refused::bad(error));
    }
    if !admin.store.decide_problem(kind, &order.subject, approved, &caller.to_string()).await? {
        let error = format!("nothing is held by a problem `{}` of `{}`", order.kind, order.subject);
        return Err(Refused::unknown(error, "`ringback problem list` shows what is"));
    }
    let word = if approved { "approved" } else { "rejected" };
    info!("{} of {} {word} by {caller}", order.kind, order.subject);
    let problems = admin.store.problems().await?;
    let found = problems.into_iter().find(|p| p.kind == kind && p.subject == order.subject);
    Ok(found.and_then(|problem| problem.held).unwrap_or(0))
}

async fn retry(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Order(order): Order<shape::AckOrder>,
) -> Answer<shape::Retried> {
    let kind = view::problem_kind(&order.kind).map_err(Refused::bad)?;
    let known = [ProblemKind::RecordUnreadable, ProblemKind::WebhookUnmatched, ProblemKind::WhenFailed];
    if !known.contains(&kind) {
        let names = known.map(ProblemKind::as_str).join(", ");
        return Err(Refused::bad(format!(
            "there is nothing to put through again for `{}`, only for {names}",
            order.kind
        )));
    }
    let retried = admin.control.retry(kind, &order.subject).await?;
    info!("{} of {} put through again by {caller}: {}", order.kind, order.subject, retried.done);
    Ok(Json(retried))
}

async fn reset(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path((source, stream)): Path<(String, String)>,
    Order(order): Order<shape::ResetOrder>,
) -> Answer<shape::Forgotten> {
    let name = known(&admin, &source, &stream).await?;
    let forgotten = admin.store.reset_stream(&name, order.dry_run).await?;
    if !order.dry_run {
        info!(stream.name = %name, "{name} was reset by {caller}: {} records forgotten", forgotten.records);
        for kind in ProblemKind::ALL.iter().filter(|kind| kind.holds()) {
            admin.store.close_problem(*kind, &name.to_string()).await?;
        }
    }
    Ok(Json(shape::Forgotten {
        source,
        stream,
        dry_run: order.dry_run,
        records: forgotten.records,
        tombstones: forgotten.tombstones,
        mark: forgotten.mark,
        base_revision: forgotten.base_revision,
    }))
}

async fn backfill(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path((source, stream)): Path<(String, String)>,
    Order(order): Order<shape::BackfillOrder>,
) -> Answer<shape::Backfilled> {
    let name = known(&admin, &source, &stream).await?;
    let dry_run = order.dry_run;
    let backfilled = admin.control.backfill(&name, order).await?;
    if !dry_run {
        info!(stream.name = %name, "a look back of {name} was ordered by {caller}");
    }
    Ok(Json(backfilled))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyQuery {
    key: String,
}

async fn explain(
    State(admin): State<Admin>,
    Path((source, stream)): Path<(String, String)>,
    Asked(query): Asked<WhyQuery>,
) -> Answer<shape::Why> {
    let name = StreamName::new(source.as_str(), &stream);
    let found = why::of_key(&*admin.store, &name, &Key::from(query.key)).await?;
    found.map(Json).ok_or_else(|| no_stream(&name))
}

async fn known(admin: &Admin, source: &str, stream: &str) -> Result<StreamName, Refused> {
    let name = StreamName::new(source, stream);
    match admin.store.stream(&name).await? {
        Some(_) => Ok(name),
        None => Err(no_stream(&name)),
    }
}

fn no_stream(name: &StreamName) -> Refused {
    Refused::unknown(format!("there is no stream `{name}`"), "`ringback source list` shows them")
}
